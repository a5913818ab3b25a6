//! A person at a terminal, or a script, before a small AWS.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::credential_fn::provide_credentials_fn;
use aws_credential_types::provider::error::CredentialsError;
use podgrant_aws::Onlooker;
use podgrant_cli::{Hands, KubernetesHands, Outside, Streams, Surroundings, Terminal};
use podgrant_core::Mark;
use podgrant_core::TagKeys;
use podgrant_runtime::Clock;
use podgrant_tests::fake::{Addon, Association, Cluster, FakeAws, Role};
use podgrant_tests::fake_kubernetes::FakeKubernetes;

/// 2026-03-02T10:15:30Z, when time begins.
pub const NOW: i64 = 1_772_446_530;
pub const EU: &str = "eu-west-1";
pub const US: &str = "us-east-1";

pub struct Person {
    pub aws: FakeAws,
    pub terminal: Terminal,
    variables: BTreeMap<&'static str, String>,
    credentials: Option<Credentials>,
    endpoint: String,
    now: Arc<AtomicI64>,
    /// What happens while a command waits.
    pub meanwhile: Meanwhile,
    /// What happens while a question stands.
    pub asked: Option<Box<dyn Fn()>>,
    /// What is inside prod-eu.
    pub kubernetes: Option<FakeKubernetes>,
    /// How often it is asked for Ctrl-C before there is one.
    pub patience: Cell<u32>,
    /// What the person's hands are in clusters.
    pub hands: Arc<dyn Hands>,
    /// What the person's eyes are there.
    pub onlooker: Option<Onlooker>,
}

/// Is told the seconds that passed.
type Meanwhile = Box<dyn Fn(&FakeAws, i64)>;

/// What a person types, after a while.
struct Typed<'a> {
    text: &'a [u8],
    before: Option<&'a dyn Fn()>,
}

impl Read for Typed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.text.read(buffer)
    }
}

impl BufRead for Typed<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if let Some(before) = self.before.take() {
            before();
        }
        self.text.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.text.consume(amount);
    }
}

/// How a command ended, and what it said.
pub struct Said {
    pub code: u8,
    pub out: String,
    pub errors: String,
}

impl Person {
    /// Two regions, a cluster prod-eu with a healthy agent, nobody at a terminal.
    pub async fn new() -> Self {
        let aws = FakeAws::start().await;
        aws.set_time(NOW);
        aws.add_cluster(Cluster::named("prod-eu").tag("env", "prod"));
        aws.add_addon(EU, "prod-eu", Addon::agent().tag("podgrant/managed", "v1"));
        Self {
            endpoint: aws.endpoint(),
            aws,
            terminal: Terminal::default(),
            variables: [("PODGRANT_REGIONS", "eu-west-1,us-east-1".to_owned())].into(),
            credentials: Some(Credentials::new("AKIDPERSON", "no-secret", None, None, "cli")),
            now: Arc::new(AtomicI64::new(NOW)),
            kubernetes: None,
            asked: None,
            meanwhile: Box::new(|_, _| {}),
            patience: Cell::new(u32::MAX),
            hands: Arc::new(KubernetesHands),
            onlooker: None,
        }
    }

    /// Another person before the same AWS, with the same hands, some seconds later.
    pub fn beside(&self, seconds: i64) -> Self {
        Self {
            aws: self.aws.clone(),
            terminal: self.terminal,
            variables: self.variables.clone(),
            credentials: self.credentials.clone(),
            endpoint: self.endpoint.clone(),
            now: Arc::new(AtomicI64::new(self.now.load(Ordering::Relaxed) + seconds)),
            kubernetes: None,
            asked: None,
            meanwhile: Box::new(|_, _| {}),
            patience: Cell::new(u32::MAX),
            hands: Arc::clone(&self.hands),
            onlooker: self.onlooker.clone(),
        }
    }

    /// The person's clock, in seconds since 1970.
    pub fn clock_hand(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.now)
    }

    /// Time passes.
    pub fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.insert(name, value.to_owned());
        self
    }

    pub fn without_credentials(mut self) -> Self {
        self.credentials = None;
        self
    }

    /// As if nobody listened at AWS's place.
    pub fn cut_off(mut self) -> Self {
        self.endpoint = "http://127.0.0.1:9".to_owned();
        self
    }

    /// At a terminal, on all streams.
    pub fn at_a_terminal(mut self) -> Self {
        self.terminal = Terminal { input: true, out: true, errors: true };
        self
    }

    async fn sdk(&self) -> SdkConfig {
        let moment = Duration::from_millis(1);
        let loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(EU))
            .endpoint_url(&self.endpoint)
            .retry_config(RetryConfig::standard().with_initial_backoff(moment).with_max_backoff(moment))
            .timeout_config(
                TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(30)).build(),
            );
        match &self.credentials {
            Some(credentials) => loader.credentials_provider(credentials.clone()).load().await,
            None => {
                let nobody = || async {
                    Err(CredentialsError::not_loaded("no providers in chain provided credentials"))
                };
                loader.credentials_provider(provide_credentials_fn(nobody)).load().await
            }
        }
    }

    /// Types a command, and these answers. What stands between single quotes is one word.
    pub async fn types(&self, command: &str, answers: &str) -> Said {
        let sdk = self.sdk().await;
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let now = Arc::clone(&self.now);
        let streams = Streams {
            out: &mut out,
            errors: &mut errors,
            answers: &mut Typed { text: answers.as_bytes(), before: self.asked.as_deref() },
            terminal: self.terminal,
        };
        let outside = Outside {
            variable: &|name| self.variables.get(name).cloned(),
            clock: Clock::from_fn(move || now.load(Ordering::Relaxed) * 1000),
            sdk: &move |_| {
                let sdk = sdk.clone();
                Box::pin(async move { sdk })
            },
            lookout: None,
            onlooker: self.onlooker.clone(),
            hands: Arc::clone(&self.hands),
            roller: self.kubernetes.as_ref().map(FakeKubernetes::roller),
            interrupted: &|| {
                self.patience.set(self.patience.get().saturating_sub(1));
                self.patience.get() == 0
            },
            pause: &|time| {
                let seconds = i64::try_from(time.as_secs()).unwrap();
                let passed = self.now.fetch_add(seconds, Ordering::Relaxed) + seconds - NOW;
                (self.meanwhile)(&self.aws, passed);
                Box::pin(async {})
            },
        };
        let words = command.split('\'').enumerate().flat_map(|(number, part)| match number % 2 {
            0 => part.split(' ').filter(|word| !word.is_empty()).collect(),
            _ => vec![part],
        });
        let arguments = std::iter::once("podgrant").chain(words).map(OsString::from);
        let code = podgrant_cli::run(arguments, Surroundings { streams, outside }).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code, out: text(out), errors: text(errors) }
    }

    /// The same as one text.
    pub async fn story(&self, command: &str, answers: &str) -> String {
        self.types(command, answers).await.to_string()
    }

    /// Makes an association on prod-eu that podgrant made for a role's subject.
    pub fn granted(&self, role: &Role, subject: &str) {
        let mark = Mark {
            role_arn: role.arn().parse().unwrap(),
            role_id: self.aws.role(&role.name).map_or("AROAGONE".to_owned(), |role| role.id).parse().unwrap(),
            cluster: "eu-west-1/prod-eu".parse().unwrap(),
            subject: subject.parse().unwrap(),
            label: String::new(),
            session_tags_off: false,
            target_role: None,
        };
        let (namespace, account) = subject.split('@').next().unwrap().split_once('/').unwrap();
        let mut made = Association::of("prod-eu", namespace, account).role_arn(role.arn());
        made.tags = mark.to_tags(&TagKeys::default()).into_iter().collect();
        self.aws.add_association(made);
    }

    /// How often each call that changes something was made.
    pub fn writes(&self) -> Vec<String> {
        let reads = ["List", "Describe", "Get"];
        let calls = self.aws.calls();
        let writes = calls.iter().filter(|call| !reads.iter().any(|read| call.operation.starts_with(read)));
        writes.map(|call| format!("{} {}", call.service, call.operation)).collect()
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, out, errors } = self;
        write!(f, "{out}")?;
        if !errors.is_empty() {
            write!(f, "---- stderr\n{errors}\n")?;
        }
        write!(f, "---- exit {code}")
    }
}

/// A role that trusts pods, with one grant tag.
pub fn role(name: &str, grant: &str) -> Role {
    Role::named(name).tag("podgrant/grant", grant).trusting_pods()
}
