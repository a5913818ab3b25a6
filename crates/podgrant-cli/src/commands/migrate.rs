//! `podgrant migrate`: what could move from IRSA to Pod Identity, and moving it, and back.
//!
//! Each step follows from what is seen right before it. So whatever ends it in between, run again it goes on.

mod back;
mod finish;
mod forward;
mod journal;

use std::collections::{BTreeMap, BTreeSet};

use podgrant_aws::{Roller, View};
use podgrant_core::migrate::{Annotated, Entry, Sight, Stage, State, Step, Verdict, as_if, judge, refusals};
use podgrant_core::written::Unwritten;
use podgrant_core::{Cluster, FindingKind, Workload};
use serde::Serialize;

use super::tags::look;
use crate::arguments::{ClusterArgument, Consent, Migration, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::Shown;
use crate::table;
use crate::ui::{JSON_VERSION, Look};
use journal::{JournalFile, Use};

/// Seconds between two looks.
const PAUSE: u64 = 5;

const GOES_ON: &str = "run it again: it goes on where it is";

#[derive(Serialize)]
struct Shape {
    version: u32,
    cluster: String,
    /// Whether anything was to be changed, and nobody declined.
    applied: bool,
    accounts: Vec<AccountShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountShape {
    service_account: String,
    /// As the annotation has it.
    role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<usize>,
    /// As it was before anything was changed.
    state: &'static str,
    told: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
    steps: Vec<StepShape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeShape>,
}

#[derive(Serialize)]
struct StepShape {
    step: &'static str,
    done: bool,
    told: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    caution: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    command: String,
}

#[derive(Serialize)]
struct OutcomeShape {
    verdict: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

/// What was seen of a service account, and what is said of it.
pub(super) struct Judged {
    pub sight: Sight,
    pub verdict: Verdict,
}

impl Judged {
    fn workload(&self) -> &Workload {
        &self.sight.annotated.workload
    }
}

/// What came of a service account.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// IRSA may go.
    Moved,
    /// It is gone; or what of it is left, and why.
    Finished(String),
    Undone,
    /// Not so far, and why.
    Stopped {
        told: String,
        remedy: String,
    },
}

type Ends = BTreeMap<Workload, End>;

impl End {
    fn stopped(told: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Stopped { told: told.into(), remedy: remedy.into() }
    }

    fn of(problem: Problem) -> Self {
        Self::stopped(problem.message, problem.remedy)
    }

    fn interrupted() -> Self {
        Self::stopped("it was interrupted", GOES_ON)
    }

    fn shape(&self) -> OutcomeShape {
        let (verdict, reason, remedy) = match self {
            Self::Moved => ("moved", "", ""),
            Self::Finished(left) => ("finished", left.as_str(), ""),
            Self::Undone => ("undone", "", ""),
            Self::Stopped { told, remedy } => ("stopped", told.as_str(), remedy.as_str()),
        };
        OutcomeShape { verdict, reason: reason.to_owned(), remedy: remedy.to_owned() }
    }
}

/// Whoever moves service accounts of a cluster.
struct Mover<'m, 'a> {
    session: &'m mut Session<'a>,
    cluster: Cluster,
    roller: Roller,
    journal: JournalFile,
    /// Seconds that each step is waited for at most.
    limit: i64,
}

pub async fn run(
    session: &mut Session<'_>,
    named: &ClusterArgument,
    accounts: &[Workload],
    migration: &Migration,
    consent: &Consent,
) -> Result<Exit, Problem> {
    let changes = migration.apply || migration.finish || migration.undo;
    allowed(session, changes, consent)?;
    let Some(roller) = session.roller().cloned() else {
        return Err(Problem::failed("there is no way into clusters' Kubernetes APIs", ""));
    };
    let id = session.cluster(named).await?;
    let cluster = session.aws.cluster(&id).await.map_err(|error| session.problem(&error))?;
    let cluster = cluster.ok_or_else(|| Problem::failed(format!("there is no cluster {id} any more"), ""))?;
    let usage = match (changes, migration.undo) {
        (false, _) => Use::Read,
        (true, true) => Use::Continue,
        (true, false) => Use::Begin,
    };
    let journal = JournalFile::open(migration.journal.as_deref(), &cluster, usage)?;
    let mut mover = Mover { session, cluster, roller, journal, limit: i64::from(migration.wait_limit) };
    let wanted: BTreeSet<Workload> = accounts.iter().cloned().collect();
    if migration.undo {
        return back::run(&mut mover, &wanted, consent).await;
    }
    let judged = mover.look(&wanted).await?;
    show(mover.session, &judged, !changes);
    let is_seen = |wanted: &&Workload| judged.iter().any(|one| one.workload() == *wanted);
    let missing: Vec<&Workload> = wanted.iter().filter(|wanted| !is_seen(wanted)).collect();
    for missing in &missing {
        mover.session.ui.show(&format!("{missing} has no annotation of IRSA, or is not there."));
    }
    if migration.apply {
        let exit = forward::run(&mut mover, &judged, consent).await?;
        Ok(if exit == Exit::Done && !missing.is_empty() { Exit::InPart } else { exit })
    } else if migration.finish {
        finish::run(&mut mover, &judged, &wanted, consent).await
    } else {
        mover.session.ui.show("Nothing was changed.");
        mover.put_out(&judged, &[], None);
        Ok(exit_of_look(&judged))
    }
}

/// Before anything is asked.
fn allowed(session: &Session<'_>, changes: bool, consent: &Consent) -> Result<(), Problem> {
    if !changes && consent.yes {
        return Err(Problem::usage("--yes is about --apply, --finish and --undo, and none is there", ""));
    }
    if changes && session.config.dry_run {
        return Err(Problem::usage("PODGRANT_DRY_RUN is on, and forbids it", "unset it, or only look"));
    }
    if changes && !consent.yes && !session.ui.can_ask() {
        return Err(Problem::usage(
            "it asks before it changes anything, and there is nobody to ask",
            "run it on a terminal, or with --yes",
        ));
    }
    Ok(())
}

impl Mover<'_, '_> {
    /// Looks at these, or at all, and says what is so of each.
    async fn look(&mut self, wanted: &BTreeSet<Workload>) -> Result<Vec<Judged>, Problem> {
        let session = &mut *self.session;
        session.ui.progress("looking at service accounts …");
        let known = self.journal.known();
        let (onlooker, now) = (session.onlooker(), session.now());
        let seen = session.aws.annotated(&self.cluster, wanted, &known, &self.roller, onlooker, now).await;
        let seen = seen.map_err(|why| {
            Problem::failed(
                format!("the service accounts of {} can't be seen: {why}", self.cluster.id),
                "it needs AmazonEKSViewPolicy there, and a way to the cluster's endpoint",
            )
        })?;
        let mut judged = Vec::new();
        for mut sight in seen {
            session.ui.progress(&format!("looking at {} …", sight.annotated.workload));
            sight.refused = refused(session, &sight, &self.cluster).await;
            let verdict = judge(&sight, &self.cluster, session.aws.keys());
            judged.push(Judged { sight, verdict });
        }
        Ok(judged)
    }

    /// Looks at one.
    async fn look_at(&mut self, workload: &Workload) -> Result<Judged, End> {
        let judged = self.look(&[workload.clone()].into()).await.map_err(End::of)?;
        let gone = || End::stopped("it has no annotation of IRSA, or is not there", "");
        judged.into_iter().next().ok_or_else(gone)
    }

    /// Asks, and says so if it is declined.
    fn is_agreed(&mut self, question: &str, consent: &Consent) -> bool {
        let agreed = consent.yes || self.session.ui.agrees(question);
        if agreed {
            let noted = format!("What was there before is noted in {}.", self.journal.path().display());
            self.session.ui.say(&noted);
            // From here on Ctrl-C is heeded between two calls.
            self.session.is_interrupted();
        } else {
            self.session.ui.say("Nothing was changed.");
        }
        agreed
    }

    /// Notes how a step ended that was begun, where it failed; and returns that.
    fn not_done(&mut self, account: &Annotated, entry: Entry, is_certain: bool, end: End) -> End {
        if is_certain
            && let Err(problem) = self.journal.note(self.session.now(), account, entry, Stage::NotDone)
        {
            return End::of(problem);
        }
        end
    }

    /// Has a service account's annotation be another, where it is as it was seen.
    async fn annotate(
        &mut self,
        workload: &Workload,
        change: (Option<&str>, Option<&str>),
    ) -> Result<(), Unwritten> {
        self.session.ui.progress(&format!("writing the annotation of {workload} …"));
        let (roller, now) = (self.roller.clone(), self.session.now());
        self.session.aws.annotate(&self.cluster, workload, change, &roller, now).await
    }

    fn tell(&mut self, workload: &Workload, end: &End) {
        let (look, word, told) = match end {
            End::Moved => (Look::Green, "moved", ""),
            End::Finished(left) => (Look::Green, "finished", left.as_str()),
            End::Undone => (Look::Green, "back with IRSA", ""),
            End::Stopped { told, .. } => (Look::Red, "stopped", told.as_str()),
        };
        let why = if told.is_empty() { String::new() } else { format!(": {told}") };
        let line = self.session.ui.look(look, &format!("{workload} => {word}{why}"));
        self.session.ui.show(&line);
        if let End::Stopped { remedy, .. } = end
            && !remedy.is_empty()
        {
            self.session.ui.show(&format!("  → {remedy}"));
        }
    }

    /// Waits until this moment; not where it is interrupted.
    async fn wait_until(&mut self, moment: i64, what: &str) {
        while self.session.now() < moment && !self.session.is_interrupted() {
            self.session.ui.progress(what);
            self.session.pause(PAUSE).await;
        }
    }

    fn sum_up(&mut self, ends: &Ends, next: &str) {
        let count = |is: fn(&End) -> bool| ends.values().filter(|end| is(end)).count();
        let done = [
            (count(|end| matches!(end, End::Moved)), "moved"),
            (count(|end| matches!(end, End::Finished(_))), "finished"),
            (count(|end| matches!(end, End::Undone)), "back with IRSA"),
            (count(|end| matches!(end, End::Stopped { .. })), "stopped"),
        ];
        let told: Vec<String> = done
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        self.session.ui.show("");
        self.session.ui.show(&format!("{}.", told.join(", ")));
        if ends.values().any(|end| !matches!(end, End::Stopped { .. })) && !next.is_empty() {
            self.session.ui.show(next);
        }
    }

    /// `steps`: of each, where they are not its verdict's. `ends`: none where nothing was to be changed, or it was declined.
    fn put_out(&mut self, judged: &[Judged], steps: &[Vec<Step>], ends: Option<&Ends>) {
        let accounts = judged.iter().enumerate().map(|(number, one)| {
            let steps = steps.get(number).unwrap_or(&one.verdict.steps);
            AccountShape {
                outcome: ends.and_then(|ends| ends.get(one.workload())).map(End::shape),
                ..AccountShape::of(one, steps)
            }
        });
        let shape = Shape {
            version: JSON_VERSION,
            cluster: self.cluster.id.to_string(),
            applied: ends.is_some(),
            accounts: accounts.collect(),
        };
        self.session.ui.json(&shape);
    }
}

/// What the planning rules would refuse, were the role's tags as they are to be.
async fn refused(
    session: &Session<'_>,
    sight: &Sight,
    cluster: &Cluster,
) -> Result<Vec<(FindingKind, String)>, String> {
    // What stands is refused nothing.
    if matches!(sight.standing, Ok(Some(_))) {
        return Ok(Vec::new());
    }
    let Some(edit) = as_if(sight, cluster, session.aws.keys()) else { return Ok(Vec::new()) };
    let edit = match edit {
        Ok(edit) => edit,
        Err(error) => return Ok(vec![(FindingKind::BadTag, error.to_string())]),
    };
    let name = role_name(&sight.annotated.role).to_owned();
    let pass = look(session, View::RoleAsIf { name, tags: edit.tags }).await;
    let shown = Shown::of_pass(&pass.map_err(|problem| problem.message)?);
    if let Some(gap) = shown.unread.first() {
        return Err(gap.why.clone());
    }
    Ok(refusals(&shown.plan, sight, cluster, &session.config.guardrails))
}

/// `steps`: with the commands for each, where it is not done here.
fn show(session: &mut Session<'_>, judged: &[Judged], steps: bool) {
    if judged.is_empty() {
        session.ui.show("No service account that was looked at has IRSA's annotation.");
        return;
    }
    let rows: Vec<[String; 5]> = judged
        .iter()
        .map(|Judged { sight, verdict }| {
            [
                sight.annotated.workload.to_string(),
                role_name(&sight.annotated.role).to_owned(),
                counted(sight).map_or_else(|| "?".to_owned(), |pods| pods.to_string()),
                verdict.state.as_str().replace('-', " "),
                verdict.told.clone(),
            ]
        })
        .collect();
    table::show(&mut session.ui, ["SERVICE ACCOUNT", "ROLE", "PODS", "STATE", "WHY"], &rows);
    for one in judged {
        let verdict = &one.verdict;
        let steps = if steps { verdict.steps.as_slice() } else { &[] };
        if steps.is_empty() && verdict.remedy.is_empty() {
            continue;
        }
        session.ui.show("");
        let heading = session.ui.look(Look::Bold, &one.workload().to_string());
        session.ui.show(&heading);
        if !verdict.remedy.is_empty() {
            session.ui.show(&format!("  → {}", verdict.remedy));
        }
        for (step, number) in steps.iter().zip(1..) {
            let done = if step.done { "done" } else { "    " };
            session.ui.show(&format!("  {number}. {done}  {}", step.told));
            let more = [step.caution, step.command.as_str()];
            for line in more.iter().filter(|line| !step.done && !line.is_empty()) {
                session.ui.show(&format!("           {line}"));
            }
        }
    }
    let count = |state| judged.iter().filter(|one| one.verdict.state == state).count();
    let finished = match count(State::Finished) {
        0 => String::new(),
        finished => format!(", {finished} finished"),
    };
    let line = format!(
        "{} to move, {} under way, {} moved{finished}, {} to mend first, {} that stay, {} unknown.",
        count(State::ToMove),
        count(State::UnderWay),
        count(State::Moved),
        count(State::MendFirst),
        count(State::Stays),
        count(State::Unknown),
    );
    session.ui.show("");
    session.ui.show(&line);
}

impl AccountShape {
    fn of(Judged { sight, verdict }: &Judged, steps: &[Step]) -> Self {
        let steps = steps.iter().map(|step| StepShape {
            step: step.kind.as_str(),
            done: step.done,
            told: step.told.clone(),
            caution: step.caution,
            command: step.command.clone(),
        });
        Self {
            service_account: sight.annotated.workload.to_string(),
            role: sight.annotated.role.clone(),
            pods: counted(sight),
            state: verdict.state.as_str(),
            told: verdict.told.clone(),
            remedy: verdict.remedy.clone(),
            steps: steps.collect(),
            outcome: None,
        }
    }
}

/// Its pods, but those that are ending.
fn counted(sight: &Sight) -> Option<usize> {
    sight.pods.as_ref().ok().map(|pods| pods.iter().filter(|pod| !pod.is_ending).count())
}

fn exit_of_look(judged: &[Judged]) -> Exit {
    let has = |states: &[State]| judged.iter().any(|one| states.contains(&one.verdict.state));
    if has(&[State::Unknown]) {
        Exit::InPart
    } else if has(&[State::ToMove, State::UnderWay, State::Moved, State::MendFirst]) {
        Exit::Found
    } else {
        Exit::Done
    }
}

/// Of what was to be changed. Whatever is in one of `left`'s states, and was to be otherwise, is not.
fn exit(judged: &[Judged], ends: &Ends, left: &[State]) -> Exit {
    let stopped = ends.values().filter(|end| matches!(end, End::Stopped { .. })).count();
    let is_left = |one: &Judged| left.contains(&one.verdict.state) && !ends.contains_key(one.workload());
    if stopped > 0 && stopped == ends.len() {
        Exit::Failed
    } else if stopped > 0 || judged.iter().any(is_left) {
        Exit::InPart
    } else {
        Exit::Done
    }
}
