//! Messages that come twice, too early, or broken.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use podgrant_tests::local_aws::{HOME, IAM_REGION, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

use crate::world::{functions_calls, play, role_tagged, same, workloads};

const RECONCILE: &str = "reconcile-associations";

#[tokio::test]
async fn the_same_event_again_and_again_and_at_once_makes_one_association() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        let copies = podgrant.copy_events("aws.iam").await?;
        account.tag_role("payments", "podgrant/grant", "payments/api@prod").await?;
        let body = wait_for("the event", Duration::from_secs(60), || async {
            Ok(podgrant.receive(&copies).await?.pop())
        })
        .await?;
        podgrant.outcome("Access Granted", |_| true).await?;
        podgrant.settled().await?;
        let first = account.associations(HOME, "prod").await?;
        same("associations", first.len(), 1)?;

        // Late, and twice.
        podgrant.send(RECONCILE, &[body.clone(), body.clone()]).await?;
        podgrant.settled().await?;
        same("associations after the same event", &account.associations(HOME, "prod").await?, &first)?;
        same("grants told", podgrant.told("Access Granted").await?.len(), 1)?;

        // At once, with the work to be done anew and nobody else to do it.
        podgrant.forward(HOME, false).await?;
        let eks = account.eks(HOME);
        let gone = &first[0].id;
        eks.delete_pod_identity_association().cluster_name("prod").association_id(gone).send().await?;
        let mut other: Value = serde_json::from_str(&body)?;
        other["id"] = json!("another-event-about-the-same-role");
        let bodies: Vec<String> = [body, other.to_string()].into_iter().cycle().take(10).collect();
        // Five batches, each of them full: as many as may run side by side.
        let sends = (0..5).map(|_| podgrant.send(RECONCILE, &bodies));
        for sent in sends {
            sent.await?;
        }
        podgrant.settled().await?;
        let seen = account.associations(HOME, "prod").await?;
        same("associations after fifty events", seen.len(), 1)?;
        let ids: BTreeSet<String> =
            podgrant.told("Access Granted").await?.iter().map(|d| d["associationId"].to_string()).collect();
        let expected = [gone, &seen[0].id].map(|id| json!(id).to_string());
        same("the ids told", ids, BTreeSet::from(expected))?;
        podgrant.forward(HOME, true).await
    })
    .await
}

#[tokio::test]
async fn a_poison_message_becomes_a_dead_letter_and_its_batch_mates_are_done() -> Result<()> {
    play(&[("VisibilityTimeout", "2")], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        podgrant.outcome("Agent Installed", |_| true).await?;
        podgrant.settled().await?;
        // Their own events stay away: what is done, the messages below asked for.
        podgrant.forward(IAM_REGION, false).await?;
        account.create_role("direct", &[("podgrant/grant", "a/direct@prod")]).await?;
        account.create_role("queued", &[("podgrant/grant", "a/queued@prod")]).await?;
        let mut nameless = role_tagged(account, "nameless", "x");
        nameless["detail"]["requestParameters"] = json!({"roleName": null});
        let poison = ["{\"not\": \"JSON\"".to_owned(), nameless.to_string()];

        // One batch, as Lambda hands it over.
        let good = role_tagged(account, "good-direct", "direct").to_string();
        let record = |id: &str, body: &str| json!({"messageId": id, "body": body, "eventSource": "aws:sqs"});
        let batch = json!({"Records": [
            record("m-1", &poison[0]), record("m-2", &good), record("m-3", &poison[1]),
        ]});
        let answer = podgrant.invoke(RECONCILE, &batch)?;
        let failures = json!([{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-3"}]);
        same("the failures", &answer["batchItemFailures"], &failures)?;
        podgrant.expect_associations(HOME, "prod", &["a/direct = direct"]).await?;

        // And by the queue, to the end.
        let good = role_tagged(account, "good-queued", "queued").to_string();
        podgrant.send(RECONCILE, &[poison[0].clone(), good, poison[1].clone()]).await?;
        podgrant.outcome("Access Granted", |d| d["serviceAccount"] == "queued").await?;
        let dead_letters = podgrant.queue(RECONCILE, true)?;
        wait_for("two dead letters", Duration::from_secs(60), || async {
            Ok((podgrant.waiting(dead_letters).await? == 2).then_some(()))
        })
        .await?;
        podgrant.settled().await?;
        let dead: BTreeSet<String> = podgrant.receive(dead_letters).await?.into_iter().collect();
        same("the dead letters", dead, BTreeSet::from(poison))?;
        let granted = podgrant.told("Access Granted").await?;
        same("the granted", workloads(&granted), ["a/direct", "a/queued"])
    })
    .await
}

#[tokio::test]
async fn throttled_beyond_the_sdks_attempts_a_grant_is_made_in_the_end() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        podgrant.settled().await?;
        account.fault(json!({
            "service": "eks", "operation": "CreatePodIdentityAssociation", "status": 429,
            "code": "ThrottlingException", "message": "Rate exceeded", "times": 7,
        }))?;
        let copies = podgrant.copy_events("aws.iam").await?;
        account.tag_role("payments", "podgrant/grant", "payments/api@prod").await?;
        let mut granted = podgrant.outcome("Access Granted", |_| true).await?["detail"].take();
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &["payments/api = payments"]).await?;

        let attempts: Vec<Value> = functions_calls(account)?
            .into_iter()
            .filter(|(call, _)| call == "eks:CreatePodIdentityAssociation")
            .map(|(_, mut call)| call["errorCode"].take())
            .collect();
        let mut expected = vec![json!("ThrottlingException"); 7];
        expected.push(Value::Null);
        same("the attempts", attempts, expected)?;
        // Put off twice, it still answers the event that it began with.
        let event: Value = serde_json::from_str(&podgrant.receive(&copies).await?.pop().context("no event")?)?;
        let cause = json!({"id": event["id"], "time": event["time"], "askedBy": event["detail"]["userIdentity"]["arn"]});
        same("the cause", granted["cause"].take(), cause)
    })
    .await
}

#[tokio::test]
async fn a_dead_letter_sent_back_once_its_cause_is_mended_is_done() -> Result<()> {
    play(&[("VisibilityTimeout", "2")], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        podgrant.outcome("Agent Installed", |_| true).await?;
        podgrant.settled().await?;
        account.fault(json!({
            "service": "iam", "operation": "GetRole", "status": 403,
            "code": "AccessDenied", "message": "not authorized", "times": 3,
        }))?;
        account.tag_role("payments", "podgrant/grant", "payments/api@prod").await?;
        let dead_letters = podgrant.queue(RECONCILE, true)?;
        wait_for("a dead letter", Duration::from_secs(60), || async {
            Ok((podgrant.waiting(dead_letters).await? == 1).then_some(()))
        })
        .await?;
        podgrant.expect_associations(HOME, "prod", &[]).await?;
        // What `aws sqs start-message-move-task` does, which the local AWS does not know.
        let bodies = podgrant.receive(dead_letters).await?;
        podgrant.send(RECONCILE, &bodies).await?;
        podgrant.expect_associations(HOME, "prod", &["payments/api = payments"]).await
    })
    .await
}
