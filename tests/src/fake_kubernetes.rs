//! A cluster's own Kubernetes API, in the test's own process: what podgrant's commands are injected with.
//!
//! Its webhook gives pods what EKS's does: Pod Identity's variables where there is an association by then, else those of
//! the service account's annotation. Its controllers do nothing until [`FakeKubernetes::settle`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use podgrant_aws::Roller;
use podgrant_core::Workload;
use podgrant_core::explain::evidence::{
    Container, FULL_URI, NodeKind, Owner, Pod, Read, TOKEN_FILE, WEB_IDENTITY,
};
use podgrant_core::migrate::Annotated;
use podgrant_core::restart::{Budget, Controller, Counts, Object, ObjectRef, Selector, Strategy};
use podgrant_core::written::{Unwritten, Written};

use crate::fake::{FakeAws, REGION};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is refused: nothing was done.
    Refuse,
    /// It is done, and the answer lost.
    LoseAnswer,
    /// It never arrives.
    Cut,
    /// Somebody else changes the object first.
    Conflict,
}

/// A cluster. Clones are the same one.
#[derive(Clone)]
pub struct FakeKubernetes {
    aws: FakeAws,
    cluster: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pods: Vec<Pod>,
    objects: BTreeMap<ObjectRef, Object>,
    budgets: BTreeMap<String, Vec<Budget>>,
    /// By `namespace/name`: the role of the annotation, if there is one.
    accounts: BTreeMap<String, Option<String>>,
    /// Which call of a kind goes wrong, counted from now on; none is every.
    troubles: Vec<(String, Option<usize>, Trouble)>,
    /// How many calls went wrong.
    struck: usize,
    /// Writes, as they arrived.
    writes: Vec<String>,
    /// Whose clock goes on while an object is read, and how many seconds.
    late: Option<(Arc<AtomicI64>, i64)>,
}

/// An object by kind and name, of the group that Kubernetes has it in.
pub fn object(kind: &str, namespace: &str, name: &str) -> ObjectRef {
    let group = match kind {
        "Job" | "CronJob" => "batch",
        "Pod" | "Node" => "",
        _ => "apps",
    };
    let owner = Owner { group: group.to_owned(), kind: kind.to_owned(), name: name.to_owned() };
    ObjectRef { namespace: namespace.to_owned(), owner }
}

impl FakeKubernetes {
    /// An empty cluster, whose webhook asks this AWS for the associations of the cluster of this name.
    pub fn of(aws: &FakeAws, cluster: &str) -> Self {
        Self { aws: aws.clone(), cluster: cluster.to_owned(), state: Arc::default() }
    }

    #[expect(clippy::unwrap_used, reason = "a test that panicked has failed already")]
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A service account, with a role by annotation or without.
    pub fn add_account(&self, account: &str, role: Option<&str>) {
        self.state().accounts.insert(account.to_owned(), role.map(str::to_owned));
    }

    /// The role of a service account's annotation.
    pub fn annotation(&self, account: &str) -> Option<String> {
        self.state().accounts.get(account).cloned().flatten()
    }

    /// A workload of a kind and its pods, all of them made at this moment.
    pub fn deploy(&self, kind: &str, account: &str, name: &str, pods: usize, at: i64) -> ObjectRef {
        let namespace = account.split('/').next().unwrap_or_default();
        let object = object(kind, namespace, name);
        let count = i32::try_from(pods).unwrap_or_default();
        let controller = Controller {
            resource_version: "1".to_owned(),
            generation: 1,
            observed: 1,
            strategy: Strategy::Rolling,
            labels: [("app".to_owned(), name.to_owned())].into(),
            restarted_at: None,
            counts: Counts { desired: count, all: count, updated: count, available: count },
            is_stuck: false,
            is_ordered: kind == "StatefulSet",
        };
        let is_rolled = object.is_rolled();
        let found = Object { owner: None, controller: is_rolled.then_some(controller) };
        self.state().objects.insert(object.clone(), found);
        self.state().accounts.entry(account.to_owned()).or_default();
        self.make_pods(&object, account, pods, at);
        object
    }

    /// A pod by itself.
    pub fn add_pod(&self, account: &str, name: &str, at: i64) {
        let pod = self.made(account, name, None, at);
        self.state().pods.push(pod);
    }

    fn make_pods(&self, object: &ObjectRef, account: &str, pods: usize, at: i64) {
        let generation = self.controller(object).map_or(1, |controller| controller.generation);
        let name = &object.owner.name;
        let mut owner = object.owner.clone();
        if owner.kind == "Deployment" {
            owner = Owner { kind: "ReplicaSet".to_owned(), name: format!("{name}-{generation}"), ..owner };
            let set = ObjectRef { namespace: object.namespace.clone(), owner: owner.clone() };
            let kept = Object { owner: Some(object.owner.clone()), controller: None };
            self.state().objects.insert(set, kept);
        }
        let made: Vec<Pod> = (1..=pods)
            .map(|number| self.made(account, &format!("{}-{number}", owner.name), Some(owner.clone()), at))
            .collect();
        self.state().pods.extend(made);
    }

    /// A pod as EKS's webhook leaves it now.
    fn made(&self, account: &str, name: &str, owner: Option<Owner>, at: i64) -> Pod {
        let (namespace, account_name) = account.split_once('/').unwrap_or_default();
        let uri = || Some("http://169.254.170.23/v1/credentials".to_owned());
        let is_associated = self.aws.association(REGION, &self.cluster, namespace, account_name).is_some();
        let variables: BTreeMap<&'static str, Option<String>> = if is_associated {
            [(FULL_URI, uri()), (TOKEN_FILE, Some("/token".to_owned()))].into()
        } else if self.annotation(account).is_some() {
            [(WEB_IDENTITY, None)].into()
        } else {
            BTreeMap::new()
        };
        Pod {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            account: account_name.to_owned(),
            node: Some("ip-1".to_owned()),
            created_at: Some(at),
            owner,
            has_token: is_associated,
            containers: vec![Container { name: "app".to_owned(), variables, ..Container::default() }],
            ..Pod::default()
        }
    }

    pub fn pods(&self) -> Vec<Pod> {
        self.state().pods.clone()
    }

    /// A service account's pods go, and none comes.
    pub fn drop_pods(&self, account: &str) {
        self.state().pods.retain(|pod| format!("{}/{}", pod.namespace, pod.account) != account);
    }

    /// Pods that are deleted, and are about to end.
    pub fn add_ending(&self, pods: Vec<Pod>) {
        let ending =
            pods.into_iter().map(|pod| Pod { is_ending: true, name: format!("{}-old", pod.name), ..pod });
        self.state().pods.extend(ending);
    }

    /// They have ended.
    pub fn end(&self) {
        self.state().pods.retain(|pod| !pod.is_ending);
    }

    pub fn change_pods(&self, change: impl FnMut(&mut Pod)) {
        self.state().pods.iter_mut().for_each(change);
    }

    /// Every pod of this service account is on such a node.
    pub fn run_on(&self, account: &str, kind: NodeKind) {
        let is = |pod: &Pod| format!("{}/{}", pod.namespace, pod.account) == account;
        self.change_pods(|pod| {
            if is(pod) {
                pod.runs_on = Some(kind)
            }
        });
    }

    /// A service account's pods go, and come anew as EKS's webhook leaves them now.
    pub fn drain(&self, account: &str, at: i64) {
        for pod in self.pods() {
            if format!("{}/{}", pod.namespace, pod.account) != account {
                continue;
            }
            let made = self.made(account, &pod.name, pod.owner.clone(), at);
            let is_it = |one: &&mut Pod| (&one.namespace, &one.name) == (&pod.namespace, &pod.name);
            if let Some(old) = self.state().pods.iter_mut().find(is_it) {
                *old = made;
            }
        }
    }

    pub fn controller(&self, object: &ObjectRef) -> Option<Controller> {
        self.state().objects.get(object)?.controller.clone()
    }

    pub fn change(&self, object: &ObjectRef, change: impl FnOnce(&mut Controller)) {
        if let Some(controller) =
            self.state().objects.get_mut(object).and_then(|object| object.controller.as_mut())
        {
            change(controller);
        }
    }

    pub fn set_owner(&self, object: &ObjectRef, owner: Option<Owner>) {
        if let Some(object) = self.state().objects.get_mut(object) {
            object.owner = owner;
        }
    }

    pub fn remove(&self, object: &ObjectRef) {
        self.state().objects.remove(object);
    }

    /// A budget for the pods of a workload of this name.
    pub fn add_budget(&self, namespace: &str, name: &str, allowed: i32) {
        let labels = [("app".to_owned(), name.to_owned())].into();
        let budget = Budget {
            name: name.to_owned(),
            selector: Some(Selector { labels, expressions: Vec::new() }),
            allowed,
            is_current: true,
            healthy: 2,
            wanted: 2 - allowed,
        };
        self.state().budgets.entry(namespace.to_owned()).or_default().push(budget);
    }

    /// The call of this kind and number, from 1, goes wrong; without a number, every one.
    pub fn trouble(&self, call: &str, number: Option<usize>, trouble: Trouble) {
        self.state().troubles.push((call.to_owned(), number, trouble));
    }

    /// Each object that is read takes so many seconds of this clock.
    pub fn answer_late(&self, clock: Arc<AtomicI64>, seconds: i64) {
        self.state().late = Some((clock, seconds));
    }

    pub fn no_more_trouble(&self) {
        self.state().troubles.clear();
    }

    /// How many calls went wrong by now.
    pub fn went_wrong(&self) -> usize {
        self.state().struck
    }

    pub fn writes(&self) -> Vec<String> {
        self.state().writes.clone()
    }

    /// The controllers do their work: what was rolled has new pods, made at this moment.
    pub fn settle(&self, at: i64) {
        let rolled: Vec<ObjectRef> = {
            let state = self.state();
            let rolling = state.objects.iter().filter(|(_, object)| {
                object
                    .controller
                    .as_ref()
                    .is_some_and(|controller| controller.observed < controller.generation)
            });
            rolling.map(|(object, _)| object.clone()).collect()
        };
        for object in rolled {
            let kept = |pod: &Pod, state: &State| {
                let owner = pod.owner.as_ref();
                let set =
                    owner.map(|owner| ObjectRef { namespace: pod.namespace.clone(), owner: owner.clone() });
                let above =
                    set.as_ref().and_then(|set| state.objects.get(set)).and_then(|set| set.owner.clone());
                pod.namespace == object.namespace
                    && (owner == Some(&object.owner) || above.as_ref() == Some(&object.owner))
            };
            let (account, count) = {
                let mut state = self.state();
                let pods = std::mem::take(&mut state.pods);
                let (old, others): (Vec<Pod>, Vec<Pod>) = pods.into_iter().partition(|pod| kept(pod, &state));
                state.pods = others;
                let account = old.first().map(|pod| format!("{}/{}", pod.namespace, pod.account));
                (account.unwrap_or_default(), old.len())
            };
            self.make_pods(&object, &account, count, at);
            self.change(&object, |controller| controller.observed = controller.generation);
        }
    }

    fn struck(&self, call: &str) -> Option<Trouble> {
        let mut struck = None;
        let mut state = self.state();
        for (what, number, trouble) in &mut state.troubles {
            if what != call {
                continue;
            }
            match number {
                None => struck = Some(*trouble),
                Some(0) => {}
                Some(left) => {
                    *left -= 1;
                    if *left == 0 {
                        struck = Some(*trouble);
                    }
                }
            }
        }
        state.struck += usize::from(struck.is_some());
        struck
    }

    /// A write, or what goes wrong with it.
    fn write(
        &self,
        call: &str,
        what: String,
        done: impl FnOnce(&Self) -> Written,
    ) -> Result<Written, Unwritten> {
        let trouble = self.struck(call);
        self.state().writes.push(what);
        match trouble {
            Some(Trouble::Refuse) => Err(Unwritten::Refused("forbidden".to_owned())),
            Some(Trouble::Cut) => Err(Unwritten::Unsure("the connection was cut".to_owned())),
            Some(Trouble::Conflict) => Ok(Written::Changed),
            Some(Trouble::LoseAnswer) => {
                done(self);
                Err(Unwritten::Unsure("the answer was lost".to_owned()))
            }
            None => Ok(done(self)),
        }
    }

    fn read<T>(&self, call: &str, seen: impl FnOnce(&State) -> T) -> Read<T> {
        if let (Some((clock, seconds)), "objects") = (&self.state().late, call) {
            clock.fetch_add(*seconds, Ordering::Relaxed);
        }
        match self.struck(call) {
            Some(_) => Err("the cluster's Kubernetes API could not be reached: cut".to_owned()),
            None => Ok(seen(&self.state())),
        }
    }

    fn roll(&self, object: &ObjectRef, moment: &str, version: &str) -> Result<Written, Unwritten> {
        self.write("roll", format!("roll {object} {moment}"), |fake| {
            let mut state = fake.state();
            let Some(controller) =
                state.objects.get_mut(object).and_then(|object| object.controller.as_mut())
            else {
                return Written::Gone;
            };
            if controller.resource_version != version {
                return Written::Changed;
            }
            if controller.restarted_at.as_deref() != Some(moment) {
                controller.restarted_at = Some(moment.to_owned());
                controller.generation += 1;
                controller.resource_version.push('1');
            }
            Written::Done(controller.generation)
        })
    }

    fn annotate(
        &self,
        account: &Workload,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<Written, Unwritten> {
        let what = format!("annotate {account} {}", after.unwrap_or("-"));
        self.write("annotate", what, |fake| {
            let mut state = fake.state();
            match state.accounts.get_mut(&account.to_string()) {
                None => Written::Gone,
                Some(role) if role.as_deref() != before && role.as_deref() != after => Written::Changed,
                Some(role) => {
                    *role = after.map(str::to_owned);
                    Written::Done(0)
                }
            }
        })
    }

    /// What commands are handed.
    pub fn roller(&self) -> Roller {
        let (annotated, annotate) = (self.clone(), self.clone());
        let (pods, objects, budgets, roll) = (self.clone(), self.clone(), self.clone(), self.clone());
        Roller::new(
            move |_| {
                answered(annotated.read("accounts", |state| {
                    let seen = state.accounts.iter().filter_map(|(account, role)| {
                        let (namespace, name) = account.split_once('/')?;
                        let (namespace, service_account) = (namespace.parse().ok()?, name.parse().ok()?);
                        let workload = Workload { namespace, service_account };
                        Some(Annotated { workload, role: role.clone()? })
                    });
                    seen.collect()
                }))
            },
            move |_, accounts: BTreeSet<String>| {
                answered(pods.read("pods", |state| {
                    let wanted =
                        |pod: &&Pod| accounts.contains(&format!("{}/{}", pod.namespace, pod.account));
                    state.pods.iter().filter(wanted).cloned().collect()
                }))
            },
            move |_, wanted: BTreeSet<ObjectRef>| {
                let found = wanted.into_iter().map(|object| {
                    let found = objects.read("objects", |state| state.objects.get(&object).cloned());
                    (object, found)
                });
                answered(found.collect())
            },
            move |_, namespace: String| {
                answered(
                    budgets
                        .read("budgets", |state| state.budgets.get(&namespace).cloned().unwrap_or_default()),
                )
            },
            move |_, object: ObjectRef, moment: String, version: String| {
                answered(roll.roll(&object, &moment, &version))
            },
            move |_, account: Workload, before: Option<String>, after: Option<String>| {
                answered(annotate.annotate(&account, before.as_deref(), after.as_deref()))
            },
        )
    }
}

fn answered<T: Send + 'static>(answer: T) -> BoxFuture<'static, T> {
    ready(answer).boxed()
}
