use insta::assert_snapshot;
use serde_json::{Value, json};

use super::*;

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn daemon_set(desired: i32, scheduled: i32, ready: i32) -> DaemonSet {
    of(json!({
        "metadata": {"name": "eks-pod-identity-agent", "generation": 2},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "eks-pod-identity-agent", "app.kubernetes.io/instance": "x"}},
            "template": {"spec": {"containers": [], "tolerations": [
                {"key": "team", "value": "blue", "effect": "NoSchedule"},
                {"key": "any-value", "operator": "Exists"},
            ]}},
        },
        "status": {
            "observedGeneration": 2, "desiredNumberScheduled": desired, "currentNumberScheduled": scheduled,
            "numberMisscheduled": 0, "numberReady": ready, "updatedNumberScheduled": scheduled,
        },
    }))
}

fn node(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn labelled(name: &str, key: &str, value: &str) -> Value {
    let mut node = node(name);
    node["metadata"]["labels"][key] = json!(value);
    node
}

fn tainted(name: &str, taints: Value) -> Value {
    let mut node = node(name);
    node["spec"]["taints"] = taints;
    node
}

fn down(name: &str) -> Value {
    let mut node = node(name);
    node["status"]["conditions"][0]["status"] = json!("Unknown");
    node
}

fn pod(node: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({
        "metadata": {"name": format!("agent-{node}")},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]},
    })
}

fn waiting(node: &str, state: Value) -> Value {
    let mut pod = pod(node, false);
    pod["status"]["containerStatuses"] = json!([{
        "name": "agent", "ready": false, "restartCount": 3, "image": "agent", "imageID": "", "state": state["state"],
        "lastState": state["lastState"],
    }]);
    pod
}

fn told(daemon_set: &DaemonSet, pods: &[Value], nodes: &[Value]) -> AgentPods {
    let mut seen = Nodes::of(daemon_set);
    pods.iter().for_each(|pod| seen.add_pod(&of(pod.clone())));
    nodes.iter().for_each(|node| seen.add_node(&of(node.clone())));
    seen.told()
}

fn lines(pods: &AgentPods) -> String {
    let mut lines = vec![pods.progress()];
    lines.extend(pods.lacking.iter().map(|lack| format!("{lack}")));
    lines.join("\n")
}

#[test]
fn the_selector_is_the_daemon_sets_own() {
    assert_eq!(
        Nodes::of(&daemon_set(0, 0, 0)).pod_selector(),
        "app.kubernetes.io/instance=x,app.kubernetes.io/name=eks-pod-identity-agent"
    );
}

#[test]
fn nodes_with_a_ready_pod_lack_nothing() {
    let pods = [pod("a", true), pod("b", true)];
    let seen = told(&daemon_set(2, 2, 2), &pods, &[node("a"), node("b")]);
    assert_eq!(seen.lacking, []);
    assert!(seen.is_rolled_out());
}

#[test]
fn nodes_that_are_none_of_the_agents_business_lack_nothing() {
    let nodes = [
        labelled("fargate-1", COMPUTE_TYPE, "fargate"),
        labelled("auto-1", COMPUTE_TYPE, "auto"),
        labelled("hybrid-1", COMPUTE_TYPE, "hybrid"),
        labelled("windows-1", "kubernetes.io/os", "windows"),
    ];
    assert_eq!(told(&daemon_set(0, 0, 0), &[], &nodes).lacking, []);
}

#[test]
fn each_lack_has_its_reason() {
    let tainted = |name: &str, taints: Value| tainted(name, taints);
    let nodes = [
        node("left-out"),
        down("down"),
        tainted("gpu", json!([{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])),
        tainted("two", json!([{"key": "a", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"}])),
        tainted("mild", json!([{"key": "gpu", "effect": "PreferNoSchedule"}])),
        tainted("tolerated", json!([{"key": "team", "value": "blue", "effect": "NoSchedule"}])),
        tainted("other-value", json!([{"key": "team", "value": "red", "effect": "NoSchedule"}])),
        tainted("other-effect", json!([{"key": "team", "value": "blue", "effect": "NoExecute"}])),
        tainted("any-value", json!([{"key": "any-value", "value": "x", "effect": "NoExecute"}])),
        tainted("cordoned", json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}])),
        node("crashing"),
        down("down-with-pod"),
    ];
    let pods = [pod("crashing", false), pod("down-with-pod", false)];
    assert_snapshot!(lines(&told(&daemon_set(2, 2, 0), &pods, &nodes)), @"
    ready on 0 of 2 nodes (crashing: its pod is Running and not ready)
    any-value: the DaemonSet's node selector or affinity leaves it out
    cordoned: the DaemonSet's node selector or affinity leaves it out
    crashing: its pod is Running and not ready
    down: the node is not ready
    down-with-pod: the node is not ready
    gpu: its taints are not tolerated (gpu=yes:NoSchedule)
    left-out: the DaemonSet's node selector or affinity leaves it out
    mild: the DaemonSet's node selector or affinity leaves it out
    other-effect: its taints are not tolerated (team=blue:NoExecute)
    other-value: its taints are not tolerated (team=red:NoSchedule)
    tolerated: the DaemonSet's node selector or affinity leaves it out
    two: its taints are not tolerated (a:NoExecute, b:NoSchedule)
    ");
    // While pods are still being made, a node without one and without a taint may get its own.
    assert_snapshot!(lines(&told(&daemon_set(2, 1, 1), &[pod("a", true)], &[node("a"), node("b")])), @"
    ready on 1 of 2 nodes (b: no pod yet)
    b: no pod yet
    ");
}

#[test]
fn a_pod_that_is_not_ready_says_why() {
    let rows = [
        ("only just placed", pod("n", false)),
        (
            "image",
            waiting(
                "n",
                json!({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}),
            ),
        ),
        ("being made", waiting("n", json!({"state": {"waiting": {"reason": "ContainerCreating"}}}))),
        (
            "crashing",
            waiting(
                "n",
                json!({
                    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}},
                    "lastState": {"terminated": {"reason": "Error", "exitCode": 1, "message": "bind: address already in use\n"}},
                }),
            ),
        ),
        ("ended", waiting("n", json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}))),
        ("running, and not ready", waiting("n", json!({"state": {"running": {}}}))),
        ("no place", {
            let mut pod = pod("n", false);
            pod["spec"] = json!({"containers": [], "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}],
            }}}});
            pod["status"] = json!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "1 node(s) didn't have free ports"},
            ]});
            pod
        }),
        ("evicted", {
            let mut pod = pod("n", false);
            pod["status"] =
                json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource"});
            pod
        }),
    ];
    let shown: Vec<String> = rows
        .iter()
        .map(|(name, pod)| {
            let seen = told(&daemon_set(1, 1, 0), std::slice::from_ref(pod), &[node("n")]);
            format!("{name}\n    {}\n", seen.lacking[0])
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    only just placed
        n: its pod is Running and not ready
    image
        n: ImagePullBackOff: Back-off pulling image
    being made
        n: its pod is Running and not ready
    crashing
        n: CrashLoopBackOff: back-off 5m0s restarting failed container (last time: Error, exit code 1: bind: address already in use)
    ended
        n: OOMKilled, exit code 137
    running, and not ready
        n: its pod is Running and not ready
    no place
        n: its pod finds no place: 1 node(s) didn't have free ports
    evicted
        n: its pod has Evicted: The node was low on resource
    ");
}

#[test]
fn a_pod_that_is_going_is_no_pod() {
    let mut going = pod("a", false);
    going["metadata"]["deletionTimestamp"] = json!("2026-03-02T10:15:30Z");
    // The controller still counts it.
    let seen = told(&daemon_set(1, 1, 0), std::slice::from_ref(&going), &[node("a")]);
    assert_eq!(seen.lacking[0].why, Lack::NoPodYet);
    let mut unseen = Nodes::of(&daemon_set(1, 1, 0));
    unseen.add_pod(&of(going));
    assert_eq!(unseen.told_without_nodes(String::new()).lacking[0].why, Lack::NoPodYet);
    // One that went between the DaemonSet's answer and the pods'.
    let seen = told(&daemon_set(1, 1, 1), &[], &[node("a")]);
    assert_eq!(seen.lacking[0].why, Lack::NoPodYet);
    // And one that is ready beside one that is not is enough.
    let seen = told(&daemon_set(1, 1, 1), &[pod("a", false), pod("a", true)], &[node("a")]);
    assert_eq!(seen.lacking, []);
}

#[test]
fn without_nodes_pods_still_tell() {
    let mut seen = Nodes::of(&daemon_set(3, 3, 1));
    for pod in [
        pod("a", true),
        pod("b", false),
        waiting("c", json!({"state": {"waiting": {"reason": "ErrImagePull"}}})),
    ] {
        seen.add_pod(&of(pod));
    }
    // A first page that came, and a second that was refused.
    seen.add_node(&of(node("d")));
    seen.add_node(&of(down("b")));
    let seen = seen.told_without_nodes("nodes is forbidden".to_owned());
    assert_snapshot!(lines(&seen), @"
    ready on 1 of 3 nodes (b: its pod is Running and not ready; c: ErrImagePull)
    b: its pod is Running and not ready
    c: ErrImagePull
    ");
    assert_eq!(seen.nodes_unseen.as_deref(), Some("nodes is forbidden"));
}

#[test]
fn a_node_that_went_away_shows_in_its_pod_too() {
    let mut lost = pod("a", false);
    lost["status"]["conditions"] = json!([
        {"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"},
    ]);
    let seen = |pod: &Value| {
        let mut seen = Nodes::of(&daemon_set(1, 1, 0));
        seen.add_pod(&of(pod.clone()));
        seen.told_without_nodes(String::new())
    };
    assert_eq!(seen(&lost).lacking[0].why, Lack::NodeNotReady);
    assert!(seen(&lost).is_rolled_out());
    // Somebody else's gate may hold a pod back as well.
    lost["spec"]["readinessGates"] = json!([{"conditionType": "mesh"}]);
    assert!(!seen(&lost).is_rolled_out());
}

#[test]
fn everything_is_tolerated_by_a_toleration_of_no_key() {
    let mut agent = daemon_set(1, 1, 0);
    let tolerations = of(json!([{"operator": "Exists"}]));
    agent.spec.as_mut().unwrap().template.spec.as_mut().unwrap().tolerations = Some(tolerations);
    let gpu = tainted("gpu", json!([{"key": "gpu", "value": "yes", "effect": "NoExecute"}]));
    assert_eq!(told(&agent, &[], &[gpu]).lacking[0].why, Lack::NoPodYet);
}

#[test]
fn pods_that_people_replace_themselves_are_waited_for_by_nobody() {
    let mut agent = daemon_set(2, 2, 2);
    agent.status.as_mut().unwrap().updated_number_scheduled = Some(0);
    let pods = [pod("a", true), pod("b", true)];
    assert!(!told(&agent, &pods, &[]).is_rolled_out());
    agent.spec.as_mut().unwrap().update_strategy = of(json!({"type": "OnDelete"}));
    assert!(told(&agent, &pods, &[]).is_rolled_out());
}

#[test]
fn an_agent_selected_by_expressions_only_is_found_by_its_name() {
    let mut agent = daemon_set(0, 0, 0);
    agent.spec.as_mut().unwrap().selector.match_labels = None;
    assert_eq!(Nodes::of(&agent).pod_selector(), "app.kubernetes.io/name=eks-pod-identity-agent");
}

#[test]
fn numbers_about_an_older_form_are_not_current() {
    let mut changed = daemon_set(2, 2, 2);
    changed.metadata.generation = Some(3);
    assert!(!told(&changed, &[], &[]).is_rolled_out());
    changed.status = None;
    assert!(!told(&changed, &[], &[]).current);
}
