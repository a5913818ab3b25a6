//! Why a pod has its credentials, or has none: every link from a role's tag to what AWS's SDK in the pod asks.
//!
//! ```text
//! Evidence ─► explain ─► Chain ─► diagnose ─► Diagnosis
//! ```
//!
//! [`Evidence`] is what was read of AWS and of the cluster, and what could not be. What podgrant itself has to say
//! of it (grants, guardrails, trust policies, agents) the planning rules say here too.

mod aws;
mod chain;
mod diagnosis;
pub mod evidence;
mod fleet;
pub(crate) mod pods;
mod target;
#[cfg(test)]
mod tests;

use crate::guardrails::Guardrails;
use crate::tags::TagKeys;

pub use aws::explain_role;
pub(crate) use chain::wrapped;
pub use chain::{Chain, Fault, Link, LinkKind, State};
pub use diagnosis::{Cause, CauseKind, Diagnosis, Suspicion, diagnose};
pub use evidence::Evidence;
pub use fleet::{FleetEvidence, explain_fleet};
pub use pods::{SETTLING, explain_unseen_pod};
pub use target::{NamedCluster, Target};

/// The whole chain of one place, each link right, broken or unknown.
pub fn explain(evidence: &Evidence, keys: &TagKeys, guardrails: &Guardrails) -> Chain {
    let mut links = aws::links(evidence, keys, guardrails);
    links.extend(pods::links(evidence));
    links.sort_by_key(|link| (link.kind, link.fault));
    let place = match &evidence.target {
        Target::Pod { .. } => evidence.target.to_string(),
        _ => evidence.place.clone(),
    };
    Chain { place, role: evidence.role.clone(), links }
}
