//! What roles and clusters leave behind.

use anyhow::{Context, Result, ensure};
use podgrant_tests::local_aws::{Deployment, HOME, IAM_REGION, LIMIT, wait_for};
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

/// Sweeps until an event of this kind was told of a role.
async fn sweep_until(podgrant: &Deployment, detail_type: &str, role: &str) -> Result<Value> {
    let of_role =
        |told: &Value| told["roleArn"].as_str().is_some_and(|arn| arn.ends_with(&format!("/{role}")));
    wait_for(&format!("{detail_type} of {role}"), LIMIT, async || {
        podgrant.sweep().await?;
        podgrant.settled().await?;
        Ok(podgrant.told(detail_type).await?.into_iter().find(of_role))
    })
    .await
}

const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
const INLINE: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

#[tokio::test]
async fn a_role_that_asks_goes_after_its_grace_period_and_can_be_made_again() -> Result<()> {
    let parameters = [("DeleteRoles", "on"), ("OrphanGrace", "4"), ("DriftRounds", "1")];
    play(&parameters, async |podgrant| {
        let account = &podgrant.account;
        let iam = account.iam();
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_cluster(HOME, "old", &[]).await?;
        let asking = ("podgrant/on-orphan", "delete");
        account.create_role("held", &[("podgrant/grant", "a/held@old"), asking]).await?;
        account.create_role("silent", &[("podgrant/grant", "a/silent@old")]).await?;
        account.create_role("living", &[("podgrant/grant", "a/living@prod"), asking]).await?;
        // Made last: young roles are left alone, and when this one is old enough, all are.
        account.create_role("going", &[("podgrant/grant", "a/going@old"), asking]).await?;
        iam.attach_role_policy().role_name("going").policy_arn(READ_ONLY).send().await?;
        iam.put_role_policy().role_name("going").policy_name("read").policy_document(INLINE).send().await?;
        let going = iam.get_role().role_name("going").send().await?.role.context("no role")?;
        podgrant
            .expect_associations(HOME, "old", &["a/going = going", "a/held = held", "a/silent = silent"])
            .await?;
        podgrant.expect_associations(HOME, "prod", &["a/living = living"]).await?;
        account.associate(HOME, "prod", ("by-hand", "held"), "held").await?;

        account.delete_cluster(HOME, "old").await?;
        let marked = sweep_until(podgrant, "Orphan Marked", "going").await?;
        same("the id in the mark", &marked["roleId"], &json!(going.role_id))?;
        let tags = iam.list_role_tags().role_name("going").send().await?.tags;
        ensure!(tags.iter().any(|tag| tag.key == "podgrant/orphaned-since"), "{tags:?}");
        let report = podgrant.told("Orphan Report").await?.pop().context("no report")?;
        let standing = |role: &str| {
            let mut roles = report["roles"].as_array().into_iter().flatten();
            roles.find(|told| told["roleArn"].as_str().is_some_and(|arn| arn.ends_with(role))).cloned()
        };
        same("who is held", &standing("/held").context("not told")?["standing"], &json!("kept"))?;
        same("who is silent", &standing("/silent").context("not told")?["standing"], &json!("reported"))?;

        let deleted = sweep_until(podgrant, "Role Deleted", "going").await?;
        let gone = iam.get_role().role_name("going").send().await.err().context("the role is still there")?;
        ensure!(gone.as_service_error().is_some_and(|error| error.is_no_such_entity_exception()), "{gone:?}");
        same(
            "what was told before and after",
            podgrant.told("Role Deletion Begun").await?.first(),
            Some(&deleted),
        )?;
        for other in ["held", "silent", "living"] {
            role_id(account, other).await.with_context(|| format!("{other} is gone"))?;
        }
        podgrant.expect_associations(HOME, "prod", &["a/living = living", "by-hand/held = held"]).await?;

        // Made again from what its event says, as README tells.
        let text = |part: &str| deleted[part].as_str().map(str::to_owned);
        iam.create_role()
            .role_name("going")
            .set_path(text("path"))
            .set_assume_role_policy_document(text("trustPolicy"))
            .send()
            .await?;
        for policy in deleted["attachedPolicies"].as_array().into_iter().flatten() {
            let arn = policy.as_str().unwrap_or_default();
            iam.attach_role_policy().role_name("going").policy_arn(arn).send().await?;
        }
        for (name, document) in deleted["inlinePolicies"].as_object().into_iter().flatten() {
            let document = document.as_str().unwrap_or_default();
            iam.put_role_policy()
                .role_name("going")
                .policy_name(name)
                .policy_document(document)
                .send()
                .await?;
        }
        let again = iam.get_role().role_name("going").send().await?.role.context("no role")?;
        same("the trust policy", again.assume_role_policy_document, going.assume_role_policy_document)?;
        let attached = iam.list_attached_role_policies().role_name("going").send().await?;
        let attached: Vec<Option<&str>> =
            attached.attached_policies().iter().map(|p| p.policy_arn()).collect();
        same("what is attached", attached, [Some(READ_ONLY)])?;
        let inline = iam.get_role_policy().role_name("going").policy_name("read").send().await?;
        same("the inline policy", percent_decoded(&inline.policy_document), INLINE.to_owned())
    })
    .await
}

fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[tokio::test]
async fn a_cluster_made_again_within_the_grace_period_spares_its_role() -> Result<()> {
    play(&[("DeleteRoles", "on"), ("OrphanGrace", "2"), ("DriftRounds", "1")], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "old", &[]).await?;
        let asking = ("podgrant/on-orphan", "delete");
        account.create_role("spared", &[("podgrant/grant", "a/spared@old"), asking]).await?;
        podgrant.expect_associations(HOME, "old", &["a/spared = spared"]).await?;
        let first = role_id(account, "spared").await?;
        account.delete_cluster(HOME, "old").await?;
        sweep_until(podgrant, "Orphan Marked", "spared").await?;
        account.create_cluster(HOME, "old", &[]).await?;
        let unmarked = sweep_until(podgrant, "Orphan Unmarked", "spared").await?;
        let reason = unmarked["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(&format!("cluster {HOME}/old is there")), "{reason}");
        podgrant.expect_associations(HOME, "old", &["a/spared = spared"]).await?;
        same("who it is", role_id(account, "spared").await?, first)
    })
    .await
}
