//! What roles and clusters leave behind.

use anyhow::{Context, Result, ensure};
use podgrant_tests::local_aws::{HOME, IAM_REGION};
use serde_json::{Value, json};

use crate::world::{play, role_id, same};

#[tokio::test]
async fn a_deleted_roles_associations_go_and_its_namesake_inherits_none() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("neighbour", &[("podgrant/grant", "z/z@prod")]).await?;
        account.create_role("reports", &[("podgrant/grant", "reports/nightly@prod")]).await?;
        let both = ["reports/nightly = reports", "z/z = neighbour"];
        podgrant.expect_associations(HOME, "prod", &both).await?;
        let first = role_id(account, "reports").await?;

        account.delete_role("reports").await?;
        let removed = podgrant.outcome("Orphan Removed", |_| true).await?["detail"].take();
        same("why", &removed["reason"], &json!("role-gone"))?;
        same("whose", &removed["roleId"], &json!(first))?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &both[1..]).await?;

        // A namesake gets what it asks for itself.
        account.create_role("reports", &[("podgrant/grant", "reports/daily@prod")]).await?;
        podgrant.expect_associations(HOME, "prod", &["reports/daily = reports", "z/z = neighbour"]).await?;
        let second = role_id(account, "reports").await?;
        ensure!(first != second, "the local AWS gave both roles one id");
        let seen = account.associations(HOME, "prod").await?;
        same("the id in the mark", seen[0].tags.get("podgrant/role-id"), Some(&second))?;

        // Deleted and made again with nobody looking: only the id tells.
        podgrant.settled().await?;
        podgrant.forward(IAM_REGION, false).await?;
        account.delete_role("reports").await?;
        account.create_role("reports", &[]).await?;
        podgrant.sweep().await?;
        let removed = podgrant.outcome("Orphan Removed", |d| d["serviceAccount"] == "daily").await?;
        same("why", &removed["detail"]["reason"], &json!("role-replaced"))?;
        same("whose", &removed["detail"]["roleId"], &json!(second))?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &both[1..]).await
    })
    .await
}

#[tokio::test]
async fn a_role_whose_only_cluster_is_deleted_is_reported_and_kept() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_cluster(HOME, "old", &[]).await?;
        account.create_role("only-old", &[("podgrant/grant", "a/only@old")]).await?;
        account.create_role("both", &[("podgrant/grant", "a/both@old a/both@prod")]).await?;
        account.create_role("by-tag", &[("podgrant/grant", "a/tag@env=test")]).await?;
        account.create_role("early", &[("podgrant/grant", "a/early@not-yet-made")]).await?;
        podgrant.expect_associations(HOME, "old", &["a/both = both", "a/only = only-old"]).await?;
        podgrant.expect_associations(HOME, "prod", &["a/both = both"]).await?;

        account.delete_cluster(HOME, "old").await?;
        let found = podgrant.outcome("Orphan Found", |_| true).await?["detail"].take();
        let reason = found["reason"].as_str().context("no reason")?;
        ensure!(reason.contains("(old)"), "{reason}");
        podgrant.settled().await?;
        let roles: Vec<Value> =
            podgrant.told("Orphan Found").await?.iter().map(|found| found["roleArn"].clone()).collect();
        let arn = format!("arn:aws:iam::{}:role/only-old", account.id);
        same("the orphans", roles, [json!(arn)])?;
        role_id(account, "only-old").await.context("the orphan was deleted")?;
        podgrant.expect_associations(HOME, "prod", &["a/both = both"]).await
    })
    .await
}
