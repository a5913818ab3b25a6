//! The words and decisions of podgrant.
//!
//! Everything here is a pure function of its arguments: no AWS SDK, no async
//! runtime, no clock, no random ids, no I/O. What AWS looks like comes in as a
//! [`Snapshot`], what should be done goes out as a [`Plan`], and only
//! [`guard`](guard()) turns a plan into [`Approved`] changes that may be applied.
//!
//! ```text
//! tags ─► RoleTags ─┐
//!                   ├─► Snapshot ─► plan ─► Plan ─► guard ─► Approved
//! AWS  ─────────────┘
//! ```

#[cfg(test)]
mod fixtures;

pub mod accounts;
pub mod agent;
pub mod explain;
pub mod guard;
pub mod guardrails;
pub mod mark;
pub mod migrate;
pub mod model;
pub mod moment;
pub mod names;
pub mod orphan;
pub mod outcome;
pub mod plan;
pub mod powers;
pub mod restart;
pub mod subject;
pub mod sweep;
pub mod tags;
pub mod trust;
pub mod verify;
pub mod written;

pub use guard::{AllowBy, Approved, Limits, guard};
pub use guardrails::{Guardrails, OnRefused};
pub use mark::Mark;
pub use model::{Association, Cluster, ClusterStatus, Role, Snapshot};
pub use names::{
    AssociationId, ClusterId, ClusterName, NameError, Namespace, PodName, Region, RoleArn, RoleId,
    ServiceAccount, Workload,
};
pub use orphan::{OrphanMark, OrphanSettings, RoleInventory, RoleRecord};
pub use outcome::{Finding, FindingKind, Outcome, Verdict};
pub use plan::{Change, Plan, plan};
pub use powers::Powers;
pub use subject::{ClusterSelector, Pattern, Subject, SubjectError};
pub use sweep::{SweepPart, part_bytes};
pub use tags::{OnOrphan, RoleTags, TagKeys, TagProblem};
