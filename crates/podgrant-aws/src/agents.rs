//! The agent add-on.

use aws_sdk_eks::types::ResolveConflicts;
use podgrant_core::agent::version::{OfferedVersion, choose};
use podgrant_core::agent::{AGENT_ADDON, AgentSettings};
use podgrant_core::model::{Agent, AgentIssue, Nodes};
use podgrant_core::{Cluster, ClusterId, Region};

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
        let mark = self.keys.key("managed");
        Ok(addon.map(|addon| Agent {
            version: addon.addon_version.unwrap_or_default(),
            status: addon.status.map_or("unknown".to_owned(), |status| status.as_str().to_owned()),
            issues: addon
                .health
                .and_then(|health| health.issues)
                .unwrap_or_default()
                .into_iter()
                .map(|issue| AgentIssue {
                    code: issue.code.map_or("Issue".to_owned(), |code| code.as_str().to_owned()),
                    message: issue.message.unwrap_or_default(),
                })
                .collect(),
            configuration: addon.configuration_values.filter(|values| !values.is_empty()),
            managed: addon.tags.is_some_and(|tags| tags.contains_key(&mark)),
        }))
    }

    /// The agent versions on offer in a region for a Kubernetes version.
    pub(crate) async fn agent_versions(
        &self,
        region: &Region,
        kubernetes: &str,
    ) -> Result<Vec<OfferedVersion>, AwsError> {
        let mut addons = self
            .region(region)?
            .eks
            .describe_addon_versions()
            .addon_name(AGENT_ADDON)
            .kubernetes_version(kubernetes)
            .into_paginator()
            .items()
            .send();
        let mut offered = Vec::new();
        while let Some(addon) = addons.next().await {
            let addon = addon.map_err(|e| AwsError::of("eks:DescribeAddonVersions", kubernetes, e))?;
            for version in addon.addon_versions() {
                let fitting =
                    version.compatibilities().iter().find(|c| c.cluster_version() == Some(kubernetes));
                if let (Some(fitting), Some(version)) = (fitting, version.addon_version()) {
                    offered.push(OfferedVersion {
                        version: version.to_owned(),
                        is_default: fitting.default_version(),
                    });
                }
            }
        }
        Ok(offered)
    }

    /// What about the configured values does not fit the version that the cluster would get. Where
    /// the schema can't be had, nothing is said: EKS checks once more.
    pub(crate) async fn agent_misfits(
        &self,
        cluster: &Cluster,
        settings: &AgentSettings,
        offered: &[OfferedVersion],
    ) -> Vec<String> {
        let (Some(values), Some(lookout)) = (&settings.configuration, &self.lookout) else {
            return Vec::new();
        };
        // Without a version there is no agent to configure: the plan says why.
        let wanted = settings.wanted_on(cluster, &self.keys);
        let Ok(version) = wanted.and_then(|wanted| choose(&wanted, offered, &cluster.version)) else {
            return Vec::new();
        };
        match self.agent_schema(&cluster.id, &version.to_string()).await {
            Ok(schema) => lookout.misfits(&schema, values),
            Err(error) => {
                tracing::warn!(%error, "the agent's schema can't be had: its configuration goes unchecked");
                Vec::new()
            }
        }
    }

    /// The JSON schema of a version's configuration values.
    async fn agent_schema(&self, cluster: &ClusterId, version: &str) -> Result<String, AwsError> {
        let answer = self
            .region(&cluster.region)?
            .eks
            .describe_addon_configuration()
            .addon_name(AGENT_ADDON)
            .addon_version(version)
            .send()
            .await
            .map_err(|error| AwsError::of("eks:DescribeAddonConfiguration", version, error))?;
        Ok(answer.configuration_schema.unwrap_or_default())
    }

    /// What the cluster's pods run on, as far as EKS shows it.
    pub(crate) async fn nodes(&self, cluster: &ClusterId) -> Result<Nodes, AwsError> {
        let mut nodes = Nodes { node_groups: self.node_groups(cluster).await?.len(), fargate_profiles: 0 };
        let eks = &self.region(&cluster.region)?.eks;
        let mut profiles =
            eks.list_fargate_profiles().cluster_name(cluster.name.as_str()).into_paginator().items().send();
        while let Some(profile) = profiles.next().await {
            profile.map_err(|error| AwsError::of("eks:ListFargateProfiles", cluster.to_string(), error))?;
            nodes.fargate_profiles += 1;
        }
        Ok(nodes)
    }

    /// The names of a cluster's managed node groups.
    pub(crate) async fn node_groups(&self, cluster: &ClusterId) -> Result<Vec<String>, AwsError> {
        let eks = &self.region(&cluster.region)?.eks;
        let mut groups =
            eks.list_nodegroups().cluster_name(cluster.name.as_str()).into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(group) = groups.next().await {
            names
                .push(group.map_err(|error| AwsError::of("eks:ListNodegroups", cluster.to_string(), error))?);
        }
        Ok(names)
    }

    /// Installs the agent, with podgrant's mark.
    pub(crate) async fn install_agent(
        &self,
        cluster: &ClusterId,
        version: &str,
        configuration: Option<&str>,
        overwrite: bool,
    ) -> Result<(), AwsError> {
        self.region(&cluster.region)?
            .eks
            .create_addon()
            .cluster_name(cluster.name.as_str())
            .addon_name(AGENT_ADDON)
            .addon_version(version)
            .set_configuration_values(configuration.map(str::to_owned))
            // A self-managed agent is not overwritten unasked: the add-on then tells the conflict.
            .resolve_conflicts(if overwrite { ResolveConflicts::Overwrite } else { ResolveConflicts::None })
            .tags(self.keys.key("managed"), "v1")
            .send()
            .await
            .map(drop)
            .map_err(|error| AwsError::of("eks:CreateAddon", cluster.to_string(), error))
    }

    /// Brings the agent to a version, or tries the one it has again.
    pub(crate) async fn update_agent(
        &self,
        cluster: &ClusterId,
        agent: &Agent,
        version: &str,
    ) -> Result<(), AwsError> {
        self.region(&cluster.region)?
            .eks
            .update_addon()
            .cluster_name(cluster.name.as_str())
            .addon_name(AGENT_ADDON)
            .addon_version(version)
            // Its own values and whatever was changed by hand stay. podIdentityAssociations is
            // left out: empty, it would delete those of the add-on.
            .set_configuration_values(agent.configuration.clone())
            .resolve_conflicts(ResolveConflicts::Preserve)
            .send()
            .await
            .map(drop)
            .map_err(|error| AwsError::of("eks:UpdateAddon", cluster.to_string(), error))
    }

    /// Removes the agent. Gone is gone, whoever was quicker. With `preserve` only EKS's
    /// record of it goes, and what runs in the cluster stays.
    pub(crate) async fn remove_agent(&self, cluster: &ClusterId, preserve: bool) -> Result<(), AwsError> {
        let removed = self
            .region(&cluster.region)?
            .eks
            .delete_addon()
            .cluster_name(cluster.name.as_str())
            .addon_name(AGENT_ADDON)
            .preserve(preserve)
            .send()
            .await
            .map_err(|error| AwsError::of("eks:DeleteAddon", cluster.to_string(), error));
        match removed {
            Err(error) if !error.is(Meaning::NotFound) => Err(error),
            _ => Ok(()),
        }
    }
}
