//! Only what is ours.

use anyhow::{Context, Result};
use aws_sdk_eks::types::AddonPodIdentityAssociations;
use podgrant_tests::local_aws::{Account, FUNCTIONS, HOME};
use serde_json::json;

use crate::world::{functions_calls, play, same, workloads};

/// An add-on with an association of its own, which it owns.
async fn add_cni(account: &Account, cluster: &str, role: &str) -> Result<()> {
    let association = AddonPodIdentityAssociations::builder()
        .service_account("aws-node")
        .role_arn(format!("arn:aws:iam::{}:role/{role}", account.id))
        .build()?;
    let eks = account.eks(HOME);
    let cni = eks.create_addon().cluster_name(cluster).addon_name("vpc-cni");
    cni.pod_identity_associations(association).send().await.context("CreateAddon vpc-cni")?;
    Ok(())
}

#[tokio::test]
async fn associations_that_podgrant_did_not_make_are_never_touched() -> Result<()> {
    play(&[("RefusedNamespaces", "none")], async |podgrant| {
        let account = &podgrant.account;
        account.create_cluster(HOME, "prod", &[]).await?;
        for role in ["by-hand", "cni"] {
            account.create_role(role, &[]).await?;
        }
        account.associate(HOME, "prod", ("tools", "debug"), "by-hand").await?;
        account.associate(HOME, "prod", ("tools", "idle"), "by-hand").await?;
        add_cni(account, "prod", "cni").await?;
        let before = account.associations(HOME, "prod").await?;
        let lines: Vec<String> = before.iter().map(|a| a.line()).collect();
        let made = ["kube-system/aws-node = cni", "tools/debug = by-hand", "tools/idle = by-hand"];
        same("made by hand", lines, made)?;

        podgrant.settled().await?;

        // A role claims their places, and one that is free.
        let claims = "tools/debug@prod kube-system/aws-node@prod tools/free@prod";
        account.create_role("wants-them", &[("podgrant/grant", claims)]).await?;
        podgrant.outcome("Access Granted", |_| true).await?;
        podgrant.settled().await?;
        let refused = podgrant.told("Grant Refused").await?;
        same("the refused", workloads(&refused), ["kube-system/aws-node", "tools/debug"])?;
        for refusal in &refused {
            same("why", &refusal["kind"], &json!("foreign-association"))?;
        }

        // Neither does it clean up after a role that it granted nothing.
        account.delete_role("by-hand").await?;
        podgrant.settled().await?;
        // A full pass, asked for on the spot.
        let sweep = json!({
            "version": "0", "id": "sweep", "detail-type": "Scheduled Event", "source": "aws.events",
            "account": account.id, "time": "2026-01-01T00:00:00Z", "region": HOME, "resources": [], "detail": {}
        });
        for function in FUNCTIONS {
            let report = podgrant.invoke(function, &sweep)?;
            same(function, &report["ending"], &json!("done"))?;
            same(function, &report["changes"], &json!([]))?;
        }

        let mut after = account.associations(HOME, "prod").await?;
        after.retain(|association| association.service_account != "free");
        same("the associations made by others", after, before)?;
        for (call, seen) in functions_calls(account)? {
            let changes = ["eks:UpdatePod", "eks:DeletePod", "eks:TagResource", "eks:UntagResource"];
            assert!(!changes.iter().any(|change| call.starts_with(change)), "podgrant called {seen}");
        }
        Ok(())
    })
    .await
}
