//! Which pods must be made anew to get their credentials, and who makes them anew.
//!
//! ```text
//! pods ─► those that lack ─► their owners, read step by step ─► Restart ─► looked at again ─► rolled
//! ```
//!
//! A [`Sight`] is what was read of one cluster. It says what is still to be read, until all that decides is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod rollout;
#[cfg(test)]
mod tests;

pub use rollout::{Budget, Controller, Counts, Expression, Progress, Selector, Strategy};

use crate::explain::Fault;
use crate::explain::evidence::{NodeKind, Owner, Pod, Read, Times, WEB_IDENTITY};
use crate::explain::pods::lack;
use crate::migrate::{has_variables, lacks_irsa};
use crate::moment::rfc3339;

/// The annotation of a pod template by which `kubectl rollout restart` makes its pods anew.
pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// A pod's owner has an owner, and that may have one; no more than this is followed.
const MOST_OWNERS: usize = 4;

/// An object of a namespace, by who it is as an owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    pub namespace: String,
    pub owner: Owner,
}

/// What of an object decides: who keeps it, and how it is rolled where it can be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Object {
    pub owner: Option<Owner>,
    pub controller: Option<Controller>,
}

/// Whose variables pods are to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Toward {
    #[default]
    PodIdentity,
    /// The same, before there is an association.
    PodIdentitySoon,
    /// Those of their service account's annotation, once no association stands.
    Irsa,
}

/// What was read of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sight {
    pub toward: Toward,
    /// Pods whose service accounts have associations, or are to be without.
    pub pods: Vec<Pod>,
    /// Those associations' times, by `namespace/account`.
    pub times: BTreeMap<String, Read<Times>>,
    /// Service accounts whose pods would get nothing from Pod Identity now, and why.
    pub broken: BTreeMap<String, String>,
    /// None where there is no such object.
    pub objects: BTreeMap<ObjectRef, Read<Option<Object>>>,
    /// By namespace.
    pub budgets: BTreeMap<String, Read<Vec<Budget>>>,
}

/// A workload with pods that lack the variables that they should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    pub toward: Toward,
    pub workload: Workload,
    /// `namespace/account`.
    pub account: String,
    /// The pods that lack them.
    pub pods: Vec<String>,
    /// How many pods the workload has.
    pub of: usize,
    pub why: String,
    pub step: Step,
    /// As it was seen: of another generation it is another workload.
    pub generation: Option<i64>,
    /// Its template's annotation [`RESTARTED_AT`], as it was seen.
    pub restarted_at: Option<String>,
}

impl Restart {
    /// Whether a workload that was rolled with this moment has its former template back.
    pub fn is_put_back(&self, controller: &Controller, moment: &str) -> bool {
        let stands = controller.restarted_at.as_deref();
        // Another moment than both is somebody else's restart: that makes its pods anew as well.
        stands != Some(moment) && (stands.is_none() || stands == self.restarted_at.as_deref())
    }
}

/// Who makes pods anew; none does for a pod by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    Kept(ObjectRef),
    Pod { namespace: String, name: String },
}

/// What becomes of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub kind: StepKind,
    /// Why, or what is to be known of it; may be empty where it is rolled.
    pub told: String,
    pub remedy: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// As `kubectl rollout restart` does.
    Roll,
    /// Not now.
    HeldBack,
    /// podgrant can't, a person can.
    ByHand,
    /// Made anew, its pods would be no better.
    NoHelp,
    /// What decides was not read.
    Unknown,
}

impl StepKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Roll => "roll",
            Self::HeldBack => "held-back",
            Self::ByHand => "by-hand",
            Self::NoHelp => "no-help",
            Self::Unknown => "unknown",
        }
    }
}

impl Step {
    fn new(kind: StepKind, told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, told: told.into(), remedy: remedy.into() }
    }

    /// It changed between two looks.
    pub fn changed() -> Self {
        Self::new(StepKind::HeldBack, "it changed since it was shown", "run it again")
    }
}

impl ObjectRef {
    /// Whether it is one of those whose pods `kubectl rollout restart` makes anew.
    pub fn is_rolled(&self) -> bool {
        self.owner.group == "apps"
            && matches!(self.owner.kind.as_str(), "Deployment" | "StatefulSet" | "DaemonSet")
    }

    /// Whether who keeps it is asked for: ReplicaSets and Jobs are mostly others'.
    fn is_between(&self) -> bool {
        let Owner { group, kind, .. } = &self.owner;
        (group == "apps" && kind == "ReplicaSet") || (group == "batch" && kind == "Job")
    }

    fn keeper(&self, owner: &Owner) -> Self {
        Self { namespace: self.namespace.clone(), owner: owner.clone() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.owner.kind, self.namespace, self.owner.name)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(object) => object.fmt(f),
            Self::Pod { namespace, name } => write!(f, "Pod {namespace}/{name}"),
        }
    }
}

impl Workload {
    pub fn namespace(&self) -> &str {
        match self {
            Self::Kept(object) => &object.namespace,
            Self::Pod { namespace, .. } => namespace,
        }
    }

    pub fn kind(&self) -> &str {
        match self {
            Self::Kept(object) => &object.owner.kind,
            Self::Pod { .. } => "Pod",
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Kept(object) => &object.owner.name,
            Self::Pod { name, .. } => name,
        }
    }
}

/// `namespace/account` of a pod.
pub fn account_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace, pod.account)
}

/// Whether a pod has the role of its service account's annotation (IRSA).
pub fn is_by_irsa(pod: &Pod) -> bool {
    pod.containers.iter().any(|container| container.has(WEB_IDENTITY))
}

/// Where a pod's owners lead.
enum Kept {
    By(Workload),
    /// This one was not asked for yet.
    Unasked(ObjectRef),
    Unread(Workload, String),
}

impl Sight {
    /// Service accounts with pods that lack the variables.
    pub fn lacking(&self) -> BTreeSet<String> {
        self.pods.iter().filter(|pod| self.fault(pod).is_some()).map(account_of).collect()
    }

    /// Takes a service account's pods out: its association is gone.
    pub fn leave(&mut self, account: &str) {
        self.pods.retain(|pod| account_of(pod) != account);
    }

    /// The objects that are to be read next. None: all that decides was read.
    pub fn unasked(&self) -> BTreeSet<ObjectRef> {
        let kept = self.concerned().map(|pod| self.kept(pod));
        kept.filter_map(|kept| match kept {
            Kept::Unasked(object) => Some(object),
            Kept::By(Workload::Kept(object)) if object.is_rolled() && !self.objects.contains_key(&object) => {
                Some(object)
            }
            Kept::By(_) | Kept::Unread(..) => None,
        })
        .collect()
    }

    /// The namespaces whose disruption budgets are to be read.
    pub fn namespaces(&self) -> BTreeSet<String> {
        self.concerned().map(|pod| pod.namespace.clone()).collect()
    }

    /// Every workload with pods that lack the variables.
    pub fn restarts(&self) -> Vec<Restart> {
        // By workload and service account: its pods, and what of it was not read.
        type Pods<'p> = (Vec<&'p Pod>, Option<String>);
        let mut workloads: BTreeMap<(Workload, String), Pods<'_>> = BTreeMap::new();
        for pod in self.concerned() {
            let (workload, unread) = match self.kept(pod) {
                Kept::By(workload) => (workload, None),
                Kept::Unread(workload, why) => (workload, Some(why)),
                Kept::Unasked(object) => (Workload::Kept(object), Some("it was not asked for".to_owned())),
            };
            let (pods, why) = workloads.entry((workload, account_of(pod))).or_default();
            pods.push(pod);
            *why = unread.or_else(|| why.take());
        }
        let restarts = workloads
            .into_iter()
            .map(|((workload, account), (pods, unread))| self.restart(workload, account, &pods, unread));
        restarts.filter(|restart| !restart.pods.is_empty()).collect()
    }

    /// What is to be done with a workload that was shown, by what is seen of it right before.
    pub fn step_again(&self, shown: &Restart) -> Step {
        let is_it = |seen: &Restart| (&seen.workload, &seen.account) == (&shown.workload, &shown.account);
        let Some(seen) = self.restarts().into_iter().find(is_it) else {
            return Step::new(
                StepKind::HeldBack,
                "its pods lack nothing any more, or their association is gone",
                "",
            );
        };
        if seen.step.kind == StepKind::Roll && seen.generation != shown.generation {
            return Step::changed();
        }
        seen.step
    }

    /// The state of a workload, where it was read and is there.
    pub fn controller(&self, object: &ObjectRef) -> Option<&Controller> {
        self.objects.get(object)?.as_ref().ok()?.as_ref()?.controller.as_ref()
    }

    fn fault(&self, pod: &Pod) -> Option<Fault> {
        match self.toward {
            Toward::PodIdentity => lack(self.times_of(&account_of(pod)), pod),
            Toward::PodIdentitySoon => (!has_variables(pod)).then_some(Fault::PodOlder),
            Toward::Irsa => lacks_irsa(pod).then_some(Fault::PodOlder),
        }
    }

    fn times_of(&self, account: &str) -> Option<&Times> {
        self.times.get(account)?.as_ref().ok()
    }

    /// The pods of accounts of which some lack the variables.
    fn concerned(&self) -> impl Iterator<Item = &Pod> {
        let accounts = self.lacking();
        self.pods.iter().filter(move |pod| accounts.contains(&account_of(pod)))
    }

    fn kept(&self, pod: &Pod) -> Kept {
        let itself = Workload::Pod { namespace: pod.namespace.clone(), name: pod.name.clone() };
        let Some(owner) = &pod.owner else { return Kept::By(itself) };
        let mut object = ObjectRef { namespace: pod.namespace.clone(), owner: owner.clone() };
        for _ in 0..MOST_OWNERS {
            if !object.is_between() {
                break;
            }
            let owner = match self.objects.get(&object) {
                None => return Kept::Unasked(object),
                Some(Err(why)) => {
                    let why = why.clone();
                    return Kept::Unread(Workload::Kept(object), why);
                }
                Some(Ok(found)) => found.as_ref().and_then(|found| found.owner.as_ref()),
            };
            let Some(owner) = owner else { break };
            object = object.keeper(owner);
        }
        Kept::By(Workload::Kept(object))
    }

    fn restart(&self, workload: Workload, account: String, pods: &[&Pod], unread: Option<String>) -> Restart {
        let lacking: Vec<(&Pod, Fault)> =
            pods.iter().filter_map(|pod| Some((*pod, self.fault(pod)?))).collect();
        let unread = unread.map(|why| format!("who makes it anew was not seen: {why}"));
        let sure = match self.toward {
            Toward::PodIdentity => self.no_help(&account, &lacking).or_else(|| self.timeless(&account)),
            Toward::PodIdentitySoon | Toward::Irsa => None,
        };
        let step = match (unread, sure, &workload) {
            (Some(why), ..) => Step::new(StepKind::Unknown, why, ""),
            (None, Some(step), _) => step,
            (None, None, Workload::Kept(object)) => self.step_of(object, &account),
            (None, None, Workload::Pod { namespace, .. }) => Step::new(
                StepKind::ByHand,
                "nobody makes it anew",
                format!(
                    "make it anew yourself: kubectl --namespace {namespace} get pod … --output yaml, delete it, apply it"
                ),
            ),
        };
        let controller = match &workload {
            Workload::Kept(object) => self.controller(object),
            Workload::Pod { .. } => None,
        };
        Restart {
            toward: self.toward,
            why: self.why(&account, &lacking),
            workload,
            account,
            pods: lacking.iter().map(|(pod, _)| pod.name.clone()).collect(),
            of: pods.len(),
            step,
            generation: controller.map(|controller| controller.generation),
            restarted_at: controller.and_then(|controller| controller.restarted_at.clone()),
        }
    }

    /// Where it is not known whether pods are older than their association.
    fn timeless(&self, account: &str) -> Option<Step> {
        let why = match self.times.get(account) {
            Some(Ok(_)) => return None,
            Some(Err(why)) => why.as_str(),
            None => "it was not asked for",
        };
        let told = format!("when its association was made was not read: {why}");
        Some(Step::new(StepKind::Unknown, told, ""))
    }

    /// Where pods made anew would be no better.
    fn no_help(&self, account: &str, lacking: &[(&Pod, Fault)]) -> Option<Step> {
        let place = lacking.iter().find_map(|(pod, _)| match pod.runs_on? {
            NodeKind::Fargate => Some("on Fargate"),
            NodeKind::Windows => Some("on Windows nodes"),
            NodeKind::Instance | NodeKind::Auto | NodeKind::Hybrid => None,
        });
        if let Some(place) = place {
            let told = format!("it runs {place}, where Pod Identity does not work");
            return Some(Step::new(
                StepKind::NoHelp,
                told,
                "leave it to IAM roles for service accounts: an association that stands takes that from new pods",
            ));
        }
        let is_cured = lacking.is_empty() || lacking.iter().any(|(_, fault)| *fault == Fault::PodOlder);
        let told = "its pods are younger than the association, or keep EKS from giving the variables";
        (!is_cured).then(|| {
            Step::new(StepKind::NoHelp, told, format!("podgrant doctor {account}@… names the cause"))
        })
    }

    fn step_of(&self, object: &ObjectRef, account: &str) -> Step {
        if !object.is_rolled() {
            return by_hand(object);
        }
        let controller = match self.objects.get(object) {
            Some(Ok(Some(Object { owner: Some(owner), .. }))) => return another_keeps(object, owner),
            Some(Ok(Some(Object { controller: Some(controller), .. }))) => controller,
            Some(Ok(_)) => return Step::new(StepKind::HeldBack, "it is gone", "run it again"),
            Some(Err(why)) => return Step::new(StepKind::Unknown, why, ""),
            None => return Step::new(StepKind::Unknown, "it was not asked for", ""),
        };
        if let Some(step) = controller.refusal(object) {
            return step;
        }
        match self.budgets.get(&object.namespace) {
            Some(Ok(budgets)) => {
                let held =
                    budgets.iter().find(|budget| !budget.lets_go() && budget.is_about(&controller.labels));
                if let Some(budget) = held {
                    return budget.holds_back(object);
                }
            }
            Some(Err(why)) => {
                return Step::new(
                    StepKind::Unknown,
                    format!("its disruption budgets were not seen: {why}"),
                    "",
                );
            }
            None => return Step::new(StepKind::Unknown, "its disruption budgets were not asked for", ""),
        }
        // Pods may have something to lose: a role by IRSA, or their node's, which the variables shut off.
        if let Some(why) = self.broken.get(account) {
            return Step::new(
                StepKind::HeldBack,
                format!("new pods would get nothing: {why}"),
                format!("mend that first: podgrant doctor {account}@…"),
            );
        }
        let told = match controller.strategy {
            Strategy::AllAtOnce => "all its pods at once: its strategy is Recreate",
            _ => "",
        };
        Step::new(StepKind::Roll, told, "")
    }

    fn why(&self, account: &str, lacking: &[(&Pod, Fault)]) -> String {
        match self.toward {
            Toward::PodIdentity => {}
            Toward::PodIdentitySoon => return "without Pod Identity's variables".to_owned(),
            Toward::Irsa => return "without IRSA's variables, or with others before them".to_owned(),
        }
        let mut told = match self.times_of(account) {
            Some(times) if lacking.iter().any(|(_, fault)| *fault == Fault::PodOlder) => {
                let is_older = |pod: &Pod| pod.created_at.is_some_and(|at| at < times.created_at);
                let when = if lacking.iter().any(|(pod, _)| is_older(pod)) {
                    "made before its association"
                } else {
                    "made within a minute of its association"
                };
                format!("{when} ({})", rfc3339(times.created_at))
            }
            _ => "without the variables".to_owned(),
        };
        if lacking.iter().any(|(pod, _)| is_by_irsa(pod)) {
            told.push_str("; by IRSA until then");
        }
        told
    }
}

/// An operator's: it may put back what is written into the workload, and stop its rolling update half-way.
fn another_keeps(object: &ObjectRef, owner: &Owner) -> Step {
    let told = format!("{} {} keeps it, and may put its template back", owner.kind, owner.name);
    let remedy = format!(
        "restart it as that wants it, or delete its pods one by one: kubectl --namespace {} delete pod …",
        object.namespace
    );
    Step::new(StepKind::ByHand, told, remedy)
}

/// Pods that no rolling update makes anew.
fn by_hand(object: &ObjectRef) -> Step {
    let ObjectRef { namespace, owner: Owner { group, kind, name } } = object;
    let one_by_one = format!(
        "delete its pods one by one (kubectl --namespace {namespace} delete pod …): it makes them anew"
    );
    let (told, remedy) = match (group.as_str(), kind.as_str()) {
        ("batch", "CronJob") => (
            "the Job that runs keeps its pods as they are".to_owned(),
            "wait for its next run, which has them".to_owned(),
        ),
        ("batch", "Job") => (
            "a Job's pods are made once".to_owned(),
            "let it end; where it does not, delete it and make it anew".to_owned(),
        ),
        ("argoproj.io", "Rollout") => (
            "it is Argo's to roll".to_owned(),
            format!("kubectl argo rollouts --namespace {namespace} restart {name}"),
        ),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            ("it rolls nothing by itself".to_owned(), one_by_one)
        }
        ("", "Node") => {
            let told = "a static pod is the node's own, and EKS's webhook never sees it";
            return Step::new(StepKind::NoHelp, told, "make it a DaemonSet");
        }
        _ => {
            let whose = if group.is_empty() { kind.clone() } else { format!("{kind} of {group}") };
            (format!("its pods are {whose}'s"), format!("restart it as that wants it, or {one_by_one}"))
        }
    };
    Step::new(StepKind::ByHand, told, remedy)
}
