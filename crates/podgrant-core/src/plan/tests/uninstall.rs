//! What uninstalling takes: all that carries our mark, and nothing else.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use proptest::prelude::*;

use super::oracle::{built, world};
use super::*;
use crate::fixtures::NOW;
use crate::model::ClusterAccess;
use crate::trust::manage::{SID, keeps_what_is_not_ours, withdrawn};
use crate::{AllowBy, Approved, Association, Limits, guard};

const OURS: &str = r#"{"Sid":"PodgrantManaged1","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api"}}}"#;
const NODES: &str =
    r#"{ "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole" }"#;

/// A person's, and so tight that they would hold everything up if they counted.
const LIMITS: Limits =
    Limits { deletions: 0, role_deletions: 0, share: 0.0, share_from: 0, allow_by: AllowBy::Flag };

fn decide(view: &Snapshot) -> Approved {
    let keys = TagKeys::default();
    guard(plan(Duty::Uninstall, view, &keys), view, &keys, &LIMITS)
}

fn told(view: &Snapshot) -> String {
    let approved = decide(view);
    let changes = approved.changes().iter().map(|change| format!("{change}\n"));
    let findings = approved.findings().iter().map(|finding| format!("! {finding}\n"));
    let left = left(view, &TagKeys::default());
    let left = left.iter().map(|left| {
        let on = left.cluster.as_ref().map(|cluster| format!("{cluster}  ")).unwrap_or_default();
        format!("= {on}{}\n", left.told)
    });
    changes.chain(findings).chain(left).collect()
}

fn agent(managed: bool) -> Agent {
    Agent {
        version: "v1.3.10-eksbuild.2".to_owned(),
        status: "ACTIVE".to_owned(),
        issues: Vec::new(),
        configuration: None,
        managed,
    }
}

fn entry(on: &str, principal: &str, managed: bool) -> ClusterAccess {
    ClusterAccess { cluster: cluster_id(on), principal: principal.to_owned(), managed }
}

/// A role that podgrant trusts pods with, beside nodes.
fn trusted(name: &str) -> Role {
    let mut role = role(name).grant(PROD).tagged("podgrant/trust", "manage");
    role.trust_policy = format!("{{\"Statement\":[{NODES}, {OURS}]}}");
    role
}

/// One of everything.
fn view() -> Snapshot {
    let payments = trusted("payments");
    let orphan = role("idle").grant("idle/app@gone").orphaned_since(NOW - 10);
    let mut deployed = role("InstallAgent");
    deployed.arn = "arn:aws:iam::111122223333:role/podgrant/InstallAgent".parse().unwrap();
    let clusters =
        [cluster("prod-eu"), cluster("us-east-1/prod-us").tagged("podgrant/enroll", "off"), cluster("bare")];
    let associations = [
        ours(&payments, "prod-eu", PROD),
        foreign("prod-eu", "batch/job").granting(&orphan),
        ours(&payments, "us-east-1/prod-us", "payments/api@_"),
        ours(&payments, "prod-eu", "kube-system/aws-node@_")
            .granting(&payments)
            .owned_by("arn:aws:eks:eu-west-1:111122223333:addon/x"),
    ];
    let mut view = snapshot([payments, orphan, deployed], clusters, associations);
    view.agents.insert(cluster_id("prod-eu"), agent(false));
    view.agents.insert(cluster_id("us-east-1/prod-us"), agent(true));
    view.access_entries = vec![entry("prod-eu", "arn:ours", true), entry("prod-eu", "arn:theirs", false)];
    view
}

#[test]
fn all_that_podgrant_made_goes_and_nothing_else() {
    assert_snapshot!(told(&view()), @"
    ~ role idle  - orphaned since 1970-01-12T13:46:30Z  (podgrant is uninstalled)
    - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
    - eu-west-1/prod-eu  access entry of arn:ours
    - eu-west-1/prod-eu  payments/api  role payments  (podgrant is uninstalled)
    - us-east-1/prod-us  agent v1.3.10-eksbuild.2
    - us-east-1/prod-us  payments/api  role payments  (podgrant is uninstalled)
    = role InstallAgent  of podgrant's own functions: a stack is deployed
    = role idle  tags podgrant/grant
    = role payments  tags podgrant/grant, podgrant/trust
    = eu-west-1/prod-eu  batch/job  association a-prodeubatchjob, made by somebody else
    = eu-west-1/prod-eu  kube-system/aws-node  association a-prodeukubesystemawsnode, of addon/x
    = eu-west-1/prod-eu  agent v1.3.10-eksbuild.2, not installed by podgrant
    = us-east-1/prod-us  tags podgrant/enroll = off
    ");
}

#[test]
fn roles_that_adopt_are_named_where_theirs_goes() {
    let keys = TagKeys::default();
    let mut view = view();
    assert_eq!(adopting(&view, &keys), None);
    for role in view.roles.values_mut() {
        role.tags.insert("podgrant/adopt".to_owned(), "on".to_owned());
    }
    assert_eq!(adopting(&view, &keys).as_deref(), Some("payments"));
    view.associations.retain(|association| association.managed().is_none());
    assert_eq!(adopting(&view, &keys), None);
}

#[test]
fn one_cluster_leaves_the_roles_as_they_are() {
    let mut view = view().scoped_to_cluster("prod-eu");
    view.clusters.retain(|id, _| *id == cluster_id("prod-eu"));
    view.associations.retain(|association| association.cluster == cluster_id("prod-eu"));
    view.agents.remove(&cluster_id("us-east-1/prod-us"));
    assert_snapshot!(told(&view), @"
    - eu-west-1/prod-eu  access entry of arn:ours
    - eu-west-1/prod-eu  payments/api  role payments  (podgrant is uninstalled)
    = role InstallAgent  of podgrant's own functions: a stack is deployed
    = role idle  tags podgrant/grant
    = role payments  tags podgrant/grant, podgrant/trust
    = eu-west-1/prod-eu  batch/job  association a-prodeubatchjob, made by somebody else
    = eu-west-1/prod-eu  kube-system/aws-node  association a-prodeukubesystemawsnode, of addon/x
    = eu-west-1/prod-eu  agent v1.3.10-eksbuild.2, not installed by podgrant
    ");
}

/// Each is [`view`], and one thing else: what is told beside, and what no longer goes.
#[test]
fn what_is_needed_half_done_or_not_understood_stays_and_says_why() {
    type Case = (&'static str, fn(&mut Snapshot));
    fn of_payments(view: &mut Snapshot) -> &mut Role {
        view.roles.get_mut(&payments().arn).unwrap()
    }
    let cases: [Case; 16] = [
        ("others need the agent", |view| {
            view.associations.push(foreign("us-east-1/prod-us", "x/y").granting(&role("other")));
        }),
        ("many need the agent", |view| {
            let many =
                (0..12).map(|i| foreign("us-east-1/prod-us", &format!("x/y{i}")).granting(&role("other")));
            view.associations.extend(many);
        }),
        ("the agent is going", |view| {
            view.agents.get_mut(&cluster_id("us-east-1/prod-us")).unwrap().status = "DELETING".to_owned();
        }),
        ("the cluster is going", |view| {
            view.clusters.insert(cluster_id("bare"), cluster("bare").status("DELETING"));
        }),
        ("somebody else's association needs the statement", |view| {
            view.associations.push(foreign("bare", "payments/api").granting(&payments()));
        }),
        ("and one that the statement does not let in", |view| {
            view.associations.push(foreign("bare", "payments/other").granting(&payments()));
        }),
        ("a role of an association was not read", |view| view.associations.push(foreign("bare", "x/y"))),
        ("nor that of one with a copy of our tags", |view| {
            let copy = ours(&role("other"), "prod-eu", PROD);
            view.associations.push(Association { cluster: cluster_id("bare"), ..copy });
        }),
        ("a grant in a region that is not looked at", |view| {
            view.regions = ["eu-west-1".parse().unwrap()].into();
            of_payments(view).tags.insert("podgrant/grant/b".to_owned(), "a/b@us-east-1/prod-us".to_owned());
        }),
        ("a statement in a region that is not looked at", |view| {
            view.regions = ["eu-west-1".parse().unwrap()].into();
            let there = "arn:aws:eks:us-east-1:111122223333:cluster/prod-us";
            let there = format!("\"api\"}},\"ArnLike\":{{\"aws:SourceArn\":[\"{there}\"]}}}}}}");
            let policy = &mut of_payments(view).trust_policy;
            *policy = policy.replace("\"api\"}}}", &there);
        }),
        ("a verify was killed", |view| {
            let made = role("podgrant-verify/podgrant-verify-mm90wfgr").tagged("podgrant/verify", "x");
            view.associations.push(foreign("bare", "default/podgrant-verify-mm90wfgr").granting(&made));
            view.roles.insert(made.arn.clone(), made);
        }),
        ("no other statement", |view| of_payments(view).trust_policy = format!("{{\"Statement\":{OURS}}}")),
        ("a policy that is not understood", |view| {
            let policy = &mut of_payments(view).trust_policy;
            *policy = policy.replacen('{', "{\"Unknown\":1,", 1);
        }),
        ("a deletion that was begun", |view| {
            let mark = OrphanMark::new(&payments(), NOW - 1).with_deletion_begun();
            of_payments(view).tags.insert("podgrant/orphaned-since".to_owned(), mark.to_string());
        }),
        ("a mark of another role", |view| {
            let mark = OrphanMark::new(&role("other"), NOW - 1);
            of_payments(view).tags.insert("podgrant/orphaned-since".to_owned(), mark.to_string());
        }),
        ("a damaged mark", |view| {
            of_payments(view).tags.insert("podgrant/orphaned-since".to_owned(), "yesterday".to_owned());
        }),
    ];
    let lines = |view: &Snapshot| told(view).lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let before = lines(&view());
    let mut table = String::new();
    for (name, changed) in cases {
        let mut view = view();
        changed(&mut view);
        let after = lines(&view);
        table += &format!("{name}\n");
        before.difference(&after).for_each(|line| table += &format!("    not {line}\n"));
        after.difference(&before).for_each(|line| table += &format!("    {line}\n"));
    }
    assert_snapshot!(table, @r#"
    others need the agent
        not - us-east-1/prod-us  agent v1.3.10-eksbuild.2
        ! agent kept: us-east-1/prod-us: podgrant installed it, and associations that stay need it: x/y (a-produsxy)
        = us-east-1/prod-us  x/y  association a-produsxy, made by somebody else
    many need the agent
        not - us-east-1/prod-us  agent v1.3.10-eksbuild.2
        ! agent kept: us-east-1/prod-us: podgrant installed it, and associations that stay need it: x/y0 (a-produsxy0), x/y1 (a-produsxy1), x/y10 (a-produsxy10), x/y11 (a-produsxy11), x/y2 (a-produsxy2), x/y3 (a-produsxy3), x/y4 (a-produsxy4), x/y5 (a-produsxy5), x/y6 (a-produsxy6), x/y7 (a-produsxy7) and 2 more
        = us-east-1/prod-us  x/y0  association a-produsxy0, made by somebody else
        = us-east-1/prod-us  x/y1  association a-produsxy1, made by somebody else
        = us-east-1/prod-us  x/y10  association a-produsxy10, made by somebody else
        = us-east-1/prod-us  x/y11  association a-produsxy11, made by somebody else
        = us-east-1/prod-us  x/y2  association a-produsxy2, made by somebody else
        = us-east-1/prod-us  x/y3  association a-produsxy3, made by somebody else
        = us-east-1/prod-us  x/y4  association a-produsxy4, made by somebody else
        = us-east-1/prod-us  x/y5  association a-produsxy5, made by somebody else
        = us-east-1/prod-us  x/y6  association a-produsxy6, made by somebody else
        = us-east-1/prod-us  x/y7  association a-produsxy7, made by somebody else
        = us-east-1/prod-us  x/y8  association a-produsxy8, made by somebody else
        = us-east-1/prod-us  x/y9  association a-produsxy9, made by somebody else
    the agent is going
        not - us-east-1/prod-us  agent v1.3.10-eksbuild.2
    the cluster is going
        ! cluster not ready: eu-west-1/bare: the cluster is DELETING: what is on it goes with it
    somebody else's association needs the statement
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: association a-barepaymentsapi of payments/api on eu-west-1/bare, that podgrant did not make, needs them
        = eu-west-1/bare  payments/api  association a-barepaymentsapi, made by somebody else
    and one that the statement does not let in
        = eu-west-1/bare  payments/other  association a-barepaymentsother, made by somebody else
    a role of an association was not read
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: which role association a-barexy on eu-west-1/bare has was not read
        = eu-west-1/bare  x/y  association a-barexy, made by somebody else
    nor that of one with a copy of our tags
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: which role association a-prodeupaymentsapi on eu-west-1/bare has was not read
        = eu-west-1/bare  payments/api  association a-prodeupaymentsapi, made by somebody else
    a grant in a region that is not looked at
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        not = role payments  tags podgrant/grant, podgrant/trust
        ! trust policy: role payments: podgrant's statements stay: its grant a/b@us-east-1/prod-us names a region that is not looked at; name that region too, with --region
        = role payments  tags podgrant/grant, podgrant/grant/b, podgrant/trust
    a statement in a region that is not looked at
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: one of them, for payments/api@us-east-1/prod-us, names a region that is not looked at; name that region too, with --region
    a verify was killed
        = eu-west-1/bare  default/podgrant-verify-mm90wfgr  association a-baredefaultpodgrantverifymm90wfgr, of a podgrant verify that has not ended: podgrant verify --clean
        = role podgrant-verify-mm90wfgr  of a podgrant verify that has not ended: podgrant verify --clean
    no other statement
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: no other statement is in it, and IAM takes no policy without any
    a policy that is not understood
        not - role payments  trust policy: podgrant's statements, that allow pods.eks.amazonaws.com for payments/api@_
        ! trust policy: role payments: podgrant's statements stay: it holds an element "Unknown" that podgrant does not know
    a deletion that was begun
        ! half-deleted role: role payments: its deletion was begun, so policies of it may be missing, and its tag podgrant/orphaned-since stays to say so: give them back, or delete the role, and then take the tag off by hand
    a mark of another role
        ! false orphan mark: role payments: tag podgrant/orphaned-since: 1970-01-12T13:46:39Z AROAOTHER is not this role's own; podgrant did not write it, and leaves it
    a damaged mark
        ! false orphan mark: role payments: tag podgrant/orphaned-since: podgrant writes a moment and the role's unique id there, such as 2026-11-24T20:03:00Z AROAEXAMPLE, found "yesterday"; podgrant did not write it, and leaves it
    "#);
}

#[test]
fn a_partial_view_takes_nothing_where_it_is_partial_and_nothing_of_roles() {
    assert_snapshot!(told(&view().with_gap(Some("prod-eu"))), @"
    - us-east-1/prod-us  agent v1.3.10-eksbuild.2
    - us-east-1/prod-us  payments/api  role payments  (podgrant is uninstalled)
    ! withheld: role idle: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ! withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ! withheld: eu-west-1/prod-eu: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ! withheld: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    = role InstallAgent  of podgrant's own functions: a stack is deployed
    = role idle  tags podgrant/grant
    = role payments  tags podgrant/grant, podgrant/trust
    = eu-west-1/prod-eu  batch/job  association a-prodeubatchjob, made by somebody else
    = eu-west-1/prod-eu  kube-system/aws-node  association a-prodeukubesystemawsnode, of addon/x
    = eu-west-1/prod-eu  agent v1.3.10-eksbuild.2, not installed by podgrant
    = us-east-1/prod-us  tags podgrant/enroll = off
    ");
    assert_snapshot!(told(&view().with_gap(None)), @"
    - eu-west-1/prod-eu  access entry of arn:ours
    - eu-west-1/prod-eu  payments/api  role payments  (podgrant is uninstalled)
    - us-east-1/prod-us  agent v1.3.10-eksbuild.2
    - us-east-1/prod-us  payments/api  role payments  (podgrant is uninstalled)
    ! withheld: role idle: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    ! withheld: role payments: a partial view deletes nothing: eks:ListPodIdentityAssociations was throttled; it is looked at again when the view is whole
    = role InstallAgent  of podgrant's own functions: a stack is deployed
    = role idle  tags podgrant/grant
    = role payments  tags podgrant/grant, podgrant/trust
    = eu-west-1/prod-eu  batch/job  association a-prodeubatchjob, made by somebody else
    = eu-west-1/prod-eu  kube-system/aws-node  association a-prodeukubesystemawsnode, of addon/x
    = eu-west-1/prod-eu  agent v1.3.10-eksbuild.2, not installed by podgrant
    = us-east-1/prod-us  tags podgrant/enroll = off
    ");
}

#[test]
fn a_listed_association_still_goes_while_it_is_ours_and_of_the_same_role() {
    let payments = payments();
    let listed = ours(&payments, "prod-eu", PROD);
    let again = payments.clone().made_again();
    let other = Association { id: "a-other".parse().unwrap(), ..listed.clone() };
    let cases: [(&str, Association, bool); 9] = [
        ("as it was", listed.clone(), true),
        ("described", listed.clone().granting(&payments), true),
        ("by another grant", ours(&payments, "prod-eu", "payments/api@_").labelled("b"), true),
        ("of a role made again", ours(&again, "prod-eu", PROD), false),
        ("of another role", ours(&role("other"), "prod-eu", PROD), false),
        ("of an add-on", listed.clone().owned_by("vpc-cni"), false),
        ("without a mark", foreign("prod-eu", "payments/api").granting(&payments), false),
        ("another", other, false),
        ("elsewhere", ours(&payments, "us-east-1/prod-us", PROD), false),
    ];
    for (name, now, goes) in cases {
        assert_eq!(still_uninstalled(&listed, &now), goes, "{name}");
    }
    // What was not ours when it was listed does not become so.
    assert!(!still_uninstalled(&foreign("prod-eu", "payments/api"), &foreign("prod-eu", "payments/api")));
}

#[test]
fn a_cluster_is_confirmed_by_its_name_and_the_fleet_by_what_was_counted() {
    let approved = decide(&view());
    let prod_eu = cluster_id("prod-eu");
    let (one, all) = (Confirmation::of(Some(&prod_eu), &approved), Confirmation::of(None, &approved));
    assert_eq!((one.to_string(), all.to_string()), ("prod-eu".to_owned(), "remove 6".to_owned()));
    for (typed, is_one, is_all) in [
        ("prod-eu", true, false),
        ("eu-west-1/prod-eu", true, false),
        ("us-east-1/prod-eu", false, false),
        ("prod", false, false),
        ("remove 6", false, true),
        ("remove 5", false, false),
        ("remove 66", false, false),
        ("yes", false, false),
        ("", false, false),
    ] {
        assert_eq!((one.is_given_by(typed), all.is_given_by(typed)), (is_one, is_all), "{typed}");
    }
}

#[test]
fn no_message_can_ask_for_it() {
    for text in ["\"uninstall\"", "{\"uninstall\":null}", "\"Uninstall\""] {
        assert!(serde_json::from_str::<Duty>(text).is_err(), "{text}");
    }
    assert!(serde_json::to_string(&Duty::Uninstall).is_err());
}

// ── Any world ──

/// What carries our mark, in words.
fn marked(view: &Snapshot) -> BTreeSet<String> {
    let keys = TagKeys::default();
    let associations = view.associations.iter().filter(|association| association.managed().is_some());
    let agents = view.agents.iter().filter(|(_, agent)| agent.managed);
    let entries = view.access_entries.iter().filter(|entry| entry.managed);
    let roles = || view.roles.values();
    let statements = roles().filter(|role| role.trust_policy.contains(SID));
    let marks = roles().filter(|role| role.tags.contains_key(&keys.key(OrphanMark::KEY)));
    associations
        .map(|association| format!("association {}", association.arn))
        .chain(agents.map(|(cluster, _)| format!("agent {cluster}")))
        .chain(entries.map(|entry| format!("entry {} {}", entry.cluster, entry.principal)))
        .chain(statements.map(|role| format!("statements {}", role.arn)))
        .chain(marks.map(|role| format!("mark {}", role.arn)))
        .collect()
}

fn taken(change: &Change) -> String {
    match change {
        Change::Revoke { association, reason: RevokeReason::Uninstalled } => {
            format!("association {}", association.arn)
        }
        Change::RemoveAgent { cluster, .. } => format!("agent {cluster}"),
        Change::RemoveAccessEntry { entry } => format!("entry {} {}", entry.cluster, entry.principal),
        Change::WithdrawTrust { role, .. } => format!("statements {role}"),
        Change::UnmarkOrphan { role, .. } => format!("mark {role}"),
        _ => panic!("not of an uninstall: {change}"),
    }
}

/// What AWS would do.
fn apply(changes: &[Change], view: &mut Snapshot) {
    for change in changes {
        match change {
            Change::Revoke { association, .. } => view.associations.retain(|a| a != association),
            Change::RemoveAgent { cluster, .. } => drop(view.agents.remove(cluster)),
            Change::RemoveAccessEntry { entry } => view.access_entries.retain(|other| other != entry),
            Change::WithdrawTrust { role, role_id, policy_before, policy } => {
                let role = view.roles.get_mut(role).unwrap();
                assert_eq!((&role.id, &role.trust_policy), (role_id, policy_before));
                assert!(keeps_what_is_not_ours(policy_before, policy));
                role.trust_policy.clone_from(policy);
            }
            Change::UnmarkOrphan { role, mark, .. } => {
                let tag = view.roles.get_mut(role).unwrap().tags.remove("podgrant/orphaned-since");
                assert_eq!(tag, Some(mark.to_string()));
            }
            _ => panic!("not of an uninstall: {change}"),
        }
    }
}

/// All that is not ours: it must be there afterwards as it was before.
fn others(view: &Snapshot) -> Snapshot {
    let mut view = view.clone();
    view.associations.retain(|association| association.managed().is_none());
    view.agents.retain(|_, agent| !agent.managed);
    view.access_entries.retain(|entry| !entry.managed);
    for role in view.roles.values_mut() {
        role.tags.remove("podgrant/orphaned-since");
        if let Ok(Some(policy)) = withdrawn(&role.trust_policy) {
            role.trust_policy = policy;
        }
    }
    view
}

prop_compose! {
    /// The world of grants, with agents, access entries and marks in it.
    fn installed()(
        world in world(),
        agents in prop::collection::vec(prop::option::of(any::<bool>()), 3),
        entries in prop::collection::vec(prop::option::of(any::<bool>()), 3),
        marks in prop::collection::vec(any::<bool>(), 3),
    ) -> Snapshot {
        let mut view = built(&world);
        let clusters: Vec<ClusterId> = view.clusters.keys().cloned().collect();
        for (cluster, managed) in clusters.iter().zip(agents) {
            view.agents.extend(managed.map(|managed| (cluster.clone(), agent(managed))));
        }
        for (cluster, managed) in clusters.iter().zip(entries) {
            let made = managed.map(|managed| entry(&cluster.to_string(), "arn:somebody", managed));
            view.access_entries.extend(made);
        }
        for (role, marked) in view.roles.values_mut().zip(marks) {
            if marked {
                *role = role.clone().orphaned_since(NOW - 1);
            }
        }
        view
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_taken_is_ours_and_what_is_left_of_ours_is_needed(view in installed()) {
        let approved = decide(&view);
        let went: BTreeSet<String> = approved.changes().iter().map(taken).collect();
        prop_assert_eq!(went.len(), approved.changes().len());
        prop_assert!(went.is_subset(&marked(&view)), "{:?}", went);
        let mut after = view.clone();
        apply(approved.changes(), &mut after);
        prop_assert_eq!(others(&after), others(&view));
        for left in marked(&after) {
            let (kind, name) = left.split_once(' ').unwrap();
            match kind {
                "agent" => prop_assert!(after.associations.iter().any(|a| a.cluster.to_string() == name)),
                // Which role it has is not known, or the policy is not understood.
                "statements" => prop_assert!(
                    after.associations.iter().any(|a| a.record.is_none() || a.roles().contains(name))
                        || after.roles[&name.parse().unwrap()].trust_policy.contains("Unknown")
                ),
                _ => prop_assert!(false, "left: {}", left),
            }
        }
        let again = decide(&after);
        prop_assert_eq!(again.changes(), &[]);
    }

    #[test]
    fn what_is_seen_in_part_loses_nothing_and_the_rest_goes(view in installed(), blind in 0..3_usize) {
        let cluster = view.clusters.keys().nth(blind).unwrap().to_string();
        let (whole, partial) = (decide(&view), decide(&view.clone().with_gap(Some(&cluster))));
        let elsewhere: Vec<&Change> = whole
            .changes()
            .iter()
            .filter(|change| change.cluster().is_some_and(|on| on.to_string() != cluster))
            .collect();
        prop_assert_eq!(partial.changes().iter().collect::<Vec<_>>(), elsewhere);
    }

    #[test]
    fn nobody_else_can_have_it_done(view in installed()) {
        let keys = TagKeys::default();
        let limits = Limits { deletions: usize::MAX, share: 1.0, allow_by: AllowBy::Invoke, ..Limits::default() };
        let approved = guard(plan(Duty::Uninstall, &view, &keys), &view, &keys, &limits);
        prop_assert_eq!(approved.changes(), &[]);
    }
}
