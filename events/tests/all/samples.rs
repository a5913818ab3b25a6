//! Every sample: which patterns deliver it, and what it is read as.

use std::collections::BTreeSet;

use podgrant_core::model::RoleNews;
use podgrant_core::outcome::FollowUp;
use podgrant_core::{AssociationId, ClusterId, Workload};
use podgrant_events::{Incoming, RoleRef, Trigger, Wake, read};

use crate::matcher;
use crate::{files, json_files, own_roles};

enum Expected {
    Wakes(Trigger),
    /// The reason holds this.
    Ignored(&'static str),
    /// The place, a JSON pointer.
    Malformed(&'static str),
}

use Expected::{Ignored, Malformed, Wakes};

type Row = (&'static str, &'static [&'static str], Expected);

fn cluster() -> ClusterId {
    "eu-west-1/prod-eu".parse().unwrap()
}

fn role() -> RoleRef {
    RoleRef { account: "111122223333".to_owned(), name: "payments-api".to_owned() }
}

fn association(id: Option<&str>, workload: bool) -> Trigger {
    Trigger::AssociationChanged {
        cluster: cluster(),
        association: id.map(|id| id.parse::<AssociationId>().unwrap()),
        workload: workload.then(|| Workload {
            namespace: "payments".parse().unwrap(),
            service_account: "api".parse().unwrap(),
        }),
    }
}

fn rows() -> Vec<Row> {
    const CLUSTER_CREATED: &[&str] = &["install-agent/cluster-created"];
    const AGENT_HEALTH: &[&str] = &["install-agent/agent-health"];
    const ROLE_CREATED: &[&str] = &["reconcile-associations/role-created"];
    const ROLE_TAGGED: &[&str] = &["reconcile-associations/role-tagged"];
    const ROLE_UNTAGGED: &[&str] = &["reconcile-associations/role-untagged"];
    const TRUST_CHANGED: &[&str] = &["reconcile-associations/trust-changed"];
    const CLUSTER_READY: &[&str] = &["reconcile-associations/cluster-ready"];
    const RETAGGED: &[&str] = &["install-agent/cluster-retagged", "reconcile-associations/cluster-retagged"];
    const ASSOCIATION: &[&str] = &["reconcile-associations/association-changed"];
    const ROLE_DELETED: &[&str] = &["clean-up-orphans/role-deleted"];
    const CLUSTER_DELETED: &[&str] = &["clean-up-orphans/cluster-deleted"];
    const NONE: &[&str] = &[];
    const ID: Option<&str> = Some("a-0123456789abcdefg");

    let created = || Wakes(Trigger::ClusterCreated { cluster: cluster() });
    let deleted = || Wakes(Trigger::ClusterDeleted { cluster: cluster() });
    let retagged = || Wakes(Trigger::ClusterRetagged { cluster: cluster() });
    let health = || Wakes(Trigger::AgentHealthChanged { cluster: cluster() });
    // What the event says of the tags has a test of its own.
    let role_changed = || Wakes(Trigger::RoleChanged { role: role(), news: RoleNews::default() });
    let trust_changed = Trigger::RoleTrustChanged { role: role(), news: RoleNews::default() };
    let creating = FollowUp::ClusterCreating { cluster: cluster() };
    let not_acted_on = "does not act on";

    vec![
        ("cluster-created", CLUSTER_CREATED, created()),
        ("cluster-created-old-spelling", CLUSTER_CREATED, created()),
        ("cluster-created-name-in-answer", CLUSTER_CREATED, created()),
        ("cluster-created-failed", NONE, Ignored("ResourceInUseException")),
        ("cluster-created-error-null", NONE, created()),
        ("cluster-deleted", CLUSTER_DELETED, deleted()),
        ("cluster-retagged", RETAGGED, retagged()),
        ("cluster-retagged-encoded", RETAGGED, retagged()),
        ("cluster-retagged-encoded-twice", RETAGGED, retagged()),
        ("cluster-retagged-by-podgrant", RETAGGED, Ignored("own call")),
        ("node-group-retagged", NONE, Ignored("not about a cluster")),
        ("node-group-of-my-cluster-retagged", RETAGGED, Ignored("not about a cluster")),
        ("agent-health", AGENT_HEALTH, health()),
        ("agent-health-restored-arn-only", AGENT_HEALTH, health()),
        ("agent-creation-failed", AGENT_HEALTH, health()),
        ("agent-update-failed", AGENT_HEALTH, health()),
        ("addon-health-unnamed", AGENT_HEALTH, health()),
        ("addon-health-empty", AGENT_HEALTH, Ignored("neither an add-on nor a cluster")),
        ("other-addon-health", AGENT_HEALTH, Ignored("another add-on")),
        ("role-created", ROLE_CREATED, role_changed()),
        ("role-created-without-grants", NONE, role_changed()),
        ("role-created-without-tags", NONE, role_changed()),
        ("role-created-failed", NONE, Ignored("EntityAlreadyExistsException")),
        ("role-tagged", ROLE_TAGGED, role_changed()),
        ("role-tagged-by-user", ROLE_TAGGED, role_changed()),
        ("role-tagged-other-key", NONE, role_changed()),
        ("role-tagged-failed", NONE, Ignored("AccessDenied")),
        ("role-tagged-by-podgrant", ROLE_TAGGED, Ignored("own call")),
        ("role-tagged-by-similar-role", ROLE_TAGGED, role_changed()),
        ("role-untagged", ROLE_UNTAGGED, role_changed()),
        ("role-untagged-other-key", NONE, role_changed()),
        ("trust-changed", TRUST_CHANGED, Wakes(trust_changed)),
        ("trust-changed-by-podgrant", TRUST_CHANGED, Ignored("own call")),
        ("role-deleted", ROLE_DELETED, Wakes(Trigger::RoleDeleted { role: role() })),
        ("role-deleted-failed", NONE, Ignored("DeleteConflictException")),
        ("association-created", ASSOCIATION, Wakes(association(ID, true))),
        ("association-created-by-podgrant", ASSOCIATION, Ignored("own call")),
        ("association-updated", ASSOCIATION, Wakes(association(ID, true))),
        ("association-deleted", ASSOCIATION, Wakes(association(ID, true))),
        ("association-deleted-no-answer", ASSOCIATION, Wakes(association(None, false))),
        ("association-odd-names", ASSOCIATION, Wakes(association(None, false))),
        ("sweep", NONE, Wakes(Trigger::Sweep)),
        ("sweep-from-scheduler", NONE, Wakes(Trigger::Sweep)),
        ("deferred", NONE, Wakes(Trigger::FollowUp(creating))),
        ("unknown-source", NONE, Ignored(not_acted_on)),
        ("unknown-call", NONE, Ignored(not_acted_on)),
        ("unknown-detail-type", NONE, Ignored(not_acted_on)),
        ("outcomes/cluster-ready", CLUSTER_READY, Wakes(Trigger::ClusterReady { cluster: cluster() })),
        ("outcomes/agent-installed", NONE, Ignored(not_acted_on)),
        ("outcomes/access-granted", NONE, Ignored(not_acted_on)),
        ("outcomes/access-granted-updated", NONE, Ignored(not_acted_on)),
        ("outcomes/access-granted-adopted", NONE, Ignored(not_acted_on)),
        ("outcomes/trust-amended", NONE, Ignored(not_acted_on)),
        ("outcomes/access-revoked", NONE, Ignored(not_acted_on)),
        ("outcomes/grant-refused", NONE, Ignored(not_acted_on)),
        ("outcomes/grant-refused-conflict", NONE, Ignored(not_acted_on)),
        ("outcomes/cluster-needs-attention", NONE, Ignored(not_acted_on)),
        ("outcomes/deletions-withheld", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-found", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-removed", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-removed-role-replaced", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-found-dangling", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-marked", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-report", NONE, Ignored(not_acted_on)),
        ("outcomes/orphan-unmarked", NONE, Ignored(not_acted_on)),
        ("outcomes/role-deleted", NONE, Ignored(not_acted_on)),
        ("outcomes/role-deletion-begun", NONE, Ignored(not_acted_on)),
        ("outcomes/work-abandoned", NONE, Ignored(not_acted_on)),
        ("hostile-not-an-object", NONE, Malformed("")),
        ("hostile-source-missing", NONE, Malformed("/source")),
        ("hostile-id-missing", ROLE_TAGGED, Malformed("/id")),
        ("hostile-time-number", ROLE_TAGGED, Malformed("/time")),
        ("hostile-detail-null", NONE, Malformed("/detail/eventName")),
        ("hostile-detail-text", NONE, Malformed("/detail/eventName")),
        ("hostile-event-name-object", NONE, Malformed("/detail/eventName")),
        ("hostile-user-identity-text", ROLE_TAGGED, role_changed()),
        ("hostile-role-name-missing", ROLE_TAGGED, Malformed("/detail/requestParameters/roleName")),
        ("hostile-role-name-number", ROLE_TAGGED, Malformed("/detail/requestParameters/roleName")),
        ("hostile-role-name-long", ROLE_TAGGED, Malformed("/detail/requestParameters/roleName")),
        ("hostile-role-name-unicode", ROLE_TAGGED, Malformed("/detail/requestParameters/roleName")),
        ("hostile-request-parameters-list", NONE, Malformed("/detail/requestParameters/roleName")),
        ("hostile-nesting-deep", NONE, Malformed("/detail/requestParameters/roleName")),
        ("hostile-tags-not-a-list", ROLE_TAGGED, role_changed()),
        ("hostile-account-short", ROLE_TAGGED, Malformed("/detail/recipientAccountId")),
        ("hostile-cluster-name-object", CLUSTER_CREATED, Malformed("/detail/requestParameters/name")),
        ("hostile-cluster-name-path", CLUSTER_CREATED, Malformed("/detail/requestParameters/name")),
        ("hostile-region-bad", CLUSTER_CREATED, Malformed("/detail/awsRegion")),
        ("hostile-arn-not-an-arn", RETAGGED, Malformed("/detail/requestParameters/resourceArn")),
        ("hostile-arn-bad-encoding", RETAGGED, Malformed("/detail/requestParameters/resourceArn")),
        ("hostile-arn-encoded-often", RETAGGED, Malformed("/detail/requestParameters/resourceArn")),
        ("hostile-agent-health-no-cluster", AGENT_HEALTH, Malformed("/detail/clusterName")),
        ("hostile-deferred-unknown-work", NONE, Malformed("/detail/followUp")),
        ("hostile-deferred-role-name", NONE, Malformed("/detail/followUp/name")),
        ("hostile-deferred-attempt-negative", NONE, Malformed("/detail/attempt")),
        ("hostile-cluster-ready-without-region", CLUSTER_READY, Malformed("/detail/cluster/region")),
    ]
}

#[test]
fn every_sample_is_delivered_and_read_as_its_row_says() {
    let patterns = json_files("patterns");
    let mut samples = json_files("samples");
    let mut delivered = BTreeSet::new();
    for (name, expected_patterns, expected) in rows() {
        let event = samples.remove(name).unwrap_or_else(|| panic!("no samples/{name}.json"));
        let matching: Vec<&str> = patterns
            .iter()
            .filter(|(pattern_name, _)| !pattern_name.starts_with("forward/"))
            .filter(|(_, pattern)| matcher::matches(pattern, &event))
            .map(|(pattern_name, _)| pattern_name.as_str())
            .collect();
        assert_eq!(matching, expected_patterns, "{name}: patterns");
        delivered.extend(expected_patterns);

        match (expected, read(&event, &own_roles())) {
            (Wakes(trigger), Ok(Incoming::Wake(wake))) => {
                assert_eq!(without_news(wake.trigger), trigger, "{name}");
            }
            (Ignored(part), Ok(Incoming::Ignored { reason })) => {
                assert!(reason.contains(part), "{name}: {reason}");
            }
            (Malformed(place), Err(error)) => {
                assert_eq!(error.place, place, "{name}: {error}");
                assert!(error.to_string().len() < 600, "{name}: {error}");
            }
            (_, other) => panic!("{name}: {other:?}"),
        }
    }
    assert!(samples.is_empty(), "samples without a row: {:?}", samples.keys());
    delivered.extend(["forward/eks", "forward/iam"]);
    let known: BTreeSet<&str> = patterns.keys().map(String::as_str).collect();
    assert_eq!(delivered, known, "patterns that some row has, and patterns that are there");
}

fn without_news(mut trigger: Trigger) -> Trigger {
    if let Trigger::RoleChanged { news, .. } | Trigger::RoleTrustChanged { news, .. } = &mut trigger {
        *news = RoleNews::default();
    }
    trigger
}

#[test]
fn an_event_about_a_role_says_what_will_be_seen_of_it() {
    let news = |sample: &str| match wake(sample).trigger {
        Trigger::RoleChanged { news, .. } | Trigger::RoleTrustChanged { news, .. } => news,
        other => panic!("{other:?}"),
    };
    let tags = [("podgrant/grant", "payments/api@prod-eu"), ("team", "payments")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
    for sample in ["role-created", "role-tagged"] {
        assert_eq!(
            news(sample),
            RoleNews { tags_set: tags.clone().into(), ..RoleNews::default() },
            "{sample}"
        );
    }
    let removed = ["podgrant/grant", "team"].map(str::to_owned).into();
    assert_eq!(news("role-untagged"), RoleNews { tags_removed: removed, ..RoleNews::default() });
    let policy = news("trust-changed").trust_policy.unwrap();
    assert!(policy.starts_with(r#"{"Version":"2012-10-17""#), "{policy}");
    assert_eq!(news("role-created-without-tags"), RoleNews::default());
}

#[test]
fn regions_forward_what_some_pattern_waits_for_and_nothing_else() {
    let patterns = json_files("patterns");
    for (name, event) in json_files("samples") {
        let matching = |forward: bool| {
            patterns
                .iter()
                .filter(|(name, _)| name.starts_with("forward/") == forward)
                .any(|(_, pattern)| matcher::matches(pattern, &event))
        };
        let from_aws = event["source"].as_str().is_some_and(|source| source.starts_with("aws."));
        assert_eq!(matching(true), from_aws && matching(false), "{name}");
    }
}

#[test]
fn patterns_are_such_as_aws_takes() {
    for (name, text) in files("patterns") {
        assert!(text.len() <= 2048, "{name}: {} characters, AWS takes 2,048", text.len());
        let pattern = serde_json::from_str(&text).unwrap();
        matcher::check(&pattern);
        // A failed call changed nothing.
        let calls = text.matches("AWS API Call via CloudTrail").count();
        assert_eq!(text.matches(r#""errorCode": [{"exists": false}]"#).count(), calls, "{name}");
    }
}

fn wake(sample: &str) -> Wake {
    match read(&json_files("samples")[sample], &own_roles()) {
        Ok(Incoming::Wake(wake)) => wake,
        other => panic!("{sample}: {other:?}"),
    }
}

#[test]
fn a_wake_says_who_asked_and_when() {
    let assumed = "arn:aws:sts::111122223333:assumed-role/deployer/ada";
    let user = "arn:aws:iam::111122223333:user/grace";
    for (sample, asked_by) in [
        ("role-tagged", Some(assumed)),
        ("role-tagged-by-user", Some(user)),
        ("association-deleted", Some(assumed)),
        ("outcomes/cluster-ready", Some(assumed)),
        ("deferred", Some(assumed)),
        ("hostile-user-identity-text", None),
        ("sweep", None),
    ] {
        let wake = wake(sample);
        assert_eq!(wake.asked_by.as_deref(), asked_by, "{sample}");
        assert_eq!(wake.time, "2026-03-02T10:15:30Z", "{sample}");
    }
    let first = wake("role-tagged");
    assert_eq!((first.began, first.attempt), (None, 0));
    assert_eq!(first.id, json_files("samples")["role-tagged"]["id"]);
    let deferred = wake("deferred");
    assert_eq!((deferred.began, deferred.attempt), (Some(1_772_446_530), 2));
}

#[test]
fn only_a_whole_role_arn_is_podgrants_own() {
    let event = &json_files("samples")["role-tagged-by-podgrant"];
    for other in ["", "arn:aws:iam::111122223333:role/podgrant", "podgrant-reconcile-associations"] {
        let incoming = read(event, &[other.to_owned()]).unwrap();
        assert!(matches!(incoming, Incoming::Wake(_)), "{other:?}: {incoming:?}");
    }
}

#[test]
fn wakes_survive_json() {
    for (name, _, expected) in rows() {
        if let Wakes(_) = expected {
            let wake = wake(name);
            let text = serde_json::to_string(&wake).unwrap();
            assert_eq!(serde_json::from_str::<Wake>(&text).unwrap(), wake, "{text}");
        }
    }
    let trigger = serde_json::to_value(wake("deferred").trigger).unwrap();
    assert_eq!(trigger["kind"], "follow-up");
    assert_eq!(trigger["work"]["kind"], "cluster-creating");
}
