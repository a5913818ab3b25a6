//! What is refused whatever a tag says, and what a tag lets podgrant do to what is not its own.

use insta::assert_snapshot;
use podgrant_tests::fake::{Association, Fault, Role};
use serde_json::json;

use crate::world::{EU, World, again, role, role_deleted, role_tagged, role_untagged};

const ADMINISTRATOR: &str = "arn:aws:iam::aws:policy/AdministratorAccess";
const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const OWN: &str = "arn:aws:iam::111122223333:policy/own";
const EVERYTHING: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
const ONE_BUCKET: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::one/*"}]}"#;

fn payments() -> Role {
    role("payments-api", "payments/api@prod-eu")
}

#[tokio::test]
async fn an_administrator_is_handed_to_nobody() {
    let w = World::new().await;
    w.aws.add_role(payments().attached_policy(ADMINISTRATOR));
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ! guardrail: role payments-api: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Grant Refused payments-api guardrail
    ");
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn a_policy_of_the_accounts_own_is_read_before_its_role_gets_something_new() {
    let w = World::new().await;
    w.aws.set_policy(OWN, ONE_BUCKET);
    let role = payments().attached_policy(READ_ONLY).attached_policy(OWN);
    w.aws.add_role(role.inline_policy("inline", ONE_BUCKET));
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
    iam us-east-1 GetRolePolicy payments-api
    iam us-east-1 GetPolicy
    iam us-east-1 GetPolicyVersion
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    w.aws.set_policy(OWN, EVERYTHING);
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/api@prod-eu payments/worker@prod-eu");
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @"
    done
    = 1 unchanged
    ! guardrail: role payments-api: administrators: its policy own allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    iam us-east-1 GetPolicy
    iam us-east-1 GetPolicyVersion
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    events eu-west-1 PutEvents 1
    * Grant Refused payments-api guardrail
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn policies_that_can_not_be_read_give_nothing_new() {
    let w = World::new().await;
    w.aws.add_role(payments().attached_policy(OWN));
    w.aws.fault(Fault::on("iam", "ListRolePolicies").access_denied());
    let story = w.reconcile(&role_tagged("payments-api")).await;
    assert!(story.starts_with("failed: iam:ListRolePolicies payments-api: AccessDenied"), "{story}");
    assert!(w.access(EU, "prod-eu").is_empty());
    // The policy went while we looked: it is looked at again.
    w.aws.clear_faults();
    assert_snapshot!(w.reconcile(&again(role_tagged("payments-api"))).await, @r#"
    not-yet
    . the policies of role payments-api could not be read yet, and it may be an administrator
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetPolicy -> 404 NoSuchEntity
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
}

/// Granted, and then made an administrator.
async fn promoted(variables: &[(&str, &str)]) -> World {
    let w = World::with(variables).await;
    w.given(payments()).await;
    w.aws.change_role("payments-api", |role| role.attached_policies.push(ADMINISTRATOR.to_owned()));
    w
}

#[tokio::test]
async fn who_became_an_administrator_is_reported_and_keeps_what_it_has() {
    let w = promoted(&[]).await;
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    ! guardrail: role payments-api: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 1
    * Grant Refused payments-api guardrail
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with payments-api

    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    ");
    // A role's event does not even look, for there is nothing new to give.
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
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn who_became_an_administrator_loses_it_where_that_is_configured() {
    let w = promoted(&[("PODGRANT_ON_REFUSED", "withdraw")]).await;
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    ! guardrail: role payments-api: administrators: its policy AdministratorAccess allows everything, or all but what it names; let it name what the pods need, or allow such roles with PODGRANT_REFUSE_ADMINISTRATORS
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 1
    * Grant Refused payments-api guardrail
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with payments-api

    done
    - eu-west-1/prod-eu  payments/api  role payments-api  (refused by a guardrail) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu payments/api payments-api refused
    ");
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn who_is_no_administrator_any_more_when_it_comes_to_it_keeps_what_it_has() {
    let w = promoted(&[("PODGRANT_ON_REFUSED", "withdraw")]).await;
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(1).meanwhile(|aws| {
        aws.change_role("payments-api", |role| role.attached_policies.clear());
    }));
    let story = w.sweep().await;
    assert!(story.contains("keeps association a-000000000000001"), "{story}");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn the_namespaces_of_the_cluster_itself_get_no_roles() {
    let w = World::new().await;
    w.aws.add_role(role("mixed", "kube-system/controller@prod-eu payments/api@prod-eu"));
    assert_snapshot!(w.reconcile(&role_tagged("mixed")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role mixed  (payments/api@prod-eu) => done
    ! guardrail: eu-west-1/prod-eu kube-system/controller role mixed (kube-system/controller@prod-eu): refused-namespaces: pods of kube-system get no roles; grant to another namespace, or allow this one with PODGRANT_REFUSED_NAMESPACES
    tagging eu-west-1 GetResources podgrant/role-name=mixed
    tagging us-east-1 GetResources podgrant/role-name=mixed
    iam us-east-1 GetRole mixed
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies mixed
    iam us-east-1 ListRolePolicies mixed
    eks eu-west-1 ListPodIdentityAssociations prod-eu kube-system/controller
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api mixed created
    * Grant Refused eu-west-1/prod-eu kube-system/controller mixed guardrail
    ");
    let w = World::with(&[("PODGRANT_REFUSED_NAMESPACES", "none")]).await;
    w.aws.add_role(role("mixed", "kube-system/controller@prod-eu payments/api@prod-eu"));
    w.reconcile(&role_tagged("mixed")).await;
    assert_eq!(w.access(EU, "prod-eu").len(), 2);
}

#[tokio::test]
async fn paths_and_boundaries_are_minded_where_they_are_configured() {
    let boundary = "arn:aws:iam::111122223333:policy/boundary";
    let w = World::with(&[("PODGRANT_ROLE_PATHS", "/apps/"), ("PODGRANT_REQUIRED_BOUNDARY", boundary)]).await;
    w.aws.add_role(payments().path("/apps/payments/"));
    let mut bounded = role("bounded", "payments/bounded@prod-eu").path("/apps-too/");
    bounded.permissions_boundary = boundary.to_owned();
    w.aws.add_role(bounded.clone());
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    ! guardrail: role bounded: role-paths: the role's path is /apps-too/, and pods get roles under /apps/ only; make it anew under such a path, or allow this one with PODGRANT_ROLE_PATHS
    ! guardrail: role payments-api: required-boundary: it has no permissions boundary, and pods get roles with arn:aws:iam::111122223333:policy/boundary only; give it that boundary, or change PODGRANT_REQUIRED_BOUNDARY
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 2
    * Grant Refused bounded guardrail
    * Grant Refused payments-api guardrail
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with bounded payments-api

    done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    ");
    w.aws.add_role(bounded.path("/apps/"));
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/bounded bounded"]);
}

fn managing() -> Role {
    let trust = r#"{ "Version": "2012-10-17", "Statement": [{"Sid": "Nodes", "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}] }"#;
    payments().trust_policy(trust).tag("podgrant/trust", "manage")
}

#[tokio::test]
async fn missing_trust_is_added_once_where_the_role_asks_for_it() {
    let w = World::new().await;
    w.aws.add_role(managing());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    ~ role payments-api  trust policy: + allows pods.eks.amazonaws.com for payments/api@prod-eu => done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    iam us-east-1 GetRole payments-api
    iam us-east-1 UpdateAssumeRolePolicy payments-api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Trust Amended payments-api
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    ");
    let told = w.told_of("Trust Amended");
    assert_snapshot!(told[0]["policy"].as_str().unwrap(), @r#"{ "Version": "2012-10-17", "Statement": [{"Sid": "Nodes", "Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},{"Sid":"PodgrantManaged1","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"],"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:eks:*:111122223333:cluster/prod-eu"},"StringEquals":{"aws:RequestTag/kubernetes-namespace":"payments","aws:RequestTag/kubernetes-service-account":"api","aws:SourceAccount":"111122223333"}}}] }"#);
    assert_eq!(told[0]["policyBefore"], json!(managing().trust_policy));
    assert_eq!(w.aws.role("payments-api").unwrap().trust_policy, told[0]["policy"].as_str().unwrap());
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
}

#[tokio::test]
async fn a_sweep_mends_trust_once_for_all_clusters() {
    let w = World::new().await;
    w.aws.add_cluster(podgrant_tests::fake::Cluster::named("other").tag("env", "prod"));
    w.aws.add_role(managing().tag("podgrant/grant", "payments/api@env=prod"));
    assert_snapshot!(w.sweep_counted().await, @"
    done
    ~ role payments-api  trust policy: + allows pods.eks.amazonaws.com for payments/api@_ => done
    + eu-west-1/other  payments/api  role payments-api  (payments/api@env=prod) => done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@env=prod) => done
    . the sweep of eu-west-1/other
    . the sweep of eu-west-1/prod-eu
    2 x eks eu-west-1 CreatePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListClusters
    2 x eks eu-west-1 ListPodIdentityAssociations
    2 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x eks us-east-1 ListClusters
    3 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    3 x iam us-east-1 GetRole
    2 x iam us-east-1 ListAttachedRolePolicies
    2 x iam us-east-1 ListRolePolicies
    1 x iam us-east-1 UpdateAssumeRolePolicy
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    3 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Trust Amended payments-api
    * Access Granted eu-west-1/other payments/api payments-api created
    * Access Granted eu-west-1/prod-eu payments/api payments-api created
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/other .. with payments-api
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with payments-api
    ");
    assert_eq!((w.access(EU, "prod-eu").len(), w.access(EU, "other").len()), (1, 1));
}

#[tokio::test]
async fn eks_may_still_see_the_trust_policy_before() {
    let w = World::new().await;
    w.aws.add_role(managing());
    let stale = "Trust policy of the role provided is invalid.";
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").first(1).error(
        "InvalidParameterException",
        400,
        stale,
    ));
    let story = w.reconcile(&role_tagged("payments-api")).await;
    assert!(story.starts_with("not-yet"), "{story}");
    let again = w.next_message();
    let story = w.reconcile(&again).await;
    assert!(story.starts_with("done"), "{story}");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_trust_policy_that_somebody_else_changes_at_the_time_is_left_to_the_next_look() {
    let w = World::new().await;
    w.aws.add_role(managing());
    w.aws.fault(Fault::on("iam", "GetRole").nth(2).meanwhile(|aws| {
        aws.change_role("payments-api", |role| role.trust_policy = r#"{"Statement":[]}"#.to_owned());
    }));
    let story = w.reconcile(&role_tagged("payments-api")).await;
    assert!(story.contains("the trust policy of payments-api changed since it was planned for"), "{story}");
    assert_eq!(w.aws.calls().count("UpdateAssumeRolePolicy"), 0);
    assert_eq!(w.aws.role("payments-api").unwrap().trust_policy, r#"{"Statement":[]}"#);
}

#[tokio::test]
async fn what_somebody_else_made_is_adopted_where_the_role_asks_for_it() {
    let w = World::new().await;
    let role = payments().tag("podgrant/adopt", "on");
    let theirs = Association::of("prod-eu", "payments", "api").role_arn(role.arn());
    w.aws.add_role(role);
    w.aws.add_association(theirs.without_session_tags());
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    * eu-west-1/prod-eu  payments/api  role payments-api  adopted  session tags off -> on  (payments/api@prod-eu) => done
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001
    eks eu-west-1 UpdatePodIdentityAssociation prod-eu a-000000000000001
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu payments/api payments-api adopted
    ");
    w.aws.untag_role("payments-api", "podgrant/grant");
    w.reconcile(&role_untagged("payments-api")).await;
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn what_got_another_role_meanwhile_is_not_adopted() {
    let w = World::new().await;
    let role = payments().tag("podgrant/adopt", "on");
    w.aws.add_association(Association::of("prod-eu", "payments", "api").role_arn(role.arn()));
    w.aws.add_role(role);
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").nth(2).meanwhile(|aws| {
        let mut theirs = aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
        theirs.role_arn = "arn:aws:iam::111122223333:role/other".to_owned();
        aws.add_association(theirs);
    }));
    let story = w.reconcile(&role_tagged("payments-api")).await;
    assert!(story.contains("no longer as it was when it was to be adopted"), "{story}");
    assert!(!story.contains("TagResource"), "{story}");
}

#[tokio::test]
async fn a_role_made_again_as_an_administrator_inherits_nothing() {
    let w = World::new().await;
    w.given(payments()).await;
    w.aws.delete_role("payments-api");
    w.aws.add_role(payments().attached_policy(ADMINISTRATOR));
    let story = w.sweep().await;
    assert!(story.contains("role payments-api  (role deleted and made again) => done"), "{story}");
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn what_an_administrator_may_not_keep_goes_to_who_may_have_it() {
    let w = promoted(&[("PODGRANT_ON_REFUSED", "withdraw")]).await;
    w.aws.add_role(role("heir", "payments/api@prod-eu"));
    let story = w.sweep().await;
    assert!(story.contains("payments/api  role payments-api -> heir => done"), "{story}");
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api heir"]);
}

#[tokio::test]
async fn trust_that_may_not_be_mended_is_refused_and_gives_nothing() {
    let w = World::new().await;
    w.aws.add_role(managing());
    w.aws.fault(Fault::on("iam", "UpdateAssumeRolePolicy").access_denied());
    let story = w.reconcile(&role_tagged("payments-api")).await;
    assert!(story.starts_with("done\n~ role payments-api") && story.contains("=> refused: "), "{story}");
    assert!(story.contains("=> dropped: the role's trust policy was to be mended first"), "{story}");
    assert!(!story.contains("CreatePodIdentityAssociation") && story.contains("refused-by-aws"), "{story}");
    // Nor does one such role fail a sweep.
    w.aws.clear_faults();
    w.aws.fault(Fault::on("iam", "UpdateAssumeRolePolicy").server_error());
    let story = w.reconcile(&crate::world::sweep()).await;
    assert!(story.starts_with("done") && story.contains(r#"Role { name: "payments-api" }"#), "{story}");
}

#[tokio::test]
async fn an_association_that_is_being_handed_over_is_not_taken_from_its_heir() {
    let w = World::new().await;
    w.given(payments()).await;
    let heir = role("heir", "payments/api@prod-eu");
    // Its role was changed, and its mark not yet.
    let mut half = w.aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
    half.role_arn = heir.arn();
    w.aws.add_association(half);
    w.aws.add_role(heir);
    w.aws.untag_role("payments-api", "podgrant/grant");
    let story = w.reconcile(&role_untagged("payments-api")).await;
    assert!(story.contains("is being handed over to arn:aws:iam::111122223333:role/heir"), "{story}");
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api heir"]);
    assert!(
        w.aws.association(EU, "prod-eu", "payments", "api").unwrap().tags["podgrant/role"].ends_with("/heir")
    );
}

#[tokio::test]
async fn an_heir_is_judged_by_its_policies_before_it_keeps_what_a_deleted_role_left() {
    const OWN: &str = "arn:aws:iam::111122223333:policy/own";
    for (document, kept) in [
        (r#"{"Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}"#, true),
        (r#"{"Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#, false),
    ] {
        let w = World::new().await;
        w.given(payments()).await;
        w.aws.set_policy(OWN, document);
        let heir = role("heir", "payments/api@prod-eu").attached_policy(OWN);
        let mut half = w.aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
        half.role_arn = heir.arn();
        w.aws.add_association(half);
        w.aws.add_role(heir);
        w.aws.delete_role("payments-api");
        let story = w.clean_up(&role_deleted("payments-api")).await;
        assert_eq!(story.contains("is being handed over to"), kept, "{story}");
        assert_eq!(w.access(EU, "prod-eu").len(), usize::from(kept), "{story}");
    }
}
