//! An event's JSON, read with suspicion: any part may be missing, of another
//! type, or absurdly long.

use std::borrow::Cow;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use podgrant_core::{ClusterId, ClusterName, NameError, Region};
use serde_json::Value;

use super::{Incoming, Malformed, Trigger, Wake};

/// The longest text that is looked into, in bytes. IAM's longest ARN is 2,048
/// characters (IAM API reference), and everything else that is read is shorter.
const LONGEST: usize = 2048;

/// The longest text that is shown of what came in, in characters.
const SHOWN: usize = 80;

/// An event with a source and a detail-type.
pub(crate) struct Envelope<'a> {
    json: &'a Value,
    source: &'a str,
    detail_type: &'a str,
}

impl<'a> Envelope<'a> {
    /// # Errors
    /// Not an object, or one without a source and a detail-type: whatever it is,
    /// EventBridge did not send it.
    pub(crate) fn of(json: &'a Value) -> Result<Self, Malformed> {
        let malformed = |place: &str, expected: &str| {
            Err(Malformed {
                what: "event".to_owned(),
                place: place.to_owned(),
                expected: expected.to_owned(),
                found: describe(json.pointer(place)),
            })
        };
        if !json.is_object() {
            return malformed("", "an EventBridge event, a JSON object");
        }
        match (short_text(json, "/source"), short_text(json, "/detail-type")) {
            (Some(source), Some(detail_type)) => Ok(Self { json, source, detail_type }),
            (None, _) => malformed("/source", "an EventBridge event's source, such as aws.iam"),
            (_, None) => malformed("/detail-type", "an EventBridge event's detail-type"),
        }
    }

    pub(crate) fn source(&self) -> &'a str {
        self.source
    }

    pub(crate) fn detail_type(&self) -> &'a str {
        self.detail_type
    }

    /// What the event is, for people: `aws.iam TagRole`.
    fn what(&self) -> String {
        let name = self.text("/detail/eventName").unwrap_or(self.detail_type);
        format!("{} {}", cut(self.source), cut(name))
    }

    pub(crate) fn value(&self, pointer: &str) -> Option<&'a Value> {
        self.json.pointer(pointer).filter(|value| !value.is_null())
    }

    /// The text at a place, if there is one of bearable length.
    pub(crate) fn text(&self, pointer: &str) -> Option<&'a str> {
        short_text(self.json, pointer)
    }

    /// The ARN of a person or a role, for the record.
    pub(crate) fn person(&self, pointer: &str) -> Option<String> {
        self.text(pointer).filter(|arn| !arn.contains(char::is_control)).map(ToOwned::to_owned)
    }

    pub(crate) fn ignored(&self, why: &str) -> Incoming {
        Incoming::Ignored { reason: format!("{}: {why}", self.what()) }
    }

    pub(crate) fn malformed(&self, place: &str, expected: &str) -> Malformed {
        self.malformed_because(place, expected, describe(self.json.pointer(place)))
    }

    pub(crate) fn malformed_because(&self, place: &str, expected: &str, found: String) -> Malformed {
        Malformed { what: self.what(), place: place.to_owned(), expected: expected.to_owned(), found }
    }

    /// The name at the first of these places that holds anything at all: a bad
    /// name is a fault of the event, not a reason to look for a better one.
    pub(crate) fn name<T>(&self, places: &[&str], expected: &str) -> Result<T, Malformed>
    where
        T: FromStr<Err = NameError>,
    {
        let first = places.first().copied().unwrap_or_default();
        let place = places.iter().copied().find(|place| self.value(place).is_some());
        let place = place.unwrap_or(first);
        self.text(place)
            .and_then(decode)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| self.malformed(place, expected))
    }

    pub(crate) fn cluster(&self, name: &[&str], region: &[&str]) -> Result<ClusterId, Malformed> {
        let name = self.name(name, ClusterName::EXPECTED)?;
        Ok(ClusterId::new(self.name(region, Region::EXPECTED)?, name))
    }

    /// A part of the envelope: printable, and no longer than such things are.
    pub(crate) fn label(&self, place: &str, expected: &str) -> Result<String, Malformed> {
        self.text(place)
            .filter(|text| (1..=256).contains(&text.len()))
            .filter(|text| text.chars().all(|c| c.is_ascii_graphic()))
            .map(ToOwned::to_owned)
            .ok_or_else(|| self.malformed(place, expected))
    }

    pub(crate) fn time(&self) -> Result<String, Malformed> {
        self.label("/time", "the event's time, such as 2026-01-01T00:00:00Z")
    }

    pub(crate) fn wake(&self, trigger: Trigger, asked_by: Option<String>) -> Result<Incoming, Malformed> {
        Ok(Incoming::Wake(Wake {
            id: self.label("/id", "the event's id")?,
            time: self.time()?,
            trigger,
            asked_by,
            began: None,
            attempt: 0,
        }))
    }
}

fn short_text<'a>(json: &'a Value, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer)?.as_str().filter(|text| text.len() <= LONGEST)
}

/// Undoes percent-encoding. CloudTrail shows path parameters as they went over
/// the wire, and some clients encode them twice. No name or ARN that is read
/// holds a `%` of its own, so decoding what is not encoded does no harm.
pub(crate) fn decode(text: &str) -> Option<Cow<'_, str>> {
    let once = percent_decode_str(text).decode_utf8().ok()?;
    if !once.contains('%') {
        return Some(once);
    }
    let twice = percent_decode_str(&once).decode_utf8().ok()?.into_owned();
    Some(Cow::Owned(twice))
}

/// What stands somewhere, in a few words.
fn describe(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "nothing".to_owned(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(value)) => cut(&value.to_string()),
        Some(Value::String(text)) => format!("{:?}", cut(text)),
        Some(Value::Array(items)) => format!("a list of {}", items.len()),
        Some(Value::Object(fields)) => format!("an object of {} fields", fields.len()),
    }
}

/// The beginning of a text, on one line.
pub(crate) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(char::is_control, " ")
}
