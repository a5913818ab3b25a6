//! Every valid grant has its association, and no association lacks its grant.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Places, Plan, RevokeReason, by_place};
use crate::mark::Mark;
use crate::model::{Association, Cluster, Role, Snapshot};
use crate::names::{ClusterId, RoleArn, Workload};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::subject::{ClusterSelector, Subject};
use crate::tags::{Grant, RoleTags, TagKeys, TagProblem};
use crate::trust::allows_pods;

/// A role, and what its tags ask for.
struct Asking<'a> {
    role: &'a Role,
    tags: RoleTags,
    problems: Vec<TagProblem>,
    /// Why its trust policy stands in the way, if it does.
    distrust: Option<String>,
}

/// One role's wish for one place.
struct Claim<'a> {
    asking: &'a Asking<'a>,
    grant: Grant,
}

/// Plans grants for the roles and clusters in scope.
///
/// Creates and updates follow from claims. Removals start from every managed
/// association in scope and subtract each reason to keep it.
pub fn plan_grants(snapshot: &Snapshot, keys: &TagKeys) -> Plan {
    let mut plan = Plan::default();
    let asking: Vec<Asking<'_>> = snapshot
        .roles
        .values()
        .map(|role| {
            let (tags, problems) = RoleTags::parse(keys, &role.tags);
            let distrust = if tags.grants.is_empty() { None } else { allows_pods(&role.trust_policy).err() };
            Asking { role, tags, problems, distrust }
        })
        .collect();

    let mut claims: BTreeMap<(ClusterId, Workload), Vec<Claim<'_>>> = BTreeMap::new();
    for asking in &asking {
        // A pass over one cluster sees every role: their bad tags were told when they were set.
        if snapshot.scope.clusters.is_none() {
            plan.findings.extend(role_findings(asking, keys));
        }
        for grant in &asking.tags.grants {
            let Some(workload) = grant.subject.workload() else { continue };
            for cluster in targets(snapshot, keys, asking, grant, &mut plan.findings) {
                claims
                    .entry((cluster.id.clone(), workload.clone()))
                    .or_default()
                    .push(Claim { asking, grant: grant.clone() });
            }
        }
    }

    let standing = by_place(snapshot);
    let mut kept: Places<'_> = BTreeSet::new();
    for ((cluster, workload), claims) in &claims {
        let standing = standing.get(&(cluster, workload)).copied();
        if settle(snapshot, cluster, workload, claims, standing, &mut plan) {
            kept.insert((cluster, workload));
        }
    }
    withdraw(snapshot, keys, &asking, &kept, &mut plan);

    for role in &snapshot.roles_gone {
        plan.waits.push(Wait {
            reason: format!("IAM does not show the role {} yet, or no longer", role.role_name()),
            follow_up: FollowUp::Role { role: role.clone() },
        });
    }
    plan
}

fn role_findings(asking: &Asking<'_>, keys: &TagKeys) -> Vec<Finding> {
    let finding = |kind, grant: Option<String>, reason: String| Finding {
        kind,
        role: Some(asking.role.arn.clone()),
        cluster: None,
        workload: None,
        grant,
        reason,
    };
    let mut findings = Vec::new();
    for problem in &asking.problems {
        findings.push(finding(FindingKind::BadTag, None, problem.to_string()));
    }
    for grant in asking.tags.grants.iter().filter(|grant| grant.subject.workload().is_none()) {
        findings.push(finding(
            FindingKind::PatternNotExpanded,
            Some(grant.subject.to_string()),
            "namespace and service account patterns need the cluster's Kubernetes API, which this \
             version does not ask; name the service account"
                .to_owned(),
        ));
    }
    if let Some(distrust) = &asking.distrust {
        findings.push(finding(FindingKind::TrustPolicy, None, distrust.clone()));
        if asking.tags.manage_trust {
            findings.push(finding(
                FindingKind::NotSupported,
                None,
                format!("{} = manage: this version does not change trust policies", keys.key("trust")),
            ));
        }
    }
    findings
}

/// The clusters in scope that a grant means, and what is to be said about the others.
fn targets<'a>(
    snapshot: &'a Snapshot,
    keys: &TagKeys,
    asking: &Asking<'_>,
    grant: &Grant,
    findings: &mut Vec<Finding>,
) -> Vec<&'a Cluster> {
    let selector = &grant.subject.clusters;
    let matching: Vec<&Cluster> =
        snapshot.clusters.values().filter(|cluster| selector.matches(cluster)).collect();
    let mut finding = |kind, cluster: Option<&Cluster>, reason: String| {
        if cluster.is_none_or(|cluster| snapshot.scope.holds_cluster(&cluster.id)) {
            findings.push(Finding {
                kind,
                role: Some(asking.role.arn.clone()),
                cluster: cluster.map(|cluster| cluster.id.clone()),
                workload: grant.subject.workload(),
                grant: Some(grant.subject.to_string()),
                reason,
            });
        }
    };
    let named = selector.cluster_name();
    if let (Some(name), [], None) = (named, matching.as_slice(), &snapshot.scope.clusters) {
        if snapshot.gaps.is_empty() {
            finding(
                FindingKind::NoSuchCluster,
                None,
                format!("no configured region has a cluster {name}; the grant is made when there is one"),
            );
        }
        return Vec::new();
    }
    if let (ClusterSelector::Name(name), [first, _, ..]) = (selector, matching.as_slice()) {
        let regions: Vec<&str> = matching.iter().map(|c| c.id.region.as_str()).collect();
        let in_scope = matching.iter().find(|c| snapshot.scope.holds_cluster(&c.id));
        finding(
            FindingKind::AmbiguousCluster,
            in_scope.copied().or(Some(*first)),
            format!("{name} is a cluster in {}; say which, as in {}", regions.join(" and "), first.id),
        );
        return Vec::new();
    }
    let mut targets = Vec::new();
    for cluster in matching {
        if !snapshot.scope.holds_cluster(&cluster.id) || !snapshot.is_readable(&cluster.id) {
            continue;
        }
        if !cluster.is_enrolled(keys) {
            // A selector by tags passes such a cluster over; a name asked for it.
            if named.is_some() {
                finding(
                    FindingKind::ClusterOptedOut,
                    Some(cluster),
                    format!("the cluster carries {} = off", keys.key("enroll")),
                );
            }
        } else if cluster.status.is_ready() {
            targets.push(cluster);
        } else if cluster.status.is_on_its_way() {
            finding(
                FindingKind::ClusterNotReady,
                Some(cluster),
                format!("the cluster is {}; the grant is made when it is ready", cluster.status),
            );
        } else if named.is_some() {
            finding(FindingKind::ClusterNotReady, Some(cluster), format!("the cluster is {}", cluster.status));
        }
    }
    targets
}

/// Decides who gets a place, and what must change for it. Returns whether the
/// place has a rightful holder, so that what stands there stays.
fn settle(
    snapshot: &Snapshot,
    cluster: &ClusterId,
    workload: &Workload,
    claims: &[Claim<'_>],
    standing: Option<&Association>,
    plan: &mut Plan,
) -> bool {
    let holder = standing.and_then(Association::managed);
    // Who stands keeps its place while it claims it; otherwise the older role.
    let winner = claims
        .iter()
        .filter(|claim| {
            claim.asking.distrust.is_none()
                || holder.is_some_and(|mark| mark.role_id == claim.asking.role.id)
        })
        .min_by_key(|claim| {
            let role = claim.asking.role;
            let stands = holder.is_some_and(|mark| mark.role_arn == role.arn);
            (!stands, role.created_at, &role.arn, &claim.grant)
        });
    let Some(winner) = winner else {
        // Every claim is refused for its trust policy, and none of them stands there.
        return false;
    };
    let role = winner.asking.role;
    let refusal = |kind, claim: &Claim<'_>, reason: String| Finding {
        kind,
        role: Some(claim.asking.role.arn.clone()),
        cluster: Some(cluster.clone()),
        workload: Some(workload.clone()),
        grant: Some(claim.grant.subject.to_string()),
        reason,
    };
    for loser in claims.iter().filter(|claim| claim.asking.role.arn != role.arn) {
        plan.findings.push(refusal(
            FindingKind::Conflict,
            loser,
            format!("{} has this service account already; a service account has one role on a cluster", role.arn),
        ));
    }
    let mark = Mark {
        role_arn: role.arn.clone(),
        role_id: role.id.clone(),
        cluster: cluster.clone(),
        subject: winner.grant.subject.clone(),
        label: winner.grant.label.clone(),
        session_tags_off: winner.asking.tags.session_tags_off,
        target_role: winner.asking.tags.target_role.clone(),
    };
    match (standing, holder) {
        (None, _) => plan.changes.push(Change::Create { workload: workload.clone(), mark }),
        (Some(association), None) => {
            let satisfied = association.record.as_ref().is_some_and(|record| {
                record.role_arn == mark.role_arn.as_str()
                    && record.session_tags_off == mark.session_tags_off
                    && record.target_role.as_deref() == mark.target_role.as_ref().map(RoleArn::as_str)
            });
            if satisfied {
                plan.unchanged += 1;
            } else {
                let owner = association.owner.as_deref().unwrap_or("someone else");
                plan.findings.push(refusal(
                    FindingKind::ForeignAssociation,
                    winner,
                    format!(
                        "association {} stands there, made by {owner}; podgrant never touches it: \
                         delete it, or take the grant back",
                        association.id
                    ),
                ));
            }
        }
        (Some(_), Some(holder))
            if holder.role_arn != role.arn && !snapshot.scope.holds_role(&holder.role_arn) =>
        {
            plan.findings.push(refusal(
                FindingKind::Conflict,
                winner,
                format!(
                    "{} has this service account; if it no longer asks for it, the next sweep hands it over",
                    holder.role_arn
                ),
            ));
        }
        (Some(association), Some(holder)) => {
            if *holder == mark && record_agrees(association, &mark) {
                plan.unchanged += 1;
            } else {
                plan.changes.push(Change::Update { association: association.clone(), mark });
            }
        }
    }
    true
}

/// Whether EKS's own record, where it was read, says what the mark says.
fn record_agrees(association: &Association, mark: &Mark) -> bool {
    association.record.as_ref().is_none_or(|record| {
        record.role_arn == mark.role_arn.as_str()
            && record.session_tags_off == mark.session_tags_off
            && record.target_role.as_deref() == mark.target_role.as_ref().map(RoleArn::as_str)
    })
}

/// Every managed association in scope whose role is there and no longer asks for it.
fn withdraw(
    snapshot: &Snapshot,
    keys: &TagKeys,
    asking: &[Asking<'_>],
    kept: &Places<'_>,
    plan: &mut Plan,
) {
    let asking: BTreeMap<&RoleArn, &Asking<'_>> =
        asking.iter().map(|asking| (&asking.role.arn, asking)).collect();
    for association in &snapshot.associations {
        let Some(mark) = association.managed() else { continue };
        let Some(cluster) = snapshot.clusters.get(&association.cluster) else { continue };
        if kept.contains(&(&association.cluster, &association.workload))
            || !snapshot.scope.holds_cluster(&cluster.id)
            || !cluster.is_enrolled(keys)
            || !cluster.status.is_ready()
        {
            continue;
        }
        // A role that is not there at all is the business of clean-up-orphans.
        let Some(asking) = asking.get(&mark.role_arn) else { continue };
        let keep = |kind, reason: String| Finding {
            kind,
            role: Some(mark.role_arn.clone()),
            cluster: Some(cluster.id.clone()),
            workload: Some(association.workload.clone()),
            grant: Some(mark.subject.to_string()),
            reason,
        };
        let grant_key = keys.key(&grant_tag(&mark.label));
        if asking.problems.iter().any(|problem| problem.key == grant_key) {
            plan.findings.push(keep(
                FindingKind::KeptForBadTag,
                format!("tag {grant_key} asked for it and has a part that does not parse; mend it, and the association stays or goes as it says"),
            ));
            continue;
        }
        if ambiguous(snapshot, asking, association) || patterned(asking, association, cluster) {
            continue;
        }
        let reason = if mark.role_id == asking.role.id {
            RevokeReason::GrantWithdrawn
        } else {
            RevokeReason::RoleReplaced
        };
        plan.changes.push(Change::Revoke { association: association.clone(), reason });
    }
}

fn grant_tag(label: &str) -> String {
    if label.is_empty() { "grant".to_owned() } else { format!("grant/{label}") }
}

/// A name that became ambiguous after the association was made: it was refused
/// aloud, and access that stands is not taken away for another cluster's birth.
fn ambiguous(snapshot: &Snapshot, asking: &Asking<'_>, association: &Association) -> bool {
    asks_for(asking, &association.workload, |subject| match &subject.clusters {
        ClusterSelector::Name(name) => {
            *name == association.cluster.name
                && snapshot.clusters.keys().filter(|id| id.name == *name).count() > 1
        }
        _ => false,
    })
}

/// A pattern that this version does not expand may well mean it.
fn patterned(asking: &Asking<'_>, association: &Association, cluster: &Cluster) -> bool {
    asks_for(asking, &association.workload, |subject| {
        subject.workload().is_none() && subject.clusters.matches(cluster)
    })
}

fn asks_for(asking: &Asking<'_>, workload: &Workload, also: impl Fn(&Subject) -> bool) -> bool {
    asking
        .tags
        .grants
        .iter()
        .any(|grant| grant.subject.means(workload) && also(&grant.subject))
}
