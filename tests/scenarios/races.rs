//! What happens while podgrant looks and acts: other hands, other deliveries, reads that lag.

use insta::assert_snapshot;
use podgrant_runtime::Function::ReconcileAssociations;
use podgrant_runtime::report::Ending;
use podgrant_tests::fake::{Association, Fault, Gate};

use crate::world::{EU, World, again, role, role_tagged, role_untagged};

/// payments/api was granted, and the tag is gone.
async fn untagged() -> World {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.untag_role("payments-api", "podgrant/grant");
    w
}

#[tokio::test]
async fn a_grant_that_comes_back_before_its_deletion_is_kept() {
    let w = untagged().await;
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(|aws| {
        aws.tag_role("payments-api", "podgrant/grant", "payments/api@prod-eu");
    }));
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => dropped: looked at once more, arn:aws:iam::111122223333:role/payments-api keeps association a-000000000000001
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn an_association_that_lost_its_mark_before_its_deletion_is_kept() {
    let w = untagged().await;
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(|aws| {
        let mut taken_over = aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
        taken_over.tags.clear();
        aws.add_association(taken_over);
    }));
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => dropped: association a-000000000000001 is no longer podgrant's
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn an_association_handed_to_another_role_before_its_deletion_is_kept() {
    let w = untagged().await;
    let other = w.aws.add_role(role("other", "payments/api@prod-eu"));
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(move |aws| {
        let mut handed_over = aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
        handed_over.role_arn = aws.role("other").unwrap().arn();
        let mark = [("role", &handed_over.role_arn), ("role-name", &"other".to_owned()), ("role-id", &other)];
        for (key, value) in mark {
            handed_over.tags.insert(format!("podgrant/{key}"), value.clone());
        }
        aws.add_association(handed_over);
    }));
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @r#"
    not-yet
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => not yet: association a-000000000000001 changed since it was planned for
    . association a-000000000000001 changed since it was planned for
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api other"]);
}

#[tokio::test]
async fn an_association_replaced_by_hand_before_its_deletion_is_kept() {
    let w = untagged().await;
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(|aws| {
        aws.delete_association(EU, "prod-eu", "payments", "api");
        aws.add_association(Association::of("prod-eu", "payments", "api"));
    }));
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => dropped: association a-000000000000001 is gone already
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001 -> 404 ResourceNotFoundException
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api some-role"]);
}

#[tokio::test]
async fn an_association_that_somebody_deleted_first_is_gone_all_the_same() {
    let w = untagged().await;
    w.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").nth(1).meanwhile(|aws| {
        aws.delete_association(EU, "prod-eu", "payments", "api");
    }));
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001 -> 404 ResourceNotFoundException
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
}

#[tokio::test]
async fn an_association_changed_by_hand_before_its_update_is_not_touched() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_role("payments-api", "podgrant/session-tags", "off");
    // The index is all that a sweep goes by until it has something to change.
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(1).meanwhile(|aws| {
        let mut taken_over = aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
        taken_over.tags.clear();
        aws.add_association(taken_over);
    }));
    let story = w.sweep().await;
    let dropped = "session tags on -> off => dropped: association a-000000000000001 is no longer podgrant's";
    assert!(story.contains(dropped) && !story.contains("UpdatePodIdentity"), "{story}");
}

#[tokio::test]
async fn the_same_event_twice_at_once_makes_one_association() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    let gate = Gate::closed();
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").wait_for(&gate));
    let event = role_tagged("payments-api");
    let both_asked = async {
        gate.reached_by(2).await;
        gate.open();
    };
    let (one, other, ()) = tokio::join!(
        w.serve(ReconcileAssociations, &event),
        w.serve(ReconcileAssociations, &event),
        both_asked
    );
    assert_eq!((one.ending, other.ending), (Ending::Done, Ending::Done));
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn of_two_events_at_once_one_makes_the_association_and_the_other_sees_it_made() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    let gate = Gate::closed();
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").wait_for(&gate));
    let (event, later) = (role_tagged("payments-api"), again(role_tagged("payments-api")));
    let both_asked = async {
        gate.reached_by(2).await;
        gate.open();
    };
    let (one, other, ()) = tokio::join!(
        w.serve(ReconcileAssociations, &event),
        w.serve(ReconcileAssociations, &later),
        both_asked
    );
    let told = w.aws.events();
    assert_eq!((one.ending, other.ending, told.len()), (Ending::Done, Ending::Done, 1));
    assert_eq!((w.access(EU, "prod-eu").len(), w.aws.messages().len()), (1, 0));
    let verdicts = [one, other].map(|report| format!("{:?}", report.changes[0].verdict));
    let met = "Some(Dropped { reason: \"association a-000000000000001 was made meanwhile, and grants it\" })";
    assert!(
        verdicts.contains(&"Some(Done)".to_owned()) && verdicts.contains(&met.to_owned()),
        "{verdicts:?}"
    );
}

#[tokio::test]
async fn what_was_deleted_so_lately_that_eks_still_thinks_of_it_comes_back() {
    let w = untagged().await;
    w.aws.deletes_linger(1);
    w.reconcile(&role_untagged("payments-api")).await;
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @r#"
    not-yet
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => not yet: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ResourceInUseException: Association already exists: a-000000000000001
    . eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ResourceInUseException: Association already exists: a-000000000000001
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 409 ResourceInUseException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001 -> 404 ResourceNotFoundException
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
    let message = w.next_message();
    assert_snapshot!(w.reconcile(&message).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
}

#[tokio::test]
async fn a_cluster_deleted_before_the_create_is_dropped() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").meanwhile(|aws| {
        aws.delete_cluster(EU, "prod-eu");
    }));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => dropped: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ResourceNotFoundException: No cluster found for name: prod-eu.
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 404 ResourceNotFoundException
    ");
}

#[tokio::test]
async fn a_stale_read_of_the_role_loses_no_access_and_the_sweep_makes_it_right() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.freeze_role("payments-api", 1);
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/worker@prod-eu");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    ");
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with payments-api

    done
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/worker payments-api"]);
}

#[tokio::test]
async fn late_and_out_of_order_events_end_in_the_same_state() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.untag_role("payments-api", "podgrant/grant");
    // The event of the tagging comes after the untagging.
    w.reconcile(&role_untagged("payments-api")).await;
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    ");
    assert!(w.access(EU, "prod-eu").is_empty());
}
