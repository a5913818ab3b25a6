//! What each cluster should have, so that each can be looked at by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::grants::{Asking, manage_trust, role_findings, targets};
use super::{Change, Plan};
use crate::guardrails::Guardrails;
use crate::model::{Cluster, Role, Snapshot};
use crate::names::{ClusterId, Region, Workload};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::sweep::{Claimant, Round, SweepPart, carried, stretches};
use crate::tags::{Grant, TagKeys};

/// Plans a sweep over the fleet: what is to be said of the roles themselves, and for each enrolled cluster a part or
/// several to be served by whoever takes them from the queue.
///
/// Of the clusters a snapshot needs to know names, and tags where any grant selects by them.
pub fn plan_sweep(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    round: Option<Round>,
    part_bytes: usize,
) -> Plan {
    let mut plan = Plan::default();
    // A role that means every cluster has a claim on each: kept once, and told by its number.
    let mut claims: Vec<(Grant, Claimant)> = Vec::new();
    let mut claimed: BTreeMap<&ClusterId, Vec<usize>> = BTreeMap::new();
    for role in snapshot.roles.values() {
        let mut asking = Asking::new(role, keys, guardrails);
        let amended = manage_trust(snapshot, keys, guardrails, None, &mut asking);
        // Whoever serves a part takes it as mended: before anything is made the role is read again.
        let role = match &amended {
            Some(Change::AmendTrust { policy, .. }) => &Role { trust_policy: policy.clone(), ..role.clone() },
            _ => role,
        };
        plan.changes.extend(amended);
        plan.findings.extend(role_findings(&asking, keys, guardrails));
        let mut claimant: Option<Claimant> = None;
        for grant in &asking.tags.grants {
            let meant = targets(snapshot, keys, &asking, grant, &mut plan.findings);
            if meant.is_empty() {
                continue;
            }
            let claimant =
                claimant.get_or_insert_with(|| Claimant::new(carried(role, keys), asking.is_sound(keys)));
            for cluster in meant {
                claimed.entry(&cluster.id).or_default().push(claims.len());
            }
            claims.push((grant.clone(), claimant.clone()));
        }
    }
    for cluster in in_turn(snapshot.clusters.values().filter(|cluster| cluster.is_enrolled(keys))) {
        let here: Vec<usize> = claimed.remove(&cluster.id).unwrap_or_default();
        let here = || here.iter().filter_map(|number| claims.get(*number));
        let patterned = here().filter(|(grant, _)| grant.subject.is_pattern());
        let patterned: Vec<_> = patterned.map(|(grant, claimant)| (&grant.subject, claimant)).collect();
        let mut named: BTreeMap<Workload, Vec<&Claimant>> = BTreeMap::new();
        for (grant, claimant) in here() {
            let Some(workload) = grant.subject.workload() else { continue };
            let claimants = named.entry(workload).or_default();
            // Two of a role's grants may say the same.
            if claimants.last().is_none_or(|last| last.role.arn != claimant.role.arn) {
                claimants.push(claimant);
            }
        }
        let cut = stretches(named, &patterned, part_bytes);
        plan.findings.extend(cut.left_out.into_iter().map(|(workload, role)| Finding {
            kind: FindingKind::Conflict,
            role: Some(role.arn.clone()),
            cluster: Some(cluster.id.clone()),
            reason: format!(
                "more roles ask for {} than a sweep compares: who has it keeps it, and otherwise the oldest come \
                 first; a service account has one role on a cluster",
                if workload.is_some() { "this service account" } else { "what its pattern means" },
            ),
            workload,
            grant: None,
        }));
        let count = cut.stretches.len();
        for (number, (stretch, roles)) in (1..).zip(cut.stretches) {
            let part = SweepPart {
                cluster: cluster.id.clone(),
                tags: cluster.tags.clone(),
                namesakes: namesakes(snapshot, cluster),
                stretch,
                round,
                roles,
            };
            plan.waits.push(Wait {
                reason: match count {
                    1 => format!("the sweep of {}", cluster.id),
                    _ => format!("the sweep of {}, part {number} of {count}", cluster.id),
                },
                follow_up: FollowUp::ClusterSweep(Box::new(part)),
            });
        }
    }
    plan
}

/// The first cluster of each region, then the second of each: every region has limits of its own, and what stands side by
/// side on the queue is served at the same time.
fn in_turn<'a>(clusters: impl Iterator<Item = &'a Cluster>) -> Vec<&'a Cluster> {
    let mut before: BTreeMap<&Region, usize> = BTreeMap::new();
    let mut numbered: Vec<(usize, &Cluster)> = clusters
        .map(|cluster| {
            let number = before.entry(&cluster.id.region).or_default();
            *number += 1;
            (*number, cluster)
        })
        .collect();
    numbered.sort_by_key(|(number, cluster)| (*number, &cluster.id));
    numbered.into_iter().map(|(_, cluster)| cluster).collect()
}

fn namesakes(snapshot: &Snapshot, cluster: &Cluster) -> BTreeSet<Region> {
    let others = snapshot.clusters.keys().filter(|id| id.name == cluster.id.name && **id != cluster.id);
    others.map(|id| id.region.clone()).collect()
}
