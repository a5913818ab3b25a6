//! The whole of it on a real API server. The test plays EKS's webhook and the kubelet.
//!
//! Where there is no such server these tests pass without having looked, and `cargo xtask test` says so at its end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use podgrant_aws::Onlooker;
use podgrant_cli::{Hands, KubernetesHands};
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::verify::{Object, PodWish, Removal, Run, SeenPod, Trouble};
use podgrant_core::{ClusterId, Namespace};
use podgrant_runtime::Clock;
use podgrant_tests::fake::{ACCOUNT, Cluster};
use podgrant_tests::local_kubernetes::LocalKubernetes;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell, watch};

use super::VERIFY;
use crate::person::{EU, NOW, Person};

/// One server for all tests, and one test at a time: it stands for one cluster, and knows one person.
static SERVER: OnceCell<Option<(Arc<LocalKubernetes>, Mutex<()>)>> = OnceCell::const_new();

const OURS: &str = "podgrant/verify";

/// EKS's webhook and the node's kubelet around the real hands.
struct Around {
    server: Arc<LocalKubernetes>,
    looks: AtomicU32,
    /// Whether its agent refuses.
    refuses: AtomicBool,
    /// How often the pod was looked at; whoever crashes waits for it.
    seen: watch::Sender<u32>,
    /// The way in by which the first look came. Later ones remove and list by it: the server looks at tokens' dates, and
    /// the person's half an hour is none of its own.
    first: OnceLock<KubernetesAccess>,
}

impl Around {
    fn of(server: &Arc<LocalKubernetes>) -> Arc<Self> {
        Arc::new(Self {
            server: Arc::clone(server),
            looks: AtomicU32::new(0),
            refuses: AtomicBool::new(false),
            seen: watch::Sender::new(0),
            first: OnceLock::new(),
        })
    }

    fn first(&self, way: KubernetesAccess) -> KubernetesAccess {
        self.first.get_or_init(|| way).clone()
    }

    /// The pod's status at each look: as a kubelet reports it.
    fn status(&self, name: &str) -> Value {
        let run = name.rsplit_once('-').unwrap().0;
        let identity = match self.refuses.load(Ordering::Relaxed) {
            false => format!("0 arn:aws:sts::{ACCOUNT}:assumed-role/{run}/eks-prod-eu-1"),
            true => "255 Error when retrieving credentials from container-role: Received non 200 response"
                .to_owned(),
        };
        let denied = "254 An error occurred (AccessDenied) when calling the ListBuckets operation: no";
        let message = format!(
            "podgrant-verify 1\nuri=http://169.254.170.23/v1/credentials\nirsa=\nkeys=\ntries=2\nidentity={identity}\n\
             buckets={denied}\nend\n"
        );
        let container = |state: Value| json!([{"name": "verify", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state}]);
        match self.looks.fetch_add(1, Ordering::Relaxed) {
            0 => {
                json!({"phase": "Pending", "containerStatuses": container(json!({"waiting": {"reason": "ContainerCreating"}}))})
            }
            1 => json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}))}),
            _ => json!({"phase": "Succeeded", "containerStatuses": container(json!({"terminated": {
                "exitCode": 0, "reason": "Completed", "message": message,
            }}))}),
        }
    }
}

impl Hands for Around {
    fn obstacles(
        &self,
        way: KubernetesAccess,
        namespace: Namespace,
    ) -> BoxFuture<'static, Result<Vec<String>, Trouble>> {
        KubernetesHands.obstacles(self.first(way), namespace)
    }

    fn make_account(&self, way: KubernetesAccess, run: Run) -> BoxFuture<'static, Result<(), Trouble>> {
        KubernetesHands.make_account(way, run)
    }

    /// The first pod comes too early for the webhook.
    fn make_pod(
        &self,
        way: KubernetesAccess,
        mut wish: PodWish,
    ) -> BoxFuture<'static, Result<SeenPod, Trouble>> {
        if !wish.name.ends_with("-1") {
            let uri = "http://169.254.170.23/v1/credentials".to_owned();
            wish.variables.insert("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), uri);
        }
        KubernetesHands.make_pod(way, wish)
    }

    fn pod(
        &self,
        way: KubernetesAccess,
        namespace: Namespace,
        name: String,
    ) -> BoxFuture<'static, Result<Option<SeenPod>, Trouble>> {
        let (server, status) = (Arc::clone(&self.server), self.status(&name));
        self.seen.send_modify(|seen| *seen += 1);
        async move {
            server.report_pod(namespace.as_str(), &name, &status).await.unwrap();
            KubernetesHands.pod(way, namespace, name).await
        }
        .boxed()
    }

    fn remove(&self, way: KubernetesAccess, object: Object) -> BoxFuture<'static, Result<Removal, Trouble>> {
        KubernetesHands.remove(self.first(way), object)
    }

    fn objects(
        &self,
        way: KubernetesAccess,
        cluster: ClusterId,
        namespace: Option<Namespace>,
    ) -> BoxFuture<'static, Result<Vec<Object>, Trouble>> {
        KubernetesHands.objects(self.first(way), cluster, namespace)
    }
}

async fn server() -> Option<(Arc<LocalKubernetes>, tokio::sync::MutexGuard<'static, ()>)> {
    let start = || async {
        let server = LocalKubernetes::start().await.unwrap()?;
        Some((Arc::new(server), Mutex::new(())))
    };
    let (server, turn) = SERVER.get_or_init(start).await.as_ref()?;
    let turn = turn.lock().await;
    server.knows_eks().then(|| (Arc::clone(server), turn))
}

/// Whoever verifies the server: it looks at tokens' dates, and remembers whom it let in.
async fn verifier(server: &Arc<LocalKubernetes>) -> (Person, Arc<Around>) {
    static PERSONS: AtomicU32 = AtomicU32::new(0);
    let earlier = 40 * i64::from(PERSONS.fetch_add(1, Ordering::Relaxed));
    let mut person = Person::new().await;
    person.pass(Clock::system().seconds() - earlier - NOW);
    let api = server.api();
    person.aws.add_cluster(Cluster::named("prod-eu").endpoint(&api.endpoint, &api.certificate_authority));
    let hands = Around::of(server);
    person.hands = Arc::clone(&hands) as _;
    (person, hands)
}

/// Lets the person in with a policy; without namespaces on the whole cluster.
fn let_in(server: &LocalKubernetes, policy: &str, namespaces: &[&str]) {
    let me = json!({
        "secret": "no-secret", "arn": "arn:aws:iam::111122223333:user/me",
        "policies": [{"policy": policy, "namespaces": namespaces}],
    });
    server.know(&json!({"cluster": "prod-eu", "credentials": {"AKIDPERSON": me}})).unwrap();
}

/// Without what is another at each run.
fn timeless(said: &str) -> String {
    let mut text = said.to_owned();
    while let Some(at) = text.find("podgrant-verify-m") {
        let from = at + "podgrant-verify-".len();
        text.replace_range(from..from + 8, "RUN");
    }
    text
}

#[tokio::test]
async fn it_works_on_a_real_api_server() {
    let Some((server, _turn)) = server().await else { return };
    let_in(&server, "AmazonEKSEditPolicy", &["default"]);
    let (person, _) = verifier(&server).await;
    insta::assert_snapshot!(timeless(&person.story(VERIFY, "").await), @"
    To be made for eu-west-1/prod-eu, and removed again
      role             podgrant-verify-RUN: for pods of this cluster only, and allowed nothing but sts:GetCallerIdentity
      association      default/podgrant-verify-RUN with that role
      service account  default/podgrant-verify-RUN
      pod              default/podgrant-verify-RUN-1, image amazon/aws-cli:2.31.29; 12 at most, one after the other

      ok      role        podgrant-verify-RUN is made
      ok      association default/podgrant-verify-RUN is made
      ok      account     default/podgrant-verify-RUN is made
      ok      pod         default/podgrant-verify-RUN-2 ran, 10 s after it was made
      ok      variables   the pod was given http://169.254.170.23/v1/credentials
      ok      credentials the pod got credentials after 2 tries
      ok      identity    the pod is
                          arn:aws:sts::111122223333:assumed-role/podgrant-verify-RUN/eks-prod-eu-1
      ok      privilege   listing buckets is denied, as it should be
      removed pod             podgrant-verify-RUN-2
      removed service account podgrant-verify-RUN
      removed association     podgrant-verify-RUN
      removed role            podgrant-verify-RUN

    Pod Identity works on eu-west-1/prod-eu. All that was made is removed again. (15 s)
    ---- exit 0
    ");
    assert_eq!(server.labelled("default", OURS).await.unwrap(), [""; 0]);
    assert!(person.aws.roles().is_empty() && person.aws.associations(EU, "prod-eu").is_empty());
}

/// The doctor looks at the pod that is over, and at the agent that is not there.
#[tokio::test]
async fn what_keeps_the_pod_from_its_credentials_is_named() {
    let Some((server, _turn)) = server().await else { return };
    let_in(&server, "AmazonEKSClusterAdminPolicy", &[]);
    let (mut person, hands) = verifier(&server).await;
    hands.refuses.store(true, Ordering::Relaxed);
    person.onlooker =
        Some(Onlooker::new(podgrant_kubernetes::look_at_workload, podgrant_kubernetes::look_into_cluster));
    let said = person.types(VERIFY, "").await;
    assert!(said.code == 2 && said.out.contains("got no credentials in 2 tries"), "{said}");
    let doctor = said.out.split_once("podgrant doctor: ").map(|(_, said)| said).unwrap_or_default();
    assert!(doctor.contains("is ACTIVE, and its DaemonSet is not in the cluster"), "{said}");
    assert_eq!(server.labelled("default", OURS).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_a_crash_leaves_there_is_found_by_its_labels() {
    let Some((server, _turn)) = server().await else { return };
    let_in(&server, "AmazonEKSEditPolicy", &["default"]);
    let (person, hands) = verifier(&server).await;
    let mut seen = hands.seen.subscribe();
    tokio::select! {
        said = person.types(VERIFY, "") => panic!("{said}"),
        seen = seen.wait_for(|seen| *seen == 2) => drop(seen.unwrap()),
    }
    assert_eq!(server.labelled("default", OURS).await.unwrap().len(), 2);
    // Things of others, with half a mark.
    server.add_accounts("default", &["podgrant-verify-mm8zzzzz"]).await.unwrap();
    person.pass(30 * 60);
    let said = person.types("verify --clean --yes", "").await;
    let left = server.labelled("default", OURS).await.unwrap();
    server.remove_account("default", "podgrant-verify-mm8zzzzz").await.unwrap();
    assert_eq!((said.code, left), (0, Vec::new()), "{said}");
    assert!(!said.out.contains("mm8zzzzz"), "{said}");
    assert!(person.aws.roles().is_empty() && person.aws.associations(EU, "prod-eu").is_empty());
}

#[tokio::test]
async fn who_may_not_is_told_by_the_server() {
    let Some((server, _turn)) = server().await else { return };
    server.know(&json!({"cluster": "prod-eu", "credentials": {}})).unwrap();
    let (person, _) = verifier(&server).await;
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: the cluster's Kubernetes API refused you (401: Unauthorized)
      be let in by an access entry (AmazonEKSEditPolicy allows what verify does), or see what admission policy says no

    ---- exit 1
    ");
    let_in(&server, "AmazonEKSViewPolicy", &["default"]);
    let (person, _) = verifier(&server).await;
    insta::assert_snapshot!(person.story(VERIFY, "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: you may not create, delete serviceaccounts in the namespace default; you may not create, delete pods in the namespace default
      name another namespace with --namespace, or be let in: an access entry with AmazonEKSEditPolicy for default allows what verify does

    ---- exit 1
    ");
    insta::assert_snapshot!(person.story(&format!("{VERIFY} --namespace nowhere"), "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: you may not create, get, delete serviceaccounts in the namespace nowhere; you may not create, get, list, delete pods in the namespace nowhere
      name another namespace with --namespace, or be let in: an access entry with AmazonEKSEditPolicy for nowhere allows what verify does

    ---- exit 1
    ");
    assert!(person.writes().is_empty());
    // Who may do it everywhere may see that it is not there.
    let_in(&server, "AmazonEKSEditPolicy", &[]);
    let (person, _) = verifier(&server).await;
    insta::assert_snapshot!(person.story(&format!("{VERIFY} --namespace nowhere"), "").await, @"
    ---- stderr
    podgrant: eu-west-1/prod-eu: there is no namespace nowhere
      name another namespace with --namespace, or be let in: an access entry with AmazonEKSEditPolicy for nowhere allows what verify does

    ---- exit 1
    ");
}
