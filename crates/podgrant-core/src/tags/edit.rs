//! How a role's tags have to change for a subject to be granted, or withdrawn.
//!
//! Tags and text that say nothing of the subjects in question stay as they are, letter by letter: also what does not
//! parse, for it is somebody's, and a finding says what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use super::TagKeys;
use crate::subject::Subject;

/// Characters of a tag's value (IAM API reference, `Tag.Value`).
const VALUE_CHARACTERS: usize = 256;
/// Characters of a tag's key (IAM API reference, `Tag.Key`).
const KEY_CHARACTERS: usize = 128;
/// Tags of a role (IAM and STS quotas).
const TAGS_OF_A_ROLE: usize = 50;

/// A role's tags as they would be, and how they come to be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// All of the role's tags, changed or not.
    pub tags: BTreeMap<String, String>,
    /// In the order of their keys; empty where there is nothing to do.
    pub changes: Vec<TagChange>,
    /// Subjects that were asked for, and are so already.
    pub already: BTreeSet<Subject>,
}

impl Edit {
    /// From these tags to those.
    pub fn between(before: &BTreeMap<String, String>, after: BTreeMap<String, String>) -> Self {
        edit(before, after, BTreeSet::new())
    }
}

/// One tag, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagChange {
    pub key: String,
    /// None: the tag is new.
    pub before: Option<String>,
    /// None: the tag goes.
    pub after: Option<String>,
}

/// Why subjects can't be written into tags.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("the label {label:?}: {problem}")]
    Label { label: String, problem: String },
    #[error(
        "{subject}: IAM takes letters, digits, spaces and _.:/=+-@ in a tag's value, and {character:?} is none of them"
    )]
    Character { subject: Subject, character: char },
    #[error(
        "{subject} has {length} characters, and a tag's value at most {VALUE_CHARACTERS}: select the clusters by fewer \
         or shorter tags, or by name"
    )]
    TooLong { subject: Subject, length: usize },
    #[error(
        "the role would have {tags} tags, and IAM allows {TAGS_OF_A_ROLE}: take tags away that nobody needs, or name \
         clusters by a tag that they share (env=prod) instead of one by one"
    )]
    TooManyTags { tags: usize },
}

/// Grants subjects under a label; none: under `podgrant/grant` itself. What any label grants already is granted.
///
/// Where a value would grow too long the next one takes it: `podgrant/grant`, `podgrant/grant/2`, …, or with the label
/// `batch` `podgrant/grant/batch`, `podgrant/grant/batch-2`, ….
///
/// # Errors
/// What IAM would not take.
pub fn grant(
    keys: &TagKeys,
    tags: &BTreeMap<String, String>,
    label: Option<&str>,
    subjects: &BTreeSet<Subject>,
) -> Result<Edit, EditError> {
    if let Some(label) = label {
        check_label(keys, label)?;
    }
    let standing = granted(keys, tags);
    let (already, new): (BTreeSet<Subject>, BTreeSet<Subject>) =
        subjects.iter().cloned().partition(|subject| standing.contains(subject));
    let mut after = tags.clone();
    for subject in &new {
        let text = checked(subject)?;
        let (key, value) = room(keys, &after, label, &text);
        after.insert(key, value);
    }
    // AWS's own tags do not count (IAM and STS quotas).
    let count = after.keys().filter(|key| !key.starts_with("aws:")).count();
    if !new.is_empty() && count > TAGS_OF_A_ROLE {
        return Err(EditError::TooManyTags { tags: count });
    }
    Ok(edit(tags, after, already))
}

/// Withdraws subjects, under whatever label they stand. A tag that is left with nothing goes.
pub fn revoke(keys: &TagKeys, tags: &BTreeMap<String, String>, subjects: &BTreeSet<Subject>) -> Edit {
    let standing = granted(keys, tags);
    let already = subjects.iter().filter(|subject| !standing.contains(subject)).cloned().collect();
    let mut after = tags.clone();
    for (key, value) in tags.iter().filter(|(key, _)| is_grant(keys, key)) {
        let goes = |word: &str| word.parse().is_ok_and(|subject| subjects.contains(&subject));
        if !value.split_whitespace().any(goes) {
            continue;
        }
        match without(value, goes) {
            left if left.is_empty() => drop(after.remove(key)),
            left => drop(after.insert(key.clone(), left)),
        }
    }
    edit(tags, after, already)
}

/// What a role's tags grant, whatever else is wrong with them.
fn granted(keys: &TagKeys, tags: &BTreeMap<String, String>) -> BTreeSet<Subject> {
    let values = tags.iter().filter(|(key, _)| is_grant(keys, key)).map(|(_, value)| value);
    values.flat_map(|value| value.split_whitespace()).filter_map(|word| word.parse().ok()).collect()
}

/// Whether a tag is one that subjects are read from.
fn is_grant(keys: &TagKeys, key: &str) -> bool {
    match key.strip_prefix(keys.prefix()) {
        Some("grant") => true,
        Some(name) => name.strip_prefix("grant/").is_some_and(|label| !label.is_empty()),
        None => false,
    }
}

fn check_label(keys: &TagKeys, label: &str) -> Result<(), EditError> {
    let error = |problem: String| Err(EditError::Label { label: label.to_owned(), problem });
    let valid = |c: char| c.is_alphanumeric() || "_.:/=+-@".contains(c);
    if label.is_empty() || !label.chars().all(valid) {
        return error("expected letters, digits and _.:/=+-@, such as batch".to_owned());
    }
    // With room for a number behind it.
    let most = KEY_CHARACTERS.saturating_sub(keys.key("grant/").chars().count() + 3);
    if label.chars().count() > most {
        return error(format!("expected at most {most} characters"));
    }
    Ok(())
}

/// The text of a subject, as IAM takes it.
fn checked(subject: &Subject) -> Result<String, EditError> {
    let text = subject.to_string();
    let valid = |c: &char| c.is_alphanumeric() || "_.:/=+-@".contains(*c);
    if let Some(character) = text.chars().find(|c| !valid(c)) {
        return Err(EditError::Character { subject: subject.clone(), character });
    }
    match text.chars().count() {
        length if length > VALUE_CHARACTERS => Err(EditError::TooLong { subject: subject.clone(), length }),
        _ => Ok(text),
    }
}

/// The first tag of a label's that has room for one more subject, and its value with it.
fn room(
    keys: &TagKeys,
    tags: &BTreeMap<String, String>,
    label: Option<&str>,
    subject: &str,
) -> (String, String) {
    let mut number = 1;
    loop {
        let name = match (label, number) {
            (None, 1) => "grant".to_owned(),
            (None, _) => format!("grant/{number}"),
            (Some(label), 1) => format!("grant/{label}"),
            (Some(label), _) => format!("grant/{label}-{number}"),
        };
        number += 1;
        let key = keys.key(&name);
        // IAM holds keys that differ only in case to be the same key: to set one is to overwrite the other.
        let standing = tags.iter().find(|(known, _)| known.eq_ignore_ascii_case(&key));
        let (key, grown) = match standing {
            None => return (key, subject.to_owned()),
            Some((known, _)) if !is_grant(keys, known) => continue,
            Some((known, value)) if value.trim().is_empty() => (known, subject.to_owned()),
            Some((known, value)) if value.ends_with(char::is_whitespace) => {
                (known, format!("{value}{subject}"))
            }
            Some((known, value)) => (known, format!("{value} {subject}")),
        };
        if grown.chars().count() <= VALUE_CHARACTERS {
            return (key.clone(), grown);
        }
    }
}

/// A value without some of its words; the others keep the space that stood before them.
fn without(value: &str, goes: impl Fn(&str) -> bool) -> String {
    let mut left = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let word_at = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
        let (space, from_word) = rest.split_at(word_at);
        let end = from_word.find(char::is_whitespace).unwrap_or(from_word.len());
        let (word, after) = from_word.split_at(end);
        rest = after;
        if word.is_empty() || goes(word) {
            continue;
        }
        if !left.is_empty() {
            left.push_str(space);
        }
        left.push_str(word);
    }
    left
}

fn edit(
    before: &BTreeMap<String, String>,
    after: BTreeMap<String, String>,
    already: BTreeSet<Subject>,
) -> Edit {
    let changes = changes(before, &after);
    Edit { tags: after, changes, already }
}

/// How tags come to be others, in the order of their keys.
pub fn changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<TagChange> {
    let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = all.into_iter().filter(|key| before.get(*key) != after.get(*key));
    changed
        .map(|key| TagChange {
            key: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests;
