//! Service accounts that were moved, and are to be as they were.

use podgrant_tests::fake::Role;

use super::moving::Moving;
use super::{irsa, trusting};
use crate::person::EU;

#[tokio::test]
async fn what_was_moved_is_taken_back() {
    let moving = Moving::new().await;
    let before = moving.state();
    moving.migrates("--apply --yes").await;
    insta::assert_snapshot!(moving.migrate("--undo --yes").await, @"");
    moving.all_have_access("back");
    let trust_is_left = |state: &str| state.replace("\"PodgrantManaged1\", ", "").replace("\"111122223333\", ", "");
    assert_eq!(trust_is_left(&moving.state()), before);
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
    insta::assert_snapshot!(moving.migrate("payments/api --undo --yes").await, @"");
    moving.all_have_access("one back");
    moving.migrates("--undo --yes").await;
    moving.all_have_access("both back");
    let trust_is_left = |state: &str| state.replace("\"PodgrantManaged1\", ", "").replace("\"111122223333\", ", "");
    assert_eq!(trust_is_left(&moving.state()), before);
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
    assert!(said.code == 1 && said.out.contains("was there before it was moved"), "{said}");
    assert_eq!(moving.state(), before);
}
