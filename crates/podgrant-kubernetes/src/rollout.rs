//! What is rolled, and the rolling: the only writes to a cluster, by hand and with that person's rights.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use podgrant_core::Workload;
use podgrant_core::agent::pods::KubernetesAccess;
use podgrant_core::explain::evidence::{Pod, Read};
use podgrant_core::migrate::{ANNOTATION, Annotated};
use podgrant_core::restart::{
    Budget, Controller, Counts, Expression, Object, ObjectRef, RESTARTED_AT, Selector, Strategy,
};
use podgrant_core::written::{Unwritten, Written};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::pods::{has_ended, owner_of, read};
use crate::workload::{Look, PAGE, TO_VIEW, connected};
use crate::{ALL, each_page, if_there, innermost, shortened};

/// Objects asked for side by side.
const AT_ONCE: usize = 6;

/// Kubernetes knows by it who set which field.
const MANAGER: &str = "podgrant";

/// The pods that use these service accounts, `namespace/name` each, those that are ending too: a page of a namespace for one account, else pages of
/// the whole cluster.
pub fn pods_of_accounts(
    access: KubernetesAccess,
    accounts: BTreeSet<String>,
) -> BoxFuture<'static, Read<Vec<Pod>>> {
    async move {
        let look = Look { access: &access, client: connected(&access)? };
        let mut one = accounts.iter();
        match (one.next().and_then(|account| account.split_once('/')), one.next()) {
            (None, _) => Ok(Vec::new()),
            (Some((namespace, account)), None) => {
                let pods: Api<v1::Pod> = Api::namespaced(look.client.clone(), namespace);
                let using = ListParams::default().fields(&format!("spec.serviceAccountName={account}"));
                let mut seen = Vec::new();
                let keep = |pod: v1::Pod| seen.extend((!has_ended(&pod)).then(|| read(pod)));
                look.ask(TO_VIEW, each_page(&pods, using.limit(PAGE), keep)).await?;
                Ok(seen)
            }
            _ => look.pods_of_accounts(&accounts).await,
        }
    }
    .boxed()
}

/// The service accounts of a cluster that have IRSA's annotation: a request for each page of them.
pub fn annotated(access: KubernetesAccess) -> BoxFuture<'static, Read<Vec<Annotated>>> {
    async move {
        let look = Look { access: &access, client: connected(&access)? };
        let accounts: Api<v1::ServiceAccount> = Api::all(look.client.clone());
        let mut seen = Vec::new();
        let keep = |account: v1::ServiceAccount| seen.extend(annotation_of(account.metadata));
        look.ask(TO_VIEW, each_page(&accounts, ListParams::default().limit(PAGE), keep)).await?;
        Ok(seen)
    }
    .boxed()
}

/// None where it has none, or a name that Kubernetes would not take.
fn annotation_of(metadata: ObjectMeta) -> Option<Annotated> {
    let role = metadata.annotations?.remove(ANNOTATION)?;
    let namespace = metadata.namespace?.parse().ok()?;
    let service_account = metadata.name?.parse().ok()?;
    Some(Annotated { workload: Workload { namespace, service_account }, role })
}

/// Objects that keep pods: of ReplicaSets and Jobs who keeps them, of what is rolled how. None where there is none of
/// that name.
pub fn objects(
    access: KubernetesAccess,
    wanted: BTreeSet<ObjectRef>,
) -> BoxFuture<'static, BTreeMap<ObjectRef, Read<Option<Object>>>> {
    async move {
        let client = connected(&access);
        let (access, client) = (&access, &client);
        let asked = stream::iter(wanted).map(|wanted| async move {
            let object = match client {
                Ok(client) => Look { access, client: client.clone() }.object(&wanted).await,
                Err(why) => Err(why.clone()),
            };
            (wanted, object)
        });
        asked.buffer_unordered(AT_ONCE).collect().await
    }
    .boxed()
}

/// A namespace's PodDisruptionBudgets.
pub fn budgets(access: KubernetesAccess, namespace: String) -> BoxFuture<'static, Read<Vec<Budget>>> {
    async move {
        let look = Look { access: &access, client: connected(&access)? };
        // Kubernetes before 1.21, which Pod Identity does not work on, and tests do.
        for version in ["v1", "v1beta1"] {
            let kind = GroupVersionKind::gvk("policy", version, "PodDisruptionBudget");
            let api: Api<DynamicObject> =
                Api::namespaced_with(look.client.clone(), &namespace, &ApiResource::from_gvk(&kind));
            let mut budgets = Vec::new();
            let keep = |budget: DynamicObject| budgets.push(budget_of(&budget));
            let listed =
                async { unless_unknown(each_page(&api, ListParams::default().limit(PAGE), keep).await) };
            if look.ask(TO_VIEW, listed).await?.is_some() {
                return Ok(budgets);
            }
        }
        Err("the cluster knows no PodDisruptionBudgets".to_owned())
    }
    .boxed()
}

/// Has the pods of a Deployment, StatefulSet or DaemonSet made anew, as `kubectl rollout restart` does (kubectl,
/// `objectrestarter.go`): its template gets an annotation with this moment. Refused where it is no longer as it was when it was read.
pub fn roll(
    access: KubernetesAccess,
    object: ObjectRef,
    moment: String,
    resource_version: String,
) -> BoxFuture<'static, Result<Written, Unwritten>> {
    async move {
        let client = connected(&access).map_err(Unwritten::NotSent)?;
        let patch = json!({
            "metadata": {"resourceVersion": resource_version},
            "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: moment}}}},
        });
        let (namespace, name) = (object.namespace.as_str(), object.owner.name.as_str());
        match (object.is_rolled(), object.owner.kind.as_str()) {
            (true, "Deployment") => {
                write::<Deployment>(Api::namespaced(client, namespace), name, patch).await
            }
            (true, "StatefulSet") => {
                write::<StatefulSet>(Api::namespaced(client, namespace), name, patch).await
            }
            (true, "DaemonSet") => write::<DaemonSet>(Api::namespaced(client, namespace), name, patch).await,
            _ => Err(Unwritten::NotSent(format!("{object} is not rolled by its template"))),
        }
    }
    .boxed()
}

/// Gives a service account another role by annotation (IRSA), or none, where it has `before`, or none.
pub fn annotate(
    access: KubernetesAccess,
    account: Workload,
    before: Option<String>,
    after: Option<String>,
) -> BoxFuture<'static, Result<Written, Unwritten>> {
    async move {
        let look = Look { access: &access, client: connected(&access).map_err(Unwritten::NotSent)? };
        let accounts: Api<v1::ServiceAccount> =
            Api::namespaced(look.client.clone(), account.namespace.as_str());
        let name = account.service_account.as_str();
        let found = look.ask(TO_VIEW, async { if_there(accounts.get_metadata(name).await) }).await;
        let Some(found) = found.map_err(Unwritten::NotSent)? else { return Ok(Written::Gone) };
        let stands = found.metadata.annotations.and_then(|mut annotations| annotations.remove(ANNOTATION));
        if stands == after {
            return Ok(Written::Done(found.metadata.generation.unwrap_or_default()));
        }
        if stands != before {
            let is = stands.map_or_else(|| "none".to_owned(), |role| format!("with {role}"));
            return Err(Unwritten::Refused(format!("its annotation is another by now: {is}")));
        }
        let patch = json!({
            "metadata": {
                "resourceVersion": found.metadata.resource_version,
                // Null takes it away.
                "annotations": {ANNOTATION: after},
            },
        });
        write(accounts, name, patch).await
    }
    .boxed()
}

/// Patches an object, and says what came of it.
pub(crate) async fn write<K>(api: Api<K>, name: &str, patch: Value) -> Result<Written, Unwritten>
where
    K: Clone + Debug + DeserializeOwned + kube::Resource,
{
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Strategic(patch);
    let answer = match tokio::time::timeout(ALL, api.patch(name, &params, &patch)).await {
        Ok(answer) => answer,
        Err(_) => {
            return Err(Unwritten::Unsure(format!(
                "the cluster's Kubernetes API did not answer within {} s",
                ALL.as_secs()
            )));
        }
    };
    match answer {
        Ok(object) => Ok(Written::Done(object.meta().generation.unwrap_or_default())),
        Err(kube::Error::Api(status)) => match (status.code, status.reason.as_str()) {
            // Anybody may answer so; only Kubernetes gives that reason.
            (409, "Conflict") => Ok(Written::Changed),
            (404, "NotFound") => Ok(Written::Gone),
            (code, _) if is_policy(&status.message) => Err(Unwritten::Refused(format!(
                "an admission policy of the cluster said no ({code}): {}",
                shortened(&status.message)
            ))),
            (401 | 403, _) => Err(Unwritten::Refused(format!(
                "the cluster's Kubernetes API refused you ({}: {}); an access entry with AmazonEKSEditPolicy on the \
                 cluster would allow it",
                status.code,
                shortened(&status.message)
            ))),
            (code, reason) => {
                let why =
                    format!("the cluster's Kubernetes API answered {code}: {}", shortened(&status.message));
                // A quota, a webhook, a value that is not taken: it was not done.
                let is_no = matches!(reason, "BadRequest" | "Invalid" | "TooManyRequests");
                Err(if is_no { Unwritten::Refused(why) } else { Unwritten::Unsure(why) })
            }
        },
        Err(other) => Err(Unwritten::Unsure(format!(
            "the cluster's Kubernetes API could not be reached: {}",
            innermost(&other)
        ))),
    }
}

/// Whether an admission webhook or policy said no, as Kubernetes words it (apiserver, `webhook/errors/statuserror.go`,
/// `policy/validating/dispatcher.go`). Code and reason are whatever it gave.
fn is_policy(message: &str) -> bool {
    (message.starts_with("admission webhook ") && message.contains("denied the request"))
        || (message.contains("ValidatingAdmissionPolicy '") && message.contains("denied request"))
}

/// None where Kubernetes has no such kind of thing.
fn unless_unknown<T>(answer: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        answer => answer.map(Some),
    }
}

impl Look<'_> {
    async fn object(&self, wanted: &ObjectRef) -> Read<Option<Object>> {
        let owner = &wanted.owner;
        match (owner.group.as_str(), owner.kind.as_str()) {
            ("apps", "ReplicaSet") => self.kept(wanted, |set: ReplicaSet| owned(&set.metadata)).await,
            ("batch", "Job") => self.kept(wanted, |job: Job| owned(&job.metadata)).await,
            ("apps", "Deployment") => self.kept(wanted, deployment).await,
            ("apps", "StatefulSet") => self.kept(wanted, stateful_set).await,
            ("apps", "DaemonSet") => self.kept(wanted, daemon_set).await,
            _ => Err(format!("{} is not looked at", owner.kind)),
        }
    }

    async fn kept<K>(&self, wanted: &ObjectRef, read: impl FnOnce(K) -> Object) -> Read<Option<Object>>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
        K: Clone + Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &wanted.namespace);
        let found = self.ask(TO_VIEW, async { if_there(api.get(&wanted.owner.name).await) }).await?;
        Ok(found.map(read))
    }
}

fn owned(metadata: &ObjectMeta) -> Object {
    Object { owner: owner_of(metadata), controller: None }
}

/// What the three have in common.
fn object(metadata: &ObjectMeta, template: &v1::PodTemplateSpec, controller: Controller) -> Object {
    let of_template = template.metadata.clone().unwrap_or_default();
    let restarted_at = of_template.annotations.and_then(|mut annotations| annotations.remove(RESTARTED_AT));
    let controller = Controller {
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        labels: of_template.labels.unwrap_or_default(),
        restarted_at,
        ..controller
    };
    Object { controller: Some(controller), ..owned(metadata) }
}

fn controller(observed: Option<i64>, strategy: Strategy, counts: Counts) -> Controller {
    Controller {
        resource_version: String::new(),
        generation: 0,
        observed: observed.unwrap_or_default(),
        strategy,
        labels: BTreeMap::new(),
        restarted_at: None,
        counts,
        is_stuck: false,
        is_ordered: false,
    }
}

fn deployment(found: Deployment) -> Object {
    let (spec, status) = (found.spec.unwrap_or_default(), found.status.unwrap_or_default());
    let kind = spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    let strategy = match kind {
        _ if spec.paused == Some(true) => Strategy::Paused,
        Some("Recreate") => Strategy::AllAtOnce,
        _ => Strategy::Rolling,
    };
    let counts = Counts {
        desired: spec.replicas.unwrap_or(1),
        all: status.replicas.unwrap_or_default(),
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.available_replicas.unwrap_or_default(),
    };
    let is_stuck = status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    let seen = Controller { is_stuck, ..controller(status.observed_generation, strategy, counts) };
    object(&found.metadata, &spec.template, seen)
}

fn stateful_set(found: StatefulSet) -> Object {
    let (spec, status) = (found.spec.unwrap_or_default(), found.status.unwrap_or_default());
    let update = spec.update_strategy.unwrap_or_default();
    let partition = update.rolling_update.and_then(|rolling| rolling.partition).unwrap_or_default();
    let strategy = match update.type_.as_deref() {
        Some("OnDelete") => Strategy::OnDelete,
        _ if partition > 0 => Strategy::From(partition),
        _ => Strategy::Rolling,
    };
    let counts = Counts {
        desired: spec.replicas.unwrap_or(1),
        all: status.replicas,
        updated: status.updated_replicas.unwrap_or_default(),
        available: status.ready_replicas.unwrap_or_default(),
    };
    let seen = Controller {
        is_ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
        ..controller(status.observed_generation, strategy, counts)
    };
    object(&found.metadata, &spec.template, seen)
}

fn daemon_set(found: DaemonSet) -> Object {
    let (spec, status) = (found.spec.unwrap_or_default(), found.status.unwrap_or_default());
    let kind = spec.update_strategy.and_then(|strategy| strategy.type_);
    let strategy = if kind.as_deref() == Some("OnDelete") { Strategy::OnDelete } else { Strategy::Rolling };
    let updated = status.updated_number_scheduled.unwrap_or_default();
    let counts = Counts {
        desired: status.desired_number_scheduled,
        // Former pods are not counted by themselves.
        all: updated,
        updated,
        available: status.number_available.unwrap_or_default(),
    };
    object(&found.metadata, &spec.template, controller(status.observed_generation, strategy, counts))
}

fn budget_of(budget: &DynamicObject) -> Budget {
    let status = budget.data.get("status");
    let number = |name: &str| status.and_then(|status| status.get(name)).and_then(Value::as_i64);
    let small = |name: &str| number(name).and_then(|number| i32::try_from(number).ok()).unwrap_or_default();
    let selector = budget.data.get("spec").and_then(|spec| spec.get("selector"));
    let selector =
        selector.and_then(|selector| serde_json::from_value::<LabelSelector>(selector.clone()).ok());
    let observed = number("observedGeneration").unwrap_or_default();
    Budget {
        name: budget.metadata.name.clone().unwrap_or_default(),
        selector: selector.map(selector_of),
        allowed: small("disruptionsAllowed"),
        is_current: observed >= budget.metadata.generation.unwrap_or_default(),
        healthy: small("currentHealthy"),
        wanted: small("desiredHealthy"),
    }
}

fn selector_of(selector: LabelSelector) -> Selector {
    let expressions = selector.match_expressions.into_iter().flatten().map(|expression| Expression {
        key: expression.key,
        operator: expression.operator,
        values: expression.values.into_iter().flatten().collect(),
    });
    Selector { labels: selector.match_labels.unwrap_or_default(), expressions: expressions.collect() }
}
