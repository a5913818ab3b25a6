//! IRSA's end: the annotation, then the statement that lets in this service account alone.

use std::collections::BTreeSet;

use podgrant_aws::TrustWritten;
use podgrant_core::Workload;
use podgrant_core::migrate::{ANNOTATION, Entry, IrsaEdit, Stage, State, Step, StepKind};
use podgrant_core::written::Unwritten;

use super::{End, Ends, GOES_ON, Judged, Mover, PAUSE, counted, exit};
use crate::arguments::{Consent, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::ui::Look;

/// What no look at pods shows (External Secrets' documentation, "AWS Access"; Secrets Manager user guide, "Use AWS Secrets
/// and Configuration Provider CSI with IRSA").
const OTHER_READERS: &str = "! Others that read the annotation can't be seen: External Secrets' serviceAccountRef, the Secrets Store CSI driver. \
                             They need both.";

/// What was to be finished and is not so far.
const LEFT: &[State] = &[State::Unknown, State::MendFirst, State::UnderWay, State::Moved];

/// Takes IRSA from what is moved. Where there are no pods to tell that it works only from who is named.
pub(super) async fn run(
    mover: &mut Mover<'_, '_>,
    judged: &[Judged],
    wanted: &BTreeSet<Workload>,
    consent: &Consent,
) -> Result<Exit, Problem> {
    let (mut moved, mut podless) = (Vec::new(), Vec::new());
    for one in judged.iter().filter(|one| one.verdict.state == State::Moved) {
        let has_pods = counted(&one.sight).is_some_and(|pods| pods > 0);
        if has_pods || wanted.contains(one.workload()) { &mut moved } else { &mut podless }.push(one);
    }
    let missing = wanted.iter().any(|named| !judged.iter().any(|one| one.workload() == named));
    let exit = |ends: &Ends| match exit(judged, ends, LEFT) {
        Exit::Done if missing => Exit::InPart,
        exit => exit,
    };
    mover.session.ui.show("");
    for one in podless {
        let left =
            format!("{} has no pods to tell that it works: it is left, unless it is named.", one.workload());
        mover.session.ui.show(&left);
    }
    if moved.is_empty() {
        mover.session.ui.show("There is nothing to finish.");
        mover.put_out(judged, &[], None);
        return Ok(exit(&Ends::new()));
    }
    let heading = mover.session.ui.look(Look::Bold, "To be taken away");
    mover.session.ui.show(&heading);
    for one in &moved {
        for line in one.verdict.steps.iter().filter(|step| !step.done).filter_map(|step| line(one, step)) {
            let line = mover.session.ui.look(Look::of_sign(&line), &line);
            mover.session.ui.show(&format!("  {line}"));
        }
    }
    mover.session.ui.show(OTHER_READERS);
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
        StepKind::Statement if matches!(&one.sight.role, Ok(Some(_))) => Some(statement_line(role, workload)),
        _ => None,
    }
}

fn statement_line(role: &str, workload: &Workload) -> String {
    format!("- role {}: what lets in {workload} alone by IRSA, of its trust policy", role_name(role))
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
        // The next one's trust policy is to begin from what was written here.
        let began = self.session.now();
        loop {
            let one = self.look_moved(workload).await?;
            let Some(step) = one.verdict.next() else { return Ok(End::Finished(String::new())) };
            if self.session.now() - began > self.limit {
                let told = format!("after {} s it is not so yet: {}", self.limit, step.told);
                return Err(End::stopped(told, GOES_ON));
            }
            if self.session.is_interrupted() {
                return Err(End::interrupted());
            }
            self.session.pause(PAUSE).await;
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
        self.journal.note(self.session.now(), annotated, Entry::Annotation, Stage::Begun).map_err(End::of)?;
        if let Err(unwritten) = self.annotate(&annotated.workload, (Some(&annotated.role), None)).await {
            let is_certain = !matches!(unwritten, Unwritten::Unsure(_));
            let end = End::stopped(unwritten.why(), GOES_ON);
            return Err(self.not_done(annotated, Entry::Annotation, is_certain, end));
        }
        self.show_done(&format!("- service account {}: {ANNOTATION}", annotated.workload));
        self.journal.note(self.session.now(), annotated, Entry::Annotation, Stage::Done).map_err(End::of)
    }

    async fn take_statements(&mut self, one: &Judged) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        let edit = IrsaEdit::take(role, &self.cluster, one.workload())
            .map_err(|why| End::stopped(format!("the trust policy stays as it is: {why}"), ""))?;
        let Some(edit) = edit else { return Ok(()) };
        let entry = Entry::Statement { role_id: role.id.to_string(), statements: edit.statements().to_vec() };
        let annotated = &one.sight.annotated;
        self.journal.note(self.session.now(), annotated, entry.clone(), Stage::Begun).map_err(End::of)?;
        if let Err((end, is_certain)) = self.edit_irsa(&edit).await {
            return Err(self.not_done(annotated, entry, is_certain, end));
        }
        self.show_done(&statement_line(&annotated.role, one.workload()));
        self.journal.note(self.session.now(), annotated, entry, Stage::Done).map_err(End::of)
    }

    /// Or why not, and whether that is certain.
    pub(super) async fn edit_irsa(&mut self, edit: &IrsaEdit) -> Result<(), (End, bool)> {
        self.session.ui.progress(&format!("writing the trust policy of {} …", edit.role().role_name()));
        match self.session.aws.edit_irsa(edit).await {
            Ok(TrustWritten::Done) => Ok(()),
            Ok(TrustWritten::Gone(why) | TrustWritten::Changed(why)) => {
                Err((End::stopped(why, GOES_ON), true))
            }
            // The text of what may be gone is kept, whatever AWS says: it stands nowhere else.
            Err(error) => Err((End::of(self.session.problem(&error)), false)),
        }
    }

    pub(super) fn show_done(&mut self, line: &str) {
        let line = self.session.ui.look(Look::of_sign(line), line);
        self.session.ui.show(&format!("{line} => done"));
    }
}
