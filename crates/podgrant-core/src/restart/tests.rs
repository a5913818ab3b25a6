//! A Deployment whose two pods lack the variables; each row changes something, and the table shows what becomes of it.

use std::fmt::Write as _;

use super::*;
use crate::explain::evidence::{Container, FULL_URI, TOKEN_FILE};
use crate::fixtures::NOW;

const MADE: i64 = NOW - 3600;

fn owner(written: &str) -> Owner {
    let mut parts = written.split('/');
    let mut part = || parts.next().unwrap().to_owned();
    Owner { group: part(), kind: part(), name: part() }
}

fn object(written: &str) -> ObjectRef {
    ObjectRef { namespace: "payments".to_owned(), owner: owner(written) }
}

fn pod(name: &str, kept: &str) -> Pod {
    Pod {
        namespace: "payments".to_owned(),
        name: name.to_owned(),
        account: "api".to_owned(),
        created_at: Some(MADE - 60),
        owner: (!kept.is_empty()).then(|| owner(kept)),
        containers: vec![Container { name: "app".to_owned(), ..Container::default() }],
        ..Pod::default()
    }
}

fn given(pod: &mut Pod) {
    pod.has_token = true;
    let uri = Some("http://169.254.170.23/v1/credentials".to_owned());
    pod.containers[0].variables = [(FULL_URI, uri), (TOKEN_FILE, Some(String::new()))].into();
}

fn by_irsa(pod: &mut Pod) {
    pod.containers[0].variables.insert(WEB_IDENTITY, None);
}

fn controller() -> Controller {
    Controller {
        resource_version: "7".to_owned(),
        generation: 3,
        observed: 3,
        strategy: Strategy::Rolling,
        labels: [("app".to_owned(), "api".to_owned())].into(),
        restarted_at: None,
        counts: Counts { desired: 2, all: 2, updated: 2, available: 2 },
        is_stuck: false,
        is_ordered: false,
    }
}

fn budget() -> Budget {
    Budget {
        name: "api".to_owned(),
        selector: Some(Selector { labels: controller().labels, expressions: Vec::new() }),
        allowed: 0,
        is_current: true,
        healthy: 2,
        wanted: 2,
    }
}

const SET: &str = "apps/ReplicaSet/api-6c5f";
const DEPLOYMENT: &str = "apps/Deployment/api";

fn sight() -> Sight {
    let mut sight = Sight {
        pods: vec![pod("api-1", SET), pod("api-2", SET)],
        budgets: [("payments".to_owned(), Ok(Vec::new()))].into(),
        ..Sight::default()
    };
    made_at(&mut sight, MADE);
    sight.set(SET, Object { owner: Some(owner(DEPLOYMENT)), controller: None });
    sight.set(DEPLOYMENT, Object { owner: None, controller: Some(controller()) });
    sight
}

fn made_at(sight: &mut Sight, at: i64) {
    let association = "a-1".parse().unwrap();
    let times = Times { association, created_at: at, modified_at: at };
    sight.times = [("payments/api".to_owned(), Ok(times))].into();
}

impl Sight {
    fn set(&mut self, written: &str, found: Object) {
        self.objects.insert(object(written), Ok(Some(found)));
    }

    fn deployment(&mut self) -> &mut Controller {
        let found = self.objects.get_mut(&object(DEPLOYMENT)).unwrap().as_mut().unwrap();
        found.as_mut().unwrap().controller.as_mut().unwrap()
    }

    fn budget(&mut self, change: impl FnOnce(&mut Budget)) {
        let mut held = budget();
        change(&mut held);
        self.budgets.insert("payments".to_owned(), Ok(vec![held]));
    }
}

/// A StatefulSet whose pods are made in order.
fn ordered(sight: &mut Sight, change: impl FnOnce(&mut Counts)) {
    sight.pods.iter_mut().for_each(|pod| pod.owner = Some(owner("apps/StatefulSet/db")));
    let mut controller = Controller { is_ordered: true, ..controller() };
    change(&mut controller.counts);
    sight.set("apps/StatefulSet/db", Object { owner: None, controller: Some(controller) });
}

fn shown(sight: &Sight) -> String {
    let mut told = String::new();
    for unasked in sight.unasked() {
        let _ = writeln!(told, "    still to read: {unasked}");
    }
    for restart in sight.restarts() {
        let Restart { workload, account, pods, of, why, step, .. } = restart;
        let _ = writeln!(told, "    {workload} ({account}): {} of {of}, {why}", pods.len());
        let _ = writeln!(told, "        {}: {}", step.kind.as_str(), step.told);
        if !step.remedy.is_empty() {
            let _ = writeln!(told, "        → {}", step.remedy);
        }
    }
    if told.is_empty() { "    nothing\n".to_owned() } else { told }
}

#[test]
fn what_becomes_of_a_workload() {
    type Row = (&'static str, fn(&mut Sight));
    let rows: &[Row] = &[
        ("as it is", |_| {}),
        ("all have the variables", |s| s.pods.iter_mut().for_each(given)),
        ("one has them", |s| given(&mut s.pods[0])),
        ("one has them, and another ReplicaSet", |s| {
            given(&mut s.pods[0]);
            s.pods[0].owner = Some(owner("apps/ReplicaSet/api-7d60"));
            s.set("apps/ReplicaSet/api-7d60", Object { owner: Some(owner(DEPLOYMENT)), controller: None });
        }),
        ("made within a minute of the association", |s| made_at(s, MADE - 100)),
        ("younger than the association", |s| made_at(s, MADE - 3600)),
        ("when the association was made was not asked for", |s| s.times.clear()),
        ("when the association was made was not read", |s| {
            s.times = [("payments/api".to_owned(), Err("denied".to_owned()))].into();
        }),
        ("the same, on Fargate", |s| {
            s.times.clear();
            s.pods[1].runs_on = Some(NodeKind::Fargate);
        }),
        ("the same, and bare pods", |s| {
            s.times.clear();
            s.pods.iter_mut().for_each(|pod| pod.owner = None);
        }),
        ("the association is gone", |s| s.leave("payments/api")),
        ("with a role by IRSA", |s| s.pods.iter_mut().for_each(by_irsa)),
        ("with a role by IRSA, and Pod Identity is broken", |s| {
            s.pods.iter_mut().for_each(by_irsa);
            s.broken = [("payments/api".to_owned(), "the cluster has no agent".to_owned())].into();
        }),
        ("without IRSA, and Pod Identity is broken", |s| {
            s.broken = [("payments/api".to_owned(), "the cluster has no agent".to_owned())].into();
        }),
        ("on Fargate", |s| s.pods[1].runs_on = Some(NodeKind::Fargate)),
        ("on Windows", |s| s.pods[1].runs_on = Some(NodeKind::Windows)),
        ("of a service account that keeps EKS out", |s| {
            s.pods.iter_mut().for_each(|pod| pod.containers[0].is_skipped = true);
        }),
        ("paused", |s| s.deployment().strategy = Strategy::Paused),
        ("Recreate", |s| s.deployment().strategy = Strategy::AllAtOnce),
        ("being rolled: not observed", |s| s.deployment().observed = 2),
        ("being rolled: pods to come", |s| s.deployment().counts.updated = 1),
        ("being rolled: pods to go", |s| s.deployment().counts.all = 3),
        ("stuck", |s| {
            s.deployment().counts.updated = 1;
            s.deployment().is_stuck = true;
        }),
        ("pods that do not serve hold nothing up", |s| s.deployment().counts.available = 0),
        ("a budget that lets none go", |s| s.budget(|_| {})),
        ("a budget that lets one go", |s| s.budget(|budget| budget.allowed = 1)),
        ("a budget that is not counted yet", |s| {
            s.budget(|budget| (budget.allowed, budget.is_current) = (1, false));
        }),
        ("a budget of others", |s| {
            s.budget(|budget| drop(budget.selector.as_mut().unwrap().labels.insert("x".into(), "y".into())));
        }),
        ("a budget of everything", |s| s.budget(|budget| budget.selector = Some(Selector::default()))),
        ("a budget of nothing", |s| s.budget(|budget| budget.selector = None)),
        ("budgets unseen", |s| drop(s.budgets.insert("payments".into(), Err("forbidden".into())))),
        ("gone", |s| drop(s.objects.insert(object(DEPLOYMENT), Ok(None)))),
        ("unseen", |s| drop(s.objects.insert(object(DEPLOYMENT), Err("forbidden".into())))),
        ("ReplicaSet unseen", |s| drop(s.objects.insert(object(SET), Err("forbidden".into())))),
        ("ReplicaSet unasked", |s| drop(s.objects.remove(&object(SET)))),
        ("Deployment unasked", |s| drop(s.objects.remove(&object(DEPLOYMENT)))),
        ("a ReplicaSet by itself", |s| s.set(SET, Object::default())),
        ("Argo's", |s| {
            let rollout = Some(owner("argoproj.io/Rollout/api"));
            s.set(SET, Object { owner: rollout, controller: None });
        }),
        ("bare pods", |s| s.pods.iter_mut().for_each(|pod| pod.owner = None)),
        ("a Job's", |s| {
            s.pods[0].owner = Some(owner("batch/Job/once"));
            s.set("batch/Job/once", Object::default());
            s.pods[1].owner = Some(owner("batch/Job/nightly-1"));
            let cron = Some(owner("batch/CronJob/nightly"));
            s.set("batch/Job/nightly-1", Object { owner: cron, controller: None });
        }),
        ("a DaemonSet that is left to people", |s| {
            s.pods.iter_mut().for_each(|pod| pod.owner = Some(owner("apps/DaemonSet/api")));
            let controller = Controller { strategy: Strategy::OnDelete, ..controller() };
            s.set("apps/DaemonSet/api", Object { owner: None, controller: Some(controller) });
        }),
        ("a StatefulSet with a partition", |s| {
            s.pods.iter_mut().for_each(|pod| pod.owner = Some(owner("apps/StatefulSet/db")));
            let controller = Controller { strategy: Strategy::From(1), ..controller() };
            s.set("apps/StatefulSet/db", Object { owner: None, controller: Some(controller) });
        }),
        ("a StatefulSet with a pod that is not ready", |s| ordered(s, |counts| counts.available = 1)),
        ("one that waits for its first pod", |s| {
            ordered(s, |counts| (counts.all, counts.updated, counts.available) = (1, 1, 0));
        }),
        ("one that is being rolled, and waits", |s| {
            ordered(s, |counts| (counts.updated, counts.available) = (1, 1));
        }),
        ("one whose pods are all ready", |s| ordered(s, |_| {})),
        ("an operator's", |s| {
            let owner = Some(owner("example.com/Service/api"));
            s.set(DEPLOYMENT, Object { owner, controller: Some(controller()) });
        }),
        ("somebody's own kinds, and a node's", |s| {
            s.pods[0].owner = Some(owner("example.com/Database/db"));
            s.pods[1].owner = Some(owner("/Node/ip-1"));
        }),
        ("owners in a ring", |s| {
            s.set(SET, Object { owner: Some(owner(SET)), controller: None });
        }),
        ("a Deployment of another group is not Kubernetes'", |s| {
            let other = Some(owner("example.com/Deployment/api"));
            s.set(SET, Object { owner: other, controller: None });
        }),
    ];
    let mut table = String::new();
    for (row, change) in rows {
        let mut sight = sight();
        change(&mut sight);
        let _ = write!(table, "{row}\n{}", shown(&sight));
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_changed_since_it_was_shown_is_not_rolled() {
    let sight = sight();
    let shown = sight.restarts().remove(0);
    assert_eq!(sight.step_again(&shown).kind, StepKind::Roll);
    let mut other = sight.clone();
    other.deployment().generation = 4;
    other.deployment().observed = 4;
    assert_eq!(other.step_again(&shown), Step::changed());
    let mut other = sight.clone();
    other.deployment().observed = 2;
    assert_eq!(other.step_again(&shown).kind, StepKind::HeldBack);
    let mut other = sight.clone();
    other.budget(|_| {});
    assert_eq!(other.step_again(&shown).kind, StepKind::HeldBack);
    let mut other = sight.clone();
    other.broken = [("payments/api".to_owned(), "the cluster has no agent".to_owned())].into();
    assert_eq!(other.step_again(&shown).kind, StepKind::HeldBack);
    let mut other = sight;
    other.pods.iter_mut().for_each(given);
    assert_eq!(other.step_again(&shown).told, "its pods lack nothing any more, or their association is gone");
}

#[test]
fn a_template_that_was_put_back_is_known() {
    let at = |at: Option<&str>| Controller { restarted_at: at.map(str::to_owned), ..controller() };
    let mut shown = sight().restarts().remove(0);
    assert!(!shown.is_put_back(&at(Some("ours")), "ours"));
    assert!(shown.is_put_back(&at(None), "ours"));
    assert!(!shown.is_put_back(&at(Some("somebody else's")), "ours"));
    shown.restarted_at = Some("former".to_owned());
    assert!(shown.is_put_back(&at(Some("former")), "ours"));
}

#[test]
fn a_rolling_update_is_over_when_kubectl_says_so() {
    type Changed = fn(&mut Controller);
    let rows: &[(&str, Changed)] = &[
        ("as before", |_| {}),
        ("not observed", |c| c.observed = 3),
        ("none made", |c| c.counts.updated = 0),
        ("former ones there", |c| c.counts.all = 3),
        ("not available", |c| c.counts.available = 1),
        ("stuck", |c| (c.counts.available, c.is_stuck) = (1, true)),
        ("rolled again meanwhile", |c| c.generation = 5),
        ("scaled to none", |c| c.counts = Counts::default()),
    ];
    let told = rows.iter().map(|(row, change)| {
        let mut controller = Controller { generation: 4, observed: 4, ..controller() };
        change(&mut controller);
        format!("{row}: {:?}", controller.progress(4))
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
}

#[test]
fn selectors_select_as_kubernetes_does() {
    let labels: BTreeMap<String, String> = [("app".to_owned(), "api".to_owned())].into();
    let rows = [
        ("app", "In", "api web", true),
        ("app", "In", "web", false),
        ("tier", "In", "api", false),
        ("app", "NotIn", "web", true),
        ("app", "NotIn", "api", false),
        ("tier", "NotIn", "api", true),
        ("app", "Exists", "", true),
        ("tier", "Exists", "", false),
        ("tier", "DoesNotExist", "", true),
        ("app", "DoesNotExist", "", false),
    ];
    for (key, operator, values, expected) in rows {
        let expression = Expression {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.split_whitespace().map(str::to_owned).collect(),
        };
        let selector = Selector { labels: BTreeMap::new(), expressions: vec![expression] };
        assert_eq!(selector.matches(&labels), expected, "{key} {operator} {values}");
    }
}
