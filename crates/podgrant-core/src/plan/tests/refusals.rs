//! Each no, and why.

use insta::assert_snapshot;

use super::*;

#[test]
fn what_someone_else_made_is_never_touched() {
    let theirs = foreign("prod-eu", "payments/api");
    let world = snapshot([payments()], [cluster("prod-eu")], [theirs.clone()]);
    assert_snapshot!(grants(&world), @"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");

    // Nor described and found to grant something else.
    let world = snapshot([payments()], [cluster("prod-eu")], [theirs.clone().granting(&role("x"))]);
    assert_snapshot!(grants(&world), @"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");

    // One that grants just what is asked will do.
    let world = snapshot([payments()], [cluster("prod-eu")], [theirs.granting(&payments())]);
    assert_snapshot!(grants(&world), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn what_an_add_on_owns_is_never_touched_though_it_carries_our_mark() {
    let owned = ours(&payments(), "prod-eu", PROD).owned_by("arn:aws:eks:…:addon/prod-eu/vpc-cni");
    let changed = payments().tagged("podgrant/session-tags", "off");
    let world = snapshot([changed], [cluster("prod-eu")], [owned.clone()]);
    assert_snapshot!(grants(&world), @"
    ! foreign association: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): association a-prodeupaymentsapi stands there, made by arn:aws:eks:…:addon/prod-eu/vpc-cni; podgrant never touches it: delete it, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    let world = snapshot([role("payments")], [cluster("prod-eu")], [owned]);
    assert_snapshot!(grants(&world), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn a_mark_copied_from_another_association_makes_nothing_ours() {
    let mut copied = ours(&payments(), "prod-eu", PROD);
    copied.workload = foreign("prod-eu", "other/thing").workload;
    let mut elsewhere = ours(&payments(), "prod-eu", PROD);
    elsewhere.cluster = cluster_id("test-eu");
    let world = snapshot([role("payments")], [cluster("prod-eu"), cluster("test-eu")], [copied, elsewhere]);
    assert_snapshot!(grants(&world), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    assert_snapshot!(printed(orphan_duty(0), &Snapshot { roles: BTreeMap::new(), ..world }), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn without_trust_nothing_new_is_made_and_what_stands_stays() {
    let distrusting = role("payments").grant(PROD);
    let world = snapshot([distrusting.clone()], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    let standing = ours(&distrusting, "prod-eu", PROD);
    let world = snapshot([distrusting], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    "#);
}

#[test]
fn without_trust_no_place_is_won() {
    // The older claim is refused: the younger role is served.
    let distrusting = role("old").grant(PROD).born(0);
    let world = snapshot([distrusting.clone(), payments()], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    ! trust policy: role old: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    ! conflict: eu-west-1/prod-eu payments/api role old (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    "#);

    // A role made again, and without trust, is not the one that was trusted.
    let standing = ours(&distrusting, "prod-eu", PROD);
    let world = snapshot([distrusting.made_again()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @r#"
    - eu-west-1/prod-eu  payments/api  role old  (role deleted and made again)
    ! trust policy: role old: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
}

/// Trusts EKS Pod Identity for prod-eu, and no other cluster.
const FOR_PROD: &str =
    r#"{"ArnEquals":{"aws:SourceArn":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu"}}"#;

#[test]
fn a_role_trusted_for_one_cluster_makes_its_grant_there_only() {
    let fleet = role("payments").grant("payments/api@_").trusting_where(FOR_PROD);
    let world = snapshot([fleet], [cluster("prod-eu"), cluster("test-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    ! trust policy: eu-west-1/test-eu payments/api role payments (payments/api@_): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:SourceArn ArnEquals "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    // A pass over the other cluster tells it, too: it may be the cluster's first.
    assert_snapshot!(grants(&world.clone().scoped_to_cluster("test-eu")), @r#"
    ! trust policy: eu-west-1/test-eu payments/api role payments (payments/api@_): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:SourceArn ArnEquals "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    assert_snapshot!(grants(&world.scoped_to_cluster("prod-eu")), @"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@_)
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_role_trusted_for_one_service_account_makes_no_other_grant() {
    let both = role("payments")
        .grant("payments/api@prod-eu payments/worker@prod-eu")
        .trusting_where(r#"{"StringEquals":{"aws:RequestTag/kubernetes-service-account":"api"}}"#);
    let world = snapshot([both.clone()], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    ! trust policy: eu-west-1/prod-eu payments/worker role payments (payments/worker@prod-eu): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/kubernetes-service-account StringEquals "api" (it is "worker"); mend the condition, or take the grant back
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);

    // Without session tags it is trusted for nobody: told once, and not for each grant.
    let world = snapshot([both.tagged("podgrant/session-tags", "off")], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com: statement "EksPods" wants aws:RequestTag/kubernetes-service-account StringEquals "api" (with session tags off EKS sends none: it can never hold); leave session tags on, or take the condition away
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
}

#[test]
fn a_role_trusted_for_another_account_is_told_once() {
    let condition = r#"{"StringEquals":{"aws:SourceAccount":"222233334444"}}"#;
    let fleet = role("payments").grant("payments/api@_ payments/worker@_").trusting_where(condition);
    let world = snapshot([fleet], [cluster("prod-eu"), cluster("test-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com: statement "EksPods" wants aws:SourceAccount StringEquals "222233334444" (it is "111122223333"); mend the condition, or take the grant back
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    assert_snapshot!(grants(&world.scoped_to_cluster("prod-eu")), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn without_trust_here_no_place_is_won_and_what_stands_stays() {
    let on_test = "payments/api@test-eu";
    let old = role("old").grant(on_test).born(0).trusting_where(FOR_PROD);
    let young = role("payments").grant(on_test).trusting();
    // The older claim is refused: the younger role is served.
    let world = snapshot([old.clone(), young.clone()], [cluster("test-eu")], []);
    assert_snapshot!(grants(&world), @r#"
    + eu-west-1/test-eu  payments/api  role payments  (payments/api@test-eu)
    ! trust policy: eu-west-1/test-eu payments/api role old (payments/api@test-eu): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:SourceArn ArnEquals "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    ! conflict: eu-west-1/test-eu payments/api role old (payments/api@test-eu): arn:aws:iam::111122223333:role/payments has this service account already; a service account has one role on a cluster
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    "#);

    // Who stands there with the same role id keeps it.
    let standing = ours(&old, "test-eu", on_test);
    let world = snapshot([old.clone(), young], [cluster("test-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @r#"
    ! trust policy: eu-west-1/test-eu payments/api role old (payments/api@test-eu): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:SourceArn ArnEquals "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    ! conflict: eu-west-1/test-eu payments/api role payments (payments/api@test-eu): arn:aws:iam::111122223333:role/old has this service account already; a service account has one role on a cluster
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    "#);

    // A role made again is not the one that was trusted; where it is trusted, it is served.
    let again = old.clone().made_again();
    let world = snapshot([again], [cluster("test-eu")], [standing]);
    assert_snapshot!(grants(&world), @r#"
    - eu-west-1/test-eu  payments/api  role old  (role deleted and made again)
    ! trust policy: eu-west-1/test-eu payments/api role old (payments/api@test-eu): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:SourceArn ArnEquals "arn:aws:eks:eu-west-1:111122223333:cluster/prod-eu" (it is "arn:aws:eks:eu-west-1:111122223333:cluster/test-eu"); mend the condition, or take the grant back
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    "#);
    let again = old.clone().grant(PROD).made_again();
    let world = snapshot([again], [cluster("prod-eu")], [ours(&old, "prod-eu", PROD)]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role old  role id AROAOLD -> AROAOLD2
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_bad_setting_is_judged_as_it_stands() {
    // What stands has no session tags, and a tag that does not parse leaves it so.
    let needs_tags = r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments"}}"#;
    let off = payments().tagged("podgrant/session-tags", "off");
    let standing = ours(&off, "prod-eu", PROD);
    let bad = payments().tagged("podgrant/session-tags", "of").trusting_where(needs_tags);
    let world = snapshot(
        [bad.grant("payments/api@_").made_again()],
        [cluster("prod-eu"), cluster("test-eu")],
        [standing],
    );
    assert_snapshot!(grants(&world), @r#"
    - eu-west-1/prod-eu  payments/api  role payments  (role deleted and made again)
    + eu-west-1/test-eu  payments/api  role payments  (payments/api@_)
    ! bad tag: role payments: tag podgrant/session-tags: expected on or off, found "of"
    ! trust policy: eu-west-1/prod-eu payments/api role payments (payments/api@_): the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com here: statement "EksPods" wants aws:RequestTag/kubernetes-namespace StringEquals "payments" (with session tags off EKS sends none: it can never hold); leave session tags on, or take the condition away
    Plan: 1 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    "#);
}

#[test]
fn a_bad_tag_never_takes_down_its_neighbours() {
    let asking =
        payments().grant("payments/api@prod-eu payments/worker").tagged("podgrant/grant/b", "b/b@prod-eu");
    let world = snapshot([asking], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    + eu-west-1/prod-eu  b/b  role payments  (b/b@prod-eu)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    ! bad tag: role payments: tag podgrant/grant: column 37: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_bad_part_does_not_freeze_the_good_ones_beside_it() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let asking =
        payments().grant("payments/api@prod-eu payments/worker").tagged("podgrant/session-tags", "off");
    let world = snapshot([asking], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments  session tags on -> off
    ! bad tag: role payments: tag podgrant/grant: column 37: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_bad_tag_keeps_what_it_made() {
    let standing = ours(&payments(), "prod-eu", PROD);
    let mistyped = payments().grant("payments/api prod-eu");
    let world = snapshot([mistyped.clone()], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ! bad tag: role payments: tag podgrant/grant: column 13: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    ! bad tag: role payments: tag podgrant/grant: column 21: expected / and a service account after the namespace, found nothing
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 3 findings.
    ");

    // Also from another role that asks for the place.
    let heir = role("heir").grant(PROD).trusting();
    let world = snapshot([mistyped, heir], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ! bad tag: role payments: tag podgrant/grant: column 13: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    ! bad tag: role payments: tag podgrant/grant: column 21: expected / and a service account after the namespace, found nothing
    ! conflict: eu-west-1/prod-eu payments/api role heir (payments/api@prod-eu): arn:aws:iam::111122223333:role/payments has this service account, and a tag of it may still ask for it; mend or remove that tag
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 4 findings.
    ");

    // To IAM, keys that differ only in case are one.
    let miscased = role("payments").trusting().tagged("Podgrant/Grant", PROD);
    let world = snapshot([miscased], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ! bad tag: role payments: tag Podgrant/Grant: expected the prefix podgrant/ in just these letters
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag Podgrant/Grant asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");

    // A bad tag keeps nothing that another tag made.
    let other = role("payments").trusting().tagged("podgrant/grant/batch", "nonsense");
    let world = snapshot([other.clone()], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    ! bad tag: role payments: tag podgrant/grant/batch: column 9: expected / and a service account after the namespace, found nothing
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    let world = snapshot([other], [cluster("prod-eu")], [standing.labelled("batch")]);
    assert_snapshot!(grants(&world), @"
    ! bad tag: role payments: tag podgrant/grant/batch: column 9: expected / and a service account after the namespace, found nothing
    ! kept: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): tag podgrant/grant/batch asked for it and has a part that does not parse; mend it, and the association stays or goes as it says
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
}

#[test]
fn a_bad_setting_changes_nothing_that_stands() {
    let before = payments()
        .tagged("podgrant/session-tags", "off")
        .tagged("podgrant/target-role", "arn:aws:iam::222233334444:role/target");
    let after = before
        .clone()
        .tagged("podgrant/session-tags", "of")
        .tagged("podgrant/target-role", "target")
        .grant("payments/api@prod-eu payments/new@prod-eu");
    let standing = ours(&before, "prod-eu", PROD);
    let world = snapshot([after.clone()], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @r#"
    ! bad tag: role payments: tag podgrant/session-tags: expected on or off, found "of"
    ! bad tag: role payments: tag podgrant/target-role: "target" is not a role ARN such as arn:aws:iam::111122223333:role/name; until it is mended the role gets nothing new, and what it has stays as it is
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 2 findings.
    "#);

    // Made again meanwhile: served in place, with the settings that stand.
    let world = snapshot([after.made_again()], [cluster("prod-eu")], [standing]);
    assert_snapshot!(grants(&world), @r#"
    ~ eu-west-1/prod-eu  payments/api  role payments  role id AROAPAYMENTS -> AROAPAYMENTS2
    ! bad tag: role payments: tag podgrant/session-tags: expected on or off, found "of"
    ! bad tag: role payments: tag podgrant/target-role: "target" is not a role ARN such as arn:aws:iam::111122223333:role/name; until it is mended the role gets nothing new, and what it has stays as it is
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    "#);
}

#[test]
fn patterns_are_refused_aloud_and_keep_what_they_may_mean() {
    let pattern = role("payments").grant("payments/_@prod-eu job-_/api@prod-eu").trusting();
    let standing = ours(&payments(), "prod-eu", PROD);
    let world = snapshot([pattern.clone()], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ! pattern not expanded: eu-west-1/prod-eu role payments (job-_/api@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    ! pattern not expanded: eu-west-1/prod-eu role payments (payments/_@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");

    let heir = role("heir").grant(PROD).trusting();
    let world = snapshot([pattern, heir], [cluster("prod-eu")], [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ~ eu-west-1/prod-eu  payments/api  role payments -> heir
    ! pattern not expanded: eu-west-1/prod-eu role payments (job-_/api@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    ! pattern not expanded: eu-west-1/prod-eu role payments (payments/_@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");

    let elsewhere = role("payments").grant("payments/_@test-eu batch/_@prod-eu").trusting();
    let world = snapshot([elsewhere], [cluster("prod-eu"), cluster("test-eu")], [standing]);
    assert_snapshot!(grants(&world), @"
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn)
    ! pattern not expanded: eu-west-1/prod-eu role payments (batch/_@prod-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    ! pattern not expanded: eu-west-1/test-eu role payments (payments/_@test-eu): the cluster's service accounts are not known: they were not looked at in this pass; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
}

#[test]
fn a_cluster_that_is_not_there_is_news_only_in_a_whole_view() {
    let asking = role("payments").grant("a/b@prod a/c@us-east-1/prod-eu d/e@env=none").trusting();
    let world = snapshot([asking], [cluster("prod-eu")], []);
    assert_snapshot!(grants(&world), @"
    ! no such cluster: a/b role payments (a/b@prod): no configured region has a cluster prod; the grant is made when there is one
    ! no such cluster: a/c role payments (a/c@us-east-1/prod-eu): no configured region has a cluster us-east-1/prod-eu; the grant is made when there is one
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");
    assert_snapshot!(grants(&world.clone().with_gap(None)), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    assert_snapshot!(grants(&world.scoped_to_cluster("prod-eu")), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn a_name_that_means_two_clusters_is_refused_and_keeps_what_stands() {
    let clusters = [cluster("prod"), cluster("us-east-1/prod")];
    let asking = role("payments").grant("payments/api@prod").trusting();
    let standing = ours(&asking, "prod", "payments/api@prod");
    let world = snapshot([asking.clone()], clusters.clone(), [standing.clone()]);
    assert_snapshot!(grants(&world), @"
    ! ambiguous cluster: eu-west-1/prod payments/api role payments (payments/api@prod): prod is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");

    // Nor does another role get the place for it.
    let heir = role("heir").grant("payments/api@eu-west-1/prod").trusting();
    let world = snapshot([asking.clone(), heir], clusters.clone(), [standing]);
    assert_snapshot!(grants(&world), @"
    ! ambiguous cluster: eu-west-1/prod payments/api role payments (payments/api@prod): prod is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod
    ! conflict: eu-west-1/prod payments/api role heir (payments/api@eu-west-1/prod): arn:aws:iam::111122223333:role/payments has this service account, and a tag of it may still ask for it; mend or remove that tag
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    ");

    // In a pass over one of the two, it is that one's news.
    let world = snapshot([asking], clusters, []);
    assert_snapshot!(grants(&world.clone().scoped_to_cluster("us-east-1/prod")), @"
    ! ambiguous cluster: us-east-1/prod payments/api role payments (payments/api@prod): prod is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(grants(&world.scoped_to_cluster("test")), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
}

#[test]
fn a_cluster_that_opted_out_is_left_alone() {
    let named = payments().tagged("podgrant/grant/fleet", "a/b@_");
    for value in ["off", " off ", "Off", "false"] {
        let out = cluster("prod-eu").tagged("podgrant/enroll", value);
        let withdrawn = ours(&named, "prod-eu", "x/y@prod-eu");
        let plan = plan(usual(), &snapshot([named.clone()], [out], [withdrawn]), &TagKeys::default());
        assert_eq!(plan.changes, [], "{value}");
        assert_eq!(plan.findings.len(), 1, "{plan}");
    }
    let out = cluster("prod-eu").tagged("podgrant/enroll", "off");
    assert_snapshot!(grants(&snapshot([named.clone()], [out], [])), @"
    ! cluster opted out: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster carries podgrant/enroll = off
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    let back_in = cluster("prod-eu").tagged("podgrant/enroll", "on");
    assert_snapshot!(grants(&snapshot([named], [back_in], [])), @"
    + eu-west-1/prod-eu  a/b  role payments  (a/b@_)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_cluster_gets_grants_when_it_is_ready() {
    let named = payments().tagged("podgrant/grant/fleet", "a/b@_");
    let shown: Vec<String> = ["ACTIVE", "UPDATING", "CREATING", "PENDING", "RESTORING", "DELETING", "FAILED"]
        .iter()
        .map(|status| {
            // One stands, withdrawn: it goes only where the cluster can take orders.
            let standing = ours(&named, "prod-eu", "x/y@prod-eu");
            let world = snapshot([named.clone()], [cluster("prod-eu").status(status)], [standing]);
            format!("{status}\n{}\n", grants(&world))
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    ACTIVE
    + eu-west-1/prod-eu  a/b  role payments  (a/b@_)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    - eu-west-1/prod-eu  x/y  role payments  (grant withdrawn)
    Plan: 2 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    UPDATING
    + eu-west-1/prod-eu  a/b  role payments  (a/b@_)
    + eu-west-1/prod-eu  payments/api  role payments  (payments/api@prod-eu)
    - eu-west-1/prod-eu  x/y  role payments  (grant withdrawn)
    Plan: 2 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    CREATING
    ! cluster not ready: eu-west-1/prod-eu a/b role payments (a/b@_): the cluster is CREATING; the grant is made when it is ready
    ! cluster not ready: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster is CREATING; the grant is made when it is ready
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    PENDING
    ! cluster not ready: eu-west-1/prod-eu a/b role payments (a/b@_): the cluster is PENDING; the grant is made when it is ready
    ! cluster not ready: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster is PENDING; the grant is made when it is ready
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    RESTORING
    ! cluster not ready: eu-west-1/prod-eu a/b role payments (a/b@_): the cluster is RESTORING; the grant is made when it is ready
    ! cluster not ready: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster is RESTORING; the grant is made when it is ready
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 2 findings.
    DELETING
    ! cluster not ready: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster is DELETING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    FAILED
    ! cluster not ready: eu-west-1/prod-eu payments/api role payments (payments/api@prod-eu): the cluster is FAILED
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn a_region_that_is_not_looked_at_is_told_and_orphans_nobody() {
    let asking = role("payments").grant("payments/api@us-west-2/analytics").trusting();
    let mut world = snapshot([asking], [cluster("prod-eu")], []);
    world.regions.insert("eu-west-1".parse().unwrap());
    assert_snapshot!(printed(usual(), &world), @"
    ! region not configured: payments/api role payments (payments/api@us-west-2/analytics): podgrant does not look at clusters in us-west-2; add it to PODGRANT_REGIONS
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
    assert_snapshot!(printed(orphan_duty(0), &world), @"Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.");
    // Where every region is looked at, the cluster is just not there.
    world.regions.insert("us-west-2".parse().unwrap());
    assert_snapshot!(printed(usual(), &world), @"
    ! no such cluster: payments/api role payments (payments/api@us-west-2/analytics): no configured region has a cluster us-west-2/analytics; the grant is made when there is one
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn session_tags_stay_on_where_the_trust_policy_needs_them() {
    let needs_tags = r#"{"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments"}}"#;
    let before = role("payments").grant("payments/api@prod-eu").trusting_where(needs_tags);
    let standing = ours(&before, "prod-eu", "payments/api@prod-eu");
    let after = before.tagged("podgrant/session-tags", "off");
    // Refused, and whoever has access keeps it.
    assert_snapshot!(grants(&snapshot([after], [cluster("prod-eu")], [standing])), @r#"
    ! trust policy: role payments: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com: statement "EksPods" wants aws:RequestTag/kubernetes-namespace StringEquals "payments" (with session tags off EKS sends none: it can never hold); leave session tags on, or take the condition away
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 1 findings.
    "#);
}
