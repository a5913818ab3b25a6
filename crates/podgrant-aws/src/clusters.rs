//! Clusters, one by one or the whole fleet.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_eks::types::AuthenticationMode;
use futures_util::{StreamExt, stream};
use podgrant_core::model::{ClusterKind, KubernetesApi};
use podgrant_core::{Cluster, ClusterId, ClusterName, ClusterSelector, ClusterStatus, Region};

use crate::{Aws, AwsError, CONCURRENT_CALLS};

/// Clusters, and the errors met on the way to others.
pub(crate) type Clusters = (Vec<Cluster>, Vec<(Option<ClusterId>, AwsError)>);

impl Aws {
    /// One cluster. `None` where EKS says that there is none.
    ///
    /// # Errors
    /// Whatever else EKS says, or a region that is not configured.
    pub async fn cluster(&self, id: &ClusterId) -> Result<Option<Cluster>, AwsError> {
        let answer = self.region(&id.region)?.eks.describe_cluster().name(id.name.as_str()).send().await;
        match answer.map_err(|error| AwsError::of("eks:DescribeCluster", id.to_string(), error)) {
            Ok(answer) => Ok(answer.cluster.map(|cluster| read_cluster(id, cluster))),
            Err(error) if error.is(crate::Meaning::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The clusters of a name in every configured region, and what came back instead of an answer.
    pub async fn find_clusters(&self, name: &ClusterName) -> (Vec<ClusterId>, Vec<AwsError>) {
        let (clusters, errors) = self.clusters_named(&[name.clone()].into()).await;
        let mut ids: Vec<ClusterId> = clusters.into_iter().map(|cluster| cluster.id).collect();
        // Regions answer in any order.
        ids.sort();
        (ids, errors.into_iter().map(|(_, error)| error).collect())
    }

    /// Clusters of these names in every configured region: a bare name does not
    /// tell its region, and must not mean two clusters.
    pub(crate) async fn clusters_named(&self, names: &BTreeSet<ClusterName>) -> Clusters {
        let ids: BTreeSet<ClusterId> = names
            .iter()
            .flat_map(|name| self.regions.keys().map(|r| ClusterId::new(r.clone(), name.clone())))
            .collect();
        self.describe_clusters(ids).await
    }

    /// The clusters that these selectors may mean: a hundred a call for those that name none, and one call for each
    /// that may match, for the index of tags may lag.
    pub(crate) async fn clusters_selected(&self, selectors: &[&ClusterSelector]) -> Clusters {
        let mut ids: BTreeSet<ClusterId> = BTreeSet::new();
        let mut errors = Vec::new();
        let everywhere = |name: &ClusterName| {
            let name = name.clone();
            self.regions.keys().map(move |region| ClusterId::new(region.clone(), name.clone()))
        };
        let (mut all, mut by_tags) = (false, Vec::new());
        for selector in selectors {
            match selector {
                ClusterSelector::Name(name) => ids.extend(everywhere(name)),
                ClusterSelector::RegionAndName(region, name) => {
                    let configured = self.regions.contains_key(region);
                    ids.extend(configured.then(|| ClusterId::new(region.clone(), name.clone())));
                }
                ClusterSelector::All => all = true,
                ClusterSelector::Tags(_) => by_tags.push(*selector),
            }
        }
        let tagged = if all || by_tags.is_empty() { Vec::new() } else { self.tagged_clusters().await };
        let mut unknown = Vec::new();
        for (region, found) in tagged {
            match found {
                Ok(found) => ids.extend(
                    found
                        .into_iter()
                        .filter(|cluster| by_tags.iter().any(|selector| selector.matches(cluster)))
                        .map(|cluster| cluster.id),
                ),
                Err(error) => {
                    tracing::warn!(%error, "the tags of clusters can't be had: describing every cluster instead");
                    unknown.push(region);
                }
            }
        }
        let listing = if all { self.regions.keys().cloned().collect() } else { unknown };
        let (listed, mut failed) = self.list_fleet(&listing).await;
        ids.extend(listed);
        errors.append(&mut failed);
        let (clusters, mut more) = self.describe_clusters(ids).await;
        errors.append(&mut more);
        (clusters, errors)
    }

    /// Every cluster of every configured region, by name only, or with `tags` with those too: what a sweep begins
    /// with. Status and all else are as of a cluster that is ready: whoever serves it looks for itself.
    pub(crate) async fn fleet_in_short(&self, tags: bool) -> Clusters {
        let regions: Vec<Region> = self.regions.keys().cloned().collect();
        let (ids, mut errors) = self.list_fleet(&regions).await;
        let mut known: BTreeMap<ClusterId, Cluster> =
            ids.into_iter().map(|id| (id.clone(), Cluster::in_short(id, BTreeMap::new()))).collect();
        let tagged = if tags { self.tagged_clusters().await } else { Vec::new() };
        for (region, found) in tagged {
            match found {
                Ok(found) => {
                    // The index still has clusters that are gone.
                    let there = found.into_iter().filter(|cluster| known.contains_key(&cluster.id));
                    let there: Vec<Cluster> = there.collect();
                    known.extend(there.into_iter().map(|cluster| (cluster.id.clone(), cluster)));
                }
                Err(error) => {
                    tracing::warn!(%error, "the tags of clusters can't be had: describing every cluster instead");
                    let ids = known.keys().filter(|id| id.region == region).cloned().collect();
                    let (described, mut failed) = self.describe_clusters(ids).await;
                    errors.append(&mut failed);
                    known.retain(|id, _| id.region != region);
                    known.extend(described.into_iter().map(|cluster| (cluster.id.clone(), cluster)));
                }
            }
        }
        (known.into_values().collect(), errors)
    }

    /// Every cluster of every configured region.
    pub(crate) async fn fleet(&self) -> Clusters {
        let regions: Vec<Region> = self.regions.keys().cloned().collect();
        let (ids, mut errors) = self.list_fleet(&regions).await;
        let (clusters, mut more) = self.describe_clusters(ids.into_iter().collect()).await;
        errors.append(&mut more);
        (clusters, errors)
    }

    async fn list_fleet(&self, regions: &[Region]) -> (Vec<ClusterId>, Vec<(Option<ClusterId>, AwsError)>) {
        let listed: Vec<_> = stream::iter(regions)
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
        (ids, errors)
    }

    /// The clusters that carry tags, as the tag index has them, by region.
    async fn tagged_clusters(&self) -> Vec<(Region, Result<Vec<Cluster>, AwsError>)> {
        stream::iter(self.regions.keys())
            .map(|region| async move { (region.clone(), self.cluster_tags(region).await) })
            .buffer_unordered(CONCURRENT_CALLS)
            .collect()
            .await
    }

    /// A hundred a call (Resource Groups Tagging API reference, GetResources).
    async fn cluster_tags(&self, region: &Region) -> Result<Vec<Cluster>, AwsError> {
        let mut pages = self
            .region(region)?
            .tagging
            .get_resources()
            .resource_type_filters("eks:cluster")
            .resources_per_page(100)
            .into_paginator()
            .items()
            .send();
        let mut clusters = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| AwsError::of("tag:GetResources", region.as_str(), error))?;
            let name = item.resource_arn().and_then(|arn| arn.split_once(":cluster/")).map(|(_, name)| name);
            let Some(name) = name.and_then(|name| name.parse().ok()) else { continue };
            let tags = item.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned()));
            clusters.push(Cluster::in_short(ClusterId::new(region.clone(), name), tags.collect()));
        }
        Ok(clusters)
    }

    async fn describe_clusters(&self, ids: BTreeSet<ClusterId>) -> Clusters {
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
    let identity = cluster.identity().and_then(|identity| identity.oidc());
    let oidc_issuer = identity.and_then(|oidc| oidc.issuer()).map(str::to_owned);
    Cluster {
        oidc_issuer,
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
