//! Clusters come and go, at home and elsewhere.

use anyhow::{Context, Result, ensure};
use podgrant_tests::local_aws::{HOME, IAM_REGION, wait_for};
use serde_json::json;
use std::time::Duration;

use crate::world::{count_calls, play, same};

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_new_cluster_gets_its_agent_and_the_grants_that_waited_for_it() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.settings(json!({"clusterCreatingSeconds": 3600, "addonCreatingSeconds": 3600}))?;
        account.create_role("payments", &[("podgrant/grant", "payments/api@prod")]).await?;
        account.create_role("batch", &[("podgrant/grant", "batch/worker@env=prod")]).await?;
        account.create_role("other", &[("podgrant/grant", "other/app@staging")]).await?;

        account.create_cluster(HOME, "prod", &[("env", "prod")]).await?;
        // It comes back to look, and nothing is done before its time.
        wait_for("install-agent to have looked three times", MINUTE, || async {
            Ok((count_calls(account, "eks:DescribeCluster")? >= 3).then_some(()))
        })
        .await?;
        same("the agent of a cluster CREATING", account.agent(HOME, "prod").await?, None)?;
        same("events about a cluster CREATING", podgrant.outcomes().await?.len(), 0)?;

        account.settings(json!({"clusterCreatingSeconds": 0}))?;
        podgrant
            .outcome("Cluster Ready", |d| d["cluster"] == json!({"region": HOME, "name": "prod"}))
            .await?;
        podgrant
            .expect_associations(HOME, "prod", &["batch/worker = batch", "payments/api = payments"])
            .await?;
        // Grants do not wait for the agent; its own news waits until it is healthy.
        wait_for("the agent to be installed", MINUTE, || account.agent(HOME, "prod")).await?;
        same("news of an agent CREATING", podgrant.told("Agent Installed").await?.len(), 0)?;

        account.settings(json!({"addonCreatingSeconds": 0}))?;
        let installed = podgrant.outcome("Agent Installed", |d| d["cluster"]["name"] == "prod").await?;
        let (status, version) = account.agent(HOME, "prod").await?.context("no agent")?;
        same("the agent's status", status.as_str(), "ACTIVE")?;
        // What the local AWS has as the default for Kubernetes 1.33; newer ones are on offer.
        same("the agent's version", version.as_str(), "v1.3.8-eksbuild.2")?;
        same("the version told", &installed["detail"]["version"], &json!(version))?;

        podgrant.settled().await?;
        same("times announced", podgrant.told("Cluster Ready").await?.len(), 1)?;
        same("CreateAddon calls", count_calls(account, "eks:CreateAddon")?, 1)
    })
    .await
}

#[tokio::test]
async fn a_cluster_that_fails_ends_with_its_reason() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.settings(json!({"clusterCreatingSeconds": 3600, "clusterFails": ["doomed"]}))?;
        account.create_cluster(HOME, "doomed", &[]).await?;
        wait_for("install-agent to have looked twice", MINUTE, || async {
            Ok((count_calls(account, "eks:DescribeCluster")? >= 2).then_some(()))
        })
        .await?;
        account.settings(json!({"clusterCreatingSeconds": 0}))?;
        let told = podgrant.outcome("Cluster Needs Attention", |_| true).await?;
        same("the kind", &told["detail"]["kind"], &json!("cluster-failed"))?;
        podgrant.settled().await?;
        same("times told", podgrant.told("Cluster Needs Attention").await?.len(), 1)?;
        same("times announced", podgrant.told("Cluster Ready").await?.len(), 0)?;
        same("CreateAddon calls", count_calls(account, "eks:CreateAddon")?, 0)
    })
    .await
}

#[tokio::test]
async fn an_agent_that_falls_ill_is_explained_and_its_recovery_is_news() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        podgrant.outcome("Agent Installed", |_| true).await?;
        podgrant.settled().await?;
        let ill = |code: &str| {
            let issues = json!([{"code": code, "message": "EKS's own words", "resourceIds": []}]);
            let health = json!({"prod/eks-pod-identity-agent": {"status": "DEGRADED", "issues": issues}});
            account.settings(json!({"addonHealth": health}))?;
            let detail =
                json!({"clusterName": "prod", "addonName": "eks-pod-identity-agent", "status": "DEGRADED"});
            account.eks_event(HOME, "EKS Addon Health Degraded", &detail)
        };
        // What a person has to mend is told at once.
        ill("AdmissionRequestDenied")?;
        let told = podgrant.outcome("Cluster Needs Attention", |_| true).await?["detail"].take();
        same("the kind", &told["kind"], &json!("agent-unhealthy"))?;
        let reason = told["reason"].as_str().context("no reason")?;
        ensure!(reason.contains("EKS's own words (an admission webhook"), "{reason}");
        podgrant.settled().await?;

        // What may mend itself is waited for, and its end is news: no event of EKS's is needed.
        let looks = count_calls(account, "eks:DescribeAddon")?;
        ill("InsufficientNumberOfReplicas")?;
        wait_for("install-agent to have looked three times more", MINUTE, || async {
            Ok((count_calls(account, "eks:DescribeAddon")? >= looks + 3).then_some(()))
        })
        .await?;
        same("times installed", podgrant.told("Agent Installed").await?.len(), 1)?;
        account.settings(json!({"addonHealth": {}}))?;
        wait_for("the recovery to be told", MINUTE, || async {
            Ok((podgrant.told("Agent Installed").await?.len() == 2).then_some(()))
        })
        .await?;
        podgrant.settled().await?;
        same("times told of trouble", podgrant.told("Cluster Needs Attention").await?.len(), 1)?;
        same("UpdateAddon calls", count_calls(account, "eks:UpdateAddon")?, 0)
    })
    .await
}

#[tokio::test]
async fn clusters_and_roles_of_another_region_are_served_from_home() -> Result<()> {
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        // Two clusters of one name.
        account.create_cluster(HOME, "prod", &[]).await?;
        account.create_cluster(IAM_REGION, "prod", &[("tier", "gold")]).await?;
        podgrant.outcome("Agent Installed", |d| d["cluster"]["region"] == IAM_REGION).await?;
        let agent = account.agent(IAM_REGION, "prod").await?.context("no agent")?;
        same("the agent elsewhere", agent.0.as_str(), "ACTIVE")?;

        account.create_role("by-name", &[]).await?;
        account.tag_role("by-name", "podgrant/grant", "by/name@us-east-1/prod").await?;
        account.create_role("by-tag", &[("podgrant/grant", "by/tag@tier=gold")]).await?;
        account.create_role("unclear", &[("podgrant/grant", "by/guess@prod")]).await?;
        podgrant.expect_associations(IAM_REGION, "prod", &["by/name = by-name", "by/tag = by-tag"]).await?;
        let refused = podgrant.outcome("Grant Refused", |d| d["kind"] == "ambiguous-cluster").await?;
        ensure!(refused["detail"]["roleArn"].as_str().is_some_and(|arn| arn.ends_with("/unclear")));

        // What somebody else does to podgrant's own is seen there too, and mended.
        let seen = account.associations(IAM_REGION, "prod").await?;
        let lost = &seen.first().context("no association")?.id;
        let eks = account.eks(IAM_REGION);
        eks.delete_pod_identity_association().cluster_name("prod").association_id(lost).send().await?;
        podgrant
            .outcome("Access Granted", |d| {
                d["namespace"] == "by" && d["associationId"] != json!(lost) && d["serviceAccount"] == "name"
            })
            .await?;
        podgrant.expect_associations(IAM_REGION, "prod", &["by/name = by-name", "by/tag = by-tag"]).await?;

        account.delete_role("by-name").await?;
        podgrant.outcome("Orphan Removed", |d| d["cluster"]["region"] == IAM_REGION).await?;
        podgrant.settled().await?;
        podgrant.expect_associations(IAM_REGION, "prod", &["by/tag = by-tag"]).await?;
        podgrant.expect_associations(HOME, "prod", &[]).await
    })
    .await
}

#[tokio::test]
async fn events_of_two_regions_reach_the_functions_in_a_third() -> Result<()> {
    const OF_CLUSTERS: &str = "eu-central-1";
    play(&[("Regions", OF_CLUSTERS)], async |podgrant| {
        let account = &podgrant.account;
        // EKS's event in one, IAM's in another; the functions, without a cluster beside them, at home.
        account.create_cluster(OF_CLUSTERS, "prod", &[]).await?;
        let installed = podgrant.outcome("Agent Installed", |_| true).await?;
        same("where", &installed["detail"]["cluster"]["region"], &json!(OF_CLUSTERS))?;
        account.create_role("reports", &[]).await?;
        account.tag_role("reports", "podgrant/grant", "reports/nightly@prod").await?;
        podgrant.expect_associations(OF_CLUSTERS, "prod", &["reports/nightly = reports"]).await?;
        account.delete_role("reports").await?;
        podgrant.expect_associations(OF_CLUSTERS, "prod", &[]).await
    })
    .await
}
