//! Orphaned roles: marked, waited for, looked at again, deleted, and nothing else touched.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_iam::types::Tag;
use insta::assert_snapshot;
use podgrant_core::{FindingKind, RoleRecord};
use podgrant_runtime::batch::answer;
use podgrant_runtime::report::Ending;
use podgrant_runtime::{Function, Report};
use podgrant_tests::fake::{Association, Call, Cluster, FakeAws, Fault, Gate, Ghost, Matching, Role};
use serde_json::{Value, json};

use crate::world::{EU, NOW, US, World, again, role, sample, sweep};

const DAY: i64 = 86_400;
const GRACE: i64 = 7 * DAY;
const QUEUE_POLICY: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}"#;

/// Where roles are deleted, and every sweep looks at every association that matters.
async fn world() -> World {
    World::with(&[("PODGRANT_DELETE_ROLES", "on"), ("PODGRANT_DRIFT_ROUNDS", "1")]).await
}

/// A role whose only cluster is gone, and that asks to go with it.
fn orphan(name: &str) -> Role {
    let mut orphan = role(name, "payments/api@gone-eu")
        .tag("podgrant/on-orphan", "delete")
        .tag("team", "payments")
        .path("/teams/payments/")
        .description("Pays")
        .permissions_boundary("arn:aws:iam::111122223333:policy/boundary")
        .created_at(NOW - 100 * DAY)
        .last_used(NOW - 50 * DAY)
        .attached_policy("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")
        .attached_policy("arn:aws:iam::111122223333:policy/payments")
        .inline_policy("queue", QUEUE_POLICY);
    orphan.max_session_duration = 7200;
    orphan
}

/// With this role marked, and its grace period over.
async fn due(orphans: impl IntoIterator<Item = Role>) -> World {
    let w = world().await;
    w.given(role("living", "apps/living@prod-eu").attached_policy("arn:aws:iam::aws:policy/ReadOnlyAccess"))
        .await;
    for orphan in orphans {
        w.aws.add_role(orphan);
    }
    let report = w.serve(Function::CleanUpOrphans, &sweep()).await;
    assert_eq!(report.ending, Ending::Done, "{report:?}");
    w.pass(GRACE);
    w.forget();
    w
}

fn mark_of(w: &World, name: &str) -> Option<String> {
    w.aws.role(name)?.tags.get("podgrant/orphaned-since").cloned()
}

/// One look at everything.
async fn pass(w: &World) -> Report {
    w.serve(Function::CleanUpOrphans, &again(sweep())).await
}

/// The look that a deletion begins with, and the one that it ends with.
async fn both(w: &World) -> Report {
    let first = pass(w).await;
    if first.ending != Ending::NotYet {
        return first;
    }
    w.pass(60);
    w.serve(Function::CleanUpOrphans, &looks_again()).await
}

/// The message that a look at everything leaves behind for the next one.
fn looks_again() -> Value {
    let mut message = sample("deferred");
    message["detail"]["followUp"] = json!({"kind": "orphans", "roles_missed": []});
    message
}

#[tokio::test]
async fn an_orphan_is_marked_and_after_its_grace_period_looked_at_again_and_deleted() {
    let w = world().await;
    w.aws.add_role(orphan("payments-api"));
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    ~ role payments-api  + orphaned since 2026-03-02T10:15:30Z => done
    ! orphan role: role payments-api: every cluster that its grants name is gone (gone-eu); its tags say podgrant/on-orphan = delete: it is marked, and deleted after 2026-03-09T10:15:30Z
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 TagRole payments-api
    events eu-west-1 PutEvents 3
    * Orphan Marked payments-api
    * Orphan Found payments-api orphan-role
    * Orphan Report
      role payments-api: every cluster that its grants name is gone (gone-eu); it is to be marked, and goes after 2026-03-09T10:15:30Z  => done
    ");
    assert_eq!(mark_of(&w, "payments-api").unwrap(), "2026-03-02T10:15:30Z AROA00000000000000001");
    w.pass(GRACE - 1);
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    ! orphan role: role payments-api: every cluster that its grants name is gone (gone-eu); its tags say podgrant/on-orphan = delete: orphaned since 2026-03-02T10:15:30Z, it is deleted after 2026-03-09T10:15:30Z
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    events eu-west-1 PutEvents 2
    * Orphan Found payments-api orphan-role
    * Orphan Report
      role payments-api: every cluster that its grants name is gone (gone-eu); it is marked, and goes after 2026-03-09T10:15:30Z  (orphaned since 2026-03-02T10:15:30Z)
    ");
    w.pass(1);
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    not-yet
    - role /teams/payments/payments-api  policies payments, AmazonS3ReadOnlyAccess  inline policies queue  (orphaned since 2026-03-02T10:15:30Z, last used 2026-01-11T10:15:30Z) => not yet: payments-api is marked, and its deletion goes on when IAM shows that
    . payments-api is marked, and its deletion goes on when IAM shows that
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    iam us-east-1 GetRole payments-api
    iam us-east-1 TagRole payments-api
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 1, began 0 s ago: Orphans { roles_missed: {} }
    ");
    w.pass(60);
    assert_snapshot!(w.clean_up(&looks_again()).await, @"
    done
    - role /teams/payments/payments-api  policies payments, AmazonS3ReadOnlyAccess  inline policies queue  (orphaned since 2026-03-02T10:15:30Z, last used 2026-01-11T10:15:30Z; its deletion was begun) => done
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    events eu-west-1 PutEvents 1
    iam us-east-1 DetachRolePolicy payments-api
    iam us-east-1 DetachRolePolicy payments-api
    iam us-east-1 DeleteRolePolicy payments-api
    iam us-east-1 DeleteRole payments-api
    events eu-west-1 PutEvents 2
    * Role Deletion Begun payments-api
    * Role Deleted payments-api
    * Orphan Report
      role payments-api: its deletion was begun, so policies of it may be missing; now it goes  (orphaned since 2026-03-02T10:15:30Z)  => done
    ");
    assert_eq!(w.aws.role("payments-api"), None);
    assert_snapshot!(serde_json::to_string_pretty(&w.told_of("Role Deletion Begun")[0]).unwrap(), @r#"
    {
      "attachedPolicies": [
        "arn:aws:iam::111122223333:policy/payments",
        "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
      ],
      "cause": {
        "askedBy": "arn:aws:sts::111122223333:assumed-role/deployer/ada",
        "id": "7f1c0000-1111-4222-8333-000000000001",
        "time": "2026-03-02T10:15:30Z"
      },
      "createdAt": 1763806530,
      "description": "Pays",
      "inlinePolicies": {
        "queue": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"sqs:SendMessage\",\"Resource\":\"*\"}]}"
      },
      "lastUsed": 1768126530,
      "maxSessionDuration": 7200,
      "orphanedSince": "2026-03-02T10:15:30Z",
      "path": "/teams/payments/",
      "permissionsBoundary": "arn:aws:iam::111122223333:policy/boundary",
      "roleArn": "arn:aws:iam::111122223333:role/teams/payments/payments-api",
      "roleId": "AROA00000000000000001",
      "tags": {
        "podgrant/grant": "payments/api@gone-eu",
        "podgrant/on-orphan": "delete",
        "podgrant/orphaned-since": "2026-03-02T10:15:30Z AROA00000000000000001 begun",
        "team": "payments"
      },
      "trustPolicy": "{\"Statement\":[{\"Action\":[\"sts:AssumeRole\",\"sts:TagSession\"],\"Effect\":\"Allow\",\"Principal\":{\"Service\":\"pods.eks.amazonaws.com\"}}],\"Version\":\"2012-10-17\"}"
    }
    "#);
    assert_eq!(w.told_of("Role Deletion Begun"), w.told_of("Role Deleted"));
}

#[tokio::test]
async fn as_shipped_orphans_are_reported_and_nothing_is_written() {
    let w = World::new().await;
    w.aws.add_role(orphan("asking"));
    let mut silent = orphan("silent");
    silent.tags.remove("podgrant/on-orphan");
    w.aws.add_role(silent);
    w.aws.add_role(orphan("in-use").instance_profile("nodes"));
    let before = w.aws.roles();
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    ! orphan role: role asking: every cluster that its grants name is gone (gone-eu); take its tags away, or delete the role, if nothing else uses it; its tags say podgrant/on-orphan = delete, and podgrant is not configured to delete roles
    ! orphan role: role silent: every cluster that its grants name is gone (gone-eu); take its tags away, or delete the role, if nothing else uses it
    ! orphan kept: role in-use: every cluster that its grants name is gone (gone-eu); it is kept: it is in instance profiles (nodes)
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    events eu-west-1 PutEvents 4
    * Orphan Found asking orphan-role
    * Orphan Found silent orphan-role
    * Orphan Found in-use orphan-kept
    * Orphan Report
      role asking: every cluster that its grants name is gone (gone-eu); it is only reported: podgrant is not configured to delete roles
      role in-use: every cluster that its grants name is gone (gone-eu); it is kept: it is in instance profiles (nodes)
      role silent: every cluster that its grants name is gone (gone-eu); it is only reported: its tags do not ask for more
    ");
    w.pass(2 * GRACE);
    pass(&w).await;
    assert_eq!(w.aws.roles(), before);
}

/// Makes a role again from what was kept of it, as README says.
async fn made_again(w: &World, record: &RoleRecord) {
    let iam = aws_sdk_iam::Client::new(w.sdk());
    let tag = |(key, value): (&String, &String)| Tag::builder().key(key).value(value).build().unwrap();
    // Podgrant's mark of the old role is none of the new one.
    let tags = record.tags.iter().filter(|(key, _)| *key != "podgrant/orphaned-since").map(tag).collect();
    let name = record.role_arn.role_name();
    iam.create_role()
        .role_name(name)
        .path(&record.path)
        .set_description(record.description.clone())
        .max_session_duration(record.max_session_duration)
        .set_permissions_boundary(record.permissions_boundary.clone())
        .assume_role_policy_document(&record.trust_policy)
        .set_tags(Some(tags))
        .send()
        .await
        .unwrap();
    for policy in &record.attached_policies {
        iam.attach_role_policy().role_name(name).policy_arn(policy).send().await.unwrap();
    }
    for (policy, document) in &record.inline_policies {
        iam.put_role_policy()
            .role_name(name)
            .policy_name(policy)
            .policy_document(document)
            .send()
            .await
            .unwrap();
    }
}

/// Without what a role made again can't have, and in one order.
fn comparable(mut role: Role) -> Role {
    role.tags.remove("podgrant/orphaned-since");
    role.attached_policies.sort();
    role.inline_policies.sort();
    role.id.clear();
    (role.created_at, role.last_used) = (0, None);
    role
}

#[tokio::test]
async fn what_was_deleted_can_be_made_again_from_its_event() {
    let w = due([orphan("payments-api")]).await;
    let before = w.aws.role("payments-api").unwrap();
    pass(&w).await;
    w.forget();
    w.clean_up(&looks_again()).await;
    assert_eq!(w.aws.role("payments-api"), None);
    let record: RoleRecord = serde_json::from_value(w.told_of("Role Deleted")[0].clone()).unwrap();
    made_again(&w, &record).await;
    let after = w.aws.role("payments-api").unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!(comparable(after), comparable(before));
}

// ── What goes wrong ──

/// Every call of the two passes that delete one role, in order.
async fn calls_of_a_deletion() -> Vec<Call> {
    let w = due([orphan("payments-api")]).await;
    assert_eq!(both(&w).await.ending, Ending::Done);
    assert_eq!(w.aws.role("payments-api"), None);
    w.aws.calls().iter().cloned().collect()
}

const TAKING: [&str; 3] = ["DetachRolePolicy", "DeleteRolePolicy", "DeleteRole"];

/// All that the events told of before anything was taken, of however many attempts.
#[derive(Default)]
struct Kept {
    attached: BTreeSet<String>,
    inline: BTreeMap<String, String>,
}

impl Kept {
    fn add(&mut self, w: &World) {
        for event in w.aws.events().iter().filter(|event| event.detail_type == "Role Deletion Begun") {
            let record: RoleRecord = serde_json::from_value(event.detail.clone()).unwrap();
            self.attached.extend(record.attached_policies);
            self.inline.extend(record.inline_policies);
        }
    }
}

/// After a deletion that failed somewhere: the role is whole, or it is known to be half deleted and told so, its record
/// is kept, and the next one finishes. Nothing else was touched.
async fn recovers(w: &World, kind: &str, before: &[Role], report: Option<&Report>) {
    let orphan = before.iter().find(|role| role.name == "payments-api").unwrap();
    let others =
        |roles: Vec<Role>| roles.into_iter().filter(|role| role.name != "payments-api").collect::<Vec<_>>();
    let mut kept = Kept::default();
    kept.add(w);
    if let Some(role) = w.aws.role("payments-api") {
        let whole = role.attached_policies == orphan.attached_policies
            && role.inline_policies == orphan.inline_policies;
        if !whole {
            assert!(role.tags["podgrant/orphaned-since"].ends_with(" begun"), "{kind}");
            for finding in report.iter().flat_map(|report| &report.findings) {
                assert_ne!(finding.kind, FindingKind::OrphanKept, "{kind}: {finding}");
            }
            for standing in report.iter().flat_map(|report| &report.orphans) {
                assert!(standing.text.contains("policies of it may be missing"), "{kind}: {}", standing.text);
            }
        }
    }
    w.forget();
    w.pass(3600);
    let report = both(w).await;
    kept.add(w);
    assert_eq!(w.aws.role("payments-api"), None, "{kind}: {report:?}");
    assert_eq!(report.ending, Ending::Done, "{kind}: {report:?}");
    let attached: BTreeSet<String> = orphan.attached_policies.iter().cloned().collect();
    assert_eq!(kept.attached, attached, "{kind}");
    assert_eq!(kept.inline, orphan.inline_policies.iter().cloned().collect(), "{kind}");
    assert_eq!(others(w.aws.roles()), others(before.to_vec()), "{kind}");
    assert_eq!(w.access(EU, "prod-eu"), ["apps/living living"], "{kind}");
}

type Breaks = fn(Matching) -> Fault;

/// The faults that a call may meet.
const FAULTS: [(&str, Breaks); 5] = [
    ("server error", Matching::server_error),
    ("throttled", Matching::throttle),
    ("denied", Matching::access_denied),
    ("answer lost", Matching::lose_response),
    ("connection dropped", Matching::drop_connection),
];

#[tokio::test]
async fn a_fault_at_any_call_of_a_deletion_leaves_the_role_whole_or_the_next_pass_finishes() {
    let calls = calls_of_a_deletion().await;
    assert!(calls.iter().filter(|call| TAKING.contains(&call.operation.as_str())).count() == 4, "{calls:#?}");
    for (number, call) in calls.iter().enumerate() {
        // The same operation comes several times: the one of this number, and all after it.
        let same =
            calls[..number].iter().filter(|c| (&c.service, &c.operation) == (&call.service, &call.operation));
        let first = 1 + u64::try_from(same.count()).unwrap();
        for (name, fault) in FAULTS {
            let w = due([orphan("payments-api")]).await;
            let before = w.aws.roles();
            w.aws.fault(fault(Fault::on(&call.service, &call.operation).from_nth(first)));
            let report = both(&w).await;
            w.aws.clear_faults();
            recovers(&w, &format!("{name} at {} {call}", number + 1), &before, Some(&report)).await;
        }
    }
}

#[tokio::test]
async fn a_handler_that_dies_at_any_call_of_a_deletion_is_followed_by_one_that_finishes() {
    let calls = calls_of_a_deletion().await;
    for number in 1..=calls.len() {
        let w = due([orphan("payments-api")]).await;
        let before = w.aws.roles();
        let gate = Gate::closed();
        w.aws.fault(Fault::on_any().nth(u64::try_from(number).unwrap()).wait_for(&gate));
        tokio::select! {
            report = both(&w) => panic!("{number}: {report:?}"),
            () = gate.reached_by(1) => {}
        }
        w.aws.clear_faults();
        recovers(&w, &format!("died at {} {}", number, calls[number - 1]), &before, None).await;
    }
}

#[tokio::test]
async fn what_was_taken_and_answered_by_nobody_is_told_as_taken() {
    for operation in TAKING {
        let w = due([orphan("payments-api")]).await;
        pass(&w).await;
        w.pass(60);
        w.forget();
        w.aws.fault(Fault::on("iam", operation).first(1).lose_response());
        let report = w.serve(Function::CleanUpOrphans, &looks_again()).await;
        assert_eq!(report.ending, Ending::Done, "{operation}: {report:?}");
        let told = w.aws.events().iter().filter(|event| event.detail_type == "Role Deleted").count();
        assert_eq!((w.aws.role("payments-api"), told), (None, 1), "{operation}");
    }
}

#[tokio::test]
async fn nothing_is_taken_before_what_it_was_is_kept() {
    let w = due([orphan("payments-api")]).await;
    pass(&w).await;
    w.pass(60);
    w.forget();
    let before = w.aws.role("payments-api");
    w.aws.fault(Fault::on("events", "PutEvents").access_denied());
    assert_snapshot!(w.clean_up(&looks_again()).await, @"
    failed: what payments-api is could not be kept, and so nothing of it is taken: events:PutEvents podgrant: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: events:PutEvents; events:PutEvents podgrant: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: events:PutEvents
    = 1 unchanged
    - role /teams/payments/payments-api  policies payments, AmazonS3ReadOnlyAccess  inline policies queue  (orphaned since 2026-03-02T10:15:30Z, last used 2026-01-11T10:15:30Z; its deletion was begun) => failed: what payments-api is could not be kept, and so nothing of it is taken: events:PutEvents podgrant: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: events:PutEvents
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    tagging eu-west-1 GetResources podgrant/role-name=payments-api
    tagging us-east-1 GetResources podgrant/role-name=payments-api
    eks eu-west-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    eks us-east-1 DescribeCluster gone-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    events eu-west-1 PutEvents 1 -> 400 AccessDeniedException
    events eu-west-1 PutEvents 1 -> 400 AccessDeniedException
    ");
    assert_eq!(w.aws.role("payments-api"), before);
    // And in this order.
    let calls = calls_of_a_deletion().await;
    let place = |operation: &str| calls.iter().position(|call| call.operation == operation).unwrap();
    let order = ["TagRole", "PutEvents", "DetachRolePolicy", "DeleteRolePolicy", "DeleteRole"].map(place);
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test]
async fn a_role_that_may_not_be_deleted_holds_up_no_other() {
    let w = due([orphan("forbidden"), orphan("payments-api")]).await;
    w.aws.fault(Fault::on("iam", "DetachRolePolicy").with("RoleName", "forbidden").access_denied());
    let report = both(&w).await;
    assert_eq!(report.ending, Ending::Done);
    assert_eq!(w.aws.role("payments-api"), None);
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_snapshot!(findings.join("\n"), @"half-deleted role: role forbidden: AWS refuses its deletion, and policies of it may be missing: iam:DetachRolePolicy forbidden: AccessDenied: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: iam:DetachRolePolicy; allow it, or give back what the event Role Deletion Begun says that it had, and take the tag podgrant put on it away");
    assert!(mark_of(&w, "forbidden").unwrap().ends_with(" begun"));
}

// ── What happens meanwhile ──

#[tokio::test]
async fn whatever_speaks_for_a_role_between_two_looks_keeps_it() {
    type Happens = fn(&FakeAws);
    let happenings: [(&str, Happens); 10] = [
        ("podgrant gives it to pods elsewhere", |aws| {
            let mut association = aws.delete_association(EU, "prod-eu", "apps", "living").unwrap();
            let arn = orphan("payments-api").arn();
            association.tags.insert("podgrant/role".to_owned(), arn.clone());
            association.tags.insert("podgrant/role-name".to_owned(), "payments-api".to_owned());
            association.role_arn = arn;
            aws.add_association(association);
        }),
        ("its cluster is made again", |aws| aws.add_cluster(Cluster::named("gone-eu").status("CREATING"))),
        ("it no longer asks", |aws| aws.untag_role("payments-api", "podgrant/on-orphan")),
        ("its mark is taken off", |aws| aws.untag_role("payments-api", "podgrant/orphaned-since")),
        ("it gets another grant", |aws| aws.tag_role("payments-api", "podgrant/grant/more", "a/b@prod-eu")),
        ("it is used", |aws| {
            aws.change_role("payments-api", |role| role.last_used = Some((NOW + GRACE, EU.to_owned())))
        }),
        ("it comes into an instance profile", |aws| {
            aws.change_role("payments-api", |role| role.instance_profiles.push("nodes".to_owned()));
        }),
        ("somebody else may assume it", |aws| {
            aws.change_role("payments-api", |role| role.trust_policy = Role::named("x").trust_policy);
        }),
        ("it gets a policy", |aws| {
            aws.change_role("payments-api", |role| {
                role.attached_policies.push("arn:aws:iam::aws:policy/x".to_owned())
            });
        }),
        ("it is deleted and made again", |aws| {
            let mut role = aws.delete_role("payments-api").unwrap();
            role.id.clear();
            aws.add_role(role);
        }),
    ];
    for (what, happens) in happenings {
        for begun in [false, true] {
            let w = due([orphan("payments-api")]).await;
            if begun {
                pass(&w).await;
                w.pass(60);
                w.forget();
            }
            // After everything was looked at, and before it is looked at once more.
            w.aws.fault(Fault::on("tagging", "GetResources").nth(3).meanwhile(happens));
            let report = w.serve(Function::CleanUpOrphans, &looks_again()).await;
            assert!(!w.aws.calls().iter().any(|call| TAKING.contains(&call.operation.as_str())), "{what}");
            let role = w.aws.role("payments-api").unwrap_or_else(|| panic!("{what}"));
            assert_eq!(report.ending, Ending::Done, "{what}");
            assert!(!w.aws.events().iter().any(|event| event.detail_type.starts_with("Role Del")), "{what}");
            let is_begun =
                role.tags.get("podgrant/orphaned-since").is_some_and(|mark| mark.ends_with(" begun"));
            assert!(begun || !is_begun, "{what}");
        }
    }
}

#[tokio::test]
async fn a_cluster_or_grant_that_comes_back_takes_the_mark_off() {
    let w = due([orphan("payments-api")]).await;
    w.aws.add_cluster(Cluster::named("gone-eu").region(US));
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    = 1 unchanged
    ~ role payments-api  - orphaned since 2026-03-02T10:15:30Z  (it is no orphan: cluster us-east-1/gone-eu is there) => done
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster gone-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks us-east-1 ListPodIdentityAssociations gone-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 UntagRole payments-api
    events eu-west-1 PutEvents 1
    * Orphan Unmarked payments-api it is no orphan: cluster us-east-1/gone-eu is there
    ");
    assert_eq!(mark_of(&w, "payments-api"), None);
    // Gone again: the grace period begins anew.
    w.aws.delete_cluster(US, "gone-eu");
    pass(&w).await;
    w.pass(GRACE - 1);
    pass(&w).await;
    assert!(w.aws.role("payments-api").is_some());
    w.pass(1);
    both(&w).await;
    assert_eq!(w.aws.role("payments-api"), None);
}

/// Deleted and made again, tags and all.
fn replace(aws: &FakeAws) {
    let mut role = aws.delete_role("payments-api").unwrap();
    role.id.clear();
    aws.add_role(role);
}

#[tokio::test]
async fn a_role_made_again_in_the_last_moment_is_not_marked() {
    // Its first mark, and the one that its deletion begins with: after the last of all reads but one.
    for (w, read) in [(world().await, 1), (due([orphan("payments-api")]).await, 3)] {
        if w.aws.role("payments-api").is_none() {
            w.aws.add_role(orphan("payments-api"));
        }
        w.aws.fault(Fault::on("iam", "GetRole").nth(read).meanwhile(replace));
        pass(&w).await;
        assert_eq!(w.aws.calls().count("TagRole"), 0, "{read}");
    }
}

#[tokio::test]
async fn a_region_that_can_not_be_asked_for_a_roles_cluster_keeps_the_role() {
    let w = due([orphan("payments-api")]).await;
    w.aws.fault(Fault::on("eks", "DescribeCluster").with("name", "gone-eu").region(US).server_error());
    let report = pass(&w).await;
    assert_eq!((w.aws.calls().count("TagRole"), report.ending), (0, Ending::Failed), "{report:?}");
}

#[tokio::test]
async fn a_mark_that_says_more_since_it_was_looked_at_is_not_taken_off() {
    let w = due([orphan("payments-api")]).await;
    w.aws.add_cluster(Cluster::named("gone-eu"));
    let begun = format!("{} begun", mark_of(&w, "payments-api").unwrap());
    let tag = begun.clone();
    w.aws.fault(Fault::on("iam", "GetRole").nth(1).meanwhile(move |aws| {
        aws.tag_role("payments-api", "podgrant/orphaned-since", &tag);
    }));
    pass(&w).await;
    assert_eq!(mark_of(&w, "payments-api"), Some(begun));
}

#[tokio::test]
async fn a_deletion_stops_where_the_time_is_up_and_the_next_look_ends_it() {
    let w = due([orphan("payments-api")]).await;
    pass(&w).await;
    w.pass(60);
    w.forget();
    let hand = w.clock_hand();
    w.aws.fault(Fault::on("iam", "DetachRolePolicy").nth(1).meanwhile(move |_| {
        hand.fetch_add(3600, std::sync::atomic::Ordering::Relaxed);
    }));
    let report = pass(&w).await;
    assert_eq!((w.aws.calls().count("DetachRolePolicy"), report.ending), (1, Ending::NotYet), "{report:?}");
    w.aws.clear_faults();
    let report = pass(&w).await;
    assert_eq!((w.aws.role("payments-api"), report.ending), (None, Ending::Done), "{report:?}");
}

#[tokio::test]
async fn a_mark_that_changed_since_it_was_looked_at_is_left() {
    let w = world().await;
    w.aws.add_role(orphan("payments-api"));
    let earlier = "2026-03-02T10:15:29Z AROA00000000000000001";
    w.aws.fault(Fault::on("iam", "GetRole").nth(1).meanwhile(move |aws| {
        aws.tag_role("payments-api", "podgrant/orphaned-since", earlier);
    }));
    let report = pass(&w).await;
    assert_eq!(report.ending, Ending::Done);
    assert_eq!(mark_of(&w, "payments-api").unwrap(), earlier);
}

// ── What protects ──

fn association_of(cluster: &str, arn: &str) -> Association {
    Association::of(cluster, "somewhere", "else").role_arn(arn)
}

#[tokio::test]
async fn each_protection_is_read_from_aws() {
    type Protects = fn(&World);
    let protections: [(&str, Protects, &str); 7] = [
        (
            "an association that somebody else made",
            |w| drop(w.aws.add_association(association_of("prod-eu", &orphan("payments-api").arn()))),
            "pods have it: eu-west-1/prod-eu somewhere/else",
        ),
        (
            "one on a cluster that opted out",
            |w| {
                w.aws.add_cluster(Cluster::named("left-alone").region(US).tag("podgrant/enroll", "off"));
                w.aws.add_association(association_of("left-alone", &orphan("payments-api").arn()).region(US));
            },
            "pods have it: us-east-1/left-alone somewhere/else",
        ),
        (
            "one that gives it as a target role",
            |w| {
                let mut association = association_of("prod-eu", "arn:aws:iam::111122223333:role/living");
                association.target_role_arn = orphan("payments-api").arn();
                w.aws.add_association(association);
            },
            "pods have it",
        ),
        (
            "an instance profile",
            |w| w.aws.change_role("payments-api", |role| role.instance_profiles.push("nodes".to_owned())),
            "it is in instance profiles (nodes)",
        ),
        (
            "its last use",
            |w| {
                w.aws.change_role("payments-api", |role| {
                    role.last_used = Some((NOW + GRACE - DAY, EU.to_owned()))
                })
            },
            "it was used at 2026-03-08T10:15:30Z",
        ),
        (
            "somebody else in its trust policy",
            |w| w.aws.change_role("payments-api", |role| role.trust_policy = Role::named("x").trust_policy),
            "its trust policy lets in others than pods (ec2.amazonaws.com)",
        ),
        (
            "one of podgrant's own that was given to it by hand, on a cluster that opted out since",
            |w| {
                w.aws.tag_cluster(EU, "prod-eu", "podgrant/enroll", "off");
                let mut association = w.aws.delete_association(EU, "prod-eu", "apps", "living").unwrap();
                association.role_arn = orphan("payments-api").arn();
                w.aws.add_association(association);
            },
            "pods have it: eu-west-1/prod-eu apps/living",
        ),
    ];
    for (what, protects, why) in protections {
        let w = due([orphan("payments-api")]).await;
        protects(&w);
        let report = pass(&w).await;
        let role = w.aws.role("payments-api").unwrap_or_else(|| panic!("{what}"));
        assert_eq!((role.attached_policies.len(), role.inline_policies.len()), (2, 1), "{what}");
        let told: Vec<String> = report.changes.iter().map(|change| change.change.clone()).collect();
        assert!(told.iter().any(|change| change.contains(why)), "{what}: {told:?}");
        assert_eq!(mark_of(&w, "payments-api"), None, "{what}");
    }
}

#[tokio::test]
async fn an_association_that_lost_its_grant_and_still_stands_protects_its_role() {
    let w = world().await;
    w.aws.add_cluster(Cluster::named("gone-eu"));
    w.aws.set_policy("arn:aws:iam::111122223333:policy/payments", QUEUE_POLICY);
    w.given(orphan("payments-api")).await;
    w.aws.tag_role("payments-api", "podgrant/grant", "payments/api@never-came");
    assert_snapshot!(w.counted(Function::CleanUpOrphans, &sweep()).await, @"
    done
    = 1 unchanged
    ! orphan kept: role payments-api: every cluster that its grants name is gone (never-came); it is kept: pods have it: eu-west-1/gone-eu payments/api (association a-000000000000001, podgrant's)
    2 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListClusters
    2 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 ListClusters
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Found payments-api orphan-kept
    * Orphan Report
      role payments-api: every cluster that its grants name is gone (never-came); it is kept: pods have it: eu-west-1/gone-eu payments/api (association a-000000000000001, podgrant's)
    ");
    assert_eq!(mark_of(&w, "payments-api"), None);
}

#[tokio::test]
async fn where_not_every_association_can_be_seen_no_role_goes_and_all_else_does() {
    let w = due([orphan("payments-api")]).await;
    w.given(role("leaving", "apps/leaving@prod-eu")).await;
    w.aws.delete_role("leaving");
    w.aws.add_cluster(Cluster::named("sealed").region(US).tag("podgrant/enroll", "off"));
    w.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").region(US).access_denied());
    let story = w.sweep_orphans().await;
    assert!(w.aws.role("payments-api").is_some());
    assert_eq!(w.access(EU, "prod-eu"), ["apps/living living"]);
    assert!(
        story.contains(
            "what may protect it was not looked for: eks:ListPodIdentityAssociations us-east-1/sealed"
        ),
        "{story}"
    );
}

#[tokio::test]
async fn an_association_that_can_not_be_described_keeps_every_role() {
    let w = due([orphan("payments-api")]).await;
    w.aws.add_association(association_of("prod-eu", "arn:aws:iam::111122223333:role/living"));
    w.aws.fault(Fault::on("eks", "DescribePodIdentityAssociation").access_denied());
    let report = pass(&w).await;
    assert_eq!((w.aws.calls().count("TagRole"), report.ending), (0, Ending::Done));
    assert!(report.orphans[0].text.contains("was not looked for: eks:Describe"), "{report:?}");
}

#[tokio::test]
async fn what_goes_together_is_read_together_but_for_what_may_not_be_read() {
    for (denied, marked) in [(false, 0), (true, 1)] {
        let w = due([orphan("a"), orphan("b")]).await;
        let reads = Fault::on("iam", "ListInstanceProfilesForRole").with("RoleName", "a");
        w.aws.fault(if denied { reads.access_denied() } else { reads.server_error() });
        pass(&w).await;
        assert_eq!(w.aws.calls().count("TagRole"), marked, "denied: {denied}");
    }
}

#[tokio::test]
async fn what_the_index_did_not_know_yet_is_gone_at_two_looks_too() {
    let w = world().await;
    w.given(role("leaving", "apps/leaving@prod-eu")).await;
    w.aws.hide_from_index(EU, "prod-eu", "apps", "leaving", 99);
    w.aws.delete_role("leaving");
    let report = pass(&w).await;
    assert_eq!((report.ending, w.access(EU, "prod-eu").len()), (Ending::NotYet, 1), "{report:?}");
}

#[tokio::test]
async fn a_role_that_a_listing_left_out_makes_no_association_of_others_dangle() {
    let w = world().await;
    w.aws.add_role(Role::named("known"));
    w.aws.add_association(association_of("prod-eu", "arn:aws:iam::111122223333:role/known"));
    w.aws.hide_role("known", 1);
    let report = pass(&w).await;
    assert_eq!((report.ending, report.findings), (Ending::Done, vec![]));
}

#[tokio::test]
async fn where_time_is_up_no_role_goes() {
    let mut w = due([orphan("payments-api")]).await;
    w.time_left = 0;
    let report = pass(&w).await;
    assert!(w.aws.role("payments-api").is_some());
    assert!(report.orphans[0].text.contains("no time was left to look at every association"), "{report:?}");
}

#[tokio::test]
async fn while_a_role_waits_and_no_other_is_found_only_a_share_of_the_clusters_is_listed() {
    let w = World::with(&[("PODGRANT_DELETE_ROLES", "on"), ("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    w.aws.add_role(orphan("payments-api"));
    let listed = |w: &World| w.aws.calls().iter().any(|call| call.operation == "ListPodIdentityAssociations");
    pass(&w).await;
    assert!(listed(&w), "to mark");
    for _ in 0..3 {
        w.forget();
        w.pass(3600);
        pass(&w).await;
        assert!(!listed(&w), "to wait");
    }
    w.pass(GRACE);
    pass(&w).await;
    assert!(listed(&w), "to delete");
}

#[tokio::test]
async fn every_association_is_looked_at_once_in_all_rounds_but_for_what_was_begun() {
    let w = World::with(&[("PODGRANT_DELETE_ROLES", "on"), ("PODGRANT_DRIFT_ROUNDS", "24")]).await;
    for cluster in 0..3 {
        w.aws.add_cluster(Cluster::named(format!("cluster-{cluster}")));
    }
    w.aws.add_role(orphan("payments-api"));
    let listed = |w: &World| w.aws.calls().count("ListPodIdentityAssociations") == 4;
    let mut looks = 0;
    for _ in 0..24 {
        w.forget();
        let report = pass(&w).await;
        looks += usize::from(listed(&w));
        if mark_of(&w, "payments-api").is_none() {
            let text = &report.orphans[0].text;
            assert!(text.contains("every association is looked at once in 24 sweeps"), "{text}");
        }
        w.pass(3600);
    }
    assert_eq!(looks, 1);
    assert!(mark_of(&w, "payments-api").is_some());
    let mark = mark_of(&w, "payments-api").unwrap();
    w.aws.tag_role("payments-api", "podgrant/orphaned-since", &format!("{mark} begun"));
    w.pass(GRACE);
    pass(&w).await;
    assert_eq!(w.aws.role("payments-api"), None);
}

// ── Associations of others ──

#[tokio::test]
async fn an_association_of_others_whose_role_is_gone_is_told_within_a_round_of_sweeps() {
    let w = World::with(&[("PODGRANT_DRIFT_ROUNDS", "3"), ("PODGRANT_SWEEP_MINUTES", "60")]).await;
    w.aws.add_role(Role::named("known"));
    w.aws.add_association(
        Association::of("prod-eu", "a", "known").role_arn("arn:aws:iam::111122223333:role/known"),
    );
    w.aws.add_association(
        Association::of("prod-eu", "a", "dangling").role_arn("arn:aws:iam::111122223333:role/old/unknown"),
    );
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(w.counted(Function::CleanUpOrphans, &again(sweep())).await);
        w.pass(3600);
    }
    told.retain(|story| story.contains("dangling"));
    assert_eq!(told.len(), 1);
    assert_snapshot!(told[0], @"
    done
    ! dangling association: eu-west-1/prod-eu a/dangling role unknown: association a-000000000000002 is not podgrant's, and its role does not exist: whoever makes a role of that name gives it to these pods; delete the association, or make the role
    1 x eks eu-west-1 DescribeCluster
    2 x eks eu-west-1 DescribePodIdentityAssociation
    1 x eks eu-west-1 ListClusters
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 ListClusters
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x iam us-east-1 GetRole -> NoSuchEntity
    1 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    * Orphan Found eu-west-1/prod-eu a/dangling unknown dangling-association
    ");
    assert_eq!(w.access(EU, "prod-eu").len(), 2);
}

// ── Limits on loss ──

fn invoke(allow: &Value) -> Value {
    let mut event = sample("sweep");
    if !allow.is_null() {
        event["allow"] = allow.clone();
    }
    event
}

#[tokio::test]
async fn too_many_roles_are_none_and_can_be_allowed_once() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let w = due(names.map(orphan)).await;
    let there = |w: &World| names.iter().filter(|name| w.aws.role(name).is_some()).count();
    let report = pass(&w).await;
    assert_eq!((there(&w), report.ending), (6, Ending::Done));
    assert_snapshot!(report.findings[0], @r#"withheld: role a: this pass would delete 6 roles, and at most 5 are allowed; if that is meant, allow it once by invoking this function with "allow": {"roleDeletions": 6} beside the event, or raise PODGRANT_MAX_ROLE_DELETIONS to 6"#);
    assert_eq!(w.aws.events().iter().filter(|event| event.detail_type == "Deletions Withheld").count(), 1);
    let flow = w.flow(Function::CleanUpOrphans);
    // Not by a message: whoever may put an event on a bus may not raise a limit.
    let body = invoke(&json!({"roleDeletions": 6})).to_string();
    let batch = json!({"Records": [{"messageId": "m-1", "body": body}]});
    assert_eq!(answer(&flow, batch, w.deadline()).await.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!(there(&w), 6);
    let refused = answer(&flow, invoke(&json!({"roles": 6})), w.deadline()).await.unwrap();
    assert_snapshot!(refused["reason"].as_str().unwrap(), @r#"allow: unknown field `roles`, expected one of `deletions`, `roleDeletions`, `share`; expected some of {"deletions": 120, "roleDeletions": 8, "share": 0.5}"#);
    assert_eq!((there(&w), &refused["ending"]), (6, &json!("malformed")));
    let allowed = answer(&flow, invoke(&json!({"roleDeletions": 6})), w.deadline()).await.unwrap();
    assert_eq!(allowed["ending"], "not-yet", "{allowed}");
    // Begun, they need no further allowance.
    w.pass(60);
    let report = w.serve(Function::CleanUpOrphans, &looks_again()).await;
    assert_eq!((there(&w), report.ending), (0, Ending::Done), "{report:?}");
}

#[tokio::test]
async fn a_direct_invoke_tells_a_person_all_and_leaves_second_looks_to_the_schedule() {
    let w = due([orphan("payments-api"), orphan("used").last_used(NOW + GRACE - DAY)]).await;
    w.given(role("leaving", "apps/leaving@prod-eu")).await;
    w.aws.delete_role("leaving");
    let flow = w.flow(Function::CleanUpOrphans);
    let mut told = answer(&flow, invoke(&Value::Null), w.deadline()).await.unwrap();
    told["durationMs"].take();
    assert_snapshot!(serde_json::to_string_pretty(&told).unwrap(), @r#"
    {
      "changes": [
        {
          "change": "- role /teams/payments/payments-api  policies payments, AmazonS3ReadOnlyAccess  inline policies queue  (orphaned since 2026-03-02T10:15:30Z, last used 2026-01-11T10:15:30Z)",
          "follow_up": {
            "kind": "orphans",
            "roles_missed": []
          },
          "reason": "payments-api is marked, and its deletion goes on when IAM shows that",
          "verdict": "not-yet"
        }
      ],
      "dryRun": false,
      "durationMs": null,
      "ending": "not-yet",
      "findings": [
        {
          "kind": "orphan-kept",
          "reason": "every cluster that its grants name is gone (gone-eu); it is kept: it was used at 2026-03-08T10:15:30Z, within the grace period",
          "role": "arn:aws:iam::111122223333:role/teams/payments/used"
        }
      ],
      "function": "clean-up-orphans",
      "id": "0000006b-1111-4222-8333-0000000cede5",
      "orphans": [
        {
          "roleArn": "arn:aws:iam::111122223333:role/teams/payments/payments-api",
          "since": "2026-03-02T10:15:30Z",
          "standing": "goes",
          "text": "role payments-api: every cluster that its grants name is gone (gone-eu); it goes  (orphaned since 2026-03-02T10:15:30Z)  => not yet: payments-api is marked, and its deletion goes on when IAM shows that"
        },
        {
          "roleArn": "arn:aws:iam::111122223333:role/teams/payments/used",
          "standing": "kept",
          "text": "role used: every cluster that its grants name is gone (gone-eu); it is kept: it was used at 2026-03-08T10:15:30Z, within the grace period"
        }
      ],
      "trigger": {
        "kind": "sweep"
      },
      "unchanged": 1,
      "waiting": [
        "what does not show is gone if it does not show after a while either: role leaving; payments-api is marked, and its deletion goes on when IAM shows that"
      ]
    }
    "#);
    assert_eq!(w.access(EU, "prod-eu"), ["apps/leaving leaving", "apps/living living"]);
    assert!(w.aws.messages().is_empty());
    // Who allows something has seen it before.
    answer(&flow, invoke(&json!({"deletions": 1})), w.deadline()).await.unwrap();
    assert_eq!(w.access(EU, "prod-eu"), ["apps/living living"]);
}

#[tokio::test]
async fn a_dry_run_tells_all_and_does_nothing() {
    let w = World::with(&[
        ("PODGRANT_DELETE_ROLES", "on"),
        ("PODGRANT_DRIFT_ROUNDS", "1"),
        ("PODGRANT_DRY_RUN", "on"),
    ])
    .await;
    let mark = format!("2026-02-01T00:00:00Z {}", "AROA00000000000000001");
    w.aws.add_role(orphan("payments-api").tag("podgrant/orphaned-since", mark));
    w.aws.add_role(orphan("new"));
    let before = w.aws.roles();
    assert_snapshot!(w.clean_up(&sweep()).await, @"
    done
    ~ role new  + orphaned since 2026-03-02T10:15:30Z => planned
    - role /teams/payments/payments-api  policies payments, AmazonS3ReadOnlyAccess  inline policies queue  (orphaned since 2026-02-01T00:00:00Z, last used 2026-01-11T10:15:30Z) => planned
    ! orphan role: role new: every cluster that its grants name is gone (gone-eu); its tags say podgrant/on-orphan = delete: it is marked, and deleted after 2026-03-09T10:15:30Z
    tagging eu-west-1 GetResources podgrant/managed
    tagging us-east-1 GetResources podgrant/managed
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetRole payments-api
    iam us-east-1 ListInstanceProfilesForRole payments-api
    iam us-east-1 ListAttachedRolePolicies payments-api
    iam us-east-1 ListRolePolicies payments-api
    iam us-east-1 GetRolePolicy payments-api
    ");
    assert_eq!(w.aws.roles(), before);
}

// ── A cluster's end ──

#[tokio::test]
async fn nothing_of_a_deleted_cluster_stays_behind() {
    let w = world().await;
    w.aws.add_cluster(Cluster::named("leaving"));
    w.aws.index_shows_ghosts(99, Ghost::WithTags);
    // All that a cluster's life leaves on queues and in places.
    w.install_agent(&sweep()).await;
    w.given(role("payments-api", "payments/api@leaving").created_at(NOW - 100 * DAY)).await;
    w.aws.delete_cluster(EU, "leaving");
    for function in [Function::InstallAgent, Function::ReconcileAssociations, Function::CleanUpOrphans] {
        w.forget();
        let report = w.serve(function, &again(sweep())).await;
        assert_eq!(report.ending, Ending::Done, "{function:?} {report:?}");
        assert_eq!(report.changes, vec![], "{function:?}");
    }
    let work = [
        json!({"kind": "cluster-creating", "cluster": {"region": EU, "name": "leaving"}}),
        json!({"kind": "agent-starting", "cluster": {"region": EU, "name": "leaving"}}),
        json!({"kind": "cluster-grants", "cluster": {"region": EU, "name": "leaving"}}),
        json!({"kind": "cluster-deleting", "cluster": {"region": EU, "name": "leaving"}}),
    ];
    let functions = [
        Function::InstallAgent,
        Function::InstallAgent,
        Function::ReconcileAssociations,
        Function::CleanUpOrphans,
    ];
    for (work, function) in work.into_iter().zip(functions) {
        let mut message = sample("deferred");
        message["detail"]["followUp"] = work.clone();
        let report = w.serve(function, &message).await;
        assert_eq!((report.ending, report.changes.len()), (Ending::Done, 0), "{work} {report:?}");
        assert!(w.aws.messages().is_empty(), "{work}");
    }
}
