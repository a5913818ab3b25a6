//! A cluster of the test's own: its API server, its webhook and its kubelet, with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use podgrant_cli::Hands;
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::verify::{Object, PodWish, Removal, Run, SeenPod, Terminated, Thing, Trouble};
use podgrant_core::{ClusterId, Namespace};
use podgrant_tests::fake::ACCOUNT;
use tokio::sync::watch;

/// What becomes of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Works,
    /// It has its node's role.
    Node,
    /// The agent refuses.
    Refused,
    /// STS says no.
    NoSts,
    Listing,
    NoS3,
    NoImage,
    NoNode,
    /// A Fargate profile means its namespace.
    Fargate,
    Garbage,
    Silent,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Nothing is done, and it says so.
    Refused,
    /// Nothing is done, and no answer comes.
    Fails,
    /// It is done, and no answer comes.
    Lost,
    /// It is never worked on.
    Hangs,
}

#[derive(Debug)]
struct Strike {
    call: String,
    nth: Option<usize>,
    how: How,
}

struct Made {
    labels: BTreeMap<String, String>,
    pod: Option<PodWish>,
    has_variables: bool,
    looks: u32,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<(Thing, String, String), Made>,
    calls: Vec<String>,
    strikes: Vec<Strike>,
    refused: Vec<String>,
    without_variables: u32,
    takes_labels: bool,
    lingers: bool,
    notes: Option<Arc<Mutex<Vec<String>>>>,
}

pub struct FakeHands {
    state: Arc<Mutex<State>>,
    fate: Mutex<Fate>,
    /// How many calls hang.
    pub hanging: watch::Sender<usize>,
}

/// What is made there, told as it is made.
pub fn noted(hands: &FakeHands) -> Arc<Mutex<Vec<String>>> {
    let notes = Arc::default();
    hands.state.lock().unwrap().notes = Some(Arc::clone(&notes));
    notes
}

impl FakeHands {
    pub fn new() -> Self {
        Self { state: Arc::default(), fate: Mutex::new(Fate::Works), hanging: watch::Sender::new(0) }
    }

    pub fn fate(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    /// The next pods are made without variables.
    pub fn without_variables(&self, pods: u32) {
        self.state.lock().unwrap().without_variables = pods;
    }

    /// An admission policy writes labels of its own on pods.
    pub fn takes_labels(&self) {
        self.state.lock().unwrap().takes_labels = true;
    }

    /// What is removed still shows at that moment.
    pub fn lingers(&self) {
        self.state.lock().unwrap().lingers = true;
    }

    pub fn refuse(&self, obstacle: &str) {
        self.state.lock().unwrap().refused.push(obstacle.to_owned());
    }

    /// The nth such call goes wrong, from 1.
    pub fn strike(&self, call: &str, nth: usize, how: How) {
        let strike = Strike { call: call.to_owned(), nth: Some(nth), how };
        self.state.lock().unwrap().strikes.push(strike);
    }

    pub fn fail_always(&self, call: &str) {
        let strike = Strike { call: call.to_owned(), nth: None, how: How::Fails };
        self.state.lock().unwrap().strikes.push(strike);
    }

    pub fn mend(&self) {
        self.state.lock().unwrap().strikes.clear();
    }

    pub fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// Something that somebody else made.
    pub fn add_foreign(&self, thing: Thing, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let made = Made { labels, pod: None, has_variables: false, looks: 0 };
        self.state.lock().unwrap().objects.insert((thing, "default".to_owned(), name.to_owned()), made);
    }

    /// What stands there.
    pub fn left(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.objects.keys().map(|(thing, namespace, name)| format!("{thing} {namespace}/{name}")).collect()
    }

    /// Notes the call, and does it, or not.
    fn does<T: Send + 'static>(
        &self,
        call: &str,
        work: impl FnOnce(&mut State) -> Result<T, Trouble>,
    ) -> BoxFuture<'static, Result<T, Trouble>> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(call.to_owned());
        let number = state.calls.iter().filter(|made| *made == call).count();
        let strikes = state.strikes.iter().filter(|strike| strike.call == call);
        let how =
            { strikes }.find(|strike| strike.nth.is_none_or(|nth| nth == number)).map(|strike| strike.how);
        let silent =
            || Trouble::Unreachable("the cluster's Kubernetes API did not answer within 10 s".to_owned());
        let answer = match how {
            None => work(&mut state),
            Some(How::Refused) => {
                Err(Trouble::Refused("the cluster's Kubernetes API refused you (403: no)".to_owned()))
            }
            Some(How::Fails) => Err(silent()),
            Some(How::Lost) => work(&mut state).and(Err(silent())),
            Some(How::Hangs) => {
                self.hanging.send_modify(|hanging| *hanging += 1);
                return std::future::pending().boxed();
            }
        };
        std::future::ready(answer).boxed()
    }
}

fn told(fate: Fate, run: &Run, has_variables: bool) -> SeenPod {
    let denied = "254 An error occurred (AccessDenied) when calling the ListBuckets operation: no";
    let mine = format!("0 arn:aws:sts::{ACCOUNT}:assumed-role/{}/eks-prod-eu-podgrant-v-1f0c", run.id.name());
    let (identity, buckets) = match fate {
        Fate::Node => (format!("0 arn:aws:sts::{ACCOUNT}:assumed-role/nodes/i-0abc"), "0 7"),
        Fate::Refused => ("255 Error when retrieving credentials from container-role".to_owned(), denied),
        Fate::NoSts => {
            let no = "254 An error occurred (AccessDenied) when calling the GetCallerIdentity operation: no";
            (no.to_owned(), denied)
        }
        Fate::Listing => (mine, "0 7"),
        Fate::NoS3 => (mine, "255 Connect timeout on endpoint URL: \"https://s3.eu-west-1.amazonaws.com/\""),
        _ => (mine, denied),
    };
    let uri = if has_variables { "http://169.254.170.23/v1/credentials" } else { "" };
    let message = match fate {
        Fate::Garbage => "exec format error".to_owned(),
        _ => format!(
            "podgrant-verify 1\nuri={uri}\nirsa=\nkeys=\ntries=1\nidentity={identity}\nbuckets={buckets}\nend\n"
        ),
    };
    let terminated = Terminated { reason: "Completed".to_owned(), exit_code: 0, message };
    let node = Some("ip-10-0-1-7".to_owned());
    SeenPod {
        phase: "Succeeded".to_owned(),
        node,
        has_variables,
        terminated: Some(terminated),
        ..SeenPod::default()
    }
}

/// The first looks find it pending, then running, then over.
fn seen(fate: Fate, made: &mut Made) -> SeenPod {
    made.looks += 1;
    let pending =
        SeenPod { phase: "Pending".to_owned(), has_variables: made.has_variables, ..SeenPod::default() };
    let pending = SeenPod { on_fargate: fate == Fate::Fargate, ..pending };
    let node = Some("ip-10-0-1-7".to_owned());
    match (fate, made.looks) {
        (Fate::NoNode, _) => SeenPod {
            unschedulable: Some("0/2 nodes are available: 2 Insufficient cpu.".to_owned()),
            ..pending
        },
        (_, 1) => pending,
        (Fate::NoImage, _) => SeenPod {
            node,
            waiting: Some(("ImagePullBackOff".to_owned(), "Back-off pulling image".to_owned())),
            ..pending
        },
        (_, 2) | (Fate::Silent, _) => SeenPod { phase: "Running".to_owned(), node, ..pending },
        _ => match &made.pod {
            Some(wish) => told(fate, &wish.run, made.has_variables),
            None => pending,
        },
    }
}

impl Hands for FakeHands {
    fn obstacles(
        &self,
        _: KubernetesAccess,
        _: Namespace,
    ) -> BoxFuture<'static, Result<Vec<String>, Trouble>> {
        self.does("obstacles", |state| Ok(state.refused.clone()))
    }

    fn make_account(&self, _: KubernetesAccess, run: Run) -> BoxFuture<'static, Result<(), Trouble>> {
        self.does("make account", |state| {
            let key = (Thing::ServiceAccount, run.namespace.to_string(), run.id.name());
            let made = Made { labels: run.labels(), pod: None, has_variables: false, looks: 0 };
            state
                .notes
                .iter()
                .for_each(|notes| notes.lock().unwrap().push(format!("{key:?} {:?}", made.labels)));
            state.objects.insert(key, made);
            Ok(())
        })
    }

    fn make_pod(&self, _: KubernetesAccess, wish: PodWish) -> BoxFuture<'static, Result<SeenPod, Trouble>> {
        let on_fargate = *self.fate.lock().unwrap() == Fate::Fargate;
        self.does("make pod", |state| {
            let has_variables = state.without_variables == 0;
            state.without_variables = state.without_variables.saturating_sub(1);
            let key = (Thing::Pod, wish.run.namespace.to_string(), wish.name.clone());
            let labels = if state.takes_labels { BTreeMap::new() } else { wish.run.labels() };
            let made = Made { labels, pod: Some(wish), has_variables, looks: 0 };
            state
                .notes
                .iter()
                .for_each(|notes| notes.lock().unwrap().push(format!("{key:?} {:?}", made.labels)));
            state.objects.insert(key, made);
            Ok(SeenPod { phase: "Pending".to_owned(), has_variables, on_fargate, ..SeenPod::default() })
        })
    }

    fn pod(
        &self,
        _: KubernetesAccess,
        namespace: Namespace,
        name: String,
    ) -> BoxFuture<'static, Result<Option<SeenPod>, Trouble>> {
        let fate = *self.fate.lock().unwrap();
        self.does("pod", |state| {
            let found = state.objects.get_mut(&(Thing::Pod, namespace.to_string(), name));
            Ok(found.map(|made| seen(fate, made)))
        })
    }

    fn remove(&self, _: KubernetesAccess, object: Object) -> BoxFuture<'static, Result<Removal, Trouble>> {
        self.does("remove", |state| {
            let key = (object.thing, object.run.namespace.to_string(), object.name.clone());
            let Some(made) = state.objects.get(&key) else { return Ok(Removal::Absent) };
            if Run::of_object(&object.run.cluster, &key.1, &key.2, &made.labels).as_ref() != Some(&object.run)
            {
                return Ok(Removal::Foreign);
            }
            state.objects.remove(&key);
            Ok(if state.lingers { Removal::Going } else { Removal::Removed })
        })
    }

    fn objects(
        &self,
        _: KubernetesAccess,
        cluster: ClusterId,
        namespace: Option<Namespace>,
    ) -> BoxFuture<'static, Result<Vec<Object>, Trouble>> {
        self.does("objects", |state| {
            let here = |place: &str| namespace.as_ref().is_none_or(|namespace| namespace.as_str() == place);
            let objects: BTreeSet<Object> = state
                .objects
                .iter()
                .filter(|((_, place, _), _)| here(place))
                .filter_map(|((thing, place, name), made)| {
                    let run = Run::of_object(&cluster, place, name, &made.labels)?;
                    Some(Object { thing: *thing, name: name.clone(), run })
                })
                .collect();
            Ok(objects.into_iter().collect())
        })
    }
}
