//! What is told of changes once they are tried.

use podgrant_core::plan::{OrphanStanding, Standing};
use podgrant_core::{Change, Finding, FindingKind, Outcome, Verdict};

/// How orphaned roles stand once the pass is over: with what came of what was planned.
pub(super) fn settled(
    orphans: &[OrphanStanding],
    outcomes: &[Outcome],
    findings: &[Finding],
    dry_run: bool,
) -> Vec<OrphanStanding> {
    let came_of = |orphan: &OrphanStanding| {
        let outcome = outcomes.iter().find(|outcome| outcome.change.role() == Some(&orphan.role_arn));
        Some(match outcome.map(|outcome| &outcome.verdict) {
            Some(Verdict::Done) => "done".to_owned(),
            Some(Verdict::NotYet(wait)) => format!("not yet: {}", wait.reason),
            Some(Verdict::Unbegun) => "not yet: the invocation's time was up".to_owned(),
            Some(Verdict::Dropped { reason }) => format!("dropped: {reason}"),
            Some(Verdict::Refused { reason }) => format!("refused: {reason}"),
            Some(Verdict::Failed { reason }) => format!("failed: {reason}"),
            None => {
                let withheld = |finding: &&Finding| {
                    finding.kind == FindingKind::Withheld && finding.role.as_ref() == Some(&orphan.role_arn)
                };
                match findings.iter().find(withheld) {
                    Some(finding) => format!("withheld: {}", finding.reason),
                    None if dry_run => "planned".to_owned(),
                    None => return None,
                }
            }
        })
    };
    let settle = |orphan: &OrphanStanding| match orphan.standing {
        Standing::Goes | Standing::Marked => {
            let outcome = came_of(orphan).map(|outcome| format!("  => {outcome}")).unwrap_or_default();
            OrphanStanding { text: format!("{}{outcome}", orphan.text), ..orphan.clone() }
        }
        _ => orphan.clone(),
    };
    orphans.iter().map(settle).collect()
}

/// What AWS refuses for good is a refusal like any other.
pub(super) fn refused_by_aws(outcome: &Outcome) -> Option<Finding> {
    let Verdict::Refused { reason } = &outcome.verdict else { return None };
    let change = &outcome.change;
    let kind = match change {
        Change::Create { .. } | Change::Update { .. } | Change::Adopt { .. } | Change::AmendTrust { .. } => {
            FindingKind::RefusedByAws
        }
        Change::InstallAgent { .. } | Change::UpdateAgent { .. } => FindingKind::AgentRefused,
        Change::OpenKubernetes { .. } => FindingKind::KubernetesUnseen,
        Change::MarkOrphan { .. } => FindingKind::OrphanRole,
        Change::UnmarkOrphan { .. } => FindingKind::FalseOrphanMark,
        // Nothing is taken before it is marked as begun.
        Change::DeleteRole { mark, .. } if mark.begun => FindingKind::HalfDeletedRole,
        Change::DeleteRole { .. } => FindingKind::OrphanRole,
        _ => return None,
    };
    Some(Finding {
        kind,
        role: change.role().cloned(),
        cluster: change.cluster().cloned(),
        workload: change.workload().cloned(),
        grant: change.mark().map(|mark| mark.subject.to_string()),
        reason: match change {
            Change::DeleteRole { mark, .. } if mark.begun => format!(
                "AWS refuses its deletion, and policies of it may be missing: {reason}; allow it, or give back what \
                 the event Role Deletion Begun says that it had, and take the tag podgrant put on it away"
            ),
            Change::DeleteRole { .. } => {
                format!("AWS refuses to begin its deletion, and it is whole: {reason}")
            }
            _ => reason.clone(),
        },
    })
}
