//! The second hand of a grant: does the role's own trust policy let EKS Pod
//! Identity assume it?
//!
//! A policy is judged by meaning, not by text: statements in any order, strings
//! or lists, any case of actions. Conditions are left to EKS, which checks the
//! policy again when an association is made.

use serde_json::Value;

/// The service principal of EKS Pod Identity (EKS user guide, "Pod Identity role").
pub const PODS_PRINCIPAL: &str = "pods.eks.amazonaws.com";

/// The actions that the principal needs, both of them.
pub const PODS_ACTIONS: [&str; 2] = ["sts:AssumeRole", "sts:TagSession"];

/// The statement that makes a trust policy right.
pub const MISSING_STATEMENT: &str = r#"{"Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}"#;

/// Whether the policy lets EKS Pod Identity assume the role with session tags.
///
/// # Errors
/// What is wrong with it, and the statement that would mend it.
pub fn allows_pods(policy: &str) -> Result<(), String> {
    let document: Value =
        serde_json::from_str(policy).map_err(|error| format!("the trust policy is not JSON ({error})"))?;
    let statements = one_or_many(document.get("Statement"));
    let effective = |effect: &str, action: &str| {
        statements.iter().any(|statement| {
            statement.get("Effect").and_then(Value::as_str) == Some(effect)
                && names_pods(statement.get("Principal"))
                && one_or_many(statement.get("Action"))
                    .iter()
                    .filter_map(|pattern| pattern.as_str())
                    .any(|pattern| action_matches(pattern, action))
                // A conditional Deny may never come true; EKS has the last word.
                && (effect == "Allow" || statement.get("Condition").is_none())
        })
    };
    for action in PODS_ACTIONS {
        if effective("Deny", action) {
            return Err(format!(
                "the trust policy denies {action} to {PODS_PRINCIPAL}; take that statement away"
            ));
        }
    }
    let missing: Vec<&str> = PODS_ACTIONS.into_iter().filter(|action| !effective("Allow", action)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the trust policy does not allow {} to {PODS_PRINCIPAL}; add the statement {MISSING_STATEMENT}",
        missing.join(" and ")
    ))
}

fn one_or_many(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().collect(),
        Some(value) => vec![value],
    }
}

fn names_pods(principal: Option<&Value>) -> bool {
    match principal {
        Some(Value::String(anyone)) => anyone == "*",
        Some(Value::Object(kinds)) => {
            one_or_many(kinds.get("Service")).iter().any(|service| service.as_str() == Some(PODS_PRINCIPAL))
        }
        _ => false,
    }
}

/// IAM's action patterns: `*` and `?`, letters in any case.
fn action_matches(pattern: &str, action: &str) -> bool {
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        // The last `*` and where its match began: on a mismatch it takes one more.
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, t));
                    p += 1;
                }
                Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&text[t]) => {
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
    matches(pattern.as_bytes(), action.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_judged_by_meaning() {
        let plain = format!(r#"{{"Statement":[{MISSING_STATEMENT}]}}"#);
        let cases: &[(&str, &str, Option<&str>)] = &[
            ("the user guide's own", &plain, None),
            (
                "two statements, strings, another order",
                r#"{"Statement":[
                    {"Action":"sts:tagsession","Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","pods.eks.amazonaws.com"]}},
                    {"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}]}"#,
                None,
            ),
            (
                "one statement, not in a list, with wildcards",
                r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}}"#,
                None,
            ),
            (
                "anyone",
                r#"{"Statement":{"Action":["sts:A*e","sts:Tag?ession"],"Effect":"Allow","Principal":"*"}}"#,
                None,
            ),
            (
                "no TagSession",
                r#"{"Statement":{"Action":"sts:AssumeRole","Effect":"Allow","Principal":{"Service":"pods.eks.amazonaws.com"}}}"#,
                Some("does not allow sts:TagSession to pods.eks.amazonaws.com; add the statement"),
            ),
            (
                "another service",
                r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"}}}"#,
                Some("does not allow sts:AssumeRole and sts:TagSession"),
            ),
            (
                "a user, not a service",
                r#"{"Statement":{"Action":"sts:*","Effect":"Allow","Principal":{"AWS":"*"}}}"#,
                Some("does not allow"),
            ),
            (
                "denied again",
                &format!(
                    r#"{{"Statement":[{MISSING_STATEMENT},{{"Effect":"Deny","Principal":"*","Action":"sts:TagSession"}}]}}"#
                ),
                Some("denies sts:TagSession"),
            ),
            (
                "denied under a condition",
                &format!(
                    r#"{{"Statement":[{MISSING_STATEMENT},{{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{{"Bool":{{"aws:SecureTransport":"false"}}}}}}]}}"#
                ),
                None,
            ),
            ("empty", "{}", Some("does not allow")),
            ("not JSON", "nonsense", Some("is not JSON")),
            ("statements of the wrong kind", r#"{"Statement":[1,"x",null,[]]}"#, Some("does not allow")),
        ];
        for (name, policy, expected) in cases {
            match (allows_pods(policy), expected) {
                (Ok(()), None) => {}
                (Err(problem), Some(part)) => assert!(problem.contains(part), "{name}: {problem}"),
                (verdict, _) => panic!("{name}: {verdict:?}"),
            }
        }
    }

    #[test]
    fn the_statement_we_ask_for_satisfies_us() {
        allows_pods(&format!(r#"{{"Statement":{MISSING_STATEMENT}}}"#)).unwrap();
    }
}
