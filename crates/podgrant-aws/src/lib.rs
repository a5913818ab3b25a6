//! What podgrant reads from AWS and writes to it.
//!
//! The only crate that names `aws_sdk_*`; no SDK type stands in a signature
//! that another crate uses, but for [`Aws::new`] and what makes the SDK's own
//! configuration for it.

use std::collections::BTreeMap;
use std::env;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub use aws_config::SdkConfig;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use podgrant_core::{Guardrails, OrphanSettings, Region, TagKeys};

mod agents;
mod apply;
mod associations;
mod clusters;
mod error;
mod explain;
pub mod http;
mod kubernetes;
mod migrate;
mod observe;
mod publish;
mod restart;
mod roles;
mod verify;

pub use apply::{Keep, Occasion};
pub use error::{AwsError, Meaning};
pub use explain::{Explanation, Onlooker};
pub use kubernetes::Lookout;
pub use observe::View;
pub use publish::{BusEvent, DelayedMessage};
pub use restart::{Restarts, Rolled, Roller};
pub use roles::TrustWritten;

/// How many calls run side by side: EKS's and IAM's unpublished limits are low
/// (assume 5 to 10 calls a second).
const CONCURRENT_CALLS: usize = 6;

/// How many clusters are looked into side by side. Each is an API of its own, most of the time is waiting, and
/// each look holds a page of nodes in memory.
const CONCURRENT_LOOKS: usize = 12;

/// podgrant's view of AWS: one client for each service, and for each region where
/// clusters are looked for.
#[derive(Debug, Clone)]
pub struct Aws {
    keys: TagKeys,
    guardrails: Guardrails,
    orphans: OrphanSettings,
    iam: Lazy<aws_sdk_iam::Client>,
    events: Lazy<aws_sdk_eventbridge::Client>,
    sqs: Lazy<aws_sdk_sqs::Client>,
    regions: BTreeMap<Region, Regional>,
    credentials: Option<SharedCredentialsProvider>,
    lookout: Option<Lookout>,
}

#[derive(Debug, Clone)]
struct Regional {
    eks: Lazy<aws_sdk_eks::Client>,
    tagging: Lazy<aws_sdk_resourcegroupstagging::Client>,
}

/// A client that is made once, when it is first used or when a start has nothing else to do: the first of each service
/// reads the SDK's table of partitions, half a million instructions of the seven that a start has.
type Lazy<Client> = Arc<LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>>;

fn lazy<Client: 'static>(config: &SdkConfig, make: fn(&SdkConfig) -> Client) -> Lazy<Client> {
    let config = config.clone();
    Arc::new(LazyLock::new(Box::new(move || make(&config))))
}

/// Where Lambda puts a function's credentials.
const CREDENTIALS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// The SDK's configuration from the standard variables (`AWS_REGION`,
/// `AWS_ENDPOINT_URL`, credentials), with podgrant's time limits.
pub async fn sdk_config() -> SdkConfig {
    let loader = configured(aws_config::defaults(BehaviorVersion::latest()));
    // The default chain looks there first, too. But it makes a client for STS before it looks.
    if CREDENTIALS.iter().all(|name| env::var_os(name).is_some_and(|value| !value.is_empty())) {
        return loader.credentials_provider(EnvironmentVariableCredentialsProvider::new()).load().await;
    }
    loader.load().await
}

/// The same for a person, who may have named a profile of theirs.
pub async fn sdk_config_of(profile: Option<String>) -> SdkConfig {
    let loader = configured(aws_config::defaults(BehaviorVersion::latest()));
    match profile {
        Some(profile) => loader.profile_name(profile).load().await,
        None => loader.load().await,
    }
}

/// The configuration at home in a region.
pub fn at_home_in(config: &SdkConfig, region: &Region) -> SdkConfig {
    config.to_builder().region(aws_config::Region::new(region.to_string())).build()
}

/// With podgrant's retries and time limits.
pub fn configured(loader: ConfigLoader) -> ConfigLoader {
    loader
        .http_client(http::paced(http::client()))
        .retry_config(RetryConfig::standard().with_max_attempts(5))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(3))
                .operation_attempt_timeout(Duration::from_secs(8))
                .operation_timeout(Duration::from_secs(20))
                .build(),
        )
}

impl Aws {
    /// Clients for the home region (that of `config`) and for every region where
    /// clusters are looked for.
    pub fn new(config: &SdkConfig, regions: &[Region], keys: TagKeys) -> Self {
        let regional = |region: &Region| {
            let name = aws_config::Region::new(region.to_string());
            let config = config.to_builder().region(name).build();
            Regional {
                eks: lazy(&config, aws_sdk_eks::Client::new),
                tagging: lazy(&config, aws_sdk_resourcegroupstagging::Client::new),
            }
        };
        Self {
            keys,
            guardrails: Guardrails::default(),
            orphans: OrphanSettings::default(),
            iam: lazy(config, aws_sdk_iam::Client::new),
            events: lazy(config, aws_sdk_eventbridge::Client::new),
            sqs: lazy(config, aws_sdk_sqs::Client::new),
            regions: regions.iter().map(|region| (region.clone(), regional(region))).collect(),
            credentials: config.credentials_provider(),
            lookout: None,
        }
    }

    /// Judges what stands and what goes by these guardrails.
    pub fn with_guardrails(self, guardrails: Guardrails) -> Self {
        Self { guardrails, ..self }
    }

    /// Judges roles whose clusters are gone by these settings.
    pub fn with_orphan_settings(self, orphans: OrphanSettings) -> Self {
        Self { orphans, ..self }
    }

    /// Also looks beyond EKS's own word.
    pub fn with_lookout(self, lookout: Option<Lookout>) -> Self {
        Self { lookout, ..self }
    }

    /// Makes one cheap call, so that credentials, TLS and a connection are ready when there is work, and the other
    /// clients while that call waits for the network. Nothing is asked for, so nothing is made of the answer, and a
    /// start that gets none goes on.
    pub async fn warm_up(&self) {
        let Some((region, first)) = self.regions.first_key_value() else { return };
        let call = async {
            if let Err(error) = first.eks.list_clusters().max_results(1).send().await {
                let error = AwsError::of("eks:ListClusters", region.as_str(), error);
                tracing::info!(%error, "the call that is made while starting");
            }
        };
        futures_util::future::join(call, self.make_clients()).await;
    }

    /// Makes all clients, one at a time: between two of them whoever waits for the network has its turn.
    async fn make_clients(&self) {
        LazyLock::force(&self.iam);
        tokio::task::yield_now().await;
        LazyLock::force(&self.events);
        tokio::task::yield_now().await;
        LazyLock::force(&self.sqs);
        for regional in self.regions.values() {
            tokio::task::yield_now().await;
            LazyLock::force(&regional.tagging);
            LazyLock::force(&regional.eks);
        }
    }

    /// Asks each region for little, so that what is wrong everywhere (credentials, rights, the network) is told
    /// before anything else: the regions that do not answer, and why.
    pub async fn unanswering(&self) -> Vec<(Region, AwsError)> {
        let asked = self.regions.iter().map(|(region, regional)| async move {
            let answer = regional.eks.list_clusters().max_results(1).send().await;
            let error = AwsError::of("eks:ListClusters", region.as_str(), answer.err()?);
            Some((region.clone(), error))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The names of podgrant's tags.
    pub fn keys(&self) -> &TagKeys {
        &self.keys
    }

    fn region(&self, region: &Region) -> Result<&Regional, AwsError> {
        self.regions.get(region).ok_or_else(|| {
            AwsError::new(
                "configuration",
                region.as_str(),
                Meaning::Invalid,
                "not one of the configured regions; add it to PODGRANT_REGIONS",
            )
        })
    }
}
