//! What surrounds podgrant's decisions in a Lambda function.
//!
//! ```text
//! SQS batch or bare event ─► batch ─► scope ─► Flow: observe, plan, guard, apply ─► report
//! ```

use std::sync::Arc;
use std::time::Duration;

use lambda_runtime::{LambdaEvent, service_fn};
use podgrant_aws::Aws;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[cfg(panic = "abort")]
compile_error!("podgrant unwinds: with panic = \"abort\" one poison message would end its whole batch");

pub mod batch;
pub mod by_hand;
pub mod clock;
pub mod config;
pub mod flow;
pub mod metrics;
pub mod report;
pub mod scope;

pub use clock::Clock;
pub use config::{Config, ConfigError};
pub use flow::Flow;
pub use metrics::Metrics;
pub use podgrant_aws::Lookout;
pub use report::Report;
pub use scope::Function;

/// Runs a function until Lambda ends it.
///
/// # Errors
/// A configuration that can't be used, said in words, or the runtime API gone.
pub fn run(function: Function, lookout: Option<Lookout>) -> Result<(), lambda_runtime::Error> {
    init_logs()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = Config::from_env()
            .inspect_err(|error| tracing::error!(%error, "the configuration can't be used"))?;
        let sdk = podgrant_aws::sdk_config().await;
        let lookout = lookout.map(|lookout| config.kubernetes.applied_to(lookout));
        let aws = Aws::new(&sdk, &config.regions, config.tag_keys.clone())
            .with_guardrails(config.guardrails.clone())
            .with_orphan_settings(config.orphans)
            .with_lookout(lookout);
        let _ = tokio::time::timeout(WARM_UP, aws.warm_up()).await;
        let metrics = Metrics::into_the_log();
        let flow = Arc::new(Flow { function, aws, config, clock: Clock::system(), metrics });
        lambda_runtime::run(service_fn(|event: LambdaEvent<serde_json::Value>| {
            let flow = Arc::clone(&flow);
            async move {
                let deadline = i64::try_from(event.context.deadline).unwrap_or(i64::MAX);
                let deadline = to_come(deadline, flow.clock.millis());
                // Apart: it is large, and a start would move it about with all else.
                Box::pin(batch::answer(&flow, event.payload, deadline)).await
            }
        }))
        .await
    })
}

/// How long a start waits for its first call. Lambda gives a start ten seconds.
const WARM_UP: Duration = Duration::from_secs(2);

/// Milliseconds that an invocation has whose deadline is over when it begins.
const WITHOUT_DEADLINE_MS: i64 = 300_000;

/// A deadline that can be kept. Lambda's always can; `cargo lambda watch` tells of one in 1970.
fn to_come(deadline: i64, now: i64) -> i64 {
    if deadline > now { deadline } else { now.saturating_add(WITHOUT_DEADLINE_MS) }
}

/// One JSON object a line on standard output.
fn init_logs() -> Result<(), ConfigError> {
    let wanted = std::env::var("PODGRANT_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { "info" } else { wanted.trim() };
    // kube calls it an error when a cluster can't be reached: to podgrant it is a finding.
    let wanted =
        if wanted.contains("kube") { wanted.to_owned() } else { format!("{wanted},kube_client=off") };
    // Not an EnvFilter: it brings regular expressions along, for spans that podgrant does not have.
    let filter = wanted
        .parse::<Targets>()
        .map_err(|error| ConfigError { variable: "PODGRANT_LOG", problem: format!("{wanted:?}: {error}") })?;
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        // CloudWatch stamps each line already.
        .without_time();
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_was_over_before_it_began_is_none() {
        assert_eq!(to_come(2_000, 1_000), 2_000);
        assert_eq!(to_come(600_000, 1_772_446_530_000), 1_772_446_830_000);
    }
}
