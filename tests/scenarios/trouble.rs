//! reconcile-associations when AWS fails: what is lost (nothing), what waits, and what the message becomes.

use insta::assert_snapshot;
use podgrant_runtime::Function::ReconcileAssociations;
use podgrant_runtime::report::Ending;
use podgrant_tests::fake::{Fault, Matching};

use crate::world::{EU, US, World, again, in_order, role, role_tagged};

fn on_create() -> Matching {
    Fault::on("eks", "CreatePodIdentityAssociation")
}

async fn asking() -> World {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w
}

/// A role that had payments/api, and asks for payments/worker instead.
async fn retagged() -> World {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/worker@prod-eu");
    w
}

#[tokio::test]
async fn a_create_throttled_beyond_the_sdks_retries_comes_back() {
    let w = asking().await;
    w.aws.fault(on_create().throttle());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => not yet: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ThrottlingException: Rate exceeded
    . eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ThrottlingException: Rate exceeded
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 429 ThrottlingException
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 429 ThrottlingException
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 429 ThrottlingException
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
    w.aws.clear_faults();
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
async fn a_read_throttled_beyond_the_sdks_retries_comes_back_before_any_write() {
    let w = asking().await;
    w.aws.fault(Fault::on("iam", "GetRole").throttle());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    not-yet: iam:GetRole payments-api: Throttling: Rate exceeded
    . iam:GetRole payments-api: Throttling: Rate exceeded
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 400 Throttling
    iam us-east-1 GetRole payments-api -> 400 Throttling
    iam us-east-1 GetRole payments-api -> 400 Throttling
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
}

#[tokio::test]
async fn two_errors_are_retried_and_forgotten() {
    let w = asking().await;
    w.aws.fault(on_create().nth(1).throttle());
    w.aws.fault(on_create().nth(2).server_error());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
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
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 429 ThrottlingException
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 500 ServerException
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
}

#[tokio::test]
async fn access_denied_fails_the_message_and_says_who_may_not_do_what() {
    let w = asking().await;
    w.aws.fault(on_create().access_denied());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    failed: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:CreatePodIdentityAssociation
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => failed: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:CreatePodIdentityAssociation
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 403 AccessDeniedException
    ");
}

#[tokio::test]
async fn a_service_that_is_down_fails_the_message() {
    let w = asking().await;
    w.aws.fault(on_create().server_error());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    failed: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ServerException: The request processing has failed because of an unknown error.
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => failed: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ServerException: The request processing has failed because of an unknown error.
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 500 ServerException
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 500 ServerException
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 500 ServerException
    ");
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_fails_the_message() {
    let w = World::impatient().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.fault(on_create().hang());
    let report = w.serve(ReconcileAssociations, &role_tagged("payments-api")).await;
    assert_eq!(report.ending, Ending::Failed);
    let reason = report.reason.unwrap();
    assert!(
        reason.starts_with("eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: "),
        "{reason}"
    );
    assert!(reason.contains("timeout") || reason.contains("timed out"), "{reason}");
    assert_eq!(
        in_order(&w.aws.calls().writes()),
        ["eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> hang"; 3]
    );
}

#[tokio::test]
async fn a_read_that_hangs_once_is_asked_again() {
    let w = World::impatient().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.fault(Fault::on("iam", "GetRole").first(1).hang());
    let report = w.serve(ReconcileAssociations, &role_tagged("payments-api")).await;
    assert_eq!(report.ending, Ending::Done);
    assert_eq!(w.aws.calls().count("GetRole"), 2);
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_connection_that_breaks_once_is_no_trouble_and_thrice_fails_the_message() {
    let w = asking().await;
    w.aws.fault(Fault::on("tagging", "GetResources").region(US).first(1).drop_connection());
    w.aws.fault(on_create().drop_connection());
    let report = w.serve(ReconcileAssociations, &role_tagged("payments-api")).await;
    assert_eq!(report.ending, Ending::Failed);
    assert_snapshot!(in_order(&w.aws.calls()).join("\n"), @"
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api -> connection dropped
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> connection dropped
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> connection dropped
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> connection dropped
    ");
    assert!(w.aws.messages().is_empty() && w.aws.events().is_empty());
}

#[tokio::test]
async fn without_one_regions_index_grants_are_made_and_deletions_wait() {
    let w = retagged().await;
    w.aws.fault(Fault::on("tagging", "GetResources").region(US).access_denied());
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    failed: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    ! withheld: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): a partial view deletes nothing: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources; it is looked at again when the view is whole
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api -> 400 AccessDeniedException
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    * Deletions Withheld a partial view deletes nothing: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources; it is looked at again when the view is whole
    ");
    // The message comes again, and the view is whole.
    w.aws.clear_faults();
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    = 1 unchanged
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000002
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
}

#[tokio::test]
async fn a_region_that_does_not_answer_holds_up_no_grant_elsewhere() {
    let w = retagged().await;
    w.aws.fault(Fault::on("eks", "DescribeCluster").region(US).server_error());
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    failed: eks:DescribeCluster us-east-1/prod-eu: ServerException: The request processing has failed because of an unknown error.
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    ! withheld: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): a partial view deletes nothing: eks:DescribeCluster us-east-1/prod-eu: ServerException: The request processing has failed because of an unknown error.; it is looked at again when the view is whole
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 500 ServerException
    eks us-east-1 DescribeCluster prod-eu -> 500 ServerException
    eks us-east-1 DescribeCluster prod-eu -> 500 ServerException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    * Deletions Withheld a partial view deletes nothing: eks:DescribeCluster us-east-1/prod-eu: ServerException: The request processing has failed because of an unknown error.; it is looked at again when the view is whole
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api", "payments/worker payments-api"]);
}

#[tokio::test]
async fn a_listing_that_fails_makes_nothing_there() {
    let w = retagged().await;
    w.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").access_denied());
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    failed: eks:ListPodIdentityAssociations eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:ListPodIdentityAssociations
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker -> 403 AccessDeniedException
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_second_look_that_fails_deletes_nothing() {
    for (service, operation) in [("eks", "DescribePodIdentityAssociation"), ("iam", "GetRole")] {
        let w = retagged().await;
        w.aws.fault(Fault::on(service, operation).nth(2).access_denied());
        let report = w.serve(ReconcileAssociations, &again(role_tagged("payments-api"))).await;
        assert_eq!(report.ending, Ending::Failed);
        assert!(report.reason.unwrap().starts_with(&format!("{service}:{operation} ")));
        assert_eq!(w.aws.calls().count("DeletePodIdentityAssociation"), 0);
    }
}

#[tokio::test]
async fn a_deletion_throttled_beyond_the_sdks_retries_comes_back() {
    let w = retagged().await;
    w.aws.fault(Fault::on("eks", "DeletePodIdentityAssociation").throttle());
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @r#"
    not-yet
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => not yet: eks:DeletePodIdentityAssociation arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001: ThrottlingException: Rate exceeded
    . eks:DeletePodIdentityAssociation arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001: ThrottlingException: Rate exceeded
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001 -> 429 ThrottlingException
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001 -> 429 ThrottlingException
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001 -> 429 ThrottlingException
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
    w.aws.clear_faults();
    let message = w.next_message();
    assert_snapshot!(w.reconcile(&message).await, @"
    done
    = 1 unchanged
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000002
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
}

#[tokio::test]
async fn an_update_whose_mark_failed_is_finished_by_the_next_delivery() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_role("payments-api", "podgrant/session-tags", "off");
    w.aws.fault(Fault::on("eks", "TagResource").access_denied());
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    failed: eks:TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:TagResource
    ~ eu-west-1/prod-eu  payments/api  role payments-api  session tags on -> off => failed: eks:TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:TagResource
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 UpdatePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001 -> 403 AccessDeniedException
    ");
    w.aws.clear_faults();
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    ~ eu-west-1/prod-eu  payments/api  role payments-api  session tags on -> off => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api updated
    ");
}

#[tokio::test]
async fn a_bus_that_refuses_an_event_once_is_asked_again_for_just_that_one() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu payments/worker@prod-eu");
    w.aws.fault(Fault::on("events", "PutEvents").first(1).fail_entries(1, "ThrottlingException"));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    events eu-west-1 PutEvents 1
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
}

#[tokio::test]
async fn a_bus_that_refuses_events_fails_the_message() {
    let w = asking().await;
    w.aws.fault(Fault::on("events", "PutEvents").access_denied());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    failed: events:PutEvents podgrant: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: events:PutEvents
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
    events eu-west-1 PutEvents 1 -> 400 AccessDeniedException
    ");
}
