//! The conditions of a trust policy, in three values: some hold for a use, some
//! can't, and of the others only EKS and STS know.
//!
//! The rules are IAM's (IAM user guide, "Condition operators" and "Multivalued
//! context keys"); what a request holds is EKS's (EKS user guide, "Pod Identity
//! role" and "Grant Pods access based on tags").

use serde_json::Value;

use super::{Case, Use, is_like, listed, one_or_many};

/// Ordered, so that a conjunction is the least and a disjunction the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Truth {
    Fails,
    Unknown,
    Holds,
}

impl Truth {
    pub(super) fn all(truths: impl Iterator<Item = Self>) -> Self {
        truths.min().unwrap_or(Self::Holds)
    }

    fn any(truths: impl Iterator<Item = Self>) -> Self {
        truths.max().unwrap_or(Self::Fails)
    }

    fn negated(self) -> Self {
        match self {
            Self::Fails => Self::Holds,
            Self::Unknown => Self::Unknown,
            Self::Holds => Self::Fails,
        }
    }
}

impl From<bool> for Truth {
    fn from(truth: bool) -> Self {
        if truth { Self::Holds } else { Self::Fails }
    }
}

/// One key under one operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    operator: Operator,
    key: Key,
    /// Operator and key as the policy writes them: for people.
    words: [String; 2],
    /// Any of them will do.
    wanted: Vec<Wanted>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Operator {
    test: Test,
    negated: bool,
    if_exists: bool,
    each: Each,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals,
    EqualsIgnoreCase,
    Like,
    /// ArnEquals and ArnLike behave identically.
    Arn,
    Null,
    /// Bool, and those for numbers, dates and addresses: nothing that we know of a
    /// request is any of these, so all they ask of it is whether it is there.
    OfOtherTypes,
    /// An operator that we do not know.
    Unknown,
}

/// How many of a key's values must pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    /// No qualifier: the key has one value.
    One,
    Any,
    All,
}

/// A value in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    text: String,
    /// Whether it is known: a policy variable (`${…}`) is not.
    known: bool,
}

/// What a condition may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    SourceAccount,
    /// The ARN of the cluster (terraform-aws-modules/terraform-aws-eks#3743), not of the
    /// association (awslabs/mountpoint-s3-csi-driver#781: pods got no credentials).
    SourceArn,
    /// A session tag, by its index in [`SESSION_TAGS`]; `None` where EKS sends no such.
    RequestTag(Option<usize>),
    TagKeys,
    Unknown,
}

/// The session tags that EKS Pod Identity sends: all of them, and it can add no other
/// (EKS user guide, "Grant Pods access based on tags").
const SESSION_TAGS: [&str; 6] = [
    "eks-cluster-arn",
    "eks-cluster-name",
    "kubernetes-namespace",
    "kubernetes-service-account",
    "kubernetes-pod-name",
    "kubernetes-pod-uid",
];

/// What a request has under a key.
#[derive(Debug, Clone, Copy)]
enum Fact<'a> {
    Absent,
    Is(&'a str),
    /// It is there, and we do not know what it is.
    Hidden,
    /// The keys of the session tags.
    TagKeys,
    /// We do not even know whether it is there.
    Unknown,
}

/// Reads a statement's `Condition`, in an order that does not hang on the text's.
pub(super) fn read(block: Option<&Value>) -> Vec<Condition> {
    let mut conditions = Vec::new();
    match block {
        None => {}
        Some(Value::Object(operators)) => {
            for (operator, keys) in operators {
                match keys {
                    Value::Object(keys) => conditions.extend(
                        keys.iter().map(|(key, wanted)| Condition::read(operator, key, Some(wanted))),
                    ),
                    _ => conditions.push(Condition::read(operator, "", None)),
                }
            }
        }
        // IAM would not have it: then it is not ours to judge.
        Some(_) => conditions.push(Condition::read("", "", None)),
    }
    conditions.sort_by(|a, b| a.words.cmp(&b.words));
    conditions
}

impl Condition {
    fn read(operator: &str, key: &str, wanted: Option<&Value>) -> Self {
        let wanted = one_or_many(wanted)
            .into_iter()
            .map(|value| match value {
                Value::String(text) => Wanted { text: text.clone(), known: !text.contains("${") },
                Value::Bool(_) | Value::Number(_) => Wanted { text: value.to_string(), known: true },
                _ => Wanted { text: value.to_string(), known: false },
            })
            .collect();
        Self {
            operator: Operator::read(operator),
            key: Key::read(key),
            words: [key.to_owned(), operator.to_owned()],
            wanted,
        }
    }

    pub(super) fn holds(&self, usage: &Use<'_>) -> Truth {
        let Operator { test, negated, if_exists, each } = self.operator;
        let passes = |value: Option<&str>| {
            let matches = Truth::any(self.wanted.iter().map(|wanted| wanted.matches(test, value)));
            if negated { matches.negated() } else { matches }
        };
        match (self.key.fact(usage), test) {
            (Fact::Unknown, _) | (_, Test::Unknown) => Truth::Unknown,
            (fact, Test::Null) => self.is_null(matches!(fact, Fact::Absent)),
            (Fact::Absent, _) => match each {
                _ if if_exists => Truth::Holds,
                Each::One => negated.into(),
                Each::Any => Truth::Fails,
                Each::All => Truth::Holds,
            },
            (_, Test::OfOtherTypes) => Truth::Unknown,
            (Fact::Is(value), _) => passes(Some(value)),
            (Fact::Hidden, _) => passes(None),
            (Fact::TagKeys, _) => {
                let passes = SESSION_TAGS.iter().map(|tag| passes(Some(tag)));
                match each {
                    // IAM asks for a qualifier where a key has many values, and does not say what follows without.
                    Each::One => Truth::Unknown,
                    Each::Any => Truth::any(passes),
                    Each::All => Truth::all(passes),
                }
            }
        }
    }

    fn is_null(&self, absent: bool) -> Truth {
        Truth::any(self.wanted.iter().map(|wanted| match wanted.text.to_ascii_lowercase().as_str() {
            "true" => absent.into(),
            "false" => (!absent).into(),
            _ => Truth::Unknown,
        }))
    }

    /// Whether it asks for a session tag, and EKS is to send none.
    pub(super) fn lacks_session_tags(&self, usage: &Use<'_>) -> bool {
        matches!(self.key, Key::RequestTag(_) | Key::TagKeys) && usage.session_tags_off == Some(true)
    }

    /// What it wants and what this use has, for people.
    pub(super) fn explained(&self, usage: &Use<'_>) -> String {
        let [key, operator] = &self.words;
        let wanted = listed(&self.wanted, " or ", |wanted| format!("{:?}", wanted.text));
        let has = match self.key.fact(usage) {
            Fact::Absent if self.lacks_session_tags(usage) => {
                "with session tags off EKS sends none: it can never hold".to_owned()
            }
            Fact::Absent => format!("EKS sends only {}", SESSION_TAGS.join(", ")),
            Fact::Is(value) => format!("it is {value:?}"),
            Fact::TagKeys => format!("they are {}", SESSION_TAGS.join(", ")),
            Fact::Hidden | Fact::Unknown => "it is always there".to_owned(),
        };
        format!("{key} {operator} {wanted} ({has})")
    }
}

impl Operator {
    /// Names in any case.
    fn read(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let (each, rest) = if let Some(rest) = name.strip_prefix("foranyvalue:") {
            (Each::Any, rest)
        } else if let Some(rest) = name.strip_prefix("forallvalues:") {
            (Each::All, rest)
        } else {
            (Each::One, name.as_str())
        };
        let (if_exists, base) = rest.strip_suffix("ifexists").map_or((false, rest), |base| (true, base));
        let (test, negated) = match base {
            "stringequals" => (Test::Equals, false),
            "stringnotequals" => (Test::Equals, true),
            "stringequalsignorecase" => (Test::EqualsIgnoreCase, false),
            "stringnotequalsignorecase" => (Test::EqualsIgnoreCase, true),
            "stringlike" => (Test::Like, false),
            "stringnotlike" => (Test::Like, true),
            "arnequals" | "arnlike" => (Test::Arn, false),
            "arnnotequals" | "arnnotlike" => (Test::Arn, true),
            // IAM knows neither NullIfExists nor a qualified Null.
            "null" if !if_exists && each == Each::One => (Test::Null, false),
            "bool"
            | "binaryequals"
            | "ipaddress"
            | "numericequals"
            | "numericlessthan"
            | "numericlessthanequals"
            | "numericgreaterthan"
            | "numericgreaterthanequals"
            | "dateequals"
            | "datelessthan"
            | "datelessthanequals"
            | "dategreaterthan"
            | "dategreaterthanequals" => (Test::OfOtherTypes, false),
            "numericnotequals" | "datenotequals" | "notipaddress" => (Test::OfOtherTypes, true),
            _ => (Test::Unknown, false),
        };
        Self { test, negated, if_exists, each }
    }
}

impl Wanted {
    /// Whether a value is as wanted; `None`: one that we do not know.
    fn matches(&self, test: Test, value: Option<&str>) -> Truth {
        let Some(value) = value else {
            let anything =
                test == Test::Like && !self.text.is_empty() && self.text.bytes().all(|c| c == b'*');
            return if anything { Truth::Holds } else { Truth::Unknown };
        };
        if !self.known {
            return Truth::Unknown;
        }
        match test {
            Test::Equals => (self.text == value).into(),
            Test::EqualsIgnoreCase => self.text.eq_ignore_ascii_case(value).into(),
            Test::Like => is_like(&self.text, value, Case::Heeded).into(),
            Test::Arn => is_arn_like(&self.text, value),
            Test::Null | Test::OfOtherTypes | Test::Unknown => Truth::Unknown,
        }
    }
}

/// Each of an ARN's six parts is matched by itself (IAM user guide, "ARN condition
/// operators"). What a pattern of other parts would match as plain text is in doubt.
fn is_arn_like(pattern: &str, value: &str) -> Truth {
    let parts = |text| str::splitn(text, 6, ':').collect::<Vec<_>>();
    let (patterns, values) = (parts(pattern), parts(value));
    if values.len() != 6 {
        return Truth::Unknown;
    }
    let by_parts = patterns.len() == 6
        && patterns.iter().zip(&values).all(|(pattern, value)| is_like(pattern, value, Case::Heeded));
    if by_parts {
        Truth::Holds
    } else if is_like(pattern, value, Case::Heeded) {
        Truth::Unknown
    } else {
        Truth::Fails
    }
}

impl Key {
    /// Names in any case, a tag's key too (IAM user guide, "Condition").
    fn read(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            "aws:sourceaccount" => Self::SourceAccount,
            "aws:sourcearn" => Self::SourceArn,
            "aws:tagkeys" => Self::TagKeys,
            _ => match name.strip_prefix("aws:requesttag/") {
                Some(tag) => Self::RequestTag(SESSION_TAGS.iter().position(|known| *known == tag)),
                None => Self::Unknown,
            },
        }
    }

    fn fact<'a>(self, usage: &Use<'a>) -> Fact<'a> {
        let known = |value: Option<&'a str>| value.map_or(Fact::Hidden, Fact::Is);
        let cluster = usage.place.map(|(cluster, _)| cluster);
        let workload = usage.place.map(|(_, workload)| workload);
        match (self, usage.session_tags_off) {
            (Self::SourceAccount, _) => Fact::Is(usage.account),
            (Self::SourceArn, _) => known(cluster.map(|cluster| cluster.arn.as_str())),
            (Self::Unknown, _) => Fact::Unknown,
            (Self::RequestTag(None), _) | (Self::RequestTag(_) | Self::TagKeys, Some(true)) => Fact::Absent,
            (Self::RequestTag(_) | Self::TagKeys, None) => Fact::Unknown,
            (Self::TagKeys, Some(false)) => Fact::TagKeys,
            (Self::RequestTag(Some(tag)), Some(false)) => known(match SESSION_TAGS[tag] {
                "eks-cluster-arn" => cluster.map(|cluster| cluster.arn.as_str()),
                "eks-cluster-name" => cluster.map(|cluster| cluster.id.name.as_str()),
                "kubernetes-namespace" => workload.map(|workload| workload.namespace.as_str()),
                "kubernetes-service-account" => workload.map(|workload| workload.service_account.as_str()),
                _ => None,
            }),
        }
    }
}
