//! reconcile-associations, woken by one role.

use insta::assert_snapshot;
use podgrant_runtime::Function::ReconcileAssociations;
use podgrant_tests::fake::{Cluster, Fault, Role};

use crate::world::{EU, US, World, again, in_order, role, role_tagged, role_untagged, sample};

#[tokio::test]
async fn a_tagged_role_gets_its_association_in_eight_calls() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
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
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    let made = w.aws.association(EU, "prod-eu", "payments", "api").unwrap();
    assert_snapshot!(made.tags.iter().map(|(k, v)| format!("{k} = {v}\n")).collect::<String>(), @"
    podgrant/cluster = eu-west-1/prod-eu
    podgrant/label = 
    podgrant/managed = v1
    podgrant/role = arn:aws:iam::111122223333:role/payments-api
    podgrant/role-id = AROA00000000000000001
    podgrant/role-name = payments-api
    podgrant/session-tags = on
    podgrant/subject = payments/api@prod-eu
    podgrant/target-role =
    ");
}

#[tokio::test]
async fn a_role_created_with_its_tags_gets_its_association() {
    let w = World::new().await;
    w.aws.add_role(role("payments-api", "payments/api@prod-eu").path("/teams/payments/"));
    assert_snapshot!(w.reconcile(&sample("role-created")).await, @"
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
async fn the_same_event_twice_makes_one_association_and_writes_once() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    ");
}

#[tokio::test]
async fn a_changed_grant_is_made_anew_before_the_old_one_goes() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
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
    assert_eq!(w.access(EU, "prod-eu"), ["payments/worker payments-api"]);
}

#[tokio::test]
async fn an_untagged_role_loses_its_association() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.untag_role("payments-api", "podgrant/grant");
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
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api grant-withdrawn
    ");
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn a_role_without_podgrants_tags_costs_a_look_and_no_more() {
    let w = World::new().await;
    w.aws.add_role(Role::named("payments-api"));
    assert_snapshot!(w.reconcile(&sample("role-created-without-tags")).await, @"
    done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    ");
}

#[tokio::test]
async fn a_bad_subject_is_refused_and_its_neighbour_granted() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu payments/worker");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    ! bad tag: role payments-api: tag podgrant/grant: column 37: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    * Grant Refused payments-api bad-tag
    ");
}

#[tokio::test]
async fn a_role_that_does_not_trust_pods_gets_nothing() {
    let w = World::new().await;
    w.aws.add_role(Role::named("payments-api").tag("podgrant/grant", "payments/api@prod-eu"));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    done
    ! trust policy: role payments-api: the trust policy does not allow sts:AssumeRole and sts:TagSession to pods.eks.amazonaws.com; add the statement {"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Grant Refused payments-api trust-policy
    "#);
    // Its owner mends the policy, and that wakes podgrant.
    w.aws.add_role(role("payments-api", "payments/api@prod-eu"));
    assert_snapshot!(w.reconcile(&sample("trust-changed")).await, @"
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
async fn a_role_that_iam_does_not_show_yet_comes_back_until_it_does() {
    let w = World::new().await;
    w.aws.add_role(role("payments-api", "payments/api@prod-eu").hidden_for(2));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    not-yet
    . IAM does not show the role payments-api yet, or no longer
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: RoleUnseen { name: "payments-api" }
    "#);
    w.pass(5);
    let message = w.next_message();
    assert_snapshot!(w.reconcile(&message).await, @r#"
    not-yet
    . IAM does not show the role payments-api yet, or no longer
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 10 s, attempt 2, began 5 s ago: RoleUnseen { name: "payments-api" }
    "#);
    w.pass(10);
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
async fn a_role_that_eks_does_not_see_yet_comes_back_until_it_does() {
    let w = World::new().await;
    w.aws.add_role(role("payments-api", "payments/api@prod-eu").hidden_from_eks_for(1));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => not yet: eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: InvalidParameterException: Role provided in the request does not exist.
    . eks:CreatePodIdentityAssociation eu-west-1/prod-eu payments/api: InvalidParameterException: Role provided in the request does not exist.
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> 400 InvalidParameterException
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
async fn a_lost_answer_is_asked_for_again_with_the_same_token() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").first(1).lose_response());
    let report = w.serve(ReconcileAssociations, &role_tagged("payments-api")).await;
    let calls = w.aws.calls().of("CreatePodIdentityAssociation");
    assert_eq!(calls[0].detail["clientRequestToken"], calls[1].detail["clientRequestToken"]);
    assert_eq!(calls[0].detail["clientRequestToken"].as_str().unwrap().len(), 64);
    assert_snapshot!(w.story(&report, in_order), @"
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
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api -> response lost
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_name_that_two_regions_have_is_refused_and_the_full_name_granted() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("prod-eu").region(US));
    w.payments_api("payments/api@prod-eu payments/worker@us-east-1/prod-eu");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + us-east-1/prod-eu  payments/worker  role payments-api  (payments/worker@us-east-1/prod-eu) => done
    ! ambiguous cluster: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): prod-eu is a cluster in eu-west-1 and us-east-1; say which, as in eu-west-1/prod-eu
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks us-east-1 ListPodIdentityAssociations prod-eu payments/api
    eks us-east-1 ListPodIdentityAssociations prod-eu payments/worker
    eks us-east-1 CreatePodIdentityAssociation prod-eu payments/worker
    events eu-west-1 PutEvents 2
    * Access Granted us-east-1/prod-eu payments/worker payments-api created
    * Grant Refused eu-west-1/prod-eu payments/api payments-api ambiguous-cluster
    ");
}

#[tokio::test]
async fn a_selector_by_tags_means_the_clusters_that_carry_them() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("prod-us").region(US).tag("env", "prod"));
    w.aws.add_cluster(Cluster::named("test-eu").tag("env", "test"));
    w.aws.add_cluster(Cluster::named("quiet").tag("env", "prod").tag("podgrant/enroll", "off"));
    w.payments_api("payments/api@env=prod");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@env=prod) => done
    + us-east-1/prod-us  payments/api  role payments-api  (payments/api@env=prod) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeCluster quiet
    eks us-east-1 DescribeCluster prod-us
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks us-east-1 ListPodIdentityAssociations prod-us payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    eks us-east-1 CreatePodIdentityAssociation prod-us payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    * Access Granted us-east-1/prod-us payments/api payments-api created
    ");
}

#[tokio::test]
async fn a_cluster_that_opted_out_is_left_alone_and_said_so() {
    let w = World::new().await;
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/enroll", "off");
    w.payments_api("payments/api@prod-eu");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ! cluster opted out: eu-west-1/prod-eu payments/api role payments-api (payments/api@prod-eu): the cluster carries podgrant/enroll = off
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu payments/api payments-api cluster-opted-out
    ");
}

#[tokio::test]
async fn a_grant_may_come_before_its_cluster() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("unborn").status("CREATING"));
    w.payments_api("payments/api@unborn payments/api@unthought-of");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ! no such cluster: payments/api role payments-api (payments/api@unthought-of): no configured region has a cluster unthought-of; the grant is made when there is one
    ! cluster not ready: eu-west-1/unborn payments/api role payments-api (payments/api@unborn): the cluster is CREATING; the grant is made when it is ready
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster unborn
    eks eu-west-1 DescribeCluster unthought-of -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster unborn -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster unthought-of -> 404 ResourceNotFoundException
    ");
}
