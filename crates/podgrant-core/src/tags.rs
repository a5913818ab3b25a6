//! The tag contract: what the tags on a role ask for, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::names::RoleArn;
use crate::orphan::OrphanMark;
use crate::subject::{Subject, parse_subjects};

pub mod edit;

/// The names of podgrant's tags under a configurable prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagKeys {
    prefix: String,
}

impl Default for TagKeys {
    fn default() -> Self {
        Self { prefix: "podgrant/".to_owned() }
    }
}

impl TagKeys {
    /// Tag keys that begin with `prefix`, such as `podgrant/`.
    ///
    /// # Errors
    /// An empty prefix, or one that IAM would not take in a key.
    pub fn with_prefix(prefix: &str) -> Result<Self, String> {
        let valid = |c: char| c.is_alphanumeric() || "_.:/=+-@".contains(c);
        if prefix.is_empty() || prefix.chars().count() > 64 || !prefix.chars().all(valid) {
            return Err(format!(
                "tag prefix {prefix:?}: expected 1 to 64 letters, digits and _.:/=+-@, such as podgrant/"
            ));
        }
        if prefix.to_ascii_lowercase().starts_with("aws:") {
            return Err(format!("tag prefix {prefix:?}: AWS keeps aws: for itself"));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key of one of podgrant's tags: `key("enroll")` is `podgrant/enroll`.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether a key is that of one of podgrant's tags, letter for letter.
    pub fn is_key(&self, key: &str, name: &str) -> bool {
        key.strip_prefix(&self.prefix) == Some(name)
    }

    /// Whether a tag belongs to podgrant, however its letters are cased: IAM
    /// holds keys that differ only in case to be the same key.
    pub fn owns(&self, key: &str) -> bool {
        key.get(..self.prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(&self.prefix))
    }
}

/// One line of intent: a subject, and the label of the tag that holds it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Grant {
    pub subject: Subject,
    /// `batch` of `podgrant/grant/batch`; empty for `podgrant/grant`.
    pub label: String,
}

/// `podgrant/on-orphan`: what may become of a role all of whose clusters are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOrphan {
    #[default]
    Keep,
    Delete,
}

/// All that a role's tags ask for. Bad tags are problems beside it, never instead of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleTags {
    /// Sorted, and free of duplicates.
    pub grants: Vec<Grant>,
    /// `podgrant/target-role`: role chaining to another account.
    pub target_role: Option<RoleArn>,
    /// `podgrant/session-tags = off`: EKS adds no session tags.
    pub session_tags_off: bool,
    /// `podgrant/trust = manage`: podgrant may add the missing trust statement.
    pub manage_trust: bool,
    /// `podgrant/adopt = on`: an association that somebody else made, and that has this
    /// very role where a grant of it should be, becomes podgrant's: with its mark, with
    /// the settings that the tags say, and withdrawn with its grant.
    pub adopt: bool,
    pub on_orphan: OnOrphan,
    /// `podgrant/orphaned-since`, written by podgrant itself. Whether it is this role's is for
    /// [`OrphanMark::is_of`] to say.
    pub orphaned_since: Option<OrphanMark>,
    /// Why that tag is no mark, where it is damaged. It asks for nothing, so it is no problem with
    /// what the others ask.
    pub damaged_mark: Option<TagProblem>,
}

/// What is wrong with one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagProblem {
    pub key: String,
    pub problem: String,
}

impl fmt::Display for TagProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tag {}: {}", self.key, self.problem)
    }
}

const KNOWN: &str = "grant, grant/<label>, target-role, session-tags, trust, adopt, on-orphan";

impl RoleTags {
    /// Reads a role's tags. Tags outside podgrant's prefix are passed over.
    pub fn parse(keys: &TagKeys, tags: &BTreeMap<String, String>) -> (Self, Vec<TagProblem>) {
        let mut parsed = Self::default();
        let mut problems = Vec::new();
        for (key, value) in tags.iter().filter(|(key, _)| keys.owns(key)) {
            let mut problem = |problem: String| {
                problems.push(TagProblem { key: key.clone(), problem });
            };
            let Some(name) = key.strip_prefix(keys.prefix()) else {
                problem(format!("expected the prefix {} in just these letters", keys.prefix()));
                continue;
            };
            match name {
                "target-role" => match value.trim().parse() {
                    Ok(role) => parsed.target_role = Some(role),
                    Err(error) => problem(format!("{error}")),
                },
                "session-tags" => match value.trim() {
                    "off" => parsed.session_tags_off = true,
                    "on" => {}
                    other => problem(format!("expected on or off, found {other:?}")),
                },
                "trust" => match value.trim() {
                    "manage" => parsed.manage_trust = true,
                    other => problem(format!("expected manage, found {other:?}")),
                },
                "adopt" => match value.trim() {
                    "on" => parsed.adopt = true,
                    "off" => {}
                    other => problem(format!("expected on or off, found {other:?}")),
                },
                "on-orphan" => match value.trim() {
                    "keep" => {}
                    "delete" => parsed.on_orphan = OnOrphan::Delete,
                    other => problem(format!("expected keep or delete, found {other:?}")),
                },
                OrphanMark::KEY => match value.parse() {
                    Ok(mark) => parsed.orphaned_since = Some(mark),
                    Err(problem) => {
                        parsed.damaged_mark = Some(TagProblem { key: key.clone(), problem });
                    }
                },
                // What `podgrant verify` writes on its own role: it asks for nothing.
                crate::verify::TAG => {}
                "grant" => parsed.add_grants("", value, problem),
                _ => match name.strip_prefix("grant/") {
                    Some("") => problem("expected a label after grant/".to_owned()),
                    Some(label) => parsed.add_grants(label, value, problem),
                    None => problem(format!("unknown; the keys after {} are {KNOWN}", keys.prefix())),
                },
            }
        }
        parsed.grants.sort();
        // The same subject under two labels is one grant; the first label names it.
        parsed.grants.dedup_by(|later, earlier| later.subject == earlier.subject);
        (parsed, problems)
    }

    fn add_grants(&mut self, label: &str, value: &str, mut problem: impl FnMut(String)) {
        for subject in parse_subjects(value) {
            match subject {
                Ok(subject) => self.grants.push(Grant { subject, label: label.to_owned() }),
                Err(error) => problem(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tags: &[(&str, &str)]) -> (RoleTags, Vec<String>) {
        let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (parsed, problems) = RoleTags::parse(&TagKeys::default(), &tags);
        (parsed, problems.iter().map(ToString::to_string).collect())
    }

    fn grants(tags: &RoleTags) -> Vec<String> {
        tags.grants.iter().map(|g| format!("{}:{}", g.label, g.subject)).collect()
    }

    #[test]
    fn every_known_tag_is_read() {
        let (tags, problems) = parse(&[
            ("podgrant/grant", "payments/api@prod-eu"),
            ("podgrant/grant/batch", "batch/job-_@env=prod  reports/_@eu-west-1/analytics"),
            ("podgrant/target-role", "arn:aws:iam::222233334444:role/target"),
            ("podgrant/session-tags", "off"),
            ("podgrant/trust", "manage"),
            ("podgrant/adopt", " on"),
            ("podgrant/on-orphan", "delete"),
            ("podgrant/orphaned-since", "2026-01-01T00:00:00Z AROAEXAMPLE"),
            ("team", "payments"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            grants(&tags),
            ["batch:batch/job-_@env=prod", ":payments/api@prod-eu", "batch:reports/_@eu-west-1/analytics"]
        );
        assert_eq!(tags.target_role.unwrap().role_name(), "target");
        assert!(tags.session_tags_off && tags.manage_trust && tags.adopt);
        assert_eq!(tags.on_orphan, OnOrphan::Delete);
        assert_eq!(tags.orphaned_since.unwrap().to_string(), "2026-01-01T00:00:00Z AROAEXAMPLE");
        assert_eq!(tags.damaged_mark, None);
    }

    #[test]
    fn a_damaged_mark_is_said_and_takes_down_nothing() {
        let (tags, problems) =
            parse(&[("podgrant/grant", "a/b@c"), ("podgrant/orphaned-since", "2026-01-01T00:00:00Z")]);
        assert_eq!((tags.orphaned_since, problems.as_slice()), (None, [].as_slice()));
        assert_eq!(tags.grants.len(), 1);
        insta::assert_snapshot!(tags.damaged_mark.unwrap(), @r#"tag podgrant/orphaned-since: podgrant writes a moment and the role's unique id there, such as 2026-11-24T20:03:00Z AROAEXAMPLE, found "2026-01-01T00:00:00Z""#);
    }

    #[test]
    fn a_bad_tag_never_takes_down_its_neighbours() {
        let (tags, problems) = parse(&[
            ("podgrant/grant", "payments/api@prod-eu payments/api  x/y@prod-us"),
            ("podgrant/session-tags", "never"),
            ("podgrant/grnat", "a/b@c"),
            ("Podgrant/grant", "a/b@c"),
            ("podgrant/grant/", "a/b@c"),
            ("podgrant/grant/empty", " "),
        ]);
        assert_eq!(grants(&tags), [":payments/api@prod-eu", ":x/y@prod-us"]);
        insta::assert_snapshot!(problems.join("\n"), @r#"
        tag Podgrant/grant: expected the prefix podgrant/ in just these letters
        tag podgrant/grant: column 34: expected @ and the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet, found nothing
        tag podgrant/grant/: expected a label after grant/
        tag podgrant/grant/empty: column 1: expected namespace/service-account@clusters, found nothing
        tag podgrant/grnat: unknown; the keys after podgrant/ are grant, grant/<label>, target-role, session-tags, trust, adopt, on-orphan
        tag podgrant/session-tags: expected on or off, found "never"
        "#);
    }

    #[test]
    fn nothing_is_adopted_but_at_a_plain_word() {
        let (tags, problems) = parse(&[("podgrant/adopt", "off")]);
        assert!(!tags.adopt && problems.is_empty());
        let (tags, problems) = parse(&[("podgrant/adopt", "yes")]);
        assert!(!tags.adopt);
        assert_eq!(problems, ["tag podgrant/adopt: expected on or off, found \"yes\""]);
    }

    #[test]
    fn the_same_subject_under_two_labels_is_one_grant() {
        let (tags, _) = parse(&[("podgrant/grant/b", "a/b@c"), ("podgrant/grant/a", "a/b@c")]);
        assert_eq!(grants(&tags), ["a:a/b@c"]);
    }

    #[test]
    fn a_prefix_must_be_one_that_iam_takes() {
        assert!(TagKeys::with_prefix("team/podgrant:").is_ok());
        for bad in ["", "aws:x/", "pod,grant/", "AWS:x/"] {
            assert!(TagKeys::with_prefix(bad).is_err(), "{bad}");
        }
    }
}
