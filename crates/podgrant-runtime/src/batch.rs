//! SQS batches and bare events, and the answers that Lambda expects to them.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt;
use podgrant_core::outcome::FollowUp;
use podgrant_events::{Incoming, Trigger, Wake, read};
use serde::Deserialize;
use serde_json::Value;

use crate::flow::{Flow, Origin};
use crate::report::{Ending, Report};

/// Serves whatever Lambda hands over: a batch from the queue is answered with
/// its failures, a bare EventBridge event with the report.
///
/// # Errors
/// Where there is neither a batch nor an event in it.
pub async fn answer(flow: &Flow, payload: Value, deadline: i64) -> Result<Value, lambda_runtime::Error> {
    if payload.get("Records").is_none() {
        let report = match allowing(flow, &payload) {
            Ok((flow, allowed)) => {
                let time = Time { deadline, whole: deadline.saturating_sub(flow.clock.millis()) };
                serve(&flow, &payload, DIRECT_INVOKE, Origin::Invoke { allowed }, time).await
            }
            Err(problem) => {
                let nothing =
                    Report::of_nothing(flow.function.name(), DIRECT_INVOKE, Ending::Malformed, problem);
                ended(flow, DIRECT_INVOKE, nothing)
            }
        };
        return Ok(serde_json::to_value(report)?);
    }
    let batch: SqsEvent = serde_json::from_value(payload)?;
    let mut answer = SqsBatchResponse::default();
    let time = Time { deadline, whole: deadline.saturating_sub(flow.clock.millis()) };
    for message in sweeps_last(&batch.records) {
        let report = serve_message(flow, message, time).await;
        if report.is_failure() {
            answer.add_failure(message.message_id.clone().unwrap_or_default());
        }
    }
    Ok(serde_json::to_value(answer)?)
}

const DIRECT_INVOKE: &str = "direct invoke";

/// How much more than configured may be lost this once: `"allow"` beside the event of a direct invoke. A message from
/// the queue has no such say: whoever may put an event on a bus may not raise the limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Allowance {
    deletions: Option<usize>,
    role_deletions: Option<usize>,
    share: Option<f64>,
}

/// The flow, with the limits on loss that this invoke asks for, and whether it asks for any.
fn allowing(flow: &Flow, payload: &Value) -> Result<(Flow, bool), String> {
    let mut flow = flow.clone();
    let Some(allow) = payload.get("allow") else { return Ok((flow, false)) };
    let expected = r#"expected some of {"deletions": 120, "roleDeletions": 8, "share": 0.5}"#;
    let allowance = Allowance::deserialize(allow).map_err(|error| format!("allow: {error}; {expected}"))?;
    if allowance.share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
        return Err(format!("allow: the share is 0 to 1; {expected}"));
    }
    let limits = &mut flow.config.limits;
    limits.deletions = allowance.deletions.unwrap_or(limits.deletions);
    limits.role_deletions = allowance.role_deletions.unwrap_or(limits.role_deletions);
    limits.share = allowance.share.unwrap_or(limits.share);
    tracing::warn!(?limits, "the limits on loss are other than configured, this once");
    Ok((flow, true))
}

/// Milliseconds without which a message is not begun: it goes back untouched.
const TO_BEGIN_MS: i64 = 15_000;

/// The part of an invocation that is left at least where a piece of a sweep begins: one third. A batch may hold ten, each
/// worth minutes; the first of them begins where events before it left time.
const TO_BEGIN_A_SWEEP: i64 = 3;

/// Milliseconds kept for the answer itself: without one, Lambda delivers the
/// whole batch again, what was done included.
const TO_ANSWER_MS: i64 = 3_000;

/// Milliseconds of those that putting work back on the queue may take.
const TO_PUT_BACK_MS: i64 = 2_000;

/// The time of an invocation, in milliseconds.
#[derive(Clone, Copy)]
struct Time {
    /// Since 1970.
    deadline: i64,
    /// From its beginning to the deadline.
    whole: i64,
}

impl Time {
    fn left(self, flow: &Flow) -> i64 {
        self.deadline.saturating_sub(flow.clock.millis())
    }
}

/// Whether it is a piece of a sweep: its message may come back as it came, and is not worth one of the deliveries that a
/// message has.
fn is_of_a_sweep(wake: &Wake) -> bool {
    matches!(&wake.trigger, Trigger::FollowUp(FollowUp::ClusterSweep(_) | FollowUp::Orphans { .. }))
}

/// The records, with those last that take longest.
fn sweeps_last(records: &[SqsMessage]) -> impl Iterator<Item = &SqsMessage> {
    // A look at the text is enough: it decides the order, and nothing else.
    let is_sweep = |message: &&SqsMessage| {
        let body = message.body.as_deref().unwrap_or_default();
        ["\"Scheduled Event\"", "\"cluster-sweep\"", "\"orphans\""].iter().any(|word| body.contains(word))
    };
    let (sweeps, events): (Vec<_>, Vec<_>) = records.iter().partition(is_sweep);
    events.into_iter().chain(sweeps)
}

async fn serve_message(flow: &Flow, message: &SqsMessage, time: Time) -> Report {
    let message_id = message.message_id.as_deref().unwrap_or_default();
    let body = message.body.as_deref().unwrap_or_default();
    match serde_json::from_str(body) {
        Ok(event) => serve(flow, &event, message_id, Origin::Queue, time).await,
        Err(error) => {
            let reason = format!("the message's body is not JSON: {error}");
            ended(
                flow,
                message_id,
                Report::of_nothing(flow.function.name(), message_id, Ending::Malformed, reason),
            )
        }
    }
}

async fn serve(flow: &Flow, event: &Value, message_id: &str, origin: Origin, time: Time) -> Report {
    let name = flow.function.name();
    let nothing = |ending, reason| Report::of_nothing(name, message_id, ending, reason);
    let report = match read(event, &flow.config.own_roles) {
        Ok(Incoming::Wake(wake)) => {
            let left = time.left(flow);
            let to_begin = match is_of_a_sweep(&wake) {
                true => TO_BEGIN_MS.max(time.whole / TO_BEGIN_A_SWEEP),
                false => TO_BEGIN_MS,
            };
            if origin == Origin::Queue && left < to_begin {
                let reason = "this invocation has no time left for it; it is delivered again".to_owned();
                let ending = put_back(flow, &wake, &reason, time).await;
                return ended(flow, message_id, nothing(ending, reason));
            }
            let limit = Duration::from_millis(u64::try_from(left - TO_ANSWER_MS).unwrap_or_default());
            // A panic is a bug, and one message's bug: its batch goes on.
            let served = AssertUnwindSafe(flow.serve(&wake, origin, time.deadline)).catch_unwind();
            match tokio::time::timeout(limit, served).await {
                Ok(Ok(report)) => report,
                Ok(Err(_)) => nothing(
                    Ending::Failed,
                    "podgrant panicked over this message; please report it".to_owned(),
                ),
                Err(_) => {
                    let reason = "its time was up; it is delivered again".to_owned();
                    // What never comes to its end is for the dead letters, and for somebody to look at.
                    let began = wake.began.unwrap_or_else(|| flow.clock.seconds());
                    let is_over = flow.clock.seconds() - began >= flow.config.give_up_after;
                    let ending = match origin {
                        Origin::Queue if !is_over => put_back(flow, &wake, &reason, time).await,
                        _ => Ending::Failed,
                    };
                    nothing(ending, reason)
                }
            }
        }
        Ok(Incoming::Ignored { reason }) => nothing(Ending::Dropped, reason),
        Err(malformed) => nothing(Ending::Malformed, malformed.to_string()),
    };
    ended(flow, message_id, report)
}

/// Puts a piece of a sweep back on the queue as it came. All else fails, and is delivered again when its visibility timeout
/// has passed: that is half an hour, and a sweep would stand still for so long.
async fn put_back(flow: &Flow, wake: &Wake, reason: &str, time: Time) -> Ending {
    // The answer needs some of what is left: without one all of the batch comes again.
    let most = TO_PUT_BACK_MS.min(time.left(flow) - TO_PUT_BACK_MS / 4);
    if !is_of_a_sweep(wake) || most < TO_PUT_BACK_MS / 4 {
        return Ending::Failed;
    }
    let limit = Duration::from_millis(most.unsigned_abs());
    match tokio::time::timeout(limit, flow.put_back(wake, reason)).await {
        Ok(Ok(())) => Ending::NotYet,
        Ok(Err(_)) | Err(_) => Ending::Failed,
    }
}

/// One line for each message, whatever its end.
fn ended(flow: &Flow, message_id: &str, report: Report) -> Report {
    flow.metrics.tell(&report, flow.clock.millis());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let trigger = serde_json::to_value(&report.trigger).unwrap_or_default();
    let cluster = match (&trigger["cluster"]["region"], &trigger["cluster"]["name"]) {
        (Value::String(region), Value::String(name)) => Some(format!("{region}/{name}")),
        _ => None,
    };
    let (trigger, role) = (text(&trigger["kind"]), text(&trigger["role"]["name"]));
    let outcome = serde_json::to_value(report.ending).ok().as_ref().and_then(text);
    let Report { function, id, reason, duration_ms, unchanged, .. } = &report;
    let (changes, findings) = (report.changes.len(), report.findings.len());
    if report.is_failure() {
        tracing::error!(
            message_id,
            function,
            id,
            trigger,
            cluster,
            role,
            outcome,
            reason,
            duration_ms,
            changes,
            findings,
            "message"
        );
    } else {
        tracing::info!(
            message_id,
            function,
            id,
            trigger,
            cluster,
            role,
            outcome,
            reason,
            duration_ms,
            changes,
            findings,
            unchanged,
            "message"
        );
    }
    report
}
