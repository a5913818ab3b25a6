//! What a cluster shows of one service account, its pods and their nodes. Reads, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures_util::future::{BoxFuture, join, join_all};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, ListParams};
use podgrant_core::agent::AGENT_ADDON;
use podgrant_core::agent::pods::{AgentPods, KubernetesAccess, Lack, Unseen};
use podgrant_core::explain::evidence::{
    Account, AgentOnNode, Node, NodeKind, Pods, Question, Read, WorkloadInside,
};
use podgrant_core::migrate::ANNOTATION;

use crate::nodes::{COMPUTE_TYPE, Nodes};
use crate::pods::{held_ports, is_over, read};
use crate::{ALL, client, each_page, if_there, see_agent, told, unseen};

/// Set by EKS on the nodes of its managed node groups.
const NODE_GROUP: &str = "eks.amazonaws.com/nodegroup";

/// Pods a page: no function reads them, and most are small.
pub(crate) const PAGE: u32 = 250;

/// Nodes that are looked at one by one: the pods of one service account on more of them tell no more.
const MOST_NODES: usize = 30;
const NODES_AT_ONCE: usize = 6;

/// Looks at a service account and its pods, or at one pod and its account. Each part is read by itself, and what is
/// refused or does not come in time is said in its place.
pub fn look_at_workload(access: KubernetesAccess, question: Question) -> BoxFuture<'static, WorkloadInside> {
    async move {
        match connected(&access) {
            Ok(client) => Look { access: &access, client }.at(&question).await,
            Err(why) => WorkloadInside::unread(&why),
        }
    }
    .boxed()
}

/// A client, if its token can be sent.
pub(crate) fn connected(access: &KubernetesAccess) -> Read<Client> {
    // The token goes along: in clear it would be anybody's.
    if !access.api.endpoint.starts_with("https://") {
        return Err(format!(
            "EKS gave the cluster's endpoint as {:?}, which is not https",
            access.api.endpoint
        ));
    }
    client(access).map_err(|unseen| said(unseen, ""))
}

/// A cluster, looked at with somebody's own rights.
pub(crate) struct Look<'a> {
    pub access: &'a KubernetesAccess,
    pub client: Client,
}

/// The agent as the cluster has it, and its pods by node.
pub(crate) struct SeenAgent {
    pub pods: AgentPods,
    covered: BTreeSet<String>,
}

impl Look<'_> {
    async fn at(&self, question: &Question) -> WorkloadInside {
        let (account, pods) = match question {
            Question::Account(workload) => {
                let (namespace, account) = (workload.namespace.as_str(), workload.service_account.as_str());
                join(self.account(namespace, account), self.pods_of(namespace, account)).await
            }
            Question::Pod { namespace, pod } => {
                let pods = self.pod(namespace.as_str(), pod.as_str()).await;
                let account =
                    pods.as_ref().ok().and_then(|pods| pods.seen.first()).map(|pod| pod.account.clone());
                let account = match account {
                    Some(account) => self.account(namespace.as_str(), &account).await,
                    None => Err("which one it is was not seen, for want of the pod".to_owned()),
                };
                (account, pods)
            }
        };
        let names: BTreeSet<String> =
            pods.iter().flat_map(|pods| &pods.seen).filter_map(|pod| pod.node.clone()).collect();
        let agent = self.agent(&names).await;
        let nodes = self.nodes(names, &agent).await;
        WorkloadInside { account, pods, agent: agent.map(|agent| agent.map(|agent| agent.pods)), nodes }
    }

    /// In time, or not at all; `remedy` is what helps whoever is refused.
    pub async fn ask<T>(&self, remedy: &str, asked: impl Future<Output = Result<T, kube::Error>>) -> Read<T> {
        match tokio::time::timeout(ALL, asked).await {
            Ok(answer) => answer.map_err(|error| said(unseen(&error, self.access), remedy)),
            Err(_) => Err(format!("the cluster's Kubernetes API did not answer within {} s", ALL.as_secs())),
        }
    }

    async fn account(&self, namespace: &str, name: &str) -> Read<Option<Account>> {
        let accounts: Api<v1::ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let found = self.ask(TO_VIEW, async { if_there(accounts.get(name).await) }).await?;
        Ok(found.map(|found| Account {
            irsa_role: found.metadata.annotations.and_then(|mut annotations| annotations.remove(ANNOTATION)),
        }))
    }

    async fn pod(&self, namespace: &str, name: &str) -> Read<Pods> {
        let pods: Api<v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        let found = self.ask(TO_VIEW, async { if_there(pods.get(name).await) }).await?;
        Ok(Pods { seen: found.into_iter().map(read).collect(), others: BTreeMap::new() })
    }

    async fn pods_of(&self, namespace: &str, account: &str) -> Read<Pods> {
        let pods: Api<v1::Pod> = Api::namespaced(self.client.clone(), namespace);
        let using = ListParams::default().fields(&format!("spec.serviceAccountName={account}")).limit(PAGE);
        let mut seen = Vec::new();
        let keep = |pod: v1::Pod| seen.extend((!is_over(&pod)).then(|| read(pod)));
        self.ask(TO_VIEW, each_page(&pods, using, keep)).await?;
        let mut others: BTreeMap<String, usize> = BTreeMap::new();
        if seen.is_empty() {
            let count = |pod: v1::Pod| {
                if !is_over(&pod) {
                    *others.entry(read(pod).account).or_default() += 1;
                }
            };
            self.ask(TO_VIEW, each_page(&pods, ListParams::default().limit(PAGE), count)).await?;
        }
        Ok(Pods { seen, others })
    }

    /// The agent, and on which of these nodes it is ready.
    pub async fn agent(&self, nodes: &BTreeSet<String>) -> Read<Option<SeenAgent>> {
        let seen = self.ask(TO_VIEW, see_agent(&self.client)).await?;
        Ok(seen.map(|(seen, hidden): (Nodes, _)| {
            let covered = nodes.iter().filter(|node| seen.covers(node)).cloned().collect();
            SeenAgent { pods: told(seen, hidden), covered }
        }))
    }

    async fn nodes(
        &self,
        names: BTreeSet<String>,
        agent: &Read<Option<SeenAgent>>,
    ) -> BTreeMap<String, Read<Node>> {
        let looks = stream::iter(names.into_iter().zip(0..)).map(|(name, number)| async move {
            let node = if number < MOST_NODES {
                self.node(&name, agent).await
            } else {
                Err(format!("only {MOST_NODES} nodes are looked at"))
            };
            (name, node)
        });
        looks.buffer_unordered(NODES_AT_ONCE).collect().await
    }

    async fn node(&self, name: &str, agent: &Read<Option<SeenAgent>>) -> Read<Node> {
        let nodes: Api<v1::Node> = Api::all(self.client.clone());
        // A listing of one: who may list nodes may not always get one.
        let this = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = self.ask(TO_SEE_NODES, async { nodes.list(&this).await }).await;
        let agent = agent_on(name, agent);
        let (kind, node_group) = match listed {
            Ok(listed) => match listed.items.into_iter().next() {
                Some(node) => (kind_of(&node), label(&node, NODE_GROUP).map(str::to_owned)),
                None => return Err(format!("the cluster has no node {name} any more")),
            },
            // Where the agent is ready, all else is no hindrance.
            Err(_) if agent == Ok(AgentOnNode::Ready) => (NodeKind::Instance, None),
            Err(why) => return Err(why),
        };
        let is_bare = kind == NodeKind::Instance && agent != Ok(AgentOnNode::Ready);
        let port_holders = if is_bare { self.port_holders(name).await } else { Ok(BTreeSet::new()) };
        Ok(Node { kind, node_group, agent, port_holders })
    }

    /// Pods other than the agent that hold its ports on a node, as `namespace/pod: port`.
    pub async fn port_holders(&self, node: &str) -> Read<BTreeSet<String>> {
        let pods: Api<v1::Pod> = Api::all(self.client.clone());
        let there = ListParams::default().fields(&format!("spec.nodeName={node}")).limit(PAGE);
        let mut holders = BTreeSet::new();
        let keep = |pod: v1::Pod| {
            let owners = pod.metadata.owner_references.iter().flatten();
            let is_agent =
                owners.into_iter().any(|owner| owner.kind == "DaemonSet" && owner.name == AGENT_ADDON);
            if !is_agent && !is_over(&pod) {
                let ports = held_ports(&pod);
                let pod = read(pod);
                holders
                    .extend(ports.into_iter().map(|port| format!("{}/{}: {port}", pod.namespace, pod.name)));
            }
        };
        self.ask(TO_VIEW, each_page(&pods, there, keep)).await?;
        Ok(holders)
    }

    /// The same of several nodes, as `namespace/pod: port on node`.
    pub async fn port_holders_of(&self, nodes: &[&str]) -> Read<BTreeSet<String>> {
        let asked = nodes.iter().map(|node| async move {
            let holders = self.port_holders(node).await?;
            Ok::<_, String>(
                holders.into_iter().map(|holder| format!("{holder} on {node}")).collect::<Vec<_>>(),
            )
        });
        let answers: Result<Vec<Vec<String>>, String> = join_all(asked).await.into_iter().collect();
        Ok(answers?.into_iter().flatten().collect())
    }
}

/// What helps whoever is refused: an access policy of EKS (EKS user guide, "Access policy permissions").
pub(crate) const TO_VIEW: &str = "; an access entry with AmazonEKSViewPolicy on the cluster would show it";
const TO_SEE_NODES: &str = "; AmazonEKSAdminViewPolicy would show nodes, or a cluster role as in \
                            infra/kubernetes/see-nodes.yaml";

fn said(unseen: Unseen, remedy: &str) -> String {
    match unseen {
        Unseen::Refused(why) => format!("{}{remedy}", why.replace("refused podgrant", "refused you")),
        Unseen::Unreachable(why) => why,
    }
}

fn agent_on(node: &str, agent: &Read<Option<SeenAgent>>) -> Read<AgentOnNode> {
    let agent = match agent {
        Ok(Some(agent)) => agent,
        Ok(None) => return Ok(AgentOnNode::Lacks(Lack::NoPodYet)),
        Err(why) => return Err(why.clone()),
    };
    if agent.covered.contains(node) {
        return Ok(AgentOnNode::Ready);
    }
    match agent.pods.lacking.iter().find(|lack| lack.node == node) {
        Some(lack) => Ok(AgentOnNode::Lacks(lack.why.clone())),
        None => Err(match &agent.pods.nodes_unseen {
            Some(why) => format!("whether the agent is wanted there is not known: {why}"),
            None => "it came while the agent was looked at; look again".to_owned(),
        }),
    }
}

fn label<'n>(node: &'n v1::Node, key: &str) -> Option<&'n str> {
    node.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn kind_of(node: &v1::Node) -> NodeKind {
    if label(node, "kubernetes.io/os") == Some("windows") {
        return NodeKind::Windows;
    }
    match label(node, COMPUTE_TYPE) {
        Some("fargate") => NodeKind::Fargate,
        Some("auto") => NodeKind::Auto,
        Some("hybrid") => NodeKind::Hybrid,
        _ => NodeKind::Instance,
    }
}
