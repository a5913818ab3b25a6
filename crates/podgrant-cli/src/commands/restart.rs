//! `podgrant restart`.

use std::collections::BTreeMap;

use podgrant_aws::{Restarts, Rolled, Roller};
use podgrant_core::explain::Target;
use podgrant_core::moment::rfc3339;
use podgrant_core::restart::{Progress, Restart, StepKind, Workload};
use podgrant_core::{Cluster, ClusterId};
use serde::Serialize;

use crate::arguments::{Consent, Waiting};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::table;
use crate::ui::{JSON_VERSION, Look};

/// Seconds between two looks.
const PAUSE: u64 = 5;

#[derive(Serialize)]
struct Shape {
    version: u32,
    about: String,
    workloads: Vec<RestartShape>,
    /// Whether anything was to be rolled, and nobody declined.
    applied: bool,
    unread: Vec<UnreadShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestartShape {
    cluster: String,
    namespace: String,
    kind: String,
    name: String,
    service_account: String,
    /// Those that lack the variables, of so many.
    pods: Vec<String>,
    of: usize,
    why: String,
    restart: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    told: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeShape>,
}

#[derive(Serialize)]
struct OutcomeShape {
    verdict: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

#[derive(Serialize)]
struct UnreadShape {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    reason: String,
}

/// What came of one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Rolling(i64),
    RolledOut,
    /// Rolled out, and its pods are no better.
    StillLacking(usize),
    HeldBack(String),
    Failed(String),
    Unsure(String),
    NotBegun,
}

impl Outcome {
    fn verdict(&self) -> &'static str {
        match self {
            Self::Rolling(_) => "rolling",
            Self::RolledOut => "rolled-out",
            Self::StillLacking(_) => "still-lacking",
            Self::HeldBack(_) => "held-back",
            Self::Failed(_) => "failed",
            Self::Unsure(_) => "unsure",
            Self::NotBegun => "not-begun",
        }
    }

    pub(super) fn reason(&self) -> String {
        match self {
            Self::HeldBack(why) | Self::Failed(why) | Self::Unsure(why) => why.clone(),
            Self::StillLacking(pods) => {
                format!("{pods} of its pods lack them all the same; podgrant doctor names the cause")
            }
            Self::Rolling(_) | Self::RolledOut | Self::NotBegun => String::new(),
        }
    }

    fn shape(&self) -> OutcomeShape {
        OutcomeShape { verdict: self.verdict(), reason: self.reason() }
    }
}

pub(super) type Outcomes = BTreeMap<(ClusterId, Workload), Outcome>;

pub async fn run(
    session: &mut Session<'_>,
    target: &Target,
    apply: bool,
    consent: &Consent,
    waiting: &Waiting,
) -> Result<Exit, Problem> {
    allowed(session, apply, consent, waiting)?;
    let Some(roller) = session.roller().cloned() else {
        return Err(Problem::failed("there is no way into clusters' Kubernetes APIs", ""));
    };
    session.ui.progress("looking at pods …");
    let now = session.now();
    let found = session.aws.restarts(target, &roller, session.onlooker(), now).await;
    // Nothing at all was read: that is no look.
    if let ([], [(_, why), ..]) = (found.clusters.as_slice(), found.unread.as_slice()) {
        return Err(Problem::failed(why.clone(), ""));
    }
    show(session, &found);
    let rolls = found.clusters.iter().flat_map(|(cluster, restarts)| {
        restarts
            .iter()
            .filter(|restart| restart.step.kind == StepKind::Roll)
            .map(move |restart| (cluster, restart))
    });
    let rolls: Vec<(&Cluster, &Restart)> = rolls.collect();
    if !apply || rolls.is_empty() {
        if !rolls.is_empty() {
            session.ui.show("podgrant restart --apply rolls them.");
        }
        session.ui.json(&shape(target, &found, None));
        return Ok(exit_of_look(&found, apply));
    }
    session.ui.show("");
    let question = format!("Roll {}?", counted(rolls.len(), "workload"));
    if !consent.yes && !session.ui.agrees(&question) {
        session.ui.say("Nothing was changed.");
        session.ui.json(&shape(target, &found, None));
        return Ok(Exit::Declined);
    }
    let moment = rfc3339(session.now());
    let mut outcomes = roll(session, &roller, &rolls, &moment).await;
    if waiting.wait {
        let limit = i64::from(waiting.wait_limit);
        wait(session, &roller, &rolls, &moment, &mut outcomes, limit).await;
        look_again(session, target, &roller, &mut outcomes).await;
    }
    sum_up(session, &outcomes);
    session.ui.json(&shape(target, &found, Some(&outcomes)));
    Ok(exit(&found, &outcomes, waiting.wait))
}

/// Before anything is asked.
fn allowed(session: &Session<'_>, apply: bool, consent: &Consent, waiting: &Waiting) -> Result<(), Problem> {
    if !apply && (consent.yes || waiting.wait) {
        return Err(Problem::usage("--yes and --wait are about --apply, and it is not there", ""));
    }
    if apply && session.config.dry_run {
        return Err(Problem::usage(
            "PODGRANT_DRY_RUN is on, and forbids it",
            "unset it, or leave --apply out",
        ));
    }
    if apply && !consent.yes && !session.ui.can_ask() {
        return Err(Problem::usage(
            "it asks before it changes anything, and there is nobody to ask",
            "run it on a terminal, or with --yes",
        ));
    }
    Ok(())
}

fn show(session: &mut Session<'_>, found: &Restarts) {
    for (cluster, why) in &found.unread {
        let place = cluster.as_ref().map(|cluster| format!("{cluster}: ")).unwrap_or_default();
        session.ui.show(&format!("! not read: {place}{why}"));
    }
    let all: Vec<(&Cluster, &Restart)> = each(found).collect();
    if all.is_empty() {
        session.ui.show(if found.unread.is_empty() {
            "No pod lacks what Pod Identity gives it."
        } else {
            "No pod that was seen lacks what Pod Identity gives it."
        });
        return;
    }
    let rows: Vec<[String; 6]> = all
        .iter()
        .map(|(cluster, restart)| {
            [
                cluster.id.to_string(),
                restart.workload.to_string(),
                restart.account.clone(),
                format!("{} of {}", restart.pods.len(), restart.of),
                restart.step.kind.as_str().replace('-', " "),
                restart.why.clone(),
            ]
        })
        .collect();
    table::show(&mut session.ui, ["CLUSTER", "WORKLOAD", "SERVICE ACCOUNT", "LACK", "RESTART", "WHY"], &rows);
    let mut begun = false;
    for (_, restart) in &all {
        let (told, remedy) = (&restart.step.told, &restart.step.remedy);
        if told.is_empty() {
            continue;
        }
        if !std::mem::replace(&mut begun, true) {
            session.ui.show("");
        }
        let sign = if restart.step.kind == StepKind::Roll { '.' } else { '!' };
        session.ui.show(&format!("{sign} {}: {told}", restart.workload));
        if !remedy.is_empty() {
            session.ui.show(&format!("  → {remedy}"));
        }
    }
    let count = |kind| all.iter().filter(|(_, restart)| restart.step.kind == kind).count();
    let line = format!(
        "{} to roll, {} held back, {} by hand, {} that it does not help, {} unknown.",
        counted(count(StepKind::Roll), "workload"),
        count(StepKind::HeldBack),
        count(StepKind::ByHand),
        count(StepKind::NoHelp),
        count(StepKind::Unknown),
    );
    session.ui.show("");
    session.ui.show(&line);
}

/// One after another: what the first takes of a disruption budget the next must see.
pub(super) async fn roll(
    session: &mut Session<'_>,
    roller: &Roller,
    rolls: &[(&Cluster, &Restart)],
    moment: &str,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for (cluster, restart) in rolls {
        let outcome = if session.is_interrupted() {
            Outcome::NotBegun
        } else {
            session.ui.progress(&format!("rolling {} …", restart.workload));
            let now = session.now();
            match session.aws.roll(cluster, restart, moment, roller, session.onlooker(), now).await {
                Rolled::Done(generation) => Outcome::Rolling(generation),
                Rolled::Not(step) => Outcome::HeldBack(step.told),
                Rolled::Failed(why) => Outcome::Failed(why),
                Rolled::Unsure(why) => {
                    Outcome::Unsure(format!("whether it is being rolled is not known: {why}"))
                }
            }
        };
        told(session, &cluster.id, &restart.workload, &outcome);
        outcomes.insert((cluster.id.clone(), restart.workload.clone()), outcome);
    }
    outcomes
}

fn told(session: &mut Session<'_>, cluster: &ClusterId, workload: &Workload, outcome: &Outcome) {
    let reason = outcome.reason();
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let line = session.ui.look(Look::Yellow, &format!("~ {cluster}  {workload}"));
    session.ui.show(&format!("{line} => {}{why}", outcome.verdict().replace('-', " ")));
}

/// Looks until every rolling update is over, and tells how far they are whenever that changes.
pub(super) async fn wait(
    session: &mut Session<'_>,
    roller: &Roller,
    rolls: &[(&Cluster, &Restart)],
    moment: &str,
    outcomes: &mut Outcomes,
    limit: i64,
) {
    let began = session.now();
    let mut said = String::new();
    loop {
        let mut left = Vec::new();
        let round = session.now();
        for (cluster, restart) in rolls {
            let Some(outcome) = outcomes.get_mut(&(cluster.id.clone(), restart.workload.clone())) else {
                continue;
            };
            let (Outcome::Rolling(generation), Workload::Kept(object)) = (&*outcome, &restart.workload)
            else {
                continue;
            };
            // A cluster that does not answer takes its time for each workload.
            let now = session.now();
            if (now > round && now - began >= limit) || session.is_interrupted() {
                left.push(format!("{} {}: not looked at", cluster.id, restart.workload));
                continue;
            }
            let seen = session.aws.rolling(cluster, object, roller, session.now()).await;
            let progress = match seen {
                Ok(Some(controller)) if restart.is_put_back(&controller, moment) => {
                    *outcome = Outcome::Failed("somebody put its template back".to_owned());
                    told(session, &cluster.id, &restart.workload, outcome);
                    continue;
                }
                Ok(Some(controller)) => controller.progress(*generation),
                Ok(None) => {
                    *outcome = Outcome::Failed("it is gone".to_owned());
                    told(session, &cluster.id, &restart.workload, outcome);
                    continue;
                }
                // It may be seen the next time.
                Err(why) => Progress::Waiting(why),
            };
            match progress {
                Progress::Done => *outcome = Outcome::RolledOut,
                Progress::Stuck => {
                    *outcome = Outcome::Failed(
                        "it made no progress for as long as it may (progressDeadlineSeconds)".to_owned(),
                    );
                }
                Progress::Waiting(how) => {
                    left.push(format!("{} {}: {how}", cluster.id, restart.workload));
                    continue;
                }
            }
            told(session, &cluster.id, &restart.workload, outcome);
        }
        if left.is_empty() {
            return;
        }
        let now = left.join("\n  ");
        if now != said {
            session.ui.say(&format!("waiting for:\n  {now}"));
            said = now;
        }
        let waited = session.now() - began;
        if waited >= limit || session.is_interrupted() {
            session.ui.show(&format!(
                "After {waited} s not all are rolled out; kubectl rollout status shows more."
            ));
            return;
        }
        session.pause(PAUSE).await;
    }
}

/// Whether what was rolled out was of use.
async fn look_again(session: &mut Session<'_>, target: &Target, roller: &Roller, outcomes: &mut Outcomes) {
    if !outcomes.values().any(|outcome| *outcome == Outcome::RolledOut) {
        return;
    }
    if session.is_interrupted() {
        unseen(session, outcomes, |_| Some("it was interrupted".to_owned()));
        return;
    }
    session.ui.progress("looking at the new pods …");
    let now = session.now();
    let found = session.aws.restarts(target, roller, session.onlooker(), now).await;
    for (cluster, restart) in each(&found) {
        let outcome = outcomes.get_mut(&(cluster.id.clone(), restart.workload.clone()));
        if let Some(outcome) = outcome.filter(|outcome| **outcome == Outcome::RolledOut) {
            *outcome = Outcome::StillLacking(restart.pods.len());
            told(session, &cluster.id, &restart.workload, outcome);
        }
    }
    unseen(session, outcomes, |cluster| {
        if found.clusters.iter().any(|(seen, _)| seen.id == *cluster) {
            return None;
        }
        let is_about =
            |unread: &&(Option<ClusterId>, String)| unread.0.as_ref().is_none_or(|id| id == cluster);
        let why = found.unread.iter().find(is_about).map(|(_, why)| why.clone());
        Some(why.unwrap_or_else(|| "its cluster was not found again".to_owned()))
    });
}

/// Nobody saw whether what was rolled out on a cluster was of use, and why.
fn unseen(session: &mut Session<'_>, outcomes: &mut Outcomes, why: impl Fn(&ClusterId) -> Option<String>) {
    for ((cluster, workload), outcome) in outcomes {
        if *outcome != Outcome::RolledOut {
            continue;
        }
        if let Some(why) = why(cluster) {
            *outcome =
                Outcome::Unsure(format!("rolled out; whether its new pods have them was not seen: {why}"));
            told(session, cluster, workload, outcome);
        }
    }
}

fn sum_up(session: &mut Session<'_>, outcomes: &Outcomes) {
    let count = |is: fn(&Outcome) -> bool| outcomes.values().filter(|outcome| is(outcome)).count();
    let line = format!(
        "Restarted: {} rolled out, {} rolling, {} still lacking, {} held back, {} failed, {} unsure, {} not begun.",
        count(|outcome| matches!(outcome, Outcome::RolledOut)),
        count(|outcome| matches!(outcome, Outcome::Rolling(_))),
        count(|outcome| matches!(outcome, Outcome::StillLacking(_))),
        count(|outcome| matches!(outcome, Outcome::HeldBack(_))),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        count(|outcome| matches!(outcome, Outcome::Unsure(_))),
        count(|outcome| matches!(outcome, Outcome::NotBegun)),
    );
    session.ui.show("");
    session.ui.show(&line);
}

fn each(found: &Restarts) -> impl Iterator<Item = (&Cluster, &Restart)> {
    found
        .clusters
        .iter()
        .flat_map(|(cluster, restarts)| restarts.iter().map(move |restart| (cluster, restart)))
}

fn exit_of_look(found: &Restarts, apply: bool) -> Exit {
    let has = |kinds: &[StepKind]| each(found).any(|(_, restart)| kinds.contains(&restart.step.kind));
    if !found.unread.is_empty() {
        Exit::InPart
    } else if has(&[StepKind::Roll, StepKind::HeldBack, StepKind::ByHand]) {
        if apply { Exit::InPart } else { Exit::Found }
    } else if has(&[StepKind::NoHelp, StepKind::Unknown]) {
        Exit::InPart
    } else {
        Exit::Done
    }
}

fn exit(found: &Restarts, outcomes: &Outcomes, waited: bool) -> Exit {
    let is_good = |outcome: &Outcome| match outcome {
        Outcome::RolledOut => true,
        Outcome::Rolling(_) => !waited,
        _ => false,
    };
    let others = each(found).any(|(_, restart)| restart.step.kind != StepKind::Roll);
    let failed = |outcome: &Outcome| matches!(outcome, Outcome::Failed(_));
    if outcomes.values().all(is_good) && !others && found.unread.is_empty() {
        Exit::Done
    } else if outcomes.values().all(failed) {
        Exit::Failed
    } else {
        Exit::InPart
    }
}

fn shape(target: &Target, found: &Restarts, outcomes: Option<&Outcomes>) -> Shape {
    let of = |cluster: &Cluster, restart: &Restart| {
        let outcome =
            outcomes.and_then(|outcomes| outcomes.get(&(cluster.id.clone(), restart.workload.clone())));
        RestartShape {
            cluster: cluster.id.to_string(),
            namespace: restart.workload.namespace().to_owned(),
            kind: restart.workload.kind().to_owned(),
            name: restart.workload.name().to_owned(),
            service_account: restart.account.clone(),
            pods: restart.pods.clone(),
            of: restart.of,
            why: restart.why.clone(),
            restart: restart.step.kind.as_str(),
            told: restart.step.told.clone(),
            remedy: restart.step.remedy.clone(),
            outcome: outcome.map(Outcome::shape),
        }
    };
    let unread = found.unread.iter().map(|(cluster, reason)| UnreadShape {
        cluster: cluster.as_ref().map(ToString::to_string),
        reason: reason.clone(),
    });
    Shape {
        version: JSON_VERSION,
        about: target.to_string(),
        workloads: each(found).map(|(cluster, restart)| of(cluster, restart)).collect(),
        applied: outcomes.is_some(),
        unread: unread.collect(),
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
