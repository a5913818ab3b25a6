//! Roles, one by one or all at once.

use std::collections::BTreeMap;

use aws_sdk_iam::types::{EntityType, RoleDetail, Tag};
use percent_encoding::percent_decode_str;
use podgrant_core::powers::aws_managed;
use podgrant_core::{Powers, Role};

use crate::{Aws, AwsError, Meaning};

impl Aws {
    /// One role, by name. `None` where IAM says that there is none.
    pub(crate) async fn role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let answer = self.iam.get_role().role_name(name).send().await;
        match answer.map_err(|error| AwsError::of("iam:GetRole", name, error)) {
            Ok(answer) => match answer.role {
                Some(role) => {
                    let boundary = role.permissions_boundary.and_then(|b| b.permissions_boundary_arn);
                    read_role(
                        &role.arn,
                        &role.role_id,
                        role.create_date.secs(),
                        role.assume_role_policy_document.as_deref(),
                        role.tags.as_deref(),
                        boundary,
                        // GetRole shows no policies: they are read where they matter.
                        Powers::Unread,
                    )
                    .map(Some)
                }
                None => {
                    Err(AwsError::new("iam:GetRole", name, Meaning::Transient, "the answer holds no role"))
                }
            },
            Err(error) if error.is(Meaning::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
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
        let mut pages =
            self.iam.list_attached_role_policies().role_name(name).into_paginator().items().send();
        let mut attached: Vec<String> = Vec::new();
        while let Some(policy) = pages.next().await {
            let policy = policy.map_err(|error| AwsError::of("iam:ListAttachedRolePolicies", name, error))?;
            attached.extend(policy.policy_arn);
        }
        let arns = || attached.iter().map(String::as_str);
        // AWS's own need no reading, and one that allows everything is enough.
        let known = Powers::of(arns(), []);
        if matches!(known, Powers::Everything { .. }) {
            return Ok(known);
        }
        let mut pages = self.iam.list_role_policies().role_name(name).into_paginator().items().send();
        let mut inline: Vec<String> = Vec::new();
        while let Some(policy) = pages.next().await {
            inline.push(policy.map_err(|error| AwsError::of("iam:ListRolePolicies", name, error))?);
        }
        let mut documents: Vec<(String, String)> = Vec::new();
        for policy in inline {
            let answer = self.iam.get_role_policy().role_name(name).policy_name(&policy).send().await;
            let answer = answer.map_err(|error| AwsError::of("iam:GetRolePolicy", name, error))?;
            documents.push((policy, decoded(&answer.policy_document)));
        }
        for arn in arns().filter(|arn| aws_managed(arn).is_none()) {
            documents.push((arn.to_owned(), self.default_version(arn).await?));
        }
        Ok(Powers::of(arns(), documents.iter().map(|(name, document)| (name.as_str(), document.as_str()))))
    }

    /// The document of a managed policy's default version.
    async fn default_version(&self, arn: &str) -> Result<String, AwsError> {
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
    pub(crate) async fn all_roles(&self) -> Result<Vec<Role>, AwsError> {
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
        let mut roles = Vec::new();
        // Of each role that is ours: which policies it has. Roles may come before policies.
        let mut policies_of: Vec<(usize, RolePolicies)> = Vec::new();
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
                if ours && with_policies {
                    policies_of.push((roles.len(), RolePolicies::of(role)));
                }
                let boundary = role.permissions_boundary().and_then(|b| b.permissions_boundary_arn());
                roles.push(read_role(
                    arn,
                    id,
                    created.secs(),
                    role.assume_role_policy_document().filter(|_| ours),
                    ours.then(|| role.tags()),
                    boundary.filter(|_| ours).map(str::to_owned),
                    Powers::Unread,
                )?);
            }
        }
        for (index, policies) in policies_of {
            if let Some(role) = roles.get_mut(index) {
                role.powers = policies.powers(&managed);
            }
        }
        Ok(roles)
    }
}

/// The policies of one role.
struct RolePolicies {
    /// ARNs of managed ones.
    attached: Vec<String>,
    /// Names and documents.
    inline: Vec<(String, String)>,
}

impl RolePolicies {
    fn of(role: &RoleDetail) -> Self {
        let inline = role.role_policy_list().iter().map(|policy| {
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            (text(policy.policy_name()), decoded(policy.policy_document().unwrap_or_default()))
        });
        let attached = role.attached_managed_policies().iter().filter_map(|policy| policy.policy_arn());
        Self { attached: attached.map(str::to_owned).collect(), inline: inline.collect() }
    }

    /// `managed`: documents of the account's own policies, by ARN.
    fn powers(&self, managed: &BTreeMap<String, String>) -> Powers {
        let known = self.attached.iter().filter_map(|arn| managed.get_key_value(arn));
        let inline = self.inline.iter().map(|(name, document)| (name, document));
        let documents = inline.chain(known).map(|(name, document)| (name.as_str(), document.as_str()));
        Powers::of(self.attached.iter().map(String::as_str), documents)
    }
}

/// IAM sends policies percent-encoded (RFC 3986).
fn decoded(policy: &str) -> String {
    percent_decode_str(policy).decode_utf8_lossy().into_owned()
}

fn read_role(
    arn: &str,
    id: &str,
    created_at: i64,
    trust_policy: Option<&str>,
    tags: Option<&[Tag]>,
    permissions_boundary: Option<String>,
    powers: Powers,
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
        powers,
        tags: tags
            .unwrap_or_default()
            .iter()
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect::<BTreeMap<_, _>>(),
    })
}
