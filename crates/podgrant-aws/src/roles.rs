//! Roles, one by one or all at once.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::types::{EntityType, RoleDetail, RoleLastUsed, Tag};
use percent_encoding::percent_decode_str;
use podgrant_core::migrate::IrsaEdit;
use podgrant_core::orphan::{RoleInventory, RoleSettings};
use podgrant_core::powers::aws_managed;
use podgrant_core::{Powers, Role, RoleArn, RoleId};

use crate::{Aws, AwsError, Meaning};

/// What came of a trust policy that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustWritten {
    Done,
    /// Not done: the role is gone, or was made again; in words.
    Gone(String),
    /// Not done: the role has another by now; in words.
    Changed(String),
}

impl Aws {
    /// One role, by name. `None` where IAM says that there is none.
    ///
    /// # Errors
    /// What IAM says instead.
    pub async fn role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let found = self.get_role(name).await?;
        found.map(|found| read_found(&found)).transpose()
    }

    /// Sets a role's tags, and takes others away; in this order, so that no subject is without its tag in between.
    ///
    /// # Errors
    /// The call that failed; one that came before it is done.
    pub async fn tag_role(
        &self,
        name: &str,
        set: &BTreeMap<String, String>,
        removed: &BTreeSet<String>,
    ) -> Result<(), AwsError> {
        let tags: Result<Vec<Tag>, _> =
            set.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        let tags =
            tags.map_err(|error| AwsError::new("iam:TagRole", name, Meaning::Invalid, error.to_string()))?;
        if !tags.is_empty() {
            let tagged = self.iam.tag_role().role_name(name).set_tags(Some(tags)).send().await;
            tagged.map_err(|error| AwsError::of("iam:TagRole", name, error))?;
        }
        if !removed.is_empty() {
            let keys = removed.iter().cloned().collect();
            let untagged = self.iam.untag_role().role_name(name).set_tag_keys(Some(keys)).send().await;
            untagged.map_err(|error| AwsError::of("iam:UntagRole", name, error))?;
        }
        Ok(())
    }

    /// Takes or puts back what lets in one service account by IRSA.
    ///
    /// # Errors
    /// What IAM says instead.
    pub async fn edit_irsa(&self, edit: &IrsaEdit) -> Result<TrustWritten, AwsError> {
        self.replace_trust(edit.role(), edit.role_id(), (edit.before(), edit.after())).await
    }

    /// Puts a trust policy in place of another, if the role still has that: IAM has no conditional write.
    ///
    /// # Errors
    /// What IAM says instead.
    pub(crate) async fn replace_trust(
        &self,
        role: &RoleArn,
        id: &RoleId,
        (before, after): (&str, &str),
    ) -> Result<TrustWritten, AwsError> {
        let name = role.role_name();
        let Some(current) = self.role(name).await?.filter(|current| current.id == *id) else {
            return Ok(TrustWritten::Gone(format!("the role {name} is gone, or was made again")));
        };
        if current.trust_policy != before {
            let reason = format!("the trust policy of {name} changed since it was planned for");
            return Ok(TrustWritten::Changed(reason));
        }
        self.iam
            .update_assume_role_policy()
            .role_name(name)
            .policy_document(after)
            .send()
            .await
            .map_err(|error| AwsError::of("iam:UpdateAssumeRolePolicy", name, error))?;
        Ok(TrustWritten::Done)
    }

    async fn get_role(&self, name: &str) -> Result<Option<aws_sdk_iam::types::Role>, AwsError> {
        let answer = self.iam.get_role().role_name(name).send().await;
        match answer.map_err(|error| AwsError::of("iam:GetRole", name, error)) {
            Ok(answer) if answer.role.is_none() => {
                Err(AwsError::new("iam:GetRole", name, Meaning::Transient, "the answer holds no role"))
            }
            Ok(answer) => Ok(answer.role),
            Err(error) if error.is(Meaning::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One role, and all that has to be known before it may be deleted, as each call shows it that is about this
    /// role alone: four calls, and one for each inline policy.
    pub(crate) async fn role_in_full(&self, name: &str) -> Result<Option<(Role, RoleInventory)>, AwsError> {
        let Some(found) = self.get_role(name).await? else { return Ok(None) };
        let inventory = RoleInventory {
            last_used: last_used(found.role_last_used.as_ref()),
            instance_profiles: self.instance_profiles(name).await?.into_iter().collect(),
            attached_policies: self.attached_policies(name).await?.into_iter().collect(),
            inline_policies: self.inline_policies(name).await?.into_iter().collect(),
            settings: Some(RoleSettings {
                description: found.description.clone().filter(|description| !description.is_empty()),
                max_session_duration: found.max_session_duration.unwrap_or(SESSION_SECONDS),
            }),
        };
        Ok(Some((read_found(&found)?, inventory)))
    }

    /// One role, and what its policies allow where that matters.
    pub(crate) async fn whole_role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let Some(mut role) = self.role(name).await? else { return Ok(None) };
        if self.guardrails.refuse_administrators {
            role.powers = self.powers(name).await?;
        }
        Ok(Some(role))
    }

    /// What a role's policies allow: two calls, one for each inline policy, and two for each policy of the
    /// account's own that is attached. A role that went meanwhile stays unread.
    pub(crate) async fn powers(&self, name: &str) -> Result<Powers, AwsError> {
        match self.read_powers(name).await {
            Err(error) if error.is(Meaning::NotFound) => Ok(Powers::Unread),
            powers => powers,
        }
    }

    async fn read_powers(&self, name: &str) -> Result<Powers, AwsError> {
        let attached = self.attached_policies(name).await?;
        let arns = || attached.iter().map(String::as_str);
        // AWS's own need no reading, and one that allows everything is enough.
        let known = Powers::of(arns(), []);
        if matches!(known, Powers::Everything { .. }) {
            return Ok(known);
        }
        let mut documents = self.inline_policies(name).await?;
        for arn in arns().filter(|arn| aws_managed(arn).is_none()) {
            documents.push((arn.to_owned(), self.default_version(arn).await?));
        }
        Ok(Powers::of(arns(), documents.iter().map(|(name, document)| (name.as_str(), document.as_str()))))
    }

    /// ARNs of the managed policies that are attached to a role.
    pub(crate) async fn attached_policies(&self, name: &str) -> Result<Vec<String>, AwsError> {
        let mut pages =
            self.iam.list_attached_role_policies().role_name(name).into_paginator().items().send();
        let mut attached: Vec<String> = Vec::new();
        while let Some(policy) = pages.next().await {
            let policy = policy.map_err(|error| AwsError::of("iam:ListAttachedRolePolicies", name, error))?;
            attached.extend(policy.policy_arn);
        }
        Ok(attached)
    }

    /// Names and documents of a role's inline policies.
    pub(crate) async fn inline_policies(&self, name: &str) -> Result<Vec<(String, String)>, AwsError> {
        let mut pages = self.iam.list_role_policies().role_name(name).into_paginator().items().send();
        let mut names: Vec<String> = Vec::new();
        while let Some(policy) = pages.next().await {
            names.push(policy.map_err(|error| AwsError::of("iam:ListRolePolicies", name, error))?);
        }
        let mut documents: Vec<(String, String)> = Vec::new();
        for policy in names {
            let answer = self.iam.get_role_policy().role_name(name).policy_name(&policy).send().await;
            let answer = answer.map_err(|error| AwsError::of("iam:GetRolePolicy", name, error))?;
            documents.push((policy, decoded(&answer.policy_document)));
        }
        Ok(documents)
    }

    /// Names of the instance profiles that a role is in.
    async fn instance_profiles(&self, name: &str) -> Result<Vec<String>, AwsError> {
        let mut pages =
            self.iam.list_instance_profiles_for_role().role_name(name).into_paginator().items().send();
        let mut profiles: Vec<String> = Vec::new();
        while let Some(profile) = pages.next().await {
            let profile =
                profile.map_err(|error| AwsError::of("iam:ListInstanceProfilesForRole", name, error))?;
            profiles.push(profile.instance_profile_name);
        }
        Ok(profiles)
    }

    /// The document of a managed policy's default version.
    pub(crate) async fn default_version(&self, arn: &str) -> Result<String, AwsError> {
        let answer = self.iam.get_policy().policy_arn(arn).send().await;
        let answer = answer.map_err(|error| AwsError::of("iam:GetPolicy", arn, error))?;
        let version = answer.policy.and_then(|policy| policy.default_version_id).unwrap_or_default();
        let answer = self.iam.get_policy_version().policy_arn(arn).version_id(version).send().await;
        let answer = answer.map_err(|error| AwsError::of("iam:GetPolicyVersion", arn, error))?;
        let document = answer.policy_version.and_then(|version| version.document).unwrap_or_default();
        Ok(decoded(&document))
    }

    /// Every role of the account, with tags and trust policies: ListRoles has no
    /// tags, GetAccountAuthorizationDetails has all, a thousand a page. With the
    /// account's own managed policies, where roles are judged by what they allow.
    pub(crate) async fn all_roles(&self) -> Result<AllRoles, AwsError> {
        const OPERATION: &str = "iam:GetAccountAuthorizationDetails";
        let broken = |about: &str, what: &str| AwsError::new(OPERATION, about, Meaning::Transient, what);
        let with_policies = self.guardrails.refuse_administrators;
        let mut pages = self
            .iam
            .get_account_authorization_details()
            .set_filter(Some(match with_policies {
                true => vec![EntityType::Role, EntityType::LocalManagedPolicy],
                false => vec![EntityType::Role],
            }))
            .max_items(1000)
            .into_paginator()
            .send();
        let mut all = AllRoles::default();
        let mut managed: BTreeMap<String, String> = BTreeMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| AwsError::of(OPERATION, "roles", error))?;
            // An answer that says there is more, and not where, is not the whole.
            if page.is_truncated() && page.marker().is_none() {
                return Err(broken("roles", "the listing ended early"));
            }
            for policy in page.policies() {
                let default =
                    policy.policy_version_list().iter().find(|version| version.is_default_version());
                let document = default.and_then(|version| version.document()).map(decoded);
                managed.extend(policy.arn().map(str::to_owned).zip(document));
            }
            for role in page.role_detail_list() {
                let (Some(arn), Some(id), Some(created)) = (role.arn(), role.role_id(), role.create_date())
                else {
                    let about = role.role_name().unwrap_or("a role");
                    return Err(broken(about, "the answer lacks the role's ARN, id or date"));
                };
                // Most roles have nothing to do with podgrant but to exist: their
                // documents are not worth the memory.
                let ours = role.tags().iter().any(|tag| self.keys.owns(tag.key()));
                // Statements of ours may outlast the tags. What is percent-encoded leaves letters as they are.
                let trusts_by_us =
                    |document: &&str| ours || document.contains(podgrant_core::trust::manage::SID);
                let boundary = role.permissions_boundary().and_then(|b| b.permissions_boundary_arn());
                let read = read_role(
                    arn,
                    id,
                    created.secs(),
                    role.assume_role_policy_document().filter(trusts_by_us),
                    ours.then(|| role.tags()),
                    boundary.filter(|_| ours).map(str::to_owned),
                )?;
                if ours {
                    all.inventories.insert(read.arn.clone(), inventory(role));
                }
                all.roles.insert(read.arn.clone(), read);
            }
        }
        // Roles may come before policies.
        for (arn, inventory) in all.inventories.iter().filter(|_| with_policies) {
            if let Some(role) = all.roles.get_mut(arn) {
                role.powers = powers(inventory, &managed);
            }
        }
        Ok(all)
    }
}

/// What a listing of everything shows.
#[derive(Debug, Default)]
pub(crate) struct AllRoles {
    pub roles: BTreeMap<RoleArn, Role>,
    /// Of those that carry tags of podgrant's.
    pub inventories: BTreeMap<RoleArn, RoleInventory>,
}

/// How long a session may last where nobody says, in seconds (IAM API reference, `CreateRole`).
const SESSION_SECONDS: i32 = 3600;

fn inventory(role: &RoleDetail) -> RoleInventory {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let inline = role
        .role_policy_list()
        .iter()
        .map(|policy| (text(policy.policy_name()), decoded(policy.policy_document().unwrap_or_default())));
    let attached = role.attached_managed_policies().iter().filter_map(|policy| policy.policy_arn());
    let profiles = role.instance_profile_list().iter().map(|profile| profile.instance_profile_name());
    RoleInventory {
        last_used: last_used(role.role_last_used()),
        instance_profiles: profiles.map(str::to_owned).collect(),
        attached_policies: attached.map(str::to_owned).collect(),
        inline_policies: inline.collect(),
        settings: None,
    }
}

fn last_used(used: Option<&RoleLastUsed>) -> Option<i64> {
    used.and_then(|used| used.last_used_date()).map(aws_smithy_types::DateTime::secs)
}

/// What a role may do. `managed`: documents of the account's own policies, by ARN.
fn powers(role: &RoleInventory, managed: &BTreeMap<String, String>) -> Powers {
    let known = role.attached_policies.iter().filter_map(|arn| managed.get_key_value(arn));
    let documents = role.inline_policies.iter().chain(known);
    let documents = documents.map(|(name, document)| (name.as_str(), document.as_str()));
    Powers::of(role.attached_policies.iter().map(String::as_str), documents)
}

/// IAM sends policies percent-encoded (RFC 3986).
fn decoded(policy: &str) -> String {
    percent_decode_str(policy).decode_utf8_lossy().into_owned()
}

/// As GetRole shows it: without policies, which are read where they matter.
fn read_found(found: &aws_sdk_iam::types::Role) -> Result<Role, AwsError> {
    let boundary = found.permissions_boundary().and_then(|b| b.permissions_boundary_arn());
    read_role(
        found.arn(),
        found.role_id(),
        found.create_date().secs(),
        found.assume_role_policy_document(),
        Some(found.tags()),
        boundary.map(str::to_owned),
    )
}

fn read_role(
    arn: &str,
    id: &str,
    created_at: i64,
    trust_policy: Option<&str>,
    tags: Option<&[Tag]>,
    permissions_boundary: Option<String>,
) -> Result<Role, AwsError> {
    let invalid = |error: podgrant_core::NameError| {
        AwsError::new("iam:GetRole", arn, Meaning::Invalid, error.to_string())
    };
    Ok(Role {
        arn: arn.parse().map_err(invalid)?,
        id: id.parse().map_err(invalid)?,
        created_at,
        trust_policy: decoded(trust_policy.unwrap_or_default()),
        permissions_boundary,
        powers: Powers::Unread,
        tags: tags
            .unwrap_or_default()
            .iter()
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect::<BTreeMap<_, _>>(),
    })
}
