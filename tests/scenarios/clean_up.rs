//! clean-up-orphans: associations of roles that are gone, and roles whose clusters are.

use insta::assert_snapshot;
use podgrant_runtime::Function::CleanUpOrphans;
use podgrant_runtime::report::Ending;
use podgrant_tests::fake::{Association, Cluster, Fault, Role};
use serde_json::Value;

use crate::world::{EU, US, World, again, role, role_deleted, role_tagged, sample, sweep};

fn cluster_deleted() -> Value {
    sample("cluster-deleted")
}

async fn granted() -> World {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w
}

#[tokio::test]
async fn a_deleted_role_takes_its_associations_along_and_no_others() {
    let w = granted().await;
    let arn = w.aws.role("payments-api").unwrap().arn();
    w.aws.add_association(Association::of("prod-eu", "by", "hand").role_arn(arn));
    w.given(role("other", "payments/worker@prod-eu")).await;
    w.aws.delete_role("payments-api");
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (role gone) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Orphan Removed eu-west-1/prod-eu payments/api payments-api role-gone
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["by/hand payments-api", "payments/worker other"]);
    // Delivered again, it finds nothing left.
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    ");
}

#[tokio::test]
async fn a_deleted_role_loses_what_it_had_in_every_region() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("prod-us").region(US));
    w.given(role("everywhere", "monitoring/agent@_").path("/teams/ops/")).await;
    w.aws.delete_role("everywhere");
    assert_snapshot!(w.counted(CleanUpOrphans, &role_deleted("everywhere")).await, @"
    done
    - eu-west-1/prod-eu  monitoring/agent  role everywhere  (role gone) => done
    - us-east-1/prod-us  monitoring/agent  role everywhere  (role gone) => done
    1 x eks eu-west-1 DeletePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 DescribeCluster -> ResourceNotFoundException
    2 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks us-east-1 DeletePodIdentityAssociation
    1 x eks us-east-1 DescribeCluster
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    2 x eks us-east-1 DescribePodIdentityAssociation
    1 x events eu-west-1 PutEvents
    3 x iam us-east-1 GetRole -> NoSuchEntity
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Removed eu-west-1/prod-eu monitoring/agent everywhere role-gone
    * Orphan Removed us-east-1/prod-us monitoring/agent everywhere role-gone
    ");
    assert!(w.access(EU, "prod-eu").is_empty() && w.access(US, "prod-us").is_empty());
}

#[tokio::test]
async fn a_role_deleted_and_made_again_with_its_grant_keeps_its_access() {
    let w = granted().await;
    w.aws.delete_role("payments-api");
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    ");
    // The new role's own event renews the mark, in place.
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    ~ eu-west-1/prod-eu  payments/api  role payments-api  role id AROA00000000000000001 -> AROA00000000000000002 => done
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
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    ");
}

#[tokio::test]
async fn a_role_made_again_without_tags_never_asked() {
    let w = granted().await;
    w.aws.delete_role("payments-api");
    w.aws.add_role(Role::named("payments-api"));
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (role deleted and made again) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Orphan Removed eu-west-1/prod-eu payments/api payments-api role-replaced
    ");
}

#[tokio::test]
async fn a_role_made_again_with_its_grant_just_before_the_deletion_keeps_its_access() {
    let w = granted().await;
    w.aws.delete_role("payments-api");
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(|aws| {
        aws.add_role(role("payments-api", "payments/api@prod-eu"));
    }));
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (role gone) => dropped: looked at once more, arn:aws:iam::111122223333:role/payments-api keeps association a-000000000000001
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_role_that_is_still_there_keeps_what_it_has() {
    let w = granted().await;
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    ");
}

#[tokio::test]
async fn without_one_regions_index_nothing_is_deleted() {
    let w = granted().await;
    w.aws.delete_role("payments-api");
    w.aws.fault(Fault::on("tagging", "GetResources").region(US).access_denied());
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    failed: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources
    ! withheld: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): a partial view deletes nothing: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources; it is looked at again when the view is whole
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api -> 400 AccessDeniedException
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    events eu-west-1 PutEvents 1
    * Deletions Withheld a partial view deletes nothing: tag:GetResources us-east-1: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: tag:GetResources; it is looked at again when the view is whole
    ");
    w.aws.clear_faults();
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (role gone) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Orphan Removed eu-west-1/prod-eu payments/api payments-api role-gone
    ");
}

#[tokio::test]
async fn a_role_that_can_not_be_read_is_not_gone() {
    let w = granted().await;
    w.aws.fault(Fault::on("iam", "GetRole").access_denied());
    assert_snapshot!(w.clean_up(&role_deleted("payments-api")).await, @"
    failed: iam:GetRole payments-api: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: iam:GetRole
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api -> 403 AccessDenied
    ");
}

#[tokio::test]
async fn a_cluster_that_is_being_deleted_is_waited_for_and_then_its_roles_are_orphans() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.add_role(role("lucky", "payments/api@prod-eu payments/api@other"));
    w.aws.add_role(role("hopeful", "payments/api@env=prod"));
    w.aws.add_cluster(Cluster::named("other"));
    w.aws.set_cluster_status(EU, "prod-eu", "DELETING");
    assert_snapshot!(w.clean_up(&cluster_deleted()).await, @r#"
    not-yet
    . cluster eu-west-1/prod-eu is DELETING; it is not gone yet
    eks eu-west-1 DescribeCluster prod-eu
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 1, began 0 s ago: ClusterDeleting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    w.aws.delete_cluster(EU, "prod-eu");
    w.pass(60);
    let message = w.next_message();
    assert_snapshot!(w.clean_up(&message).await, @"
    done
    ! orphan role: role payments-api: every cluster that its grants name is gone (prod-eu); take its tags away, or delete the role, if nothing else uses it
    eks eu-west-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribeCluster other
    eks eu-west-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster other -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    events eu-west-1 PutEvents 1
    * Orphan Found payments-api orphan-role
    ");
}

#[tokio::test]
async fn a_cluster_made_again_under_its_name_has_no_orphans() {
    let w = granted().await;
    assert_snapshot!(w.clean_up(&cluster_deleted()).await, @"
    done
    eks eu-west-1 DescribeCluster prod-eu
    ");
}

#[tokio::test]
async fn a_sweep_finds_associations_whose_role_is_gone_or_replaced() {
    let w = World::new().await;
    for name in ["gone", "kept", "replaced"] {
        w.given(role(name, &format!("apps/{name}@prod-eu"))).await;
    }
    w.aws.delete_role("gone");
    w.aws.delete_role("replaced");
    w.aws.add_role(Role::named("replaced"));
    assert_snapshot!(w.counted(CleanUpOrphans, &sweep()).await, @r#"
    not-yet
    = 1 unchanged
    - eu-west-1/prod-eu  apps/replaced  role replaced  (role deleted and made again) => done
    . what does not show is gone if it does not show after a while either: role gone
    1 x eks eu-west-1 DeletePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    3 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    1 x eks us-east-1 ListClusters
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x iam us-east-1 GetRole
    1 x sqs eu-west-1 SendMessageBatch
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Removed eu-west-1/prod-eu apps/replaced replaced role-replaced
    > in 60 s, attempt 1, began 0 s ago: Orphans { roles_missed: {"gone"} }
    "#);
    w.pass(60);
    assert_snapshot!(w.counted(CleanUpOrphans, &w.next_message()).await, @"
    done
    = 1 unchanged
    - eu-west-1/prod-eu  apps/gone  role gone  (role gone) => done
    1 x eks eu-west-1 DeletePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    1 x eks us-east-1 ListClusters
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x iam us-east-1 GetRole -> NoSuchEntity
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Removed eu-west-1/prod-eu apps/gone gone role-gone
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/kept kept"]);
}

#[tokio::test]
async fn a_role_that_lost_its_tags_is_reconciles_business_and_not_clean_ups() {
    let w = granted().await;
    w.aws.untag_role("payments-api", "podgrant/grant");
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
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

#[tokio::test]
async fn a_role_that_a_listing_left_out_keeps_its_associations() {
    let w = granted().await;
    // Hidden from the listing, and there at the second look.
    w.aws.hide_role("payments-api", 1);
    assert_snapshot!(w.sweep_orphans().await, @r#"
    not-yet
    . what does not show is gone if it does not show after a while either: role payments-api
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 1, began 0 s ago: Orphans { roles_missed: {"payments-api"} }

    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    "#);
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_role_whose_clusters_never_came_is_an_orphan_after_its_grace() {
    let w = World::with(&[("PODGRANT_ORPHAN_GRACE", "3600")]).await;
    w.payments_api("payments/api@never-came");
    w.pass(3599);
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    ");
    w.pass(1);
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    ! orphan role: role payments-api: every cluster that its grants name is gone (never-came); take its tags away, or delete the role, if nothing else uses it
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    events eu-west-1 PutEvents 2
    * Orphan Found payments-api orphan-role
    * Orphan Report
      role payments-api: every cluster that its grants name is gone (never-came); it is only reported: its tags do not ask for more
    ");
}

#[tokio::test]
async fn a_sweep_that_can_not_see_a_region_calls_no_role_an_orphan() {
    let w = World::with(&[("PODGRANT_ORPHAN_GRACE", "0")]).await;
    w.payments_api("payments/api@in-us-perhaps");
    w.aws.fault(Fault::on("eks", "ListClusters").region(US).access_denied());
    let report = w.serve(CleanUpOrphans, &sweep()).await;
    assert_eq!((report.ending, report.findings), (Ending::Failed, vec![]));
}

#[tokio::test]
async fn many_orphans_are_few_of_all_that_is_managed() {
    let w = World::with(&[("PODGRANT_MAX_SERVICE_ACCOUNTS", "100")]).await;
    let grants = |from: usize, to: usize| -> String {
        (from..to).map(|number| format!("a/w{number}@prod-eu")).collect::<Vec<_>>().join(" ")
    };
    for part in 0..6 {
        w.given(role(&format!("living-{part}"), &grants(10 * part, 10 * part + 10))).await;
    }
    w.given(role("gone", &grants(60, 72))).await;
    w.aws.delete_role("gone");
    w.sweep_orphans().await;
    assert_eq!(w.access(EU, "prod-eu").len(), 60);
    // And many of all are too many.
    for part in 0..4 {
        w.aws.delete_role(&format!("living-{part}"));
    }
    let story = w.sweep_orphans().await;
    assert!(story.contains("would delete 40 of 60 managed associations"), "{story}");
    assert_eq!(w.access(EU, "prod-eu").len(), 60);
}
