//! Pods that must be made anew: where they are, and having it done, with the rights of whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::explain::evidence::{Pod, Read, Times};
use podgrant_core::explain::{LinkKind, NamedCluster, State, Target};
use podgrant_core::migrate::Annotated;
use podgrant_core::restart::{
    Budget, Controller, Object, ObjectRef, Restart, Sight, Step, StepKind, Toward, Workload as Kept,
};
use podgrant_core::written::{Unwritten, Written};
use podgrant_core::{Association, Cluster, ClusterId, Workload};

use crate::observe::side_by_side;
use crate::{Aws, Onlooker};

type AnnotatedOf = dyn Fn(KubernetesAccess) -> BoxFuture<'static, Read<Vec<Annotated>>> + Send + Sync;
type PodsOf = dyn Fn(KubernetesAccess, BTreeSet<String>) -> BoxFuture<'static, Read<Vec<Pod>>> + Send + Sync;
type Objects = dyn Fn(KubernetesAccess, BTreeSet<ObjectRef>) -> BoxFuture<'static, BTreeMap<ObjectRef, Read<Option<Object>>>>
    + Send
    + Sync;
type Budgets = dyn Fn(KubernetesAccess, String) -> BoxFuture<'static, Read<Vec<Budget>>> + Send + Sync;
type Annotate = dyn Fn(
        KubernetesAccess,
        Workload,
        Option<String>,
        Option<String>,
    ) -> BoxFuture<'static, Result<Written, Unwritten>>
    + Send
    + Sync;
type Roll = dyn Fn(KubernetesAccess, ObjectRef, String, String) -> BoxFuture<'static, Result<Written, Unwritten>>
    + Send
    + Sync;

/// How often what changes while it is written is looked at anew: a workload's status does, with each of its pods.
pub(crate) const LOOKS: usize = 5;

/// Looks for what is to be moved or made anew in clusters, and has pods made anew. Commands are given it by their main; no
/// function is.
#[derive(Clone)]
pub struct Roller {
    pub(crate) annotated: Arc<AnnotatedOf>,
    pub(crate) pods: Arc<PodsOf>,
    objects: Arc<Objects>,
    budgets: Arc<Budgets>,
    roll: Arc<Roll>,
    pub(crate) annotate: Arc<Annotate>,
}

impl Roller {
    /// `annotated` lists the service accounts with IRSA's annotation, `pods` those of service accounts (`namespace/name`), `objects` reads what keeps them, `budgets` a namespace's
    /// disruption budgets. `roll` rolls a workload with this moment, where it is still of this resource version. `annotate` gives
    /// a service account another role by annotation, or none, where it has this one, or none.
    pub fn new(
        annotated: impl Fn(KubernetesAccess) -> BoxFuture<'static, Read<Vec<Annotated>>> + Send + Sync + 'static,
        pods: impl Fn(KubernetesAccess, BTreeSet<String>) -> BoxFuture<'static, Read<Vec<Pod>>>
        + Send
        + Sync
        + 'static,
        objects: impl Fn(
            KubernetesAccess,
            BTreeSet<ObjectRef>,
        ) -> BoxFuture<'static, BTreeMap<ObjectRef, Read<Option<Object>>>>
        + Send
        + Sync
        + 'static,
        budgets: impl Fn(KubernetesAccess, String) -> BoxFuture<'static, Read<Vec<Budget>>>
        + Send
        + Sync
        + 'static,
        roll: impl Fn(
            KubernetesAccess,
            ObjectRef,
            String,
            String,
        ) -> BoxFuture<'static, Result<Written, Unwritten>>
        + Send
        + Sync
        + 'static,
        annotate: impl Fn(
            KubernetesAccess,
            Workload,
            Option<String>,
            Option<String>,
        ) -> BoxFuture<'static, Result<Written, Unwritten>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            annotated: Arc::new(annotated),
            pods: Arc::new(pods),
            objects: Arc::new(objects),
            budgets: Arc::new(budgets),
            roll: Arc::new(roll),
            annotate: Arc::new(annotate),
        }
    }
}

impl fmt::Debug for Roller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roller").finish_non_exhaustive()
    }
}

/// What is to be restarted, cluster by cluster.
#[derive(Debug, Default)]
pub struct Restarts {
    pub clusters: Vec<(Cluster, Vec<Restart>)>,
    /// What could not be looked at, and why.
    pub unread: Vec<(Option<ClusterId>, String)>,
}

/// What came of a workload that was to be rolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rolled {
    /// It is being rolled; it is of this generation now.
    Done(i64),
    /// It was not, by what was seen right before.
    Not(Step),
    /// It could not be, and why.
    Failed(String),
    /// Whether it was is not known, and why.
    Unsure(String),
}

impl Aws {
    /// Every workload with pods that lack what Pod Identity gives new ones, on a cluster, of a service account, or of the fleet.
    ///
    /// `now` is in seconds since 1970.
    pub async fn restarts(
        &self,
        target: &Target,
        roller: &Roller,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Restarts {
        let (clusters, errors) = match target.cluster_named() {
            Some(named) => self.clusters_selected(&[named.selector()]).await,
            None => self.fleet().await,
        };
        let unread = errors.into_iter().map(|(cluster, error)| (cluster, error.to_string()));
        let mut restarts = Restarts { clusters: Vec::new(), unread: unread.collect() };
        if let Some(named) = target.cluster_named() {
            restarts.unread.extend(not_one(named, &clusters, !restarts.unread.is_empty()));
            if clusters.len() != 1 {
                return restarts;
            }
            // Who names a cluster is told why it is not looked into; of the fleet such are left out.
            let shut = clusters.iter().filter_map(shut);
            restarts.unread.extend(shut.map(|why| (None, why)));
        }
        let workload = match target {
            Target::ServiceAccount { workload, .. } => Some(workload),
            _ => None,
        };
        let open = clusters
            .into_iter()
            .filter(|cluster| shut(cluster).is_none())
            // Of the fleet; who names a cluster means it.
            .filter(|cluster| target.cluster_named().is_some() || cluster.is_enrolled(&self.keys));
        let seen = side_by_side(open, |cluster| async move {
            let sight = self.sight(&cluster, workload, roller, onlooker, now).await;
            (cluster, sight)
        });
        for (cluster, sight) in seen.await {
            match sight {
                Ok(sight) => restarts.clusters.push((cluster, sight.restarts())),
                Err(why) => restarts.unread.push((Some(cluster.id), why)),
            }
        }
        restarts.clusters.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
        restarts.unread.sort();
        restarts
    }

    /// Rolls a workload that was shown, if it is still so. Looks at it again right before as it was looked at when it
    /// was shown, and again where it changed in between or the answer was lost.
    pub async fn roll(
        &self,
        cluster: &Cluster,
        shown: &Restart,
        moment: &str,
        roller: &Roller,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Rolled {
        let (Kept::Kept(object), Some(account)) = (&shown.workload, workload_of(&shown.account)) else {
            return Rolled::Not(Step::changed());
        };
        let mut unsure = None;
        for _ in 0..LOOKS {
            let way = match self.way_into(cluster, now).await {
                Ok(way) => way,
                Err(why) => return unsure.map_or(Rolled::Failed(why), Rolled::Unsure),
            };
            let stands = Sight {
                objects: (roller.objects)(way.clone(), [object.clone()].into()).await,
                ..Sight::default()
            };
            if let Some(controller) = stands.controller(object)
                && controller.restarted_at.as_deref() == Some(moment)
            {
                return Rolled::Done(controller.generation);
            }
            let sight = match shown.toward {
                Toward::PodIdentity | Toward::PodIdentitySoon => {
                    self.sight(cluster, Some(&account), roller, onlooker, now).await
                }
                Toward::Irsa => self.sight_back(cluster, &account, roller, now).await,
            };
            let sight = match sight {
                Ok(sight) => sight,
                Err(why) => return unsure.map_or(Rolled::Failed(why), Rolled::Unsure),
            };
            let step = sight.step_again(shown);
            let version = sight.controller(object).map(|controller| controller.resource_version.clone());
            let Some(version) = version.filter(|_| step.kind == StepKind::Roll) else {
                return unsure.map_or(Rolled::Not(step), Rolled::Unsure);
            };
            match (roller.roll)(way, object.clone(), moment.to_owned(), version).await {
                Ok(Written::Done(generation)) => return Rolled::Done(generation),
                Ok(Written::Changed | Written::Gone) => {}
                Err(Unwritten::Unsure(why)) => unsure = Some(why),
                // That of a write before which may land yet is not a no to that one.
                Err(Unwritten::NotSent(why) | Unwritten::Refused(why)) => {
                    return unsure.map_or(Rolled::Failed(why), Rolled::Unsure);
                }
            }
        }
        let changed = Rolled::Failed(format!("it changed {LOOKS} times while it was looked at"));
        unsure.map_or(changed, Rolled::Unsure)
    }

    /// How a workload is now; none where it is gone.
    ///
    /// # Errors
    /// Why it can't be seen, in words.
    pub async fn rolling(
        &self,
        cluster: &Cluster,
        object: &ObjectRef,
        roller: &Roller,
        now: i64,
    ) -> Read<Option<Controller>> {
        let way = self.way_into(cluster, now).await?;
        let mut found = (roller.objects)(way, [object.clone()].into()).await;
        let found = found.remove(object).unwrap_or_else(|| Err("it was not asked for".to_owned()))?;
        Ok(found.and_then(|found| found.controller))
    }

    async fn sight(
        &self,
        cluster: &Cluster,
        workload: Option<&Workload>,
        roller: &Roller,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Read<Sight> {
        let id = &cluster.id;
        let listed = self.list_associations(id, workload).await.map_err(|error| error.to_string())?;
        let by_account: BTreeMap<String, Association> =
            listed.into_iter().map(|one| (one.workload.to_string(), one)).collect();
        if by_account.is_empty() {
            return Ok(Sight::default());
        }
        let way = self.way_into(cluster, now).await?;
        let mut pods = (roller.pods)(way.clone(), by_account.keys().cloned().collect()).await?;
        pods.retain(|pod| !pod.is_ending);
        let mut sight = Sight { pods, ..Sight::default() };
        let lacking = sight.lacking();
        let described = side_by_side(lacking, |account| {
            let association = by_account.get(&account);
            async move {
                let association = association?;
                let times = self.times_of(association).await;
                let broken = self.broken(cluster, association, onlooker, now).await;
                Some((account, times, broken))
            }
        });
        for (account, times, broken) in described.await.into_iter().flatten() {
            let Some(times) = times.transpose() else {
                sight.leave(&account);
                continue;
            };
            sight.times.insert(account.clone(), times);
            sight.broken.extend(broken.map(|why| (account, why)));
        }
        complete(&mut sight, &way, roller).await;
        Ok(sight)
    }

    /// Every workload of a service account with pods that are to be made anew: on the way to Pod Identity, before there is
    /// an association, or back.
    ///
    /// `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The cluster does not tell its pods, and why.
    pub async fn restarts_toward(
        &self,
        toward: Toward,
        cluster: &Cluster,
        workload: &Workload,
        roller: &Roller,
        now: i64,
    ) -> Read<Vec<Restart>> {
        self.pods_toward(toward, cluster, workload, roller, now).await.map(|sight| sight.restarts())
    }

    /// Right before pods are made anew for IRSA: as long as an association stands they would be no other.
    async fn sight_back(
        &self,
        cluster: &Cluster,
        workload: &Workload,
        roller: &Roller,
        now: i64,
    ) -> Read<Sight> {
        let listed = self.list_associations(&cluster.id, Some(workload)).await;
        let mut sight = self.pods_toward(Toward::Irsa, cluster, workload, roller, now).await?;
        if let Some(standing) = listed.map_err(|error| error.to_string())?.first() {
            sight.broken.insert(workload.to_string(), format!("association {} stands", standing.id));
        }
        let annotated = (roller.annotated)(self.way_into(cluster, now).await?).await?;
        if !annotated.iter().any(|account| account.workload == *workload) {
            sight.broken.insert(workload.to_string(), "its service account has no annotation".to_owned());
        }
        Ok(sight)
    }

    async fn pods_toward(
        &self,
        toward: Toward,
        cluster: &Cluster,
        workload: &Workload,
        roller: &Roller,
        now: i64,
    ) -> Read<Sight> {
        let way = self.way_into(cluster, now).await?;
        let mut pods = (roller.pods)(way.clone(), [workload.to_string()].into()).await?;
        pods.retain(|pod| !pod.is_ending);
        let mut sight = Sight { toward, pods, ..Sight::default() };
        complete(&mut sight, &way, roller).await;
        Ok(sight)
    }

    /// None where it was deleted since it was listed.
    async fn times_of(&self, association: &Association) -> Read<Option<Times>> {
        let described = self.association_in_time(&association.cluster, &association.id).await;
        described.map(|found| found.map(|(_, times)| times)).map_err(|error| error.to_string())
    }

    /// Why a service account's pods would get nothing from Pod Identity, if something is surely wrong.
    async fn broken(
        &self,
        cluster: &Cluster,
        association: &Association,
        onlooker: Option<&Onlooker>,
        now: i64,
    ) -> Option<String> {
        let named = NamedCluster::from(&cluster.id);
        let target = Target::ServiceAccount { workload: association.workload.clone(), cluster: named };
        let explained = self.explain(&target, onlooker, now).await;
        let decides = [
            LinkKind::Role,
            LinkKind::Trust,
            LinkKind::Cluster,
            LinkKind::Agent,
            LinkKind::Node,
            LinkKind::NodeRole,
        ];
        let mut links = explained.chains.into_iter().flat_map(|chain| chain.links);
        links.find(|link| link.state == State::Broken && decides.contains(&link.kind)).map(|link| link.told)
    }
}

/// Reads who makes pods anew that lack something, and what holds that back.
async fn complete(sight: &mut Sight, way: &KubernetesAccess, roller: &Roller) {
    loop {
        let unasked = sight.unasked();
        if unasked.is_empty() {
            break;
        }
        let mut found = (roller.objects)(way.clone(), unasked.clone()).await;
        // What was asked for is answered, or the loop would not end.
        sight.objects.extend(unasked.into_iter().map(|object| {
            let answer = found.remove(&object).unwrap_or_else(|| Err("it was not answered".to_owned()));
            (object, answer)
        }));
    }
    let budgets = side_by_side(sight.namespaces(), |namespace| {
        let asked = (roller.budgets)(way.clone(), namespace.clone());
        async move { (namespace, asked.await) }
    });
    sight.budgets.extend(budgets.await);
}

/// Why nobody looks into a cluster.
fn shut(cluster: &Cluster) -> Option<String> {
    if cluster.kind.connected {
        Some(format!("the cluster {} is only connected to EKS, which has no Pod Identity for it", cluster.id))
    } else if cluster.status.is_ready() {
        None
    } else {
        Some(format!("the cluster {} is {}, and can't be looked into", cluster.id, cluster.status))
    }
}

/// Of `namespace/account`.
fn workload_of(account: &str) -> Option<Workload> {
    let (namespace, name) = account.split_once('/')?;
    Some(Workload { namespace: namespace.parse().ok()?, service_account: name.parse().ok()? })
}

fn not_one(named: &NamedCluster, found: &[Cluster], failed: bool) -> Option<(Option<ClusterId>, String)> {
    let told = match found {
        [_] => return None,
        [] if failed => return None,
        [] => format!(
            "no configured region has a cluster {named}; look at its spelling and at PODGRANT_REGIONS"
        ),
        [_, ..] => format!("the cluster {named} is in several regions: write it as region/name"),
    };
    Some((None, told))
}
