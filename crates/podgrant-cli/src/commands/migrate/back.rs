//! From Pod Identity back to IRSA, by the journal.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_aws::View;
use podgrant_core::explain::SETTLING;
use podgrant_core::migrate::{Entry, Halt, Moved, Step, StepKind, back, tags_back};
use podgrant_core::restart::Restart;
use podgrant_core::trust::manage::with_also;
use podgrant_core::{Change, Verdict, Workload};
use podgrant_runtime::Function;

use super::forward::all_to_roll;
use super::{End, Ends, GOES_ON, Judged, Mover, PAUSE, exit};
use crate::arguments::Consent;
use crate::commands::apply::CarriedOut;
use crate::commands::tags::{look, news, write_tags};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::shown::Shown;
use crate::ui::Look;

/// How often pods are made anew that have Pod Identity's variables all the same.
const MOST_ROLLS: usize = 3;

impl From<Halt> for End {
    fn from(halt: Halt) -> Self {
        Self::stopped(halt.told, halt.remedy)
    }
}

/// Takes back what the journal says was done.
pub(super) async fn run(
    mover: &mut Mover<'_, '_>,
    wanted: &BTreeSet<Workload>,
    consent: &Consent,
) -> Result<Exit, Problem> {
    if !mover.journal.is_there() {
        return Err(Problem::failed(
            format!("there is no journal {} of what was done", mover.journal.path().display()),
            "name it with --journal; without one, by hand: podgrant revoke, podgrant apply, and restart the pods",
        ));
    }
    let known: BTreeSet<Workload> = mover.journal.known().into_iter().map(|one| one.workload).collect();
    for missing in wanted.difference(&known) {
        let path = mover.journal.path().display();
        let line = format!("{missing}: the journal {path} has nothing that was done for it, or all was taken back.");
        mover.session.ui.show(&line);
    }
    let accounts: BTreeSet<Workload> =
        known.iter().filter(|one| wanted.is_empty() || wanted.contains(one)).cloned().collect();
    if accounts.is_empty() {
        mover.session.ui.show("There is nothing to take back.");
        mover.put_out(&[], &[], None);
        return Ok(if wanted.is_empty() { Exit::Done } else { Exit::InPart });
    }
    let judged = mover.look(&accounts).await?;
    let (mut ends, mut steps) = (Ends::new(), Vec::new());
    for one in &judged {
        let heading = mover.session.ui.look(Look::Bold, &one.workload().to_string());
        mover.session.ui.show(&heading);
        match mover.steps_back(one).await {
            Ok((found, restarts)) => {
                mover.show_back(&found, &restarts);
                steps.push(found);
            }
            Err(end) => {
                mover.tell(one.workload(), &end);
                ends.insert(one.workload().clone(), end);
                steps.push(Vec::new());
            }
        }
        mover.session.ui.show("");
    }
    let goes: Vec<Workload> =
        judged.iter().map(|one| one.workload().clone()).filter(|one| !ends.contains_key(one)).collect();
    if goes.is_empty() {
        mover.sum_up(&ends, "");
        mover.put_out(&judged, &steps, Some(&ends));
        return Ok(exit(&ends));
    }
    mover.session.ui.show(
        "Pods that run keep the credentials that they hold, for 6 hours at most, and get no others until they are made anew.",
    );
    if !mover.is_agreed("Take it back?", consent) {
        mover.put_out(&judged, &steps, None);
        return Ok(Exit::Declined);
    }
    for workload in goes {
        let end = match mover.session.is_interrupted() {
            true => End::interrupted(),
            false => match mover.take_back(&workload).await {
                Ok(()) => End::Undone,
                Err(end) => end,
            },
        };
        mover.tell(&workload, &end);
        ends.insert(workload, end);
    }
    mover.sum_up(&ends, "");
    mover.put_out(&judged, &steps, Some(&ends));
    Ok(exit(&ends))
}

impl Mover<'_, '_> {
    fn moved(&self, workload: &Workload) -> Result<Moved, End> {
        let moved = self.journal.moved(workload).cloned();
        moved.ok_or_else(|| End::stopped("the journal has nothing that was done for it", ""))
    }

    /// What is to be done, if all of it can be: where pods can't be made anew, nothing is begun.
    async fn steps_back(&mut self, one: &Judged) -> Result<(Vec<Step>, Vec<Restart>), End> {
        let moved = self.moved(one.workload())?;
        let steps = back(&one.sight, &moved, &self.cluster, self.session.aws.keys())?;
        let restarts = self.pods_back(one.workload()).await?;
        Ok((steps, restarts))
    }

    async fn pods_back(&mut self, workload: &Workload) -> Result<Vec<Restart>, End> {
        self.session.ui.progress(&format!("looking at the pods of {workload} …"));
        let now = self.session.now();
        let found = self.session.aws.restarts_back(&self.cluster, workload, &self.roller, now).await;
        all_to_roll(found.map_err(|why| End::stopped(why, GOES_ON))?)
    }

    fn show_back(&mut self, steps: &[Step], restarts: &[Restart]) {
        for step in steps.iter().filter(|step| !step.done) {
            let sign = match step.kind {
                StepKind::Statement | StepKind::Annotation => '+',
                StepKind::Restart => '~',
                _ => '-',
            };
            let more = match step.kind {
                StepKind::Restart => {
                    let names: Vec<String> = restarts.iter().map(|one| one.workload.to_string()).collect();
                    format!(": {}", names.join(", "))
                }
                _ => String::new(),
            };
            let line = format!("{sign} {}{more}", step.told);
            let line = self.session.ui.look(Look::of_sign(&line), &line);
            self.session.ui.show(&format!("  {line}"));
        }
    }

    /// In the order that loses the least: all that IRSA needs, then the association, then new pods at once.
    async fn take_back(&mut self, workload: &Workload) -> Result<(), End> {
        let moved = self.moved(workload)?;
        let mut since: BTreeMap<StepKind, i64> = BTreeMap::new();
        let (mut rolls, mut settled) = (0, None);
        loop {
            if self.session.is_interrupted() {
                return Err(End::interrupted());
            }
            let one = self.look_at(workload).await?;
            let steps = back(&one.sight, &moved, &self.cluster, self.session.aws.keys())?;
            let Some(step) = steps.into_iter().find(|step| !step.done) else {
                let noted = self.journal.note(self.session.now(), &one.sight.annotated, Entry::Undone, true);
                return noted.map_err(End::of);
            };
            let now = self.session.now();
            let is_first = !since.contains_key(&step.kind);
            if now - *since.entry(step.kind).or_insert(now) > self.limit && step.kind != StepKind::Restart {
                return Err(End::stopped(format!("after {} s it is not so yet: {}", self.limit, step.told), GOES_ON));
            }
            match step.kind {
                StepKind::Statement if is_first => self.put_statements_back(&one, &moved).await?,
                StepKind::Annotation if is_first => self.put_annotation_back(&one, &moved).await?,
                StepKind::Tag if is_first => {
                    // From here on new pods have IRSA's role, and old ones are to be made anew: all at once, or not at all.
                    self.pods_back(workload).await?;
                    self.put_tags_back(&one, &moved).await?;
                }
                StepKind::Association => {
                    self.pods_back(workload).await?;
                    self.withdraw(&one, &moved).await?;
                    settled = Some(self.session.now() + SETTLING);
                }
                StepKind::Restart => {
                    rolls += 1;
                    if rolls > MOST_ROLLS {
                        return Err(End::stopped("its new pods have Pod Identity's variables all the same", GOES_ON));
                    }
                    self.make_anew_back(&one, settled).await?;
                    settled = Some(self.session.now() + SETTLING);
                    continue;
                }
                // It does not show yet.
                _ => {}
            }
            self.session.pause(PAUSE).await;
        }
    }

    async fn put_statements_back(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        let after = with_also(&role.trust_policy, &moved.statements);
        let after = after.map_err(|why| End::stopped(format!("the trust policy stays as it is: {why}"), ""))?;
        if let Some(after) = after {
            self.put_trust(one, &after).await?;
            self.show_done(&format!("+ role {}: the statement for IRSA", role.arn.role_name()));
        }
        Ok(())
    }

    async fn put_annotation_back(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let workload = one.workload();
        let change = (None, Some(moved.role.as_str()));
        let (roller, now) = (self.roller.clone(), self.session.now());
        let written = self.session.aws.annotate(&self.cluster, workload, change, &roller, now).await;
        written.map_err(|why| End::stopped(why, GOES_ON))?;
        self.show_done(&format!("+ service account {workload}: the annotation with {}", moved.role));
        Ok(())
    }

    async fn put_tags_back(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        let edit = tags_back(role, moved, &one.sight, &self.cluster, self.session.aws.keys());
        write_tags(self.session, role, &edit).await.map_err(End::of)?;
        self.show_tags(role.arn.role_name(), &edit);
        Ok(())
    }

    /// Takes the association away, by the same pass as `podgrant apply --role`, and nothing else.
    async fn withdraw(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let (Ok(Some(role)), Ok(Some(standing))) = (&one.sight.role, &one.sight.standing) else { return Ok(()) };
        let name = role.arn.role_name().to_owned();
        let edit = tags_back(role, moved, &one.sight, &self.cluster, self.session.aws.keys());
        let view = View::Role { name: name.clone(), news: news(&edit) };
        let pass = look(self.session, view).await.map_err(End::of)?;
        let shown = Shown::of_pass(&pass);
        if let Some(gap) = shown.unread.first() {
            return Err(End::stopped(gap.why.clone(), GOES_ON));
        }
        let is_it = |change: &&Change| match change {
            Change::Revoke { association, .. } => association.id == standing.id,
            _ => false,
        };
        if let Some(more) = shown.plan.changes.iter().find(|change| !is_it(change)) {
            let told = format!("the tags of {name} ask for more than to take it back: {more}");
            return Err(End::stopped(told, format!("podgrant apply --role {name} does all of it; then run it again")));
        }
        if shown.plan.changes.is_empty() {
            let no = shown.plan.findings.iter().find(|finding| crate::shown::says_no(finding.kind));
            // Or it does not show yet.
            return no.map_or(Ok(()), |finding| Err(End::stopped(finding.reason.clone(), "")));
        }
        let flow = self.session.flow(Function::ReconcileAssociations);
        let (_, outcomes) = flow.carry_out_prepared(&pass, || self.session.is_interrupted()).await;
        let mut done = CarriedOut::default();
        done.add(self.session, outcomes);
        let failed = done.outcomes.into_iter().find_map(|outcome| match outcome.verdict {
            Verdict::Refused { reason } | Verdict::Failed { reason } => Some(reason),
            _ => None,
        });
        failed.map_or(Ok(()), |reason| Err(End::stopped(reason, GOES_ON)))
    }

    async fn make_anew_back(&mut self, one: &Judged, settled: Option<i64>) -> Result<(), End> {
        if let Some(settled) = settled {
            self.wait_until(settled, "waiting until new pods get IRSA's variables …").await;
        }
        if self.session.is_interrupted() {
            return Err(End::interrupted());
        }
        let workload = one.workload();
        let restarts = self.pods_back(workload).await?;
        let found = [(workload.clone(), restarts)].into();
        let ended = self.roll_out(&[one], &found).await;
        ended.into_values().next().map_or(Ok(()), Err)
    }
}
