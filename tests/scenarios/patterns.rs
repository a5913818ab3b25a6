//! reconcile-associations expanding patterns by what clusters say of their service accounts.
//!
//! Here a cluster's answer is what the test says; `kubernetes.rs` asks a real API server.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use insta::assert_snapshot;
use podgrant_aws::Lookout;
use podgrant_core::Workload;
use podgrant_core::accounts::{Namespaces, SeenAccounts};
use podgrant_core::agent::pods::{KubernetesAccess, Unseen};
use podgrant_runtime::Function::ReconcileAssociations;
use podgrant_tests::fake::{Cluster, Fault};
use serde_json::Value;

use crate::world::{EU, World, again, role, role_tagged, sample};

const ROLE: &str = "arn:aws:iam::111122223333:role/podgrant/reconcile-associations";

/// What every cluster says of its service accounts.
#[derive(Clone, Default)]
struct Kubernetes {
    there: Arc<Mutex<BTreeSet<Workload>>>,
    fails: Arc<Mutex<Option<Unseen>>>,
    /// What is there when one is asked for by name; the same, if nothing is said.
    there_at_last: Arc<Mutex<Option<BTreeSet<Workload>>>>,
    fails_at_last: Arc<Mutex<Option<Unseen>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Kubernetes {
    fn has(&self, names: &[&str]) {
        *self.there.lock().unwrap() = workloads(names);
    }

    fn fails(&self, how: Option<Unseen>) {
        *self.fails.lock().unwrap() = how;
    }

    /// What was asked for since.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn note(&self, access: &KubernetesAccess, what: String) {
        assert!(access.token.starts_with("k8s-aws-v1."), "{}", access.token);
        self.asked.lock().unwrap().push(what);
    }

    fn answer<T>(&self, answer: impl FnOnce(&BTreeSet<Workload>) -> T) -> Result<T, Unseen> {
        match self.fails.lock().unwrap().clone() {
            Some(how) => Err(how),
            None => Ok(answer(&self.there.lock().unwrap())),
        }
    }

    fn lookout(&self) -> Lookout {
        let (all, one) = (self.clone(), self.clone());
        Lookout::for_accounts(
            move |access, namespaces| {
                all.note(&access, namespaces.to_string());
                let seen = all.answer(|there| {
                    let within = there.iter().filter(|workload| match &namespaces {
                        Namespaces::All => true,
                        Namespaces::Named(names) => names.contains(&workload.namespace),
                    });
                    SeenAccounts::new(namespaces.clone(), within.cloned().collect())
                });
                Box::pin(async move { seen })
            },
            move |access, workload| {
                one.note(&access, workload.to_string());
                if let Some(how) = one.fails_at_last.lock().unwrap().clone() {
                    return Box::pin(async move { Err(how) });
                }
                let at_last = one.there_at_last.lock().unwrap().clone();
                let exists = one.answer(|there| at_last.as_ref().unwrap_or(there).contains(&workload));
                Box::pin(async move { exists })
            },
        )
    }
}

fn workloads(names: &[&str]) -> BTreeSet<Workload> {
    let parsed = names.iter().map(|name| {
        let (namespace, service_account) = name.split_once('/').unwrap();
        Workload { namespace: namespace.parse().unwrap(), service_account: service_account.parse().unwrap() }
    });
    parsed.collect()
}

fn refused() -> Option<Unseen> {
    Some(Unseen::Refused("the cluster's Kubernetes API refused podgrant (401: Unauthorized)".to_owned()))
}

fn unreachable() -> Option<Unseen> {
    Some(Unseen::Unreachable("the cluster's Kubernetes API could not be reached: timed out".to_owned()))
}

async fn world(variables: &[(&str, &str)]) -> (World, Kubernetes) {
    let mut all = vec![("PODGRANT_KUBERNETES_ROLE", ROLE), ("PODGRANT_DRIFT_ROUNDS", "0")];
    all.extend(variables);
    let (mut w, kubernetes) = (World::with(&all).await, Kubernetes::default());
    w.accounts = Some(kubernetes.lookout());
    (w, kubernetes)
}

/// A role with the pattern `batch/job-_`, and its two jobs on prod-eu.
async fn jobs(variables: &[(&str, &str)]) -> (World, Kubernetes) {
    let (w, kubernetes) = world(variables).await;
    kubernetes.has(&["batch/default", "batch/job-1", "batch/job-2"]);
    w.given(role("jobs", "batch/job-_@env=prod")).await;
    assert_eq!(kubernetes.asked(), ["batch"]);
    assert_eq!(w.access(EU, "prod-eu"), ["batch/job-1 jobs", "batch/job-2 jobs"]);
    (w, kubernetes)
}

/// A sweep, and the second look that it may ask for, a while later.
async fn sweeps(w: &World) -> String {
    let mut story = w.sweep().await;
    while let Some(look) = w.next_of("accounts-missed") {
        w.pass(60);
        story.push_str(&format!("\n\n{}", w.reconcile(&look).await));
    }
    story
}

#[tokio::test]
async fn a_roles_event_makes_what_its_pattern_means() {
    let (w, kubernetes) = world(&[]).await;
    w.aws.add_cluster(Cluster::named("test-eu").tag("env", "test"));
    kubernetes.has(&["batch/default", "batch/job-1", "batch/job-2", "kube-system/job-3"]);
    w.aws.add_role(role("jobs", "batch/job-_@env=prod"));
    assert_snapshot!(w.reconcile(&role_tagged("jobs")).await, @"
    done
    + eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-_@env=prod) => done
    + eu-west-1/prod-eu  batch/job-2  role jobs  (batch/job-_@env=prod) => done
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 ListPodIdentityAssociations prod-eu batch/job-1
    eks eu-west-1 ListPodIdentityAssociations prod-eu batch/job-2
    eks eu-west-1 CreatePodIdentityAssociation prod-eu batch/job-1
    eks eu-west-1 CreatePodIdentityAssociation prod-eu batch/job-2
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu batch/job-1 jobs created
    * Access Granted eu-west-1/prod-eu batch/job-2 jobs created
    ");
    // One cluster, one namespace.
    assert_eq!(kubernetes.asked(), ["batch"]);
}

#[tokio::test]
async fn a_service_account_that_appears_has_its_association_within_a_sweep() {
    let (w, kubernetes) = jobs(&[]).await;
    kubernetes.has(&["batch/job-1", "batch/job-2", "batch/job-3", "batch/other"]);
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with jobs

    done
    = 2 unchanged
    + eu-west-1/prod-eu  batch/job-3  role jobs  (batch/job-_@env=prod) => done
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole jobs
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 CreatePodIdentityAssociation prod-eu batch/job-3
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu batch/job-3 jobs created
    ");
    // Each part's look is one.
    assert_eq!(kubernetes.asked(), ["batch"]);
    // With nothing to do, a cluster's part costs a description of the cluster more, and the look.
    assert_snapshot!(w.sweep_counted().await, @"
    done
    = 3 unchanged
    . the sweep of eu-west-1/prod-eu
    1 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListClusters
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x eks us-east-1 ListClusters
    1 x iam us-east-1 GetAccountAuthorizationDetails
    1 x sqs eu-west-1 GetQueueAttributes
    1 x sqs eu-west-1 SendMessageBatch
    2 x tagging eu-west-1 GetResources
    1 x tagging us-east-1 GetResources
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with jobs
    ");
}

#[tokio::test]
async fn one_that_goes_loses_it_at_the_second_look() {
    let (w, kubernetes) = jobs(&[]).await;
    kubernetes.has(&["batch/job-1"]);
    assert_snapshot!(sweeps(&w).await, @r#"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with jobs

    not-yet
    = 1 unchanged
    . a service account that does not show is gone if it does not show after a while either: batch/job-2 on eu-west-1/prod-eu
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 60 s, attempt 2, began 0 s ago: AccountsMissed { cluster: ClusterId { region: "eu-west-1", name: "prod-eu" }, missed: {Workload { namespace: "batch", service_account: "job-2" }} }

    done
    = 1 unchanged
    - eu-west-1/prod-eu  batch/job-2  role jobs  (service account gone) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000002
    iam us-east-1 GetRole jobs
    eks eu-west-1 DeletePodIdentityAssociation prod-eu a-000000000000002
    events eu-west-1 PutEvents 1
    * Access Revoked eu-west-1/prod-eu batch/job-2 jobs service-account-gone
    "#);
    assert_eq!(w.access(EU, "prod-eu"), ["batch/job-1 jobs"]);
    assert_eq!(kubernetes.asked(), ["batch", "batch", "batch/job-2"]);
    assert_eq!(w.told_of("Access Revoked")[0]["reason"], "service-account-gone");
}

#[tokio::test]
async fn one_that_comes_back_between_two_looks_keeps_it() {
    let (w, kubernetes) = jobs(&[]).await;
    kubernetes.has(&["batch/job-1"]);
    w.sweep().await;
    let look = w.next_of("accounts-missed").unwrap();
    kubernetes.has(&["batch/job-1", "batch/job-2"]);
    w.pass(60);
    assert_snapshot!(w.reconcile(&look).await, @"
    done
    = 2 unchanged
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    ");
    // And one that is there when its association is about to go.
    kubernetes.has(&["batch/job-1"]);
    w.sweep().await;
    let look = w.next_of("accounts-missed").unwrap();
    *kubernetes.there_at_last.lock().unwrap() = Some(workloads(&["batch/job-2"]));
    w.pass(60);
    assert_snapshot!(w.reconcile(&look).await, @"
    done
    = 1 unchanged
    - eu-west-1/prod-eu  batch/job-2  role jobs  (service account gone) => dropped: looked at once more, batch/job-2 is there again
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000002
    iam us-east-1 GetRole jobs
    ");
    assert_eq!(w.access(EU, "prod-eu").len(), 2);
}

#[tokio::test]
async fn a_cluster_that_can_not_be_asked_loses_nothing() {
    let (w, kubernetes) = jobs(&[]).await;
    w.aws.add_role(role("named", "payments/api@_"));
    // Missed once, and then out of sight.
    kubernetes.has(&["batch/job-1"]);
    w.sweep().await;
    let look = w.next_of("accounts-missed").unwrap();
    kubernetes.fails(unreachable());
    w.pass(60);
    assert_snapshot!(w.reconcile(&look).await, @"
    done
    = 1 unchanged
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@env=prod): the cluster's service accounts are not known: the cluster's Kubernetes API could not be reached: timed out; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu jobs pattern-not-expanded
    ");
    assert_snapshot!(sweeps(&w).await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with jobs named

    done
    = 1 unchanged
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@env=prod): the cluster's service accounts are not known: the cluster's Kubernetes API could not be reached: timed out; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu jobs pattern-not-expanded
    ");
    // By name, it can't be asked either.
    kubernetes.fails(None);
    w.sweep().await;
    let look = w.next_of("accounts-missed").unwrap();
    *kubernetes.fails_at_last.lock().unwrap() = unreachable();
    w.pass(60);
    let story = w.reconcile(&look).await;
    assert!(
        story.contains("(service account gone) => not yet: the cluster's Kubernetes API could not"),
        "{story}"
    );
    // And where EKS's own answers are not whole.
    let look = w.next_of("accounts-missed").unwrap();
    *kubernetes.fails_at_last.lock().unwrap() = None;
    w.aws.fault(Fault::on("eks", "ListPodIdentityAssociations").access_denied());
    w.pass(60);
    w.reconcile(&look).await;
    w.aws.clear_faults();
    let all = ["batch/job-1 jobs", "batch/job-2 jobs", "payments/api named"];
    assert_eq!(w.access(EU, "prod-eu"), all);
}

#[tokio::test]
async fn a_cluster_that_refuses_is_opened_and_come_back_to() {
    let (w, kubernetes) = world(&[]).await;
    kubernetes.has(&["batch/job-1"]);
    kubernetes.fails(refused());
    w.aws.add_role(role("jobs", "batch/job-_@env=prod"));
    assert_snapshot!(w.reconcile(&role_tagged("jobs")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  access entry for podgrant, to view batch => done
    . the service accounts of eu-west-1/prod-eu are not known yet: its Kubernetes API is being opened
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAccessEntry prod-eu reconcile-associations -> 404 ResourceNotFoundException
    eks eu-west-1 CreateAccessEntry prod-eu reconcile-associations
    eks eu-west-1 AssociateAccessPolicy prod-eu reconcile-associations AmazonEKSViewPolicy
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 5 s, attempt 1, began 0 s ago: Role { name: "jobs" }
    "#);
    let entry = w.aws.access_entry(EU, "prod-eu", ROLE).unwrap();
    assert_eq!(entry.policies[0].namespaces, ["batch"]);
    // Not heeded yet: it is waited for, and no finding.
    let look = w.next_of("role").unwrap();
    w.pass(5);
    assert_snapshot!(w.reconcile(&look).await, @r#"
    not-yet
    . the service accounts of eu-west-1/prod-eu are not known yet: its Kubernetes API is being opened
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeAccessEntry prod-eu reconcile-associations
    eks eu-west-1 ListAssociatedAccessPolicies prod-eu reconcile-associations
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 10 s, attempt 2, began 5 s ago: Role { name: "jobs" }
    "#);
    let look = w.next_of("role").unwrap();
    kubernetes.fails(None);
    w.pass(10);
    assert_snapshot!(w.reconcile(&look).await, @"
    done
    + eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-_@env=prod) => done
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 ListPodIdentityAssociations prod-eu batch/job-1
    eks eu-west-1 CreatePodIdentityAssociation prod-eu batch/job-1
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu batch/job-1 jobs created
    ");
    // Other namespaces are added to those that it may see, and none is taken away.
    kubernetes.fails(refused());
    w.aws.add_role(role("reports", "reports/_@env=prod"));
    w.reconcile(&role_tagged("reports")).await;
    let entry = w.aws.access_entry(EU, "prod-eu", ROLE).unwrap();
    assert_eq!(entry.policies[0].namespaces, ["batch", "reports"]);
    // Who names no namespace sees the cluster.
    w.aws.add_role(role("everywhere", "_/api@env=prod"));
    w.reconcile(&role_tagged("everywhere")).await;
    let entry = w.aws.access_entry(EU, "prod-eu", ROLE).unwrap();
    assert!(entry.policies[0].namespaces.is_empty());
    w.reconcile(&role_tagged("jobs")).await;
    assert!(w.aws.access_entry(EU, "prod-eu", ROLE).unwrap().policies[0].namespaces.is_empty());
}

#[tokio::test]
async fn refused_by_its_own_rules_a_cluster_is_a_finding() {
    let (w, kubernetes) = world(&[("PODGRANT_KUBERNETES_ROLE", "")]).await;
    kubernetes.fails(refused());
    w.aws.add_role(role("jobs", "batch/job-_@env=prod payments/api@env=prod"));
    assert_snapshot!(w.reconcile(&role_tagged("jobs")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role jobs  (payments/api@env=prod) => done
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@env=prod): the cluster's service accounts are not known: the cluster's Kubernetes API refused podgrant (401: Unauthorized); PODGRANT_KUBERNETES_ROLE names no role to make an access entry for; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api jobs created
    * Grant Refused eu-west-1/prod-eu jobs pattern-not-expanded
    ");
    // Turned off, nobody asks.
    let (w, kubernetes) = world(&[("PODGRANT_KUBERNETES", "off")]).await;
    w.aws.add_role(role("jobs", "batch/job-_@env=prod payments/api@env=prod"));
    assert_snapshot!(w.reconcile(&role_tagged("jobs")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role jobs  (payments/api@env=prod) => done
    ! pattern not expanded: eu-west-1/prod-eu role jobs (batch/job-_@env=prod): the cluster's service accounts are not known: reconcile-associations asks no cluster's Kubernetes API: PODGRANT_KUBERNETES is off, or it was built without the feature kubernetes; what the pattern made stays, and it makes nothing new there: let podgrant look, or name the service accounts
    tagging eu-west-1 GetResources podgrant/role-name=jobs
    tagging us-east-1 GetResources podgrant/role-name=jobs
    iam us-east-1 GetRole jobs
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    eks eu-west-1 DescribeCluster prod-eu
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api jobs created
    * Grant Refused eu-west-1/prod-eu jobs pattern-not-expanded
    ");
    assert!(kubernetes.asked().is_empty());
}

#[tokio::test]
async fn a_name_takes_a_place_from_a_pattern() {
    let (w, kubernetes) = jobs(&[]).await;
    w.aws.add_role(role("first", "batch/job-1@prod-eu"));
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with first jobs

    done
    = 1 unchanged
    ~ eu-west-1/prod-eu  batch/job-1  role jobs -> first  (batch/job-_@env=prod -> batch/job-1@prod-eu) => done
    ! conflict: eu-west-1/prod-eu batch/job-1 role jobs (batch/job-_@env=prod): arn:aws:iam::111122223333:role/first names this service account, and a name goes before a pattern
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 GetRole first
    iam us-east-1 ListAttachedRolePolicies first
    iam us-east-1 ListRolePolicies first
    eks eu-west-1 DescribePodIdentityAssociation prod-eu a-000000000000001
    iam us-east-1 GetRole jobs
    iam us-east-1 ListAttachedRolePolicies jobs
    iam us-east-1 ListRolePolicies jobs
    eks eu-west-1 UpdatePodIdentityAssociation prod-eu a-000000000000001
    eks eu-west-1 TagResource arn:aws:eks:eu-west-1:111122223333:podidentityassociation/prod-eu/a-000000000000001
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu batch/job-1 first updated
    * Grant Refused eu-west-1/prod-eu batch/job-1 jobs conflict
    ");
    assert_eq!(w.access(EU, "prod-eu"), ["batch/job-1 first", "batch/job-2 jobs"]);
    // And its own role's event leaves it there.
    w.reconcile(&role_tagged("jobs")).await;
    assert_eq!(w.access(EU, "prod-eu"), ["batch/job-1 first", "batch/job-2 jobs"]);
    drop(kubernetes);
}

#[tokio::test]
async fn of_two_patterns_one_has_a_service_account_and_keeps_it() {
    let (w, kubernetes) = jobs(&[]).await;
    w.aws.add_role(role("older", "batch/_@prod-eu").created_at(1));
    kubernetes.has(&["batch/job-1", "batch/job-2", "batch/job-3", "kube-system/x"]);
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["batch/job-1 jobs", "batch/job-2 jobs", "batch/job-3 older"]);
    assert_eq!(kubernetes.asked(), ["batch"]);
}

#[tokio::test]
async fn no_pattern_reaches_where_pods_get_no_roles() {
    let (w, kubernetes) = world(&[]).await;
    kubernetes.has(&["kube-system/coredns", "kube-system/default", "payments/api"]);
    w.aws.add_role(role("all", "_/_@prod-eu"));
    assert_snapshot!(w.reconcile(&role_tagged("all")).await, @"
    done
    + eu-west-1/prod-eu  payments/api  role all  (_/_@prod-eu) => done
    ! guardrail: role all (_/_@prod-eu): refused-namespaces: pods of kube-node-lease, kube-public, kube-system get no roles, and the pattern passes them by; PODGRANT_REFUSED_NAMESPACES says which
    tagging eu-west-1 GetResources podgrant/role-name=all
    tagging us-east-1 GetResources podgrant/role-name=all
    iam us-east-1 GetRole all
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    iam us-east-1 ListAttachedRolePolicies all
    iam us-east-1 ListRolePolicies all
    eks eu-west-1 ListPodIdentityAssociations prod-eu payments/api
    eks eu-west-1 CreatePodIdentityAssociation prod-eu payments/api
    events eu-west-1 PutEvents 2
    * Access Granted eu-west-1/prod-eu payments/api all created
    * Grant Refused all guardrail
    ");
    w.sweep().await;
    assert_eq!(w.access(EU, "prod-eu"), ["payments/api all"]);
}

#[tokio::test]
async fn a_full_cluster_is_not_asked_for_more_and_more() {
    let (w, kubernetes) = world(&[("PODGRANT_MAX_SERVICE_ACCOUNTS", "100")]).await;
    let names: Vec<String> = (10..60).map(|number| format!("batch/job-{number}")).collect();
    kubernetes.has(&names.iter().map(String::as_str).collect::<Vec<_>>());
    w.aws.association_limit(20);
    w.aws.add_role(role("jobs", "batch/job-_@env=prod"));
    let story = w.counted(ReconcileAssociations, &role_tagged("jobs")).await;
    assert_eq!(w.access(EU, "prod-eu").len(), 20);
    assert_eq!(w.access(EU, "prod-eu")[0], "batch/job-10 jobs");
    // What runs side by side when EKS says no the first time.
    let refused =
        story.lines().find(|line| line.contains("ResourceLimitExceededException") && line.contains(" x "));
    let refused: usize = refused.unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(refused <= 6, "{story}");
    assert_eq!(story.lines().filter(|line| line.starts_with("! refused by AWS")).count(), 30, "{story}");
    // More than a few places are listed at once.
    assert!(story.contains("1 x eks eu-west-1 ListPodIdentityAssociations"), "{story}");
}

#[tokio::test]
async fn whoever_makes_service_accounts_gets_no_more_than_a_role_may_have() {
    let (w, kubernetes) =
        jobs(&[("PODGRANT_MAX_SERVICE_ACCOUNTS", "2"), ("PODGRANT_ON_REFUSED", "withdraw")]).await;
    kubernetes.has(&["batch/job-1", "batch/job-2", "batch/job-3"]);
    assert_snapshot!(w.sweep().await, @"
    done
    . the sweep of eu-west-1/prod-eu
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 ListClusters
    eks us-east-1 ListClusters
    tagging eu-west-1 GetResources
    tagging us-east-1 GetResources
    sqs eu-west-1 GetQueueAttributes podgrant
    sqs eu-west-1 SendMessageBatch podgrant 1
    > in 0 s, attempt 1, began 0 s ago: sweep eu-west-1/prod-eu .. with jobs

    done
    = 2 unchanged
    ! guardrail: eu-west-1/prod-eu role jobs: service-accounts: with what its patterns mean here its grants come to 3 service accounts, and at most 2 may share a role; what stands stays, and its patterns get nothing new here: narrow them, make a role for each workload, or raise PODGRANT_MAX_SERVICE_ACCOUNTS to 3
    tagging eu-west-1 GetResources podgrant/cluster=eu-west-1/prod-eu
    eks eu-west-1 ListPodIdentityAssociations prod-eu
    eks eu-west-1 DescribeCluster prod-eu
    events eu-west-1 PutEvents 1
    * Grant Refused eu-west-1/prod-eu jobs guardrail
    ");
    assert_eq!(w.access(EU, "prod-eu").len(), 2);
}

#[tokio::test]
async fn too_many_at_once_are_not_taken_away() {
    let (w, kubernetes) = jobs(&[("PODGRANT_MAX_DELETIONS", "1")]).await;
    kubernetes.has(&[]);
    let story = sweeps(&w).await;
    assert!(story.contains("this pass would delete 2 associations, and at most 1 are allowed"), "{story}");
    assert_eq!(w.access(EU, "prod-eu").len(), 2);
}

#[tokio::test]
async fn a_look_that_no_time_is_left_for_comes_back() {
    let (mut w, kubernetes) = world(&[]).await;
    w.aws.add_cluster(Cluster::named("second").tag("env", "prod"));
    kubernetes.has(&["batch/job-1"]);
    let hand = w.clock_hand();
    let slow = kubernetes.clone();
    w.accounts = Some(Lookout::for_accounts(
        move |access, namespaces| {
            slow.note(&access, namespaces.to_string());
            hand.fetch_add(25, Ordering::Relaxed);
            let seen = slow.answer(|there| SeenAccounts::new(namespaces.clone(), there.clone()));
            Box::pin(async move { seen })
        },
        |_, _| unreachable!("nothing is deleted"),
    ));
    w.aws.add_role(role("jobs", "batch/job-_@env=prod"));
    assert_snapshot!(w.counted(ReconcileAssociations, &role_tagged("jobs")).await, @r#"
    not-yet
    + eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-_@env=prod) => done
    . the service accounts of eu-west-1/second are not known yet: no time was left to look at them
    1 x eks eu-west-1 CreatePodIdentityAssociation
    2 x eks eu-west-1 DescribeCluster
    1 x eks eu-west-1 ListPodIdentityAssociations
    1 x events eu-west-1 PutEvents
    1 x iam us-east-1 GetRole
    1 x iam us-east-1 ListAttachedRolePolicies
    1 x iam us-east-1 ListRolePolicies
    1 x sqs eu-west-1 SendMessageBatch
    2 x tagging eu-west-1 GetResources
    2 x tagging us-east-1 GetResources
    * Access Granted eu-west-1/prod-eu batch/job-1 jobs created
    > in 5 s, attempt 1, began 0 s ago: Role { name: "jobs" }
    "#);
    assert_eq!(kubernetes.asked().len(), 1);
}

#[tokio::test]
async fn an_association_taken_away_by_hand_is_made_again() {
    let (w, kubernetes) = jobs(&[]).await;
    w.aws.delete_association(EU, "prod-eu", "batch", "job-1");
    let event = changed("batch", "job-1");
    assert_snapshot!(w.reconcile(&event).await, @"
    done
    + eu-west-1/prod-eu  batch/job-1  role jobs  (batch/job-_@env=prod) => done
    eks eu-west-1 DescribeCluster prod-eu
    eks us-east-1 DescribeCluster prod-eu -> 404 ResourceNotFoundException
    eks eu-west-1 ListPodIdentityAssociations prod-eu batch/job-1
    iam us-east-1 GetAccountAuthorizationDetails
    eks eu-west-1 CreatePodIdentityAssociation prod-eu batch/job-1
    events eu-west-1 PutEvents 1
    * Access Granted eu-west-1/prod-eu batch/job-1 jobs created
    ");
    assert_eq!(kubernetes.asked(), ["batch"]);
    // One that no pattern means costs no look.
    w.reconcile(&again(changed("payments", "api"))).await;
    assert!(kubernetes.asked().is_empty());
}

fn changed(namespace: &str, service_account: &str) -> Value {
    let mut event = sample("association-deleted");
    let association = &mut event["detail"]["responseElements"]["association"];
    association["namespace"] = namespace.into();
    association["serviceAccount"] = service_account.into();
    event
}
