//! Namespace and service account patterns: whom they mean on a cluster that was looked into.
//!
//! What a cluster does not show is not gone: where it was not looked into, or not whole, a pattern makes nothing, and
//! what it made before stays.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::{Asking, Places, targets};
use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts, UnseenAccounts};
use crate::agent::pods::AccessEntry;
use crate::guardrails::{Guardrails, Refusal};
use crate::model::{Association, Cluster, Snapshot, Workloads};
use crate::names::{ClusterId, Workload};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::plan::{Change, Plan};
use crate::subject::{Pattern, Subject};
use crate::tags::{Grant, RoleTags, TagKeys};

/// A service account that a patterned grant means.
pub(super) struct Meant<'a> {
    pub asking: &'a Asking<'a>,
    pub grant: &'a Grant,
    pub cluster: &'a Cluster,
    pub workload: &'a Workload,
    /// Why the role's patterns get nothing new on the cluster.
    pub crowd: Option<Refusal>,
}

/// Whom the patterns of the roles in view mean, in scope. Clusters that do not let podgrant look are opened where
/// that is podgrant's to do, and what stays unseen is told.
pub(super) fn expand<'a>(
    snapshot: &'a Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    roles: &'a [Asking<'a>],
    known: &Places<'_>,
    plan: &mut Plan,
) -> Vec<Meant<'a>> {
    let mut meant = Vec::new();
    let in_view = OnceCell::new();
    let mut crowded: BTreeMap<(usize, &ClusterId), Option<Refusal>> = BTreeMap::new();
    for (number, asking) in roles.iter().enumerate() {
        for grant in asking.tags.grants.iter().filter(|grant| grant.subject.is_pattern()) {
            let subject = &grant.subject;
            // Of several parts of a cluster, the one that the pattern begins in.
            let tells = snapshot.scope.workloads.holds(&subject.lowest());
            let mut findings = Vec::new();
            for cluster in targets(snapshot, keys, asking, grant, &mut findings) {
                let seen = match seen(snapshot, &cluster.id, subject) {
                    Ok(seen) => seen,
                    Err(unseen) => {
                        if !is_refused(guardrails, subject) {
                            let all = || namespaces_meant(snapshot, keys, guardrails);
                            plan.changes.extend(opening(cluster, unseen, in_view.get_or_init(all)));
                            findings.extend(not_expanded(asking, grant, cluster, unseen));
                        }
                        continue;
                    }
                };
                let crowd = crowded.entry((number, &cluster.id)).or_insert_with(|| {
                    let crowd = crowd(snapshot, guardrails, &asking.tags, cluster);
                    findings.extend(crowd.as_ref().map(|refusal| Finding {
                        workload: None,
                        grant: None,
                        ..super::guarded(asking, Some((&cluster.id, &subject.lowest(), subject)), refusal)
                    }));
                    crowd
                });
                for workload in seen.meant_by(subject) {
                    let has_it = || {
                        let standing = known.standing_at(&cluster.id, workload);
                        let mark = standing.and_then(|association| association.managed());
                        mark.is_some_and(|mark| mark.role_arn == asking.role.arn)
                    };
                    // A pattern passes by namespaces that are refused: nobody asked for them by name.
                    let passed_by = guardrails.namespace_refusal(&workload.namespace).is_some();
                    if snapshot.scope.workloads.holds(workload) && (!passed_by || has_it()) {
                        meant.push(Meant { asking, grant, cluster, workload, crowd: crowd.clone() });
                    }
                }
            }
            if tells {
                plan.findings.extend(findings);
            }
        }
    }
    meant
}

/// The service accounts that a grant means on a cluster, and may have as far as guardrails go that count them: one by
/// its name, or all that its pattern matches.
pub fn meant_accounts(
    snapshot: &Snapshot,
    guardrails: &Guardrails,
    tags: &RoleTags,
    grant: &Grant,
    cluster: &Cluster,
) -> Vec<Workload> {
    if let Some(workload) = grant.subject.workload() {
        return vec![workload];
    }
    let Ok(seen) = seen(snapshot, &cluster.id, &grant.subject) else { return Vec::new() };
    if crowd(snapshot, guardrails, tags, cluster).is_some() {
        return Vec::new();
    }
    let allowed = |workload: &&Workload| guardrails.namespace_refusal(&workload.namespace).is_none();
    seen.meant_by(&grant.subject).filter(allowed).cloned().collect()
}

/// The clusters whose service accounts have to be known for the roles in view and are not, and where they have to be.
/// A cluster that no pattern means is not among them.
pub fn accounts_wanted(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> BTreeMap<ClusterId, Namespaces> {
    let mut wanted = namespaces_meant(snapshot, keys, guardrails);
    wanted.retain(|cluster, namespaces| match snapshot.service_accounts.get(cluster) {
        None => true,
        Some(ServiceAccounts::Seen(seen)) => !seen.namespaces().hold(namespaces),
        // Once asked in vain is enough for a pass.
        Some(ServiceAccounts::Unseen(_)) => false,
    });
    wanted
}

/// The clusters that patterns of the roles in view mean, and the namespaces there.
fn namespaces_meant(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> BTreeMap<ClusterId, Namespaces> {
    let mut meant: BTreeMap<ClusterId, Namespaces> = BTreeMap::new();
    for role in snapshot.roles.values() {
        if snapshot.roles_stale.contains_key(role.arn.role_name()) {
            continue;
        }
        let asking = Asking::new(role, keys, guardrails);
        let patterned = || asking.tags.grants.iter().filter(|grant| grant.subject.is_pattern());
        // With one of a role's patterns all of them are counted.
        if !patterned().any(|grant| concerns(&snapshot.scope.workloads, &grant.subject)) {
            continue;
        }
        for grant in patterned().filter(|grant| !is_refused(guardrails, &grant.subject)) {
            for cluster in targets(snapshot, keys, &asking, grant, &mut Vec::new()) {
                let namespaces = Namespaces::of(&grant.subject);
                let all = match meant.remove(&cluster.id) {
                    Some(before) => before.and(namespaces),
                    None => namespaces,
                };
                meant.insert(cluster.id.clone(), all);
            }
        }
    }
    meant
}

fn concerns(workloads: &Workloads, subject: &Subject) -> bool {
    match workloads {
        Workloads::Just(workload) => subject.means(workload),
        Workloads::Stretch(stretch) => {
            stretch.to.as_ref().is_none_or(|to| subject.lowest() < *to)
                && stretch.from.as_ref().is_none_or(|from| subject.reaches(from))
        }
    }
}

/// What is between a pattern and its service accounts.
#[derive(Clone, Copy)]
enum NotSeen<'a> {
    /// This pass did not look there.
    NotLookedAt,
    Unseen(&'a UnseenAccounts),
}

/// A cluster's service accounts, if all that a subject may mean is among them.
fn seen<'a>(
    snapshot: &'a Snapshot,
    cluster: &ClusterId,
    subject: &Subject,
) -> Result<&'a SeenAccounts, NotSeen<'a>> {
    match snapshot.service_accounts.get(cluster) {
        Some(ServiceAccounts::Seen(seen)) if seen.are_whole_for(subject) => Ok(seen),
        Some(ServiceAccounts::Unseen(unseen)) => Err(NotSeen::Unseen(unseen)),
        Some(ServiceAccounts::Seen(_)) | None => Err(NotSeen::NotLookedAt),
    }
}

/// Whether a guardrail refuses all that a pattern could mean.
fn is_refused(guardrails: &Guardrails, subject: &Subject) -> bool {
    match &subject.namespace {
        Pattern::Exact(namespace) => guardrails.namespace_refusal(namespace).is_some(),
        Pattern::Prefix(_) => false,
    }
}

/// Whether too many service accounts share a role on a cluster: those that its grants name, wherever they are, and
/// those that its patterns mean there.
fn crowd(
    snapshot: &Snapshot,
    guardrails: &Guardrails,
    tags: &RoleTags,
    cluster: &Cluster,
) -> Option<Refusal> {
    let mut sharing: BTreeSet<Workload> =
        tags.grants.iter().filter_map(|grant| grant.subject.workload()).collect();
    for grant in tags.grants.iter().filter(|grant| grant.subject.is_pattern()) {
        if !grant.subject.clusters.matches(cluster) {
            continue;
        }
        let Ok(seen) = seen(snapshot, &cluster.id, &grant.subject) else { continue };
        let allowed = |workload: &&Workload| guardrails.namespace_refusal(&workload.namespace).is_none();
        sharing.extend(seen.meant_by(&grant.subject).filter(allowed).cloned());
    }
    guardrails.crowd_refusal(sharing.len())
}

/// The access entry that lets podgrant look, where it is podgrant's to make.
fn opening(
    cluster: &Cluster,
    unseen: NotSeen<'_>,
    meant: &BTreeMap<ClusterId, Namespaces>,
) -> Option<Change> {
    let NotSeen::Unseen(UnseenAccounts::Closed { entry, .. }) = unseen else { return None };
    if !matches!(entry, AccessEntry::Absent | AccessEntry::WithoutPolicy) {
        return None;
    }
    let namespaces = meant.get(&cluster.id)?.clone();
    Some(Change::OpenKubernetes { cluster: cluster.id.clone(), namespaces })
}

fn not_expanded(
    asking: &Asking<'_>,
    grant: &Grant,
    cluster: &Cluster,
    unseen: NotSeen<'_>,
) -> Option<Finding> {
    let why = match unseen {
        NotSeen::NotLookedAt => "they were not looked at in this pass".to_owned(),
        // It comes back.
        NotSeen::Unseen(unseen) if unseen.is_to_come().is_some() => return None,
        NotSeen::Unseen(UnseenAccounts::Unreachable { why }) => why.clone(),
        NotSeen::Unseen(UnseenAccounts::Closed { why, entry }) => format!("{why}{}", remedy(*entry)),
        NotSeen::Unseen(UnseenAccounts::Opening { .. } | UnseenAccounts::NoTime) => return None,
    };
    Some(Finding {
        kind: FindingKind::PatternNotExpanded,
        role: Some(asking.role.arn.clone()),
        cluster: Some(cluster.id.clone()),
        workload: None,
        grant: Some(grant.subject.to_string()),
        reason: format!(
            "the cluster's service accounts are not known: {why}; what the pattern made stays, and it makes nothing \
             new there: let podgrant look, or name the service accounts"
        ),
    })
}

fn remedy(entry: AccessEntry) -> &'static str {
    match entry {
        AccessEntry::Absent | AccessEntry::WithoutPolicy => "",
        AccessEntry::Whole => "; its access entry is as it should be, and may need a minute",
        AccessEntry::Foreign => {
            "; somebody else made an access entry for podgrant's role: give it AmazonEKSViewPolicy, or delete it and \
             podgrant makes its own"
        }
        AccessEntry::NotTaken => {
            "; the cluster takes no access entries: set its authentication mode to API_AND_CONFIG_MAP"
        }
    }
}

/// What a role's patterns do not reach, whatever the clusters: told once, with the role.
pub(super) fn passed_by(asking: &Asking<'_>, guardrails: &Guardrails) -> Vec<Finding> {
    let patterned = asking.tags.grants.iter().filter(|grant| grant.subject.is_pattern());
    let told = patterned.filter_map(|grant| {
        let namespaces = guardrails.refused_namespaces.iter();
        let names: Vec<&str> = namespaces
            .filter(|namespace| grant.subject.namespace.matches(namespace))
            .map(AsRef::as_ref)
            .collect();
        (!names.is_empty()).then(|| Finding {
            kind: FindingKind::Guardrail,
            role: Some(asking.role.arn.clone()),
            cluster: None,
            workload: None,
            grant: Some(grant.subject.to_string()),
            reason: guardrails.passed_by(&names),
        })
    });
    told.collect()
}

/// What a role's patterns say of an association of it that no claim names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// No pattern means it.
    NotMeant,
    /// A pattern does, and whether the service account is there is not known.
    Unknown,
    /// A pattern does, and the service account does not show for the first time.
    Missed,
    /// Nor did it show a while ago.
    Gone,
    /// It is there: its claim decides.
    There,
}

pub(super) fn account_of(snapshot: &Snapshot, tags: &RoleTags, association: &Association) -> Account {
    let Some(cluster) = snapshot.clusters.get(&association.cluster) else { return Account::NotMeant };
    let place = (association.cluster.clone(), association.workload.clone());
    let mut found = Account::NotMeant;
    for subject in tags.grants.iter().map(|grant| &grant.subject) {
        if !subject.is_pattern()
            || !subject.means(&association.workload)
            || !subject.clusters.matches(cluster)
        {
            continue;
        }
        match seen(snapshot, &association.cluster, subject) {
            Err(_) => return Account::Unknown,
            Ok(seen) if seen.hold(&association.workload) => found = Account::There,
            Ok(_) if snapshot.accounts_missed.contains(&place) => found = Account::Gone,
            Ok(_) => found = Account::Missed,
        }
    }
    found
}

/// How many service accounts one message names: at 330 bytes each at the very most, it stays below what any queue takes.
const MISSED_AT_MOST: usize = 500;

/// Gone is what does not show twice, some time apart: Helm and its like delete a service account and make it again.
pub(super) fn second_look(cluster: &ClusterId, missed: BTreeSet<Workload>) -> Option<Wait> {
    let (first, more) = (missed.first()?.clone(), missed.len() - 1);
    let missed = missed.into_iter().take(MISSED_AT_MOST).collect();
    let who = if more == 0 { first.to_string() } else { format!("{first} and {more} more") };
    Some(Wait {
        reason: format!(
            "a service account that does not show is gone if it does not show after a while either: {who} on {cluster}"
        ),
        follow_up: FollowUp::AccountsMissed { cluster: cluster.clone(), missed },
    })
}
