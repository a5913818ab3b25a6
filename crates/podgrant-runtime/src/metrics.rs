//! Metrics, as CloudWatch reads them out of the log.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;

use podgrant_core::outcome::FollowUp;
use podgrant_core::{FindingKind, Verdict};
use podgrant_events::Trigger;
use serde_json::{Map, Value, json};

use crate::report::{Ending, Report};

/// The namespace of all of them; their one dimension is `function`.
pub const NAMESPACE: &str = "podgrant";

/// Every metric: name, unit, and meaning. The table in docs/operate.md is made from it.
///
/// One that is 0 is not sent: CloudWatch asks money for each metric in each hour that has any.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("Changes", "Count", "Changes that were made."),
    ("Refusals", "Count", "Grants that were asked for, and that podgrant or AWS refuses."),
    (
        "Failures",
        "Count",
        "Messages that failed, or that made no sense: delivered again, and at last dead letters.",
    ),
    (
        "Withheld",
        "Count",
        "Changes that were held back: by a limit on loss, a partial view, or because the thing is not podgrant's.",
    ),
    ("NotYet", "Count", "Messages whose work comes back after a while."),
    ("Throttled", "Count", "Messages that AWS had too many calls for."),
    ("OrphanedRoles", "Count", "Roles all of whose clusters are gone, as a sweep found them."),
    (
        "SweepsCompleted",
        "Count",
        "Sweeps that came to their end; one whose parts are other messages, when they are sent.",
    ),
    ("Duration", "Milliseconds", "How long a message took."),
];

/// What one message came to, in numbers.
fn measure(report: &Report, name: &str) -> i64 {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let one = |so: bool| i64::from(so);
    let findings = |so: fn(FindingKind) -> bool| count(report.findings.iter().filter(|f| so(f.kind)).count());
    let is_sweep =
        matches!(report.trigger, Some(Trigger::Sweep | Trigger::FollowUp(FollowUp::Orphans { .. })));
    match name {
        "Changes" => {
            count(report.changes.iter().filter(|change| change.verdict == Some(Verdict::Done)).count())
        }
        "Refusals" => findings(FindingKind::is_refusal),
        "Failures" => one(report.is_failure()),
        "Withheld" => findings(|kind| kind == FindingKind::Withheld),
        "NotYet" => one(report.ending == Ending::NotYet),
        "Throttled" => one(report.throttled),
        "OrphanedRoles" => count(report.orphans.len()),
        "SweepsCompleted" => one(is_sweep && report.ending == Ending::Done),
        _ => report.duration_ms,
    }
}

/// The line that CloudWatch takes metrics from (Amazon CloudWatch user guide, "Embedded metric format").
///
/// `now` in milliseconds since 1970.
pub fn embedded(report: &Report, now: i64) -> Value {
    let measured = METRICS.iter().map(|(name, unit, _)| (*name, *unit, measure(report, name)));
    let measured: Vec<_> = measured.filter(|(.., value)| *value != 0).collect();
    let declared: Vec<Value> =
        measured.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": declared}],
        }),
    );
    line.insert("function".to_owned(), report.function.into());
    line.extend(measured.into_iter().map(|(name, _, value)| (name.to_owned(), value.into())));
    line.into()
}

/// Where metrics go: a line each.
#[derive(Clone)]
pub struct Metrics(Arc<dyn Fn(&str) + Send + Sync>);

impl Metrics {
    /// Into the log, which on Lambda is standard output.
    pub fn into_the_log() -> Self {
        // Where the log can't be written to, nobody can be told.
        Self::from_fn(|line| drop(writeln!(std::io::stdout().lock(), "{line}")))
    }

    pub fn nowhere() -> Self {
        Self::from_fn(|_| {})
    }

    pub fn from_fn(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    pub(crate) fn tell(&self, report: &Report, now: i64) {
        (self.0)(&embedded(report, now).to_string());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use podgrant_core::Finding;
    use podgrant_core::plan::{OrphanStanding, Standing};

    use super::*;
    use crate::report::ChangeReport;

    #[test]
    fn the_operators_page_documents_every_metric() {
        let page = include_str!("../../../docs/operate.md");
        let known = METRICS.iter().map(|(name, unit, meaning)| format!("| `{name}` | {unit} | {meaning} |"));
        let known: Vec<String> = known.collect();
        let first = page.lines().position(|line| Some(line) == known.first().map(String::as_str)).unwrap();
        let documented: Vec<&str> =
            page.lines().skip(first).take_while(|line| line.starts_with("| `")).collect();
        assert_eq!(documented, known);
    }

    fn quiet() -> Report {
        Report {
            trigger: Some(Trigger::Sweep),
            duration_ms: 12,
            ..Report::of_nothing("clean-up-orphans", "event-1", Ending::Done, String::new())
        }
    }

    fn numbers(report: &Report) -> String {
        let line = embedded(report, 1_772_446_530_000);
        let declared = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().unwrap();
        let declared = declared.iter().map(|metric| metric["Name"].as_str().unwrap());
        declared.map(|name| format!("{name}={}", line[name])).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_line_is_as_cloudwatch_reads_it() {
        insta::assert_snapshot!(embedded(&quiet(), 1_772_446_530_000), @r#"{"Duration":12,"SweepsCompleted":1,"_aws":{"CloudWatchMetrics":[{"Dimensions":[["function"]],"Metrics":[{"Name":"SweepsCompleted","Unit":"Count"},{"Name":"Duration","Unit":"Milliseconds"}],"Namespace":"podgrant"}],"Timestamp":1772446530000},"function":"clean-up-orphans"}"#);
    }

    #[test]
    fn each_metric_counts_what_it_says() {
        let finding = |kind| Finding {
            kind,
            role: None,
            cluster: None,
            workload: None,
            grant: None,
            reason: String::new(),
        };
        let change = |verdict| ChangeReport { change: String::new(), verdict };
        let standing = OrphanStanding {
            role_arn: "arn:aws:iam::111122223333:role/x".parse().unwrap(),
            standing: Standing::Waits,
            since: None,
            until: None,
            text: String::new(),
        };
        let refused = || Some(Verdict::Refused { reason: String::new() });
        let full = Report {
            throttled: true,
            changes: vec![
                change(Some(Verdict::Done)),
                change(Some(Verdict::Done)),
                change(refused()),
                change(None),
            ],
            findings: vec![
                finding(FindingKind::Conflict),
                finding(FindingKind::Withheld),
                finding(FindingKind::Withheld),
                finding(FindingKind::OrphanKept),
            ],
            orphans: vec![standing],
            ..quiet()
        };
        let all = "Changes=2 Refusals=1 Withheld=2 Throttled=1 OrphanedRoles=1 SweepsCompleted=1 Duration=12";
        assert_eq!(numbers(&full), all);
        for (ending, expected) in [
            (Ending::Done, "SweepsCompleted=1 Duration=12"),
            (Ending::Dropped, "Duration=12"),
            (Ending::NotYet, "NotYet=1 Duration=12"),
            (Ending::Failed, "Failures=1 Duration=12"),
            (Ending::Malformed, "Failures=1 Duration=12"),
        ] {
            assert_eq!(numbers(&Report { ending, ..quiet() }), expected);
        }
        let role = Trigger::FollowUp(FollowUp::RoleGone { name: "x".to_owned() });
        assert_eq!(numbers(&Report { trigger: Some(role), ..quiet() }), "Duration=12");
    }
}
