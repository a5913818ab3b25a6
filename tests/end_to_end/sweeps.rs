//! Events make podgrant fast; the sweep makes it right.

use anyhow::{Context, Result};
use podgrant_tests::local_aws::{HOME, IAM_REGION};
use serde_json::Value;

use crate::world::{play, same, workloads};

#[tokio::test]
async fn the_schedule_wakes_all_three_functions_to_mend_what_no_event_told() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        for role in ["gone", "lost", "moved"] {
            account.create_role(role, &[("podgrant/grant", &format!("a/{role}@prod"))]).await?;
        }
        let before = ["a/gone = gone", "a/lost = lost", "a/moved = moved"];
        podgrant.expect_associations(HOME, "prod", &before).await?;
        podgrant.settled().await?;
        let seen = account.associations(HOME, "prod").await?;

        for region in [HOME, IAM_REGION] {
            podgrant.forward(region, false).await?;
        }
        let told = podgrant.outcomes().await?.len();
        account.create_role("late", &[("podgrant/grant", "a/late@prod a/late@new")]).await?;
        account.tag_role("moved", "podgrant/grant", "b/moved@prod").await?;
        account.delete_role("gone").await?;
        let eks = account.eks(HOME);
        eks.delete_pod_identity_association().cluster_name("prod").association_id(&seen[1].id).send().await?;
        account.create_cluster(IAM_REGION, "new", &[]).await?;
        podgrant.settled().await?;
        same("events while nothing was heard", podgrant.outcomes().await?.len(), told)?;
        podgrant.expect_associations(HOME, "prod", &["a/gone = gone", "a/moved = moved"]).await?;
        same("the new cluster's agent", account.agent(IAM_REGION, "new").await?, None)?;

        podgrant.sweep().await?;
        podgrant.outcome("Agent Installed", |d| d["cluster"]["name"] == "new").await?;
        podgrant.outcome("Orphan Removed", |d| d["serviceAccount"] == "gone").await?;
        podgrant
            .expect_associations(HOME, "prod", &["a/late = late", "a/lost = lost", "b/moved = moved"])
            .await?;
        podgrant.expect_associations(IAM_REGION, "new", &["a/late = late"]).await?;
        podgrant.settled().await?;
        let agent = account.agent(IAM_REGION, "new").await?.context("no agent")?;
        same("the new cluster's agent", agent.0.as_str(), "ACTIVE")?;
        same("the revoked", workloads(&podgrant.told("Access Revoked").await?), ["a/moved"])?;
        // Nobody asked for it.
        for event in &podgrant.outcomes().await?[told..] {
            same("who asked", &event["detail"]["cause"]["askedBy"], &Value::Null)?;
        }

        // Once more, and there is nothing to do.
        let told = podgrant.outcomes().await?.len();
        podgrant.sweep().await?;
        podgrant.settled().await?;
        same("events of a second sweep", podgrant.outcomes().await?.len(), told)
    })
    .await
}
