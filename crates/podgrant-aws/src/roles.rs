//! Roles, one by one or all at once.

use aws_sdk_iam::types::{EntityType, Tag};
use percent_encoding::percent_decode_str;
use podgrant_core::Role;
use std::collections::BTreeMap;

use crate::{Aws, AwsError, Meaning};

impl Aws {
    /// One role, by name. `None` where IAM says that there is none.
    pub(crate) async fn role(&self, name: &str) -> Result<Option<Role>, AwsError> {
        let answer = self.iam.get_role().role_name(name).send().await;
        match answer.map_err(|error| AwsError::of("iam:GetRole", name, error)) {
            Ok(answer) => match answer.role {
                Some(role) => read_role(
                    &role.arn,
                    &role.role_id,
                    role.create_date.secs(),
                    role.assume_role_policy_document.as_deref(),
                    role.tags.as_deref(),
                )
                .map(Some),
                None => {
                    Err(AwsError::new("iam:GetRole", name, Meaning::Transient, "the answer holds no role"))
                }
            },
            Err(error) if error.is(Meaning::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every role of the account, with tags and trust policies: ListRoles has no
    /// tags, GetAccountAuthorizationDetails has all, a thousand a page.
    pub(crate) async fn all_roles(&self) -> Result<Vec<Role>, AwsError> {
        let mut pages = self
            .iam
            .get_account_authorization_details()
            .filter(EntityType::Role)
            .max_items(1000)
            .into_paginator()
            .send();
        let mut roles = Vec::new();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| AwsError::of("iam:GetAccountAuthorizationDetails", "roles", error))?;
            // An answer that says there is more, and not where, is not the whole.
            if page.is_truncated() && page.marker().is_none() {
                return Err(AwsError::new(
                    "iam:GetAccountAuthorizationDetails",
                    "roles",
                    Meaning::Transient,
                    "the listing ended early",
                ));
            }
            for role in page.role_detail_list() {
                let (Some(arn), Some(id), Some(created)) = (role.arn(), role.role_id(), role.create_date())
                else {
                    return Err(AwsError::new(
                        "iam:GetAccountAuthorizationDetails",
                        role.role_name().unwrap_or("a role"),
                        Meaning::Transient,
                        "the answer lacks the role's ARN, id or date",
                    ));
                };
                // Most roles have nothing to do with podgrant but to exist: their
                // documents are not worth the memory.
                let ours = role.tags().iter().any(|tag| self.keys.owns(tag.key()));
                roles.push(read_role(
                    arn,
                    id,
                    created.secs(),
                    role.assume_role_policy_document().filter(|_| ours),
                    ours.then(|| role.tags()),
                )?);
            }
        }
        Ok(roles)
    }
}

fn read_role(
    arn: &str,
    id: &str,
    created_at: i64,
    trust_policy: Option<&str>,
    tags: Option<&[Tag]>,
) -> Result<Role, AwsError> {
    let invalid = |error: podgrant_core::NameError| {
        AwsError::new("iam:GetRole", arn, Meaning::Invalid, error.to_string())
    };
    Ok(Role {
        arn: arn.parse().map_err(invalid)?,
        id: id.parse().map_err(invalid)?,
        created_at,
        // IAM sends policies percent-encoded (RFC 3986).
        trust_policy: percent_decode_str(trust_policy.unwrap_or_default()).decode_utf8_lossy().into_owned(),
        tags: tags
            .unwrap_or_default()
            .iter()
            .map(|tag| (tag.key().to_owned(), tag.value().to_owned()))
            .collect::<BTreeMap<_, _>>(),
    })
}
