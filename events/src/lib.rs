//! What wakes podgrant, and what it tells the world.
//!
//! [`read`] turns an EventBridge event into a [`Wake`], and [`OutcomeEvent`] is
//! what is put on the bus when something was done or refused. The folders beside
//! `src` hold the same contract for people and for AWS: `patterns` (which events
//! are delivered), `samples` (what they look like), `schemas` (what readers of
//! outcome events may lean on). The tests hold all of them to this code.
//!
//! An event is a hint, never the truth: a trigger says where to look, and what
//! is done about it is decided on what AWS says when asked.

mod deferred;
mod incoming;
mod outgoing;

pub use deferred::{DEFERRED_WORK, deferred};
pub use incoming::{Incoming, Malformed, RoleRef, Trigger, Wake, read};
pub use outgoing::{
    Access, AccessGranted, AccessRemoved, AgentInstalled, Cause, ClusterReady, DeletionsWithheld,
    FindingDetail, GrantAction, OrphanMarked, OrphanReport, OrphanUnmarked, OutcomeEvent, RoleDeletion,
    TrustAmended,
};

/// The `source` of every event that podgrant makes.
pub const SOURCE: &str = "podgrant";

/// The detail-type that says that a cluster can take grants now; also read back.
pub const CLUSTER_READY: &str = "Cluster Ready";
