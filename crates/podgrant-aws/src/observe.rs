//! From AWS to a [`Snapshot`].
//!
//! Candidates for deletion are read first and the source of truth second: a
//! grant made in between is then in the truth, and its association not yet
//! among the candidates.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use futures_util::{StreamExt, stream};
use podgrant_core::agent::pods::Inside;
use podgrant_core::agent::{AgentSettings, is_worth_a_look, version_matters};
use podgrant_core::model::{Agent, Gap, Nodes};
use podgrant_core::{
    Association, AssociationId, Cluster, ClusterId, ClusterName, Region, Role, RoleTags, Snapshot, TagKeys,
    Workload,
};
use serde::{Deserialize, Serialize};

use crate::associations::Index;
use crate::{Aws, AwsError, CONCURRENT_CALLS, CONCURRENT_LOOKS, Meaning};

/// What a pass has to look at. An event is a hint where to look, never the truth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum View {
    /// A role, the clusters that it asks for, and the associations that it has.
    Role { name: String },
    /// A deleted role's associations.
    RoleGone { name: String },
    /// One cluster's associations, and every role.
    ClusterGrants {
        cluster: ClusterId,
        /// One that somebody changed: the index may not know it yet.
        doubt: Option<AssociationId>,
    },
    /// A deleted cluster, and the roles that named it.
    ClusterGone { cluster: ClusterId },
    /// Every role, cluster and association.
    Fleet,
    /// One cluster's agent, and whether it is as these settings want it.
    ClusterAgent { cluster: ClusterId, settings: AgentSettings },
    /// Every cluster's agent.
    FleetAgents { settings: AgentSettings },
}

impl Aws {
    /// Looks at AWS. What could not be read is a gap in the snapshot.
    ///
    /// `look_time_is_up` is asked before each look into a cluster: what EKS itself says is worth more than
    /// looks that leave no time to act on it.
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
            View::Role { name } => self.observe_role(name, &mut snapshot).await?,
            View::RoleGone { name } => self.observe_role_gone(name, &mut snapshot).await?,
            View::ClusterGrants { cluster, doubt } => {
                self.observe_cluster_grants(cluster, doubt.as_ref(), &mut snapshot).await?;
            }
            View::ClusterGone { cluster } => {
                self.observe_cluster_gone(cluster, &mut snapshot).await?;
            }
            View::Fleet => self.observe_fleet(&mut snapshot).await?,
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
            View::FleetAgents { settings } => {
                let found = self.fleet().await;
                let clusters = snapshot.take(found);
                self.observe_agents(&clusters, settings, &mut snapshot).await;
                self.look_into_clusters(look_time_is_up, &mut snapshot).await;
            }
        }
        Ok(snapshot)
    }

    async fn observe_role(&self, name: &str, snapshot: &mut Snapshot) -> Result<(), AwsError> {
        let index = self.index_everywhere(Some(name), snapshot).await;
        let role = self.role(name).await?;
        let (tags, _) = role.as_ref().map(|role| RoleTags::parse(&self.keys, &role.tags)).unwrap_or_default();

        let mut names: BTreeSet<ClusterName> = BTreeSet::new();
        let mut whole_fleet = false;
        for grant in &tags.grants {
            match grant.subject.clusters.cluster_name() {
                Some(name) => drop(names.insert(name.clone())),
                None => whole_fleet = true,
            }
        }
        names.extend(index.keys().map(|(cluster, _)| cluster.name.clone()));
        let found = if whole_fleet { self.fleet().await } else { self.clusters_named(&names).await };
        let clusters = snapshot.take(found);

        let mut places: BTreeSet<(ClusterId, Workload)> = BTreeSet::new();
        for cluster in clusters.iter().filter(|cluster| self.is_open(cluster)) {
            for grant in tags.grants.iter().filter(|grant| grant.subject.clusters.matches(cluster)) {
                places.extend(grant.subject.workload().map(|w| (cluster.id.clone(), w)));
            }
        }
        let listed = side_by_side(places, |(cluster, workload)| async move {
            let listed = self.list_associations(&cluster, Some(&workload)).await;
            (cluster, listed)
        })
        .await;
        let listed = snapshot.take_listed(listed);
        // What stands where a grant should is looked at itself: someone may have changed its role.
        self.know(listed, &index, true, snapshot, |_| true, |_| true).await;
        match role {
            Some(role) => {
                // A role made again with another path is another ARN, but the same name.
                let arns = index.values().map(|mark| mark.role_arn.clone());
                snapshot.scope.roles = Some(arns.chain([role.arn.clone()]).collect());
                snapshot.roles.insert(role.arn.clone(), role);
            }
            None => {
                snapshot.roles_gone.insert(name.to_owned());
                snapshot.scope.roles = Some(index.values().map(|mark| mark.role_arn.clone()).collect());
            }
        }
        Ok(())
    }

    async fn observe_role_gone(&self, name: &str, snapshot: &mut Snapshot) -> Result<(), AwsError> {
        let index = self.index_everywhere(Some(name), snapshot).await;
        let names = index.keys().map(|(cluster, _)| cluster.name.clone()).collect();
        let found = self.clusters_named(&names).await;
        snapshot.take(found);
        self.know(Vec::new(), &index, true, snapshot, |_| false, |_| false).await;
        let role = self.role(name).await?;
        snapshot.scope.roles = Some(index.values().map(|mark| mark.role_arn.clone()).collect());
        snapshot.roles = role.into_iter().map(|role| (role.arn.clone(), role)).collect();
        Ok(())
    }

    async fn observe_cluster_grants(
        &self,
        cluster: &ClusterId,
        doubt: Option<&AssociationId>,
        snapshot: &mut Snapshot,
    ) -> Result<(), AwsError> {
        snapshot.scope.clusters = Some([cluster.clone()].into());
        let found = self.clusters_named(&[cluster.name.clone()].into()).await;
        let seen = snapshot.take(found);
        if !seen.iter().any(|seen| seen.id == *cluster && seen.status.is_ready()) {
            return Ok(());
        }
        let index = match self.index(&cluster.region, None).await {
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(%error, "the tag index can't be had: describing associations instead");
                None
            }
        };
        let listed = snapshot.take_listed([(cluster.clone(), self.list_associations(cluster, None).await)]);
        self.take_roles(snapshot).await?;
        // What is not in the index and nobody wants is not ours, changed or not.
        let ours = doubt.filter(|id| {
            index.as_ref().is_some_and(|index| index.contains_key(&(cluster.clone(), (*id).clone())))
        });
        self.know_wanted(listed, index, ours, snapshot).await;
        Ok(())
    }

    async fn observe_fleet(&self, snapshot: &mut Snapshot) -> Result<(), AwsError> {
        let parts = side_by_side(self.regions.keys(), |region| self.index(region, None)).await;
        let index = match parts.into_iter().collect::<Result<Vec<Index>, _>>() {
            Ok(parts) => Some(parts.into_iter().flatten().collect()),
            Err(error) => {
                tracing::warn!(%error, "the tag index can't be had: describing associations instead");
                None
            }
        };
        let found = self.fleet().await;
        let clusters = snapshot.take(found);
        let ready = clusters.into_iter().filter(|cluster| self.is_open(cluster));
        let listed = side_by_side(ready, |cluster| async move {
            let listed = self.list_associations(&cluster.id, None).await;
            (cluster.id, listed)
        })
        .await;
        let listed = snapshot.take_listed(listed);
        self.take_roles(snapshot).await?;
        self.know_wanted(listed, index, None, snapshot).await;
        Ok(())
    }

    async fn observe_cluster_gone(
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

    /// Whether anything can be done on a cluster now. Of others nothing is asked:
    /// the answer would change nothing, and its lack would be a gap.
    fn is_open(&self, cluster: &Cluster) -> bool {
        cluster.status.is_ready() && cluster.is_enrolled(&self.keys)
    }

    /// Our marks in every region. A region that does not answer is a gap.
    async fn index_everywhere(&self, role_name: Option<&str>, snapshot: &mut Snapshot) -> Index {
        let parts = side_by_side(self.regions.keys(), |region| self.index(region, role_name)).await;
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
        let roles = self.all_roles().await?;
        snapshot.roles = roles.into_iter().map(|role| (role.arn.clone(), role)).collect();
        Ok(())
    }

    /// Marks what was listed; describes what somebody's grant wants and the
    /// index does not know. Without an index, describes everything.
    async fn know_wanted(
        &self,
        listed: Vec<Association>,
        index: Option<Index>,
        doubt: Option<&AssociationId>,
        snapshot: &mut Snapshot,
    ) {
        let wanted: BTreeSet<Workload> = snapshot
            .roles
            .values()
            .flat_map(|role| RoleTags::parse(&self.keys, &role.tags).0.grants)
            .filter_map(|grant| grant.subject.workload())
            .collect();
        let without_index = index.is_none();
        let describe = |workload: &Workload| without_index || wanted.contains(workload);
        let in_doubt = |association: &Association| doubt == Some(&association.id);
        self.know(listed, &index.unwrap_or_default(), false, snapshot, describe, in_doubt).await;
    }

    /// Adds to the snapshot what was listed, with marks from the index; describes
    /// what is `in_doubt`, and what the index does not know and `describe` asks for. With `unlisted`, what
    /// only the index knows is described too.
    async fn know(
        &self,
        listed: Vec<Association>,
        index: &Index,
        unlisted: bool,
        snapshot: &mut Snapshot,
        describe: impl Fn(&Workload) -> bool,
        in_doubt: impl Fn(&Association) -> bool,
    ) {
        let mut unknown: BTreeSet<_> = index
            .keys()
            .filter(|(id, _)| unlisted && snapshot.clusters.get(id).is_some_and(|c| self.is_open(c)))
            .cloned()
            .collect();
        for mut association in listed {
            let key = (association.cluster.clone(), association.id.clone());
            unknown.remove(&key);
            match index.get(&key) {
                Some(_) if in_doubt(&association) => {
                    unknown.insert(key);
                    continue;
                }
                Some(mark) => association.mark = Some(mark.clone()),
                None if describe(&association.workload) => {
                    unknown.insert(key);
                    continue;
                }
                None => {}
            }
            snapshot.associations.push(association);
        }
        let described = side_by_side(unknown, |(cluster, id)| async move {
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

/// Runs calls side by side, as many as AWS's limits bear.
async fn side_by_side<T, F: Future>(
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
        self.gaps.push(Gap { cluster, why: error.to_string() });
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
