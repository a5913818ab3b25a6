//! install-agent looking into clusters: what it asks of EKS for it, and what it makes of the answers.
//!
//! Here a cluster's answer is what the test says; `kubernetes.rs` asks a real API server.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use insta::assert_snapshot;
use podgrant_aws::Lookout;
use podgrant_core::agent::pods::{AgentPods, KubernetesAccess, Lack, NodeLack, Unseen};
use podgrant_runtime::Function::InstallAgent;
use podgrant_tests::fake::{AGENT, ANY, AccessEntry, Addon, Cluster, Fault};
use serde_json::Value;

use crate::world::{EU, World, sample, sweep};

const ROLE: &str = "arn:aws:iam::111122223333:role/podgrant/install-agent";

type Answer = Result<Option<AgentPods>, Unseen>;

/// A world whose clusters answer so.
async fn answering(variables: &[(&str, &str)], answer: Answer) -> World {
    answering_in_turn(variables, vec![answer]).await
}

/// A world whose clusters answer so, one after the other, and then as the last.
async fn answering_in_turn(variables: &[(&str, &str)], answers: Vec<Answer>) -> World {
    let answers = Mutex::new(VecDeque::from(answers));
    let mut all = vec![("PODGRANT_KUBERNETES_ROLE", ROLE)];
    all.extend(variables);
    let mut w = World::with(&all).await;
    w.lookout = Some(Lookout::new(
        move |access: KubernetesAccess| {
            assert!(access.token.starts_with("k8s-aws-v1."), "{}", access.token);
            let mut answers = answers.lock().unwrap();
            let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
            Box::pin(async move { answer.unwrap() })
        },
        podgrant_kubernetes::misfits,
    ));
    w
}

fn refused() -> Answer {
    Err(Unseen::Refused("the cluster's Kubernetes API refused podgrant (401: Unauthorized)".to_owned()))
}

fn pods(ready: u32, lacking: Vec<NodeLack>) -> Answer {
    Ok(Some(AgentPods { desired: 3, ready, updated: ready, current: true, lacking, nodes_unseen: None }))
}

fn health_event() -> Value {
    sample("agent-health")
}

#[tokio::test]
async fn a_cluster_that_refuses_is_opened_once_and_looked_into_the_next_time() {
    let w = answering(&[], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent -> 404 ResourceNotFoundException
    eks eu-west-1 CreateAccessEntry prod-eu install-agent
    eks eu-west-1 AssociateAccessPolicy prod-eu install-agent AmazonEKSViewPolicy
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    let entry = w.aws.access_entry(EU, "prod-eu", ROLE).unwrap();
    assert_eq!(entry.kubernetes_groups, ["podgrant"]);
    assert_eq!(entry.tags["podgrant/managed"], "v1");
    assert_eq!(entry.policies.len(), 1);
    assert!(entry.policies[0].arn.ends_with(":cluster-access-policy/AmazonEKSViewPolicy"));
    assert_eq!(entry.policies[0].namespaces, ["kube-system"]);
    // Refused all the same: nothing is made twice, and the add-on's own status counts.
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); its access entry is as it should be, and may need a minute; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent
    eks eu-west-1 ListAssociatedAccessPolicies prod-eu install-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn a_new_cluster_is_opened_while_its_agent_is_installed() {
    let w = answering(&[], refused()).await;
    // Both are made side by side, in no order.
    assert_snapshot!(w.counted(InstallAgent, &sample("cluster-created")).await, @r#"
    not-yet
    > eu-west-1/prod-eu  ready for grants => done
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => done
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    1 x eks eu-west-1 AssociateAccessPolicy
    1 x eks eu-west-1 CreateAccessEntry
    1 x eks eu-west-1 CreateAddon
    1 x eks eu-west-1 DescribeAccessEntry -> ResourceNotFoundException
    1 x eks eu-west-1 DescribeAddon -> ResourceNotFoundException
    1 x eks eu-west-1 DescribeAddonVersions
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListFargateProfiles
    1 x eks eu-west-1 ListNodegroups
    1 x events eu-west-1 PutEvents
    1 x sqs eu-west-1 SendMessageBatch
    * Cluster Ready eu-west-1/prod-eu
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
}

#[tokio::test]
async fn an_entry_half_made_is_finished() {
    let w = answering(&[], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w.aws.fault(Fault::on("eks", "AssociateAccessPolicy").nth(1).access_denied());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => refused: eks:AssociateAccessPolicy eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:AssociateAccessPolicy
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: eks:AssociateAccessPolicy eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:AssociateAccessPolicy
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent -> 404 ResourceNotFoundException
    eks eu-west-1 CreateAccessEntry prod-eu install-agent
    eks eu-west-1 AssociateAccessPolicy prod-eu install-agent AmazonEKSViewPolicy -> 403 AccessDeniedException
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent
    eks eu-west-1 ListAssociatedAccessPolicies prod-eu install-agent
    eks eu-west-1 CreateAccessEntry prod-eu install-agent -> 409 ResourceInUseException
    eks eu-west-1 AssociateAccessPolicy prod-eu install-agent AmazonEKSViewPolicy
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn somebody_elses_entry_is_left_alone() {
    let w = answering(&[], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w.aws.add_access_entry(EU, "prod-eu", AccessEntry::of(ROLE).group("viewers"));
    let before = w.aws.access_entry(EU, "prod-eu", ROLE);
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); somebody else made an access entry for podgrant's role: give it AmazonEKSViewPolicy, or delete it and podgrant makes its own; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    assert_eq!(w.aws.access_entry(EU, "prod-eu", ROLE), before);
}

#[tokio::test]
async fn a_cluster_without_access_entries_is_not_asked_for_one() {
    let w = answering(&[], refused()).await;
    w.aws.add_cluster(Cluster::named("prod-eu").authentication_mode("CONFIG_MAP"));
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); the cluster takes no access entries: set its authentication mode to API_AND_CONFIG_MAP; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn without_a_role_to_make_an_entry_for_none_is_made() {
    let w = answering(&[("PODGRANT_KUBERNETES_ROLE", "")], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); PODGRANT_KUBERNETES_ROLE names no role to make an access entry for; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn a_cluster_out_of_reach_counts_by_its_add_on() {
    let why = "the cluster's Kubernetes API could not be reached (its endpoint is private): timed out";
    let w = answering(&[], Err(Unseen::Unreachable(why.to_owned()))).await;
    w.aws.add_cluster(Cluster::named("prod-eu").private_endpoint());
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API could not be reached (its endpoint is private): timed out; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn entries_that_cannot_be_read_cost_the_look_and_not_the_message() {
    let w = answering(&[], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    w.aws.fault(Fault::on("eks", "DescribeAccessEntry").access_denied());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    ! Kubernetes unseen: eu-west-1/prod-eu: the cluster's Kubernetes API refused podgrant (401: Unauthorized); eks:DescribeAccessEntry eu-west-1/prod-eu: AccessDeniedException: User: arn:aws:sts::111122223333:assumed-role/podgrant/test is not authorized to perform: eks:DescribeAccessEntry; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent -> 403 AccessDeniedException
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn pods_that_are_not_ready_are_waited_for_and_named_when_that_took_too_long() {
    let crashing = Lack::NotReady("CrashLoopBackOff".to_owned());
    let w = answering(
        &[("PODGRANT_GIVE_UP_AFTER", "600")],
        pods(2, vec![NodeLack { node: "ip-10-0-0-7".to_owned(), why: crashing }]),
    )
    .await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @r#"
    not-yet
    . the agent on eu-west-1/prod-eu is ready on 2 of 3 nodes (ip-10-0-0-7: CrashLoopBackOff)
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    w.pass(600);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @"
    done
    ! gave up: eu-west-1/prod-eu: the agent on eu-west-1/prod-eu is ready on 2 of 3 nodes (ip-10-0-0-7: CrashLoopBackOff); waited 600 s, longer than PODGRANT_GIVE_UP_AFTER allows; the next sweep looks again
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Work Abandoned eu-west-1/prod-eu gave-up
    ");
}

#[tokio::test]
async fn pods_everywhere_are_told_with_their_number() {
    let w = answering(&[], pods(3, vec![])).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy  (ready on 3 of 3 nodes) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
    let told = w.told_of("Agent Installed");
    assert_eq!(told[0]["nodes"], serde_json::json!({"ready": 3, "desired": 3}));
}

#[tokio::test]
async fn an_agent_that_eks_works_on_is_not_looked_at() {
    let w = answering(&[], Ok(None)).await;
    for status in ["CREATING", "UPDATING", "DELETING"] {
        w.aws.add_addon(EU, "prod-eu", Addon::agent().status(status));
        let story = w.install_agent(&health_event()).await;
        assert!(story.contains(&format!(". the agent on eu-west-1/prod-eu is {status}\n")), "{story}");
    }
}

#[tokio::test]
async fn a_self_managed_agent_is_kept_and_taken_over_when_told_to() {
    let w = answering(&[], pods(3, vec![])).await;
    w.aws.add_cluster(Cluster::named("prod-eu").self_managed_agent());
    assert_snapshot!(w.install_agent(&sample("cluster-created")).await, @"
    done
    > eu-west-1/prod-eu  ready for grants => done
    ! self-managed agent: eu-west-1/prod-eu: an agent runs there that is no EKS add-on, ready on 3 of 3 nodes; podgrant keeps it, and does not update it: tag the cluster podgrant/agent = manage to have the add-on take its place
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    ");
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT), None);
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/agent", "manage");
    assert_snapshot!(w.install_agent(&sample("cluster-retagged")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  in place of any that is no add-on => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    eks eu-west-1 CreateAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT).unwrap().resolve_conflicts, "OVERWRITE");
}

#[tokio::test]
async fn a_conflict_found_too_late_is_explained_and_undone_without_touching_what_runs() {
    // The cluster could not be asked beforehand.
    let w = answering(&[], Err(Unseen::Unreachable("no way there".to_owned()))).await;
    w.aws.add_cluster(Cluster::named("prod-eu").self_managed_agent());
    w.install_agent(&sweep()).await;
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @r#"
    done
    ! agent unhealthy: eu-west-1/prod-eu: eks-pod-identity-agent v1.3.10-eksbuild.2 is CREATE_FAILED: ConfigurationConflict: Conflicts found when trying to apply. Will not continue due to resolve conflicts mode. Conflicts:
    DaemonSet.apps eks-pod-identity-agent - .spec.template.spec.containers[name="eks-pod-identity-agent"].image (something else manages the same objects, such as a self-managed agent: remove that, or tag the cluster with agent = off to keep it, or with agent = manage to have the add-on take its place)
    ! Kubernetes unseen: eu-west-1/prod-eu: no way there; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Cluster Needs Attention eu-west-1/prod-eu agent-unhealthy
    "#);
    w.aws.tag_cluster(EU, "prod-eu", "podgrant/agent", "manage");
    assert_snapshot!(w.install_agent(&sample("cluster-retagged")).await, @r#"
    not-yet
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  (to be made anew, for it is CREATE_FAILED) => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    ! Kubernetes unseen: eu-west-1/prod-eu: no way there; what EKS says of the add-on counts
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DeleteAddon prod-eu eks-pod-identity-agent preserve
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
}

#[tokio::test]
async fn configuration_is_checked_before_it_is_sent() {
    let w = answering(
        &[("PODGRANT_AGENT_CONFIGURATION", r#"{"tolerations":"all","nodeSelektor":{}}"#)],
        Ok(None),
    )
    .await;
    assert_snapshot!(w.install_agent(&sample("cluster-created")).await, @r#"
    done
    > eu-west-1/prod-eu  ready for grants => done
    ! agent configuration: eu-west-1/prod-eu: PODGRANT_AGENT_CONFIGURATION does not fit eks-pod-identity-agent v1.3.10-eksbuild.2, so that no agent is installed: /: Additional properties are not allowed ('nodeSelektor' was unexpected); /tolerations: "all" is not of type "array"
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    eks eu-west-1 DescribeAddonConfiguration eks-pod-identity-agent
    events eu-west-1 PutEvents 2
    * Cluster Ready eu-west-1/prod-eu
    * Cluster Needs Attention eu-west-1/prod-eu agent-configuration
    "#);
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT), None);
}

#[tokio::test]
async fn configuration_that_fits_is_sent() {
    let values = r#"{"tolerations":[{"operator":"Exists"}]}"#;
    let w = answering(&[("PODGRANT_AGENT_CONFIGURATION", values)], Ok(None)).await;
    assert_snapshot!(w.install_agent(&sample("cluster-created")).await, @r#"
    not-yet
    > eu-west-1/prod-eu  ready for grants => done
    + eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  configuration {"tolerations":[{"operator":"Exists"}]} => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    eks eu-west-1 DescribeAddonConfiguration eks-pod-identity-agent
    eks eu-west-1 CreateAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    events eu-west-1 PutEvents 1
    * Cluster Ready eu-west-1/prod-eu
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT).unwrap().configuration, values);
    // Even where the schema can't be had in a form that makes sense: EKS checks once more.
    let w = answering(&[("PODGRANT_AGENT_CONFIGURATION", values)], Ok(None)).await;
    w.aws.set_addon_schema(AGENT, ANY, "");
    w.install_agent(&sample("cluster-created")).await;
    assert!(w.aws.addon(EU, "prod-eu", AGENT).is_some());
}

#[tokio::test]
async fn switched_off_no_cluster_is_asked() {
    let w = answering(&[("PODGRANT_KUBERNETES", "off")], refused()).await;
    w.aws.add_addon(EU, "prod-eu", Addon::agent());
    assert_snapshot!(w.install_agent(&health_event()).await, @"
    done
    > eu-west-1/prod-eu  agent v1.3.10-eksbuild.2 is healthy => done
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    events eu-west-1 PutEvents 1
    * Agent Installed eu-west-1/prod-eu v1.3.10-eksbuild.2
    ");
}

#[tokio::test]
async fn an_older_cluster_is_opened_and_looked_into_before_it_gets_an_agent() {
    let w = answering_in_turn(&[], vec![refused(), pods(3, vec![])]).await;
    w.aws.add_cluster(Cluster::named("prod-eu").self_managed_agent());
    assert_snapshot!(w.install_agent(&sweep()).await, @r#"
    not-yet
    + eu-west-1/prod-eu  access entry for podgrant, to view the agent => done
    . the Kubernetes API of eu-west-1/prod-eu is being opened, for a look
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    eks eu-west-1 DescribeAccessEntry prod-eu install-agent -> 404 ResourceNotFoundException
    eks eu-west-1 CreateAccessEntry prod-eu install-agent
    eks eu-west-1 AssociateAccessPolicy prod-eu install-agent AmazonEKSViewPolicy
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
    let message = w.next_message();
    assert_snapshot!(w.install_agent(&message).await, @"
    done
    ! self-managed agent: eu-west-1/prod-eu: an agent runs there that is no EKS add-on, ready on 3 of 3 nodes; podgrant keeps it, and does not update it: tag the cluster podgrant/agent = manage to have the add-on take its place
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent -> 404 ResourceNotFoundException
    eks eu-west-1 ListNodegroups prod-eu
    eks eu-west-1 ListFargateProfiles prod-eu
    eks eu-west-1 DescribeAddonVersions eks-pod-identity-agent 1.33
    ");
    assert_eq!(w.aws.addon(EU, "prod-eu", AGENT), None);
}

#[tokio::test]
async fn one_that_stays_closed_gets_its_agent_all_the_same() {
    let w = answering(&[], refused()).await;
    w.aws.fault(Fault::on("eks", "CreateAccessEntry").access_denied());
    w.install_agent(&sweep()).await;
    for _ in 0..2 {
        let message = w.next_message();
        w.pass(10);
        w.install_agent(&message).await;
    }
    assert!(w.aws.addon(EU, "prod-eu", AGENT).is_some());
}

#[tokio::test]
async fn a_failed_install_is_made_anew_and_leaves_nothing_behind_that_looks_self_managed() {
    let w = answering(&[], Ok(None)).await;
    let failed = Addon::agent().tag("podgrant/managed", "v1").status("CREATE_FAILED");
    w.aws.add_addon(EU, "prod-eu", failed.issue("InternalFailure", "oops"));
    assert_snapshot!(w.install_agent(&health_event()).await, @r#"
    not-yet
    - eu-west-1/prod-eu  agent v1.3.10-eksbuild.2  (to be made anew, for it is CREATE_FAILED) => not yet: the agent on eu-west-1/prod-eu is starting
    . the agent on eu-west-1/prod-eu is starting
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAddon prod-eu eks-pod-identity-agent
    eks eu-west-1 DeleteAddon prod-eu eks-pod-identity-agent
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: AgentStarting { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" } }
    "#);
}

#[tokio::test]
async fn a_schema_that_cannot_be_had_stops_no_agent() {
    let w = answering(&[("PODGRANT_AGENT_CONFIGURATION", r#"{"tolerations":[]}"#)], Ok(None)).await;
    w.aws.fault(Fault::on("eks", "DescribeAddonConfiguration").access_denied());
    let story = w.install_agent(&sample("cluster-created")).await;
    assert!(story.starts_with("not-yet\n"), "{story}");
    assert!(w.aws.addon(EU, "prod-eu", AGENT).is_some());
}

#[tokio::test]
async fn looks_leave_time_to_act_on_what_eks_said() {
    // Each look takes twenty seconds of a clock that only looks move.
    let mut w = answering(&[], Ok(None)).await;
    w.time_left = 300;
    let clock = w.clock_hand();
    w.lookout = Some(Lookout::new(
        move |_| {
            clock.fetch_add(20, Ordering::Relaxed);
            Box::pin(async { Err(Unseen::Unreachable("timed out".to_owned())) })
        },
        podgrant_kubernetes::misfits,
    ));
    for number in 1..=40 {
        w.aws.add_cluster(Cluster::named(format!("prod-{number:02}")));
    }
    let report = w.serve(InstallAgent, &sweep()).await;
    let offers = w.aws.calls().iter().filter(|call| call.operation == "DescribeAddonVersions").count();
    assert_eq!(offers, 1, "what is on offer is asked once for all clusters of a Kubernetes version");
    let said = |text: &str| report.findings.iter().filter(|finding| finding.reason.contains(text)).count();
    let (timed_out, no_time) = (said("timed out"), said("no time was left for a look"));
    assert_eq!(timed_out + no_time, 41, "every cluster is accounted for");
    assert!(timed_out <= 5 && no_time >= 36, "{timed_out} looks in a third of 300 s");
    assert_eq!(report.changes.len(), 41, "and every cluster gets its agent");
}
