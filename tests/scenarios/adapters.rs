//! What the adapters make of AWS's own ways: pages, encodings, foreign things, and an index that lags and remembers.

use insta::assert_snapshot;
use podgrant_runtime::Function::{CleanUpOrphans, ReconcileAssociations};
use podgrant_tests::fake::{Association, Cluster, Ghost, Role};

use crate::world::{EU, World, again, role, role_tagged, role_untagged, sweep};

#[tokio::test]
async fn every_page_is_read_and_nothing_is_lost() {
    let w = World::new().await;
    w.aws.page_size(2);
    for name in ["apps-1", "apps-2"] {
        w.aws.add_cluster(Cluster::named(name));
    }
    for number in 1..=5 {
        w.aws.add_role(role(&format!("asking-{number}"), &format!("apps/app-{number}@_")));
        w.aws.add_role(Role::named(format!("bystander-{number}")));
    }
    assert_snapshot!(w.sweep_counted().await, @"
    done
    + eu-west-1/apps-1  apps/app-1  role asking-1  (apps/app-1@_) => done
    + eu-west-1/apps-1  apps/app-2  role asking-2  (apps/app-2@_) => done
    + eu-west-1/apps-1  apps/app-3  role asking-3  (apps/app-3@_) => done
    + eu-west-1/apps-1  apps/app-4  role asking-4  (apps/app-4@_) => done
    + eu-west-1/apps-1  apps/app-5  role asking-5  (apps/app-5@_) => done
    + eu-west-1/apps-2  apps/app-1  role asking-1  (apps/app-1@_) => done
    + eu-west-1/apps-2  apps/app-2  role asking-2  (apps/app-2@_) => done
    + eu-west-1/apps-2  apps/app-3  role asking-3  (apps/app-3@_) => done
    + eu-west-1/apps-2  apps/app-4  role asking-4  (apps/app-4@_) => done
    + eu-west-1/apps-2  apps/app-5  role asking-5  (apps/app-5@_) => done
    + eu-west-1/prod-eu  apps/app-1  role asking-1  (apps/app-1@_) => done
    + eu-west-1/prod-eu  apps/app-2  role asking-2  (apps/app-2@_) => done
    + eu-west-1/prod-eu  apps/app-3  role asking-3  (apps/app-3@_) => done
    + eu-west-1/prod-eu  apps/app-4  role asking-4  (apps/app-4@_) => done
    + eu-west-1/prod-eu  apps/app-5  role asking-5  (apps/app-5@_) => done
    . the sweep of eu-west-1/apps-1
    . the sweep of eu-west-1/apps-2
    . the sweep of eu-west-1/prod-eu
    15 x eks eu-west-1 CreatePodIdentityAssociation
    3 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 ListClusters
    3 x eks eu-west-1 ListPodIdentityAssociations
    3 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x eks us-east-1 ListClusters
    3 x events eu-west-1 PutEvents
    5 x iam us-east-1 GetAccountAuthorizationDetails
    15 x iam us-east-1 GetRole
    15 x iam us-east-1 ListAttachedRolePolicies
    15 x iam us-east-1 ListRolePolicies
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    3 x tagging eu-west-1 GetResources
    * Access Granted eu-west-1/apps-1 apps/app-1 asking-1 created
    * Access Granted eu-west-1/apps-1 apps/app-2 asking-2 created
    * Access Granted eu-west-1/apps-1 apps/app-3 asking-3 created
    * Access Granted eu-west-1/apps-1 apps/app-4 asking-4 created
    * Access Granted eu-west-1/apps-1 apps/app-5 asking-5 created
    * Access Granted eu-west-1/apps-2 apps/app-1 asking-1 created
    * Access Granted eu-west-1/apps-2 apps/app-2 asking-2 created
    * Access Granted eu-west-1/apps-2 apps/app-3 asking-3 created
    * Access Granted eu-west-1/apps-2 apps/app-4 asking-4 created
    * Access Granted eu-west-1/apps-2 apps/app-5 asking-5 created
    * Access Granted eu-west-1/prod-eu apps/app-1 asking-1 created
    * Access Granted eu-west-1/prod-eu apps/app-2 asking-2 created
    * Access Granted eu-west-1/prod-eu apps/app-3 asking-3 created
    * Access Granted eu-west-1/prod-eu apps/app-4 asking-4 created
    * Access Granted eu-west-1/prod-eu apps/app-5 asking-5 created
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/apps-1 .. with asking-1 asking-2 asking-3 asking-4 asking-5
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/apps-2 .. with asking-1 asking-2 asking-3 asking-4 asking-5
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with asking-1 asking-2 asking-3 asking-4 asking-5
    ");
    for cluster in ["apps-1", "apps-2", "prod-eu"] {
        assert_eq!(w.access(EU, cluster).len(), 5, "{cluster}");
    }
    assert_snapshot!(w.counted(ReconcileAssociations, &again(sweep())).await, @"
    done
    . the sweep of eu-west-1/apps-1
    . the sweep of eu-west-1/apps-2
    . the sweep of eu-west-1/prod-eu
    2 x eks eu-west-1 ListClusters
    1 x eks us-east-1 ListClusters
    5 x iam us-east-1 GetAccountAuthorizationDetails
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/apps-1 .. with asking-1 asking-2 asking-3 asking-4 asking-5
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/apps-2 .. with asking-1 asking-2 asking-3 asking-4 asking-5
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with asking-1 asking-2 asking-3 asking-4 asking-5
    ");
}

#[tokio::test]
async fn every_page_of_a_deleted_roles_associations_is_read() {
    let w = World::new().await;
    w.aws.page_size(2);
    w.given(role("busy", "apps/a@prod-eu apps/b@prod-eu apps/c@prod-eu apps/d@prod-eu apps/e@prod-eu")).await;
    w.aws.delete_role("busy");
    let event = crate::world::role_deleted("busy");
    assert_snapshot!(w.counted(CleanUpOrphans, &event).await, @"
    done
    - eu-west-1/prod-eu  apps/a  role busy  (role gone) => done
    - eu-west-1/prod-eu  apps/b  role busy  (role gone) => done
    - eu-west-1/prod-eu  apps/c  role busy  (role gone) => done
    - eu-west-1/prod-eu  apps/d  role busy  (role gone) => done
    - eu-west-1/prod-eu  apps/e  role busy  (role gone) => done
    5 x eks eu-west-1 DeletePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    10 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x events eu-west-1 PutEvents
    6 x iam us-east-1 GetRole -> NoSuchEntity
    3 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Removed eu-west-1/prod-eu apps/a busy role-gone
    * Orphan Removed eu-west-1/prod-eu apps/b busy role-gone
    * Orphan Removed eu-west-1/prod-eu apps/c busy role-gone
    * Orphan Removed eu-west-1/prod-eu apps/d busy role-gone
    * Orphan Removed eu-west-1/prod-eu apps/e busy role-gone
    ");
    assert!(w.access(EU, "prod-eu").is_empty());
}

/// Decoded not at all or twice, this policy would be no JSON.
#[tokio::test]
async fn trust_policies_are_percent_decoded_once() {
    let policy = r#"{"Version": "2012-10-17", "Statement": [{
        "Sid": "a+b", "Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession"],
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "100%22 sûr"}}}]}"#;
    let w = World::new().await;
    w.aws.add_role(role("by-event", "payments/api@prod-eu").trust_policy(policy));
    w.reconcile(&role_tagged("by-event")).await;
    w.aws.add_role(role("by-sweep", "payments/worker@prod-eu").trust_policy(policy));
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api by-event", "payments/worker by-sweep"]);
}

#[tokio::test]
async fn an_association_that_an_add_on_owns_is_left_alone_whatever_its_tags_say() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    let ours = w.aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
    let addon = "arn:aws:eks:eu-west-1:111122223333:addon/prod-eu/aws-ebs-csi-driver/1";
    w.aws.add_association(ours.owner(addon));
    let before = w.aws.associations(EU, "prod-eu");
    // Wanted, it stands in the way.
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    ");
    // Unwanted, and its role gone, it stays.
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    ");
    w.aws.delete_role("payments-api");
    assert_snapshot!(w.counted(CleanUpOrphans, &sweep()).await, @"
    done
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    1 x eks us-east-1 ListClusters
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    ");
    assert_eq!(w.aws.associations(EU, "prod-eu"), before);
}

#[tokio::test]
async fn names_that_kubernetes_would_not_take_are_nobodys_grant() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    let tags = w.aws.association(EU, "prod-eu", "payments", "api").unwrap().tags;
    w.aws.add_association(Association::of("prod-eu", "Not_Kubernetes", "api"));
    // Another, with our tags copied onto it: the index shows it.
    let mut copied = Association::of("prod-eu", "Not_Kubernetes", "other");
    copied.tags = tags;
    w.aws.add_association(copied);
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/worker@prod-eu");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => done
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000003
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/worker
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/worker payments-api created
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
    assert_snapshot!(w.sweep_counted().await, @"
    done
    = 1 unchanged
    . the sweep of eu-west-1/prod-eu
    1 x eks eu-west-1 ListClusters
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 ListClusters
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    1 x tagging eu-west-1 GetResources
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with payments-api
    ");
    assert_eq!(w.aws.associations(EU, "prod-eu").len(), 3);
}

#[tokio::test]
async fn tags_copied_from_another_cluster_make_nothing_ours() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.add_cluster(Cluster::named("other"));
    let mut copied = w.aws.association(EU, "prod-eu", "payments", "api").unwrap();
    copied.cluster = "other".to_owned();
    w.aws.add_association(copied);
    w.aws.delete_role("payments-api");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    not-yet
    . IAM does not show the role payments-api yet, or no longer
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: RoleUnseen { name: "payments-api" }
    "#);
    assert_snapshot!(w.sweep_orphans().await, @r#"
    not-yet
    . what does not show is gone if it does not show after a while either: role payments-api
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster other
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 1, began 0 s ago: Orphans { roles_missed: {"payments-api"} }

    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (role gone) => done
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster other
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Orphan Removed eu-west-1/prod-eu payments/api payments-api role-gone
    "#);
    assert_eq!(w.access(EU, "other"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_ghost_with_its_tags_hides_nothing_and_is_not_deleted_again() {
    let w = World::new().await;
    w.aws.index_shows_ghosts(9, Ghost::WithTags);
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.delete_association(EU, "prod-eu", "payments", "api");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001 -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    w.aws.delete_association(EU, "prod-eu", "payments", "api");
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001 -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000002 -> 404 ResourceNotFoundException
    ");
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
    ");
}

#[tokio::test]
async fn a_ghost_without_tags_is_nobodys() {
    let w = World::new().await;
    w.aws.index_shows_ghosts(9, Ghost::WithoutTags);
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.delete_association(EU, "prod-eu", "payments", "api");
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    ");
    w.aws.delete_role("payments-api");
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    ");
}

#[tokio::test]
async fn what_the_index_does_not_know_yet_is_described_and_neither_made_twice_nor_deleted() {
    let w = World::new().await;
    w.aws.index_lags(9);
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
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
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    ");
}

#[tokio::test]
async fn a_grant_withdrawn_before_the_index_knew_it_goes_with_the_next_sweep() {
    let w = World::new().await;
    w.aws.index_lags(1);
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    ");
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
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
}
