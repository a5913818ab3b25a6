//! Evidence of clusters as a whole.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_core::explain::evidence::{ClusterInside, NodeRole, Read};
use podgrant_core::explain::{FleetEvidence, Target};
use podgrant_core::model::{Agent, Gap, Nodes};
use podgrant_core::{Association, Cluster, ClusterId, Snapshot};

use super::Onlooker;
use crate::associations::{Index, Marks};
use crate::observe::side_by_side;
use crate::{Aws, AwsError, Meaning};

/// Node groups of a cluster whose roles are looked at: most clusters have one role for all.
const MOST_NODE_GROUPS: usize = 10;

/// What was read of one cluster.
struct Seen {
    id: ClusterId,
    /// As a listing has them, and podgrant's marks.
    associations: Result<Vec<Association>, AwsError>,
    index: Option<Index>,
    agent: Result<Option<Agent>, AwsError>,
    nodes: Nodes,
    node_roles: BTreeMap<String, Read<NodeRole>>,
    inside: Option<ClusterInside>,
}

impl Aws {
    /// Reads every role once, and of each cluster its associations, its agent, its nodes' roles, and what its own API shows.
    pub(super) async fn fleet_evidence(
        &self,
        target: &Target,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> FleetEvidence {
        let regions = self.regions.keys().cloned().collect();
        let mut snapshot = Snapshot { observed_at: now, regions, ..Snapshot::default() };
        let mut unread = Vec::new();
        match self.all_roles().await {
            Ok(all) => snapshot.roles = all.roles,
            Err(error) => unread.push(error.to_string()),
        }
        let (clusters, errors) = match target.cluster_named() {
            Some(named) => self.clusters_selected(&[named.selector()]).await,
            None => self.fleet().await,
        };
        for (cluster, error) in errors {
            unread.push(error.to_string());
            snapshot.gaps.push(gap(cluster, &error));
        }
        if let Some(named) = target.cluster_named().filter(|_| clusters.is_empty() && unread.is_empty()) {
            unread.push(format!(
                "no configured region has a cluster {named}; look at its spelling and at PODGRANT_REGIONS"
            ));
        }
        let open = clusters.iter().filter(|cluster| {
            cluster.status.is_ready() && cluster.is_enrolled(&self.keys) && !cluster.kind.connected
        });
        let seen = side_by_side(open, |cluster| self.see(cluster, onlooker, now)).await;
        snapshot.clusters = clusters.iter().map(|cluster| (cluster.id.clone(), cluster.clone())).collect();
        let (mut inside, mut node_roles) = (BTreeMap::new(), BTreeMap::new());
        for one in seen {
            match one.associations {
                // What the index does not know is described: which role others gave shows nowhere else.
                Ok(listed) => {
                    let index = one.index.unwrap_or_default();
                    self.know(listed, &index, false, &mut snapshot, |_| true, |_| false, || false).await;
                }
                Err(error) => snapshot.gaps.push(gap(Some(one.id.clone()), &error)),
            }
            match one.agent {
                Ok(agent) => snapshot.agents.extend(agent.map(|agent| (one.id.clone(), agent))),
                Err(error) => snapshot.gaps.push(gap(Some(one.id.clone()), &error)),
            }
            snapshot.nodes.insert(one.id.clone(), one.nodes);
            inside.extend(one.inside.map(|seen| (one.id.clone(), seen)));
            node_roles.insert(one.id, one.node_roles);
        }
        FleetEvidence { target: target.clone(), snapshot, unread, inside, node_roles }
    }

    async fn see(&self, cluster: &Cluster, onlooker: Option<&Onlooker>, now: i64) -> Seen {
        let id = cluster.id.clone();
        let associations = self.list_associations(&id, None).await;
        let index = self.index_or_none(Marks::OfCluster(&id), &id.region).await;
        let listed = associations.iter().flatten().map(|association| association.workload.to_string());
        let accounts: BTreeSet<String> = listed.collect();
        let inside = match (onlooker, &cluster.api) {
            (Some(onlooker), Some(_)) => Some(match self.way_into(cluster, now).await {
                Ok(way) => (onlooker.into)(way, accounts).await,
                Err(why) => {
                    ClusterInside { agent: Err(why.clone()), pods: Err(why.clone()), port_holders: Err(why) }
                }
            }),
            _ => None,
        };
        let agent = self.agent(&id).await;
        let groups = self.node_groups(&id).await;
        let nodes = match (&agent, &groups) {
            (Ok(None), Ok(_)) => self.nodes(&id).await.unwrap_or_default(),
            _ => Nodes::default(),
        };
        let node_roles = match groups {
            Ok(groups) => {
                let id = &id;
                let read = side_by_side(groups.into_iter().take(MOST_NODE_GROUPS), |group| async move {
                    let role = self.node_role(id, &group).await.map_err(|error| error.to_string());
                    (group, role)
                });
                read.await.into_iter().collect()
            }
            Err(error) => [("node groups".to_owned(), Err(error.to_string()))].into(),
        };
        Seen { id, associations, index, agent, nodes, node_roles, inside }
    }
}

fn gap(cluster: Option<ClusterId>, error: &AwsError) -> Gap {
    Gap { cluster, why: error.to_string(), throttled: error.is(Meaning::Throttled) }
}
