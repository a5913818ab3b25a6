//! A cluster that has a Kubernetes API, and lets podgrant in by an access entry.

use std::time::Duration;

use anyhow::Result;
use podgrant_tests::local_aws::{HOME, wait_for};
use podgrant_tests::local_kubernetes::LocalKubernetes;
use serde_json::json;

use crate::world::{count_calls, play, same};

const MINUTE: Duration = Duration::from_secs(60);

/// The whole way in: the function's own credentials, the token that they sign, EKS's authenticator with the access
/// entry that podgrant made, RBAC, and the real DaemonSet controller. Without such a server it passes unseen, and
/// `cargo xtask test` says so at its end.
#[tokio::test]
async fn an_agent_is_healthy_when_its_own_cluster_says_so() -> Result<()> {
    let Some(kubernetes) = LocalKubernetes::start().await? else { return Ok(()) };
    if !kubernetes.knows_eks() {
        return Ok(());
    }
    play(&[], async |podgrant| {
        let account = &podgrant.account;
        let api = kubernetes.api();
        let endpoint = json!({"endpoint": api.endpoint, "certificateAuthority": api.certificate_authority});
        account.settings(json!({"clusterEndpoint": {"prod": endpoint}, "addonCreatingSeconds": 3600}))?;
        kubernetes.ask_aws(account.endpoint(), HOME, "prod")?;
        for node in ["ip-1", "ip-2"] {
            kubernetes.add_node(node, &[], &[]).await?;
        }

        account.create_cluster(HOME, "prod", &[]).await?;
        podgrant.outcome("Cluster Ready", |_| true).await?;
        wait_for("podgrant to have its access entry", MINUTE, || async {
            Ok((count_calls(account, "eks:AssociateAccessPolicy")? == 1).then_some(()))
        })
        .await?;

        // The add-on's work, in its place: one node's agent does not come up.
        kubernetes.add_agent(&json!([])).await?;
        let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
        kubernetes.report_pods(2, &["ip-1"], &ready).await?;
        kubernetes.counted(1, 2).await?;
        account.settings(json!({"addonCreatingSeconds": 0}))?;
        let looks =
            || kubernetes.reviews().map(|all| all.iter().filter(|review| review["ok"] == true).count());
        wait_for("podgrant to have looked twice", MINUTE, || async { Ok((looks()? >= 2).then_some(())) })
            .await?;
        // EKS calls it ACTIVE, and its cluster knows better.
        same("news of half an agent", podgrant.told("Agent Installed").await?.len(), 0)?;

        kubernetes.report_pods(2, &["ip-2"], &ready).await?;
        let told = podgrant.outcome("Agent Installed", |_| true).await?;
        same("the nodes", &told["detail"]["nodes"], &json!({"ready": 2, "desired": 2}))?;
        podgrant.settled().await?;
        same("access entries made", count_calls(account, "eks:CreateAccessEntry")?, 1)
    })
    .await
}
