//! Every enrolled cluster runs a healthy agent.

use crate::model::{Agent, Cluster, Snapshot};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::plan::{Change, Plan};
use crate::tags::TagKeys;

/// The EKS add-on without which no association works.
pub const AGENT_ADDON: &str = "eks-pod-identity-agent";

/// Plans the agent for every cluster in scope. With `announce`, a cluster that is
/// ready is announced at once, before its agent is: so its grants come before
/// its first pod.
pub fn plan_agents(snapshot: &Snapshot, keys: &TagKeys, announce: bool) -> Plan {
    let mut plan = Plan::default();
    for cluster in snapshot.clusters.values() {
        if !snapshot.scope.holds_cluster(&cluster.id) || !snapshot.is_readable(&cluster.id) {
            continue;
        }
        let finding = |kind, reason: String| Finding {
            kind,
            role: None,
            cluster: Some(cluster.id.clone()),
            workload: None,
            grant: None,
            reason,
        };
        if !cluster.is_enrolled(keys) {
            plan.findings.push(finding(FindingKind::ClusterOptedOut, cluster.opted_out(keys)));
        } else if cluster.status.is_on_its_way() {
            plan.waits.push(Wait {
                reason: format!("cluster {} is {}", cluster.id, cluster.status),
                follow_up: FollowUp::ClusterCreating { cluster: cluster.id.clone() },
            });
        } else if !cluster.status.is_ready() {
            plan.findings.push(finding(
                FindingKind::ClusterNotReady,
                format!("the cluster is {}; it gets no agent", cluster.status),
            ));
        } else {
            if announce {
                plan.changes.push(Change::AnnounceCluster { cluster: cluster.id.clone() });
            }
            match cluster.tag(keys, "agent") {
                None | Some("on") => plan_agent(snapshot, cluster, announce, &mut plan, finding),
                Some("off") => {}
                // Installing what someone wants gone, or misspelt, would be a guess.
                Some(other) => plan.findings.push(finding(
                    FindingKind::NotSupported,
                    format!(
                        "the cluster carries {} = {other}, and this version knows on and off: \
                         it neither installs nor removes the agent",
                        keys.key("agent")
                    ),
                )),
            }
        }
    }
    for cluster in &snapshot.clusters_gone {
        plan.findings.push(Finding {
            kind: FindingKind::NoSuchCluster,
            role: None,
            cluster: Some(cluster.clone()),
            workload: None,
            grant: None,
            reason: "EKS does not know the cluster any more".to_owned(),
        });
    }
    plan
}

fn plan_agent(
    snapshot: &Snapshot,
    cluster: &Cluster,
    announce: bool,
    plan: &mut Plan,
    finding: impl Fn(FindingKind, String) -> Finding,
) {
    let Some(Agent { version, status, issues }) = snapshot.agents.get(&cluster.id) else {
        match snapshot.agent_versions.get(&cluster.id) {
            Some(version) => plan
                .changes
                .push(Change::InstallAgent { cluster: cluster.id.clone(), version: version.clone() }),
            None => plan.findings.push(finding(
                FindingKind::AgentUnhealthy,
                format!("EKS has no version of {AGENT_ADDON} for Kubernetes {}", cluster.version),
            )),
        }
        return;
    };
    match status.as_str() {
        // Only a pass over one cluster has someone waiting for the news.
        "ACTIVE" if snapshot.scope.clusters.is_some() && !announce => {
            plan.changes
                .push(Change::AnnounceAgent { cluster: cluster.id.clone(), version: version.clone() });
        }
        "ACTIVE" => plan.unchanged += 1,
        "CREATING" | "UPDATING" | "DELETING" => plan.waits.push(Wait {
            reason: format!("the agent on {} is {status}", cluster.id),
            follow_up: FollowUp::AgentStarting { cluster: cluster.id.clone() },
        }),
        _ => {
            let issues = if issues.is_empty() { "EKS names no issue".to_owned() } else { issues.join("; ") };
            plan.findings.push(finding(
                FindingKind::AgentUnhealthy,
                format!("{AGENT_ADDON} {version} is {status}: {issues}"),
            ));
        }
    }
}
