//! `podgrant apply`.

use std::collections::BTreeSet;

use podgrant_core::{Change, Limits, Outcome, RoleArn, Verdict};
use podgrant_runtime::by_hand::{Prepared, PreparedPass};
use podgrant_runtime::{Flow, Function};
use serde::Serialize;

use super::prepare::{About, prepare};
use crate::arguments::{Allowance, Consent, Looks, Target};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::{ChangeShape, FindingShape, PlanShape, Shown, says_no, told};
use crate::ui::{JSON_VERSION, Look};

#[derive(Serialize)]
struct Shape {
    version: u32,
    about: About,
    /// Whether anything was to be applied, and nobody declined.
    applied: bool,
    #[serde(flatten)]
    plan: PlanShape,
}

pub async fn run(
    session: &mut Session<'_>,
    (target, looks): (&Target, &Looks),
    consent: &Consent,
    allowance: &Allowance,
    event_bus: Option<&str>,
) -> Result<Exit, Problem> {
    if session.config.dry_run {
        return Err(Problem::usage(
            "PODGRANT_DRY_RUN is on, and forbids it",
            "unset it, or use podgrant plan",
        ));
    }
    if !consent.yes && !session.ui.can_ask() {
        return Err(Problem::usage(
            "apply asks before it changes anything, and there is nobody to ask",
            "run it on a terminal, or with --yes",
        ));
    }
    raise(&mut session.config.limits, allowance);
    session.config.event_bus = event_bus.map(str::to_owned);

    let (about, prepared) = prepare(session, target, looks).await?;
    let shown = Shown::of(prepared.iter().map(|(_, prepared)| prepared));
    shown.show(&mut session.ui);
    let mut shape = Shape { version: JSON_VERSION, about, applied: false, plan: shown.shape() };
    if shown.plan.changes.is_empty() {
        session.ui.json(&shape);
        let left = !shown.unread.is_empty() || !shown.plan.waits.is_empty() || shown.says_no();
        return Ok(if left { Exit::InPart } else { Exit::Done });
    }
    if shown.deletes() || shown.withholds() {
        let limits = limits(&session.config.limits);
        session.ui.show(&limits);
    }
    session.ui.show("");
    if !consent.yes && !session.ui.agrees("Apply this?") {
        session.ui.say("Nothing was changed.");
        session.ui.json(&shape);
        return Ok(Exit::Declined);
    }

    let done = carry_out(session, prepared).await;
    shape.applied = true;
    shape.plan.changes = done.outcomes.iter().map(|o| ChangeShape::of(&o.change, Some(&o.verdict))).collect();
    shape.plan.findings = done.findings;
    shape.plan.waiting = done.waiting;
    session.ui.json(&shape);
    let anything = done.outcomes.iter().any(|outcome| outcome.verdict == Verdict::Done);
    Ok(if done.failed && !anything {
        Exit::Failed
    } else if done.in_part || !shown.unread.is_empty() || !shape.plan.waiting.is_empty() {
        Exit::InPart
    } else {
        Exit::Done
    })
}

/// The limits on loss, as they are this once.
fn raise(limits: &mut Limits, allowance: &Allowance) {
    limits.deletions = allowance.allow_deletions.unwrap_or(limits.deletions);
    limits.share = allowance.allow_share.unwrap_or(limits.share);
    limits.role_deletions = allowance.allow_role_deletions.unwrap_or(limits.role_deletions);
}

fn limits(limits: &Limits) -> String {
    format!(
        "Limits on loss: {} associations of a cluster (--allow-deletions), or {:.0} % of those that podgrant made there \
         if that is {} or more (--allow-share); {} roles (--allow-role-deletions).",
        limits.deletions,
        limits.share * 100.0,
        limits.share_from,
        limits.role_deletions
    )
}

/// What came of it.
#[derive(Default)]
pub(super) struct CarriedOut {
    pub(super) outcomes: Vec<Outcome>,
    findings: Vec<FindingShape>,
    waiting: Vec<String>,
    /// Something was not done, or is still to come.
    in_part: bool,
    failed: bool,
}

async fn carry_out(session: &mut Session<'_>, prepared: Vec<(Function, Prepared)>) -> CarriedOut {
    let mut done = CarriedOut::default();
    let mut mended: BTreeSet<RoleArn> = BTreeSet::new();
    for (function, prepared) in prepared {
        let flow = session.flow(function);
        for pass in prepared.passes {
            let pass = match as_mended(session, &flow, &pass, &mended).await {
                Ok(again) => again.unwrap_or(pass),
                Err(reason) => {
                    let changes = pass.approved().changes().iter();
                    let dropped = changes.map(|change| Outcome {
                        change: change.clone(),
                        verdict: Verdict::Dropped { reason: reason.clone() },
                        association: None,
                    });
                    done.add(session, dropped.collect());
                    done.in_part = true;
                    continue;
                }
            };
            if let Some(cluster) = pass.approved().changes().iter().find_map(Change::cluster) {
                session.ui.progress(&format!("applying to {cluster} …"));
            }
            let (report, outcomes) = flow.carry_out_prepared(&pass, || session.is_interrupted()).await;
            mended.extend(outcomes.iter().filter_map(|outcome| match &outcome.change {
                Change::AmendTrust { role, .. } if outcome.verdict == Verdict::Done => Some(role.clone()),
                _ => None,
            }));
            done.in_part |= report.findings.iter().any(|finding| says_no(finding.kind));
            done.failed |= report.is_failure();
            done.in_part |= report.is_failure();
            if let Some(reason) = report.reason.filter(|_| outcomes.is_empty()) {
                session.ui.show(&format!("! {reason}"));
            }
            done.findings.extend(report.findings.iter().map(FindingShape::of));
            if !session.is_interrupted() {
                done.waiting.extend(report.waiting);
            }
            done.add(session, outcomes);
        }
    }
    done.waiting.sort();
    done.waiting.dedup();
    done.summed_up(session);
    done
}

/// A pass whose roles were mended by another in between is looked at again, for it was planned on what they were. It
/// goes on only with what was shown. `None` for all others.
async fn as_mended(
    session: &Session<'_>,
    flow: &Flow,
    pass: &PreparedPass,
    mended: &BTreeSet<RoleArn>,
) -> Result<Option<PreparedPass>, String> {
    let shown = pass.approved().changes();
    let mends = |change: &Change| {
        matches!(change, Change::AmendTrust { .. }) && change.role().is_some_and(|role| mended.contains(role))
    };
    if !shown.iter().any(mends) || session.is_interrupted() {
        return Ok(None);
    }
    let again = flow.prepare_again(pass).await.map_err(|error| error.to_string())?;
    if again.approved().changes().iter().all(|change| shown.contains(change)) {
        Ok(Some(again))
    } else {
        Err("what is to be done changed since it was shown; run it again".to_owned())
    }
}

impl CarriedOut {
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn add(&mut self, session: &mut Session<'_>, outcomes: Vec<Outcome>) {
        for outcome in &outcomes {
            let (word, reason) = told(&outcome.verdict);
            let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let line = outcome.change.to_string();
            let line = session.ui.look(Look::of_sign(&line), &line);
            session.ui.show(&format!("{line} => {}{why}", word.replace('-', " ")));
            self.in_part |= !matches!(outcome.verdict, Verdict::Done | Verdict::Dropped { .. });
            self.failed |= matches!(outcome.verdict, Verdict::Failed { .. } | Verdict::Refused { .. });
        }
        self.outcomes.extend(outcomes);
    }

    pub(super) fn summed_up(&self, session: &mut Session<'_>) {
        for reason in &self.waiting {
            session.ui.show(&format!(". {reason}; run it again after a while"));
        }
        let count = |so: fn(&Verdict) -> bool| self.outcomes.iter().filter(|o| so(&o.verdict)).count();
        session.ui.show("");
        session.ui.show(&format!(
            "Applied: {} done, {} not yet, {} dropped, {} refused, {} failed, {} not begun.",
            count(|verdict| matches!(verdict, Verdict::Done)),
            count(|verdict| matches!(verdict, Verdict::NotYet(_))),
            count(|verdict| matches!(verdict, Verdict::Dropped { .. })),
            count(|verdict| matches!(verdict, Verdict::Refused { .. })),
            count(|verdict| matches!(verdict, Verdict::Failed { .. })),
            count(|verdict| matches!(verdict, Verdict::Unbegun)),
        ));
    }
}
