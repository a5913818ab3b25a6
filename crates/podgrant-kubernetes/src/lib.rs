//! What podgrant asks a cluster's own Kubernetes API.
//!
//! The only crate that names `kube`; none of its types stands in a signature
//! that another crate uses. It reads; what is written, by hand alone, is in
//! `rollout.rs` and `verify.rs`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, Config};
use podgrant_core::agent::pods::{AgentPods, KubernetesAccess, Unseen};
use podgrant_core::agent::{AGENT_ADDON, AGENT_NAMESPACE};

mod accounts;
mod cluster;
mod configuration;
mod nodes;
mod pods;
mod rollout;
mod verify;
mod workload;

pub use accounts::{service_account_exists, service_accounts};
pub use cluster::look_into_cluster;
pub use configuration::misfits;
use nodes::Nodes;
pub use rollout::{annotate, annotated, budgets, objects, pods_of_accounts, roll};
pub use verify::{
    make_verify_account, make_verify_pod, remove_verify_object, verify_objects, verify_obstacles, verify_pod,
};
pub use workload::look_at_workload;

/// A private endpoint that can't be reached from here does not answer at all.
const CONNECT: Duration = Duration::from_secs(3);

/// Between two pieces of an answer.
const READ: Duration = Duration::from_secs(5);

/// For all that is asked of one cluster, whatever it does.
const ALL: Duration = Duration::from_secs(10);

/// Nodes and pods a page: one node is some 15 kB of JSON, several clusters are read at once, and a function has 128 MB.
const PAGE: u32 = 50;

/// Looks at the agent from inside its cluster; `None` where there is no such
/// DaemonSet. At most one request for the DaemonSet, and one for each fifty
/// of its pods and of the cluster's nodes.
///
/// # Errors
/// The cluster's API refused us, could not be reached, or did not answer in
/// time or in sense.
pub fn agent_pods(access: KubernetesAccess) -> BoxFuture<'static, Result<Option<AgentPods>, Unseen>> {
    async move { within_time(&access, async |client| look(client, &access).await).await }.boxed()
}

/// Asks a cluster by its own authority, and for so long.
async fn within_time<T>(
    access: &KubernetesAccess,
    look: impl AsyncFnOnce(Client) -> Result<T, Unseen>,
) -> Result<T, Unseen> {
    // The token goes along: in clear it would be anybody's.
    if !access.api.endpoint.starts_with("https://") {
        return Err(Unseen::Unreachable(format!(
            "EKS gave the cluster's endpoint as {:?}, which is not https",
            access.api.endpoint
        )));
    }
    asked(access, look).await
}

async fn asked<T>(
    access: &KubernetesAccess,
    look: impl AsyncFnOnce(Client) -> Result<T, Unseen>,
) -> Result<T, Unseen> {
    let client = client(access)?;
    let looked = tokio::time::timeout(ALL, look(client)).await;
    looked.unwrap_or_else(|_| {
        Err(Unseen::Unreachable(format!(
            "the cluster's Kubernetes API did not answer within {} s",
            ALL.as_secs()
        )))
    })
}

async fn look(client: Client, access: &KubernetesAccess) -> Result<Option<AgentPods>, Unseen> {
    let seen = see_agent(&client).await.map_err(|error| unseen(&error, access))?;
    Ok(seen.map(|(nodes, hidden)| told(nodes, hidden)))
}

fn told(nodes: Nodes, hidden: Option<String>) -> AgentPods {
    match hidden {
        Some(why) => nodes.told_without_nodes(why),
        None => nodes.told(),
    }
}

/// The agent's pods by node, and why the nodes themselves are hidden, if they are.
async fn see_agent(client: &Client) -> Result<Option<(Nodes, Option<String>)>, kube::Error> {
    let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), AGENT_NAMESPACE);
    let Some(daemon_set) = if_there(daemon_sets.get(AGENT_ADDON).await)? else { return Ok(None) };
    let mut nodes = Nodes::of(&daemon_set);
    let pods: Api<Pod> = Api::namespaced(client.clone(), AGENT_NAMESPACE);
    let of_the_agent = ListParams::default().labels(&nodes.pod_selector()).limit(PAGE);
    each_page(&pods, of_the_agent, |pod| nodes.add_pod(&pod)).await?;
    let all: Api<Node> = Api::all(client.clone());
    match each_page(&all, ListParams::default().limit(PAGE), |node| nodes.add_node(&node)).await {
        Ok(()) => Ok(Some((nodes, None))),
        // AmazonEKSViewPolicy, as Kubernetes' own role `view`, shows no nodes.
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Ok(Some((nodes, Some(shortened(&status.message)))))
        }
        Err(error) => Err(error),
    }
}

/// Nothing where Kubernetes says that there is no such thing; anybody may answer 404, and only Kubernetes says so.
fn if_there<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 && status.reason == "NotFound" => Ok(None),
        answer => answer.map(Some),
    }
}

/// Hands over a listing one by one, so that no more than a page is held at once.
async fn each_page<K>(api: &Api<K>, asked: ListParams, mut each: impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut asked = asked;
    loop {
        let page = api.list(&asked).await?;
        page.items.into_iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => asked = asked.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn client(access: &KubernetesAccess) -> Result<Client, Unseen> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| {
        Unseen::Unreachable(format!("EKS gave the cluster's {what} in a form that can't be used: {error}"))
    };
    let url = access.api.endpoint.parse().map_err(|error| unusable("endpoint", &error))?;
    let mut config = Config::new(url);
    let pem = STANDARD
        .decode(access.api.certificate_authority.trim())
        .map_err(|error| unusable("certificate authority", &error))?;
    let authorities: Vec<Vec<u8>> = pem::parse_many(pem)
        .map_err(|error| unusable("certificate authority", &error))?
        .into_iter()
        .map(pem::Pem::into_contents)
        .collect();
    // Without one, the system's would be asked: a cluster is known by its own authority alone.
    if authorities.is_empty() {
        return Err(unusable("certificate authority", &"it holds no certificate"));
    }
    config.root_cert = Some(authorities);
    config.auth_info.token = Some(access.token.clone().into());
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.write_timeout = Some(READ);
    // What comes back later is the queue's business.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| unusable("certificate authority", &error))
}

fn unseen(error: &kube::Error, access: &KubernetesAccess) -> Unseen {
    match error {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            let said = if status.message.is_empty() { &status.reason } else { &status.message };
            Unseen::Refused(format!(
                "the cluster's Kubernetes API refused podgrant ({}: {})",
                status.code,
                shortened(said)
            ))
        }
        kube::Error::Api(status) => Unseen::Unreachable(format!(
            "the cluster's Kubernetes API answered {}: {}",
            status.code,
            shortened(&status.message)
        )),
        kube::Error::SerdeError(error) => Unseen::Unreachable(format!(
            "the cluster's Kubernetes API answered what is not Kubernetes: {}",
            shortened(&error.to_string())
        )),
        other => {
            let place = if access.api.public { "" } else { " (its endpoint is private)" };
            Unseen::Unreachable(format!(
                "the cluster's Kubernetes API could not be reached{place}: {}",
                innermost(other)
            ))
        }
    }
}

/// The last of an error's causes: those before it say what is known already.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// The beginning of a text that somebody else wrote: a proxy's page may be long.
fn shortened(text: &str) -> String {
    const MOST: usize = 300;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    text.chars().take(MOST).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
