//! Which service accounts a cluster has: what patterns are expanded by.

use std::collections::BTreeSet;
use std::fmt;

use crate::agent::pods::AccessEntry;
use crate::names::{Namespace, Workload};
use crate::subject::{Pattern, Subject};

/// Namespaces of a cluster that podgrant looks at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// Whichever there are: a pattern does not name its namespace.
    All,
    Named(BTreeSet<Namespace>),
}

impl Namespaces {
    /// Where everything is that a subject may mean.
    pub fn of(subject: &Subject) -> Self {
        match &subject.namespace {
            Pattern::Exact(namespace) => Self::Named([namespace.clone()].into()),
            Pattern::Prefix(_) => Self::All,
        }
    }

    #[must_use]
    pub fn and(self, others: Self) -> Self {
        match (self, others) {
            (Self::Named(mut some), Self::Named(others)) => {
                some.extend(others);
                Self::Named(some)
            }
            _ => Self::All,
        }
    }

    pub fn hold(&self, others: &Self) -> bool {
        match (self, others) {
            (Self::All, _) => true,
            (Self::Named(_), Self::All) => false,
            (Self::Named(some), Self::Named(others)) => others.is_subset(some),
        }
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all namespaces"),
            Self::Named(names) => {
                let names: Vec<&str> = names.iter().map(Namespace::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// What a cluster's own Kubernetes API tells of its service accounts, or why it tells nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAccounts {
    Seen(SeenAccounts),
    Unseen(UnseenAccounts),
}

/// All service accounts of some namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenAccounts {
    namespaces: Namespaces,
    /// Sorted, each once.
    accounts: Vec<Workload>,
}

impl SeenAccounts {
    pub fn new(namespaces: Namespaces, accounts: BTreeSet<Workload>) -> Self {
        Self { namespaces, accounts: accounts.into_iter().collect() }
    }

    /// Whether all that a subject may mean would be here.
    pub fn are_whole_for(&self, subject: &Subject) -> bool {
        self.namespaces.hold(&Namespaces::of(subject))
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    pub fn hold(&self, workload: &Workload) -> bool {
        self.accounts.binary_search(workload).is_ok()
    }

    /// Those that a subject means, in their order.
    pub fn meant_by<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a Workload> {
        let lowest = subject.lowest();
        let first = self.accounts.partition_point(|account| *account < lowest);
        let from_there = self.accounts.get(first..).unwrap_or_default().iter();
        from_there.take_while(|account| subject.reaches(account)).filter(|account| subject.means(account))
    }
}

/// Why a cluster's service accounts are not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnseenAccounts {
    /// Its Kubernetes API is not asked, could not be reached, or made no sense.
    Unreachable { why: String },
    /// It does not know podgrant, or shows too little.
    Closed { why: String, entry: AccessEntry },
    /// podgrant's access entry was just made, and is not heeded yet.
    Opening { why: String },
    /// No time was left to look.
    NoTime,
}

impl UnseenAccounts {
    /// Why it is worth to come back soon, if it is.
    pub fn is_to_come(&self) -> Option<&'static str> {
        match self {
            Self::Closed { entry: AccessEntry::Absent | AccessEntry::WithoutPolicy, .. }
            | Self::Opening { .. } => Some("its Kubernetes API is being opened"),
            Self::NoTime => Some("no time was left to look at them"),
            Self::Unreachable { .. } | Self::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(text: &str) -> Workload {
        let (namespace, service_account) = text.split_once('/').unwrap();
        Workload { namespace: namespace.parse().unwrap(), service_account: service_account.parse().unwrap() }
    }

    #[test]
    fn a_subject_means_what_it_matches_wherever_that_stands() {
        let names = [
            "a/x",
            "batch/job",
            "batch/job--1",
            "batch/job-0",
            "batch/job-z.y",
            "batch/jobs",
            "batch-2/job-1",
            "team-/x",
            "team-a/api",
            "team-a/x",
            "team-b/api",
            "teams/api",
            "z/api",
        ];
        // `team-` is no namespace that Kubernetes would take.
        let all: BTreeSet<Workload> =
            names.into_iter().filter(|name| !name.starts_with("team-/")).map(workload).collect();
        for subject in [
            "_/_",
            "batch/_",
            "batch/job_",
            "batch/job-_",
            "team-_/_",
            "team-_/api",
            "_/api",
            "team_/a_",
            "q/_",
            "batch/job-1",
        ] {
            let subject: Subject = format!("{subject}@_").parse().unwrap();
            let seen = SeenAccounts::new(Namespaces::All, all.clone());
            let found: Vec<&Workload> = seen.meant_by(&subject).collect();
            let naive: Vec<&Workload> = all.iter().filter(|account| subject.means(account)).collect();
            assert_eq!(found, naive, "{subject}");
            // And no bound leaves one out.
            for account in naive {
                assert!(subject.lowest() <= *account && subject.reaches(account), "{subject} {account}");
            }
        }
    }

    #[test]
    fn what_was_looked_at_is_whole_for_what_lies_in_it() {
        let subject = |text: &str| -> Subject { text.parse().unwrap() };
        let seen = SeenAccounts::new(Namespaces::of(&subject("batch/_@_")), BTreeSet::new());
        assert!(seen.are_whole_for(&subject("batch/job-_@_")));
        assert!(!seen.are_whole_for(&subject("reports/_@_")));
        assert!(!seen.are_whole_for(&subject("batch_/_@_")));
        let all = SeenAccounts::new(Namespaces::All, BTreeSet::new());
        assert!(all.are_whole_for(&subject("_/_@_")));
    }
}
