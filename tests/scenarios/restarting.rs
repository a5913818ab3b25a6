//! Rolling workloads on a real API server, with its real Deployment controller; the test is the kubelet, and the controllers that
//! are not there.

use std::sync::atomic::Ordering;

use insta::assert_snapshot;
use podgrant_aws::{Restarts, Rolled, Roller};
use podgrant_core::Workload;
use podgrant_core::explain::Target;
use podgrant_core::explain::evidence::Owner;
use podgrant_core::migrate::ANNOTATION;
use podgrant_core::moment::rfc3339;
use podgrant_core::restart::{ObjectRef, Progress, RESTARTED_AT, Restart, Strategy};
use podgrant_tests::fake::{Association, Cluster, Role};
use podgrant_tests::local_kubernetes::LocalKubernetes;
use serde_json::{Value, json};

use crate::explain::{by_hand, timeless};
use crate::kubernetes::{eks_server, world};
use crate::world::{EU, SECRET_KEY, World};

const USER: &str = "AKIDSCENARIOS";

fn roller() -> Roller {
    Roller::new(
        podgrant_kubernetes::annotated,
        podgrant_kubernetes::pods_of_accounts,
        podgrant_kubernetes::objects,
        podgrant_kubernetes::budgets,
        podgrant_kubernetes::roll,
        podgrant_kubernetes::annotate,
    )
}

fn let_in(server: &LocalKubernetes, policy: &str) {
    let user = json!({
        "secret": SECRET_KEY, "arn": "arn:aws:iam::111122223333:user/ops",
        "policies": [{"policy": policy}],
    });
    server.know(&json!({"cluster": "prod-eu", "credentials": {USER: user}})).unwrap();
}

fn template(account: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": account}},
        "spec": {"serviceAccountName": account, "containers": [{"name": "app", "image": "registry.example/app:none"}]},
    })
}

fn keeper(kind: &str, account: &str, more: Value) -> Value {
    let mut keeper = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": "rolled", "name": account},
        "spec": {"selector": {"matchLabels": {"app": account}}, "template": template(account)},
    });
    keeper["spec"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keeper
}

fn named(kind: &str, name: &str) -> ObjectRef {
    let owner = Owner { group: "apps".to_owned(), kind: kind.to_owned(), name: name.to_owned() };
    ObjectRef { namespace: "rolled".to_owned(), owner }
}

/// A Deployment of two pods in a namespace of its own, whose association was made a minute later.
async fn deployed(server: &LocalKubernetes) -> World {
    let w = world(server).await;
    let api = server.api();
    w.aws.add_cluster(Cluster::named("prod-eu").endpoint(&api.endpoint, &api.certificate_authority));
    let _ = server.remove_namespace("rolled").await;
    server.add_accounts("rolled", &["api", "db"]).await.unwrap();
    server.put_object(&keeper("Deployment", "api", json!({"replicas": 2}))).await.unwrap();
    server.run_pods("rolled", 2, None).await.unwrap();
    w.aws.add_role(Role::named("some-role").trusting_pods());
    for account in ["api", "db"] {
        let mut made = Association::of("prod-eu", "rolled", account);
        // The server's clock is real, and the world's a while behind.
        let at = w.clock_hand().load(Ordering::Relaxed) + 7200;
        (made.created_at, made.modified_at) = (at, at);
        w.aws.add_association(made);
    }
    w
}

fn now(w: &World) -> i64 {
    // Another second, another token.
    w.pass(1);
    w.clock_hand().load(Ordering::Relaxed)
}

async fn look(w: &World, target: Target) -> Restarts {
    by_hand(w).restarts(&target, &roller(), None, now(w)).await
}

fn all(restarts: &Restarts) -> Vec<&Restart> {
    restarts.clusters.iter().flat_map(|(_, restarts)| restarts).collect()
}

fn shown(restarts: &Restarts) -> String {
    let lines = all(restarts).into_iter().map(|restart| {
        let Restart { workload, pods, of, why, step, .. } = restart;
        format!("{workload}: {} of {of}, {why}\n    {}: {}\n", pods.len(), step.kind.as_str(), step.told)
    });
    let unread = restarts.unread.iter().map(|(_, why)| format!("not read: {why}\n"));
    timeless(&lines.chain(unread).collect::<String>())
}

fn budget() -> Value {
    json!({
        "apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget",
        "metadata": {"namespace": "rolled", "name": "api"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "api"}}},
    })
}

/// In the disruption controller's place.
fn counted(allowed: i32) -> Value {
    json!({"disruptionsAllowed": allowed, "currentHealthy": 2, "desiredHealthy": 2 - allowed, "expectedPods": 2, "observedGeneration": 1})
}

#[tokio::test]
async fn a_deployment_is_rolled_as_kubernetes_rolls() {
    let Some(server) = eks_server().await else { return };
    let w = deployed(&server).await;
    let_in(&server, "AmazonEKSEditPolicy");
    let account = || Target::service_account("rolled/api@prod-eu").unwrap();

    // Held by a budget, as long as it lets none go.
    server.put_object(&budget()).await.unwrap();
    server.report(&budget(), &counted(0)).await.unwrap();
    assert_snapshot!(shown(&look(&w, account()).await), @"
    Deployment rolled/api: 2 of 2, made before its association (2026-01-01T00:00:00Z)
        held-back: PodDisruptionBudget api lets no pod go now: 2 healthy, and 2 must be
    ");
    server.report(&budget(), &counted(1)).await.unwrap();
    let found = look(&w, account()).await;
    assert_snapshot!(shown(&found), @"
    Deployment rolled/api: 2 of 2, made before its association (2026-01-01T00:00:00Z)
        roll:
    ");

    let (cluster, restart) = (&found.clusters[0].0, &found.clusters[0].1[0]);
    let moment = rfc3339(now(&w));
    let aws = by_hand(&w);
    let rolled = aws.roll(cluster, restart, &moment, &roller(), None, now(&w)).await;
    let Rolled::Done(generation) = rolled else { panic!("{rolled:?}") };
    let stands = server.object(&keeper("Deployment", "api", json!({}))).await.unwrap();
    assert_eq!(stands["spec"]["template"]["metadata"]["annotations"], json!({RESTARTED_AT: moment}));
    assert_eq!((stands["metadata"]["generation"].as_i64(), generation), (Some(2), 2));
    // The answer came twice: it is done once.
    let again = aws.roll(cluster, restart, &moment, &roller(), None, now(&w)).await;
    assert_eq!(again, Rolled::Done(generation));

    // The real controller makes its pods anew, as they become ready.
    let object = named("Deployment", "api");
    let mut seen = Vec::new();
    server.run_pods("rolled", 2, Some(RESTARTED_AT)).await.unwrap();
    for _ in 0..600 {
        let progress =
            aws.rolling(cluster, &object, &roller(), now(&w)).await.unwrap().unwrap().progress(generation);
        if progress == Progress::Done {
            break;
        }
        seen.push(progress);
        server.run_pods("rolled", 2, Some(RESTARTED_AT)).await.unwrap();
    }
    assert!(seen.len() < 600, "{:?}", seen.last());
    // No webhook of EKS's is here: the new pods lack them too, and are said to.
    assert_snapshot!(shown(&look(&w, account()).await), @"
    Deployment rolled/api: 2 of 2, made before its association (2026-01-01T00:00:00Z)
        roll:
    ");
    server.remove_namespace("rolled").await.unwrap();
}

#[tokio::test]
async fn what_is_not_rolled_is_read_as_it_stands() {
    let Some(server) = eks_server().await else { return };
    let w = deployed(&server).await;
    let_in(&server, "AmazonEKSEditPolicy");
    server.put_object(&keeper("Deployment", "api", json!({"replicas": 2, "paused": true}))).await.unwrap();
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    server.put_object(&keeper("DaemonSet", "node", on_delete)).await.unwrap();
    let partition = json!({
        "replicas": 1, "serviceName": "db",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}},
    });
    server.put_object(&keeper("StatefulSet", "db", partition)).await.unwrap();
    // Its controller is not there: the test makes its pod.
    let made = server.object(&keeper("StatefulSet", "db", json!({}))).await.unwrap();
    let mut pod = template("db");
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"] = json!({"namespace": "rolled", "name": "db-0", "ownerReferences": [{
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": made["metadata"]["uid"], "controller": true,
    }]});
    server.put_object(&pod).await.unwrap();
    let mut bare = template("api");
    bare["apiVersion"] = json!("v1");
    bare["kind"] = json!("Pod");
    bare["metadata"] = json!({"namespace": "rolled", "name": "bare"});
    server.put_object(&bare).await.unwrap();
    let cluster = Target::cluster("prod-eu").unwrap();
    assert_snapshot!(shown(&look(&w, cluster.clone()).await), @"
    Deployment rolled/api: 2 of 2, made before its association (2026-01-01T00:00:00Z)
        by-hand: it is paused
    StatefulSet rolled/db: 1 of 1, made before its association (2026-01-01T00:00:00Z)
        by-hand: it keeps its pods below number 1 as they are (partition)
    Pod rolled/bare: 1 of 1, made before its association (2026-01-01T00:00:00Z)
        by-hand: nobody makes it anew
    ");

    let found = look(&w, cluster).await;
    let aws = by_hand(&w);
    let node = aws.rolling(&found.clusters[0].0, &named("DaemonSet", "node"), &roller(), now(&w)).await;
    let node = node.unwrap().unwrap();
    assert_eq!((node.strategy, node.is_ordered), (Strategy::OnDelete, false));
    let db = aws.rolling(&found.clusters[0].0, &named("StatefulSet", "db"), &roller(), now(&w)).await;
    assert!(db.unwrap().unwrap().is_ordered);
    let nobody = aws.rolling(&found.clusters[0].0, &named("DaemonSet", "nobody"), &roller(), now(&w)).await;
    assert_eq!(nobody, Ok(None));

    // Who may only view is refused by Kubernetes itself.
    server.put_object(&keeper("Deployment", "api", json!({"replicas": 2, "paused": false}))).await.unwrap();
    server.run_pods("rolled", 4, None).await.unwrap();
    let_in(&server, "AmazonEKSViewPolicy");
    let mut found = look(&w, Target::service_account("rolled/api@prod-eu").unwrap()).await;
    for _ in 0..600 {
        if all(&found).iter().any(|restart| restart.step.kind.as_str() == "roll") {
            break;
        }
        found = look(&w, Target::service_account("rolled/api@prod-eu").unwrap()).await;
    }
    let restart = all(&found).into_iter().find(|restart| restart.step.kind.as_str() == "roll").unwrap();
    let cluster = &found.clusters[0].0;
    let rolled = by_hand(&w).roll(cluster, restart, "2026-01-01T00:00:00Z", &roller(), None, now(&w)).await;
    let Rolled::Failed(why) = rolled else { panic!("{rolled:?}") };
    assert_snapshot!(why, @r#"the cluster's Kubernetes API refused you (403: deployments.apps "api" is forbidden: User "arn:aws:iam::111122223333:user/ops" cannot patch resource "deployments" in API group "apps" in the namespace "rolled"); an access entry with AmazonEKSEditPolicy on the cluster would allow it"#);

    // And what changed since it was read is not written over.
    let_in(&server, "AmazonEKSEditPolicy");
    let api = podgrant_kubernetes::roll(
        by_hand(&w).way_into(&found.clusters[0].0, now(&w)).await.unwrap(),
        named("Deployment", "api"),
        "2026-01-01T00:00:00Z".to_owned(),
        "1".to_owned(),
    );
    assert_eq!(api.await, Ok(podgrant_core::written::Written::Changed));
    let nobody = w.aws.delete_association(EU, "prod-eu", "rolled", "api");
    assert!(nobody.is_some());
    server.remove_namespace("rolled").await.unwrap();
}

#[tokio::test]
async fn service_accounts_with_the_annotation_of_irsa_are_listed() {
    let Some(server) = eks_server().await else { return };
    let w = deployed(&server).await;
    let_in(&server, "AmazonEKSViewPolicy");
    let role = "arn:aws:iam::111122223333:role/payments";
    let annotated = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"namespace": "rolled", "name": "api", "annotations": {ANNOTATION: role}},
    });
    server.put_object(&annotated).await.unwrap();
    let cluster = by_hand(&w).cluster(&"eu-west-1/prod-eu".parse().unwrap()).await.unwrap().unwrap();
    let way = by_hand(&w).way_into(&cluster, now(&w)).await.unwrap();
    let found = podgrant_kubernetes::annotated(way).await.unwrap();
    let found = found.into_iter().filter(|found| found.workload.namespace.as_str() == "rolled");
    let told: Vec<String> = found.map(|found| format!("{} {}", found.workload, found.role)).collect();
    assert_eq!(told, [format!("rolled/api {role}")]);
    server.remove_namespace("rolled").await.unwrap();
}

#[tokio::test]
async fn the_annotation_of_irsa_is_taken_and_given_only_as_it_was_seen() {
    let Some(server) = eks_server().await else { return };
    let w = deployed(&server).await;
    let_in(&server, "AmazonEKSViewPolicy");
    let [role, other] = ["payments", "other"].map(|name| format!("arn:aws:iam::111122223333:role/{name}"));
    let annotated = |role: &str| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"namespace": "rolled", "name": "api", "annotations": {ANNOTATION: role, "team": "billing"}},
        })
    };
    server.put_object(&annotated(&role)).await.unwrap();
    let cluster = by_hand(&w).cluster(&"eu-west-1/prod-eu".parse().unwrap()).await.unwrap().unwrap();
    let account = |name: &str| {
        format!("rolled/{name}")
            .split_once('/')
            .map(|(namespace, name)| Workload {
                namespace: namespace.parse().unwrap(),
                service_account: name.parse().unwrap(),
            })
            .unwrap()
    };
    let annotate = async |name: &str, before: Option<&str>, after: Option<&str>| {
        let now = now(&w);
        let annotated = by_hand(&w).annotate(&cluster, &account(name), (before, after), &roller(), now).await;
        annotated.map_err(|unwritten| unwritten.why().to_owned())
    };
    // Whoever may only look changes nothing.
    let refused = annotate("api", Some(&role), None).await.unwrap_err();
    assert!(refused.contains("AmazonEKSEditPolicy"), "{refused}");
    let_in(&server, "AmazonEKSEditPolicy");
    // Another role than was seen stays.
    let changed = annotate("api", Some(&other), None).await.unwrap_err();
    assert!(changed.contains("another by now"), "{changed}");
    let stands = async || server.object(&annotated(&role)).await.unwrap()["metadata"]["annotations"].clone();
    assert_eq!(stands().await, json!({ANNOTATION: role, "team": "billing"}));
    // It goes, and nothing else; a second time it is gone already.
    for _ in 0..2 {
        assert_eq!(annotate("api", Some(&role), None).await, Ok(()));
        assert_eq!(stands().await, json!({"team": "billing"}));
    }
    // And comes back, but not over another.
    assert_eq!(annotate("api", None, Some(&role)).await, Ok(()));
    assert_eq!(stands().await, json!({ANNOTATION: role, "team": "billing"}));
    assert!(annotate("api", None, Some(&other)).await.is_err());
    assert_eq!(annotate("nobody", None, Some(&role)).await, Err("the service account is gone".to_owned()));
    server.remove_namespace("rolled").await.unwrap();
}
