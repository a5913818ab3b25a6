//! Every enrolled cluster runs a healthy agent.

use serde::{Deserialize, Serialize};

use crate::model::{Agent, AgentIssue, Cluster, Snapshot};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::plan::{Announce, Change, Plan};
use crate::tags::TagKeys;

pub mod version;

use version::{AddonVersion, WantedVersion, choose};

/// The EKS add-on without which no association works.
pub const AGENT_ADDON: &str = "eks-pod-identity-agent";

/// How agents are to be, unless a cluster's own tags say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentSettings {
    pub version: WantedVersion,
    /// The add-on's configuration values, as JSON; none: AWS's defaults. They are
    /// given to agents that podgrant installs, and never to one that stands.
    pub configuration: Option<String>,
}

/// What `podgrant/agent` on a cluster asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// No tag, or `on`.
    Agent {
        even_if_unsupported: bool,
    },
    /// `manage`: also an add-on that somebody else installed.
    Manage,
    Off,
    Remove,
}

/// What a pass over one cluster needs at hand.
struct Pass<'a> {
    snapshot: &'a Snapshot,
    keys: &'a TagKeys,
    settings: &'a AgentSettings,
    announce: Announce,
    cluster: &'a Cluster,
    plan: &'a mut Plan,
}

/// Plans the agent for every cluster in scope. With [`Announce::Cluster`], one that
/// is ready is announced at once, before its agent is: so its grants come before
/// its first pod.
pub fn plan_agents(
    snapshot: &Snapshot,
    keys: &TagKeys,
    settings: &AgentSettings,
    announce: Announce,
) -> Plan {
    let mut plan = Plan::default();
    for cluster in snapshot.clusters.values() {
        if snapshot.scope.holds_cluster(&cluster.id) && snapshot.is_readable(&cluster.id) {
            Pass { snapshot, keys, settings, announce, cluster, plan: &mut plan }.cluster();
        }
    }
    for cluster in &snapshot.clusters_gone {
        plan.findings.push(Finding {
            kind: FindingKind::NoSuchCluster,
            role: None,
            cluster: Some(cluster.clone()),
            workload: None,
            grant: None,
            reason: "EKS does not know the cluster any more".to_owned(),
        });
    }
    plan
}

impl Pass<'_> {
    fn find(&mut self, kind: FindingKind, reason: String) {
        self.plan.findings.push(Finding {
            kind,
            role: None,
            cluster: Some(self.cluster.id.clone()),
            workload: None,
            grant: None,
            reason,
        });
    }

    fn wait(&mut self, reason: String) {
        let follow_up = FollowUp::AgentStarting { cluster: self.cluster.id.clone() };
        self.plan.waits.push(Wait { reason, follow_up });
    }

    fn cluster(&mut self) {
        let cluster = self.cluster;
        if cluster.kind.connected {
            return self.find(
                FindingKind::ClusterUnsupported,
                "the cluster is only connected to EKS, and runs elsewhere: Pod Identity does not work there"
                    .to_owned(),
            );
        }
        if !cluster.is_enrolled(self.keys) {
            return self.find(FindingKind::ClusterOptedOut, cluster.opted_out(self.keys));
        }
        if cluster.status.is_on_its_way() {
            self.plan.waits.push(Wait {
                reason: format!("cluster {} is {}", cluster.id, cluster.status),
                follow_up: FollowUp::ClusterCreating { cluster: cluster.id.clone() },
            });
            return;
        }
        if !cluster.status.is_ready() {
            let health = join(&cluster.issues);
            return self.find(
                FindingKind::ClusterNotReady,
                format!("the cluster is {}; it gets no agent{health}", cluster.status),
            );
        }
        if self.announce == Announce::Cluster {
            self.plan.changes.push(Change::AnnounceCluster { cluster: cluster.id.clone() });
        }
        let wish = match cluster.tag(self.keys, "agent") {
            None => Wish::Agent { even_if_unsupported: false },
            Some("on") => Wish::Agent { even_if_unsupported: true },
            Some("manage") => Wish::Manage,
            Some("off") => Wish::Off,
            Some("remove") => Wish::Remove,
            // Installing what someone wants gone, or misspelt, would be a guess.
            Some(other) => {
                let key = self.keys.key("agent");
                return self.find(
                    FindingKind::BadClusterTag,
                    format!(
                        "the cluster carries {key} = {other}: expected on, off, manage or remove; until then its \
                         agent stays as it is"
                    ),
                );
            }
        };
        match (self.snapshot.agents.get(&cluster.id), wish) {
            (_, Wish::Off) | (None, Wish::Remove) => {}
            (Some(agent), Wish::Remove) => self.remove(agent),
            (None, wish) => self.install(wish),
            (Some(agent), wish) => self.keep_healthy(agent, wish),
        }
    }

    fn install(&mut self, wish: Wish) {
        let cluster = self.cluster;
        let nodes = self.snapshot.nodes.get(&cluster.id).copied().unwrap_or_default();
        let insisted = wish != Wish::Agent { even_if_unsupported: false };
        let insist = format!("tag the cluster {} = on to have it all the same", self.keys.key("agent"));
        if cluster.kind.outpost && !insisted {
            return self.find(
                FindingKind::ClusterUnsupported,
                format!("the cluster runs on an Outpost, where Pod Identity does not work; {insist}"),
            );
        }
        // Auto Mode's own nodes have the agent built in; others beside them need it.
        if cluster.kind.auto_mode && nodes.node_groups == 0 && !insisted {
            self.plan.unchanged += 1;
            return;
        }
        // A cluster just made has neither yet. Self-managed nodes are not seen by EKS's API.
        if nodes.fargate_profiles > 0 && nodes.node_groups == 0 && !insisted {
            return self.find(
                FindingKind::ClusterUnsupported,
                format!(
                    "the cluster has Fargate profiles and no node groups, and Pod Identity does not work on Fargate; \
                     if it has self-managed nodes, {insist}"
                ),
            );
        }
        if let Some(version) = self.wanted_version() {
            self.plan.changes.push(Change::InstallAgent {
                cluster: cluster.id.clone(),
                version: version.to_string(),
                configuration: self.settings.configuration.clone(),
            });
        }
    }

    /// The version that the cluster should run; none, with a finding, where there is no such thing.
    fn wanted_version(&mut self) -> Option<AddonVersion> {
        let key = self.keys.key("agent-version");
        let wanted = match self.cluster.tag(self.keys, "agent-version").map(str::parse) {
            None => self.settings.version.clone(),
            Some(Ok(wanted)) => wanted,
            Some(Err(error)) => {
                self.find(FindingKind::BadClusterTag, format!("the cluster's tag {key}: {error}"));
                return None;
            }
        };
        let offered = self.snapshot.agent_versions.get(&self.cluster.id).map_or(&[][..], Vec::as_slice);
        match choose(&wanted, offered, &self.cluster.version) {
            Ok(version) => Some(version),
            Err(reason) => {
                self.find(FindingKind::AgentVersion, format!("{AGENT_ADDON}: {reason}"));
                None
            }
        }
    }

    fn keep_healthy(&mut self, agent: &Agent, wish: Wish) {
        let may_change = agent.managed || wish == Wish::Manage;
        let repair = Repair::of(agent);
        match (agent.status.as_str(), repair) {
            ("ACTIVE", _) => self.update(agent, may_change),
            ("CREATING" | "UPDATING" | "DELETING", _) => {
                self.wait(format!("the agent on {} is {}", self.cluster.id, agent.status));
            }
            (status, Repair::Wait) => {
                self.wait(format!("the agent on {} is {status}{}", self.cluster.id, explain(agent)));
            }
            ("CREATE_FAILED", Repair::Retry) if agent.managed => {
                // EKS updates no add-on that was never made: it is removed, and made by the pass after.
                self.plan.changes.push(Change::RemoveAgent {
                    cluster: self.cluster.id.clone(),
                    agent: agent.clone(),
                    again: true,
                });
            }
            ("UPDATE_FAILED" | "DEGRADED", Repair::Retry) if may_change => {
                if let Some(version) = self.wanted_version() {
                    self.plan.changes.push(self.change_to(agent, &version));
                }
            }
            (status, _) => {
                let whose =
                    if may_change { "" } else { "; podgrant did not install it, and leaves it alone" };
                self.find(
                    FindingKind::AgentUnhealthy,
                    format!("{AGENT_ADDON} {} is {status}{}{whose}", agent.version, explain(agent)),
                );
            }
        }
    }

    fn update(&mut self, agent: &Agent, may_change: bool) {
        // An agent of somebody else's is theirs to update.
        let wanted = if may_change { self.wanted_version() } else { None };
        let current = agent.version.parse::<AddonVersion>();
        match (wanted, current) {
            (Some(wanted), Ok(current)) if current < wanted => {
                self.plan.changes.push(self.change_to(agent, &wanted));
            }
            (Some(wanted), Ok(current)) if current > wanted => {
                self.find(
                    FindingKind::AgentVersion,
                    format!(
                        "{AGENT_ADDON} {current} is newer than {wanted}, which is wanted; podgrant does not go back: \
                         name it in {} to have it so",
                        self.keys.key("agent-version")
                    ),
                );
                self.healthy(agent);
            }
            _ => self.healthy(agent),
        }
    }

    fn change_to(&self, agent: &Agent, version: &AddonVersion) -> Change {
        Change::UpdateAgent {
            cluster: self.cluster.id.clone(),
            agent: agent.clone(),
            version: version.to_string(),
        }
    }

    fn healthy(&mut self, agent: &Agent) {
        if self.announce == Announce::Agent {
            self.plan.changes.push(Change::AnnounceAgent {
                cluster: self.cluster.id.clone(),
                version: agent.version.clone(),
            });
        } else {
            self.plan.unchanged += 1;
        }
    }

    fn remove(&mut self, agent: &Agent) {
        let key = self.keys.key("agent");
        if !agent.managed {
            return self.find(
                FindingKind::AgentKept,
                format!("{key} = remove: podgrant did not install this agent, and does not remove it"),
            );
        }
        if agent.status == "DELETING" {
            return;
        }
        let in_the_way: Vec<String> = self
            .snapshot
            .associations
            .iter()
            .filter(|association| association.cluster == self.cluster.id)
            .map(|association| format!("{} ({})", association.workload, association.id))
            .collect();
        if in_the_way.is_empty() {
            self.plan.changes.push(Change::RemoveAgent {
                cluster: self.cluster.id.clone(),
                agent: agent.clone(),
                again: false,
            });
        } else {
            let shown = in_the_way.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
            let more = in_the_way.len().saturating_sub(10);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.find(
                FindingKind::AgentKept,
                format!(
                    "{key} = remove: these associations need the agent: {shown}{more}; take them away first"
                ),
            );
        }
    }
}

/// What can be done about an agent that is not healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
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
        "ConfigurationConflict",
        Repair::Person,
        "something else manages the same objects, such as a self-managed agent: remove that, or keep it and tag the cluster with agent = off",
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
    fn of(agent: &Agent) -> Self {
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
fn explain(agent: &Agent) -> String {
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

fn join(issues: &[String]) -> String {
    if issues.is_empty() { String::new() } else { format!(": {}", issues.join("; ")) }
}
