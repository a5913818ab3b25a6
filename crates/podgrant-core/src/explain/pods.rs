//! The links that the cluster tells: account, pods, their variables, their nodes, and what comes before it all.

use std::collections::BTreeMap;

use super::Target;
use super::chain::{Chain, Fault, Link, LinkKind};
use super::evidence::{
    ACCESS_KEY, AgentOnNode, Container, Evidence, FULL_URI, NO_PROXIES, NODE_ACTION, NODE_POLICIES, Node,
    NodeKind, PROXIES, Pod, Pods, Read, TOKEN_FILE, Times, WEB_IDENTITY, WorkloadInside,
};
use crate::agent::pods::Lack;
use crate::moment::rfc3339;

/// Where the agent listens, and what EKS sets the variable to (amazon-eks-pod-identity-webhook, its default
/// `container-credentials-full-uri`). On IPv6 clusters it is `[fd00:ec2::23]`.
const AGENT_ADDRESS: &str = "169.254.170.23";
const AGENT_URIS: [&str; 2] =
    ["http://169.254.170.23/v1/credentials", "http://[fd00:ec2::23]/v1/credentials"];

/// For how long a new association may not be known everywhere: EKS says "several seconds" (EKS API reference,
/// CreatePodIdentityAssociation); this is generous.
pub const SETTLING: i64 = 60;

/// How many pods a line names.
const NAMED: usize = 5;

/// The links that the cluster tells, as far as there is something to hang them on.
pub(super) fn links(evidence: &Evidence) -> Vec<Link> {
    let Some(inside) = &evidence.inside else { return Vec::new() };
    let mut links = vec![account(evidence, inside)];
    let pods = match &inside.pods {
        Ok(pods) => pods,
        Err(why) => {
            links.push(Link::unknown(LinkKind::Pod, why));
            return links;
        }
    };
    links.push(used(evidence, inside));
    let judged: Vec<&Pod> = pods.seen.iter().filter(|pod| uses(evidence, pod)).collect();
    if judged.is_empty() {
        return links;
    }
    // Of the one pod that was asked about everything is said; it needs no name.
    let named = |pod: &Pod| (!matches!(evidence.target, Target::Pod { .. })).then(|| pod.name.clone());
    let since = evidence.times.as_ref().map_or(Since::Never, Since::Made);
    links.extend(together(&judged, named, |pod| variables(since, pod)));
    links.extend(together(&judged, named, |pod| node(inside, pod)));
    links.extend(together(&judged, named, |pod| node_role(evidence, inside, pod)));
    links.extend(together(&judged, named, sdk));
    links
}

/// Of many pods whose service accounts have associations: those that get no credentials from them all the same. Each
/// is named with its namespace.
pub(super) fn faults_of(pods: &[Pod]) -> Vec<Link> {
    let pods: Vec<&Pod> = pods.iter().collect();
    let named = |pod: &Pod| Some(format!("{}/{}", pod.namespace, pod.name));
    let mut links = together(&pods, named, |pod| variables(Since::Sometime, pod));
    links.extend(together(&pods, named, sdk));
    links
}

/// What keeps a pod, whose service account has an association, from Pod Identity's variables; none where it has them.
pub(crate) fn lack(association: Option<&Times>, pod: &Pod) -> Option<Fault> {
    variables(association.map_or(Since::Sometime, Since::Made), pod).link.fault
}

/// When the association of a pod's service account was made.
#[derive(Clone, Copy)]
enum Since<'a> {
    Made(&'a Times),
    /// There is one; since when was not asked.
    Sometime,
    /// There is none.
    Never,
}

/// What is to be said where it was not seen which service account a pod uses: `pods` were read, or why not.
pub fn explain_unseen_pod(target: &Target, pods: &Read<Pods>) -> Chain {
    const KIND: LinkKind = LinkKind::Pod;
    let link = match pods {
        Ok(_) => Link::broken(KIND, Fault::NoPod, "the namespace has no such pod", "look at its spelling: kubectl get pods"),
        Err(why) => Link::unknown(KIND, why)
            .mended_by("ask about its service account instead, namespace/service-account@cluster: AWS alone tells half of it"),
    };
    Chain { place: target.to_string(), role: None, links: vec![link] }
}

/// What is so of one pod.
struct Judged {
    /// The link, worded for one pod or for several.
    link: Link,
    /// What is this pod's own: when it was made, on which node it is.
    about: Option<String>,
}

impl Judged {
    fn of_any(link: Link) -> Self {
        Self { link, about: None }
    }

    fn about(self, about: impl Into<String>) -> Self {
        Self { about: Some(about.into()), ..self }
    }
}

/// Pods, and what is each one's own.
type Members<'a> = Vec<(&'a Pod, Option<String>)>;

/// One link for all pods of which the same is so.
fn together(
    pods: &[&Pod],
    named: impl Fn(&Pod) -> Option<String>,
    judge: impl Fn(&Pod) -> Judged,
) -> Vec<Link> {
    let mut groups: Vec<(Link, Members<'_>)> = Vec::new();
    for pod in pods {
        let judged = judge(pod);
        match groups.iter_mut().find(|(link, _)| *link == judged.link) {
            Some((_, members)) => members.push((pod, judged.about)),
            None => groups.push((judged.link, vec![(pod, judged.about)])),
        }
    }
    let tell = |(mut link, members): (Link, Members<'_>)| {
        let told = members.iter().take(NAMED).map(|(pod, about)| (named(pod), about.as_deref()));
        let told: Vec<String> = told
            .map(|(name, about)| [name.as_deref(), about].into_iter().flatten().collect::<Vec<_>>().join(" "))
            .filter(|told: &String| !told.is_empty())
            .collect();
        let more = members.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let is_named = members.first().is_some_and(|(pod, _)| named(pod).is_some());
        link.told = match (told.is_empty(), is_named) {
            (true, _) => link.told,
            (false, true) => format!("{}{more}: {}", told.join(", "), link.told),
            (false, false) => format!("{} ({})", link.told, told.join(", ")),
        };
        link
    };
    groups.into_iter().map(tell).collect()
}

fn uses(evidence: &Evidence, pod: &Pod) -> bool {
    pod.account == evidence.workload.service_account.as_str()
}

fn account(evidence: &Evidence, inside: &WorkloadInside) -> Link {
    const KIND: LinkKind = LinkKind::Account;
    let workload = &evidence.workload;
    match &inside.account {
        Err(why) => Link::unknown(KIND, why),
        Ok(None) => Link::broken(
            KIND,
            Fault::NoAccount,
            format!("the cluster has no service account {workload}"),
            format!(
                "look at its spelling, or make it: kubectl --namespace {} create serviceaccount {}",
                workload.namespace, workload.service_account
            ),
        ),
        Ok(Some(account)) => match &account.irsa_role {
            // EKS's webhook gives pods Pod Identity's variables where both are there
            // (amazon-eks-pod-identity-webhook, `buildPodPatchConfig`).
            Some(role) => Link::right(
                KIND,
                format!(
                    "{workload} is there, also with {role} by annotation (IRSA), which the association goes before"
                ),
            ),
            None => Link::right(KIND, format!("{workload} is there")),
        },
    }
}

fn used(evidence: &Evidence, inside: &WorkloadInside) -> Link {
    const KIND: LinkKind = LinkKind::Pod;
    let Ok(pods) = &inside.pods else { return Link::unknown(KIND, "") };
    let workload = &evidence.workload;
    if let Target::Pod { pod: asked, .. } = &evidence.target {
        return match pods.seen.first() {
            None => Link::broken(
                KIND,
                Fault::NoPod,
                format!("the namespace {} has no pod {asked}", workload.namespace),
                format!("see kubectl --namespace {} get pods", workload.namespace),
            ),
            Some(pod) if !uses(evidence, pod) => Link::broken(
                KIND,
                Fault::OtherAccount,
                format!(
                    "it uses the service account {}, and {} is what has a role here",
                    pod.account, workload.service_account
                ),
                format!(
                    "set serviceAccountName: {} in its template, or grant to {}",
                    workload.service_account, pod.account
                ),
            ),
            Some(pod) => Link::right(KIND, format!("it uses the service account {}", pod.account)),
        };
    }
    let count = pods.seen.len();
    if count > 0 {
        let pods = if count == 1 { "1 pod uses it".to_owned() } else { format!("{count} pods use it") };
        return Link::right(KIND, pods);
    }
    let told = format!("no pod uses {workload}");
    if pods.others.is_empty() {
        // A grant may well come before its first pod.
        return Link::unknown(KIND, format!("{told} yet: the namespace has no pods"));
    }
    let others: Vec<String> =
        pods.others.iter().take(NAMED).map(|(account, count)| format!("{account} ({count})")).collect();
    Link::broken(
        KIND,
        Fault::Unused,
        format!("{told}; pods of the namespace use {}", others.join(", ")),
        format!("set serviceAccountName: {} in the pods' template", workload.service_account),
    )
}

/// How a pod is made anew.
fn restart(pod: &Pod) -> String {
    let namespace = &pod.namespace;
    match &pod.owner {
        Some(owner) => {
            format!(
                "delete it (kubectl --namespace {namespace} delete pod …): its {} makes it anew, with the variables",
                owner.kind
            )
        }
        None => format!(
            "make it anew: nothing else does (kubectl --namespace {namespace} get pod … --output yaml)"
        ),
    }
}

/// Whether each container was given what AWS's SDKs ask the agent with.
fn variables(since: Since<'_>, pod: &Pod) -> Judged {
    const KIND: LinkKind = LinkKind::Variables;
    let given = |container: &Container| container.has(FULL_URI) && container.has(TOKEN_FILE);
    if let Some(other) = pod
        .containers
        .iter()
        .filter_map(|container| container.value(FULL_URI))
        .find(|uri| !AGENT_URIS.contains(uri))
    {
        return Judged::of_any(Link::broken(
            KIND,
            Fault::VariablesOtherwise,
            format!("{FULL_URI} is {other}, and the agent answers at {}", AGENT_URIS[0]),
            format!("take {FULL_URI} and {TOKEN_FILE} out of the pod's template: EKS sets them"),
        ));
    }
    let without: Vec<&Container> = pod.containers.iter().filter(|container| !given(container)).collect();
    if without.is_empty() && pod.has_token {
        return Judged::of_any(Link::right(KIND, "EKS's webhook gave the variables and the token"));
    }
    if without.is_empty() {
        return Judged::of_any(Link::broken(
            KIND,
            Fault::VariablesOtherwise,
            "the variables are there, and no volume with a token of the audience pods.eks.amazonaws.com",
            "take the variables out of the pod's template: EKS sets them, with the token",
        ));
    }
    if without.iter().all(|container| container.is_skipped) {
        let names: Vec<&str> = without.iter().map(|container| container.name.as_str()).collect();
        return Judged::of_any(Link::broken(
            KIND,
            Fault::ContainerSkipped,
            format!("its annotation eks.amazonaws.com/skip-containers leaves {} out", names.join(", ")),
            "take the annotation off the pod's template",
        ));
    }
    let by_irsa = if pod.containers.iter().any(|container| container.has(WEB_IDENTITY)) {
        ", and it uses the role of the service account's annotation (IRSA)"
    } else {
        ""
    };
    let made = pod.created_at.map(|at| format!("made {}", rfc3339(at))).unwrap_or_default();
    let times = match since {
        Since::Made(times) => times,
        Since::Sometime => {
            return Judged::of_any(Link::broken(
                KIND,
                Fault::PodOlder,
                format!(
                    "no variables, though the service account has an association{by_irsa}: as good as always the pod is the older"
                ),
                restart(pod),
            ));
        }
        Since::Never => {
            return Judged::of_any(Link::broken(
                KIND,
                Fault::PodOlder,
                format!(
                    "it has none of the variables{by_irsa}: EKS gives them as a pod is made, if there is an association by then"
                ),
                format!("once there is one, {}", restart(pod)),
            ));
        }
    };
    match pod.created_at {
        Some(at) if at < times.created_at => Judged::of_any(Link::broken(
            KIND,
            Fault::PodOlder,
            format!(
                "older than its association ({}), and never given the variables{by_irsa}",
                rfc3339(times.created_at)
            ),
            restart(pod),
        ))
        .about(made),
        Some(at) if at < times.created_at + SETTLING => Judged::of_any(Link::broken(
            KIND,
            Fault::PodOlder,
            format!(
                "made within a minute of its association ({}), before EKS's webhook knew of it, and never given the variables{by_irsa}",
                rfc3339(times.created_at)
            ),
            restart(pod),
        ))
        .about(made),
        _ => Judged::of_any(Link::broken(
            KIND,
            Fault::NotGiven,
            format!("younger than its association, and without the variables{by_irsa}"),
            "EKS's own webhook pod-identity-webhook gives them: see whether another one takes them away, whether the \
             webhook is there (kubectl get mutatingwebhookconfigurations), and whether it is a static pod",
        ))
        .about(made),
    }
}

fn node(inside: &WorkloadInside, pod: &Pod) -> Judged {
    const KIND: LinkKind = LinkKind::Node;
    let Some(name) = &pod.node else {
        return Judged::of_any(Link::unknown(KIND, "it has no node yet"));
    };
    let on = |link: Link| Judged::of_any(link).about(format!("on {name}"));
    let node = match inside.nodes.get(name) {
        Some(Ok(node)) => node,
        Some(Err(why)) => return on(Link::unknown(KIND, why)),
        None => return on(Link::unknown(KIND, "its node was not read")),
    };
    let built_in = "the agent is built into EKS Auto Mode's nodes";
    match node.kind {
        NodeKind::Fargate => on(Link::broken(
            KIND,
            Fault::Fargate,
            "it runs on Fargate, where Pod Identity does not work",
            "run it on EC2 nodes, or use IAM roles for service accounts",
        )),
        NodeKind::Windows => on(Link::broken(
            KIND,
            Fault::Windows,
            "it runs on a Windows node, where Pod Identity does not work",
            "run it on Linux nodes, or use IAM roles for service accounts",
        )),
        NodeKind::Auto => on(Link::right(KIND, built_in)),
        NodeKind::Hybrid => {
            on(Link::unknown(KIND, "a hybrid node has a DaemonSet of its own, eks-pod-identity-agent-hybrid"))
        }
        NodeKind::Instance => on(instance(inside, node)),
    }
}

fn instance(inside: &WorkloadInside, node: &Node) -> Link {
    const KIND: LinkKind = LinkKind::Node;
    if inside.agent == Ok(None) {
        return Link::broken(
            KIND,
            Fault::NoAgent,
            "no agent on its node, nor anywhere in the cluster",
            "see the agent",
        );
    }
    let lack = match &node.agent {
        Err(why) => return Link::unknown(KIND, why),
        Ok(AgentOnNode::Ready) => return Link::right(KIND, "the agent's pod on its node is ready"),
        Ok(AgentOnNode::Lacks(lack)) => lack,
    };
    let holders: Vec<&str> = node.port_holders.iter().flatten().map(String::as_str).collect();
    lacking(lack, &holders)
}

/// A node without a ready agent, and who holds the agent's ports there.
pub(super) fn lacking(lack: &Lack, holders: &[&str]) -> Link {
    const KIND: LinkKind = LinkKind::Node;
    if !holders.is_empty() && matches!(lack, Lack::NotReady(_) | Lack::NoPodYet | Lack::LeftOut) {
        return Link::broken(
            KIND,
            Fault::PortTaken,
            format!(
                "no ready agent on its node, and its ports on the host are taken: {}",
                holders.join(", ")
            ),
            "the agent needs 169.254.170.23:80 and port 2703 of the host: move the other off the host's network or \
             to another port",
        );
    }
    let no = "no ready agent on its node: ";
    match lack {
        Lack::NodeNotReady => Link::broken(
            KIND,
            Fault::NodeDown,
            format!("{no}the node is not ready"),
            "see kubectl describe node; its pods can be nowhere else meanwhile",
        ),
        Lack::Taints(taints) => Link::broken(
            KIND,
            Fault::NodeTaints,
            format!("{no}its taints are not tolerated ({})", taints.join(", ")),
            "give the add-on tolerations by its configuration values; PODGRANT_AGENT_CONFIGURATION does so for \
             agents that podgrant installs",
        ),
        Lack::LeftOut => Link::broken(
            KIND,
            Fault::NodeLeftOut,
            format!("{no}the DaemonSet's node selector or affinity leaves it out"),
            "mend the add-on's configuration values (affinity, nodeSelector), or the node's labels",
        ),
        Lack::NoPodYet => Link::broken(
            KIND,
            Fault::AgentNotReady,
            format!("{no}no pod yet"),
            "wait a minute; if it stays so, see kubectl --namespace kube-system describe daemonset eks-pod-identity-agent",
        ),
        Lack::NotReady(words) => Link::broken(
            KIND,
            Fault::AgentNotReady,
            format!("{no}{words}"),
            "see kubectl --namespace kube-system logs --selector app.kubernetes.io/name=eks-pod-identity-agent; \
             known causes are ports 80 and 2703 taken on the host, and nodes without IPv6",
        ),
    }
}

fn node_role(evidence: &Evidence, inside: &WorkloadInside, pod: &Pod) -> Judged {
    const KIND: LinkKind = LinkKind::NodeRole;
    let kind = pod.node.as_ref().and_then(|name| inside.nodes.get(name)).and_then(|node| node.as_ref().ok());
    if kind.is_some_and(|node| node.kind != NodeKind::Instance) {
        return Judged::of_any(Link::right(KIND, "not in play on such a node"));
    }
    let read = pod.node.as_ref().and_then(|name| evidence.node_roles.get(name));
    Judged::of_any(match read {
        Some(Ok(role)) if role.allows => {
            Link::right(KIND, format!("the nodes' role {} allows {NODE_ACTION}", role.name))
        }
        Some(Ok(role)) => Link::broken(
            KIND,
            Fault::NodeRole,
            format!("no policy of the nodes' role {} allows {NODE_ACTION}: the agent is refused", role.name),
            format!("attach {}, or a policy of your own that allows it", NODE_POLICIES[0]),
        ),
        Some(Err(why)) => Link::unknown(KIND, why),
        None => Link::unknown(KIND, "which role its node has is not known"),
    })
}

/// What AWS's SDKs look at before the agent, in the order in which most of them do (AWS SDKs and Tools reference,
/// "Standardized credential providers"), and what stands between them and the agent.
fn sdk(pod: &Pod) -> Judged {
    const KIND: LinkKind = LinkKind::Sdk;
    let named = |variable: &str| {
        let having = pod.containers.iter().filter(|container| container.has(variable));
        having.map(|container| container.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let containers = named(ACCESS_KEY);
    if !containers.is_empty() {
        return Judged::of_any(Link::broken(
            KIND,
            Fault::StaticKeys,
            format!("{ACCESS_KEY} is set in {containers}: SDKs take it before they ask the agent"),
            "take the access keys out of the pod's template",
        ));
    }
    // Alone it is no contest: then the pod was never given the other, which is told by itself.
    let containers: Vec<&str> = pod
        .containers
        .iter()
        .filter(|container| container.has(WEB_IDENTITY) && container.has(FULL_URI))
        .map(|container| container.name.as_str())
        .collect();
    if !containers.is_empty() {
        return Judged::of_any(Link::broken(
            KIND,
            Fault::WebIdentity,
            format!(
                "{WEB_IDENTITY} is set in {} beside Pod Identity's: most SDKs take it first",
                containers.join(", ")
            ),
            "take it out of the pod's template; with the annotation eks.amazonaws.com/role-arn alone EKS does not set it",
        ));
    }
    let proxied: Vec<&str> = pod
        .containers
        .iter()
        .filter(|container| is_proxied(container))
        .map(|container| container.name.as_str())
        .collect();
    if !proxied.is_empty() {
        return Judged::of_any(Link::broken(
            KIND,
            Fault::Proxy,
            format!(
                "{} sends plain HTTP through a proxy, which does not lead to {AGENT_ADDRESS}",
                proxied.join(", ")
            ),
            format!("add {AGENT_ADDRESS} (with IPv6 also [fd00:ec2::23]) to NO_PROXY and no_proxy"),
        ));
    }
    let taking: BTreeMap<&str, ()> = pod
        .containers
        .iter()
        .filter(|container| container.takes_more)
        .map(|c| (c.name.as_str(), ()))
        .collect();
    if !taking.is_empty() {
        let names: Vec<&str> = taking.into_keys().collect();
        return Judged::of_any(Link::unknown(
            KIND,
            format!(
                "{} takes variables from ConfigMaps or Secrets (envFrom), which are not looked at: {ACCESS_KEY} there \
                 would go first",
                names.join(", ")
            ),
        ));
    }
    Judged::of_any(Link::right(KIND, "nothing in the pod's own text goes before the agent"))
}

fn is_proxied(container: &Container) -> bool {
    let passed_over = |list: &str| {
        let mut entries = list.split([',', ' ']).map(str::trim);
        entries.any(|entry| entry == "*" || entry.starts_with("169.254."))
    };
    PROXIES.iter().any(|proxy| container.has(proxy))
        && !NO_PROXIES.iter().any(|list| match container.variables.get(list) {
            Some(Some(value)) => passed_over(value),
            // It comes from elsewhere, and may well name the agent.
            Some(None) => true,
            None => false,
        })
}
