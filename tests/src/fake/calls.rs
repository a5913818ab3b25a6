//! What was asked of the fake, in order.

use std::fmt;
use std::ops::Deref;

use serde_json::Value;

/// One request, as the fake understood it. An SDK's retry is a call of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// `eks`, `iam`, `tagging`, `events` or `sqs`.
    pub service: String,
    /// The operation's name in the service's model.
    pub operation: String,
    /// The region that the request was signed for; `us-east-1` for IAM, which is global.
    pub region: String,
    /// The parameters, decoded, under their names in the service's model.
    pub detail: Value,
    /// The HTTP status answered; 0 where no answer left the fake (yet).
    pub status: u16,
    /// The error's code; `hang`, `connection dropped` or `response lost` where no answer left. Empty if all went well.
    pub error: String,
}

impl Call {
    /// Whether the call asked for a change.
    pub fn is_write(&self) -> bool {
        !["Get", "List", "Describe"].iter().any(|read| self.operation.starts_with(read))
    }

    fn text(&self, name: &str) -> &str {
        self.detail.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// What the call was about, in a few words.
    fn about(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut word = |text: &str| {
            if !text.is_empty() {
                words.push(text.to_owned());
            }
        };
        match self.service.as_str() {
            "eks" => {
                // A cluster's own operations call it `name`, all others `clusterName`.
                word(self.text("clusterName"));
                word(self.text("name"));
                word(self.text("resourceArn"));
                word(self.text("addonName"));
                word(self.text("associationId"));
                // Of principals and policies the name is enough: the rest is the account's, or AWS's.
                for name in ["principalArn", "policyArn", "associatedPolicyArn"] {
                    word(self.text(name).rsplit('/').next().unwrap_or_default());
                }
                word(self.text("kubernetesVersion"));
                match (self.text("namespace"), self.text("serviceAccount")) {
                    ("", "") => {}
                    (namespace, "") => word(&format!("{namespace}/")),
                    (namespace, account) => word(&format!("{namespace}/{account}")),
                }
                if self.text("preserve") == "true" {
                    word("preserve");
                }
            }
            "iam" => word(self.text("RoleName")),
            "tagging" => {
                for filter in self.detail.get("TagFilters").and_then(Value::as_array).into_iter().flatten() {
                    let key = filter.get("Key").and_then(Value::as_str).unwrap_or_default();
                    let values = filter.get("Values").and_then(Value::as_array).into_iter().flatten();
                    let values: Vec<&str> = values.filter_map(Value::as_str).collect();
                    word(&if values.is_empty() {
                        key.to_owned()
                    } else {
                        format!("{key}={}", values.join("|"))
                    });
                }
            }
            "sqs" => word(self.text("QueueUrl").rsplit('/').next().unwrap_or_default()),
            _ => {}
        }
        if let Some(entries) = self.detail.get("Entries").and_then(Value::as_array) {
            word(&entries.len().to_string());
        }
        if ["nextToken", "Marker", "PaginationToken"].iter().any(|token| !self.text(token).is_empty()) {
            word("(next page)");
        }
        words
    }
}

/// One line: `eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api`, and the error if there was one.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.service, self.region, self.operation)?;
        for word in self.about() {
            write!(f, " {word}")?;
        }
        match (self.status, self.error.as_str()) {
            (_, "") => Ok(()),
            (0, error) => write!(f, " -> {error}"),
            (status, error) => write!(f, " -> {status} {error}"),
        }
    }
}

/// Calls, in the order in which they came. Derefs to a slice; its `Display` is one line a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls(pub(super) Vec<Call>);

impl Calls {
    /// How many calls of this operation.
    pub fn count(&self, operation: &str) -> usize {
        self.iter().filter(|call| call.operation == operation).count()
    }

    /// The calls of this operation.
    pub fn of(&self, operation: &str) -> Calls {
        self.only(|call| call.operation == operation)
    }

    /// The calls that asked for a change.
    pub fn writes(&self) -> Calls {
        self.only(Call::is_write)
    }

    /// The calls that this is true of.
    pub fn only(&self, keep: impl Fn(&Call) -> bool) -> Calls {
        Calls(self.iter().filter(|call| keep(call)).cloned().collect())
    }

    /// One line a call.
    pub fn lines(&self) -> Vec<String> {
        self.iter().map(Call::to_string).collect()
    }
}

impl Deref for Calls {
    type Target = [Call];

    fn deref(&self) -> &[Call] {
        &self.0
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}
