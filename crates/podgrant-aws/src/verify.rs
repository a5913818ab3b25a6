//! The role and the association that `podgrant verify` makes, and removes again: by a person, with that person's rights.
//! No function comes here.

use std::collections::BTreeMap;

use aws_sdk_iam::types::Tag;
use aws_sdk_resourcegroupstagging::types::TagFilter;
use podgrant_core::verify::{
    POLICY_NAME, ROLE_PATH, Removal, Run, TAG, Thing, account_of, policy, trust_policy,
};
use podgrant_core::{AssociationId, Cluster, ClusterId, RoleArn, Workload};

use crate::associations::of_arn;
use crate::{Aws, AwsError, Meaning};

/// An association of a run, as EKS shows it.
struct Marked {
    id: AssociationId,
    run: Option<Run>,
}

impl Aws {
    /// Makes a run's role, that may do nothing yet. Where an answer was lost and the call repeated, the role that
    /// stands is the run's own by its mark, and taken.
    ///
    /// # Errors
    /// What IAM says, or EKS does not tell the cluster's ARN as it should.
    pub async fn make_verify_role(&self, run: &Run, cluster: &Cluster) -> Result<RoleArn, AwsError> {
        const OPERATION: &str = "iam:CreateRole";
        let name = run.id.name();
        let invalid = |what: String| AwsError::new(OPERATION, &name, Meaning::Invalid, what);
        let (_, account) = account_of(&cluster.arn)
            .ok_or_else(|| invalid(format!("EKS tells the cluster's ARN as {:?}", cluster.arn)))?;
        let tag = Tag::builder().key(self.keys.key(TAG)).value(run.mark()).build();
        let made = self
            .iam
            .create_role()
            .role_name(&name)
            .path(ROLE_PATH)
            .description("Temporary, by podgrant verify; podgrant verify --clean removes it")
            .assume_role_policy_document(trust_policy(&cluster.arn, account))
            .tags(tag.map_err(|error| invalid(error.to_string()))?)
            .send()
            .await
            .map_err(|error| AwsError::of(OPERATION, &name, error));
        match made {
            Ok(made) => {
                let arn = made.role.map(|role| role.arn).unwrap_or_default();
                arn.parse().map_err(|error: podgrant_core::NameError| invalid(error.to_string()))
            }
            Err(error) if error.is(Meaning::AlreadyExists) => match self.verify_role(run).await? {
                Some((arn, whose)) if whose.as_ref() == Some(run) => Ok(arn),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Lets a run's role ask who it is, and nothing else.
    ///
    /// # Errors
    /// What IAM says.
    pub async fn allow_verify_role(&self, run: &Run) -> Result<(), AwsError> {
        let name = run.id.name();
        let put =
            self.iam.put_role_policy().role_name(&name).policy_name(POLICY_NAME).policy_document(policy());
        put.send().await.map(drop).map_err(|error| AwsError::of("iam:PutRolePolicy", &name, error))
    }

    /// Associates a run's role with its service account. Asked again it is the same association.
    ///
    /// # Errors
    /// What EKS says: [`Meaning::RoleNotVisible`] for as long as it does not see the role.
    pub async fn make_verify_association(&self, run: &Run, role: &RoleArn) -> Result<(), AwsError> {
        let tags = [(self.keys.key(TAG), run.mark())].into();
        self.region(&run.cluster.region)?
            .eks
            .create_pod_identity_association()
            .cluster_name(run.cluster.name.as_str())
            .namespace(run.namespace.as_str())
            .service_account(run.id.name())
            .role_arn(role.as_str())
            .set_tags(Some(tags))
            .client_request_token(run.id.name())
            .send()
            .await
            .map(drop)
            .map_err(|error| AwsError::of("eks:CreatePodIdentityAssociation", place(run), error))
    }

    /// Removes a run's association, if it carries the run's mark.
    ///
    /// # Errors
    /// What EKS says.
    pub async fn remove_verify_association(&self, run: &Run) -> Result<Removal, AwsError> {
        let Some(workload) = run.workload() else { return Ok(Removal::Absent) };
        let listed = match self.list_associations(&run.cluster, Some(&workload)).await {
            Ok(listed) => listed,
            // The cluster is gone, and took it along.
            Err(error) if error.is(Meaning::NotFound) => return Ok(Removal::Absent),
            Err(error) => return Err(error),
        };
        // EKS filters; what it is told to remove is looked at all the same.
        let Some(listed) = listed.into_iter().find(|association| association.workload == workload) else {
            return Ok(Removal::Absent);
        };
        let Some(found) = self.marked_association(&run.cluster, &listed.id).await? else {
            return Ok(Removal::Absent);
        };
        if found.run.as_ref() != Some(run) {
            return Ok(Removal::Foreign);
        }
        let removed = self
            .region(&run.cluster.region)?
            .eks
            .delete_pod_identity_association()
            .cluster_name(run.cluster.name.as_str())
            .association_id(found.id.as_str())
            .send()
            .await;
        match removed.map_err(|error| AwsError::of("eks:DeletePodIdentityAssociation", place(run), error)) {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if error.is(Meaning::NotFound) => Ok(Removal::Absent),
            Err(error) => Err(error),
        }
    }

    /// Removes a run's role with its policy, if it carries the run's mark.
    ///
    /// # Errors
    /// What IAM says; also where somebody attached something to the role.
    pub async fn remove_verify_role(&self, run: &Run) -> Result<Removal, AwsError> {
        let name = run.id.name();
        match self.verify_role(run).await? {
            None => return Ok(Removal::Absent),
            Some((_, whose)) if whose.as_ref() != Some(run) => return Ok(Removal::Foreign),
            Some(_) => {}
        }
        let policy = self.iam.delete_role_policy().role_name(&name).policy_name(POLICY_NAME).send().await;
        match policy.map_err(|error| AwsError::of("iam:DeleteRolePolicy", &name, error)) {
            Err(error) if !error.is(Meaning::NotFound) => return Err(error),
            _ => {}
        }
        let role = self.iam.delete_role().role_name(&name).send().await;
        match role.map_err(|error| AwsError::of("iam:DeleteRole", &name, error)) {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if error.is(Meaning::NotFound) => Ok(Removal::Absent),
            Err(error) => Err(error),
        }
    }

    /// The roles of runs, and their associations in the configured regions; and what could not be looked at.
    pub async fn verify_left(&self) -> (Vec<(Run, Thing)>, Vec<AwsError>) {
        let (mut left, mut errors) = (Vec::new(), Vec::new());
        match self.runs_with_roles().await {
            Ok(found) => left.extend(found.into_iter().map(|run| (run, Thing::Role))),
            Err(error) => errors.push(error),
        }
        for region in self.regions.keys() {
            match self.runs_with_associations(region).await {
                Ok(found) => left.extend(found.into_iter().map(|run| (run, Thing::Association))),
                Err(error) => errors.push(error),
            }
        }
        (left, errors)
    }

    /// A role of the run's name, and whose it is.
    async fn verify_role(&self, run: &Run) -> Result<Option<(RoleArn, Option<Run>)>, AwsError> {
        let found = self.role(&run.id.name()).await?;
        Ok(found.map(|role| {
            let whose = Run::of_role(&role.arn, role.tags.get(&self.keys.key(TAG)).map(String::as_str));
            (role.arn, whose)
        }))
    }

    async fn runs_with_roles(&self) -> Result<Vec<Run>, AwsError> {
        let mut roles = self.iam.list_roles().path_prefix(ROLE_PATH).into_paginator().items().send();
        let mut names = Vec::new();
        while let Some(role) = roles.next().await {
            names.push(role.map_err(|error| AwsError::of("iam:ListRoles", ROLE_PATH, error))?.role_name);
        }
        let mut runs = Vec::new();
        for name in names {
            // A listing shows no tags.
            let Some(role) = self.role(&name).await? else { continue };
            runs.extend(Run::of_role(&role.arn, role.tags.get(&self.keys.key(TAG)).map(String::as_str)));
        }
        Ok(runs)
    }

    async fn runs_with_associations(&self, region: &podgrant_core::Region) -> Result<Vec<Run>, AwsError> {
        let marked = TagFilter::builder().key(self.keys.key(TAG)).build();
        let tagging = &self.region(region)?.tagging;
        let mut pages = tagging.get_resources().tag_filters(marked).into_paginator().items().send();
        let mut candidates = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| AwsError::of("tag:GetResources", region.as_str(), error))?;
            candidates.extend(item.resource_arn().and_then(|arn| of_arn(region, arn)));
        }
        let mut runs = Vec::new();
        for (cluster, id) in candidates {
            // The index shows what is gone for a while.
            runs.extend(self.marked_association(&cluster, &id).await?.and_then(|found| found.run));
        }
        Ok(runs)
    }

    /// An association, and the run that made it.
    async fn marked_association(
        &self,
        cluster: &ClusterId,
        id: &AssociationId,
    ) -> Result<Option<Marked>, AwsError> {
        let answer = self
            .region(&cluster.region)?
            .eks
            .describe_pod_identity_association()
            .cluster_name(cluster.name.as_str())
            .association_id(id.as_str())
            .send()
            .await;
        let about = format!("{cluster} {id}");
        let found =
            match answer.map_err(|error| AwsError::of("eks:DescribePodIdentityAssociation", about, error)) {
                Ok(answer) => answer.association,
                Err(error) if error.is(Meaning::NotFound) => None,
                Err(error) => return Err(error),
            };
        let Some(found) = found else { return Ok(None) };
        let tags: BTreeMap<String, String> = found.tags.clone().unwrap_or_default().into_iter().collect();
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let place = (text(found.namespace()).parse(), text(found.service_account()).parse());
        let (Ok(namespace), Ok(service_account)) = place else {
            return Ok(Some(Marked { id: id.clone(), run: None }));
        };
        let is_owned = found.owner_arn().is_some_and(|owner| !owner.is_empty());
        let mark = tags.get(&self.keys.key(TAG)).map(String::as_str).filter(|_| !is_owned);
        let run = Run::of_association(cluster, &Workload { namespace, service_account }, mark);
        Ok(Some(Marked { id: id.clone(), run }))
    }
}

fn place(run: &Run) -> String {
    format!("{} {}/{}", run.cluster, run.namespace, run.id.name())
}
