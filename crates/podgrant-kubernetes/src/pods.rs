//! From Kubernetes' pods to what matters for credentials: of variables their names, and few values.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use podgrant_core::explain::evidence::{Container, NodeKind, Owner, Pod, VARIABLES};

/// Whom the token must be for (amazon-eks-pod-identity-webhook, its default `container-credentials-audience`).
const AUDIENCE: &str = "pods.eks.amazonaws.com";

/// Containers that EKS's webhook leaves alone, parted by commas (amazon-eks-pod-identity-webhook, README).
const SKIP: &str = "eks.amazonaws.com/skip-containers";

/// The profile by which a pod came to Fargate.
pub(crate) const FARGATE: &str = "eks.amazonaws.com/fargate-profile";

/// What the agent holds on the host: its own port and its probe's (chart of aws/eks-pod-identity-agent).
const AGENT_PORTS: [i32; 2] = [80, 2703];

/// What of a pod matters for credentials.
pub(crate) fn read(pod: v1::Pod) -> Pod {
    let metadata = pod.metadata;
    let spec = pod.spec.unwrap_or_default();
    let skipped = metadata.annotations.as_ref().and_then(|annotations| annotations.get(SKIP));
    let skipped: BTreeSet<&str> = skipped
        .into_iter()
        .flat_map(|names| names.split(','))
        .map(|name| name.trim().trim_matches('"'))
        .collect();
    let owner = owner_of(&metadata);
    let runs_on = runs_on(&metadata, &spec);
    Pod {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        account: spec
            .service_account_name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        node: spec.node_name.filter(|name| !name.is_empty()),
        is_ending: metadata.deletion_timestamp.is_some(),
        created_at: metadata.creation_timestamp.map(|at| at.0.as_second()),
        host_network: spec.host_network.unwrap_or(false),
        owner,
        runs_on,
        has_token: spec.volumes.iter().flatten().any(has_token),
        containers: spec.containers.iter().map(|container| read_container(container, &skipped)).collect(),
    }
}

/// Whoever keeps an object.
pub(crate) fn owner_of(metadata: &ObjectMeta) -> Option<Owner> {
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    Some(Owner { group: group.to_owned(), kind: owner.kind.clone(), name: owner.name.clone() })
}

/// Fargate labels its pods (EKS user guide, "Define which Pods use AWS Fargate when launched"); Windows is asked for.
fn runs_on(metadata: &ObjectMeta, spec: &v1::PodSpec) -> Option<NodeKind> {
    if metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(FARGATE)) {
        return Some(NodeKind::Fargate);
    }
    let asked = spec.node_selector.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    let told = spec.os.as_ref().map(|os| os.name.as_str());
    (told == Some("windows") || asked.is_some_and(|os| os == "windows")).then_some(NodeKind::Windows)
}

fn has_token(volume: &v1::Volume) -> bool {
    let projected = volume.projected.iter().filter_map(|projected| projected.sources.as_ref()).flatten();
    projected
        .filter_map(|source| source.service_account_token.as_ref())
        .any(|token| token.audience.as_deref() == Some(AUDIENCE))
}

fn read_container(container: &v1::Container, skipped: &BTreeSet<&str>) -> Container {
    let variables = container.env.iter().flatten().filter_map(|variable| {
        let (name, is_told) = VARIABLES.iter().find(|(name, _)| *name == variable.name)?;
        Some((*name, variable.value.clone().filter(|_| *is_told && variable.value_from.is_none())))
    });
    Container {
        name: container.name.clone(),
        variables: variables.collect(),
        takes_more: container.env_from.as_ref().is_some_and(|sources| !sources.is_empty()),
        is_skipped: skipped.contains(container.name.as_str()),
    }
}

/// Which of the agent's ports a pod holds on its host.
pub(crate) fn held_ports(pod: &v1::Pod) -> BTreeSet<i32> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let on_host = spec.host_network.unwrap_or(false);
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = containers.filter_map(|container| container.ports.as_ref()).flatten();
    // On the host's network every port is the host's, said or not.
    let held = ports.filter_map(|port| port.host_port.or(on_host.then_some(port.container_port)));
    held.filter(|port| AGENT_PORTS.contains(port)).collect()
}

/// Whether its containers have ended, or are about to.
pub(crate) fn is_over(pod: &v1::Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() || has_ended(pod)
}

/// Whether its containers have ended.
pub(crate) fn has_ended(pod: &v1::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> v1::Pod {
        serde_json::from_value(json!({"metadata": {"name": "api-1", "namespace": "payments"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn values_that_may_be_secret_are_not_kept() {
        let env = json!([
            {"name": "AWS_ACCESS_KEY_ID", "value": "AKIDSECRET"},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "SECRET"},
            {"name": "HTTP_PROXY", "value": "http://user:SECRET@proxy.example"},
            {"name": "NO_PROXY", "value": "10.0.0.0/8"},
            {"name": "AWS_PROFILE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "DATABASE_PASSWORD", "value": "SECRET"},
        ]);
        let read = read(pod(&json!({"containers": [{"name": "app", "env": env}]})));
        let shown = format!("{read:?}");
        assert!(!shown.contains("SECRET") && !shown.contains("DATABASE"), "{shown}");
        insta::assert_snapshot!(format!("{:?}", read.containers[0].variables), @r#"{"AWS_ACCESS_KEY_ID": None, "AWS_PROFILE": None, "HTTP_PROXY": None, "NO_PROXY": Some("10.0.0.0/8")}"#);
    }

    #[test]
    fn ports_are_held_by_name_or_by_the_hosts_network() {
        let held = |spec: &Value| held_ports(&pod(spec)).into_iter().collect::<Vec<_>>();
        let ports = |ports: Value| json!({"containers": [{"name": "a", "ports": ports}]});
        assert_eq!(held(&ports(json!([{"containerPort": 8080, "hostPort": 80}]))), [80]);
        assert_eq!(held(&ports(json!([{"containerPort": 80}]))), [0; 0]);
        assert_eq!(held(&ports(json!([{"containerPort": 80, "hostPort": 8080}]))), [0; 0]);
        let mut host = ports(json!([{"containerPort": 80}, {"containerPort": 2703}, {"containerPort": 443}]));
        host["hostNetwork"] = json!(true);
        assert_eq!(held(&host), [80, 2703]);
    }
}
