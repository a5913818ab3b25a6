//! Between the plan and AWS: ownership, partial views, and a limit on loss.
//!
//! Nothing is applied but what stands in an [`Approved`], and only [`guard()`]
//! makes one.

use crate::model::Snapshot;
use crate::outcome::{Finding, FindingKind, Wait};
use crate::plan::{Change, Plan};
use crate::trust::manage::keeps_what_is_not_ours;

/// How much one pass may take away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// At most this many deletions.
    pub deletions: usize,
    /// At most this share of the managed associations in view, 0 to 1. It binds
    /// passes over a whole cluster or fleet: a role's view holds little but what goes.
    pub share: f64,
    /// Below this many deletions the share does not bind: one of two is no disaster.
    pub share_from: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deletions: 100, share: 0.2, share_from: 10 }
    }
}

/// The changes of a plan that may be made, in the plan's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    changes: Vec<Change>,
    findings: Vec<Finding>,
    waits: Vec<Wait>,
    unchanged: usize,
}

impl Approved {
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The plan's findings, and one for each change that was withheld.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn waits(&self) -> &[Wait] {
        &self.waits
    }

    pub fn unchanged(&self) -> usize {
        self.unchanged
    }
}

/// Lets through what may be done, and explains what may not.
pub fn guard(plan: Plan, snapshot: &Snapshot, limits: &Limits) -> Approved {
    let Plan { changes, mut findings, waits, unchanged } = plan;
    let (mut approved, mut withheld) = (Vec::new(), Vec::new());
    for change in changes {
        match (foreign(&change), change.takes_away().then(|| snapshot.gaps.first()).flatten()) {
            (Some(reason), _) => withheld.push((change, reason)),
            (None, Some(gap)) => withheld.push((
                change,
                format!(
                    "a partial view deletes nothing: {}; it is looked at again when the view is whole",
                    gap.why
                ),
            )),
            (None, None) => approved.push(change),
        }
    }
    if let Some(reason) = over_the_limit(&approved, snapshot, limits) {
        let (taking, giving) = approved.into_iter().partition(Change::takes_away);
        approved = giving;
        let taking: Vec<Change> = taking;
        withheld.extend(taking.into_iter().map(|change| (change, reason.clone())));
    }
    findings.extend(withheld.into_iter().map(|(change, reason)| Finding {
        kind: FindingKind::Withheld,
        role: change.role().cloned(),
        cluster: change.cluster().cloned(),
        workload: change.workload().cloned(),
        grant: change.mark().map(|mark| mark.subject.to_string()),
        reason,
    }));
    Approved { changes: approved, findings, waits, unchanged }
}

fn foreign(change: &Change) -> Option<String> {
    if let Change::RemoveAgent { agent, .. } = change {
        return (!agent.managed).then(|| "podgrant did not install this agent".to_owned());
    }
    if let Change::AmendTrust { policy_before, policy, .. } = change {
        return (!keeps_what_is_not_ours(policy_before, policy))
            .then(|| "it would change what is not podgrant's in the trust policy".to_owned());
    }
    let association = change.existing()?;
    if let Change::Adopt { association, mark } = change
        && association.may_be_adopted_by(&mark.role_arn)
        && association.cluster == mark.cluster
        && mark.subject.means(&association.workload)
    {
        return None;
    }
    match (&association.mark, &association.owner) {
        (_, Some(owner)) => Some(format!("association {} is owned by {owner}", association.id)),
        (None, None) if matches!(change, Change::Adopt { .. }) => Some(format!(
            "association {} is not known to have the role that would adopt it in this place",
            association.id
        )),
        (None, None) => Some(format!("association {} does not carry podgrant's mark", association.id)),
        (Some(mark), None) if association.managed().is_none() => Some(format!(
            "association {} carries the mark of {} on {}: it was copied, and is not podgrant's",
            association.id, mark.subject, mark.cluster
        )),
        (Some(_), None) if matches!(change, Change::Adopt { .. }) => {
            Some(format!("association {} is podgrant's already", association.id))
        }
        (Some(_), None) => None,
    }
}

fn over_the_limit(changes: &[Change], snapshot: &Snapshot, limits: &Limits) -> Option<String> {
    // Agents are not counted: each is removed at the word of its own cluster's tag.
    let deletions = changes.iter().filter(|c| c.existing().is_some() && c.takes_away()).count();
    if deletions > limits.deletions {
        return Some(format!(
            "this pass would delete {deletions} associations, and at most {} are allowed; \
             if that is meant, raise PODGRANT_MAX_DELETIONS to {deletions}",
            limits.deletions
        ));
    }
    let all_roles = snapshot.scope.roles.is_none();
    let in_view = snapshot.associations.iter().filter(|a| a.managed().is_some()).count();
    let managed = in_view + snapshot.managed_elsewhere;
    #[expect(clippy::cast_precision_loss, reason = "counts of associations are far below 2^52")]
    let share = deletions as f64 / managed.max(1) as f64;
    (all_roles && deletions >= limits.share_from && share > limits.share).then(|| {
        format!(
            "this pass would delete {deletions} of {managed} managed associations, and at most {:.0} % are allowed; \
             if that is meant, raise PODGRANT_MAX_DELETION_SHARE to {:.2}",
            limits.share * 100.0,
            // Rounded up, so that the number named is one that lets it through.
            (share * 100.0).ceil() / 100.0
        )
    })
}

#[cfg(test)]
mod tests;
