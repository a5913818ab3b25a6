//! What is to be done for one service account, in the order that loses no access.

use super::{ANNOTATION, ANNOTATION_CAUTION, Reach, Sight, Step, StepKind, asks, oidc_statements, trusts};
use crate::explain::evidence::{FULL_URI, Pod};
use crate::model::{Association, Cluster, Role};
use crate::names::Workload;
use crate::restart::is_by_irsa;
use crate::tags::{RoleTags, TagKeys};

/// Whether a container of a pod was given what asks the agent.
pub fn has_variables(pod: &Pod) -> bool {
    pod.containers.iter().any(|container| container.has(FULL_URI))
}

/// Whether a pod is to be made anew for IRSA: it was given what goes before that, or nothing.
pub fn lacks_irsa(pod: &Pod) -> bool {
    let is_left_out =
        !pod.containers.is_empty() && pod.containers.iter().all(|container| container.is_skipped);
    has_variables(pod) || (!is_by_irsa(pod) && !is_left_out)
}

/// Whether a pod was given what asks the agent, whole and alone.
fn is_given(pod: &Pod) -> bool {
    pod.has_token && pod.containers.iter().all(|container| container.has(FULL_URI)) && !is_by_irsa(pod)
}

pub(super) fn steps(
    sight: &Sight,
    (role, standing, pods): (&Role, Option<&Association>, &[Pod]),
    cluster: &Cluster,
    keys: &TagKeys,
) -> Vec<Step> {
    let workload = &sight.annotated.workload;
    let name = role.arn.role_name();
    let place = format!("{workload}@{}", cluster.id);
    let step = |kind, done, told: String, command: String| Step { kind, done, told, caution: "", command };
    let (tags, _) = RoleTags::parse(keys, &role.tags);
    let trusts = trusts(role, cluster, workload, keys);
    let mut steps = vec![step(
        StepKind::Trust,
        trusts || tags.manage_trust,
        if trusts {
            "the trust policy lets Pod Identity assume the role".to_owned()
        } else {
            let is_let = if tags.manage_trust { "the role lets" } else { "let" };
            format!("{is_let} podgrant add to the trust policy what it lacks")
        },
        format!("aws iam tag-role --role-name {name} --tags Key={},Value=manage", keys.key("trust")),
    )];
    let by_others = standing.is_some_and(|standing| standing.managed().is_none());
    let asks = asks(role, cluster, workload, keys);
    steps.push(step(
        StepKind::Tag,
        asks || by_others,
        match (asks, by_others) {
            (true, _) => "the role's tag asks for the place".to_owned(),
            (false, true) => "somebody else made the association: no tag is needed".to_owned(),
            (false, false) => "ask for the place by the role's tag".to_owned(),
        },
        format!("podgrant grant {name} {place}"),
    ));
    let stands = standing.is_some() && trusts;
    steps.push(step(
        StepKind::Association,
        stands,
        if stands {
            "the association stands, and the trust policy allows it".to_owned()
        } else {
            "mend the trust policy, and make the association after it".to_owned()
        },
        format!("podgrant apply --role {name}"),
    ));
    steps.push(restart(standing.is_some(), pods, cluster, workload));
    steps.push(annotation(workload, sight.is_annotated));
    steps.push(statement(role, cluster, workload));
    steps
}

pub(super) fn restart(stands: bool, pods: &[Pod], cluster: &Cluster, workload: &Workload) -> Step {
    let running = || pods.iter().filter(|pod| !pod.is_ending);
    let (given, all) = (running().filter(|pod| is_given(pod)).count(), running().count());
    // Their credentials are renewed by IRSA until they end.
    let ending = pods.iter().filter(|pod| pod.is_ending && is_by_irsa(pod)).count();
    let told = format!("{given} of {all} pods have Pod Identity's variables");
    let restart = format!("podgrant restart {workload}@{} --apply --wait", cluster.id);
    Step {
        kind: StepKind::Restart,
        done: stands && given == all && ending == 0,
        told: if ending > 0 { format!("{told}; {ending} with IRSA's are still ending") } else { told },
        caution: "",
        command: if given < all || !stands { restart } else { String::new() },
    }
}

pub(super) fn annotation(workload: &Workload, stands: bool) -> Step {
    let told = match stands {
        true => {
            "take the annotation out where it is written (chart, manifest), for this cluster alone, or it comes back"
        }
        false => "the annotation is gone",
    };
    Step {
        kind: StepKind::Annotation,
        done: !stands,
        told: told.to_owned(),
        caution: ANNOTATION_CAUTION,
        command: format!(
            "kubectl --namespace {} annotate serviceaccount {} {ANNOTATION}-",
            workload.namespace, workload.service_account
        ),
    }
}

pub(super) fn statement(role: &Role, cluster: &Cluster, workload: &Workload) -> Step {
    let found = oidc_statements(&role.trust_policy, cluster.oidc_issuer.as_deref(), workload);
    let of = |reach| {
        let of_it = found.iter().filter(|statement| statement.reach == reach);
        of_it.map(|statement| statement.name.as_str()).collect::<Vec<_>>()
    };
    let (alone, wider) = (of(Reach::Alone), of(Reach::Wider));
    let are = |names: &[&str]| if names.len() == 1 { "it is" } else { "they are" };
    let mut told = Vec::new();
    if !alone.is_empty() {
        let (names, are) = (alone.join(" and "), are(&alone));
        told.push(format!(
            "last, take {names} of the trust policy away: {are} for this service account alone"
        ));
    }
    if !wider.is_empty() {
        let why = match cluster.oidc_issuer {
            Some(_) => format!("{} for others too", are(&wider)),
            None => "the cluster tells no OIDC issuer, and whose it is can't be seen".to_owned(),
        };
        told.push(format!("leave {} of the trust policy: {why}", wider.join(" and ")));
    }
    if found.is_empty() {
        told.push("the trust policy has no statement for it by this cluster's OIDC provider".to_owned());
    }
    Step {
        kind: StepKind::Statement,
        done: alone.is_empty(),
        told: told.join("; "),
        caution: "",
        command: String::new(),
    }
}
