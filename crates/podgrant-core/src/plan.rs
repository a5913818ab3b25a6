//! From what is to what should be: pure, total, sorted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mark::Mark;
use crate::model::{Association, Snapshot};
use crate::names::{ClusterId, RoleArn, Workload};
use crate::outcome::{Finding, Wait};
use crate::tags::TagKeys;

mod grants;
mod orphans;

pub use crate::agent::plan_agents;
pub use grants::plan_grants;
pub use orphans::plan_orphans;

/// One change to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make an association as the mark says.
    Create { workload: Workload, mark: Mark },
    /// Make one of ours as the mark says; it stays in place meanwhile.
    Update { association: Association, mark: Mark },
    /// Take one of ours away.
    Revoke { association: Association, reason: RevokeReason },
    /// Install the agent add-on.
    InstallAgent { cluster: ClusterId, version: String },
    /// Say that the agent is healthy now.
    AnnounceAgent { cluster: ClusterId, version: String },
    /// Say that the cluster can take grants now.
    AnnounceCluster { cluster: ClusterId },
}

/// Why an association goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeReason {
    /// No tag on the role asks for it any more.
    GrantWithdrawn,
    /// The role does not exist.
    RoleGone,
    /// A role of the same name exists, with another unique id: it never asked.
    RoleReplaced,
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GrantWithdrawn => "grant withdrawn",
            Self::RoleGone => "role gone",
            Self::RoleReplaced => "role deleted and made again",
        })
    }
}

/// Everything that one pass would do, and everything it would not and why.
///
/// `Display` is the dry run: the plan printed is the plan applied.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Sorted by cluster and workload.
    pub changes: Vec<Change>,
    pub findings: Vec<Finding>,
    pub waits: Vec<Wait>,
    /// Associations or agents that are as they should be.
    pub unchanged: usize,
}

/// What a pass is to make true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Every enrolled cluster runs a healthy agent.
    Agents {
        /// Whether ready clusters are announced, so that their grants are made.
        announce: bool,
    },
    /// Every valid grant has its association, and no association lacks its grant.
    Grants,
    /// No association points at a role that is gone; orphaned roles are known.
    Orphans {
        /// How long a role may name clusters that are not there, in seconds.
        grace: i64,
    },
}

/// Plans one pass.
pub fn plan(duty: Duty, snapshot: &Snapshot, keys: &TagKeys) -> Plan {
    let mut plan = match duty {
        Duty::Agents { announce } => plan_agents(snapshot, keys, announce),
        Duty::Grants => plan_grants(snapshot, keys),
        Duty::Orphans { grace } => plan_orphans(snapshot, keys, grace),
    };
    plan.changes.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    plan.findings.sort();
    plan.findings.dedup();
    plan.waits.sort();
    plan.waits.dedup();
    plan
}

impl Change {
    /// The association that stands, for changes to one.
    pub fn existing(&self) -> Option<&Association> {
        match self {
            Self::Update { association, .. } | Self::Revoke { association, .. } => Some(association),
            _ => None,
        }
    }

    pub fn cluster(&self) -> Option<&ClusterId> {
        Some(match self {
            Self::Create { mark, .. } => &mark.cluster,
            Self::Update { association, .. } | Self::Revoke { association, .. } => {
                &association.cluster
            }
            Self::InstallAgent { cluster, .. }
            | Self::AnnounceAgent { cluster, .. }
            | Self::AnnounceCluster { cluster } => cluster,
        })
    }

    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Self::Create { workload, .. } => Some(workload),
            _ => self.existing().map(|association| &association.workload),
        }
    }

    /// The role that the change is about.
    pub fn role(&self) -> Option<&RoleArn> {
        match self {
            Self::Create { mark, .. } | Self::Update { mark, .. } => Some(&mark.role_arn),
            Self::Revoke { association, .. } => association.mark.as_ref().map(|m| &m.role_arn),
            _ => None,
        }
    }

    /// Whether some role loses access that it has.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Revoke { .. } => true,
            Self::Update { association, mark } => {
                association.mark.as_ref().is_some_and(|old| old.role_arn != mark.role_arn)
            }
            _ => false,
        }
    }

    fn sort_key(&self) -> (Option<&ClusterId>, Option<&Workload>, u8) {
        let kind = match self {
            Self::AnnounceCluster { .. } => 0,
            Self::InstallAgent { .. } => 1,
            Self::AnnounceAgent { .. } => 2,
            Self::Create { .. } => 3,
            Self::Update { .. } => 4,
            Self::Revoke { .. } => 5,
        };
        (self.cluster(), self.workload(), kind)
    }
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.findings.is_empty() && self.waits.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { workload, mark } => write!(
                f,
                "+ {}  {workload}  role {}  ({})",
                mark.cluster,
                mark.role_arn.role_name(),
                mark.subject
            ),
            Self::Update { association, mark } => {
                write!(f, "~ {}  {}", association.cluster, association.workload)?;
                let old = association.mark.as_ref();
                let record = association.record.as_ref();
                let old_role = record
                    .map(|record| record.role_arn.as_str())
                    .or(old.map(|old| old.role_arn.as_str()));
                match old_role {
                    Some(role) if role != mark.role_arn.as_str() => {
                        let name = role.rsplit('/').next().unwrap_or(role);
                        write!(f, "  role {name} -> {}", mark.role_arn.role_name())?;
                    }
                    _ => write!(f, "  role {}", mark.role_arn.role_name())?,
                }
                let Some(old) = old else { return Ok(()) };
                if old.role_id != mark.role_id && old.role_arn == mark.role_arn {
                    write!(f, "  role id {} -> {}", old.role_id, mark.role_id)?;
                }
                if old.session_tags_off != mark.session_tags_off {
                    let word = |off| if off { "off" } else { "on" };
                    write!(
                        f,
                        "  session tags {} -> {}",
                        word(old.session_tags_off),
                        word(mark.session_tags_off)
                    )?;
                }
                if old.target_role != mark.target_role {
                    let name = |role: &Option<RoleArn>| {
                        role.as_ref().map_or("none".to_owned(), ToString::to_string)
                    };
                    write!(f, "  target role {} -> {}", name(&old.target_role), name(&mark.target_role))?;
                }
                if old.subject != mark.subject {
                    write!(f, "  ({} -> {})", old.subject, mark.subject)?;
                }
                Ok(())
            }
            Self::Revoke { association, reason } => {
                write!(f, "- {}  {}", association.cluster, association.workload)?;
                if let Some(role) = self.role() {
                    write!(f, "  role {}", role.role_name())?;
                }
                write!(f, "  ({reason})")
            }
            Self::InstallAgent { cluster, version } => {
                write!(f, "+ {cluster}  agent {version}")
            }
            Self::AnnounceAgent { cluster, version } => {
                write!(f, "> {cluster}  agent {version} is healthy")
            }
            Self::AnnounceCluster { cluster } => write!(f, "> {cluster}  ready for grants"),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for wait in &self.waits {
            writeln!(f, ". not yet: {}", wait.reason)?;
        }
        for finding in &self.findings {
            writeln!(f, "! {finding}")?;
        }
        let count = |kind: fn(&Change) -> bool| self.changes.iter().filter(|c| kind(c)).count();
        write!(
            f,
            "Plan: {} to create, {} to update, {} to delete, {} unchanged, {} waiting, {} findings.",
            count(|c| matches!(c, Change::Create { .. } | Change::InstallAgent { .. })),
            count(|c| matches!(c, Change::Update { .. })),
            count(|c| matches!(c, Change::Revoke { .. })),
            self.unchanged,
            self.waits.len(),
            self.findings.len(),
        )
    }
}

/// Associations by the place they take: EKS holds one for each service account.
fn by_place(snapshot: &Snapshot) -> BTreeMap<(&ClusterId, &Workload), &Association> {
    snapshot
        .associations
        .iter()
        .map(|association| ((&association.cluster, &association.workload), association))
        .collect()
}

type Places<'a> = BTreeSet<(&'a ClusterId, &'a Workload)>;
