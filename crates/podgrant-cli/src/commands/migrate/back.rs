//! From Pod Identity back to IRSA, by the journal.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_aws::View;
use podgrant_core::explain::SETTLING;
use podgrant_core::migrate::{
    Annotated, Back, Entry, Halt, IrsaEdit, Moved, Stage, Step, StepKind, back, tags_back,
};
use podgrant_core::model::RoleNews;
use podgrant_core::moment::rfc3339;
use podgrant_core::restart::{Restart, Toward};
use podgrant_core::tags::edit::Edit;
use podgrant_core::{Change, FindingKind, RoleArn, Verdict, Workload};
use podgrant_runtime::Function;

use super::forward::{all_to_roll, restart_line};
use super::{End, Ends, GOES_ON, Judged, Mover, PAUSE, exit};
use crate::arguments::{Consent, role_name};
use crate::commands::apply::CarriedOut;
use crate::commands::tags::{look, write_tags};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::shown::Shown;
use crate::ui::Look;

/// How often pods are made anew that have Pod Identity's variables all the same.
const MOST_ROLLS: usize = 3;

/// For so many seconds the agent keeps credentials at most (EKS user guide, "How EKS Pod Identity works").
const HELD: i64 = 6 * 3600;

/// What was done in this run.
#[derive(Default)]
struct Progress {
    ends: Ends,
    /// When a step was first done, of those that take a while to be seen.
    since: BTreeMap<(Workload, StepKind), i64>,
    rolls: BTreeMap<Workload, usize>,
    /// What roles' tags were written to be.
    written: BTreeMap<RoleArn, BTreeMap<String, String>>,
    /// When an association was taken away, or first seen to be gone.
    withdrawn: BTreeMap<Workload, i64>,
    /// From when on new pods get what they should.
    settled: BTreeMap<Workload, i64>,
}

impl Progress {
    fn begin(&mut self, workload: &Workload, kind: StepKind, now: i64) {
        self.since.entry((workload.clone(), kind)).or_insert(now);
    }

    /// From now on these may be without association.
    fn withdraw(&mut self, accounts: &BTreeSet<Workload>, now: i64) {
        for workload in accounts {
            self.withdrawn.entry(workload.clone()).or_insert(now);
            self.settled.insert(workload.clone(), now + SETTLING);
        }
    }

    /// Counts that pods are made anew, as long as that may help.
    fn may_roll(&mut self, workload: &Workload) -> Result<(), End> {
        let rolls = self.rolls.entry(workload.clone()).or_default();
        *rolls += 1;
        if *rolls > MOST_ROLLS {
            return Err(End::stopped("its new pods have Pod Identity's variables all the same", GOES_ON));
        }
        Ok(())
    }
}

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
            "name it with --journal; without one, by hand: statement and annotation back first where they are gone, then podgrant \
             revoke and podgrant apply, then restart the pods",
        ));
    }
    let known: BTreeSet<Workload> = mover.journal.known().into_iter().map(|one| one.workload).collect();
    for missing in wanted.difference(&known) {
        let path = mover.journal.path().display();
        let line =
            format!("{missing}: the journal {path} has nothing that was done for it, or all was taken back.");
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
                steps.push(found.steps);
            }
            Err(end) => {
                mover.tell(one.workload(), &end);
                ends.insert(one.workload().clone(), end);
                steps.push(Vec::new());
            }
        }
        mover.session.ui.show("");
    }
    let goes: BTreeSet<Workload> =
        judged.iter().map(|one| one.workload().clone()).filter(|one| !ends.contains_key(one)).collect();
    if goes.is_empty() {
        mover.sum_up(&ends, "");
        mover.put_out(&judged, &steps, Some(&ends));
        return Ok(Exit::Failed);
    }
    mover.session.ui.show(
        "Pods that run keep the credentials that they hold, for 6 hours at most, and get no others until they are made anew.",
    );
    mover
        .session
        .ui
        .show("podgrant's own statement in a trust policy stays, and lets nobody in without an association.");
    if !mover.is_agreed("Take it back?", consent) {
        mover.put_out(&judged, &steps, None);
        return Ok(Exit::Declined);
    }
    ends.extend(mover.take_back(&goes).await);
    mover.sum_up(&ends, "");
    mover.put_out(&judged, &steps, Some(&ends));
    let missing = wanted.difference(&known).next().is_some();
    Ok(match exit(&judged, &ends, &[]) {
        Exit::Done if missing => Exit::InPart,
        exit => exit,
    })
}

impl Mover<'_, '_> {
    fn moved(&self, workload: &Workload) -> Result<Moved, End> {
        self.journal
            .moved(workload)
            .ok_or_else(|| End::stopped("the journal has nothing that was done for it", ""))
    }

    async fn way_back(&mut self, one: &Judged) -> Result<Back, End> {
        let moved = self.moved(one.workload())?;
        let provider = self.session.aws.has_oidc_provider(&self.cluster).await;
        Ok(back(&one.sight, &moved, &provider, &self.cluster, self.session.aws.keys())?)
    }

    /// What is to be done, if all of it can be: where pods can't be made anew, nothing is begun.
    async fn steps_back(&mut self, one: &Judged) -> Result<(Back, Vec<Restart>), End> {
        let way = self.way_back(one).await?;
        let restarts = match &way.halt {
            None => self.pods_back(one.workload()).await?,
            // What goes no further is told when that is reached.
            Some(_) => Vec::new(),
        };
        way.clone().next()?;
        Ok((way, restarts))
    }

    async fn pods_back(&mut self, workload: &Workload) -> Result<Vec<Restart>, End> {
        self.session.ui.progress(&format!("looking at the pods of {workload} …"));
        let (toward, now) = (Toward::Irsa, self.session.now());
        let found =
            self.session.aws.restarts_toward(toward, &self.cluster, workload, &self.roller, now).await;
        all_to_roll(found.map_err(|why| End::stopped(why, GOES_ON))?)
    }

    fn show_back(&mut self, way: &Back, restarts: &[Restart]) {
        let gives = |step: &&Step| matches!(step.kind, StepKind::Statement | StepKind::Annotation);
        let goes_on = |step: &&Step| !step.done && (way.halt.is_none() || gives(step));
        let steps: Vec<&Step> = way.steps.iter().filter(goes_on).collect();
        let mut lines: Vec<String> = Vec::new();
        for step in &steps {
            match step.kind {
                StepKind::Restart => lines.extend(restarts.iter().map(restart_line)),
                _ if gives(step) => lines.push(format!("+ {}", step.told)),
                _ => lines.push(format!("- {}", step.told)),
            }
        }
        if let Some(halt) = &way.halt {
            lines.push(format!("! and no more: {}", halt.told));
        } else if steps.is_empty() {
            lines.push(". nothing is left to be taken back".to_owned());
        }
        for line in lines {
            let line = self.session.ui.look(Look::of_sign(&line), &line);
            self.session.ui.show(&format!("  {line}"));
        }
    }

    /// In the order that loses the least: all that IRSA needs, of all of them; then the associations; then new pods at once.
    async fn take_back(&mut self, accounts: &BTreeSet<Workload>) -> Ends {
        let mut progress = Progress::default();
        for workload in accounts {
            let role = self.journal.moved(workload).map(|moved| moved.role).unwrap_or_default();
            let annotated = Annotated { workload: workload.clone(), role };
            // Nothing is begun where its end could not be noted.
            let noted = self.journal.note(self.session.now(), &annotated, Entry::Undone, Stage::Begun);
            if let Err(problem) = noted {
                self.ended(&mut progress, workload, End::of(problem));
            }
        }
        loop {
            let left: BTreeSet<Workload> =
                accounts.iter().filter(|one| !progress.ends.contains_key(one)).cloned().collect();
            if left.is_empty() {
                return progress.ends;
            }
            let seen = match self.session.is_interrupted() {
                true => Err(End::interrupted()),
                false => self.look(&left).await.map_err(End::of),
            };
            let judged = match seen {
                Ok(judged) => judged,
                Err(end) => {
                    for workload in left {
                        self.ended(&mut progress, &workload, end.clone());
                    }
                    return progress.ends;
                }
            };
            // Those that are furthest behind come first.
            let mut behind: BTreeMap<usize, Vec<(Judged, Step)>> = BTreeMap::new();
            for one in judged {
                match self.next_back(&one, &mut progress).await {
                    Ok(Some((number, step))) => behind.entry(number).or_default().push((one, step)),
                    Ok(None) => self.undone(&one, &mut progress),
                    Err(end) => self.ended(&mut progress, one.workload(), end),
                }
            }
            let Some((_, mut now)) = behind.pop_first() else { continue };
            // Pods that get no new credentials wait for nobody.
            let without = |group: &Vec<(Judged, Step)>| {
                group.first().is_some_and(|(_, step)| step.kind == StepKind::Restart)
            };
            now.extend(behind.into_values().filter(without).flatten());
            let mut roles: BTreeSet<String> = BTreeSet::new();
            let mut restarts: BTreeMap<Workload, Vec<Restart>> = BTreeMap::new();
            for (one, step) in &now {
                // What was written to a role changes what the next account of it has to begin from.
                let is_of_the_role =
                    matches!(step.kind, StepKind::Statement | StepKind::Tag | StepKind::Association);
                if is_of_the_role && !roles.insert(one.sight.annotated.role.clone()) {
                    continue;
                }
                let ended = match step.kind {
                    StepKind::Restart => match progress.may_roll(one.workload()) {
                        Ok(()) => self.pods_back(one.workload()).await.map(|found| {
                            restarts.insert(one.workload().clone(), found);
                        }),
                        Err(end) => Err(end),
                    },
                    StepKind::Tag | StepKind::Association => {
                        self.withdraw_all(one, step.kind, &now, &mut progress).await
                    }
                    _ => self.give_back(one, step.kind, &mut progress).await,
                };
                if let Err(end) = ended {
                    self.ended(&mut progress, one.workload(), end);
                }
            }
            if restarts.is_empty() {
                self.session.pause(PAUSE).await;
                continue;
            }
            let of_them: Vec<&Judged> =
                now.iter().map(|(one, _)| one).filter(|one| restarts.contains_key(one.workload())).collect();
            self.make_anew_back(&of_them, restarts, &mut progress).await;
        }
    }

    fn ended(&mut self, progress: &mut Progress, workload: &Workload, end: End) {
        let end = match (end, progress.withdrawn.get(workload)) {
            (End::Stopped { told, .. }, Some(at)) => End::stopped(
                told,
                format!(
                    "its association is gone, or about to be, and pods that have Pod Identity's variables lose their credentials by {} at the \
                     latest: run it again, or make them anew",
                    rfc3339(at + HELD)
                ),
            ),
            (end, _) => end,
        };
        self.tell(workload, &end);
        progress.ends.insert(workload.clone(), end);
    }

    fn undone(&mut self, one: &Judged, progress: &mut Progress) {
        let noted = self.journal.note(self.session.now(), &one.sight.annotated, Entry::Undone, Stage::Done);
        let end = noted.map_or_else(End::of, |()| End::Undone);
        self.ended(progress, one.workload(), end);
    }

    /// The first step back that is not done, and which of them it is.
    async fn next_back(
        &mut self,
        one: &Judged,
        progress: &mut Progress,
    ) -> Result<Option<(usize, Step)>, End> {
        let workload = one.workload();
        let Some((number, step)) = self.way_back(one).await?.next()? else { return Ok(None) };
        let now = self.session.now();
        if step.kind == StepKind::Restart {
            progress.withdrawn.entry(workload.clone()).or_insert(now);
            progress.settled.entry(workload.clone()).or_insert(now + SETTLING);
        }
        let since = progress.since.get(&(workload.clone(), step.kind));
        if step.kind != StepKind::Restart && since.is_some_and(|since| now - since > self.limit) {
            let told = format!("after {} s it is not so yet: {}", self.limit, step.told);
            return Err(End::stopped(told, GOES_ON));
        }
        Ok(Some((number, step)))
    }

    /// Takes back the grants or associations of all accounts of a role that are as far, and whose pods can be made anew.
    async fn withdraw_all(
        &mut self,
        one: &Judged,
        kind: StepKind,
        now: &[(Judged, Step)],
        progress: &mut Progress,
    ) -> Result<(), End> {
        let is_with_it = |(other, step): &&(Judged, Step)| {
            step.kind == kind && other.sight.annotated.role == one.sight.annotated.role
        };
        let mut ready: Vec<&Judged> = Vec::new();
        for (other, _) in now.iter().filter(is_with_it) {
            progress.begin(other.workload(), kind, self.session.now());
            // From here on new pods have IRSA's role, and old ones are to be made anew: all of an account's, or it is not begun.
            match self.pods_back(other.workload()).await {
                Ok(_) => ready.push(other),
                Err(end) => self.ended(progress, other.workload(), end),
            }
        }
        // Each of them was told why.
        if ready.is_empty() {
            return Ok(());
        }
        if kind == StepKind::Tag {
            return self.put_tags_back(&ready, progress).await;
        }
        let accounts: BTreeSet<Workload> = ready.iter().map(|other| other.workload().clone()).collect();
        progress.withdraw(&accounts, self.session.now());
        self.withdraw(one, &accounts).await
    }

    /// Gives back what IRSA needs.
    async fn give_back(&mut self, one: &Judged, kind: StepKind, progress: &mut Progress) -> Result<(), End> {
        let moved = self.moved(one.workload())?;
        progress.begin(one.workload(), kind, self.session.now());
        match kind {
            StepKind::Statement => self.put_statements_back(one, &moved).await,
            _ => self.put_annotation_back(one, &moved).await,
        }
    }

    async fn put_statements_back(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let Ok(Some(role)) = &one.sight.role else { return Ok(()) };
        let edit = IrsaEdit::put_back(role, &self.cluster, one.workload(), &moved.statements)
            .map_err(|why| End::stopped(format!("the trust policy stays as it is: {why}"), ""))?;
        if let Some(edit) = edit {
            match self.edit_irsa(&edit).await {
                // It is looked at anew: IAM may have shown what was there before.
                Err((_, true)) => return Ok(()),
                written => written.map_err(|(end, _)| end)?,
            }
            self.show_done(&format!("+ role {}: the statement for IRSA", role.arn.role_name()));
        }
        Ok(())
    }

    async fn put_annotation_back(&mut self, one: &Judged, moved: &Moved) -> Result<(), End> {
        let workload = one.workload();
        let written = self.annotate(workload, (None, Some(&moved.role))).await;
        written.map_err(|unwritten| End::stopped(unwritten.why(), GOES_ON))?;
        self.show_done(&format!("+ service account {workload}: the annotation with {}", moved.role));
        Ok(())
    }

    /// Takes the grants of all of these out of their role's tags, at once.
    async fn put_tags_back(&mut self, accounts: &[&Judged], progress: &mut Progress) -> Result<(), End> {
        let Some(Ok(Some(role))) = accounts.first().map(|one| &one.sight.role) else { return Ok(()) };
        // IAM may show for a while what was there before.
        if progress.written.get(&role.arn).is_some_and(|written| *written != role.tags) {
            return Ok(());
        }
        let mut all: Vec<(&Judged, Moved)> = Vec::new();
        for one in accounts {
            all.push((one, self.moved(one.workload())?));
        }
        // What a role was let goes with the last grant: whoever was moved by it comes last.
        all.sort_by_key(|(_, moved)| moved.trusts);
        let mut after = role.clone();
        for (one, moved) in &all {
            after.tags = tags_back(&after, moved, &one.sight, &self.cluster, self.session.aws.keys()).tags;
        }
        let edit = Edit::between(&role.tags, after.tags);
        let written = write_tags(self.session, role, &edit).await;
        if !matches!(&written, Err(unwritten) if unwritten.is_certain) {
            // Where podgrant runs, it takes the associations by that.
            let stands = |one: &&&Judged| matches!(one.sight.standing, Ok(Some(_)));
            let accounts = accounts.iter().filter(stands).map(|one| one.workload().clone()).collect();
            progress.withdraw(&accounts, self.session.now());
            progress.written.insert(role.arn.clone(), edit.tags.clone());
        }
        written.map_err(|unwritten| End::of(unwritten.problem))?;
        self.show_tags(role.arn.role_name(), &edit);
        Ok(())
    }

    /// Takes associations of a role away, by the same pass as `podgrant apply --role`, and nothing else. `accounts`: those
    /// that have all that IRSA needs.
    async fn withdraw(&mut self, one: &Judged, accounts: &BTreeSet<Workload>) -> Result<(), End> {
        let name = role_name(&one.sight.annotated.role).to_owned();
        let view = View::Role { name: name.clone(), news: RoleNews::default() };
        let pass = look(self.session, view).await.map_err(End::of)?;
        let shown = Shown::of_pass(&pass);
        if let Some(gap) = shown.unread.first() {
            return Err(End::stopped(gap.why.clone(), GOES_ON));
        }
        let is_it = |change: &&Change| match change {
            Change::Revoke { association, .. } => {
                association.cluster == self.cluster.id && accounts.contains(&association.workload)
            }
            _ => false,
        };
        if let Some(more) = shown.plan.changes.iter().find(|change| !is_it(change)) {
            let told = format!("the tags of {name} ask for more than to take it back: {more}");
            return Err(End::stopped(
                told,
                format!("podgrant apply --role {name} does all of it; then run it again"),
            ));
        }
        let withheld = shown.plan.findings.iter().find(|finding| finding.kind == FindingKind::Withheld);
        if let Some(withheld) = withheld {
            return Err(End::stopped(withheld.reason.clone(), ""));
        }
        if shown.plan.changes.is_empty() {
            // It does not show yet.
            return Ok(());
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

    async fn make_anew_back(
        &mut self,
        behind: &[&Judged],
        restarts: BTreeMap<Workload, Vec<Restart>>,
        progress: &mut Progress,
    ) {
        // EKS's webhook knows of an association for a while after it is gone.
        let settled = behind.iter().filter_map(|one| progress.settled.get(one.workload()).copied());
        let until = settled.max().unwrap_or_default();
        self.wait_until(until, "waiting until new pods get IRSA's variables …").await;
        if self.session.is_interrupted() {
            return;
        }
        for (workload, end) in self.roll_out(behind, &restarts).await {
            self.ended(progress, &workload, end);
        }
        let again = self.session.now() + SETTLING;
        progress.settled.extend(restarts.into_keys().map(|workload| (workload, again)));
    }
}
