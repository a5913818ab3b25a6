//! Explaining pods on a real API server. The tests play the kubelets, and EKS's webhook.
//!
//! Where there is no such server these tests pass without having looked, and `cargo xtask test` says so at its end.

use std::sync::atomic::Ordering;

use insta::assert_snapshot;
use podgrant_aws::Onlooker;
use podgrant_core::explain::Target;
use podgrant_tests::fake::{Association, Cluster, Fault, Role};
use podgrant_tests::local_kubernetes::LocalKubernetes;
use serde_json::{Value, json};

use crate::explain::{by_hand, timeless};
use crate::kubernetes::{eks_server, ready, world};
use crate::world::{EU, SECRET_KEY, World, by_kind, role};

const USER: &str = "AKIDSCENARIOS";

fn onlooker() -> Onlooker {
    Onlooker::new(podgrant_kubernetes::look_at_workload, podgrant_kubernetes::look_into_cluster)
}

/// Who asks: somebody with this access policy on the whole cluster.
fn let_in(server: &LocalKubernetes, policy: &str) {
    let user = json!({
        "secret": SECRET_KEY, "arn": "arn:aws:iam::111122223333:user/ops",
        "policies": [{"policy": policy}],
    });
    server.know(&json!({"cluster": "prod-eu", "credentials": {USER: user}})).unwrap();
}

/// A pod as EKS's webhook leaves it.
fn given(account: &str, node: &str) -> Value {
    json!({
        "serviceAccountName": account,
        "nodeName": node,
        "containers": [{
            "name": "app", "image": "registry.example/app:none",
            "env": [
                {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
                {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"},
            ],
        }],
        "volumes": [{"name": "eks-pod-identity-token", "projected": {"sources": [{"serviceAccountToken": {
            "audience": "pods.eks.amazonaws.com", "path": "eks-pod-identity-token",
        }}]}}],
    })
}

/// A pod as its own text has it.
fn plain(account: &str, node: &str) -> Value {
    json!({
        "serviceAccountName": account, "nodeName": node,
        "containers": [{"name": "app", "image": "registry.example/app:none"}],
    })
}

/// Two nodes of a node group, one of them without the agent; payments/api with its association of an hour ago.
async fn granted(server: &LocalKubernetes) -> World {
    let w = world(server).await;
    let api = server.api();
    let cluster = Cluster::named("prod-eu").endpoint(&api.endpoint, &api.certificate_authority);
    w.aws.add_cluster(cluster.node_group("workers"));
    let nodes = Role::named("nodes").attached_policy("arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy");
    w.aws.add_role(nodes);
    let group = [("eks.amazonaws.com/nodegroup", "workers")];
    server.add_node("ip-1", &group, &[]).await.unwrap();
    server.add_node("gpu-1", &group, &["gpu=yes:NoSchedule"]).await.unwrap();
    server.add_agent(&json!([])).await.unwrap();
    server.report_pods(1, &["ip-1"], &ready()).await.unwrap();
    server.counted(1, 1).await.unwrap();
    server.add_account("payments", "api", &json!({})).await.unwrap();
    w.given(role("payments", "payments/api@prod-eu")).await;
    made(&w, -3600);
    w
}

/// Makes the association anew, as if it had been made so many seconds before or after now.
fn made(w: &World, seconds: i64) {
    let mut association: Association = w.aws.delete_association(EU, "prod-eu", "payments", "api").unwrap();
    let at = w.clock_hand().load(Ordering::Relaxed) + seconds;
    (association.created_at, association.modified_at) = (at, at);
    w.aws.add_association(association);
}

async fn explained(w: &World, target: Result<Target, String>) -> String {
    // Another second, another token.
    w.pass(1);
    let now = w.clock_hand().load(Ordering::Relaxed);
    let explanation = by_hand(w).explain(&target.unwrap(), Some(&onlooker()), now).await;
    timeless(&explanation.to_string())
}

async fn diagnosed(w: &World, target: Result<Target, String>) -> String {
    w.pass(1);
    let now = w.clock_hand().load(Ordering::Relaxed);
    let diagnoses = by_hand(w).diagnose(&target.unwrap(), Some(&onlooker()), now).await;
    let told: Vec<String> = diagnoses.iter().map(ToString::to_string).collect();
    timeless(&told.join("\n\n"))
}

#[tokio::test]
async fn a_good_pod_is_right_in_every_link() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    server.add_pod("payments", "api-1", &given("api", "ip-1")).await.unwrap();
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    assert_snapshot!(explained(&w, Target::pod("payments/api-1@prod-eu")).await);
    // With nothing but the right to view, nodes are hidden; that the agent is ready there is seen all the same.
    let_in(&server, "AmazonEKSViewPolicy");
    assert_snapshot!(explained(&w, Target::service_account("payments/api@prod-eu")).await);
}

#[tokio::test]
async fn pods_in_trouble_are_told_apart() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    server.add_pod("payments", "api-1", &plain("api", "ip-1")).await.unwrap();
    server.add_pod("payments", "api-2", &given("api", "gpu-1")).await.unwrap();
    let mut keyed = given("api", "ip-1");
    let env = keyed["containers"][0]["env"].as_array_mut().unwrap();
    env.push(json!({"name": "AWS_ACCESS_KEY_ID", "value": "AKIDOFTHEPOD"}));
    server.add_pod("payments", "api-3", &keyed).await.unwrap();
    let mut gone = given("api", "ip-1");
    gone["nodeName"] = json!("ip-9");
    server.add_pod("payments", "api-4", &gone).await.unwrap();
    // All of them are older than the association.
    made(&w, 3600);
    let told = explained(&w, Target::service_account("payments/api@prod-eu")).await;
    assert!(!told.contains("AKIDOFTHEPOD"), "{told}");
    assert_snapshot!(told);
    assert_snapshot!(diagnosed(&w, Target::service_account("payments/api@prod-eu")).await);
    assert_snapshot!(diagnosed(&w, Target::pod("payments/api-2@prod-eu")).await);
}

#[tokio::test]
async fn a_pod_with_another_service_account_is_shown_the_one_that_has_a_role() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    server.add_pod("payments", "api-1", &plain("default", "ip-1")).await.unwrap();
    assert_snapshot!(diagnosed(&w, Target::pod("payments/api-1@prod-eu")).await);
    assert_snapshot!(diagnosed(&w, Target::service_account("payments/api@prod-eu")).await);
    assert_snapshot!(diagnosed(&w, Target::pod("payments/api-9@prod-eu")).await);
}

#[tokio::test]
async fn whoever_holds_the_agents_port_is_named() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    server.report_pods(1, &["ip-1"], &json!({
        "phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [{"name": "agent", "ready": false, "restartCount": 4, "image": "", "imageID": "",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}],
    })).await.unwrap();
    server.counted(0, 1).await.unwrap();
    server.add_account("ingress", "haproxy", &json!({})).await.unwrap();
    let mut holder = plain("haproxy", "ip-1");
    holder["hostNetwork"] = json!(true);
    holder["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    server.add_pod("ingress", "haproxy-1", &holder).await.unwrap();
    server.add_pod("payments", "api-1", &given("api", "ip-1")).await.unwrap();
    w.aws.change_role("nodes", |role| role.attached_policies.clear());
    let told = diagnosed(&w, Target::pod("payments/api-1@prod-eu")).await;
    server.add_account("ingress", "haproxy", &json!({})).await.unwrap();
    assert_snapshot!(told);
}

#[tokio::test]
async fn who_may_see_little_is_told_what_and_why() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    server.add_pod("payments", "api-1", &given("api", "ip-1")).await.unwrap();
    // Known to nobody.
    server.know(&json!({"cluster": "prod-eu", "credentials": {}})).unwrap();
    assert_snapshot!(explained(&w, Target::service_account("payments/api@prod-eu")).await);
    assert_snapshot!(explained(&w, Target::pod("payments/api-1@prod-eu")).await);
    // Nor may he see the nodes' role.
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    w.aws.fault(Fault::on("eks", "DescribeNodegroup").access_denied());
    let told = explained(&w, Target::service_account("payments/api@prod-eu")).await;
    assert!(told.contains("unknown node role"), "{told}");
}

#[tokio::test]
async fn a_cluster_is_looked_over_as_a_whole() {
    let Some(server) = eks_server().await else { return };
    let w = granted(&server).await;
    let_in(&server, "AmazonEKSClusterAdminPolicy");
    server.add_pod("payments", "api-1", &plain("api", "ip-1")).await.unwrap();
    server.add_pod("payments", "api-2", &given("api", "ip-1")).await.unwrap();
    server.add_pod("payments", "other-1", &plain("default", "ip-1")).await.unwrap();
    w.aws.add_role(role("web", "web/front@prod-eu"));
    w.aws.add_role(role("typo", "web/Front@prod-eu x/y@nowhere"));
    w.aws.add_association(Association::of("prod-eu", "web", "front"));
    w.forget();
    assert_snapshot!(diagnosed(&w, Target::cluster("prod-eu")).await);
    let calls = w.aws.calls();
    assert_snapshot!(by_kind(&calls).join("\n"));
    w.forget();
    assert_snapshot!(diagnosed(&w, Ok(Target::Fleet)).await);
    assert_snapshot!(diagnosed(&w, Target::cluster("nowhere")).await);
}
