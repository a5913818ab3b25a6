//! reconcile-associations, woken by a cluster or by the sweep.

use insta::assert_snapshot;
use podgrant_tests::fake::{Association, Cluster, Fault, Role};
use serde_json::Value;

use crate::world::{EU, US, World, again, role, role_tagged, sample};

fn cluster_ready() -> Value {
    sample("outcomes/cluster-ready")
}

#[tokio::test]
async fn a_cluster_that_is_ready_gets_the_grants_of_the_roles_there_are() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu elsewhere/api@eu-west-1/other");
    w.aws.add_role(role("everywhere", "monitoring/agent@_"));
    w.aws.add_role(role("untrusting", "payments/worker@env=prod").trust_policy("{}"));
    w.aws.add_role(Role::named("bystander"));
    assert_snapshot!(w.reconcile(&cluster_ready()).await, @"
    done
    + eu-west-1/prod-eu  monitoring/agent  role everywhere  (monitoring/agent@_) => done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 CreatePodIdentityAssociation prod-eu monitoring/agent
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu monitoring/agent everywhere created
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    assert_snapshot!(w.reconcile(&cluster_ready()).await, @"
    done
    = 2 unchanged
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    ");
}

#[tokio::test]
async fn a_cluster_that_is_not_ready_after_all_costs_a_look() {
    let w = World::new().await;
    w.aws.set_cluster_status(EU, "prod-eu", "DELETING");
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&cluster_ready()).await, @"
    done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    ");
    w.aws.delete_cluster(EU, "prod-eu");
    assert_snapshot!(w.reconcile(&cluster_ready()).await, @"
    done
    eks eu-west-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    ");
}

#[tokio::test]
async fn a_retagged_cluster_gains_and_loses_what_its_tags_select() {
    let w = World::new().await;
    w.given(role("prod", "apps/a@env=prod")).await;
    w.given(role("staging", "apps/b@env=staging")).await;
    w.aws.tag_cluster(EU, "prod-eu", "env", "staging");
    assert_snapshot!(w.reconcile(&sample("cluster-retagged")).await, @"
    done
    + eu-west-1/prod-eu  apps/b  role staging  (apps/b@env=staging) => done
    - eu-west-1/prod-eu  apps/a  role prod  (grant withdrawn) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 CreatePodIdentityAssociation prod-eu apps/b
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole prod
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu apps/b staging created
    * Access Revoked eu-west-1/prod-eu apps/a prod grant-withdrawn
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/b staging"]);
}

#[tokio::test]
async fn an_association_deleted_by_hand_is_made_again() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.delete_association(EU, "prod-eu", "payments", "api");
    assert_snapshot!(w.reconcile(&sample("association-deleted")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
}

#[tokio::test]
async fn a_sweep_with_nothing_to_do_writes_nothing() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("prod-us").region(US));
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.given(role("everywhere", "monitoring/agent@_")).await;
    w.aws.add_association(Association::of("prod-eu", "by", "hand"));
    w.aws.add_role(Role::named("bystander"));
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    . the sweep of us-east-1/prod-us
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 2
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with everywhere payments-api
    > in 0 s, attempt 1, began 0 s ago: sweep us-east-1/prod-us .. with everywhere

    done
    = 2 unchanged
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu

    done
    = 1 unchanged
    tagging us-east-1 GetResources podgrant/cluster=us-east-1/prod-us
    eks us-east-1 ListPodIdentityAssociations prod-us
    ");
    assert_snapshot!(w.reconcile(&sample("sweep-from-scheduler")).await, @"
    done
    . the sweep of eu-west-1/prod-eu
    . the sweep of us-east-1/prod-us
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 2
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with everywhere payments-api
    > in 0 s, attempt 1, began 0 s ago: sweep us-east-1/prod-us .. with everywhere
    ");
}

#[tokio::test]
async fn a_sweep_mends_what_events_missed() {
    let w = World::new().await;
    w.given(role("first", "apps/a@prod-eu")).await;
    w.given(role("second", "apps/b@prod-eu")).await;
    w.given(role("third", "apps/c@prod-eu")).await;
    w.aws.untag_role("first", "podgrant/grant");
    w.aws.delete_association(EU, "prod-eu", "apps", "b");
    w.aws.add_role(role("fourth", "apps/d@prod-eu"));
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with fourth second third

    done
    = 1 unchanged
    + eu-west-1/prod-eu  apps/b  role second  (apps/b@prod-eu) => done
    + eu-west-1/prod-eu  apps/d  role fourth  (apps/d@prod-eu) => done
    - eu-west-1/prod-eu  apps/a  role first  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole first
    iam us-east-1 GetRole fourth
    iam us-east-1 GetRole second
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListAttachedRolePolicies fourth
    iam us-east-1 ListAttachedRolePolicies second
    iam us-east-1 ListRolePolicies first
    iam us-east-1 ListRolePolicies fourth
    iam us-east-1 ListRolePolicies second
    eks eu-west-1 CreatePodIdentityAssociation prod-eu apps/b
    eks eu-west-1 CreatePodIdentityAssociation prod-eu apps/d
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole first
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 3
    * Access Granted eu-west-1/prod-eu apps/b second created
    * Access Granted eu-west-1/prod-eu apps/d fourth created
    * Access Revoked eu-west-1/prod-eu apps/a first grant-withdrawn
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/b second", "apps/c third", "apps/d fourth"]);
}

#[tokio::test]
async fn a_service_account_changes_hands_in_place() {
    let w = World::new().await;
    w.given(role("first", "apps/a@prod-eu")).await;
    w.aws.untag_role("first", "podgrant/grant");
    w.aws.add_role(role("second", "apps/a@prod-eu"));
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with second

    done
    ~ eu-west-1/prod-eu  apps/a  role first -> second => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole first
    iam us-east-1 GetRole second
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListAttachedRolePolicies second
    iam us-east-1 ListRolePolicies first
    iam us-east-1 ListRolePolicies second
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole first
    eks eu-west-1 UpdatePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu apps/a second updated
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/a second"]);
}

#[tokio::test]
async fn a_service_account_whose_role_asks_again_does_not_change_hands() {
    let w = World::new().await;
    w.given(role("first", "apps/a@prod-eu")).await;
    w.aws.untag_role("first", "podgrant/grant");
    w.aws.add_role(role("second", "apps/a@prod-eu"));
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(1).meanwhile(|aws| {
        aws.tag_role("first", "podgrant/grant", "apps/a@prod-eu");
    }));
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with second

    done
    ~ eu-west-1/prod-eu  apps/a  role first -> second => dropped: looked at once more, arn:aws:iam::111122223333:role/first keeps association a-000000000000001
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole first
    iam us-east-1 GetRole second
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListAttachedRolePolicies second
    iam us-east-1 ListRolePolicies first
    iam us-east-1 ListRolePolicies second
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole first
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListRolePolicies first
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/a first"]);
}

/// Three associations on prod-eu, of which one should go; on other one should come and one go.
async fn drifted() -> World {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("other"));
    for name in ["a", "b", "c"] {
        w.given(role(name, &format!("apps/{name}@prod-eu"))).await;
    }
    w.given(role("d", "apps/d@other")).await;
    w.aws.untag_role("c", "podgrant/grant");
    w.aws.tag_role("d", "podgrant/grant", "apps/e@other");
    w
}

#[tokio::test]
async fn a_listing_that_breaks_off_changes_nothing_there_and_holds_up_no_other_cluster() {
    let w = drifted().await;
    w.aws.page_size(2);
    let page_two = Fault::on("eks", "ListPodIdentityAssociations").with("clusterName", "prod-eu").nth(2);
    w.aws.fault(page_two.access_denied());
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/other
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    iam us-east-1 GetAccountAuthorizationDetails (next page)
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 2
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/other .. with d
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with a b

    done
    + eu-west-1/other  apps/e  role d  (apps/e@other) => done
    - eu-west-1/other  apps/d  role d  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/other
    eks eu-west-1 ListPodIdentityAssociations other
    eks eu-west-1 DescribeCluster other
    eks us-east-1 DescribeCluster other -> 404 ResourceNotFoundException
    iam us-east-1 GetRole d
    iam us-east-1 ListAttachedRolePolicies d
    iam us-east-1 ListRolePolicies d
    eks eu-west-1 CreatePodIdentityAssociation other apps/e
    eks eu-west-1 DescribePodIdentityAssociation other a-000000000000004
    iam us-east-1 GetRole d
    eks eu-west-1 DeletePodIdentityAssociation other a-000000000000004
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/other apps/e d created
    * Access Revoked eu-west-1/other apps/d d grant-withdrawn

    failed: eks:ListPodIdentityAssociations eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:ListPodIdentityAssociations
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu (next page)
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu (next page) -> 403 AccessDeniedException
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/a a", "apps/b b", "apps/c c"]);
    w.aws.clear_faults();
    assert_snapshot!(w.sweep_counted().await, @"
    done
    = 3 unchanged
    - eu-west-1/prod-eu  apps/c  role c  (grant withdrawn) => done
    . the sweep of eu-west-1/other
    . the sweep of eu-west-1/prod-eu
    1 x eks eu-west-1 DeletePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    3 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x eks us-east-1 ListClusters
    1 x events eu-west-1 PutEvents
    2 x iam us-east-1 GetAccountAuthorizationDetails
    2 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    3 x tagging eu-west-1 GetResources
    * Access Revoked eu-west-1/prod-eu apps/c c grant-withdrawn
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/other .. with d
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with a b
    ");
    assert_eq!((w.access(EU, "prod-eu").len(), w.access(EU, "other")), (2, vec!["apps/e d".to_owned()]));
}

#[tokio::test]
async fn a_role_listing_that_breaks_off_changes_nothing() {
    let w = drifted().await;
    w.aws.page_size(2);
    w.aws.fault(Fault::on("iam", "GetAccountAuthorizationDetails").nth(2).access_denied());
    assert_snapshot!(w.sweep().await, @"
    failed: iam:GetAccountAuthorizationDetails roles: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: iam:GetAccountAuthorizationDetails
    iam us-east-1 GetAccountAuthorizationDetails
    iam us-east-1 GetAccountAuthorizationDetails (next page) -> 403 AccessDenied
    ");
}

#[tokio::test]
async fn a_region_that_can_not_be_listed_fails_the_sweep_and_holds_up_no_cluster_elsewhere() {
    let w = drifted().await;
    w.aws.fault(Fault::on("eks", "ListClusters").region(US).access_denied());
    assert_snapshot!(w.sweep().await, @"
    failed: eks:ListClusters us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:ListClusters
    . the sweep of eu-west-1/other
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters -> 403 AccessDeniedException
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 2
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/other .. with d
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with a b

    done
    + eu-west-1/other  apps/e  role d  (apps/e@other) => done
    - eu-west-1/other  apps/d  role d  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/other
    eks eu-west-1 ListPodIdentityAssociations other
    eks eu-west-1 DescribeCluster other
    eks us-east-1 DescribeCluster other -> 404 ResourceNotFoundException
    iam us-east-1 GetRole d
    iam us-east-1 ListAttachedRolePolicies d
    iam us-east-1 ListRolePolicies d
    eks eu-west-1 CreatePodIdentityAssociation other apps/e
    eks eu-west-1 DescribePodIdentityAssociation other a-000000000000004
    iam us-east-1 GetRole d
    eks eu-west-1 DeletePodIdentityAssociation other a-000000000000004
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/other apps/e d created
    * Access Revoked eu-west-1/other apps/d d grant-withdrawn

    done
    = 2 unchanged
    - eu-west-1/prod-eu  apps/c  role c  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole c
    iam us-east-1 ListAttachedRolePolicies c
    iam us-east-1 ListRolePolicies c
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000003
    iam us-east-1 GetRole c
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000003
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu apps/c c grant-withdrawn
    ");
}

#[tokio::test]
async fn without_the_tag_index_a_sweep_describes_every_association() {
    let w = drifted().await;
    w.aws.fault(Fault::on("tagging", "GetResources").access_denied());
    assert_snapshot!(w.sweep_counted().await, @"
    done
    = 2 unchanged
    + eu-west-1/other  apps/e  role d  (apps/e@other) => done
    - eu-west-1/other  apps/d  role d  (grant withdrawn) => done
    - eu-west-1/prod-eu  apps/c  role c  (grant withdrawn) => done
    . the sweep of eu-west-1/other
    . the sweep of eu-west-1/prod-eu
    1 x eks eu-west-1 CreatePodIdentityAssociation
    2 x eks eu-west-1 DeletePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    6 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    2 x eks eu-west-1 ListPodIdentityAssociations
    2 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x eks us-east-1 ListClusters
    2 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    4 x iam us-east-1 GetRole
    2 x iam us-east-1 ListAttachedRolePolicies
    2 x iam us-east-1 ListRolePolicies
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    2 x tagging eu-west-1 GetResources -> AccessDeniedException
    * Access Granted eu-west-1/other apps/e d created
    * Access Revoked eu-west-1/other apps/d d grant-withdrawn
    * Access Revoked eu-west-1/prod-eu apps/c c grant-withdrawn
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/other .. with d
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with a b
    ");
    assert_eq!((w.access(EU, "prod-eu").len(), w.access(EU, "other")), (2, vec!["apps/e d".to_owned()]));
}

#[tokio::test]
async fn a_sweep_that_would_delete_too_many_deletes_none_and_says_how_to_allow_it() {
    let w = World::with(&[("PODGRANT_MAX_DELETIONS", "1")]).await;
    for name in ["a", "b"] {
        w.given(role(name, &format!("apps/{name}@prod-eu"))).await;
        w.aws.untag_role(name, "podgrant/grant");
    }
    w.aws.add_role(role("c", "apps/c@prod-eu"));
    assert_snapshot!(w.sweep().await, @r#"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with c

    done
    + eu-west-1/prod-eu  apps/c  role c  (apps/c@prod-eu) => done
    ! withheld: eu-west-1/prod-eu apps/a role a (apps/a@prod-eu): this pass would delete 2 associations, and at most 1 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 2} beside the event, or raise PODGRANT_MAX_DELETIONS to 2
    ! withheld: eu-west-1/prod-eu apps/b role b (apps/b@prod-eu): this pass would delete 2 associations, and at most 1 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 2} beside the event, or raise PODGRANT_MAX_DELETIONS to 2
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole a
    iam us-east-1 GetRole b
    iam us-east-1 GetRole c
    iam us-east-1 ListAttachedRolePolicies a
    iam us-east-1 ListAttachedRolePolicies b
    iam us-east-1 ListAttachedRolePolicies c
    iam us-east-1 ListRolePolicies a
    iam us-east-1 ListRolePolicies b
    iam us-east-1 ListRolePolicies c
    eks eu-west-1 CreatePodIdentityAssociation prod-eu apps/c
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu apps/c c created
    * Deletions Withheld this pass would delete 2 associations, and at most 1 are allowed; if that is meant, allow it once by invoking this function with "allow": {"deletions": 2} beside the event, or raise PODGRANT_MAX_DELETIONS to 2
    "#);
}

#[tokio::test]
async fn a_sweep_that_would_delete_too_large_a_share_deletes_none() {
    let w = World::with(&[("PODGRANT_MAX_SERVICE_ACCOUNTS", "12"), ("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    let grants: Vec<String> = (0..12).map(|number| format!("apps/app-{number}@prod-eu")).collect();
    w.given(role("many", &grants[..6].join(" ")).tag("podgrant/grant/more", grants[6..].join(" "))).await;
    w.aws.untag_role("many", "podgrant/grant");
    w.aws.untag_role("many", "podgrant/grant/more");
    let story = w.sweep_counted().await;
    assert_eq!(w.access(EU, "prod-eu").len(), 12);
    assert!(story.contains("delete 12 of 12 managed associations, and at most 20 % are allowed; if that is meant, allow it once"), "{story}");
    assert!(!story.contains("eks eu-west-1 DescribePod") && !story.contains("DeletePod"), "{story}");
}

#[tokio::test]
async fn a_cluster_that_opts_out_keeps_what_it_has() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/enroll", "off");
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with 

    done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    ");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}
