//! `podgrant/adopt = on`: what somebody else made becomes podgrant's.

use insta::assert_snapshot;

use super::*;
use crate::Association;
use crate::model::AssociationRecord;

fn adopting() -> Role {
    payments().tagged("podgrant/adopt", "on")
}

fn theirs() -> Association {
    foreign("prod-eu", "payments/api")
}

fn with(roles: impl IntoIterator<Item = Role>, standing: Association) -> Snapshot {
    let mut world = snapshot([], [cluster("prod-eu")], [standing]);
    world.roles = roles.into_iter().map(|role| (role.arn.clone(), role)).collect();
    world
}

#[test]
fn an_association_that_has_this_very_role_is_adopted() {
    let world = with([adopting()], theirs().granting(&payments()));
    assert_snapshot!(grants(&world), @"
    * eu-west-1/prod-eu  payments/api  role payments  adopted  (payments/api@prod-eu)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // With the settings that its role's tags say.
    let mut standing = theirs().granting(&payments());
    standing.record = standing.record.map(|record| AssociationRecord {
        target_role: Some("arn:aws:iam::222233334444:role/target".to_owned()),
        ..record
    });
    let off = adopting().tagged("podgrant/session-tags", "off");
    assert_snapshot!(grants(&with([off], standing)), @"
    * eu-west-1/prod-eu  payments/api  role payments  adopted  session tags on -> off  target role arn:aws:iam::222233334444:role/target -> none  (payments/api@prod-eu)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // From then on it is one of ours.
    let plan = plan(Duty::Grants { guardrails: Guardrails::default() }, &world, &TagKeys::default());
    let [Change::Adopt { association, mark }] = plan.changes.as_slice() else { panic!("{plan}") };
    let marked = Association { mark: Some(mark.clone()), ..association.clone() };
    assert_snapshot!(grants(&with([adopting()], marked.clone())), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
    assert_snapshot!(grants(&with([role("payments").tagged("podgrant/adopt", "on")], marked)), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn nothing_else_is_adopted() {
    let mine = || ours(&payments(), "prod-eu", PROD).granting(&payments());
    let mut copied = mine();
    copied.mark = ours(&payments(), "prod-eu", "other/thing@prod-eu").mark;
    let off = |record: Option<AssociationRecord>| {
        record.map(|record| AssociationRecord { session_tags_off: true, ..record })
    };
    let mut different = theirs().granting(&payments());
    different.record = off(different.record);
    let elsewhere = foreign("prod-eu", "other/thing").granting(&payments());
    let granted = || theirs().granting(&payments());
    let worlds = [
        ("not asked for", payments(), different.clone()),
        ("not asked for, by off", payments().tagged("podgrant/adopt", "off"), different.clone()),
        ("not asked for in plain words", payments().tagged("podgrant/adopt", "true"), different.clone()),
        ("another role", adopting(), theirs().granting(&role("x"))),
        ("not described", adopting(), theirs()),
        ("an add-on's", adopting(), theirs().granting(&role("x")).owned_by("vpc-cni")),
        (
            "an add-on's, with this role",
            adopting().tagged("podgrant/session-tags", "off"),
            granted().owned_by("vpc-cni"),
        ),
        ("a copied mark", adopting().tagged("podgrant/session-tags", "off"), copied),
        ("a bad setting", adopting().tagged("podgrant/session-tags", "of"), different.clone()),
        ("a bad target", adopting().tagged("podgrant/target-role", "x"), different),
        ("no trust", role("payments").grant(PROD).tagged("podgrant/adopt", "on"), granted()),
        ("no grant here", role("payments").trusting().tagged("podgrant/adopt", "on"), elsewhere),
    ];
    let shown: Vec<String> = worlds
        .into_iter()
        .map(|(name, asking, standing)| format!("{name}\n{}\n", grants(&with([asking], standing))))
        .collect();
    assert_snapshot!(shown.concat(), @r#"
    not asked for
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    not asked for, by off
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    not asked for in plain words
    ! bad tag: role payments: tag podgrant/adopt: expected on or off, found "true"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    another role
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else, and has the role arn:aws:iam::111122223333:role/x; podgrant/adopt = on takes only an association that already has the role that asks: change its role, delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    not described
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    an add-on's
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by vpc-cni; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    an add-on's, with this role
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by vpc-cni; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    a copied mark
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    a bad setting
    ! bad tag: role payments: tag podgrant/session-tags: expected on or off, found "of"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant/adopt = on takes it when tag podgrant/session-tags parses
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    a bad target
    ! bad tag: role payments: tag podgrant/target-role: "x" is not a role ARN such as arn:aws:iam::111122223333:role/name; until it is mended the role gets nothing new, and what it has stays as it is
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    no trust
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    no grant here
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    "#);
}

#[test]
fn whose_role_stands_there_keeps_the_place_against_an_older_one() {
    let older = role("zebra").grant(PROD).trusting().born(0);
    let world = with([older.clone(), adopting()], theirs().granting(&payments()));
    assert_snapshot!(grants(&world), @"
    * eu-west-1/prod-eu  payments/api  role payments  adopted  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role zebra (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    // Nor does the older one take it for asking to adopt.
    let older = older.tagged("podgrant/adopt", "on");
    let world = with([older.clone(), payments()], theirs().granting(&payments()));
    assert_snapshot!(grants(&world), @"
    ! conflict: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): arn:aws:iam::111122223333:role/zebra has this service account already; a service account has one role on a cluster
    ! foreign association: eu-west-1/prod-eu payments/api role zebra (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else, and has the role arn:aws:iam::111122223333:role/payments; podgrant/adopt = on takes only an association that already has the role that asks: change its role, delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
    let world = with([older, adopting()], theirs().granting(&payments()));
    assert_snapshot!(grants(&world), @"
    * eu-west-1/prod-eu  payments/api  role payments  adopted  (payments/api@prod-eu)
    ! conflict: eu-west-1/prod-eu payments/api role zebra (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_role_that_is_to_be_trusted_adopts_in_the_same_pass() {
    let asking = role("payments").grant(PROD).amendable().tagged("podgrant/adopt", "on");
    let world = with([asking], theirs().granting(&payments()));
    assert_snapshot!(grants(&world), @"
    ~ role payments  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu
    * eu-west-1/prod-eu  payments/api  role payments  adopted  (payments/api@prod-eu)
    Plan: 0 to create, 2 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // Adopting takes nothing away: a gap elsewhere does not hold it up.
    let approved = crate::guard(
        plan(Duty::Grants { guardrails: Guardrails::default() }, &world, &TagKeys::default()),
        &world.with_gap(None),
        &TagKeys::default(),
        &crate::Limits::default(),
    );
    assert_eq!(approved.changes().len(), 2);
}
