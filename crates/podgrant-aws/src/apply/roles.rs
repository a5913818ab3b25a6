//! Orphaned roles: the mark, and the end.

use std::collections::BTreeSet;

use podgrant_core::outcome::{FollowUp, Wait};
use podgrant_core::plan::role_still_goes;
use podgrant_core::{
    ClusterName, OrphanMark, Role, RoleArn, RoleId, RoleRecord, RoleTags, Snapshot, Verdict,
};

use super::Ended;
use crate::associations::Marks;
use crate::{Aws, AwsError, Meaning};

impl Aws {
    pub(super) async fn mark_orphan(
        &self,
        arn: &RoleArn,
        mark: &OrphanMark,
        snapshot: &Snapshot,
    ) -> Result<Ended, AwsError> {
        let role = match self.this_role(arn, &mark.role_id).await? {
            Ok(role) => role,
            Err(verdict) => return Ok((verdict, None)),
        };
        // An earlier mark, put on meanwhile by another pass, must not be made younger, nor one that says more.
        let standing = RoleTags::parse(&self.keys, &role.tags).0.orphaned_since;
        let planned_on = snapshot.roles.get(arn).map(|role| RoleTags::parse(&self.keys, &role.tags).0);
        if standing != planned_on.and_then(|tags| tags.orphaned_since) {
            return Ok((
                dropped(format!("the mark of {} changed since it was looked at", arn.role_name())),
                None,
            ));
        }
        self.tag_orphan(arn, mark).await?;
        Ok((Verdict::Done, None))
    }

    pub(super) async fn unmark_orphan(&self, arn: &RoleArn, mark: &OrphanMark) -> Result<Ended, AwsError> {
        let role = match self.this_role(arn, &mark.role_id).await? {
            Ok(role) => role,
            Err(verdict) => return Ok((verdict, None)),
        };
        if RoleTags::parse(&self.keys, &role.tags).0.orphaned_since.as_ref() != Some(mark) {
            return Ok((
                dropped(format!("the mark of {} changed since it was looked at", arn.role_name())),
                None,
            ));
        }
        let name = arn.role_name();
        self.iam
            .untag_role()
            .role_name(name)
            .tag_keys(self.keys.key(OrphanMark::KEY))
            .send()
            .await
            .map_err(|error| AwsError::of("iam:UntagRole", name, error))?;
        Ok((Verdict::Done, None))
    }

    /// Deletes a role that everything, read once more, still says is to go; in two passes, some time apart.
    ///
    /// The first marks it as begun: IAM lets nothing be taken from a role without that mark, and shows tags to itself
    /// only after a while (IAM user guide, "Troubleshoot IAM"). The second, which has looked at everything anew, keeps
    /// what is known of the role, takes its policies, and itself last. Wherever that ends, the next pass sees how far it came.
    pub(super) async fn delete_role(
        &self,
        record: &RoleRecord,
        mark: &OrphanMark,
        snapshot: &Snapshot,
        kept: impl Future<Output = Result<(), String>>,
        time_is_up: &impl Fn() -> bool,
    ) -> Result<Ended, AwsError> {
        let arn = &record.role_arn;
        let name = arn.role_name();
        let again = self.look_at_everything_again(arn, snapshot).await?;
        if let Err(reason) = role_still_goes(record, &again, &self.keys, &self.orphans) {
            let half = if mark.begun { ", though policies of it may be missing" } else { "" };
            return Ok((dropped(format!("looked at once more, {name} stays{half}: {reason}")), None));
        }
        if !mark.begun {
            // The last of many reads was not about who it is.
            if let Err(verdict) = self.this_role(arn, &record.role_id).await? {
                return Ok((verdict, None));
            }
            self.tag_orphan(arn, &mark.with_deletion_begun()).await?;
            return Ok((
                goes_on(format!("{name} is marked, and its deletion goes on when IAM shows that")),
                None,
            ));
        }
        if let Err(problem) = kept.await {
            let reason =
                format!("what {name} is could not be kept, and so nothing of it is taken: {problem}");
            return Ok((Verdict::Failed { reason }, None));
        }
        // What is gone already went in an earlier attempt, or by an answer that was lost.
        let policies = record.attached_policies.iter().map(|arn| (arn, true));
        for (policy, is_attached) in policies.chain(record.inline_policies.keys().map(|name| (name, false))) {
            if time_is_up() {
                return Ok((goes_on(format!("the time was up while {name} lost its policies")), None));
            }
            gone(if is_attached {
                let detached = self.iam.detach_role_policy().role_name(name).policy_arn(policy).send().await;
                detached.map(drop).map_err(|error| AwsError::of("iam:DetachRolePolicy", name, error))
            } else {
                let deleted = self.iam.delete_role_policy().role_name(name).policy_name(policy).send().await;
                deleted.map(drop).map_err(|error| AwsError::of("iam:DeleteRolePolicy", name, error))
            })?;
        }
        let deleted = self.iam.delete_role().role_name(name).send().await;
        gone(deleted.map(drop).map_err(|error| AwsError::of("iam:DeleteRole", name, error)))?;
        Ok((Verdict::Done, None))
    }

    /// All that decides about one role, as it is now: the role in full, every cluster that it names, and what podgrant
    /// gave it to. What others gave it to is known from this pass, which looked at every association there is.
    async fn look_at_everything_again(&self, arn: &RoleArn, seen: &Snapshot) -> Result<Snapshot, AwsError> {
        let name = arn.role_name();
        let mut again = Snapshot {
            // What was not over then may be over now; the other way round is no harm.
            observed_at: seen.observed_at,
            regions: seen.regions.clone(),
            holders_whole: seen.holders_whole,
            associations: seen
                .associations
                .iter()
                .filter(|a| a.roles().contains(arn.as_str()))
                .cloned()
                .collect(),
            ..Snapshot::default()
        };
        // What would speak for it first, and then whether it asks: the same order as everywhere.
        for region in self.regions.keys() {
            for (cluster, id) in self.index(region, Marks::OfRole(name)).await?.into_keys() {
                again.associations.extend(self.describe_association(&cluster, &id).await?);
            }
        }
        let planned_on = seen.roles.get(arn).map(|role| RoleTags::parse(&self.keys, &role.tags).0);
        let names: BTreeSet<ClusterName> = planned_on
            .iter()
            .flat_map(|tags| &tags.grants)
            .filter_map(|grant| grant.subject.clusters.cluster_name().cloned())
            .collect();
        let (clusters, errors) = self.clusters_named(&names).await;
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
        again.clusters.extend(clusters.into_iter().map(|cluster| (cluster.id.clone(), cluster)));
        if let Some((role, inventory)) = self.role_in_full(name).await? {
            again.inventories.insert(role.arn.clone(), inventory);
            again.roles.insert(role.arn.clone(), role);
        }
        Ok(again)
    }

    async fn tag_orphan(&self, arn: &RoleArn, mark: &OrphanMark) -> Result<(), AwsError> {
        let name = arn.role_name();
        let (key, value) = mark.to_tag(&self.keys);
        self.tag_role(name, &[(key, value)].into(), &BTreeSet::new()).await
    }

    /// The role of this ARN, if it is still the one of this id; otherwise how the change ends.
    async fn this_role(&self, arn: &RoleArn, id: &RoleId) -> Result<Result<Role, Verdict>, AwsError> {
        let name = arn.role_name();
        let found = self.role(name).await?.filter(|role| role.id == *id);
        Ok(found.ok_or_else(|| dropped(format!("the role {name} is gone, or was made again"))))
    }
}

fn dropped(reason: String) -> Verdict {
    Verdict::Dropped { reason }
}

/// For the next look at everything.
fn goes_on(reason: String) -> Verdict {
    Verdict::NotYet(Wait { reason, follow_up: FollowUp::Orphans { roles_missed: BTreeSet::new() } })
}

fn gone(result: Result<(), AwsError>) -> Result<(), AwsError> {
    result.or_else(|error| if error.is(Meaning::NotFound) { Ok(()) } else { Err(error) })
}
