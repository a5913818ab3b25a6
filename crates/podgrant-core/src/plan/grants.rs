//! Every valid grant has its association, and no association lacks its grant.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, Places, Plan, RevokeReason, by_place};
use crate::mark::Mark;
use crate::model::{Association, Cluster, Role, Snapshot};
use crate::names::{ClusterId, RoleArn, Workload};
use crate::outcome::{Finding, FindingKind, FollowUp, Wait};
use crate::subject::{ClusterSelector, Subject};
use crate::tags::{Grant, RoleTags, TagKeys, TagProblem};
use crate::trust::manage::{self, Wanted};
use crate::trust::{TrustPolicy, Use};

/// A role, and what its tags ask for.
struct Asking<'a> {
    role: &'a Role,
    tags: RoleTags,
    problems: Vec<TagProblem>,
    trust: TrustPolicy,
    /// Why its trust policy stands in the way of every grant, if it does.
    distrust: Option<String>,
    /// Why podgrant does not mend its trust policy, though it was asked to.
    unmanaged: Option<String>,
}

impl<'a> Asking<'a> {
    fn new(role: &'a Role, keys: &TagKeys) -> Self {
        let (tags, problems) = RoleTags::parse(keys, &role.tags);
        let trust = TrustPolicy::read(&role.trust_policy);
        let mut asking = Self { role, tags, problems, trust, distrust: None, unmanaged: None };
        asking.distrust = asking.distrusted(keys);
        asking
    }

    fn distrusted(&self, keys: &TagKeys) -> Option<String> {
        // With a bad tag, what stands keeps what it was made with, on or off.
        let session_tags_off = match self.problem_with(&keys.key(SESSION_TAGS)) {
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
        Use { account: self.role.arn.account(), session_tags_off, place }
    }

    /// The mark that a setting is taken from where its tag does not parse: what
    /// stands keeps what it was made with.
    fn before<'m>(&self, keys: &TagKeys, holder: Option<&'m Mark>, name: &str) -> Option<&'m Mark> {
        holder.filter(|mark| mark.role_arn == self.role.arn && self.problem_with(&keys.key(name)).is_some())
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
            && self.problem_with(&keys.key(SESSION_TAGS)).is_none()
            && association.may_be_adopted_by(&self.role.arn)
    }

    /// The problem with one of the role's tags, if it has one. IAM holds keys that
    /// differ only in case to be the same key.
    fn problem_with(&self, key: &str) -> Option<&TagProblem> {
        self.problems.iter().find(|problem| problem.key.eq_ignore_ascii_case(key))
    }
}

/// Roles in view, by ARN.
type AskingRoles<'a> = BTreeMap<&'a RoleArn, Asking<'a>>;

/// A place that somebody claims.
struct Place<'a> {
    cluster: &'a ClusterId,
    workload: &'a Workload,
    standing: Option<&'a Association>,
    /// Whether a role that does not claim the place keeps it for now: see [`reprieve`].
    reprieved: bool,
}

/// One role's wish for one place.
struct Claim<'a> {
    asking: &'a Asking<'a>,
    grant: Grant,
    /// Whether the role's trust policy lets EKS Pod Identity assume it here.
    trusting: bool,
}

/// Plans grants for the roles and clusters in scope.
///
/// Creates and updates follow from claims. Removals start from every managed
/// association in scope and subtract each reason to keep it.
pub fn plan_grants(snapshot: &Snapshot, keys: &TagKeys) -> Plan {
    let mut plan = Plan::default();
    let mut asking: AskingRoles<'_> =
        snapshot.roles.values().map(|role| (&role.arn, Asking::new(role, keys))).collect();
    let standing = by_place(snapshot);
    plan.changes
        .extend(asking.values_mut().filter_map(|asking| manage_trust(snapshot, keys, &standing, asking)));

    let mut claims: BTreeMap<(ClusterId, Workload), Vec<Claim<'_>>> = BTreeMap::new();
    for asking in asking.values() {
        // A pass over one cluster sees every role: their bad tags were told when they were set.
        if snapshot.scope.clusters.is_none() {
            plan.findings.extend(role_findings(asking, keys));
        }
        for grant in &asking.tags.grants {
            let Some(workload) = grant.subject.workload() else { continue };
            for cluster in targets(snapshot, keys, asking, grant, &mut plan.findings) {
                let holder = standing.get(&(&cluster.id, &workload)).and_then(|standing| standing.managed());
                let refusal = trust_refusal(keys, asking, grant, cluster, &workload, holder);
                let trusting = asking.distrust.is_none() && refusal.is_none();
                plan.findings.extend(refusal);
                claims.entry((cluster.id.clone(), workload.clone())).or_default().push(Claim {
                    asking,
                    grant: grant.clone(),
                    trusting,
                });
            }
        }
    }

    let mut kept: Places<'_> = BTreeSet::new();
    for ((cluster, workload), claims) in &claims {
        let standing = standing.get(&(cluster, workload)).copied();
        let reprieved =
            standing.is_some_and(|association| reprieve(snapshot, keys, &asking, association).is_some());
        let place = Place { cluster, workload, standing, reprieved };
        if settle(snapshot, keys, &place, claims, &mut plan) {
            kept.insert((cluster, workload));
        }
    }
    withdraw(snapshot, keys, &asking, &kept, &mut plan);

    for name in &snapshot.roles_gone {
        plan.waits.push(Wait {
            reason: format!("IAM does not show the role {name} yet, or no longer"),
            follow_up: FollowUp::RoleUnseen { name: name.clone() },
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
        // Without its target role a grant would give the pods other powers than it asked for.
        let halts = if problem.key.eq_ignore_ascii_case(&keys.key(TARGET_ROLE)) {
            "; until it is mended the role gets nothing new, and what it has stays as it is"
        } else {
            ""
        };
        findings.push(finding(FindingKind::BadTag, None, format!("{problem}{halts}")));
    }
    for grant in asking.tags.grants.iter().filter(|grant| grant.subject.workload().is_none()) {
        findings.push(finding(
            FindingKind::PatternNotExpanded,
            Some(grant.subject.to_string()),
            "this version does not expand namespace and service account patterns; name the service account"
                .to_owned(),
        ));
    }
    if let Some(distrust) = &asking.distrust {
        findings.push(finding(FindingKind::TrustPolicy, None, unmended(asking, keys, distrust)));
    }
    findings
}

/// A refusal, and why podgrant leaves it at that where it was asked to mend it.
fn unmended(asking: &Asking<'_>, keys: &TagKeys, refusal: &str) -> String {
    match &asking.unmanaged {
        None => refusal.to_owned(),
        Some(why) => {
            format!("{refusal}; {} = manage does not change the trust policy: {why}", keys.key("trust"))
        }
    }
}

/// Has the role trust EKS Pod Identity as its grants need, where it does not and a tag
/// says that podgrant may. The role is then judged by the policy as it will be.
fn manage_trust(
    snapshot: &Snapshot,
    keys: &TagKeys,
    standing: &BTreeMap<(&ClusterId, &Workload), &Association>,
    asking: &mut Asking<'_>,
) -> Option<Change> {
    if !asking.tags.manage_trust {
        return None;
    }
    let mut places = Vec::new();
    for grant in &asking.tags.grants {
        let Some(workload) = grant.subject.workload() else { continue };
        for cluster in targets(snapshot, keys, asking, grant, &mut Vec::new()) {
            let holder = standing.get(&(&cluster.id, &workload)).and_then(|standing| standing.managed());
            places.push((asking.session_tags_off(keys, holder), cluster, workload.clone()));
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
        grants: &asking.tags.grants,
        in_doubt: !asking.problems.is_empty(),
        uses,
    };
    // IAM lets nobody change a role that a service is linked to, nor AWS's own (IAM user guide, "Service-linked roles").
    let is_awss_own =
        ["/aws-service-role/", "/aws-reserved/"].iter().any(|path| asking.role.arn.as_str().contains(path));
    let unclear = [SESSION_TAGS, TARGET_ROLE].map(|name| asking.problem_with(&keys.key(name)));
    let mut amended = match unclear.into_iter().flatten().next() {
        // Its conditions hang on session tags, and without its target role it gets nothing new.
        Some(problem) => Err(format!("tag {} does not parse; mend it first", problem.key)),
        None if is_awss_own => Err("AWS keeps this role to itself".to_owned()),
        None => manage::amended(&asking.role.trust_policy, &wanted),
    };
    if matches!(amended, Ok(Some(_))) && needs_old_trust(snapshot, asking) {
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
            needed.then_some(change)
        }
        Err(why) => {
            asking.unmanaged = Some(why);
            None
        }
    }
}

/// Whether something stands, or may stand out of view, that the role's grants no longer
/// make: no trust goes before it does, and the guard may hold that back.
fn needs_old_trust(snapshot: &Snapshot, asking: &Asking<'_>) -> bool {
    let asks_for = |association: &Association| {
        snapshot.clusters.get(&association.cluster).is_some_and(|cluster| {
            let mut subjects = asking.tags.grants.iter().map(|grant| &grant.subject);
            subjects.any(|subject| subject.means(&association.workload) && subject.clusters.matches(cluster))
        })
    };
    let outlives = |association: &Association| {
        association.managed().is_some_and(|mark| {
            let turns_tags_on = mark.session_tags_off && !asking.tags.session_tags_off;
            mark.role_arn == asking.role.arn && (turns_tags_on || !asks_for(association))
        })
    };
    let sees_all = snapshot.gaps.is_empty() && snapshot.scope.clusters.is_none();
    !sees_all || snapshot.associations.iter().any(outlives)
}

/// Why the role's trust policy stands in the way of this grant in this place. What
/// stands in the way of all its grants is told once, with the role.
fn trust_refusal(
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
fn settle(
    snapshot: &Snapshot,
    keys: &TagKeys,
    place: &Place<'_>,
    claims: &[Claim<'_>],
    plan: &mut Plan,
) -> bool {
    let Place { cluster, workload, standing, .. } = *place;
    let holder = standing.and_then(Association::managed);
    let adopts =
        |claim: &Claim<'_>| standing.is_some_and(|association| claim.asking.adopts(keys, association));
    // Who stands keeps its place while it claims it; otherwise the older role.
    let winner = claims
        .iter()
        .filter(|claim| {
            let asking = claim.asking;
            let trusting = claim.trusting || holder.is_some_and(|mark| mark.role_id == asking.role.id);
            let clear = asking.problem_with(&keys.key(TARGET_ROLE)).is_none()
                || holder.is_some_and(|mark| mark.role_arn == asking.role.arn);
            trusting && clear
        })
        .min_by_key(|claim| {
            let role = claim.asking.role;
            let stands = holder.is_some_and(|mark| mark.role_arn == role.arn) || adopts(claim);
            (!stands, role.created_at, &role.arn, &claim.grant)
        });
    let Some(winner) = winner else {
        // Every claim is refused for the role's own faults, and none of them stands there.
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
    if let Some(holder) = holder.filter(|mark| place.reprieved && mark.role_arn != role.arn) {
        for claim in claims.iter().filter(|claim| claim.asking.role.arn != holder.role_arn) {
            plan.findings.push(refusal(
                FindingKind::Conflict,
                claim,
                format!(
                    "{} has this service account, and a tag of it may still ask for it; mend or remove that tag",
                    holder.role_arn
                ),
            ));
        }
        // What stands is not this claim's: `withdraw` says why it stays.
        return false;
    }
    for loser in claims.iter().filter(|claim| claim.asking.role.arn != role.arn) {
        plan.findings.push(refusal(
            FindingKind::Conflict,
            loser,
            format!(
                "{} has this service account already; a service account has one role on a cluster",
                role.arn
            ),
        ));
    }
    let mark = Mark {
        role_arn: role.arn.clone(),
        role_id: role.id.clone(),
        cluster: cluster.clone(),
        subject: winner.grant.subject.clone(),
        label: winner.grant.label.clone(),
        session_tags_off: session_tags_off(snapshot, keys, place, winner),
        target_role: winner
            .asking
            .before(keys, holder, TARGET_ROLE)
            .map_or(&winner.asking.tags.target_role, |mark| &mark.target_role)
            .clone(),
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
        (Some(association), Some(holder)) => {
            if *holder == mark && (association.record.is_none() || association.agrees_with(&mark)) {
                plan.unchanged += 1;
            } else {
                plan.changes.push(Change::Update { association: association.clone(), mark });
            }
        }
    }
    true
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
            match asking.problem_with(&keys.key(SESSION_TAGS)) {
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
fn session_tags_off(snapshot: &Snapshot, keys: &TagKeys, place: &Place<'_>, winner: &Claim<'_>) -> bool {
    let asking = winner.asking;
    let holder = place.standing.and_then(Association::managed);
    let wanted = asking.session_tags_off(keys, holder);
    let (Some(before), Some(cluster)) = (
        holder.filter(|mark| mark.role_id == asking.role.id).map(|mark| mark.session_tags_off),
        snapshot.clusters.get(place.cluster),
    ) else {
        return wanted;
    };
    let trusted =
        |off| asking.trust.allows(&asking.usage(Some(off), Some((cluster, place.workload)))).is_ok();
    if wanted != before && !winner.trusting && trusted(before) { before } else { wanted }
}

/// Every managed association in scope whose role is there and no longer asks for it.
fn withdraw(
    snapshot: &Snapshot,
    keys: &TagKeys,
    asking: &AskingRoles<'_>,
    kept: &Places<'_>,
    plan: &mut Plan,
) {
    for association in &snapshot.associations {
        let Some(mark) = association.managed() else { continue };
        let Some(cluster) = snapshot.clusters.get(&association.cluster) else { continue };
        // Where a cluster could not be read nobody's claim was looked at: nothing follows.
        if kept.contains(&(&association.cluster, &association.workload))
            || !snapshot.scope.holds_cluster(&cluster.id)
            || !snapshot.is_readable(&cluster.id)
            || !cluster.is_enrolled(keys)
            || !cluster.status.is_ready()
        {
            continue;
        }
        // A role that is not there at all is the business of clean-up-orphans.
        let Some(role) = asking.get(&mark.role_arn).map(|asking| asking.role) else { continue };
        match reprieve(snapshot, keys, asking, association) {
            Some(Reprieve::BadTag(key)) => plan.findings.push(Finding {
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
            Some(Reprieve::Unclear) => {}
            None => {
                let reason = if mark.role_id == role.id {
                    RevokeReason::GrantWithdrawn
                } else {
                    RevokeReason::RoleReplaced
                };
                plan.changes.push(Change::Revoke { association: association.clone(), reason });
            }
        }
    }
}

/// Why an association stays although no claim of its role names its place: in
/// doubt, nobody loses access, neither to no one nor to another role.
enum Reprieve {
    /// The tag of this key made it, and does not parse any more.
    BadTag(String),
    /// A grant of its role may well mean it.
    Unclear,
}

fn reprieve(
    snapshot: &Snapshot,
    keys: &TagKeys,
    asking: &AskingRoles<'_>,
    association: &Association,
) -> Option<Reprieve> {
    let mark = association.managed()?;
    let asking = asking.get(&mark.role_arn)?;
    let key = keys.key(&grant_tag(&mark.label));
    // The bad tag of a role made again under the same name made nothing.
    if mark.role_id == asking.role.id
        && let Some(problem) = asking.problem_with(&key)
    {
        return Some(Reprieve::BadTag(problem.key.clone()));
    }
    let unclear = asking.tags.grants.iter().map(|grant| &grant.subject).any(|subject| {
        subject.means(&association.workload)
            && (ambiguous(snapshot, subject, association) || patterned(snapshot, subject, association))
    });
    unclear.then_some(Reprieve::Unclear)
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

/// A pattern that this version does not expand may well mean it.
fn patterned(snapshot: &Snapshot, subject: &Subject, association: &Association) -> bool {
    subject.workload().is_none()
        && snapshot
            .clusters
            .get(&association.cluster)
            .is_some_and(|cluster| subject.clusters.matches(cluster))
}
