//! Commands and flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
/// What `explain` and `doctor` are asked about.
pub use podgrant_core::explain::Target as Asked;
use podgrant_core::{ClusterName, Namespace, Region, Workload};

use crate::exit;

/// Access for pods by tags on IAM roles, looked at and done by hand: the same decisions as podgrant's functions make,
/// with your own credentials.
#[derive(Debug, Parser)]
#[command(name = "podgrant", version, after_help = exit::TABLE)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Common {
    /// Profile of ~/.aws/config to use [default: AWS_PROFILE, or the SDK's own way]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Region whose clusters are in the fleet; many times, or parted by commas [default: PODGRANT_REGIONS, or the
    /// profile's region]
    #[arg(long, global = true, value_name = "REGION", value_delimiter = ',')]
    pub region: Vec<Region>,
    /// What podgrant's tags begin with [default: PODGRANT_TAG_PREFIX, or podgrant/]
    #[arg(long, global = true, value_name = "PREFIX")]
    pub tag_prefix: Option<String>,
    /// How results are put out
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs: docs/cli.md has the shapes
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what would be done, and what not and why; change nothing
    Plan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        looks: Looks,
    },
    /// Show the same, ask, and do it
    Apply {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        looks: Looks,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        allowance: Allowance,
        /// Event bus that is told what was done: name or ARN [default: none is told]
        #[arg(long, value_name = "BUS")]
        event_bus: Option<String>,
    },
    /// List the associations of the fleet: whose they are, and whether their roles are there
    List {
        /// Only those on this cluster
        #[arg(long, value_name = "[REGION/]CLUSTER")]
        cluster: Option<ClusterArgument>,
        /// Only those that give this role: a name or ARN
        #[arg(long, value_name = "ROLE")]
        role: Option<String>,
    },
    /// Explain every link from a role's tag to a pod's credentials: which is right, which is broken, and what mends it
    Explain {
        /// A role, by name or ARN, or namespace/service-account@cluster
        #[arg(required_unless_present = "pod", value_name = "ROLE|ACCOUNT", value_parser = role_or_account)]
        what: Option<Asked>,
        /// One pod, as namespace/pod@cluster
        #[arg(long, conflicts_with = "what", value_parser = Asked::pod)]
        pod: Option<Asked>,
    },
    /// Name what keeps pods from their credentials, the likeliest cause first, and what to do about it
    Doctor {
        /// namespace/service-account@cluster [default: every cluster of the fleet]
        #[arg(value_parser = Asked::service_account)]
        account: Option<Asked>,
        /// One pod, as namespace/pod@cluster
        #[arg(long, conflicts_with_all = ["account", "cluster"], value_parser = Asked::pod)]
        pod: Option<Asked>,
        /// One cluster, as a whole
        #[arg(long, value_name = "[REGION/]CLUSTER", conflicts_with = "account", value_parser = Asked::cluster)]
        cluster: Option<Asked>,
    },
    /// Write who can be whom, where: one page for a browser, or Markdown
    Report {
        /// What is written; with --output json the same as JSON
        #[arg(long = "as", value_enum, value_name = "KIND", default_value_t = ReportFormat::Html)]
        format: ReportFormat,
        /// Where to [default: standard output]
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,
        #[command(flatten)]
        looks: Looks,
    },
    /// Prove that pods of a cluster get their role: make a role and a pod for it, ask the pod, and remove both
    Verify {
        /// The cluster; with --clean only what was left there
        #[arg(long, value_name = "[REGION/]CLUSTER", required_unless_present = "clean")]
        cluster: Option<ClusterArgument>,
        /// Remove what earlier runs left that were ended before they could
        #[arg(long, conflicts_with_all = ["namespace", "image", "wait_limit"])]
        clean: bool,
        #[command(flatten)]
        settings: Trial,
        #[command(flatten)]
        consent: Consent,
    },
    /// List the workloads with pods that must be made anew to get their credentials, and have Kubernetes do so
    Restart {
        /// namespace/service-account@cluster [default: every cluster of the fleet]
        #[arg(value_parser = Asked::service_account)]
        account: Option<Asked>,
        /// One cluster, as a whole
        #[arg(long, value_name = "[REGION/]CLUSTER", conflicts_with = "account", value_parser = Asked::cluster)]
        cluster: Option<Asked>,
        /// Ask, and roll them as kubectl rollout restart does
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Show which service accounts can move from IRSA to Pod Identity, in which steps, and which should stay; move them,
    /// and back
    Migrate {
        /// The cluster
        #[arg(long, value_name = "[REGION/]CLUSTER")]
        cluster: ClusterArgument,
        /// Only these, as namespace/service-account [default: all that have IRSA's annotation]
        #[arg(value_name = "ACCOUNT", value_parser = workload)]
        accounts: Vec<Workload>,
        #[command(flatten)]
        migration: Migration,
        #[command(flatten)]
        consent: Consent,
    },
    /// Take away all that podgrant made, and nothing else: it is listed first, and goes when it was confirmed by name or
    /// number
    Uninstall {
        /// Only what is on this cluster: it leaves podgrant's care, and roles stay as they are
        #[arg(long, value_name = "[REGION/]CLUSTER")]
        cluster: Option<ClusterArgument>,
        /// Do not ask: this is what a person would type, the cluster's name, or for the fleet `remove N`, with N as listed
        #[arg(long, value_name = "TEXT")]
        confirm: Option<String>,
    },
    /// Grant a role to service accounts: write its tags
    Grant {
        #[command(flatten)]
        subjects: Subjects,
        /// Write podgrant/grant/LABEL instead of podgrant/grant
        #[arg(long)]
        label: Option<String>,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Withdraw a role from service accounts: take them out of its tags
    Revoke {
        #[command(flatten)]
        subjects: Subjects,
        #[command(flatten)]
        consent: Consent,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Print completions for a shell
    Completions { shell: Shell },
    /// Print a manual page, in roff
    Man {
        /// The command that it is about [default: podgrant itself]
        command: Option<String>,
    },
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// One page that needs nothing but itself
    Html,
    /// For a pull request or a ticket
    Markdown,
}

/// What a plan is about; nothing named: the fleet.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Target {
    /// Only what this role's tags ask for: a name or ARN
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Only this cluster's agent and grants
    #[arg(long, value_name = "[REGION/]CLUSTER")]
    pub cluster: Option<ClusterArgument>,
}

/// How closely it is looked.
#[derive(Debug, Args)]
pub struct Looks {
    /// Describe every association, one call each, also those that the tag index shows to be right
    #[arg(long)]
    pub thorough: bool,
    /// Ask no cluster's Kubernetes API about its agent
    #[arg(long)]
    pub no_kubernetes: bool,
}

/// The pod that tells who it is.
#[derive(Debug, Args)]
pub struct Trial {
    /// Where the pod and its service account are made
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    pub namespace: Namespace,
    /// The pod's image: one with sh and the AWS CLI
    #[arg(long, value_name = "IMAGE", default_value = podgrant_core::verify::IMAGE)]
    pub image: String,
    /// Seconds to wait for the pod at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(i64).range(30..=540))]
    pub wait_limit: i64,
}

/// How far service accounts are moved; none of the three: nothing is changed.
#[derive(Debug, Args)]
pub struct Migration {
    /// Ask, and move what can: role, association, pods; IRSA stays beside it
    #[arg(long, group = "direction")]
    pub apply: bool,
    /// Ask, and take IRSA from what is moved: the annotation, then the role's statement
    #[arg(long, group = "direction")]
    pub finish: bool,
    /// Ask, and take back what the journal says was done, in the other direction
    #[arg(long, group = "direction")]
    pub undo: bool,
    /// The journal of what was there before [default: podgrant-migrate.ACCOUNT.REGION.CLUSTER.jsonl
    /// in this folder]
    #[arg(long, value_name = "PATH")]
    pub journal: Option<PathBuf>,
    /// Seconds to wait at most, for each step
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait_limit: u32,
}

#[derive(Debug, Args)]
pub struct Consent {
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Limits on loss, raised this once.
#[derive(Debug, Args)]
pub struct Allowance {
    /// Let this many associations go from each cluster [default: PODGRANT_MAX_DELETIONS, or 100]
    #[arg(long, value_name = "N")]
    pub allow_deletions: Option<usize>,
    /// Let this share of the associations go, 0 to 1 [default: PODGRANT_MAX_DELETION_SHARE, or 0.2]
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub allow_share: Option<f64>,
    /// Let this many roles go [default: PODGRANT_MAX_ROLE_DELETIONS, or 5]
    #[arg(long, value_name = "N")]
    pub allow_role_deletions: Option<usize>,
}

#[derive(Debug, Args)]
pub struct Subjects {
    /// The role: a name or ARN
    pub role: String,
    /// namespace/service-account@clusters, such as payments/api@prod-eu
    #[arg(required = true, value_name = "SUBJECT")]
    pub subjects: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Waiting {
    /// Wait until it is so
    #[arg(long)]
    pub wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait")]
    pub wait_limit: u32,
}

/// A cluster by name, or by region and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterArgument {
    pub region: Option<Region>,
    pub name: ClusterName,
}

impl std::str::FromStr for ClusterArgument {
    type Err = podgrant_core::NameError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((region, name)) => Self { region: Some(region.parse()?), name: name.parse()? },
            None => Self { region: None, name: text.parse()? },
        })
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected 0 to 1, such as 0.5".to_owned()),
    }
}

/// A service account on a cluster, or a role: no role's name has a slash before an @.
fn role_or_account(text: &str) -> Result<Asked, String> {
    let is_account = text.split_once('@').is_some_and(|(place, _)| place.contains('/'));
    if is_account { Asked::service_account(text) } else { Asked::role(text) }
}

fn workload(text: &str) -> Result<Workload, String> {
    const FORM: &str = "write namespace/service-account, as in payments/api";
    let (namespace, account) =
        text.split_once('/').ok_or_else(|| format!("{text:?} names no namespace; {FORM}"))?;
    let written = |error| format!("{error}; {FORM}");
    Ok(Workload {
        namespace: namespace.parse().map_err(written)?,
        service_account: account.parse().map_err(written)?,
    })
}

/// The name of a role that was named by name or ARN.
pub fn role_name(role: &str) -> &str {
    role.rsplit('/').next().unwrap_or(role)
}
