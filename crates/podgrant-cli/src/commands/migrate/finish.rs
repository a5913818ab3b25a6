//! IRSA's end: the annotation, then the statement that lets in this service account alone.

use std::collections::BTreeSet;

use podgrant_aws::TrustWritten;
use podgrant_core::Workload;
use podgrant_core::migrate::{ANNOTATION, Entry, State, Step, StepKind, alone};
use podgrant_core::trust::manage::{statements_of, without};

use super::{End, Ends, GOES_ON, Judged, Mover, exit, exit_of_nothing};
use crate::arguments::{Consent, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::ui::Look;

/// Takes IRSA from what is moved. Where there are no pods to tell that it works only from who is named.
pub(super) async fn run(
    mover: &mut Mover<'_, '_>,
    judged: &[Judged],
    wanted: &BTreeSet<Workload>,
    consent: &Consent,
) -> Result<Exit, Problem> {
    let (mut moved, mut podless) = (Vec::new(), Vec::new());
    for one in judged.iter().filter(|one| one.verdict.state == State::Moved) {
        let has_pods = matches!(&one.sight.pods, Ok(pods) if !pods.is_empty());
        if has_pods || wanted.contains(one.workload()) { &mut moved } else { &mut podless }.push(one);
    }
    mover.session.ui.show("");
    for one in podless {
        let left = format!("{} has no pods to tell that it works: it is left, unless it is named.", one.workload());
        mover.session.ui.show(&left);
    }
    if moved.is_empty() {
        mover.session.ui.show("There is nothing to finish.");
        mover.put_out(judged, &[], None);
        return Ok(exit_of_nothing(judged));
    }
    let heading = mover.session.ui.look(Look::Bold, "To be taken away");
    mover.session.ui.show(&heading);
    for one in &moved {
        for line in one.verdict.steps.iter().filter(|step| !step.done).filter_map(|step| line(one, step)) {
            let line = mover.session.ui.look(Look::of_sign(&line), &line);
            mover.session.ui.show(&format!("  {line}"));
        }
    }
    if let Some(caution) = moved.iter().flat_map(|one| &one.verdict.steps).find(|step| !step.caution.is_empty()) {
        mover.session.ui.show(&format!("  {}", caution.caution));
    }
    if !mover.is_agreed("Take these away?", consent) {
        mover.put_out(judged, &[], None);
        return Ok(Exit::Declined);
    }
    let mut ends = Ends::new();
    for one in moved {
        let workload = one.workload().clone();
        let end = match mover.session.is_interrupted() {
            true => End::interrupted(),
            false => mover.finish(&workload).await.unwrap_or_else(|end| end),
        };
        mover.tell(&workload, &end);
        ends.insert(workload, end);
    }
    let back = format!(
        "Where the annotation is written (chart, manifest) it is to go too. Back again: podgrant migrate --cluster {} --undo",
        mover.cluster.id
    );
    mover.sum_up(&ends, &back);
    mover.put_out(judged, &[], Some(&ends));
    Ok(exit(&ends))
}

/// What goes by a step.
fn line(one: &Judged, step: &Step) -> Option<String> {
    let (workload, role) = (one.workload(), &one.sight.annotated.role);
    match step.kind {
        StepKind::Annotation => Some(format!("- service account {workload}: {ANNOTATION} = {role}")),
        StepKind::Statement => Some(format!("- role {}: {}", role_name(role), step.told)),
        _ => None,
    }
}

impl Mover<'_, '_> {
    async fn finish(&mut self, workload: &Workload) -> Result<End, End> {
        let one = self.look_moved(workload).await?;
        if one.sight.is_annotated {
            self.take_annotation(&one).await?;
        }
        if self.session.is_interrupted() {
            return Err(End::interrupted());
        }
        // Without the annotation, all pods are to have Pod Identity's variables still.
        let one = self.look_moved(workload).await?;
        if one.sight.is_annotated {
            return Err(End::stopped("its annotation came back", "take it out where it is written"));
        }
        let Some(step) = one.verdict.next() else { return Ok(End::Finished(String::new())) };
        let Ok(Some(_)) = &one.sight.role else { return Ok(End::Finished(step.told.clone())) };
        self.take_statements(&one).await?;
        let one = self.look_moved(workload).await?;
        match one.verdict.next() {
            None => Ok(End::Finished(String::new())),
            Some(step) => Err(End::stopped(step.told.clone(), GOES_ON)),
        }
    }

    /// It, if it is moved still.
    async fn look_moved(&mut self, workload: &Workload) -> Result<Judged, End> {
        let one = self.look_at(workload).await?;
        match one.verdict.state {
            State::Moved | State::Finished => Ok(one),
            _ => Err(End::stopped(one.verdict.told, one.verdict.remedy)),
        }
    }

    async fn take_annotation(&mut self, one: &Judged) -> Result<(), End> {
        let annotated = &one.sight.annotated;
        self.journal.note(self.session.now(), annotated, Entry::Annotation, false).map_err(End::of)?;
        self.session.ui.progress(&format!("taking the annotation of {} …", annotated.workload));
        let change = (Some(annotated.role.as_str()), None);
        let (roller, now) = (self.roller.clone(), self.session.now());
        let written =
            self.session.aws.annotate(&self.cluster, &annotated.workload, change, &roller, now).await;
        written.map_err(|why| End::stopped(why, GOES_ON))?;
        let line = format!("- service account {}: {ANNOTATION}", annotated.workload);
        self.show_done(&line);
        self.journal.note(self.session.now(), annotated, Entry::Annotation, true).map_err(End::of)
    }

    async fn take_statements(&mut self, one: &Judged) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        let numbers = alone(role, &self.cluster, one.workload());
        let unclear = |why: String| End::stopped(format!("the trust policy stays as it is: {why}"), "");
        let statements = statements_of(&role.trust_policy, &numbers).map_err(unclear)?;
        let after = without(&role.trust_policy, &numbers).map_err(unclear)?;
        let entry = Entry::Statement { role_id: role.id.to_string(), statements };
        let annotated = &one.sight.annotated;
        self.journal.note(self.session.now(), annotated, entry.clone(), false).map_err(End::of)?;
        self.put_trust(one, &after).await?;
        let told = one.verdict.next().map_or("", |step| step.told.as_str());
        self.show_done(&format!("- role {}: {told}", role.arn.role_name()));
        self.journal.note(self.session.now(), annotated, entry, true).map_err(End::of)
    }

    /// Puts a trust policy in place of the one that was seen.
    pub(super) async fn put_trust(&mut self, one: &Judged, after: &str) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        self.session.ui.progress(&format!("writing the trust policy of {} …", role.arn.role_name()));
        let change = (role.trust_policy.as_str(), after);
        let written = self.session.aws.replace_trust(&role.arn, &role.id, change).await;
        match written.map_err(|error| End::of(self.session.problem(&error)))? {
            TrustWritten::Done => Ok(()),
            TrustWritten::Gone(why) | TrustWritten::Changed(why) => Err(End::stopped(why, GOES_ON)),
        }
    }

    pub(super) fn show_done(&mut self, line: &str) {
        let line = self.session.ui.look(Look::of_sign(line), line);
        self.session.ui.show(&format!("{line} => done"));
    }
}
