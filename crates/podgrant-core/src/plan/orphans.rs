//! No association points at a role that is gone; roles without clusters are known.

use std::collections::{BTreeMap, BTreeSet};

use super::roles::plan_roles;
use super::{Change, Plan, RevokeReason, account_of, plan_grants};
use crate::guardrails::Guardrails;
use crate::model::{Association, Cluster, Role, Scope, Snapshot, Workloads};
use crate::names::{ClusterId, RoleArn, Workload};
use crate::orphan::OrphanSettings;
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::tags::{RoleTags, TagKeys};

/// Plans the clean-up for the roles and clusters in scope.
///
/// A role may be tagged before its cluster is made, so a name without a cluster is
/// news only after the grace period, or when the cluster's own deletion was seen.
///
/// A place that another role rightly claims is handed over in place by reconcile-associations: to take it away at the
/// same time would leave the claimant with nothing.
pub fn plan_orphans(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    settings: &OrphanSettings,
) -> Plan {
    let mut plan = Plan { unchanged: snapshot.managed_elsewhere, ..Plan::default() };
    let mut claims: Option<BTreeMap<Workload, Vec<&Role>>> = None;
    let mut missed: BTreeSet<String> = BTreeSet::new();
    for association in &snapshot.associations {
        let Some(mark) = association.managed() else { continue };
        let in_scope =
            snapshot.scope.holds_cluster(&association.cluster) && snapshot.scope.holds_role(&mark.role_arn);
        // A cluster that is not in view (gone, or going) takes its associations along.
        let enrolled = snapshot
            .clusters
            .get(&association.cluster)
            .is_some_and(|cluster| cluster.is_enrolled(keys) && cluster.status.is_ready());
        if !in_scope || !enrolled {
            continue;
        }
        let reason = match snapshot.roles.get(&mark.role_arn) {
            Some(role) if role.id == mark.role_id => {
                plan.unchanged += 1;
                continue;
            }
            // A role of that name that asks again is served by reconcile-associations,
            // in place: taking it away first would interrupt its pods.
            Some(role) if asks(role, keys) => continue,
            Some(_) => RevokeReason::RoleReplaced,
            None if snapshot.roles_missed.contains(mark.role_arn.role_name()) => {
                missed.insert(mark.role_arn.role_name().to_owned());
                continue;
            }
            None => RevokeReason::RoleGone,
        };
        let claims = claims.get_or_insert_with(|| claims_of(snapshot, keys));
        let claimants = claims.get(&association.workload).into_iter().flatten().copied();
        // Whom a pattern means is not known here: a place of its that goes is made anew by the next sweep of grants.
        if !is_handed_over(association, claimants, false, &snapshot.clusters, keys, guardrails) {
            plan.changes.push(Change::Revoke { association: association.clone(), reason });
        }
    }
    // Where something could not be read nothing goes, at however many looks.
    plan.waits.extend(second_look(missed).filter(|_| snapshot.gaps.is_empty()));
    for cluster in snapshot.scope.clusters.iter().flatten() {
        // One that is ready again was made anew: it is not this pass's business.
        if let Some(still) = snapshot.clusters.get(cluster).filter(|still| !still.status.is_ready()) {
            plan.waits.push(Wait {
                reason: format!("cluster {cluster} is {}; it is not gone yet", still.status),
                follow_up: FollowUp::ClusterDeleting { cluster: cluster.clone() },
            });
        }
    }
    plan.findings
        .extend(snapshot.associations.iter().filter_map(|association| dangling(snapshot, association)));
    plan_roles(snapshot, keys, settings, &mut plan);
    plan
}

/// How many roles one message names: at 64 characters each, it stays far below what a queue takes.
const MISSED_AT_MOST: usize = 1000;

/// Gone is what does not show twice, some time apart. One look for all of them: what they would lose together is
/// then held to the limit on loss together.
fn second_look(missed: BTreeSet<String>) -> Option<Wait> {
    let count = missed.len();
    let names: BTreeSet<String> = missed.into_iter().take(MISSED_AT_MOST).collect();
    let (first, more) = (names.first()?, count - 1);
    let who = if more == 0 { format!("role {first}") } else { format!("role {first} and {more} more") };
    Some(Wait {
        reason: format!("what does not show is gone if it does not show after a while either: {who}"),
        follow_up: FollowUp::Orphans { roles_missed: names },
    })
}

/// An association that is not ours, and whose role is known to be gone: whoever makes a role of that name
/// gives it to these pods. EKS keeps an association whose role was deleted (issue 5; not verified), and its
/// role's ARN holds no unique id.
fn dangling(snapshot: &Snapshot, association: &Association) -> Option<Finding> {
    if association.managed().is_some() || !snapshot.scope.holds_cluster(&association.cluster) {
        return None;
    }
    let role: RoleArn = association.record.as_ref()?.role_arn.parse().ok()?;
    let gone = snapshot.roles_gone.contains(role.role_name())
        && !snapshot.roles_missed.contains(role.role_name())
        && !snapshot.roles.contains_key(&role);
    gone.then(|| Finding {
        kind: FindingKind::DanglingAssociation,
        cluster: Some(association.cluster.clone()),
        workload: Some(association.workload.clone()),
        grant: None,
        reason: format!(
            "association {} is not podgrant's, and its role does not exist: whoever makes a role of that name gives it \
             to these pods; delete the association, or make the role",
            association.id
        ),
        role: Some(role),
    })
}

/// Which roles ask for which service accounts, on whatever clusters.
fn claims_of<'a>(snapshot: &'a Snapshot, keys: &TagKeys) -> BTreeMap<Workload, Vec<&'a Role>> {
    let mut claims: BTreeMap<Workload, Vec<&Role>> = BTreeMap::new();
    for role in snapshot.roles.values() {
        for workload in RoleTags::parse(keys, &role.tags).0.grants.iter().filter_map(|g| g.subject.workload())
        {
            claims.entry(workload).or_default().push(role);
        }
    }
    claims
}

/// Whether a pass over grants would give an association's place to one of these roles.
///
/// `account_is_there` says that a pattern that may mean the service account does. `clusters` are those of the pass, so
/// that selectors and names mean the same.
pub fn is_handed_over<'a>(
    association: &Association,
    claimants: impl IntoIterator<Item = &'a Role>,
    account_is_there: bool,
    clusters: &BTreeMap<ClusterId, Cluster>,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> bool {
    let roles: BTreeMap<_, _> = claimants.into_iter().map(|role| (role.arn.clone(), role.clone())).collect();
    if roles.is_empty() {
        return false;
    }
    let of_that_name = clusters.iter().filter(|(id, _)| id.name == association.cluster.name);
    let place = Snapshot {
        scope: Scope {
            roles: None,
            clusters: Some([association.cluster.clone()].into()),
            workloads: Workloads::Just(association.workload.clone()),
        },
        roles,
        clusters: of_that_name.map(|(id, cluster)| (id.clone(), cluster.clone())).collect(),
        associations: vec![association.clone()],
        service_accounts: account_is_there.then(|| account_of(association)).into_iter().collect(),
        ..Snapshot::default()
    };
    let planned = plan_grants(&place, keys, guardrails);
    planned.changes.iter().any(|change| matches!(change, Change::Update { .. }))
}

fn asks(role: &Role, keys: &TagKeys) -> bool {
    let (tags, problems) = RoleTags::parse(keys, &role.tags);
    !tags.grants.is_empty() || !problems.is_empty()
}
