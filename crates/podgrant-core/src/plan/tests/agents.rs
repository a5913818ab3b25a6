//! The agent, by every status that EKS has.

use insta::assert_snapshot;

use super::*;
use crate::Cluster;
use crate::agent::pods::{AccessEntry, AgentPods, Inside, Lack, NodeLack};
use crate::agent::version::OfferedVersion;
use crate::model::{Agent, AgentIssue, ClusterKind, Nodes};

/// One cluster; AWS offers three versions for it.
fn offered(cluster: Cluster) -> Snapshot {
    let id = cluster.id.clone();
    let mut world = snapshot([], [cluster], []);
    let versions = ["v1.3.10-eksbuild.1", "v1.3.8-eksbuild.2", "v1.2.0-eksbuild.1"].map(|version| {
        OfferedVersion { version: version.to_owned(), is_default: version.starts_with("v1.3.8") }
    });
    world.agent_versions.insert(id, versions.into());
    world
}

/// An agent in AWS's default version, that podgrant installed.
fn agent(status: &str) -> Agent {
    Agent {
        version: "v1.3.8-eksbuild.2".to_owned(),
        status: status.to_owned(),
        issues: Vec::new(),
        configuration: None,
        managed: true,
    }
}

fn with_issue(status: &str, code: &str) -> Agent {
    let issue = AgentIssue { code: code.to_owned(), message: "EKS's words".to_owned() };
    Agent { issues: vec![issue], ..agent(status) }
}

fn foreign(agent: Agent) -> Agent {
    Agent { managed: false, ..agent }
}

fn version(version: &str) -> Agent {
    Agent { version: version.to_owned(), ..agent("ACTIVE") }
}

fn with(agent: Agent, cluster: Cluster) -> Snapshot {
    let id = cluster.id.clone();
    let mut world = offered(cluster);
    world.agents.insert(id, agent);
    world
}

/// One cluster, and the agent on it: its status, or none.
fn world(cluster: Cluster, status: Option<&str>) -> Snapshot {
    match status {
        Some(status) => with(agent(status), cluster),
        None => offered(cluster),
    }
}

fn duty(announce: Announce) -> Duty {
    Duty::Agents { announce, settings: AgentSettings::default(), attempt: 0 }
}

fn agents(announce: Announce, snapshot: &Snapshot) -> String {
    printed(duty(announce), snapshot)
}

/// The plan without its summary: for tables.
fn brief(snapshot: &Snapshot) -> String {
    let plan = agents(Announce::Nothing, snapshot);
    let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with("Plan: ")).collect();
    if lines.is_empty() { "nothing to do".to_owned() } else { lines.join("\n    ") }
}

#[test]
fn each_status_of_a_cluster() {
    let shown: Vec<String> = ["ACTIVE", "UPDATING", "CREATING", "PENDING", "RESTORING", "DELETING", "FAILED"]
        .iter()
        .map(|status| {
            let world = world(cluster("prod-eu").status(status), None);
            format!("{status}\n{}\n", agents(Announce::Cluster, &world))
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    ACTIVE
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    UPDATING
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    CREATING
    . not yet: cluster eu-west-1/prod-eu is CREATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    PENDING
    . not yet: cluster eu-west-1/prod-eu is PENDING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    RESTORING
    . not yet: cluster eu-west-1/prod-eu is RESTORING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    DELETING
    ! cluster not ready: eu-west-1/prod-eu: the cluster is DELETING; it gets no agent
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    FAILED
    ! cluster failed: eu-west-1/prod-eu: the cluster is FAILED; it gets no agent
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn each_status_of_the_agent() {
    let shown: Vec<String> = [
        "CREATING",
        "ACTIVE",
        "CREATE_FAILED",
        "UPDATING",
        "DELETING",
        "DELETE_FAILED",
        "DEGRADED",
        "UPDATE_FAILED",
        "new to us",
    ]
    .iter()
    .map(|status| agents(Announce::Nothing, &world(cluster("prod-eu"), Some(status))) + "\n")
    .collect();
    assert_snapshot!(shown.concat(), @"
    . not yet: the agent on eu-west-1/prod-eu is CREATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    - eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  (to be made anew, for it is CREATE_FAILED)
    Plan: 0 to create, 0 to update, 1 to delete, 0 unchanged, 0 waiting, 0 findings.
    . not yet: the agent on eu-west-1/prod-eu is UPDATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    . not yet: the agent on eu-west-1/prod-eu is DELETING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is DELETE_FAILED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    . not yet: the agent on eu-west-1/prod-eu is DEGRADED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ~ eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  (again, for it is UPDATE_FAILED)
    Plan: 0 to create, 1 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is new to us: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn who_waits_for_an_agent_hears_of_it_and_a_sweep_does_not() {
    let ready = world(cluster("prod-eu"), Some("ACTIVE"));
    assert_snapshot!(agents(Announce::Agent, &ready.clone().scoped_to_cluster("prod-eu")), @"
    > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(agents(Announce::Nothing, &ready), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
    // A new cluster is announced itself, before its agent is healthy: grants come before pods.
    let installing = world(cluster("prod-eu"), Some("CREATING")).scoped_to_cluster("prod-eu");
    assert_snapshot!(agents(Announce::Cluster, &installing), @"
    > eu-west-1/prod-eu  ready for grants
    . not yet: the agent on eu-west-1/prod-eu is CREATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    assert_snapshot!(agents(Announce::Cluster, &ready.scoped_to_cluster("prod-eu")), @"
    > eu-west-1/prod-eu  ready for grants
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn tags_on_the_cluster_are_heeded() {
    let shown: Vec<String> = [
        ("podgrant/enroll", "off"),
        ("podgrant/enroll", "Off"),
        ("podgrant/enroll", "on"),
        ("podgrant/agent", "off"),
        ("podgrant/agent", "on"),
        // Nobody who wants it gone, or misspells "off", gets it installed.
        ("podgrant/agent", "remove"),
        ("podgrant/agent", "Off"),
        ("agent", "off"),
    ]
    .iter()
    .map(|(key, value)| {
        let world = world(cluster("prod-eu").tagged(key, value), None);
        format!("{key} = {value}\n{}\n", agents(Announce::Cluster, &world))
    })
    .collect();
    assert_snapshot!(shown.concat(), @"
    podgrant/enroll = off
    ! cluster opted out: eu-west-1/prod-eu: the cluster carries podgrant/enroll = off
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    podgrant/enroll = Off
    ! cluster opted out: eu-west-1/prod-eu: the cluster carries podgrant/enroll = Off
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    podgrant/enroll = on
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = off
    > eu-west-1/prod-eu  ready for grants
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = on
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = remove
    > eu-west-1/prod-eu  ready for grants
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = Off
    > eu-west-1/prod-eu  ready for grants
    ! bad cluster tag: eu-west-1/prod-eu: the cluster carries podgrant/agent = Off: expected on, off, manage or remove; until then its agent stays as it is
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    agent = off
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn clusters_out_of_scope_or_unread_are_passed_over() {
    let here = world(cluster("prod-eu"), None);
    let nothing = Plan::default();
    let keys = TagKeys::default();
    let elsewhere = here.clone().scoped_to_cluster("test-eu");
    assert_eq!(plan(duty(Announce::Cluster), &elsewhere, &keys), nothing);
    // What could not be read is not taken for absent.
    let unread = here.clone().with_gap(Some("prod-eu"));
    assert_eq!(plan(duty(Announce::Cluster), &unread, &keys), nothing);
    let other_unread = here.with_gap(Some("test-eu"));
    assert_eq!(plan(duty(Announce::Nothing), &other_unread, &keys).changes.len(), 1);
}

#[test]
fn a_cluster_that_is_gone_is_told() {
    let mut world = snapshot([], [], []).scoped_to_cluster("prod-eu");
    world.clusters_gone.insert(cluster_id("prod-eu"));
    assert_snapshot!(agents(Announce::Cluster, &world), @"
    ! no such cluster: eu-west-1/prod-eu: EKS does not know the cluster any more
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn every_kind_of_cluster() {
    let kind = |kind: ClusterKind| Cluster { kind, ..cluster("prod-eu") };
    let auto = || kind(ClusterKind { auto_mode: true, ..ClusterKind::default() });
    let on = |node_groups, fargate_profiles, cluster: Cluster| {
        let id = cluster.id.clone();
        let mut world = offered(cluster);
        world.nodes.insert(id, Nodes { node_groups, fargate_profiles });
        world
    };
    let outpost = || kind(ClusterKind { outpost: true, ..ClusterKind::default() });
    let connected = kind(ClusterKind { connected: true, ..ClusterKind::default() });
    let rows = [
        ("just made, no nodes yet", on(0, 0, cluster("prod-eu"))),
        ("node groups", on(2, 0, cluster("prod-eu"))),
        ("node groups and Fargate", on(1, 1, cluster("prod-eu"))),
        ("Fargate only", on(0, 1, cluster("prod-eu"))),
        ("Fargate, and self-managed nodes", on(0, 1, cluster("prod-eu").tagged("podgrant/agent", "on"))),
        ("Auto Mode", on(0, 0, auto())),
        ("Auto Mode and node groups", on(1, 0, auto())),
        ("Auto Mode, insisted", on(0, 0, auto().tagged("podgrant/agent", "on"))),
        ("Outpost", on(1, 0, outpost())),
        ("connected", on(0, 0, connected)),
    ];
    let shown: Vec<String> =
        rows.iter().map(|(name, world)| format!("{name}\n    {}\n", brief(world))).collect();
    assert_snapshot!(shown.concat(), @"
    just made, no nodes yet
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    node groups
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    node groups and Fargate
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Fargate only
        ! cluster unsupported: eu-west-1/prod-eu: the cluster has Fargate profiles and no node groups, and Pod Identity does not work on Fargate; if it has self-managed nodes, tag the cluster podgrant/agent = on to have it all the same
    Fargate, and self-managed nodes
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Auto Mode
        nothing to do
    Auto Mode and node groups
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Auto Mode, insisted
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Outpost
        ! cluster unsupported: eu-west-1/prod-eu: the cluster runs on an Outpost, where Pod Identity does not work; tag the cluster podgrant/agent = on to have it all the same
    connected
        ! cluster unsupported: eu-west-1/prod-eu: the cluster is only connected to EKS, and runs elsewhere: Pod Identity does not work there
    ");
}

#[test]
fn every_state_of_an_agent() {
    let here = || cluster("prod-eu");
    let rows = [
        ("as wanted", with(agent("ACTIVE"), here())),
        ("older than wanted", with(version("v1.2.0-eksbuild.1"), here())),
        ("newer than wanted", with(version("v1.3.10-eksbuild.1"), here())),
        ("a version of its own kind", with(version("v9-custom"), here())),
        ("somebody else's, older", with(foreign(version("v1.2.0-eksbuild.1")), here())),
        (
            "somebody else's, older, managed by tag",
            with(foreign(version("v1.2.0-eksbuild.1")), here().tagged("podgrant/agent", "manage")),
        ),
        ("latest by tag", with(agent("ACTIVE"), here().tagged("podgrant/agent-version", "latest"))),
        (
            "a line by tag",
            with(version("v1.2.0-eksbuild.1"), here().tagged("podgrant/agent-version", "v1.3")),
        ),
        ("not on offer", with(agent("ACTIVE"), here().tagged("podgrant/agent-version", "v1.4"))),
        (
            "a tag that makes no sense",
            with(agent("ACTIVE"), here().tagged("podgrant/agent-version", "newest")),
        ),
        ("still starting", with(agent("CREATING"), here())),
        ("degraded, without a reason", with(agent("DEGRADED"), here())),
        ("degraded, pods not ready", with(with_issue("DEGRADED", "InsufficientNumberOfReplicas"), here())),
        ("degraded, refused by a webhook", with(with_issue("DEGRADED", "AdmissionRequestDenied"), here())),
        ("update failed by itself", with(with_issue("UPDATE_FAILED", "InternalFailure"), here())),
        ("update failed in conflict", with(with_issue("UPDATE_FAILED", "ConfigurationConflict"), here())),
        (
            "somebody else's update failed",
            with(foreign(with_issue("UPDATE_FAILED", "InternalFailure")), here()),
        ),
        ("could not be made", with(with_issue("CREATE_FAILED", "ClusterUnreachable"), here())),
        ("could not be made for lack of rights", with(with_issue("CREATE_FAILED", "AccessDenied"), here())),
        ("somebody else's could not be made", with(foreign(agent("CREATE_FAILED")), here())),
        ("an issue new to us", with(with_issue("DEGRADED", "Gremlins"), here())),
        ("going", with(agent("DELETING"), here())),
        ("could not be deleted", with(agent("DELETE_FAILED"), here())),
    ];
    let shown: Vec<String> =
        rows.iter().map(|(name, world)| format!("{name}\n    {}\n", brief(world))).collect();
    assert_snapshot!(shown.concat(), @r#"
    as wanted
        nothing to do
    older than wanted
        ~ eu-west-1/prod-eu  agent v1.2.0-eksbuild.1 -> v1.3.8-eksbuild.2
    newer than wanted
        ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.1 is newer than v1.3.8-eksbuild.2, which is wanted; podgrant does not go back: name the newer one in podgrant/agent-version if it is meant
    a version of its own kind
        nothing to do
    somebody else's, older
        nothing to do
    somebody else's, older, managed by tag
        ~ eu-west-1/prod-eu  agent v1.2.0-eksbuild.1 -> v1.3.8-eksbuild.2
    latest by tag
        ~ eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 -> v1.3.10-eksbuild.1
    a line by tag
        ~ eu-west-1/prod-eu  agent v1.2.0-eksbuild.1 -> v1.3.10-eksbuild.1
    not on offer
        ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent: v1.4 is not on offer for Kubernetes 1.33; AWS offers v1.3.10-eksbuild.1, v1.3.8-eksbuild.2 (default), v1.2.0-eksbuild.1
    a tag that makes no sense
        ! bad cluster tag: eu-west-1/prod-eu: the cluster's tag podgrant/agent-version: expected default, latest, a version such as v1.3.8-eksbuild.2 or a line such as v1.3, found "newest"
    still starting
        . not yet: the agent on eu-west-1/prod-eu is CREATING
    degraded, without a reason
        . not yet: the agent on eu-west-1/prod-eu is DEGRADED: EKS names no issue
    degraded, pods not ready
        . not yet: the agent on eu-west-1/prod-eu is DEGRADED: InsufficientNumberOfReplicas: EKS's words (agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6)
    degraded, refused by a webhook
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is DEGRADED: AdmissionRequestDenied: EKS's words (an admission webhook of the cluster refuses the agent: allow it in kube-system)
    update failed by itself
        ~ eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  (again, for it is UPDATE_FAILED)
    update failed in conflict
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is UPDATE_FAILED: ConfigurationConflict: EKS's words (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place)
    somebody else's update failed
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is UPDATE_FAILED: InternalFailure: EKS's words (EKS failed by itself); podgrant did not install it, and leaves it alone
    could not be made
        - eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  (to be made anew, for it is CREATE_FAILED)
    could not be made for lack of rights
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is CREATE_FAILED: AccessDenied: EKS's words (EKS may not change the cluster: look at the cluster's aws-auth or access entries for the role eks:addon-manager)
    somebody else's could not be made
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is CREATE_FAILED: EKS names no issue; podgrant did not install it, and leaves it alone
    an issue new to us
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is DEGRADED: Gremlins: EKS's words
    going
        . not yet: the agent on eu-west-1/prod-eu is DELETING
    could not be deleted
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is DELETE_FAILED: EKS names no issue
    "#);
}

#[test]
fn an_agent_is_removed_only_if_it_is_ours_and_nothing_needs_it() {
    let gone = || cluster("prod-eu").tagged("podgrant/agent", "remove");
    let needed = |count: usize| {
        let mut world = with(agent("ACTIVE"), gone());
        let asking = role("payments");
        world.associations =
            (0..count).map(|n| ours(&asking, "prod-eu", &format!("payments/api-{n}@prod-eu"))).collect();
        world
    };
    let rows = [
        ("ours", with(agent("ACTIVE"), gone())),
        ("ours, broken", with(with_issue("DEGRADED", "AccessDenied"), gone())),
        ("going already", with(agent("DELETING"), gone())),
        ("somebody else's", with(foreign(agent("ACTIVE")), gone())),
        ("needed", needed(2)),
        ("needed by many", needed(12)),
        ("not there", offered(gone())),
    ];
    let shown: Vec<String> =
        rows.iter().map(|(name, world)| format!("{name}\n    {}\n", brief(world))).collect();
    assert_snapshot!(shown.concat(), @"
    ours
        - eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    ours, broken
        - eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    going already
        nothing to do
    somebody else's
        ! agent kept: eu-west-1/prod-eu: podgrant/agent = remove: podgrant did not install this agent, and does not remove it
    needed
        ! agent kept: eu-west-1/prod-eu: podgrant/agent = remove: these associations need the agent: payments/api-0 (a-prodeupaymentsapi0), payments/api-1 (a-prodeupaymentsapi1); take them away first
    needed by many
        ! agent kept: eu-west-1/prod-eu: podgrant/agent = remove: these associations need the agent: payments/api-0 (a-prodeupaymentsapi0), payments/api-1 (a-prodeupaymentsapi1), payments/api-2 (a-prodeupaymentsapi2), payments/api-3 (a-prodeupaymentsapi3), payments/api-4 (a-prodeupaymentsapi4), payments/api-5 (a-prodeupaymentsapi5), payments/api-6 (a-prodeupaymentsapi6), payments/api-7 (a-prodeupaymentsapi7), payments/api-8 (a-prodeupaymentsapi8), payments/api-9 (a-prodeupaymentsapi9) and 2 more; take them away first
    not there
        nothing to do
    ");
}

#[test]
fn configuration_is_given_to_new_agents() {
    let settings = AgentSettings { configuration: Some(r#"{"a":1}"#.to_owned()), ..AgentSettings::default() };
    let plan = printed(
        Duty::Agents { announce: Announce::Nothing, settings, attempt: 0 },
        &offered(cluster("prod-eu")),
    );
    assert_snapshot!(plan, @r#"
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  configuration {"a":1}
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    "#);
}

#[test]
fn no_version_for_the_cluster_is_news() {
    let mut world = offered(cluster("prod-eu"));
    world.agent_versions.clear();
    assert_snapshot!(brief(&world), @"! agent version: eu-west-1/prod-eu: eks-pod-identity-agent: AWS offers no version for Kubernetes 1.33");
}

#[test]
fn why_a_cluster_failed_is_told() {
    let mut failed = cluster("prod-eu").status("FAILED");
    failed.issues = vec!["VpcIdNotFound: no such VPC".to_owned()];
    assert_snapshot!(brief(&offered(failed)), @"! cluster not ready: eu-west-1/prod-eu: the cluster is FAILED; it gets no agent: VpcIdNotFound: no such VPC");
}

/// The agent's pods, ready on so many of so many nodes.
fn pods(ready: u32, desired: u32) -> AgentPods {
    AgentPods { desired, ready, updated: ready, current: true, ..AgentPods::default() }
}

fn lacking(pods: AgentPods, node: &str, why: Lack) -> Inside {
    Inside::Agent(AgentPods { lacking: vec![NodeLack { node: node.to_owned(), why }], ..pods })
}

fn closed(entry: AccessEntry) -> Inside {
    Inside::Closed { why: "the cluster's Kubernetes API refused podgrant (401)".to_owned(), entry }
}

/// What a pass that waits for the agent makes of what the cluster says.
fn seen(world: Snapshot, inside: Inside) -> String {
    let mut world = world;
    let id = world.clusters.keys().next().unwrap().clone();
    world.inside.insert(id, inside);
    let plan = agents(Announce::Agent, &world);
    let lines: Vec<&str> = plan.lines().filter(|line| !line.starts_with("Plan: ")).collect();
    if lines.is_empty() { "nothing to do".to_owned() } else { lines.join("\n    ") }
}

#[test]
fn what_the_cluster_itself_says_of_its_agent() {
    let active = || with(agent("ACTIVE"), cluster("prod-eu"));
    let degraded = || with(with_issue("DEGRADED", "InsufficientNumberOfReplicas"), cluster("prod-eu"));
    let crash = || Lack::NotReady("CrashLoopBackOff: bind: address already in use".to_owned());
    let taints = || Lack::Taints(vec!["gpu=yes:NoSchedule".to_owned()]);
    let rows = [
        ("on every node", seen(active(), Inside::Agent(pods(3, 3)))),
        ("no nodes yet", seen(active(), Inside::Agent(pods(0, 0)))),
        ("still starting", seen(active(), lacking(pods(2, 3), "ip-1", Lack::NoPodYet))),
        ("crashing", seen(active(), lacking(pods(2, 3), "ip-1", crash()))),
        ("a node is down", seen(active(), lacking(pods(2, 3), "ip-1", Lack::NodeNotReady))),
        ("a tainted node is passed over", seen(active(), lacking(pods(3, 3), "gpu-1", taints()))),
        ("a node is left out by selector", seen(active(), lacking(pods(3, 3), "arm-1", Lack::LeftOut))),
        ("an older form on one node", seen(active(), Inside::Agent(AgentPods { updated: 2, ..pods(3, 3) }))),
        (
            "the newest form is not looked at yet",
            seen(active(), Inside::Agent(AgentPods { current: false, ..pods(3, 3) })),
        ),
        (
            "nodes can't be listed",
            seen(
                active(),
                Inside::Agent(AgentPods {
                    nodes_unseen: Some("nodes is forbidden".to_owned()),
                    ..pods(3, 3)
                }),
            ),
        ),
        ("the DaemonSet is gone", seen(active(), Inside::NoAgent)),
        ("private", seen(active(), Inside::Unseen { why: "no route to its private endpoint".to_owned() })),
        ("refused, no access entry", seen(active(), closed(AccessEntry::Absent))),
        ("refused, entry half made", seen(active(), closed(AccessEntry::WithoutPolicy))),
        ("refused all the same", seen(active(), closed(AccessEntry::Whole))),
        ("refused, somebody else's entry", seen(active(), closed(AccessEntry::Foreign))),
        ("refused, and takes no entries", seen(active(), closed(AccessEntry::NotTaken))),
        ("degraded, and why", seen(degraded(), lacking(pods(2, 3), "ip-1", crash()))),
        ("degraded, and private", seen(degraded(), Inside::Unseen { why: "no route".to_owned() })),
        ("not installed, as is the API", seen(offered(cluster("prod-eu")), Inside::NoAgent)),
        ("not installed, refused", seen(offered(cluster("prod-eu")), closed(AccessEntry::Absent))),
        ("self-managed", seen(offered(cluster("prod-eu")), Inside::Agent(pods(3, 3)))),
        (
            "self-managed, to be taken over",
            seen(offered(cluster("prod-eu").tagged("podgrant/agent", "manage")), Inside::Agent(pods(3, 3))),
        ),
    ];
    let shown: Vec<String> = rows.iter().map(|(name, plan)| format!("{name}\n    {plan}\n")).collect();
    assert_snapshot!(shown.concat(), @"
    on every node
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 3 of 3 nodes)
    no nodes yet
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 0 of 0 nodes)
    still starting
        . not yet: the agent on eu-west-1/prod-eu is ready on 2 of 3 nodes (ip-1: no pod yet)
    crashing
        . not yet: the agent on eu-west-1/prod-eu is ready on 2 of 3 nodes (ip-1: CrashLoopBackOff: bind: address already in use)
    a node is down
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 2 of 3 nodes)
    a tainted node is passed over
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 3 of 3 nodes)
        ! agent nodes: eu-west-1/prod-eu: pods get no credentials on nodes without an agent: gpu-1: its taints are not tolerated (gpu=yes:NoSchedule); the add-on's configuration values (tolerations, affinity) say where it goes
    a node is left out by selector
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 3 of 3 nodes)
        ! agent nodes: eu-west-1/prod-eu: pods get no credentials on nodes without an agent: arm-1: the DaemonSet's node selector or affinity leaves it out; the add-on's configuration values (tolerations, affinity) say where it goes
    an older form on one node
        . not yet: the agent on eu-west-1/prod-eu is ready on 3 of 3 nodes, and of its newest form on 2
    the newest form is not looked at yet
        . not yet: the agent on eu-west-1/prod-eu is ready on 3 of 3 nodes, and of its newest form on 0
    nodes can't be listed
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy  (ready on 3 of 3 nodes)
        ! Kubernetes unseen: eu-west-1/prod-eu: nodes that the agent passes over are not told: nodes is forbidden; infra/kubernetes/see-nodes.yaml lets podgrant list them
    the DaemonSet is gone
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is ACTIVE, and its DaemonSet is not in the cluster: somebody deleted it; remove the add-on, and podgrant installs it anew
    private
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
        ! Kubernetes unseen: eu-west-1/prod-eu: no route to its private endpoint; what EKS says of the add-on counts
    refused, no access entry
        + eu-west-1/prod-eu  access entry for podgrant, to view the agent
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
    refused, entry half made
        + eu-west-1/prod-eu  access entry for podgrant, to view the agent
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
    refused all the same
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
        ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401); its access entry is as it should be, and may need a minute; what EKS says of the add-on counts
    refused, somebody else's entry
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
        ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401); somebody else made an access entry for podgrant's role: give it AmazonEKSViewPolicy, or delete it and podgrant makes its own; what EKS says of the add-on counts
    refused, and takes no entries
        > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy
        ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401); the cluster takes no access entries: set its authentication mode to API_AND_CONFIG_MAP; what EKS says of the add-on counts
    degraded, and why
        . not yet: the agent on eu-west-1/prod-eu is DEGRADED: InsufficientNumberOfReplicas: EKS's words (agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6); it is ready on 2 of 3 nodes (ip-1: CrashLoopBackOff: bind: address already in use)
    degraded, and private
        . not yet: the agent on eu-west-1/prod-eu is DEGRADED: InsufficientNumberOfReplicas: EKS's words (agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6)
        ! Kubernetes unseen: eu-west-1/prod-eu: no route; what EKS says of the add-on counts
    not installed, as is the API
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    not installed, refused
        + eu-west-1/prod-eu  access entry for podgrant, to view the agent
        . not yet: the Kubernetes API of eu-west-1/prod-eu is being opened, for a look
    self-managed
        ! self-managed agent: eu-west-1/prod-eu: an agent runs there that is no EKS add-on, ready on 3 of 3 nodes; podgrant keeps it, and does not update it: tag the cluster podgrant/agent = manage to have the add-on take its place
    self-managed, to be taken over
        + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  in place of any that is no add-on
    ");
}

#[test]
fn a_sweep_says_where_nodes_are_passed_over_and_is_silent_about_nodes_it_may_not_list() {
    let mut world = with(agent("ACTIVE"), cluster("prod-eu"));
    let unseen = AgentPods { nodes_unseen: Some("nodes is forbidden".to_owned()), ..pods(3, 3) };
    world.inside.insert(cluster_id("prod-eu"), Inside::Agent(unseen));
    assert_snapshot!(brief(&world), @"nothing to do");
    world.inside.insert(cluster_id("prod-eu"), lacking(pods(2, 3), "ip-1", Lack::NoPodYet));
    assert_snapshot!(brief(&world), @"! agent rollout: eu-west-1/prod-eu: the agent on eu-west-1/prod-eu is ready on 2 of 3 nodes (ip-1: no pod yet)");
    world.inside.insert(cluster_id("prod-eu"), lacking(pods(3, 3), "arm-1", Lack::LeftOut));
    assert_snapshot!(brief(&world), @"! agent rollout: eu-west-1/prod-eu: pods get no credentials on nodes without an agent: arm-1: the DaemonSet's node selector or affinity leaves it out; the add-on's configuration values (tolerations, affinity) say where it goes");
}

#[test]
fn an_older_cluster_is_opened_before_it_gets_an_agent_and_not_waited_for_for_ever() {
    let mut world = offered(cluster("prod-eu"));
    world.inside.insert(cluster_id("prod-eu"), closed(AccessEntry::Absent));
    let shown = |announce, attempt| {
        printed(Duty::Agents { announce, settings: AgentSettings::default(), attempt }, &world)
    };
    assert_snapshot!(shown(Announce::Nothing, 0), @"
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent
    . not yet: the Kubernetes API of eu-west-1/prod-eu is being opened, for a look
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    assert_snapshot!(shown(Announce::Agent, 2), @"
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    // One just made runs nothing yet.
    assert_snapshot!(shown(Announce::Cluster, 0), @"
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2
    Plan: 2 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn a_conflict_is_taken_over_only_when_told_to() {
    let torn = || with_issue("CREATE_FAILED", "ConfigurationConflict");
    let managed = || cluster("prod-eu").tagged("podgrant/agent", "manage");
    let other = Agent {
        issues: [torn().issues, with_issue("", "AccessDenied").issues].concat(),
        ..agent("CREATE_FAILED")
    };
    let rows = [
        ("not told to", with(torn(), cluster("prod-eu"))),
        ("told to", with(torn(), managed())),
        ("somebody else's add-on", with(foreign(torn()), managed())),
        ("something else ails it too", with(other, managed())),
    ];
    let shown: Vec<String> =
        rows.iter().map(|(name, world)| format!("{name}\n    {}\n", brief(world))).collect();
    assert_snapshot!(shown.concat(), @"
    not told to
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is CREATE_FAILED: ConfigurationConflict: EKS's words (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place)
    told to
        - eu-west-1/prod-eu  agent v1.3.8-eksbuild.2  (to be made anew, for it is CREATE_FAILED)
    somebody else's add-on
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is CREATE_FAILED: ConfigurationConflict: EKS's words (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place)
    something else ails it too
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8-eksbuild.2 is CREATE_FAILED: ConfigurationConflict: EKS's words (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place); AccessDenied: EKS's words (EKS may not change the cluster: look at the cluster's aws-auth or access entries for the role eks:addon-manager)
    ");
}

#[test]
fn configuration_that_does_not_fit_installs_nothing() {
    let mut world = offered(cluster("prod-eu"));
    let misfits = vec!["/tolerations: \"all\" is not of type \"array\"".to_owned()];
    world.agent_misfits.insert(cluster_id("prod-eu"), misfits);
    assert_snapshot!(brief(&world), @r#"! agent configuration: eu-west-1/prod-eu: PODGRANT_AGENT_CONFIGURATION does not fit eks-pod-identity-agent v1.3.8-eksbuild.2, so that no agent is installed: /tolerations: "all" is not of type "array""#);
}
