//! Patterns: whom they mean on a cluster, who goes before them, and what becomes of service accounts that go.

use std::collections::BTreeSet;

use insta::assert_snapshot;

use super::*;
use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts, UnseenAccounts};
use crate::agent::pods::AccessEntry;
use crate::{FindingKind, OnRefused, Workload};

fn workload(text: &str) -> Workload {
    foreign("prod-eu", text).workload
}

impl Snapshot {
    /// All namespaces of the cluster `prod-eu` were looked into, and these were there.
    fn accounts(self, names: &[&str]) -> Self {
        let there: BTreeSet<Workload> = names.iter().map(|name| workload(name)).collect();
        self.told(ServiceAccounts::Seen(SeenAccounts::new(Namespaces::All, there)))
    }

    fn unseen(self, why: UnseenAccounts) -> Self {
        self.told(ServiceAccounts::Unseen(why))
    }

    fn told(mut self, accounts: ServiceAccounts) -> Self {
        self.service_accounts.insert(cluster_id("prod-eu"), accounts);
        self
    }

    /// An earlier look missed these.
    fn missed(mut self, names: &[&str]) -> Self {
        self.accounts_missed.extend(names.iter().map(|name| (cluster_id("prod-eu"), workload(name))));
        self
    }
}

fn jobs() -> Role {
    role("jobs").grant("batch/job-_@prod-eu").trusting()
}

fn on_prod<const R: usize, const A: usize>(
    roles: [Role; R],
    associations: [crate::Association; A],
) -> Snapshot {
    snapshot(roles, [cluster("prod-eu")], associations)
}

#[test]
fn a_pattern_means_each_service_account_that_it_matches() {
    let world = on_prod([jobs()], [ours(&jobs(), "prod-eu", "batch/job-1@prod-eu")]);
    assert_snapshot!(grants(&world.accounts(&["batch/job-2", "batch/jobs", "batch/default", "other/job-1", "batch/job-1"])), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-1@prod-eu -> batch/job-_@prod-eu)
    + eu-west-1/prod-eu  batch/job-2  role jobs  (batch/job-_@prod-eu)
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_name_goes_before_a_pattern_whoever_stands_there() {
    let named = role("api").grant("batch/job-1@prod-eu").trusting();
    let standing = ours(&jobs(), "prod-eu", "batch/job-1@prod-eu");
    let world =
        on_prod([jobs(), named.clone()], [standing.clone()]).accounts(&["batch/job-1", "batch/job-2"]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs -> api
    + eu-west-1/prod-eu  batch/job-2  role jobs  (batch/job-_@prod-eu)
    ! conflict: eu-west-1/prod-eu batch/job-1 role jobs (batch/job-_@prod-eu): arn:aws:iam::111122223333:role/api names this service account, and a name goes before a pattern
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // Whether the cluster was looked into or not.
    let world = on_prod([jobs(), named.clone()], [standing.clone()]).unseen(UnseenAccounts::NoTime);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs -> api
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // And the second look says so too.
    let keys = TagKeys::default();
    let yields = |view: &Snapshot, now: Role| {
        yields_to(&standing, Some(now), &named, view, &keys, &Guardrails::default())
    };
    assert!(yields(&world, jobs()));
    assert!(!yields(&world, jobs().grant("batch/job-1@prod-eu")));
}

#[test]
fn of_two_patterns_who_stands_stays_and_otherwise_the_older_comes() {
    let other = role("other").grant("batch/_@prod-eu").trusting().born(1);
    let standing = ours(&jobs(), "prod-eu", "batch/job-1@prod-eu");
    let world = on_prod([jobs(), other], [standing]).accounts(&["batch/job-1", "batch/job-2"]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-1@prod-eu -> batch/job-_@prod-eu)
    + eu-west-1/prod-eu  batch/job-2  role other  (batch/_@prod-eu)
    ! conflict: eu-west-1/prod-eu batch/job-2 role jobs (batch/job-_@prod-eu): arn:aws:iam::111122223333:role/other has this service account already; a service account has one role on a cluster
    ! conflict: eu-west-1/prod-eu batch/job-1 role other (batch/_@prod-eu): arn:aws:iam::111122223333:role/jobs has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
}

#[test]
fn a_role_that_names_and_matches_has_one_claim() {
    let both = role("both").grant("batch/job-1@prod-eu batch/_@prod-eu").trusting();
    let world = on_prod([both], []).accounts(&["batch/job-1"]);
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  batch/job-1  role both  (batch/job-1@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_service_account_that_does_not_show_is_missed_before_it_is_gone() {
    let standing = || [ours(&jobs(), "prod-eu", "batch/job-1@prod-eu")];
    assert_snapshot!(grants(&on_prod([jobs()], standing()).accounts(&[])), @"
    . not yet: a service account that does not show is gone if it does not show after a while either: batch/job-1 on eu-west-1/prod-eu
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    assert_snapshot!(grants(&on_prod([jobs()], standing()).accounts(&[]).missed(&["batch/job-1"])), @"
    - eu-west-1/prod-eu  batch/job-1  role jobs  (service account gone)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // Back again, it was never gone.
    let world = on_prod([jobs()], standing()).accounts(&["batch/job-1"]).missed(&["batch/job-1"]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-1@prod-eu -> batch/job-_@prod-eu)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // In a view with a gap nothing is asked for that could come of nothing.
    assert_snapshot!(grants(&on_prod([jobs()], standing()).accounts(&[]).with_gap(None)), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn where_a_cluster_was_not_seen_nothing_goes_and_nothing_comes() {
    let named = role("named").grant("payments/api@prod-eu").trusting();
    let standing = ours(&jobs(), "prod-eu", "batch/job-1@prod-eu");
    let why = || "the cluster's Kubernetes API could not be reached: timed out".to_owned();
    let refused = || "the cluster's Kubernetes API refused podgrant (401: Unauthorized)".to_owned();
    let closed = |entry| UnseenAccounts::Closed { why: refused(), entry };
    let cases = [
        UnseenAccounts::Unreachable { why: why() },
        UnseenAccounts::NoTime,
        UnseenAccounts::Opening { why: refused() },
        closed(AccessEntry::Absent),
        closed(AccessEntry::WithoutPolicy),
        closed(AccessEntry::Whole),
        closed(AccessEntry::Foreign),
        closed(AccessEntry::NotTaken),
    ];
    let shown: Vec<String> = cases
        .into_iter()
        .map(|unseen| {
            let world = on_prod([jobs(), named.clone()], [standing.clone()]);
            let plan = grants(&world.unseen(unseen.clone()).missed(&["batch/job-1"]));
            format!("{unseen:?}\n{plan}\n")
        })
        .collect();
    assert_snapshot!(shown.concat(), @r#"
    Unreachable { why: "the cluster's Kubernetes API could not be reached: timed out" }
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@prod-eu): the cluster's service accounts are not known: the cluster's Kubernetes API could not be reached: timed out; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    NoTime
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    Opening { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)" }
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    Closed { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)", entry: Absent }
    + eu-west-1/prod-eu  access entry for podgrant, to view batch
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    Closed { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)", entry: WithoutPolicy }
    + eu-west-1/prod-eu  access entry for podgrant, to view batch
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    Closed { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)", entry: Whole }
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@prod-eu): the cluster's service accounts are not known: the cluster's Kubernetes API refused podgrant (401: Unauthorized); its access entry is as it should be, and may need a minute; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    Closed { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)", entry: Foreign }
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@prod-eu): the cluster's service accounts are not known: the cluster's Kubernetes API refused podgrant (401: Unauthorized); somebody else made an access entry for podgrant's role: give it AmazonEKSViewPolicy, or delete it and podgrant makes its own; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    Closed { why: "the cluster's Kubernetes API refused podgrant (401: Unauthorized)", entry: NotTaken }
    + eu-west-1/prod-eu  payments/api  role named  (payments/api@prod-eu)
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@prod-eu): the cluster's service accounts are not known: the cluster's Kubernetes API refused podgrant (401: Unauthorized); the cluster takes no access entries: set its authentication mode to API_AND_CONFIG_MAP; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    // A look at other namespaces is none at these.
    let elsewhere = Namespaces::of(&"payments/_@_".parse().unwrap());
    let seen = ServiceAccounts::Seen(SeenAccounts::new(elsewhere, BTreeSet::new()));
    let world = on_prod([jobs()], [standing]).told(seen).missed(&["batch/job-1"]);
    assert_snapshot!(grants(&world), @"
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_pattern_passes_by_namespaces_that_are_refused() {
    let all = role("all").grant("_/_@prod-eu").trusting();
    let there = ["kube-system/coredns", "kube-system/default", "payments/api"];
    assert_snapshot!(grants(&on_prod([all.clone()], []).accounts(&there)), @"
    + eu-west-1/prod-eu  payments/api  role all  (_/_@prod-eu)
    ! guardrail: role all (_/_@prod-eu): refused-namespaces: pods of kube-node-lease, kube-public, kube-system get no roles, and the pattern passes them by; PODGRANT_REFUSED_NAMESPACES says which
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // What stands there was made before: it is told, and left or withdrawn as asked.
    let standing = || [ours(&all, "prod-eu", "kube-system/coredns@prod-eu")];
    assert_snapshot!(grants(&on_prod([all.clone()], standing()).accounts(&there)), @"
    + eu-west-1/prod-eu  payments/api  role all  (_/_@prod-eu)
    ! guardrail: role all (_/_@prod-eu): refused-namespaces: pods of kube-node-lease, kube-public, kube-system get no roles, and the pattern passes them by; PODGRANT_REFUSED_NAMESPACES says which
    ! guardrail: eu-west-1/prod-eu kube-system/coredns role all (_/_@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 1 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    ");
    let withdrawing = Guardrails { on_refused: OnRefused::Withdraw, ..Guardrails::default() };
    let world = on_prod([all.clone()], standing()).accounts(&there);
    assert_snapshot!(printed(Duty::Grants { guardrails: withdrawing }, &world), @"
    - eu-west-1/prod-eu  kube-system/coredns  role all  (refused by a guardrail)
    + eu-west-1/prod-eu  payments/api  role all  (_/_@prod-eu)
    ! guardrail: role all (_/_@prod-eu): refused-namespaces: pods of kube-node-lease, kube-public, kube-system get no roles, and the pattern passes them by; PODGRANT_REFUSED_NAMESPACES says which
    ! guardrail: eu-west-1/prod-eu kube-system/coredns role all (_/_@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
    // Named as a whole it is refused without a look.
    let named = role("named").grant("kube-system/_@prod-eu").trusting();
    assert_snapshot!(grants(&on_prod([named.clone()], [])), @"
    ! guardrail: role named (kube-system/_@prod-eu): refused-namespaces: pods of kube-system get no roles, and the pattern passes them by; PODGRANT_REFUSED_NAMESPACES says which
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_eq!(accounts_wanted(&on_prod([named], []), &TagKeys::default(), &Guardrails::default()).len(), 0);
}

#[test]
fn whoever_makes_service_accounts_takes_nobodys_access_away() {
    let guardrails =
        || Guardrails { max_service_accounts: 2, on_refused: OnRefused::Withdraw, ..Guardrails::default() };
    let asking = jobs().tagged("podgrant/grant/named", "payments/api@prod-eu");
    let standing = || {
        [
            ours(&asking, "prod-eu", "batch/job-1@prod-eu"),
            ours(&asking, "prod-eu", "payments/api@prod-eu").labelled("named"),
        ]
    };
    let plan = |there: &[&str]| {
        printed(
            Duty::Grants { guardrails: guardrails() },
            &on_prod([asking.clone()], standing()).accounts(there),
        )
    };
    assert_snapshot!(plan(&["batch/job-1"]), @"
    ~ eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-1@prod-eu -> batch/job-_@prod-eu)
    Plan: 0 to create, 1 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(plan(&["batch/job-1", "batch/job-2"]), @"
    ! guardrail: eu-west-1/prod-eu role jobs: service-accounts: with what its patterns mean here its grants come to 3 service accounts, and at most 2 may share a role; what stands stays, and its patterns get nothing new here: narrow them, make a role for each workload, or raise PODGRANT_MAX_SERVICE_ACCOUNTS to 3
    Plan: 0 to create, 0 to update, 0 to delete, 2 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn no_cluster_is_looked_into_that_no_pattern_means() {
    let named = role("named").grant("payments/api@_").trusting();
    let patterned = role("jobs").grant("batch/job-_@prod-eu reports/_@test-eu team-_/x@test-eu").trusting();
    let clusters =
        || [cluster("prod-eu"), cluster("test-eu"), cluster("dev-eu").tagged("podgrant/enroll", "off")];
    let wanted = |world: &Snapshot| {
        let wanted = accounts_wanted(world, &TagKeys::default(), &Guardrails::default());
        let lines = wanted.iter().map(|(cluster, namespaces)| format!("{cluster}: {namespaces}\n"));
        lines.collect::<String>()
    };
    assert_eq!(wanted(&snapshot([named.clone()], clusters(), [])), "");
    assert_snapshot!(wanted(&snapshot([named.clone(), patterned.clone()], clusters(), [])), @"
    eu-west-1/prod-eu: batch
    eu-west-1/test-eu: all namespaces
    ");
    // Nor is one twice, nor for a service account that none means.
    let seen = snapshot([named, patterned.clone()], clusters(), []).accounts(&[]);
    assert_snapshot!(wanted(&seen), @"eu-west-1/test-eu: all namespaces");
    let just = |name: &str| {
        let mut world = snapshot([patterned.clone()], clusters(), []).scoped_to_cluster("prod-eu");
        world.scope.workloads = crate::model::Workloads::Just(workload(name));
        wanted(&world)
    };
    assert_eq!(just("payments/api"), "");
    assert_snapshot!(just("batch/job-7"), @"eu-west-1/prod-eu: batch");
}

#[test]
fn a_clusters_part_tells_of_a_pattern_once() {
    let all = role("all").grant("_/_@prod-eu").trusting();
    let told = |from: Option<&str>| {
        let mut world = on_prod([all.clone()], []).scoped_to_cluster("prod-eu");
        let from = from.map(workload);
        world.scope.workloads = crate::model::Workloads::Stretch(crate::model::Stretch { from, to: None });
        let world = world.unseen(UnseenAccounts::Unreachable { why: "no way".to_owned() });
        let plan = plan_grants(&world, &TagKeys::default(), &Guardrails::default());
        plan.findings.iter().filter(|finding| finding.kind == FindingKind::PatternNotExpanded).count()
    };
    assert_eq!((told(None), told(Some("b/x"))), (1, 0));
}

#[test]
fn trust_is_written_for_what_a_pattern_means() {
    let asking = role("jobs").grant("batch/job-_@prod-eu batch/x@prod-eu").amendable();
    let world = on_prod([asking], []).accounts(&["batch/job-1", "batch/default"]);
    assert_snapshot!(grants(&world), @"
    ~ role jobs  trust policy: + allows pods.eks.amazonaws.com for batch/job-_@prod-eu, batch/x@prod-eu
    + eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-_@prod-eu)
    + eu-west-1/prod-eu  batch/x  role jobs  (batch/x@prod-eu)
    Plan: 2 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}
