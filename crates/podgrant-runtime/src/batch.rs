//! SQS batches and bare events, and the answers that Lambda expects to them.

use std::panic::AssertUnwindSafe;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt;
use podgrant_events::{Incoming, read};
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
        let report = serve(flow, &payload, "direct invoke", Origin::Invoke, deadline).await;
        return Ok(serde_json::to_value(report)?);
    }
    let batch: SqsEvent = serde_json::from_value(payload)?;
    let mut answer = SqsBatchResponse::default();
    for message in &batch.records {
        let report = serve_message(flow, message, deadline).await;
        if report.is_failure() {
            answer.add_failure(message.message_id.clone().unwrap_or_default());
        }
    }
    Ok(serde_json::to_value(answer)?)
}

async fn serve_message(flow: &Flow, message: &SqsMessage, deadline: i64) -> Report {
    let message_id = message.message_id.as_deref().unwrap_or_default();
    let body = message.body.as_deref().unwrap_or_default();
    match serde_json::from_str(body) {
        Ok(event) => serve(flow, &event, message_id, Origin::Queue, deadline).await,
        Err(error) => {
            let reason = format!("the message's body is not JSON: {error}");
            ended(message_id, Report::of_nothing(flow.function.name(), message_id, Ending::Malformed, reason))
        }
    }
}

async fn serve(flow: &Flow, event: &Value, message_id: &str, origin: Origin, deadline: i64) -> Report {
    let name = flow.function.name();
    let nothing = |ending, reason| Report::of_nothing(name, message_id, ending, reason);
    let report = match read(event, &flow.config.own_roles) {
        Ok(Incoming::Wake(wake)) => {
            // A panic is a bug, and one message's bug: its batch goes on.
            AssertUnwindSafe(flow.serve(&wake, origin, deadline)).catch_unwind().await.unwrap_or_else(|_| {
                nothing(Ending::Failed, "podgrant panicked over this message; please report it".to_owned())
            })
        }
        Ok(Incoming::Ignored { reason }) => nothing(Ending::Dropped, reason),
        Err(malformed) => nothing(Ending::Malformed, malformed.to_string()),
    };
    ended(message_id, report)
}

/// One line for each message, whatever its end.
fn ended(message_id: &str, report: Report) -> Report {
    let word = |value: serde_json::Result<Value>| {
        value.ok().map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        })
    };
    let trigger = report.trigger.as_ref().and_then(|trigger| word(serde_json::to_value(trigger)));
    let outcome = word(serde_json::to_value(report.ending));
    let (id, reason, duration_ms) = (&report.id, report.reason.as_deref(), report.duration_ms);
    let (changes, findings, unchanged) = (report.changes.len(), report.findings.len(), report.unchanged);
    if report.is_failure() {
        tracing::error!(message_id, id, trigger, outcome, reason, duration_ms, changes, findings, "message");
    } else {
        tracing::info!(
            message_id,
            id,
            trigger,
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
