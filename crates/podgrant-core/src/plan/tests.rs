use std::collections::BTreeMap;

use super::*;
use crate::fixtures::{cluster, cluster_id, foreign, ours, role, snapshot};
use crate::{Guardrails, Role, TagKeys};

mod adoption;
mod agents;
mod changes;
mod guardrails;
mod oracle;
mod orphans;
mod patterns;
mod refusals;
mod roles;
mod trust;
mod uninstall;

const PROD: &str = "payments/api@prod-eu";

/// The role that most tests are about: `payments`, trusting, asking for [`PROD`].
fn payments() -> Role {
    role("payments").grant(PROD).trusting()
}

fn printed(duty: Duty, snapshot: &Snapshot) -> String {
    plan(duty, snapshot, &TagKeys::default()).to_string()
}

fn grants(snapshot: &Snapshot) -> String {
    printed(usual(), snapshot)
}

/// The duty of grants, under the guardrails that are on by default.
fn usual() -> Duty {
    Duty::Grants { guardrails: Guardrails::default() }
}

/// The duty of orphans, with no role deleted.
fn orphan_duty(grace: i64) -> Duty {
    Duty::Orphans { settings: OrphanSettings { grace, delete: false }, guardrails: Guardrails::default() }
}
