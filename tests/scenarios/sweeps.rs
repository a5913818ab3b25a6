//! A sweep in many messages, and events that are ahead of what IAM shows.

use insta::assert_snapshot;
use podgrant_runtime::Function::ReconcileAssociations;
use podgrant_runtime::batch;
use podgrant_tests::fake::{Cluster, Fault, Gate, Role};
use serde_json::{Value, json};

use crate::world::{EU, World, again, role, role_tagged, role_untagged, sample, sweep};

/// Three clusters with 120 associations each, of 120 roles.
async fn settled(variables: &[(&str, &str)]) -> World {
    let w = World::with(variables).await;
    for name in ["second", "third"] {
        w.aws.add_cluster(Cluster::named(name));
    }
    for number in 0..120 {
        w.aws.add_role(role(&format!("role-{number}"), &format!("apps/app-{number}@_")));
    }
    w.sweep_counted().await;
    for cluster in ["prod-eu", "second", "third"] {
        assert_eq!(w.access(EU, cluster).len(), 120);
    }
    w
}

#[tokio::test]
async fn a_sweep_with_nothing_to_do_costs_two_calls_for_a_hundred_associations() {
    let w = settled(&[("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    assert_snapshot!(w.sweep_counted().await, @"
    done
    = 360 unchanged
    . the sweep of eu-west-1/prod-eu
    . the sweep of eu-west-1/second
    . the sweep of eu-west-1/third
    1 x eks eu-west-1 ListClusters
    6 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 ListClusters
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    6 x tagging eu-west-1 GetResources
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with 120 roles
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/second .. with 120 roles
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/third .. with 120 roles
    ");
}

#[tokio::test]
async fn a_sweeps_messages_are_as_large_as_the_queue_takes_them() {
    let w = settled(&[("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    w.aws.queues_take(50_000);
    let small = w.sweep_counted().await;
    let parts: Vec<&str> = small.lines().filter(|line| line.contains("sweep eu-west-1/second")).collect();
    assert!(parts.len() > 1, "{small}");
    // A queue that does not say takes what any queue takes.
    w.aws.queues_take(262_144);
    w.aws.fault(Fault::on("sqs", "GetQueueAttributes").access_denied());
    let denied = w.sweep_counted().await;
    assert!(denied.starts_with("done") && denied.contains("in 0 s, attempt 1"), "{denied}");
}

#[tokio::test]
async fn a_role_changed_behind_podgrants_back_is_found_within_as_many_sweeps_as_there_are_rounds() {
    let w = settled(&[("PODGRANT_DRIFT_ROUNDS", "4")]).await;
    let mut drifted = w.aws.delete_association(EU, "second", "apps", "app-7").unwrap();
    drifted.role_arn = Role::named("elsewhere").arn();
    w.aws.add_association(drifted);
    let mut described = 0;
    for _ in 0..4 {
        w.pass(3600);
        let story = w.sweep_counted().await;
        let count =
            story.lines().find_map(|line| line.split_once(" x eks eu-west-1 DescribePodIdentityAssociation"));
        described += count.map_or(0, |(count, _)| count.parse::<usize>().unwrap());
    }
    assert_eq!(
        w.aws.association(EU, "second", "apps", "app-7").unwrap().role_arn,
        Role::named("role-7").arn()
    );
    // Each once in the four, and once more the one that was mended.
    assert_eq!(described, 3 * 120 + 1);
}

#[tokio::test]
async fn of_a_cluster_that_fails_the_others_are_not_held_up() {
    let w = settled(&[]).await;
    w.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").with("clusterName", "second").throttle());
    for cluster in ["prod-eu", "second", "third"] {
        w.aws.delete_association(EU, cluster, "apps", "app-3");
    }
    let story = w.sweep_counted().await;
    let waits = ". eks:ListPodIdentityAssociations eu-west-1/second: ThrottlingException";
    let comes_back = "> in 10 s, attempt 2, began 0 s ago: sweep eu-west-1/second .. with 120 roles";
    assert!(story.starts_with("not-yet") && story.contains(waits) && story.contains(comes_back), "{story}");
    assert_eq!(["prod-eu", "second", "third"].map(|cluster| w.access(EU, cluster).len()), [120, 119, 120]);
}

#[tokio::test]
async fn roles_that_changed_since_the_sweep_read_them_are_read_again_before_anything_is_made() {
    let w = World::new().await;
    w.aws.add_role(role("first", "apps/a@prod-eu").created_at(1));
    w.aws.add_role(role("second", "apps/a@prod-eu apps/b@prod-eu").created_at(2));
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    // By the time that the part's turn comes the first has taken its grant back, and the second one of its own.
    w.aws.untag_role("first", "podgrant/grant");
    w.aws.tag_role("second", "podgrant/grant", "apps/a@prod-eu");
    assert_snapshot!(w.reconcile(&part).await, @"
    done
    + eu-west-1/prod-eu  apps/a  role second  (apps/a@prod-eu) => done
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
    eks eu-west-1 CreatePodIdentityAssociation prod-eu apps/a
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu apps/a second created
    ");
}

#[tokio::test]
async fn what_the_sweep_of_a_moment_ago_would_withdraw_is_asked_for_again_now() {
    let w = World::new().await;
    w.given(role("first", "apps/a@prod-eu")).await;
    w.aws.untag_role("first", "podgrant/grant");
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    w.aws.tag_role("first", "podgrant/grant", "apps/a@prod-eu");
    assert_snapshot!(w.reconcile(&part).await, @"
    done
    = 1 unchanged
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole first
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListRolePolicies first
    ");
}

#[tokio::test]
async fn a_cluster_that_went_since_the_sweep_listed_it_is_passed_over() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    w.aws.delete_cluster(EU, "prod-eu");
    assert_snapshot!(w.reconcile(&part).await, @"
    done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu -> 404 ResourceNotFoundException
    ");
}

#[tokio::test]
async fn without_an_index_a_part_goes_on_in_another_message_when_time_runs_short() {
    let w = settled(&[("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    w.aws.fault(Fault::on("tagging", "GetResources").access_denied());
    w.aws.delete_association(EU, "prod-eu", "apps", "app-99");
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    let gate = Gate::closed();
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").first(6).wait_for(&gate));
    let time_passes = async {
        gate.reached_by(6).await;
        w.pass(25);
        gate.open();
    };
    let (report, ()) = tokio::join!(w.serve(ReconcileAssociations, &part), time_passes);
    let described = w.aws.calls().count("DescribePodIdentityAssociation");
    assert!(
        report.unchanged == 60 && described == 60,
        "{} unchanged, {described} described",
        report.unchanged
    );
    let messages = w.aws.messages();
    let rest: Value = serde_json::from_str(&messages[0].body).unwrap();
    assert_eq!((messages.len(), &rest["detail"]["attempt"]), (1, &json!(2)));
    w.forget();
    assert_snapshot!(w.counted(ReconcileAssociations, &rest).await, @"
    done
    = 59 unchanged
    + eu-west-1/prod-eu  apps/app-99  role role-99  (apps/app-99@_) => done
    1 x eks eu-west-1 CreatePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    59 x eks eu-west-1 DescribePodIdentityAssociation
    2 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    1 x tagging eu-west-1 GetResources -> AccessDeniedException
    * Access Granted eu-west-1/prod-eu apps/app-99 role-99 created
    ");
    assert_eq!(w.access(EU, "prod-eu").len(), 120);
}

#[tokio::test]
async fn a_direct_invoke_serves_the_parts_of_its_sweep_itself() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("second"));
    w.aws.add_role(role("everywhere", "apps/a@_"));
    let flow = w.flow(ReconcileAssociations);
    let answer = batch::answer(&flow, sweep(), w.deadline()).await.unwrap();
    assert_eq!(answer["ending"], "done");
    let changes: Vec<&str> = answer["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["change"].as_str().unwrap())
        .collect();
    assert_eq!(
        changes,
        [
            "+ eu-west-1/prod-eu  apps/a  role everywhere  (apps/a@_)",
            "+ eu-west-1/second  apps/a  role everywhere  (apps/a@_)"
        ]
    );
    assert_eq!(
        (w.access(EU, "prod-eu").len(), w.access(EU, "second").len(), w.aws.messages().len()),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn a_dry_run_plans_every_part_and_sends_none() {
    let w = World::with(&[("PODGRANT_DRY_RUN", "on")]).await;
    w.aws.add_cluster(Cluster::named("second"));
    w.aws.add_role(role("everywhere", "apps/a@_"));
    assert_snapshot!(w.reconcile(&sweep()).await, @"
    done
    + eu-west-1/prod-eu  apps/a  role everywhere  (apps/a@_) => planned
    + eu-west-1/second  apps/a  role everywhere  (apps/a@_) => planned
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole everywhere
    iam us-east-1 ListAttachedRolePolicies everywhere
    iam us-east-1 ListRolePolicies everywhere
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/second
    eks eu-west-1 ListPodIdentityAssociations second
    eks eu-west-1 DescribeCluster second
    eks us-east-1 DescribeCluster second -> 404 ResourceNotFoundException
    iam us-east-1 GetRole everywhere
    iam us-east-1 ListAttachedRolePolicies everywhere
    iam us-east-1 ListRolePolicies everywhere
    ");
}

#[tokio::test]
async fn what_somebody_changed_is_looked_at_alone() {
    let w = settled(&[]).await;
    let mut drifted = w.aws.delete_association(EU, "prod-eu", "apps", "app-7").unwrap();
    drifted.role_arn = Role::named("elsewhere").arn();
    w.aws.add_association(drifted);
    let mut event = sample("association-updated");
    event["detail"]["responseElements"]["association"]["namespace"] = json!("apps");
    event["detail"]["responseElements"]["association"]["serviceAccount"] = json!("app-7");
    assert_snapshot!(w.counted(ReconcileAssociations, &event).await, @"
    done
    ~ eu-west-1/prod-eu  apps/app-7  role elsewhere -> role-7 => done
    1 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks eu-west-1 UpdatePodIdentityAssociation
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    * Access Granted eu-west-1/prod-eu apps/app-7 role-7 updated
    ");
}

/// The sample as it is: it says which tags were set.
fn tagged() -> Value {
    sample("role-tagged")
}

#[tokio::test]
async fn an_event_that_iam_does_not_show_yet_waits_for_it() {
    let w = World::new().await;
    w.aws.add_role(Role::named("payments-api").trusting_pods());
    // What it shows meanwhile is nobody's business.
    w.aws.tag_role("payments-api", "podgrant/grant/old", "payments/api@gone nonsense");
    w.aws.freeze_role("payments-api", 1);
    w.aws.untag_role("payments-api", "podgrant/grant/old");
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/api@prod-eu");
    w.aws.tag_role("payments-api", "team", "payments");
    assert_snapshot!(w.reconcile(&tagged()).await, @r#"
    not-yet
    . IAM does not show the tag podgrant/grant as it was set on the role payments-api yet
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: RoleStale { name: "payments-api", news: RoleNews { tags_set: {"podgrant/grant": "payments/api@prod-eu"}, tags_removed: {}, trust_policy: None } }
    "#);
    let later = w.next_message();
    let story = w.reconcile(&later).await;
    assert!(story.starts_with("done\n+ eu-west-1/prod-eu  payments/api"), "{story}");
}

#[tokio::test]
async fn an_untagging_that_iam_does_not_show_yet_withdraws_when_it_does() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.freeze_role("payments-api", 1);
    w.aws.untag_role("payments-api", "podgrant/grant");
    let story = w.reconcile(&sample("role-untagged")).await;
    assert!(story.contains("IAM does not show that the tag podgrant/grant was taken away"), "{story}");
    assert_eq!(w.access(EU, "prod-eu").len(), 1);
    let later = w.next_message();
    w.reconcile(&later).await;
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn a_mended_trust_policy_that_iam_does_not_show_yet_is_not_refused() {
    let w = World::new().await;
    w.aws.add_role(role("payments-api", "payments/api@prod-eu").trust_policy(r#"{"Statement":[]}"#));
    let event = sample("trust-changed");
    w.aws.freeze_role("payments-api", 1);
    let policy = event["detail"]["requestParameters"]["policyDocument"].as_str().unwrap().to_owned();
    w.aws.change_role("payments-api", |role| role.trust_policy = policy);
    let story = w.reconcile(&event).await;
    assert!(story.starts_with("not-yet\n. IAM does not show the trust policy as it was set"), "{story}");
    let later = w.next_message();
    w.reconcile(&later).await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_tag_that_was_changed_again_is_waited_for_a_minute_and_then_is_what_it_is() {
    let w = World::new().await;
    // The event says prod-eu; somebody thought better of it a second later.
    w.aws.add_role(role("payments-api", "payments/other@prod-eu").tag("team", "payments"));
    let mut event = tagged();
    let (mut looks, mut waited) = (1, 0);
    loop {
        let story = w.reconcile(&event).await;
        if !story.starts_with("not-yet") {
            assert!(story.starts_with("done\n+ eu-west-1/prod-eu  payments/other"), "{story}");
            break;
        }
        let delay: i64 = story.split_once("> in ").unwrap().1.split_once(' ').unwrap().0.parse().unwrap();
        (looks, waited) = (looks + 1, waited + delay);
        w.pass(delay);
        event = w.next_message();
    }
    assert_eq!((looks, waited), (5, 5 + 10 + 20 + 40));
}

#[tokio::test]
async fn a_tag_of_somebody_elses_is_not_waited_for() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.aws.tag_role("payments-api", "team", "somebody else");
    let story = w.reconcile(&tagged()).await;
    assert!(story.starts_with("done\n+ eu-west-1/prod-eu  payments/api"), "{story}");
}

#[tokio::test]
async fn whatever_there_is_a_roles_event_costs_what_its_own_places_cost() {
    let w = settled(&[]).await;
    w.aws.add_role(role("mine", "mine/a@eu-west-1/prod-eu mine/b@eu-west-1/second"));
    // Two and three for each place; one for the other region's index, and two for what the role may do.
    assert_snapshot!(w.counted(ReconcileAssociations, &role_tagged("mine")).await, @"
    done
    + eu-west-1/prod-eu  mine/a  role mine  (mine/a@eu-west-1/prod-eu) => done
    + eu-west-1/second  mine/b  role mine  (mine/b@eu-west-1/second) => done
    2 x eks eu-west-1 CreatePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 ListPodIdentityAssociations
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Access Granted eu-west-1/prod-eu mine/a mine created
    * Access Granted eu-west-1/second mine/b mine created
    ");
    assert_snapshot!(w.counted(ReconcileAssociations, &again(role_tagged("mine"))).await, @"
    done
    = 2 unchanged
    2 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 DescribePodIdentityAssociation
    1 x iam us-east-1 GetRole
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    ");
    w.aws.tag_role("mine", "podgrant/session-tags", "off");
    assert_snapshot!(w.counted(ReconcileAssociations, &again(role_tagged("mine"))).await, @"
    done
    ~ eu-west-1/prod-eu  mine/a  role mine  session tags on -> off => done
    ~ eu-west-1/second  mine/b  role mine  session tags on -> off => done
    2 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 DescribePodIdentityAssociation
    2 x eks eu-west-1 TagResource
    2 x eks eu-west-1 UpdatePodIdentityAssociation
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Access Granted eu-west-1/prod-eu mine/a mine updated
    * Access Granted eu-west-1/second mine/b mine updated
    ");
    w.aws.untag_role("mine", "podgrant/grant");
    assert_snapshot!(w.counted(ReconcileAssociations, &role_untagged("mine")).await, @"
    done
    - eu-west-1/prod-eu  mine/a  role mine  (grant withdrawn) => done
    - eu-west-1/second  mine/b  role mine  (grant withdrawn) => done
    2 x eks eu-west-1 DeletePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    4 x eks eu-west-1 DescribePodIdentityAssociation
    1 x events eu-west-1 PutEvents
    3 x iam us-east-1 GetRole
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Access Revoked eu-west-1/prod-eu mine/a mine grant-withdrawn
    * Access Revoked eu-west-1/second mine/b mine grant-withdrawn
    ");
}

#[tokio::test]
async fn a_selector_lists_the_fleet_a_hundred_a_call() {
    let w = World::new().await;
    for number in 0..150 {
        let env = if number == 7 { "prod" } else { "test" };
        w.aws.add_cluster(Cluster::named(format!("cluster-{number}")).tag("env", env));
    }
    w.aws.add_role(role("mine", "mine/a@env=prod"));
    assert_snapshot!(w.counted(ReconcileAssociations, &role_tagged("mine")).await, @"
    done
    + eu-west-1/cluster-7  mine/a  role mine  (mine/a@env=prod) => done
    + eu-west-1/prod-eu  mine/a  role mine  (mine/a@env=prod) => done
    2 x eks eu-west-1 CreatePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 ListPodIdentityAssociations
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    3 x tagging eu-west-1 GetResources
    2 x tagging us-east-1 GetResources
    * Access Granted eu-west-1/cluster-7 mine/a mine created
    * Access Granted eu-west-1/prod-eu mine/a mine created
    ");
}

#[tokio::test]
async fn the_turn_of_a_part_is_nothing_that_is_given_up() {
    let w = World::with(&[("PODGRANT_GIVE_UP_AFTER", "0")]).await;
    w.payments_api("payments/api@prod-eu");
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn a_role_that_can_not_be_read_holds_up_no_other_of_its_cluster() {
    let w = World::new().await;
    w.aws.add_role(role("first", "apps/a@prod-eu"));
    w.aws.add_role(role("second", "apps/b@prod-eu"));
    w.aws.fault(Fault::on("iam", "GetRole").with("RoleName", "first").access_denied());
    let story = w.sweep().await;
    assert!(story.contains("failed: iam:GetRole first"), "{story}");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/b second"]);
}

#[tokio::test]
async fn a_role_that_has_nothing_to_do_with_podgrant_is_not_waited_for() {
    let w = World::new().await;
    w.aws.add_role(Role::named("payments-api").trust_policy(r#"{"Statement":[]}"#));
    let story = w.reconcile(&sample("trust-changed")).await;
    assert!(story.starts_with("done"), "{story}");
}
