use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts};
use crate::fixtures::{cluster, cluster_id, foreign, ours, role, snapshot};
use crate::model::Workloads;
use crate::outcome::FollowUp;
use crate::plan::{Duty, Plan, plan, plan_grants, plan_sweep};
use crate::{Change, Guardrails, OnRefused, Snapshot};

fn parts(snapshot: &Snapshot, bytes: usize) -> Vec<SweepPart> {
    parts_of(&plan_sweep(snapshot, &TagKeys::default(), &Guardrails::default(), None, bytes))
}

fn parts_of(plan: &Plan) -> Vec<SweepPart> {
    let parts = plan.waits.iter().map(|wait| match &wait.follow_up {
        FollowUp::ClusterSweep(part) => SweepPart::clone(part),
        other => panic!("{other:?}"),
    });
    parts.collect()
}

/// What a worker would plan: its part, over a message and back, and the associations of its cluster.
fn served(part: &SweepPart, world: &Snapshot, guardrails: &Guardrails) -> Plan {
    let text = serde_json::to_string(part).unwrap();
    let part: SweepPart = serde_json::from_str(&text).unwrap();
    let mut view = snapshot([], [], []);
    view.scope.clusters = Some([part.cluster.clone()].into());
    view.scope.workloads = Workloads::Stretch(part.stretch.clone());
    view.clusters = part.clusters().into_iter().map(|cluster| (cluster.id.clone(), cluster)).collect();
    view.roles = part.roles.iter().map(|role| (role.arn.clone(), Role::clone(role))).collect();
    view.associations = world.associations.iter().filter(|a| a.cluster == part.cluster).cloned().collect();
    // As a worker does: roles that marks speak of and the part does not are asked for.
    for association in &view.associations {
        if let Some(mark) = association.managed()
            && let Some(role) = world.roles.get(&mark.role_arn)
        {
            view.roles.entry(role.arn.clone()).or_insert_with(|| role.clone());
        }
    }
    plan_grants(&view, &TagKeys::default(), guardrails)
}

/// Changes as people read them, in order; and the roles whose trust policies are amended.
fn told<'a>(changes: impl Iterator<Item = &'a Change>) -> (Vec<String>, Vec<&'a RoleArn>) {
    let mut told = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::AmendTrust { role, .. } => told.1.push(role),
            _ => told.0.push(change.to_string()),
        }
    }
    told.0.sort();
    told.1.sort();
    told
}

#[test]
fn regions_take_turns() {
    let ids = ["eu-west-1/a", "eu-west-1/b", "eu-west-1/c", "us-east-1/a", "us-east-1/b", "us-west-2/a"];
    let world = snapshot([role("api").grant("team/api@_")], ids.map(cluster), []);
    let duty = Duty::Sweep { round: None, guardrails: Guardrails::default(), part_bytes: usize::MAX };
    let in_turn = parts_of(&plan(duty, &world, &TagKeys::default()));
    let in_turn: Vec<String> = in_turn.iter().map(|part| part.cluster.to_string()).collect();
    let expected = ["eu-west-1/a", "us-east-1/a", "us-west-2/a", "eu-west-1/b", "us-east-1/b", "eu-west-1/c"];
    assert_eq!(in_turn, expected);
}

const CLUSTERS: [&str; 3] = ["eu-west-1/prod", "us-east-1/prod", "eu-west-1/test"];
const WORKLOADS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y", "c/x"];
const SELECTORS: [&str; 6] = ["_", "prod", "test", "us-east-1/prod", "env=live", "gone"];

/// Of the namespaces in [`WORKLOADS`].
const REFUSED_NAMESPACE: &str = "c";

fn guardrails() -> impl Strategy<Value = Guardrails> {
    (any::<[bool; 3]>(), 2..5_usize).prop_map(|([namespace, administrators, withdraw], most)| Guardrails {
        refused_namespaces: namespace.then(|| REFUSED_NAMESPACE.parse().unwrap()).into_iter().collect(),
        refuse_administrators: administrators,
        max_service_accounts: most,
        on_refused: if withdraw { OnRefused::Withdraw } else { OnRefused::Report },
        ..Guardrails::default()
    })
}

fn any_role() -> impl Strategy<Value = Role> {
    let grants = prop::collection::vec((0..WORKLOADS.len(), 0..SELECTORS.len()), 0..5);
    let powers = prop_oneof![
        6 => Just(Powers::Limited),
        1 => Just(Powers::Everything { policy: "p".to_owned() }),
        1 => Just(Powers::Unread),
    ];
    let trusting = prop_oneof![4 => Just(Some(true)), 2 => Just(None), 1 => Just(Some(false))];
    (grants, 0..3_i64, powers, trusting, any::<bool>()).prop_map(|(grants, born, powers, trusting, adopt)| {
        let value: Vec<String> = grants
            .iter()
            .map(|(workload, selector)| format!("{}@{}", WORKLOADS[*workload], SELECTORS[*selector]))
            .collect();
        let built = role("any").born(born).with(powers);
        let built = if value.is_empty() { built } else { built.grant(&value.join(" ")) };
        let built = if adopt { built.tagged("podgrant/adopt", "on") } else { built };
        match trusting {
            Some(true) => built.trusting(),
            // podgrant may amend it, or not.
            None => built.amendable(),
            Some(false) => built,
        }
    })
}

fn world() -> impl Strategy<Value = Snapshot> {
    let standing = prop::collection::vec(prop::option::weighted(0.6, (0..8_usize, any::<[bool; 2]>())), 15);
    (prop::collection::vec(any_role(), 8), standing).prop_map(|(roles, standing)| {
        let mut view = snapshot(
            [],
            CLUSTERS.map(|name| {
                let built = cluster(name);
                if name.ends_with("/prod") { built.tagged("env", "live") } else { built }
            }),
            [],
        );
        let built: Vec<Role> = (0..)
            .zip(roles)
            .map(|(number, drawn)| {
                let Role { arn, id, .. } = role(&format!("role-{number}"));
                Role { arn, id, ..drawn }
            })
            .collect();
        let places = CLUSTERS.iter().flat_map(|on| WORKLOADS.map(|workload| (*on, workload)));
        for ((on, workload), standing) in places.zip(standing) {
            let made = standing.map(|(number, by)| match by {
                [true, _] => ours(&built[number], on, &format!("{workload}@_")),
                [false, true] => foreign(on, workload).granting(&built[number]),
                [false, false] => foreign(on, workload),
            });
            view.associations.extend(made);
        }
        view.roles = built.into_iter().map(|role| (role.arn.clone(), role)).collect();
        view
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// However small the parts are, together they say what one look at everything would.
    #[test]
    fn the_parts_of_a_sweep_add_up_to_the_whole(
        world in world(), guardrails in guardrails(), bytes in 1_000..8_000_usize,
    ) {
        let whole = plan_grants(&world, &TagKeys::default(), &guardrails);
        let planned = plan_sweep(&world, &TagKeys::default(), &guardrails, None, bytes);
        // Of too many claims some are left out: see below.
        prop_assume!(!planned.findings.iter().any(|finding| finding.reason.starts_with("more roles ask")));
        let plans: Vec<Plan> =
            parts_of(&planned).iter().map(|part| served(part, &world, &guardrails)).collect();
        // Trust policies are amended once, by whoever plans the sweep.
        let (changes, amended) = told(plans.iter().chain([&planned]).flat_map(|plan| &plan.changes));
        prop_assert_eq!((&changes, &amended), (&told(whole.changes.iter()).0, &told(whole.changes.iter()).1));
        prop_assert_eq!(amended, told(planned.changes.iter()).1);
        let unchanged: usize = plans.iter().map(|plan| plan.unchanged).sum();
        prop_assert_eq!(unchanged, whole.unchanged);
        let waits = plans.iter().flat_map(|plan| &plan.waits).collect::<BTreeSet<_>>();
        prop_assert_eq!(waits, whole.waits.iter().collect::<BTreeSet<_>>());
        // What is wrong with roles is said by whoever plans the sweep.
        let findings = planned.findings.iter().chain(plans.iter().flat_map(|plan| &plan.findings));
        prop_assert_eq!(
            findings.map(|f| (f.kind, &f.role, &f.workload)).collect::<BTreeSet<_>>(),
            whole.findings.iter().map(|f| (f.kind, &f.role, &f.workload)).collect::<BTreeSet<_>>()
        );
    }

    /// Every service account is in exactly one stretch of its cluster.
    #[test]
    fn the_stretches_of_a_cluster_leave_no_gap(world in world(), bytes in 1..4_000_usize) {
        let parts = parts(&world, bytes);
        for name in CLUSTERS {
            let id = crate::fixtures::cluster_id(name);
            for workload in WORKLOADS.iter().chain(&["0/0", "b/x1", "zz/z"]) {
                let workload = foreign(name, workload).workload;
                let holding = parts.iter().filter(|p| p.cluster == id && p.stretch.holds(&workload)).count();
                prop_assert_eq!(holding, 1, "{} on {}", workload, name);
            }
        }
    }
}

#[test]
fn a_part_is_no_larger_than_a_message_may_be() {
    let mut view = snapshot([], [cluster("prod")], []);
    for number in 0..3_000 {
        let name = format!("service-{number}-of-some-team");
        let condition =
            format!(r#"{{"StringEquals":{{"aws:RequestTag/kubernetes-namespace":"ns-{}"}}}}"#, number % 9);
        let role = role(&name).trusting_where(&condition).grant(&format!("ns-{}/{name}@prod", number % 9));
        view.roles.insert(role.arn.clone(), role);
    }
    let parts = parts(&view, part_bytes(MESSAGE_BYTES));
    assert!(parts.len() > 1);
    for part in &parts {
        let body = serde_json::to_string(part).unwrap();
        assert!(body.len() < 256 * 1024 - 10_000, "{} bytes", body.len());
    }
    let carried: BTreeSet<_> =
        parts.iter().flat_map(|part| part.roles.iter().map(|role| &role.arn)).collect();
    assert_eq!(carried.len(), 3_000);
    let smallest = parts.iter().take(parts.len() - 1).map(|part| part.roles.len()).min().unwrap();
    assert!(smallest > 900, "a part carries just {smallest} roles");
}

#[test]
fn of_too_many_claims_on_one_service_account_the_oldest_travel() {
    let mut view = snapshot([], [cluster("prod")], []);
    for number in 0..50 {
        let role = role(&format!("role-{number}")).trusting().grant("a/x@prod").born(50 - number);
        view.roles.insert(role.arn.clone(), role);
    }
    let parts = parts(&view, 3_000);
    let [part] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    assert!((2..50).contains(&part.roles.len()), "{}", part.roles.len());
    assert!(part.roles.iter().any(|role| role.arn.role_name() == "role-49"));
    let winner = served(part, &view, &Guardrails::default()).changes.remove(0).to_string();
    assert_eq!(
        winner,
        plan_grants(&view, &TagKeys::default(), &Guardrails::default()).changes[0].to_string()
    );
}

#[test]
fn who_cannot_win_a_service_account_crowds_nobody_out() {
    let mut view = snapshot([], [cluster("prod")], []);
    for number in 0..50 {
        let asking = role(&format!("role-{number}")).grant("a/x@prod").born(number);
        let role = match number {
            49 => asking.trusting(),
            even if even % 2 == 0 => asking.trusting().with(Powers::Everything { policy: "p".to_owned() }),
            _ => asking,
        };
        view.roles.insert(role.arn.clone(), role);
    }
    let parts = parts(&view, 3_000);
    let [part] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    let changes = served(part, &view, &Guardrails::default()).changes;
    assert_eq!(changes, plan_grants(&view, &TagKeys::default(), &Guardrails::default()).changes);
    assert_eq!(changes[0].role().unwrap().role_name(), "role-49");
}

#[test]
fn only_podgrants_own_tags_travel() {
    let role = role("payments").trusting().grant("a/x@prod").tagged("secret", "of another team");
    let view = snapshot([role], [cluster("prod")], []);
    let keys: BTreeSet<String> = parts(&view, 1_000)[0].roles[0].tags.keys().cloned().collect();
    assert_eq!(keys, BTreeSet::from(["podgrant/grant".to_owned()]));
}

#[test]
fn a_role_that_names_no_policy_is_no_part() {
    let view = snapshot([role("payments").trusting().grant("a/x@prod")], [cluster("prod")], []);
    let mut part = serde_json::to_value(&parts(&view, 1_000)[0]).unwrap();
    part["roles"]["policies"] = serde_json::json!([]);
    let error = serde_json::from_value::<SweepPart>(part).unwrap_err();
    assert!(error.to_string().contains("a policy that is not there"), "{error}");
}

#[test]
fn a_large_clusters_share_is_bounded_and_comes_round_all_the_same() {
    let daily = Round { number: 7, of: 24 };
    for (associations, rounds) in [(0, 24), (100, 24), (3_000, 24), (3_001, 48), (5_000, 48), (6_001, 72)] {
        assert_eq!(daily.of_cluster(associations).of, rounds, "{associations}");
    }
    // However few rounds are asked for.
    for of in [1, 2, 24, 500] {
        let ids: Vec<AssociationId> = (0..5_000).map(|n| format!("a-{n:x}").parse().unwrap()).collect();
        let rounds = Round { number: 0, of }.of_cluster(ids.len()).of;
        let mut seen = BTreeMap::new();
        for number in 100..100 + rounds {
            let round = Round { number, of }.of_cluster(ids.len());
            let share: Vec<_> = ids.iter().filter(|id| round.holds(id)).collect();
            assert!(share.len() < 200, "{} of {of}", share.len());
            share.into_iter().for_each(|id| *seen.entry(id).or_insert(0) += 1);
        }
        assert!(seen.len() == ids.len() && seen.values().all(|times| *times == 1), "{of}");
    }
}

#[test]
fn regions_take_turns_for_each_has_limits_of_its_own() {
    let regions = ["eu-west-1/a", "eu-west-1/b", "eu-west-1/c", "us-east-1/d", "us-east-1/e", "eu-north-1/f"];
    let snapshot = snapshot([], regions.map(cluster), []);
    let order: Vec<String> = parts(&snapshot, 1_000).iter().map(|part| part.cluster.to_string()).collect();
    let expected =
        ["eu-north-1/f", "eu-west-1/a", "us-east-1/d", "eu-west-1/b", "us-east-1/e", "eu-west-1/c"];
    assert_eq!(order, expected);
}

#[test]
fn after_as_many_sweeps_as_rounds_each_association_was_described_once() {
    let ids: Vec<AssociationId> = (0..500).map(|n| format!("a-{n:017x}").parse().unwrap()).collect();
    let (interval, rounds) = (3_600, 24);
    let mut seen: BTreeMap<&AssociationId, u32> = BTreeMap::new();
    let mut shares = Vec::new();
    for sweep in 0..24 {
        // Never quite on time.
        let late = [0, 1_500, -1_700, 30][sweep % 4];
        let now = 1_800_000_000 + 3_600 * i64::try_from(sweep).unwrap() + late;
        let round = Round::at(now, interval, rounds).unwrap();
        let share: Vec<_> = ids.iter().filter(|id| round.holds(id)).collect();
        shares.push(share.len());
        share.into_iter().for_each(|id| *seen.entry(id).or_default() += 1);
    }
    assert!(seen.len() == ids.len() && seen.values().all(|times| *times == 1));
    assert!(shares.iter().all(|share| (8..40).contains(share)), "{shares:?}");
    assert_eq!((Round::at(0, 0, 24), Round::at(0, 3_600, 0)), (None, None));
}

/// What a part's roles make of its stretch is what all roles make of the whole, cut there.
#[test]
fn whoever_competes_for_a_service_account_is_in_one_part() {
    let asking = |name: &str, grant: &str, born: i64| role(name).grant(grant).trusting().born(born);
    let mut roles = vec![
        asking("everywhere", "_/_@prod-eu", 9),
        asking("teams", "team-_/_@prod-eu", 5),
        asking("job", "team-b/job-_@prod-eu", 4),
        asking("last", "zz/_@prod-eu", 3),
        asking("same-name", "_/api@prod-eu", 2),
    ];
    roles.extend((0..40_i64).map(|number| {
        let team = ["a", "b", "c", "d", "e", "f", "g", "h"][usize::try_from(number % 8).unwrap()];
        asking(&format!("named-{number}"), &format!("team-{team}/api@prod-eu"), 100 + number)
    }));
    let mut world = snapshot([], [cluster("prod-eu")], []);
    world.roles = roles.into_iter().map(|role| (role.arn.clone(), role)).collect();
    let accounts = ["a/api", "team-a/api", "team-a/x", "team-b/job-1", "team-b/job-2", "team-c/api", "zz/zz"];
    let there = accounts.iter().map(|name| foreign("prod-eu", name).workload).collect();
    let seen = SeenAccounts::new(Namespaces::All, there);
    let id = cluster_id("prod-eu");
    world.service_accounts.insert(id.clone(), ServiceAccounts::Seen(seen));
    let (keys, guardrails) = (TagKeys::default(), Guardrails::default());
    let whole = plan_grants(&world, &keys, &guardrails).changes;
    // And six that are named and not there.
    assert_eq!(whole.len(), accounts.len() + 6);
    for bytes in [100_000, 4_500, 3_500, 3_000] {
        let parts = parts(&world, bytes);
        let (mut made, count) = (Vec::new(), parts.len());
        for part in parts {
            let mut view = world.clone();
            view.scope.clusters = Some([id.clone()].into());
            view.scope.workloads = Workloads::Stretch(part.stretch.clone());
            view.roles = part.roles.iter().map(|role| (role.arn.clone(), Role::clone(role))).collect();
            made.extend(plan_grants(&view, &keys, &guardrails).changes);
        }
        made.sort_by_key(|change| change.workload().cloned());
        let mut whole = whole.clone();
        whole.sort_by_key(|change| change.workload().cloned());
        assert_eq!(made, whole, "{bytes} bytes, {count} parts");
        assert!(count > 1 || bytes > 50_000, "{bytes} bytes");
    }
}
