//! From a DaemonSet, its pods and the nodes to what lacks an agent, and why.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, Taint, Toleration};
use podgrant_core::agent::AGENT_ADDON;
use podgrant_core::agent::pods::{AgentPods, Lack, NodeLack};

use crate::shortened;

/// Where pods of EKS run: `ec2`, `fargate`, `auto` or `hybrid`. The agent's own
/// affinity is by this label (chart of aws/eks-pod-identity-agent).
pub(crate) const COMPUTE_TYPE: &str = "eks.amazonaws.com/compute-type";

/// Nodes where there is no such agent: Fargate has none, Auto Mode's own nodes have
/// theirs built in, and hybrid nodes a DaemonSet of their own.
const WITHOUT_AGENT: [&str; 3] = ["fargate", "auto", "hybrid"];

/// What the DaemonSet controller lets every daemon pod tolerate
/// (Kubernetes, "DaemonSet: taints and tolerations"; the last one with host networking, which the agent has).
const ALWAYS_TOLERATED: [&str; 7] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/network-unavailable",
];

/// What is seen so far, page by page.
pub(crate) struct Nodes {
    counts: AgentPods,
    selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
    /// Nodes that the controller counts a pod for.
    scheduled: usize,
    /// Nodes with a ready pod.
    covered: BTreeSet<String>,
    /// Why the pod of a node is not ready.
    not_ready: BTreeMap<String, Lack>,
    /// Nodes whose pod is going, to be replaced.
    replaced: BTreeSet<String>,
    /// Nodes without any pod, and why.
    without_pod: BTreeMap<String, Lack>,
    down: BTreeSet<String>,
    /// See [`is_settled`](Self::is_settled); looked at once, when the first node comes after all pods.
    settled: Option<bool>,
}

impl Nodes {
    pub fn of(daemon_set: &DaemonSet) -> Self {
        let status = daemon_set.status.clone().unwrap_or_default();
        let spec = daemon_set.spec.clone().unwrap_or_default();
        let count = |count: i32| u32::try_from(count).unwrap_or_default();
        let current = status.observed_generation == daemon_set.metadata.generation;
        // With OnDelete, pods of an older form stay until somebody deletes them.
        let on_delete =
            spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
        let updated = if on_delete { Some(status.number_ready) } else { status.updated_number_scheduled };
        Self {
            counts: AgentPods {
                desired: count(status.desired_number_scheduled),
                ready: count(status.number_ready),
                updated: count(updated.unwrap_or_default()),
                current,
                lacking: Vec::new(),
                nodes_unseen: None,
            },
            selector: spec.selector.match_labels.filter(|labels| !labels.is_empty()).unwrap_or_else(|| {
                BTreeMap::from([("app.kubernetes.io/name".to_owned(), AGENT_ADDON.to_owned())])
            }),
            tolerations: spec.template.spec.and_then(|pod| pod.tolerations).unwrap_or_default(),
            scheduled: usize::try_from(status.current_number_scheduled).unwrap_or_default(),
            covered: BTreeSet::new(),
            not_ready: BTreeMap::new(),
            replaced: BTreeSet::new(),
            without_pod: BTreeMap::new(),
            down: BTreeSet::new(),
            settled: None,
        }
    }

    /// The label selector of the agent's pods.
    pub fn pod_selector(&self) -> String {
        let pairs: Vec<String> = self.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(",")
    }

    pub fn add_pod(&mut self, pod: &Pod) {
        let Some(node) = node_of(pod) else { return };
        if is_ready(pod) {
            self.covered.insert(node);
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.replaced.insert(node);
        } else {
            let why =
                if node_went_away(pod) { Lack::NodeNotReady } else { Lack::NotReady(why_not_ready(pod)) };
            self.not_ready.insert(node, why);
        }
    }

    /// Whether every pod that the DaemonSet wants is there, so that a node without one is none of its.
    fn is_settled(&self) -> bool {
        let nodes: BTreeSet<&String> =
            self.covered.iter().chain(self.not_ready.keys()).chain(&self.replaced).collect();
        let desired = usize::try_from(self.counts.desired).unwrap_or_default();
        self.counts.current && self.scheduled >= desired && nodes.len() >= self.scheduled
    }

    /// After all pods.
    pub fn add_node(&mut self, node: &Node) {
        let settled = self.settled.unwrap_or_else(|| self.is_settled());
        self.settled = Some(settled);
        let Some(name) = node.metadata.name.clone() else { return };
        let label =
            |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        let elsewhere = label(COMPUTE_TYPE).is_some_and(|compute| WITHOUT_AGENT.contains(&compute))
            || label("kubernetes.io/os").is_some_and(|os| os != "linux");
        if self.covered.contains(&name) || elsewhere {
            return;
        }
        if !node_is_ready(node) {
            self.down.insert(name.clone());
        }
        if self.not_ready.contains_key(&name) {
            return;
        }
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let untolerated: Vec<String> =
            taints.iter().filter(|taint| !self.tolerates(taint)).map(written).collect();
        let why = if self.down.contains(&name) {
            Lack::NodeNotReady
        } else if !untolerated.is_empty() {
            Lack::Taints(untolerated)
        } else if self.replaced.contains(&name) || !settled {
            Lack::NoPodYet
        } else {
            // The controller has made every pod that it wants: it does not want one here.
            Lack::LeftOut
        };
        self.without_pod.insert(name, why);
    }

    /// Whether the agent's pod on a node is ready. After all pods.
    pub fn covers(&self, node: &str) -> bool {
        self.covered.contains(node)
    }

    /// What is known when every node was seen.
    pub fn told(self) -> AgentPods {
        let mut lacking = self.without_pod;
        for (node, why) in self.not_ready {
            if !self.covered.contains(&node) {
                let why = if self.down.contains(&node) { Lack::NodeNotReady } else { why };
                lacking.insert(node, why);
            }
        }
        let lacking = lacking.into_iter().map(|(node, why)| NodeLack { node, why }).collect();
        AgentPods { lacking, ..self.counts }
    }

    /// What is known when no node was seen, for this reason.
    pub fn told_without_nodes(mut self, why: String) -> AgentPods {
        let replaced = std::mem::take(&mut self.replaced);
        self.without_pod = replaced.into_iter().map(|node| (node, Lack::NoPodYet)).collect();
        self.without_pod.retain(|node, _| !self.covered.contains(node));
        self.down.clear();
        AgentPods { nodes_unseen: Some(why), ..self.told() }
    }

    fn tolerates(&self, taint: &Taint) -> bool {
        // PreferNoSchedule keeps no pod away that has nowhere else to go.
        taint.effect == "PreferNoSchedule"
            || ALWAYS_TOLERATED.contains(&taint.key.as_str())
            || self.tolerations.iter().any(|toleration| tolerates(toleration, taint))
    }
}

/// As Kubernetes' `Toleration.ToleratesTaint`: an empty key with `Exists` is any
/// key, an empty effect any effect, no operator `Equal`.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => text(&toleration.value) == text(&taint.value) && !key.is_empty(),
        Some(_) => false,
    }
}

fn written(taint: &Taint) -> String {
    match taint.value.as_deref() {
        Some(value) if !value.is_empty() => format!("{}={value}:{}", taint.key, taint.effect),
        _ => format!("{}:{}", taint.key, taint.effect),
    }
}

/// The node that a pod runs on, or is meant for: a daemon pod that was not placed yet names its
/// node in its affinity, by the field `metadata.name`.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_ref().filter(|name| !name.is_empty()) {
        return Some(node.clone());
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().filter_map(|term| term.match_fields.as_ref()).flatten();
    fields
        .filter(|field| field.key == "metadata.name")
        .find_map(|field| field.values.as_ref()?.first().cloned())
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<(&'a str, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((found.status.as_str(), found.message.as_deref()))
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

/// Whether Kubernetes took the pod for not ready because its node no longer answers: its
/// containers were ready when last heard of (`MarkPodsNotReady` of the node lifecycle controller).
fn node_went_away(pod: &Pod) -> bool {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    gates.is_none_or(Vec::is_empty)
        && condition(pod, "Ready").is_some_and(|(status, _)| status == "False")
        && condition(pod, "ContainersReady").is_some_and(|(status, _)| status == "True")
}

fn node_is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Kubernetes' own words, from the most telling place that has any.
fn why_not_ready(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
        .filter(|container| !container.ready);
    if let Some(words) = containers.filter_map(why_waiting).next() {
        return shortened(&words);
    }
    if let Some(("False", Some(message))) = condition(pod, "PodScheduled") {
        return format!("its pod finds no place: {message}");
    }
    match (&status.reason, &status.message) {
        (Some(reason), Some(message)) => format!("its pod has {reason}: {message}"),
        (Some(reason), None) => format!("its pod has {reason}"),
        _ => format!("its pod is {} and not ready", status.phase.as_deref().unwrap_or("Pending")),
    }
}

fn why_waiting(container: &ContainerStatus) -> Option<String> {
    let ended = |state: Option<&k8s_openapi::api::core::v1::ContainerState>| {
        let ended = state?.terminated.as_ref()?;
        let said = ended.message.as_deref().map(str::trim).filter(|said| !said.is_empty());
        let reason = ended.reason.as_deref().unwrap_or("ended");
        Some(match said {
            Some(said) => format!("{reason}, exit code {}: {said}", ended.exit_code),
            None => format!("{reason}, exit code {}", ended.exit_code),
        })
    };
    let state = container.state.as_ref();
    let last = ended(container.last_state.as_ref());
    let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) else {
        return ended(state).or(last);
    };
    let reason = waiting.reason.as_deref().filter(|reason| !reason.is_empty());
    let said = waiting.message.as_deref().filter(|said| !said.is_empty());
    let now = match (reason, said) {
        // Every pod begins so: nothing is wrong yet.
        (Some("ContainerCreating" | "PodInitializing") | None, None) => return last,
        (Some(reason), Some(said)) => format!("{reason}: {said}"),
        (Some(reason), None) => reason.to_owned(),
        (None, Some(said)) => said.to_owned(),
    };
    Some(match last {
        Some(last) => format!("{now} (last time: {last})"),
        None => now,
    })
}

#[cfg(test)]
mod tests;
