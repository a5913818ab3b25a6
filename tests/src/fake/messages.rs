//! EventBridge and SQS: what was sent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::params::{Answer, Params, Refusal};
use super::state::State;

/// The most that a PutEvents or a batch of messages may hold, and a message unless the queue takes less.
pub(super) const MOST_BYTES: usize = 1_048_576;

/// An event that PutEvents took.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The region it was sent in.
    pub region: String,
    /// The bus's name or ARN; `default` where none was named.
    pub bus: String,
    /// Its source.
    pub source: String,
    /// Its detail-type.
    pub detail_type: String,
    /// Its detail.
    pub detail: Value,
    /// The ARNs it is about.
    pub resources: Vec<String>,
}

/// A message that SQS took.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The region it was sent in.
    pub region: String,
    /// The queue's URL.
    pub queue_url: String,
    /// Its body.
    pub body: String,
    /// Seconds until it can be received; `None` where the queue's own delay applies.
    pub delay_seconds: Option<u64>,
    /// Attributes as they were sent: each with `DataType` and its value.
    pub attributes: Map<String, Value>,
    /// For FIFO queues.
    pub group_id: Option<String>,
    /// The MessageId answered.
    pub id: String,
}

impl Message {
    /// The queue's name.
    pub fn queue(&self) -> &str {
        self.queue_url.rsplit('/').next().unwrap_or_default()
    }
}

pub(super) fn put_events(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    if operation != "PutEvents" {
        return Err(Refusal::new(
            400,
            "UnknownOperationException",
            format!("{operation} is not known to the fake"),
        ));
    }
    let entries = params.list("Entries")?;
    if !(1..=10).contains(&entries.len()) {
        return Err(params.refuse("Entries must be 1 to 10"));
    }
    if entries.iter().map(|entry| entry.to_string().len()).sum::<usize>() > MOST_BYTES {
        return Err(params.refuse("Total size of the entries in the request is over the limit."));
    }
    let (failing, failing_code) = params.failing.clone().unwrap_or_default();
    let mut failed = 0;
    let mut answers = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let taken = if number < failing {
            Err((failing_code.as_str(), "The fault that the test asked for"))
        } else {
            read_event(region, entry)
        };
        answers.push(match taken {
            Ok(event) => {
                state.events.push(event);
                json!({ "EventId": state.uuid("event") })
            }
            Err((code, message)) => {
                failed += 1;
                json!({ "ErrorCode": code, "ErrorMessage": message })
            }
        });
    }
    Ok(json!({ "FailedEntryCount": failed, "Entries": answers }))
}

fn read_event(region: &str, entry: &Value) -> Result<Event, (&'static str, &'static str)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let missing = |message| move || ("InvalidArgument", message);
    let source = text("Source")
        .ok_or_else(missing("Parameter Source is not valid. Reason: Source is a required argument."))?;
    let detail_type = text("DetailType").ok_or_else(missing(
        "Parameter DetailType is not valid. Reason: DetailType is a required argument.",
    ))?;
    let detail = text("Detail")
        .ok_or_else(missing("Parameter Detail is not valid. Reason: Detail is a required argument."))?;
    if source.starts_with("aws.") {
        return Err(("NotAuthorizedForSourceException", "Not authorized for the source."));
    }
    let detail: Value = serde_json::from_str(detail)
        .ok()
        .filter(Value::is_object)
        .ok_or(("MalformedDetail", "Detail is malformed."))?;
    let resources = entry.get("Resources").and_then(Value::as_array).into_iter().flatten();
    Ok(Event {
        region: region.to_owned(),
        bus: text("EventBusName").unwrap_or("default").to_owned(),
        source: source.to_owned(),
        detail_type: detail_type.to_owned(),
        detail,
        resources: resources.filter_map(Value::as_str).map(str::to_owned).collect(),
    })
}

pub(super) fn sqs(state: &mut State, region: &str, operation: &str, params: &Params) -> Answer {
    let queue = params.text("QueueUrl")?;
    match operation {
        "SendMessage" => {
            let message = read_message(state.most_message_bytes, region, queue, &params.map)?;
            Ok(state.send(message).into())
        }
        "SendMessageBatch" => batch(state, region, queue, params),
        // Of the attributes it knows the one.
        "GetQueueAttributes" => {
            Ok(json!({ "Attributes": { "MaximumMessageSize": state.most_message_bytes.to_string() } }))
        }
        _ => Err(Refusal::new(
            400,
            "UnknownOperationException",
            format!("{operation} is not known to the fake"),
        )),
    }
}

fn batch(state: &mut State, region: &str, queue: &str, params: &Params) -> Answer {
    let entries = params.list("Entries")?;
    let refuse =
        |code: &str, message: &str| Err(Refusal::new(400, format!("com.amazonaws.sqs#{code}"), message));
    match entries.len() {
        0 => {
            return refuse(
                "EmptyBatchRequest",
                "There should be at least one SendMessageBatchRequestEntry in the request.",
            );
        }
        1..=10 => {}
        _ => return refuse("TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10."),
    }
    let id = |entry: &Value| entry.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ids: BTreeSet<String> = entries.iter().map(id).collect();
    let is_id = |id: &String| {
        (1..=80).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if !ids.iter().all(is_id) {
        return refuse(
            "InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long.",
        );
    }
    if ids.len() < entries.len() {
        return refuse(
            "BatchEntryIdsNotDistinct",
            "Two or more batch entries in the request have the same Id.",
        );
    }
    let body = |entry: &Value| entry.get("MessageBody").and_then(Value::as_str).map_or(0, str::len);
    let most = state.most_message_bytes;
    if entries.iter().map(body).sum::<usize>() > MOST_BYTES {
        return refuse("BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.");
    }
    let (failing, failing_code) = params.failing.clone().unwrap_or_default();
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (number, entry) in entries.iter().enumerate() {
        let empty = Map::new();
        let taken = if number < failing {
            Err(Refusal::new(500, failing_code.as_str(), "The fault that the test asked for"))
        } else {
            read_message(most, region, queue, entry.as_object().unwrap_or(&empty))
        };
        match taken {
            Ok(message) => {
                let mut sent = state.send(message);
                sent.insert("Id".to_owned(), id(entry).into());
                successful.push(Value::Object(sent));
            }
            Err(refusal) => failed.push(json!({
                "Id": id(entry),
                "SenderFault": refusal.status < 500,
                "Code": refusal.code.rsplit('#').next(),
                "Message": refusal.message,
            })),
        }
    }
    let mut answer = json!({ "Successful": successful });
    if !failed.is_empty() {
        answer["Failed"] = failed.into();
    }
    Ok(answer)
}

fn read_message(
    most_bytes: usize,
    region: &str,
    queue: &str,
    entry: &Map<String, Value>,
) -> Result<Message, Refusal> {
    let refuse = |code: &str, message: &str| Err(Refusal::new(400, code, message));
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let Some(body) = text("MessageBody").filter(|body| !body.is_empty()) else {
        return refuse("MissingParameter", "The request must contain the parameter MessageBody.");
    };
    if body.len() > most_bytes {
        let problem = format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {most_bytes} bytes."
        );
        return refuse("InvalidParameterValue", &problem);
    }
    let delay_seconds = match entry.get("DelaySeconds") {
        None | Some(Value::Null) => None,
        Some(delay) => match delay.as_u64().filter(|delay| *delay <= 900) {
            Some(delay) => Some(delay),
            None => {
                return refuse(
                    "InvalidParameterValue",
                    "Value for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900.",
                );
            }
        },
    };
    Ok(Message {
        region: region.to_owned(),
        queue_url: queue.to_owned(),
        body: body.to_owned(),
        delay_seconds,
        attributes: entry.get("MessageAttributes").and_then(Value::as_object).cloned().unwrap_or_default(),
        group_id: text("MessageGroupId").map(str::to_owned),
        id: String::new(),
    })
}

impl State {
    /// Takes a message, and answers its id and checksums.
    fn send(&mut self, mut message: Message) -> Map<String, Value> {
        message.id = self.uuid("message");
        let mut sent = Map::new();
        sent.insert("MessageId".to_owned(), message.id.as_str().into());
        sent.insert("MD5OfMessageBody".to_owned(), format!("{:x}", md5::compute(&message.body)).into());
        if let Some(sum) = attributes_md5(&message.attributes) {
            sent.insert("MD5OfMessageAttributes".to_owned(), sum.into());
        }
        self.messages.push(message);
        sent
    }
}

/// SQS's checksum of attributes: name, type, kind of value and value of each, by name, each after its length.
/// `None` without attributes, and where a value is binary.
fn attributes_md5(attributes: &Map<String, Value>) -> Option<String> {
    let attributes: BTreeMap<_, _> = attributes.iter().collect();
    let mut bytes = Vec::new();
    for (name, value) in &attributes {
        let (kind, text) = (value.get("DataType")?.as_str()?, value.get("StringValue")?.as_str()?);
        let mut put = |text: &str| {
            bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(text.bytes());
        };
        put(name);
        put(kind);
        // The value is a string.
        bytes.push(1);
        bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(text.bytes());
    }
    (!attributes.is_empty()).then(|| format!("{:x}", md5::compute(&bytes)))
}
