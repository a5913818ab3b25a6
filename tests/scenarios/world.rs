//! A small AWS, podgrant's functions over it, and what they did, told as a story.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_eks::config::SharedCredentialsProvider;
use podgrant_aws::{Aws, Lookout};
use podgrant_core::outcome::FollowUp;
use podgrant_core::{Verdict, Workload};
use podgrant_events::{
    AccessGranted, AccessRemoved, AgentInstalled, ClusterReady, DeletionsWithheld, FindingDetail, Incoming,
    OrphanMarked, OrphanReport, OrphanUnmarked, RoleDeletion, Trigger, TrustAmended, read,
};
use podgrant_runtime::flow::Origin;
use podgrant_runtime::report::Ending;
use podgrant_runtime::{Clock, Config, Flow, Function, Metrics, Report};
use podgrant_tests::fake::{Calls, Cluster, Event, FakeAws, Message, Role};
use serde_json::{Value, json};

/// When the samples happened, 2026-03-02T10:15:30Z; time stands still there.
pub const NOW: i64 = 1_772_446_530;
pub const EU: &str = "eu-west-1";
pub const US: &str = "us-east-1";
const ACCESS_KEY: &str = "AKIDSCENARIOS";
pub const SECRET_KEY: &str = "no-secret";
pub const QUEUE: &str = "https://sqs.eu-west-1.amazonaws.com/111122223333/podgrant";

/// Whom a function is known as.
pub fn access_key(function: Function) -> String {
    format!("{ACCESS_KEY}.{}", function.name())
}

pub struct World {
    pub aws: FakeAws,
    config: Config,
    sdk: SdkConfig,
    now: Arc<AtomicI64>,
    /// Seconds that an invocation has.
    pub time_left: i64,
    /// How install-agent looks beyond EKS's own word, if it does.
    pub lookout: Option<Lookout>,
    /// How reconcile-associations does.
    pub accounts: Option<Lookout>,
    /// Where metrics go: nowhere, unless a test listens.
    pub metrics: Metrics,
    queue: Mutex<Vec<Value>>,
    told: Mutex<Vec<Event>>,
}

impl World {
    /// Two regions, and the cluster prod-eu in eu-west-1.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same, configured by these variables.
    pub async fn with(variables: &[(&str, &str)]) -> Self {
        Self::configured(variables, Duration::from_secs(30)).await
    }

    /// The same, with clients that give up a call after a moment.
    pub async fn impatient() -> Self {
        Self::configured(&[], Duration::from_millis(400)).await
    }

    async fn configured(variables: &[(&str, &str)], patience: Duration) -> Self {
        let aws = FakeAws::start().await;
        aws.set_time(NOW);
        aws.add_cluster(Cluster::named("prod-eu").tag("env", "prod"));
        let mut all = BTreeMap::from([
            ("PODGRANT_REGIONS", "eu-west-1,us-east-1"),
            ("PODGRANT_EVENT_BUS", "podgrant"),
            ("PODGRANT_QUEUE_URL", QUEUE),
        ]);
        all.extend(variables.iter().copied());
        let config = Config::from_variables(|name| all.get(name).map(ToString::to_string)).unwrap();
        let credentials =
            aws_sdk_eks::config::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "scenarios");
        let moment = Duration::from_millis(1);
        let sdk = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(EU))
            .endpoint_url(aws.endpoint())
            .credentials_provider(credentials)
            .retry_config(RetryConfig::standard().with_initial_backoff(moment).with_max_backoff(moment))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(patience).build())
            .load()
            .await;
        let now = Arc::new(AtomicI64::new(NOW));
        Self {
            aws,
            config,
            sdk,
            now,
            time_left: 60,
            lookout: None,
            accounts: None,
            metrics: Metrics::nowhere(),
            told: Mutex::default(),
            queue: Mutex::default(),
        }
    }

    /// The SDK's way to this AWS, for what its users do.
    pub fn sdk(&self) -> &SdkConfig {
        &self.sdk
    }

    /// As the samples' role, with this grant.
    pub fn payments_api(&self, grant: &str) -> String {
        self.aws.add_role(role("payments-api", grant))
    }

    pub fn flow(&self, function: Function) -> Flow {
        // Each by its own key, as each has its own role on AWS: what it asks for is compared with that role's policy.
        let key = access_key(function);
        let credentials = aws_sdk_eks::config::Credentials::new(key, SECRET_KEY, None, None, "scenarios");
        let sdk = self.sdk.to_builder();
        let sdk = sdk.credentials_provider(SharedCredentialsProvider::new(credentials)).build();
        let lookout = match function {
            Function::InstallAgent => self.lookout.clone(),
            Function::ReconcileAssociations => self.accounts.clone(),
            Function::CleanUpOrphans => None,
        };
        let lookout = lookout.map(|lookout| self.config.kubernetes.applied_to(lookout));
        let aws = Aws::new(&sdk, &self.config.regions, self.config.tag_keys.clone())
            .with_guardrails(self.config.guardrails.clone())
            .with_orphan_settings(self.config.orphans)
            .with_lookout(lookout);
        let now = Arc::clone(&self.now);
        let clock = Clock::from_fn(move || now.load(Ordering::Relaxed) * 1000);
        Flow { function, aws, config: self.config.clone(), clock, metrics: self.metrics.clone() }
    }

    pub fn deadline(&self) -> i64 {
        (self.now.load(Ordering::Relaxed) + self.time_left) * 1000
    }

    /// The clock's hand, in seconds since 1970, for what takes time by itself.
    pub fn clock_hand(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.now)
    }

    pub fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
        self.aws.advance(seconds);
    }

    pub async fn reconcile(&self, event: &Value) -> String {
        self.story(&self.serve(Function::ReconcileAssociations, event).await, in_order)
    }

    pub async fn clean_up(&self, event: &Value) -> String {
        self.story(&self.serve(Function::CleanUpOrphans, event).await, in_order)
    }

    /// The sweep of orphans, and the second look that it asks for, a while later.
    pub async fn sweep_orphans(&self) -> String {
        let mut story = self.clean_up(&sweep()).await;
        while let Some(again) = self.next_of("orphans") {
            self.pass(60);
            let _ = write!(story, "\n\n{}", self.clean_up(&again).await);
        }
        story
    }

    pub async fn install_agent(&self, event: &Value) -> String {
        self.story(&self.serve(Function::InstallAgent, event).await, in_order)
    }

    /// A whole sweep of grants: the stories of who plans it, and of who serves its parts.
    pub async fn sweep(&self) -> String {
        let mut story = self.reconcile(&sweep()).await;
        while let Some(part) = self.next_part() {
            let _ = write!(story, "\n\n{}", self.reconcile(&part).await);
        }
        story
    }

    /// The same as one story, with its calls counted.
    pub async fn sweep_counted(&self) -> String {
        let mut report = self.serve(Function::ReconcileAssociations, &sweep()).await;
        let mut served = 0;
        while let Some(message) =
            self.aws.messages().get(served).filter(|message| message.delay_seconds == Some(0))
        {
            let part = serde_json::from_str(&message.body).unwrap();
            report.add(self.serve(Function::ReconcileAssociations, &part).await);
            served += 1;
        }
        let story = self.story(&report, by_kind);
        while self.next_part().is_some() {}
        story
    }

    /// The next part of a sweep that is on the queue.
    fn next_part(&self) -> Option<Value> {
        self.next_of("cluster-sweep")
    }

    pub fn next_of(&self, kind: &str) -> Option<Value> {
        let mut queue = self.queue.lock().unwrap();
        let place = queue.iter().position(|body| body["detail"]["followUp"]["kind"] == kind)?;
        Some(queue.remove(place))
    }

    /// The story with its calls counted, for passes that do many things side by side.
    pub async fn counted(&self, function: Function, event: &Value) -> String {
        self.story(&self.serve(function, event).await, by_kind)
    }

    pub async fn serve(&self, function: Function, event: &Value) -> Report {
        match read(event, &[]) {
            Ok(Incoming::Wake(wake)) => {
                self.flow(function).serve(&wake, Origin::Queue, self.deadline()).await
            }
            other => panic!("{other:?}"),
        }
    }

    /// Makes true what a role asks for, before the test begins.
    pub async fn given(&self, role: Role) {
        let name = role.name.clone();
        self.aws.add_role(role);
        let report = self.serve(Function::ReconcileAssociations, &role_tagged(&name)).await;
        assert_eq!((report.ending, report.findings), (Ending::Done, vec![]));
        self.forget();
    }

    /// The oldest message on the queue.
    pub fn next_message(&self) -> Value {
        self.queue.lock().unwrap().remove(0)
    }

    /// `namespace/account role-name` of every association of a cluster.
    pub fn access(&self, region: &str, cluster: &str) -> Vec<String> {
        let shown = |a: &podgrant_tests::fake::Association| {
            let role = a.role_arn.rsplit('/').next().unwrap_or_default();
            format!("{}/{} {role}", a.namespace, a.service_account)
        };
        self.aws.associations(region, cluster).iter().map(shown).collect()
    }

    /// The details of the events of one kind in the last story.
    pub fn told_of(&self, detail_type: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|event| event.detail_type == detail_type)
            .map(|event| event.detail.clone())
            .collect()
    }

    pub fn forget(&self) {
        self.aws.clear_calls();
        self.aws.clear_sent();
    }

    /// All that happened since the last story.
    pub fn story(&self, report: &Report, tell_calls: fn(&Calls) -> Vec<String>) -> String {
        let mut story = serde_json::to_value(report.ending).unwrap().as_str().unwrap().to_owned();
        if let Some(reason) = &report.reason {
            let _ = write!(story, ": {reason}");
        }
        let mut line = |line: String| {
            let _ = write!(story, "\n{line}");
        };
        if report.unchanged > 0 {
            line(format!("= {} unchanged", report.unchanged));
        }
        for change in &report.changes {
            let verdict = match &change.verdict {
                None => "planned".to_owned(),
                Some(Verdict::Done) => "done".to_owned(),
                Some(Verdict::NotYet(wait)) => format!("not yet: {}", wait.reason),
                Some(Verdict::Unbegun) => "unbegun".to_owned(),
                Some(Verdict::Dropped { reason }) => format!("dropped: {reason}"),
                Some(Verdict::Refused { reason }) => format!("refused: {reason}"),
                Some(Verdict::Failed { reason }) => format!("failed: {reason}"),
            };
            line(format!("{} => {verdict}", change.change));
        }
        report.waiting.iter().for_each(|reason| line(format!(". {reason}")));
        report.findings.iter().for_each(|finding| line(format!("! {finding}")));
        tell_calls(&self.aws.calls()).into_iter().for_each(&mut line);
        self.aws.events().iter().for_each(|event| line(tell_event(event, &report.id)));
        for message in self.aws.messages() {
            line(tell_message(&message, self.now.load(Ordering::Relaxed)));
            self.queue.lock().unwrap().push(serde_json::from_str(&message.body).unwrap());
        }
        *self.told.lock().unwrap() = self.aws.events();
        self.forget();
        story
    }
}

/// Calls in order; those of one kind that follow each other ran side by side, and are sorted.
pub fn in_order(calls: &Calls) -> Vec<String> {
    let runs = calls.chunk_by(|a, b| (&a.service, &a.operation) == (&b.service, &b.operation));
    runs.flat_map(|run| {
        let mut lines: Vec<String> = run.iter().map(ToString::to_string).collect();
        lines.sort();
        lines
    })
    .collect()
}

/// How many calls of each kind, and how they ended.
pub fn by_kind(calls: &Calls) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls.iter() {
        let ended = if call.error.is_empty() { String::new() } else { format!(" -> {}", call.error) };
        *counts.entry(format!("{} {} {}{ended}", call.service, call.region, call.operation)).or_default() +=
            1;
    }
    counts.into_iter().map(|(kind, count)| format!("{count} x {kind}")).collect()
}

/// One line of an event, and whether its detail is what podgrant_events promises: no part lost, none added.
fn tell_event(event: &Event, cause: &str) -> String {
    assert_eq!(
        (event.region.as_str(), event.bus.as_str(), event.source.as_str()),
        (EU, "podgrant", "podgrant")
    );
    assert_eq!(event.detail["cause"]["id"], cause);
    macro_rules! is {
        ($kind:ty) => {{
            let detail: $kind = serde_json::from_value(event.detail.clone()).unwrap();
            assert_eq!(serde_json::to_value(detail).unwrap(), event.detail);
        }};
    }
    match event.detail_type.as_str() {
        "Access Granted" => is!(AccessGranted),
        "Trust Amended" => is!(TrustAmended),
        "Access Revoked" | "Orphan Removed" => is!(AccessRemoved),
        "Agent Installed" => is!(AgentInstalled),
        "Cluster Ready" => is!(ClusterReady),
        "Grant Refused" | "Orphan Found" | "Cluster Needs Attention" | "Work Abandoned" => is!(FindingDetail),
        "Deletions Withheld" => is!(DeletionsWithheld),
        "Orphan Marked" => is!(OrphanMarked),
        "Orphan Unmarked" => is!(OrphanUnmarked),
        "Role Deletion Begun" | "Role Deleted" => is!(RoleDeletion),
        "Orphan Report" => {
            is!(OrphanReport);
            let roles = event.detail["roles"].as_array().unwrap();
            let told = roles.iter().map(|role| format!("\n  {}", role["text"].as_str().unwrap()));
            return format!("* Orphan Report{}", told.collect::<String>());
        }
        other => panic!("{other}"),
    }
    let text = |name: &str| event.detail[name].as_str();
    let cluster = &event.detail["cluster"];
    let cluster = cluster["region"].as_str().zip(cluster["name"].as_str());
    let words = [
        cluster.map(|(region, name)| format!("{region}/{name}")),
        text("namespace").zip(text("serviceAccount")).map(|(n, a)| format!("{n}/{a}")),
        text("roleArn").and_then(|arn| arn.rsplit('/').next()).map(str::to_owned),
        text("kind").or(text("action")).or(text("reason")).or(text("version")).map(str::to_owned),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    format!("* {} {}", event.detail_type, words.join(" "))
}

/// One line of a message, which must be one that podgrant reads.
fn tell_message(message: &Message, now: i64) -> String {
    assert_eq!((message.region.as_str(), message.queue_url.as_str()), (EU, QUEUE));
    let body: Value = serde_json::from_str(&message.body).unwrap();
    let Ok(Incoming::Wake(wake)) = read(&body, &[]) else { panic!("not readable: {body}") };
    let Trigger::FollowUp(work) = wake.trigger else { panic!("not deferred work: {body}") };
    let (delay, age) = (message.delay_seconds.unwrap(), now - wake.began.unwrap());
    let work = match work {
        FollowUp::ClusterSweep(part) => {
            let names: Vec<&str> = part.roles.iter().map(|role| role.arn.role_name()).collect();
            let edge = |edge: &Option<Workload>| edge.as_ref().map(ToString::to_string).unwrap_or_default();
            let (from, to) = (edge(&part.stretch.from), edge(&part.stretch.to));
            let names = if names.len() > 6 { format!("{} roles", names.len()) } else { names.join(" ") };
            format!("sweep {} {from}..{to} with {names}", part.cluster)
        }
        other => format!("{other:?}"),
    };
    format!("> in {delay} s, attempt {}, began {age} s ago: {work}", wake.attempt)
}

// ── Things ──

/// A role that trusts pods, with one grant tag.
pub fn role(name: &str, grant: &str) -> Role {
    Role::named(name).tag("podgrant/grant", grant).trusting_pods()
}

// ── Events ──

pub fn sample(name: &str) -> Value {
    let path = format!("{}/../events/samples/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn about_role(name: &str, role: &str) -> Value {
    let mut event = sample(name);
    let parameters = &mut event["detail"]["requestParameters"];
    parameters["roleName"] = json!(role);
    // What these tests set on their roles is not what the samples say.
    parameters.as_object_mut().unwrap().retain(|name, _| name == "roleName");
    event
}

pub fn role_tagged(role: &str) -> Value {
    about_role("role-tagged", role)
}

pub fn role_untagged(role: &str) -> Value {
    about_role("role-untagged", role)
}

pub fn role_deleted(role: &str) -> Value {
    about_role("role-deleted", role)
}

pub fn sweep() -> Value {
    sample("sweep")
}

/// The same event, as if it had happened again.
pub fn again(mut event: Value) -> Value {
    event["id"] = json!("another-event");
    event
}
