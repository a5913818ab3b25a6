//! Who gets a place.

use super::places::Known;
use super::withdraw::Reprieve;
use super::{Asking, Claim, SESSION_TAGS, TARGET_ROLE};
use crate::guardrails::Ruling;
use crate::mark::Mark;
use crate::model::{Association, Role, Snapshot};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::plan::{Change, Plan};
use crate::tags::TagKeys;

/// Decides who gets a place, and what must change for it. Returns whether the
/// place has a rightful holder, so that what stands there stays.
///
/// `reprieved` tells whether a role that does not claim the place keeps it for now: see [`super::withdraw::reprieve`].
pub(super) fn settle(
    snapshot: &Snapshot,
    keys: &TagKeys,
    place: &Known<'_>,
    reprieved: impl Fn() -> Option<Reprieve>,
    plan: &mut Plan,
) -> bool {
    let Known { cluster, workload, standing, claims } = place;
    let (cluster, workload, standing) = (*cluster, *workload, *standing);
    let holder = standing.and_then(Association::managed);
    let holds = |claim: &Claim<'_>| holder.is_some_and(|mark| mark.role_id == claim.asking.role.id);
    let adopts =
        |claim: &Claim<'_>| standing.is_some_and(|association| claim.asking.adopts(keys, association));
    let is_sound = |claim: &&Claim<'_>| {
        let asking = claim.asking;
        let trusting = claim.trusting || holds(claim);
        let clear = asking.problem_with(keys, TARGET_ROLE).is_none()
            || holder.is_some_and(|mark| mark.role_arn == asking.role.arn);
        trusting && clear
    };
    let sound = || claims.iter().filter(is_sound);
    let unread: Vec<&Claim<'_>> =
        sound().filter(|claim| claim.ruling == Ruling::Unread && !holds(claim)).collect();
    // A name goes before a pattern; who stands keeps its place while it claims it; otherwise the older role.
    let winner = sound()
        .filter(|claim| match claim.ruling {
            Ruling::Allowed => true,
            Ruling::Unread | Ruling::Refused => holds(claim),
            Ruling::Expelled => false,
        })
        .min_by_key(|claim| {
            let role = claim.asking.role;
            let stands = holder.is_some_and(|mark| mark.role_arn == role.arn) || adopts(claim);
            (!claim.named, !stands, role.created_at, &role.arn, claim.grant)
        });
    // Its role was made again and may turn out to be allowed: in doubt, nobody loses access.
    let in_doubt = unread.iter().any(|claim| {
        let outranked = winner.is_some_and(|winner| winner.named && !claim.named);
        !outranked && holder.is_some_and(|mark| mark.role_arn == claim.asking.role.arn)
    });
    if winner.is_none() || in_doubt {
        plan.waits.extend(unread.into_iter().map(|claim| powers_unread(claim.asking.role)));
    }
    let Some(winner) = winner else {
        // Every claim is refused for the role's own faults, and none of them stands there.
        return in_doubt;
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
    let other = holder.filter(|mark| mark.role_arn != role.arn);
    let keeps_it = |reprieve: Reprieve| match reprieve {
        Reprieve::BadTag(_) | Reprieve::Unclear => true,
        // By a pattern, if at all.
        Reprieve::Unexpanded | Reprieve::Missed => !winner.named,
    };
    let reprieved = other.is_some() && reprieved().is_some_and(keeps_it);
    if let Some(holder) = other.filter(|_| reprieved || in_doubt) {
        let why = if reprieved {
            "a tag of it may still ask for it; mend or remove that tag"
        } else {
            "whether it may keep it is known when its policies are read"
        };
        for claim in claims.iter().filter(|claim| claim.asking.role.arn != holder.role_arn) {
            plan.findings.push(refusal(
                FindingKind::Conflict,
                claim,
                format!("{} has this service account, and {why}", holder.role_arn),
            ));
        }
        // What stands is not this claim's: `withdraw` says why it stays.
        return in_doubt;
    }
    for loser in claims.iter().filter(|claim| claim.asking.role.arn != role.arn) {
        plan.findings.push(refusal(
            FindingKind::Conflict,
            loser,
            match winner.named && !loser.named {
                true => format!("{} names this service account, and a name goes before a pattern", role.arn),
                false => format!(
                    "{} has this service account already; a service account has one role on a cluster",
                    role.arn
                ),
            },
        ));
    }
    let off = session_tags_off(snapshot, keys, place, winner);
    let target_role = winner
        .asking
        .before(keys, holder, TARGET_ROLE)
        .map_or(&winner.asking.tags.target_role, |mark| &mark.target_role);
    let is_so = |mark: &Mark| {
        (&mark.role_id, &mark.role_arn, &mark.cluster) == (&role.id, &role.arn, cluster)
            && (&mark.subject, &mark.label) == (&winner.grant.subject, &winner.grant.label)
            && (mark.session_tags_off, &mark.target_role) == (off, target_role)
    };
    // Nearly all of a fleet is as it should be.
    if let (Some(association), Some(holder)) = (standing, holder)
        && is_so(holder)
        && (association.record.is_none() || association.agrees_with(holder))
    {
        plan.unchanged += 1;
        return true;
    }
    let mark = Mark {
        role_arn: role.arn.clone(),
        role_id: role.id.clone(),
        cluster: cluster.clone(),
        subject: winner.grant.subject.clone(),
        label: winner.grant.label.clone(),
        session_tags_off: off,
        target_role: target_role.clone(),
    };
    match (standing, holder) {
        (None, _) => plan.changes.push(Change::Create { workload: workload.clone(), mark }),
        (Some(association), None) if adopts(winner) => {
            plan.changes.push(Change::Adopt { association: association.clone(), mark });
        }
        (Some(association), None) => {
            let satisfied = association.agrees_with(&mark);
            if satisfied {
                plan.unchanged += 1;
            } else {
                let reason = foreign_association(keys, winner.asking, association);
                plan.findings.push(refusal(FindingKind::ForeignAssociation, winner, reason));
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
        (Some(association), Some(_)) => {
            if winner.ruling != Ruling::Allowed {
                // Kept as it is: another setting may give the pods more.
                plan.unchanged += 1;
                if winner.ruling == Ruling::Unread {
                    plan.waits.push(powers_unread(role));
                }
            } else {
                plan.changes.push(Change::Update { association: association.clone(), mark });
            }
        }
    }
    true
}

pub(super) fn powers_unread(role: &Role) -> Wait {
    let name = role.arn.role_name();
    Wait {
        reason: format!("the policies of role {name} could not be read yet, and it may be an administrator"),
        follow_up: FollowUp::Role { name: name.to_owned() },
    }
}

/// What is to be said of an association that is not ours and stands in the way.
fn foreign_association(keys: &TagKeys, asking: &Asking<'_>, association: &Association) -> String {
    let owner = association.owner.as_deref().unwrap_or("someone else");
    let stands = format!("association {} stands there, made by {owner}", association.id);
    let never = format!("{stands}; podgrant never touches it: delete it, or take the grant back");
    let adopt = keys.key("adopt");
    match &association.record {
        // Of one that was not described, nobody knows what it has.
        Some(record) if asking.tags.adopt && association.mark.is_none() && association.owner.is_none() => {
            match asking.problem_with(keys, SESSION_TAGS) {
                Some(problem) if record.role_arn == asking.role.arn.as_str() => {
                    format!("{stands}; {adopt} = on takes it when tag {} parses", problem.key)
                }
                _ => format!(
                    "{stands}, and has the role {}; {adopt} = on takes only an association that already has the \
                     role that asks: change its role, delete it, or take the grant back",
                    record.role_arn
                ),
            }
        }
        _ => never,
    }
}

/// Whether the winner's pods get no session tags. A change that its own trust policy can't stand was refused
/// aloud, and cuts off nobody who has access by the setting before.
fn session_tags_off(snapshot: &Snapshot, keys: &TagKeys, place: &Known<'_>, winner: &Claim<'_>) -> bool {
    let asking = winner.asking;
    let holder = place.standing.and_then(Association::managed);
    let wanted = asking.session_tags_off(keys, holder);
    let before = holder.filter(|mark| mark.role_id == asking.role.id).map(|mark| mark.session_tags_off);
    let Some(before) = before.filter(|before| *before != wanted && !winner.trusting) else { return wanted };
    let Some(cluster) = snapshot.clusters.get(place.cluster) else { return wanted };
    let usage = asking.usage(Some(before), Some((cluster, place.workload)));
    if asking.trust.allows(&usage).is_ok() { before } else { wanted }
}
