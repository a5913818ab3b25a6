//! From AWS to a [`Snapshot`].
//!
//! Candidates for deletion are read first and the source of truth second: a
//! grant made in between is then in the truth, and its association not yet
//! among the candidates.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures_util::{StreamExt, stream};
use podgrant_core::accounts::{ServiceAccounts, UnseenAccounts};
use podgrant_core::agent::pods::Inside;
use podgrant_core::agent::{AgentSettings, is_worth_a_look, version_matters};
use podgrant_core::model::{Agent, Gap, Nodes, RoleNews, Workloads};
use podgrant_core::plan::{accounts_wanted, meant_accounts, plan_grants};
use podgrant_core::sweep::Round;
use podgrant_core::{
    Association, AssociationId, Change, Cluster, ClusterId, ClusterSelector, Region, Role, RoleArn, RoleTags,
    Snapshot, SweepPart, TagKeys, Workload,
};
use serde::{Deserialize, Serialize};

use crate::associations::{Index, Marks};
use crate::{Aws, AwsError, CONCURRENT_CALLS, CONCURRENT_LOOKS, Meaning};

mod associations;
mod orphans;
mod uninstall;

/// How many roles are read one by one before all are, a thousand a call.
const FEW_ROLES: usize = 8;

/// How many places on a cluster are looked at one by one before all are, a hundred a call.
const FEW_PLACES: usize = 10;

/// How many associations are described between two looks at the clock.
const DESCRIBED_AT_ONCE: usize = 10 * CONCURRENT_CALLS;

/// What a pass has to look at. An event is a hint where to look, never the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum View {
    /// A role, the clusters that it asks for, and the associations that it has.
    Role {
        name: String,
        /// What an event said of it: until IAM shows that, nothing else is looked at.
        news: RoleNews,
    },
    /// A role as if it carried these tags, and no others: for a plan that is shown, and not applied.
    RoleAsIf { name: String, tags: BTreeMap<String, String> },
    /// A deleted role's associations.
    RoleGone { name: String },
    /// One cluster's associations, and every role.
    ClusterGrants {
        cluster: ClusterId,
        /// One that somebody changed: the index may not know it yet.
        doubt: Option<AssociationId>,
        /// The one service account that is in question, where it is known which.
        workload: Option<Workload>,
        /// Service accounts that an earlier look missed: they are gone if this one misses them too.
        missed: BTreeSet<Workload>,
    },
    /// One cluster's part of a sweep: its associations, and what changes are to be made for.
    ClusterSweep { part: Box<SweepPart> },
    /// A deleted cluster, and the roles that named it.
    ClusterGone { cluster: ClusterId },
    /// Every role and, in short, every cluster: what a sweep is spread out from.
    FleetSweep,
    /// Every role and cluster, the associations of roles that are not there, and who has a role that is
    /// to be marked or deleted.
    FleetOrphans {
        /// Roles that an earlier look missed: they are gone if this one misses them too.
        missed_before: BTreeSet<String>,
        /// The share of the clusters whose associations are looked at, though nothing asks for it.
        round: Option<Round>,
    },
    /// One cluster's agent, and whether it is as these settings want it.
    ClusterAgent { cluster: ClusterId, settings: AgentSettings },
    /// Every cluster's agent.
    FleetAgents { settings: AgentSettings },
    /// Every association, or those of one cluster, and every role: to be listed, not planned with. A listing shows no
    /// roles: what the index does not know is described.
    Associations { cluster: Option<ClusterId> },
    /// Everything that podgrant made on one cluster, or on every cluster and on roles. No message holds it.
    #[serde(skip)]
    Uninstall { cluster: Option<ClusterId> },
}

impl Aws {
    /// Looks at AWS. What could not be read is a gap in the snapshot.
    ///
    /// `look_time_is_up` is asked before what may take long and can wait: looks into clusters, and associations that
    /// the index does not know. Time must be left to act on what was seen.
    ///
    /// # Errors
    /// Only where nothing useful can be said without the answer: the one role or
    /// cluster that the view is about.
    pub async fn observe(
        &self,
        view: &View,
        now: i64,
        look_time_is_up: impl Fn() -> bool,
    ) -> Result<Snapshot, AwsError> {
        let regions = self.regions.keys().cloned().collect();
        let mut snapshot = Snapshot { observed_at: now, regions, ..Snapshot::default() };
        match view {
            View::Role { name, news } => {
                self.observe_role(name, news, None, look_time_is_up, &mut snapshot).await?;
            }
            View::RoleAsIf { name, tags } => {
                let news = RoleNews::default();
                self.observe_role(name, &news, Some(tags), look_time_is_up, &mut snapshot).await?;
            }
            View::RoleGone { name } => self.observe_role_gone(name, &mut snapshot).await?,
            View::ClusterGrants { cluster, doubt, workload, missed } => {
                let missed = missed.iter().map(|workload| (cluster.clone(), workload.clone()));
                snapshot.accounts_missed = missed.collect();
                let (doubt, workload) = (doubt.as_ref(), workload.as_ref());
                self.observe_cluster_grants(cluster, doubt, workload, look_time_is_up, &mut snapshot).await?;
            }
            View::ClusterSweep { part } => {
                self.observe_sweep_part(part, look_time_is_up, &mut snapshot).await?;
            }
            View::ClusterGone { cluster } => {
                self.observe_cluster_gone(cluster, &mut snapshot).await?;
            }
            View::FleetSweep => self.observe_fleet_sweep(&mut snapshot).await?,
            View::FleetOrphans { missed_before, round } => {
                self.observe_fleet_orphans(missed_before, *round, look_time_is_up, &mut snapshot).await?;
            }
            View::ClusterAgent { cluster, settings } => {
                snapshot.scope.clusters = Some([cluster.clone()].into());
                match self.cluster(cluster).await? {
                    Some(found) => {
                        self.observe_agents(&[found], settings, &mut snapshot).await;
                        self.look_into_clusters(look_time_is_up, &mut snapshot).await;
                    }
                    None => drop(snapshot.clusters_gone.insert(cluster.clone())),
                }
            }
            View::Associations { cluster } => {
                self.observe_associations(cluster.as_ref(), &mut snapshot).await;
            }
            View::Uninstall { cluster } => {
                self.observe_uninstall(cluster.as_ref(), &mut snapshot).await?;
            }
            View::FleetAgents { settings } => {
                let found = self.fleet().await;
                let clusters = snapshot.take(found);
                self.observe_agents(&clusters, settings, &mut snapshot).await;
                self.look_into_clusters(look_time_is_up, &mut snapshot).await;
            }
        }
        Ok(snapshot)
    }

    async fn observe_role(
        &self,
        name: &str,
        news: &RoleNews,
        as_if: Option<&BTreeMap<String, String>>,
        time_is_up: impl Fn() -> bool,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        let index = self.index_everywhere(Marks::OfRole(name), snapshot).await;
        let mut role = self.role(name).await?;
        if let (Some(role), Some(tags)) = (role.as_mut(), as_if) {
            role.tags.clone_from(tags);
        }
        // A role made again with another path is another ARN, but the same name.
        let arns = index.values().map(|mark| mark.role_arn.clone());
        snapshot.scope.roles = Some(arns.chain(role.iter().map(|role| role.arn.clone())).collect());
        let Some(role) = role else {
            snapshot.roles_gone.insert(name.to_owned());
            return Ok(());
        };
        // Whoever changes a role that has nothing to do with podgrant is not waited for.
        let is_ours = role.tags.keys().chain(news.tags_set.keys()).any(|key| self.keys.owns(key));
        if is_ours && news.missing_from(&role).is_some() {
            snapshot.roles.insert(role.arn.clone(), role);
            snapshot.roles_stale.insert(name.to_owned(), news.clone());
            return Ok(());
        }
        let (tags, _) = RoleTags::parse(&self.keys, &role.tags);
        let arn = role.arn.clone();
        snapshot.roles.insert(arn.clone(), role);

        let marked: Vec<ClusterSelector> = index
            .keys()
            .map(|(cluster, _)| ClusterSelector::RegionAndName(cluster.region.clone(), cluster.name.clone()))
            .collect();
        let asked = tags.grants.iter().map(|grant| &grant.subject.clusters);
        let selectors: BTreeSet<&ClusterSelector> = asked.chain(&marked).collect();
        let found = self.clusters_selected(&selectors.into_iter().collect::<Vec<_>>()).await;
        let clusters = snapshot.take(found);

        // What it has is looked at itself: someone may have changed it, and the index may be behind.
        self.know(Vec::new(), &index, true, snapshot, |_| false, |_| false, || false).await;
        self.look_for_accounts(&time_is_up, snapshot).await;
        let mut places: BTreeSet<(ClusterId, Workload)> = BTreeSet::new();
        for cluster in clusters.iter().filter(|cluster| self.is_open(cluster)) {
            for grant in tags.grants.iter().filter(|grant| grant.subject.clusters.matches(cluster)) {
                let meant = meant_accounts(snapshot, &self.guardrails, &tags, grant, cluster);
                places.extend(meant.into_iter().map(|workload| (cluster.id.clone(), workload)));
            }
        }
        for association in &snapshot.associations {
            places.remove(&(association.cluster.clone(), association.workload.clone()));
        }
        // What it has it keeps as it is: what it may do matters before it gets something new, or something else.
        let undecided = || !plan_grants(snapshot, &self.keys, &self.guardrails).waits.is_empty();
        if self.guardrails.refuse_administrators && (!places.is_empty() || undecided()) {
            let powers = self.powers(name).await?;
            snapshot.roles.entry(arn).and_modify(|role| role.powers = powers);
        }
        let mut by_cluster: BTreeMap<ClusterId, BTreeSet<Workload>> = BTreeMap::new();
        for (cluster, workload) in places {
            by_cluster.entry(cluster).or_default().insert(workload);
        }
        let (few, many): (Vec<_>, Vec<_>) =
            by_cluster.into_iter().partition(|(_, workloads)| workloads.len() <= FEW_PLACES);
        let one_by_one = few.into_iter().flat_map(|(cluster, workloads)| {
            workloads.into_iter().map(move |workload| (cluster.clone(), Some(workload), BTreeSet::new()))
        });
        let at_once = many.into_iter().map(|(cluster, workloads)| (cluster, None, workloads));
        let listed = side_by_side(one_by_one.chain(at_once), |(cluster, one, many)| async move {
            let mut listed = self.list_associations(&cluster, one.as_ref()).await;
            if let (None, Ok(listed)) = (&one, &mut listed) {
                listed.retain(|association| many.contains(&association.workload));
            }
            (cluster, listed)
        })
        .await;
        let listed = snapshot.take_listed(listed);
        // And what stands where a grant should: nobody else knows its role.
        self.know(listed, &Index::new(), false, snapshot, |_| true, |_| true, || false).await;
        Ok(())
    }

    async fn observe_cluster_grants(
        &self,
        cluster: &ClusterId,
        doubt: Option<&AssociationId>,
        workload: Option<&Workload>,
        time_is_up: impl Fn() -> bool,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        snapshot.scope.clusters = Some([cluster.clone()].into());
        let found = self.clusters_named(&[cluster.name.clone()].into()).await;
        let seen = snapshot.take(found);
        if !seen.iter().any(|seen| seen.id == *cluster && seen.status.is_ready()) {
            return Ok(());
        }
        // One is described sooner than an index is asked for it.
        let index = match workload {
            Some(_) => None,
            None => self.index_or_none(Marks::OfCluster(cluster), &cluster.region).await,
        };
        let listed = self.list_associations(cluster, workload).await;
        let listed = snapshot.take_listed([(cluster.clone(), listed)]);
        self.take_roles(snapshot).await?;
        if let Some(workload) = workload {
            snapshot.scope.workloads = Workloads::Just(workload.clone());
        }
        self.look_for_accounts(&time_is_up, snapshot).await;
        // What is not in the index and nobody wants is not ours, changed or not.
        let ours = doubt.filter(|id| {
            index.as_ref().is_some_and(|index| index.contains_key(&(cluster.clone(), (*id).clone())))
        });
        self.know_wanted(listed, index, |association| ours == Some(&association.id), snapshot, || false)
            .await;
        Ok(())
    }

    /// Reads what a part of a sweep is compared with. Where all is as it should be nothing else is read; what has to
    /// be changed is confirmed: by the cluster itself, and by the roles as they are now.
    async fn observe_sweep_part(
        &self,
        part: &SweepPart,
        time_is_up: impl Fn() -> bool,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        let cluster = &part.cluster;
        snapshot.scope.clusters = Some([cluster.clone()].into());
        snapshot.scope.workloads = Workloads::Stretch(part.stretch.clone());
        snapshot.clusters = part.clusters().into_iter().map(|seen| (seen.id.clone(), seen)).collect();
        snapshot.roles = part.roles.iter().map(|role| (role.arn.clone(), Role::clone(role))).collect();
        let index = self.index_or_none(Marks::OfCluster(cluster), &cluster.region).await;
        let listed = self.list_associations(cluster, None).await;
        let mut listed = snapshot.take_listed([(cluster.clone(), listed)]);
        let round = part.round.map(|round| round.of_cluster(listed.len()));
        listed.retain(|association| part.stretch.holds(&association.workload));
        let turn = |association: &Association| round.is_some_and(|round| round.holds(&association.id));
        self.look_for_accounts(&time_is_up, snapshot).await;
        self.know_wanted(listed, index, turn, snapshot, &time_is_up).await;

        // Who loses a place to a role as it is now leaves it to others, who have to be asked too.
        let mut confirmed: BTreeSet<RoleArn> = BTreeSet::new();
        loop {
            // A role as it is now may have a pattern that it had not.
            self.look_for_accounts(&time_is_up, snapshot).await;
            let planned = plan_grants(snapshot, &self.keys, &self.guardrails);
            let marks = snapshot.associations.iter().filter_map(Association::managed);
            let unclaimed = marks.map(|mark| &mark.role_arn).filter(|arn| !snapshot.roles.contains_key(*arn));
            let changing = planned.changes.iter().filter_map(Change::role);
            let in_question: BTreeSet<RoleArn> =
                changing.chain(unclaimed).filter(|arn| !confirmed.contains(*arn)).cloned().collect();
            if in_question.is_empty() {
                return Ok(());
            }
            if confirmed.is_empty() {
                let found = self.clusters_named(&[cluster.name.clone()].into()).await;
                snapshot.clusters.clear();
                snapshot.take(found);
            }
            if in_question.len() > FEW_ROLES {
                return self.take_roles(snapshot).await;
            }
            let names = in_question.iter().map(RoleArn::role_name);
            let looked_up =
                side_by_side(names, |name| async move { (name, self.whole_role(name).await) }).await;
            for (name, role) in looked_up {
                snapshot.roles.retain(|arn, _| arn.role_name() != name);
                match role {
                    Ok(role) => snapshot.roles.extend(role.map(|role| (role.arn.clone(), role))),
                    // What it asks for is nobody's guess; the others' grants go on.
                    Err(error) => snapshot.gap(None, &error),
                }
            }
            confirmed.extend(in_question);
        }
    }

    async fn observe_fleet_sweep(&self, snapshot: &mut Snapshot) -> Result<(), AwsError> {
        self.take_roles(snapshot).await?;
        let mut grants =
            snapshot.roles.values().flat_map(|role| RoleTags::parse(&self.keys, &role.tags).0.grants);
        let by_tags = grants.any(|grant| matches!(grant.subject.clusters, ClusterSelector::Tags(_)));
        let found = self.fleet_in_short(by_tags).await;
        snapshot.take(found);
        // Trust policies may speak of a cluster's ARN.
        if let Some(role) = snapshot.roles.keys().next() {
            for cluster in snapshot.clusters.values_mut().filter(|cluster| cluster.arn.is_empty()) {
                cluster.arn = cluster.id.arn_beside(role);
            }
        }
        Ok(())
    }

    async fn observe_agents(&self, clusters: &[Cluster], settings: &AgentSettings, snapshot: &mut Snapshot) {
        let wanted = clusters.iter().filter(|cluster| {
            self.is_open(cluster)
                && !cluster.kind.connected
                && cluster.tag(&self.keys, "agent") != Some("off")
        });
        let seen = side_by_side(wanted, |cluster| async move {
            let mut seen = Snapshot::default();
            let result = self.observe_agent(cluster, &mut seen).await;
            (cluster.id.clone(), result.map(|()| seen))
        })
        .await;
        snapshot.clusters.extend(clusters.iter().map(|c| (c.id.clone(), c.clone())));
        for (id, result) in seen {
            match result {
                Ok(seen) => {
                    snapshot.agents.extend(seen.agents);
                    snapshot.nodes.extend(seen.nodes);
                    snapshot.associations.extend(seen.associations);
                }
                Err(error) => snapshot.gap(Some(id), &error),
            }
        }
        self.observe_offers(snapshot).await;
        let bare = snapshot.agent_versions.iter().filter(|(id, _)| !snapshot.agents.contains_key(id));
        let bare = bare.filter_map(|(id, versions)| Some((snapshot.clusters.get(id)?, versions)));
        let misfits = side_by_side(bare, |(cluster, versions)| async move {
            (cluster.id.clone(), self.agent_misfits(cluster, settings, versions).await)
        })
        .await;
        snapshot.agent_misfits.extend(misfits);
    }

    /// The agent of one cluster, and what is needed to decide about it.
    async fn observe_agent(&self, cluster: &Cluster, seen: &mut Snapshot) -> Result<(), AwsError> {
        let id = || cluster.id.clone();
        let agent = self.agent(&cluster.id).await?;
        let remove = cluster.tag(&self.keys, "agent") == Some("remove");
        if agent.is_some() && remove {
            seen.associations = self.list_associations(&cluster.id, None).await?;
        } else if agent.is_none() && !remove {
            seen.nodes.insert(id(), self.nodes(&cluster.id).await?);
        }
        seen.agents.extend(agent.map(|agent| (id(), agent)));
        Ok(())
    }

    /// The agent versions on offer, where they decide something: asked once for all clusters of a region that run
    /// the same Kubernetes.
    async fn observe_offers(&self, snapshot: &mut Snapshot) {
        let mut asking: BTreeMap<(Region, String), Vec<ClusterId>> = BTreeMap::new();
        for cluster in self.clusters_where(version_matters, snapshot) {
            let same = (cluster.id.region.clone(), cluster.version.clone());
            asking.entry(same).or_default().push(cluster.id.clone());
        }
        let offers = side_by_side(asking, |((region, kubernetes), clusters)| async move {
            (clusters, self.agent_versions(&region, &kubernetes).await)
        })
        .await;
        for (clusters, offered) in offers {
            for cluster in clusters {
                match &offered {
                    Ok(offered) => drop(snapshot.agent_versions.insert(cluster, offered.clone())),
                    Err(error) => snapshot.gap(Some(cluster), error),
                }
            }
        }
    }

    /// Asks the clusters themselves about their agents, where that would change anything. All of EKS's answers
    /// are in by then: a cluster that is slow to answer, or does not, delays none of them.
    async fn look_into_clusters(&self, time_is_up: impl Fn() -> bool, snapshot: &mut Snapshot) {
        let worth_it = self.clusters_where(is_worth_a_look, snapshot);
        let (now, time_is_up) = (snapshot.observed_at, &time_is_up);
        let looks: Vec<_> = stream::iter(worth_it)
            .map(|cluster| async move {
                let inside = if time_is_up() {
                    let why = "no time was left for a look; the next pass looks again".to_owned();
                    Some(Inside::Unseen { why })
                } else {
                    self.look_inside(cluster, now).await
                };
                inside.map(|inside| (cluster.id.clone(), inside))
            })
            .buffer_unordered(CONCURRENT_LOOKS)
            .collect()
            .await;
        snapshot.inside.extend(looks.into_iter().flatten());
    }

    /// The clusters whose agents were read, and of which this is so.
    fn clusters_where<'s>(
        &self,
        so: fn(&Cluster, Option<&Agent>, Nodes, &TagKeys) -> bool,
        snapshot: &'s Snapshot,
    ) -> impl Iterator<Item = &'s Cluster> {
        snapshot.clusters.values().filter(move |cluster| {
            let nodes = snapshot.nodes.get(&cluster.id).copied().unwrap_or_default();
            snapshot.scope.holds_cluster(&cluster.id)
                && snapshot.is_readable(&cluster.id)
                && self.is_open(cluster)
                && !cluster.kind.connected
                && so(cluster, snapshot.agents.get(&cluster.id), nodes, &self.keys)
        })
    }

    /// Asks clusters for the service accounts that patterns of the roles in view may mean, those that were not asked
    /// before. A cluster that no pattern means is never asked.
    async fn look_for_accounts(&self, time_is_up: &impl Fn() -> bool, snapshot: &mut Snapshot) {
        let wanted = accounts_wanted(snapshot, &self.keys, &self.guardrails);
        let now = snapshot.observed_at;
        let (clusters, wanted) = (&snapshot.clusters, wanted.into_iter());
        let looks: Vec<_> = stream::iter(wanted)
            .map(|(id, namespaces)| async move {
                let known = clusters.get(&id).filter(|cluster| cluster.api.is_some()).cloned();
                let described = match known {
                    Some(cluster) => Ok(Some(cluster)),
                    // Known in short alone: EKS tells where its API is.
                    None => self.cluster(&id).await,
                };
                let accounts = match &described {
                    Ok(Some(_)) if time_is_up() => Some(ServiceAccounts::Unseen(UnseenAccounts::NoTime)),
                    Ok(Some(cluster)) => Some(self.service_accounts(cluster, &namespaces, now).await),
                    Ok(None) | Err(_) => None,
                };
                (id, described, accounts)
            })
            .buffer_unordered(CONCURRENT_LOOKS)
            .collect()
            .await;
        for (id, described, accounts) in looks {
            match described {
                Ok(Some(cluster)) => drop(snapshot.clusters.insert(id.clone(), cluster)),
                // It went, and took its associations along.
                Ok(None) => drop(snapshot.clusters.remove(&id)),
                Err(error) => snapshot.gap(Some(id.clone()), &error),
            }
            snapshot.service_accounts.extend(accounts.map(|accounts| (id, accounts)));
        }
    }

    /// Whether anything can be done on a cluster now. Of others nothing is asked:
    /// the answer would change nothing, and its lack would be a gap.
    fn is_open(&self, cluster: &Cluster) -> bool {
        cluster.status.is_ready() && cluster.is_enrolled(&self.keys)
    }

    /// Our marks in a region; `None` where they can't be had, which is said.
    pub(crate) async fn index_or_none(&self, which: Marks<'_>, region: &Region) -> Option<Index> {
        let index = self.index(region, which).await;
        let said = |error: &AwsError| {
            tracing::warn!(%error, "the tag index can't be had: describing associations instead");
        };
        index.inspect_err(said).ok()
    }

    /// Our marks in every region. A region that does not answer is a gap.
    async fn index_everywhere(&self, which: Marks<'_>, snapshot: &mut Snapshot) -> Index {
        let parts = side_by_side(self.regions.keys(), |region| self.index(region, which)).await;
        let mut index = Index::new();
        for part in parts {
            match part {
                Ok(part) => index.extend(part),
                Err(error) => snapshot.gap(None, &error),
            }
        }
        index
    }

    async fn take_roles(&self, snapshot: &mut Snapshot) -> Result<(), AwsError> {
        snapshot.roles = self.all_roles().await?.roles;
        Ok(())
    }

    /// Marks what was listed; describes what is `in_doubt`, and what somebody's grant wants and the index does not
    /// know. Without an index, describes everything. Where time is up the scope ends with what was described.
    pub(crate) async fn know_wanted(
        &self,
        listed: Vec<Association>,
        index: Option<Index>,
        in_doubt: impl Fn(&Association) -> bool,
        snapshot: &mut Snapshot,
        time_is_up: impl Fn() -> bool,
    ) {
        let mut wanted: BTreeSet<Workload> = BTreeSet::new();
        for role in snapshot.roles.values() {
            let (tags, _) = RoleTags::parse(&self.keys, &role.tags);
            wanted.extend(tags.grants.iter().filter_map(|grant| grant.subject.workload()));
            for grant in tags.grants.iter().filter(|grant| grant.subject.is_pattern()) {
                let meant = snapshot.clusters.values().filter(|c| grant.subject.clusters.matches(c));
                wanted
                    .extend(meant.flat_map(|c| meant_accounts(snapshot, &self.guardrails, &tags, grant, c)));
            }
        }
        let without_index = index.is_none();
        let describe = |workload: &Workload| without_index || wanted.contains(workload);
        let index = index.unwrap_or_default();
        self.know(listed, &index, false, snapshot, describe, in_doubt, time_is_up).await;
    }

    /// Adds to the snapshot what was listed, with marks from the index; describes
    /// what is `in_doubt`, and what the index does not know and `describe` asks for. With `unlisted`, what
    /// only the index knows is described too.
    #[expect(clippy::too_many_arguments, reason = "three questions about what to describe, each its own")]
    pub(crate) async fn know(
        &self,
        mut listed: Vec<Association>,
        index: &Index,
        unlisted: bool,
        snapshot: &mut Snapshot,
        describe: impl Fn(&Workload) -> bool,
        in_doubt: impl Fn(&Association) -> bool,
        time_is_up: impl Fn() -> bool,
    ) {
        listed.sort_by(|a, b| a.workload.cmp(&b.workload));
        let mut unknown: Vec<(ClusterId, AssociationId, Option<Workload>)> = Vec::new();
        if unlisted {
            let open = |id: &ClusterId| snapshot.clusters.get(id).is_some_and(|c| self.is_open(c));
            let marked = index.keys().filter(|(cluster, _)| open(cluster));
            unknown.extend(marked.map(|(cluster, id)| (cluster.clone(), id.clone(), None)));
        }
        for mut association in listed {
            let key = (association.cluster.clone(), association.id.clone());
            let mark = index.get(&key);
            let doubtful = match mark {
                Some(_) => in_doubt(&association),
                None => describe(&association.workload),
            };
            if doubtful {
                unknown.push((key.0, key.1, Some(association.workload)));
            } else {
                association.mark = mark.cloned();
                snapshot.associations.push(association);
            }
        }
        let mut left = unknown.into_iter();
        loop {
            let some: Vec<_> = left.by_ref().take(DESCRIBED_AT_ONCE).collect();
            let Some((_, _, first)) = some.first() else { return };
            if let Some(first) = first
                && time_is_up()
            {
                snapshot.associations.retain(|association| association.workload < *first);
                if let Workloads::Stretch(stretch) = &mut snapshot.scope.workloads {
                    stretch.to = Some(first.clone());
                }
                return;
            }
            let described = side_by_side(some, |(cluster, id, _)| async move {
                let described = self.describe_association(&cluster, &id).await;
                (cluster, described)
            })
            .await;
            for (cluster, result) in described {
                match result {
                    Ok(association) => snapshot.associations.extend(association),
                    Err(error) => snapshot.gap(Some(cluster), &error),
                }
            }
        }
    }
}

/// Runs calls side by side, as many as AWS's limits bear.
pub(crate) async fn side_by_side<T, F: Future>(
    items: impl IntoIterator<Item = T>,
    call: impl FnMut(T) -> F,
) -> Vec<F::Output> {
    stream::iter(items).map(call).buffer_unordered(CONCURRENT_CALLS).collect().await
}

/// What a snapshot takes in, and how it notes what it could not have.
trait TakeIn {
    fn gap(&mut self, cluster: Option<ClusterId>, error: &AwsError);
    fn take(&mut self, found: crate::clusters::Clusters) -> Vec<Cluster>;
    fn take_listed(
        &mut self,
        listed: impl IntoIterator<Item = (ClusterId, Result<Vec<Association>, AwsError>)>,
    ) -> Vec<Association>;
}

impl TakeIn for Snapshot {
    fn gap(&mut self, cluster: Option<ClusterId>, error: &AwsError) {
        self.gaps.push(Gap { cluster, why: error.to_string(), throttled: error.is(Meaning::Throttled) });
    }

    fn take(&mut self, (clusters, errors): crate::clusters::Clusters) -> Vec<Cluster> {
        for (cluster, error) in errors {
            self.gap(cluster, &error);
        }
        self.clusters.extend(clusters.iter().map(|c| (c.id.clone(), c.clone())));
        clusters
    }

    fn take_listed(
        &mut self,
        listed: impl IntoIterator<Item = (ClusterId, Result<Vec<Association>, AwsError>)>,
    ) -> Vec<Association> {
        let mut associations = Vec::new();
        for (cluster, result) in listed {
            match result {
                Ok(listed) => associations.extend(listed),
                // It went since it was described, and took its associations along.
                Err(error) if error.is(Meaning::NotFound) => drop(self.clusters.remove(&cluster)),
                Err(error) => self.gap(Some(cluster), &error),
            }
        }
        associations
    }
}
