//! `podgrant/trust = manage`: the trust statements that a role's grants need, added
//! to its policy, and replaced when the grants ask for others.
//!
//! What is written follows from the role's tags, so that every pass writes the same;
//! whether anything is written, from the uses in view: only where the policy refuses
//! one. Statements of ours that nobody needs any more stay until then: more trust
//! than is used lets nobody in whom no association names, and removing it is never
//! urgent.
//!
//! All other statements stay as they are, to the letter, and in their order. A policy
//! that is not understood whole is never written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::{MISSING_STATEMENT, PODS_ACTIONS, PODS_PRINCIPAL, TrustPolicy, Use, one_or_many};
use crate::names::{Namespace, RoleArn};
use crate::subject::{ClusterSelector, Pattern};
use crate::tags::Grant;

/// How the Sid of every statement of ours begins. A Sid holds nothing but ASCII
/// letters and digits, and is unique in its policy (IAM user guide, "Sid").
pub const SID: &str = "PodgrantManaged";

/// How long a trust policy may be without its white space, unless the account's quota
/// was raised, to 4,096 at most (IAM user guide, "IAM and AWS STS quotas").
const LONGEST: usize = 2048;

/// The versions of the policy language; a policy without one is of the older
/// (IAM user guide, "Version").
const VERSIONS: [&str; 2] = ["2012-10-17", "2008-10-17"];

/// What a policy and its statements hold (IAM user guide, "Grammar of the IAM JSON
/// policy language"). A trust policy has no resources: the role is the resource.
const ELEMENTS: [&str; 3] = ["Version", "Id", "Statement"];
const STATEMENT_ELEMENTS: [&str; 7] =
    ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Condition"];

const NAMESPACE: &str = "aws:RequestTag/kubernetes-namespace";
const SERVICE_ACCOUNT: &str = "aws:RequestTag/kubernetes-service-account";
const SOURCE_ACCOUNT: &str = "aws:SourceAccount";
const SOURCE_ARN: &str = "aws:SourceArn";

/// What a role's trust policy is to allow.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// Its partition and account are those of its clusters.
    pub role: &'a RoleArn,
    /// Conditions on session tags can't hold without session tags.
    pub session_tags_off: bool,
    /// All that the role's tags ask for, whichever clusters are in view. Patterns are written as patterns: whoever
    /// they come to mean is trusted, and gets nothing without an association.
    pub grants: &'a [Grant],
    /// Whether more may need the policy than `grants` says: a part of the tags does not
    /// parse, or something that they no longer ask for still stands. Then, and beside a
    /// pattern, nobody loses trust by the change.
    pub in_doubt: bool,
    /// The uses in view.
    pub uses: Vec<Use<'a>>,
}

/// The policy with the statements that `wanted` needs; `None` where it allows all the
/// uses already.
///
/// # Errors
/// Why the policy is not to be touched.
pub fn amended(policy: &str, wanted: &Wanted<'_>) -> Result<Option<String>, String> {
    let refused = |policy: &str| {
        let policy = TrustPolicy::read(policy);
        wanted.uses.iter().filter_map(|usage| policy.allows(usage).err()).collect::<Vec<String>>()
    };
    let before = refused(policy);
    let Some(first) = before.first() else { return Ok(None) };
    let document = Document::read(policy)?;
    let statements = wanted.statements();
    let text = document.with(&statements, wanted.in_doubt());
    let after = refused(&text);
    // Where one use is denied, the others are served.
    if let Some(still) = after.first().filter(|_| after.len() >= before.len()) {
        let why = if still == first { String::new() } else { format!(": {still}") };
        return Err(format!("a statement more would not help{why}"));
    }
    // IAM does not count white space (IAM user guide, "IAM and AWS STS quotas").
    let length = text.chars().filter(|c| !c.is_whitespace()).count();
    if length > LONGEST {
        return Err(format!(
            "with podgrant's statements it would have {length} characters without white space, and IAM's \
             quota is {LONGEST} (it can be raised to 4096, and podgrant keeps to the default)"
        ));
    }
    Ok(Some(text))
}

/// The policy without any statement of ours, and all else to the letter; `None` where it has none of ours.
///
/// # Errors
/// Why the policy is not to be touched.
pub fn withdrawn(policy: &str) -> Result<Option<String>, String> {
    let parsed: Value = serde_json::from_str(policy).unwrap_or_default();
    if !one_or_many(parsed.get("Statement")).into_iter().any(is_ours) {
        return Ok(None);
    }
    Document::read(policy)?.without(|_, statement| is_ours(statement)).map(Some)
}

/// The policy without the statements of these numbers, counted from 1, and all else to the letter.
///
/// # Errors
/// Why the policy is not to be touched.
pub fn without(policy: &str, numbers: &BTreeSet<usize>) -> Result<String, String> {
    Document::read(policy)?.without(|number, _| numbers.contains(&number))
}

/// The statements of these numbers, counted from 1, as they are written.
///
/// # Errors
/// Why the policy is not to be touched.
pub fn statements_of(policy: &str, numbers: &BTreeSet<usize>) -> Result<Vec<String>, String> {
    let document = Document::read(policy)?;
    let numbered = document.statements.iter().zip(1..).filter(|(_, number)| numbers.contains(number));
    Ok(numbered.map(|((text, _), _)| (*text).to_owned()).collect())
}

/// The policy with these statements too, behind its own; `None` where it has all of them.
///
/// # Errors
/// Why the policy is not to be touched, or which of them is no statement.
pub fn with_also(policy: &str, statements: &[String]) -> Result<Option<String>, String> {
    let document = Document::read(policy)?;
    let mut missing: Vec<&str> = Vec::new();
    for text in statements {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("what is to be added is not JSON ({error})"))?;
        understand(&value).map_err(|problem| format!("what is to be added {problem}"))?;
        if !document.statements.iter().any(|(_, stands)| *stands == value) {
            missing.push(text);
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let kept = document.statements.iter().map(|(text, _)| *text);
    Ok(Some(document.with_statements(kept.chain(missing))))
}

/// Whether two policies differ in statements of ours alone.
pub fn keeps_what_is_not_ours(before: &str, after: &str) -> bool {
    let rest = |policy: &str| {
        let mut document: Value = serde_json::from_str(policy).ok()?;
        let statements = document.as_object_mut()?.remove("Statement")?;
        let foreign: Vec<Value> =
            one_or_many(Some(&statements)).into_iter().filter(|value| !is_ours(value)).cloned().collect();
        Some((document, foreign))
    };
    let (before, after) = (rest(before), rest(after));
    before.is_some() && before == after
}

/// Whom a trust policy lets in beside EKS Pod Identity, and whoever uses that: principals as it names them.
///
/// Conditions make no difference: what they refuse today they may let in tomorrow.
///
/// # Errors
/// Why the policy is not understood whole: then anyone may be let in.
pub fn others_let_in(policy: &str) -> Result<BTreeSet<String>, String> {
    let document = Document::read(policy)?;
    let mut others = BTreeSet::new();
    let allowing = |(_, value): &&(&str, Value)| value.get("Effect").and_then(Value::as_str) == Some("Allow");
    for (_, statement) in document.statements.iter().filter(allowing) {
        match (statement.get("Principal"), statement.get("NotPrincipal")) {
            (Some(Value::String(anyone)), None) => {
                others.insert(anyone.clone());
            }
            (Some(Value::Object(kinds)), None) => {
                for (kind, names) in kinds {
                    for name in one_or_many(Some(names)) {
                        let name =
                            name.as_str().ok_or("a statement of it names a principal that is no text")?;
                        if (kind.as_str(), name) != ("Service", PODS_PRINCIPAL) {
                            others.insert(name.to_owned());
                        }
                    }
                }
            }
            _ => return Err("a statement of it does not say plainly whom it lets in".to_owned()),
        }
    }
    Ok(others)
}

/// Whom our statements of a policy are for, and where, in the words of a grant.
pub fn subjects(policy: &str) -> BTreeSet<String> {
    let document: Value = serde_json::from_str(policy).unwrap_or_default();
    let mut subjects = BTreeSet::new();
    for statement in one_or_many(document.get("Statement")).into_iter().filter(|value| is_ours(value)) {
        let wanted = |operator: &str, key: &str| {
            let wanted = statement.get("Condition").and_then(|block| block.get(operator)?.get(key));
            one_or_many(wanted).into_iter().filter_map(Value::as_str).collect::<Vec<&str>>()
        };
        for namespace in in_the_words_of_a_grant(&wanted, NAMESPACE) {
            for service_account in in_the_words_of_a_grant(&wanted, SERVICE_ACCOUNT) {
                let arns = wanted("ArnLike", SOURCE_ARN);
                for arn in if arns.is_empty() { vec!["_"] } else { arns } {
                    subjects.insert(format!("{namespace}/{service_account}@{}", cluster_of(arn)));
                }
            }
        }
    }
    subjects
}

/// The names that a condition asks for, with `_` where it has `*`.
fn in_the_words_of_a_grant<'a>(wanted: &impl Fn(&str, &str) -> Vec<&'a str>, key: &str) -> Vec<String> {
    let (exact, like) = (wanted("StringEquals", key), wanted("StringLike", key));
    if exact.is_empty() && like.is_empty() {
        return vec!["_".to_owned()];
    }
    exact.iter().chain(&like).map(|name| name.replace('*', "_")).collect()
}

/// A cluster as a grant names it.
fn cluster_of(arn: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match (parts.get(3), parts.get(5).and_then(|resource| resource.strip_prefix("cluster/"))) {
        (Some(&"*"), Some(name)) => name.to_owned(),
        (Some(region), Some(name)) => format!("{region}/{name}"),
        _ => arn.to_owned(),
    }
}

/// Whether podgrant wrote a statement, or somebody in its name. One that denies, or
/// lets in others, is none of ours, whatever its Sid.
fn is_ours(statement: &Value) -> bool {
    let named = statement.get("Sid").and_then(Value::as_str).is_some_and(|sid| sid.starts_with(SID));
    let principal = statement.get("Principal").and_then(Value::as_object);
    let only_pods = principal.is_some_and(|kinds| {
        kinds.len() == 1
            && matches!(one_or_many(kinds.get("Service")).as_slice(), [only] if only.as_str() == Some(PODS_PRINCIPAL))
    });
    named && only_pods && statement.get("Effect").and_then(Value::as_str) == Some("Allow")
}

/// What a statement of ours asks for: by operator and key, any of these values.
type Conditions = BTreeMap<(&'static str, &'static str), BTreeSet<String>>;

impl Wanted<'_> {
    fn in_doubt(&self) -> bool {
        self.in_doubt || self.grants.iter().any(|grant| grant.subject.is_pattern())
    }

    /// One for each namespace, or one for all where session tags are off: nothing
    /// tells namespaces apart then.
    fn statements(&self) -> Vec<Conditions> {
        let mut namespaces: BTreeMap<Option<&Pattern<Namespace>>, Vec<&Grant>> = BTreeMap::new();
        for grant in self.grants {
            let namespace = (!self.session_tags_off).then_some(&grant.subject.namespace);
            namespaces.entry(namespace).or_default().push(grant);
        }
        namespaces.into_iter().map(|(namespace, grants)| self.conditions(namespace, &grants)).collect()
    }

    fn conditions(&self, namespace: Option<&Pattern<Namespace>>, grants: &[&Grant]) -> Conditions {
        let mut conditions = Conditions::from([(
            ("StringEquals", SOURCE_ACCOUNT),
            BTreeSet::from([self.role.account().to_owned()]),
        )]);
        if let Some(namespace) = namespace {
            let accounts: Vec<_> = grants.iter().map(|grant| &grant.subject.service_account).collect();
            conditions.insert((operator(&[namespace]), NAMESPACE), [like(namespace)].into());
            let names = accounts.iter().map(|account| like(account)).collect();
            conditions.insert((operator(&accounts), SERVICE_ACCOUNT), names);
        }
        let clusters = grants.iter().map(|grant| self.cluster_arn(&grant.subject.clusters));
        if let Some(clusters) = clusters.collect::<Option<BTreeSet<String>>>() {
            conditions.insert(("ArnLike", SOURCE_ARN), clusters);
        }
        conditions
    }

    /// `None` where a selector names no cluster: it may match any, today or tomorrow.
    fn cluster_arn(&self, selector: &ClusterSelector) -> Option<String> {
        let (region, name) = match selector {
            ClusterSelector::Name(name) => ("*", name),
            ClusterSelector::RegionAndName(region, name) => (region.as_str(), name),
            ClusterSelector::All | ClusterSelector::Tags(_) => return None,
        };
        let partition = self.role.as_str().split(':').nth(1).unwrap_or("aws");
        Some(format!("arn:{partition}:eks:{region}:{}:cluster/{name}", self.role.account()))
    }
}

/// How names are compared, some of which may be patterns.
fn operator<N>(names: &[&Pattern<N>]) -> &'static str {
    let patterned = names.iter().any(|name| matches!(name, Pattern::Prefix(_)));
    if patterned { "StringLike" } else { "StringEquals" }
}

/// A name as IAM writes it: a Kubernetes name holds neither `*` nor `?`.
fn like<N: AsRef<str>>(name: &Pattern<N>) -> String {
    match name {
        Pattern::Exact(name) => name.as_ref().to_owned(),
        Pattern::Prefix(prefix) => format!("{prefix}*"),
    }
}

/// A statement of ours as JSON text: its keys in one order, whoever builds this.
fn written(number: usize, conditions: &Conditions) -> String {
    let mut operators: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((operator, key), values) in conditions {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let values = match values.as_slice() {
            [only] => Value::from(*only),
            many => Value::from(many),
        };
        operators.entry(operator).or_default().push(format!("{}:{values}", Value::from(*key)));
    }
    let operators: Vec<String> = operators
        .iter()
        .map(|(operator, keys)| format!("{}:{{{}}}", Value::from(*operator), keys.join(",")))
        .collect();
    let statement = MISSING_STATEMENT.trim_start_matches('{').trim_end_matches('}');
    format!(r#"{{"Sid":"{SID}{number}",{statement},"Condition":{{{}}}}}"#, operators.join(","))
}

/// Whether a statement of ours allows all that `conditions` does.
fn covers(statement: &Value, conditions: &Conditions) -> bool {
    let actions = one_or_many(statement.get("Action"));
    let Some(block) = statement.get("Condition").map_or(Some(BTreeMap::new()), read_conditions) else {
        return false;
    };
    PODS_ACTIONS.iter().all(|action| actions.iter().any(|name| name.as_str() == Some(action)))
        && block.iter().all(|((operator, key), values)| {
            let narrower =
                conditions.iter().find(|((o, k), _)| o == operator && k == key).map(|(_, values)| values);
            narrower.is_some_and(|narrower| narrower.iter().all(|value| values.contains(value.as_str())))
        })
}

/// Whether `conditions` allow all that a statement of ours does.
fn covered(statement: &Value, conditions: &Conditions) -> bool {
    let Some(block) = statement.get("Condition").and_then(read_conditions) else { return false };
    conditions.iter().all(|((operator, key), values)| {
        block
            .get(&(*operator, *key))
            .is_some_and(|narrower| narrower.iter().all(|value| values.contains(*value)))
    })
}

/// `None` where it asks for something that we would not.
fn read_conditions(block: &Value) -> Option<BTreeMap<(&str, &str), BTreeSet<&str>>> {
    let mut conditions = BTreeMap::new();
    for (operator, keys) in block.as_object()? {
        if !["StringEquals", "StringLike", "ArnLike"].contains(&operator.as_str()) {
            return None;
        }
        for (key, values) in keys.as_object()? {
            let values = one_or_many(Some(values)).into_iter().map(Value::as_str);
            conditions.insert((operator.as_str(), key.as_str()), values.collect::<Option<_>>()?);
        }
    }
    Some(conditions)
}

/// A policy that is understood, as its text.
#[derive(Debug)]
struct Document<'a> {
    text: &'a str,
    /// Where the value of `Statement` stands in it.
    place: Range<usize>,
    statements: Vec<(&'a str, Value)>,
    /// Where each of them stands.
    places: Vec<Range<usize>>,
}

impl<'a> Document<'a> {
    fn read(text: &'a str) -> Result<Self, String> {
        let parsed: Value =
            serde_json::from_str(text).map_err(|error| format!("the policy is not JSON ({error})"))?;
        let unreadable = || "the policy is no JSON that podgrant can read".to_owned();
        let mut reader = Reader { text, at: 0, twice: None };
        let node = reader.node().ok_or_else(unreadable)?;
        if let Some(key) = reader.twice {
            return Err(format!(
                "it holds the key {key:?} twice in one place, and which counts is not known"
            ));
        }
        let (Inside::Members(members), Some(object)) = (node.inside, parsed.as_object()) else {
            return Err("the policy is no JSON object".to_owned());
        };
        if let Some(unknown) = object.keys().find(|key| !ELEMENTS.contains(&key.as_str())) {
            return Err(format!("it holds an element {unknown:?} that podgrant does not know"));
        }
        let version = object.get("Version").map(|version| version.as_str().unwrap_or_default());
        if version.is_some_and(|version| !VERSIONS.contains(&version)) {
            return Err(format!("its Version is not {}", VERSIONS.join(" or ")));
        }
        let Some((_, node)) = members.into_iter().find(|(key, _)| key == "Statement") else {
            return Err("it has no Statement".to_owned());
        };
        let place = node.place.clone();
        let places: Vec<Range<usize>> = match node.inside {
            Inside::Elements(nodes) => nodes.into_iter().map(|node| node.place).collect(),
            _ => vec![place.clone()],
        };
        let values = one_or_many(object.get("Statement"));
        let mut statements = Vec::new();
        for ((place, value), number) in places.iter().cloned().zip(values).zip(1..) {
            understand(value).map_err(|problem| format!("its statement {number} {problem}"))?;
            statements.push((text.get(place).ok_or_else(unreadable)?, value.clone()));
        }
        Ok(Self { text, place, statements, places })
    }

    /// The text with statements of ours for these conditions, and no others; in doubt,
    /// beside those that it has.
    fn with(&self, wanted: &[Conditions], in_doubt: bool) -> String {
        let kept: Vec<&(&str, Value)> = self
            .statements
            .iter()
            .filter(|(_, value)| {
                !is_ours(value) || (in_doubt && !wanted.iter().any(|conditions| covered(value, conditions)))
            })
            .collect();
        let taken: BTreeSet<&str> =
            kept.iter().filter_map(|(_, value)| value.get("Sid").and_then(Value::as_str)).collect();
        let mut numbers = (1..).filter(|number| !taken.contains(format!("{SID}{number}").as_str()));
        let mut statements: Vec<String> = kept.iter().map(|(text, _)| (*text).to_owned()).collect();
        for conditions in wanted {
            let stands = kept.iter().any(|(_, value)| is_ours(value) && covers(value, conditions));
            if let (false, Some(number)) = (stands, numbers.next()) {
                statements.push(written(number, conditions));
            }
        }
        self.with_statements(statements.iter().map(String::as_str))
    }

    /// The text with these statements in place of its own.
    fn with_statements<'s>(&self, statements: impl Iterator<Item = &'s str>) -> String {
        let (before, after) =
            (self.text.get(..self.place.start).unwrap_or(""), self.text.get(self.place.end..).unwrap_or(""));
        format!("{before}[{}]{after}", statements.collect::<Vec<_>>().join(","))
    }

    /// The text without the statements that go, by number from 1 and what they say.
    fn without(&self, goes: impl Fn(usize, &Value) -> bool) -> Result<String, String> {
        let separators = self.places.windows(2).map(|pair| match pair {
            [one, next] => self.text.get(one.end..next.start).unwrap_or(","),
            _ => ",",
        });
        let mut text = String::with_capacity(self.text.len());
        let (first, last) = (self.places.first(), self.places.last());
        text.push_str(first.and_then(|first| self.text.get(..first.start)).unwrap_or_default());
        let mut kept = 0;
        // Each with what stands between it and the one before it.
        let separated = std::iter::once("").chain(separators).zip(&self.statements);
        for ((separator, (statement, value)), number) in separated.zip(1..) {
            if !goes(number, value) {
                text.push_str(if kept == 0 { "" } else { separator });
                text.push_str(statement);
                kept += 1;
            }
        }
        text.push_str(last.and_then(|last| self.text.get(last.end..)).unwrap_or_default());
        // A policy has one statement or more (IAM user guide, "Grammar of the IAM JSON policy language").
        if kept == 0 {
            return Err("no other statement is in it, and IAM takes no policy without any".to_owned());
        }
        Ok(text)
    }
}

fn understand(statement: &Value) -> Result<(), String> {
    let elements = statement.as_object().ok_or("is no JSON object")?;
    if let Some(unknown) = elements.keys().find(|key| !STATEMENT_ELEMENTS.contains(&key.as_str())) {
        return Err(format!("holds an element {unknown:?} that podgrant does not know in a trust policy"));
    }
    match elements.get("Effect").and_then(Value::as_str) {
        Some("Allow" | "Deny") => Ok(()),
        _ => Err("neither allows nor denies".to_owned()),
    }
}

/// A value in JSON text, and where it stands.
#[derive(Debug)]
struct Node {
    place: Range<usize>,
    inside: Inside,
}

#[derive(Debug)]
enum Inside {
    Members(Vec<(String, Node)>),
    Elements(Vec<Node>),
    Nothing,
}

/// Finds the places in text that is known to be JSON, nested no deeper than
/// serde_json's own limit.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// A key that an object holds twice.
    twice: Option<String>,
}

impl Reader<'_> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
        self.text.as_bytes().get(self.at).copied()
    }

    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn node(&mut self) -> Option<Node> {
        let first = self.peek()?;
        let start = self.at;
        let inside = match first {
            b'{' => Inside::Members(self.members()?),
            b'[' => Inside::Elements(self.elements()?),
            b'"' => {
                self.string()?;
                Inside::Nothing
            }
            _ => {
                let rest = self.text.as_bytes().get(self.at..)?;
                let ends = |byte: &u8| byte.is_ascii_whitespace() || b",]}".contains(byte);
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
                Inside::Nothing
            }
        };
        Some(Node { place: start..self.at, inside })
    }

    fn members(&mut self) -> Option<Vec<(String, Node)>> {
        self.at += 1;
        let mut members: Vec<(String, Node)> = Vec::new();
        let mut keys = BTreeSet::new();
        while !self.takes(b'}') {
            self.takes(b',');
            self.peek()?;
            let key: String = serde_json::from_str(self.string()?).ok()?;
            if !keys.insert(key.clone()) {
                self.twice = Some(key.clone());
            }
            if !self.takes(b':') {
                return None;
            }
            members.push((key, self.node()?));
        }
        Some(members)
    }

    fn elements(&mut self) -> Option<Vec<Node>> {
        self.at += 1;
        let mut elements = Vec::new();
        while !self.takes(b']') {
            self.takes(b',');
            elements.push(self.node()?);
        }
        Some(elements)
    }

    /// A string, quotes and all.
    fn string(&mut self) -> Option<&str> {
        let start = self.at;
        let mut escaped = true;
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            self.at += 1;
            // The first one opens it.
            match byte {
                b'"' if !escaped => return self.text.get(start..self.at),
                b'\\' if !escaped => escaped = true,
                _ => escaped = false,
            }
        }
    }
}

#[cfg(test)]
mod tests;
