//! Evidence for a chain: what of AWS and of a cluster bears on a service account's credentials.
//!
//! Read with the rights of whoever asks, and nothing is written. What is denied or does not answer is noted in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join};
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::explain::evidence::{
    ClusterInside, Evidence, NODE_ACTION, NODE_POLICIES, NodeKind, NodeRole, Part, Question, Read, Times,
    WorkloadInside,
};
use podgrant_core::explain::{
    Chain, Diagnosis, NamedCluster, Target, diagnose, explain, explain_fleet, explain_role,
    explain_unseen_pod,
};
use podgrant_core::model::Gap;
use podgrant_core::powers::{aws_managed, may_allow};
use podgrant_core::{
    Association, Cluster, ClusterId, ClusterSelector, Powers, Role, RoleTags, Snapshot, Workload,
};
use serde::Serialize;

use crate::observe::side_by_side;
use crate::{Aws, AwsError, Meaning};

mod fleet;

type LookAt = dyn Fn(KubernetesAccess, Question) -> BoxFuture<'static, WorkloadInside> + Send + Sync;
type LookInto = dyn Fn(KubernetesAccess, BTreeSet<String>) -> BoxFuture<'static, ClusterInside> + Send + Sync;

/// Asks clusters' Kubernetes APIs about pods. Whoever explains is given it by its main; functions do without.
#[derive(Clone)]
pub struct Onlooker {
    at: Arc<LookAt>,
    into: Arc<LookInto>,
}

impl Onlooker {
    /// `at` looks at a service account or a pod; `into` at a cluster's agent and the pods of these service accounts
    /// (`namespace/name`).
    pub fn new(
        at: impl Fn(KubernetesAccess, Question) -> BoxFuture<'static, WorkloadInside> + Send + Sync + 'static,
        into: impl Fn(KubernetesAccess, BTreeSet<String>) -> BoxFuture<'static, ClusterInside>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { at: Arc::new(at), into: Arc::new(into) }
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onlooker").finish_non_exhaustive()
    }
}

/// What was explained: a chain for each place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    pub target: Target,
    pub chains: Vec<Chain>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, chain) in self.chains.iter().enumerate() {
            let gap = if number == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{chain}")?;
        }
        Ok(())
    }
}

/// What was read for one chain.
enum Gathered {
    Evidence(Box<Evidence>),
    /// No place to gather evidence of: this is all there is to say.
    Said(Chain),
}

/// A cluster's part of the evidence, the same for all its places.
#[derive(Clone, Default)]
struct Ground {
    snapshot: Snapshot,
    unread: BTreeMap<Part, String>,
}

impl Aws {
    /// Explains every link from a role's tag to pods' credentials: for each place that a role asks for, for one service
    /// account, or for one pod; for a cluster or the fleet, what is common to all their places.
    ///
    /// `onlooker` asks the clusters themselves, with the credentials that this was made with; without one what is inside is
    /// left out. `now` is in seconds since 1970.
    pub async fn explain(&self, target: &Target, onlooker: Option<&Onlooker>, now: i64) -> Explanation {
        let gathered = self.gather(target, onlooker, now).await;
        let chains = gathered.into_iter().map(|gathered| match gathered {
            Gathered::Evidence(evidence) => explain(&evidence, &self.keys, &self.guardrails),
            Gathered::Said(chain) => chain,
        });
        Explanation { target: target.clone(), chains: chains.collect() }
    }

    /// Names what keeps pods from their credentials, the likeliest cause first: one diagnosis for each place, or for
    /// each cluster.
    pub async fn diagnose(&self, target: &Target, onlooker: Option<&Onlooker>, now: i64) -> Vec<Diagnosis> {
        let gathered = self.gather(target, onlooker, now).await;
        let diagnoses = gathered.into_iter().map(|gathered| match gathered {
            Gathered::Evidence(evidence) => {
                diagnose(&evidence, &explain(&evidence, &self.keys, &self.guardrails))
            }
            Gathered::Said(chain) => Diagnosis::from(&chain),
        });
        diagnoses.collect()
    }

    async fn gather(&self, target: &Target, onlooker: Option<&Onlooker>, now: i64) -> Vec<Gathered> {
        let asking = Asking { aws: self, target, onlooker, now };
        match target {
            Target::Role { name } => asking.role(name).await,
            Target::ServiceAccount { workload, cluster } => vec![asking.account(workload, cluster).await],
            Target::Pod { namespace, pod, cluster } => {
                let question = Question::Pod { namespace: namespace.clone(), pod: pod.clone() };
                vec![asking.pod(question, cluster).await]
            }
            Target::Cluster { .. } | Target::Fleet => {
                let evidence = self.fleet_evidence(target, onlooker, now).await;
                let chains = explain_fleet(&evidence, &self.keys, &self.guardrails);
                chains.into_iter().map(Gathered::Said).collect()
            }
        }
    }
}

/// One question, and what is needed to answer it.
struct Asking<'a> {
    aws: &'a Aws,
    target: &'a Target,
    onlooker: Option<&'a Onlooker>,
    now: i64,
}

impl Asking<'_> {
    /// Every place that a role asks for.
    async fn role(&self, name: &str) -> Vec<Gathered> {
        let role = self.aws.role(name).await.map_err(|error| error.to_string());
        let said = explain_role(name, &role, &self.aws.keys, &self.aws.guardrails);
        let mut gathered: Vec<Gathered> = said.map(Gathered::Said).into_iter().collect();
        let Ok(Some(mut role)) = role else { return gathered };
        let (tags, _) = RoleTags::parse(&self.aws.keys, &role.tags);
        if tags.grants.is_empty() {
            return gathered;
        }
        let mut common: BTreeMap<Part, String> = BTreeMap::new();
        if self.aws.guardrails.refuse_administrators {
            match self.aws.powers(name).await {
                Ok(powers) => role.powers = powers,
                Err(error) => drop(common.insert(Part::Powers, error.to_string())),
            }
        }
        let selectors: Vec<&ClusterSelector> =
            tags.grants.iter().map(|grant| &grant.subject.clusters).collect();
        let (clusters, errors) = self.aws.clusters_selected(&selectors).await;
        let mut grounds: BTreeMap<ClusterId, Ground> = BTreeMap::new();
        let read = side_by_side(clusters.clone(), |cluster| async move {
            (cluster.id.clone(), self.ground(cluster).await)
        });
        grounds.extend(read.await);
        // Names that repeat are told by the planning rules, which see them all.
        let all: BTreeMap<ClusterId, Cluster> =
            clusters.into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect();
        let mut places: Vec<(String, Workload, Option<ClusterId>)> = Vec::new();
        for grant in &tags.grants {
            let Some(workload) = grant.subject.workload() else { continue };
            let matching: Vec<&Cluster> =
                all.values().filter(|cluster| grant.subject.clusters.matches(cluster)).collect();
            let is_clear = grant.subject.clusters.cluster_name().is_none() || matching.len() == 1;
            if matching.is_empty() || !is_clear {
                places.push((grant.subject.to_string(), workload, None));
                continue;
            }
            for cluster in matching {
                let place = format!("{workload}@{}", cluster.id.name);
                places.push((place, workload.clone(), Some(cluster.id.clone())));
            }
        }
        let (all, grounds, role, errors, common) = (&all, &grounds, &role, &errors, &common);
        let found =
            side_by_side(places.into_iter().enumerate(), |(number, (place, workload, cluster))| async move {
                let mut ground = cluster.as_ref().and_then(|id| grounds.get(id)).cloned().unwrap_or_default();
                ground.snapshot.clusters = all.clone();
                ground.unread.extend(common.clone());
                if cluster.is_none()
                    && let Some((_, error)) = errors.first()
                {
                    ground.unread.insert(Part::Cluster, error.to_string());
                }
                let evidence = self.place(place, workload, cluster, ground, Some(role)).await;
                (number, evidence)
            });
        let mut found = found.await;
        found.sort_by_key(|(number, _)| *number);
        gathered.extend(found.into_iter().map(|(_, evidence)| Gathered::Evidence(Box::new(evidence))));
        gathered
    }

    async fn account(&self, workload: &Workload, cluster: &NamedCluster) -> Gathered {
        let (id, ground) = self.named(cluster).await;
        let place = format!("{workload}@{cluster}");
        Gathered::Evidence(Box::new(self.place(place, workload.clone(), id, ground, None).await))
    }

    /// A pod's place is that of its service account; or of the one that it should use.
    async fn pod(&self, question: Question, named: &NamedCluster) -> Gathered {
        let (id, ground) = self.named(named).await;
        let cluster = id.as_ref().and_then(|id| ground.snapshot.clusters.get(id));
        let inside = self.look(cluster, question).await;
        let pods = match &inside {
            Some(inside) => inside.pods.clone(),
            None => Err(ground.unread.get(&Part::Cluster).cloned().unwrap_or_else(|| {
                format!("no cluster to ask: no configured region has just one {named} that is ACTIVE")
            })),
        };
        let seen = pods.as_ref().ok().and_then(|pods| pods.seen.first());
        let Some((pod, inside)) = seen.zip(inside) else {
            return Gathered::Said(explain_unseen_pod(self.target, &pods));
        };
        let Target::Pod { namespace, .. } = self.target else {
            return Gathered::Said(explain_unseen_pod(self.target, &pods));
        };
        let Ok(service_account) = pod.account.parse() else {
            return Gathered::Said(explain_unseen_pod(self.target, &pods));
        };
        let used = Workload { namespace: namespace.clone(), service_account };
        let place = |workload: &Workload| format!("{workload}@{named}");
        let evidence = self.place_seen(
            place(&used),
            used.clone(),
            id.clone(),
            ground.clone(),
            None,
            Some(inside.clone()),
        );
        let evidence = evidence.await;
        if evidence.role.is_some() {
            return Gathered::Evidence(Box::new(evidence));
        }
        // Nobody gave its account a role: perhaps another of the namespace is meant.
        let Some(meant) = self.meant(&used, id.as_ref()).await else {
            return Gathered::Evidence(Box::new(evidence));
        };
        let account = self.look(
            id.as_ref().and_then(|id| ground.snapshot.clusters.get(id)),
            Question::Account(meant.clone()),
        );
        let account = account.await.map(|inside| inside.account);
        let inside = WorkloadInside { account: account.unwrap_or_else(|| inside.account.clone()), ..inside };
        let evidence = self.place_seen(place(&meant), meant, id, ground, None, Some(inside)).await;
        Gathered::Evidence(Box::new(evidence))
    }

    /// A service account of the same namespace that has an association here.
    async fn meant(&self, used: &Workload, cluster: Option<&ClusterId>) -> Option<Workload> {
        let listed = self.aws.list_associations(cluster?, None).await.ok()?;
        let mut others = listed.into_iter().map(|association| association.workload);
        others.find(|other| other.namespace == used.namespace && other != used)
    }

    /// The one cluster of a name, and what it has in common for all its places.
    async fn named(&self, cluster: &NamedCluster) -> (Option<ClusterId>, Ground) {
        let (found, errors) = self.aws.clusters_selected(&[cluster.selector()]).await;
        let mut ground = match found.as_slice() {
            [one] => self.ground(one.clone()).await,
            _ => Ground::default(),
        };
        let id = if let [one] = found.as_slice() { Some(one.id.clone()) } else { None };
        ground.snapshot.clusters = found.into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect();
        if id.is_none()
            && let Some((_, error)) = errors.first()
        {
            ground.unread.insert(Part::Cluster, error.to_string());
        }
        (id, ground)
    }

    /// A cluster's agent, and what it runs on.
    async fn ground(&self, cluster: Cluster) -> Ground {
        let mut ground = Ground::default();
        let id = cluster.id.clone();
        if cluster.status.is_ready() && !cluster.kind.connected {
            match self.aws.agent(&id).await {
                Ok(Some(agent)) => drop(ground.snapshot.agents.insert(id.clone(), agent)),
                Ok(None) => match self.aws.nodes(&id).await {
                    Ok(nodes) => drop(ground.snapshot.nodes.insert(id.clone(), nodes)),
                    // Then it is taken for a cluster that needs the agent.
                    Err(error) => tracing::info!(%error, "what the cluster runs on is not known"),
                },
                Err(error) => drop(ground.unread.insert(Part::Agent, error.to_string())),
            }
        }
        ground.snapshot.clusters.insert(id, cluster);
        ground
    }

    async fn place(
        &self,
        place: String,
        workload: Workload,
        cluster: Option<ClusterId>,
        ground: Ground,
        asks: Option<&Role>,
    ) -> Evidence {
        let known = cluster.as_ref().and_then(|id| ground.snapshot.clusters.get(id)).cloned();
        let seen = self.look(known.as_ref(), Question::Account(workload.clone()));
        let told = self.place_seen(place, workload, cluster, ground, asks, None);
        let (inside, mut evidence) = join(seen, told).await;
        evidence.inside = inside;
        evidence.node_roles = self.node_roles(&evidence).await;
        evidence
    }

    /// What AWS tells of a place, with what its cluster showed.
    async fn place_seen(
        &self,
        place: String,
        workload: Workload,
        cluster: Option<ClusterId>,
        ground: Ground,
        asks: Option<&Role>,
        inside: Option<WorkloadInside>,
    ) -> Evidence {
        let Ground { mut snapshot, mut unread } = ground;
        snapshot.observed_at = self.now;
        snapshot.regions = self.aws.regions.keys().cloned().collect();
        snapshot.gaps.extend(unread.get(&Part::Cluster).map(|why| Gap {
            cluster: None,
            why: why.clone(),
            throttled: false,
        }));
        let mut times = None;
        let is_ready =
            cluster.as_ref().and_then(|id| snapshot.clusters.get(id)).is_some_and(|c| c.status.is_ready());
        if let Some(id) = cluster.as_ref().filter(|_| is_ready) {
            match self.standing(id, &workload).await {
                Ok(Some((association, made))) => {
                    snapshot.associations.push(association);
                    times = Some(made);
                }
                Ok(None) => {}
                Err(error) => drop(unread.insert(Part::Association, error.to_string())),
            }
        }
        let mut evidence = Evidence {
            target: self.target.clone(),
            place,
            workload,
            cluster,
            role: asks.map(|role| role.arn.role_name().to_owned()),
            snapshot,
            times,
            unread,
            inside,
            node_roles: BTreeMap::new(),
        };
        match asks {
            Some(role) => drop(evidence.snapshot.roles.insert(role.arn.clone(), role.clone())),
            None => {
                self.find_role(&mut evidence).await;
                self.read_powers_of(&mut evidence).await;
            }
        }
        evidence.node_roles = self.node_roles(&evidence).await;
        evidence
    }

    async fn standing(
        &self,
        cluster: &ClusterId,
        workload: &Workload,
    ) -> Result<Option<(Association, Times)>, AwsError> {
        let listed = self.aws.list_associations(cluster, Some(workload)).await?;
        match listed.first() {
            Some(association) => self.aws.association_in_time(cluster, &association.id).await,
            None => Ok(None),
        }
    }

    /// The role that a place is about: the one that stands there, if its tags ask for it; else one whose tags do;
    /// else the one that stands there all the same.
    async fn find_role(&self, evidence: &mut Evidence) {
        let standing =
            evidence.snapshot.associations.first().and_then(|association| association.record.as_ref());
        let standing = standing.and_then(|record| record.role_arn.rsplit('/').next()).map(str::to_owned);
        if let Some(name) = &standing {
            evidence.role = Some(name.clone());
            match self.aws.role(name).await {
                Ok(Some(role)) => {
                    let asks = self.asks(&role, evidence);
                    evidence.snapshot.roles.insert(role.arn.clone(), role);
                    if asks {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => drop(evidence.unread.insert(Part::Role, error.to_string())),
            }
        }
        match self.aws.all_roles().await {
            Ok(all) => {
                let asking = all.roles.into_values().filter(|role| self.asks(role, evidence));
                // As the planning rules would: the older one.
                let asking: Vec<Role> = asking.collect();
                if let Some(first) = asking.iter().min_by_key(|role| (role.created_at, role.arn.clone())) {
                    evidence.role = Some(first.arn.role_name().to_owned());
                    evidence.unread.remove(&Part::Role);
                }
                evidence.snapshot.roles.extend(asking.into_iter().map(|role| (role.arn.clone(), role)));
            }
            // Who stands there is known; who else asks is not.
            Err(error) if standing.is_none() => drop(evidence.unread.insert(Part::Role, error.to_string())),
            Err(error) => tracing::info!(%error, "whether another role asks for the place is not known"),
        }
    }

    fn asks(&self, role: &Role, evidence: &Evidence) -> bool {
        let cluster = evidence.cluster.as_ref().and_then(|id| evidence.snapshot.clusters.get(id));
        let (tags, _) = RoleTags::parse(&self.aws.keys, &role.tags);
        tags.grants.iter().any(|grant| {
            grant.subject.means(&evidence.workload)
                && match cluster {
                    Some(cluster) => grant.subject.clusters.matches(cluster),
                    // Not read, or not there: those that name it mean it.
                    None => self
                        .target
                        .cluster_named()
                        .is_some_and(|named| *named.selector() == grant.subject.clusters),
                }
        })
    }

    /// What a role may do matters before it gets something, and not to what stands.
    async fn read_powers_of(&self, evidence: &mut Evidence) {
        let name = evidence.role.clone();
        let Some(name) =
            name.filter(|_| self.aws.guardrails.refuse_administrators && evidence.times.is_none())
        else {
            return;
        };
        let role = evidence.snapshot.roles.values_mut().find(|role| role.arn.role_name() == name);
        let Some(role) = role.filter(|role| role.powers == Powers::Unread) else { return };
        match self.aws.powers(&name).await {
            Ok(powers) => role.powers = powers,
            Err(error) => drop(evidence.unread.insert(Part::Powers, error.to_string())),
        }
    }

    /// What a cluster's own API shows; none where it can't be asked at all.
    async fn look(&self, cluster: Option<&Cluster>, question: Question) -> Option<WorkloadInside> {
        let (cluster, onlooker) = (cluster?, self.onlooker?);
        cluster.api.as_ref()?;
        match self.aws.way_into(cluster, self.now).await {
            Ok(way) => Some((onlooker.at)(way, question).await),
            Err(why) => Some(WorkloadInside::unread(&why)),
        }
    }

    /// The roles of the nodes that the pods run on, by managed node group: EKS does not tell those of other nodes.
    async fn node_roles(&self, evidence: &Evidence) -> BTreeMap<String, Read<NodeRole>> {
        let (Some(cluster), Some(inside)) = (&evidence.cluster, &evidence.inside) else {
            return BTreeMap::new();
        };
        let mut groups: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (name, node) in &inside.nodes {
            let Ok(node) = node else { continue };
            match &node.node_group {
                Some(group) if node.kind == NodeKind::Instance => groups.entry(group).or_default().push(name),
                None if node.kind == NodeKind::Instance => {
                    let why =
                        "its node is of no managed node group, or was not seen: EKS does not tell its role";
                    roles.insert(name.clone(), Err(why.to_owned()));
                }
                _ => {}
            }
        }
        let read = side_by_side(groups, |(group, nodes)| async move {
            (nodes, self.aws.node_role(cluster, group).await.map_err(|error| error.to_string()))
        });
        for (nodes, role) in read.await {
            roles.extend(nodes.into_iter().map(|node| (node.clone(), role.clone())));
        }
        roles
    }
}

impl Aws {
    /// A managed node group's role, and whether it may ask for pods' credentials.
    pub(crate) async fn node_role(&self, cluster: &ClusterId, group: &str) -> Result<NodeRole, AwsError> {
        const OPERATION: &str = "eks:DescribeNodegroup";
        let answer = self
            .region(&cluster.region)?
            .eks
            .describe_nodegroup()
            .cluster_name(cluster.name.as_str())
            .nodegroup_name(group)
            .send()
            .await
            .map_err(|error| AwsError::of(OPERATION, format!("{cluster} {group}"), error))?;
        let arn = answer.nodegroup.and_then(|group| group.node_role).unwrap_or_default();
        let name = arn.rsplit('/').next().unwrap_or_default();
        if name.is_empty() {
            return Err(AwsError::new(OPERATION, group, Meaning::Transient, "the answer names no role"));
        }
        Ok(NodeRole { name: name.to_owned(), allows: self.may_serve_pods(name).await? })
    }

    /// Whether one of a role's policies allows [`NODE_ACTION`]. Nearly always AWS's own does, which is one call.
    async fn may_serve_pods(&self, role: &str) -> Result<bool, AwsError> {
        let attached = self.attached_policies(role).await?;
        if attached.iter().filter_map(|arn| aws_managed(arn)).any(|name| NODE_POLICIES.contains(&name)) {
            return Ok(true);
        }
        let inline = self.inline_policies(role).await?;
        if inline.iter().any(|(_, document)| may_allow(document, NODE_ACTION)) {
            return Ok(true);
        }
        for arn in &attached {
            if may_allow(&self.default_version(arn).await?, NODE_ACTION) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
