//! What EKS says ails an agent, in words that say what to do, and what may be tried.

use crate::model::{Agent, AgentIssue};

impl Agent {
    /// Whether all that ails it is something else that manages the same objects.
    pub fn is_in_conflict(&self) -> bool {
        !self.issues.is_empty() && self.issues.iter().all(|issue| issue.code == CONFLICT)
    }
}

const CONFLICT: &str = "ConfigurationConflict";

/// What can be done about an agent that is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repair {
    /// It mends itself, or does not.
    Wait,
    /// Trying again is safe, and may help.
    Retry,
    /// A person has to do something first.
    Person,
}

/// EKS's add-on issue codes (EKS API reference, `AddonIssue.code`): what may be
/// done about each, and what to tell a person.
const ISSUES: &[(&str, Repair, &str)] = &[
    (
        "InsufficientNumberOfReplicas",
        Repair::Wait,
        "agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6",
    ),
    ("InternalFailure", Repair::Retry, "EKS failed by itself"),
    (
        "ClusterUnreachable",
        Repair::Retry,
        "EKS can't reach the cluster's API: look at its endpoint, its subnets and its cluster role",
    ),
    (
        "AccessDenied",
        Repair::Person,
        "EKS may not change the cluster: look at the cluster's aws-auth or access entries for the role eks:addon-manager",
    ),
    (
        "AdmissionRequestDenied",
        Repair::Person,
        "an admission webhook of the cluster refuses the agent: allow it in kube-system",
    ),
    (
        CONFLICT,
        Repair::Person,
        "something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place",
    ),
    (
        "K8sResourceNotFound",
        Repair::Person,
        "objects of the add-on were deleted behind its back: reinstall it",
    ),
    ("UnsupportedAddonModification", Repair::Person, "the change is not one that the add-on takes"),
    ("AddonSubscriptionNeeded", Repair::Person, "the add-on needs a subscription"),
    ("AddonPermissionFailure", Repair::Person, "the add-on lacks permissions"),
];

impl Repair {
    /// The most careful of what its issues allow. Without issues, a failed call may be tried again.
    pub fn of(agent: &Agent) -> Self {
        let of_issue = |issue: &AgentIssue| {
            let known = ISSUES.iter().find(|(code, ..)| *code == issue.code);
            known.map_or(Self::Person, |(_, repair, _)| *repair)
        };
        let mut repairs = agent.issues.iter().map(of_issue);
        match repairs.next() {
            None if agent.status == "DEGRADED" => Self::Wait,
            None => Self::Retry,
            Some(first) => repairs.fold(first, |all, one| match (all, one) {
                (Self::Person, _) | (_, Self::Person) => Self::Person,
                (Self::Wait, Self::Wait) => Self::Wait,
                _ => Self::Retry,
            }),
        }
    }
}

/// `: code: EKS's words (ours)` for each issue.
pub(super) fn explain(agent: &Agent) -> String {
    let told: Vec<String> = agent
        .issues
        .iter()
        .map(|issue| match ISSUES.iter().find(|(code, ..)| *code == issue.code) {
            Some((code, _, ours)) => format!("{code}: {} ({ours})", issue.message),
            None => format!("{}: {}", issue.code, issue.message),
        })
        .collect();
    if told.is_empty() { ": EKS names no issue".to_owned() } else { format!(": {}", told.join("; ")) }
}
