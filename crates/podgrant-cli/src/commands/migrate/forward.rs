//! From IRSA to Pod Identity, up to where IRSA is no longer needed.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_aws::{Restarts, View};
use podgrant_core::explain::{NamedCluster, SETTLING, Target};
use podgrant_core::migrate::{Annotated, Entry, Sight, Stage, State, StepKind, as_if, refusals};
use podgrant_core::model::RoleNews;
use podgrant_core::moment::rfc3339;
use podgrant_core::restart::{Restart, StepKind as RestartKind, Toward};
use podgrant_core::tags::edit::Edit;
use podgrant_core::{Change, Cluster, Role, Verdict, Workload};
use podgrant_runtime::Function;

use super::{End, Ends, GOES_ON, Judged, Mover, PAUSE, exit};
use crate::arguments::{Consent, role_name};
use crate::commands::apply::CarriedOut;
use crate::commands::restart::{Outcome, roll, wait};
use crate::commands::tags::{look, write_tags};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::shown::Shown;
use crate::ui::Look;

/// How often pods are made anew that lack the variables all the same.
const MOST_ROLLS: usize = 3;

/// Moves what can move.
pub(super) async fn run(
    mover: &mut Mover<'_, '_>,
    judged: &[Judged],
    consent: &Consent,
) -> Result<Exit, Problem> {
    let can = |one: &&Judged| matches!(one.verdict.state, State::ToMove | State::UnderWay);
    let accounts: BTreeSet<Workload> = judged.iter().filter(can).map(|one| one.workload().clone()).collect();
    mover.session.ui.show("");
    if accounts.is_empty() {
        mover.session.ui.show("There is nothing to move.");
        mover.put_out(judged, &[], None);
        return Ok(exit(judged, &Ends::new(), LEFT));
    }
    let heading = mover.session.ui.look(Look::Bold, "To be moved, and IRSA to be left beside it");
    mover.session.ui.show(&heading);
    for one in judged.iter().filter(can) {
        mover.show_forth(one).await;
    }
    if !mover.is_agreed("Move them?", consent) {
        mover.put_out(judged, &[], None);
        return Ok(Exit::Declined);
    }
    let ends = mover.forward(&accounts).await;
    let next = format!(
        "Annotations and statements of IRSA stand beside it. When all works: podgrant migrate --cluster {} --finish",
        mover.cluster.id
    );
    mover.sum_up(&ends, &next);
    mover.put_out(judged, &[], Some(&ends));
    Ok(exit(judged, &ends, LEFT))
}

/// What should move, and could not be begun.
const LEFT: &[State] = &[State::Unknown, State::MendFirst];

/// What was done in this run.
#[derive(Default)]
struct Progress {
    ends: Ends,
    /// When a step was first done, of those that take a while to be seen.
    since: BTreeMap<(Workload, StepKind), i64>,
    /// From when on EKS's webhook knows of an association.
    settled: BTreeMap<Workload, i64>,
    rolls: BTreeMap<Workload, usize>,
    /// Something was done that does not show yet.
    waits: bool,
}

impl Progress {
    /// Whether a step may be waited for, from when it was first done.
    fn may_wait(&mut self, workload: &Workload, kind: StepKind, now: i64, limit: i64) -> bool {
        now - *self.since.entry((workload.clone(), kind)).or_insert(now) <= limit
    }
}

impl Mover<'_, '_> {
    /// Shows what is to be changed for one.
    async fn show_forth(&mut self, one: &Judged) {
        let workload = one.workload();
        self.session.ui.show(&format!("  {workload}"));
        let role = role_name(&one.sight.annotated.role);
        let mut lines: Vec<String> = Vec::new();
        if let Some(Ok(edit)) = as_if(&one.sight, &self.cluster, self.session.aws.keys()) {
            let tags = crate::commands::tags::tag_lines(&edit);
            lines.extend(tags.iter().filter_map(|line| {
                let (sign, tag) = line.split_once(' ')?;
                Some(format!("{sign} role {role}: {tag}"))
            }));
        }
        if one.verdict.steps.iter().any(|step| step.kind == StepKind::Association && !step.done) {
            lines
                .push(format!("~ role {role}: its trust policy lets Pod Identity in for it, if it does not"));
        }
        if let Ok(None) = &one.sight.standing {
            lines.push(format!("+ association with role {role}"));
        }
        let (toward, now) = (Toward::PodIdentitySoon, self.session.now());
        let roller = self.roller.clone();
        let found = self.session.aws.restarts_toward(toward, &self.cluster, workload, &roller, now).await;
        match found {
            Ok(restarts) => lines.extend(restarts.iter().map(restart_line)),
            Err(why) => lines.push(format!("! its pods: {why}")),
        }
        for line in lines {
            let line = self.session.ui.look(Look::of_sign(&line), &line);
            self.session.ui.show(&format!("    {line}"));
        }
    }

    /// Does what is next for each, and looks anew, until all are moved or stopped.
    async fn forward(&mut self, accounts: &BTreeSet<Workload>) -> Ends {
        let mut progress = Progress::default();
        loop {
            let left: BTreeSet<Workload> =
                accounts.iter().filter(|one| !progress.ends.contains_key(one)).cloned().collect();
            if left.is_empty() {
                return progress.ends;
            }
            let seen = if self.session.is_interrupted() {
                Err(End::interrupted())
            } else {
                self.look(&left).await.map_err(End::of)
            };
            let judged = match seen {
                Ok(judged) => judged,
                Err(end) => {
                    for workload in left {
                        self.end(&mut progress, &workload, end.clone());
                    }
                    return progress.ends;
                }
            };
            for workload in left.iter().filter(|one| !judged.iter().any(|seen| seen.workload() == *one)) {
                let end = End::stopped("its annotation is gone, or it is", "");
                self.end(&mut progress, workload, end);
            }
            let mut next: BTreeMap<StepKind, Vec<Judged>> = BTreeMap::new();
            for one in judged {
                match next_of(&one) {
                    Ok(kind) => next.entry(kind).or_default().push(one),
                    Err(end) => self.end(&mut progress, one.workload(), end),
                }
            }
            // What is furthest behind comes first, so that pods are made anew for all together.
            progress.waits = false;
            match next.pop_first() {
                None => {}
                Some((StepKind::Trust | StepKind::Tag, behind)) => self.write(&behind, &mut progress).await,
                Some((StepKind::Association, behind)) => {
                    self.associate(&behind, &left, &mut progress).await;
                }
                Some((_, behind)) => self.make_anew(&behind, &mut progress).await,
            }
            if progress.waits && !self.session.is_interrupted() {
                self.session.pause(PAUSE).await;
            }
        }
    }

    fn end(&mut self, progress: &mut Progress, workload: &Workload, end: End) {
        self.tell(workload, &end);
        progress.ends.insert(workload.clone(), end);
    }

    /// Writes what the roles' tags are to have, of all accounts of a role at once: IAM may show for a while what was there
    /// before, and who writes from that takes away what another wrote.
    async fn write(&mut self, behind: &[Judged], progress: &mut Progress) {
        let mut by_role: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
        for one in behind {
            by_role.entry(&one.sight.annotated.role).or_default().push(one);
        }
        for accounts in by_role.into_values() {
            let now = self.session.now();
            let is_written =
                |one: &&&Judged| progress.since.contains_key(&(one.workload().clone(), StepKind::Tag));
            if let Some(one) = accounts.iter().find(is_written) {
                progress.waits = true;
                if !progress.may_wait(one.workload(), StepKind::Tag, now, self.limit) {
                    let told = format!("after {} s IAM does not show the role's new tags", self.limit);
                    for one in &accounts {
                        self.end(progress, one.workload(), End::stopped(told.clone(), GOES_ON));
                    }
                }
                continue;
            }
            for one in &accounts {
                progress.may_wait(one.workload(), StepKind::Tag, now, self.limit);
            }
            for (workload, end) in self.write_tags_of(&accounts).await {
                self.end(progress, &workload, end);
            }
        }
    }

    /// Writes the tags of one role, for all of these. Returns those for which it was not done.
    async fn write_tags_of(&mut self, accounts: &[&Judged]) -> Ends {
        let keys = self.session.aws.keys().clone();
        let mut ends = Ends::new();
        let mut entries: Vec<(&Annotated, Entry)> = Vec::new();
        let Some(Ok(Some(role))) = accounts.first().map(|one| &one.sight.role) else { return ends };
        let mut after = role.clone();
        for one in accounts {
            let sight = Sight { role: Ok(Some(after.clone())), ..one.sight.clone() };
            match as_if(&sight, &self.cluster, &keys) {
                Some(Ok(edit)) => {
                    entries.push((&one.sight.annotated, tags_entry(role.id.as_str(), &edit, &keys)));
                    after.tags = edit.tags;
                }
                Some(Err(error)) => {
                    ends.insert(one.workload().clone(), End::stopped(error.to_string(), ""));
                }
                None => {}
            }
        }
        let edit = Edit::between(&role.tags, after.tags);
        if let Err(end) = self.write_noted(role, &edit, &entries).await {
            ends.extend(entries.into_iter().map(|(annotated, _)| (annotated.workload.clone(), end.clone())));
        }
        ends
    }

    async fn write_noted(
        &mut self,
        role: &Role,
        edit: &Edit,
        entries: &[(&Annotated, Entry)],
    ) -> Result<(), End> {
        for (annotated, entry) in entries {
            self.journal.note(self.session.now(), annotated, entry.clone(), Stage::Begun).map_err(End::of)?;
        }
        self.session.ui.progress(&format!("writing the tags of {} …", role.arn.role_name()));
        if let Err(unwritten) = write_tags(self.session, role, edit).await {
            let mut end = End::of(unwritten.problem);
            for (annotated, entry) in entries {
                end = self.not_done(annotated, entry.clone(), unwritten.is_certain, end);
            }
            return Err(end);
        }
        self.show_tags(role.arn.role_name(), edit);
        for (annotated, entry) in entries {
            self.journal.note(self.session.now(), annotated, entry.clone(), Stage::Done).map_err(End::of)?;
        }
        Ok(())
    }

    /// Has associations made, by the same pass as `podgrant apply --role`: where that would do more than what is asked
    /// for here, it is not done.
    async fn associate(&mut self, behind: &[Judged], accounts: &BTreeSet<Workload>, progress: &mut Progress) {
        let mut roles: BTreeSet<&str> = BTreeSet::new();
        for one in behind {
            if !roles.insert(&one.sight.annotated.role) {
                continue;
            }
            let workload = one.workload().clone();
            if !progress.may_wait(&workload, StepKind::Association, self.session.now(), self.limit) {
                let told = format!("after {} s its association does not stand yet", self.limit);
                self.end(progress, &workload, End::stopped(told, GOES_ON));
                continue;
            }
            match self.associate_one(one, accounts).await {
                Ok(()) => progress.waits = true,
                Err(end) => self.end(progress, &workload, end),
            }
        }
    }

    async fn associate_one(&mut self, one: &Judged, accounts: &BTreeSet<Workload>) -> Result<(), End> {
        let name = role_name(&one.sight.annotated.role).to_owned();
        self.session.ui.progress(&format!("looking at what {name} asks for …"));
        let view = View::Role { name: name.clone(), news: RoleNews::default() };
        let pass = look(self.session, view).await.map_err(End::of)?;
        let shown = Shown::of_pass(&pass);
        if let Some(gap) = shown.unread.first() {
            return Err(End::stopped(gap.why.clone(), GOES_ON));
        }
        let is_asked = |change: &&Change| match change {
            Change::AmendTrust { .. } => true,
            Change::Create { workload, mark } => {
                mark.cluster == self.cluster.id && accounts.contains(workload)
            }
            _ => false,
        };
        if let Some(more) = shown.plan.changes.iter().find(|change| !is_asked(change)) {
            let told = format!("the tags of {name} ask for more than to move it: {more}");
            return Err(End::stopped(
                told,
                format!("podgrant apply --role {name} does all of it; then run it again"),
            ));
        }
        if shown.plan.changes.is_empty() {
            let guardrails = &self.session.config.guardrails;
            return match refusals(&shown.plan, &one.sight, &self.cluster, guardrails).into_iter().next() {
                Some((_, why)) => Err(End::stopped(why, "")),
                // Somebody else made it, or it does not show yet.
                None => Ok(()),
            };
        }
        let annotated = &one.sight.annotated;
        self.journal
            .note(self.session.now(), annotated, Entry::Association, Stage::Begun)
            .map_err(End::of)?;
        self.session.ui.progress(&format!("applying to {} …", self.cluster.id));
        let flow = self.session.flow(Function::ReconcileAssociations);
        let (_, outcomes) = flow.carry_out_prepared(&pass, || self.session.is_interrupted()).await;
        let mut done = CarriedOut::default();
        done.add(self.session, outcomes);
        let is_done = done.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Done);
        let failed = done.outcomes.into_iter().find_map(|outcome| match outcome.verdict {
            Verdict::Refused { reason } | Verdict::Failed { reason } => Some(reason),
            // What is not done is planned anew.
            _ => None,
        });
        match failed {
            Some(reason) => Err(End::stopped(reason, "")),
            None if is_done => {
                let noted = self.journal.note(self.session.now(), annotated, Entry::Association, Stage::Done);
                noted.map_err(End::of)
            }
            None => Ok(()),
        }
    }

    /// Has pods made anew, once EKS's webhook knows of their association.
    async fn make_anew(&mut self, behind: &[Judged], progress: &mut Progress) {
        // Of a clock that is behind no more than that either.
        let latest = self.session.now() + SETTLING;
        let known = behind.iter().filter_map(|one| Some((one.sight.made_at? + SETTLING).min(latest)));
        let rolled = behind.iter().filter_map(|one| progress.settled.get(one.workload()).copied());
        if let Some(settled) = known.chain(rolled).max() {
            self.wait_until(settled, "waiting until new pods get their variables …").await;
        }
        if self.session.is_interrupted() {
            return;
        }
        let mut found: BTreeMap<Workload, Vec<Restart>> = BTreeMap::new();
        for one in behind {
            let workload = one.workload().clone();
            match self.lacking(&workload).await {
                Ok(restarts) if restarts.is_empty() => {
                    // Those that are ending have IRSA until they have ended.
                    progress.waits = true;
                    if !progress.may_wait(&workload, StepKind::Restart, self.session.now(), self.limit) {
                        let told = one.verdict.next().map_or("", |step| step.told.as_str());
                        let end = End::stopped(format!("after {} s {told}", self.limit), GOES_ON);
                        self.end(progress, &workload, end);
                    }
                }
                Ok(restarts) => {
                    let rolls = progress.rolls.entry(workload.clone()).or_default();
                    *rolls += 1;
                    if *rolls > MOST_ROLLS {
                        let remedy = format!("podgrant doctor {workload}@{}", self.cluster.id);
                        let end = End::stopped("its new pods lack the variables all the same", remedy);
                        self.end(progress, &workload, end);
                    } else {
                        found.insert(workload, restarts);
                    }
                }
                Err(end) => self.end(progress, &workload, end),
            }
        }
        let accounts: Vec<&Judged> = behind.iter().filter(|one| found.contains_key(one.workload())).collect();
        for (workload, end) in self.roll_out(&accounts, &found).await {
            self.end(progress, &workload, end);
        }
        let again = self.session.now() + SETTLING;
        progress.settled.extend(found.into_keys().map(|workload| (workload, again)));
    }

    /// What keeps the pods of a service account that lack the variables, where all of it can be rolled.
    async fn lacking(&mut self, workload: &Workload) -> Result<Vec<Restart>, End> {
        self.session.ui.progress(&format!("looking at the pods of {workload} …"));
        let cluster = NamedCluster::from(&self.cluster.id);
        let target = Target::ServiceAccount { workload: workload.clone(), cluster };
        let (onlooker, now) = (self.session.onlooker(), self.session.now());
        let Restarts { clusters, unread } =
            self.session.aws.restarts(&target, &self.roller, onlooker, now).await;
        if let Some((_, why)) = unread.into_iter().next() {
            return Err(End::stopped(why, GOES_ON));
        }
        all_to_roll(clusters.into_iter().flat_map(|(_, restarts)| restarts).collect())
    }

    /// Rolls workloads and waits until they are rolled out. Returns the service accounts of which not all were.
    pub(super) async fn roll_out(
        &mut self,
        accounts: &[&Judged],
        found: &BTreeMap<Workload, Vec<Restart>>,
    ) -> Ends {
        let mut ends = Ends::new();
        for one in accounts {
            for restart in found.get(one.workload()).into_iter().flatten() {
                let entry = Entry::Restart { workload: restart.workload.to_string() };
                let noted = self.journal.note(self.session.now(), &one.sight.annotated, entry, Stage::Begun);
                // Pods that get no new credentials are made anew all the same.
                if let Err(problem) = noted
                    && restart.toward != Toward::Irsa
                {
                    ends.insert(one.workload().clone(), End::of(problem));
                }
            }
        }
        let cluster = self.cluster.clone();
        let rolls: Vec<(&Cluster, &Restart)> = found
            .iter()
            .filter(|(workload, _)| !ends.contains_key(workload))
            .flat_map(|(_, restarts)| restarts.iter().map(|restart| (&cluster, restart)))
            .collect();
        let moment = rfc3339(self.session.now());
        let mut outcomes = roll(self.session, &self.roller, &rolls, &moment).await;
        wait(self.session, &self.roller, &rolls, &moment, &mut outcomes, self.limit).await;
        for one in accounts {
            for restart in found.get(one.workload()).into_iter().flatten() {
                let key = (self.cluster.id.clone(), restart.workload.clone());
                let told = match outcomes.get(&key) {
                    Some(Outcome::RolledOut) => {
                        let entry = Entry::Restart { workload: restart.workload.to_string() };
                        let noted =
                            self.journal.note(self.session.now(), &one.sight.annotated, entry, Stage::Done);
                        noted.err().map(|problem| problem.message)
                    }
                    Some(Outcome::Rolling(_)) if !self.session.is_interrupted() => {
                        Some(format!("it was not rolled out within {} s", self.limit))
                    }
                    Some(Outcome::Rolling(_) | Outcome::NotBegun) => Some("it was interrupted".to_owned()),
                    Some(outcome) => Some(outcome.reason()),
                    None => None,
                };
                if let Some(told) = told {
                    let end = End::stopped(format!("{}: {told}", restart.workload), GOES_ON);
                    ends.entry(one.workload().clone()).or_insert(end);
                }
            }
        }
        ends
    }

    pub(super) fn show_tags(&mut self, role: &str, edit: &Edit) {
        for line in crate::commands::tags::tag_lines(edit) {
            let (sign, tag) = line.split_once(' ').unwrap_or_default();
            let line = self.session.ui.look(Look::of_sign(&line), &format!("{sign} role {role}: {tag}"));
            self.session.ui.show(&format!("{line} => done"));
        }
    }
}

/// Whose pods are made anew, and what is to be known of that.
pub(super) fn restart_line(restart: &Restart) -> String {
    let Restart { workload, pods, of, step, .. } = restart;
    let sign = if step.kind == RestartKind::Roll { '~' } else { '!' };
    let told = if step.told.is_empty() { String::new() } else { format!(": {}", step.told) };
    format!("{sign} {workload}, {} of {of} pods{told}", pods.len())
}

/// The step that is next, or how it ended.
fn next_of(one: &Judged) -> Result<StepKind, End> {
    let verdict = &one.verdict;
    match verdict.state {
        State::Moved | State::Finished => Err(End::Moved),
        State::Stays | State::MendFirst | State::Unknown => {
            Err(End::stopped(verdict.told.clone(), verdict.remedy.clone()))
        }
        State::ToMove | State::UnderWay => {
            let kind = verdict.next().map_or(StepKind::Restart, |step| step.kind);
            let by_others = matches!(&one.sight.standing, Ok(Some(one)) if one.managed().is_none());
            // A grant would make podgrant adopt it.
            if by_others && kind < StepKind::Restart {
                let told = "somebody else made its association, and the trust policy does not allow it";
                return Err(End::stopped(told, "mend the trust policy: podgrant explain says what it lacks"));
            }
            Ok(kind)
        }
    }
}

/// These, where each of them can be rolled.
pub(super) fn all_to_roll(restarts: Vec<Restart>) -> Result<Vec<Restart>, End> {
    if let Some(other) = restarts.iter().find(|restart| restart.step.kind != RestartKind::Roll) {
        let told = format!("{}: {}", other.workload, other.step.told);
        return Err(End::stopped(told, other.step.remedy.clone()));
    }
    Ok(restarts)
}

/// What the journal has of tags that are about to change.
pub(super) fn tags_entry(role_id: &str, edit: &Edit, keys: &podgrant_core::TagKeys) -> Entry {
    let changes = || edit.changes.iter();
    let trust = keys.key("trust");
    Entry::Tags {
        role_id: role_id.to_owned(),
        before: changes().map(|change| (change.key.clone(), change.before.clone())).collect(),
        after: changes().map(|change| (change.key.clone(), change.after.clone())).collect(),
        grants: changes().any(|change| change.key != trust),
        trusts: changes().any(|change| change.key == trust),
    }
}
