//! From an event's JSON to what woke us.

use std::fmt;

use podgrant_core::model::RoleNews;
use podgrant_core::outcome::FollowUp;
use podgrant_core::{AssociationId, ClusterId, SweepPart, Workload};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deferred::{DEFERRED_WORK, read_deferred};
use crate::{CLUSTER_READY, SOURCE};

mod cloudtrail;
mod envelope;

pub(crate) use cloudtrail::{ROLE_NAME, is_role_name};
pub(crate) use envelope::{Envelope, cut};

/// What an event comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Something to look at.
    Wake(Wake),
    /// Rightly nothing to do: acknowledged, and counted.
    Ignored { reason: String },
}

/// Why podgrant was woken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wake {
    /// The event's own id; for deferred work, the id of the event that it began with.
    pub id: String,
    /// When it happened, as the event says (RFC 3339); for deferred work, when the
    /// event happened that it began with.
    pub time: String,
    pub trigger: Trigger,
    /// The ARN of who made the call, session name included. For the record only:
    /// no decision leans on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// When deferred work was first deferred, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
    /// How often the work was deferred; 0 the first time.
    pub attempt: u32,
}

/// What happened, as far as it says where to look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Trigger {
    /// A cluster is being made; it is not ready yet.
    ClusterCreated {
        cluster: ClusterId,
    },
    /// A cluster is being deleted; it may still be there for minutes.
    ClusterDeleted {
        cluster: ClusterId,
    },
    /// A cluster's tags changed, and with them what selects it.
    ClusterRetagged {
        cluster: ClusterId,
    },
    /// podgrant itself says that the cluster can take grants now.
    ClusterReady {
        cluster: ClusterId,
    },
    /// EKS says that the agent add-on broke, or recovered.
    AgentHealthChanged {
        cluster: ClusterId,
    },
    /// A role was created, tagged or untagged.
    RoleChanged {
        role: RoleRef,
        /// What the event says of its tags.
        #[serde(default, skip_serializing_if = "is_nothing")]
        news: RoleNews,
    },
    /// A role's trust policy changed.
    RoleTrustChanged {
        role: RoleRef,
        /// The policy that was set.
        #[serde(default, skip_serializing_if = "is_nothing")]
        news: RoleNews,
    },
    RoleDeleted {
        role: RoleRef,
    },
    /// Somebody else made, changed or deleted an association. Where the event
    /// does not say which, the whole cluster is in question.
    AssociationChanged {
        cluster: ClusterId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        association: Option<AssociationId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<Workload>,
    },
    /// The schedule's full pass.
    Sweep,
    /// Work that was put off earlier. Nested under `work`, for both have a `kind`.
    FollowUp(#[serde(with = "under_work")] FollowUp),
}

fn is_nothing(news: &RoleNews) -> bool {
    *news == RoleNews::default()
}

impl Trigger {
    /// For the record: without the roles that a sweep's message carries.
    #[must_use]
    pub fn in_short(&self) -> Self {
        match self {
            Self::FollowUp(FollowUp::ClusterSweep(part)) => {
                let short = SweepPart { roles: Vec::new(), ..SweepPart::clone(part) };
                Self::FollowUp(FollowUp::ClusterSweep(Box::new(short)))
            }
            other => other.clone(),
        }
    }
}

/// A role as CloudTrail names it: without path or ARN. Unique all the same,
/// for IAM allows a role's name once in an account, whatever its path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoleRef {
    /// Twelve digits.
    pub account: String,
    pub name: String,
}

impl fmt::Display for RoleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in account {}", self.name, self.account)
    }
}

/// An event that looks like one of ours, and lacks what it needs.
///
/// Every part is cut to a length that a log line can bear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: at {place:?}: expected {expected}, found {found}")]
pub struct Malformed {
    /// Which event, such as `aws.iam TagRole`.
    pub what: String,
    /// A JSON pointer (RFC 6901) into the event; empty for the event as a whole.
    pub place: String,
    /// What was expected there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// Reads an event in EventBridge's envelope. Total: it never panics, and its
/// work and its answer are bounded whatever comes in.
///
/// `own_roles` are the ARNs of the roles that podgrant's functions run as,
/// compared whole: what they changed wakes nobody, or podgrant would wake itself.
///
/// # Errors
/// An event that looks like one of ours and lacks what it needs. It is for the
/// dead-letter queue: trying again does not help, and losing it in silence hides a fault.
pub fn read(event: &Value, own_roles: &[String]) -> Result<Incoming, Malformed> {
    let event = Envelope::of(event)?;
    match (event.source(), event.detail_type()) {
        ("aws.eks" | "aws.iam", "AWS API Call via CloudTrail") => cloudtrail::read_call(&event, own_roles),
        (
            "aws.eks",
            "EKS Addon Health Degraded"
            | "EKS Addon Health Restored"
            | "EKS Addon Creation Failed"
            | "EKS Addon Update Failed",
        ) => cloudtrail::read_agent_health(&event),
        // EventBridge's own schedules, and EventBridge Scheduler, whose detail is
        // the text "{}": so the detail is not looked at.
        ("aws.events" | "aws.scheduler", "Scheduled Event") => event.wake(Trigger::Sweep, None),
        (SOURCE, CLUSTER_READY) => {
            let cluster = event.cluster(&["/detail/cluster/name"], &["/detail/cluster/region"])?;
            event.wake(Trigger::ClusterReady { cluster }, event.person("/detail/cause/askedBy"))
        }
        (SOURCE, DEFERRED_WORK) => read_deferred(&event).map(Incoming::Wake),
        _ => Ok(event.ignored("an event that podgrant does not act on")),
    }
}

/// Both a trigger and deferred work tell their kind by `kind`: one inside the other.
mod under_work {
    use podgrant_core::outcome::FollowUp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Work<T> {
        work: T,
    }

    pub fn serialize<S: Serializer>(work: &FollowUp, serializer: S) -> Result<S::Ok, S::Error> {
        Work { work }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FollowUp, D::Error> {
        Work::deserialize(deserializer).map(|Work { work }| work)
    }
}
