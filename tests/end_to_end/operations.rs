//! What operators count on: few calls, no loops, and logs to be read by machines.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use podgrant_tests::local_aws::{FUNCTIONS, HOME};
use serde_json::{Value, json};

use crate::world::{functions_calls, play, role_tagged, same};

#[tokio::test]
async fn podgrants_own_calls_are_few_and_wake_it_no_more() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        podgrant.outcome("Agent Installed", |_| true).await?;
        podgrant.settled().await?;
        let heard = podgrant.copy_events("aws.eks").await?;
        let so_far = functions_calls(account)?;
        // Nothing else that it has heard of so far has it list clusters.
        let by_reconcile = |seen: &Value| seen["principal"].to_string().contains("ReconcileAssociations");
        let warm = so_far.iter().any(|(call, seen)| call == "eks:ListClusters" && by_reconcile(seen));
        ensure!(warm, "reconcile-associations started without its one call");
        let before = so_far.len();

        account.tag_role("payments", "podgrant/grant", "payments/api@prod").await?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &["payments/api = payments"]).await?;
        let calls = functions_calls(account)?.split_off(before);
        let mut counts = BTreeMap::new();
        for (call, seen) in &calls {
            let role = seen["principal"].as_str().unwrap_or_default();
            ensure!(role.contains("ReconcileAssociations"), "another function was at work: {seen}");
            *counts.entry(call.as_str()).or_insert(0) += 1;
        }
        // Whether the function starts anew for it is Lambda's choice; a start makes one call.
        ensure!(counts.remove("eks:ListClusters").unwrap_or(0) <= 1, "more starts than messages");
        // The name is looked for in both regions, and nothing twice.
        let expected = BTreeMap::from([
            ("iam:GetRole", 1),
            ("iam:ListAttachedRolePolicies", 1),
            ("iam:ListRolePolicies", 1),
            ("tagging:GetResources", 2),
            ("eks:DescribeCluster", 2),
            ("eks:ListPodIdentityAssociations", 1),
            ("eks:CreatePodIdentityAssociation", 1),
            ("events:PutEvents", 1),
        ]);
        same("the calls that one tag costs", counts, expected)?;
        // It did hear of its own call, and let it be.
        let echo: Vec<Value> = podgrant
            .receive(&heard)
            .await?
            .iter()
            .map(|body| serde_json::from_str(body))
            .collect::<Result<_, _>>()?;
        let names: Vec<&Value> = echo.iter().map(|event| &event["detail"]["eventName"]).collect();
        same("the echo", names, [&json!("CreatePodIdentityAssociation")])?;
        let issuer = echo[0]["detail"]["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"].as_str();
        ensure!(issuer.is_some_and(|arn| arn.contains(":role/podgrant/")), "{issuer:?}");
        Ok(())
    })
    .await
}

/// Lambda's own lines between those of the function.
fn is_lambdas(line: &str) -> bool {
    ["START RequestId:", "END RequestId:", "REPORT RequestId:", "INIT_START "]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

#[tokio::test]
async fn every_log_line_is_json_and_every_message_has_one_that_tells_its_end() -> Result<()> {
    play(&[("VisibilityTimeout", "2"), ("Watch", "on")], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        podgrant.outcome("Agent Installed", |_| true).await?;
        account.create_role("batch", &[("podgrant/grant", "batch/worker@prod batch/Worker@prod")]).await?;
        podgrant.outcome("Access Granted", |_| true).await?;
        podgrant.sweep().await?;
        podgrant.settled().await?;
        let mut nameless = role_tagged(account, "nameless", "x");
        nameless["detail"]["requestParameters"] = json!({});
        podgrant.invoke("clean-up-orphans", &nameless)?;

        for function in FUNCTIONS {
            let mut ends: Vec<(Value, Value)> = Vec::new();
            let mut measured = 0;
            for line in podgrant.log_lines(function).await?.iter().filter(|line| !is_lambdas(line)) {
                let logged: Value =
                    serde_json::from_str(line).with_context(|| format!("{function}: {line}"))?;
                ensure!(logged.is_object(), "{function}: {line}");
                if let Some(metrics) = logged["_aws"]["CloudWatchMetrics"].as_array() {
                    same("the namespace", &metrics[0]["Namespace"], &json!("podgrant"))?;
                    same("the dimension", &logged["function"], &json!(function))?;
                    measured += 1;
                }
                if logged["message"] != "message" {
                    continue;
                }
                ensure!(logged["message_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
                ensure!(logged["duration_ms"].is_u64(), "{line}");
                ensure!(logged["level"].is_string(), "{line}");
                ends.push((logged["trigger"].clone(), logged["outcome"].clone()));
            }
            same("as many messages as were measured", measured, ends.len())?;
            let swept = ends.iter().any(|(trigger, outcome)| {
                trigger.as_str().is_some_and(|t| t.contains("sweep")) && outcome == "done"
            });
            ensure!(swept, "{function} logged no sweep: {ends:?}");
            match function {
                // It waited for the agent.
                "install-agent" => {
                    ensure!(ends.iter().any(|(_, outcome)| outcome == "not-yet"), "{ends:?}");
                }
                "clean-up-orphans" => {
                    ensure!(ends.iter().any(|(_, outcome)| outcome == "malformed"), "{ends:?}");
                }
                _ => {}
            }
        }
        // Changes and findings name role and cluster.
        let lines = podgrant.log_lines("reconcile-associations").await?;
        let logged: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let find = |message: &str| logged.iter().find(|line| line["message"] == message).cloned();
        let change = find("change").context("no change was logged")?;
        same("the cluster", &change["cluster"], &json!("eu-west-1/prod"))?;
        let arn = format!("arn:aws:iam::{}:role/batch", account.id);
        same("the role", &change["role"], &json!(arn))?;
        same("the outcome", &change["outcome"], &json!("done"))?;
        let finding = find("finding").context("no finding was logged")?;
        same("the role", &finding["role"], &json!(arn))
    })
    .await
}
