//! Taking away all that podgrant made is a person's alone: no event and no direct invoke reaches it.

use podgrant_aws::View;
use podgrant_core::plan::Duty;
use podgrant_events::{Incoming, read};
use podgrant_runtime::Function;
use podgrant_runtime::batch::answer;
use podgrant_runtime::scope::scope;
use serde_json::{Value, json};

use crate::world::{EU, NOW, World, role, sample, sweep};

const FUNCTIONS: [Function; 3] =
    [Function::InstallAgent, Function::ReconcileAssociations, Function::CleanUpOrphans];

#[tokio::test]
async fn no_event_means_it() {
    let w = World::new().await;
    let samples = format!("{}/../events/samples", env!("CARGO_MANIFEST_DIR"));
    let mut tasks = 0;
    for file in std::fs::read_dir(samples).unwrap() {
        let path = file.unwrap().path();
        let Some(text) = std::fs::read_to_string(&path).ok().filter(|_| path.extension().is_some()) else {
            continue;
        };
        let Ok(Incoming::Wake(wake)) = serde_json::from_str(&text).map_or_else(
            |_| Ok(Incoming::Ignored { reason: String::new() }),
            |event: Value| read(&event, &[]),
        ) else {
            continue;
        };
        for function in FUNCTIONS {
            if let Ok(task) = scope(function, &wake, &w.flow(function).config, NOW) {
                assert_ne!(task.duty, Duty::Uninstall, "{}", path.display());
                assert!(!matches!(task.view, View::Uninstall { .. }), "{}", path.display());
                tasks += 1;
            }
        }
    }
    assert!(tasks > 20, "{tasks}");
}

#[tokio::test]
async fn no_invoke_asks_for_it() {
    let w = World::new().await;
    w.given(role("payments-api", "payments/api@prod-eu")).await;
    let standing = w.aws.associations(EU, "prod-eu");
    assert_eq!(standing.len(), 1);
    let with = |mut event: Value, more: Value| {
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let deferred = |follow_up: Value| {
        let mut event = sample("deferred");
        event["detail"]["followUp"] = follow_up;
        event
    };
    for event in [
        with(sweep(), json!({ "duty": "uninstall" })),
        with(sweep(), json!({ "allow": { "uninstall": true } })),
        with(
            sweep(),
            json!({ "allow": { "deletions": 9999, "share": 1.0 }, "view": { "kind": "uninstall" } }),
        ),
        with(sweep(), json!({ "detail-type": "Uninstall" })),
        with(sweep(), json!({ "detail": { "uninstall": true, "duty": "uninstall" } })),
        deferred(json!({ "kind": "uninstall" })),
        deferred(json!({ "kind": "uninstall", "cluster": { "region": EU, "name": "prod-eu" } })),
        json!("uninstall"),
        json!({ "uninstall": true }),
    ] {
        for function in FUNCTIONS {
            let said = format!("{:?}", answer(&w.flow(function), event.clone(), w.deadline()).await);
            // The guard's word, after it was planned: it must not come to that.
            assert!(!said.contains("only a person at the command line"), "{event}: {said}");
            assert_eq!(w.aws.associations(EU, "prod-eu"), standing, "{event}");
        }
    }
}
