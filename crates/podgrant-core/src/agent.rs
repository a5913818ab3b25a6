//! Every enrolled cluster runs a healthy agent.

use serde::{Deserialize, Serialize};

use crate::accounts::Namespaces;
use crate::model::{Agent, Cluster, ClusterStatus, Nodes, Snapshot};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::plan::{AgentRemoval, Announce, Change, NodeCount, Plan};
use crate::tags::TagKeys;

pub mod pods;
mod repair;
pub mod version;

use pods::{AccessEntry, Inside, name_some};
use repair::{Repair, explain};
use version::{AddonVersion, WantedVersion, choose};

/// The EKS add-on without which no association works.
pub const AGENT_ADDON: &str = "eks-pod-identity-agent";

/// Where the add-on puts the agent; its DaemonSet is named as the add-on is
/// (chart of aws/eks-pod-identity-agent, `fullnameOverride`).
pub const AGENT_NAMESPACE: &str = "kube-system";

/// The agent's namespace, as an access entry names it.
pub fn agent_namespaces() -> Namespaces {
    Namespaces::Named(AGENT_NAMESPACE.parse().into_iter().collect())
}

/// How agents are to be, unless a cluster's own tags say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentSettings {
    pub version: WantedVersion,
    /// The add-on's configuration values, as JSON; none: AWS's defaults. They are
    /// given to agents that podgrant installs, and never to one that stands.
    pub configuration: Option<String>,
}

impl AgentSettings {
    /// The version that a cluster should run: its own tag's, else the configured one.
    ///
    /// # Errors
    /// What is wrong with the tag.
    pub fn wanted_on(&self, cluster: &Cluster, keys: &TagKeys) -> Result<WantedVersion, String> {
        match cluster.tag(keys, "agent-version").map(str::parse) {
            None => Ok(self.version.clone()),
            Some(Ok(wanted)) => Ok(wanted),
            Some(Err(error)) => Err(format!("the cluster's tag {}: {error}", keys.key("agent-version"))),
        }
    }
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

impl Wish {
    /// # Errors
    /// The tag's value, where it makes no sense.
    fn of<'a>(cluster: &'a Cluster, keys: &TagKeys) -> Result<Self, &'a str> {
        Ok(match cluster.tag(keys, "agent") {
            None => Self::Agent { even_if_unsupported: false },
            Some("on") => Self::Agent { even_if_unsupported: true },
            Some("manage") => Self::Manage,
            Some("off") => Self::Off,
            Some("remove") => Self::Remove,
            Some(other) => return Err(other),
        })
    }

    /// Whether the agent is wanted where Pod Identity seems not to work.
    fn insists(self) -> bool {
        self != Self::Agent { even_if_unsupported: false }
    }
}

/// What an agent would find on a cluster that has none.
enum Ground {
    /// Nodes to run on, or none yet.
    Wanted,
    /// It has one built in.
    BuiltIn,
    /// Pod Identity does not work there, for this reason.
    Unsupported(&'static str),
}

impl Ground {
    fn of(cluster: &Cluster, nodes: Nodes) -> Self {
        if cluster.kind.outpost {
            return Self::Unsupported("the cluster runs on an Outpost, where Pod Identity does not work;");
        }
        // Auto Mode's own nodes have the agent built in; others beside them need it.
        if cluster.kind.auto_mode && nodes.node_groups == 0 {
            return Self::BuiltIn;
        }
        // A cluster just made has neither yet. Self-managed nodes are not seen by EKS's API.
        if nodes.fargate_profiles > 0 && nodes.node_groups == 0 {
            return Self::Unsupported(
                "the cluster has Fargate profiles and no node groups, and Pod Identity does not work on Fargate; \
                 if it has self-managed nodes,",
            );
        }
        Self::Wanted
    }
}

/// Whether what the cluster itself says of its agent would change anything.
///
/// While EKS works on the add-on its pods are not worth a look; where no agent is to
/// be, nor is anything else.
pub fn is_worth_a_look(cluster: &Cluster, agent: Option<&Agent>, nodes: Nodes, keys: &TagKeys) -> bool {
    let Ok(wish @ (Wish::Agent { .. } | Wish::Manage)) = Wish::of(cluster, keys) else { return false };
    match agent {
        Some(agent) => !matches!(agent.status.as_str(), "CREATING" | "UPDATING" | "DELETING"),
        None => wish.insists() || matches!(Ground::of(cluster, nodes), Ground::Wanted),
    }
}

/// Whether the versions on offer would change anything: an agent is to be installed, or
/// one that podgrant may change is in a state to be changed.
pub fn version_matters(cluster: &Cluster, agent: Option<&Agent>, nodes: Nodes, keys: &TagKeys) -> bool {
    let Ok(wish @ (Wish::Agent { .. } | Wish::Manage)) = Wish::of(cluster, keys) else { return false };
    match agent {
        Some(agent) => {
            (agent.managed || wish == Wish::Manage)
                && matches!(agent.status.as_str(), "ACTIVE" | "UPDATE_FAILED" | "DEGRADED")
        }
        None => wish.insists() || matches!(Ground::of(cluster, nodes), Ground::Wanted),
    }
}

/// What a pass over one cluster needs at hand.
struct Pass<'a> {
    snapshot: &'a Snapshot,
    keys: &'a TagKeys,
    settings: &'a AgentSettings,
    announce: Announce,
    /// How often the work was put off before.
    attempt: u32,
    cluster: &'a Cluster,
    plan: &'a mut Plan,
}

/// How often a cluster is come back to for a look inside before an agent is installed without one.
const PATIENCE: u32 = 2;

/// Plans the agent for every cluster in scope. With [`Announce::Cluster`], one that
/// is ready is announced at once, before its agent is: so its grants come before
/// its first pod.
pub fn plan_agents(
    snapshot: &Snapshot,
    keys: &TagKeys,
    settings: &AgentSettings,
    announce: Announce,
    attempt: u32,
) -> Plan {
    let mut plan = Plan::default();
    for cluster in snapshot.clusters.values() {
        if snapshot.scope.holds_cluster(&cluster.id) && snapshot.is_readable(&cluster.id) {
            Pass { snapshot, keys, settings, announce, attempt, cluster, plan: &mut plan }.cluster();
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

    fn inside(&self) -> Option<&Inside> {
        self.snapshot.inside.get(&self.cluster.id)
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
            // One that goes is no news; one that never came is, once.
            let kind = match cluster.status {
                ClusterStatus::Failed if self.announce != Announce::Nothing => FindingKind::ClusterFailed,
                _ => FindingKind::ClusterNotReady,
            };
            return self.find(kind, format!("the cluster is {}; it gets no agent{health}", cluster.status));
        }
        if self.announce == Announce::Cluster {
            self.plan.changes.push(Change::AnnounceCluster { cluster: cluster.id.clone() });
        }
        let wish = match Wish::of(cluster, self.keys) {
            Ok(wish) => wish,
            // Installing what someone wants gone, or misspelt, would be a guess.
            Err(other) => {
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
            (Some(agent), wish) => {
                // Opened or not, an add-on that is there is judged by what is known.
                let _ = self.open();
                self.keep_healthy(agent, wish);
            }
        }
    }

    /// Has the cluster's Kubernetes API opened where it is podgrant's to open, and
    /// says why it was not asked where it is not. Returns whether it is being opened.
    fn open(&mut self) -> bool {
        let (why, entry) = match self.inside() {
            Some(Inside::Closed { why, entry }) => (why, Some(*entry)),
            Some(Inside::Unseen { why }) => (why, None),
            Some(Inside::NoAgent | Inside::Agent(_)) | None => return false,
        };
        let remedy = match entry {
            Some(AccessEntry::Absent | AccessEntry::WithoutPolicy) => {
                let cluster = self.cluster.id.clone();
                self.plan.changes.push(Change::OpenKubernetes { cluster, namespaces: agent_namespaces() });
                return true;
            }
            None => "",
            Some(AccessEntry::Whole) => "; its access entry is as it should be, and may need a minute",
            Some(AccessEntry::Foreign) => {
                "; somebody else made an access entry for podgrant's role: give it AmazonEKSViewPolicy, \
                 or delete it and podgrant makes its own"
            }
            Some(AccessEntry::NotTaken) => {
                "; the cluster takes no access entries: set its authentication mode to API_AND_CONFIG_MAP"
            }
        };
        let reason = format!("{why}{remedy}; what EKS says of the add-on counts");
        self.find(FindingKind::KubernetesUnseen, reason);
        false
    }

    fn install(&mut self, wish: Wish) {
        let cluster = self.cluster;
        let nodes = self.snapshot.nodes.get(&cluster.id).copied().unwrap_or_default();
        match Ground::of(cluster, nodes) {
            Ground::Wanted => {}
            _ if wish.insists() => {}
            Ground::BuiltIn => {
                self.plan.unchanged += 1;
                return;
            }
            Ground::Unsupported(why) => {
                let key = self.keys.key("agent");
                let reason = format!("{why} tag the cluster {key} = on to have it all the same");
                return self.find(FindingKind::ClusterUnsupported, reason);
            }
        }
        let opening = self.open();
        // An older cluster may run an agent that is no add-on: better to look first. One just made has none.
        if opening && self.announce != Announce::Cluster && self.attempt < PATIENCE {
            return self.wait(format!("the Kubernetes API of {} is being opened, for a look", cluster.id));
        }
        if let Some(Inside::Agent(pods)) = self.inside()
            && wish != Wish::Manage
        {
            let reason = format!(
                "an agent runs there that is no EKS add-on, {}; podgrant keeps it, and does not update it: tag the \
                 cluster {} = manage to have the add-on take its place",
                pods.progress(),
                self.keys.key("agent"),
            );
            return self.find(FindingKind::SelfManagedAgent, reason);
        }
        let Some(version) = self.wanted_version() else { return };
        let misfits = self.snapshot.agent_misfits.get(&cluster.id).map_or(&[][..], Vec::as_slice);
        if !misfits.is_empty() {
            return self.find(
                FindingKind::AgentConfiguration,
                format!(
                    "PODGRANT_AGENT_CONFIGURATION does not fit {AGENT_ADDON} {version}, so that no agent is \
                     installed: {}",
                    misfits.join("; ")
                ),
            );
        }
        self.plan.changes.push(Change::InstallAgent {
            cluster: cluster.id.clone(),
            version: version.to_string(),
            configuration: self.settings.configuration.clone(),
            overwrite: wish == Wish::Manage,
        });
    }

    /// The version that the cluster should run; none, with a finding, where there is no such thing.
    fn wanted_version(&mut self) -> Option<AddonVersion> {
        let wanted = match self.settings.wanted_on(self.cluster, self.keys) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.find(FindingKind::BadClusterTag, error);
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
        // Told to take over, it may have what a self-managed agent holds.
        let takes_over = wish == Wish::Manage && agent.is_in_conflict();
        match (agent.status.as_str(), repair) {
            ("ACTIVE", _) => self.update(agent, may_change),
            ("CREATING" | "UPDATING" | "DELETING", _) => {
                self.wait(format!("the agent on {} is {}", self.cluster.id, agent.status));
            }
            (status, Repair::Wait) => {
                let reason = format!("the agent on {} is {status}{}", self.cluster.id, self.explain(agent));
                self.wait(reason);
            }
            ("CREATE_FAILED", repair) if agent.managed && (repair == Repair::Retry || takes_over) => {
                // EKS updates no add-on that was never made: it is removed, and made by the pass after.
                self.plan.changes.push(Change::RemoveAgent {
                    cluster: self.cluster.id.clone(),
                    agent: agent.clone(),
                    reason: AgentRemoval::ToBeMadeAnew,
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
                let reason =
                    format!("{AGENT_ADDON} {} is {status}{}{whose}", agent.version, self.explain(agent));
                self.find(FindingKind::AgentUnhealthy, reason);
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
                         name the newer one in {} if it is meant",
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

    /// EKS calls the agent healthy; what its cluster says of it decides.
    fn healthy(&mut self, agent: &Agent) {
        let pods = match self.inside() {
            Some(Inside::NoAgent) => {
                return self.find(
                    FindingKind::AgentUnhealthy,
                    format!(
                        "{AGENT_ADDON} {} is ACTIVE, and its DaemonSet is not in the cluster: somebody deleted it; \
                         remove the add-on, and podgrant installs it anew",
                        agent.version
                    ),
                );
            }
            Some(Inside::Agent(pods)) => Some(pods.clone()),
            Some(Inside::Unseen { .. } | Inside::Closed { .. }) | None => None,
        };
        let somebody_waits = self.announce == Announce::Agent;
        if let Some(pods) = pods.as_ref().filter(|pods| !pods.is_rolled_out()) {
            let reason = format!("the agent on {} is {}", self.cluster.id, pods.progress());
            if somebody_waits {
                return self.wait(reason);
            }
            // Nodes come and go: to a sweep that is no trouble yet. EKS tells when it becomes one.
            self.plan.unchanged += 1;
            return self.find(FindingKind::AgentRollout, reason);
        }
        let passed_over = pods.iter().flat_map(|pods| pods.passed_over()).collect::<Vec<_>>();
        if !passed_over.is_empty() {
            // Told once, when the agent is; a sweep only keeps the log.
            let kind = if somebody_waits { FindingKind::AgentNodes } else { FindingKind::AgentRollout };
            let reason = format!(
                "pods get no credentials on nodes without an agent: {}; the add-on's configuration values \
                 (tolerations, affinity) say where it goes",
                name_some(&passed_over)
            );
            self.find(kind, reason);
        }
        if !somebody_waits {
            self.plan.unchanged += 1;
            return;
        }
        if let Some(why) = pods.as_ref().and_then(|pods| pods.nodes_unseen.as_ref()) {
            let reason = format!(
                "nodes that the agent passes over are not told: {why}; infra/kubernetes/see-nodes.yaml lets podgrant \
                 list them"
            );
            self.find(FindingKind::KubernetesUnseen, reason);
        }
        self.plan.changes.push(Change::AnnounceAgent {
            cluster: self.cluster.id.clone(),
            version: agent.version.clone(),
            nodes: pods.map(|pods| NodeCount { ready: pods.ready, desired: pods.desired }),
        });
    }

    /// `: code: EKS's words (ours)` for each issue, and what the cluster says of the pods.
    fn explain(&self, agent: &Agent) -> String {
        let pods = match self.inside() {
            Some(Inside::Agent(pods)) => format!("; it is {}", pods.progress()),
            _ => String::new(),
        };
        format!("{}{pods}", explain(agent))
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
                reason: AgentRemoval::AskedFor,
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

fn join(issues: &[String]) -> String {
    if issues.is_empty() { String::new() } else { format!(": {}", issues.join("; ")) }
}
