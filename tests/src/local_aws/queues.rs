//! A deployment's queues, rules and logs: what operators look at.

use anyhow::{Context, Result, ensure};
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use serde_json::{Value, json};

use super::deployment::{LIMIT, aws};
use super::{Deployment, FUNCTIONS, HOME, control, wait_for};

impl Deployment {
    /// Waits until nothing is on any queue, in flight or delayed: then every
    /// function is idle, and nothing more follows from what happened before.
    pub async fn settled(&self) -> Result<()> {
        let quiet = std::cell::Cell::new(0);
        wait_for("podgrant to be done", LIMIT, || async {
            let mut waiting = 0;
            for function in FUNCTIONS {
                waiting += self.waiting(self.queue(function, false)?).await?;
            }
            // A function may have written to a queue already looked at: look twice.
            quiet.set(if waiting == 0 { quiet.get() + 1 } else { 0 });
            Ok((quiet.get() == 2).then_some(()))
        })
        .await
    }

    /// How many messages a queue holds, whatever their state.
    pub async fn waiting(&self, queue_url: &str) -> Result<i64> {
        let attributes = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let answer = self
            .account
            .sqs()
            .get_queue_attributes()
            .queue_url(queue_url)
            .set_attribute_names(Some(attributes.to_vec()))
            .send()
            .await?;
        let counts = answer.attributes.context("a queue without attributes")?;
        ensure!(counts.len() == attributes.len(), "{queue_url} counts only {counts:?}");
        counts.values().map(|count| Ok(count.parse::<i64>()?)).sum()
    }

    /// Takes up to ten messages off a queue.
    pub async fn receive(&self, queue_url: &str) -> Result<Vec<String>> {
        let sqs = self.account.sqs();
        let received = sqs.receive_message().queue_url(queue_url).max_number_of_messages(10).send().await?;
        let mut bodies = Vec::new();
        for message in received.messages() {
            bodies.push(message.body().unwrap_or_default().to_owned());
            let handle = message.receipt_handle().unwrap_or_default();
            sqs.delete_message().queue_url(queue_url).receipt_handle(handle).send().await?;
        }
        Ok(bodies)
    }

    /// Puts messages on a function's queue: ten at most, all at once.
    pub async fn send(&self, function: &str, bodies: &[String]) -> Result<()> {
        let entries = bodies.iter().enumerate().map(|(number, body)| {
            Ok(SendMessageBatchRequestEntry::builder().id(number.to_string()).message_body(body).build()?)
        });
        let sent = self
            .account
            .sqs()
            .send_message_batch()
            .queue_url(self.queue(function, false)?)
            .set_entries(Some(entries.collect::<Result<_>>()?))
            .send()
            .await?;
        ensure!(sent.failed().is_empty(), "not sent: {:?}", sent.failed());
        Ok(())
    }

    /// Copies every event that reaches podgrant's bus from a source to a queue
    /// of its own, whose URL is the answer.
    pub async fn copy_events(&self, source: &str) -> Result<String> {
        self.account.hear("podgrant", &source.replace('.', "-"), &json!({"source": [source]})).await
    }

    /// Switches the forwarding of a region's events on or off.
    pub async fn forward(&self, region: &str, on: bool) -> Result<()> {
        let events = aws_sdk_eventbridge::Client::new(&self.account.in_region(region));
        let rules = events.list_rules().name_prefix("podgrant-forward").send().await?;
        ensure!(rules.rules().len() == 2, "{region} forwards by {:?}", rules.rules());
        for rule in rules.rules() {
            let name = rule.name().unwrap_or_default();
            if on {
                events.enable_rule().name(name).send().await?;
            } else {
                events.disable_rule().name(name).send().await?;
            }
        }
        Ok(())
    }

    /// Fires the schedule's rule now.
    pub async fn sweep(&self) -> Result<()> {
        let rules = self.account.events().list_rules().send().await?;
        let scheduled: Vec<&str> = rules
            .rules()
            .iter()
            .filter(|rule| rule.schedule_expression().is_some())
            .filter_map(|rule| rule.name())
            .collect();
        let [rule] = scheduled.as_slice() else { anyhow::bail!("the scheduled rules are {scheduled:?}") };
        let what = json!({"account": self.account.id, "region": HOME, "rule": rule});
        control(self.account.endpoint(), "schedule", &what)
    }

    /// What a function has written to its log so far, line by line.
    pub async fn log_lines(&self, function: &str) -> Result<Vec<String>> {
        let group = format!("/podgrant/podgrant/{function}");
        let answer =
            aws(&self.account, HOME, &["logs", "filter-log-events", "--log-group-name", &group]).await?;
        let answer: Value = serde_json::from_str(&answer)?;
        let events = answer["events"].as_array().context("no log events")?;
        let messages = events.iter().filter_map(|event| event["message"].as_str());
        Ok(messages.map(|message| message.trim_end().to_owned()).collect())
    }
}
