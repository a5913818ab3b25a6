//! What AWS looks like, as far as one pass needs to know.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::accounts::{ServiceAccounts, UnseenAccounts};
use crate::agent::pods::{AccessEntry, Inside};
use crate::agent::version::OfferedVersion;
use crate::mark::Mark;
use crate::names::{AssociationId, ClusterId, Region, RoleArn, RoleId, Workload};
use crate::orphan::RoleInventory;
use crate::powers::Powers;
use crate::tags::TagKeys;
use crate::trust::TrustPolicy;

/// An EKS cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    pub id: ClusterId,
    pub arn: String,
    pub status: ClusterStatus,
    /// The Kubernetes version, such as `1.33`.
    pub version: String,
    pub tags: BTreeMap<String, String>,
    pub kind: ClusterKind,
    /// EKS's own issues with the cluster, one line each.
    pub issues: Vec<String>,
    /// The way to its Kubernetes API; EKS tells it once the cluster is ACTIVE.
    pub api: Option<KubernetesApi>,
    /// Who vouches for its service accounts to IAM (IRSA); none where it was not asked for.
    pub oidc_issuer: Option<String>,
}

/// Where a cluster's Kubernetes API is, and who gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesApi {
    /// An https URL.
    pub endpoint: String,
    /// The certificate authority that it is known by: PEM, in base64.
    pub certificate_authority: String,
    /// Whether it answers outside the cluster's own network.
    pub public: bool,
    /// Whether EKS's access entries are heeded, or only the ConfigMap aws-auth
    /// (EKS API reference, `AccessConfigResponse.authenticationMode`).
    pub takes_access_entries: bool,
}

/// What makes a cluster unlike others, as far as Pod Identity goes
/// (EKS user guide, "Pod Identity considerations").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterKind {
    /// EKS Auto Mode: its own nodes have the agent built in.
    pub auto_mode: bool,
    /// A local cluster on an Outpost.
    pub outpost: bool,
    /// Only registered with EKS, and running elsewhere.
    pub connected: bool,
}

/// What a cluster's pods run on, as far as EKS's API shows it: self-managed
/// nodes it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Nodes {
    pub node_groups: usize,
    pub fargate_profiles: usize,
}

impl Cluster {
    /// A cluster of which only this is known, taken to be ready.
    pub fn in_short(id: ClusterId, tags: BTreeMap<String, String>) -> Self {
        Self {
            id,
            arn: String::new(),
            status: ClusterStatus::Active,
            version: String::new(),
            tags,
            kind: ClusterKind::default(),
            issues: Vec::new(),
            api: None,
            oidc_issuer: None,
        }
    }

    /// False where `podgrant/enroll = off` asks to leave the cluster alone. So does
    /// any other value but `on`: a misspelt opt-out is no leave to touch it.
    pub fn is_enrolled(&self, keys: &TagKeys) -> bool {
        self.tag(keys, "enroll").is_none_or(|value| value == "on")
    }

    /// What an opted-out cluster says, for people.
    pub(crate) fn opted_out(&self, keys: &TagKeys) -> String {
        let value = self.tag(keys, "enroll").unwrap_or_default();
        format!("the cluster carries {} = {value}", keys.key("enroll"))
    }

    /// One of podgrant's own tags on the cluster.
    pub fn tag(&self, keys: &TagKeys, name: &str) -> Option<&str> {
        // Asked for each grant on each cluster: no key is put together for it.
        let found = self.tags.iter().find(|(key, _)| keys.is_key(key, name));
        found.map(|(_, value)| value.trim())
    }
}

/// EKS's cluster statuses (EKS API reference, `Cluster.status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterStatus {
    Creating,
    Active,
    Updating,
    Deleting,
    Failed,
    Pending,
    /// A status that EKS has and this version of podgrant does not know.
    Other(String),
}

impl ClusterStatus {
    /// Whether associations and add-ons can be made now.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Active | Self::Updating)
    }

    /// Whether waiting can help.
    pub fn is_on_its_way(&self) -> bool {
        matches!(self, Self::Creating | Self::Pending | Self::Other(_))
    }
}

impl From<&str> for ClusterStatus {
    fn from(text: &str) -> Self {
        match text {
            "CREATING" => Self::Creating,
            "ACTIVE" => Self::Active,
            "UPDATING" => Self::Updating,
            "DELETING" => Self::Deleting,
            "FAILED" => Self::Failed,
            "PENDING" => Self::Pending,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for ClusterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
            Self::Failed => "FAILED",
            Self::Pending => "PENDING",
            Self::Other(status) => status,
        })
    }
}

/// An IAM role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role {
    pub arn: RoleArn,
    pub id: RoleId,
    /// Seconds since 1970.
    pub created_at: i64,
    /// The trust policy as JSON, percent-decoded.
    pub trust_policy: String,
    pub tags: BTreeMap<String, String>,
    /// The ARN of the policy that is its permissions boundary. GetRole and
    /// GetAccountAuthorizationDetails show it, ListRoles does not (IAM API reference).
    pub permissions_boundary: Option<String>,
    /// What its policies let it do.
    pub powers: Powers,
}

/// What an event says of a role. IAM may not show it yet: reads just after a write can be stale (IAM user guide,
/// "Troubleshoot IAM", changes are not always immediately visible).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleNews {
    /// Tags that were set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags_set: BTreeMap<String, String>,
    /// Keys of tags that were taken away.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub tags_removed: BTreeSet<String>,
    /// The trust policy that was put in place, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_policy: Option<String>,
}

impl RoleNews {
    /// What a role does not show of it, in words; `None` where it shows everything.
    ///
    /// That may be because it changed again since: so whoever waits for it must not wait for ever.
    pub fn missing_from(&self, role: &Role) -> Option<String> {
        // IAM holds keys that differ only in case to be the same key.
        let value = |key: &str| {
            let mut tags = role.tags.iter();
            tags.find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        };
        if let Some((key, _)) = self.tags_set.iter().find(|(key, set)| value(key) != Some(*set)) {
            return Some(format!("the tag {key} as it was set"));
        }
        if let Some(key) = self.tags_removed.iter().find(|key| value(key).is_some()) {
            return Some(format!("that the tag {key} was taken away"));
        }
        // By what it says of pods: of other principals IAM keeps another spelling than it was sent.
        let policy = TrustPolicy::read(self.trust_policy.as_deref()?);
        (policy != TrustPolicy::read(&role.trust_policy)).then(|| "the trust policy as it was set".to_owned())
    }
}

/// An EKS pod identity association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    pub cluster: ClusterId,
    pub id: AssociationId,
    pub arn: String,
    pub workload: Workload,
    /// Set where an EKS add-on or another AWS service owns it: hands off.
    pub owner: Option<String>,
    /// podgrant's mark, from the tag index or from the association itself.
    pub mark: Option<Mark>,
    /// EKS's own record. A listing does not show it: one Describe each.
    pub record: Option<AssociationRecord>,
}

/// What EKS does with an association; a listing shows none of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociationRecord {
    pub role_arn: String,
    pub session_tags_off: bool,
    pub target_role: Option<String>,
}

impl Association {
    /// podgrant's mark, if podgrant made the association and nobody else owns it.
    ///
    /// A mark that speaks of another place was copied here, tags and all, by
    /// someone else: it makes nothing ours.
    pub fn managed(&self) -> Option<&Mark> {
        self.mark.as_ref().filter(|mark| self.is_managed_by(mark))
    }

    /// Whether this mark makes it podgrant's.
    pub fn is_managed_by(&self, mark: &Mark) -> bool {
        self.owner.is_none() && mark.cluster == self.cluster && mark.subject.means(&self.workload)
    }

    /// Whether a role's tag may make it podgrant's: it carries no mark, nobody owns it,
    /// and EKS's own record was read and has this very role. Nobody's access changes hands.
    pub fn may_be_adopted_by(&self, role: &RoleArn) -> bool {
        self.mark.is_none()
            && self.owner.is_none()
            && self.record.as_ref().is_some_and(|record| record.role_arn == role.as_str())
    }

    /// The roles that pods get by it, as far as it is known: by its mark, and by EKS's own record; the target
    /// roles of both too.
    pub fn roles(&self) -> BTreeSet<&str> {
        let marked = self.mark.iter().flat_map(|mark| [Some(&mark.role_arn), mark.target_role.as_ref()]);
        let recorded = self.record.iter();
        let recorded =
            recorded.flat_map(|record| [Some(record.role_arn.as_str()), record.target_role.as_deref()]);
        marked.flatten().map(RoleArn::as_str).chain(recorded.flatten()).collect()
    }

    /// Whether EKS's own record was read and grants just what the mark says.
    pub fn agrees_with(&self, mark: &Mark) -> bool {
        self.record.as_ref().is_some_and(|record| {
            record.role_arn == mark.role_arn.as_str()
                && record.session_tags_off == mark.session_tags_off
                && record.target_role.as_deref() == mark.target_role.as_ref().map(RoleArn::as_str)
        })
    }
}

/// The agent add-on on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    pub version: String,
    /// EKS's add-on status, such as `ACTIVE` or `DEGRADED`.
    pub status: String,
    pub issues: Vec<AgentIssue>,
    /// The add-on's configuration values, as they were given.
    pub configuration: Option<String>,
    /// Whether the add-on carries podgrant's mark: podgrant installed it.
    pub managed: bool,
}

/// An access entry of a cluster: who is let into its Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterAccess {
    pub cluster: ClusterId,
    /// The ARN of the role or user that is let in.
    pub principal: String,
    /// Whether the entry carries podgrant's mark: podgrant made it.
    pub managed: bool,
}

/// A health issue as EKS tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIssue {
    /// EKS's code, such as `InsufficientNumberOfReplicas`.
    pub code: String,
    pub message: String,
}

/// What a pass looked at. `None` means everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    pub roles: Option<BTreeSet<RoleArn>>,
    pub clusters: Option<BTreeSet<ClusterId>>,
    pub workloads: Workloads,
}

/// Which service accounts a pass is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workloads {
    Stretch(Stretch),
    Just(Workload),
}

impl Default for Workloads {
    fn default() -> Self {
        Self::Stretch(Stretch::default())
    }
}

impl Workloads {
    pub fn holds(&self, workload: &Workload) -> bool {
        match self {
            Self::Stretch(stretch) => stretch.holds(workload),
            Self::Just(one) => one == workload,
        }
    }
}

/// A stretch of service accounts, in their order. Where a cluster's do not fit into one message or one
/// invocation, each takes a stretch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stretch {
    /// The first that is in it; none: from the very first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Workload>,
    /// The first that is no longer in it; none: to the very last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Workload>,
}

impl Stretch {
    pub fn holds(&self, workload: &Workload) -> bool {
        self.from.as_ref().is_none_or(|from| workload >= from)
            && self.to.as_ref().is_none_or(|to| workload < to)
    }
}

impl Scope {
    pub fn holds_role(&self, role: &RoleArn) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.contains(role))
    }

    pub fn holds_cluster(&self, cluster: &ClusterId) -> bool {
        self.clusters.as_ref().is_none_or(|clusters| clusters.contains(cluster))
    }
}

/// A part of the view that could not be had. One gap, and nothing is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where only one cluster's view is in doubt.
    pub cluster: Option<ClusterId>,
    /// What was asked and what came back instead.
    pub why: String,
    /// Whether AWS had too many calls of us: after a while it will answer.
    pub throttled: bool,
}

/// Everything that a plan is made from. All reading ends before planning begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub scope: Scope,
    /// Seconds since 1970.
    pub observed_at: i64,
    /// The regions whose clusters are looked at; empty: every region there is.
    pub regions: BTreeSet<Region>,
    pub roles: BTreeMap<RoleArn, Role>,
    /// Names of roles asked for, which IAM said do not exist.
    pub roles_gone: BTreeSet<String>,
    /// Names of roles that IAM did not show at one look, where nothing else tells that they are gone: reads
    /// just after a write can be stale, and a listing may have begun before it.
    pub roles_missed: BTreeSet<String>,
    /// Of roles that may be orphans: what has to be known before one is deleted.
    pub inventories: BTreeMap<RoleArn, RoleInventory>,
    /// Whether every association of the regions' clusters, enrolled or not, that has one of the roles in `inventories`
    /// is among `associations`: ours by their marks, all others by EKS's own record.
    pub holders_whole: bool,
    /// Why that is not so, if it was tried.
    pub holders_unseen: Option<String>,
    /// Roles of which IAM does not show yet what an event said; nothing else was looked at for them.
    pub roles_stale: BTreeMap<String, RoleNews>,
    /// Clusters seen, also such as are not in scope but share a name with one that
    /// is, or are named by the grant of a role in view.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Clusters asked for by name in every configured region, of which EKS said
    /// that they do not exist.
    pub clusters_gone: BTreeSet<ClusterId>,
    pub associations: Vec<Association>,
    /// How many more are managed, of which nothing else had to be known.
    pub managed_elsewhere: usize,
    /// Agents of the clusters in scope; absent where none is installed.
    pub agents: BTreeMap<ClusterId, Agent>,
    /// Access entries of the clusters in scope: only where all that podgrant made is looked for.
    pub access_entries: Vec<ClusterAccess>,
    /// The agent versions on offer for each cluster's Kubernetes version.
    pub agent_versions: BTreeMap<ClusterId, Vec<OfferedVersion>>,
    /// What about the configured values does not fit the agent version that a cluster
    /// without an agent would get, by that version's own schema.
    pub agent_misfits: BTreeMap<ClusterId, Vec<String>>,
    /// What the clusters without an agent run on.
    pub nodes: BTreeMap<ClusterId, Nodes>,
    /// What clusters themselves tell of their agents, where they were asked.
    pub inside: BTreeMap<ClusterId, Inside>,
    /// The service accounts of clusters that a pattern in view means; of others nobody asks.
    pub service_accounts: BTreeMap<ClusterId, ServiceAccounts>,
    /// Service accounts that an earlier look missed: they are gone if this one misses them too.
    pub accounts_missed: BTreeSet<(ClusterId, Workload)>,
    pub gaps: Vec<Gap>,
}

impl Snapshot {
    /// Whether the clusters of a region are looked at, so that their absence means something.
    pub fn looks_at(&self, region: &Region) -> bool {
        self.regions.is_empty() || self.regions.contains(region)
    }

    /// Why it is not a view of everything there is, if it is not.
    pub fn why_partial(&self) -> Option<&str> {
        if let Some(gap) = self.gaps.first() {
            return Some(&gap.why);
        }
        let whole = self.scope == Scope::default();
        (!whole).then_some("not every role and cluster was looked at")
    }

    /// Why the service accounts of a cluster are worth another look soon, if they are.
    pub fn accounts_to_come(&self) -> Option<String> {
        self.service_accounts.iter().find_map(|(cluster, accounts)| match accounts {
            ServiceAccounts::Unseen(unseen) => {
                let why = unseen.is_to_come()?;
                Some(format!("the service accounts of {cluster} are not known yet: {why}"))
            }
            ServiceAccounts::Seen(_) => None,
        })
    }

    /// Takes clusters that refuse podgrant though its access entry is as it should be for such as are being opened.
    pub fn expect_opening(&mut self) {
        for accounts in self.service_accounts.values_mut() {
            if let ServiceAccounts::Unseen(UnseenAccounts::Closed { why, entry: AccessEntry::Whole }) =
                accounts
            {
                *accounts = ServiceAccounts::Unseen(UnseenAccounts::Opening { why: std::mem::take(why) });
            }
        }
    }

    /// Whether a cluster's associations were read whole.
    pub fn is_readable(&self, cluster: &ClusterId) -> bool {
        !self.gaps.iter().any(|gap| gap.cluster.as_ref() == Some(cluster))
    }
}
