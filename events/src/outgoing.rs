//! What podgrant puts on the bus when something was done or refused.

use podgrant_core::moment::rfc3339;
use podgrant_core::plan::{NodeCount, OrphanStanding, RevokeReason};
use podgrant_core::{
    AssociationId, Change, ClusterId, Finding, FindingKind, Mark, Namespace, RoleArn, RoleId, RoleRecord,
    ServiceAccount, Subject, Workload,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CLUSTER_READY, Wake};

/// The event that something was done because of: every outcome names its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// The event's id; for deferred work, of the event that it began with.
    pub id: String,
    /// The ARN of who asked, where the event names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// When the event happened (RFC 3339).
    pub time: String,
}

impl From<&Wake> for Cause {
    fn from(wake: &Wake) -> Self {
        Self { id: wake.id.clone(), asked_by: wake.asked_by.clone(), time: wake.time.clone() }
    }
}

/// Something that people or other systems may want to act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutcomeEvent {
    /// The agent runs on a cluster, and is healthy.
    AgentInstalled(AgentInstalled),
    /// A cluster can take grants now. podgrant itself is woken by it.
    ClusterReady(ClusterReady),
    /// A service account can use a role.
    AccessGranted(AccessGranted),
    /// A service account can no longer use a role, for its grant was withdrawn or is refused.
    AccessRevoked(AccessRemoved),
    /// A role's trust policy was changed, as the role's own tag asked for.
    TrustAmended(TrustAmended),
    /// A grant was asked for, and is not made.
    GrantRefused(FindingDetail),
    /// A role names only clusters that are gone, or an association that is not podgrant's has a role that is gone.
    OrphanFound(FindingDetail),
    /// A role is marked as an orphan: its grace period begins.
    OrphanMarked(OrphanMarked),
    /// That mark is taken off: if the role is an orphan again, the grace period begins anew.
    OrphanUnmarked(OrphanUnmarked),
    /// Every orphaned role and how it stands: once in a sweep, if there are any.
    OrphanReport(OrphanReport),
    /// An orphaned role is about to lose its policies: all that makes it again, told before anything of it is gone.
    RoleDeletionBegun(RoleDeletion),
    /// An orphaned role was deleted.
    RoleDeleted(RoleDeletion),
    /// A cluster has no healthy agent, and a person has to do something.
    ClusterNeedsAttention(FindingDetail),
    /// An association was taken away, for its role is gone or was replaced.
    OrphanRemoved(AccessRemoved),
    /// Something was waited for too long.
    WorkAbandoned(FindingDetail),
    /// The guard let none of a pass's removals through.
    DeletionsWithheld(DeletionsWithheld),
}

/// Told once for a pass, however much was withheld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionsWithheld {
    /// How many changes were withheld.
    pub count: usize,
    /// Why, and how to allow them, for the first of them.
    pub reason: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrphanMarked {
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    /// RFC 3339.
    pub since: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrphanUnmarked {
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    /// Since when it was an orphan (RFC 3339).
    pub since: String,
    /// Why it is none any more, or is kept.
    pub reason: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrphanReport {
    /// In the order of their ARNs.
    pub roles: Vec<OrphanStanding>,
    /// How many more there are than an event holds: the log and a direct invoke tell of all.
    pub more: usize,
    pub cause: Cause,
}

/// A role in full: with it the role can be made again, under another unique id.
///
/// Several that were begun of one unique id: earlier ones did not come to their end, and the first holds what the later
/// ones no longer have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleDeletion {
    #[serde(flatten)]
    pub record: RoleRecord,
    /// RFC 3339.
    pub orphaned_since: String,
    pub cause: Cause,
}

/// A role's trust policy, before and after, as JSON: with the first it can be put back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustAmended {
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    pub policy_before: String,
    pub policy: String,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentInstalled {
    pub cluster: ClusterId,
    /// The add-on's version, such as `v1.3.8-eksbuild.2`.
    pub version: String,
    /// As the cluster itself says; absent where it could not be asked, and EKS's word counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeCount>,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterReady {
    pub cluster: ClusterId,
    pub cause: Cause,
}

/// Who gets which role where, and which grant asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    pub cluster: ClusterId,
    pub namespace: Namespace,
    pub service_account: ServiceAccount,
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub association_id: Option<AssociationId>,
    /// The grant's text, `namespace/service-account@clusters`.
    pub subject: Subject,
    /// The grant's label; empty for `podgrant/grant`.
    pub label: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GrantAction {
    /// An association was made.
    Created,
    /// One of podgrant's own was changed in place.
    Updated,
    /// Somebody else's became podgrant's, as the role's own tag asked for.
    Adopted,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessGranted {
    pub action: GrantAction,
    #[serde(flatten)]
    pub access: Access,
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRemoved {
    #[serde(flatten)]
    pub access: Access,
    pub reason: RevokeReason,
    pub cause: Cause,
}

/// A finding, as far as it names its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingDetail {
    pub kind: FindingKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<RoleArn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccount>,
    /// The grant's text, as it stands in the tag: it may not parse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is so, and what would change it.
    pub reason: String,
    pub cause: Cause,
}

/// How long a report's roles may be, in bytes of JSON: EventBridge takes 256 KB an entry (EventBridge user guide,
/// "PutEvents").
const REPORT_BYTES: usize = 150_000;

impl RoleDeletion {
    fn of(change: &Change, cause: Cause) -> Option<Self> {
        let Change::DeleteRole { record, mark } = change else { return None };
        Some(Self { record: RoleRecord::clone(record), orphaned_since: rfc3339(mark.since), cause })
    }
}

impl OutcomeEvent {
    /// What a change that was made is announced as, if at all.
    ///
    /// `association_id` is the new association's, where the change made one.
    pub fn of_change(change: &Change, association_id: Option<&AssociationId>, cause: &Cause) -> Option<Self> {
        let cause = cause.clone();
        Some(match change {
            Change::Create { workload, mark } => Self::AccessGranted(AccessGranted {
                action: GrantAction::Created,
                access: Access::of(workload, mark, association_id),
                cause,
            }),
            Change::Update { association, mark } => Self::AccessGranted(AccessGranted {
                action: GrantAction::Updated,
                access: Access::of(&association.workload, mark, Some(&association.id)),
                cause,
            }),
            Change::Adopt { association, mark } => Self::AccessGranted(AccessGranted {
                action: GrantAction::Adopted,
                access: Access::of(&association.workload, mark, Some(&association.id)),
                cause,
            }),
            Change::AmendTrust { role, role_id, policy_before, policy }
            | Change::WithdrawTrust { role, role_id, policy_before, policy } => {
                Self::TrustAmended(TrustAmended {
                    role_arn: role.clone(),
                    role_id: role_id.clone(),
                    policy_before: policy_before.clone(),
                    policy: policy.clone(),
                    cause,
                })
            }
            Change::Revoke { association, reason } => {
                // The guard lets only marked associations go.
                let mark = association.mark.as_ref()?;
                let access = Access::of(&association.workload, mark, Some(&association.id));
                let removed = AccessRemoved { access, reason: *reason, cause };
                match reason {
                    RevokeReason::GrantWithdrawn
                    | RevokeReason::Refused
                    | RevokeReason::ServiceAccountGone
                    | RevokeReason::Uninstalled => Self::AccessRevoked(removed),
                    RevokeReason::RoleGone | RevokeReason::RoleReplaced => Self::OrphanRemoved(removed),
                }
            }
            Change::MarkOrphan { role, mark } => Self::OrphanMarked(OrphanMarked {
                role_arn: role.clone(),
                role_id: mark.role_id.clone(),
                since: rfc3339(mark.since),
                cause,
            }),
            Change::UnmarkOrphan { role, mark, reason } => Self::OrphanUnmarked(OrphanUnmarked {
                role_arn: role.clone(),
                role_id: mark.role_id.clone(),
                since: rfc3339(mark.since),
                reason: reason.to_string(),
                cause,
            }),
            Change::DeleteRole { .. } => Self::RoleDeleted(RoleDeletion::of(change, cause)?),
            // Installed is not healthy: that is announced when it is so.
            Change::InstallAgent { .. }
            | Change::UpdateAgent { .. }
            | Change::RemoveAgent { .. }
            | Change::RemoveAccessEntry { .. }
            | Change::OpenKubernetes { .. } => return None,
            Change::AnnounceAgent { cluster, version, nodes } => Self::AgentInstalled(AgentInstalled {
                cluster: cluster.clone(),
                version: version.clone(),
                nodes: *nodes,
                cause,
            }),
            Change::AnnounceCluster { cluster } => {
                Self::ClusterReady(ClusterReady { cluster: cluster.clone(), cause })
            }
        })
    }

    /// What is told before a change that can't be undone without it, if it is one.
    pub fn before_change(change: &Change, cause: &Cause) -> Option<Self> {
        RoleDeletion::of(change, cause.clone()).map(Self::RoleDeletionBegun)
    }

    /// How the orphaned roles stand, if there are any.
    pub fn of_orphans(orphans: &[OrphanStanding], cause: &Cause) -> Option<Self> {
        let mut bytes = 0;
        let fitting = orphans.iter().take_while(|standing| {
            bytes += serde_json::to_string(standing).unwrap_or_default().len();
            bytes <= REPORT_BYTES
        });
        let roles: Vec<OrphanStanding> = fitting.cloned().collect();
        let more = orphans.len() - roles.len();
        (!orphans.is_empty()).then(|| Self::OrphanReport(OrphanReport { roles, more, cause: cause.clone() }))
    }

    /// What the guard withheld in a pass, if it did.
    pub fn of_withheld(findings: &[Finding], cause: &Cause) -> Option<Self> {
        let mut withheld = findings.iter().filter(|finding| finding.kind == FindingKind::Withheld);
        let first = withheld.next()?;
        let (count, reason) = (1 + withheld.count(), first.reason.clone());
        Some(Self::DeletionsWithheld(DeletionsWithheld { count, reason, cause: cause.clone() }))
    }

    /// What a finding is announced as, if at all. The others stay in the log.
    pub fn of_finding(finding: &Finding, cause: &Cause) -> Option<Self> {
        let announce = match finding.kind {
            FindingKind::OrphanRole
            | FindingKind::OrphanKept
            | FindingKind::HalfDeletedRole
            | FindingKind::FalseOrphanMark
            | FindingKind::DanglingAssociation => Self::OrphanFound,
            kind if kind.is_about_the_agent() => Self::ClusterNeedsAttention,
            FindingKind::GaveUp => Self::WorkAbandoned,
            // Without a role nobody asked: it is for the log.
            kind if kind.is_refusal() && finding.role.is_some() => Self::GrantRefused,
            _ => return None,
        };
        let workload = finding.workload.as_ref();
        Some(announce(FindingDetail {
            kind: finding.kind,
            role_arn: finding.role.clone(),
            cluster: finding.cluster.clone(),
            namespace: workload.map(|workload| workload.namespace.clone()),
            service_account: workload.map(|workload| workload.service_account.clone()),
            subject: finding.grant.clone(),
            reason: finding.reason.clone(),
            cause: cause.clone(),
        }))
    }

    /// EventBridge's `detail-type`.
    pub fn detail_type(&self) -> &'static str {
        match self {
            Self::AgentInstalled(_) => "Agent Installed",
            Self::ClusterReady(_) => CLUSTER_READY,
            Self::AccessGranted(_) => "Access Granted",
            Self::AccessRevoked(_) => "Access Revoked",
            Self::TrustAmended(_) => "Trust Amended",
            Self::GrantRefused(_) => "Grant Refused",
            Self::OrphanFound(_) => "Orphan Found",
            Self::OrphanMarked(_) => "Orphan Marked",
            Self::OrphanUnmarked(_) => "Orphan Unmarked",
            Self::OrphanReport(_) => "Orphan Report",
            Self::RoleDeletionBegun(_) => "Role Deletion Begun",
            Self::RoleDeleted(_) => "Role Deleted",
            Self::ClusterNeedsAttention(_) => "Cluster Needs Attention",
            Self::OrphanRemoved(_) => "Orphan Removed",
            Self::WorkAbandoned(_) => "Work Abandoned",
            Self::DeletionsWithheld(_) => "Deletions Withheld",
        }
    }

    /// EventBridge's `detail`, as `schemas/` describes it.
    pub fn detail(&self) -> Value {
        let detail = match self {
            Self::AgentInstalled(detail) => serde_json::to_value(detail),
            Self::DeletionsWithheld(detail) => serde_json::to_value(detail),
            Self::ClusterReady(detail) => serde_json::to_value(detail),
            Self::AccessGranted(detail) => serde_json::to_value(detail),
            Self::TrustAmended(detail) => serde_json::to_value(detail),
            Self::OrphanMarked(detail) => serde_json::to_value(detail),
            Self::OrphanUnmarked(detail) => serde_json::to_value(detail),
            Self::OrphanReport(detail) => serde_json::to_value(detail),
            Self::RoleDeletionBegun(detail) | Self::RoleDeleted(detail) => serde_json::to_value(detail),
            Self::AccessRevoked(detail) | Self::OrphanRemoved(detail) => serde_json::to_value(detail),
            Self::GrantRefused(detail)
            | Self::OrphanFound(detail)
            | Self::ClusterNeedsAttention(detail)
            | Self::WorkAbandoned(detail) => serde_json::to_value(detail),
        };
        // Structs of texts always become JSON: only odd map keys and own Serialize code can fail.
        detail.unwrap_or_default()
    }

    /// EventBridge's `resources`: the ARNs that the event is about.
    pub fn resources(&self) -> Vec<String> {
        let role = match self {
            Self::AgentInstalled(_)
            | Self::ClusterReady(_)
            | Self::DeletionsWithheld(_)
            // Its roles may be more than an event names resources.
            | Self::OrphanReport(_) => None,
            Self::OrphanMarked(detail) => Some(&detail.role_arn),
            Self::OrphanUnmarked(detail) => Some(&detail.role_arn),
            Self::RoleDeletionBegun(detail) | Self::RoleDeleted(detail) => Some(&detail.record.role_arn),
            Self::AccessGranted(detail) => Some(&detail.access.role_arn),
            Self::TrustAmended(detail) => Some(&detail.role_arn),
            Self::AccessRevoked(detail) | Self::OrphanRemoved(detail) => Some(&detail.access.role_arn),
            Self::GrantRefused(detail)
            | Self::OrphanFound(detail)
            | Self::ClusterNeedsAttention(detail)
            | Self::WorkAbandoned(detail) => detail.role_arn.as_ref(),
        };
        role.map(ToString::to_string).into_iter().collect()
    }
}

impl Access {
    fn of(workload: &Workload, mark: &Mark, association_id: Option<&AssociationId>) -> Self {
        Self {
            cluster: mark.cluster.clone(),
            namespace: workload.namespace.clone(),
            service_account: workload.service_account.clone(),
            role_arn: mark.role_arn.clone(),
            role_id: mark.role_id.clone(),
            association_id: association_id.cloned(),
            subject: mark.subject.clone(),
            label: mark.label.clone(),
        }
    }
}
