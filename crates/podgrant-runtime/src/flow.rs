//! One way through, the same for all functions: observe, plan, guard, apply, report.

use std::collections::{BTreeSet, VecDeque};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use podgrant_aws::{Aws, AwsError, BusEvent, DelayedMessage, Meaning, Occasion, View};
use podgrant_core::model::Workloads;
use podgrant_core::outcome::{FollowUp, Wait};
use podgrant_core::plan::{Duty, OrphanStanding};
use podgrant_core::{
    Approved, Change, Finding, FindingKind, Outcome, Snapshot, Verdict, guard, part_bytes, plan,
};
use podgrant_events::{Cause, OutcomeEvent, Trigger, Wake, deferred};

use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::report::{ChangeReport, Ending, Report};
use crate::scope::{Function, Task, scope};

mod told;

use told::{refused_by_aws, settled};

/// Time kept back before the deadline: for a change just begun, whose calls take
/// 20 seconds each at the very most, and for the messages that take over what is left.
const REPORTING_MS: i64 = 25_000;

/// The part of what is left of an invocation that looks into clusters may begin in: one third. What EKS itself says
/// has to be acted on.
const LOOKING: i64 = 3;

/// How often a cluster is come back to after an access entry was made for podgrant, until that is a finding: with the
/// delays in between, for some three minutes.
const OPENING_LOOKS: u32 = 7;

/// Seconds that a role may stay unseen. IAM shows a new one within seconds, and
/// one that is gone is the business of clean-up-orphans.
const UNSEEN_ROLE: i64 = 300;

/// Everything that a function needs to serve messages.
#[derive(Debug, Clone)]
pub struct Flow {
    pub function: Function,
    pub aws: Aws,
    pub config: Config,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// What was looked at for a task, and what may be done about it.
#[derive(Debug)]
pub(crate) struct Pass {
    pub task: Task,
    pub snapshot: Snapshot,
    pub approved: Approved,
}

/// Where a message came from, and so where its unfinished work can go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Queue,
    /// A direct invoke, or a person's command: unfinished work is reported, and not queued.
    Invoke {
        /// It raises the limits on loss: who asks for that has seen before what would go, and is not told to
        /// wait for the second look.
        allowed: bool,
    },
}

impl Flow {
    /// Serves one wake-up, before `deadline` in milliseconds since 1970.
    pub async fn serve(&self, wake: &Wake, origin: Origin, deadline: i64) -> Report {
        let began = self.clock.millis();
        let name = self.function.name();
        let mut report = match scope(self.function, wake, &self.config, self.clock.seconds()) {
            Err(reason) => Report::of_nothing(name, &wake.id, Ending::Dropped, reason),
            Ok(task) => self.perform(task, wake, origin, deadline).await,
        };
        // Where no queue takes what a sweep left for later it is served here, as much as time allows.
        let mut parts = VecDeque::from(std::mem::take(&mut report.parts));
        while let Some(wait) = parts.pop_front() {
            if self.clock.millis() >= deadline - REPORTING_MS {
                report.waiting.push(wait.reason);
                report.ending = report.ending.and(Ending::NotYet);
                continue;
            }
            let looks_again = matches!(wait.follow_up, FollowUp::Orphans { .. });
            let wake = Wake { trigger: Trigger::FollowUp(wait.follow_up), ..wake.clone() };
            let Ok(task) = scope(self.function, &wake, &self.config, self.clock.seconds()) else { continue };
            let mut served = self.perform(task, &wake, origin, deadline).await;
            // Nobody can wait here: what would come back as it was is left.
            let (left, rest): (Vec<Wait>, Vec<Wait>) = std::mem::take(&mut served.parts)
                .into_iter()
                .partition(|wait| again(&wake.trigger, &wait.follow_up));
            if !left.is_empty() {
                served.ending = served.ending.and(Ending::NotYet);
                served.waiting.extend(left.into_iter().map(|wait| wait.reason));
            }
            parts.extend(rest);
            if looks_again {
                report.supersede(served);
            } else {
                report.add(served);
            }
        }
        report.trigger = Some(wake.trigger.in_short());
        report.duration_ms = self.clock.millis() - began;
        report
    }

    async fn perform(&self, task: Task, wake: &Wake, origin: Origin, deadline: i64) -> Report {
        match self.decide(&task, wake, origin, deadline).await {
            Ok((snapshot, approved)) => {
                let pass = Pass { task, snapshot, approved };
                let time_is_up = || self.clock.millis() >= deadline - REPORTING_MS;
                self.carry_out(&pass, wake, origin, time_is_up).await.0
            }
            Err(error) => self.unobserved(&task, wake, origin, &error).await,
        }
    }

    /// The first half of the way: looks, plans, and has the plan guarded. Nothing is changed.
    pub(crate) async fn decide(
        &self,
        task: &Task,
        wake: &Wake,
        origin: Origin,
        deadline: i64,
    ) -> Result<(Snapshot, Approved), AwsError> {
        let began = self.clock.millis();
        let time = deadline - began;
        let looks_long = looks_long(&task.view);
        let look_until = began + if looks_long { time / LOOKING * 2 } else { time / LOOKING };
        let look_time_is_up = || self.clock.millis() >= look_until;
        let mut snapshot = self.aws.observe(&task.view, self.clock.seconds(), look_time_is_up).await?;
        // A part of a sweep is a message of its own from the first.
        let first = u32::from(matches!(task.view, View::ClusterSweep { .. }));
        // Somebody came back for what was just opened.
        if (first + 1..first + OPENING_LOOKS).contains(&wake.attempt) {
            snapshot.expect_opening();
        }
        let mut duty = task.duty.clone();
        if let (Duty::Sweep { part_bytes: bytes, .. }, Some(queue_url)) = (&mut duty, self.queue(origin)) {
            match self.aws.most_message_bytes(queue_url).await {
                Ok(most) => *bytes = part_bytes(most),
                // What any queue takes is known.
                Err(error) => tracing::warn!(%error, "a sweep's messages are smaller than they might be"),
            }
        }
        let plan = plan(duty, &snapshot, self.aws.keys());
        tracing::debug!(id = %wake.id, %plan, "planned");
        let approved = guard(plan, &snapshot, self.aws.keys(), &self.config.limits);
        Ok((snapshot, approved))
    }

    /// The second half: applies what was approved, and reports. With it, how each change ended.
    pub(crate) async fn carry_out(
        &self,
        Pass { task, snapshot, approved }: &Pass,
        wake: &Wake,
        origin: Origin,
        time_is_up: impl Fn() -> bool,
    ) -> (Report, Vec<Outcome>) {
        let name = self.function.name();
        let looks_long = looks_long(&task.view);
        let outcomes = if self.config.dry_run {
            Vec::new()
        } else {
            let occasion = Occasion { id: &wake.id, attempt: wake.attempt };
            let keep = |change: &Change| self.keep(change, wake);
            self.aws.apply(approved, snapshot, occasion, &keep, time_is_up).await
        };

        let mut findings = approved.findings().to_vec();
        findings.extend(outcomes.iter().filter_map(refused_by_aws));
        let mut waits = approved.waits().to_vec();
        waits.extend(outcomes.iter().filter_map(|outcome| match &outcome.verdict {
            Verdict::NotYet(wait) => Some(wait.clone()),
            _ => None,
        }));
        // Throttled, it comes back after a while, and not when its message does.
        let throttled = task.again().filter(|_| snapshot.gaps.iter().all(|gap| gap.throttled));
        let gaps = match (throttled, snapshot.gaps.first()) {
            (Some(follow_up), Some(gap)) => {
                waits.push(Wait { reason: gap.why.clone(), follow_up });
                &[]
            }
            _ => {
                waits.extend(rest(task, snapshot, &outcomes));
                let is_shut = |outcome: &Outcome| {
                    matches!(outcome.change, Change::OpenKubernetes { .. })
                        && outcome.verdict != Verdict::Done
                };
                // Why a cluster could not be opened is told; the next sweep tries again.
                let to_come = snapshot.accounts_to_come().filter(|_| !outcomes.iter().any(is_shut));
                let to_come = to_come.zip(task.again());
                waits.extend(to_come.map(|(reason, follow_up)| Wait { reason, follow_up }));
                snapshot.gaps.as_slice()
            }
        };
        waits = one_look_at_orphans(waits, &task.view);
        let mut parts = Vec::new();
        if self.queue(origin).is_none() {
            (parts, waits) = waits.into_iter().partition(|wait| self.is_part(wait, origin));
        }
        let began = wake.began.unwrap_or_else(|| self.clock.seconds());
        let mut dropped = None;
        waits.retain(|wait| match self.patience(wait, wake, began) {
            Patience::Left => true,
            Patience::Over => {
                findings.push(gave_up(wait, began, self.clock.seconds()));
                false
            }
            Patience::NotNews => {
                dropped = Some(wait.reason.clone());
                false
            }
        });

        let mut problems: Vec<String> = gaps.iter().map(|gap| gap.why.clone()).collect();
        for outcome in &outcomes {
            match &outcome.verdict {
                // A role that can't be mended now fails no sweep: it comes back by itself.
                Verdict::Failed { reason } if matches!(task.view, View::FleetSweep) => {
                    waits.push(Wait { reason: reason.clone(), follow_up: outcome.change.follow_up() });
                }
                Verdict::Failed { reason } => problems.push(reason.clone()),
                _ => {}
            }
        }
        problems.extend(self.put_off(&waits, wake, began, origin).await.err());
        // A view of everything tells of all of them.
        let orphans = if looks_long {
            settled(approved.orphans(), &outcomes, &findings, self.config.dry_run)
        } else {
            Vec::new()
        };
        // Who looks again tells it again, and better.
        let looked_at_again =
            waits.iter().chain(&parts).any(|wait| matches!(wait.follow_up, FollowUp::Orphans { .. }));
        let told: &[OrphanStanding] = if looked_at_again { &[] } else { &orphans };
        problems.extend(self.tell(&outcomes, &findings, told, wake).await.err());

        // Parts of a sweep that others serve are no work of this message's any more.
        let handed_over = matches!(task.view, View::FleetSweep);
        let ending = match (problems.is_empty(), waits.is_empty() || handed_over) {
            (false, _) => Ending::Failed,
            (true, false) => Ending::NotYet,
            (true, true) => Ending::Done,
        };
        let planned = if self.config.dry_run { approved.changes() } else { &[] };
        self.log(planned, &outcomes, &findings, wake);
        let changes = if self.config.dry_run {
            let planned = approved.changes().iter();
            planned.map(|change| ChangeReport { change: change.to_string(), verdict: None }).collect()
        } else {
            outcomes.iter().map(changed).collect()
        };
        let report = Report {
            function: name,
            id: wake.id.clone(),
            trigger: None,
            ending,
            reason: (!problems.is_empty()).then(|| problems.join("; ")).or(dropped),
            dry_run: self.config.dry_run,
            changes,
            findings,
            waiting: waits.into_iter().map(|wait| wait.reason).collect(),
            parts,
            unchanged: approved.unchanged(),
            orphans,
            throttled: snapshot.gaps.iter().any(|gap| gap.throttled),
            duration_ms: 0,
        };
        (report, outcomes)
    }

    /// Whether what is left for later can be served at once, where no queue takes it.
    pub(crate) fn is_part(&self, wait: &Wait, origin: Origin) -> bool {
        let at_once = self.config.dry_run || origin == Origin::Invoke { allowed: true };
        match &wait.follow_up {
            FollowUp::ClusterSweep(_) => true,
            FollowUp::Orphans { roles_missed } => at_once && !roles_missed.is_empty(),
            FollowUp::AccountsMissed { .. } => at_once,
            _ => false,
        }
    }

    /// The queue that takes what is left for later, where one does.
    fn queue(&self, origin: Origin) -> Option<&str> {
        let asks = origin == Origin::Queue && !self.config.dry_run;
        self.config.queue_url.as_deref().filter(|_| asks)
    }

    /// What a message comes to when nothing could be read: throttled reads come
    /// back after a while, all else is delivered again.
    async fn unobserved(&self, task: &Task, wake: &Wake, origin: Origin, error: &AwsError) -> Report {
        let name = self.function.name();
        let throttled = error.is(Meaning::Throttled);
        let failed =
            |reason| Report { throttled, ..Report::of_nothing(name, &wake.id, Ending::Failed, reason) };
        let began = wake.began.unwrap_or_else(|| self.clock.seconds());
        let wait = match task.again() {
            Some(follow_up) if throttled => Wait { reason: error.to_string(), follow_up },
            _ => return failed(error.to_string()),
        };
        if matches!(self.patience(&wait, wake, began), Patience::Left)
            && let Err(problem) = self.put_off(std::slice::from_ref(&wait), wake, began, origin).await
        {
            return failed(problem);
        } else if !matches!(self.patience(&wait, wake, began), Patience::Left) {
            return failed(wait.reason);
        }
        let nothing = Report::of_nothing(name, &wake.id, Ending::NotYet, wait.reason.clone());
        let mut report = Report { throttled, ..nothing };
        report.waiting.push(wait.reason);
        report
    }

    /// Puts work that this invocation has no time for back on the queue, as it came: to leave it to redelivery would
    /// burn the retries meant for real failures.
    ///
    /// # Errors
    /// The queue did not take it: then its message must stay.
    pub async fn put_back(&self, wake: &Wake, reason: &str) -> Result<(), String> {
        let (Trigger::FollowUp(work), Some(queue_url)) = (&wake.trigger, &self.config.queue_url) else {
            return Err(reason.to_owned());
        };
        let began = wake.began.unwrap_or_else(|| self.clock.seconds());
        let body = deferred(work, reason, began, wake.attempt, wake).map_err(|error| error.to_string())?;
        let message = DelayedMessage { body, delay_seconds: 0 };
        self.aws.send_later(queue_url, [message]).await.map_err(|error| error.to_string())
    }

    fn patience(&self, wait: &Wait, wake: &Wake, began: i64) -> Patience {
        let waited = self.clock.seconds() - began;
        match wait.follow_up {
            FollowUp::RoleUnseen { .. } if waited >= UNSEEN_ROLE.min(self.config.give_up_after) => {
                Patience::NotNews
            }
            // It is not waited for anything: it is somebody's turn.
            FollowUp::ClusterSweep(_) if !again(&wake.trigger, &wait.follow_up) => Patience::Left,
            _ if waited >= self.config.give_up_after => Patience::Over,
            _ => Patience::Left,
        }
    }

    /// Puts unfinished work back on the function's queue, as fresh messages:
    /// redelivery would burn the retries meant for real failures.
    async fn put_off(&self, waits: &[Wait], wake: &Wake, began: i64, origin: Origin) -> Result<(), String> {
        if origin != Origin::Queue || self.config.dry_run || waits.is_empty() {
            return Ok(());
        }
        let Some(queue_url) = &self.config.queue_url else {
            return Err("work is left for later, and PODGRANT_QUEUE_URL names no queue for it".to_owned());
        };
        // One message for each thing to come back for, whatever the number of reasons.
        let mut told = BTreeSet::new();
        let unique = waits.iter().filter(|wait| told.insert(&wait.follow_up));
        let attempt = wake.attempt + 1;
        let mut unwritten = None;
        let messages = unique.filter_map(|wait| {
            let follow_up = &wait.follow_up;
            let body = deferred(follow_up, &wait.reason, began, attempt, wake);
            let body = body.map_err(|error| unwritten = Some(error.to_string())).ok()?;
            let delay_seconds = match &wake.trigger {
                // There is nothing to wait for: it is somebody's turn.
                before if !again(before, follow_up) && matches!(follow_up, FollowUp::ClusterSweep(_)) => 0,
                _ => self.delay(follow_up, attempt),
            };
            Some(DelayedMessage { body, delay_seconds })
        });
        self.aws.send_later(queue_url, messages).await.map_err(|error| error.to_string())?;
        unwritten.map_or(Ok(()), Err)
    }

    /// Seconds until the next look. A cluster takes minutes; what AWS will show
    /// any moment is looked for sooner at first.
    fn delay(&self, follow_up: &FollowUp, attempt: u32) -> i32 {
        let most = i32::try_from(self.config.retry_delay).unwrap_or(900);
        match follow_up {
            FollowUp::ClusterCreating { .. }
            | FollowUp::ClusterDeleting { .. }
            // What does not show twice is gone, and some time has to be in between.
            | FollowUp::Orphans { .. }
            | FollowUp::AccountsMissed { .. } => most,
            _ => most.min(5i32.saturating_mul(1 << attempt.clamp(1, 8).saturating_sub(1))),
        }
    }

    /// Puts what is known of a role into the log and on the bus, before it begins to lose anything: when it is asked
    /// to, and not before.
    fn keep<'a>(&'a self, change: &Change, wake: &Wake) -> BoxFuture<'a, Result<(), String>> {
        let (record, mark) = match change {
            Change::DeleteRole { record, mark } => {
                (serde_json::to_string(record).unwrap_or_default(), mark.to_string())
            }
            _ => Default::default(),
        };
        let event = OutcomeEvent::before_change(change, &Cause::from(wake)).map(on_the_bus);
        let (change, id, asked_by) = (change.to_string(), wake.id.clone(), wake.asked_by.clone());
        async move {
            tracing::warn!(id, asked_by, change, mark, record, "role deletion begins");
            match (&self.config.event_bus, event) {
                (Some(bus), Some(event)) => {
                    self.aws.put_events(bus, &[event]).await.map_err(|error| error.to_string())
                }
                _ => Ok(()),
            }
        }
        .boxed()
    }

    /// Puts what was done and refused on the bus.
    async fn tell(
        &self,
        outcomes: &[Outcome],
        findings: &[Finding],
        orphans: &[OrphanStanding],
        wake: &Wake,
    ) -> Result<(), String> {
        let cause = Cause::from(wake);
        let done = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Done);
        let events: Vec<BusEvent> = done
            .filter_map(|o| OutcomeEvent::of_change(&o.change, o.association.as_ref(), &cause))
            .chain(findings.iter().filter_map(|finding| OutcomeEvent::of_finding(finding, &cause)))
            .chain(OutcomeEvent::of_withheld(findings, &cause))
            .chain(OutcomeEvent::of_orphans(orphans, &cause))
            .map(on_the_bus)
            .collect();
        match &self.config.event_bus {
            Some(bus) if !events.is_empty() && !self.config.dry_run => {
                self.aws.put_events(bus, &events).await.map_err(|error| error.to_string())
            }
            _ => Ok(()),
        }
    }

    fn log(&self, planned: &[Change], outcomes: &[Outcome], findings: &[Finding], wake: &Wake) {
        let id = &wake.id;
        let (asked_by, asked_at) = (wake.asked_by.as_deref(), wake.time.as_str());
        let planned = planned.iter().map(|change| (change, "planned", None));
        let ended = outcomes.iter().map(|outcome| {
            let (word, reason) = match &outcome.verdict {
                Verdict::Done => ("done", None),
                Verdict::NotYet(wait) => ("not-yet", Some(&wait.reason)),
                Verdict::Unbegun => ("unbegun", None),
                Verdict::Dropped { reason } => ("dropped", Some(reason)),
                Verdict::Refused { reason } => ("refused", Some(reason)),
                Verdict::Failed { reason } => ("failed", Some(reason)),
            };
            (&outcome.change, word, reason)
        });
        for (change, outcome, reason) in planned.chain(ended) {
            tracing::info!(
                id, asked_by, asked_at, outcome, %change, reason,
                cluster = change.cluster().map(tracing::field::display),
                workload = change.workload().map(tracing::field::display),
                role = change.role().map(tracing::field::display),
                grant = change.mark().map(|mark| tracing::field::display(&mark.subject)),
                "change"
            );
        }
        for finding in findings {
            tracing::warn!(
                id, asked_by, asked_at, kind = %finding.kind, reason = finding.reason,
                cluster = finding.cluster.as_ref().map(tracing::field::display),
                workload = finding.workload.as_ref().map(tracing::field::display),
                role = finding.role.as_ref().map(tracing::field::display),
                grant = finding.grant,
                "finding"
            );
        }
    }
}

/// All that waits for another look at the orphans of the fleet waits for one: with the roles that were missed before,
/// so that none is forgotten, and none counted apart from the others.
fn one_look_at_orphans(waits: Vec<Wait>, view: &View) -> Vec<Wait> {
    let is_look = |wait: &Wait| matches!(wait.follow_up, FollowUp::Orphans { .. });
    let (looks, mut others): (Vec<Wait>, Vec<Wait>) = waits.into_iter().partition(is_look);
    let mut all: BTreeSet<String> = match view {
        View::FleetOrphans { missed_before, .. } => missed_before.clone(),
        _ => BTreeSet::new(),
    };
    let mut reasons = Vec::new();
    for look in looks {
        if let FollowUp::Orphans { roles_missed } = look.follow_up {
            all.extend(roles_missed);
            reasons.push(look.reason);
        }
    }
    reasons.dedup();
    if !reasons.is_empty() {
        others.push(Wait { reason: reasons.join("; "), follow_up: FollowUp::Orphans { roles_missed: all } });
    }
    others
}

fn on_the_bus(event: OutcomeEvent) -> BusEvent {
    BusEvent {
        detail_type: event.detail_type().to_owned(),
        detail: event.detail().to_string(),
        resources: event.resources(),
    }
}

/// Whether what is found is little to act on, and every association of the fleet may be to be looked at.
fn looks_long(view: &View) -> bool {
    matches!(view, View::FleetOrphans { .. })
}

/// Whether work is put off that was put off before.
pub(crate) fn again(trigger: &Trigger, follow_up: &FollowUp) -> bool {
    matches!(trigger, Trigger::FollowUp(before) if before == follow_up)
}

/// What is left of a pass whose time was up: one message for all of it, as far as that goes.
fn rest(task: &Task, snapshot: &Snapshot, outcomes: &[Outcome]) -> Vec<Wait> {
    const REASON: &str = "the invocation's time was up";
    let unbegun = || outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Unbegun).map(|o| &o.change);
    if let View::ClusterSweep { part } = &task.view {
        // Beyond where the pass could look, and what it did not come to.
        let unseen = match &snapshot.scope.workloads {
            Workloads::Stretch(seen) if seen.to != part.stretch.to => seen.to.as_ref(),
            _ => None,
        };
        if unbegun().any(|change| change.workload().is_none()) {
            let follow_up = FollowUp::ClusterSweep(part.clone());
            return vec![Wait { reason: REASON.to_owned(), follow_up }];
        }
        let from = unbegun().filter_map(Change::workload).chain(unseen).min();
        let wait = from.map(|from| Wait {
            reason: format!("{REASON}; the sweep of {} goes on from {from}", part.cluster),
            follow_up: FollowUp::ClusterSweep(Box::new(part.rest(from.clone()))),
        });
        return wait.into_iter().collect();
    }
    let wait = |follow_up| Wait { reason: REASON.to_owned(), follow_up };
    match task.again() {
        Some(again) => unbegun().next().map(|_| wait(again)).into_iter().collect(),
        None => unbegun().map(|change| wait(change.follow_up())).collect(),
    }
}

/// Whether to go on waiting.
enum Patience {
    Left,
    Over,
    /// Over, and what was waited for is told by others.
    NotNews,
}

fn changed(outcome: &Outcome) -> ChangeReport {
    ChangeReport { change: outcome.change.to_string(), verdict: Some(outcome.verdict.clone()) }
}

fn gave_up(wait: &Wait, began: i64, now: i64) -> Finding {
    let (cluster, role) = match &wait.follow_up {
        FollowUp::ClusterCreating { cluster }
        | FollowUp::ClusterGrants { cluster, .. }
        | FollowUp::AccountsMissed { cluster, .. }
        | FollowUp::AgentStarting { cluster }
        | FollowUp::ClusterDeleting { cluster } => (Some(cluster.clone()), None),
        FollowUp::ClusterSweep(part) => (Some(part.cluster.clone()), None),
        FollowUp::Orphans { .. } => (None, None),
        FollowUp::Role { name }
        | FollowUp::RoleUnseen { name }
        | FollowUp::RoleStale { name, .. }
        | FollowUp::RoleGone { name } => (None, Some(name)),
    };
    let about = role.map(|name| format!("role {name}: ")).unwrap_or_default();
    Finding {
        kind: FindingKind::GaveUp,
        role: None,
        cluster,
        workload: None,
        grant: None,
        reason: format!(
            "{about}{}; waited {} s, longer than PODGRANT_GIVE_UP_AFTER allows; the next sweep looks again",
            wait.reason,
            now - began
        ),
    }
}
