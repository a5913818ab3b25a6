//! A real Kubernetes API server: that of `tests/local-kubernetes`, or a cluster of one's own
//! that `PODGRANT_TEST_KUBECONFIG` names (never the one that `KUBECONFIG` happens to).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use podgrant_core::model::KubernetesApi;
use serde_json::{Value, json};

use crate::local_aws::{bin, program, root, wait_for};

/// The agent's DaemonSet, as the add-on makes it.
pub const AGENT: &str = "eks-pod-identity-agent";
const NAMESPACE: &str = "kube-system";

/// Only nodes of tests carry it, so that on a cluster of one's own the agent goes to no other.
const OURS: (&str, &str) = ("podgrant.test/node", "yes");

/// How long the server or a controller may take: far more than it does.
const LIMIT: Duration = Duration::from_secs(90);

/// A running API server. Ours ends when dropped, or when this process does.
pub struct LocalKubernetes {
    config: Config,
    api: KubernetesApi,
    ours: Option<Ours>,
}

struct Ours {
    process: Child,
    folder: PathBuf,
    /// Where the token webhook is told who is who.
    control: String,
}

impl LocalKubernetes {
    /// Starts one, or takes the cluster that was named; `None` where there is neither. What `cargo xtask test`
    /// can't have it skips, and says so at its end.
    ///
    /// # Errors
    /// What did not start, and where its logs are.
    pub async fn start() -> Result<Option<Self>> {
        if let Some(kubeconfig) = std::env::var_os("PODGRANT_TEST_KUBECONFIG") {
            return Self::of(Path::new(&kubeconfig), None).await.map(Some);
        }
        let Some(binaries) = std::env::var_os("PODGRANT_KUBERNETES_BIN") else { return Ok(None) };
        let folder = root().join(format!("target/local-kubernetes/{}-{}", program()?, std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let state = folder.join("state.json");
        let log = std::fs::File::create(folder.join("local_kubernetes.log"))?;
        let mut process = Command::new(bin("python")?)
            .arg("-B")
            .arg(root().join("tests/local-kubernetes/local_kubernetes.py"))
            .arg("--bin")
            .arg(&binaries)
            .arg("--state")
            .arg(&state)
            .env("PODGRANT_EXIT_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting local_kubernetes.py")?;
        let ready = wait_for("the local Kubernetes to be ready", LIMIT, || {
            let ended = process.try_wait().ok().flatten();
            let text = std::fs::read_to_string(&state).ok();
            async move {
                match ended {
                    Some(status) => bail!("the local Kubernetes ended with {status}"),
                    None => Ok(text),
                }
            }
        })
        .await;
        let said = ready.with_context(|| format!("its logs are in {}", folder.display()))?;
        let said: Value = serde_json::from_str(&said)?;
        let text = |name: &str| said[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let ours = Ours { process, folder, control: text("control")? };
        Self::of(Path::new(&text("kubeconfig")?), Some(ours)).await.map(Some)
    }

    async fn of(kubeconfig: &Path, ours: Option<Ours>) -> Result<Self> {
        let read =
            Kubeconfig::read_from(kubeconfig).with_context(|| format!("reading {}", kubeconfig.display()))?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        let authorities = config.root_cert.iter().flatten();
        let pem: String =
            authorities.map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.clone()))).collect();
        let api = KubernetesApi {
            endpoint: config.cluster_url.to_string(),
            certificate_authority: STANDARD.encode(pem),
            public: true,
            takes_access_entries: true,
        };
        Ok(Self { config, api, ours })
    }

    /// A client of the caller's own: each lives and dies with a runtime, and each test has one.
    fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config.clone())?)
    }

    /// Where the server is, as EKS would tell it.
    pub fn api(&self) -> &KubernetesApi {
        &self.api
    }

    /// Whether it knows EKS's tokens: a cluster of one's own does not.
    pub fn knows_eks(&self) -> bool {
        self.ours.is_some()
    }

    /// Who gets in with an EKS token: see `PUT /identities` of the local Kubernetes.
    pub fn know(&self, identities: &Value) -> Result<()> {
        self.put("identities", identities)
    }

    /// Whom to ask who gets in: see `PUT /aws` of the local Kubernetes.
    pub fn ask_aws(&self, endpoint: &str, region: &str, cluster: &str) -> Result<()> {
        self.put("aws", &json!({"endpoint": endpoint, "region": region, "cluster": cluster}))
    }

    /// Who came with an EKS token, and whether they got in: see `GET /reviews` of the local Kubernetes.
    pub fn reviews(&self) -> Result<Vec<Value>> {
        let ours = self.ours.as_ref().context("a cluster of one's own knows no EKS tokens")?;
        let mut said: Value =
            ureq::get(&format!("{}/reviews", ours.control)).call()?.body_mut().read_json()?;
        match said["reviews"].take() {
            Value::Array(reviews) => Ok(reviews),
            other => bail!("/reviews answered {other}"),
        }
    }

    fn put(&self, what: &str, body: &Value) -> Result<()> {
        let ours = self.ours.as_ref().context("a cluster of one's own knows no EKS tokens")?;
        ureq::put(&format!("{}/{what}", ours.control)).send_json(body)?;
        Ok(())
    }

    /// Takes away what earlier tests left.
    pub async fn clear(&self) -> Result<()> {
        let agents: Api<DaemonSet> = Api::namespaced(self.client()?, NAMESPACE);
        let (gone, all) = (DeleteParams::foreground(), ListParams::default());
        let named = ListParams::default().fields(&format!("metadata.name={AGENT}"));
        agents.delete_collection(&gone, &named).await?;
        let of_the_agent = ListParams::default().labels(&format!("app={AGENT}"));
        let pods: Api<Pod> = Api::namespaced(self.client()?, NAMESPACE);
        let nodes: Api<Node> = Api::all(self.client()?);
        let of_tests = all.labels(&format!("{}={}", OURS.0, OURS.1));
        nodes.delete_collection(&DeleteParams::default(), &of_tests).await?;
        wait_for("the last test's agent to go", LIMIT, || async {
            // Without a kubelet nobody ends a pod gracefully.
            pods.delete_collection(&DeleteParams::default().grace_period(0), &of_the_agent).await?;
            let left = agents.list(&named).await?.items.len() + pods.list(&of_the_agent).await?.items.len();
            Ok((left == 0).then_some(()))
        })
        .await
    }

    /// A service account in a namespace of its own, with these annotations, in place of what was there.
    pub async fn add_account(&self, namespace: &str, name: &str, annotations: &Value) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client()?);
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        match namespaces.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made?),
        }
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let of_tests = ListParams::default().labels(&format!("{}={}", OURS.0, OURS.1));
        pods.delete_collection(&DeleteParams::default().grace_period(0), &of_tests).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "annotations": annotations},
        });
        accounts.patch(name, &PatchParams::apply("podgrant-tests").force(), &Patch::Apply(&account)).await?;
        Ok(())
    }

    /// A pod on a node, as a kubelet would have it running. EKS's webhook is not there: the pod has what its text says.
    pub async fn add_pod(&self, namespace: &str, name: &str, spec: &Value) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let pod = json!({"metadata": {"name": name, "labels": {OURS.0: OURS.1}}, "spec": spec});
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
        let running =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(running)).await?;
        Ok(())
    }

    /// Names of the pods and service accounts of a namespace that carry a label.
    pub async fn labelled(&self, namespace: &str, label: &str) -> Result<Vec<String>> {
        let marked = ListParams::default().labels(label);
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        let pods = pods.list(&marked).await?.items.into_iter().map(|pod| pod.metadata.name);
        let accounts = accounts.list(&marked).await?.items.into_iter().map(|account| account.metadata.name);
        Ok(pods.chain(accounts).flatten().collect())
    }

    /// Sets a pod's status, as its kubelet would.
    pub async fn report_pod(&self, namespace: &str, name: &str, status: &Value) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let patch = Patch::Merge(json!({"status": status}));
        pods.patch_status(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// A node that is ready, with these labels and taints (`key=value:effect`).
    pub async fn add_node(&self, name: &str, labels: &[(&str, &str)], taints: &[&str]) -> Result<()> {
        let all = [OURS, ("kubernetes.io/os", "linux")];
        let labels: BTreeMap<&str, &str> = all.iter().chain(labels).copied().collect();
        let taint = |written: &&str| {
            let (key, effect) = written.split_once(':').unwrap_or((written, "NoSchedule"));
            let (key, value) = key.split_once('=').unwrap_or((key, ""));
            json!({"key": key, "value": value, "effect": effect})
        };
        let taints: Value = taints.iter().map(taint).collect();
        let nodes: Api<Node> = Api::all(self.client()?);
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
        // Admission adds the taint "not ready", that a kubelet's report would take away.
        let merge = |patch: Value| Patch::Merge(patch);
        nodes.patch(name, &PatchParams::default(), &merge(json!({"spec": {"taints": taints}}))).await?;
        self.set_node_ready(name, true).await
    }

    pub async fn set_node_ready(&self, name: &str, ready: bool) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client()?);
        let status = if ready { "True" } else { "Unknown" };
        let patch = json!({"status": {"conditions": [{"type": "Ready", "status": status}]}});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The agent's DaemonSet, with these tolerations; the real controller makes its pods.
    pub async fn add_agent(&self, tolerations: &Value) -> Result<()> {
        let labels = json!({"app.kubernetes.io/name": AGENT, "app": AGENT});
        let daemon_set = json!({
            "metadata": {"name": AGENT, "labels": labels},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "nodeSelector": {OURS.0: OURS.1},
                        "tolerations": tolerations,
                        "containers": [{"name": AGENT, "image": "registry.example/agent:none"}],
                    },
                },
            },
        });
        let agents: Api<DaemonSet> = Api::namespaced(self.client()?, NAMESPACE);
        agents.create(&PostParams::default(), &serde_json::from_value(daemon_set)?).await?;
        Ok(())
    }

    /// Service accounts, in a namespace that is made where it is not there.
    pub async fn add_accounts(&self, namespace: &str, names: &[&str]) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client()?);
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        match namespaces.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made?),
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        for name in names {
            let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            accounts.create(&PostParams::default(), &object).await?;
        }
        Ok(())
    }

    pub async fn remove_account(&self, namespace: &str, name: &str) -> Result<()> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, namespace);
        accounts.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Takes a namespace away with all that is in it.
    pub async fn remove_namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client()?);
        namespaces.delete(name, &DeleteParams::default()).await?;
        wait_for(&format!("namespace {name} to go"), LIMIT, || async {
            Ok(namespaces.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Waits until the controller has made so many pods, and reports them in the kubelets' place:
    /// those of these nodes with this status, as `Pod.status` has it.
    pub async fn report_pods(&self, count: usize, nodes: &[&str], status: &Value) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, NAMESPACE);
        let of_the_agent = ListParams::default().labels(&format!("app={AGENT}"));
        let made = wait_for(&format!("{count} pods"), LIMIT, || async {
            let made = pods.list(&of_the_agent).await?.items;
            Ok((made.len() == count).then_some(made))
        })
        .await?;
        for pod in made {
            let node = serde_json::to_value(&pod.spec)?.to_string();
            let name = pod.metadata.name.context("a pod without a name")?;
            if nodes.iter().any(|wanted| node.contains(&format!("\"{wanted}\""))) {
                let patch = Patch::Merge(json!({"status": status}));
                pods.patch_status(&name, &PatchParams::default(), &patch).await?;
            }
        }
        Ok(())
    }

    /// Waits until the controller counts so many ready pods, of so many that it wants.
    pub async fn counted(&self, ready: i32, desired: i32) -> Result<()> {
        let agents: Api<DaemonSet> = Api::namespaced(self.client()?, NAMESPACE);
        wait_for(&format!("{ready} of {desired} pods counted"), LIMIT, || async {
            let status = agents.get(AGENT).await?.status.unwrap_or_default();
            let seen = (status.number_ready, status.desired_number_scheduled);
            Ok((seen == (ready, desired) && status.observed_generation == Some(1)).then_some(()))
        })
        .await
    }

    /// Applies a file of the repository, as `kubectl apply` would.
    pub async fn apply(&self, file: &str) -> Result<()> {
        for (resource, object) in documents(file)? {
            let api: Api<DynamicObject> = Api::all_with(self.client()?, &resource);
            let name = object.metadata.name.clone().context("an object without a name")?;
            api.patch(&name, &PatchParams::apply("podgrant-tests").force(), &Patch::Apply(&object)).await?;
        }
        Ok(())
    }

    /// Makes an object of a namespace, or brings it to this.
    pub async fn put_object(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api_of(object)?;
        api.patch(&name, &PatchParams::apply("podgrant-tests").force(), &Patch::Apply(object)).await?;
        Ok(())
    }

    /// Brings an object's status to this, in its controller's place.
    pub async fn report(&self, object: &Value, status: &Value) -> Result<()> {
        let (api, name) = self.api_of(object)?;
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// An object as it stands.
    pub async fn object(&self, object: &Value) -> Result<Value> {
        let (api, name) = self.api_of(object)?;
        Ok(serde_json::to_value(api.get(&name).await?)?)
    }

    fn api_of(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let read: DynamicObject = serde_json::from_value(object.clone())?;
        let kind = GroupVersionKind::try_from(&read.types.context("an object without a kind")?)?;
        let namespace = read.metadata.namespace.context("an object without a namespace")?;
        let api = Api::namespaced_with(self.client()?, &namespace, &ApiResource::from_gvk(&kind));
        Ok((api, read.metadata.name.context("an object without a name")?))
    }

    /// Waits until a namespace has so many pods, all of them of this template's annotation where one is named, and reports
    /// them ready in the kubelets' place.
    pub async fn run_pods(&self, namespace: &str, count: usize, annotation: Option<&str>) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.client()?, namespace);
        let ready =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        wait_for(&format!("{count} pods in {namespace}"), LIMIT, || async {
            let found = pods.list(&ListParams::default()).await?.items;
            for pod in &found {
                let name = pod.metadata.name.clone().unwrap_or_default();
                match pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ready)).await {
                    // It went meanwhile.
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    reported => drop(reported?),
                }
            }
            let is_wanted = |pod: &Pod| {
                let annotations = pod.metadata.annotations.as_ref();
                annotation.is_none_or(|wanted| annotations.is_some_and(|known| known.contains_key(wanted)))
            };
            Ok((found.len() == count && found.iter().all(is_wanted)).then_some(()))
        })
        .await
    }

    /// Takes away what [`apply`](Self::apply) made, if it is there.
    pub async fn unapply(&self, file: &str) -> Result<()> {
        for (resource, object) in documents(file)? {
            let api: Api<DynamicObject> = Api::all_with(self.client()?, &resource);
            let name = object.metadata.name.clone().context("an object without a name")?;
            match api.delete(&name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                gone => drop(gone?),
            }
        }
        Ok(())
    }

    /// A service account's token, whatever the account may do: for servers that know no EKS tokens.
    pub async fn token_of(&self, account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client()?, NAMESPACE);
        let object = serde_json::from_value(json!({"metadata": {"name": account}}))?;
        match accounts.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made?),
        }
        let asked: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}}))?;
        let given = accounts.create_token_request(account, &PostParams::default(), &asked).await?;
        Ok(given.status.context("no token")?.token)
    }

    /// Lets a service account view the agent's namespace, and nothing else.
    pub async fn let_view(&self, account: &str) -> Result<()> {
        let kind = GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", "RoleBinding");
        let bindings: Api<DynamicObject> =
            Api::namespaced_with(self.client()?, NAMESPACE, &ApiResource::from_gvk(&kind));
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{account}-views")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
        });
        let name = format!("{account}-views");
        bindings.patch(&name, &PatchParams::apply("podgrant-tests").force(), &Patch::Apply(&binding)).await?;
        Ok(())
    }
}

fn documents(file: &str) -> Result<Vec<(ApiResource, DynamicObject)>> {
    let text = std::fs::read_to_string(root().join(file)).with_context(|| format!("reading {file}"))?;
    text.split("\n---\n")
        .map(|document| {
            let object: DynamicObject = serde_saphyr::from_str(document)?;
            let types = object.types.clone().with_context(|| format!("{file}: an object without a kind"))?;
            Ok((ApiResource::from_gvk(&GroupVersionKind::try_from(&types)?), object))
        })
        .collect()
}

impl Drop for LocalKubernetes {
    fn drop(&mut self) {
        let Some(ours) = &mut self.ours else { return };
        // Closing its input is its sign to end, with all that it started.
        drop(ours.process.stdin.take());
        let _ = ours.process.wait();
        let _ = std::fs::remove_dir_all(&ours.folder);
    }
}
