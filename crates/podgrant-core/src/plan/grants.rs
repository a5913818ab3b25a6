//! Every valid grant has its association, and no association lacks its grant.

use foldhash::{HashMap, HashMapExt as _};

use super::Plan;
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
mod settle;
mod trust;
mod withdraw;

use patterns::{Meant, expand, passed_by};
pub use patterns::{accounts_wanted, meant_accounts};
use places::Places;
use settle::{powers_unread, settle};
pub(super) use trust::manage_trust;
use trust::{trust_refusal, unmended};
use withdraw::{expulsion, reprieve, withdraw};

const TARGET_ROLE: &str = "target-role";
const SESSION_TAGS: &str = "session-tags";

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
