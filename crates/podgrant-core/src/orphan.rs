//! What is known of a role before it may be deleted, the tag that marks it as an orphan, and what
//! is kept of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Role;
use crate::moment::{parse_rfc3339, rfc3339};
use crate::names::{RoleArn, RoleId};
use crate::tags::TagKeys;

/// What may become of roles all of whose clusters are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OrphanSettings {
    /// How long a role may name clusters that are not there, in seconds; how old its mark and its last use
    /// must be before it is deleted.
    ///
    /// A use shows in IAM only hours later (IAM user guide, "View last accessed information for IAM"): of much
    /// less than a day the last use says little.
    pub grace: i64,
    /// Whether roles are marked and deleted at all; otherwise they are reported.
    pub delete: bool,
}

impl Default for OrphanSettings {
    fn default() -> Self {
        Self { grace: 7 * 24 * 3600, delete: false }
    }
}

/// `podgrant/orphaned-since`: since when every cluster that a role names is known to be gone.
///
/// The role's unique id is in it, so that the tag makes nothing of a role that it was copied to, or
/// that was made again under the name. Its text: `2026-11-24T20:03:00Z AROAEXAMPLE`, and ` begun` after it
/// from the moment when the role begins to lose its policies. IAM takes these characters in a tag's value (IAM API
/// reference, `Tag`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OrphanMark {
    /// Seconds since 1970.
    pub since: i64,
    pub role_id: RoleId,
    /// The role's deletion was begun: policies of it may be gone, whatever becomes of it now.
    pub begun: bool,
}

impl OrphanMark {
    /// The name of the tag, after podgrant's prefix.
    pub const KEY: &'static str = "orphaned-since";

    /// The first mark of a role.
    pub fn new(role: &Role, now: i64) -> Self {
        Self { since: now, role_id: role.id.clone(), begun: false }
    }

    /// The mark of a role whose deletion begins.
    #[must_use]
    pub fn with_deletion_begun(&self) -> Self {
        Self { begun: true, ..self.clone() }
    }

    /// The tag, key and value.
    pub fn to_tag(&self, keys: &TagKeys) -> (String, String) {
        (keys.key(Self::KEY), self.to_string())
    }

    /// Whether it was put on this very role: not on another, nor before the role was made, nor after `now`.
    pub fn is_of(&self, role: &Role, now: i64) -> bool {
        self.role_id == role.id && (role.created_at..=now).contains(&self.since)
    }
}

impl fmt::Display for OrphanMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = if self.begun { " begun" } else { "" };
        write!(f, "{} {}{begun}", rfc3339(self.since), self.role_id)
    }
}

impl FromStr for OrphanMark {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let mut words = text.split(' ');
            let since = parse_rfc3339(words.next()?)?;
            let role_id = words.next()?.parse().ok()?;
            let begun = match (words.next(), words.next()) {
                (None, _) => false,
                (Some("begun"), None) => true,
                _ => return None,
            };
            Some(Self { since, role_id, begun })
        };
        read().ok_or_else(|| {
            format!(
                "podgrant writes a moment and the role's unique id there, such as 2026-11-24T20:03:00Z \
                 AROAEXAMPLE, found {text:?}"
            )
        })
    }
}

impl TryFrom<String> for OrphanMark {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<OrphanMark> for String {
    fn from(mark: OrphanMark) -> String {
        mark.to_string()
    }
}

/// What must be known of a role beside [`Role`] before it may go. Only clean-up reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleInventory {
    /// When it was last used, in seconds since 1970. `None`: not within the 400 days that IAM looks back, or not
    /// tracked yet: that takes hours (IAM API reference, `RoleLastUsed`).
    pub last_used: Option<i64>,
    /// Names of the instance profiles that it is in.
    pub instance_profiles: BTreeSet<String>,
    /// ARNs of the managed policies that are attached.
    pub attached_policies: BTreeSet<String>,
    /// Inline policies: names, and documents as JSON, percent-decoded.
    pub inline_policies: BTreeMap<String, String>,
    /// What GetRole alone shows. GetAccountAuthorizationDetails does not (IAM API reference, `RoleDetail`);
    /// `None` where only that was read.
    pub settings: Option<RoleSettings>,
}

/// What GetRole alone shows of a role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleSettings {
    pub description: Option<String>,
    /// In seconds.
    pub max_session_duration: i32,
}

/// A role in full, so that it can be made again. Its name and path are in the ARN; under another
/// unique id it is another role, whoever names it as a principal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoleRecord {
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    pub path: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub max_session_duration: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions_boundary: Option<String>,
    /// As JSON.
    pub trust_policy: String,
    /// ARNs of managed policies.
    pub attached_policies: BTreeSet<String>,
    /// Names, and documents as JSON.
    pub inline_policies: BTreeMap<String, String>,
    /// All of them, podgrant's own too.
    pub tags: BTreeMap<String, String>,
}

impl RoleRecord {
    /// `None` where the role was not read whole.
    pub fn of(role: &Role, inventory: &RoleInventory) -> Option<Self> {
        let settings = inventory.settings.clone()?;
        Some(Self {
            role_arn: role.arn.clone(),
            role_id: role.id.clone(),
            path: role.arn.path(),
            created_at: role.created_at,
            last_used: inventory.last_used,
            description: settings.description,
            max_session_duration: settings.max_session_duration,
            permissions_boundary: role.permissions_boundary.clone(),
            trust_policy: role.trust_policy.clone(),
            attached_policies: inventory.attached_policies.clone(),
            inline_policies: inventory.inline_policies.clone(),
            tags: role.tags.clone(),
        })
    }
}

/// Why a role is AWS's own by its path: roles that are linked to a service, and those of IAM Identity Center
/// and others (IAM user guide, "Create a service-linked role" and "IAM identifiers").
pub fn reserved_path(role: &RoleArn) -> Option<&'static str> {
    ["/aws-service-role/", "/aws-reserved/"].into_iter().find(|reserved| role.path().starts_with(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{NOW, role};

    #[test]
    fn a_mark_survives_its_tag() {
        let keys = TagKeys::default();
        let mark = OrphanMark::new(&role("payments"), NOW);
        let (key, value) = mark.to_tag(&keys);
        assert_eq!(
            (key.as_str(), value.as_str()),
            ("podgrant/orphaned-since", "1970-01-12T13:46:40Z AROAPAYMENTS")
        );
        assert_eq!(value.parse(), Ok(mark.clone()));
        let begun = mark.with_deletion_begun();
        assert_eq!(begun.to_string(), "1970-01-12T13:46:40Z AROAPAYMENTS begun");
        assert_eq!(begun.to_string().parse(), Ok(begun.clone()));
        // IAM's alphabet for tag values, and their length.
        assert!(begun.to_string().chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c)));
        let longest = OrphanMark { role_id: "A".repeat(128).parse().unwrap(), ..begun };
        assert!(longest.to_string().len() <= 256);
    }

    #[test]
    fn a_damaged_mark_is_no_mark() {
        for text in [
            "",
            "1970-01-12T13:46:40Z",
            "AROAPAYMENTS",
            "1970-01-12T13:46:40Z  AROAPAYMENTS",
            "1970-01-12T13:46:40Z AROAPAYMENTS ",
            " 1970-01-12T13:46:40Z AROAPAYMENTS",
            "1970-01-12T13:46:40Z AROAPAYMENTS ended",
            "1970-01-12T13:46:40Z AROAPAYMENTS begun begun",
            "1970-01-12 AROAPAYMENTS",
            "1000000 AROAPAYMENTS",
            "1970-01-12T13:46:40Z AROA/PAYMENTS",
        ] {
            let problem = text.parse::<OrphanMark>().unwrap_err();
            assert!(problem.ends_with(&format!("found {text:?}")), "{problem}");
        }
    }

    #[test]
    fn a_mark_is_of_the_very_role_that_it_was_put_on() {
        let payments = role("payments");
        let mark = |since| OrphanMark::new(&payments, since);
        assert!(mark(NOW).is_of(&payments, NOW));
        assert!(mark(payments.created_at).is_of(&payments, NOW));
        assert!(!mark(payments.created_at - 1).is_of(&payments, NOW));
        assert!(!mark(NOW + 1).is_of(&payments, NOW));
        assert!(!mark(NOW).is_of(&payments.clone().made_again(), NOW));
        assert!(!mark(NOW).is_of(&role("other"), NOW));
    }

    #[test]
    fn what_is_kept_of_a_role_is_all_that_makes_it_again() {
        let mut payments = role("payments").grant("payments/api@prod-eu").trusting();
        payments.arn = "arn:aws:iam::111122223333:role/teams/a/payments".parse().unwrap();
        payments.permissions_boundary = Some("arn:aws:iam::111122223333:policy/boundary".to_owned());
        let listed = RoleInventory {
            last_used: Some(2_000),
            attached_policies: ["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()].into(),
            inline_policies: [("queue".to_owned(), r#"{"Statement":[]}"#.to_owned())].into(),
            ..RoleInventory::default()
        };
        assert_eq!(RoleRecord::of(&payments, &listed), None);
        let settings = RoleSettings { description: Some("Pays".to_owned()), max_session_duration: 7200 };
        let whole = RoleInventory { settings: Some(settings), ..listed };
        let record = RoleRecord::of(&payments, &whole).unwrap();
        let json = serde_json::to_string_pretty(&record).unwrap();
        insta::assert_snapshot!(json, @r#"
        {
          "roleArn": "arn:aws:iam::111122223333:role/teams/a/payments",
          "roleId": "AROAPAYMENTS",
          "path": "/teams/a/",
          "createdAt": 1000,
          "lastUsed": 2000,
          "description": "Pays",
          "maxSessionDuration": 7200,
          "permissionsBoundary": "arn:aws:iam::111122223333:policy/boundary",
          "trustPolicy": "{\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"Service\":\"pods.eks.amazonaws.com\"},\"Action\":[\"sts:AssumeRole\",\"sts:TagSession\"]}]}",
          "attachedPolicies": [
            "arn:aws:iam::aws:policy/ReadOnlyAccess"
          ],
          "inlinePolicies": {
            "queue": "{\"Statement\":[]}"
          },
          "tags": {
            "podgrant/grant": "payments/api@prod-eu"
          }
        }
        "#);
        assert_eq!(serde_json::from_str::<RoleRecord>(&json).unwrap(), record);
    }

    #[test]
    fn reserved_paths_are_aws_own() {
        let reserved =
            |path: &str| reserved_path(&format!("arn:aws:iam::111122223333:role{path}x").parse().unwrap());
        assert_eq!(reserved("/aws-service-role/eks.amazonaws.com/"), Some("/aws-service-role/"));
        assert_eq!(reserved("/aws-reserved/sso.amazonaws.com/eu-west-1/"), Some("/aws-reserved/"));
        for free in ["/", "/teams/aws-reserved/", "/aws-reserved-by-us/", "/service-role/"] {
            assert_eq!(reserved(free), None, "{free}");
        }
    }
}
