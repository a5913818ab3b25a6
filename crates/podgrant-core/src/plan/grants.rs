//! Every valid grant has its association, and no association lacks its grant.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::{HashMap, HashMapExt as _};

use super::{Change, Plan, RevokeReason};
use crate::guardrails::{Guardrails, Refusal, Ruling};
use crate::mark::Mark;
use crate::model::{Association, Cluster, Role, RoleNews, Snapshot};
use crate::names::{ClusterId, RoleArn, Workload};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::subject::{ClusterSelector, Subject};
use crate::tags::{Grant, RoleTags, TagKeys, TagProblem};
use crate::trust::{TrustPolicy, Use};

mod patterns;
mod places;
mod trust;

use patterns::{Account, Meant, account_of, expand, passed_by, second_look};
pub use patterns::{accounts_wanted, meant_accounts};
use places::{Known, Places};
pub(super) use trust::manage_trust;
use trust::{trust_refusal, unmended};

/// A role, and what its tags ask for.
pub(super) struct Asking<'a> {
    role: &'a Role,
    /// The account that the role lives in.
    account: &'a str,
    pub(super) tags: RoleTags,
    problems: Vec<TagProblem>,
    trust: TrustPolicy,
    /// Why its trust policy stands in the way of every grant, if it does.
    distrust: Option<String>,
    /// The guardrails that refuse it every grant, and what they leave of each.
    refusals: Vec<Refusal>,
    ruling: Ruling,
    /// Why podgrant does not mend its trust policy, though it was asked to.
    unmanaged: Option<String>,
    /// Whether podgrant mends it when the role's powers are known, if they allow it.
    mends_later: bool,
}

impl<'a> Asking<'a> {
    pub(super) fn new(role: &'a Role, keys: &TagKeys, guardrails: &Guardrails) -> Self {
        let (tags, problems) = RoleTags::parse(keys, &role.tags);
        let trust = TrustPolicy::read(&role.trust_policy);
        let refusals = guardrails.role_refusals(role, &tags.grants);
        let unread = if guardrails.lacks_powers(role) { Ruling::Unread } else { Ruling::Allowed };
        let ruling = guardrails.ruling(&refusals).max(unread);
        let mut asking = Self {
            role,
            account: role.arn.account(),
            tags,
            problems,
            trust,
            distrust: None,
            refusals,
            ruling,
            unmanaged: None,
            mends_later: false,
        };
        asking.distrust = asking.distrusted(keys);
        asking
    }

    fn distrusted(&self, keys: &TagKeys) -> Option<String> {
        // With a bad tag, what stands keeps what it was made with, on or off.
        let session_tags_off = match self.problem_with(keys, SESSION_TAGS) {
            None => Some(self.tags.session_tags_off),
            Some(_) => None,
        };
        if self.tags.grants.is_empty() {
            return None;
        }
        self.trust.allows(&self.usage(session_tags_off, None)).err()
    }

    fn usage<'u>(
        &'u self,
        session_tags_off: Option<bool>,
        place: Option<(&'u Cluster, &'u Workload)>,
    ) -> Use<'u> {
        Use { account: self.account, session_tags_off, place }
    }

    /// The mark that a setting is taken from where its tag does not parse: what
    /// stands keeps what it was made with.
    fn before<'m>(&self, keys: &TagKeys, holder: Option<&'m Mark>, name: &str) -> Option<&'m Mark> {
        holder.filter(|mark| mark.role_arn == self.role.arn && self.problem_with(keys, name).is_some())
    }

    /// Whether EKS is to add no session tags, in a place that `holder` has.
    fn session_tags_off(&self, keys: &TagKeys, holder: Option<&Mark>) -> bool {
        self.before(keys, holder, SESSION_TAGS)
            .map_or(self.tags.session_tags_off, |mark| mark.session_tags_off)
    }

    /// Whether an association that somebody else made is to be ours. What stands keeps
    /// what it has while the tag that would change it does not parse.
    fn adopts(&self, keys: &TagKeys, association: &Association) -> bool {
        self.tags.adopt
            && self.problem_with(keys, SESSION_TAGS).is_none()
            && association.may_be_adopted_by(&self.role.arn)
    }

    /// Whether nothing about the role itself keeps it from getting something new.
    pub(super) fn is_sound(&self, keys: &TagKeys) -> bool {
        self.ruling == Ruling::Allowed
            && self.distrust.is_none()
            && self.problem_with(keys, TARGET_ROLE).is_none()
    }

    /// The problem with one of the role's tags, if it has one. IAM holds keys that
    /// differ only in case to be the same key.
    fn problem_with(&self, keys: &TagKeys, name: &str) -> Option<&TagProblem> {
        // Asked for each association of a fleet, and hardly any role has one.
        if self.problems.is_empty() {
            return None;
        }
        let key = keys.key(name);
        self.problems.iter().find(|problem| problem.key.eq_ignore_ascii_case(&key))
    }
}

/// Roles in view, in the order of their ARNs.
struct AskingRoles<'a> {
    roles: Vec<Asking<'a>>,
    by_arn: HashMap<&'a RoleArn, usize>,
}

impl<'a> AskingRoles<'a> {
    fn get(&self, arn: &RoleArn) -> Option<&Asking<'a>> {
        self.by_arn.get(arn).and_then(|place| self.roles.get(*place))
    }
}

impl<'a> FromIterator<Asking<'a>> for AskingRoles<'a> {
    fn from_iter<I: IntoIterator<Item = Asking<'a>>>(roles: I) -> Self {
        let roles: Vec<Asking<'a>> = roles.into_iter().collect();
        let mut by_arn = HashMap::with_capacity(roles.len());
        by_arn.extend(roles.iter().enumerate().map(|(place, asking)| (&asking.role.arn, place)));
        Self { roles, by_arn }
    }
}

/// One role's wish for one place.
pub(super) struct Claim<'a> {
    asking: &'a Asking<'a>,
    grant: &'a Grant,
    /// Whether the grant names the service account; otherwise it means it by a pattern.
    named: bool,
    /// Whether the role's trust policy lets EKS Pod Identity assume it here.
    trusting: bool,
    /// What the guardrails leave of it.
    ruling: Ruling,
}

/// Plans grants for the roles and clusters in scope.
///
/// Creates and updates follow from claims. Removals start from every managed
/// association in scope and subtract each reason to keep it.
pub fn plan_grants(snapshot: &Snapshot, keys: &TagKeys, guardrails: &Guardrails) -> Plan {
    let mut plan = Plan::default();
    // What a stale read shows is no reason for anything.
    let shown =
        snapshot.roles.values().filter(|role| !snapshot.roles_stale.contains_key(role.arn.role_name()));
    let mut asking: AskingRoles<'_> = shown.map(|role| Asking::new(role, keys, guardrails)).collect();
    let mut known = Places::of(snapshot);
    plan.changes.extend(
        asking
            .roles
            .iter_mut()
            .filter_map(|asking| manage_trust(snapshot, keys, guardrails, Some(&known), asking)),
    );

    let later = asking.roles.iter().filter(|asking| asking.mends_later);
    plan.waits.extend(later.map(|asking| powers_unread(asking.role)));

    let mut wishes: Vec<(&Asking<'_>, &Grant, Workload)> = Vec::new();
    for asking in &asking.roles {
        // A pass over one cluster sees every role: their bad tags were told when they were set.
        if snapshot.scope.clusters.is_none() {
            plan.findings.extend(role_findings(asking, keys, guardrails));
        }
        for grant in &asking.tags.grants {
            let workload = grant.subject.workload().filter(|w| snapshot.scope.workloads.holds(w));
            wishes.extend(workload.map(|workload| (asking, grant, workload)));
        }
    }
    let mut places: Vec<Meant<'_>> = Vec::new();
    for &(asking, grant, ref workload) in &wishes {
        let named = targets(snapshot, keys, asking, grant, &mut plan.findings).into_iter();
        places.extend(named.map(|cluster| Meant { asking, grant, cluster, workload, crowd: None }));
    }
    places.extend(expand(snapshot, keys, guardrails, &asking.roles, &known, &mut plan));
    for Meant { asking, grant, cluster, workload, crowd } in places {
        let named = !grant.subject.is_pattern();
        let place = known.number(&cluster.id, workload);
        let holder = known.standing(place).and_then(Association::managed);
        let refusal = trust_refusal(keys, asking, grant, cluster, workload, holder);
        let trusting = asking.distrust.is_none() && refusal.is_none();
        let distrust = refusal;
        let refusal = guardrails.namespace_refusal(&workload.namespace);
        if refusal.is_none() && crowd.is_none() {
            // Nobody is to mend a trust policy for what a guardrail refuses.
            plan.findings.extend(distrust.map(|finding| match named {
                true => finding,
                // As with the grant: once for all that it means.
                false => Finding { workload: None, ..finding },
            }));
        }
        let ruling = asking.ruling.max(guardrails.ruling(refusal.iter().chain(&crowd)));
        plan.findings.extend(
            refusal.map(|refusal| guarded(asking, Some((&cluster.id, workload, &grant.subject)), &refusal)),
        );
        known.claim(place, Claim { asking, grant, named, trusting, ruling });
    }

    let mut kept = vec![false; known.places().len()];
    for (place, kept) in known.places().iter().zip(&mut kept) {
        if place.claims.is_empty() {
            continue;
        }
        let reprieved = || {
            let association = place.standing?;
            let its_role = asking.get(&association.managed()?.role_arn)?;
            let reprieve = reprieve(snapshot, keys, its_role, association)?;
            expulsion(its_role, guardrails, association).is_empty().then_some(reprieve)
        };
        *kept = settle(snapshot, keys, place, reprieved, &mut plan);
    }
    withdraw(snapshot, keys, guardrails, &asking, &known, &kept, &mut plan);

    for name in &snapshot.roles_gone {
        plan.waits.push(Wait {
            reason: format!("IAM does not show the role {name} yet, or no longer"),
            follow_up: FollowUp::RoleUnseen { name: name.clone() },
        });
    }
    for (name, news) in &snapshot.roles_stale {
        plan.waits.push(stale(name, news, snapshot));
    }
    plan
}

fn stale(name: &str, news: &RoleNews, snapshot: &Snapshot) -> Wait {
    let shown = snapshot.roles.values().find(|role| role.arn.role_name() == name);
    let missing = shown.and_then(|role| news.missing_from(role)).unwrap_or_else(|| "it".to_owned());
    Wait {
        reason: format!("IAM does not show {missing} on the role {name} yet"),
        follow_up: FollowUp::RoleStale { name: name.to_owned(), news: news.clone() },
    }
}

pub(super) fn role_findings(asking: &Asking<'_>, keys: &TagKeys, guardrails: &Guardrails) -> Vec<Finding> {
    let finding = |kind, reason: String| Finding {
        kind,
        role: Some(asking.role.arn.clone()),
        cluster: None,
        workload: None,
        grant: None,
        reason,
    };
    let mut findings = Vec::new();
    for problem in &asking.problems {
        // Without its target role a grant would give the pods other powers than it asked for.
        let halts = if problem.key.eq_ignore_ascii_case(&keys.key(TARGET_ROLE)) {
            "; until it is mended the role gets nothing new, and what it has stays as it is"
        } else {
            ""
        };
        findings.push(finding(FindingKind::BadTag, format!("{problem}{halts}")));
    }
    findings.extend(passed_by(asking, guardrails));
    if let Some(distrust) = &asking.distrust {
        findings.push(finding(FindingKind::TrustPolicy, unmended(asking, keys, distrust)));
    }
    if !asking.tags.grants.is_empty() {
        findings.extend(asking.refusals.iter().map(|refusal| guarded(asking, None, refusal)));
    }
    findings
}

/// A guardrail's refusal, of one grant in one place or of all that the role asks for.
fn guarded(
    asking: &Asking<'_>,
    place: Option<(&ClusterId, &Workload, &Subject)>,
    refusal: &Refusal,
) -> Finding {
    Finding {
        kind: FindingKind::Guardrail,
        role: Some(asking.role.arn.clone()),
        cluster: place.map(|(cluster, ..)| cluster.clone()),
        workload: place.map(|(_, workload, _)| workload.clone()),
        grant: place.map(|(.., subject)| subject.to_string()),
        reason: refusal.to_string(),
    }
}

/// The clusters in scope that a grant means, and what is to be said about the others.
pub(super) fn targets<'a>(
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
    if let ClusterSelector::RegionAndName(region, _) = selector
        && !snapshot.looks_at(region)
    {
        // A pass over one cluster leaves it to the role's own events.
        if snapshot.scope.clusters.is_none() {
            finding(
                FindingKind::RegionNotConfigured,
                None,
                format!("podgrant does not look at clusters in {region}; add it to PODGRANT_REGIONS"),
            );
        }
        return Vec::new();
    }
    let named = selector.cluster_name();
    if let (Some(_), [], None) = (named, matching.as_slice(), &snapshot.scope.clusters) {
        if snapshot.gaps.is_empty() {
            finding(
                FindingKind::NoSuchCluster,
                None,
                format!("no configured region has a cluster {selector}; the grant is made when there is one"),
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
                finding(FindingKind::ClusterOptedOut, Some(cluster), cluster.opted_out(keys));
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
            finding(
                FindingKind::ClusterNotReady,
                Some(cluster),
                format!("the cluster is {}", cluster.status),
            );
        }
    }
    targets
}

/// Decides who gets a place, and what must change for it. Returns whether the
/// place has a rightful holder, so that what stands there stays.
///
/// `reprieved` tells whether a role that does not claim the place keeps it for now: see [`reprieve`].
fn settle(
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

fn powers_unread(role: &Role) -> Wait {
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

/// Every managed association in scope whose role is there and no longer asks for it.
fn withdraw(
    snapshot: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
    asking: &AskingRoles<'_>,
    known: &Places<'_>,
    kept: &[bool],
    plan: &mut Plan,
) {
    let mut missed: BTreeMap<&ClusterId, BTreeSet<Workload>> = BTreeMap::new();
    // Where a cluster could not be read nobody's claim was looked at: nothing follows.
    let looked_at = snapshot.clusters.values().filter(|cluster| {
        snapshot.scope.holds_cluster(&cluster.id)
            && snapshot.is_readable(&cluster.id)
            && cluster.is_enrolled(keys)
            && cluster.status.is_ready()
    });
    let looked_at: HashMap<&ClusterId, &Cluster> = looked_at.map(|cluster| (&cluster.id, cluster)).collect();
    for (association, place) in snapshot.associations.iter().zip(known.of_associations()) {
        let Some(mark) = association.managed() else { continue };
        let Some(cluster) = looked_at.get(&association.cluster) else { continue };
        if !snapshot.scope.workloads.holds(&association.workload) {
            continue;
        }
        // A role that is not there at all is the business of clean-up-orphans.
        let Some(its_role) = asking.get(&mark.role_arn) else { continue };
        let expulsion = expulsion(its_role, guardrails, association);
        let expelled = !expulsion.is_empty();
        let kept = kept.get(*place).is_some_and(|kept| *kept);
        if kept && !expelled {
            continue;
        }
        let claims = known.places().get(*place).map(|known| &known.claims);
        let claimed = claims.into_iter().flatten().any(|claim| claim.asking.role.arn == mark.role_arn);
        let reprieve = reprieve(snapshot, keys, its_role, association);
        if reprieve.is_some() && !claimed {
            // No claim tells of it. What is about the role is told with it, if it asks for anything.
            let place = (&cluster.id, &association.workload, &mark.subject);
            let untold = |refusal: &&Refusal| refusal.is_about_a_place() || its_role.tags.grants.is_empty();
            let told = expulsion.iter().filter(untold);
            plan.findings.extend(told.map(|refusal| guarded(its_role, Some(place), refusal)));
        }
        if kept {
            // By another role.
            continue;
        }
        match reprieve {
            Some(Reprieve::BadTag(key)) if !expelled => plan.findings.push(Finding {
                kind: FindingKind::KeptForBadTag,
                role: Some(mark.role_arn.clone()),
                cluster: Some(cluster.id.clone()),
                workload: Some(association.workload.clone()),
                grant: Some(mark.subject.to_string()),
                reason: format!(
                    "tag {key} asked for it and has a part that does not parse; mend it, and the \
                     association stays or goes as it says"
                ),
            }),
            // The grant itself was refused aloud.
            Some(Reprieve::Unclear | Reprieve::Unexpanded) if !expelled => {}
            Some(Reprieve::Missed) if !expelled => {
                missed.entry(&cluster.id).or_default().insert(association.workload.clone());
            }
            reprieve => {
                let may_ask = claimed || reprieve.is_some();
                let reason = if mark.role_id != its_role.role.id {
                    RevokeReason::RoleReplaced
                } else if expelled && may_ask {
                    RevokeReason::Refused
                } else if account_of(snapshot, &its_role.tags, association) == Account::Gone {
                    RevokeReason::ServiceAccountGone
                } else {
                    RevokeReason::GrantWithdrawn
                };
                plan.changes.push(Change::Revoke { association: association.clone(), reason });
            }
        }
    }
    // Where something could not be read nothing goes, at however many looks.
    if snapshot.gaps.is_empty() {
        plan.waits.extend(missed.into_iter().filter_map(|(cluster, missed)| second_look(cluster, missed)));
    }
}

/// Why an association stays although no claim of its role names its place: in
/// doubt, nobody loses access, neither to no one nor to another role.
enum Reprieve {
    /// The tag of this key made it, and does not parse any more.
    BadTag(String),
    /// A grant of its role may well mean it.
    Unclear,
    /// So may a pattern, on a cluster that was not looked into.
    Unexpanded,
    /// A pattern does, and the service account did not show for the first time.
    Missed,
}

/// The guardrails by which an association goes, whether a tag asks for it or not: then
/// there is no doubt for a [`Reprieve`].
fn expulsion(asking: &Asking<'_>, guardrails: &Guardrails, association: &Association) -> Vec<Refusal> {
    let here = guardrails.namespace_refusal(&association.workload.namespace);
    asking
        .refusals
        .iter()
        .chain(&here)
        .filter(|refusal| guardrails.ruling([*refusal]) == Ruling::Expelled)
        .cloned()
        .collect()
}

fn reprieve(
    snapshot: &Snapshot,
    keys: &TagKeys,
    asking: &Asking<'_>,
    association: &Association,
) -> Option<Reprieve> {
    let mark = association.managed()?;
    // The bad tag of a role made again under the same name made nothing.
    if mark.role_id == asking.role.id
        && !asking.problems.is_empty()
        && let Some(problem) = asking.problem_with(keys, &grant_tag(&mark.label))
    {
        return Some(Reprieve::BadTag(problem.key.clone()));
    }
    let mut subjects = asking.tags.grants.iter().map(|grant| &grant.subject);
    if subjects.any(|s| s.means(&association.workload) && ambiguous(snapshot, s, association)) {
        return Some(Reprieve::Unclear);
    }
    match account_of(snapshot, &asking.tags, association) {
        Account::Unknown => Some(Reprieve::Unexpanded),
        Account::Missed => Some(Reprieve::Missed),
        Account::NotMeant | Account::There | Account::Gone => None,
    }
}

const TARGET_ROLE: &str = "target-role";
const SESSION_TAGS: &str = "session-tags";

fn grant_tag(label: &str) -> String {
    if label.is_empty() { "grant".to_owned() } else { format!("grant/{label}") }
}

/// A name that became ambiguous after the association was made: it was refused
/// aloud, and access that stands is not taken away for another cluster's birth.
fn ambiguous(snapshot: &Snapshot, subject: &Subject, association: &Association) -> bool {
    match &subject.clusters {
        ClusterSelector::Name(name) => {
            *name == association.cluster.name
                && snapshot.clusters.keys().filter(|id| id.name == *name).count() > 1
        }
        _ => false,
    }
}
