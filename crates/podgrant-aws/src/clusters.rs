//! Clusters, one by one or the whole fleet.

use std::collections::BTreeSet;

use aws_sdk_eks::types::AuthenticationMode;
use futures_util::{StreamExt, stream};
use podgrant_core::model::{ClusterKind, KubernetesApi};
use podgrant_core::{Cluster, ClusterId, ClusterName, ClusterStatus, Region};

use crate::{Aws, AwsError, CONCURRENT_CALLS};

/// Clusters, and the errors met on the way to others.
pub(crate) type Clusters = (Vec<Cluster>, Vec<(Option<ClusterId>, AwsError)>);

impl Aws {
    /// One cluster. `None` where EKS says that there is none.
    pub(crate) async fn cluster(&self, id: &ClusterId) -> Result<Option<Cluster>, AwsError> {
        let answer = self.region(&id.region)?.eks.describe_cluster().name(id.name.as_str()).send().await;
        match answer.map_err(|error| AwsError::of("eks:DescribeCluster", id.to_string(), error)) {
            Ok(answer) => Ok(answer.cluster.map(|cluster| read_cluster(id, cluster))),
            Err(error) if error.is(crate::Meaning::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Clusters of these names in every configured region: a bare name does not
    /// tell its region, and must not mean two clusters.
    pub(crate) async fn clusters_named(&self, names: &BTreeSet<ClusterName>) -> Clusters {
        let ids: Vec<ClusterId> = names
            .iter()
            .flat_map(|name| self.regions.keys().map(|r| ClusterId::new(r.clone(), name.clone())))
            .collect();
        self.describe_clusters(ids).await
    }

    /// Every cluster of every configured region.
    pub(crate) async fn fleet(&self) -> Clusters {
        let listed: Vec<_> = stream::iter(self.regions.keys())
            .map(|region| self.list_clusters(region))
            .buffer_unordered(CONCURRENT_CALLS)
            .collect()
            .await;
        let (mut ids, mut errors) = (Vec::new(), Vec::new());
        for result in listed {
            match result {
                Ok(listed) => ids.extend(listed),
                Err(error) => errors.push((None, error)),
            }
        }
        let (clusters, mut more) = self.describe_clusters(ids).await;
        errors.append(&mut more);
        (clusters, errors)
    }

    async fn describe_clusters(&self, ids: Vec<ClusterId>) -> Clusters {
        let described: Vec<_> = stream::iter(ids)
            .map(|id| async move {
                let cluster = self.cluster(&id).await;
                (id, cluster)
            })
            .buffer_unordered(CONCURRENT_CALLS)
            .collect()
            .await;
        let (mut clusters, mut errors) = (Vec::new(), Vec::new());
        for (id, result) in described {
            match result {
                Ok(cluster) => clusters.extend(cluster),
                Err(error) => errors.push((Some(id), error)),
            }
        }
        (clusters, errors)
    }

    async fn list_clusters(&self, region: &Region) -> Result<Vec<ClusterId>, AwsError> {
        let mut names = self.region(region)?.eks.list_clusters().into_paginator().items().send();
        let mut ids = Vec::new();
        while let Some(name) = names.next().await {
            let name = name.map_err(|error| AwsError::of("eks:ListClusters", region.as_str(), error))?;
            // Connected (non-EKS) clusters are not listed unless asked for.
            if let Ok(name) = name.parse() {
                ids.push(ClusterId::new(region.clone(), name));
            }
        }
        Ok(ids)
    }
}

fn read_cluster(id: &ClusterId, cluster: aws_sdk_eks::types::Cluster) -> Cluster {
    let kind = ClusterKind {
        auto_mode: cluster.compute_config().and_then(|compute| compute.enabled()).unwrap_or(false),
        outpost: cluster.outpost_config().is_some(),
        connected: cluster.connector_config().is_some(),
    };
    let issues = cluster.health().map(|health| health.issues()).unwrap_or_default();
    let issues = issues
        .iter()
        .map(|issue| {
            let code = issue.code().map_or("Issue", |code| code.as_str());
            format!("{code}: {}", issue.message().unwrap_or_default())
        })
        .collect();
    let api = cluster.endpoint().zip(cluster.certificate_authority().and_then(|ca| ca.data())).map(
        |(endpoint, certificate_authority)| KubernetesApi {
            endpoint: endpoint.to_owned(),
            certificate_authority: certificate_authority.to_owned(),
            public: cluster.resources_vpc_config().is_none_or(|vpc| vpc.endpoint_public_access()),
            takes_access_entries: cluster
                .access_config()
                .and_then(|access| access.authentication_mode())
                .is_some_and(|mode| *mode != AuthenticationMode::ConfigMap),
        },
    );
    Cluster {
        id: id.clone(),
        kind,
        issues,
        api,
        arn: cluster.arn.unwrap_or_default(),
        status: cluster.status.map_or(ClusterStatus::Other("unknown".to_owned()), |s| s.as_str().into()),
        version: cluster.version.unwrap_or_default(),
        tags: cluster.tags.unwrap_or_default().into_iter().collect(),
    }
}
