//! What a migration changed, noted before it is changed: what is needed to take it back, and to know of service accounts
//! that have no annotation any more.
//!
//! A line of JSON a step, at first as what is about to be done and then as done. What is there decides what is next; the
//! journal only says what was there before.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::{ClusterId, Workload};

/// The shape of its lines. It grows by fields; another meaning is another number.
const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    version: u32,
    /// When, by RFC 3339.
    pub at: String,
    pub cluster: String,
    /// `namespace/name`.
    pub service_account: String,
    /// The role of its annotation.
    pub role: String,
    #[serde(flatten)]
    pub entry: Entry,
    /// Whether it is done, or about to be.
    pub done: bool,
}

/// What is, or was, changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Entry {
    /// The role's tags.
    Tags {
        role_id: String,
        /// Every tag that changes, as it was; none where there was none.
        before: BTreeMap<String, Option<String>>,
        after: BTreeMap<String, Option<String>>,
        /// Whether the place is asked for by it.
        grants: bool,
        /// Whether podgrant is let to see to the trust policy by it.
        trusts: bool,
    },
    /// An association was asked for.
    Association,
    /// A workload's pods were made anew.
    Restart { workload: String },
    /// The annotation was taken away.
    Annotation,
    /// Statements for IRSA were taken out of the trust policy, these.
    Statement { role_id: String, statements: Vec<String> },
    /// All of it was taken back.
    Undone,
}

/// What was done for one service account, begun or done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// The role of its annotation.
    pub role: String,
    /// The role's own id, where it was changed.
    pub role_id: Option<String>,
    pub grants: bool,
    pub trusts: bool,
    pub annotation: bool,
    pub statements: Vec<String>,
}

/// All that was done, by cluster and service account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    moved: BTreeMap<(String, String), Moved>,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct JournalError {
    pub line: usize,
    pub problem: String,
}

impl Line {
    pub fn new(
        at: String,
        cluster: &ClusterId,
        account: &Workload,
        role: &str,
        entry: Entry,
        done: bool,
    ) -> Self {
        Self {
            version: VERSION,
            at,
            cluster: cluster.to_string(),
            service_account: account.to_string(),
            role: role.to_owned(),
            entry,
            done,
        }
    }
}

impl Journal {
    /// Reads all lines. What follows the last line's end was never finished: what it was about was not begun.
    ///
    /// # Errors
    /// The first line that is none, or of a shape that is not known.
    pub fn read(text: &str) -> Result<Self, JournalError> {
        let mut journal = Self::default();
        let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
        for (line, number) in whole.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
            let error = |problem: String| JournalError { line: number, problem };
            let line: Line = serde_json::from_str(line).map_err(|problem| error(problem.to_string()))?;
            if line.version != VERSION {
                return Err(error(format!("version {} is not known, but {VERSION} is", line.version)));
            }
            journal.add(line);
        }
        Ok(journal)
    }

    /// Adds what comes after.
    pub fn add(&mut self, line: Line) {
        let key = (line.cluster, line.service_account);
        if line.entry == Entry::Undone {
            if line.done {
                self.moved.remove(&key);
            }
            return;
        }
        let moved = self.moved.entry(key).or_default();
        moved.role = line.role;
        match line.entry {
            Entry::Tags { role_id, grants, trusts, .. } => {
                moved.role_id = Some(role_id);
                moved.grants |= grants;
                moved.trusts |= trusts;
            }
            Entry::Annotation => moved.annotation = true,
            Entry::Statement { role_id, statements } => {
                moved.role_id = Some(role_id);
                let new = statements.into_iter().filter(|one| !moved.statements.contains(one));
                let new: Vec<String> = new.collect();
                moved.statements.extend(new);
            }
            Entry::Association | Entry::Restart { .. } | Entry::Undone => {}
        }
    }

    /// What was done for a service account, and not taken back.
    pub fn of(&self, cluster: &ClusterId, account: &Workload) -> Option<&Moved> {
        self.moved.get(&(cluster.to_string(), account.to_string()))
    }

    /// The service accounts of a cluster that something was done for, and not taken back.
    pub fn accounts(&self, cluster: &ClusterId) -> BTreeSet<Workload> {
        let cluster = cluster.to_string();
        let here = self.moved.keys().filter(|(of, _)| *of == cluster);
        here.filter_map(|(_, account)| {
            let (namespace, name) = account.split_once('/')?;
            Some(Workload { namespace: namespace.parse().ok()?, service_account: name.parse().ok()? })
        })
        .collect()
    }
}
