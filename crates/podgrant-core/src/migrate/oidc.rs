//! Statements of a trust policy that let service accounts assume the role by a cluster's OIDC provider.

use serde_json::Value;

use crate::names::Workload;

/// One that lets a service account in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcStatement {
    /// Counted from 1.
    pub number: usize,
    /// Its Sid, or its number.
    pub name: String,
    pub reach: Reach,
}

/// Whom else it lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nobody.
    Alone,
    /// Others, or nobody can tell from its text.
    Wider,
}

/// The statements that may let a service account of the cluster with this issuer in (EKS user guide, "Assign IAM roles to
/// Kubernetes service accounts"). Without an issuer those of any cluster, and none of them is for this one alone: it may
/// be another cluster's.
pub fn oidc_statements(policy: &str, issuer: Option<&str>, workload: &Workload) -> Vec<OidcStatement> {
    let Ok(document) = serde_json::from_str::<Value>(policy) else { return Vec::new() };
    let provider = issuer.map(|issuer| issuer.trim_start_matches("https://"));
    let statements = many(document.get("Statement"));
    let found = statements.iter().zip(1..).filter_map(|(statement, number)| {
        let reach = reach(statement, provider, workload)?;
        let sid = statement.get("Sid").and_then(Value::as_str).filter(|sid| !sid.is_empty());
        let name = sid.map_or_else(|| format!("statement {number}"), str::to_owned);
        Some(OidcStatement { number, name, reach })
    });
    found.collect()
}

fn reach(statement: &Value, provider: Option<&str>, workload: &Workload) -> Option<Reach> {
    if statement.get("Effect").and_then(Value::as_str) != Some("Allow") {
        return None;
    }
    let principal = statement.get("Principal")?;
    let federated = many(principal.get("Federated"));
    let is_meant = |principal: &Value| {
        principal
            .as_str()
            .and_then(|arn| arn.split_once(":oidc-provider/"))
            .is_some_and(|(_, named)| provider.is_none_or(|provider| provider == named))
    };
    if !federated.iter().any(is_meant) {
        return None;
    }
    let wanted = format!("system:serviceaccount:{}:{}", workload.namespace, workload.service_account);
    let conditions = statement.get("Condition").and_then(Value::as_object);
    let subjects: Vec<(&str, Vec<&str>)> = conditions
        .into_iter()
        .flatten()
        .flat_map(|(operator, keys)| {
            keys.as_object().into_iter().flatten().map(move |(key, value)| (operator, key, value))
        })
        .filter(|(_, key, _)| match (provider, key.strip_suffix(":sub")) {
            (Some(provider), Some(named)) => named.eq_ignore_ascii_case(provider),
            (None, named) => named.is_some(),
            (Some(_), None) => false,
        })
        .map(|(operator, _, value)| {
            let values = match value {
                Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
                value => value.as_str().into_iter().collect(),
            };
            (operator.as_str(), values)
        })
        .collect();
    let [(operator, values)] = subjects.as_slice() else {
        // Without a condition on it every service account of the cluster is let in.
        return Some(Reach::Wider);
    };
    let is_exact = *operator == "StringEquals";
    let is_like = *operator == "StringLike";
    if !values.iter().any(|value| if is_exact { *value == wanted } else { !is_like || like(value, &wanted) })
    {
        return None;
    }
    let is_plain = is_exact || (is_like && *values == [wanted.as_str()]);
    // The same service account of another cluster is another.
    let lets_in_one = federated.len() == 1 && principal.as_object().is_some_and(|kinds| kinds.len() == 1);
    let is_alone = provider.is_some() && is_plain && *values == [wanted.as_str()] && lets_in_one;
    Some(if is_alone { Reach::Alone } else { Reach::Wider })
}

/// One or many, as JSON policies have it.
fn many(value: Option<&Value>) -> Vec<Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) => values.clone(),
        Some(value) => vec![value.clone()],
    }
}

/// `*` for any text, `?` for any character (IAM user guide, "String condition operators").
fn like(pattern: &str, text: &str) -> bool {
    let mut reached = vec![true];
    let text: Vec<char> = text.chars().collect();
    reached.resize(text.len() + 1, false);
    for sign in pattern.chars() {
        let before = reached.clone();
        let mut seen = false;
        for (place, now) in reached.iter_mut().enumerate() {
            seen |= before.get(place).copied().unwrap_or_default();
            let last = place.checked_sub(1);
            let stepped = last.and_then(|last| before.get(last)).copied().unwrap_or_default();
            let letter = last.and_then(|last| text.get(last));
            *now = match sign {
                '*' => seen,
                '?' => stepped,
                sign => stepped && letter == Some(&sign),
            };
        }
    }
    reached.last().copied().unwrap_or_default()
}
