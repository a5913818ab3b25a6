//! A request's parameters, whichever protocol brought them, and what is wrong with them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Tags, sorted by key.
pub type Tags = BTreeMap<String, String>;

/// A no, before it takes a protocol's shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// Further members of the error's body, such as EKS's `clusterName`.
    pub members: Vec<(&'static str, String)>,
}

impl Refusal {
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), members: Vec::new() }
    }

    pub fn with(mut self, member: &'static str, value: &str) -> Self {
        self.members.push((member, value.to_owned()));
        self
    }

    /// EKS and tagging: a parameter that can't be.
    pub fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterException", message)
    }
}

/// What an operation answers: a JSON value (which IAM sends as XML), or a no.
pub(super) type Answer = Result<Value, Refusal>;

/// A request's parameters under the names that the service's model gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Params {
    pub map: Map<String, Value>,
    /// How many entries of a batch a fault makes fail, and with which code.
    pub failing: Option<(usize, String)>,
    /// The code that this service has for a parameter that can't be.
    pub invalid: &'static str,
}

impl Params {
    pub fn new(map: Map<String, Value>, invalid: &'static str) -> Self {
        Self { map, failing: None, invalid }
    }

    /// A no about a parameter, with this service's code.
    pub fn refuse(&self, message: impl Into<String>) -> Refusal {
        Refusal::new(400, self.invalid, message)
    }

    pub fn opt(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(format!("{name} must be a string"))),
        }
    }

    pub fn text(&self, name: &str) -> Result<&str, Refusal> {
        match self.opt(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.refuse(format!("{name} is required"))),
        }
    }

    /// A number, also where it came as text, as in queries.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = match self.map.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(other) => other.as_u64(),
        };
        number.map(Some).ok_or_else(|| self.refuse(format!("{name} must be a number")))
    }

    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(self.refuse(format!("{name} must be true or false"))),
        }
    }

    pub fn list(&self, name: &str) -> Result<&[Value], Refusal> {
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => Err(self.refuse(format!("{name} must be a list"))),
        }
    }

    pub fn texts(&self, name: &str) -> Result<Vec<&str>, Refusal> {
        let wrong = || self.refuse(format!("{name} must be a list of strings"));
        self.list(name)?.iter().map(|item| item.as_str().ok_or_else(wrong)).collect()
    }

    /// Tags as EKS has them: an object.
    pub fn tag_map(&self, name: &str) -> Result<Tags, Refusal> {
        let wrong = || self.refuse(format!("{name} must be a map of strings"));
        match self.map.get(name) {
            None | Some(Value::Null) => Ok(Tags::new()),
            Some(Value::Object(map)) => map
                .iter()
                .map(|(key, value)| {
                    let value = value.as_str().ok_or_else(wrong)?;
                    Ok((key.clone(), value.to_owned()))
                })
                .collect(),
            Some(_) => Err(wrong()),
        }
    }

    /// Tags as IAM has them: a list of `Key` and `Value`.
    pub fn tag_list(&self, name: &str) -> Result<Vec<(String, String)>, Refusal> {
        let wrong = || self.refuse(format!("{name} must be a list of Key and Value"));
        let member = |item: &Value, part: &str| -> Result<String, Refusal> {
            item.get(part).and_then(Value::as_str).map(str::to_owned).ok_or_else(wrong)
        };
        self.list(name)?.iter().map(|item| Ok((member(item, "Key")?, member(item, "Value")?))).collect()
    }

    /// The page asked for: `size` names the parameter, `most` the largest page, `default` the usual one.
    pub fn page_size(&self, size: &str, most: u64, default: u64) -> Result<usize, Refusal> {
        let asked = self.number(size)?.unwrap_or(default);
        if !(1..=most).contains(&asked) {
            return Err(self.refuse(format!("{size} must be from 1 to {most}")));
        }
        Ok(usize::try_from(asked).unwrap_or(usize::MAX))
    }
}

/// Tags as AWS lists them: `[{"Key": …, "Value": …}]`.
pub(super) fn listed(tags: &Tags) -> Value {
    tags.iter().map(|(key, value)| serde_json::json!({"Key": key, "Value": value})).collect()
}

/// Letters, digits, spaces and `_ . : / = + - @`.
pub(super) fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
}
