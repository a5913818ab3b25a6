//! All that podgrant made, and what stands beside it.

use std::collections::BTreeSet;

use podgrant_core::model::{Agent, ClusterAccess};
use podgrant_core::{Association, Cluster, ClusterId, ClusterStatus, Region, Snapshot};

use super::{TakeIn, side_by_side};
use crate::associations::{Index, Marks};
use crate::{Aws, AwsError, Meaning};

/// What is on one cluster beside its associations, or why it is not known.
type OnCluster = (ClusterId, Result<Vec<Association>, AwsError>, Result<Beside, AwsError>);

#[derive(Debug, Default)]
struct Beside {
    agent: Option<Agent>,
    entries: Vec<ClusterAccess>,
}

impl Aws {
    /// Looks at one cluster, opted out or not, or at all and at every role.
    ///
    /// # Errors
    /// The one cluster can't be described.
    pub(super) async fn observe_uninstall(
        &self,
        cluster: Option<&ClusterId>,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        let clusters = match cluster {
            None => {
                let found = self.fleet().await;
                snapshot.take(found)
            }
            Some(id) => {
                snapshot.scope.clusters = Some([id.clone()].into());
                let found = self.cluster(id).await?.into_iter().collect();
                snapshot.take((found, Vec::new()))
            }
        };
        // What is on a cluster that goes, goes with it.
        let there: Vec<&Cluster> =
            clusters.iter().filter(|cluster| cluster.status != ClusterStatus::Deleting).collect();
        let regions: BTreeSet<&Region> = there.iter().map(|cluster| &cluster.id.region).collect();
        let marks = cluster.map_or(Marks::All, Marks::OfCluster);
        let mut index = Index::new();
        for found in side_by_side(regions, |region| self.index_or_none(marks, region)).await {
            index.extend(found.unwrap_or_default());
        }
        let seen: Vec<OnCluster> = side_by_side(there, |cluster| async move {
            let listed = self.list_associations(&cluster.id, None).await;
            (cluster.id.clone(), listed, self.beside_associations(cluster).await)
        })
        .await;
        let mut listed = Vec::new();
        for (id, associations, beside) in seen {
            listed.push((id.clone(), associations));
            match beside {
                Ok(Beside { agent, entries }) => {
                    snapshot.agents.extend(agent.map(|agent| (id, agent)));
                    snapshot.access_entries.extend(entries);
                }
                // It went since it was described.
                Err(error) if error.is(Meaning::NotFound) => {}
                Err(error) => snapshot.gap(Some(id), &error),
            }
        }
        let listed = snapshot.take_listed(listed);
        // What the index does not know may be ours all the same; and which role others gave shows nowhere else: a mark
        // that was copied tells of another.
        let others = |association: &Association| {
            let mark = index.get(&(association.cluster.clone(), association.id.clone()));
            mark.is_some_and(|mark| !association.is_managed_by(mark))
        };
        self.know(listed, &index, false, snapshot, |_| true, others, || false).await;
        // Whoever looks at one cluster leaves the roles as they are.
        if cluster.is_none()
            && let Err(error) = self.take_roles(snapshot).await
        {
            snapshot.gap(None, &error);
        }
        snapshot.access_entries.sort();
        Ok(())
    }

    async fn beside_associations(&self, cluster: &Cluster) -> Result<Beside, AwsError> {
        let agent = self.agent(&cluster.id).await?;
        let takes_entries = cluster.api.as_ref().is_some_and(|api| api.takes_access_entries);
        let entries = if takes_entries { self.entries(&cluster.id).await? } else { Vec::new() };
        Ok(Beside { agent, entries })
    }

    /// Every access entry of a cluster: a listing shows no tags.
    async fn entries(&self, cluster: &ClusterId) -> Result<Vec<ClusterAccess>, AwsError> {
        let eks = &self.region(&cluster.region)?.eks;
        let mut principals =
            eks.list_access_entries().cluster_name(cluster.name.as_str()).into_paginator().items().send();
        let mut entries = Vec::new();
        while let Some(principal) = principals.next().await {
            let principal = principal
                .map_err(|error| AwsError::of("eks:ListAccessEntries", cluster.to_string(), error))?;
            entries.extend(self.entry_of(cluster, &principal).await?);
        }
        Ok(entries)
    }
}
