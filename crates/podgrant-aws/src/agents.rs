//! The agent add-on.

use podgrant_core::agent::AGENT_ADDON;
use podgrant_core::model::Agent;
use podgrant_core::{Cluster, ClusterId};

use crate::{Aws, AwsError, Meaning};

impl Aws {
    /// The agent on a cluster; `None` where the add-on is not installed.
    pub(crate) async fn agent(&self, cluster: &ClusterId) -> Result<Option<Agent>, AwsError> {
        let answer = self
            .region(&cluster.region)?
            .eks
            .describe_addon()
            .cluster_name(cluster.name.as_str())
            .addon_name(AGENT_ADDON)
            .send()
            .await;
        let addon =
            match answer.map_err(|error| AwsError::of("eks:DescribeAddon", cluster.to_string(), error)) {
                Ok(answer) => answer.addon,
                Err(error) if error.is(Meaning::NotFound) => None,
                Err(error) => return Err(error),
            };
        Ok(addon.map(|addon| Agent {
            version: addon.addon_version.unwrap_or_default(),
            status: addon.status.map_or("unknown".to_owned(), |status| status.as_str().to_owned()),
            issues: addon
                .health
                .and_then(|health| health.issues)
                .unwrap_or_default()
                .into_iter()
                .map(|issue| {
                    let code = issue.code.map_or("issue".to_owned(), |c| c.as_str().to_owned());
                    format!("{code}: {}", issue.message.unwrap_or_default())
                })
                .collect(),
        }))
    }

    /// AWS's default agent version for the cluster's Kubernetes version.
    pub(crate) async fn agent_version(&self, cluster: &Cluster) -> Result<Option<String>, AwsError> {
        let mut addons = self
            .region(&cluster.id.region)?
            .eks
            .describe_addon_versions()
            .addon_name(AGENT_ADDON)
            .kubernetes_version(&cluster.version)
            .into_paginator()
            .items()
            .send();
        while let Some(addon) = addons.next().await {
            let addon =
                addon.map_err(|e| AwsError::of("eks:DescribeAddonVersions", cluster.version.as_str(), e))?;
            let default = addon.addon_versions().iter().find(|version| {
                version.compatibilities().iter().any(|compatibility| {
                    compatibility.default_version()
                        && compatibility.cluster_version() == Some(cluster.version.as_str())
                })
            });
            if let Some(version) = default.and_then(|version| version.addon_version()) {
                return Ok(Some(version.to_owned()));
            }
        }
        Ok(None)
    }

    /// Installs the agent, with podgrant's mark.
    pub(crate) async fn install_agent(&self, cluster: &ClusterId, version: &str) -> Result<(), AwsError> {
        self.region(&cluster.region)?
            .eks
            .create_addon()
            .cluster_name(cluster.name.as_str())
            .addon_name(AGENT_ADDON)
            .addon_version(version)
            .tags(self.keys.key("managed"), "v1")
            .send()
            .await
            .map(drop)
            .map_err(|error| AwsError::of("eks:CreateAddon", cluster.to_string(), error))
    }
}
