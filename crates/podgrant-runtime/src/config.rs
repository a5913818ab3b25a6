//! Configuration from the environment, checked whole before any work is done.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use podgrant_aws::Lookout;
use podgrant_core::agent::AgentSettings;
use podgrant_core::agent::version::WantedVersion;
use podgrant_core::{Guardrails, Limits, OnRefused, OrphanSettings, Region, RoleArn, TagKeys};

/// What a function is told by its environment.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The regions whose clusters are in the fleet. Never empty.
    pub regions: Vec<Region>,
    /// The bus for outcome events; none: outcomes are only logged.
    pub event_bus: Option<String>,
    /// The function's own queue, for work that comes back; none: it is only reported.
    pub queue_url: Option<String>,
    /// ARNs of podgrant's own roles: their calls wake nobody.
    pub own_roles: Vec<String>,
    pub tag_keys: TagKeys,
    pub limits: Limits,
    /// Which grants are refused, whatever tags and trust policies say.
    pub guardrails: Guardrails,
    /// How agents are to be where a cluster's own tags do not say.
    pub agent: AgentSettings,
    /// Whether clusters are asked about their agents, and as whom.
    pub kubernetes: KubernetesConfig,
    /// Plans are printed and not applied.
    pub dry_run: bool,
    /// How long unfinished work waits on its queue, in seconds.
    pub retry_delay: i64,
    /// How long unfinished work comes back before it is given up, in seconds.
    pub give_up_after: i64,
    /// What becomes of roles all of whose clusters are gone.
    pub orphans: OrphanSettings,
    /// From one sweep to the next, in seconds; 0: unknown.
    pub sweep_interval: i64,
    /// After how many sweeps each association was described once; 0: never for its own sake.
    pub drift_rounds: u64,
}

/// How clusters' own Kubernetes APIs are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Whether they are asked at all.
    pub ask: bool,
    /// The function's own role, for which access entries are made; none: none are made.
    pub role: Option<RoleArn>,
}

impl KubernetesConfig {
    pub fn applied_to(&self, lookout: Lookout) -> Lookout {
        let lookout = lookout.for_role(self.role.clone());
        if self.ask { lookout } else { lookout.without_kubernetes() }
    }
}

/// A variable that can't be used: which, why, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct ConfigError {
    pub variable: &'static str,
    pub problem: String,
}

/// Every variable that a function reads, besides the AWS SDK's own: name,
/// default, and meaning. The README's table is made from it.
pub const VARIABLES: &[(&str, &str, &str)] = &[
    (
        "PODGRANT_REGIONS",
        "the function's own region",
        "Regions whose clusters are in the fleet, parted by commas.",
    ),
    (
        "PODGRANT_EVENT_BUS",
        "none",
        "Name or ARN of the bus for outcome events; without one they are only logged.",
    ),
    (
        "PODGRANT_QUEUE_URL",
        "none",
        "The function's own queue, for work that can't be done yet; without one it is only reported.",
    ),
    (
        "PODGRANT_OWN_ROLES",
        "none",
        "ARNs of podgrant's own roles, parted by commas: what they do wakes nobody.",
    ),
    ("PODGRANT_TAG_PREFIX", "podgrant/", "What podgrant's tags begin with."),
    (
        "PODGRANT_AGENT_VERSION",
        "default",
        "The agent's version where a cluster's `podgrant/agent-version` does not say: `default` (AWS's for the Kubernetes version), `latest`, a version, or a line such as v1.3.",
    ),
    (
        "PODGRANT_AGENT_CONFIGURATION",
        "none",
        "Configuration values for agents that podgrant installs, as JSON.",
    ),
    (
        "PODGRANT_KUBERNETES",
        "on",
        "off: no cluster's Kubernetes API is asked: of agents the add-on's status alone counts, and patterns are not expanded. `install-agent` and `reconcile-associations`.",
    ),
    (
        "PODGRANT_KUBERNETES_ROLE",
        "none",
        "ARN of the function's own role. Where a cluster's Kubernetes API refuses it, an access entry is made for it, with `AmazonEKSViewPolicy`: `install-agent` in `kube-system`, `reconcile-associations` in the namespaces that patterns name, or on the whole cluster where one names none; without one none is made.",
    ),
    (
        "PODGRANT_REFUSED_NAMESPACES",
        "kube-system,kube-public,kube-node-lease",
        "Guardrail: namespaces whose service accounts get no roles, parted by commas; `none`: no namespace is refused.",
    ),
    (
        "PODGRANT_ROLE_PATHS",
        "any",
        "Guardrail: paths of the roles that pods may get, such as /apps/, parted by commas.",
    ),
    (
        "PODGRANT_REFUSE_ADMINISTRATORS",
        "on",
        "Guardrail: roles whose policies allow everything are refused: AdministratorAccess, PowerUserAccess, `*` on `*`.",
    ),
    (
        "PODGRANT_MAX_SERVICE_ACCOUNTS",
        "10",
        "Guardrail: a role whose grants name more service accounts is refused: least privilege wants a role for each. Where a role comes to more on a cluster with what its patterns mean, its patterns get nothing new there.",
    ),
    (
        "PODGRANT_REQUIRED_BOUNDARY",
        "none",
        "Guardrail: ARN of the permissions boundary that a role must have.",
    ),
    (
        "PODGRANT_ON_REFUSED",
        "report",
        "What becomes of an association whose grant a guardrail refuses now: `report` (it stays as it is) or `withdraw`.",
    ),
    (
        "PODGRANT_MAX_DELETIONS",
        "100",
        "A message that would have more associations deleted has none deleted.",
    ),
    (
        "PODGRANT_MAX_DELETION_SHARE",
        "0.2",
        "The sweep of a cluster, or of orphans, that would delete a larger share of the managed associations deletes none (it binds from 10 deletions).",
    ),
    ("PODGRANT_DRY_RUN", "off", "on: plans are logged and not applied."),
    ("PODGRANT_RETRY_DELAY", "60", "Seconds that unfinished work waits on its queue, at most 900."),
    ("PODGRANT_GIVE_UP_AFTER", "3600", "Seconds after which unfinished work is given up, with an event."),
    (
        "PODGRANT_ORPHAN_GRACE",
        "604800",
        "Seconds that a role may name clusters that are not there before it is reported; and how old its mark and its last use must be before it is deleted.",
    ),
    (
        "PODGRANT_DELETE_ROLES",
        "off",
        "on: roles all of whose clusters are gone are marked and, after the grace period, deleted, if their own tag `podgrant/on-orphan = delete` asks for it. off: they are reported.",
    ),
    ("PODGRANT_MAX_ROLE_DELETIONS", "5", "A sweep that would have more roles deleted has none deleted."),
    ("PODGRANT_SWEEP_MINUTES", "60", "Minutes from one sweep to the next, as the schedule has it."),
    (
        "PODGRANT_DRIFT_ROUNDS",
        "24",
        "Each sweep describes a share of the associations, another one each time, so that a role changed behind podgrant's back is found after about this many sweeps, if its event was lost; on clusters with more than 125 associations for each of these sweeps after twice, three times … as many. 0: none.",
    ),
    (
        "PODGRANT_LOG",
        "info",
        "What is logged, as tracing's filters say it: info, debug, podgrant_aws=debug. What is released has nothing of level trace.",
    ),
];

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// The first variable that can't be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads variables from anywhere. Empty is the same as absent.
    ///
    /// # Errors
    /// The first variable that can't be used.
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let variable = |name: &'static str| {
            debug_assert!(VARIABLES.iter().any(|(known, ..)| *known == name), "{name} is not in the table");
            read(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let home = read("AWS_REGION").or_else(|| read("AWS_DEFAULT_REGION"));
        let regions = variable("PODGRANT_REGIONS").or(home).ok_or_else(|| ConfigError {
            variable: "PODGRANT_REGIONS",
            problem: "neither it nor AWS_REGION is set; name the regions, such as eu-west-1,us-east-1"
                .to_owned(),
        })?;
        let regions = list(&regions)
            .map(|region| parsed("PODGRANT_REGIONS", region))
            .collect::<Result<Vec<Region>, _>>()?;
        if regions.is_empty() {
            return Err(ConfigError {
                variable: "PODGRANT_REGIONS",
                problem: "names no region; expected some such as eu-west-1,us-east-1".to_owned(),
            });
        }
        let tag_keys = match variable("PODGRANT_TAG_PREFIX") {
            None => TagKeys::default(),
            Some(prefix) => TagKeys::with_prefix(&prefix)
                .map_err(|problem| ConfigError { variable: "PODGRANT_TAG_PREFIX", problem })?,
        };
        let number = |name: &'static str, default: i64, most: i64| match variable(name) {
            None => Ok(default),
            Some(text) => within(name, parsed::<i64>(name, &text)?, 0, most),
        };
        let defaults = Limits::default();
        let share = match variable("PODGRANT_MAX_DELETION_SHARE") {
            None => defaults.share,
            Some(text) => {
                let share: f64 = parsed("PODGRANT_MAX_DELETION_SHARE", &text)?;
                within("PODGRANT_MAX_DELETION_SHARE", share, 0.0, 1.0)?
            }
        };
        let count = |name: &'static str, default: usize| match variable(name) {
            None => Ok(default),
            Some(text) => parsed(name, &text),
        };
        let limits = Limits {
            deletions: count("PODGRANT_MAX_DELETIONS", defaults.deletions)?,
            role_deletions: count("PODGRANT_MAX_ROLE_DELETIONS", defaults.role_deletions)?,
            share,
            ..defaults
        };
        let version = match variable("PODGRANT_AGENT_VERSION") {
            None => WantedVersion::Default,
            Some(text) => {
                text.parse().map_err(|problem| ConfigError { variable: "PODGRANT_AGENT_VERSION", problem })?
            }
        };
        let configuration = variable("PODGRANT_AGENT_CONFIGURATION");
        if let Some(values) = &configuration {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(values).map_err(|error| {
                let problem = format!("expected a JSON object: {error}");
                ConfigError { variable: "PODGRANT_AGENT_CONFIGURATION", problem }
            })?;
        }
        let switch = |name: &'static str, default: bool| match variable(name).as_deref() {
            None => Ok(default),
            Some("off" | "false") => Ok(false),
            Some("on" | "true") => Ok(true),
            Some(other) => {
                Err(ConfigError { variable: name, problem: format!("expected on or off, found {other:?}") })
            }
        };
        let guardrails = guardrails(&variable, &switch)?;
        let role = variable("PODGRANT_KUBERNETES_ROLE")
            .map(|role| parsed("PODGRANT_KUBERNETES_ROLE", &role))
            .transpose()?;
        Ok(Self {
            regions,
            event_bus: variable("PODGRANT_EVENT_BUS"),
            queue_url: variable("PODGRANT_QUEUE_URL"),
            own_roles: variable("PODGRANT_OWN_ROLES")
                .iter()
                .flat_map(|roles| list(roles))
                .map(str::to_owned)
                .collect(),
            tag_keys,
            limits,
            guardrails,
            agent: AgentSettings { version, configuration },
            kubernetes: KubernetesConfig { ask: switch("PODGRANT_KUBERNETES", true)?, role },
            dry_run: switch("PODGRANT_DRY_RUN", false)?,
            // SQS delays a message by 15 minutes at most.
            retry_delay: number("PODGRANT_RETRY_DELAY", 60, 900)?,
            // SQS keeps a message for 14 days at most.
            give_up_after: number("PODGRANT_GIVE_UP_AFTER", 3600, 14 * 24 * 3600)?,
            orphans: OrphanSettings {
                grace: number("PODGRANT_ORPHAN_GRACE", OrphanSettings::default().grace, i64::MAX)?,
                delete: switch("PODGRANT_DELETE_ROLES", OrphanSettings::default().delete)?,
            },
            sweep_interval: 60 * number("PODGRANT_SWEEP_MINUTES", 60, 366 * 24 * 60)?,
            drift_rounds: number("PODGRANT_DRIFT_ROUNDS", 24, 1_000_000)?.unsigned_abs(),
        })
    }
}

fn guardrails(
    variable: &impl Fn(&'static str) -> Option<String>,
    switch: &impl Fn(&'static str, bool) -> Result<bool, ConfigError>,
) -> Result<Guardrails, ConfigError> {
    let defaults = Guardrails::default();
    let refused_namespaces = match variable("PODGRANT_REFUSED_NAMESPACES") {
        None => defaults.refused_namespaces,
        Some(none) if none == "none" => BTreeSet::new(),
        Some(text) => list(&text)
            .map(|namespace| parsed("PODGRANT_REFUSED_NAMESPACES", namespace))
            .collect::<Result<_, _>>()?,
    };
    let role_paths: Vec<String> =
        variable("PODGRANT_ROLE_PATHS").iter().flat_map(|paths| list(paths)).map(str::to_owned).collect();
    if let Some(path) = role_paths.iter().find(|path| !path.starts_with('/') || !path.ends_with('/')) {
        let problem = format!("{path:?}: expected paths that begin and end with /, such as /apps/");
        return Err(ConfigError { variable: "PODGRANT_ROLE_PATHS", problem });
    }
    let max_service_accounts = match variable("PODGRANT_MAX_SERVICE_ACCOUNTS") {
        None => defaults.max_service_accounts,
        Some(text) => parsed("PODGRANT_MAX_SERVICE_ACCOUNTS", &text)?,
    };
    let permissions_boundary = variable("PODGRANT_REQUIRED_BOUNDARY");
    if let Some(boundary) = permissions_boundary.iter().find(|arn| !arn.starts_with("arn:")) {
        let problem = format!("{boundary:?}: expected a policy's ARN");
        return Err(ConfigError { variable: "PODGRANT_REQUIRED_BOUNDARY", problem });
    }
    let on_refused = match variable("PODGRANT_ON_REFUSED").as_deref() {
        None | Some("report") => OnRefused::Report,
        Some("withdraw") => OnRefused::Withdraw,
        Some(other) => {
            let problem = format!("expected report or withdraw, found {other:?}");
            return Err(ConfigError { variable: "PODGRANT_ON_REFUSED", problem });
        }
    };
    Ok(Guardrails {
        refused_namespaces,
        role_paths,
        refuse_administrators: switch("PODGRANT_REFUSE_ADMINISTRATORS", defaults.refuse_administrators)?,
        max_service_accounts,
        permissions_boundary,
        on_refused,
    })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn parsed<T: FromStr<Err: Display>>(variable: &'static str, text: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|error| ConfigError { variable, problem: format!("{text:?}: {error}") })
}

fn within<T: PartialOrd + Display>(
    variable: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<T, ConfigError> {
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(ConfigError { variable, problem: format!("expected {least} to {most}, found {value}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_readme_documents_every_variable() {
        let readme = include_str!("../../../README.md");
        let documented: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `PODGRANT_")).collect();
        let known: Vec<String> = VARIABLES
            .iter()
            .map(|(name, default, meaning)| format!("| `{name}` | {default} | {meaning} |"))
            .collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn a_region_is_all_it_needs() {
        let config = config(&[("AWS_REGION", "eu-west-1"), ("PODGRANT_QUEUE_URL", " ")]).unwrap();
        assert_eq!(config.regions, ["eu-west-1".parse().unwrap()]);
        assert_eq!(config.queue_url, None);
        assert_eq!((config.limits, config.guardrails), (Limits::default(), Guardrails::default()));
        assert_eq!(
            (config.retry_delay, config.give_up_after, config.orphans),
            (60, 3600, OrphanSettings::default())
        );
        assert_eq!((config.sweep_interval, config.drift_rounds), (3600, 24));
        assert!(!config.dry_run && config.kubernetes.ask && config.kubernetes.role.is_none());
    }

    #[test]
    fn every_variable_is_read() {
        let config = config(&[
            ("AWS_REGION", "eu-west-1"),
            ("PODGRANT_REGIONS", "eu-west-1, us-east-1"),
            ("PODGRANT_EVENT_BUS", "podgrant"),
            ("PODGRANT_QUEUE_URL", "https://queue.example/q"),
            ("PODGRANT_OWN_ROLES", "arn:a,arn:b"),
            ("PODGRANT_TAG_PREFIX", "team/"),
            ("PODGRANT_AGENT_VERSION", "v1.3"),
            ("PODGRANT_AGENT_CONFIGURATION", r#"{"tolerations":[]}"#),
            ("PODGRANT_KUBERNETES", "off"),
            ("PODGRANT_KUBERNETES_ROLE", "arn:aws:iam::111122223333:role/podgrant/install-agent"),
            ("PODGRANT_REFUSED_NAMESPACES", "kube-system, flux-system"),
            ("PODGRANT_ROLE_PATHS", "/apps/,/jobs/"),
            ("PODGRANT_REFUSE_ADMINISTRATORS", "off"),
            ("PODGRANT_MAX_SERVICE_ACCOUNTS", "2"),
            ("PODGRANT_REQUIRED_BOUNDARY", "arn:aws:iam::111122223333:policy/boundary"),
            ("PODGRANT_ON_REFUSED", "withdraw"),
            ("PODGRANT_MAX_DELETIONS", "7"),
            ("PODGRANT_MAX_DELETION_SHARE", "0.5"),
            ("PODGRANT_DRY_RUN", "on"),
            ("PODGRANT_RETRY_DELAY", "1"),
            ("PODGRANT_GIVE_UP_AFTER", "2"),
            ("PODGRANT_ORPHAN_GRACE", "3"),
            ("PODGRANT_DELETE_ROLES", "on"),
            ("PODGRANT_MAX_ROLE_DELETIONS", "3"),
            ("PODGRANT_SWEEP_MINUTES", "4"),
            ("PODGRANT_DRIFT_ROUNDS", "5"),
        ])
        .unwrap();
        assert_eq!(config.regions.len(), 2);
        assert_eq!(config.own_roles, ["arn:a", "arn:b"]);
        assert_eq!(config.tag_keys.key("grant"), "team/grant");
        let guardrails = Guardrails {
            refused_namespaces: ["kube-system", "flux-system"].map(|name| name.parse().unwrap()).into(),
            role_paths: vec!["/apps/".to_owned(), "/jobs/".to_owned()],
            refuse_administrators: false,
            max_service_accounts: 2,
            permissions_boundary: Some("arn:aws:iam::111122223333:policy/boundary".to_owned()),
            on_refused: OnRefused::Withdraw,
        };
        assert_eq!(config.guardrails, guardrails);
        let limits = Limits { deletions: 7, role_deletions: 3, share: 0.5, ..Limits::default() };
        assert_eq!(config.limits, limits);
        assert_eq!(config.orphans, OrphanSettings { grace: 3, delete: true });
        assert_eq!((config.retry_delay, config.give_up_after), (1, 2));
        assert_eq!((config.sweep_interval, config.drift_rounds), (240, 5));
        assert_eq!(config.agent.version.to_string(), "v1.3");
        assert_eq!(config.agent.configuration.as_deref(), Some(r#"{"tolerations":[]}"#));
        assert!(!config.kubernetes.ask);
        assert_eq!(config.kubernetes.role.unwrap().role_name(), "install-agent");
        assert!(config.dry_run);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let region = ("AWS_REGION", "eu-west-1");
        for (variables, expected) in [
            (vec![], "PODGRANT_REGIONS: neither it nor AWS_REGION is set"),
            (vec![("PODGRANT_REGIONS", "europe")], "\"europe\" is not an AWS region"),
            (vec![("PODGRANT_REGIONS", ",")], "names no region"),
            (vec![region, ("PODGRANT_MAX_DELETIONS", "-1")], "PODGRANT_MAX_DELETIONS: \"-1\""),
            (vec![region, ("PODGRANT_MAX_DELETION_SHARE", "20")], "expected 0 to 1, found 20"),
            (vec![region, ("PODGRANT_MAX_DELETION_SHARE", "NaN")], "expected 0 to 1"),
            (vec![region, ("PODGRANT_RETRY_DELAY", "901")], "expected 0 to 900"),
            (vec![region, ("PODGRANT_REFUSED_NAMESPACES", "kube_system")], "\"kube_system\""),
            (vec![region, ("PODGRANT_ROLE_PATHS", "apps")], "begin and end with /"),
            (vec![region, ("PODGRANT_MAX_SERVICE_ACCOUNTS", "many")], "\"many\""),
            (vec![region, ("PODGRANT_REQUIRED_BOUNDARY", "boundary")], "expected a policy's ARN"),
            (vec![region, ("PODGRANT_ON_REFUSED", "delete")], "expected report or withdraw"),
            (vec![region, ("PODGRANT_DRY_RUN", "yes")], "expected on or off"),
            (vec![region, ("PODGRANT_DELETE_ROLES", "delete")], "PODGRANT_DELETE_ROLES: expected on or off"),
            (vec![region, ("PODGRANT_MAX_ROLE_DELETIONS", "few")], "PODGRANT_MAX_ROLE_DELETIONS: \"few\""),
            (vec![region, ("PODGRANT_KUBERNETES", "maybe")], "PODGRANT_KUBERNETES: expected on or off"),
            (vec![region, ("PODGRANT_KUBERNETES_ROLE", "me")], "PODGRANT_KUBERNETES_ROLE: \"me\""),
            (
                vec![region, ("PODGRANT_AGENT_VERSION", "newest")],
                "PODGRANT_AGENT_VERSION: expected default, latest",
            ),
            (vec![region, ("PODGRANT_AGENT_CONFIGURATION", "[]")], "expected a JSON object"),
            (vec![region, ("PODGRANT_TAG_PREFIX", "a b")], "PODGRANT_TAG_PREFIX"),
        ] {
            let error = config(&variables).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
