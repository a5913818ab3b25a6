//! Deferred work comes back as what it was.

use std::sync::Arc;

use podgrant_core::model::{RoleNews, Stretch};
use podgrant_core::outcome::FollowUp;
use podgrant_core::sweep::Round;
use podgrant_core::{ClusterId, Powers, Role, SweepPart, Workload};
use podgrant_events::{Incoming, Trigger, Wake, deferred, read};
use serde_json::Value;

fn cause() -> Wake {
    Wake {
        id: "7f1c0000-1111-4222-8333-000000000001".to_owned(),
        time: "2026-03-02T10:15:30Z".to_owned(),
        trigger: Trigger::Sweep,
        asked_by: Some("arn:aws:sts::111122223333:assumed-role/deployer/ada".to_owned()),
        began: None,
        attempt: 0,
    }
}

fn workload(namespace: &str) -> Workload {
    Workload { namespace: namespace.parse().unwrap(), service_account: "api".parse().unwrap() }
}

fn sweep_part() -> SweepPart {
    let role = |name: &str| Role {
        arn: format!("arn:aws:iam::111122223333:role/{name}").parse().unwrap(),
        id: "AROAEXAMPLE".parse().unwrap(),
        created_at: 1_700_000_000,
        trust_policy: r#"{"Statement":[]}"#.to_owned(),
        permissions_boundary: Some("arn:aws:iam::111122223333:policy/boundary".to_owned()),
        powers: Powers::Everything { policy: "everything".to_owned() },
        tags: [("podgrant/grant".to_owned(), "payments/api@prod-eu".to_owned())].into(),
    };
    SweepPart {
        cluster: "eu-west-1/prod-eu".parse().unwrap(),
        tags: [("env".to_owned(), "prod".to_owned())].into(),
        namesakes: ["us-east-1".parse().unwrap()].into(),
        stretch: Stretch { from: Some(workload("batch")), to: Some(workload("payments")) },
        round: Round::at(1_772_446_530, 3_600, 24),
        roles: vec![Arc::new(role("payments-api")), Arc::new(role("payments-batch"))],
    }
}

fn follow_ups() -> Vec<FollowUp> {
    let cluster = || "eu-west-1/prod-eu".parse::<ClusterId>().unwrap();
    let name = || "payments-api".to_owned();
    let news = RoleNews {
        tags_set: [("podgrant/grant".to_owned(), "payments/api@prod-eu".to_owned())].into(),
        tags_removed: ["team".to_owned()].into(),
        trust_policy: Some("{}".to_owned()),
    };
    vec![
        FollowUp::Role { name: name() },
        FollowUp::RoleUnseen { name: name() },
        FollowUp::RoleStale { name: name(), news },
        FollowUp::ClusterSweep(Box::new(sweep_part())),
        FollowUp::ClusterCreating { cluster: cluster() },
        FollowUp::cluster_grants(&cluster()),
        FollowUp::ClusterGrants {
            cluster: cluster(),
            doubt: Some("a-0123".parse().unwrap()),
            workload: Some(workload("payments")),
        },
        FollowUp::AccountsMissed {
            cluster: cluster(),
            missed: [workload("payments"), workload("batch")].into(),
        },
        FollowUp::AgentStarting { cluster: cluster() },
        FollowUp::ClusterDeleting { cluster: cluster() },
        FollowUp::RoleGone { name: name() },
        FollowUp::Orphans { roles_missed: [name(), "payments-batch".to_owned()].into() },
    ]
}

/// The message, over the wire.
fn sent(follow_up: &FollowUp, reason: &str, began: i64, attempt: u32, cause: &Wake) -> Value {
    serde_json::from_str(&deferred(follow_up, reason, began, attempt, cause).unwrap()).unwrap()
}

fn back(message: &Value) -> Wake {
    match read(message, &[]) {
        Ok(Incoming::Wake(wake)) => wake,
        other => panic!("{other:?}"),
    }
}

#[test]
fn deferred_work_is_read_back_whole() {
    for follow_up in follow_ups() {
        let message = sent(&follow_up, "CREATING", 1_772_446_530, 1, &cause());
        let expected =
            Wake { trigger: Trigger::FollowUp(follow_up), began: Some(1_772_446_530), attempt: 1, ..cause() };
        assert_eq!(back(&message), expected);
    }
}

#[test]
fn work_deferred_again_keeps_what_it_began_with() {
    let follow_up = &follow_ups()[1];
    let first = back(&sent(follow_up, "CREATING", 100, 1, &cause()));
    let message = sent(follow_up, "still CREATING", 100, 2, &first);
    let second = back(&message);
    assert_eq!(second, Wake { attempt: 2, ..first });
    assert_eq!(message["detail"]["causeId"], cause().id);
    let nobody = Wake { asked_by: None, ..cause() };
    assert_eq!(back(&sent(follow_up, "", 100, 1, &nobody)).asked_by, None);
}

#[test]
fn a_sweeps_message_is_told_of_in_short() {
    let trigger = Trigger::FollowUp(FollowUp::ClusterSweep(Box::new(sweep_part())));
    let short = SweepPart { roles: Vec::new(), ..sweep_part() };
    assert_eq!(trigger.in_short(), Trigger::FollowUp(FollowUp::ClusterSweep(Box::new(short))));
}

#[test]
fn each_deferred_message_has_its_own_id_and_the_same_one_twice() {
    let mut ids: Vec<String> = Vec::new();
    for attempt in 1..=2 {
        for follow_up in follow_ups() {
            let id = |reason| sent(&follow_up, reason, 100, attempt, &cause())["id"].to_string();
            assert_eq!(id("one reason"), id("another"));
            ids.push(id(""));
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}
