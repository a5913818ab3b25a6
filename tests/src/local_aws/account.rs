//! One account of the local AWS, and what a platform engineer does in it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_eks::types::VpcConfigRequest;
use aws_sdk_eventbridge::types::Target;
use serde_json::{Value, json};

use super::{Tags, control, tag_map};

/// The trust policy that EKS's user guide asks for.
pub const PODS_TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}]}"#;

/// An account, with clients for whatever region.
#[derive(Clone)]
pub struct Account {
    pub id: String,
    endpoint: String,
    config: SdkConfig,
}

/// An association as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeenAssociation {
    pub namespace: String,
    pub service_account: String,
    pub role: String,
    pub id: String,
    pub tags: BTreeMap<String, String>,
}

impl Account {
    pub(super) async fn new(endpoint: String, id: &str) -> Self {
        // Twelve digits as an access key are the account, to the emulator.
        let credentials = aws_sdk_eks::config::Credentials::new(id, "no-secret", None, None, "local AWS");
        let config = aws_config::defaults(BehaviorVersion::latest())
            .endpoint_url(&endpoint)
            .region(Region::new(super::HOME))
            .credentials_provider(credentials)
            .load()
            .await;
        Self { id: id.to_owned(), endpoint, config }
    }

    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub fn in_region(&self, region: &str) -> SdkConfig {
        self.config.to_builder().region(Region::new(region.to_owned())).build()
    }

    pub fn eks(&self, region: &str) -> aws_sdk_eks::Client {
        aws_sdk_eks::Client::new(&self.in_region(region))
    }

    pub fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config)
    }

    pub fn events(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.config)
    }

    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// One of the launcher's settings, for this account only.
    ///
    /// # Errors
    /// When the launcher refuses it.
    pub fn settings(&self, mut settings: Value) -> Result<()> {
        settings["account"] = json!(self.id);
        control(&self.endpoint, "settings", &settings)
    }

    /// Makes calls fail, in this account only.
    ///
    /// # Errors
    /// When the launcher refuses it.
    pub fn fault(&self, mut fault: Value) -> Result<()> {
        fault["account"] = json!(self.id);
        control(&self.endpoint, "faults", &fault)
    }

    /// An event from EKS itself on the default bus: about an add-on's health, say.
    ///
    /// # Errors
    /// When the launcher refuses it.
    pub fn eks_event(&self, region: &str, detail_type: &str, detail: &Value) -> Result<()> {
        let event = json!({
            "account": self.id, "region": region, "source": "aws.eks", "detail-type": detail_type, "detail": detail,
        });
        control(&self.endpoint, "events", &event)
    }

    /// The calls made in this account so far, oldest first.
    ///
    /// # Errors
    /// When the launcher does not answer.
    pub fn calls(&self) -> Result<Vec<Value>> {
        let url = format!("{}/_podgrant/calls?account={}", self.endpoint, self.id);
        let mut answer: Value = ureq::get(&url).call()?.body_mut().read_json()?;
        match answer["calls"].take() {
            Value::Array(calls) => Ok(calls),
            other => bail!("{url} answered {other}"),
        }
    }

    /// Makes a queue that hears the events of a bus at home; its URL.
    pub async fn hear(&self, bus: &str, name: &str, pattern: &Value) -> Result<String> {
        let queue = self.sqs().create_queue().queue_name(name).send().await?;
        let url = queue.queue_url.context("a queue without URL")?;
        let events = self.events();
        let pattern = pattern.to_string();
        events.put_rule().event_bus_name(bus).name(name).event_pattern(pattern).send().await?;
        let arn = format!("arn:aws:sqs:{}:{}:{name}", super::HOME, self.id);
        let target = Target::builder().id(name).arn(arn).build()?;
        events.put_targets().event_bus_name(bus).rule(name).targets(target).send().await?;
        Ok(url)
    }

    pub async fn create_cluster(&self, region: &str, name: &str, tags: Tags<'_>) -> Result<()> {
        self.eks(region)
            .create_cluster()
            .name(name)
            .version("1.33")
            .role_arn(format!("arn:aws:iam::{}:role/cluster", self.id))
            .resources_vpc_config(VpcConfigRequest::builder().subnet_ids("subnet-1").build())
            .set_tags(Some(tag_map(tags).into_iter().collect()))
            .send()
            .await
            .with_context(|| format!("CreateCluster {name}"))?;
        Ok(())
    }

    pub async fn delete_cluster(&self, region: &str, name: &str) -> Result<()> {
        self.eks(region)
            .delete_cluster()
            .name(name)
            .send()
            .await
            .with_context(|| format!("DeleteCluster {name}"))?;
        Ok(())
    }

    /// Creates a role that pods may assume.
    pub async fn create_role(&self, name: &str, tags: Tags<'_>) -> Result<()> {
        self.create_role_trusting(name, PODS_TRUST, tags).await
    }

    pub async fn create_role_trusting(&self, name: &str, trust: &str, tags: Tags<'_>) -> Result<()> {
        let tags = tags.iter().map(|(key, value)| iam_tag(key, value)).collect::<Result<_>>()?;
        self.iam()
            .create_role()
            .role_name(name)
            .assume_role_policy_document(trust)
            .set_tags(Some(tags))
            .send()
            .await
            .with_context(|| format!("CreateRole {name}"))?;
        Ok(())
    }

    pub async fn tag_role(&self, name: &str, key: &str, value: &str) -> Result<()> {
        self.iam()
            .tag_role()
            .role_name(name)
            .tags(iam_tag(key, value)?)
            .send()
            .await
            .with_context(|| format!("TagRole {name} {key} = {value}"))?;
        Ok(())
    }

    pub async fn untag_role(&self, name: &str, key: &str) -> Result<()> {
        self.iam()
            .untag_role()
            .role_name(name)
            .tag_keys(key)
            .send()
            .await
            .with_context(|| format!("UntagRole {name} {key}"))?;
        Ok(())
    }

    pub async fn delete_role(&self, name: &str) -> Result<()> {
        self.iam()
            .delete_role()
            .role_name(name)
            .send()
            .await
            .with_context(|| format!("DeleteRole {name}"))?;
        Ok(())
    }

    /// Makes an association by hand, as a person would.
    pub async fn associate(
        &self,
        region: &str,
        cluster: &str,
        workload: (&str, &str),
        role: &str,
    ) -> Result<String> {
        let made = self
            .eks(region)
            .create_pod_identity_association()
            .cluster_name(cluster)
            .namespace(workload.0)
            .service_account(workload.1)
            .role_arn(format!("arn:aws:iam::{}:role/{role}", self.id))
            .send()
            .await
            .context("CreatePodIdentityAssociation")?;
        made.association.and_then(|a| a.association_id).context("an association without id")
    }

    /// Every association of a cluster, described; sorted.
    pub async fn associations(&self, region: &str, cluster: &str) -> Result<Vec<SeenAssociation>> {
        let eks = self.eks(region);
        let mut pages =
            eks.list_pod_identity_associations().cluster_name(cluster).into_paginator().items().send();
        let mut seen = Vec::new();
        while let Some(item) = pages.next().await {
            let id = item?.association_id.context("an association without id")?;
            let described = eks
                .describe_pod_identity_association()
                .cluster_name(cluster)
                .association_id(&id)
                .send()
                .await;
            // It may go between List and Describe.
            let Ok(described) = described else { continue };
            let association = described.association.context("no association in the answer")?;
            let role = association.role_arn.unwrap_or_default();
            seen.push(SeenAssociation {
                namespace: association.namespace.unwrap_or_default(),
                service_account: association.service_account.unwrap_or_default(),
                role: role.rsplit('/').next().unwrap_or_default().to_owned(),
                id,
                tags: association.tags.unwrap_or_default().into_iter().collect(),
            });
        }
        seen.sort();
        Ok(seen)
    }

    /// The agent add-on's status and version, if it is there.
    pub async fn agent(&self, region: &str, cluster: &str) -> Result<Option<(String, String)>> {
        let answer = self
            .eks(region)
            .describe_addon()
            .cluster_name(cluster)
            .addon_name("eks-pod-identity-agent")
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.addon.map(|addon| {
                (
                    addon.status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
                    addon.addon_version.unwrap_or_default(),
                )
            })),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => {
                Ok(None)
            }
            Err(error) => Err(error).context("DescribeAddon"),
        }
    }
}

impl SeenAssociation {
    /// `payments/api = payments-api`
    pub fn line(&self) -> String {
        format!("{}/{} = {}", self.namespace, self.service_account, self.role)
    }
}

fn iam_tag(key: &str, value: &str) -> Result<aws_sdk_iam::types::Tag> {
    aws_sdk_iam::types::Tag::builder().key(key).value(value).build().context("a tag")
}
