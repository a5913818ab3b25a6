//! The agent as its cluster sees it: pods on nodes, and not an add-on's status.

use std::fmt;

use crate::model::KubernetesApi;

/// The way into a cluster's Kubernetes API.
#[derive(Clone, PartialEq, Eq)]
pub struct KubernetesAccess {
    pub api: KubernetesApi,
    /// A bearer token, good for some minutes.
    pub token: String,
}

impl fmt::Debug for KubernetesAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is as good as a password while it lasts.
        f.debug_struct("KubernetesAccess").field("api", &self.api).finish_non_exhaustive()
    }
}

/// Why a cluster's Kubernetes API told nothing, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// It does not know podgrant (401), or does not let it see the agent (403).
    Refused(String),
    /// No way there, no answer in time, or none that makes sense.
    Unreachable(String),
}

/// What a cluster's own Kubernetes API tells of the agent, or why it tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inside {
    /// There is no DaemonSet of the agent.
    NoAgent,
    Agent(AgentPods),
    /// The API could not be asked; what EKS says of the add-on counts.
    Unseen {
        why: String,
    },
    /// The API does not know us, or gives us too little.
    Closed {
        why: String,
        entry: AccessEntry,
    },
}

/// The agent's DaemonSet, and the nodes that lack a ready pod of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentPods {
    /// Nodes that the DaemonSet is meant for.
    pub desired: u32,
    /// Of those, with a pod that is ready.
    pub ready: u32,
    /// Of those, with a pod of the DaemonSet's newest form; all of them where the
    /// DaemonSet leaves it to people to replace older ones (`OnDelete`).
    pub updated: u32,
    /// Whether these numbers are about the newest form already.
    pub current: bool,
    /// Sorted by node. Without [`nodes_unseen`](Self::nodes_unseen), every node without a ready
    /// pod that Pod Identity works on: Fargate, Windows and Auto Mode's own nodes are not among them.
    pub lacking: Vec<NodeLack>,
    /// Why the nodes could not be listed: then only pods that are not ready are told.
    pub nodes_unseen: Option<String>,
}

/// A node without a ready agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeLack {
    pub node: String,
    pub why: Lack,
}

/// Why a node has no ready agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// A pod is there and not ready: Kubernetes' own words.
    NotReady(String),
    /// No pod yet; the DaemonSet wants one there.
    NoPodYet,
    /// Taints that the DaemonSet does not tolerate, as `key=value:effect`.
    Taints(Vec<String>),
    /// The DaemonSet's node selector or affinity does not mean the node.
    LeftOut,
    /// The node itself is not ready: no pod there can be.
    NodeNotReady,
}

impl Lack {
    /// Whether the node is without an agent until a person does something about the agent.
    fn needs_a_person(&self) -> bool {
        matches!(self, Self::Taints(_) | Self::LeftOut)
    }

    /// Whether waiting for the agent makes sense.
    fn is_on_its_way(&self) -> bool {
        matches!(self, Self::NotReady(_) | Self::NoPodYet)
    }
}

impl fmt::Display for NodeLack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.node)?;
        match &self.why {
            Lack::NotReady(words) => f.write_str(words),
            Lack::NoPodYet => f.write_str("no pod yet"),
            Lack::Taints(taints) => write!(f, "its taints are not tolerated ({})", taints.join(", ")),
            Lack::LeftOut => f.write_str("the DaemonSet's node selector or affinity leaves it out"),
            Lack::NodeNotReady => f.write_str("the node is not ready"),
        }
    }
}

/// How many nodes a sentence names; the others are counted.
const NAMED: usize = 5;

impl AgentPods {
    /// Whether a pod of the newest form is ready on every node that can have one now.
    /// A node that is down is no fault of the agent's, and does not hold it up.
    pub fn is_rolled_out(&self) -> bool {
        let down = self.lacking.iter().filter(|lack| lack.why == Lack::NodeNotReady).count();
        let accounted_for = self.ready.saturating_add(u32::try_from(down).unwrap_or(u32::MAX));
        self.current
            && self.updated >= self.ready
            && accounted_for >= self.desired
            && !self.lacking.iter().any(|lack| lack.why.is_on_its_way())
    }

    /// Nodes that Pod Identity should work on, and that the DaemonSet passes over.
    pub fn passed_over(&self) -> Vec<&NodeLack> {
        self.lacking.iter().filter(|lack| lack.why.needs_a_person()).collect()
    }

    /// `ready on 2 of 3 nodes`, and what is known of the others.
    pub fn progress(&self) -> String {
        let mut text = format!("ready on {} of {} nodes", self.ready, self.desired);
        if !self.current || self.updated < self.ready {
            text.push_str(&format!(
                ", and of its newest form on {}",
                if self.current { self.updated } else { 0 }
            ));
        }
        let coming: Vec<&NodeLack> = self.lacking.iter().filter(|lack| lack.why.is_on_its_way()).collect();
        if !coming.is_empty() {
            text.push_str(&format!(" ({})", name_some(&coming)));
        }
        text
    }
}

/// The first few, and how many more there are.
pub(super) fn name_some(lacks: &[&NodeLack]) -> String {
    let named: Vec<String> = lacks.iter().take(NAMED).map(ToString::to_string).collect();
    let more = lacks.len().saturating_sub(NAMED);
    let more = if more > 0 { format!("; and {more} more nodes") } else { String::new() };
    format!("{}{more}", named.join("; "))
}

/// The access entry of podgrant's own role on a cluster: what the cluster's
/// Kubernetes API lets it see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessEntry {
    /// There is none.
    Absent,
    /// podgrant made it, and it lacks the policy that lets it look.
    WithoutPolicy,
    /// podgrant made it, with the policy.
    Whole,
    /// Somebody else made it: theirs to change.
    Foreign,
    /// The cluster takes no access entries: its authentication mode is CONFIG_MAP.
    NotTaken,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lack(node: &str, why: Lack) -> NodeLack {
        NodeLack { node: node.to_owned(), why }
    }

    fn pods(desired: u32, ready: u32, lacking: Vec<NodeLack>) -> AgentPods {
        AgentPods { desired, ready, updated: ready, current: true, lacking, nodes_unseen: None }
    }

    #[test]
    fn an_agent_is_rolled_out_when_every_node_that_can_have_it_has_it() {
        let waiting = || Lack::NotReady("CrashLoopBackOff".to_owned());
        assert!(pods(3, 3, vec![]).is_rolled_out());
        assert!(pods(0, 0, vec![]).is_rolled_out());
        assert!(!pods(3, 2, vec![lack("a", waiting())]).is_rolled_out());
        assert!(!pods(3, 2, vec![]).is_rolled_out());
        assert!(pods(3, 2, vec![lack("a", Lack::NodeNotReady)]).is_rolled_out());
        assert!(!pods(3, 1, vec![lack("a", Lack::NodeNotReady), lack("b", waiting())]).is_rolled_out());
        // A node that is down and not among the desired makes up for none of these.
        assert!(!pods(3, 2, vec![lack("a", waiting()), lack("else", Lack::NodeNotReady)]).is_rolled_out());
        assert!(
            pods(2, 2, vec![lack("gpu", Lack::Taints(vec![])), lack("x", Lack::LeftOut)]).is_rolled_out()
        );
        assert!(!AgentPods { updated: 2, ..pods(3, 3, vec![]) }.is_rolled_out());
        assert!(!AgentPods { current: false, ..pods(3, 3, vec![]) }.is_rolled_out());
    }

    #[test]
    fn many_nodes_are_counted_and_not_all_named() {
        let lacking = (1..=7).map(|n| lack(&format!("node-{n}"), Lack::NoPodYet)).collect();
        insta::assert_snapshot!(pods(10, 3, lacking).progress(), @"ready on 3 of 10 nodes (node-1: no pod yet; node-2: no pod yet; node-3: no pod yet; node-4: no pod yet; node-5: no pod yet; and 2 more nodes)");
    }
}
