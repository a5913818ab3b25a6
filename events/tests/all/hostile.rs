//! Whatever comes in, the reader answers, and its answer is short.

use podgrant_events::{Incoming, Malformed, read};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{json_files, own_roles};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[%:/0-9a-fA-F]{0,24}".prop_map(Value::from),
        Just(json!("arn:aws:eks:eu-west-1:111122223333:cluster/")),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z]{0,12}|[^a]{0,3}", inner), 0..6)
                .prop_map(|fields| Value::from(Map::from_iter(fields))),
        ]
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Replaces the node of this number, counted depth first.
fn replace(value: &mut Value, number: &mut usize, with: &Value) {
    if *number == 0 {
        *value = with.clone();
        *number = usize::MAX;
        return;
    }
    *number -= 1;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, number, with)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, number, with)),
        _ => {}
    }
}

fn answer_is_short(answer: &Result<Incoming, Malformed>) {
    let length = match answer {
        Ok(Incoming::Wake(wake)) => serde_json::to_string(wake).unwrap().len(),
        Ok(Incoming::Ignored { reason }) => reason.len(),
        Err(error) => error.to_string().len(),
    };
    assert!(length < 5000, "{answer:?}");
}

proptest! {
    #[test]
    fn no_json_makes_the_reader_panic(event in any_json()) {
        answer_is_short(&read(&event, &own_roles()));
    }

    #[test]
    fn no_change_to_a_sample_makes_the_reader_panic(
        sample in any::<prop::sample::Index>(),
        node in any::<prop::sample::Index>(),
        with in any_json(),
    ) {
        let samples = samples();
        let mut event = sample.get(samples).clone();
        let mut number = node.index(count(&event));
        replace(&mut event, &mut number, &with);
        answer_is_short(&read(&event, &own_roles()));
    }
}

fn samples() -> &'static [Value] {
    static SAMPLES: std::sync::OnceLock<Vec<Value>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| json_files("samples").into_values().collect())
}

#[test]
fn every_node_of_every_sample_may_be_anything() {
    let replacements = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(""),
        json!("\u{0}\u{202e}%%%zz%"),
        json!([]),
        json!([[[]]]),
        json!({}),
        json!({"kind": "role", "role": 3}),
    ];
    for event in samples() {
        for number in 0..count(event) {
            for with in &replacements {
                let mut event = event.clone();
                replace(&mut event, &mut { number }, with);
                answer_is_short(&read(&event, &own_roles()));
            }
        }
    }
}

#[test]
fn ten_megabytes_in_any_text_make_a_short_answer() {
    let long = "ü".repeat(5_000_000);
    for place in [
        "/source",
        "/detail-type",
        "/id",
        "/time",
        "/detail/eventName",
        "/detail/eventSource",
        "/detail/errorCode",
        "/detail/recipientAccountId",
        "/detail/userIdentity/arn",
        "/detail/userIdentity/sessionContext/sessionIssuer/arn",
        "/detail/requestParameters/roleName",
    ] {
        let mut event = json_files("samples")["role-tagged"].clone();
        match event.pointer_mut(place) {
            Some(value) => *value = Value::from(long.clone()),
            None => event["detail"]["errorCode"] = Value::from(long.clone()),
        }
        let answer = read(&event, &own_roles());
        answer_is_short(&answer);
        if place.ends_with("roleName") {
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("expected a role's name"), "{error}");
        }
    }
}
