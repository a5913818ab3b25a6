use super::*;
use crate::fixtures::role;
use crate::{Role, RoleTags, TagKeys};

fn at(path: &str) -> Role {
    let mut role = role("payments");
    role.arn = format!("arn:aws:iam::111122223333:role{path}payments").parse().unwrap();
    role
}

fn rules(guardrails: &Guardrails, role: &Role) -> Vec<Rule> {
    let (tags, _) = RoleTags::parse(&TagKeys::default(), &role.tags);
    guardrails.role_refusals(role, &tags.grants).into_iter().map(|refusal| refusal.rule).collect()
}

#[test]
fn they_are_on_by_default() {
    let guardrails = Guardrails::default();
    let refused: Vec<&str> = guardrails.refused_namespaces.iter().map(Namespace::as_str).collect();
    assert_eq!(refused, ["kube-node-lease", "kube-public", "kube-system"]);
    assert!(guardrails.refuse_administrators);
    assert_eq!(guardrails.max_service_accounts, 10);
    // What only their owner can know is not asked for.
    assert_eq!((guardrails.role_paths.len(), &guardrails.permissions_boundary), (0, &None));
    // And whoever updates podgrant loses nothing for it.
    assert_eq!(guardrails.on_refused, OnRefused::Report);
}

#[test]
fn they_cross_process_borders() {
    let guardrails = Guardrails {
        role_paths: vec!["/apps/".to_owned()],
        permissions_boundary: Some("arn:aws:iam::111122223333:policy/pods".to_owned()),
        on_refused: OnRefused::Withdraw,
        ..Guardrails::default()
    };
    let text = serde_json::to_string(&guardrails).unwrap();
    assert_eq!(serde_json::from_str::<Guardrails>(&text).unwrap(), guardrails);
    assert!(text.contains(r#""on_refused":"withdraw""#), "{text}");
}

#[test]
fn a_path_is_allowed_by_whole_segments() {
    let cases: &[(&[&str], &str, bool)] = &[
        (&[], "/", true),
        (&[], "/apps/", true),
        (&["/apps/"], "/apps/", true),
        (&["/apps/"], "/apps/payments/", true),
        (&["/apps/"], "/apps-x/", false),
        (&["/apps"], "/apps-x/", false),
        (&["/apps"], "/apps/", true),
        (&["apps"], "/apps/", true),
        (&[" apps/ "], "/apps/", true),
        (&["/apps/"], "/", false),
        (&["/apps/"], "/teams/apps/", false),
        (&["/apps/payments/"], "/apps/", false),
        (&["/Apps/"], "/apps/", false),
        (&["/apps/", "/teams/"], "/teams/a/", true),
        (&["/"], "/teams/a/", true),
    ];
    for (allowed, path, expected) in cases {
        let role_paths = allowed.iter().map(|path| (*path).to_owned()).collect();
        let guardrails = Guardrails { role_paths, ..Guardrails::default() };
        let refused = rules(&guardrails, &at(path)) == [Rule::RolePaths];
        assert_eq!(!refused, *expected, "{allowed:?} {path}");
    }
}

#[test]
fn service_accounts_are_counted_once_wherever_they_are() {
    let guardrails = Guardrails { max_service_accounts: 2, ..Guardrails::default() };
    let cases = [
        ("a/x@prod", true),
        ("a/x@prod a/y@prod", true),
        ("a/x@prod a/y@prod a/z@prod", false),
        ("a/x@prod b/x@prod c/x@prod", false),
        ("a/x@prod a/x@test a/x@env=live a/y@_", true),
        // Patterns mean one at least.
        ("a/x@prod a/_@prod", true),
        ("a/x@prod a/_@prod a/job-_@prod", false),
        ("a/x@prod a/y@prod nonsense", true),
    ];
    for (grants, expected) in cases {
        let refused = rules(&guardrails, &role("payments").grant(grants)) == [Rule::ServiceAccounts];
        assert_eq!(!refused, expected, "{grants}");
    }
    let ten: Vec<String> = (0..10).map(|n| format!("a/x{n}@prod")).collect();
    let mut shared = role("payments").grant(&ten.join(" "));
    assert_eq!(rules(&Guardrails::default(), &shared), []);
    shared = shared.tagged("podgrant/grant/more", "a/x10@prod");
    assert_eq!(rules(&Guardrails::default(), &shared), [Rule::ServiceAccounts]);
}

#[test]
fn a_required_boundary_is_that_one_and_no_other() {
    let pods = "arn:aws:iam::111122223333:policy/pods";
    let required = Guardrails { permissions_boundary: Some(pods.to_owned()), ..Guardrails::default() };
    let cases = [
        (None, false),
        (Some("arn:aws:iam::111122223333:policy/pods"), true),
        (Some("arn:aws:iam::111122223333:policy/pods2"), false),
        (Some("arn:aws:iam::111122223333:policy/a/pods"), false),
    ];
    for (boundary, expected) in cases {
        let bounded = Role { permissions_boundary: boundary.map(str::to_owned), ..role("payments") };
        assert_eq!(rules(&required, &bounded) != [Rule::RequiredBoundary], expected, "{boundary:?}");
        assert_eq!(rules(&Guardrails::default(), &bounded), []);
    }
}

#[test]
fn administrators_are_refused_unless_they_are_allowed() {
    let everything = Powers::Everything { policy: "AdministratorAccess".to_owned() };
    let unclear = Powers::Unclear { policy: "mine".to_owned(), problem: "it has no Statement".to_owned() };
    // Refused, in doubt, unread.
    let cases = [
        (Powers::Limited, false, false, false),
        (Powers::Unread, false, false, true),
        (everything, true, false, false),
        (unclear, true, true, false),
    ];
    let lax = Guardrails { refuse_administrators: false, ..Guardrails::default() };
    for (powers, refused, in_doubt, unread) in cases {
        let strong = Role { powers: powers.clone(), ..role("payments") };
        let refusals = Guardrails::default().role_refusals(&strong, &[]);
        assert_eq!(refusals.iter().any(|r| r.rule == Rule::Administrators), refused, "{powers:?}");
        assert_eq!(refusals.iter().any(|r| r.in_doubt), in_doubt, "{powers:?}");
        assert_eq!(Guardrails::default().lacks_powers(&strong), unread, "{powers:?}");
        assert_eq!(lax.role_refusals(&strong, &[]), [], "{powers:?}");
        assert!(!lax.lacks_powers(&strong), "{powers:?}");
    }
}

#[test]
fn the_hardest_refusal_counts_and_a_doubt_expels_nobody() {
    let refusal = |in_doubt| Refusal { rule: Rule::Administrators, reason: String::new(), in_doubt };
    let cases: [(&[bool], Ruling, Ruling); 4] = [
        (&[], Ruling::Allowed, Ruling::Allowed),
        (&[true], Ruling::Refused, Ruling::Refused),
        (&[false], Ruling::Refused, Ruling::Expelled),
        (&[true, false], Ruling::Refused, Ruling::Expelled),
    ];
    for (doubts, reported, withdrawn) in cases {
        let refusals: Vec<Refusal> = doubts.iter().map(|in_doubt| refusal(*in_doubt)).collect();
        let withdraw = Guardrails { on_refused: OnRefused::Withdraw, ..Guardrails::default() };
        assert_eq!(Guardrails::default().ruling(&refusals), reported);
        assert_eq!(withdraw.ruling(&refusals), withdrawn);
    }
}

#[test]
fn every_refusal_names_its_rule_and_the_remedies() {
    let guardrails = Guardrails {
        role_paths: vec!["/apps".to_owned(), "/teams/".to_owned()],
        max_service_accounts: 1,
        permissions_boundary: Some("arn:aws:iam::111122223333:policy/pods".to_owned()),
        ..Guardrails::default()
    };
    let broken = Role {
        powers: Powers::Everything { policy: "AdministratorAccess".to_owned() },
        permissions_boundary: Some("arn:aws:iam::111122223333:policy/devs".to_owned()),
        ..role("payments").grant("a/x@prod a/y@prod")
    };
    let (tags, _) = RoleTags::parse(&TagKeys::default(), &broken.tags);
    let mut refusals = guardrails.role_refusals(&broken, &tags.grants);
    let unclear = Powers::Unclear { policy: "mine".to_owned(), problem: "it has no Statement".to_owned() };
    refusals.extend(Guardrails::default().role_refusals(&Role { powers: unclear, ..role("payments") }, &[]));
    refusals.extend(guardrails.namespace_refusal(&"kube-system".parse().unwrap()));
    assert_eq!(guardrails.namespace_refusal(&"kube-system-2".parse().unwrap()), None);
    assert_eq!(guardrails.namespace_refusal(&"default".parse().unwrap()), None);
    let told: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    assert!(refusals.iter().all(|r| r.reason.contains(r.rule.variable())));
    insta::assert_snapshot!(told.join("\n"), @"
    role-paths: the role's path is /, and pods get roles under /apps/ and /teams/ only; make it anew under such a path, or allow this one with PODGRANT_ROLE_PATHS
    administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    service-accounts: its grants name 2 service accounts, and at most 1 may share a role; make a role for each workload, or raise PODGRANT_MAX_SERVICE_ACCOUNTS to 2
    required-boundary: its permissions boundary is arn:aws:iam::111122223333:policy/devs, and pods get roles with arn:aws:iam::111122223333:policy/pods only; give it that boundary, or change PODGRANT_REQUIRED_BOUNDARY
    administrators: its policy mine makes no sense (it has no Statement), and may allow everything; mend it, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    ");
}
