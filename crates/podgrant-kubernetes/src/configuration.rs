//! Configuration values of an add-on against the schema that EKS publishes for them.

use jsonschema::{ValidationOptions, Validator};
use serde_json::Value;

/// At most so many: one wrong bracket can break every rule of a schema.
const MOST: usize = 5;

/// What about `values` (JSON) does not fit `schema` (the JSON schema that EKS's
/// DescribeAddonConfiguration tells), in words that name the place. Empty where all fits, and
/// where the schema itself can't be read: EKS checks once more.
pub fn misfits(schema: &str, values: &str) -> Vec<String> {
    let values: Value = match serde_json::from_str(values) {
        Ok(values) => values,
        Err(error) => return vec![format!("not JSON: {error}")],
    };
    let Some(validator) = compiled(schema) else { return Vec::new() };
    let mut misfits: Vec<String> = validator
        .iter_errors(&values)
        .map(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "/".to_owned() } else { place };
            format!("{place}: {error}")
        })
        .collect();
    misfits.sort();
    let more = misfits.len().saturating_sub(MOST);
    misfits.truncate(MOST);
    if more > 0 {
        misfits.push(format!("and {more} more"));
    }
    misfits
}

fn compiled(schema: &str) -> Option<Validator> {
    let schema = serde_json::from_str(schema).ok()?;
    ValidationOptions::default().build(&schema).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &str = r##"{
        "$schema": "http://json-schema.org/draft-06/schema#",
        "$ref": "#/definitions/Agent",
        "definitions": {"Agent": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "tolerations": {"type": "array", "items": {"type": "object"}},
                "priorityClassName": {"type": "string"}
            }
        }}
    }"##;

    #[test]
    fn values_are_judged_by_the_schema() {
        let cases: &[(&str, &str)] = &[
            ("{}", ""),
            (r#"{"tolerations":[{"operator":"Exists"}]}"#, ""),
            (r#"{"tolerations":"all"}"#, r#"/tolerations: "all" is not of type "array""#),
            (
                r#"{"toleration":[]}"#,
                "/: Additional properties are not allowed ('toleration' was unexpected)",
            ),
            (
                r#"{"priorityClassName":1,"tolerations":[1]}"#,
                r#"/priorityClassName: 1 is not of type "string"; /tolerations/0: 1 is not of type "object""#,
            ),
            ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ];
        for (values, expected) in cases {
            assert_eq!(misfits(SCHEMA, values).join("; "), *expected, "{values}");
        }
    }

    #[test]
    fn a_schema_that_makes_no_sense_stops_nobody() {
        for schema in ["", "null", r#"{"type": 17}"#, r##"{"$ref": "https://schema.example/x"}"##] {
            assert_eq!(misfits(schema, r#"{"a":1}"#), Vec::<String>::new(), "{schema}");
        }
    }

    #[test]
    fn many_misfits_are_counted() {
        let values = r#"{"tolerations":[1,2,3,4,5,6,7]}"#;
        assert_eq!(misfits(SCHEMA, values).last().map(String::as_str), Some("and 2 more"));
    }
}
