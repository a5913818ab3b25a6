//! What is made, changed and taken away.

use insta::assert_snapshot;

use super::*;
use crate::model::AssociationRecord;

#[test]
fn a_grant_is_made() {
    let world = snapshot([payments()], [cluster("prod-eu"), cluster("test-eu")], []);
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_grant_that_stands_is_left_as_it_is() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let world = snapshot([payments()], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
    // Nor is it when EKS's own record was read, and agrees.
    let world = snapshot([payments()], [cluster("prod-eu")], [standing.granting(&payments())]);
    assert_snapshot!(grants(&world), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn retagging_moves_the_grant_to_another_service_account() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let retagged = payments().grant("payments/worker@prod-eu");
    let world = snapshot([retagged], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    + eu-west-1/prod-eu  payments/worker  role payments  (payments/worker@prod-eu)
    Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_grant_without_its_tag_is_withdrawn() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let world = snapshot([role("payments").trusting()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn selectors_by_tag_region_and_fleet_find_their_clusters() {
    let asking = role("payments")
        .trusting()
        .tagged("podgrant/grant", "a/tags@env=prod+tier=gold a/fleet@_")
        .tagged("podgrant/grant/region", "a/region@us-east-1/prod");
    let world = snapshot(
        [asking],
        [
            cluster("prod").tagged("env", "prod").tagged("tier", "gold"),
            cluster("us-east-1/prod").tagged("env", "prod"),
        ],
        [],
    );
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod  a/fleet  role payments  (a/fleet@_)
    + eu-west-1/prod  a/tags  role payments  (a/tags@env=prod+tier=gold)
    + us-east-1/prod  a/fleet  role payments  (a/fleet@_)
    + us-east-1/prod  a/region  role payments  (a/region@us-east-1/prod)
    Plan: 4 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_cluster_that_no_longer_matches_loses_the_grant() {
    let asking = role("payments").grant("payments/api@env=prod").trusting();
    let standing = ours(&asking, "prod-eu", "payments/api@env=prod");
    let world = snapshot([asking], [cluster("prod-eu").tagged("env", "test")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_role_made_again_that_asks_again_is_served_in_place() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let world = snapshot([payments().made_again()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments  role id AROAPAYMENTS -> AROAPAYMENTS2
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_role_made_again_that_does_not_ask_loses_what_the_old_one_had() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let silent = role("payments").trusting().made_again();
    let world = snapshot([silent], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (role deleted and made again)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_role_made_again_inherits_nothing_through_a_bad_tag() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let mistyped = payments().grant("payments/api").made_again();
    let world = snapshot([mistyped], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (role deleted and made again)
    ! bad tag: role payments: tag podgrant/grant: column 13: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn session_tags_and_target_role_follow_their_tags() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let changed = payments()
        .tagged("podgrant/session-tags", "off")
        .tagged("podgrant/target-role", "arn:aws:iam::222233334444:role/target");
    let world = snapshot([changed.clone()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments  session tags on -> off  target role none -> arn:aws:iam::222233334444:role/target
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // And back again.
    let standing = ours(&changed, "prod-eu", PROD);
    let world = snapshot([payments()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments  session tags off -> on  target role arn:aws:iam::222233334444:role/target -> none
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // A new one is made with both, and says so.
    let world = snapshot([changed], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  payments/api  role payments  session tags off  target role arn:aws:iam::222233334444:role/target  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn another_tag_for_the_same_grant_renews_the_mark() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let relabelled = role("payments").trusting().tagged("podgrant/grant/web", PROD);
    let world = snapshot([relabelled], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @r#"
    ~ eu-west-1/prod-eu  payments/api  role payments  label "" -> "web"
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    "#);
    let widened = payments().grant("payments/api@_");
    let world = snapshot([widened], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu -> payments/api@_)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn what_was_changed_behind_our_back_is_put_right() {
    let mut standing = ours(&payments(), "prod-eu", PROD);
    standing.record = Some(AssociationRecord {
        role_arn: role("admin").arn.to_string(),
        session_tags_off: true,
        target_role: Some("arn:aws:iam::222233334444:role/other".to_owned()),
    });
    let world = snapshot([payments()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role admin -> payments  session tags off -> on  target role arn:aws:iam::222233334444:role/other -> none
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn the_older_role_gets_a_place_that_two_ask_for() {
    let older = role("zebra").grant(PROD).trusting().born(1_000);
    let younger = payments().born(2_000);
    let world = snapshot([younger, older], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  payments/api  role zebra  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/zebra has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn roles_of_one_age_are_told_apart_by_arn() {
    let world = snapshot(
        [role("b").grant(PROD).trusting(), role("a").grant(PROD).trusting()],
        [cluster("prod-eu")],
        [],
    );
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  payments/api  role a  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role b (payments/api@prod-eu): arn:aws:iam::111122223333:role/a has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn who_stands_keeps_the_place_against_an_older_role() {
    let older = role("zebra").grant(PROD).trusting().born(1_000);
    let younger = payments().born(2_000);
    let standing = ours(&younger, "prod-eu", PROD);
    let world = snapshot([younger, older], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ! conflict: eu-west-1/prod-eu payments/api role zebra (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_place_that_its_role_gives_up_is_handed_over_in_place() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let heir = role("heir").grant(PROD).trusting();
    let world = snapshot([role("payments").trusting(), heir], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // The same where the role is gone.
    let heir = role("heir").grant(PROD).trusting();
    let world = snapshot([heir], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_place_is_not_taken_from_a_role_that_was_not_looked_at() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let heir = role("heir").grant(PROD).trusting();
    let world = snapshot([heir.clone()], [cluster("prod-eu")], [standing]).scoped_to_role(&heir);
    assert_snapshot!(grants(&world), @"
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account; if it no longer asks for it, the next sweep hands it over
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_pass_over_one_role_leaves_other_roles_alone() {
    let other = role("other");
    let world = snapshot([payments()], [cluster("prod-eu")], [ours(&other, "prod-eu", "a/b@prod-eu")])
        .scoped_to_role(&payments());
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_pass_over_one_cluster_leaves_other_clusters_alone() {
    let asking = role("payments").grant("payments/api@_ bad").trusting();
    let silent = role("silent");
    let world = snapshot(
        [asking, silent.clone()],
        [cluster("prod-eu"), cluster("test-eu")],
        [ours(&silent, "prod-eu", "a/b@_"), ours(&silent, "test-eu", "a/b@_")],
    )
    .scoped_to_cluster("prod-eu");
    // The bad tag was told when it was set.
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  a/b  role silent  (grant withdrawn)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_role_that_iam_does_not_show_is_waited_for() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let mut world = snapshot([], [cluster("prod-eu")], [standing]).scoped_to_role(&payments());
    world.roles_gone.insert("payments".to_owned());
    assert_snapshot!(grants(&world), @"
    . not yet: IAM does not show the role payments yet, or no longer
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    let plan = plan(usual(), &world, &TagKeys::default());
    assert_eq!(plan.waits[0].follow_up, crate::outcome::FollowUp::RoleUnseen { name: "payments".to_owned() });
}

#[test]
fn nothing_is_withdrawn_where_the_cluster_could_not_be_read() {
    // No claim was looked at there: what stands is not shown to lack its grant.
    let standing = ours(&payments(), "prod-eu", PROD);
    let other = ours(&role("gone"), "prod-eu", "a/b@prod-eu");
    let world =
        snapshot([payments(), role("gone")], [cluster("prod-eu"), cluster("test-eu")], [standing, other]);
    assert_snapshot!(grants(&world.clone().with_gap(Some("prod-eu"))), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    // A gap elsewhere: planned, for the guard to hold back.
    assert_snapshot!(grants(&world.with_gap(Some("test-eu"))), @"
    - eu-west-1/prod-eu  a/b  role gone  (grant withdrawn)
    Plan: 0 to create, 0 to update, 1 to delete, 1 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn an_association_seen_twice_is_changed_once_whatever_the_order() {
    let silent = role("payments");
    let twice = ours(&silent, "prod-eu", PROD);
    let world = snapshot([silent], [cluster("prod-eu")], [twice.clone(), twice]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");

    // Replaced by someone while we looked: what is theirs stands there now.
    let mut theirs = foreign("prod-eu", "payments/api");
    theirs.id = "a-zzz".parse().unwrap();
    let old = ours(&payments(), "prod-eu", PROD);
    let there = snapshot([payments()], [cluster("prod-eu")], [old.clone(), theirs.clone()]);
    let back = snapshot([payments()], [cluster("prod-eu")], [theirs, old]);
    assert_eq!(grants(&there), grants(&back));
    assert_snapshot!(grants(&there), @"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-zzz stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn changes_are_sorted_by_cluster_and_service_account() {
    let asking = role("payments").grant("b/b@_ a/z@_ a/a@_").trusting();
    let silent = role("silent");
    let world = snapshot(
        [asking, silent.clone()],
        [cluster("us-east-1/a"), cluster("z"), cluster("b")],
        [ours(&silent, "z", "a/m@_")],
    );
    assert_snapshot!(grants(&world), @"
    + eu-west-1/b  a/a  role payments  (a/a@_)
    + eu-west-1/b  a/z  role payments  (a/z@_)
    + eu-west-1/b  b/b  role payments  (b/b@_)
    + eu-west-1/z  a/a  role payments  (a/a@_)
    - eu-west-1/z  a/m  role silent  (grant withdrawn)
    + eu-west-1/z  a/z  role payments  (a/z@_)
    + eu-west-1/z  b/b  role payments  (b/b@_)
    + us-east-1/a  a/a  role payments  (a/a@_)
    + us-east-1/a  a/z  role payments  (a/z@_)
    + us-east-1/a  b/b  role payments  (b/b@_)
    Plan: 9 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}
