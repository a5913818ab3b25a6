//! What became of it, and why: every no is explained.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::RoleNews;
use crate::names::{AssociationId, ClusterId, RoleArn, Workload};
use crate::plan::Change;
use crate::sweep::SweepPart;

/// Something a person should know and podgrant must not fix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<RoleArn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// The tag's text that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// What is so, and what would change it.
    pub reason: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A tag on a role does not parse.
    BadTag,
    /// A namespace or service account pattern that can't be expanded.
    PatternNotExpanded,
    /// The role's trust policy does not let EKS Pod Identity assume it.
    TrustPolicy,
    /// A guardrail refuses what a role's tags ask for.
    Guardrail,
    /// A grant names a cluster that is not there (yet).
    NoSuchCluster,
    /// A grant names a region whose clusters podgrant does not look at.
    RegionNotConfigured,
    /// A grant names a cluster whose name repeats between regions.
    AmbiguousCluster,
    /// A grant names a cluster that opted out.
    ClusterOptedOut,
    /// A cluster can't take grants or an agent now.
    ClusterNotReady,
    /// A cluster could not be made.
    ClusterFailed,
    /// Two roles ask for the same service account.
    Conflict,
    /// An association that is not ours stands where a grant should.
    ForeignAssociation,
    /// AWS refused the association for good: its own words say why.
    RefusedByAws,
    /// An association is kept because the tag that made it no longer parses.
    KeptForBadTag,
    /// A tag of podgrant's on a cluster makes no sense.
    BadClusterTag,
    /// Pod Identity does not work on this kind of cluster.
    ClusterUnsupported,
    /// The agent version asked for is not to be had, or an older one.
    AgentVersion,
    /// An agent that was to be removed stays.
    AgentKept,
    /// AWS refused the agent add-on for good: its own words say why.
    AgentRefused,
    /// The agent add-on is there and not healthy.
    AgentUnhealthy,
    /// Nodes that the agent passes over.
    AgentNodes,
    /// Nodes that lack the agent for now, and nobody waits for it.
    AgentRollout,
    /// The configured values do not fit the agent.
    AgentConfiguration,
    /// An agent runs that is no EKS add-on.
    SelfManagedAgent,
    /// A cluster's Kubernetes API could not be asked about the agent.
    KubernetesUnseen,
    /// A role all of whose clusters are gone.
    OrphanRole,
    /// One that is not podgrant's to delete, for something protects it.
    OrphanKept,
    /// A role whose deletion was begun, and that is not to go any more: it may lack policies.
    HalfDeletedRole,
    /// A tag like podgrant's mark of an orphaned role that is none.
    FalseOrphanMark,
    /// An association that is not ours, of a role that is gone: whoever makes a role of that name gives it to
    /// its pods.
    DanglingAssociation,
    /// The guard held changes back.
    Withheld,
    /// Something was waited for too long.
    GaveUp,
}

impl FindingKind {
    /// Whether it says no to a grant that somebody asked for.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::BadTag
                | Self::PatternNotExpanded
                | Self::TrustPolicy
                | Self::Guardrail
                | Self::RegionNotConfigured
                | Self::AmbiguousCluster
                | Self::ClusterOptedOut
                | Self::Conflict
                | Self::ForeignAssociation
                | Self::RefusedByAws
        )
    }
}

impl FindingKind {
    /// Whether it says that a cluster's agent needs a person.
    pub fn is_about_the_agent(self) -> bool {
        matches!(
            self,
            Self::BadClusterTag
                | Self::ClusterFailed
                | Self::ClusterUnsupported
                | Self::AgentVersion
                | Self::AgentKept
                | Self::AgentUnhealthy
                | Self::AgentNodes
                | Self::AgentConfiguration
                | Self::AgentRefused
        )
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadTag => "bad tag",
            Self::PatternNotExpanded => "pattern not expanded",
            Self::TrustPolicy => "trust policy",
            Self::Guardrail => "guardrail",
            Self::NoSuchCluster => "no such cluster",
            Self::RegionNotConfigured => "region not configured",
            Self::AmbiguousCluster => "ambiguous cluster",
            Self::ClusterOptedOut => "cluster opted out",
            Self::ClusterNotReady => "cluster not ready",
            Self::ClusterFailed => "cluster failed",
            Self::Conflict => "conflict",
            Self::ForeignAssociation => "foreign association",
            Self::RefusedByAws => "refused by AWS",
            Self::KeptForBadTag => "kept",
            Self::BadClusterTag => "bad cluster tag",
            Self::ClusterUnsupported => "cluster unsupported",
            Self::AgentVersion => "agent version",
            Self::AgentKept => "agent kept",
            Self::AgentRefused => "agent refused",
            Self::AgentUnhealthy => "agent unhealthy",
            Self::AgentNodes => "agent nodes",
            Self::AgentRollout => "agent rollout",
            Self::AgentConfiguration => "agent configuration",
            Self::SelfManagedAgent => "self-managed agent",
            Self::KubernetesUnseen => "Kubernetes unseen",
            Self::OrphanRole => "orphan role",
            Self::OrphanKept => "orphan kept",
            Self::HalfDeletedRole => "half-deleted role",
            Self::FalseOrphanMark => "false orphan mark",
            Self::DanglingAssociation => "dangling association",
            Self::Withheld => "withheld",
            Self::GaveUp => "gave up",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        let about_something =
            self.cluster.is_some() || self.workload.is_some() || self.role.is_some() || self.grant.is_some();
        if about_something {
            f.write_str(":")?;
        }
        if let Some(cluster) = &self.cluster {
            write!(f, " {cluster}")?;
        }
        if let Some(workload) = &self.workload {
            write!(f, " {workload}")?;
        }
        if let Some(role) = &self.role {
            write!(f, " role {}", role.role_name())?;
        }
        if let Some(grant) = &self.grant {
            write!(f, " ({grant})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What to come back for after a while: the rest of some work, not a repetition of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum FollowUp {
    /// Reconcile a role's grants again.
    Role { name: String },
    /// A role that IAM does not show: it may be too new, or gone.
    RoleUnseen { name: String },
    /// A role that IAM does not show as an event told of it.
    RoleStale { name: String, news: RoleNews },
    /// A cluster is still being made.
    ClusterCreating { cluster: ClusterId },
    /// Reconcile a cluster's grants again.
    ClusterGrants {
        cluster: ClusterId,
        /// An association that somebody changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<AssociationId>,
        /// The one service account that is in question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<Workload>,
    },
    /// A cluster's grants again, for service accounts that did not show.
    AccountsMissed { cluster: ClusterId, missed: BTreeSet<Workload> },
    /// One cluster's part of a sweep, or what was left of it.
    ClusterSweep(Box<SweepPart>),
    /// The agent was installed, and is not healthy yet.
    AgentStarting { cluster: ClusterId },
    /// A cluster is still being deleted.
    ClusterDeleting { cluster: ClusterId },
    /// A deleted role's associations again.
    RoleGone { name: String },
    /// Orphans of the whole fleet again, for roles that did not show.
    Orphans {
        /// Their names.
        roles_missed: BTreeSet<String>,
    },
}

impl FollowUp {
    /// All grants of a cluster.
    pub fn cluster_grants(cluster: &ClusterId) -> Self {
        Self::ClusterGrants { cluster: cluster.clone(), doubt: None, workload: None }
    }
}

/// Work that can't be done yet. Waiting is the queue's work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wait {
    pub reason: String,
    pub follow_up: FollowUp,
}

/// How one piece of work ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    Done,
    /// Comes back as a fresh message after a while.
    NotYet(Wait),
    /// Time was up before it was begun: what is left of the pass goes on in a fresh message.
    Unbegun,
    /// Acknowledged, and deliberately not done.
    Dropped {
        reason: String,
    },
    /// AWS will not have it, however often it is asked.
    Refused {
        reason: String,
    },
    /// To be tried again by redelivery, and at last for the dead-letter queue.
    Failed {
        reason: String,
    },
}

/// A change, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub change: Change,
    pub verdict: Verdict,
    /// The association that the change made or met.
    pub association: Option<AssociationId>,
}
