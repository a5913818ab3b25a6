//! Whether configuration values fit an add-on's schema, and EKS's words where they don't.

use std::fmt::Write as _;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use serde_json::Value;

/// What is wrong with configuration values, if anything is. YAML is allowed too, and not checked here; nor is anything
/// checked against a text that is no schema.
pub(super) fn problem(schema: &str, values: &str) -> Option<String> {
    let values: Value = match serde_json::from_str(values) {
        Ok(values) => values,
        Err(_) if values.starts_with('{') => {
            return Some("ConfigurationValue is not in valid JSON or YAML format".to_owned());
        }
        Err(_) => return None,
    };
    let schema: Value = serde_json::from_str(schema).ok()?;
    let validator = jsonschema::validator_for(&schema).ok()?;
    let errors: Vec<String> = validator.iter_errors(&values).map(|error| told(&error)).collect();
    (!errors.is_empty()).then(|| {
        let errors = errors.join(", ");
        format!(
            "ConfigurationValue provided in request is not supported: \
             Json schema validation failed with error: [{errors}]"
        )
    })
}

/// An error in the words of EKS's validator: of the commonest kinds, of which reports are public. Others get our own.
fn told(error: &ValidationError) -> String {
    let path = path(error.instance_path());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let one = |name: &String| {
                format!(
                    "{path}.{name}: is not defined in the schema and the schema does not allow additional properties"
                )
            };
            unexpected.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        ValidationErrorKind::Type { kind: TypeKind::Single(expected) } => {
            format!("{path}: {} found, {expected} expected", type_of(error.instance()))
        }
        _ => format!("{path}: {error}"),
    }
}

fn path(location: &Location) -> String {
    location.iter().fold("$".to_owned(), |mut path, segment| {
        // Writing to a String does not fail.
        let _ = match segment {
            LocationSegment::Property(name) => write!(path, ".{name}"),
            LocationSegment::Index(index) => write!(path, "[{index}]"),
        };
        path
    })
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
