//! What goes, for its role no longer asks for it; and what stays in doubt.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::HashMap;

use super::patterns::{Account, account_of, second_look};
use super::places::Places;
use super::{Asking, AskingRoles, guarded};
use crate::guardrails::{Guardrails, Refusal, Ruling};
use crate::model::{Association, Cluster, Snapshot};
use crate::names::{ClusterId, Workload};
use crate::outcome::{Finding, FindingKind};
use crate::plan::{Change, Plan, RevokeReason};
use crate::subject::{ClusterSelector, Subject};
use crate::tags::TagKeys;

/// Every managed association in scope whose role is there and no longer asks for it.
pub(super) fn withdraw(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    asking: &AskingRoles<'_>,
    known: &Places<'_>,
    kept: &[bool],
    plan: &mut Plan,
) {
    let mut missed: BTreeMap<&ClusterId, BTreeSet<Workload>> = BTreeMap::new();
    // Where a cluster could not be read nobody's claim was looked at: nothing follows.
    let looked_at = snapshot.clusters.values().filter(|cluster| {
        snapshot.scope.holds_cluster(&cluster.id)
            && snapshot.is_readable(&cluster.id)
            && cluster.is_enrolled(keys)
            && cluster.status.is_ready()
    });
    let looked_at: HashMap<&ClusterId, &Cluster> = looked_at.map(|cluster| (&cluster.id, cluster)).collect();
    for (association, place) in snapshot.associations.iter().zip(known.of_associations()) {
        let Some(mark) = association.managed() else { continue };
        let Some(cluster) = looked_at.get(&association.cluster) else { continue };
        if !snapshot.scope.workloads.holds(&association.workload) {
            continue;
        }
        // A role that is not there at all is the business of clean-up-orphans.
        let Some(its_role) = asking.get(&mark.role_arn) else { continue };
        let expulsion = expulsion(its_role, guardrails, association);
        let expelled = !expulsion.is_empty();
        let kept = kept.get(*place).is_some_and(|kept| *kept);
        if kept && !expelled {
            continue;
        }
        let claims = known.places().get(*place).map(|known| &known.claims);
        let claimed = claims.into_iter().flatten().any(|claim| claim.asking.role.arn == mark.role_arn);
        let reprieve = reprieve(snapshot, keys, its_role, association);
        if reprieve.is_some() && !claimed {
            // No claim tells of it. What is about the role is told with it, if it asks for anything.
            let place = (&cluster.id, &association.workload, &mark.subject);
            let untold = |refusal: &&Refusal| refusal.is_about_a_place() || its_role.tags.grants.is_empty();
            let told = expulsion.iter().filter(untold);
            plan.findings.extend(told.map(|refusal| guarded(its_role, Some(place), refusal)));
        }
        if kept {
            // By another role.
            continue;
        }
        match reprieve {
            Some(Reprieve::BadTag(key)) if !expelled => plan.findings.push(Finding {
                kind: FindingKind::KeptForBadTag,
                role: Some(mark.role_arn.clone()),
                cluster: Some(cluster.id.clone()),
                workload: Some(association.workload.clone()),
                grant: Some(mark.subject.to_string()),
                reason: format!(
                    "tag {key} asked for it and has a part that does not parse; mend it, and the \
                     association stays or goes as it says"
                ),
            }),
            // The grant itself was refused aloud.
            Some(Reprieve::Unclear | Reprieve::Unexpanded) if !expelled => {}
            Some(Reprieve::Missed) if !expelled => {
                missed.entry(&cluster.id).or_default().insert(association.workload.clone());
            }
            reprieve => {
                let may_ask = claimed || reprieve.is_some();
                let reason = if mark.role_id != its_role.role.id {
                    RevokeReason::RoleReplaced
                } else if expelled && may_ask {
                    RevokeReason::Refused
                } else if account_of(snapshot, &its_role.tags, association) == Account::Gone {
                    RevokeReason::ServiceAccountGone
                } else {
                    RevokeReason::GrantWithdrawn
                };
                plan.changes.push(Change::Revoke { association: association.clone(), reason });
            }
        }
    }
    // Where something could not be read nothing goes, at however many looks.
    if snapshot.gaps.is_empty() {
        plan.waits.extend(missed.into_iter().filter_map(|(cluster, missed)| second_look(cluster, missed)));
    }
}

/// Why an association stays although no claim of its role names its place: in
/// doubt, nobody loses access, neither to no one nor to another role.
pub(super) enum Reprieve {
    /// The tag of this key made it, and does not parse any more.
    BadTag(String),
    /// A grant of its role may well mean it.
    Unclear,
    /// So may a pattern, on a cluster that was not looked into.
    Unexpanded,
    /// A pattern does, and the service account did not show for the first time.
    Missed,
}

/// The guardrails by which an association goes, whether a tag asks for it or not: then
/// there is no doubt for a [`Reprieve`].
pub(super) fn expulsion(
    asking: &Asking<'_>,
    guardrails: &Guardrails,
    association: &Association,
) -> Vec<Refusal> {
    let here = guardrails.namespace_refusal(&association.workload.namespace);
    asking
        .refusals
        .iter()
        .chain(&here)
        .filter(|refusal| guardrails.ruling([*refusal]) == Ruling::Expelled)
        .cloned()
        .collect()
}

pub(super) fn reprieve(
    snapshot: &Snapshot,
    keys: &TagKeys,
    asking: &Asking<'_>,
    association: &Association,
) -> Option<Reprieve> {
    let mark = association.managed()?;
    // The bad tag of a role made again under the same name made nothing.
    if mark.role_id == asking.role.id
        && !asking.problems.is_empty()
        && let Some(problem) = asking.problem_with(keys, &grant_tag(&mark.label))
    {
        return Some(Reprieve::BadTag(problem.key.clone()));
    }
    let mut subjects = asking.tags.grants.iter().map(|grant| &grant.subject);
    if subjects.any(|s| s.means(&association.workload) && ambiguous(snapshot, s, association)) {
        return Some(Reprieve::Unclear);
    }
    match account_of(snapshot, &asking.tags, association) {
        Account::Unknown => Some(Reprieve::Unexpanded),
        Account::Missed => Some(Reprieve::Missed),
        Account::NotMeant | Account::There | Account::Gone => None,
    }
}

fn grant_tag(label: &str) -> String {
    if label.is_empty() { "grant".to_owned() } else { format!("grant/{label}") }
}

/// A name that became ambiguous after the association was made: it was refused
/// aloud, and access that stands is not taken away for another cluster's birth.
fn ambiguous(snapshot: &Snapshot, subject: &Subject, association: &Association) -> bool {
    match &subject.clusters {
        ClusterSelector::Name(name) => {
            *name == association.cluster.name
                && snapshot.clusters.keys().filter(|id| id.name == *name).count() > 1
        }
        _ => false,
    }
}
