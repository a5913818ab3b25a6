//! Every association there is, to be listed.

use std::collections::BTreeSet;

use podgrant_core::{ClusterId, Region, Snapshot};

use super::{TakeIn, side_by_side};
use crate::Aws;
use crate::associations::{Index, Marks};

impl Aws {
    pub(super) async fn observe_associations(&self, cluster: Option<&ClusterId>, snapshot: &mut Snapshot) {
        let clusters: Vec<ClusterId> = match cluster {
            Some(cluster) => vec![cluster.clone()],
            None => {
                let found = self.fleet_in_short(false).await;
                snapshot.take(found).into_iter().map(|cluster| cluster.id).collect()
            }
        };
        let regions: BTreeSet<&Region> = clusters.iter().map(|cluster| &cluster.region).collect();
        let marks = cluster.map_or(Marks::All, Marks::OfCluster);
        let mut index = Index::new();
        for found in side_by_side(regions, |region| self.index_or_none(marks, region)).await {
            index.extend(found.unwrap_or_default());
        }
        let listed = side_by_side(clusters, |cluster| async move {
            let listed = self.list_associations(&cluster, None).await;
            (cluster, listed)
        })
        .await;
        let listed = snapshot.take_listed(listed);
        self.know(listed, &index, false, snapshot, |_| true, |_| false, || false).await;
        if let Err(error) = self.take_roles(snapshot).await {
            snapshot.gap(None, &error);
        }
    }
}
