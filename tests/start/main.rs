//! How fast a function starts, side by side with what others would have written: from exec to the first request for
//! work, to the first AWS call, to the first answer. Real processes, real TLS, a CPU quota that stands for memory.

mod quota;
mod runtime_api;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use podgrant_tests::endpoint::Endpoint;
use podgrant_tests::fake::{Cluster, FakeAws};
use podgrant_tests::fleet::{self, Size};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use quota::{Memory, Quota};
use runtime_api::RuntimeApi;

/// Starts functions again and again, and measures. Use `cargo xtask bench start`, which builds what is compared.
#[derive(Debug, Parser)]
struct Arguments {
    /// What is started: `name=path`, with `name=python:path` for a script.
    #[arg(required = true)]
    subjects: Vec<String>,
    /// Python with boto3.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Starts of each subject with each quota.
    #[arg(long, default_value_t = 15)]
    runs: usize,
    /// Memory sizes in MB that CPU quotas stand for; 0 is no quota. With a + the quota holds from the first event on
    /// and not while starting, where Lambda is said to give more.
    #[arg(long, value_delimiter = ',', default_value = "0,512,256,128,128+")]
    memory: Vec<Memory>,
    /// Where to write the figures as JSON, beside the table.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Also the first part of a sweep of this many roles on 100 clusters, by what is called reconcile-associations.
    #[arg(long, default_value_t = 5_000)]
    sweep: usize,
}

/// Events that a started function gets: the first, and those when it is warm.
const WARM: usize = 5;

/// What one start came to, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// From exec to the first request for work.
    next: u64,
    /// The time on a CPU in that, of all its threads, and how often it touched a page for the first time.
    cpu: u64,
    faults: u64,
    /// From the event to the first AWS call in it.
    first_call: u64,
    /// From the event to its answer.
    first_answer: u64,
    /// The same when warm: the median of some.
    warm_answer: u64,
    /// Kilobytes resident when it asked for work, and at most.
    idle_kb: u64,
    peak_kb: u64,
}

/// A median and its range.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: u64,
    least: u64,
    most: u64,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Figures {
    subject: String,
    memory: String,
    next_us: Spread,
    cpu_us: Spread,
    faults: Spread,
    first_call_us: Spread,
    first_answer_us: Spread,
    warm_answer_us: Spread,
    idle_kb: u64,
    peak_kb: u64,
    binary_bytes: Option<u64>,
    zip_bytes: Option<u64>,
}

/// The coordinator's part of a sweep, in one process.
#[derive(Debug, Serialize)]
struct Sweep {
    roles: usize,
    clusters: usize,
    /// Microseconds from a page of roles to the next request, for each page.
    page_us: Vec<u64>,
    answer_us: u64,
    peak_kb: u64,
    messages: usize,
    largest_message: usize,
    worker: Worker,
}

/// As many of the sweep's messages as one invocation gets, with nothing to do but to look.
#[derive(Debug, Serialize)]
struct Worker {
    messages: usize,
    calls: usize,
    answer_us: u64,
    peak_kb: u64,
}

#[derive(Debug, Clone)]
struct Subject {
    name: String,
    path: PathBuf,
    is_python: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let subjects: Vec<Subject> =
        arguments.subjects.iter().map(|text| subject(text)).collect::<Result<_>>()?;
    let mut all = Vec::new();
    let mut without = None;
    for &memory in &arguments.memory {
        let quota = match Quota::of(memory) {
            Ok(quota) => quota,
            Err(error) => {
                eprintln!("no figures for {memory}: {error:#}");
                without = Some(error.to_string());
                continue;
            }
        };
        for subject in &subjects {
            eprintln!("{} at {memory} …", subject.name);
            // A start of boto3 at a small share takes many seconds.
            let runs = if subject.is_python { (arguments.runs / 3).max(3) } else { arguments.runs };
            let mut starts = Vec::new();
            for _ in 0..runs {
                let start =
                    timeout(Duration::from_secs(120), start(subject, &arguments.python, &quota)).await;
                starts.push(start.context("no answer in two minutes")??);
            }
            all.push(figures(subject, memory, &starts));
        }
    }
    let coordinator = subjects.iter().find(|subject| subject.name == "reconcile-associations");
    let sweep = match coordinator {
        Some(subject) if arguments.sweep > 0 => Some(sweep(subject, &arguments).await?),
        _ => None,
    };
    print!("{}", table::of(&all, sweep.as_ref()));
    if let Some(path) = &arguments.json {
        let all = json!({ "starts": all, "sweep": sweep, "withoutQuotas": without });
        let text = format!("{}\n", serde_json::to_string_pretty(&all)?);
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn subject(text: &str) -> Result<Subject> {
    let (name, path) = text.split_once('=').with_context(|| format!("{text:?}: expected name=path"))?;
    let (is_python, path) = match path.strip_prefix("python:") {
        Some(path) => (true, path),
        None => (false, path),
    };
    Ok(Subject { name: name.to_owned(), path: path.into(), is_python })
}

/// An account with one cluster that is being deleted, so that any event about it takes one call.
async fn account() -> FakeAws {
    let aws = FakeAws::start().await;
    aws.add_cluster(Cluster::named("prod-eu"));
    aws.set_cluster_status("eu-west-1", "prod-eu", "CREATING");
    aws
}

/// One EKS call, and nothing to do.
fn event(function: &str) -> Value {
    let text = match function {
        "clean-up-orphans" => include_str!("../../events/samples/cluster-deleted.json"),
        _ => include_str!("../../events/samples/cluster-retagged.json"),
    };
    serde_json::from_str(text).unwrap_or_default()
}

struct Running {
    child: Child,
    api: RuntimeApi,
    endpoint: Endpoint,
    /// When it was exec'ed, in microseconds.
    exec: u64,
    /// What the process had used by then.
    used: Used,
}

/// What a process has used since it began, whatever it was exec'ed to.
#[derive(Debug, Clone, Copy)]
struct Used {
    /// Microseconds on a CPU.
    cpu: u64,
    /// Pages touched for the first time, without a disk.
    faults: u64,
}

async fn spawn(subject: &Subject, python: &Path, quota: &Quota, aws: &FakeAws) -> Result<Running> {
    let api = RuntimeApi::start().await?;
    let endpoint = Endpoint::before(&aws.endpoint()).await?;
    // A shell waits, which brings its time on a CPU up to date; comes under the quota; says what time it is; and becomes
    // the function.
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("sleep 0; {} {USED}; exec \"$@\"", quota.enter())).arg("bash");
    if subject.is_python {
        command.arg(python).arg("-B");
    }
    command.arg(&subject.path);
    let credentials = [("AWS_ACCESS_KEY_ID", "AKIDBENCH"), ("AWS_SECRET_ACCESS_KEY", "no-secret")];
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).envs(credentials).envs([
        ("AWS_LAMBDA_RUNTIME_API", api.address().as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", subject.name.as_str()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ENDPOINT_URL", endpoint.url().as_str()),
        ("SSL_CERT_FILE", endpoint.bundle()?.as_str()),
        ("AWS_CA_BUNDLE", endpoint.bundle()?.as_str()),
        ("PODGRANT_EVENT_BUS", "podgrant"),
        ("PODGRANT_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/111122223333/podgrant"),
        ("PODGRANT_KUBERNETES", "off"),
    ]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", subject.path.display()))?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let said = lines.next_line().await?.unwrap_or_default();
    let numbers: Option<Vec<u64>> =
        said.split(' ').map(|number| number.replace(['.', ','], "").parse().ok()).collect();
    let Some(&[exec, cpu, faults]) = numbers.as_deref() else {
        bail!("{said:?}: bash 5 tells the time, and enters the control group");
    };
    let used = Used { cpu: cpu / 1_000, faults };
    // Whatever it says is read, so that it never waits for that; shown where it goes wrong.
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if line.contains("\"ERROR\"") {
                eprintln!("{line}");
            }
        }
    });
    Ok(Running { child, api, endpoint, exec, used })
}

async fn start(subject: &Subject, python: &Path, quota: &Quota) -> Result<Start> {
    let aws = account().await;
    let mut running = spawn(subject, python, quota, &aws).await?;
    let next = running.api.asked().await? - running.exec;
    let pid = running.child.id().context("it ended")?;
    let used = used(pid)?;
    let idle_kb = memory(pid, "VmRSS:")?;
    quota.hold(pid)?;
    let event = event(&subject.name);
    let (mut first, mut warm) = (None, Vec::new());
    for _ in 0..=WARM {
        running.endpoint.forget();
        let given = running.api.give(&event).await?;
        let answered = running.api.answered().await? - given;
        let call = running.endpoint.first_request().map(|at| at.saturating_sub(given));
        match first {
            None => first = Some((call.unwrap_or_default(), answered)),
            Some(_) => warm.push(answered),
        }
        running.api.asked().await?;
    }
    let peak_kb = memory(pid, "VmHWM:")?;
    let (first_call, first_answer) = first.context("no event was answered")?;
    running.child.kill().await?;
    let cpu = used.cpu.saturating_sub(running.used.cpu);
    let faults = used.faults.saturating_sub(running.used.faults);
    Ok(Start { next, cpu, faults, first_call, first_answer, warm_answer: median(warm), idle_kb, peak_kb })
}

/// What Lambda takes in one invocation (AWS Lambda quotas), and podgrant's queues give at once.
const PAYLOAD: usize = 6 * 1024 * 1024;
const BATCH: usize = 10;

/// The first invocation of a sweep of a large fleet: all roles read, a message for each cluster. And the heaviest of
/// those that follow: as many of these messages as come at once, in a process of its own.
async fn sweep(subject: &Subject, arguments: &Arguments) -> Result<Sweep> {
    let whole = Size { roles: arguments.sweep, clusters: 100, regions: 1 };
    eprintln!("a sweep of {} roles on {} clusters …", whole.roles, whole.clusters);
    let aws = FakeAws::start().await;
    aws.association_limit(usize::MAX);
    fleet::build(&aws, whole);
    fleet::grant_everything(&aws, Size { clusters: BATCH, ..whole });
    let quota = Quota::of(Memory::default())?;
    let mut running = spawn(subject, &arguments.python, &quota, &aws).await?;
    running.api.asked().await?;
    running.endpoint.forget();
    let sweep: Value = serde_json::from_str(include_str!("../../events/samples/sweep.json"))?;
    let record = json!({ "Records": [{ "messageId": "sweep", "body": sweep.to_string() }] });
    let given = running.api.give(&record).await?;
    let answer_us = running.api.answered().await? - given;
    let messages = aws.take_messages();
    let tally: BTreeMap<[String; 3], usize> = aws.tally();
    let pages =
        tally.iter().filter(|(kind, _)| kind[1] == "GetAccountAuthorizationDetails").map(|(_, n)| n).sum();
    if messages.len() < whole.clusters {
        bail!("{} messages for {} clusters: {:?}", messages.len(), whole.clusters, running.api.last_answer());
    }
    let peak_kb = memory(running.child.id().context("it ended")?, "VmHWM:")?;
    let page_us = running.endpoint.gaps(pages);
    running.child.kill().await?;

    let mut records = Vec::new();
    let mut bytes = 0;
    for message in messages.iter().take(BATCH) {
        let record = json!({ "messageId": message.id, "body": message.body });
        bytes += record.to_string().len();
        if bytes > PAYLOAD {
            break;
        }
        records.push(record);
    }
    aws.clear_calls();
    let batch = records.len();
    let mut running = spawn(subject, &arguments.python, &quota, &aws).await?;
    running.api.asked().await?;
    let given = running.api.give(&json!({ "Records": records })).await?;
    let worker_us = running.api.answered().await? - given;
    let calls = aws.tally().values().sum();
    if calls < batch * whole.roles.div_ceil(100) {
        bail!("{calls} calls for {batch} clusters: {:?}", running.api.last_answer());
    }
    Ok(Sweep {
        roles: whole.roles,
        clusters: whole.clusters,
        page_us,
        answer_us,
        peak_kb,
        messages: messages.len(),
        largest_message: messages.iter().map(|message| message.body.len()).max().unwrap_or_default(),
        worker: Worker {
            messages: batch,
            calls,
            answer_us: worker_us,
            peak_kb: memory(running.child.id().context("it ended")?, "VmHWM:")?,
        },
    })
}

/// What a shell does to tell the time, and what it has used: the time on a CPU, and faults (proc(5)).
const USED: &str = r#"read -r cpu _ < /proc/$$/schedstat; read -ra stat < /proc/$$/stat; echo "$EPOCHREALTIME $cpu ${stat[9]}""#;

fn used(pid: u32) -> Result<Used> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default();
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Of what follows the name, which may have spaces in it: minflt is the eighth.
    let faults = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok());
    Ok(Used { cpu: nanoseconds / 1_000, faults: faults.with_context(|| format!("no faults in {stat:?}"))? })
}

fn memory(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.with_context(|| format!("no {field} of process {pid}"))
}

fn median(mut of: Vec<u64>) -> u64 {
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or_default()
}

fn figures(subject: &Subject, memory: Memory, starts: &[Start]) -> Figures {
    let spread = |of: fn(&Start) -> u64| {
        let all: Vec<u64> = starts.iter().map(of).collect();
        Spread {
            least: all.iter().copied().min().unwrap_or_default(),
            most: all.iter().copied().max().unwrap_or_default(),
            median: median(all),
        }
    };
    let size = |path: &Path| std::fs::metadata(path).map(|file| file.len()).ok();
    Figures {
        subject: subject.name.clone(),
        memory: memory.to_string(),
        next_us: spread(|start| start.next),
        cpu_us: spread(|start| start.cpu),
        faults: spread(|start| start.faults),
        first_call_us: spread(|start| start.first_call),
        first_answer_us: spread(|start| start.first_answer),
        warm_answer_us: spread(|start| start.warm_answer),
        idle_kb: spread(|start| start.idle_kb).median,
        peak_kb: spread(|start| start.peak_kb).most,
        binary_bytes: (!subject.is_python).then(|| size(&subject.path)).flatten(),
        zip_bytes: size(&subject.path.with_file_name("bootstrap.zip")),
    }
}
