//! What a guardrail refuses: nothing new, and of what stands as it is told.

use insta::assert_snapshot;

use super::*;
use crate::{OnRefused, Powers};

fn under(guardrails: &Guardrails, snapshot: &Snapshot) -> String {
    printed(Duty::Grants { guardrails: guardrails.clone() }, snapshot)
}

fn withdrawing() -> Guardrails {
    Guardrails { on_refused: OnRefused::Withdraw, ..Guardrails::default() }
}

fn administrator() -> Powers {
    Powers::Everything { policy: "AdministratorAccess".to_owned() }
}

fn unclear() -> Powers {
    Powers::Unclear { policy: "mine".to_owned(), problem: "it has no Statement".to_owned() }
}

const SYSTEM: &str = "kube-system/dns@prod-eu";

#[test]
fn each_rule_refuses_what_breaks_it() {
    let strict = Guardrails {
        role_paths: vec!["/apps/".to_owned()],
        max_service_accounts: 1,
        permissions_boundary: Some("arn:aws:iam::111122223333:policy/pods".to_owned()),
        ..Guardrails::default()
    };
    let none = Guardrails {
        refused_namespaces: BTreeSet::new(),
        refuse_administrators: false,
        max_service_accounts: usize::MAX,
        ..Guardrails::default()
    };
    let pods = strict.permissions_boundary.clone();
    let fine = {
        let mut role = payments();
        role.arn = "arn:aws:iam::111122223333:role/apps/payments".parse().unwrap();
        Role { permissions_boundary: pods.clone(), ..role }
    };
    let cases = [
        ("fine", fine.clone()),
        ("namespace", fine.clone().grant(SYSTEM)),
        ("path", Role { permissions_boundary: pods, ..payments() }),
        ("administrator", fine.clone().with(administrator())),
        ("unclear", fine.clone().with(unclear())),
        ("shared", fine.clone().grant("payments/api@prod-eu payments/worker@prod-eu")),
        ("boundary", Role { permissions_boundary: None, ..fine.clone() }),
        ("all of them", payments().grant("kube-system/dns@prod-eu a/b@prod-eu").with(administrator())),
    ];
    let shown: Vec<String> = cases
        .into_iter()
        .map(|(name, role)| {
            let world = snapshot([role], [cluster("prod-eu")], []);
            // It is the guardrails that make the difference.
            let freely = plan(Duty::Grants { guardrails: none.clone() }, &world, &TagKeys::default());
            assert!(!freely.changes.is_empty() && freely.findings.is_empty(), "{name}: {freely}");
            format!("{name}\n{}\n", under(&strict, &world))
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    fine
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    namespace
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    path
    ! guardrail: role payments: role-paths: the role's path is /, and pods get roles under /apps/ only; make it anew under such a path, or allow this one with PODGRANT_ROLE_PATHS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    administrator
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    unclear
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    shared
    ! guardrail: role payments: service-accounts: its grants name 2 service accounts, and at most 1 may share a role; make a role for each workload, or raise PODGRANT_MAX_SERVICE_ACCOUNTS to 2
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    boundary
    ! guardrail: role payments: required-boundary: it has no permissions boundary, and pods get roles with arn:aws:iam::111122223333:policy/pods only; give it that boundary, or change PODGRANT_REQUIRED_BOUNDARY
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    all of them
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! guardrail: role payments: required-boundary: it has no permissions boundary, and pods get roles with arn:aws:iam::111122223333:policy/pods only; give it that boundary, or change PODGRANT_REQUIRED_BOUNDARY
    ! guardrail: role payments: role-paths: the role's path is /, and pods get roles under /apps/ only; make it anew under such a path, or allow this one with PODGRANT_ROLE_PATHS
    ! guardrail: role payments: service-accounts: its grants name 2 service accounts, and at most 1 may share a role; make a role for each workload, or raise PODGRANT_MAX_SERVICE_ACCOUNTS to 2
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 5 findings.
    ");
}

#[test]
fn what_stands_is_told_or_withdrawn() {
    let wider = |role: Role| role.tagged("podgrant/session-tags", "off");
    let stands = [ours(&payments(), "prod-eu", PROD)];
    let shown: Vec<String> = [
        ("administrator", payments().with(administrator()), stands.clone()),
        ("administrator, with another setting", wider(payments()).with(administrator()), stands.clone()),
        ("administrator, made again", payments().made_again().with(administrator()), stands.clone()),
        ("unclear", payments().with(unclear()), stands.clone()),
        ("unclear, made again", payments().made_again().with(unclear()), stands.clone()),
        ("unread", payments().with(Powers::Unread), stands.clone()),
        ("unread, with another setting", wider(payments()).with(Powers::Unread), stands.clone()),
        ("unread, made again", payments().made_again().with(Powers::Unread), stands),
        ("namespace", payments().grant(SYSTEM), [ours(&payments(), "prod-eu", SYSTEM)]),
        ("namespace, no longer asked for", payments(), [ours(&payments(), "prod-eu", SYSTEM)]),
    ]
    .into_iter()
    .map(|(name, role, stands)| {
        let world = snapshot([role], [cluster("prod-eu")], stands);
        let (report, withdraw) = (under(&Guardrails::default(), &world), under(&withdrawing(), &world));
        if report == withdraw {
            format!("{name}\n{report}\n")
        } else {
            format!("{name}, reported\n{report}\n{name}, withdrawn\n{withdraw}\n")
        }
    })
    .collect();
    assert_snapshot!(shown.concat(), @"
    administrator, reported
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    administrator, withdrawn
    - eu-west-1/prod-eu  payments/api  role payments  (refused by a guardrail)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    administrator, with another setting, reported
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    administrator, with another setting, withdrawn
    - eu-west-1/prod-eu  payments/api  role payments  (refused by a guardrail)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    administrator, made again
    - eu-west-1/prod-eu  payments/api  role payments  (role deleted and made again)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    unclear
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    unclear, made again
    - eu-west-1/prod-eu  payments/api  role payments  (role deleted and made again)
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    unread
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    unread, with another setting
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 1 waiting, 0 findings.
    unread, made again
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    namespace, reported
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    namespace, withdrawn
    - eu-west-1/prod-eu  kube-system/dns  role payments  (refused by a guardrail)
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    namespace, no longer asked for
    - eu-west-1/prod-eu  kube-system/dns  role payments  (grant withdrawn)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_refused_claim_wins_no_conflict() {
    let heir = role("heir").grant(PROD).trusting().born(5_000);
    let shown: Vec<String> = [administrator(), unclear(), Powers::Unread]
        .into_iter()
        .flat_map(|powers| {
            let older = payments().with(powers);
            let stands = ours(&older, "prod-eu", PROD);
            let empty = snapshot([older.clone(), heir.clone()], [cluster("prod-eu")], []);
            let held = snapshot([older.clone(), heir.clone()], [cluster("prod-eu")], [stands.clone()]);
            let again = snapshot([older.made_again(), heir.clone()], [cluster("prod-eu")], [stands]);
            [
                format!("nobody there\n{}\n", under(&Guardrails::default(), &empty)),
                format!("held, reported\n{}\n", under(&Guardrails::default(), &held)),
                format!("held, withdrawn\n{}\n", under(&withdrawing(), &held)),
                format!("made again\n{}\n", under(&Guardrails::default(), &again)),
            ]
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    nobody there
    + eu-west-1/prod-eu  payments/api  role heir  (payments/api@prod-eu)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    held, reported
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    held, withdrawn
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    made again
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    nobody there
    + eu-west-1/prod-eu  payments/api  role heir  (payments/api@prod-eu)
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    held, reported
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    held, withdrawn
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    made again
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    ! guardrail: role payments: administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    nobody there
    + eu-west-1/prod-eu  payments/api  role heir  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    held, reported
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    held, withdrawn
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    made again
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account, and whether it may keep it is known when its policies are read
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 1 findings.
    ");
}

#[test]
fn who_holds_the_place_of_an_unread_claim_keeps_it_and_nobody_waits() {
    let holder = role("heir").grant(PROD).trusting();
    let standing = ours(&holder, "prod-eu", PROD);
    let world = snapshot([payments().with(Powers::Unread), holder], [cluster("prod-eu")], [standing]);
    assert_snapshot!(under(&Guardrails::default(), &world), @"
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/heir has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn what_is_about_the_role_is_told_once_and_what_is_about_a_place_there() {
    let system = "kube-system/dns@_ payments/api@_";
    let everywhere = payments().grant(system).with(administrator());
    let world = snapshot([everywhere], [cluster("prod-eu"), cluster("test-eu")], []);
    assert_snapshot!(under(&Guardrails::default(), &world), @"
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@_): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    ! guardrail: eu-west-1/test-eu kube-system/dns role payments (kube-system/dns@_): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 3 findings.
    ");
    assert_snapshot!(under(&Guardrails::default(), &world.scoped_to_cluster("test-eu")), @"
    ! guardrail: eu-west-1/test-eu kube-system/dns role payments (kube-system/dns@_): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");

    // A role that asks for nothing is nobody's business, and is waited for by nobody.
    let idle = [role("a").with(administrator()), role("b").with(Powers::Unread)];
    assert_snapshot!(under(&Guardrails::default(), &snapshot(idle, [cluster("prod-eu")], [])), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn powers_are_waited_for_only_where_they_decide() {
    let unread = payments().grant("payments/api@_").with(Powers::Unread);
    let world = snapshot([unread.clone()], [cluster("prod-eu"), cluster("test-eu")], []);
    // Once, for two clusters.
    assert_snapshot!(under(&Guardrails::default(), &world), @"
    . not yet: the policies of role payments could not be read yet, and it may be an administrator
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    let lax = Guardrails { refuse_administrators: false, ..Guardrails::default() };
    assert_snapshot!(under(&lax, &world), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    + eu-west-1/test-eu  payments/api  role payments  (payments/api@_)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");

    // Refused anyway.
    let shown: Vec<String> = [
        unread.clone().grant(SYSTEM),
        Role { trust_policy: "{}".to_owned(), ..unread.clone() },
        unread.tagged("podgrant/target-role", "nonsense"),
    ]
    .into_iter()
    .map(|role| {
        let plan = plan(usual(), &snapshot([role], [cluster("prod-eu")], []), &TagKeys::default());
        assert!(plan.changes.is_empty(), "{plan}");
        format!("{} waits, {} findings\n", plan.waits.len(), plan.findings.len())
    })
    .collect();
    assert_snapshot!(shown.concat(), @"
    0 waits, 1 findings
    0 waits, 1 findings
    0 waits, 1 findings
    ");
}

#[test]
fn no_bad_tag_and_no_ambiguous_name_is_a_reprieve_from_a_guardrail() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let in_system = ours(&payments(), "prod-eu", SYSTEM);
    let bad = role("payments").trusting().grant("nonsense");
    let ambiguous = role("payments").trusting().grant("payments/api@prod-eu").with(administrator());
    let heir = role("heir").grant(PROD.replace("prod-eu", "eu-west-1/prod-eu").as_str()).trusting();
    let twins = [cluster("prod-eu"), cluster("us-east-1/prod-eu")];
    let one = [cluster("prod-eu"), cluster("test-eu")];
    let shown: Vec<String> = [
        ("a bad tag", snapshot([bad.clone()], one.clone(), [standing.clone()])),
        ("a bad tag, of an administrator", {
            snapshot([bad.clone().with(administrator())], one.clone(), [standing.clone()])
        }),
        ("a bad tag, of nobody knows whom", {
            snapshot([bad.clone().with(Powers::Unread)], one.clone(), [standing.clone()])
        }),
        ("a bad tag, of a policy that makes no sense", {
            snapshot([bad.clone().with(unclear())], one.clone(), [standing.clone()])
        }),
        ("a bad tag, in kube-system", snapshot([bad.clone()], one.clone(), [in_system])),
        ("an ambiguous name, of an administrator", {
            snapshot([ambiguous.clone()], twins.clone(), [standing.clone()])
        }),
        ("and another role asks", snapshot([ambiguous, heir.clone()], twins, [standing.clone()])),
        ("a bad tag, and another role asks", {
            snapshot([bad.clone().with(administrator()), heir], one.clone(), [standing.clone()])
        }),
    ]
    .into_iter()
    .map(|(name, world)| format!("{name}\n{}\n", under(&withdrawing(), &world)))
    .collect();
    assert_snapshot!(shown.concat(), @"
    a bad tag
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad tag, of an administrator
    - eu-west-1/prod-eu  payments/api  role payments  (refused by a guardrail)
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! guardrail: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad tag, of nobody knows whom
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad tag, of a policy that makes no sense
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad tag, in kube-system
    - eu-west-1/prod-eu  kube-system/dns  role payments  (refused by a guardrail)
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! guardrail: eu-west-1/prod-eu kube-system/dns role payments (kube-system/dns@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    an ambiguous name, of an administrator
    - eu-west-1/prod-eu  payments/api  role payments  (refused by a guardrail)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! ambiguous cluster: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): prod-eu is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod-eu
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    and another role asks
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir  (payments/api@prod-eu -> payments/api@eu-west-1/prod-eu)
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    ! ambiguous cluster: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): prod-eu is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod-eu
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad tag, and another role asks
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir  (payments/api@prod-eu -> payments/api@eu-west-1/prod-eu)
    ! bad tag: role payments: tag podgrant/grant: column 9: expected / and a service account after the namespace, found nothing
    ! guardrail: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
}

#[test]
fn what_others_made_is_no_business_of_a_guardrail() {
    let refused = payments().with(administrator());
    let theirs = foreign("prod-eu", "payments/api").granting(&refused);
    let world = snapshot([refused], [cluster("prod-eu")], [theirs]);
    assert_snapshot!(under(&withdrawing(), &world), @"
    ! guardrail: role payments: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_withdrawal_is_confirmed_by_what_is_so_then() {
    let view = snapshot([], [cluster("prod-eu")], []);
    let standing = ours(&payments(), "prod-eu", PROD);
    let in_system = ours(&payments(), "prod-eu", SYSTEM);
    let system = payments().grant(SYSTEM);
    // What is looked at, the role then, whether it goes where refusals are withdrawn.
    let cases = [
        (&standing, payments(), false),
        (&standing, payments().with(administrator()), true),
        // Whether it is one is not looked at, or not clear: in doubt nobody loses access.
        (&standing, payments().with(Powers::Unread), false),
        (&standing, payments().with(unclear()), false),
        (&in_system, system.clone(), true),
        (&in_system, system.clone().with(Powers::Unread), true),
        (&standing, system, true),
    ];
    for (association, role, expected) in cases {
        let goes = |guardrails: &Guardrails| {
            still_goes(association, Some(role.clone()), &view, &TagKeys::default(), guardrails)
        };
        assert_eq!(goes(&withdrawing()), expected, "{:?} {:?}", role.powers, role.tags);
        // Where they are reported, only what nobody asks for goes.
        let withdrawn =
            expected && role.tags["podgrant/grant"] != association.mark.as_ref().unwrap().subject.to_string();
        assert_eq!(goes(&Guardrails::default()), withdrawn, "{:?} {:?}", role.powers, role.tags);
    }
}
