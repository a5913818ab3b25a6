//! What readers of outcome events are promised, and that they get it.

use std::collections::BTreeMap;

use jsonschema::Validator;
use podgrant_core::agent::agent_namespaces;
use podgrant_core::model::Association;
use podgrant_core::plan::{NodeCount, OrphanStanding, RevokeReason, Standing, UnmarkReason};
use podgrant_core::{Change, Finding, FindingKind, Mark, OrphanMark, RoleRecord, Workload};
use podgrant_events::{Cause, Incoming, OutcomeEvent, SOURCE, Trigger, read};
use serde_json::{Value, json};

use crate::json_files;

fn schemas() -> BTreeMap<String, Validator> {
    let compile = |(name, schema): (String, Value)| {
        assert!(jsonschema::meta::is_valid(&schema), "{name} is not a schema");
        let validator = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, validator)
    };
    json_files("schemas").into_iter().map(compile).collect()
}

fn kebab(detail_type: &str) -> String {
    detail_type.to_lowercase().replace(' ', "-")
}

fn outcomes() -> BTreeMap<String, Value> {
    let samples = json_files("samples").into_iter();
    samples.filter(|(name, _)| name.starts_with("outcomes/")).collect()
}

/// The event that a sample shows, by way of the code's own types.
fn parse(sample: &Value) -> OutcomeEvent {
    fn detail<T: serde::de::DeserializeOwned>(sample: &Value) -> T {
        serde_json::from_value(sample["detail"].clone()).unwrap()
    }
    match sample["detail-type"].as_str().unwrap() {
        "Agent Installed" => OutcomeEvent::AgentInstalled(detail(sample)),
        "Cluster Ready" => OutcomeEvent::ClusterReady(detail(sample)),
        "Access Granted" => OutcomeEvent::AccessGranted(detail(sample)),
        "Access Revoked" => OutcomeEvent::AccessRevoked(detail(sample)),
        "Trust Amended" => OutcomeEvent::TrustAmended(detail(sample)),
        "Grant Refused" => OutcomeEvent::GrantRefused(detail(sample)),
        "Cluster Needs Attention" => OutcomeEvent::ClusterNeedsAttention(detail(sample)),
        "Deletions Withheld" => OutcomeEvent::DeletionsWithheld(detail(sample)),
        "Orphan Found" => OutcomeEvent::OrphanFound(detail(sample)),
        "Orphan Marked" => OutcomeEvent::OrphanMarked(detail(sample)),
        "Orphan Report" => OutcomeEvent::OrphanReport(detail(sample)),
        "Orphan Unmarked" => OutcomeEvent::OrphanUnmarked(detail(sample)),
        "Role Deleted" => OutcomeEvent::RoleDeleted(detail(sample)),
        "Role Deletion Begun" => OutcomeEvent::RoleDeletionBegun(detail(sample)),
        "Orphan Removed" => OutcomeEvent::OrphanRemoved(detail(sample)),
        "Work Abandoned" => OutcomeEvent::WorkAbandoned(detail(sample)),
        other => panic!("{other}"),
    }
}

#[test]
fn samples_schemas_and_types_agree() {
    let schemas = schemas();
    let mut used: Vec<String> = Vec::new();
    for (name, sample) in outcomes() {
        let event = parse(&sample);
        let schema = kebab(event.detail_type());
        assert!(name.starts_with(&format!("outcomes/{schema}")), "{name}: {schema}");
        if let Err(error) = schemas[&schema].validate(&sample["detail"]) {
            panic!("{name}: {error}");
        }
        assert_eq!(sample["source"], SOURCE, "{name}");
        assert_eq!(event.detail(), sample["detail"], "{name}");
        assert_eq!(json!(event.resources()), sample["resources"], "{name}");
        used.push(schema);
    }
    used.dedup();
    assert_eq!(used, schemas.keys().cloned().collect::<Vec<_>>(), "a sample for each schema");
}

fn may_be_absent(schema: &str, part: &str) -> bool {
    match (schema, part) {
        (_, "askedBy") | ("access-granted", "associationId") | ("agent-installed", "nodes") => true,
        // One without the other is refused by dependentRequired.
        ("grant-refused" | "work-abandoned", "roleArn" | "cluster" | "subject")
        | ("orphan-found", "cluster")
        | (
            "role-deleted" | "role-deletion-begun",
            "lastUsed" | "description" | "permissionsBoundary" | "queue",
        ) => true,
        // A tag.
        (_, part) if part.starts_with("podgrant~1") => true,
        _ => false,
    }
}

/// Every sample with one thing wrong: a part of another type, a required part
/// missing, a part too many.
fn mutilated(schema: &str, sample: &Value) -> Vec<Value> {
    fn nodes(value: &Value, place: &str, places: &mut Vec<String>) {
        places.push(place.to_owned());
        let fields = value.as_object().into_iter().flatten();
        fields.for_each(|(key, inner)| {
            nodes(inner, &format!("{place}/{}", key.replace('~', "~0").replace('/', "~1")), places);
        });
    }
    let mut places = Vec::new();
    nodes(sample, "", &mut places);
    let mut all = Vec::new();
    for place in &places {
        let change = |with: &dyn Fn(&mut Value)| {
            let mut sample = sample.clone();
            with(sample.pointer_mut(place).unwrap());
            sample
        };
        // Of another kind: half a number is no text, and no count either.
        all.push(change(&|value| *value = json!(17.5)));
        all.push(change(&|value| *value = Value::Null));
        if sample.pointer(place).unwrap().is_object() {
            all.push(change(&|value| value["surprise"] = json!(true)));
        }
    }
    // From the samples and not from the schema, which may have lost a requirement.
    for (parent, part) in places.iter().filter_map(|place| place.rsplit_once('/')) {
        if !may_be_absent(schema, part) {
            let mut sample = sample.clone();
            sample.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(part).unwrap();
            all.push(sample);
        }
    }
    all
}

#[test]
fn a_mutilated_sample_is_refused() {
    let schemas = schemas();
    for (name, sample) in outcomes() {
        let schema = kebab(sample["detail-type"].as_str().unwrap());
        for detail in mutilated(&schema, &sample["detail"]) {
            assert!(!schemas[&schema].is_valid(&detail), "{name}: {detail}");
        }
    }
}

#[test]
fn every_part_of_a_schema_is_described() {
    fn check(name: &str, part: &Value) {
        assert!(part["$ref"].is_string() || part["description"].is_string(), "{name}: {part}");
        for (key, part) in part["properties"].as_object().into_iter().flatten() {
            check(&format!("{name}/{key}"), part);
        }
    }
    for (name, schema) in json_files("schemas") {
        check(&name, &schema);
        schema["$defs"].as_object().unwrap().values().for_each(|part| check(&name, part));
    }
}

fn cause() -> Cause {
    Cause { id: "event-1".to_owned(), asked_by: None, time: "2026-03-02T10:15:30Z".to_owned() }
}

fn workload() -> Workload {
    Workload { namespace: "payments".parse().unwrap(), service_account: "api".parse().unwrap() }
}

fn mark() -> Mark {
    Mark {
        role_arn: "arn:aws:iam::111122223333:role/payments-api".parse().unwrap(),
        role_id: "AROAEXAMPLE".parse().unwrap(),
        cluster: "eu-west-1/prod-eu".parse().unwrap(),
        subject: "payments/_@env=prod+tier=gold".parse().unwrap(),
        label: "batch".to_owned(),
        session_tags_off: false,
        target_role: None,
    }
}

fn association() -> Association {
    Association {
        cluster: mark().cluster,
        id: "a-0abc".parse().unwrap(),
        arn: "arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-0abc".to_owned(),
        workload: workload(),
        owner: None,
        mark: Some(mark()),
        record: None,
    }
}

fn check(event: &OutcomeEvent) {
    let schema = &schemas()[&kebab(event.detail_type())];
    if let Err(error) = schema.validate(&event.detail()) {
        panic!("{}: {error}: {}", event.detail_type(), event.detail());
    }
}

#[test]
fn every_change_is_announced_as_it_should_be() {
    let cluster = mark().cluster;
    let version = || "v1.3.8-eksbuild.2".to_owned();
    let revoke = |reason| Change::Revoke { association: association(), reason };
    let unmarked = Association { mark: None, ..association() };
    let cases = [
        (Change::Create { workload: workload(), mark: mark() }, Some("Access Granted"), "created"),
        (Change::Update { association: association(), mark: mark() }, Some("Access Granted"), "updated"),
        (Change::Adopt { association: association(), mark: mark() }, Some("Access Granted"), "adopted"),
        (revoke(RevokeReason::GrantWithdrawn), Some("Access Revoked"), "grant-withdrawn"),
        (revoke(RevokeReason::Refused), Some("Access Revoked"), "refused"),
        (revoke(RevokeReason::ServiceAccountGone), Some("Access Revoked"), "service-account-gone"),
        (revoke(RevokeReason::Uninstalled), Some("Access Revoked"), "uninstalled"),
        (revoke(RevokeReason::RoleGone), Some("Orphan Removed"), "role-gone"),
        (revoke(RevokeReason::RoleReplaced), Some("Orphan Removed"), "role-replaced"),
        (Change::Revoke { association: unmarked, reason: RevokeReason::RoleGone }, None, ""),
        (
            Change::InstallAgent {
                cluster: cluster.clone(),
                version: version(),
                configuration: None,
                overwrite: false,
            },
            None,
            "",
        ),
        (Change::OpenKubernetes { cluster: cluster.clone(), namespaces: agent_namespaces() }, None, ""),
        (
            Change::AnnounceAgent { cluster: cluster.clone(), version: version(), nodes: None },
            Some("Agent Installed"),
            "v1.3.8-eksbuild.2",
        ),
        (
            Change::AnnounceAgent {
                cluster: cluster.clone(),
                version: version(),
                nodes: Some(NodeCount { ready: 2, desired: 3 }),
            },
            Some("Agent Installed"),
            "desired",
        ),
        (Change::AnnounceCluster { cluster }, Some("Cluster Ready"), "prod-eu"),
    ];
    for (change, detail_type, part) in cases {
        let id = "a-0abc".parse().unwrap();
        let event = OutcomeEvent::of_change(&change, Some(&id), &cause());
        assert_eq!(event.as_ref().map(OutcomeEvent::detail_type), detail_type, "{change}");
        let Some(event) = event else { continue };
        check(&event);
        let detail = event.detail();
        assert!(detail.to_string().contains(&format!("{part:?}")), "{detail}");
        assert_eq!(detail["cause"]["id"], "event-1");
        if change.role().is_some() {
            assert_eq!(detail["associationId"], "a-0abc");
            assert_eq!(detail["subject"], "payments/_@env=prod+tier=gold");
            assert_eq!(event.resources(), ["arn:aws:iam::111122223333:role/payments-api"]);
        }
    }
    let amend = Change::AmendTrust {
        role: mark().role_arn,
        role_id: mark().role_id,
        policy_before: "{}".to_owned(),
        policy: r#"{"Statement":[]}"#.to_owned(),
    };
    let amended = OutcomeEvent::of_change(&amend, None, &cause()).unwrap();
    check(&amended);
    assert_eq!((amended.detail_type(), amended.resources().len()), ("Trust Amended", 1));
    let create = Change::Create { workload: workload(), mark: mark() };
    check(&OutcomeEvent::of_change(&create, None, &cause()).unwrap());
}

#[test]
fn what_becomes_of_an_orphaned_role_is_announced() {
    let role = mark().role_arn;
    let orphan: OrphanMark = "2026-02-22T10:15:30Z AROAEXAMPLE".parse().unwrap();
    let record = RoleRecord {
        role_arn: role.clone(),
        role_id: orphan.role_id.clone(),
        path: "/".to_owned(),
        created_at: 1_735_725_600,
        last_used: None,
        description: None,
        max_session_duration: 3600,
        permissions_boundary: None,
        trust_policy: r#"{"Statement":[]}"#.to_owned(),
        attached_policies: ["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()].into(),
        inline_policies: BTreeMap::new(),
        tags: [("team".to_owned(), "payments".to_owned())].into(),
    };
    let delete = Change::DeleteRole { record: Box::new(record.clone()), mark: orphan.clone() };
    let unmark = Change::UnmarkOrphan {
        role: role.clone(),
        mark: orphan.clone(),
        reason: UnmarkReason::SpokenFor("used".to_owned()),
    };
    let cases = [
        (Change::MarkOrphan { role: role.clone(), mark: orphan.clone() }, "Orphan Marked"),
        (unmark, "Orphan Unmarked"),
        (delete.clone(), "Role Deleted"),
    ];
    for (change, detail_type) in &cases {
        let event = OutcomeEvent::of_change(change, None, &cause()).unwrap();
        check(&event);
        assert_eq!((event.detail_type(), event.resources()), (*detail_type, vec![role.to_string()]));
        assert!(event.detail().to_string().contains("2026-02-22T10:15:30Z"), "{}", event.detail());
    }
    // Before anything is gone, and of nothing else.
    let before = OutcomeEvent::before_change(&delete, &cause()).unwrap();
    check(&before);
    assert_eq!(before.detail_type(), "Role Deletion Begun");
    assert_eq!(serde_json::from_value::<RoleRecord>(before.detail()).unwrap(), record);
    assert_eq!(OutcomeEvent::before_change(&cases[0].0, &cause()), None);
}

#[test]
fn a_report_holds_what_an_event_holds_and_counts_the_rest() {
    let standing = |text: String| OrphanStanding {
        role_arn: mark().role_arn,
        standing: Standing::Kept,
        since: None,
        until: None,
        text,
    };
    assert_eq!(OutcomeEvent::of_orphans(&[], &cause()), None);
    let two = vec![standing("short".to_owned()), standing("shorter".to_owned())];
    let event = OutcomeEvent::of_orphans(&two, &cause()).unwrap();
    check(&event);
    assert_eq!((event.detail()["roles"].as_array().unwrap().len(), &event.detail()["more"]), (2, &json!(0)));
    let many: Vec<_> = (0..2_000).map(|_| standing("x".repeat(200))).collect();
    let event = OutcomeEvent::of_orphans(&many, &cause()).unwrap();
    let (held, more) = (event.detail()["roles"].as_array().unwrap().len(), event.detail()["more"].clone());
    assert_eq!(json!(2_000 - held), more);
    // EventBridge takes 256 KB an entry.
    assert!((100_000..200_000).contains(&event.detail().to_string().len()));
}

#[test]
fn every_finding_is_announced_as_it_should_be() {
    use FindingKind::*;
    let kinds = [
        (BadTag, Some("Grant Refused")),
        (PatternNotExpanded, Some("Grant Refused")),
        (TrustPolicy, Some("Grant Refused")),
        (Guardrail, Some("Grant Refused")),
        (NoSuchCluster, None),
        (RegionNotConfigured, Some("Grant Refused")),
        (AmbiguousCluster, Some("Grant Refused")),
        (ClusterOptedOut, Some("Grant Refused")),
        (ClusterNotReady, None),
        (ClusterFailed, Some("Cluster Needs Attention")),
        (Conflict, Some("Grant Refused")),
        (ForeignAssociation, Some("Grant Refused")),
        (RefusedByAws, Some("Grant Refused")),
        (KeptForBadTag, None),
        (BadClusterTag, Some("Cluster Needs Attention")),
        (ClusterUnsupported, Some("Cluster Needs Attention")),
        (AgentVersion, Some("Cluster Needs Attention")),
        (AgentKept, Some("Cluster Needs Attention")),
        (AgentRefused, Some("Cluster Needs Attention")),
        (AgentUnhealthy, Some("Cluster Needs Attention")),
        (AgentNodes, Some("Cluster Needs Attention")),
        (AgentRollout, None),
        (AgentConfiguration, Some("Cluster Needs Attention")),
        (SelfManagedAgent, None),
        (KubernetesUnseen, None),
        (OrphanRole, Some("Orphan Found")),
        (OrphanKept, Some("Orphan Found")),
        (HalfDeletedRole, Some("Orphan Found")),
        (FalseOrphanMark, Some("Orphan Found")),
        (DanglingAssociation, Some("Orphan Found")),
        (Withheld, None),
        (GaveUp, Some("Work Abandoned")),
    ];
    for (kind, detail_type) in kinds {
        let mut full = Finding {
            kind,
            role: Some(mark().role_arn),
            cluster: Some(mark().cluster),
            workload: Some(workload()),
            grant: Some("payments/api".to_owned()),
            reason: "so it is".to_owned(),
        };
        if kind.is_about_the_agent() {
            full = Finding { role: None, workload: None, grant: None, ..full };
        }
        if kind.is_refusal() {
            let of_nobody = Finding { role: None, ..full.clone() };
            assert_eq!(OutcomeEvent::of_finding(&of_nobody, &cause()), None, "{kind}");
        }
        let bare = Finding { cluster: None, workload: None, grant: None, ..full.clone() };
        let findings = if kind.is_about_the_agent() { vec![full] } else { vec![full, bare] };
        for finding in findings {
            let event = OutcomeEvent::of_finding(&finding, &cause());
            assert_eq!(event.as_ref().map(OutcomeEvent::detail_type), detail_type, "{kind}");
            let Some(event) = event else { continue };
            check(&event);
            assert_eq!(event.detail()["kind"], json!(kind));
            assert_eq!(event.detail()["reason"], "so it is");
        }
    }
}

#[test]
fn what_was_withheld_is_told_once() {
    let finding = |kind, reason: &str| Finding {
        kind,
        role: None,
        cluster: None,
        workload: None,
        grant: None,
        reason: reason.to_owned(),
    };
    let findings = [
        finding(FindingKind::Conflict, "another"),
        finding(FindingKind::Withheld, "too many"),
        finding(FindingKind::Withheld, "too many"),
    ];
    let event = OutcomeEvent::of_withheld(&findings, &cause()).unwrap();
    check(&event);
    assert_eq!((&event.detail()["count"], &event.detail()["reason"]), (&json!(2), &json!("too many")));
    assert_eq!(OutcomeEvent::of_withheld(&findings[..1], &cause()), None);
}

#[test]
fn a_cluster_announced_as_ready_wakes_podgrant() {
    let cluster = mark().cluster;
    let change = Change::AnnounceCluster { cluster: cluster.clone() };
    let event = OutcomeEvent::of_change(&change, None, &cause()).unwrap();
    // As EventBridge delivers it.
    let envelope = json!({
        "version": "0", "id": "event-2", "source": SOURCE, "detail-type": event.detail_type(),
        "account": "111122223333", "region": "eu-central-1", "time": "2026-03-02T10:15:31Z",
        "resources": event.resources(), "detail": event.detail(),
    });
    let Ok(Incoming::Wake(wake)) = read(&envelope, &[]) else { panic!("{envelope}") };
    assert_eq!(wake.trigger, Trigger::ClusterReady { cluster });
}
