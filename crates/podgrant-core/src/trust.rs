//! The second hand of a grant: does the role's own trust policy let EKS Pod
//! Identity assume it, for this service account on this cluster?
//!
//! A policy is judged by meaning, not by text: statements in any order, strings
//! or lists, any case of actions, and conditions as far as we know what EKS
//! sends. What we do not know is left to EKS, which checks the policy again when
//! an association is made: it neither refuses a grant nor denies one.

use std::fmt::Write;

use serde_json::Value;

use crate::model::Cluster;
use crate::names::Workload;

mod conditions;
pub mod manage;

use conditions::{Condition, Truth};

/// The service principal of EKS Pod Identity (EKS user guide, "Pod Identity role").
pub const PODS_PRINCIPAL: &str = "pods.eks.amazonaws.com";

/// The actions that the principal needs, both of them. Also with session tags off:
/// the guide asks for both without exception, and its example of a role that is
/// assumed without tags allows both (EKS user guide, "Target IAM Roles").
pub const PODS_ACTIONS: [&str; 2] = ["sts:AssumeRole", "sts:TagSession"];

/// The statement that makes a trust policy right.
pub const MISSING_STATEMENT: &str = r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}"#;

/// What a role is to be used for, as far as it is settled.
#[derive(Debug, Clone, Copy)]
pub struct Use<'a> {
    /// The role's account, which is the cluster's too: EKS takes no role of another
    /// (EKS user guide, "Target IAM Roles").
    pub account: &'a str,
    /// Whether EKS adds no session tags; `None` where that is not settled.
    pub session_tags_off: Option<bool>,
    /// Where, and for whom. `None`: anywhere and for anyone; then the policy is
    /// refused only if no use of the role could meet it.
    pub place: Option<(&'a Cluster, &'a Workload)>,
}

/// A role's trust policy: read once, judged for each use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    /// Those that speak of EKS Pod Identity; or why the policy makes no sense.
    statements: Result<Vec<Statement>, String>,
}

/// A statement about EKS Pod Identity.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    /// Its Sid, or its number in the policy: for people.
    name: String,
    denies: bool,
    /// Which of [`PODS_ACTIONS`] it speaks of.
    actions: [bool; 2],
    /// All of them must hold.
    conditions: Vec<Condition>,
}

impl TrustPolicy {
    /// Reads a policy document. One that makes no sense is refused for every use.
    pub fn read(policy: &str) -> Self {
        let statements = serde_json::from_str::<Value>(policy)
            .map_err(|error| format!("the trust policy is not JSON ({error})"))
            .map(|document| {
                let statements = one_or_many(document.get("Statement"));
                statements
                    .iter()
                    .zip(1..)
                    .filter_map(|(value, number)| Statement::read(value, number))
                    .collect()
            });
        Self { statements }
    }

    /// Whether the policy lets EKS Pod Identity assume the role for this use.
    ///
    /// # Errors
    /// What is wrong with it, and what would mend it.
    pub fn allows(&self, usage: &Use<'_>) -> Result<(), String> {
        let statements = self.statements.as_ref().map_err(Clone::clone)?;
        let here = if usage.place.is_some() { " here" } else { "" };
        for (index, action) in PODS_ACTIONS.iter().enumerate() {
            let denying = statements
                .iter()
                .find(|statement| statement.denies && statement.speaks(index, usage) == Truth::Holds);
            if let Some(denying) = denying {
                return Err(if denying.conditions.is_empty() {
                    format!("the trust policy denies {action} to {PODS_PRINCIPAL}; take that statement away")
                } else {
                    format!(
                        "the trust policy denies {action} to {PODS_PRINCIPAL}{here}: {} applies where {}; \
                         mend its conditions, or take it away",
                        denying.name,
                        denying.conditions_that(Truth::Holds, usage)
                    )
                });
            }
        }
        let granting = |index: usize| {
            statements.iter().filter(move |statement| !statement.denies && statement.actions[index])
        };
        let missing = actions_where(|index| granting(index).next().is_none());
        if !missing.is_empty() {
            return Err(format!(
                "the trust policy does not allow {missing} to {PODS_PRINCIPAL}; add the statement {MISSING_STATEMENT}"
            ));
        }
        let is_refused = |index| granting(index).all(|statement| statement.holds(usage) == Truth::Fails);
        let refused = actions_where(is_refused);
        if refused.is_empty() {
            return Ok(());
        }
        let failing: Vec<&Statement> = statements
            .iter()
            .filter(|statement| !statement.denies)
            .filter(|statement| {
                (0..PODS_ACTIONS.len()).any(|index| statement.actions[index] && is_refused(index))
            })
            .collect();
        Err(format!(
            "the trust policy does not allow {refused} to {PODS_PRINCIPAL}{here}: {}; {}",
            listed(&failing, "; ", |statement| {
                format!("{} wants {}", statement.name, statement.conditions_that(Truth::Fails, usage))
            }),
            if failing.iter().any(|statement| statement.lacks_session_tags(usage)) {
                "leave session tags on, or take the condition away"
            } else {
                "mend the condition, or take the grant back"
            },
        ))
    }
}

impl Statement {
    /// `None` where it has nothing to say about EKS Pod Identity.
    fn read(value: &Value, number: usize) -> Option<Self> {
        let denies = match value.get("Effect").and_then(Value::as_str) {
            Some("Allow") => false,
            Some("Deny") => true,
            _ => return None,
        };
        let names_pods = match (value.get("Principal"), value.get("NotPrincipal")) {
            (Some(principal), _) => names_pods(principal),
            // Whoever is not named: that denies pods, and is no word for them.
            (None, Some(others)) => denies && passes_pods_over(others),
            (None, None) => false,
        };
        let actions = PODS_ACTIONS.map(|action| match (value.get("Action"), value.get("NotAction")) {
            (None, Some(others)) => !names_action(others, action),
            (Some(actions), _) => names_action(actions, action),
            (None, None) => false,
        });
        if !names_pods || actions == [false, false] {
            return None;
        }
        let sid = value.get("Sid").and_then(Value::as_str).filter(|sid| !sid.is_empty());
        Some(Self {
            name: sid.map_or_else(|| format!("statement {number}"), |sid| format!("statement {sid:?}")),
            denies,
            actions,
            conditions: conditions::read(value.get("Condition")),
        })
    }

    fn holds(&self, usage: &Use<'_>) -> Truth {
        Truth::all(self.conditions.iter().map(|condition| condition.holds(usage)))
    }

    fn speaks(&self, action: usize, usage: &Use<'_>) -> Truth {
        if self.actions[action] { self.holds(usage) } else { Truth::Fails }
    }

    /// Its conditions that hold, or that fail, and what this use has.
    fn conditions_that(&self, truth: Truth, usage: &Use<'_>) -> String {
        let such: Vec<&Condition> =
            self.conditions.iter().filter(|condition| condition.holds(usage) == truth).collect();
        listed(&such, " and ", |condition| condition.explained(usage))
    }

    /// Whether it fails because EKS sends no session tags.
    fn lacks_session_tags(&self, usage: &Use<'_>) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.holds(usage) == Truth::Fails && condition.lacks_session_tags(usage))
    }
}

/// `sts:AssumeRole and sts:TagSession`, or the one for which it is so.
fn actions_where(so: impl Fn(usize) -> bool) -> String {
    let actions: Vec<&str> =
        PODS_ACTIONS.iter().enumerate().filter(|(index, _)| so(*index)).map(|(_, action)| *action).collect();
    actions.join(" and ")
}

/// The first few in words, and how many more there are: a policy may hold one
/// statement for each cluster, and its reader has it at hand.
fn listed<T>(items: &[T], separator: &str, words: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 4;
    let mut text = items.iter().take(SHOWN).map(words).collect::<Vec<_>>().join(separator);
    if items.len() > SHOWN {
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{} more", items.len() - SHOWN);
    }
    text
}

fn one_or_many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    }
}

fn names_pods(principal: &Value) -> bool {
    match principal {
        Value::String(anyone) => anyone == "*",
        Value::Object(kinds) => {
            one_or_many(kinds.get("Service")).iter().any(|service| service.as_str() == Some(PODS_PRINCIPAL))
        }
        _ => false,
    }
}

/// Whether a NotPrincipal leaves pods out for sure. Whether `{"AWS":"*"}` means
/// services too, as `"*"` does, is not verified: then nobody is sure to be denied.
fn passes_pods_over(others: &Value) -> bool {
    let Value::Object(kinds) = others else { return false };
    !names_pods(others) && !one_or_many(kinds.get("AWS")).iter().any(|aws| aws.as_str() == Some("*"))
}

/// IAM's action patterns: `*` and `?`, letters in any case.
pub(crate) fn names_action(patterns: &Value, action: &str) -> bool {
    one_or_many(Some(patterns))
        .iter()
        .filter_map(|pattern| pattern.as_str())
        .any(|pattern| is_like(pattern, action, Case::Ignored))
}

/// Whether letters that differ in case are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Heeded,
    Ignored,
}

/// IAM's patterns: `*` is any text, `?` any one character.
fn is_like(pattern: &str, text: &str, case: Case) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let same = |a: u8, b: u8| if case == Case::Ignored { a.eq_ignore_ascii_case(&b) } else { a == b };
    // The last `*` and where its match began: on a mismatch it takes one more.
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || same(*c, text[t]) => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((star_p, star_t)) => {
                    p = star_p + 1;
                    t = star_t + 1;
                    star = Some((star_p, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests;
