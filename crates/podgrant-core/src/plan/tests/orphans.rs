//! Associations without a role, and roles without a cluster.

use insta::assert_snapshot;

use super::*;
use crate::Powers;
use crate::fixtures::NOW;

const GRACE: i64 = 86_400;

fn orphans(snapshot: &Snapshot) -> String {
    printed(orphan_duty(GRACE), snapshot)
}

#[test]
fn associations_of_a_role_that_is_gone_or_replaced_go() {
    let gone = role("gone");
    let replaced = role("replaced");
    let asks_again = payments();
    let asks_badly = role("badly").grant("nonsense");
    let world = snapshot(
        [
            payments().made_again(),
            role("replaced").made_again(),
            asks_badly.clone().made_again(),
            role("there"),
        ],
        [cluster("prod-eu")],
        [
            ours(&gone, "prod-eu", "a/gone@prod-eu"),
            ours(&replaced, "prod-eu", "a/replaced@prod-eu"),
            // Roles that ask again are served by the other function, in place.
            ours(&asks_again, "prod-eu", PROD),
            ours(&asks_badly, "prod-eu", "a/badly@prod-eu"),
            // That its grant was withdrawn is the other function's business, too.
            ours(&role("there"), "prod-eu", "a/there@prod-eu"),
            foreign("prod-eu", "a/foreign"),
            ours(&gone, "prod-eu", "a/owned@prod-eu").owned_by("an add-on"),
        ],
    );
    assert_snapshot!(orphans(&world), @"
    - eu-west-1/prod-eu  a/gone  role gone  (role gone)
    - eu-west-1/prod-eu  a/replaced  role replaced  (role deleted and made again)
    Plan: 0 to create, 0 to update, 2 to delete, 1 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_pass_over_one_role_judges_no_other() {
    let (gone, unseen) = (role("gone"), role("unseen"));
    let associations = [ours(&gone, "prod-eu", "a/gone@_"), ours(&unseen, "prod-eu", "a/unseen@_")];
    let world = snapshot([], [cluster("prod-eu")], associations).scoped_to_role(&gone);
    assert_snapshot!(orphans(&world), @"
    - eu-west-1/prod-eu  a/gone  role gone  (role gone)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_cluster_that_is_going_or_opted_out_keeps_its_associations() {
    for out in [
        cluster("prod-eu").status("DELETING"),
        cluster("prod-eu").status("FAILED"),
        cluster("prod-eu").status("CREATING"),
        cluster("prod-eu").tagged("podgrant/enroll", "off"),
        cluster("other"),
    ] {
        let shown = format!("{out:?}");
        let world = snapshot([], [out], [ours(&role("gone"), "prod-eu", "a/b@_")]);
        assert_eq!(plan(orphan_duty(0), &world, &TagKeys::default()), Plan::default(), "{shown}");
    }
}

#[test]
fn a_deletion_that_is_under_way_is_waited_for() {
    let world = snapshot([], [cluster("prod-eu").status("DELETING")], []).scoped_to_cluster("prod-eu");
    assert_snapshot!(orphans(&world), @"
    . not yet: cluster eu-west-1/prod-eu is DELETING; it is not gone yet
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
}

/// A pass over one cluster, just deleted.
fn without_cluster<const R: usize, const C: usize>(
    roles: [Role; R],
    clusters: [crate::Cluster; C],
) -> Snapshot {
    let mut world = snapshot(roles, clusters, []).scoped_to_cluster("prod-eu");
    world.clusters_gone.insert(cluster_id("prod-eu"));
    world
}

#[test]
fn a_role_whose_last_cluster_was_deleted_is_an_orphan_at_once() {
    let young = |name: &str| role(name).born(NOW - 1);
    let world = without_cluster(
        [
            young("by-name").grant("a/b@prod-eu c/d@prod-eu"),
            young("by-region").grant("a/b@eu-west-1/prod-eu e/f@long-gone"),
            // Another region's cluster of that name was never there, so it did not go.
            young("other-region").grant("a/b@us-east-1/prod-eu"),
            young("has-another").grant("a/b@prod-eu a/b@prod-us"),
            young("by-tags").grant("a/b@prod-eu a/b@env=prod"),
            young("fleet").grant("a/b@_"),
            young("bad-tag").grant("a/b@prod-eu nonsense"),
            young("no-grant"),
        ],
        [cluster("us-east-1/prod-us")],
    );
    assert_snapshot!(orphans(&world), @"
    ! orphan role: role by-name: every cluster that its grants name is gone (prod-eu); take its tags away, or delete the role, if nothing else uses it
    ! orphan role: role by-region: every cluster that its grants name is gone (long-gone, prod-eu); take its tags away, or delete the role, if nothing else uses it
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
}

#[test]
fn a_name_that_lives_on_in_another_region_is_no_orphan() {
    let world = without_cluster([role("payments").grant(PROD)], [cluster("us-east-1/prod-eu")]);
    assert_eq!(plan(orphan_duty(GRACE), &world, &TagKeys::default()), Plan::default());
}

#[test]
fn a_role_that_names_no_cluster_that_exists_is_an_orphan_after_a_while() {
    let world = snapshot(
        [
            payments().born(NOW - GRACE),
            // Tagged before its cluster is made.
            role("early").grant(PROD).born(NOW - GRACE + 1),
        ],
        [],
        [],
    );
    assert_snapshot!(orphans(&world), @"
    ! orphan role: role payments: every cluster that its grants name is gone (prod-eu); take its tags away, or delete the role, if nothing else uses it
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // Age proves nothing where not every cluster was looked at.
    assert_snapshot!(orphans(&world.clone().scoped_to_cluster("prod-us")), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    // Nor where some could not be read.
    assert_snapshot!(orphans(&world.with_gap(None)), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn a_cluster_on_its_way_out_or_opted_out_still_exists() {
    for still in [cluster("prod-eu").status("DELETING"), cluster("prod-eu").tagged("podgrant/enroll", "off")]
    {
        let world = snapshot([payments().born(0)], [still], []);
        assert_eq!(plan(orphan_duty(GRACE), &world, &TagKeys::default()), Plan::default());
    }
}

#[test]
fn a_place_that_a_living_role_claims_is_left_to_be_handed_over() {
    let gone = payments();
    let world = |heir: Role| snapshot([heir], [cluster("prod-eu")], [ours(&gone, "prod-eu", PROD)]);
    let heir = role("heir").grant(PROD);
    assert_snapshot!(orphans(&world(heir.clone().trusting())), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    // One that may not have it is no heir: nobody else would take it away.
    let revoked = "
    - eu-west-1/prod-eu  payments/api  role payments  (role gone)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ";
    let administrator =
        Role { powers: Powers::Everything { policy: "a".to_owned() }, ..heir.clone().trusting() };
    for refused in [heir, administrator] {
        assert_eq!(orphans(&world(refused)).trim(), unindented(revoked));
    }
}

fn unindented(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_role_that_did_not_show_once_is_looked_for_again() {
    let (gone, missed) = (role("gone"), role("missed"));
    let associations = [ours(&gone, "prod-eu", "a/gone@_"), ours(&missed, "prod-eu", "a/missed@_")];
    let mut world = snapshot([], [cluster("prod-eu")], associations);
    world.roles_missed.insert("missed".to_owned());
    assert_snapshot!(orphans(&world), @"
    - eu-west-1/prod-eu  a/gone  role gone  (role gone)
    . not yet: what does not show is gone if it does not show after a while either: role missed
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    // Where something could not be read another look at once would take nothing either.
    assert!(!orphans(&world.with_gap(None)).contains("not yet"));
}

#[test]
fn an_association_of_others_whose_role_is_gone_is_told() {
    let associations = [
        foreign("prod-eu", "a/gone").granting(&role("gone")),
        foreign("prod-eu", "a/owned").granting(&role("gone")).owned_by("an add-on"),
        foreign("prod-eu", "a/there").granting(&role("there")),
        // Whose role was never asked for, or did not show just once.
        foreign("prod-eu", "a/unknown").granting(&role("unknown")),
        foreign("prod-eu", "a/missed").granting(&role("missed")),
        foreign("prod-eu", "a/unread"),
        foreign("us-east-1/prod-us", "a/gone").granting(&role("gone")),
    ];
    let clusters = [cluster("prod-eu"), cluster("us-east-1/prod-us")];
    let mut world = snapshot([role("there")], clusters, associations);
    world.roles_gone.extend(["gone", "missed", "there"].map(str::to_owned));
    world.roles_missed.insert("missed".to_owned());
    assert_snapshot!(orphans(&world.clone().scoped_to_cluster("prod-eu")), @"
    ! dangling association: eu-west-1/prod-eu a/gone role gone: association a-prodeuagone is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    ! dangling association: eu-west-1/prod-eu a/owned role gone: association a-prodeuaowned is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
    world.scope = Scope::default();
    assert_snapshot!(orphans(&world), @"
    ! dangling association: eu-west-1/prod-eu a/gone role gone: association a-prodeuagone is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    ! dangling association: eu-west-1/prod-eu a/owned role gone: association a-prodeuaowned is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    ! dangling association: us-east-1/prod-us a/gone role gone: association a-produsagone is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 3 findings.
    ");
}
