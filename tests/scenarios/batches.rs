//! What Lambda hands over and gets back: batches, bare events, dry runs, deadlines.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use insta::assert_snapshot;
use podgrant_runtime::Function::{self, CleanUpOrphans, InstallAgent, ReconcileAssociations};
use podgrant_runtime::{Metrics, batch};
use podgrant_tests::fake::{ANY, Fault, Gate};
use serde_json::{Value, json};

use crate::world::{EU, World, role, role_deleted, role_tagged, role_untagged, sample, sweep};

/// A batch of messages with these bodies; the first one's id is `m-1`.
fn batch_of(bodies: &[&str]) -> Value {
    let record = |(index, body): (usize, &&str)| json!({"messageId": format!("m-{}", index + 1), "receiptHandle": "r", "body": body, "eventSource": "aws:sqs"});
    json!({ "Records": bodies.iter().enumerate().map(record).collect::<Value>() })
}

async fn answer(w: &World, function: Function, payload: Value) -> Value {
    batch::answer(&w.flow(function), payload, w.deadline()).await.unwrap()
}

fn failures(ids: &[&str]) -> Value {
    let failed: Value = ids.iter().map(|id| json!({"itemIdentifier": id})).collect();
    json!({ "batchItemFailures": failed })
}

#[tokio::test]
async fn of_three_messages_the_poison_and_the_malformed_fail_and_the_good_one_is_done() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    let malformed = sample("hostile-role-name-missing").to_string();
    let good = role_tagged("payments-api").to_string();
    let answered = answer(&w, ReconcileAssociations, batch_of(&["poison", &malformed, &good])).await;
    assert_eq!(answered, failures(&["m-1", "m-2"]));
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api payments-api"]);
}

#[tokio::test]
async fn each_message_is_measured_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut w = World::with(&[("PODGRANT_MAX_DELETIONS", "0")]).await;
    w.given(role("leaving", "apps/leaving@prod-eu")).await;
    w.aws.untag_role("leaving", "podgrant/grant");
    w.payments_api("payments/api@prod-eu payments/Api@prod-eu");
    w.aws.fault(Fault::on("iam", "GetRole").with("RoleName", "throttled").throttle());
    let into = Arc::clone(&told);
    w.metrics = Metrics::from_fn(move |line| into.lock().unwrap().push(line.to_owned()));
    let events = ["payments-api", "leaving", "throttled"].map(|name| role_tagged(name).to_string());
    let bodies = [&*events[0], &events[1], &events[2], "poison"];
    answer(&w, ReconcileAssociations, batch_of(&bodies)).await;
    answer(&w, ReconcileAssociations, sweep()).await;
    let lines: Vec<Value> =
        told.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers = |line: &Value| {
        let numbers =
            line.as_object().unwrap().iter().filter(|(name, _)| *name != "_aws" && *name != "function");
        numbers.map(|(name, number)| format!("{name}={number}")).collect::<Vec<_>>().join(" ")
    };
    let numbers: Vec<String> = lines.iter().map(numbers).collect();
    assert_snapshot!(numbers.join("\n"), @"
    Changes=1 Refusals=1
    Withheld=1
    NotYet=1 Throttled=1
    Failures=1
    Refusals=1 SweepsCompleted=1 Withheld=1
    ");
    assert!(lines.iter().all(|line| line["function"] == "reconcile-associations"));
}

#[tokio::test]
async fn one_message_that_fails_stops_none_of_its_batch() {
    let w = World::new().await;
    for name in ["first", "second", "third"] {
        w.aws.add_role(role(name, &format!("apps/{name}@prod-eu")));
    }
    w.aws.fault(Fault::on("iam", "GetRole").with("RoleName", "second").access_denied());
    let bodies = ["first", "second", "third"].map(|name| role_tagged(name).to_string());
    let answered = answer(&w, ReconcileAssociations, batch_of(&[&bodies[0], &bodies[1], &bodies[2]])).await;
    assert_eq!(answered, failures(&["m-2"]));
    assert_eq!(w.access(EU, "prod-eu"), ["apps/first first", "apps/third third"]);
}

#[tokio::test]
async fn what_is_anothers_business_is_acknowledged_without_a_call() {
    let w = World::new().await;
    let bodies =
        ["unknown-call", "unknown-source", "role-tagged-failed"].map(|name| sample(name).to_string());
    let bodies = [&*bodies[0], &*bodies[1], &*bodies[2]];
    for function in [InstallAgent, ReconcileAssociations, CleanUpOrphans] {
        assert_eq!(answer(&w, function, batch_of(&bodies)).await, failures(&[]));
    }
    // Its own kinds go to each function; a rule too wide does no harm.
    for (function, event) in [
        (InstallAgent, role_tagged("payments-api")),
        (ReconcileAssociations, role_deleted("payments-api")),
        (CleanUpOrphans, sample("cluster-created")),
    ] {
        assert_eq!(answer(&w, function, batch_of(&[&event.to_string()])).await, failures(&[]));
    }
    assert_snapshot!(w.aws.calls(), @"");
}

#[tokio::test]
async fn a_bare_event_is_answered_with_the_report() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu payments/worker");
    let report = answer(&w, ReconcileAssociations, role_tagged("payments-api")).await;
    assert_snapshot!(format!("{report:#}"), @r#"
    {
      "changes": [
        {
          "change": "+ eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu)",
          "verdict": "done"
        }
      ],
      "dryRun": false,
      "durationMs": 0,
      "ending": "done",
      "findings": [
        {
          "kind": "bad-tag",
          "reason": "tag podgrant/grant: column 37: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing",
          "role": "arn:aws:iam::111122223333:role/payments-api"
        }
      ],
      "function": "reconcile-associations",
      "id": "00000028-1111-4222-8333-00000004d558",
      "trigger": {
        "kind": "role-changed",
        "role": {
          "account": "111122223333",
          "name": "payments-api"
        }
      },
      "unchanged": 0,
      "waiting": []
    }
    "#);
}

#[tokio::test]
async fn a_bare_event_that_has_to_wait_says_so_and_queues_nothing() {
    let w = World::new().await;
    let report = answer(&w, ReconcileAssociations, role_tagged("payments-api")).await;
    assert_eq!(report["ending"], "not-yet");
    assert_eq!(report["waiting"], json!(["IAM does not show the role payments-api yet, or no longer"]));
    assert!(w.aws.messages().is_empty());
}

#[tokio::test]
async fn a_bare_event_that_makes_no_sense_is_answered_with_why() {
    let w = World::new().await;
    let report = answer(&w, ReconcileAssociations, json!({})).await;
    assert_eq!((&report["ending"], &report["id"]), (&json!("malformed"), &json!("direct invoke")));
    assert_snapshot!(report["reason"].as_str().unwrap(), @r#"event: at "/source": expected an EventBridge event's source, such as aws.iam, found nothing"#);
}

#[tokio::test]
async fn a_dry_run_plans_and_writes_nothing() {
    let w = World::with(&[("PODGRANT_DRY_RUN", "on")]).await;
    w.payments_api("payments/api@prod-eu payments/worker");
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role payments-api  (payments/api@prod-eu) => planned
    ! bad tag: role payments-api: tag podgrant/grant: column 37: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    ");
    assert_snapshot!(w.install_agent(&sample("cluster-created")).await, @"
    done
    > eu-west-1/prod-eu  ready for grants => planned
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => planned
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    ");
    // Not even a message for later.
    w.aws.set_cluster_status(EU, "prod-eu", "CREATING");
    assert_snapshot!(w.install_agent(&sample("cluster-created")).await, @"
    not-yet
    . cluster eu-west-1/prod-eu is CREATING
    eks eu-west-1 DescribeCluster prod-eu
    ");
}

#[tokio::test]
async fn when_time_is_up_nothing_is_applied_and_all_comes_back() {
    let mut w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/worker@prod-eu");
    w.time_left = 10;
    assert_snapshot!(w.reconcile(&role_untagged("payments-api")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  payments/worker  role payments-api  (payments/worker@prod-eu) => unbegun
    - eu-west-1/prod-eu  payments/api  role payments-api  (grant withdrawn) => unbegun
    . the invocation's time was up
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/worker
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "payments-api" }
    "#);
    w.time_left = 60;
    let message = w.next_message();
    w.reconcile(&message).await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/worker payments-api"]);
}

#[tokio::test]
async fn what_is_done_when_time_runs_out_is_done_and_the_rest_comes_back() {
    let w = World::new().await;
    for number in 1..=8 {
        w.aws.add_role(role(&format!("role-{number}"), &format!("apps/app-{number}@prod-eu")));
    }
    w.reconcile(&sweep()).await;
    let event = w.next_message();
    // Six calls run side by side; while they are held up, time passes.
    let gate = Gate::closed();
    w.aws.fault(Fault::on("eks", "CreatePodIdentityAssociation").first(6).wait_for(&gate));
    let time_passes = async {
        gate.reached_by(6).await;
        w.pass(55);
        gate.open();
    };
    // The deadline is that of the invocation's beginning.
    let flow = w.flow(ReconcileAssociations);
    let deadline = w.deadline();
    let (answered, ()) =
        tokio::join!(batch::answer(&flow, batch_of(&[&event.to_string()]), deadline), time_passes);
    assert_eq!(answered.unwrap(), failures(&[]));
    assert_eq!((w.access(EU, "prod-eu").len(), w.aws.messages().len()), (6, 1));
    // One message goes on where this one ended, with the roles that it had.
    let rest: Value = serde_json::from_str(&w.aws.messages()[0].body).unwrap();
    let part = &rest["detail"]["followUp"];
    assert_eq!((&part["kind"], &part["from"]["service_account"]), (&json!("cluster-sweep"), &json!("app-7")));
    w.forget();
    assert_snapshot!(w.counted(ReconcileAssociations, &rest).await, @"
    done
    + eu-west-1/prod-eu  apps/app-7  role role-7  (apps/app-7@prod-eu) => done
    + eu-west-1/prod-eu  apps/app-8  role role-8  (apps/app-8@prod-eu) => done
    2 x eks eu-west-1 CreatePodIdentityAssociation
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 DescribeCluster -> ResourceNotFoundException
    1 x events eu-west-1 PutEvents
    2 x iam us-east-1 GetRole
    2 x iam us-east-1 ListAttachedRolePolicies
    2 x iam us-east-1 ListRolePolicies
    1 x tagging eu-west-1 GetResources
    * Access Granted eu-west-1/prod-eu apps/app-7 role-7 created
    * Access Granted eu-west-1/prod-eu apps/app-8 role-8 created
    ");
    assert_eq!(w.access(EU, "prod-eu").len(), 8);
}

#[tokio::test]
async fn work_that_the_queue_does_not_take_keeps_its_message() {
    let event = role_tagged("payments-api").to_string();
    for fault in [
        Fault::on("sqs", "SendMessageBatch").access_denied(),
        Fault::on("sqs", "SendMessageBatch").fail_entries(1, "InternalError"),
    ] {
        let w = World::new().await;
        w.aws.fault(fault);
        assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&event])).await, failures(&["m-1"]));
        assert_eq!(w.aws.calls().count("SendMessageBatch"), 1);
        // Delivered again, it defers the very same message.
        w.aws.clear_faults();
        assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&event])).await, failures(&[]));
        assert_eq!(w.aws.messages().len(), 1);
    }
}

#[tokio::test]
async fn a_function_without_a_queue_fails_what_it_can_not_put_off() {
    let w = World::with(&[("PODGRANT_QUEUE_URL", "")]).await;
    assert_snapshot!(w.reconcile(&role_tagged("payments-api")).await, @"
    failed: work is left for later, and PODGRANT_QUEUE_URL names no queue for it
    . IAM does not show the role payments-api yet, or no longer
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    ");
}

#[tokio::test]
async fn a_redelivery_defers_the_same_message() {
    let w = World::new().await;
    let event = batch_of(&[&role_tagged("payments-api").to_string()]);
    for _ in 0..2 {
        answer(&w, ReconcileAssociations, event.clone()).await;
    }
    let messages = w.aws.messages();
    assert_eq!(messages[0].body, messages[1].body);
}

#[tokio::test]
async fn a_message_with_no_time_left_is_not_begun_and_goes_back() {
    let mut w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.time_left = 14;
    let body = role_tagged("payments-api").to_string();
    assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&body])).await, failures(&["m-1"]));
    assert_eq!(w.aws.calls().iter().count(), 0);
}

#[tokio::test]
async fn a_part_of_a_sweep_with_no_time_left_goes_back_as_it_came() {
    let mut w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    w.time_left = 14;
    assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&part.to_string()])).await, failures(&[]));
    let back: Value = serde_json::from_str(&w.aws.messages()[0].body).unwrap();
    assert_eq!((w.aws.calls().iter().count(), &back["detail"]["followUp"]), (1, &part["detail"]["followUp"]));
    assert_eq!(back["detail"]["attempt"], part["detail"]["attempt"]);
    // A queue that does not take it keeps its message.
    w.aws.fault(Fault::on("sqs", "SendMessageBatch").access_denied());
    assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&part.to_string()])).await, failures(&["m-1"]));
}

#[tokio::test]
async fn a_part_of_a_sweep_begins_in_the_first_two_thirds_of_an_invocation() {
    for (passed, begins) in [(39, true), (41, false)] {
        let w = World::new().await;
        w.given(role("payments-api", "payments/api@prod-eu")).await;
        w.reconcile(&sweep()).await;
        let part = w.next_message().to_string();
        // The first takes so long.
        let gate = Gate::closed();
        w.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").first(1).wait_for(&gate));
        let time_passes = async {
            gate.reached_by(1).await;
            w.pass(passed);
            gate.open();
        };
        let (flow, deadline) = (w.flow(ReconcileAssociations), w.deadline());
        let batch = batch_of(&[&part, &part]);
        let (answered, ()) = tokio::join!(batch::answer(&flow, batch, deadline), time_passes);
        assert_eq!(answered.unwrap(), failures(&[]), "{passed}");
        let served = w.aws.calls().count("GetResources");
        assert_eq!(
            (served, w.aws.messages().len()),
            (1 + usize::from(begins), usize::from(!begins)),
            "{passed}"
        );
    }
}

/// What comes of a message that is still being served when the invocation's time is up.
async fn held_up(w: &World, event: &Value) -> Value {
    let gate = Gate::closed();
    w.aws.fault(Fault::on("eks", ANY).wait_for(&gate));
    let limit = Duration::from_secs(w.time_left.unsigned_abs());
    let time_passes = async {
        gate.reached_by(1).await;
        tokio::time::pause();
        tokio::time::advance(limit).await;
        tokio::time::resume();
    };
    // Three seconds are kept for the answer.
    let (flow, deadline) = (w.flow(ReconcileAssociations), w.deadline() + 3_000);
    let batch = batch_of(&[&event.to_string()]);
    let (answered, ()) = tokio::join!(batch::answer(&flow, batch, deadline), time_passes);
    gate.open();
    w.aws.clear_faults();
    answered.unwrap()
}

#[tokio::test]
async fn a_part_of_a_sweep_whose_time_is_up_comes_back_at_once_until_it_is_given_up() {
    let w = World::with(&[("PODGRANT_GIVE_UP_AFTER", "600")]).await;
    w.payments_api("payments/api@prod-eu");
    w.reconcile(&sweep()).await;
    let part = w.next_message();
    assert_eq!(held_up(&w, &part).await, failures(&[]));
    let back: Value = serde_json::from_str(&w.aws.messages()[0].body).unwrap();
    assert_eq!(
        (&back["detail"]["followUp"], &back["detail"]["attempt"]),
        (&part["detail"]["followUp"], &part["detail"]["attempt"])
    );
    // All else is delivered again by the queue.
    assert_eq!(held_up(&w, &role_tagged("payments-api")).await, failures(&["m-1"]));
    // What never comes to its end is for the dead letters.
    w.pass(600);
    assert_eq!(held_up(&w, &part).await, failures(&["m-1"]));
    assert_eq!(w.aws.messages().len(), 1);
}

#[tokio::test]
async fn a_sweep_is_served_after_the_events_of_its_batch() {
    let w = World::new().await;
    w.payments_api("payments/api@prod-eu");
    let bodies = [sweep(), role_tagged("payments-api")].map(|event| event.to_string());
    assert_eq!(answer(&w, ReconcileAssociations, batch_of(&[&bodies[0], &bodies[1]])).await, failures(&[]));
    let calls = w.aws.calls();
    let first = |operation: &str| calls.iter().position(|call| call.operation == operation).unwrap();
    assert!(first("CreatePodIdentityAssociation") < first("GetAccountAuthorizationDetails"));
}

#[tokio::test]
async fn a_role_that_never_shows_is_dropped_after_a_while_and_is_no_news() {
    let w = World::with(&[("PODGRANT_GIVE_UP_AFTER", "30")]).await;
    w.reconcile(&role_tagged("payments-api")).await;
    w.pass(30);
    let message = w.next_message();
    assert_snapshot!(w.reconcile(&message).await, @"
    done: IAM does not show the role payments-api yet, or no longer
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    iam us-east-1 GetRole payments-api -> 404 NoSuchEntity
    ");
}

#[tokio::test]
async fn neither_batch_nor_event_is_an_error() {
    let w = World::new().await;
    let payload = json!({"Records": "none"});
    let error = batch::answer(&w.flow(InstallAgent), payload, w.deadline()).await.unwrap_err();
    assert!(error.to_string().contains("invalid type"), "{error}");
}
