//! The tags by which podgrant knows its own associations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{ClusterId, RoleArn, RoleId};
use crate::subject::Subject;
use crate::tags::{Grant, TagKeys};

/// The version of the mark, so that a later podgrant can tell an older one's.
const VERSION: &str = "v1";

/// What podgrant writes on an association that it makes.
///
/// A listing of associations shows neither role nor tags, but the tag index
/// shows tags for all clusters of a region: so the mark repeats the role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub role_arn: RoleArn,
    pub role_id: RoleId,
    pub cluster: ClusterId,
    pub subject: Subject,
    /// The grant's label; empty for `podgrant/grant`.
    pub label: String,
    /// What the association was made with beside the role: a change of these is
    /// seen in the index, without describing the association.
    pub session_tags_off: bool,
    pub target_role: Option<RoleArn>,
}

impl Mark {
    pub fn grant(&self) -> Grant {
        Grant { subject: self.subject.clone(), label: self.label.clone() }
    }

    /// The mark as tags. EKS allows 50 of them; these are nine.
    pub fn to_tags(&self, keys: &TagKeys) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::from([
            (keys.key("managed"), VERSION.to_owned()),
            (keys.key("role"), self.role_arn.to_string()),
            // CloudTrail's DeleteRole names the role without its path: this finds it in the index.
            (keys.key("role-name"), self.role_arn.role_name().to_owned()),
            (keys.key("role-id"), self.role_id.to_string()),
            (keys.key("cluster"), self.cluster.to_string()),
            (keys.key("subject"), self.subject.to_string()),
            (keys.key("label"), self.label.clone()),
        ]);
        let session_tags = if self.session_tags_off { "off" } else { "on" };
        tags.insert(keys.key("session-tags"), session_tags.to_owned());
        let target = self.target_role.as_ref().map(ToString::to_string);
        tags.insert(keys.key("target-role"), target.unwrap_or_default());
        tags
    }

    /// The mark among an association's tags; `None` where it is absent, damaged,
    /// or was copied from another cluster: then the association is not ours.
    pub fn from_tags(keys: &TagKeys, cluster: &ClusterId, tags: &BTreeMap<String, String>) -> Option<Self> {
        let tag = |name: &str| tags.get(&keys.key(name)).map(String::as_str);
        if tag("managed") != Some(VERSION) || tag("cluster")?.parse().ok().as_ref() != Some(cluster) {
            return None;
        }
        Some(Self {
            role_arn: tag("role")?.parse().ok()?,
            role_id: tag("role-id")?.parse().ok()?,
            cluster: cluster.clone(),
            subject: tag("subject")?.parse().ok()?,
            label: tag("label").unwrap_or_default().to_owned(),
            session_tags_off: tag("session-tags") == Some("off"),
            target_role: tag("target-role").and_then(|arn| arn.parse().ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        Mark {
            role_arn: "arn:aws:iam::111122223333:role/payments-api".parse().unwrap(),
            role_id: "AROAEXAMPLE".parse().unwrap(),
            cluster: "eu-west-1/prod-eu".parse().unwrap(),
            subject: "payments/api@env=prod".parse().unwrap(),
            label: "batch".to_owned(),
            session_tags_off: true,
            target_role: Some("arn:aws:iam::222233334444:role/t".parse().unwrap()),
        }
    }

    #[test]
    fn a_mark_survives_its_tags() {
        let keys = TagKeys::default();
        let tags = mark().to_tags(&keys);
        assert_eq!(Mark::from_tags(&keys, &mark().cluster, &tags), Some(mark()));
    }

    #[test]
    fn a_damaged_or_copied_mark_is_no_mark() {
        let keys = TagKeys::default();
        let elsewhere = "eu-west-1/prod-us".parse().unwrap();
        assert_eq!(Mark::from_tags(&keys, &elsewhere, &mark().to_tags(&keys)), None);
        for part in ["managed", "role", "role-id", "cluster", "subject"] {
            let mut tags = mark().to_tags(&keys);
            tags.remove(&keys.key(part));
            assert_eq!(Mark::from_tags(&keys, &mark().cluster, &tags), None, "without {part}");
        }
        let other = TagKeys::with_prefix("other/").unwrap();
        assert_eq!(Mark::from_tags(&other, &mark().cluster, &mark().to_tags(&keys)), None);
    }
}
