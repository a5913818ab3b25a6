//! Every kind and state of a cluster and its agent, each through observe, plan and apply: how it ends, and every call.

use std::fmt::Write as _;

use insta::assert_snapshot;
use podgrant_tests::fake::{AGENT, Addon, Association, Cluster, FakeAws};

use crate::world::{EU, World, by_kind, sample};

/// A row: what it is, and how the world is made so.
type Row = (&'static str, fn(&FakeAws));

fn cluster(aws: &FakeAws, cluster: Cluster) {
    aws.add_cluster(cluster);
}

fn prod() -> Cluster {
    Cluster::named("prod-eu")
}

fn agent(aws: &FakeAws, addon: Addon) {
    aws.add_addon(EU, "prod-eu", addon);
}

fn tagged(aws: &FakeAws, name: &str, value: &str) {
    aws.tag_cluster(EU, "prod-eu", &format!("podgrant/{name}"), value);
}

/// One that podgrant installed.
fn ours() -> Addon {
    Addon::agent().tag("podgrant/managed", "v1")
}

/// The rows' stories, each in a world of its own. One call more or less, and the table differs.
async fn table(event: &str, rows: &[Row]) -> String {
    let mut table = String::new();
    for (name, make) in rows {
        let w = World::new().await;
        w.aws.settle_after(1);
        make(&w.aws);
        w.aws.clear_calls();
        let report = w.serve(podgrant_runtime::Function::InstallAgent, &sample(event)).await;
        let story = w.story(&report, by_kind);
        let _ = writeln!(table, "{name}");
        for line in story.lines() {
            let line = line.strip_prefix("1 x ").unwrap_or(line);
            let _ = writeln!(table, "    {}", line.replace(" eu-west-1 ", " "));
        }
    }
    table
}

#[tokio::test]
async fn every_status_of_a_cluster() {
    let rows: &[Row] = &[
        ("CREATING", |aws| cluster(aws, prod().status("CREATING"))),
        ("PENDING", |aws| cluster(aws, prod().status("PENDING"))),
        ("ACTIVE", |aws| cluster(aws, prod())),
        ("UPDATING", |aws| cluster(aws, prod().status("UPDATING"))),
        ("DELETING", |aws| cluster(aws, prod().status("DELETING"))),
        ("FAILED", |aws| cluster(aws, prod().status("FAILED"))),
        ("gone", |aws| aws.delete_cluster(EU, "prod-eu")),
    ];
    assert_snapshot!(table("cluster-created", rows).await, @r#"
    CREATING
        not-yet
        . cluster eu-west-1/prod-eu is CREATING
        eks DescribeCluster
        sqs SendMessageBatch
        > in 60 s, attempt 1, began 0 s ago: ClusterCreating { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    PENDING
        not-yet
        . cluster eu-west-1/prod-eu is PENDING
        eks DescribeCluster
        sqs SendMessageBatch
        > in 60 s, attempt 1, began 0 s ago: ClusterCreating { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    ACTIVE
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    UPDATING
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    DELETING
        done
        ! cluster not ready: eu-west-1/prod-eu: the cluster is DELETING; it gets no agent
        eks DescribeCluster
    FAILED
        done
        ! cluster failed: eu-west-1/prod-eu: the cluster is FAILED; it gets no agent
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu cluster-failed
    gone
        done
        ! no such cluster: eu-west-1/prod-eu: EKS does not know the cluster any more
        eks DescribeCluster -> ResourceNotFoundException
    "#);
}

#[tokio::test]
async fn every_kind_of_cluster() {
    let rows: &[Row] = &[
        ("no nodes yet", |aws| cluster(aws, prod())),
        ("node groups", |aws| cluster(aws, prod().node_group("workers"))),
        ("node groups and Fargate", |aws| cluster(aws, prod().node_group("workers").fargate_profile("fp"))),
        ("Fargate only", |aws| cluster(aws, prod().fargate_profile("fp"))),
        ("Fargate, and said to have nodes", |aws| {
            cluster(aws, prod().fargate_profile("fp"));
            tagged(aws, "agent", "on");
        }),
        ("Auto Mode", |aws| cluster(aws, prod().auto_mode())),
        ("Auto Mode and node groups", |aws| cluster(aws, prod().auto_mode().node_group("workers"))),
        ("Outpost", |aws| cluster(aws, prod().on_outpost())),
        ("connected", |aws| cluster(aws, prod().connected())),
        ("opted out", |aws| tagged(aws, "enroll", "off")),
        ("agent off", |aws| tagged(aws, "agent", "off")),
        ("agent misspelt", |aws| tagged(aws, "agent", "of")),
        ("a Kubernetes that AWS has no agent for", |aws| cluster(aws, prod().version("1.20"))),
    ];
    assert_snapshot!(table("cluster-created", rows).await, @r#"
    no nodes yet
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    node groups
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    node groups and Fargate
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    Fargate only
        done
        > eu-west-1/prod-eu  ready for grants => done
        ! cluster unsupported: eu-west-1/prod-eu: the cluster has Fargate profiles and no node groups, and Pod Identity does not work on Fargate; if it has self-managed nodes, tag the cluster podgrant/agent = on to have it all the same
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
        * Cluster Needs Attention eu-west-1/prod-eu cluster-unsupported
    Fargate, and said to have nodes
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    Auto Mode
        done
        = 1 unchanged
        > eu-west-1/prod-eu  ready for grants => done
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
    Auto Mode and node groups
        not-yet
        > eu-west-1/prod-eu  ready for grants => done
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        sqs SendMessageBatch
        * Cluster Ready eu-west-1/prod-eu
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    Outpost
        done
        > eu-west-1/prod-eu  ready for grants => done
        ! cluster unsupported: eu-west-1/prod-eu: the cluster runs on an Outpost, where Pod Identity does not work; tag the cluster podgrant/agent = on to have it all the same
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
        * Cluster Needs Attention eu-west-1/prod-eu cluster-unsupported
    connected
        done
        ! cluster unsupported: eu-west-1/prod-eu: the cluster is only connected to EKS, and runs elsewhere: Pod Identity does not work there
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu cluster-unsupported
    opted out
        done
        ! cluster opted out: eu-west-1/prod-eu: the cluster carries podgrant/enroll = off
        eks DescribeCluster
    agent off
        done
        > eu-west-1/prod-eu  ready for grants => done
        eks DescribeCluster
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
    agent misspelt
        done
        > eu-west-1/prod-eu  ready for grants => done
        ! bad cluster tag: eu-west-1/prod-eu: the cluster carries podgrant/agent = of: expected on, off, manage or remove; until then its agent stays as it is
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
        * Cluster Needs Attention eu-west-1/prod-eu bad-cluster-tag
    a Kubernetes that AWS has no agent for
        done
        > eu-west-1/prod-eu  ready for grants => done
        ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent: AWS offers no version for Kubernetes 1.20
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        events PutEvents
        * Cluster Ready eu-west-1/prod-eu
        * Cluster Needs Attention eu-west-1/prod-eu agent-version
    "#);
}

#[tokio::test]
async fn every_state_of_an_agent() {
    let rows: &[Row] = &[
        ("none", |_| {}),
        ("ours, healthy", |aws| agent(aws, ours())),
        ("ours, older than wanted", |aws| agent(aws, ours().version("v1.3.4-eksbuild.1"))),
        ("ours, with values of its own, older", |aws| {
            agent(aws, ours().version("v1.3.4-eksbuild.1").configuration(r#"{"env":{"A":"1"}}"#));
        }),
        ("ours, newer than wanted", |aws| {
            cluster(aws, prod().version("1.31"));
            agent(aws, ours().version("v1.3.10-eksbuild.2"));
        }),
        ("ours, an exact version by tag", |aws| {
            agent(aws, ours().version("v1.3.4-eksbuild.1"));
            tagged(aws, "agent-version", "v1.3.8-eksbuild.2");
        }),
        ("ours, a version not on offer", |aws| {
            agent(aws, ours());
            tagged(aws, "agent-version", "v2.0");
        }),
        ("somebody else's, older", |aws| agent(aws, Addon::agent().version("v1.3.4-eksbuild.1"))),
        ("somebody else's, older, handed over", |aws| {
            agent(aws, Addon::agent().version("v1.3.4-eksbuild.1"));
            tagged(aws, "agent", "manage");
        }),
        ("CREATING", |aws| agent(aws, ours().status("CREATING"))),
        ("UPDATING", |aws| agent(aws, ours().status("UPDATING"))),
        ("DELETING", |aws| agent(aws, ours().status("DELETING"))),
        ("DELETE_FAILED", |aws| agent(aws, ours().status("DELETE_FAILED"))),
        ("CREATE_FAILED, by itself", |aws| {
            agent(aws, ours().status("CREATE_FAILED").issue("InternalFailure", "oops"));
        }),
        ("CREATE_FAILED, for lack of rights", |aws| {
            agent(aws, ours().status("CREATE_FAILED").issue("AccessDenied", "no"));
        }),
        ("CREATE_FAILED, somebody else's", |aws| agent(aws, Addon::agent().status("CREATE_FAILED"))),
        ("UPDATE_FAILED, by itself", |aws| {
            agent(aws, ours().status("UPDATE_FAILED").issue("ClusterUnreachable", "no answer"));
        }),
        ("UPDATE_FAILED, in conflict", |aws| {
            agent(aws, ours().status("UPDATE_FAILED").issue("ConfigurationConflict", "image"));
        }),
        ("DEGRADED, pods not ready", |aws| {
            agent(aws, ours().status("DEGRADED").issue("InsufficientNumberOfReplicas", "0 of 3"));
        }),
        ("DEGRADED, refused by a webhook", |aws| {
            agent(aws, ours().status("DEGRADED").issue("AdmissionRequestDenied", "policy"));
        }),
        ("DEGRADED, an issue new to us", |aws| agent(aws, ours().status("DEGRADED").issue("Gremlins", "?"))),
        ("to be removed", |aws| {
            agent(aws, ours());
            tagged(aws, "agent", "remove");
        }),
        ("to be removed, and needed", |aws| {
            agent(aws, ours());
            tagged(aws, "agent", "remove");
            aws.add_association(Association::of("prod-eu", "payments", "api"));
        }),
        ("to be removed, somebody else's", |aws| {
            agent(aws, Addon::agent());
            tagged(aws, "agent", "remove");
        }),
        ("to be removed, and not there", |aws| tagged(aws, "agent", "remove")),
    ];
    assert_snapshot!(table("agent-health", rows).await, @r#"
    none
        not-yet
        + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks CreateAddon
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeAddonVersions
        eks DescribeCluster
        eks ListFargateProfiles
        eks ListNodegroups
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    ours, healthy
        done
        > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ours, older than wanted
        not-yet
        ~ eu-west-1/prod-eu  agent v1.3.4-eksbuild.1 -> v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        eks UpdateAddon
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    ours, with values of its own, older
        not-yet
        ~ eu-west-1/prod-eu  agent v1.3.4-eksbuild.1 -> v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        eks UpdateAddon
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    ours, newer than wanted
        done
        > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
        ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is newer than v1.3.8-eksbuild.2, which is wanted; podgrant does not go back: name the newer one in podgrant/agent-version if it is meant
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
        * Cluster Needs Attention eu-west-1/prod-eu agent-version
    ours, an exact version by tag
        not-yet
        ~ eu-west-1/prod-eu  agent v1.3.4-eksbuild.1 -> v1.3.8-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        eks UpdateAddon
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    ours, a version not on offer
        done
        > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
        ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent: v2.0 is not on offer for Kubernetes 1.33; AWS offers v1.3.10-eksbuild.2 (default), v1.3.8-eksbuild.2, v1.3.4-eksbuild.1
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
        * Cluster Needs Attention eu-west-1/prod-eu agent-version
    somebody else's, older
        done
        > eu-west-1/prod-eu  agent v1.3.4-eksbuild.1 is healthy => done
        eks DescribeAddon
        eks DescribeCluster
        events PutEvents
        * Agent Installed eu-west-1/prod-eu v1.3.4-eksbuild.1
    somebody else's, older, handed over
        not-yet
        ~ eu-west-1/prod-eu  agent v1.3.4-eksbuild.1 -> v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        eks UpdateAddon
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    CREATING
        not-yet
        . the agent on eu-west-1/prod-eu is CREATING
        eks DescribeAddon
        eks DescribeCluster
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    UPDATING
        not-yet
        . the agent on eu-west-1/prod-eu is UPDATING
        eks DescribeAddon
        eks DescribeCluster
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    DELETING
        not-yet
        . the agent on eu-west-1/prod-eu is DELETING
        eks DescribeAddon
        eks DescribeCluster
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    DELETE_FAILED
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is DELETE_FAILED: EKS names no issue
        eks DescribeAddon
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    CREATE_FAILED, by itself
        not-yet
        - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  (to be made anew, for it is CREATE_FAILED) => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DeleteAddon
        eks DescribeAddon
        eks DescribeCluster
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    CREATE_FAILED, for lack of rights
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is CREATE_FAILED: AccessDenied: no (EKS may not change the cluster: look at the cluster's aws-auth or access entries for the role eks:addon-manager)
        eks DescribeAddon
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    CREATE_FAILED, somebody else's
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is CREATE_FAILED: EKS names no issue; podgrant did not install it, and leaves it alone
        eks DescribeAddon
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    UPDATE_FAILED, by itself
        not-yet
        ~ eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  (again, for it is UPDATE_FAILED) => not yet: the agent on eu-west-1/prod-eu is starting
        . the agent on eu-west-1/prod-eu is starting
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        eks UpdateAddon
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    UPDATE_FAILED, in conflict
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is UPDATE_FAILED: ConfigurationConflict: image (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place)
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    DEGRADED, pods not ready
        not-yet
        . the agent on eu-west-1/prod-eu is DEGRADED: InsufficientNumberOfReplicas: 0 of 3 (agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6)
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        sqs SendMessageBatch
        > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    DEGRADED, refused by a webhook
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is DEGRADED: AdmissionRequestDenied: policy (an admission webhook of the cluster refuses the agent: allow it in kube-system)
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    DEGRADED, an issue new to us
        done
        ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is DEGRADED: Gremlins: ?
        eks DescribeAddon
        eks DescribeAddonVersions
        eks DescribeCluster
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    to be removed
        done
        - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => done
        eks DeleteAddon
        eks DescribeAddon
        eks DescribeCluster
        eks ListPodIdentityAssociations
    to be removed, and needed
        done
        ! agent kept: eu-west-1/prod-eu: podgrant/agent = remove: these associations need the agent: payments/api (a-000000000000001); take them away first
        eks DescribeAddon
        eks DescribeCluster
        eks ListPodIdentityAssociations
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-kept
    to be removed, somebody else's
        done
        ! agent kept: eu-west-1/prod-eu: podgrant/agent = remove: podgrant did not install this agent, and does not remove it
        eks DescribeAddon
        eks DescribeCluster
        eks ListPodIdentityAssociations
        events PutEvents
        * Cluster Needs Attention eu-west-1/prod-eu agent-kept
    to be removed, and not there
        done
        eks DescribeAddon -> ResourceNotFoundException
        eks DescribeCluster
    "#);
}

#[tokio::test]
async fn an_agent_that_could_not_be_made_is_made_anew_and_one_of_another_addon_is_none() {
    let w = World::new().await;
    w.aws.add_addon(EU, "prod-eu", ours().status("CREATE_FAILED").issue("InternalFailure", "oops"));
    w.aws.add_addon(EU, "prod-eu", Addon::named("coredns", "v1.12.1-eksbuild.2"));
    w.install_agent(&sample("agent-health")).await;
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT), None);
    let message = w.next_message();
    w.install_agent(&message).await;
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT).unwrap().tags["podgrant/managed"], "v1");
    assert!(w.aws.addon(EU, "prod-eu", "coredns").is_some());
}
