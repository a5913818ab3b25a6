//! What a message led to: for the log, for the bus, and as the answer to a
//! direct invoke.

use podgrant_core::outcome::Wait;
use podgrant_core::plan::OrphanStanding;
use podgrant_core::{Finding, Verdict};
use podgrant_events::Trigger;
use serde::Serialize;

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub function: &'static str,
    /// The event's id; the answer to whoever asks which message this was.
    pub id: String,
    /// What the event was read as; none where it made no sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    pub ending: Ending,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// True where the plan was only printed.
    pub dry_run: bool,
    pub changes: Vec<ChangeReport>,
    /// What a person should know.
    pub findings: Vec<Finding>,
    /// What comes back as a fresh message, and why.
    pub waiting: Vec<String>,
    /// Parts of a sweep that no queue takes: to be served at once.
    #[serde(skip)]
    pub parts: Vec<Wait>,
    pub unchanged: usize,
    /// Every orphaned role and how it stands, where the whole fleet was looked at for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orphans: Vec<OrphanStanding>,
    /// Whether AWS had too many calls for some of what was to be read.
    #[serde(skip)]
    pub throttled: bool,
    pub duration_ms: i64,
}

/// One change, as the plan prints it, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReport {
    pub change: String,
    #[serde(flatten)]
    pub verdict: Option<Verdict>,
}

/// What is to become of the message itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Acknowledged: all is as it should be.
    Done,
    /// Acknowledged: what is left comes back as fresh messages.
    NotYet,
    /// Acknowledged: nothing for this function to do.
    Dropped,
    /// Not acknowledged: delivered again, and at last to the dead-letter queue.
    Failed,
    /// Not acknowledged either: no delivery will make sense of it.
    Malformed,
}

impl Ending {
    /// How two pieces of work ended that are one message: the worse of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |ending: Self| match ending {
            Self::Dropped => 0,
            Self::Done => 1,
            Self::NotYet => 2,
            Self::Failed => 3,
            Self::Malformed => 4,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl Report {
    /// A report of a message that led to nothing.
    pub fn of_nothing(function: &'static str, id: &str, ending: Ending, reason: String) -> Self {
        Self {
            function,
            id: id.to_owned(),
            trigger: None,
            ending,
            reason: Some(reason),
            dry_run: false,
            changes: Vec::new(),
            findings: Vec::new(),
            waiting: Vec::new(),
            parts: Vec::new(),
            unchanged: 0,
            orphans: Vec::new(),
            throttled: false,
            duration_ms: 0,
        }
    }

    /// Adds what a part of the same work came to.
    pub fn add(&mut self, part: Self) {
        self.ending = self.ending.and(part.ending);
        self.reason = match (self.reason.take(), part.reason) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        self.changes.extend(part.changes);
        self.findings.extend(part.findings);
        self.waiting.extend(part.waiting);
        self.unchanged += part.unchanged;
        self.orphans.extend(part.orphans);
        self.throttled |= part.throttled;
    }

    /// Puts a later look at the same things in place of this one; what was done stays done.
    pub fn supersede(&mut self, later: Self) {
        let earlier = std::mem::replace(self, later);
        self.ending = self.ending.and(earlier.ending);
        self.reason = match (earlier.reason, self.reason.take()) {
            (Some(one), Some(other)) => Some(format!("{one}; {other}")),
            (one, other) => one.or(other),
        };
        if self.is_failure() && self.orphans.is_empty() {
            (self.orphans, self.unchanged) = (earlier.orphans, earlier.unchanged);
        }
        if !self.dry_run {
            let later = std::mem::replace(&mut self.changes, earlier.changes);
            self.changes.extend(later);
        }
        // What AWS refused at the first look it is not asked again.
        let lost = earlier.findings.into_iter().filter(|finding| !self.findings.contains(finding));
        let lost: Vec<Finding> = lost.collect();
        self.findings.extend(lost);
        self.waiting.extend(earlier.waiting);
        self.throttled |= earlier.throttled;
    }

    /// Whether the message must stay on its queue.
    pub fn is_failure(&self) -> bool {
        matches!(self.ending, Ending::Failed | Ending::Malformed)
    }
}
