//! The text of a grant: `namespace/service-account@clusters`.
//!
//! ```text
//! value     = subject *( space subject )
//! subject   = name-or-pattern "/" name-or-pattern "@" clusters
//! pattern   = "_" | prefix "_"
//! clusters  = "_" | name | region "/" name | key "=" value *( "+" key "=" value )
//! ```
//!
//! IAM tag values hold no `*`, so `_` stands in its place: a Kubernetes name
//! never contains one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Cluster;
use crate::names::{ClusterId, ClusterName, Namespace, Region, ServiceAccount, Workload, is_label};

/// One subject: which service account, on which clusters.
///
/// Its `Display` is the canonical text: parsing it gives the same subject again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject {
    pub namespace: Pattern<Namespace>,
    pub service_account: Pattern<ServiceAccount>,
    pub clusters: ClusterSelector,
}

/// A whole name, or the beginning of one (`job-_`; `_` alone is any name).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern<N> {
    Exact(N),
    /// What stands before the `_`; empty for `_` alone.
    Prefix(String),
}

/// Which clusters a subject means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClusterSelector {
    /// `_`: the whole fleet.
    All,
    /// `prod-eu`: the one cluster of that name.
    Name(ClusterName),
    /// `eu-west-1/prod-eu`: where names repeat.
    RegionAndName(Region, ClusterName),
    /// `env=prod+tier=gold`: every cluster that carries all these tags. Never empty.
    Tags(BTreeMap<String, String>),
}

/// Where a subject stops making sense, and what would have made sense there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: expected {expected}, found {found}")]
pub struct SubjectError {
    /// Counted in characters from 1, from the beginning of the tag's value.
    pub column: usize,
    /// What stands there: quoted text, or "nothing".
    pub found: String,
    /// What was expected there.
    pub expected: String,
}

const EXPECTED_CLUSTERS: &str =
    "the clusters: a name (prod-eu), region/name, key=value pairs joined by +, or _ for the whole fleet";

/// Parses a tag's value: subjects parted by spaces, each judged on its own.
///
/// A bad subject never hides its neighbours. Columns count from the beginning
/// of the value. An empty value is one error.
pub fn parse_subjects(value: &str) -> Vec<Result<Subject, SubjectError>> {
    let mut subjects = Vec::new();
    let mut word = String::new();
    let mut word_column = 1;
    for (index, c) in value.chars().chain([' ']).enumerate() {
        if !c.is_whitespace() {
            if word.is_empty() {
                word_column = index + 1;
            }
            word.push(c);
        } else if !word.is_empty() {
            subjects.push(parse_subject(&word, word_column));
            word.clear();
        }
    }
    if subjects.is_empty() {
        subjects.push(Err(SubjectError {
            column: 1,
            found: "nothing".to_owned(),
            expected: "namespace/service-account@clusters".to_owned(),
        }));
    }
    subjects
}

/// A piece of the value, and the column that it begins at.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    column: usize,
}

impl<'a> Piece<'a> {
    fn split_once(self, separator: char) -> Option<(Piece<'a>, Piece<'a>)> {
        let (left, right) = self.text.split_once(separator)?;
        let right = Piece { text: right, column: self.column + left.chars().count() + 1 };
        Some((Piece { text: left, ..self }, right))
    }

    fn end(self) -> Piece<'a> {
        Piece { text: "", column: self.column + self.text.chars().count() }
    }

    /// The piece from its first character that is not `valid`; its end if all are.
    fn first_not(self, valid: impl Fn(char) -> bool) -> Piece<'a> {
        match self.text.char_indices().enumerate().find(|(_, (_, c))| !valid(*c)) {
            Some((index, (offset, _))) => Piece { text: &self.text[offset..], column: self.column + index },
            None => self.end(),
        }
    }

    fn error(self, expected: impl Into<String>) -> SubjectError {
        let found = match self.text {
            "" => "nothing".to_owned(),
            text => {
                let shown: String = text.chars().take(40).collect();
                format!("{shown:?}")
            }
        };
        SubjectError { column: self.column, found, expected: expected.into() }
    }
}

fn parse_subject(text: &str, column: usize) -> Result<Subject, SubjectError> {
    let whole = Piece { text, column };
    let (workload, clusters) = match whole.split_once('@') {
        Some((workload, clusters)) => (workload, Some(clusters)),
        None => (whole, None),
    };
    let Some((namespace, service_account)) = workload.split_once('/') else {
        let rest = Piece { text: &text[workload.text.len()..], ..workload.end() };
        return Err(rest.error("/ and a service account after the namespace"));
    };
    let namespace = parse_pattern(namespace, "a namespace", label_char, 63, is_label)?;
    let service_account = parse_pattern(
        service_account,
        "a service account",
        |c| label_char(c) || c == '.',
        253,
        |text| text.split('.').all(is_label),
    )?;
    let Some(clusters) = clusters else {
        return Err(whole.end().error(format!("@ and {EXPECTED_CLUSTERS}")));
    };
    Ok(Subject { namespace, service_account, clusters: parse_clusters(clusters)? })
}

fn label_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

fn parse_pattern<N: FromStr>(
    piece: Piece<'_>,
    what: &str,
    valid_char: impl Fn(char) -> bool + Copy,
    longest: usize,
    valid_name: impl Fn(&str) -> bool,
) -> Result<Pattern<N>, SubjectError> {
    if piece.text.is_empty() {
        return Err(piece.error(what));
    }
    let bad = piece.first_not(valid_char);
    let prefix = match bad.text {
        "" => None,
        "_" => piece.text.strip_suffix('_'),
        text if text.starts_with('_') => {
            return Err(bad.error(format!("{what} in which _ stands only at the end")));
        }
        _ => {
            let letters = if valid_char('.') { "digits, - and ." } else { "digits and -" };
            return Err(bad.error(format!("{what} of lower-case letters, {letters}")));
        }
    };
    let name = prefix.unwrap_or(piece.text);
    if name.len() > longest {
        return Err(piece.error(format!("{what} of at most {longest} characters")));
    }
    match prefix {
        Some("") => Ok(Pattern::Prefix(String::new())),
        // A prefix is right if some name begins with it.
        Some(prefix) if valid_name(&format!("{prefix}a")) => Ok(Pattern::Prefix(prefix.to_owned())),
        Some(_) => Err(piece.error(format!("the beginning of {what}, then _"))),
        None => piece
            .text
            .parse()
            .map(Pattern::Exact)
            .map_err(|_| piece.error(format!("{what} that begins and ends with a letter or digit"))),
    }
}

fn parse_clusters(piece: Piece<'_>) -> Result<ClusterSelector, SubjectError> {
    match piece.text {
        "" => return Err(piece.error(EXPECTED_CLUSTERS)),
        "_" => return Ok(ClusterSelector::All),
        _ => {}
    }
    if piece.text.contains('=') {
        return parse_cluster_tags(piece);
    }
    if let Some((region, name)) = piece.split_once('/') {
        let region = region.text.parse().map_err(|_| region.error(Region::EXPECTED))?;
        return Ok(ClusterSelector::RegionAndName(region, parse_cluster_name(name)?));
    }
    Ok(ClusterSelector::Name(parse_cluster_name(piece)?))
}

fn parse_cluster_name(piece: Piece<'_>) -> Result<ClusterName, SubjectError> {
    piece.text.parse().map_err(|_| {
        let bad = piece.first_not(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let place = if bad.text.is_empty() { piece } else { bad };
        place.error(ClusterName::EXPECTED)
    })
}

fn parse_cluster_tags(piece: Piece<'_>) -> Result<ClusterSelector, SubjectError> {
    let mut tags = BTreeMap::new();
    let mut rest = Some(piece);
    while let Some(current) = rest {
        let (pair, after) = match current.split_once('+') {
            Some((pair, after)) => (pair, Some(after)),
            None => (current, None),
        };
        rest = after;
        let Some((key, value)) = pair.split_once('=') else {
            return Err(pair.end().error("= and a value, as in env=prod"));
        };
        if key.text.is_empty() {
            return Err(key.error("a cluster tag's key before ="));
        }
        if let Some((_, extra)) = value.split_once('=') {
            let equals = Piece { text: "=", column: extra.column - 1 };
            return Err(equals.error("+ between key=value pairs"));
        }
        match value.text {
            "" => return Err(value.error(format!("a value for the cluster tag {}", key.text))),
            // `_` means "any" elsewhere; here that would be a guess.
            "_" => return Err(value.error(format!("one value for the cluster tag {}, not _", key.text))),
            _ => {}
        }
        if tags.insert(key.text.to_owned(), value.text.to_owned()).is_some() {
            return Err(key.error(format!("each cluster tag once, but {} is named twice", key.text)));
        }
    }
    Ok(ClusterSelector::Tags(tags))
}

impl ClusterSelector {
    /// Whether the selector means this cluster.
    pub fn matches(&self, cluster: &Cluster) -> bool {
        match self {
            Self::All => true,
            Self::Name(_) | Self::RegionAndName(..) => self.names(&cluster.id),
            Self::Tags(tags) => tags.iter().all(|(key, value)| cluster.tags.get(key) == Some(value)),
        }
    }

    /// Whether the selector is this cluster's name: what can be said of a cluster
    /// that is gone, tags and all.
    pub(crate) fn names(&self, cluster: &ClusterId) -> bool {
        match self {
            Self::Name(name) => *name == cluster.name,
            Self::RegionAndName(region, name) => *region == cluster.region && *name == cluster.name,
            Self::All | Self::Tags(_) => false,
        }
    }

    /// The cluster's name, where the selector is one: no listing of the fleet is
    /// needed, and the cluster's absence is news.
    pub fn cluster_name(&self) -> Option<&ClusterName> {
        match self {
            Self::Name(name) | Self::RegionAndName(_, name) => Some(name),
            Self::All | Self::Tags(_) => None,
        }
    }
}

impl<N: AsRef<str>> Pattern<N> {
    pub fn matches(&self, name: &N) -> bool {
        match self {
            Self::Exact(exact) => exact.as_ref() == name.as_ref(),
            Self::Prefix(prefix) => name.as_ref().starts_with(prefix.as_str()),
        }
    }
}

impl Subject {
    /// Whether the subject's names and patterns mean this service account.
    pub fn means(&self, workload: &Workload) -> bool {
        self.namespace.matches(&workload.namespace) && self.service_account.matches(&workload.service_account)
    }

    /// Whether it may mean several service accounts.
    pub fn is_pattern(&self) -> bool {
        matches!(self.namespace, Pattern::Prefix(_)) || matches!(self.service_account, Pattern::Prefix(_))
    }

    /// What comes no later than any service account that it means, in their order.
    pub fn lowest(&self) -> Workload {
        Workload {
            namespace: match &self.namespace {
                Pattern::Exact(name) => name.clone(),
                Pattern::Prefix(prefix) => Namespace::no_later_than(prefix),
            },
            service_account: match (&self.namespace, &self.service_account) {
                (Pattern::Exact(_), Pattern::Exact(name)) => name.clone(),
                (Pattern::Exact(_), Pattern::Prefix(prefix)) => ServiceAccount::no_later_than(prefix),
                (Pattern::Prefix(_), _) => ServiceAccount::no_later_than(""),
            },
        }
    }

    /// Whether it may mean a service account from this one on, in their order.
    pub fn reaches(&self, from: &Workload) -> bool {
        fn is_over<N: AsRef<str> + Ord>(pattern: &Pattern<N>, name: &N) -> bool {
            match pattern {
                Pattern::Exact(exact) => name > exact,
                Pattern::Prefix(prefix) => {
                    name.as_ref() > prefix.as_str() && !name.as_ref().starts_with(prefix.as_str())
                }
            }
        }
        match &self.namespace {
            Pattern::Exact(namespace) if *namespace == from.namespace => {
                !is_over(&self.service_account, &from.service_account)
            }
            namespace => !is_over(namespace, &from.namespace),
        }
    }

    /// The service account, where both parts are whole names.
    pub fn workload(&self) -> Option<Workload> {
        match (&self.namespace, &self.service_account) {
            (Pattern::Exact(namespace), Pattern::Exact(service_account)) => {
                Some(Workload { namespace: namespace.clone(), service_account: service_account.clone() })
            }
            _ => None,
        }
    }
}

impl FromStr for Subject {
    type Err = SubjectError;
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        match text.chars().position(char::is_whitespace) {
            Some(index) => Err(SubjectError {
                column: index + 1,
                found: "a space".to_owned(),
                expected: "one subject".to_owned(),
            }),
            None => parse_subject(text, 1),
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = SubjectError;
    fn try_from(text: String) -> Result<Self, SubjectError> {
        text.parse()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.to_string()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.service_account, self.clusters)
    }
}

impl<N: fmt::Display> fmt::Display for Pattern<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}_"),
        }
    }
}

impl fmt::Display for ClusterSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("_"),
            Self::Name(name) => name.fmt(f),
            Self::RegionAndName(region, name) => write!(f, "{region}/{name}"),
            Self::Tags(tags) => {
                for (index, (key, value)) in tags.iter().enumerate() {
                    let plus = if index == 0 { "" } else { "+" };
                    write!(f, "{plus}{key}={value}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
