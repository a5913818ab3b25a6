//! install-agent and reconcile-associations looking into a real API server, with the real DaemonSet controller.
//!
//! Where there is none these tests pass without having looked, and `cargo xtask test` says so at its end.

use std::sync::atomic::{AtomicI64, Ordering};

use insta::assert_snapshot;
use podgrant_aws::Lookout;
use podgrant_core::accounts::Namespaces;
use podgrant_core::agent::pods::{AgentPods, KubernetesAccess, Unseen};
use podgrant_core::{Subject, Workload};
use podgrant_runtime::{Clock, Function};
use podgrant_tests::fake::{Addon, Cluster};
use podgrant_tests::local_kubernetes::LocalKubernetes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::world::{EU, NOW, SECRET_KEY, World, access_key, role, role_tagged, sample};

const ROLE: &str = "arn:aws:iam::111122223333:role/podgrant/install-agent";
pub const SEE_NODES: &str = "infra/kubernetes/see-nodes.yaml";

/// One server for all tests; it has one agent, so one test at a time.
static SERVER: OnceCell<Option<Mutex<LocalKubernetes>>> = OnceCell::const_new();

/// The server, without what earlier tests left.
async fn server() -> Option<MutexGuard<'static, LocalKubernetes>> {
    let start = || async { LocalKubernetes::start().await.unwrap().map(Mutex::new) };
    let server = SERVER.get_or_init(start).await.as_ref()?.lock().await;
    server.clear().await.unwrap();
    server.unapply(SEE_NODES).await.unwrap();
    Some(server)
}

/// The server, if it knows EKS's tokens.
pub async fn eks_server() -> Option<MutexGuard<'static, LocalKubernetes>> {
    server().await.filter(|server| server.knows_eks())
}

/// podgrant on a fake EKS whose cluster `prod-eu` is the server, with the add-on ACTIVE. The token is signed
/// for about now: EKS looks at its date.
pub async fn world(server: &LocalKubernetes) -> World {
    let mut w = World::with(&[("PODGRANT_KUBERNETES_ROLE", ROLE)]).await;
    w.lookout = Some(Lookout::new(podgrant_kubernetes::agent_pods, podgrant_kubernetes::misfits));
    // A token of the same second would be the same, and the server remembers those that it let in.
    static WORLDS: AtomicI64 = AtomicI64::new(0);
    let earlier = 30 * WORLDS.fetch_add(1, Ordering::Relaxed);
    w.pass(Clock::system().seconds() - earlier - NOW);
    let api = server.api();
    w.aws.add_cluster(Cluster::named("prod-eu").endpoint(&api.endpoint, &api.certificate_authority));
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w
}

/// Who gets into the cluster of this name: podgrant, as the fake EKS's access entry says.
fn let_in(server: &LocalKubernetes, w: &World, cluster: &str) {
    let entry = w.aws.access_entry(EU, "prod-eu", ROLE);
    let policies: Value = entry
        .iter()
        .flat_map(|entry| &entry.policies)
        .map(|policy| json!({"policy": policy.arn.rsplit('/').next(), "namespaces": policy.namespaces}))
        .collect();
    let credentials = entry.map(|entry| {
        json!({(access_key(Function::InstallAgent)): {
            "secret": SECRET_KEY,
            "arn": "arn:aws:sts::111122223333:assumed-role/install-agent/test",
            "groups": entry.kubernetes_groups,
            "policies": policies,
        }})
    });
    server.know(&json!({"cluster": cluster, "credentials": credentials.unwrap_or(json!({}))})).unwrap();
}

/// Seconds pass, so that the next token is another: the server remembers those it let in.
async fn look(w: &World) -> String {
    w.pass(1);
    let story = w.install_agent(&sample("agent-health")).await;
    // EKS's own calls are told elsewhere.
    let told = story.lines().filter(|line| !line.starts_with("eks ") && !line.starts_with("sqs "));
    told.map(|line| format!("{line}\n")).collect()
}

pub fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

#[tokio::test]
async fn from_refused_to_healthy_by_way_of_an_access_entry() {
    let Some(server) = eks_server().await else { return };
    let w = world(&server).await;
    server.add_node("ip-1", &[], &[]).await.unwrap();
    server.add_node("ip-2", &[], &[]).await.unwrap();
    server.add_node("gpu-1", &[], &["gpu=yes:NoSchedule"]).await.unwrap();
    server.add_agent(&json!([])).await.unwrap();
    server.report_pods(2, &["ip-1"], &ready()).await.unwrap();
    server.counted(1, 2).await.unwrap();

    let_in(&server, &w, "prod-eu");
    assert_snapshot!(look(&w).await, @"
    done
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    let_in(&server, &w, "prod-eu");
    assert_snapshot!(look(&w).await, @r#"
    not-yet
    . the agent on eu-west-1/prod-eu is ready on 1 of 2 nodes (ip-2: its pod is Pending and not ready)
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);

    let crashing = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [{
        "name": "agent", "ready": false, "restartCount": 4, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
        "lastState": {"terminated": {"reason": "Error", "exitCode": 1, "message": "listen tcp 169.254.170.23:80: bind: address already in use"}},
    }]});
    server.report_pods(2, &["ip-2"], &crashing).await.unwrap();
    assert_snapshot!(look(&w).await, @r#"
    not-yet
    . the agent on eu-west-1/prod-eu is ready on 1 of 2 nodes (ip-2: CrashLoopBackOff: back-off 40s (last time: Error, exit code 1: listen tcp 169.254.170.23:80: bind: address already in use))
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);

    server.report_pods(2, &["ip-2"], &ready()).await.unwrap();
    server.counted(2, 2).await.unwrap();
    assert_snapshot!(look(&w).await, @r#"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy  (ready on 2 of 2 nodes) => done
    ! Kubernetes unseen: eu-west-1/prod-eu: nodes that the agent passes over are not told: nodes is forbidden: User "arn:aws:sts::111122223333:assumed-role/install-agent/test" cannot list resource "nodes" in API group "" at the cluster scope; infra/kubernetes/see-nodes.yaml lets podgrant list them
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    "#);

    // With the nodes shown, the one that is passed over is named.
    server.apply(SEE_NODES).await.unwrap();
    assert_snapshot!(look(&w).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy  (ready on 2 of 2 nodes) => done
    ! agent nodes: eu-west-1/prod-eu: pods get no credentials on nodes without an agent: gpu-1: its taints are not tolerated (gpu=yes:NoSchedule); the add-on's configuration values (tolerations, affinity) say where it goes
    events eu-west-1 PutEvents 2
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    * Cluster Needs Attention eu-west-1/prod-eu agent-nodes
    ");
    assert_eq!(w.told_of("Agent Installed")[0]["nodes"], json!({"ready": 2, "desired": 2}));
}

#[tokio::test]
async fn a_token_for_another_cluster_lets_nobody_in() {
    let Some(server) = eks_server().await else { return };
    let w = world(&server).await;
    server.add_agent(&json!([])).await.unwrap();
    let_in(&server, &w, "prod-eu");
    look(&w).await;
    let_in(&server, &w, "prod-us");
    assert_snapshot!(look(&w).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); its access entry is as it should be, and may need a minute; what EKS says of the add-on counts
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    let_in(&server, &w, "prod-eu");
    assert!(look(&w).await.contains("is healthy"));
}

#[tokio::test]
async fn who_is_known_and_may_not_look_is_told_so() {
    let Some(server) = eks_server().await else { return };
    let w = world(&server).await;
    let_in(&server, &w, "prod-eu");
    look(&w).await;
    let known = json!({(access_key(Function::InstallAgent)): {"secret": SECRET_KEY, "arn": "arn:aws:sts::111122223333:assumed-role/install-agent/test"}});
    server.know(&json!({"cluster": "prod-eu", "credentials": known})).unwrap();
    assert_snapshot!(look(&w).await, @r#"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (403: daemonsets.apps "eks-pod-identity-agent" is forbidden: User "arn:aws:sts::111122223333:assumed-role/install-agent/test" cannot get resource "daemonsets" in API group "apps" in the namespace "kube-system"); its access entry is as it should be, and may need a minute; what EKS says of the add-on counts
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    "#);
}

#[tokio::test]
async fn an_authority_that_is_not_the_servers_is_not_trusted() {
    let Some(server) = server().await else { return };
    let mut access = access(&server, "nobody").await;
    access.api.certificate_authority = {
        use base64::Engine as _;
        let nobody = include_str!("../../crates/podgrant-kubernetes/src/nobody.pem");
        base64::engine::general_purpose::STANDARD.encode(nobody)
    };
    match podgrant_kubernetes::agent_pods(access).await {
        Err(Unseen::Unreachable(why)) => assert!(why.contains("certificate"), "{why}"),
        other => panic!("{other:?}"),
    }
}

/// With a service account's token: for any server there is.
async fn access(server: &LocalKubernetes, account: &str) -> KubernetesAccess {
    KubernetesAccess { api: server.api().clone(), token: server.token_of(account).await.unwrap() }
}

async fn seen(access: &KubernetesAccess) -> Option<AgentPods> {
    let pods = podgrant_kubernetes::agent_pods(access.clone()).await.unwrap();
    pods.map(|mut pods| {
        // A cluster of one's own has nodes of its own.
        pods.lacking.retain(|lack| lack.node.starts_with("test-"));
        pods
    })
}

#[tokio::test]
async fn nodes_pods_and_the_daemon_set_are_read_as_the_controller_leaves_them() {
    let Some(server) = server().await else { return };
    server.let_view("podgrant-viewer").await.unwrap();
    let viewer = access(&server, "podgrant-viewer").await;
    assert_eq!(seen(&viewer).await, None);

    for number in 1..=120 {
        server.add_node(&format!("test-{number:03}"), &[], &[]).await.unwrap();
    }
    server
        .add_node(
            "test-fargate",
            &[("eks.amazonaws.com/compute-type", "fargate")],
            &["eks.amazonaws.com/compute-type=fargate:NoSchedule"],
        )
        .await
        .unwrap();
    server.add_node("test-gpu", &[], &["gpu:NoExecute"]).await.unwrap();
    server.add_node("test-blue", &[], &["team=blue:NoSchedule"]).await.unwrap();
    server.add_node("test-down", &[], &[]).await.unwrap();
    server.set_node_ready("test-down", false).await.unwrap();
    server.add_agent(&json!([{"key": "team", "operator": "Equal", "value": "blue"}])).await.unwrap();
    // More pods than a page: 120, the tolerated one and the one that is down.
    let all: Vec<String> = (1..=119).map(|number| format!("test-{number:03}")).collect();
    let mut reported: Vec<&str> = all.iter().map(String::as_str).collect();
    reported.push("test-blue");
    server.report_pods(122, &reported, &ready()).await.unwrap();
    server.counted(120, 122).await.unwrap();

    let pods = seen(&viewer).await.unwrap();
    assert!(pods.nodes_unseen.as_ref().unwrap().contains("nodes is forbidden"), "{pods:?}");
    assert_snapshot!(pods.progress(), @"ready on 120 of 122 nodes (test-120: its pod is Pending and not ready; test-down: its pod is Pending and not ready)");

    server.apply(SEE_NODES).await.unwrap();
    let all_seeing = access_of_the_group(&server).await;
    let Some(all_seeing) = all_seeing else { return };
    let pods = seen(&all_seeing).await.unwrap();
    let lines: Vec<String> = pods.lacking.iter().map(ToString::to_string).collect();
    assert_snapshot!(lines.join("\n"), @"
    test-120: its pod is Pending and not ready
    test-down: the node is not ready
    test-gpu: its taints are not tolerated (gpu:NoExecute)
    ");
    assert!(!pods.is_rolled_out());
    server.report_pods(122, &["test-120"], &ready()).await.unwrap();
    server.counted(121, 122).await.unwrap();
    assert!(seen(&all_seeing).await.unwrap().is_rolled_out());
}

/// Somebody of the group that infra/kubernetes/see-nodes.yaml is for: only EKS's tokens make such.
async fn access_of_the_group(server: &LocalKubernetes) -> Option<KubernetesAccess> {
    if !server.knows_eks() {
        return None;
    }
    let policy = json!({"policy": "AmazonEKSViewPolicy", "namespaces": ["kube-system"]});
    let known = json!({(access_key(Function::InstallAgent)): {
        "secret": SECRET_KEY, "arn": "arn:aws:sts::111122223333:assumed-role/a/b", "groups": ["podgrant"], "policies": [policy],
    }});
    server.know(&json!({"cluster": "prod-eu", "credentials": known})).unwrap();
    // The adapter makes the token; the look is taken out of its hands.
    let w = world(server).await;
    let (given, mut taken) = tokio::sync::mpsc::unbounded_channel();
    let mut w = w;
    w.lookout = Some(Lookout::new(
        move |access| {
            let given = given.clone();
            Box::pin(async move {
                given.send(access).unwrap();
                Ok(None)
            })
        },
        podgrant_kubernetes::misfits,
    ));
    look(&w).await;
    taken.recv().await
}

const RECONCILER: &str = "arn:aws:iam::111122223333:role/podgrant/reconcile-associations";

/// podgrant on a fake EKS whose cluster `prod-eu` is the server, expanding patterns.
async fn expanding(server: &LocalKubernetes) -> World {
    let mut w =
        World::with(&[("PODGRANT_KUBERNETES_ROLE", RECONCILER), ("PODGRANT_DRIFT_ROUNDS", "0")]).await;
    w.accounts = Some(Lookout::for_accounts(
        podgrant_kubernetes::service_accounts,
        podgrant_kubernetes::service_account_exists,
    ));
    static WORLDS: AtomicI64 = AtomicI64::new(0);
    let earlier = 30 * WORLDS.fetch_add(1, Ordering::Relaxed);
    w.pass(Clock::system().seconds() - earlier - NOW);
    let api = server.api();
    w.aws.add_cluster(Cluster::named("prod-eu").endpoint(&api.endpoint, &api.certificate_authority));
    w
}

/// Lets reconcile-associations in as the fake EKS's access entry says, or keeps it out.
fn let_reconciler_in(server: &LocalKubernetes, w: &World) {
    let entry = w.aws.access_entry(EU, "prod-eu", RECONCILER).unwrap();
    let policies = entry.policies.iter();
    let policies: Value = policies
        .map(|policy| json!({"policy": policy.arn.rsplit('/').next(), "namespaces": policy.namespaces}))
        .collect();
    let credentials = json!({(access_key(Function::ReconcileAssociations)): {
        "secret": SECRET_KEY,
        "arn": "arn:aws:sts::111122223333:assumed-role/reconcile-associations/test",
        "groups": entry.kubernetes_groups,
        "policies": policies,
    }});
    server.know(&json!({"cluster": "prod-eu", "credentials": credentials})).unwrap();
}

fn keep_out(server: &LocalKubernetes) {
    server.know(&json!({"cluster": "prod-eu", "credentials": {}})).unwrap();
}

/// Seconds pass, so that the next token is another.
async fn swept(w: &World) -> Vec<String> {
    w.pass(1);
    w.sweep().await;
    w.access(EU, "prod-eu")
}

#[tokio::test]
async fn a_pattern_follows_the_service_accounts_of_a_cluster() {
    let Some(server) = eks_server().await else { return };
    let w = expanding(&server).await;
    keep_out(&server);
    server.add_accounts("test-batch", &["job-1", "job-2", "other"]).await.unwrap();
    w.aws.add_role(role("jobs", "test-batch/job-_@prod-eu"));
    // Refused, it is opened.
    w.reconcile(&role_tagged("jobs")).await;
    let entry = w.aws.access_entry(EU, "prod-eu", RECONCILER).unwrap();
    assert_eq!(entry.policies[0].namespaces, ["test-batch"]);
    let_reconciler_in(&server, &w);
    let look = w.next_of("role").unwrap();
    w.pass(5);
    w.reconcile(&look).await;
    assert_eq!(w.access(EU, "prod-eu"), ["test-batch/job-1 jobs", "test-batch/job-2 jobs"]);

    // One appears; one is deleted and made again between two looks, another for good.
    server.add_accounts("test-batch", &["job-3"]).await.unwrap();
    server.remove_account("test-batch", "job-1").await.unwrap();
    server.remove_account("test-batch", "job-2").await.unwrap();
    let all = ["test-batch/job-1 jobs", "test-batch/job-2 jobs", "test-batch/job-3 jobs"];
    assert_eq!(swept(&w).await, all);
    server.add_accounts("test-batch", &["job-1"]).await.unwrap();
    let look = w.next_of("accounts-missed").unwrap();
    // Out of sight is not gone.
    keep_out(&server);
    w.pass(60);
    let story = w.reconcile(&look).await;
    assert!(story.contains("are not known yet"), "{story}");
    assert_eq!(swept(&w).await, all);
    let_reconciler_in(&server, &w);
    w.pass(1);
    let story = w.reconcile(&look).await;
    assert!(
        story.contains("- eu-west-1/prod-eu  test-batch/job-2  role jobs  (service account gone) => done"),
        "{story}"
    );
    assert_eq!(w.access(EU, "prod-eu"), ["test-batch/job-1 jobs", "test-batch/job-3 jobs"]);

    // An entry for one namespace shows no other, and a whole namespace may go.
    w.aws.add_role(role("anywhere", "test-_/other@prod-eu"));
    assert_eq!(swept(&w).await.len(), 2);
    let entry = w.aws.access_entry(EU, "prod-eu", RECONCILER).unwrap();
    assert!(entry.policies[0].namespaces.is_empty());
    let_reconciler_in(&server, &w);
    assert_eq!(swept(&w).await.len(), 3);
    server.remove_namespace("test-batch").await.unwrap();
    while w.next_of("accounts-missed").is_some() {}
    assert_eq!(swept(&w).await.len(), 3);
    let look = w.next_of("accounts-missed").unwrap();
    w.pass(60);
    w.reconcile(&look).await;
    assert!(w.access(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn service_accounts_are_read_page_by_page() {
    let Some(server) = eks_server().await else { return };
    let names: Vec<String> = (0..502).map(|number| format!("sa-{number:03}")).collect();
    server.add_accounts("test-many", &names.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
    let policy = json!({"policy": "AmazonEKSViewPolicy", "namespaces": ["test-many"]});
    let known = json!({(access_key(Function::ReconcileAssociations)): {
        "secret": SECRET_KEY, "arn": "arn:aws:sts::111122223333:assumed-role/a/b", "policies": [policy],
    }});
    server.know(&json!({"cluster": "prod-eu", "credentials": known})).unwrap();
    // The adapter makes the token; the look is taken out of its hands.
    let mut w = expanding(&server).await;
    let (given, mut taken) = tokio::sync::mpsc::unbounded_channel();
    w.accounts = Some(Lookout::for_accounts(
        move |access, _| {
            given.send(access).unwrap();
            Box::pin(async { Err(Unseen::Unreachable("taken".to_owned())) })
        },
        podgrant_kubernetes::service_account_exists,
    ));
    w.aws.add_role(role("many", "test-many/_@prod-eu"));
    w.reconcile(&role_tagged("many")).await;
    let access = taken.recv().await.unwrap();

    let subject: Subject = "test-many/sa-_@_".parse().unwrap();
    let seen = podgrant_kubernetes::service_accounts(access.clone(), Namespaces::of(&subject)).await.unwrap();
    assert_eq!(seen.meant_by(&subject).count(), 502);
    let exists = |name: &str| {
        let workload =
            Workload { namespace: "test-many".parse().unwrap(), service_account: name.parse().unwrap() };
        podgrant_kubernetes::service_account_exists(access.clone(), workload)
    };
    assert_eq!((exists("sa-501").await, exists("sa-502").await), (Ok(true), Ok(false)));
    // What it may not see is refused, and not empty.
    let elsewhere = Namespaces::of(&"kube-public/_@_".parse().unwrap());
    for namespaces in [Namespaces::All, elsewhere] {
        match podgrant_kubernetes::service_accounts(access.clone(), namespaces).await {
            Err(Unseen::Refused(why)) => assert!(why.contains("serviceaccounts is forbidden"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    server.remove_namespace("test-many").await.unwrap();
}
