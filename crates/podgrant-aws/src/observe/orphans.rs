//! Orphans: associations whose role is gone, and roles whose clusters are.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_core::plan::{Leave, RoleFate, judge_roles};
use podgrant_core::sweep::Round;
use podgrant_core::{Association, Cluster, ClusterId, ClusterName, Mark, Role, RoleArn, RoleTags, Snapshot};

use super::{DESCRIBED_AT_ONCE, TakeIn, side_by_side};
use crate::associations::{Index, Marks};
use crate::{Aws, AwsError, CONCURRENT_CALLS, Meaning};

impl Aws {
    pub(super) async fn observe_role_gone(
        &self,
        name: &str,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        let index = self.index_everywhere(Marks::OfRole(name), snapshot).await;
        let names = index.keys().map(|(cluster, _)| cluster.name.clone()).collect();
        let found = self.clusters_named(&names).await;
        snapshot.take(found);
        self.know(Vec::new(), &index, true, snapshot, |_| false, |_| false, || false).await;
        let role = self.role(name).await?;
        snapshot.scope.roles = Some(index.values().map(|mark| mark.role_arn.clone()).collect());
        snapshot.roles = role.into_iter().map(|role| (role.arn.clone(), role)).collect();
        Ok(())
    }

    pub(super) async fn observe_fleet_orphans(
        &self,
        missed_before: &BTreeSet<String>,
        round: Option<Round>,
        time_is_up: impl Fn() -> bool,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        let index = self.index_everywhere(Marks::All, snapshot).await;
        let found = self.fleet().await;
        snapshot.take(found);
        let all = self.all_roles().await?;
        (snapshot.roles, snapshot.inventories) = (all.roles, all.inventories);
        // Those whose role is there are no orphans, and the index's word is enough for that.
        let is_there =
            |mark: &Mark| snapshot.roles.get(&mark.role_arn).is_some_and(|role| role.id == mark.role_id);
        let (living, dangling): (Index, Index) = index.into_iter().partition(|(_, mark)| is_there(mark));
        snapshot.managed_elsewhere = living.len();
        self.know(Vec::new(), &dangling, true, snapshot, |_| false, |_| false, || false).await;
        let names: BTreeSet<&str> = snapshot.roles.keys().map(RoleArn::role_name).collect();
        let gone = snapshot.associations.iter().filter_map(Association::managed);
        let gone = gone.map(|mark| mark.role_arn.role_name());
        let gone = gone.filter(|name| !names.contains(name) && !missed_before.contains(*name));
        snapshot.roles_missed = gone.map(str::to_owned).collect();

        let to_decide = self.waiting_for(snapshot, |leave| matches!(leave, Leave::NotLookedInto { .. }));
        // Once in all rounds, or a role that waits for a person would have every association of the fleet looked at in
        // every sweep; but what was begun is the worse for waiting.
        let is_begun = |arn: &RoleArn| {
            let role = snapshot.roles.get(arn);
            let mark = role.and_then(|role| RoleTags::parse(&self.keys, &role.tags).0.orphaned_since);
            mark.is_some_and(|mark| mark.begun)
        };
        let is_time = round.is_none_or(|round| round.number % round.of.max(1) == 0);
        let looks = is_time || to_decide.iter().any(is_begun);
        let later = round.filter(|_| !looks && !to_decide.is_empty());
        let to_decide = if looks { to_decide } else { BTreeSet::new() };
        let wanted = |cluster: &Cluster| {
            // Pod Identity works on neither (EKS user guide, "Pod Identity considerations").
            let has_none = cluster.kind.connected || cluster.kind.outpost;
            let its_turn = round.is_some_and(|round| round.holds_cluster(&cluster.id));
            !has_none && (!to_decide.is_empty() || its_turn)
        };
        let clusters: Vec<ClusterId> =
            snapshot.clusters.values().filter(|cluster| wanted(cluster)).map(|c| c.id.clone()).collect();
        let unseen =
            self.look_for_holders(&clusters, &living, &to_decide, missed_before, &time_is_up, snapshot).await;
        snapshot.holders_whole = !to_decide.is_empty() && unseen.is_none();
        let later = later.map(|round| format!("every association is looked at once in {} sweeps", round.of));
        snapshot.holders_unseen = unseen.or(later);
        self.read_in_full(time_is_up, snapshot).await;
        Ok(())
    }

    /// The roles that are only reported, for this reason.
    fn waiting_for(&self, snapshot: &Snapshot, so: fn(&Leave) -> bool) -> BTreeSet<RoleArn> {
        let judged = judge_roles(snapshot, &self.keys, &self.orphans);
        let waiting = judged.into_iter().filter(|judged| match &judged.fate {
            RoleFate::Reported(leave) => so(leave),
            _ => false,
        });
        waiting.map(|judged| judged.role.arn.clone()).collect()
    }

    /// Looks at every association of these clusters, and keeps those that have a role that is `in_question`, or one
    /// that does not exist. What podgrant made the index tells; of all others only a Describe does. Why not all was
    /// seen, if so: that is no gap, for it hides nothing that decides about anything else.
    async fn look_for_holders(
        &self,
        clusters: &[ClusterId],
        living: &Index,
        in_question: &BTreeSet<RoleArn>,
        missed_before: &BTreeSet<String>,
        time_is_up: &impl Fn() -> bool,
        snapshot: &mut Snapshot,
    ) -> Option<String> {
        let known: BTreeSet<_> =
            snapshot.associations.iter().map(|a| (a.cluster.clone(), a.id.clone())).collect();
        let names: BTreeSet<String> = snapshot.roles.keys().map(|arn| arn.role_name().to_owned()).collect();
        let mut kept: Vec<Association> = Vec::new();
        let mut unseen: Option<String> = None;
        let mut dangling: BTreeMap<String, Vec<Association>> = BTreeMap::new();
        let mut sort = |association: Association| {
            if association.roles().iter().any(|role| in_question.iter().any(|asked| asked.as_str() == *role))
            {
                kept.push(association);
                return;
            }
            let role = association.record.as_ref().and_then(|record| record.role_arn.parse::<RoleArn>().ok());
            if let Some(role) = role.filter(|role| !names.contains(role.role_name())) {
                dangling.entry(role.role_name().to_owned()).or_default().push(association);
            }
        };
        for some in clusters.chunks(CONCURRENT_CALLS) {
            // What could not be seen once decides: the rest is spared.
            if unseen.is_some() {
                break;
            }
            let time = || "no time was left to look at every association".to_owned();
            if time_is_up() {
                unseen = Some(time());
                break;
            }
            let listed = side_by_side(some, |cluster| self.list_associations(cluster, None)).await;
            let mut opaque = Vec::new();
            for listed in listed {
                match listed {
                    // It went since it was described, and took its associations along.
                    Err(error) if error.is(Meaning::NotFound) => {}
                    Err(error) => unseen = Some(error.to_string()),
                    Ok(listed) => opaque.extend(listed),
                }
            }
            opaque.retain(|association| {
                !known.contains(&(association.cluster.clone(), association.id.clone()))
            });
            // Where podgrant keeps its hands off it also keeps nothing as its marks say.
            let (ours, opaque): (Vec<_>, Vec<_>) = opaque.into_iter().partition(|association| {
                let cluster = snapshot.clusters.get(&association.cluster);
                cluster.is_some_and(|cluster| self.is_open(cluster))
                    && living.contains_key(&(association.cluster.clone(), association.id.clone()))
            });
            for mut association in ours {
                association.mark =
                    living.get(&(association.cluster.clone(), association.id.clone())).cloned();
                sort(association);
            }
            for some in opaque.chunks(DESCRIBED_AT_ONCE) {
                if time_is_up() {
                    unseen = Some(time());
                }
                if unseen.is_some() {
                    break;
                }
                let described = side_by_side(some, |association| {
                    self.describe_association(&association.cluster, &association.id)
                })
                .await;
                for described in described {
                    match described {
                        Ok(association) => association.into_iter().for_each(&mut sort),
                        Err(error) => unseen = Some(error.to_string()),
                    }
                }
            }
        }
        let ours = kept.iter().filter(|association| association.managed().is_some()).count();
        snapshot.managed_elsewhere = snapshot.managed_elsewhere.saturating_sub(ours);
        snapshot.associations.extend(kept);
        // A listing left them out; IAM is asked for each by its name.
        let asked = side_by_side(dangling, |(name, associations)| async move {
            let found = self.role(&name).await;
            (name, associations, found)
        })
        .await;
        for (name, associations, found) in asked {
            if matches!(found, Ok(None)) {
                // The index was behind, and one of ours is among them.
                if !missed_before.contains(&name) && associations.iter().any(|a| a.managed().is_some()) {
                    snapshot.roles_missed.insert(name.clone());
                }
                snapshot.roles_gone.insert(name);
                snapshot.associations.extend(associations);
            }
        }
        unseen
    }

    /// Reads in full the roles that would be deleted. All or none: what goes together is held to the limit on loss
    /// together, and not a few at a time as far as calls got through.
    async fn read_in_full(&self, time_is_up: impl Fn() -> bool, snapshot: &mut Snapshot) {
        let due = self.waiting_for(snapshot, |leave| matches!(leave, Leave::NotReadWhole));
        let due: Vec<RoleArn> = due.into_iter().collect();
        let mut read = Vec::new();
        let mut unread: Option<String> = None;
        for some in due.chunks(DESCRIBED_AT_ONCE) {
            if time_is_up() {
                unread = Some("no time was left to read what would be deleted".to_owned());
                break;
            }
            let found =
                side_by_side(some, |arn| async move { (arn, self.role_in_full(arn.role_name()).await) });
            for (arn, found) in found.await {
                match found {
                    Ok(found) => read.push((arn, found)),
                    // That stays so; the others are not held up by it.
                    Err(error) if error.is(Meaning::AccessDenied) => {
                        tracing::warn!(%error, "a role can't be read in full, and so not be deleted");
                    }
                    Err(error) => unread = Some(error.to_string()),
                }
            }
        }
        if unread.is_some() {
            snapshot.holders_whole = false;
            snapshot.holders_unseen = unread;
            return;
        }
        for (arn, found) in read {
            snapshot.roles.remove(arn);
            snapshot.inventories.remove(arn);
            if let Some((role, inventory)) = found {
                snapshot.inventories.insert(role.arn.clone(), inventory);
                snapshot.roles.insert(role.arn.clone(), role);
            }
        }
    }

    pub(super) async fn observe_cluster_gone(
        &self,
        cluster: &ClusterId,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        snapshot.scope.clusters = Some([cluster.clone()].into());
        if let Some(found) = self.cluster(cluster).await? {
            snapshot.clusters.insert(cluster.clone(), found);
            return Ok(());
        }
        snapshot.clusters_gone.insert(cluster.clone());
        self.take_roles(snapshot).await?;
        let names = |role: &Role| -> BTreeSet<ClusterName> {
            let (tags, _) = RoleTags::parse(&self.keys, &role.tags);
            let names = tags.grants.iter().filter_map(|grant| grant.subject.clusters.cluster_name());
            names.cloned().collect()
        };
        // The roles that named it, and whether they have a cluster left.
        snapshot.roles.retain(|_, role| names(role).contains(&cluster.name));
        let others = snapshot.roles.values().flat_map(names).collect();
        let found = self.clusters_named(&others).await;
        snapshot.take(found);
        Ok(())
    }
}
