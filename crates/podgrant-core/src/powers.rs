//! What a role's own policies let it do, as far as a guardrail asks: everything, or not.
//!
//! Only what surely is not everything counts as limited. What a Deny statement, a
//! permissions boundary or an organization takes away again is not reckoned: it may
//! be gone tomorrow, and the policy then gives what it says. Nor is what a role
//! could come to by changing IAM: that has no end, and Access Analyzer looks for it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::trust::names_action;

/// What a role's policies allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Powers {
    /// Not looked at, or not all of it: nothing follows, but that it is to be read.
    #[default]
    Unread,
    /// No policy allows everything.
    Limited,
    /// A policy allows everything, or all but what it names.
    Everything { policy: String },
    /// No policy surely allows everything, and one makes no sense: unlike what is
    /// unread, it makes no more sense tomorrow.
    Unclear { policy: String, problem: String },
}

/// AWS's own policies that allow everything: all such of the 1,523 that were read of those published in
/// March 2026 (their documents, as collected by github.com/zoph-io/MAMIP).
const EVERYTHING: [&str; 3] = [
    // `*` on `*`.
    "AdministratorAccess",
    // `*` on `*`, for requests through an MCP server.
    "AWSMcpServiceActionsFullAccess",
    // All but iam, organizations and account: by NotAction, see `is_unbounded`.
    "PowerUserAccess",
];

impl Powers {
    /// Judges a role by the ARNs of its attached policies, and by documents (name and
    /// JSON, percent-decoded): its inline policies', and the default versions of its
    /// managed policies', these named by their ARNs. An attached policy that is
    /// not AWS's own and comes without its document leaves the powers unread.
    pub fn of<'a>(
        attached: impl IntoIterator<Item = &'a str>,
        documents: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let documents: Vec<(&str, &str)> = documents.into_iter().collect();
        let mut unread = false;
        for policy in attached {
            match aws_managed(policy) {
                Some(name) if EVERYTHING.contains(&name) => {
                    return Self::Everything { policy: name.to_owned() };
                }
                Some(_) => {}
                None => unread |= !documents.iter().any(|(name, _)| *name == policy),
            }
        }
        let mut unclear = None;
        for (policy, document) in documents {
            // A policy's name holds no slash: for people, the end of an ARN will do.
            let name = || policy.rsplit('/').next().unwrap_or(policy).to_owned();
            match allows_everything(document) {
                Ok(true) => return Self::Everything { policy: name() },
                Ok(false) => {}
                Err(problem) => unclear = unclear.or(Some(Self::Unclear { policy: name(), problem })),
            }
        }
        unclear.unwrap_or(if unread { Self::Unread } else { Self::Limited })
    }
}

/// The name of a policy that is AWS's own, by its ARN in any partition:
/// `arn:aws:iam::aws:policy/AdministratorAccess` (IAM user guide, "IAM ARNs").
pub fn aws_managed(arn: &str) -> Option<&str> {
    let rest = arn.strip_prefix("arn:aws")?;
    let (_, name) = rest.split_once(":iam::aws:policy/")?;
    Some(name)
}

/// Whether a statement of a policy document allows an action on anything, under whatever condition. What a Deny takes
/// away again is not reckoned.
pub fn may_allow(document: &str, action: &str) -> bool {
    let document: Value = serde_json::from_str(document).unwrap_or_default();
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement) => vec![statement],
        None => Vec::new(),
    };
    statements.into_iter().any(|statement| {
        statement.get("Effect").and_then(Value::as_str) == Some("Allow")
            && match (statement.get("Action"), statement.get("NotAction")) {
                (Some(actions), _) => names_action(actions, action),
                (None, Some(others)) => !names_action(others, action),
                (None, None) => false,
            }
    })
}

/// Whether a policy document allows everything.
fn allows_everything(document: &str) -> Result<bool, String> {
    let document: Value =
        serde_json::from_str(document).map_err(|error| format!("it is not JSON: {error}"))?;
    let statements = match document.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement @ Value::Object(_)) => vec![statement],
        _ => return Err("it has no Statement".to_owned()),
    };
    let judged: Vec<_> = statements.into_iter().map(gives_everything).collect();
    if judged.contains(&Ok(true)) {
        return Ok(true);
    }
    judged.into_iter().find(Result::is_err).unwrap_or(Ok(false))
}

/// Whether a statement allows everything. A Condition makes no difference: most of
/// them are met by whoever has the role, and what is left is still an administrator.
fn gives_everything(statement: &Value) -> Result<bool, String> {
    match statement.get("Effect").and_then(Value::as_str) {
        Some("Allow") => {}
        Some("Deny") => return Ok(false),
        // The value's case counts (IAM user guide, "IAM JSON policy elements: Effect").
        _ => return Err("a statement lacks the Effect Allow or Deny".to_owned()),
    }
    let actions = is_unbounded(statement, "Action", "NotAction", is_every_action)?;
    let resources = is_unbounded(statement, "Resource", "NotResource", is_every_resource)?;
    Ok(actions && resources)
}

/// Whether an element or its opposite leaves nothing out but what it names.
///
/// An Allow with NotAction allows all there is and will be in every other service (IAM
/// user guide, "IAM JSON policy elements: NotAction", which warns of that). How much it
/// leaves out can't be told from a list, so however long, it is no limit; unless
/// it names everything. So NotResource.
fn is_unbounded(
    statement: &Value,
    element: &str,
    opposite: &str,
    is_all: fn(&str) -> bool,
) -> Result<bool, String> {
    let names_all = |name: &str, value: &Value| match value {
        Value::String(pattern) => Ok(is_all(pattern)),
        Value::Array(patterns) => patterns.iter().try_fold(false, |all, pattern| {
            let pattern = pattern.as_str().ok_or_else(|| format!("{name} holds what is no text"))?;
            Ok(all || is_all(pattern))
        }),
        _ => Err(format!("{name} is neither text nor list")),
    };
    match (statement.get(element), statement.get(opposite)) {
        (Some(named), None) => names_all(element, named),
        (None, Some(named)) => Ok(!names_all(opposite, named)?),
        (None, None) => Err(format!("a statement has neither {element} nor {opposite}")),
        (Some(_), Some(_)) => Err(format!("a statement has both {element} and {opposite}")),
    }
}

/// `*`, `*:*`, and what amounts to the same: nothing but wildcards on either side.
/// A `?` may leave out short names: no honest policy holds it.
fn is_every_action(pattern: &str) -> bool {
    pattern.contains('*') && pattern.chars().all(|c| "*?:".contains(c))
}

/// `*`, `arn:*`, and what amounts to the same: a pattern that confines neither service,
/// region nor resource. A partition or account is no limit, for a role has but its own.
/// That some actions want the resource `*` itself, which an `arn:*` does not match, leaves an
/// administrator what makes one.
fn is_every_resource(pattern: &str) -> bool {
    let letters = |part: &str| part.chars().filter(|c| !"*?".contains(*c)).collect::<String>();
    let mut parts = pattern.split(':');
    let arn = parts.next().map(letters).unwrap_or_default();
    let partition = parts.next().map(letters).unwrap_or_default();
    pattern.ends_with('*')
        && "arn".contains(&arn)
        && ("aws".contains(&partition) || partition.starts_with("aws"))
        && parts.all(|part| letters(part).chars().all(|c| c == '/' || c.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
