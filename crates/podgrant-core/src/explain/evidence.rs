//! What is known of one service account on one cluster: by AWS, and by the cluster itself.
//!
//! Each part was read, or could not be, and why. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Target;
use crate::agent::pods::{AgentPods, Lack};
use crate::model::Snapshot;
use crate::names::{AssociationId, ClusterId, Namespace, PodName, Workload};

/// What was read; or why it could not be, in words.
pub type Read<T> = Result<T, String>;

/// All that a [`Chain`](super::Chain) is made from.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// What was asked about.
    pub target: Target,
    /// The place, as people write it: `payments/api@prod-eu`.
    pub place: String,
    pub workload: Workload,
    /// None where no cluster, or more than one, is of that name.
    pub cluster: Option<ClusterId>,
    /// The name of the role that it is about. None where nobody asks and nothing stands.
    pub role: Option<String>,
    /// The role, the cluster, what stands in the place, and the agent: as the planning rules see them.
    pub snapshot: Snapshot,
    pub times: Option<Times>,
    /// What of all that could not be read, and why.
    pub unread: BTreeMap<Part, String>,
    /// What the cluster's own Kubernetes API shows; none where there was no cluster to ask.
    pub inside: Option<WorkloadInside>,
    /// Of the nodes that the pods run on: what their role may do.
    pub node_roles: BTreeMap<String, Read<NodeRole>>,
}

/// A part of AWS that may not be readable to whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Role,
    /// The policies of the role.
    Powers,
    Cluster,
    Association,
    Agent,
}

/// When an association was made and last changed, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    pub association: AssociationId,
    pub created_at: i64,
    pub modified_at: i64,
}

/// What is asked of a cluster's own Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// A service account, and all pods that use it.
    Account(Workload),
    /// One pod, and the service account that it uses.
    Pod { namespace: Namespace, pod: PodName },
}

/// What a cluster shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInside {
    /// The agent's DaemonSet; none where there is none.
    pub agent: Read<Option<AgentPods>>,
    /// Pods that use one of the service accounts that were asked about.
    pub pods: Read<Vec<Pod>>,
    /// On nodes without a ready agent: pods that hold its ports on the host, as `namespace/pod: port on node`.
    pub port_holders: Read<BTreeSet<String>>,
}

/// What a cluster shows of one service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadInside {
    /// The account itself; none where the cluster has none of that name.
    pub account: Read<Option<Account>>,
    /// The pods that use it, or the one that was asked about.
    pub pods: Read<Pods>,
    /// The agent's DaemonSet; none where there is none.
    pub agent: Read<Option<AgentPods>>,
    /// The nodes that those pods run on.
    pub nodes: BTreeMap<String, Read<Node>>,
}

impl WorkloadInside {
    /// Nothing could be read, for one reason.
    pub fn unread(why: &str) -> Self {
        let why = || why.to_owned();
        Self { account: Err(why()), pods: Err(why()), agent: Err(why()), nodes: BTreeMap::new() }
    }
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// The role of the annotation `eks.amazonaws.com/role-arn`: IAM roles for service accounts (IRSA).
    pub irsa_role: Option<String>,
}

/// Pods.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    pub seen: Vec<Pod>,
    /// Where none uses the service account: which accounts the namespace's pods do use, and how many each.
    pub others: BTreeMap<String, usize>,
}

/// A pod, as far as credentials go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub account: String,
    /// None until it has its place.
    pub node: Option<String>,
    /// Seconds since 1970.
    pub created_at: Option<i64>,
    pub host_network: bool,
    /// Whether it is deleted, and its containers are about to end: that may take hours.
    pub is_ending: bool,
    /// Who makes it anew when it is deleted.
    pub owner: Option<Owner>,
    /// Where its own text says that it runs on Fargate or Windows; none where it says neither.
    pub runs_on: Option<NodeKind>,
    /// Whether it has a volume with a token of the audience `pods.eks.amazonaws.com`.
    pub has_token: bool,
    pub containers: Vec<Container>,
}

/// Whoever keeps a Kubernetes object: the one of its owner references that is its controller.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its API group, such as `apps`; empty for Kubernetes' core.
    pub group: String,
    pub kind: String,
    pub name: String,
}

/// A container's variables, as far as credentials go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    pub name: String,
    /// Those of [`VARIABLES`] that it has. Values only of those that hold no secret.
    pub variables: BTreeMap<&'static str, Option<String>>,
    /// Whether it takes variables from ConfigMaps or Secrets, which are not looked at.
    pub takes_more: bool,
    /// Whether its pod has EKS leave it alone (annotation `eks.amazonaws.com/skip-containers`).
    pub is_skipped: bool,
}

pub const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
pub const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
pub const WEB_IDENTITY: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
pub const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
pub const PROFILE: &str = "AWS_PROFILE";
/// Those that send plain HTTP through a proxy; HTTPS_PROXY does not.
pub const PROXIES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
pub const NO_PROXIES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The variables that matter, and whether their value is told.
pub const VARIABLES: [(&str, bool); 11] = [
    (FULL_URI, true),
    (TOKEN_FILE, true),
    (WEB_IDENTITY, false),
    (ACCESS_KEY, false),
    (PROFILE, true),
    // A proxy's URL may hold a password.
    (PROXIES[0], false),
    (PROXIES[1], false),
    (PROXIES[2], false),
    (PROXIES[3], false),
    (NO_PROXIES[0], true),
    (NO_PROXIES[1], true),
];

impl Container {
    pub fn has(&self, variable: &str) -> bool {
        self.variables.contains_key(variable)
    }

    /// The value of a variable; none where it is not set in the pod's own text.
    pub fn value(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable)?.as_deref()
    }
}

/// A node that pods run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: NodeKind,
    /// The managed node group that it belongs to (label `eks.amazonaws.com/nodegroup`).
    pub node_group: Option<String>,
    /// Whether the agent's pod there is ready.
    pub agent: Read<AgentOnNode>,
    /// Pods other than the agent that hold its ports on the host, as `namespace/pod: port`.
    pub port_holders: Read<BTreeSet<String>>,
}

/// What a node is, as far as the agent goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// An EC2 instance: it needs the agent.
    Instance,
    /// EKS Auto Mode's own: the agent is built in.
    Auto,
    Fargate,
    Windows,
    /// Outside AWS, with a DaemonSet of its own.
    Hybrid,
}

/// Whether a node has the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentOnNode {
    Ready,
    Lacks(Lack),
}

/// A node's instance role, as far as the agent goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRole {
    pub name: String,
    /// Whether a policy of it allows [`NODE_ACTION`].
    pub allows: bool,
}

/// What a node's role must allow, for the agent asks for credentials with it (EKS user guide, "Set up the
/// Amazon EKS Pod Identity Agent").
pub const NODE_ACTION: &str = "eks-auth:AssumeRoleForPodIdentity";

/// AWS's own policies that allow it (AWS managed policy reference).
pub const NODE_POLICIES: [&str; 2] = ["AmazonEKSWorkerNodePolicy", "AmazonEKSWorkerNodeMinimalPolicy"];
