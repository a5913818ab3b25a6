//! Lambda and its queue on a clock of their own: batches, visibility, concurrency, deadlines, and functions that die.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region};
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use podgrant_aws::Aws;
use podgrant_runtime::{Clock, Config, Flow, Function, Metrics, batch};
use podgrant_tests::fake::FakeAws;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use podgrant_tests::fleet::HOME;
use podgrant_tests::virtual_time::VirtualTime;

/// 2026-03-02T10:15:30Z, when every simulation begins.
const BEGIN: i64 = 1_772_446_530;
const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/111122223333/podgrant";

/// As infra/template.yaml has them.
const BATCH: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(300);
const VISIBILITY: Duration = Duration::from_secs(1800);
const RECEIVES: u32 = 3;
const CONCURRENCY: usize = 5;
/// What Lambda takes in one invocation (AWS Lambda quotas).
const PAYLOAD: usize = 6 * 1024 * 1024;
/// How often the queue is looked at while functions run.
const POLL: Duration = Duration::from_secs(1);

/// An account with podgrant in it.
pub struct Account {
    pub aws: FakeAws,
    function: Function,
    config: Config,
    time: VirtualTime,
    /// The invocation of this number dies after so long.
    pub dies: Option<(usize, Duration)>,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    pub seconds: u64,
    pub invocations: usize,
    pub environments: usize,
    pub messages: usize,
    /// Messages whose work came back as another message.
    pub rounds: usize,
    /// Ended by Lambda, at the deadline or by dying.
    pub cut_off: usize,
    pub dead_letters: usize,
    /// The longest invocation, in seconds.
    pub longest: u64,
}

struct Message {
    id: String,
    body: String,
    visible: Instant,
    receives: u32,
}

struct Served {
    flow: Option<Flow>,
    batch: Vec<Message>,
    received: Instant,
    answer: Option<Value>,
}

impl Account {
    pub fn new(
        aws: FakeAws,
        function: Function,
        regions: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let regions = regions.join(",");
        let shipped = [
            ("PODGRANT_REGIONS", regions.as_str()),
            ("PODGRANT_EVENT_BUS", "podgrant"),
            ("PODGRANT_QUEUE_URL", QUEUE),
        ];
        let value = |name: &str| {
            let found = variables.iter().chain(&shipped).find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let config = Config::from_variables(value)?;
        aws.set_time(BEGIN);
        let time = VirtualTime::from(BEGIN.unsigned_abs());
        Ok(Self { aws, function, config, time, dies: None })
    }

    /// A new execution environment: clients of its own, which know nothing of the others'.
    async fn environment(&self) -> Flow {
        let credentials =
            aws_sdk_eks::config::Credentials::new("AKIDSCALE", "no-secret", None, None, "scale");
        let sdk = podgrant_aws::configured(aws_config::defaults(BehaviorVersion::latest()))
            .region(Region::new(HOME))
            .endpoint_url("http://aws.invalid")
            .http_client(podgrant_aws::http::paced(self.aws.road()))
            .time_source(self.time)
            .credentials_provider(credentials)
            .load()
            .await;
        let aws = Aws::new(&sdk, &self.config.regions, self.config.tag_keys.clone())
            .with_guardrails(self.config.guardrails.clone())
            .with_orphan_settings(self.config.orphans);
        let time = self.time;
        let clock = Clock::from_fn(move || i64::try_from(time.since_1970().as_millis()).unwrap_or(i64::MAX));
        Flow { function: self.function, aws, config: self.config.clone(), clock, metrics: Metrics::nowhere() }
    }

    /// Puts an event on the queue, and lets Lambda work until nothing is left.
    pub async fn serve(&self, event: &Value) -> Result<Run> {
        let mut run = Run { messages: 1, ..Run::default() };
        let began = Instant::now();
        let mut queue = VecDeque::from([Message {
            id: "event".to_owned(),
            body: event.to_string(),
            visible: began,
            receives: 0,
        }]);
        let mut idle: Vec<Flow> = Vec::new();
        let mut running: FuturesUnordered<LocalBoxFuture<'_, Served>> = FuturesUnordered::new();
        let mut last = began;
        loop {
            let now = Instant::now();
            for message in self.aws.take_messages() {
                run.messages += 1;
                let attempt = serde_json::from_str::<Value>(&message.body)?["detail"]["attempt"].as_u64();
                run.rounds += usize::from(attempt.unwrap_or_default() > 1);
                let delay = Duration::from_secs(message.delay_seconds.unwrap_or_default());
                queue.push_back(Message {
                    id: message.id,
                    body: message.body,
                    visible: now + delay,
                    receives: 0,
                });
            }
            while running.len() < CONCURRENCY {
                let batch = receive(&mut queue, now, &mut run);
                if batch.is_empty() {
                    break;
                }
                let flow = match idle.pop() {
                    Some(flow) => flow,
                    None => {
                        run.environments += 1;
                        self.environment().await
                    }
                };
                run.invocations += 1;
                let life = match self.dies {
                    Some((number, after)) if number == run.invocations => after,
                    _ => TIMEOUT,
                };
                running.push(invoke(flow, batch, life).boxed_local());
            }
            if running.is_empty() && queue.is_empty() {
                break;
            }
            let next = queue.iter().map(|message| message.visible).filter(|visible| *visible > now).min();
            let wake = match running.is_empty() {
                true => next.context("a queue without a next message")?,
                false => next.unwrap_or(now + POLL).min(now + POLL),
            };
            let served = tokio::select! {
                Some(served) = running.next(), if !running.is_empty() => served,
                () = sleep_until(wake) => continue,
            };
            last = Instant::now();
            run.longest = run.longest.max((last - served.received).as_secs());
            let failed: Vec<&str> = match &served.answer {
                Some(answer) => {
                    let failures = answer["batchItemFailures"].as_array().into_iter().flatten();
                    failures.filter_map(|failure| failure["itemIdentifier"].as_str()).collect()
                }
                None => {
                    run.cut_off += 1;
                    served.batch.iter().map(|message| message.id.as_str()).collect()
                }
            };
            let failed: Vec<String> = failed.into_iter().map(str::to_owned).collect();
            let back = served.batch.into_iter().filter(|message| failed.contains(&message.id));
            queue.extend(back.map(|message| Message { visible: served.received + VISIBILITY, ..message }));
            idle.extend(served.flow);
        }
        run.seconds = (last - began).as_secs();
        Ok(run)
    }
}

/// What Lambda takes off the queue at once.
fn receive(queue: &mut VecDeque<Message>, now: Instant, run: &mut Run) -> Vec<Message> {
    let (mut batch, mut bytes, mut left) = (Vec::new(), 0, VecDeque::new());
    for mut message in queue.drain(..) {
        let fits = batch.len() < BATCH && bytes + message.body.len() <= PAYLOAD;
        if message.visible > now || !fits {
            left.push_back(message);
        } else if message.receives == RECEIVES {
            run.dead_letters += 1;
        } else {
            message.receives += 1;
            bytes += message.body.len();
            batch.push(message);
        }
    }
    *queue = left;
    batch
}

async fn invoke(flow: Flow, batch: Vec<Message>, life: Duration) -> Served {
    let received = Instant::now();
    let records: Vec<Value> =
        batch.iter().map(|message| json!({"messageId": message.id, "body": message.body})).collect();
    let deadline = flow.clock.millis() + i64::try_from(TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    let answer = batch::answer(&flow, json!({ "Records": records }), deadline);
    match timeout(life, answer).await {
        Ok(answer) => Served { flow: Some(flow), batch, received, answer: answer.ok() },
        Err(_) => Served { flow: None, batch, received, answer: None },
    }
}
