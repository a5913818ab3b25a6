//! Figures that were kept, and how others differ from them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What is told of each line: calls, bytes and, as far as a machine's times can be compared, milliseconds.
const TOLD: [&str; 10] = [
    "next_us.median",
    "cpu_us.median",
    "first_call_us.median",
    "idle_kb",
    "zip_bytes",
    "peak_kb",
    "total",
    "virtual_seconds",
    "longest_invocation",
    "messages",
];

/// What names a line, as far as it has it.
const NAMES: [&str; 5] = ["subject", "memory", "scenario", "clusters", "regions"];

/// Changes below this are noise, and not told.
const NOISE: f64 = 0.02;

/// Figures by line and name.
pub type Figures = BTreeMap<(String, String), f64>;

/// The figures in a file that a bench wrote; none where there is no file.
///
/// # Errors
/// A file that holds something else.
pub fn read(path: &Path) -> Result<Figures> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(Figures::new()) };
    let value = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let mut figures = Figures::new();
    collect(&value, &mut figures);
    Ok(figures)
}

fn collect(value: &Value, figures: &mut Figures) {
    match value {
        Value::Array(lines) => lines.iter().for_each(|line| collect(line, figures)),
        Value::Object(fields) => {
            let names = NAMES.iter().filter_map(|name| match fields.get(*name)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(format!("{number} {name}")),
                _ => None,
            });
            let line = names.collect::<Vec<_>>().join(", ");
            for told in TOLD {
                let found = told.split('.').try_fold(value, |value, field| value.get(field));
                if let Some(figure) = found.and_then(Value::as_f64).filter(|_| !line.is_empty()) {
                    figures.insert((line.clone(), told.to_owned()), figure);
                }
            }
            fields.values().filter(|field| field.is_array()).for_each(|field| collect(field, figures));
        }
        _ => {}
    }
}

/// How figures differ from those kept, as a table.
pub fn changes(now: &Figures, kept: &Figures) -> String {
    if kept.is_empty() {
        return "No figures are kept to compare with: --keep keeps these.\n".to_owned();
    }
    let mut text = format!(
        "{:<56} {:<22} {:>12} {:>12} {:>9}\n",
        "against the kept figures", "", "now", "kept", "change"
    );
    for ((line, name), figure) in now {
        let change = kept.get(&(line.clone(), name.clone())).map(|kept| (kept, figure / kept - 1.0));
        let (kept, told) = match change {
            Some((_, change)) if change.abs() < NOISE || change.is_nan() => continue,
            Some((kept, change)) => (kept.to_string(), format!("{:+.1} %", change * 100.0)),
            None => (String::new(), "new".to_owned()),
        };
        let _ = writeln!(text, "{line:<56} {name:<22} {figure:>12} {kept:>12} {told:>9}");
    }
    for (line, name) in kept.keys().filter(|key| !now.contains_key(*key)) {
        let _ = writeln!(text, "{line:<56} {name:<22} {:>12} {:>12} {:>9}", "", "", "gone");
    }
    let _ = writeln!(text, "(what moved by 2 % or more; times are of the machine that they were kept on)");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn figures(value: &Value) -> Figures {
        let mut figures = Figures::new();
        collect(value, &mut figures);
        figures
    }

    #[test]
    fn what_moved_is_told_and_what_is_new_or_gone() {
        let kept = figures(&json!({ "starts": [
            { "subject": "a", "memory": "128 MB", "next_us": { "median": 100 }, "idle_kb": 10_000 },
            { "subject": "b", "memory": "no quota", "idle_kb": 10 },
        ]}));
        let now = figures(&json!({ "starts": [
            { "subject": "a", "memory": "128 MB", "next_us": { "median": 150 }, "idle_kb": 10_001 },
            { "subject": "c", "memory": "no quota", "idle_kb": 10 },
        ]}));
        let told = changes(&now, &kept);
        let lines: Vec<String> =
            told.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "a, 128 MB next_us.median 150 100 +50.0 %",
            "c, no quota idle_kb 10 new",
            "b, no quota idle_kb gone",
        ];
        assert_eq!(&lines[..3], expected);
        assert!(changes(&now, &Figures::new()).starts_with("No figures are kept"));
    }
}
