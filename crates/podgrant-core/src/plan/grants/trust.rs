//! Whether a role trusts EKS Pod Identity as its grants need, and what mends it.

use super::{Asking, Places, SESSION_TAGS, TARGET_ROLE, meant_accounts, targets};
use crate::guardrails::{Guardrails, Ruling};
use crate::mark::Mark;
use crate::model::{Association, Cluster, Snapshot, Workloads};
use crate::names::Workload;
use crate::outcome::{Finding, FindingKind};
use crate::plan::Change;
use crate::subject::Pattern;
use crate::tags::{Grant, TagKeys};
use crate::trust::manage::{self, Wanted};
use crate::trust::{TrustPolicy, Use};

/// A refusal, and why podgrant leaves it at that where it was asked to mend it.
pub(super) fn unmended(asking: &Asking<'_>, keys: &TagKeys, refusal: &str) -> String {
    match &asking.unmanaged {
        None => refusal.to_owned(),
        Some(why) => {
            format!("{refusal}; {} = manage does not change the trust policy: {why}", keys.key("trust"))
        }
    }
}

/// Has the role trust EKS Pod Identity as its grants need, where it does not and a tag
/// says that podgrant may. The role is then judged by the policy as it will be; so is one
/// whose powers are not known yet, but nothing is written for it.
///
/// Without a view of what stands (`known`), trust is only added.
pub(in crate::plan) fn manage_trust(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    known: Option<&Places<'_>>,
    asking: &mut Asking<'_>,
) -> Option<Change> {
    if !asking.tags.manage_trust {
        return None;
    }
    // Nobody is trusted for what a guardrail refuses.
    if asking.ruling > Ruling::Unread {
        asking.unmanaged = Some("a guardrail refuses the role".to_owned());
        return None;
    }
    let refused = |grant: &&Grant| match &grant.subject.namespace {
        Pattern::Exact(namespace) => guardrails.namespace_refusal(namespace).is_some(),
        Pattern::Prefix(_) => false,
    };
    let grants: Vec<Grant> = asking.tags.grants.iter().filter(|grant| !refused(grant)).cloned().collect();
    if grants.is_empty() && !asking.tags.grants.is_empty() {
        asking.unmanaged = Some("a guardrail refuses every service account that it names".to_owned());
        return None;
    }
    let mut places = Vec::new();
    for grant in &grants {
        for cluster in targets(snapshot, keys, asking, grant, &mut Vec::new()) {
            for workload in meant_accounts(snapshot, guardrails, &asking.tags, grant, cluster) {
                if !snapshot.scope.workloads.holds(&workload) {
                    continue;
                }
                let standing = known.and_then(|known| known.standing_at(&cluster.id, &workload));
                let holder = standing.and_then(|association| association.managed());
                places.push((asking.session_tags_off(keys, holder), cluster, workload));
            }
        }
    }
    let mut uses: Vec<Use<'_>> = places
        .iter()
        .map(|(off, cluster, workload)| asking.usage(Some(*off), Some((*cluster, workload))))
        .collect();
    if uses.is_empty() {
        // Nothing is written before there is a place for it; what would be in the way is told.
        uses.push(asking.usage(Some(asking.tags.session_tags_off), None));
    }
    let mut wanted = Wanted {
        role: &asking.role.arn,
        session_tags_off: asking.tags.session_tags_off,
        grants: &grants,
        in_doubt: !asking.problems.is_empty(),
        uses,
    };
    // IAM lets nobody change a role that a service is linked to, nor AWS's own (IAM user guide, "Service-linked roles").
    let is_awss_own =
        ["/aws-service-role/", "/aws-reserved/"].iter().any(|path| asking.role.arn.as_str().contains(path));
    let unclear = [SESSION_TAGS, TARGET_ROLE].map(|name| asking.problem_with(keys, name));
    let mut amended = match unclear.into_iter().flatten().next() {
        // Its conditions hang on session tags, and without its target role it gets nothing new.
        Some(problem) => Err(format!("tag {} does not parse; mend it first", problem.key)),
        None if is_awss_own => Err("AWS keeps this role to itself".to_owned()),
        None => manage::amended(&asking.role.trust_policy, &wanted),
    };
    if matches!(amended, Ok(Some(_))) && (known.is_none() || needs_old_trust(snapshot, asking, &grants)) {
        wanted.in_doubt = true;
        amended = manage::amended(&asking.role.trust_policy, &wanted);
    }
    match amended {
        Ok(None) => None,
        Ok(Some(policy)) => {
            let change = Change::AmendTrust {
                role: asking.role.arn.clone(),
                role_id: asking.role.id.clone(),
                policy_before: asking.role.trust_policy.clone(),
                policy: policy.clone(),
            };
            let needed = !places.is_empty();
            asking.trust = TrustPolicy::read(&policy);
            asking.distrust = asking.distrusted(keys);
            asking.mends_later = needed && asking.ruling == Ruling::Unread;
            (needed && !asking.mends_later).then_some(change)
        }
        Err(why) => {
            asking.unmanaged = Some(why);
            None
        }
    }
}

/// Whether something stands, or may stand out of view, that the role's grants no longer
/// make: no trust goes before it does, and the guard may hold that back. `grants` are
/// those that no guardrail refuses: what stands by the others may stay.
fn needs_old_trust(snapshot: &Snapshot, asking: &Asking<'_>, grants: &[Grant]) -> bool {
    let asks_for = |association: &Association| {
        snapshot.clusters.get(&association.cluster).is_some_and(|cluster| {
            let mut subjects = grants.iter().map(|grant| &grant.subject);
            subjects.any(|subject| subject.means(&association.workload) && subject.clusters.matches(cluster))
        })
    };
    let outlives = |association: &Association| {
        association.managed().is_some_and(|mark| {
            let turns_tags_on = mark.session_tags_off && !asking.tags.session_tags_off;
            mark.role_arn == asking.role.arn && (turns_tags_on || !asks_for(association))
        })
    };
    let sees_all = snapshot.gaps.is_empty()
        && snapshot.scope.clusters.is_none()
        && snapshot.scope.workloads == Workloads::default();
    !sees_all || snapshot.associations.iter().any(outlives)
}

/// Why the role's trust policy stands in the way of this grant in this place. What
/// stands in the way of all its grants is told once, with the role.
pub(super) fn trust_refusal(
    keys: &TagKeys,
    asking: &Asking<'_>,
    grant: &Grant,
    cluster: &Cluster,
    workload: &Workload,
    holder: Option<&Mark>,
) -> Option<Finding> {
    if asking.distrust.is_some() {
        return None;
    }
    let session_tags_off = asking.session_tags_off(keys, holder);
    let usage = asking.usage(Some(session_tags_off), Some((cluster, workload)));
    asking.trust.allows(&usage).err().map(|reason| Finding {
        kind: FindingKind::TrustPolicy,
        role: Some(asking.role.arn.clone()),
        cluster: Some(cluster.id.clone()),
        workload: Some(workload.clone()),
        grant: Some(grant.subject.to_string()),
        reason: unmended(asking, keys, &reason),
    })
}
