//! What every command that asks AWS begins with: credentials, regions, configuration.

use std::sync::Arc;
use std::time::Duration;

use podgrant_aws::{Aws, AwsError, Meaning, Onlooker, Roller, at_home_in};
use podgrant_core::moment::rfc3339;
use podgrant_core::{AllowBy, ClusterId, Region};
use podgrant_events::{Trigger, Wake};
use podgrant_runtime::{Config, Flow, Function, Metrics};

use crate::arguments::{ClusterArgument, Common, role_name};
use crate::problem::Problem;
use crate::surroundings::{Hands, Outside};
use crate::ui::Ui;

/// A person at work: who they are to AWS, and what they look at.
pub struct Session<'a> {
    pub ui: Ui<'a>,
    pub aws: Aws,
    pub config: Config,
    /// Whether somebody said which regions are looked at: a profile names the one that its owner works in.
    pub names_regions: bool,
    outside: Outside<'a>,
    profile: Option<String>,
}

impl<'a> Session<'a> {
    /// Reads the configuration, and asks every region for little: what is wrong with credentials or network is told
    /// before anything else.
    pub async fn open(
        mut ui: Ui<'a>,
        common: &Common,
        outside: Outside<'a>,
    ) -> Result<Self, (Ui<'a>, Problem)> {
        ui.progress("asking AWS …");
        let sdk = (outside.sdk)(common.profile.clone()).await;
        let config = match configured(common, &outside, sdk.region().map(ToString::to_string)) {
            Ok(config) => config,
            Err(problem) => return Err((ui, problem)),
        };
        let named = (outside.variable)("PODGRANT_REGIONS").is_some_and(|named| !named.trim().is_empty());
        let names_regions = named || !common.region.is_empty();
        // IAM is asked from some region too: it tells the partition.
        let sdk = match (sdk.region(), config.regions.first()) {
            (None, Some(first)) => at_home_in(&sdk, first),
            _ => sdk,
        };
        let lookout = outside.lookout.clone().map(|lookout| config.kubernetes.applied_to(lookout));
        let aws = Aws::new(&sdk, &config.regions, config.tag_keys.clone())
            .with_guardrails(config.guardrails.clone())
            .with_orphan_settings(config.orphans)
            .with_lookout(lookout);
        let unanswering = aws.unanswering().await;
        let hopeless = |error: &AwsError| error.is(Meaning::NoCredentials);
        // One region that does not answer is a gap; none that does is no view at all.
        if let Some((_, error)) =
            unanswering.iter().find(|(_, error)| hopeless(error) || unanswering.len() == config.regions.len())
        {
            return Err((ui, Problem::of_aws(error, common.profile.as_deref())));
        }
        Ok(Self { ui, aws, config, names_regions, outside, profile: common.profile.clone() })
    }

    /// A function's way through, with this person's credentials.
    pub fn flow(&self, function: Function) -> Flow {
        Flow {
            function,
            aws: self.aws.clone(),
            config: self.config.clone(),
            clock: self.outside.clock.clone(),
            metrics: Metrics::nowhere(),
        }
    }

    /// What wakes a function, on the word of whoever typed a command.
    pub fn wake(&self, trigger: Trigger) -> Wake {
        let millis = self.outside.clock.millis();
        Wake {
            // Each run's own, for EKS answers a request token that it knows with its old answer.
            id: format!("by-hand-{millis}"),
            time: rfc3339(millis.div_euclid(1000)),
            trigger,
            asked_by: None,
            began: None,
            attempt: 0,
        }
    }

    pub fn now(&self) -> i64 {
        self.outside.clock.seconds()
    }

    /// The way into clusters, to look at pods.
    pub fn onlooker(&self) -> Option<&Onlooker> {
        self.outside.onlooker.as_ref()
    }

    /// In milliseconds since 1970.
    pub fn millis(&self) -> i64 {
        self.outside.clock.millis()
    }

    /// What makes and removes objects in clusters.
    pub fn hands(&self) -> Arc<dyn Hands> {
        Arc::clone(&self.outside.hands)
    }

    /// The way to have pods made anew.
    pub fn roller(&self) -> Option<&Roller> {
        self.outside.roller.as_ref()
    }

    pub fn is_interrupted(&self) -> bool {
        (self.outside.interrupted)()
    }

    /// Where to show what is done, and whether the person wants it to end: both at once.
    pub fn at_work(&mut self) -> (&mut Ui<'a>, &dyn Fn() -> bool) {
        (&mut self.ui, self.outside.interrupted)
    }

    pub async fn pause(&self, seconds: u64) {
        (self.outside.pause)(Duration::from_secs(seconds)).await;
    }

    pub fn problem(&self, error: &AwsError) -> Problem {
        Problem::of_aws(error, self.profile.as_deref())
    }

    /// The one cluster that was meant.
    pub async fn cluster(&self, named: &ClusterArgument) -> Result<ClusterId, Problem> {
        let ClusterArgument { region, name } = named;
        let regions = || list(self.config.regions.iter());
        if let Some(region) = region.as_ref().filter(|region| !self.config.regions.contains(region)) {
            return Err(Problem::usage(
                format!("{region} is not one of the regions that are looked at: {}", regions()),
                "name it with --region, or in PODGRANT_REGIONS",
            ));
        }
        let (mut found, errors) = self.aws.find_clusters(name).await;
        found.retain(|cluster| region.as_ref().is_none_or(|region| *region == cluster.region));
        match (found.as_slice(), errors.first()) {
            ([_, _, ..], _) => Err(Problem::usage(
                format!("the cluster {name} is in several regions: {}", list(found.iter())),
                format!(
                    "say which: --cluster {}",
                    found.first().map(ToString::to_string).unwrap_or_default()
                ),
            )),
            ([cluster], _) => Ok(cluster.clone()),
            ([], Some(error)) => Err(self.problem(error)),
            ([], None) => Err(Problem::failed(
                format!(
                    "there is no cluster {name} in {}",
                    region.as_ref().map_or_else(regions, Region::to_string)
                ),
                "see whether the name is right, and name its region with --region",
            )),
        }
    }

    pub fn no_such_role(&self, role: &str) -> Problem {
        Problem::failed(
            format!("there is no role {} in this account", role_name(role)),
            "see whether the name is right, and the account: aws sts get-caller-identity",
        )
    }
}

/// The configuration: flags first, then the functions' own variables, so that what is looked at is looked at as they do.
fn configured(common: &Common, outside: &Outside<'_>, home: Option<String>) -> Result<Config, Problem> {
    let regions = (!common.region.is_empty())
        .then(|| common.region.iter().map(Region::to_string).collect::<Vec<_>>().join(","));
    let read = |name: &str| match name {
        "PODGRANT_REGIONS" => regions.clone().or_else(|| (outside.variable)(name)),
        "AWS_REGION" => home.clone(),
        "PODGRANT_TAG_PREFIX" => common.tag_prefix.clone().or_else(|| (outside.variable)(name)),
        // The functions' own: no command sends work to a queue, or tells a bus that it was not told of.
        "AWS_DEFAULT_REGION" | "PODGRANT_QUEUE_URL" | "PODGRANT_EVENT_BUS" | "PODGRANT_OWN_ROLES"
        // install-agent's alone: an access entry for it opens nothing for a person.
        | "PODGRANT_KUBERNETES_ROLE" => None,
        _ => (outside.variable)(name),
    };
    if regions.is_none() && home.is_none() && read("PODGRANT_REGIONS").is_none() {
        return Err(Problem::usage(
            "no region: neither --region, nor PODGRANT_REGIONS, nor the profile names one",
            "name the regions of the fleet, such as --region eu-west-1 --region us-east-1",
        ));
    }
    let mut config = Config::from_variables(read)?;
    config.limits.allow_by = AllowBy::Flag;
    Ok(config)
}

fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}
