//! What a whole cluster shows: its agent, and the pods of the service accounts that have roles.

use std::collections::BTreeSet;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join};
use k8s_openapi::api::core::v1;
use kube::api::{Api, ListParams};
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::explain::evidence::{ClusterInside, Pod, Read};

use crate::each_page;
use crate::pods::{has_ended, read};
use crate::workload::{Look, PAGE, TO_VIEW, connected};

/// How many nodes without an agent are asked for who holds its ports.
const MOST_NODES: usize = 10;

/// Looks at a cluster's agent, and at the pods of these service accounts, `namespace/name` each. Where there are
/// none, no pod is listed.
pub fn look_into_cluster(
    access: KubernetesAccess,
    accounts: BTreeSet<String>,
) -> BoxFuture<'static, ClusterInside> {
    async move {
        match connected(&access) {
            Ok(client) => Look { access: &access, client }.around(&accounts).await,
            Err(why) => {
                ClusterInside { agent: Err(why.clone()), pods: Err(why.clone()), port_holders: Err(why) }
            }
        }
    }
    .boxed()
}

impl Look<'_> {
    async fn around(&self, accounts: &BTreeSet<String>) -> ClusterInside {
        let none = BTreeSet::new();
        let (agent, pods) = join(self.agent(&none), self.pods_of_accounts(accounts)).await;
        let agent = agent.map(|agent| agent.map(|agent| agent.pods));
        let lacking = agent.iter().flatten().flat_map(|agent| &agent.lacking);
        let lacking: Vec<&str> = lacking.take(MOST_NODES).map(|lack| lack.node.as_str()).collect();
        let port_holders = self.port_holders_of(&lacking).await;
        let pods = pods.map(|mut pods| {
            pods.retain(|pod| !pod.is_ending);
            pods
        });
        ClusterInside { port_holders, agent, pods }
    }

    /// Those that are ending too.
    pub(crate) async fn pods_of_accounts(&self, accounts: &BTreeSet<String>) -> Read<Vec<Pod>> {
        let mut seen = Vec::new();
        if accounts.is_empty() {
            return Ok(seen);
        }
        let pods: Api<v1::Pod> = Api::all(self.client.clone());
        let keep = |pod: v1::Pod| {
            let ended = has_ended(&pod);
            let pod = read(pod);
            if !ended && accounts.contains(&format!("{}/{}", pod.namespace, pod.account)) {
                seen.push(pod);
            }
        };
        self.ask(TO_VIEW, each_page(&pods, ListParams::default().limit(PAGE), keep)).await?;
        Ok(seen)
    }
}
