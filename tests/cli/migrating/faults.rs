//! A failure at every call: pods have a way to credentials, and run again it comes to the same end, or back.

use std::collections::BTreeMap;

use podgrant_tests::fake::Fault;
use podgrant_tests::fake_kubernetes::Trouble;

use super::moving::{Moving, without_trust};

/// As many of the SDK's attempts as there are.
const ATTEMPTS: usize = 3;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Refused,
    Fails,
    Lost,
}

/// A call: the service (`kubernetes` for the cluster's), the operation, and which of its kind, from 1.
type Call = (String, String, usize);

/// Where it goes wrong.
const STAGES: [&str; 3] = ["--apply --yes", "--finish --yes", "--undo --yes"];

/// A cluster whose migration is that far.
async fn ready(stage: usize) -> Moving {
    let moving = Moving::new().await;
    for before in &STAGES[..stage] {
        moving.migrates(before).await;
    }
    moving.person.aws.clear_calls();
    moving
}

/// The calls of a stage that goes well, but those that every command begins with.
async fn calls(stage: usize) -> Vec<Call> {
    let moving = ready(stage).await;
    moving.migrates(STAGES[stage]).await;
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for call in moving.person.aws.calls().iter() {
        let count = counts.entry((call.service.clone(), call.operation.clone())).or_default();
        *count += 1;
        calls.push((call.service.clone(), call.operation.clone(), *count));
    }
    calls.retain(|(_, operation, _)| operation != "ListClusters");
    // Of what is only read the first, the last, and one in between: there are hundreds.
    calls.retain(|(service, operation, number)| {
        let all = counts.get(&(service.clone(), operation.clone())).copied().unwrap_or_default();
        !is_read(operation) || [1, all.div_ceil(2), all].contains(number)
    });
    calls
}

fn is_read(operation: &str) -> bool {
    ["Get", "List", "Describe"].iter().any(|read| operation.starts_with(read))
}

fn strike(moving: &Moving, (service, operation, number): &Call, how: How) {
    let call = |number: usize| Fault::on(service, operation).nth(u64::try_from(number).unwrap());
    let attempts = *number..number + ATTEMPTS;
    match how {
        How::Refused => moving.person.aws.fault(call(*number).access_denied()),
        How::Fails => attempts.for_each(|number| moving.person.aws.fault(call(number).drop_connection())),
        How::Lost => attempts.for_each(|number| moving.person.aws.fault(call(number).lose_response())),
    }
}

/// What is done after it went wrong.
#[derive(Debug, Clone, Copy)]
enum Then<'a> {
    /// The same again, to this end.
    Again(&'a str),
    /// All the way back to this.
    Back(&'a str),
}

/// A stage that went wrong: whatever it was, nobody lost access, and mended it comes to an end.
async fn survives(moving: Moving, stage: usize, then: Then<'_>, context: &str) {
    let said = moving.migrate(STAGES[stage]).await;
    let context = format!("{context} {then:?}\n{said}");
    moving.all_have_access(&context);
    moving.person.aws.clear_faults();
    moving.kubernetes.no_more_trouble();
    // Pods that are being made anew come.
    moving.person.pass(120);
    moving.kubernetes.settle(moving.person.clock_hand().load(std::sync::atomic::Ordering::Relaxed));
    moving.all_have_access(&context);
    if matches!(then, Then::Back(_)) && moving.noted().is_empty() {
        return;
    }
    let (how, wanted) = match then {
        Then::Again(end) => (STAGES[stage], end),
        Then::Back(begin) => ("--undo --yes", begin),
    };
    let said = moving.migrate(how).await;
    moving.all_have_access(&format!("{context}\n{said}"));
    assert_eq!(without_trust(&moving.state()), wanted, "{context}\n{said}");
    assert_eq!(said.code, 0, "{context}\n{said}");
}

async fn whatever_fails(stage: usize) {
    let begin = without_trust(&Moving::new().await.state());
    let clean = ready(stage).await;
    clean.migrates(STAGES[stage]).await;
    let end = without_trust(&clean.state());
    let again = [Then::Again(&end)];
    let ways: &[Then<'_>] = &[Then::Again(&end), Then::Back(&begin)];
    // There is no way back from the way back.
    let ways = if stage == 2 { &again } else { ways };
    let calls = calls(stage).await;
    assert!(calls.len() > 10, "{calls:?}");
    for call in calls {
        // What was not read ends it between two writes, and those are struck themselves.
        let (hows, ways) = if is_read(&call.1) {
            (&[How::Refused][..], &again[..])
        } else {
            (&[How::Refused, How::Fails, How::Lost][..], ways)
        };
        for how in hows {
            for then in ways {
                let moving = ready(stage).await;
                strike(&moving, &call, *how);
                survives(moving, stage, *then, &format!("{call:?} {how:?}")).await;
            }
        }
    }
    let mut met = 0;
    for call in ["accounts", "pods", "objects", "budgets", "roll", "annotate"] {
        let is_write = matches!(call, "roll" | "annotate");
        let troubles = [Trouble::Cut, Trouble::Refuse, Trouble::LoseAnswer, Trouble::Conflict];
        for trouble in if is_write { &troubles[..] } else { &troubles[..1] } {
            for number in 1.. {
                let mut went_wrong = 0;
                for then in if is_write { ways } else { &again } {
                    let moving = ready(stage).await;
                    moving.kubernetes.trouble(call, Some(number), *trouble);
                    let kubernetes = moving.kubernetes.clone();
                    survives(moving, stage, *then, &format!("{call} {number} {trouble:?}")).await;
                    went_wrong += kubernetes.went_wrong();
                }
                if went_wrong == 0 {
                    break;
                }
                met += 1;
            }
        }
    }
    assert!(met > 8, "{met}");
}

#[tokio::test]
async fn whatever_fails_while_they_are_moved_pods_have_access() {
    whatever_fails(0).await;
}

#[tokio::test]
async fn whatever_fails_while_it_is_finished_pods_have_access() {
    whatever_fails(1).await;
}

#[tokio::test]
async fn whatever_fails_on_the_way_back_pods_have_access() {
    whatever_fails(2).await;
}

#[tokio::test]
async fn whenever_ctrl_c_comes_pods_have_access() {
    for (stage, how) in STAGES.iter().enumerate() {
        let mut longest = 0;
        for patience in (2..200).step_by(3) {
            let moving = ready(stage).await;
            moving.person.patience.set(patience);
            let said = moving.migrate(how).await;
            moving.all_have_access(&format!("{patience}: {said}"));
            if said.code == 0 {
                break;
            }
            longest = patience;
            moving.person.patience.set(u32::MAX);
            moving.person.pass(120);
            moving.kubernetes.settle(moving.person.clock_hand().load(std::sync::atomic::Ordering::Relaxed));
            let said = moving.migrate(how).await;
            assert_eq!(said.code, 0, "{patience}: {said}");
            moving.all_have_access(&format!("{patience}: {said}"));
        }
        assert!((5..199).contains(&longest), "{longest}");
    }
}
