//! EventBridge's matching, as far as `patterns/` needs it.
//!
//! As AWS documents it: fields of a pattern are joined by "and", values of one
//! field by "or"; an array in the event matches if any of its elements does;
//! `exists` looks at leaves only. An operator that is not known here is a panic,
//! so that no pattern passes a test without being understood.

use serde_json::Value;

pub fn matches(pattern: &Value, event: &Value) -> bool {
    let fields = pattern.as_object().expect("a pattern is an object");
    fields.iter().all(|(key, wanted)| match (key.as_str(), wanted) {
        ("$or", Value::Array(choices)) => choices.iter().any(|choice| matches(choice, event)),
        (_, Value::Array(wanted)) => leaf_matches(wanted, event.get(key)),
        (_, Value::Object(_)) => match event.get(key) {
            Some(Value::Array(items)) if !items.is_empty() => items.iter().any(|item| matches(wanted, item)),
            Some(inner) => matches(wanted, inner),
            None => matches(wanted, &Value::Null),
        },
        _ => panic!("{key}: a pattern holds objects and lists"),
    })
}

fn leaf_matches(wanted: &[Value], found: Option<&Value>) -> bool {
    let mut leaves = Vec::new();
    collect_leaves(found, &mut leaves);
    let any_text = |test: &dyn Fn(&str) -> bool| leaves.iter().any(|leaf| leaf.as_str().is_some_and(test));
    wanted.iter().any(|wanted| match wanted {
        Value::Object(operator) => {
            let (name, argument) = operator.iter().next().expect("an operator");
            assert_eq!(operator.len(), 1, "one operator at a time: {wanted}");
            match name.as_str() {
                "exists" => argument.as_bool() == Some(!leaves.is_empty()),
                "prefix" => any_text(&|text| text.starts_with(argument.as_str().unwrap())),
                "wildcard" => any_text(&|text| wildcard(argument.as_str().unwrap(), text)),
                other => panic!("operator {other} is not known to this matcher"),
            }
        }
        scalar => leaves.contains(&scalar),
    })
}

fn collect_leaves<'a>(found: Option<&'a Value>, leaves: &mut Vec<&'a Value>) {
    match found {
        None | Some(Value::Object(_)) => {}
        Some(Value::Array(items)) => {
            items.iter().for_each(|item| collect_leaves(Some(item), leaves));
        }
        Some(leaf) => leaves.push(leaf),
    }
}

/// `*` stands for any text. EventBridge's escape `\*` is not used here.
fn wildcard(pattern: &str, text: &str) -> bool {
    assert!(!pattern.contains('\\') && !pattern.contains("**"), "{pattern}");
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        let Some((_, after)) = rest.split_once(piece) else { return false };
        rest = after;
    }
    rest.ends_with(last)
}

/// What AWS would refuse when the rule is made.
pub fn check(pattern: &Value) {
    let fields = pattern.as_object().expect("a pattern is an object");
    const ENVELOPE: [&str; 9] =
        ["version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"];
    for (key, value) in fields {
        assert!(key == "$or" || ENVELOPE.contains(&key.as_str()), "{key} is not in the envelope");
        check_value(key, value);
    }
}

fn check_value(key: &str, value: &Value) {
    match (key, value) {
        ("$or", Value::Array(choices)) => {
            assert!(choices.len() >= 2, "$or needs two choices");
            choices.iter().for_each(|choice| check_value("a choice", choice));
        }
        (_, Value::Array(wanted)) => {
            assert!(!wanted.is_empty(), "{key}: empty");
            assert!(!wanted.iter().any(Value::is_array), "{key}: a list in a list");
        }
        (_, Value::Object(fields)) => {
            assert!(!fields.is_empty(), "{key}: empty");
            fields.iter().for_each(|(key, value)| check_value(key, value));
        }
        _ => panic!("{key}: AWS wants a list here"),
    }
}

#[test]
fn it_matches_as_eventbridge_does() {
    use serde_json::json;
    let event = json!({
        "source": "aws.iam",
        "none": null,
        "empty": [],
        "detail": {"name": "TagRole", "tags": [{"key": "a", "value": "1"}, {"key": "p/b", "value": "2"}],
            "keys": ["x", "p/y"], "object": {"inner": 1}}
    });
    let cases = [
        (json!({"source": ["aws.eks", "aws.iam"]}), true),
        (json!({"source": ["aws.eks"]}), false),
        (json!({"source": [{"prefix": "aws."}]}), true),
        (json!({"detail": {"tags": {"key": [{"prefix": "p/"}]}}}), true),
        (json!({"detail": {"tags": {"value": [{"prefix": "p/"}]}}}), false),
        // Both fields must match in the same element.
        (json!({"detail": {"tags": {"key": ["a"], "value": ["2"]}}}), false),
        (json!({"detail": {"keys": [{"prefix": "p/"}]}}), true),
        (json!({"detail": {"keys": ["z"]}}), false),
        (json!({"detail": {"gone": [{"exists": false}]}}), true),
        (json!({"gone": {"deeper": [{"exists": false}]}}), true),
        (json!({"gone": {"deeper": ["x"]}}), false),
        (json!({"detail": {"name": [{"exists": false}]}}), false),
        (json!({"detail": {"name": [{"exists": true}]}}), true),
        (json!({"none": [{"exists": true}]}), true),
        (json!({"none": [null]}), true),
        (json!({"empty": [{"exists": false}]}), true),
        // An object is no leaf.
        (json!({"detail": {"object": [{"exists": false}]}}), true),
        (json!({"detail": {"name": [{"wildcard": "*gR*"}]}}), true),
        (json!({"detail": {"name": [{"wildcard": "Tag*e"}]}}), true),
        (json!({"detail": {"name": [{"wildcard": "Tag*x"}]}}), false),
        (json!({"detail": {"name": [{"wildcard": "TagRole"}]}}), true),
        (json!({"detail": {"name": [{"wildcard": "Tag"}]}}), false),
        (json!({"detail": {"name": [{"wildcard": "*TagRole*"}]}}), true),
        (json!({"$or": [{"source": ["x"]}, {"detail": {"name": ["TagRole"]}}]}), true),
        (json!({"source": ["x"], "$or": [{"source": ["x"]}, {"source": ["aws.iam"]}]}), false),
    ];
    for (pattern, expected) in cases {
        assert_eq!(matches(&pattern, &event), expected, "{pattern}");
    }
}

#[test]
#[should_panic(expected = "AWS wants a list here")]
fn a_bare_value_is_no_pattern() {
    check(&serde_json::json!({"source": "aws.iam"}));
}

#[test]
#[should_panic(expected = "operator numeric is not known")]
fn an_operator_that_is_not_understood_is_not_passed_over() {
    matches(&serde_json::json!({"a": [{"numeric": ["=", 1]}]}), &serde_json::json!({"a": 1}));
}
