//! `podgrant/trust = manage`: what is added to a role's trust policy, and when.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::trust::{TrustPolicy, Use};
use crate::{Association, Limits, Powers, guard};

/// Asking, and trusted for nothing of it.
fn amendable(value: &str) -> Role {
    role("payments").grant(value).amendable()
}

/// The world after the trust policies of a pass were written.
fn amended(mut world: Snapshot) -> Snapshot {
    for change in
        plan(Duty::Grants { guardrails: Guardrails::default() }, &world, &TagKeys::default()).changes
    {
        if let Change::AmendTrust { role, policy, .. } = change {
            world.roles.get_mut(&role).unwrap().trust_policy = policy;
        }
    }
    world
}

#[test]
fn the_missing_statement_is_added_and_the_grant_made() {
    let world = snapshot([amendable("payments/api@prod-eu web/site@_")], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu, web/site@_
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/prod-eu  web/site  role payments  (web/site@_)
    Plan: 2 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // Once written, there is nothing more to write.
    assert_snapshot!(grants(&amended(world)), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/prod-eu  web/site  role payments  (web/site@_)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn what_is_written_follows_from_the_tags_whichever_clusters_are_in_view() {
    let asking = amendable("payments/api@prod-eu web/site@test-eu");
    let world = snapshot([asking], [cluster("prod-eu"), cluster("test-eu")], []);
    let first = |world: &Snapshot| {
        plan(Duty::Grants { guardrails: Guardrails::default() }, world, &TagKeys::default()).changes[0]
            .clone()
    };
    let [whole, prod, test] = [
        first(&world),
        first(&world.clone().scoped_to_cluster("prod-eu")),
        first(&world.clone().scoped_to_cluster("test-eu")),
    ];
    assert!(matches!(whole, Change::AmendTrust { .. }));
    assert!(whole == prod && whole == test);
    // So the other cluster's pass finds it done.
    assert_snapshot!(grants(&amended(world.scoped_to_cluster("prod-eu")).scoped_to_cluster("test-eu")), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/test-eu  web/site  role payments  (web/site@test-eu)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn nothing_is_written_without_a_tag_or_without_a_place() {
    let mut asking = amendable(PROD);
    asking.tags.remove("podgrant/trust");
    assert_snapshot!(grants(&snapshot([asking], [cluster("prod-eu")], [])), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    // It would help; there is just no cluster yet.
    assert_snapshot!(grants(&snapshot([amendable(PROD)], [cluster("test-eu")], [])), @"
    ! no such cluster: payments/api role payments (payments/api@prod-eu): no configured region has a cluster prod-eu; the grant is made when there is one
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // Nobody asks.
    assert_snapshot!(grants(&snapshot([role("payments").amendable()], [cluster("prod-eu")], [])), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    // Trusted already, or for a part: only what is refused is a reason.
    let trusting = payments().tagged("podgrant/trust", "manage");
    assert_snapshot!(grants(&snapshot([trusting], [cluster("prod-eu")], [])), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn who_is_trusted_for_a_part_is_trusted_for_the_rest() {
    let for_prod = r#"{"ArnEquals":{"aws:SourceArn":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"}}"#;
    let asking =
        role("payments").grant("payments/api@_").trusting_where(for_prod).tagged("podgrant/trust", "manage");
    let world = snapshot([asking], [cluster("prod-eu"), cluster("test-eu")], []);
    assert_snapshot!(grants(&world.clone().scoped_to_cluster("prod-eu")), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(grants(&world), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@_
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    + eu-west-1/test-eu  payments/api  role payments  (payments/api@_)
    Plan: 2 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_change_of_grants_changes_the_statements() {
    let before = snapshot([amendable("payments/api@prod-eu ops/x@_")], [cluster("prod-eu")], []);
    let policy = amended(before).roles.into_values().next().unwrap().trust_policy;
    let mut asking = amendable("payments/api@prod-eu payments/worker@prod-eu");
    asking.trust_policy = policy.clone();
    assert_snapshot!(grants(&snapshot([asking.clone()], [cluster("prod-eu")], [])), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/worker@prod-eu  - no longer for ops/x@_
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@prod-eu)
    Plan: 2 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // Withdrawn only: more trust than is used does no harm.
    let standing = ours(&asking, "prod-eu", "payments/api@prod-eu");
    let mut fewer = amendable("payments/api@prod-eu");
    fewer.trust_policy = policy.clone();
    assert_snapshot!(grants(&snapshot([fewer], [cluster("prod-eu")], [standing.clone()])), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
    // A part that does not parse takes no trust from what it made.
    let mut mistyped = amendable("payments/api@prod-eu payments/worker@prod-eu ops/x");
    mistyped.trust_policy = policy.clone();
    assert_snapshot!(grants(&snapshot([mistyped], [cluster("prod-eu")], [standing.clone()])), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/worker@prod-eu
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@prod-eu)
    ! bad tag: role payments: tag podgrant/grant: column 51: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    Plan: 1 to create, 1 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    ");
    // Without session tags their conditions could not hold.
    let mut off = amendable("payments/api@prod-eu").tagged("podgrant/session-tags", "off");
    off.trust_policy = policy;
    assert_snapshot!(grants(&snapshot([off], [cluster("prod-eu")], [standing])), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for _/_@prod-eu  - no longer for ops/x@_, payments/api@prod-eu
    ~ eu-west-1/prod-eu  payments/api  role payments  session tags on -> off
    Plan: 0 to create, 2 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn no_trust_goes_before_what_leans_on_it() {
    let before = snapshot([amendable("payments/api@prod-eu ops/x@_")], [cluster("prod-eu")], []);
    let policy = amended(before).roles.into_values().next().unwrap().trust_policy;
    let mut asking = amendable("payments/api@prod-eu payments/worker@prod-eu");
    asking.trust_policy = policy;
    let standing = ours(&asking, "prod-eu", "ops/x@_");
    let world = snapshot([asking.clone()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/worker@prod-eu
    - eu-west-1/prod-eu  ops/x  role payments  (grant withdrawn)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@prod-eu)
    Plan: 2 to create, 1 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // What is not in view may stand.
    let partial = snapshot([asking], [cluster("prod-eu")], []).with_gap(Some("test-eu"));
    assert_snapshot!(grants(&partial), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/worker@prod-eu
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@prod-eu)
    Plan: 2 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn where_it_must_not_be_touched_the_refusal_says_why() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let none = role("payments").grant(PROD).tagged("podgrant/trust", "manage");
    let denied = r#"{"Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:*"}]}"#;
    let denied = Role { trust_policy: denied.to_owned(), ..none.clone() };
    let on_prod = r#"{"Statement":[{"Sid":"NotProd","Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{"ArnLike":{"aws:SourceArn":"arn:*:cluster/prod-*"}}}]}"#;
    let on_prod =
        Role { trust_policy: on_prod.replace("arn:*:cluster", "arn:aws:eks:*:*:cluster"), ..none.clone() };
    let worlds = [
        ("no statements", none),
        ("denied", denied),
        ("denied here", on_prod.clone()),
        ("denied here, and not elsewhere", on_prod.grant("payments/api@_")),
        ("patterns only", amendable("payments/job-_@prod-eu")),
        ("a bad setting", amendable(PROD).tagged("podgrant/session-tags", "of")),
        ("a bad target", amendable(PROD).tagged("podgrant/target-role", "x")),
        ("a bad word", amendable(PROD).tagged("podgrant/trust", "manages")),
    ];
    let shown: Vec<String> = worlds
        .into_iter()
        .map(|(name, asking)| {
            let world = snapshot([asking], [cluster("prod-eu"), cluster("test-eu")], []);
            format!("{name}\n{}\n", grants(&world))
        })
        .collect();
    assert_snapshot!(shown.concat(), @r#"
    no statements
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: it has no Statement
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    denied
    ! trust policy: role payments: the trust policy denies sts:AssumeRole to pods.eks.amazonaws.com; take that statement away; podgrant/trust = manage does not change the trust policy: a statement more would not help
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    denied here
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: a statement more would not help
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    denied here, and not elsewhere
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@_
    + eu-west-1/test-eu  payments/api  role payments  (payments/api@_)
    ! trust policy: eu-west-1/prod-eu payments/api role payments (payments/api@_): the trust policy denies sts:AssumeRole to pods.eks.amazonaws.com here: statement "NotProd" applies where aws:SourceArn ArnLike "arn:aws:eks:*:*:cluster/prod-*" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"); mend its conditions, or take it away
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    patterns only
    ! pattern not expanded: eu-west-1/prod-eu role payments (payments/job-_@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    a bad setting
    ! bad tag: role payments: tag podgrant/session-tags: expected on or off, found "of"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: tag podgrant/session-tags does not parse; mend it first
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad target
    ! bad tag: role payments: tag podgrant/target-role: "x" is not a role ARN such as arn:aws:iam::111122223333:role/name; until it is mended the role gets nothing new, and what it has stays as it is
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: tag podgrant/target-role does not parse; mend it first
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad word
    ! bad tag: role payments: tag podgrant/trust: expected manage, found "manages"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    "#);
    // What stands stays.
    let world = snapshot(
        [role("payments").grant(PROD).tagged("podgrant/trust", "manage")],
        [cluster("prod-eu")],
        [standing],
    );
    assert_eq!(
        plan(Duty::Grants { guardrails: Guardrails::default() }, &world, &TagKeys::default()).changes,
        []
    );
}

#[test]
fn what_a_guardrail_refuses_is_trusted_for_nothing_and_says_why() {
    let administrator = Powers::Everything { policy: "AdministratorAccess".to_owned() };
    let asking = [
        amendable(PROD).with(administrator),
        amendable("kube-system/api@prod-eu"),
        // For the rest of what it asks for, it is trusted.
        amendable("kube-system/api@prod-eu payments/api@prod-eu"),
    ];
    let shown = asking.map(|asking| grants(&snapshot([asking], [cluster("prod-eu")], []))).join("\n");
    assert_snapshot!(shown, @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: a guardrail refuses the role
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: a guardrail refuses every service account that it names
    ! guardrail: eu-west-1/prod-eu kube-system/api role payments (kube-system/api@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    ! guardrail: eu-west-1/prod-eu kube-system/api role payments (kube-system/api@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
}

#[test]
fn what_stands_by_a_grant_that_a_guardrail_refuses_keeps_its_trust() {
    let asking = amendable("kube-system/api@prod-eu");
    let lax = Guardrails { refused_namespaces: BTreeSet::new(), ..Guardrails::default() };
    let mut world = snapshot([asking], [cluster("prod-eu")], []);
    for change in plan(Duty::Grants { guardrails: lax }, &world, &TagKeys::default()).changes {
        if let Change::AmendTrust { role, policy, .. } = change {
            world.roles.get_mut(&role).unwrap().trust_policy = policy;
        }
    }
    let role = world.roles.values().next().unwrap().clone();
    let standing = ours(&role, "prod-eu", "kube-system/api@prod-eu");
    let asking = role.grant("kube-system/api@prod-eu payments/api@prod-eu");
    let world = amended(snapshot([asking], [cluster("prod-eu")], [standing.clone()]));
    assert!(trusts(&world, &standing));
}

#[test]
fn trust_waits_for_a_roles_powers_and_nothing_else_is_said_meanwhile() {
    let asking = amendable(PROD).with(Powers::Unread);
    let standing = ours(&asking, "prod-eu", PROD);
    let worlds = [
        snapshot([asking.clone()], [cluster("prod-eu")], []),
        // Also where it has its place already.
        snapshot([asking.clone()], [cluster("prod-eu")], [standing.clone()]),
        // And where it was made again: it may turn out to be allowed.
        snapshot([asking.made_again()], [cluster("prod-eu")], [standing]),
    ];
    assert_snapshot!(worlds.map(|world| grants(&world)).join("\n"), @"
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 1 waiting, 0 findings.
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
}

#[test]
fn aws_keeps_its_own_roles_to_itself() {
    let mut own = amendable(PROD);
    own.arn = "arn:aws:iam::111122223333:role/aws-service-role/eks.amazonaws.com/AWSServiceRoleForAmazonEKS"
        .parse()
        .unwrap();
    assert_snapshot!(grants(&snapshot([own], [cluster("prod-eu")], [])), @r#"
    ! trust policy: role AWSServiceRoleForAmazonEKS: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}; podgrant/trust = manage does not change the trust policy: AWS keeps this role to itself
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
}

#[test]
fn an_older_role_that_is_to_be_trusted_gets_the_place() {
    let older = role("old").grant(PROD).amendable().born(0);
    let world = snapshot([older, payments()], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    ~ role old  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu
    + eu-west-1/prod-eu  payments/api  role old  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/old has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

fn trusts(view: &Snapshot, association: &Association) -> bool {
    let mark = association.mark.as_ref().unwrap();
    let role = &view.roles[&mark.role_arn];
    let usage = Use {
        account: role.arn.account(),
        session_tags_off: Some(mark.session_tags_off),
        place: Some((&view.clusters[&association.cluster], &association.workload)),
    };
    TrustPolicy::read(&role.trust_policy).allows(&usage).is_ok()
}

fn any_grants() -> impl Strategy<Value = String> {
    let subjects = prop::sample::select(vec![
        "payments/api@_",
        "payments/api@prod-eu",
        "payments/worker@test-eu",
        "ops/x@prod-eu",
        "ops/x@_",
        "ops/y_@_",
        "nonsense",
    ]);
    prop::collection::vec(subjects, 1..5).prop_map(|subjects| subjects.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the guard holds back, and whatever the tags said before.
    #[test]
    fn what_still_stands_is_still_trusted(
        (before, now) in (any_grants(), any_grants()), offs in any::<[bool; 2]>(), gap in any::<bool>(), limited in any::<bool>(), scoped in any::<bool>(),
    ) {
        let tagged = |value: &str, off: bool| {
            let role = amendable(value);
            if off { role.tagged("podgrant/session-tags", "off") } else { role }
        };
        let mut view = amended(snapshot([tagged(&before, offs[0])], [cluster("prod-eu"), cluster("test-eu")], []));
        for change in plan(Duty::Grants { guardrails: Guardrails::default() }, &view, &TagKeys::default()).changes {
            let Change::Create { workload, mark } = change else { continue };
            let made = foreign(&mark.cluster.to_string(), &workload.to_string());
            view.associations.push(Association { mark: Some(mark), ..made });
        }
        let role = view.roles.values_mut().next().unwrap();
        role.tags = tagged(&now, offs[1]).tags;
        if scoped {
            view = view.scoped_to_cluster("prod-eu");
        }
        if gap {
            view = view.with_gap(Some("us-east-1/other"));
        }
        let limits = Limits { deletions: if limited { 0 } else { 100 }, ..Limits::default() };
        // A pass over one cluster does not see what stands on others.
        let mut seen = view.clone();
        seen.associations.retain(|association| seen.scope.holds_cluster(&association.cluster));
        let approved = guard(plan(Duty::Grants { guardrails: Guardrails::default() }, &seen, &TagKeys::default()), &seen, &TagKeys::default(), &limits);
        let mut after = view.clone();
        for change in approved.changes() {
            if let Change::AmendTrust { role, policy, .. } = change {
                after.roles.get_mut(role).unwrap().trust_policy = policy.clone();
            }
        }
        let goes = |association: &Association| {
            approved.changes().iter().any(|change| change.takes_away() && change.existing() == Some(association))
        };
        // Before anything else of the plan is done, too.
        for association in view.associations.iter().filter(|association| !goes(association)) {
            prop_assert!(trusts(&view, association));
            prop_assert!(trusts(&after, association), "{}", association.workload);
        }
        for change in approved.changes() {
            if let Change::Create { workload, mark } | Change::Update { association: Association { workload, .. }, mark } = change {
                let made = foreign(&mark.cluster.to_string(), &workload.to_string());
                prop_assert!(trusts(&after, &Association { mark: Some(mark.clone()), ..made }), "{}", change);
            }
        }
    }
}
