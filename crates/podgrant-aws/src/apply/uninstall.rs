//! What podgrant made, taken away whole: each thing is looked at once more, and goes only if it is still podgrant's.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::{BoxFuture, Shared};
use podgrant_core::model::ClusterAccess;
use podgrant_core::plan::still_uninstalled;
use podgrant_core::{Association, AssociationId, Change, ClusterId, ClusterStatus, Snapshot, Verdict};

use super::{Ended, not_yet, verdict_of};
use crate::observe::side_by_side;
use crate::{Aws, AwsError, Meaning};

/// What was made while a person read the list, if anything was; or why that is not known.
pub(super) type Late<'a> = Shared<BoxFuture<'a, Arc<Result<Option<Association>, AwsError>>>>;

/// How the removal of statements ends without it, if it does: whoever is new may need them.
pub(super) async fn who_may_need(change: &Change, late: &Late<'_>) -> Option<Verdict> {
    if !matches!(change, Change::WithdrawTrust { .. }) {
        return None;
    }
    match &*late.clone().await {
        Ok(None) => None,
        Ok(Some(Association { id, workload, cluster, .. })) => {
            let made = format!("association {id} of {workload} on {cluster} was made since the list");
            Some(not_yet(change, made))
        }
        Err(error) => Some(verdict_of(change, error)),
    }
}

impl Aws {
    /// How the removal of an association that was listed ends without it, if it does.
    pub(super) async fn look_before_uninstall(
        &self,
        change: &Change,
        listed: &Association,
    ) -> Result<Option<Verdict>, AwsError> {
        let id = &listed.id;
        let now = self.describe_association(&listed.cluster, id).await?;
        Ok(match now {
            None => Some(dropped(format!("association {id} is gone already"))),
            Some(now) if now.managed().is_none() => {
                Some(dropped(format!("association {id} is no longer podgrant's")))
            }
            Some(now) if !still_uninstalled(listed, &now) => Some(not_yet(
                change,
                format!("association {id} was given to another role since it was listed"),
            )),
            Some(_) => None,
        })
    }

    /// An association that stands on a cluster in view, and did not when they were listed. Which role it has does not
    /// show in a listing.
    pub(super) async fn made_since(&self, snapshot: &Snapshot) -> Result<Option<Association>, AwsError> {
        let known: BTreeSet<(&ClusterId, &AssociationId)> =
            snapshot.associations.iter().map(|association| (&association.cluster, &association.id)).collect();
        let there = snapshot.clusters.values().filter(|cluster| cluster.status != ClusterStatus::Deleting);
        let there: Vec<ClusterId> = there.map(|cluster| cluster.id.clone()).collect();
        let known = &known;
        let looks = side_by_side(there, |cluster| async move {
            match self.list_associations(&cluster, None).await {
                Ok(listed) => Ok(listed.into_iter().find(|now| !known.contains(&(&now.cluster, &now.id)))),
                // The cluster went, and took its associations along.
                Err(error) if error.is(Meaning::NotFound) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await;
        let mut late = None;
        for look in looks {
            late = look?.or(late);
        }
        Ok(late)
    }

    /// Removes the agent that podgrant installed, if no association on the cluster needs it.
    pub(super) async fn uninstall_agent(
        &self,
        change: &Change,
        cluster: &ClusterId,
    ) -> Result<Ended, AwsError> {
        let verdict = match self.agent(cluster).await? {
            None => dropped("the agent is gone already".to_owned()),
            Some(agent) if !agent.managed => dropped("the agent is no longer podgrant's".to_owned()),
            Some(_) => match self.list_associations(cluster, None).await?.first() {
                Some(needing) => {
                    let who = format!("{} ({})", needing.workload, needing.id);
                    not_yet(change, format!("looked at once more, {who} needs the agent"))
                }
                None => {
                    self.remove_agent(cluster, false).await?;
                    Verdict::Done
                }
            },
        };
        Ok((verdict, None))
    }

    pub(super) async fn remove_access_entry(&self, entry: &ClusterAccess) -> Result<Ended, AwsError> {
        let ClusterAccess { cluster, principal, .. } = entry;
        let verdict = match self.entry_of(cluster, principal).await? {
            None => dropped("the access entry is gone already".to_owned()),
            Some(now) if !now.managed => dropped("the access entry is no longer podgrant's".to_owned()),
            Some(_) => {
                let eks = &self.region(&cluster.region)?.eks;
                let deleted = eks
                    .delete_access_entry()
                    .cluster_name(cluster.name.as_str())
                    .principal_arn(principal)
                    .send()
                    .await
                    .map_err(|error| AwsError::of("eks:DeleteAccessEntry", cluster.to_string(), error));
                match deleted {
                    Err(error) if !error.is(Meaning::NotFound) => return Err(error),
                    _ => Verdict::Done,
                }
            }
        };
        Ok((verdict, None))
    }
}

fn dropped(reason: String) -> Verdict {
    Verdict::Dropped { reason }
}
