//! What a migration changed, noted before it is changed: what is needed to take it back, and to know of service accounts
//! that have no annotation any more.
//!
//! A line of JSON for what is about to be done, and another for how it ended. What is there decides what is next; the
//! journal only says what was there before, and whose doing it was.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::Workload;

/// The shape of its lines. It grows by fields; another meaning is another number.
const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    version: u32,
    /// When, by RFC 3339.
    pub at: String,
    /// The cluster's ARN: accounts may have clusters of the same name.
    pub cluster: String,
    /// `namespace/name`.
    pub service_account: String,
    /// The role of its annotation.
    pub role: String,
    #[serde(flatten)]
    pub entry: Entry,
    pub stage: Stage,
}

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// About to be done. With no other line after it, it may have been done.
    Begun,
    Done,
    /// It was refused, and certainly not done.
    NotDone,
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

/// What was done for one service account, for certain or maybe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moved {
    /// The role of its annotation.
    pub role: String,
    /// The role's own id, where it was changed.
    pub role_id: Option<String>,
    pub grants: bool,
    /// Whether the role lets podgrant see to its trust policy since something was moved with it.
    pub trusts: bool,
    pub annotation: bool,
    pub statements: Vec<String>,
}

/// All that was done, by cluster and service account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    moved: BTreeMap<(String, String), Account>,
    /// Roles whose trust policy podgrant was let see to: that was for all that are moved with the role.
    trusting: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Account {
    moved: Moved,
    /// What was about to be done last.
    begun: Option<Entry>,
    /// Whether anything was done, or may have been.
    is_touched: bool,
}

/// A line that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct JournalError {
    pub line: usize,
    pub problem: String,
}

impl Line {
    /// `cluster`: its ARN.
    pub fn new(
        at: String,
        cluster: &str,
        account: &Workload,
        role: &str,
        entry: Entry,
        stage: Stage,
    ) -> Self {
        Self {
            version: VERSION,
            at,
            cluster: cluster.to_owned(),
            service_account: account.to_string(),
            role: role.to_owned(),
            entry,
            stage,
        }
    }
}

impl Moved {
    fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Tags { role_id, grants, trusts, .. } => {
                self.role_id = Some(role_id);
                self.grants |= grants;
                self.trusts |= trusts;
            }
            Entry::Annotation => self.annotation = true,
            Entry::Statement { role_id, statements } => {
                self.role_id = Some(role_id);
                for statement in statements {
                    if !self.statements.contains(&statement) {
                        self.statements.push(statement);
                    }
                }
            }
            Entry::Association | Entry::Restart { .. } | Entry::Undone => {}
        }
    }
}

impl Account {
    /// With what may have been done.
    fn whole(mut self) -> Moved {
        if let Some(begun) = self.begun {
            self.moved.add(begun);
        }
        self.moved
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
            if line.stage == Stage::Done {
                self.remove(&key);
            }
            return;
        }
        let account = self.moved.entry(key.clone()).or_default();
        account.moved.role.clone_from(&line.role);
        // Of what was begun before and has no end, nobody knows: it may have been done.
        let before = account.begun.take().filter(|begun| line.stage == Stage::Begun || *begun != line.entry);
        let done = (line.stage == Stage::Done).then(|| line.entry.clone());
        for entry in before.into_iter().chain(done) {
            account.moved.add(entry);
            account.is_touched = true;
        }
        if line.stage == Stage::Begun {
            account.begun = Some(line.entry);
        }
        if account.moved.trusts {
            self.trusting.insert(line.role);
        }
        // All that was tried was refused.
        if account.begun.is_none() && !account.is_touched {
            self.moved.remove(&key);
        }
    }

    fn remove(&mut self, key: &(String, String)) {
        let Some(account) = self.moved.remove(key) else { return };
        let moved = account.whole();
        if !self.moved.values().any(|account| account.moved.role == moved.role) {
            self.trusting.remove(&moved.role);
        } else if moved.trusts {
            self.trusting.insert(moved.role);
        }
    }

    /// What was done for a service account, and not taken back. `cluster`: its ARN.
    pub fn of(&self, cluster: &str, account: &Workload) -> Option<Moved> {
        let mut moved = self.moved.get(&(cluster.to_owned(), account.to_string()))?.clone().whole();
        moved.trusts |= self.trusting.contains(&moved.role);
        Some(moved)
    }

    /// The service accounts of a cluster that something was done for, and not taken back.
    pub fn accounts(&self, cluster: &str) -> BTreeSet<Workload> {
        let here = self.moved.keys().filter(|(of, _)| of == cluster);
        here.filter_map(|(_, account)| {
            let (namespace, name) = account.split_once('/')?;
            Some(Workload { namespace: namespace.parse().ok()?, service_account: name.parse().ok()? })
        })
        .collect()
    }
}
