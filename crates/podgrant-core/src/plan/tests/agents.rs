//! The agent, by every status that EKS has.

use insta::assert_snapshot;

use super::*;
use crate::Cluster;
use crate::model::Agent;

/// One cluster, and the agent on it: its status, or none.
fn world(cluster: Cluster, status: Option<&str>) -> Snapshot {
    let id = cluster.id.clone();
    let mut world = snapshot([], [cluster], []);
    match status {
        Some(status) => drop(world.agents.insert(
            id,
            Agent { version: "v1.3.8".to_owned(), status: status.to_owned(), issues: Vec::new() },
        )),
        None => drop(world.agent_versions.insert(id, "v1.3.9".to_owned())),
    }
    world
}

fn agents(announce: bool, snapshot: &Snapshot) -> String {
    printed(Duty::Agents { announce }, snapshot)
}

#[test]
fn each_status_of_a_cluster() {
    let shown: Vec<String> = ["ACTIVE", "UPDATING", "CREATING", "PENDING", "RESTORING", "DELETING", "FAILED"]
        .iter()
        .map(|status| {
            let world = world(cluster("prod-eu").status(status), None);
            format!("{status}\n{}\n", agents(true, &world))
        })
        .collect();
    assert_snapshot!(shown.concat(), @"
    ACTIVE
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.9
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    UPDATING
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.9
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
    ! cluster not ready: eu-west-1/prod-eu: the cluster is FAILED; it gets no agent
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
    .map(|status| agents(false, &world(cluster("prod-eu"), Some(status))) + "\n")
    .collect();
    assert_snapshot!(shown.concat(), @"
    . not yet: the agent on eu-west-1/prod-eu is CREATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is CREATE_FAILED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    . not yet: the agent on eu-west-1/prod-eu is UPDATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    . not yet: the agent on eu-west-1/prod-eu is DELETING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is DELETE_FAILED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is DEGRADED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is UPDATE_FAILED: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is new to us: EKS names no issue
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn health_issues_are_told() {
    let mut world = world(cluster("prod-eu"), Some("DEGRADED"));
    for agent in world.agents.values_mut() {
        agent.issues = vec!["InsufficientNumberOfReplicas: port 80 is taken".to_owned(), "X: y".to_owned()];
    }
    assert_snapshot!(agents(false, &world), @"
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.8 is DEGRADED: InsufficientNumberOfReplicas: port 80 is taken; X: y
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn no_version_for_the_cluster_is_news() {
    let mut world = world(cluster("prod-eu"), None);
    world.agent_versions.clear();
    assert_snapshot!(agents(false, &world), @"
    ! agent unhealthy: eu-west-1/prod-eu: EKS has no version of eks-pod-identity-agent for Kubernetes 1.33
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}

#[test]
fn who_waits_for_an_agent_hears_of_it_and_a_sweep_does_not() {
    let ready = world(cluster("prod-eu"), Some("ACTIVE"));
    assert_snapshot!(agents(false, &ready.clone().scoped_to_cluster("prod-eu")), @"
    > eu-west-1/prod-eu  agent v1.3.8 is healthy
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
    assert_snapshot!(agents(false, &ready), @"Plan: 0 to create, 0 to update, 0 to delete, 1 unchanged, 0 waiting, 0 findings.");
    // A new cluster is announced itself, before its agent is healthy: grants come before pods.
    let installing = world(cluster("prod-eu"), Some("CREATING")).scoped_to_cluster("prod-eu");
    assert_snapshot!(agents(true, &installing), @"
    > eu-west-1/prod-eu  ready for grants
    . not yet: the agent on eu-west-1/prod-eu is CREATING
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 1 waiting, 0 findings.
    ");
    assert_snapshot!(agents(true, &ready.scoped_to_cluster("prod-eu")), @"
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
        format!("{key} = {value}\n{}\n", agents(true, &world))
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
    + eu-west-1/prod-eu  agent v1.3.9
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = off
    > eu-west-1/prod-eu  ready for grants
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = on
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.9
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    podgrant/agent = remove
    > eu-west-1/prod-eu  ready for grants
    ! not supported: eu-west-1/prod-eu: the cluster carries podgrant/agent = remove, and this version knows on and off: it neither installs nor removes the agent
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    podgrant/agent = Off
    > eu-west-1/prod-eu  ready for grants
    ! not supported: eu-west-1/prod-eu: the cluster carries podgrant/agent = Off, and this version knows on and off: it neither installs nor removes the agent
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    agent = off
    > eu-west-1/prod-eu  ready for grants
    + eu-west-1/prod-eu  agent v1.3.9
    Plan: 1 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 0 findings.
    ");
}

#[test]
fn clusters_out_of_scope_or_unread_are_passed_over() {
    let here = world(cluster("prod-eu"), None);
    let nothing = Plan::default();
    let keys = TagKeys::default();
    let elsewhere = here.clone().scoped_to_cluster("test-eu");
    assert_eq!(plan(Duty::Agents { announce: true }, &elsewhere, &keys), nothing);
    // What could not be read is not taken for absent.
    let unread = here.clone().with_gap(Some("prod-eu"));
    assert_eq!(plan(Duty::Agents { announce: true }, &unread, &keys), nothing);
    let other_unread = here.with_gap(Some("test-eu"));
    assert_eq!(plan(Duty::Agents { announce: false }, &other_unread, &keys).changes.len(), 1);
}

#[test]
fn a_cluster_that_is_gone_is_told() {
    let mut world = snapshot([], [], []).scoped_to_cluster("prod-eu");
    world.clusters_gone.insert(cluster_id("prod-eu"));
    assert_snapshot!(agents(true, &world), @"
    ! no such cluster: eu-west-1/prod-eu: EKS does not know the cluster any more
    Plan: 0 to create, 0 to update, 0 to delete, 0 unchanged, 0 waiting, 1 findings.
    ");
}
