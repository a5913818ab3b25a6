//! Service accounts that were moved, and are to be as they were.

use podgrant_tests::fake::{Fault, Role};

use super::moving::{Moving, without_trust};
use super::{irsa, trusting};
use crate::person::{EU, NOW};

#[tokio::test]
async fn what_was_moved_is_taken_back() {
    let moving = Moving::new().await;
    let before = moving.state();
    moving.migrates("--apply --yes").await;
    insta::assert_snapshot!(moving.migrate("--undo --yes").await, @"
    payments/api
      - of the role's tags podgrant/grant
      - association a-000000000000001 goes
      ~ Deployment payments/api, 2 of 2 pods

    payments/worker
      - of the role's tags podgrant/grant
      - association a-000000000000002 goes
      ~ Deployment payments/worker, 2 of 2 pods

    Pods that run keep the credentials that they hold, for 6 hours at most, and get no others until they are made anew.
    podgrant's own statement in a trust policy stays, and lets nobody in without an association.
    - role payments: podgrant/grant = payments/api@eu-west-1/prod-eu payments/worker@eu-west-1/prod-eu => done
    - role payments: podgrant/trust = manage => done
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn) => done
    - eu-west-1/prod-eu  payments/worker  role payments  (grant withdrawn) => done
    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/worker => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    ~ eu-west-1/prod-eu  Deployment payments/worker => rolled out
    payments/api => back with IRSA
    payments/worker => back with IRSA

    2 back with IRSA.
    ---- stderr
    What was there before is noted in JOURNAL.
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun
      eu-west-1/prod-eu Deployment payments/worker: Kubernetes has not begun

    ---- exit 0
    ");
    moving.all_have_access("back");
    assert_eq!(without_trust(&moving.state()), before);
    let said = moving.migrates("--undo --yes").await;
    assert!(said.out.contains("There is nothing to take back."), "{said}");
    // And forth again.
    moving.migrates("--apply --yes").await;
    moving.migrates("--finish --yes").await;
    moving.all_have_access("moved again");
}

#[tokio::test]
async fn what_was_finished_is_taken_back_whole() {
    let moving = Moving::new().await;
    let before = moving.state();
    moving.migrates("--apply --yes").await;
    moving.migrates("--finish --yes").await;
    insta::assert_snapshot!(moving.migrate("payments/api --undo --yes").await, @r#"
    payments/api
      + role payments: its trust policy has again {"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU:sub":"system:serviceaccount:payments:api"}}}
      + the annotation with arn:aws:iam::111122223333:role/payments
      - of the role's tags podgrant/grant
      - association a-000000000000001 goes
      ~ Deployment payments/api, 2 of 2 pods

    Pods that run keep the credentials that they hold, for 6 hours at most, and get no others until they are made anew.
    podgrant's own statement in a trust policy stays, and lets nobody in without an association.
    + role payments: the statement for IRSA => done
    + service account payments/api: the annotation with arn:aws:iam::111122223333:role/payments => done
    - role payments: podgrant/grant = payments/api@eu-west-1/prod-eu payments/worker@eu-west-1/prod-eu => done
    + role payments: podgrant/grant = payments/worker@eu-west-1/prod-eu => done
    - eu-west-1/prod-eu  payments/api  role payments  (grant withdrawn) => done
    ~ eu-west-1/prod-eu  Deployment payments/api => rolling
    ~ eu-west-1/prod-eu  Deployment payments/api => rolled out
    payments/api => back with IRSA

    1 back with IRSA.
    ---- stderr
    What was there before is noted in JOURNAL.
    waiting for:
      eu-west-1/prod-eu Deployment payments/api: Kubernetes has not begun

    ---- exit 0
    "#);
    moving.all_have_access("one back");
    moving.migrates("--undo --yes").await;
    moving.all_have_access("both back");
    assert_eq!(without_trust(&moving.state()), before);
}

#[tokio::test]
async fn nothing_is_taken_back_where_pods_can_not_be_made_anew() {
    let moving = Moving::new().await;
    moving.migrates("--apply --yes").await;
    let before = moving.state();
    moving.kubernetes.add_budget("payments", "worker", 0);
    let said = moving.migrate("payments/worker --undo --yes").await;
    assert!(said.code == 1 && said.out.contains("worker => stopped"), "{said}");
    assert_eq!(moving.state(), before);
}

#[tokio::test]
async fn there_is_no_way_back_to_nothing() {
    let moving = Moving::new().await;
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.errors.contains("there is no journal JOURNAL"), "{said}");
    moving.migrates("--apply --yes").await;
    let said = moving.migrate("payments/other --undo --yes").await;
    assert!(said.code == 3 && said.out.contains("the journal JOURNAL has nothing"), "{said}");
    let before = moving.state();
    // Somebody else took the statements for IRSA.
    let policy = moving.person.aws.role("payments").unwrap().trust_policy;
    let role = moving.person.aws.role("payments").unwrap();
    let mut without = policy.clone();
    for account in super::moving::ACCOUNTS {
        without = without.replace(&format!("{},", irsa(account)), "");
    }
    moving.person.aws.add_role(role.clone().trust_policy(without));
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("has no statement for it"), "{said}");
    moving.person.aws.add_role(role.clone().trust_policy(policy));
    assert_eq!(moving.state(), before);
    // Another role of the name is another role.
    moving.person.aws.delete_role("payments");
    moving.person.aws.add_role(trusting(Role::named("payments"), &super::moving::ACCOUNTS.map(irsa)));
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("is gone, or was made again"), "{said}");
    assert_eq!(moving.person.aws.associations(EU, "prod-eu").len(), 2);
}

#[tokio::test]
async fn what_was_granted_before_stays_granted() {
    let moving = Moving::new().await;
    moving.person.aws.tag_role("payments", "podgrant/grant", "payments/api@env=prod");
    moving.migrates("payments/api --apply --yes").await;
    let before = moving.state();
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("that podgrant migrate did not write"), "{said}");
    assert_eq!(moving.state(), before);
    // What IRSA needs comes back all the same: whoever follows the advice loses nothing.
    moving.migrates("payments/api --finish --yes").await;
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("what IRSA needs stands beside it again"), "{said}");
    assert_eq!(moving.state(), before);
    moving.all_have_access("beside");
}

#[tokio::test]
async fn without_an_oidc_provider_there_is_no_way_back() {
    let moving = Moving::new().await;
    moving.migrates("--apply --yes").await;
    moving.migrates("--finish --yes").await;
    let before = moving.state();
    let provider = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/PROD-EU";
    moving.person.aws.delete_oidc_provider(provider);
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("has no OIDC provider"), "{said}");
    assert_eq!(moving.state(), before);
}

#[tokio::test]
async fn who_stops_half_way_is_told_until_when_pods_have_credentials() {
    let moving = Moving::new().await;
    moving.migrates("payments/api --apply --yes").await;
    let kubernetes = moving.kubernetes.clone();
    // A budget that holds back, once the association is gone.
    moving.person.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").meanwhile(move |_| {
        kubernetes.add_budget("payments", "api", 0);
    }));
    let said = moving.migrate("--undo --yes").await;
    assert_eq!(said.code, 1, "{said}");
    let told = said.out.lines().skip_while(|line| !line.contains("=> stopped"));
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    payments/api => stopped: Deployment payments/api: PodDisruptionBudget api lets no pod go now: 2 healthy, and 2 must be
      → its association is gone, or about to be, and pods that have Pod Identity's variables lose their credentials by 2026-03-02T16:16:35Z at the latest: run it again, or make them anew

    1 stopped.
    ");
    moving.all_have_access("half-way back");
}

#[tokio::test]
async fn a_refusal_is_noted_as_nothing_that_was_done() {
    let moving = Moving::new().await;
    moving.person.aws.fault(Fault::on("iam", "TagRole").access_denied());
    assert_eq!(moving.migrate("payments/api --apply --yes").await.code, 1);
    moving.person.aws.clear_faults();
    // A colleague does it instead: that is not ours to take back.
    moving.person.aws.tag_role("payments", "podgrant/grant", "payments/api@eu-west-1/prod-eu");
    moving.person.aws.tag_role("payments", "podgrant/trust", "manage");
    moving.migrates("payments/api --apply --yes").await;
    let before = moving.state();
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("that podgrant migrate did not write"), "{said}");
    assert_eq!(moving.state(), before);
}

#[tokio::test]
async fn a_journal_that_somebody_wrote_into_lets_nobody_else_in() {
    let moving = Moving::new().await;
    moving.migrates("payments/api --apply --yes").await;
    moving.migrates("payments/api --finish --yes").await;
    let before = moving.state();
    let journal = std::fs::read_to_string(&moving.journal).unwrap();
    for forged in [
        journal.replace("system:serviceaccount:payments:api", "system:serviceaccount:payments:*"),
        journal.replace("system:serviceaccount:payments:api", "system:serviceaccount:kube-system:api"),
        journal.replace(
            r#"\"Federated\":\"arn:aws:iam::111122223333:"#,
            r#"\"AWS\":\"arn:aws:iam::111122223333:"#,
        ),
        journal.replace("PROD-EU", "ANOTHER"),
    ] {
        assert_ne!(forged, journal);
        std::fs::write(&moving.journal, forged).unwrap();
        let said = moving.migrate("--undo --yes").await;
        assert!(said.code == 1 && said.out.contains("is not for payments/api alone"), "{said}");
        assert_eq!(moving.state(), before);
    }
    // Nor into a role that was never moved with.
    let admin = moving.person.aws.add_role(trusting(Role::named("admin"), &[irsa("ops/shell")]));
    let of_payments = moving.person.aws.role("payments").unwrap().id;
    let forged = journal.replace("role/payments", "role/admin").replace(&of_payments, &admin);
    std::fs::write(&moving.journal, forged).unwrap();
    let said = moving.migrate("--undo --yes").await;
    assert!(said.code == 1 && said.out.contains("did not move it with this role"), "{said}");
    assert!(!moving.person.aws.role("admin").unwrap().trust_policy.contains("payments"), "{said}");
    std::fs::write(&moving.journal, journal).unwrap();
    moving.migrates("--undo --yes").await;
    moving.all_have_access("back");
}

#[tokio::test]
async fn pods_with_nothing_at_all_are_made_anew_too() {
    let moving = Moving::new().await;
    moving.migrates("payments/api --apply --yes").await;
    moving.migrates("payments/api --finish --yes").await;
    // Somebody took the association, and new pods came.
    moving.person.aws.untag_role("payments", "podgrant/grant");
    moving.person.aws.delete_association(EU, "prod-eu", "payments", "api");
    moving.kubernetes.drain("payments/api", NOW + 100);
    assert!(moving.lack("payments/api").is_some());
    let said = moving.migrates("--undo --yes").await;
    assert!(said.out.contains("2 of 2 pods"), "{said}");
    moving.all_have_access("back");
}

#[tokio::test]
async fn what_was_withdrawn_since_is_not_granted_again() {
    let moving = Moving::new().await;
    moving.migrates("payments/api --apply --yes").await;
    moving.migrates("payments/api --finish --yes").await;
    moving.person.aws.untag_role("payments", "podgrant/grant");
    moving.person.aws.delete_association(EU, "prod-eu", "payments", "api");
    let said = moving.migrate("payments/api --apply --yes").await;
    assert!(said.code == 0 && said.out.contains("There is nothing to move."), "{said}");
    assert!(said.out.contains("has no annotation of IRSA any more, and no association"), "{said}");
}
