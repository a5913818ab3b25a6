//! Associations: what a listing shows, what the tag index adds, what only a
//! Describe knows.

use std::collections::BTreeMap;

use aws_sdk_resourcegroupstagging::types::TagFilter;
use podgrant_core::explain::evidence::Times;
use podgrant_core::model::AssociationRecord;
use podgrant_core::{Association, AssociationId, ClusterId, Mark, Region, Workload};

use crate::{Aws, AwsError, Meaning};

/// Marks by association, as the tag index has them: eventually consistent, and
/// never reason enough for a deletion.
pub(crate) type Index = BTreeMap<(ClusterId, AssociationId), Mark>;

/// Which of our marks to look for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Marks<'a> {
    All,
    /// Of the role of this name, whatever its path.
    OfRole(&'a str),
    OfCluster(&'a ClusterId),
}

impl Aws {
    /// The associations of a cluster, or just that of one service account.
    pub(crate) async fn list_associations(
        &self,
        cluster: &ClusterId,
        workload: Option<&Workload>,
    ) -> Result<Vec<Association>, AwsError> {
        let mut request = self
            .region(&cluster.region)?
            .eks
            .list_pod_identity_associations()
            .cluster_name(cluster.name.as_str());
        if let Some(workload) = workload {
            request = request
                .namespace(workload.namespace.as_str())
                .service_account(workload.service_account.as_str());
        }
        let mut items = request.into_paginator().items().send();
        let mut associations = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| {
                AwsError::of("eks:ListPodIdentityAssociations", cluster.to_string(), error)
            })?;
            // No pod can have names that Kubernetes would not take: they are nobody's grant, and hold no role.
            let (Ok(id), Ok(namespace), Ok(service_account)) = (
                parsed(item.association_id.as_deref()),
                parsed(item.namespace.as_deref()),
                parsed(item.service_account.as_deref()),
            ) else {
                continue;
            };
            associations.push(Association {
                cluster: cluster.clone(),
                id,
                arn: item.association_arn.unwrap_or_default(),
                workload: Workload { namespace, service_account },
                owner: item.owner_arn.filter(|owner| !owner.is_empty()),
                mark: None,
                record: None,
            });
        }
        Ok(associations)
    }

    /// One association, whole. `None` where EKS says that there is none.
    pub(crate) async fn describe_association(
        &self,
        cluster: &ClusterId,
        id: &AssociationId,
    ) -> Result<Option<Association>, AwsError> {
        let found = self.association_in_time(cluster, id).await?;
        Ok(found.map(|(association, _)| association))
    }

    /// The same, and when it was made and changed.
    pub(crate) async fn association_in_time(
        &self,
        cluster: &ClusterId,
        id: &AssociationId,
    ) -> Result<Option<(Association, Times)>, AwsError> {
        const OPERATION: &str = "eks:DescribePodIdentityAssociation";
        let answer = self
            .region(&cluster.region)?
            .eks
            .describe_pod_identity_association()
            .cluster_name(cluster.name.as_str())
            .association_id(id.as_str())
            .send()
            .await;
        let found = match answer.map_err(|e| AwsError::of(OPERATION, format!("{cluster} {id}"), e)) {
            Ok(answer) => answer.association,
            Err(error) if error.is(Meaning::NotFound) => None,
            Err(error) => return Err(error),
        };
        let Some(found) = found else { return Ok(None) };
        // As in a listing: such names are nobody's grant, whatever tags were copied beside them.
        let (Ok(namespace), Ok(service_account)) =
            (parsed(found.namespace.as_deref()), parsed(found.service_account.as_deref()))
        else {
            return Ok(None);
        };
        let tags = found.tags.clone().unwrap_or_default().into_iter().collect();
        let created_at = found.created_at.map(|at| at.secs()).unwrap_or_default();
        let times = Times {
            association: id.clone(),
            created_at,
            modified_at: found.modified_at.map_or(created_at, |at| at.secs()),
        };
        let association = Association {
            cluster: cluster.clone(),
            id: id.clone(),
            workload: Workload { namespace, service_account },
            owner: found.owner_arn.filter(|owner| !owner.is_empty()),
            mark: Mark::from_tags(&self.keys, cluster, &tags),
            record: Some(AssociationRecord {
                role_arn: found.role_arn.unwrap_or_default(),
                session_tags_off: found.disable_session_tags.unwrap_or(false),
                target_role: found.target_role_arn.filter(|arn| !arn.is_empty()),
            }),
            arn: found.association_arn.unwrap_or_default(),
        };
        Ok(Some((association, times)))
    }

    /// Our marks in a region: all, or some.
    pub(crate) async fn index(&self, region: &Region, which: Marks<'_>) -> Result<Index, AwsError> {
        // Without a resource type filter: its name for associations is not
        // documented, and our own key is filter enough.
        let filter = match which {
            Marks::OfRole(name) => TagFilter::builder().key(self.keys.key("role-name")).values(name),
            Marks::OfCluster(cluster) => {
                TagFilter::builder().key(self.keys.key("cluster")).values(cluster.to_string())
            }
            Marks::All => TagFilter::builder().key(self.keys.key("managed")),
        };
        let mut pages = self
            .region(region)?
            .tagging
            .get_resources()
            .tag_filters(filter.build())
            .resources_per_page(100)
            .into_paginator()
            .items()
            .send();
        let mut index = Index::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| AwsError::of("tag:GetResources", region.as_str(), error))?;
            let Some((cluster, id)) = item.resource_arn().and_then(|arn| of_arn(region, arn)) else {
                continue;
            };
            let tags: BTreeMap<String, String> =
                item.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
            // Resources that were tagged once are listed with empty tags: not ours.
            if let Some(mark) = Mark::from_tags(&self.keys, &cluster, &tags) {
                index.insert((cluster, id), mark);
            }
        }
        Ok(index)
    }
}

/// Cluster and id of `arn:aws:eks:<region>:<account>:podidentityassociation/<cluster>/<id>`.
pub(crate) fn of_arn(region: &Region, arn: &str) -> Option<(ClusterId, AssociationId)> {
    let mut parts = arn.splitn(6, ':').skip(2);
    let (service, in_region, _account, resource) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (cluster, id) = resource.strip_prefix("podidentityassociation/")?.split_once('/')?;
    (service == "eks" && in_region == region.as_str()).then_some(())?;
    Some((ClusterId::new(region.clone(), cluster.parse().ok()?), id.parse().ok()?))
}

fn parsed<N: std::str::FromStr<Err = podgrant_core::NameError>>(
    text: Option<&str>,
) -> Result<N, podgrant_core::NameError> {
    text.unwrap_or_default().parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn association_arns_are_read_whole() {
        let region: Region = "eu-west-1".parse().unwrap();
        let read = |arn| of_arn(&region, arn).map(|(c, i)| format!("{c} {i}"));
        assert_eq!(
            read("arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-1").as_deref(),
            Some("eu-west-1/prod-eu a-1")
        );
        for other in [
            "arn:aws:eks:eu-west-2:111122223333:podidentityassociation/prod-eu/a-1",
            "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu",
            "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu",
            "nonsense",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
