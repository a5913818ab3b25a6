//! One good set-up; each row breaks one thing, or two, or hides some, and the table shows what is named first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::evidence::*;
use super::*;
use crate::agent::pods::{AgentPods, Lack, NodeLack};
use crate::fixtures::{NOW, cluster, cluster_id, foreign, ours, role, snapshot};
use crate::model::{Agent, AgentIssue, Association, Cluster, Nodes, Role};
use crate::plan::Change;
use crate::powers::Powers;

/// When the association was made, and the pod a while after it.
const MADE: i64 = NOW - 86_400;
const STARTED: i64 = NOW - 3600;

fn payments() -> Role {
    role("payments").grant("payments/api@prod-eu").trusting()
}

fn described(role: &Role) -> Association {
    ours(role, "prod-eu", "payments/api@prod-eu").granting(role)
}

fn given() -> BTreeMap<&'static str, Option<String>> {
    BTreeMap::from([
        (FULL_URI, Some("http://169.254.170.23/v1/credentials".to_owned())),
        (
            TOKEN_FILE,
            Some("/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token".to_owned()),
        ),
    ])
}

fn pod(name: &str) -> Pod {
    Pod {
        namespace: "payments".to_owned(),
        name: name.to_owned(),
        account: "api".to_owned(),
        node: Some("ip-1".to_owned()),
        created_at: Some(STARTED),
        host_network: false,
        is_ending: false,
        owner: Some(Owner {
            group: "apps".to_owned(),
            kind: "ReplicaSet".to_owned(),
            name: "api-6c5f".to_owned(),
        }),
        runs_on: None,
        has_token: true,
        containers: vec![Container { name: "app".to_owned(), variables: given(), ..Container::default() }],
    }
}

fn node() -> Node {
    Node {
        kind: NodeKind::Instance,
        node_group: Some("workers".to_owned()),
        agent: Ok(AgentOnNode::Ready),
        port_holders: Ok(BTreeSet::new()),
    }
}

fn agent_pods() -> AgentPods {
    AgentPods { desired: 2, ready: 2, updated: 2, current: true, lacking: Vec::new(), nodes_unseen: None }
}

/// All as it should be: a tagged role that trusts, an association, an agent, and a pod that was made after it.
fn good() -> Evidence {
    let role = payments();
    let association = described(&role);
    let times = Times { association: association.id.clone(), created_at: MADE, modified_at: MADE };
    let mut snapshot = snapshot([role], [cluster("prod-eu")], [association]);
    let agent = Agent {
        version: "v1.3.10-eksbuild.2".to_owned(),
        status: "ACTIVE".to_owned(),
        issues: Vec::new(),
        configuration: None,
        managed: true,
    };
    snapshot.agents.insert(cluster_id("prod-eu"), agent);
    Evidence {
        target: Target::service_account("payments/api@prod-eu").unwrap(),
        place: "payments/api@prod-eu".to_owned(),
        workload: crate::Workload {
            namespace: "payments".parse().unwrap(),
            service_account: "api".parse().unwrap(),
        },
        cluster: Some(cluster_id("prod-eu")),
        role: Some("payments".to_owned()),
        snapshot,
        times: Some(times),
        unread: BTreeMap::new(),
        inside: Some(WorkloadInside {
            account: Ok(Some(Account::default())),
            pods: Ok(Pods { seen: vec![pod("api-1")], others: BTreeMap::new() }),
            agent: Ok(Some(agent_pods())),
            nodes: BTreeMap::from([("ip-1".to_owned(), Ok(node()))]),
        }),
        node_roles: BTreeMap::from([(
            "ip-1".to_owned(),
            Ok(NodeRole { name: "nodes".to_owned(), allows: true }),
        )]),
    }
}

impl Evidence {
    fn role_is(&mut self, change: impl Fn(Role) -> Role) {
        let roles = std::mem::take(&mut self.snapshot.roles);
        self.snapshot.roles = roles.into_values().map(change).map(|role| (role.arn.clone(), role)).collect();
    }

    fn cluster_is(&mut self, change: impl Fn(Cluster) -> Cluster) {
        let clusters = std::mem::take(&mut self.snapshot.clusters);
        self.snapshot.clusters =
            clusters.into_values().map(change).map(|cluster| (cluster.id.clone(), cluster)).collect();
    }

    fn unassociated(&mut self) {
        self.snapshot.associations.clear();
        self.times = None;
    }

    fn inside(&mut self) -> &mut WorkloadInside {
        self.inside.as_mut().unwrap()
    }

    fn pods(&mut self) -> &mut Pods {
        self.inside().pods.as_mut().unwrap()
    }

    fn pod(&mut self) -> &mut Pod {
        &mut self.pods().seen[0]
    }

    fn container(&mut self) -> &mut Container {
        &mut self.pod().containers[0]
    }

    fn node(&mut self) -> &mut Node {
        self.inside().nodes.get_mut("ip-1").unwrap().as_mut().unwrap()
    }

    fn agent(&mut self) -> &mut Agent {
        self.snapshot.agents.values_mut().next().unwrap()
    }

    fn ungiven(&mut self) {
        self.container().variables.clear();
        self.pod().has_token = false;
    }

    fn lacks(&mut self, lack: Lack) {
        self.node().agent = Ok(AgentOnNode::Lacks(lack.clone()));
        let pods = self.inside().agent.as_mut().unwrap().as_mut().unwrap();
        pods.ready = 1;
        pods.lacking = vec![NodeLack { node: "ip-1".to_owned(), why: lack }];
    }
}

fn explained(evidence: &Evidence) -> Chain {
    explain(evidence, &TagKeys::default(), &Guardrails::default())
}

type Row = (&'static str, fn(&mut Evidence));

/// For each row the causes in their order, and what was not seen.
fn table(rows: &[Row]) -> String {
    let mut table = String::new();
    for (name, change) in rows {
        let mut evidence = good();
        change(&mut evidence);
        let diagnosis = diagnose(&evidence, &explained(&evidence));
        let _ = writeln!(table, "{name}");
        for cause in &diagnosis.causes {
            let kind = match cause.kind {
                CauseKind::Broken(fault) => format!("{fault:?}"),
                CauseKind::Possible(suspicion) => format!("maybe {suspicion:?}"),
            };
            let _ = writeln!(table, "    {kind}: {}", cause.told);
        }
        for unseen in diagnosis.unseen.iter().filter(|unseen| !unseen.starts_with("the SDK's version")) {
            let _ = writeln!(table, "    ? {unseen}");
        }
    }
    table
}

fn first(evidence: &Evidence) -> Option<CauseKind> {
    diagnose(evidence, &explained(evidence)).first().map(|cause| cause.kind)
}

#[test]
fn a_good_set_up_is_told_whole() {
    let chain = explained(&good());
    assert!(chain.is_whole() && !chain.is_broken());
    insta::assert_snapshot!(chain);
    insta::assert_snapshot!(diagnose(&good(), &chain));
}

/// Each row breaks one thing on the side of AWS.
const AWS: &[Row] = &[
    ("no such role", |e| e.snapshot.roles.clear()),
    ("no role asks, nothing stands", |e| {
        e.snapshot.roles.clear();
        e.role = None;
        e.unassociated();
    }),
    ("a tag that does not parse", |e| {
        e.role_is(|role| role.grant("payments/Api@prod-eu"));
        e.unassociated();
    }),
    ("no tag", |e| {
        e.role_is(|mut role| {
            role.tags.clear();
            role
        });
        e.unassociated();
    }),
    ("a tag for another cluster", |e| {
        e.role_is(|role| role.grant("payments/api@prod-us"));
        e.unassociated();
    }),
    ("a tag with a pattern", |e| {
        e.role_is(|role| role.grant("payments/_@prod-eu"));
        e.unassociated();
    }),
    ("a target role that does not parse", |e| {
        e.role_is(|role| role.tagged("podgrant/target-role", "target"));
        e.unassociated();
    }),
    ("an administrator's role", |e| {
        e.role_is(|role| role.with(Powers::Everything { policy: "AdministratorAccess".to_owned() }));
        e.unassociated();
    }),
    ("a trust policy without sts:TagSession", |e| {
        e.role_is(|mut role| {
            role.trust_policy = role.trust_policy.replace(r#","sts:TagSession""#, "");
            role
        });
    }),
    ("a trust policy for another cluster", |e| {
        e.role_is(|role| {
            role.trusting_where(
                r#"{"StringEquals":{"aws:SourceArn":"arn:aws:eks:eu-west-1:111122223333:cluster/prod-us"}}"#,
            )
        });
    }),
    ("a trust policy that podgrant mends", |e| {
        e.role_is(Role::amendable);
        e.unassociated();
    }),
    ("no such cluster", |e| {
        e.snapshot.clusters.clear();
        e.cluster = None;
        e.unassociated();
        e.inside = None;
    }),
    ("a cluster that is being made", |e| {
        e.cluster_is(|cluster| cluster.status("CREATING"));
        e.unassociated();
        e.inside = None;
    }),
    ("a cluster that opted out", |e| {
        e.cluster_is(|cluster| cluster.tagged("podgrant/enroll", "off"));
        e.unassociated();
    }),
    ("a cluster that is only connected", |e| {
        e.cluster_is(|mut cluster| {
            cluster.kind.connected = true;
            cluster
        });
        e.unassociated();
        e.inside = None;
    }),
    ("no association", Evidence::unassociated),
    ("somebody else's association", |e| {
        e.snapshot.associations = vec![foreign("prod-eu", "payments/api").granting(&role("other"))];
    }),
    ("an association for an earlier role of that name", |e| e.role_is(Role::made_again)),
    ("an association of another of podgrant's roles", |e| {
        let other = role("other").grant("payments/api@prod-eu").trusting();
        e.snapshot.associations = vec![described(&other)];
        e.snapshot.roles.insert(other.arn.clone(), other);
    }),
    ("an association whose grant was taken back", |e| e.role_is(|role| role.grant("payments/web@prod-eu"))),
    ("no agent", |e| {
        e.snapshot.agents.clear();
        e.inside().agent = Ok(None);
    }),
    ("an agent in trouble", |e| {
        e.agent().status = "CREATE_FAILED".to_owned();
        e.agent().issues = vec![AgentIssue { code: "AccessDenied".to_owned(), message: "no".to_owned() }];
    }),
    ("an agent on its way", |e| e.agent().status = "CREATING".to_owned()),
    ("an add-on without its DaemonSet", |e| e.inside().agent = Ok(None)),
    ("a cluster with Fargate alone", |e| {
        e.snapshot.agents.clear();
        e.snapshot.nodes.insert(cluster_id("prod-eu"), Nodes { node_groups: 0, fargate_profiles: 1 });
        e.inside().agent = Ok(None);
        e.node().kind = NodeKind::Fargate;
    }),
    ("nodes whose role lacks the action", |e| {
        e.node_roles.insert("ip-1".to_owned(), Ok(NodeRole { name: "nodes".to_owned(), allows: false }));
    }),
];

/// Each row breaks one thing inside the cluster.
const INSIDE: &[Row] = &[
    ("no such service account", |e| {
        e.inside().account = Ok(None);
        e.pods().seen.clear();
    }),
    ("no pod", |e| e.pods().seen.clear()),
    ("pods with another service account", |e| {
        e.pods().seen.clear();
        e.pods().others = BTreeMap::from([("default".to_owned(), 3), ("worker".to_owned(), 1)]);
    }),
    ("a pod with another service account", |e| {
        e.target = Target::pod("payments/api-1@prod-eu").unwrap();
        e.pod().account = "default".to_owned();
    }),
    ("a pod that is not there", |e| {
        e.target = Target::pod("payments/api-9@prod-eu").unwrap();
        e.pods().seen.clear();
    }),
    ("a pod older than its association", |e| {
        e.ungiven();
        e.pod().created_at = Some(MADE - 60);
    }),
    ("a pod older than its association, with IRSA", |e| {
        e.ungiven();
        e.pod().created_at = Some(MADE - 60);
        e.container().variables.insert(WEB_IDENTITY, None);
        e.inside().account =
            Ok(Some(Account { irsa_role: Some("arn:aws:iam::111122223333:role/old".to_owned()) }));
    }),
    ("a pod just after its association", |e| {
        e.ungiven();
        e.pod().created_at = Some(MADE + 3);
    }),
    ("a bare pod older than its association", |e| {
        e.ungiven();
        e.pod().created_at = Some(MADE - 60);
        e.pod().owner = None;
    }),
    ("a younger pod without variables", Evidence::ungiven),
    ("a container that is skipped", |e| {
        e.ungiven();
        e.container().is_skipped = true;
    }),
    ("variables of one's own, without a token", |e| e.pod().has_token = false),
    ("another address", |e| {
        e.container().variables.insert(FULL_URI, Some("http://169.254.170.2/v2/credentials".to_owned()));
    }),
    ("Fargate", |e| e.node().kind = NodeKind::Fargate),
    ("Windows", |e| e.node().kind = NodeKind::Windows),
    ("Auto Mode", |e| e.node().kind = NodeKind::Auto),
    ("a node with taints", |e| e.lacks(Lack::Taints(vec!["gpu=yes:NoSchedule".to_owned()]))),
    ("a node that the DaemonSet leaves out", |e| e.lacks(Lack::LeftOut)),
    ("a node that is down", |e| e.lacks(Lack::NodeNotReady)),
    ("a node without a pod of the agent yet", |e| e.lacks(Lack::NoPodYet)),
    ("an agent that crashes", |e| e.lacks(Lack::NotReady("CrashLoopBackOff: back-off 40s".to_owned()))),
    ("a host port that is taken", |e| {
        e.lacks(Lack::NotReady("its pod finds no place: no free ports".to_owned()));
        e.node().port_holders = Ok(["ingress/haproxy-1: 80".to_owned()].into());
    }),
    ("access keys", |e| drop(e.container().variables.insert(ACCESS_KEY, None))),
    ("a web identity beside", |e| drop(e.container().variables.insert(WEB_IDENTITY, None))),
    ("a proxy", |e| {
        e.container().variables.insert("HTTP_PROXY", None);
        e.container().variables.insert("NO_PROXY", Some("10.0.0.0/8,.svc".to_owned()));
    }),
    ("a proxy that knows better", |e| {
        e.container().variables.insert("http_proxy", None);
        e.container().variables.insert("no_proxy", Some("10.0.0.0/8, 169.254.170.23".to_owned()));
    }),
    ("a proxy whose exceptions come from elsewhere", |e| {
        e.container().variables.insert("http_proxy", None);
        e.container().variables.insert("NO_PROXY", None);
    }),
    ("IRSA by annotation alone", |e| {
        e.inside().account =
            Ok(Some(Account { irsa_role: Some("arn:aws:iam::111122223333:role/old".to_owned()) }));
    }),
    ("an association changed since", |e| e.times.as_mut().unwrap().modified_at = NOW - 600),
    ("an association with a target role changed since", |e| {
        e.times.as_mut().unwrap().modified_at = NOW - 600;
        let record = e.snapshot.associations[0].record.as_mut().unwrap();
        record.target_role = Some("arn:aws:iam::222233334444:role/target".to_owned());
    }),
    ("an association changed long ago", |e| {
        e.times = Some(Times {
            created_at: MADE - 90_000,
            modified_at: NOW - 6 * 3600,
            ..e.times.clone().unwrap()
        });
        e.pod().created_at = Some(MADE - 80_000);
    }),
    ("an association of this moment", |e| {
        e.times = Some(Times { created_at: NOW - 5, modified_at: NOW - 5, ..e.times.clone().unwrap() });
    }),
    ("the host's network", |e| e.pod().host_network = true),
    ("a profile", |e| drop(e.container().variables.insert(PROFILE, Some("prod".to_owned())))),
    ("a Recreate in progress: one pod old, one new", |e| {
        let mut old = pod("api-0");
        old.created_at = Some(MADE - 60);
        old.containers[0].variables.clear();
        old.has_token = false;
        e.pods().seen.insert(0, old);
    }),
];

#[test]
fn what_aws_has_wrong_is_named() {
    insta::assert_snapshot!(table(AWS));
}

#[test]
fn what_the_cluster_has_wrong_is_named() {
    insta::assert_snapshot!(table(INSIDE));
}

#[test]
fn of_two_that_are_wrong_the_likelier_cause_is_first() {
    let rows: &[Row] = &[
        ("a bad tag, and so no association, and so no variables", |e| {
            e.role_is(|role| role.grant("payments/Api@prod-eu"));
            e.unassociated();
            e.ungiven();
        }),
        ("no trust, and so no association", |e| {
            e.role_is(|mut role| {
                role.trust_policy = "{}".to_owned();
                role
            });
            e.unassociated();
        }),
        ("no association, and no agent", |e| {
            e.unassociated();
            e.snapshot.agents.clear();
            e.inside().agent = Ok(None);
        }),
        ("another service account, and no variables", |e| {
            e.target = Target::pod("payments/api-1@prod-eu").unwrap();
            e.pod().account = "default".to_owned();
            e.ungiven();
        }),
        ("older than the association, on a node without agent", |e| {
            e.ungiven();
            e.pod().created_at = Some(MADE - 60);
            e.lacks(Lack::Taints(vec!["gpu:NoSchedule".to_owned()]));
        }),
        ("on Fargate, and without variables", |e| {
            e.ungiven();
            e.pod().created_at = Some(MADE - 60);
            e.node().kind = NodeKind::Fargate;
        }),
        ("a taken port on a node that is down", |e| {
            e.lacks(Lack::NodeNotReady);
            e.node().port_holders = Ok(["ingress/haproxy-1: 80".to_owned()].into());
        }),
        ("access keys, and nodes whose role lacks the action", |e| {
            e.container().variables.insert(ACCESS_KEY, None);
            e.node_roles.insert("ip-1".to_owned(), Ok(NodeRole { name: "nodes".to_owned(), allows: false }));
        }),
        ("a changed association, and a proxy", |e| {
            e.times.as_mut().unwrap().modified_at = NOW - 600;
            e.container().variables.insert("HTTP_PROXY", None);
        }),
    ];
    insta::assert_snapshot!(table(rows));
}

#[test]
fn what_could_not_be_read_is_unknown_and_says_why() {
    let rows: &[Row] = &[
        ("the role", |e| {
            e.snapshot.roles.clear();
            e.unread.insert(Part::Role, "iam:GetRole payments: AccessDenied: no".to_owned());
        }),
        ("its policies", |e| {
            e.role_is(|role| role.with(Powers::Unread));
            e.unread
                .insert(Part::Powers, "iam:ListAttachedRolePolicies payments: AccessDenied: no".to_owned());
            e.unassociated();
        }),
        ("its policies, and the association stands", |e| e.role_is(|role| role.with(Powers::Unread))),
        ("the cluster", |e| {
            e.snapshot.clusters.clear();
            e.inside = None;
            e.unread.insert(
                Part::Cluster,
                "eks:DescribeCluster eu-west-1/prod-eu: AccessDeniedException: no".to_owned(),
            );
        }),
        ("the association", |e| {
            e.unassociated();
            e.unread.insert(
                Part::Association,
                "eks:ListPodIdentityAssociations eu-west-1/prod-eu: no".to_owned(),
            );
        }),
        ("the agent's add-on", |e| {
            e.snapshot.agents.clear();
            e.unread.insert(Part::Agent, "eks:DescribeAddon eu-west-1/prod-eu: no".to_owned());
        }),
        ("all of Kubernetes", |e| {
            e.inside = Some(WorkloadInside::unread(
                "the cluster's Kubernetes API could not be reached (its endpoint is private): timed out",
            ))
        }),
        ("the node", |e| {
            e.inside().nodes.insert("ip-1".to_owned(), Err("nodes is forbidden".to_owned()));
        }),
        ("the agent on the node", |e| e.node().agent = Err("pods is forbidden in kube-system".to_owned())),
        ("the nodes' role", |e| {
            e.node_roles.insert(
                "ip-1".to_owned(),
                Err("iam:ListAttachedRolePolicies nodes: AccessDenied".to_owned()),
            );
        }),
        ("a node of no node group", |e| e.node_roles.clear()),
        ("a hybrid node", |e| e.node().kind = NodeKind::Hybrid),
        ("a pod without a place", |e| e.pod().node = None),
        ("variables from elsewhere", |e| e.container().takes_more = true),
        ("nothing unseen hides what is broken", |e| {
            e.container().takes_more = true;
            e.ungiven();
            e.pod().created_at = Some(MADE - 60);
        }),
    ];
    insta::assert_snapshot!(table(rows));
}

#[test]
fn a_broken_chain_reads_well() {
    let mut evidence = good();
    evidence.role_is(|mut role| {
        role.trust_policy = role.trust_policy.replace(r#","sts:TagSession""#, "");
        role
    });
    evidence.ungiven();
    evidence.pod().created_at = Some(MADE - 60);
    evidence.inside().nodes.insert("ip-1".to_owned(), Err("nodes \"ip-1\" is forbidden".to_owned()));
    let chain = explained(&evidence);
    insta::assert_snapshot!(chain);
    insta::assert_snapshot!(diagnose(&evidence, &chain));
    insta::assert_snapshot!(serde_json::to_string_pretty(&diagnose(&evidence, &chain)).unwrap());
}

#[test]
fn pods_of_which_the_same_is_so_share_a_line() {
    let mut evidence = good();
    for number in 2..=9 {
        let mut more = pod(&format!("api-{number}"));
        more.node = Some(format!("ip-{}", number % 3 + 1));
        evidence.pods().seen.push(more);
    }
    insta::assert_snapshot!(explained(&evidence));
}

/// What the chain calls missing is what a pass would make, and what it calls right a pass leaves alone.
#[test]
fn the_chain_and_the_plan_agree() {
    for (name, change) in AWS {
        let mut evidence = good();
        change(&mut evidence);
        let plan = aws::planned(&evidence, &TagKeys::default(), &Guardrails::default());
        let creates = plan.changes.iter().any(
            |change| matches!(change, Change::Create { workload, .. } if *workload == evidence.workload),
        );
        let chain = explained(&evidence);
        let before = chain.links.iter().filter(|link| link.kind < LinkKind::Association);
        let clear = before.clone().all(|link| link.state == State::Right);
        let missing = chain.links.iter().any(|link| link.fault == Some(Fault::NoAssociation));
        let amends = plan.changes.iter().any(|change| matches!(change, Change::AmendTrust { .. }));
        // A grant for a cluster where Pod Identity does not work is refused by EKS itself, if anybody names one.
        if evidence.snapshot.clusters.values().all(|cluster| !cluster.kind.connected) {
            assert_eq!(creates && !amends, clear && missing, "{name}: {plan}\n{chain}");
        }
    }
}

#[test]
fn every_row_names_a_cause() {
    // These are as they should be, or only may not be.
    let right = [
        "no pod",
        "Auto Mode",
        "a proxy that knows better",
        "a proxy whose exceptions come from elsewhere",
        "IRSA by annotation alone",
        "an association changed long ago",
    ];
    for (name, change) in AWS.iter().chain(INSIDE) {
        let mut evidence = good();
        change(&mut evidence);
        assert_eq!(first(&evidence).is_none(), right.contains(name), "{name}");
    }
}
