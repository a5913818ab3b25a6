//! The service account and the pod that `podgrant verify` makes, and removes again.
//!
//! The only writes here. Functions never come to them: a person does, with that person's rights.

use std::fmt::Debug;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Namespace as KubernetesNamespace, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Client, Resource, ResourceExt as _};
use podgrant_core::agent::pods::{KubernetesAccess, Unseen};
use podgrant_core::verify::{
    LABEL, MANAGED_BY, Object, PodWish, Removal, Run, SeenPod, Terminated, Thing, Trouble,
};
use podgrant_core::{ClusterId, Namespace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::pods::FARGATE;
use crate::{ALL, PAGE, client, each_page, if_there, unseen};

/// The pod's one container.
const CONTAINER: &str = "verify";

/// Nobody in particular, and not root.
const USER: i64 = 65_532;

/// Long enough for a shell to end.
const GRACE: i64 = 5;

/// What EKS's webhook gives a pod whose service account has an association.
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";

/// What a run needs to be allowed in its namespace.
const RIGHTS: [(&str, &[&str]); 2] =
    [("serviceaccounts", &["create", "get", "delete"]), ("pods", &["create", "get", "list", "delete"])];

type Done<T> = BoxFuture<'static, Result<T, Trouble>>;

/// What keeps a run from being made in a namespace, in words: rights that whoever asks lacks, or that there is no such
/// namespace. Nothing is made for it.
pub fn verify_obstacles(access: KubernetesAccess, namespace: Namespace) -> Done<Vec<String>> {
    async move { ask(&access, |client| obstacles(client, namespace)).await }.boxed()
}

/// Makes a run's service account.
pub fn make_verify_account(access: KubernetesAccess, run: Run) -> Done<()> {
    async move {
        let account = json!({
            "metadata": {"name": run.id.name(), "labels": run.labels()},
            "automountServiceAccountToken": false,
        });
        let account: ServiceAccount = read(account)?;
        let made = |client: Client| async move {
            let accounts: Api<ServiceAccount> = Api::namespaced(client, run.namespace.as_str());
            accounts.create(&PostParams::default(), &account).await
        };
        ask(&access, made).await.map(drop)
    }
    .boxed()
}

/// Makes a run's pod, and shows it as EKS's webhook left it.
pub fn make_verify_pod(access: KubernetesAccess, wish: PodWish) -> Done<SeenPod> {
    async move {
        let pod: Pod = read(pod(&wish))?;
        let made = |client: Client| async move {
            let pods: Api<Pod> = Api::namespaced(client, wish.run.namespace.as_str());
            pods.create(&PostParams::default(), &pod).await
        };
        ask(&access, made).await.map(|pod| seen(&pod))
    }
    .boxed()
}

/// A pod as it is; `None` where there is none.
pub fn verify_pod(access: KubernetesAccess, namespace: Namespace, name: String) -> Done<Option<SeenPod>> {
    async move {
        let found = |client: Client| async move {
            let pods: Api<Pod> = Api::namespaced(client, namespace.as_str());
            if_there(pods.get(&name).await)
        };
        Ok(ask(&access, found).await?.as_ref().map(seen))
    }
    .boxed()
}

/// Removes a service account or a pod, if it carries the run's mark: what was looked at, and nothing that took its place.
pub fn remove_verify_object(access: KubernetesAccess, object: Object) -> Done<Removal> {
    async move {
        match object.thing {
            Thing::Pod => remove::<Pod>(&access, &object).await,
            _ => remove::<ServiceAccount>(&access, &object).await,
        }
    }
    .boxed()
}

/// All that runs left in a namespace, or on the whole cluster.
pub fn verify_objects(
    access: KubernetesAccess,
    cluster: ClusterId,
    namespace: Option<Namespace>,
) -> Done<Vec<Object>> {
    async move {
        let mut objects = listed::<Pod>(&access, &cluster, namespace.as_ref(), Thing::Pod).await?;
        objects.extend(
            listed::<ServiceAccount>(&access, &cluster, namespace.as_ref(), Thing::ServiceAccount).await?,
        );
        Ok(objects)
    }
    .boxed()
}

/// In time, or not at all.
async fn ask<T, F>(access: &KubernetesAccess, asked: impl FnOnce(Client) -> F) -> Result<T, Trouble>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let endpoint = &access.api.endpoint;
    // The token goes along: in clear it would be anybody's.
    if !endpoint.starts_with("https://") {
        let why = format!("EKS gave the cluster's endpoint as {endpoint:?}, which is not https");
        return Err(Trouble::Rejected(why));
    }
    let client = client(access).map_err(|why| trouble(why, true))?;
    match tokio::time::timeout(ALL, asked(client)).await {
        Ok(answer) => answer.map_err(|error| {
            let is_no = matches!(&error, kube::Error::Api(status) if status.code < 500);
            trouble(unseen(&error, access), is_no)
        }),
        Err(_) => {
            let seconds = ALL.as_secs();
            let why = format!("the cluster's Kubernetes API did not answer within {seconds} s");
            Err(Trouble::Unreachable(why))
        }
    }
}

/// `is_no`: nothing was done for it.
fn trouble(why: Unseen, is_no: bool) -> Trouble {
    match why {
        Unseen::Refused(why) => Trouble::Refused(why.replace("refused podgrant", "refused you")),
        Unseen::Unreachable(why) if is_no => Trouble::Rejected(why),
        Unseen::Unreachable(why) => Trouble::Unreachable(why),
    }
}

fn read<K: DeserializeOwned>(object: Value) -> Result<K, Trouble> {
    serde_json::from_value(object).map_err(|error| Trouble::Rejected(error.to_string()))
}

async fn obstacles(client: Client, namespace: Namespace) -> Result<Vec<String>, kube::Error> {
    let mut obstacles = Vec::new();
    let namespaces: Api<KubernetesNamespace> = Api::all(client.clone());
    match if_there(namespaces.get(namespace.as_str()).await) {
        Ok(None) => obstacles.push(format!("there is no namespace {namespace}")),
        // Who may work in one may not see it.
        Ok(Some(_)) => {}
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        Err(error) => return Err(error),
    }
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client);
    for (resource, verbs) in RIGHTS {
        let mut missing = Vec::new();
        for verb in verbs {
            let asked = json!({"spec": {"resourceAttributes": {
                "namespace": namespace.as_str(), "verb": verb, "resource": resource,
            }}});
            let review = serde_json::from_value(asked).map_err(kube::Error::SerdeError)?;
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if !answer.status.is_some_and(|status| status.allowed) {
                missing.push(*verb);
            }
        }
        if !missing.is_empty() {
            let verbs = missing.join(", ");
            obstacles.push(format!("you may not {verbs} {resource} in the namespace {namespace}"));
        }
    }
    Ok(obstacles)
}

/// As the pod security standard "restricted" wants it, and of little weight.
fn pod(wish: &PodWish) -> Value {
    let variables: Value =
        wish.variables.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!({
        "metadata": {"name": wish.name, "labels": wish.run.labels()},
        "spec": {
            "serviceAccountName": wish.run.id.name(),
            // EKS's webhook brings a token in a volume of its own.
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": wish.limit,
            "terminationGracePeriodSeconds": GRACE,
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": CONTAINER,
                "image": wish.image,
                "command": ["sh", "-c", wish.script],
                "env": variables,
                "terminationMessagePath": "/dev/termination-log",
                // An image without a shell or without aws says so in its log alone.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "resources": {
                    "requests": {"cpu": "50m", "memory": "128Mi"},
                    "limits": {"cpu": "500m", "memory": "256Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }],
            "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}}],
        },
    })
}

fn seen(pod: &Pod) -> SeenPod {
    let status = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let container =
        spec.and_then(|spec| spec.containers.iter().find(|container| container.name == CONTAINER));
    let variables = container.and_then(|container| container.env.as_ref()).into_iter().flatten();
    let has_variables = { variables }.any(|variable| {
        variable.name == FULL_URI && variable.value.as_ref().is_some_and(|uri| !uri.is_empty())
    });
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.message.clone().or_else(|| condition.reason.clone()));
    let state = { status.container_statuses }
        .into_iter()
        .flatten()
        .find(|container| container.name == CONTAINER)
        .and_then(|container| container.state)
        .unwrap_or_default();
    SeenPod {
        node: spec.and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
        // EKS's webhook for Fargate writes it where a profile means the pod.
        on_fargate: pod.labels().contains_key(FARGATE),
        has_variables,
        unschedulable,
        waiting: state
            .waiting
            .map(|waiting| (waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())),
        terminated: state.terminated.map(|ended| Terminated {
            reason: ended.reason.unwrap_or_default(),
            exit_code: ended.exit_code,
            message: ended.message.unwrap_or_default(),
        }),
        failed: status
            .reason
            .filter(|_| status.phase.as_deref() == Some("Failed"))
            .map(|reason| (reason, status.message.unwrap_or_default())),
        is_going: pod.metadata.deletion_timestamp.is_some(),
        phase: status.phase.unwrap_or_default(),
    }
}

/// What both kinds of objects are.
trait Ours:
    Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
{
}
impl Ours for Pod {}
impl Ours for ServiceAccount {}

async fn remove<K: Ours>(access: &KubernetesAccess, object: &Object) -> Result<Removal, Trouble> {
    let Object { name, run, .. } = object;
    let removed = |client: Client| async move {
        let api: Api<K> = Api::namespaced(client, run.namespace.as_str());
        let Some(found) = if_there(api.get(name).await)? else { return Ok(Removal::Absent) };
        let whose = Run::of_object(&run.cluster, run.namespace.as_str(), name, found.labels());
        if whose.as_ref() != Some(run) {
            return Ok(Removal::Foreign);
        }
        if found.meta().deletion_timestamp.is_some() {
            return Ok(Removal::Going);
        }
        let this = Preconditions { uid: found.uid(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        if if_there(api.delete(name, &parameters).await.map(drop))?.is_none() {
            return Ok(Removal::Absent);
        }
        Ok(match if_there(api.get(name).await)? {
            None => Removal::Removed,
            Some(_) => Removal::Going,
        })
    };
    ask(access, removed).await
}

async fn listed<K: Ours>(
    access: &KubernetesAccess,
    cluster: &ClusterId,
    namespace: Option<&Namespace>,
    thing: Thing,
) -> Result<Vec<Object>, Trouble> {
    let found = |client: Client| async move {
        let api: Api<K> = match namespace {
            Some(namespace) => Api::namespaced(client, namespace.as_str()),
            None => Api::all(client),
        };
        let marked = ListParams::default().labels(&format!("{}={},{LABEL}", MANAGED_BY.0, MANAGED_BY.1));
        let mut objects = Vec::new();
        let keep = |object: K| {
            let (name, place) = (object.name_any(), object.namespace().unwrap_or_default());
            let run = Run::of_object(cluster, &place, &name, object.labels());
            objects.extend(run.map(|run| Object { thing, name, run }));
        };
        each_page(&api, marked.limit(PAGE), keep).await?;
        Ok(objects)
    };
    ask(access, found).await
}

#[cfg(test)]
mod tests {
    use podgrant_core::verify::RunId;

    use super::*;

    fn run() -> Run {
        Run {
            id: RunId::at(1_772_446_530_123),
            cluster: "eu-west-1/prod-eu".parse().unwrap(),
            namespace: "default".parse().unwrap(),
        }
    }

    #[test]
    fn the_pod_may_do_little() {
        let pod =
            pod(&PodWish { script: "…", ..PodWish::new(&run(), 1, "registry.example/aws-cli:2", 300) });
        read::<Pod>(pod.clone()).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&pod).unwrap(), @r#"
        {
          "metadata": {
            "labels": {
              "app.kubernetes.io/managed-by": "podgrant",
              "podgrant/verify": "mm90wfgr"
            },
            "name": "podgrant-verify-mm90wfgr-1"
          },
          "spec": {
            "activeDeadlineSeconds": 300,
            "automountServiceAccountToken": false,
            "containers": [
              {
                "command": [
                  "sh",
                  "-c",
                  "…"
                ],
                "env": [
                  {
                    "name": "AWS_DEFAULT_REGION",
                    "value": "eu-west-1"
                  },
                  {
                    "name": "AWS_MAX_ATTEMPTS",
                    "value": "2"
                  },
                  {
                    "name": "AWS_PAGER",
                    "value": ""
                  },
                  {
                    "name": "AWS_REGION",
                    "value": "eu-west-1"
                  },
                  {
                    "name": "AWS_STS_REGIONAL_ENDPOINTS",
                    "value": "regional"
                  },
                  {
                    "name": "HOME",
                    "value": "/tmp"
                  }
                ],
                "image": "registry.example/aws-cli:2",
                "name": "verify",
                "resources": {
                  "limits": {
                    "cpu": "500m",
                    "memory": "256Mi"
                  },
                  "requests": {
                    "cpu": "50m",
                    "memory": "128Mi"
                  }
                },
                "securityContext": {
                  "allowPrivilegeEscalation": false,
                  "capabilities": {
                    "drop": [
                      "ALL"
                    ]
                  },
                  "readOnlyRootFilesystem": true
                },
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                  {
                    "mountPath": "/tmp",
                    "name": "tmp"
                  }
                ]
              }
            ],
            "enableServiceLinks": false,
            "nodeSelector": {
              "kubernetes.io/os": "linux"
            },
            "restartPolicy": "Never",
            "securityContext": {
              "fsGroup": 65532,
              "runAsGroup": 65532,
              "runAsNonRoot": true,
              "runAsUser": 65532,
              "seccompProfile": {
                "type": "RuntimeDefault"
              }
            },
            "serviceAccountName": "podgrant-verify-mm90wfgr",
            "terminationGracePeriodSeconds": 5,
            "volumes": [
              {
                "emptyDir": {
                  "sizeLimit": "16Mi"
                },
                "name": "tmp"
              }
            ]
          }
        }
        "#);
    }

    #[test]
    fn a_pods_state_is_read_as_kubelets_leave_it() {
        let of = |status: Value, env: Value| {
            let spec = json!({"nodeName": "ip-1", "containers": [{"name": "istio-proxy"}, {"name": "verify", "env": env}]});
            seen(&read::<Pod>(json!({"metadata": {"name": "x"}, "spec": spec, "status": status})).unwrap())
        };
        let given = json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"}]);
        let container = |name: &str, state: Value| json!({"name": name, "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": state});
        let rows = [
            of(json!({"phase": "Pending"}), given),
            of(
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"}]}),
                json!([]),
            ),
            of(
                json!({"phase": "Pending", "containerStatuses": [
                    container("istio-proxy", json!({"waiting": {"reason": "PodInitializing"}})),
                    container("verify", json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}})),
                ]}),
                json!([]),
            ),
            of(
                json!({"phase": "Succeeded", "containerStatuses": [
                    container("verify", json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": "podgrant-verify 1"}})),
                ]}),
                json!([{"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": ""}]),
            ),
            of(json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}), json!([])),
        ];
        let labels = json!({"eks.amazonaws.com/fargate-profile": "default"});
        let on_fargate = json!({"metadata": {"name": "x", "labels": labels}, "spec": {"containers": []}});
        assert!(seen(&read::<Pod>(on_fargate).unwrap()).on_fargate);
        let shown: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        SeenPod { phase: "Pending", node: Some("ip-1"), on_fargate: false, has_variables: true, unschedulable: None, waiting: None, terminated: None, failed: None, is_going: false }
        SeenPod { phase: "Pending", node: Some("ip-1"), on_fargate: false, has_variables: false, unschedulable: Some("0/2 nodes are available"), waiting: None, terminated: None, failed: None, is_going: false }
        SeenPod { phase: "Pending", node: Some("ip-1"), on_fargate: false, has_variables: false, unschedulable: None, waiting: Some(("ErrImagePull", "not found")), terminated: None, failed: None, is_going: false }
        SeenPod { phase: "Succeeded", node: Some("ip-1"), on_fargate: false, has_variables: false, unschedulable: None, waiting: None, terminated: Some(Terminated { reason: "Completed", exit_code: 0, message: "podgrant-verify 1" }), failed: None, is_going: false }
        SeenPod { phase: "Failed", node: Some("ip-1"), on_fargate: false, has_variables: false, unschedulable: None, waiting: None, terminated: None, failed: Some(("Evicted", "low on memory")), is_going: false }
        "#);
    }
}
