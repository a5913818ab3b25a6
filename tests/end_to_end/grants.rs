//! What a role's tags ask for, and what becomes of it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use podgrant_tests::local_aws::HOME;
use serde_json::json;

use crate::world::{play, role_id, same, workloads};

#[tokio::test]
async fn a_tagged_role_gets_an_association_marked_and_in_the_name_of_who_asked() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &[]).await?;

        account.tag_role("payments", "podgrant/grant/live", "payments/api@prod").await?;
        let granted = podgrant.outcome("Access Granted", |_| true).await?["detail"].take();
        let seen = account.associations(HOME, "prod").await?;
        let [association] = seen.as_slice() else { anyhow::bail!("expected one: {seen:?}") };
        same("the association", association.line().as_str(), "payments/api = payments")?;

        let arn = format!("arn:aws:iam::{}:role/payments", account.id);
        let id = role_id(account, "payments").await?;
        let mark = BTreeMap::from(
            [
                ("managed", "v1"),
                ("role", &arn),
                ("role-name", "payments"),
                ("role-id", &id),
                ("cluster", "eu-west-1/prod"),
                ("subject", "payments/api@prod"),
                ("label", "live"),
                ("session-tags", "on"),
                ("target-role", ""),
            ]
            .map(|(key, value)| (format!("podgrant/{key}"), value.to_owned())),
        );
        same("the mark", &association.tags, &mark)?;

        let who = format!("arn:aws:iam::{}:root", account.id);
        same("who asked", &granted["cause"]["askedBy"], &json!(who))?;
        let mut without_cause = granted;
        without_cause.as_object_mut().context("no object")?.remove("cause");
        same(
            "the event",
            without_cause,
            json!({
                "action": "created", "cluster": {"region": HOME, "name": "prod"}, "namespace": "payments",
                "serviceAccount": "api", "roleArn": arn, "roleId": id, "associationId": association.id,
                "subject": "payments/api@prod", "label": "live",
            }),
        )
    })
    .await
}

#[tokio::test]
async fn a_grant_moved_to_another_service_account_leaves_the_old_one() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[("podgrant/grant", "payments/api@prod")]).await?;
        account.create_role("neighbour", &[("podgrant/grant", "payments/web@prod")]).await?;
        let both = ["payments/api = payments", "payments/web = neighbour"];
        podgrant.expect_associations(HOME, "prod", &both).await?;
        let before = account.associations(HOME, "prod").await?;

        account.tag_role("payments", "podgrant/grant", "payments/api-v2@prod").await?;
        let revoked = podgrant.outcome("Access Revoked", |_| true).await?["detail"].take();
        podgrant.settled().await?;
        let moved = ["payments/api-v2 = payments", "payments/web = neighbour"];
        podgrant.expect_associations(HOME, "prod", &moved).await?;
        // The role's event and the cluster's may both have seen it, and each tells what it did: at least once.
        let mut told = workloads(&podgrant.told("Access Revoked").await?);
        told.dedup();
        same("what was revoked", told, ["payments/api"])?;
        same("which association", &revoked["associationId"], &json!(before[0].id))?;
        same("why", &revoked["reason"], &json!("grant-withdrawn"))?;
        let after = account.associations(HOME, "prod").await?;
        same("the neighbour's association", &after[1], &before[1])?;

        account.untag_role("payments", "podgrant/grant").await?;
        podgrant.outcome("Access Revoked", |d| d["serviceAccount"] == "api-v2").await?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &moved[1..]).await
    })
    .await
}

#[tokio::test]
async fn of_two_subjects_the_good_one_is_granted_and_the_bad_one_refused_with_its_column() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        let value = "batch/Worker@prod batch/worker@prod";
        account.create_role("batch", &[("podgrant/grant", value)]).await?;

        let refused = podgrant.outcome("Grant Refused", |_| true).await?["detail"].take();
        same("the kind", &refused["kind"], &json!("bad-tag"))?;
        let arn = format!("arn:aws:iam::{}:role/batch", account.id);
        same("the role", &refused["roleArn"], &json!(arn))?;
        let reason = refused["reason"].as_str().context("no reason")?;
        ensure!(reason.starts_with("tag podgrant/grant: column 7: expected "), "{reason}");
        ensure!(reason.contains("found \"Worker\"") || reason.contains("'W'"), "{reason}");

        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &["batch/worker = batch"]).await?;

        // The good one turns bad too: in doubt, nobody loses access.
        account.tag_role("batch", "podgrant/grant", "batch/Worker@prod batch/worker@").await?;
        podgrant
            .outcome("Grant Refused", |d| d["reason"].as_str().is_some_and(|r| r.contains("column 32")))
            .await?;
        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &["batch/worker = batch"]).await?;
        same("what was revoked", podgrant.told("Access Revoked").await?.len(), 0)
    })
    .await
}

#[tokio::test]
async fn trust_is_mended_where_the_role_asks_and_an_administrator_gets_nothing() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        let nodes = r#"{"Version":"2012-10-17","Statement":[{"Sid":"Nodes","Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
        let tags = [("podgrant/trust", "manage"), ("podgrant/grant", "payments/api@prod")];
        account.create_role_trusting("payments", nodes, &tags).await?;
        let amended = podgrant.outcome("Trust Amended", |_| true).await?["detail"].take();
        let policy = amended["policy"].as_str().context("no policy")?;
        ensure!(policy.contains(r#""Sid":"Nodes""#) && policy.contains("PodgrantManaged1"), "{policy}");
        podgrant.outcome("Access Granted", |_| true).await?;

        account.create_role("root", &[]).await?;
        let everything = "arn:aws:iam::aws:policy/AdministratorAccess";
        account.iam().attach_role_policy().role_name("root").policy_arn(everything).send().await?;
        account.tag_role("root", "podgrant/grant", "payments/root@prod").await?;
        let refused = podgrant.outcome("Grant Refused", |_| true).await?["detail"].take();
        same("the kind", &refused["kind"], &json!("guardrail"))?;

        podgrant.settled().await?;
        podgrant.expect_associations(HOME, "prod", &["payments/api = payments"]).await?;
        // And it stays so: neither what was mended nor what was refused is made twice.
        podgrant.sweep().await?;
        podgrant.settled().await?;
        same("trust amended", podgrant.told("Trust Amended").await?.len(), 1)?;
        podgrant.expect_associations(HOME, "prod", &["payments/api = payments"]).await
    })
    .await
}

#[tokio::test]
async fn an_association_made_by_hand_is_adopted_where_its_role_asks_for_it() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_role("payments", &[]).await?;
        account.associate(HOME, "prod", ("payments", "api"), "payments").await?;
        podgrant.settled().await?;
        account.tag_role("payments", "podgrant/adopt", "on").await?;
        account.tag_role("payments", "podgrant/grant", "payments/api@prod").await?;
        let granted = podgrant.outcome("Access Granted", |_| true).await?["detail"].take();
        same("the action", &granted["action"], &json!("adopted"))?;
        account.untag_role("payments", "podgrant/grant").await?;
        podgrant.outcome("Access Revoked", |_| true).await?;
        podgrant.expect_associations(HOME, "prod", &[]).await
    })
    .await
}
