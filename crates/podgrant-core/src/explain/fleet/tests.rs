//! A fleet with a bit of everything wrong, told cluster by cluster.

use crate::agent::pods::{Lack, NodeLack};
use crate::explain::evidence::{ACCESS_KEY, Container, Owner, Pod};
use crate::explain::{Diagnosis, Target};
use crate::fixtures::{cluster, cluster_id, foreign, ours, role, snapshot};
use crate::model::{Agent, Gap};
use crate::powers::Powers;

use super::*;

fn agent() -> Agent {
    Agent {
        version: "v1.3.10-eksbuild.2".to_owned(),
        status: "ACTIVE".to_owned(),
        issues: Vec::new(),
        configuration: None,
        managed: true,
    }
}

fn pod(name: &str) -> Pod {
    Pod {
        namespace: "payments".to_owned(),
        name: name.to_owned(),
        account: "api".to_owned(),
        owner: Some(Owner {
            group: "apps".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "api-6c5f".to_owned(),
        }),
        containers: vec![Container { name: "app".to_owned(), ..Container::default() }],
        ..Pod::default()
    }
}

fn inside(ready: u32, lacking: Vec<NodeLack>, pods: Vec<Pod>) -> ClusterInside {
    let agent = AgentPods { desired: 3, ready, updated: ready, current: true, lacking, nodes_unseen: None };
    ClusterInside { agent: Ok(Some(agent)), pods: Ok(pods), port_holders: Ok(BTreeSet::new()) }
}

fn fleet() -> FleetEvidence {
    let payments = role("payments").grant("payments/api@prod-eu payments/api@us-east-1/prod-us").trusting();
    let distrusted = role("distrusted").grant("web/front@prod-eu x/Y@prod-eu");
    let admin = role("admin")
        .grant("ops/shell@prod-eu")
        .trusting()
        .with(Powers::Everything { policy: "All".to_owned() });
    let lost = role("lost").grant("a/b@nowhere").trusting();
    let held = role("held").grant("batch/job@prod-eu").trusting();
    let associations = [
        ours(&payments, "prod-eu", "payments/api@prod-eu"),
        foreign("prod-eu", "batch/job").granting(&role("other")),
    ];
    let clusters = [
        cluster("prod-eu"),
        cluster("us-east-1/prod-us"),
        cluster("new").status("CREATING"),
        cluster("left").tagged("podgrant/enroll", "off"),
    ];
    let mut snapshot = snapshot([payments, distrusted, admin, lost, held], clusters, associations);
    snapshot.agents.insert(cluster_id("prod-eu"), agent());
    FleetEvidence {
        target: Target::Fleet,
        snapshot,
        unread: Vec::new(),
        inside: BTreeMap::new(),
        node_roles: BTreeMap::new(),
    }
}

fn told(evidence: &FleetEvidence) -> String {
    let chains = explain_fleet(evidence, &TagKeys::default(), &Guardrails::default());
    let told: Vec<String> = chains.iter().map(|chain| Diagnosis::from(chain).to_string()).collect();
    told.join("\n")
}

#[test]
fn a_fleet_is_told_cluster_by_cluster() {
    insta::assert_snapshot!(told(&fleet()));
}

#[test]
fn one_cluster_is_told_with_the_roles_that_concern_it() {
    let mut evidence = fleet();
    evidence.target = Target::cluster("prod-us").unwrap();
    evidence.snapshot.clusters.retain(|id, _| id.name.as_str() == "prod-us");
    evidence.snapshot.associations.clear();
    insta::assert_snapshot!(told(&evidence));
}

#[test]
fn what_a_cluster_shows_of_nodes_and_pods_is_told() {
    let mut evidence = fleet();
    evidence.snapshot.roles.retain(|arn, _| arn.role_name() == "payments");
    evidence.snapshot.clusters.retain(|id, _| id.name.as_str() == "prod-eu");
    evidence.target = Target::cluster("prod-eu").unwrap();
    let lack = |node: &str, why| NodeLack { node: node.to_owned(), why };
    let taints = || Lack::Taints(vec!["gpu=yes:NoSchedule".to_owned()]);
    let lacking = vec![
        lack("gpu-1", taints()),
        lack("gpu-2", taints()),
        lack("ip-3", Lack::NotReady("CrashLoopBackOff".to_owned())),
    ];
    let mut keyed = pod("api-9");
    keyed.containers[0].variables.insert(ACCESS_KEY, None);
    let pods = (1..=7).map(|number| pod(&format!("api-{number}"))).chain([keyed]).collect();
    let mut inside = inside(2, lacking, pods);
    inside.port_holders = Ok(["ingress/haproxy-1: 80 on ip-3".to_owned()].into());
    evidence.inside.insert(cluster_id("prod-eu"), inside);
    let groups = [
        ("workers".to_owned(), Ok(NodeRole { name: "nodes".to_owned(), allows: true })),
        ("gpus".to_owned(), Ok(NodeRole { name: "gpu-nodes".to_owned(), allows: false })),
        (
            "others".to_owned(),
            Err("eks:DescribeNodegroup eu-west-1/prod-eu others: AccessDeniedException".to_owned()),
        ),
    ];
    evidence.node_roles.insert(cluster_id("prod-eu"), groups.into());
    insta::assert_snapshot!(told(&evidence));
}

#[test]
fn what_could_not_be_read_is_said_where_it_belongs() {
    let mut evidence = fleet();
    evidence.snapshot.roles.clear();
    evidence.snapshot.clusters.retain(|id, _| id.name.as_str() == "prod-eu");
    evidence.unread.push("iam:GetAccountAuthorizationDetails roles: AccessDenied".to_owned());
    evidence.snapshot.gaps.push(Gap {
        cluster: Some(cluster_id("prod-eu")),
        why: "eks:ListPodIdentityAssociations eu-west-1/prod-eu: AccessDeniedException".to_owned(),
        throttled: false,
    });
    let why =
        "the cluster's Kubernetes API could not be reached (its endpoint is private): timed out".to_owned();
    let unseen = ClusterInside { agent: Err(why.clone()), pods: Err(why.clone()), port_holders: Err(why) };
    evidence.inside.insert(cluster_id("prod-eu"), unseen);
    insta::assert_snapshot!(told(&evidence));
}
