//! install-agent: from a cluster that is being made to one whose pods can use their roles.

use insta::assert_snapshot;
use podgrant_runtime::Function::InstallAgent;
use podgrant_tests::fake::{AGENT, Addon, AddonVersion, Cluster, Fault};
use serde_json::Value;

use crate::world::{EU, US, World, sample, sweep};

fn cluster_created() -> Value {
    sample("cluster-created")
}

#[tokio::test]
async fn a_new_cluster_is_waited_for_announced_and_given_a_healthy_agent() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("prod-eu").version("1.31").status("CREATING"));
    w.aws.settle_after(1);
    assert_snapshot!(w.install_agent(&cluster_created()).await, @r#"
    not-yet
    . cluster eu-west-1/prod-eu is CREATING
    eks eu-west-1 DescribeCluster prod-eu
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 1, began 0 s ago: ClusterCreating { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);

    w.pass(600);
    w.aws.set_cluster_status(EU, "prod-eu", "ACTIVE");
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @r#"
    not-yet
    > eu-west-1/prod-eu  ready for grants => done
    + eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.31
    eks eu-west-1 CreateAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    > in 10 s, attempt 2, began 600 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    let made = w.aws.addon(EU, "prod-eu", AGENT).unwrap();
    assert_eq!(made.version, "v1.3.8-eksbuild.2", "the default for Kubernetes 1.31");
    assert_eq!(made.tags["podgrant/managed"], "v1");

    w.pass(5);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @r#"
    not-yet
    . the agent on eu-west-1/prod-eu is CREATING
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 20 s, attempt 3, began 605 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    w.pass(10);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.8-eksbuild.2 is healthy => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.31
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.8-eksbuild.2
    ");
}

#[tokio::test]
async fn an_agent_that_is_there_already_is_not_touched() {
    let w = World::new().await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent().version("v1.3.4-eksbuild.1").configuration("{}"));
    let before = w.aws.addon(EU, "prod-eu", AGENT);
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    = 1 unchanged
    > eu-west-1/prod-eu  ready for grants => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    ");
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT), before);
}

#[tokio::test]
async fn a_cluster_that_failed_gets_no_agent() {
    let w = World::new().await;
    w.aws.set_cluster_status(EU, "prod-eu", "FAILED");
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    ! cluster failed: eu-west-1/prod-eu: the cluster is FAILED; it gets no agent
    eks eu-west-1 DescribeCluster prod-eu
    events eu-west-1 PutEvents 1
    * Cluster Needs Attention eu-west-1/prod-eu cluster-failed
    ");
}

#[tokio::test]
async fn a_cluster_that_is_gone_again_is_let_go() {
    let w = World::new().await;
    w.aws.delete_cluster(EU, "prod-eu");
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    ! no such cluster: eu-west-1/prod-eu: EKS does not know the cluster any more
    eks eu-west-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    ");
}

#[tokio::test]
async fn a_cluster_that_opted_out_is_left_alone() {
    let w = World::new().await;
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/enroll", "off");
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    ! cluster opted out: eu-west-1/prod-eu: the cluster carries podgrant/enroll = off
    eks eu-west-1 DescribeCluster prod-eu
    ");
}

#[tokio::test]
async fn a_cluster_that_wants_no_agent_is_announced_all_the_same() {
    let w = World::new().await;
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/agent", "off");
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    > eu-west-1/prod-eu  ready for grants => done
    eks eu-west-1 DescribeCluster prod-eu
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    ");
}

#[tokio::test]
async fn an_agent_that_is_ill_is_a_finding_and_its_recovery_is_news() {
    let w = World::new().await;
    let ill = Addon::agent().status("DEGRADED").issue("InsufficientNumberOfReplicas", "0 of 3 run");
    w.aws.add_addon(EU, "prod-eu", ill);
    assert_snapshot!(w.install_agent(&sample("agent-health")).await, @r#"
    not-yet
    . the agent on eu-west-1/prod-eu is DEGRADED: InsufficientNumberOfReplicas: 0 of 3 run (agent pods are not ready on every node: look for ports 80 and 2703 taken on the host, taints, and nodes without IPv6)
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    w.aws.set_addon_status(EU, "prod-eu", AGENT, "ACTIVE");
    assert_snapshot!(w.install_agent(&sample("agent-health")).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn a_kubernetes_without_an_agent_version_is_a_finding() {
    let w = World::new().await;
    w.aws.set_addon_versions(AGENT, vec![AddonVersion::new("v1").on(&["1.33"]).default_on(&["1.35"])]);
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    > eu-west-1/prod-eu  ready for grants => done
    ! agent version: eu-west-1/prod-eu: eks-pod-identity-agent: AWS offers no version for Kubernetes 1.33
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    events eu-west-1 PutEvents 2
    * Cluster Ready eu-west-1/prod-eu
    * Cluster Needs Attention eu-west-1/prod-eu agent-version
    ");
}

#[tokio::test]
async fn an_agent_that_may_not_be_installed_fails_the_message_and_the_cluster_is_announced() {
    let w = World::new().await;
    w.aws.fault(Fault::on("eks", "CreateAddon").access_denied());
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    failed: eks:CreateAddon eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:CreateAddon
    > eu-west-1/prod-eu  ready for grants => done
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => failed: eks:CreateAddon eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:CreateAddon
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    eks eu-west-1 CreateAddon prod-eu eks-pod-identity-agent -> 403 AccessDeniedException
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    ");
}

#[tokio::test]
async fn the_sweep_installs_what_is_missing_and_announces_nothing() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("has-it"));
    w.aws.add_addon(EU, "has-it", Addon::agent());
    w.aws.add_cluster(Cluster::named("prod-us").region(US));
    w.aws.add_cluster(Cluster::named("unborn").status("CREATING"));
    assert_snapshot!(w.counted(InstallAgent, &sweep()).await, @r#"
    not-yet
    = 1 unchanged
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
    + us-east-1/prod-us  agent v1.3.10-eksbuild.2 => not yet: the agent on us-east-1/prod-us is starting
    . cluster eu-west-1/unborn is CREATING
    . the agent on eu-west-1/prod-eu is starting
    . the agent on us-east-1/prod-us is starting
    1 x eks eu-west-1 CreateAddon
    1 x eks eu-west-1 DescribeAddon
    1 x eks eu-west-1 DescribeAddon -> ResourceNotFoundException
    1 x eks eu-west-1 DescribeAddonVersions
    3 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListClusters
    1 x eks eu-west-1 ListFargateProfiles
    1 x eks eu-west-1 ListNodegroups
    1 x eks us-east-1 CreateAddon
    1 x eks us-east-1 DescribeAddon -> ResourceNotFoundException
    1 x eks us-east-1 DescribeAddonVersions
    1 x eks us-east-1 DescribeCluster
    1 x eks us-east-1 ListClusters
    1 x eks us-east-1 ListFargateProfiles
    1 x eks us-east-1 ListNodegroups
    1 x sqs eu-west-1 SendMessageBatch
    > in 60 s, attempt 1, began 0 s ago: ClusterCreating { cluster: ClusterId { region: "eu-west-1", name: "unborn" } }
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "us-east-1", name: "prod-us" } }
    "#);
    assert!(w.aws.addon(EU, "prod-eu", AGENT).is_some() && w.aws.addon(US, "prod-us", AGENT).is_some());
}

#[tokio::test]
async fn one_bad_cluster_keeps_no_agent_from_the_others() {
    let w = World::new().await;
    w.aws.add_cluster(Cluster::named("broken"));
    w.aws.fault(Fault::on("eks", "DescribeAddon").with("clusterName", "broken").access_denied());
    assert_snapshot!(w.counted(InstallAgent, &sweep()).await, @r#"
    failed: eks:DescribeAddon eu-west-1/broken: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:DescribeAddon
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    1 x eks eu-west-1 CreateAddon
    1 x eks eu-west-1 DescribeAddon -> AccessDeniedException
    1 x eks eu-west-1 DescribeAddon -> ResourceNotFoundException
    1 x eks eu-west-1 DescribeAddonVersions
    2 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListClusters
    1 x eks eu-west-1 ListFargateProfiles
    1 x eks eu-west-1 ListNodegroups
    1 x eks us-east-1 ListClusters
    1 x sqs eu-west-1 SendMessageBatch
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
}

#[tokio::test]
async fn an_announcement_that_the_bus_did_not_take_fails_the_message_and_is_made_again() {
    let w = World::new().await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w.aws.fault(Fault::on("events", "PutEvents").fail_entries(1, "InternalFailure"));
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    failed: events:PutEvents podgrant: 1 of 1 events were not taken: The fault that the test asked for
    = 1 unchanged
    > eu-west-1/prod-eu  ready for grants => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    events eu-west-1 PutEvents 1
    events eu-west-1 PutEvents 1
    ");
    w.aws.clear_faults();
    assert_snapshot!(w.install_agent(&cluster_created()).await, @"
    done
    = 1 unchanged
    > eu-west-1/prod-eu  ready for grants => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    ");
}

#[tokio::test]
async fn a_cluster_that_does_not_become_ready_is_given_up_aloud() {
    let w = World::with(&[("PODGRANT_GIVE_UP_AFTER", "1200")]).await;
    w.aws.set_cluster_status(EU, "prod-eu", "CREATING");
    w.install_agent(&cluster_created()).await;
    w.pass(1199);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @r#"
    not-yet
    . cluster eu-west-1/prod-eu is CREATING
    eks eu-west-1 DescribeCluster prod-eu
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 2, began 1199 s ago: ClusterCreating { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    w.pass(1);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @"
    done
    ! gave up: eu-west-1/prod-eu: cluster eu-west-1/prod-eu is CREATING; waited 1200 s, longer than PODGRANT_GIVE_UP_AFTER allows; the next sweep looks again
    eks eu-west-1 DescribeCluster prod-eu
    events eu-west-1 PutEvents 1
    * Work Abandoned eu-west-1/prod-eu gave-up
    ");
}
