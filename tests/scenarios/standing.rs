//! reconcile-associations, woken by one role, where something stands already or nothing more can.

use insta::assert_snapshot;
use podgrant_tests::fake::{Association, Cluster};

use crate::world::{EU, US, World, again, role, role_tagged};

#[tokio::test]
async fn what_was_granted_stays_when_its_cluster_gets_a_namesake() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.add_cluster(Cluster::named("prod-eu").region(US));
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    ! ambiguous cluster: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): prod-eu is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod-eu
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks us-east-1 ListPodIdentityAssociations prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu payments/api payments-api ambiguous-cluster
    ");
}

#[tokio::test]
async fn other_settings_update_the_association_in_place() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_role("payments-api", "podgrant/session-tags", "off");
    w.aws.tag_role("payments-api", "podgrant/target-role", "arn:aws:iam::222233334444:role/target");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    ~ eu-west-1/prod-eu  payments/api  role payments-api  session tags on -> off  target role none -> arn:aws:iam::222233334444:role/target => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 UpdatePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api updated
    ");
    let updated = w.aws.association(EU, "prod-eu", "payments", "api").unwrap();
    assert_eq!(
        (updated.disable_session_tags, updated.target_role_arn.as_str()),
        (true, "arn:aws:iam::222233334444:role/target")
    );

    w.aws.untag_role("payments-api", "podgrant/session-tags");
    w.aws.untag_role("payments-api", "podgrant/target-role");
    w.reconcile(&again(role_tagged("payments-api"))).await;
    let updated = w.aws.association(EU, "prod-eu", "payments", "api").unwrap();
    assert_eq!((updated.disable_session_tags, updated.target_role_arn.as_str()), (false, ""));
}

#[tokio::test]
async fn an_association_made_by_hand_is_never_touched() {
    let w = World::new().await;
    w.aws.add_association(Association::of("prod-eu", "payments", "api"));
    let before = w.aws.associations(EU, "prod-eu");
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ! foreign association: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): association a-000000000000001 stands there, made by someone else; podgrant never touches it: delete it, or take the grant back
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu payments/api payments-api foreign-association
    ");
    assert_eq!(w.aws.associations(EU, "prod-eu"), before);
}

#[tokio::test]
async fn the_second_role_for_a_service_account_is_refused() {
    let w = World::new().await;
    w.given(role("first", "payments/api@prod-eu")).await;
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ! conflict: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): arn:aws:iam::111122223333:role/first has this service account; if it no longer asks for it, the next sweep hands it over
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu payments/api payments-api conflict
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api first"]);
}

#[tokio::test]
async fn a_full_cluster_refuses_aloud() {
    let w = World::new().await;
    w.aws.association_limit(1);
    w.given(role("first", "first/come@prod-eu")).await;
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => refused: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ResourceLimitExceededException: The cluster has 1 associations, as many as it may have
    ! refused by AWS: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: ResourceLimitExceededException: The cluster has 1 associations, as many as it may have
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 400 ResourceLimitExceededException
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu payments/api payments-api refused-by-aws
    ");
}
