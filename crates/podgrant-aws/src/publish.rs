//! Outcome events onto the bus, and unfinished work back onto its queue.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};

use crate::{Aws, AwsError, Meaning};

/// An event for the bus, on podgrant's own source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusEvent {
    pub detail_type: String,
    /// JSON.
    pub detail: String,
    /// ARNs.
    pub resources: Vec<String>,
}

/// A message that comes back after a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedMessage {
    pub body: String,
    /// SQS allows 0 to 900.
    pub delay_seconds: i32,
}

/// PutEvents takes ten entries a call, SendMessageBatch ten messages.
const BATCH: usize = 10;

/// How large a batch may be in all, in bytes: SQS takes 256 KiB (Amazon SQS quotas; more since 2025), and so does
/// EventBridge (EventBridge user guide, "PutEvents").
const BATCH_BYTES: usize = 250_000;

/// How often an event is offered that the bus did not take with its batch: the
/// SDK retries calls, not entries, and a grant that stands is not told again.
const ATTEMPTS: usize = 3;

/// Cuts events into calls. One that is too large by itself is left for EventBridge to refuse.
fn in_batches(events: &[BusEvent]) -> Vec<&[BusEvent]> {
    let (mut batches, mut left) = (Vec::new(), events);
    while !left.is_empty() {
        let mut bytes = 0;
        let fitting = left.iter().take(BATCH).take_while(|event| {
            bytes += ENVELOPE_BYTES + event.detail.len();
            bytes <= BATCH_BYTES
        });
        let (batch, rest) = left.split_at(fitting.count().max(1));
        batches.push(batch);
        left = rest;
    }
    batches
}

/// What counts of an event beside its detail: source, detail-type, an ARN.
const ENVELOPE_BYTES: usize = 2_200;

fn entry(bus: &str, event: &BusEvent) -> PutEventsRequestEntry {
    PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source("podgrant")
        .detail_type(&event.detail_type)
        .detail(&event.detail)
        .set_resources(Some(event.resources.clone()))
        .build()
}

impl Aws {
    /// Puts events on the bus: ten a call, or as many as are not too large together.
    ///
    /// # Errors
    /// If any of them was not taken; the others were.
    pub async fn put_events(&self, bus: &str, events: &[BusEvent]) -> Result<(), AwsError> {
        let mut refused: Option<AwsError> = None;
        for batch in in_batches(events) {
            let mut left: Vec<PutEventsRequestEntry> = batch.iter().map(|event| entry(bus, event)).collect();
            for attempt in 1..=ATTEMPTS {
                let answer = self.events.put_events().set_entries(Some(left.clone())).send().await;
                let answer = match answer.map_err(|error| AwsError::of("events:PutEvents", bus, error)) {
                    Ok(answer) => answer,
                    Err(error) => {
                        refused = Some(error);
                        break;
                    }
                };
                // Entries are answered in the order in which they were sent.
                let failed: Vec<_> = left
                    .into_iter()
                    .zip(answer.entries())
                    .filter(|(_, result)| result.error_code().is_some())
                    .map(|(entry, result)| (entry, result.error_message().unwrap_or("no reason given")))
                    .collect();
                if let (ATTEMPTS, Some((_, reason))) = (attempt, failed.first()) {
                    let message =
                        format!("{} of {} events were not taken: {reason}", failed.len(), batch.len());
                    refused = Some(AwsError::new("events:PutEvents", bus, Meaning::Transient, message));
                }
                left = failed.into_iter().map(|(entry, _)| entry).collect();
                if left.is_empty() {
                    break;
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// How large a message of this queue may be, in bytes.
    ///
    /// # Errors
    /// The queue can't be asked, or does not say.
    pub async fn most_message_bytes(&self, queue_url: &str) -> Result<usize, AwsError> {
        const OPERATION: &str = "sqs:GetQueueAttributes";
        let asked = QueueAttributeName::MaximumMessageSize;
        let answer =
            self.sqs.get_queue_attributes().queue_url(queue_url).attribute_names(asked.clone()).send();
        let answer = answer.await.map_err(|error| AwsError::of(OPERATION, queue_url, error))?;
        let most = answer.attributes().and_then(|attributes| attributes.get(&asked)?.parse().ok());
        most.ok_or_else(|| AwsError::new(OPERATION, queue_url, Meaning::Invalid, "no MaximumMessageSize"))
    }

    /// Sends messages that come back after a while: ten a call, or as many as are not too large together. They are
    /// made as they are sent, for a sweep's are many and large.
    ///
    /// # Errors
    /// If any of them was not taken: then the work they stand for must not be acknowledged.
    pub async fn send_later(
        &self,
        queue_url: &str,
        messages: impl IntoIterator<Item = DelayedMessage>,
    ) -> Result<(), AwsError> {
        let mut batch: Vec<DelayedMessage> = Vec::new();
        for message in messages {
            let bytes: usize = batch.iter().map(|message| message.body.len()).sum();
            if batch.len() == BATCH || (!batch.is_empty() && bytes + message.body.len() > BATCH_BYTES) {
                self.send_batch(queue_url, &std::mem::take(&mut batch)).await?;
            }
            batch.push(message);
        }
        if batch.is_empty() { Ok(()) } else { self.send_batch(queue_url, &batch).await }
    }

    async fn send_batch(&self, queue_url: &str, batch: &[DelayedMessage]) -> Result<(), AwsError> {
        const OPERATION: &str = "sqs:SendMessageBatch";
        let mut request = self.sqs.send_message_batch().queue_url(queue_url);
        for (index, message) in batch.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .message_body(&message.body)
                .delay_seconds(message.delay_seconds.clamp(0, 900))
                .build()
                .map_err(|error| AwsError::new(OPERATION, queue_url, Meaning::Invalid, error.to_string()))?;
            request = request.entries(entry);
        }
        let answer = request.send().await.map_err(|error| AwsError::of(OPERATION, queue_url, error))?;
        match answer.failed().first() {
            None => Ok(()),
            Some(failed) => Err(AwsError::new(
                OPERATION,
                queue_url,
                Meaning::Transient,
                failed.message().unwrap_or("a message was not taken"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_ten_a_call_or_as_many_as_fit() {
        let event = |bytes: usize| BusEvent {
            detail_type: "Role Deleted".to_owned(),
            detail: "x".repeat(bytes),
            resources: Vec::new(),
        };
        let sizes =
            |events: &[BusEvent]| in_batches(events).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        let small: Vec<BusEvent> = (0..23).map(|_| event(100)).collect();
        assert_eq!(sizes(&small), [10, 10, 3]);
        let large: Vec<BusEvent> = (0..5).map(|_| event(100_000)).collect();
        assert_eq!(sizes(&large), [2, 2, 1]);
        assert_eq!(sizes(&[event(10), event(300_000), event(10)]), [1, 1, 1]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
