//! What becomes of a role all of whose clusters are gone: two looks, a grace period between them, and
//! whatever protects it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Change, Plan, UnmarkReason};
use crate::model::{Association, Role, Snapshot};
use crate::moment::rfc3339;
use crate::names::{ClusterId, Region, RoleArn};
use crate::orphan::{OrphanMark, OrphanSettings, RoleInventory, RoleRecord, reserved_path};
use crate::outcome::{Finding, FindingKind};
use crate::subject::{ClusterSelector, Subject};
use crate::tags::{Grant, OnOrphan, RoleTags, TagKeys, TagProblem};
use crate::trust::manage::others_let_in;

/// How many tags a role may have (IAM and AWS STS quotas).
const TAGS: usize = 50;

/// A role, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleJudgement<'a> {
    pub role: &'a Role,
    pub fate: RoleFate,
    /// Its mark, if it carries one of its own.
    pub mark: Option<OrphanMark>,
    /// What carries the mark's name and is no mark of this role.
    pub false_mark: Option<TagProblem>,
    /// The clusters that its grants name, as they name them.
    pub names: BTreeSet<String>,
}

/// What is to become of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleFate {
    /// It is no orphan.
    Lives(Life),
    /// What is in view does not tell.
    Unknown { why: String },
    /// It is an orphan, and all this protects it. Never empty.
    Protected(Vec<Protection>),
    /// It is an orphan, and podgrant says so and does no more.
    Reported(Leave),
    /// The first look: it is marked, and goes after that.
    Marked { until: i64 },
    /// It was marked, and the grace period is not over.
    Waits { until: i64 },
    /// The second look: it goes.
    Goes(Box<RoleRecord>),
}

/// Why a role is no orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It has nothing to do with podgrant.
    NoGrant,
    /// What it asks for can't be told.
    BadTag(TagProblem),
    /// A grant names no cluster: it may match one tomorrow.
    NamesNoCluster(Subject),
    /// A grant names a region of which nothing is known.
    RegionNotSeen(Region, Subject),
    /// A cluster that a grant names is there, in whatever state.
    ClusterThere(ClusterId),
    /// It may be tagged before its cluster is made.
    Young { until: i64 },
}

/// What protects an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    ReservedPath(&'static str),
    Used {
        at: i64,
    },
    InstanceProfiles(BTreeSet<String>),
    /// Somebody else than EKS Pod Identity may assume it.
    TrustsOthers(BTreeSet<String>),
    /// Whether somebody else may assume it can't be told.
    TrustUnclear(String),
    /// Pods have it, on whatever cluster and by whoever's hand.
    Held {
        by: String,
        more: usize,
    },
}

/// Why an orphan is only reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    /// What protects it was not looked for.
    NotLookedInto {
        /// Why not, if it was tried.
        why: Option<String>,
    },
    /// It does not carry `podgrant/on-orphan = delete`.
    NotAsked { deletes: bool },
    /// It does, and podgrant deletes no roles.
    SwitchedOff,
    /// It has as many tags as a role may have.
    NoRoomForMark,
    /// Not all was read that makes it again.
    NotReadWhole,
}

/// Judges every role in view. [`plan_roles`] follows from it; it also tells of those with which nothing is to do.
pub fn judge_roles<'a>(
    snapshot: &'a Snapshot,
    keys: &TagKeys,
    settings: &OrphanSettings,
) -> Vec<RoleJudgement<'a>> {
    let judge = Judge::new(snapshot, keys, settings);
    snapshot.roles.values().map(|role| judge.judge(role)).collect()
}

/// Whether a role would still be deleted, with everything read again. The same rules that planned it confirm it.
///
/// `again` is a whole view as far as this role goes: the role, its inventory with its settings, every cluster by the
/// names in its grants in every region that is looked at, and every association that has it.
///
/// # Errors
/// Why not.
pub fn role_still_goes(
    planned: &RoleRecord,
    again: &Snapshot,
    keys: &TagKeys,
    settings: &OrphanSettings,
) -> Result<(), String> {
    let Some(role) = again.roles.get(&planned.role_arn) else {
        return Err("the role is gone".to_owned());
    };
    if role.id != planned.role_id {
        return Err("the role was deleted and made again".to_owned());
    }
    let judgement = Judge::new(again, keys, settings).judge(role);
    match &judgement.fate {
        // Whoever changes it still cares for it.
        RoleFate::Goes(record) if **record == *planned => Ok(()),
        RoleFate::Goes(_) => Err("the role was changed meanwhile; the next pass judges it anew".to_owned()),
        fate => Err(fate.to_string()),
    }
}

/// Plans what becomes of the roles in view.
pub(super) fn plan_roles(snapshot: &Snapshot, keys: &TagKeys, settings: &OrphanSettings, plan: &mut Plan) {
    for judgement in judge_roles(snapshot, keys, settings) {
        let say = |kind, reason| Finding {
            kind,
            role: Some(judgement.role.arn.clone()),
            cluster: None,
            workload: None,
            grant: None,
            reason,
        };
        plan.changes.extend(judgement.change(snapshot.observed_at));
        plan.orphans.extend(judgement.standing());
        plan.findings.extend(judgement.finding(keys).map(|(kind, reason)| say(kind, reason)));
        // One that is written over is none any more. A pass over one cluster sees every role: it is told by others.
        let told = snapshot.why_partial().is_none() && !matches!(judgement.fate, RoleFate::Marked { .. });
        let false_mark = judgement.false_mark.as_ref().filter(|_| told);
        plan.findings.extend(false_mark.map(|problem| {
            say(FindingKind::FalseOrphanMark, format!("{problem}; nothing follows from it, take it away"))
        }));
    }
}

/// How an orphaned role stands, for a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrphanStanding {
    pub role_arn: RoleArn,
    pub standing: Standing,
    /// Since when every cluster that it names is known to be gone (RFC 3339), where the role is marked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// When it may be deleted (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// All of it in words: what becomes of the role, and why.
    pub text: String,
}

/// What becomes of an orphaned role, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is to be deleted.
    Goes,
    /// It is to be marked.
    Marked,
    /// It is marked, and its grace period is not over.
    Waits,
    /// Something protects it.
    Kept,
    /// It is podgrant's to tell of, and no more.
    Reported,
    /// Its deletion was begun and is not to go on: it may lack policies.
    HalfDeleted,
    /// What is in view does not tell.
    Unknown,
}

impl RoleJudgement<'_> {
    /// For a report; none of a role that is no orphan and never was half deleted.
    pub fn standing(&self) -> Option<OrphanStanding> {
        let (standing, until) = match &self.fate {
            fate if self.is_half_deleted() && !matches!(fate, RoleFate::Goes(_)) => {
                (Standing::HalfDeleted, None)
            }
            RoleFate::Lives(_) => return None,
            RoleFate::Unknown { .. } => (Standing::Unknown, None),
            RoleFate::Protected(_) => (Standing::Kept, None),
            RoleFate::Reported(_) => (Standing::Reported, None),
            RoleFate::Marked { until } => (Standing::Marked, Some(*until)),
            RoleFate::Waits { until } => (Standing::Waits, Some(*until)),
            RoleFate::Goes(_) => (Standing::Goes, None),
        };
        Some(OrphanStanding {
            role_arn: self.role.arn.clone(),
            standing,
            since: self.mark.as_ref().map(|mark| rfc3339(mark.since)),
            until: until.map(rfc3339),
            text: self.to_string(),
        })
    }

    /// Whether it may lack policies.
    fn is_half_deleted(&self) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.begun)
    }

    /// The clusters that its grants name, in words.
    fn clusters(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    fn change(&self, now: i64) -> Option<Change> {
        let role = || self.role.arn.clone();
        match (&self.fate, &self.mark) {
            (RoleFate::Marked { .. }, _) => {
                Some(Change::MarkOrphan { role: role(), mark: OrphanMark::new(self.role, now) })
            }
            (RoleFate::Goes(record), Some(mark)) => {
                Some(Change::DeleteRole { record: record.clone(), mark: mark.clone() })
            }
            // That its policies may be gone must not be forgotten.
            (_, Some(mark)) if mark.begun => None,
            (fate, Some(mark)) if fate.ends_the_wait() => {
                let (mark, reason) = (mark.clone(), UnmarkReason::SpokenFor(fate.to_string()));
                Some(Change::UnmarkOrphan { role: role(), mark, reason })
            }
            _ => None,
        }
    }

    fn finding(&self, keys: &TagKeys) -> Option<(FindingKind, String)> {
        let begun = self.mark.as_ref().filter(|mark| mark.begun);
        if let Some(mark) = begun.filter(|_| !matches!(self.fate, RoleFate::Goes(_))) {
            let then = if self.fate.may_go_on() {
                "a sweep that sees everything goes on".to_owned()
            } else {
                let tag = keys.key(OrphanMark::KEY);
                format!(
                    "what it had is in the log and in podgrant's event: give that back and take the tag {tag} away, or \
                     delete the role"
                )
            };
            return Some((
                FindingKind::HalfDeletedRole,
                format!(
                    "its deletion was begun and did not end (orphaned since {}), so policies of it may be missing; now \
                     {}; {then}",
                    rfc3339(mark.since),
                    self.fate
                ),
            ));
        }
        let gone = || format!("every cluster that its grants name is gone ({})", self.clusters());
        let by_hand = "take its tags away, or delete the role, if nothing else uses it";
        let asked = format!("{} = delete", keys.key("on-orphan"));
        let left = |what: String| Some((FindingKind::OrphanRole, format!("{}; {by_hand}{what}", gone())));
        match &self.fate {
            RoleFate::Lives(_) | RoleFate::Unknown { .. } | RoleFate::Goes(_) => None,
            RoleFate::Protected(_) => Some((FindingKind::OrphanKept, format!("{}; {}", gone(), self.fate))),
            RoleFate::Reported(leave) => match leave {
                Leave::NotLookedInto { why: Some(_) } => left(format!("; its tags say {asked}; {leave}")),
                Leave::NotLookedInto { why: None } | Leave::NotAsked { deletes: false } => {
                    left(String::new())
                }
                Leave::NotAsked { deletes: true } => {
                    left(format!("; podgrant deletes it where its tags say {asked}"))
                }
                Leave::SwitchedOff => {
                    left(format!("; its tags say {asked}, and podgrant is not configured to delete roles"))
                }
                Leave::NoRoomForMark => left(format!(
                    "; its tags say {asked}, and there is no room for podgrant's mark beside its {TAGS} tags"
                )),
                Leave::NotReadWhole => left(format!(
                    "; its tags say {asked}, and not all of it was read that would make it again; the next sweep looks \
                     again"
                )),
            },
            RoleFate::Marked { until } => Some((
                FindingKind::OrphanRole,
                format!(
                    "{}; its tags say {asked}: it is marked, and deleted after {}",
                    gone(),
                    rfc3339(*until)
                ),
            )),
            RoleFate::Waits { until } => {
                let since = self.mark.as_ref().map(|mark| mark.since);
                Some((
                    FindingKind::OrphanRole,
                    format!(
                        "{}; its tags say {asked}: orphaned since {}, it is deleted after {}",
                        gone(),
                        since.map(rfc3339).unwrap_or_default(),
                        rfc3339(*until)
                    ),
                ))
            }
        }
    }
}

impl RoleFate {
    /// Whether the grace period has to begin anew if the role is an orphan again: something was seen that speaks
    /// for it. That podgrant was switched off does not, nor what it could not see.
    fn ends_the_wait(&self) -> bool {
        matches!(self, Self::Lives(_) | Self::Protected(_) | Self::Reported(Leave::NotAsked { .. }))
    }

    /// Whether another look may bring it to its end without a change of the role.
    fn may_go_on(&self) -> bool {
        matches!(
            self,
            Self::Unknown { .. }
                | Self::Waits { .. }
                | Self::Reported(Leave::NotLookedInto { .. } | Leave::NotReadWhole)
        )
    }
}

/// Judges roles in one view.
struct Judge<'a, 'k> {
    snapshot: &'a Snapshot,
    keys: &'k TagKeys,
    settings: &'k OrphanSettings,
    /// Associations by the roles that they give.
    holders: BTreeMap<&'a str, Vec<&'a Association>>,
    /// Whether it is known of every association which roles it has.
    holders_known: bool,
}

impl<'a, 'k> Judge<'a, 'k> {
    fn new(snapshot: &'a Snapshot, keys: &'k TagKeys, settings: &'k OrphanSettings) -> Self {
        let mut holders: BTreeMap<&str, Vec<&Association>> = BTreeMap::new();
        // Without an inventory no role comes so far as to ask who has it.
        let asked = snapshot.associations.iter().filter(|_| !snapshot.inventories.is_empty());
        for association in asked {
            for role in association.roles() {
                holders.entry(role).or_default().push(association);
            }
        }
        // Which role it has does not show in a listing: it may have any.
        let opaque = |association: &Association| association.mark.is_none() && association.record.is_none();
        let holders_known = snapshot.holders_whole && !snapshot.associations.iter().any(opaque);
        Self { snapshot, keys, settings, holders, holders_known }
    }

    fn judge(&self, role: &'a Role) -> RoleJudgement<'a> {
        let (tags, problems) = RoleTags::parse(self.keys, &role.tags);
        let is_its_own = |mark: &OrphanMark| mark.is_of(role, self.snapshot.observed_at);
        let mark = tags.orphaned_since.clone().filter(is_its_own);
        let copied = tags.orphaned_since.as_ref().filter(|_| mark.is_none()).map(|copied| TagProblem {
            key: self.keys.key(OrphanMark::KEY),
            problem: format!("{copied} is not this role's own: its unique id is {}", role.id),
        });
        let fate = match self.life(&tags, problems) {
            Some(life) => RoleFate::Lives(life),
            None => self.fate_of_orphan(role, &tags, mark.as_ref()),
        };
        let names = tags.grants.iter().filter_map(|grant| grant.subject.clusters.cluster_name());
        let names = names.map(ToString::to_string).collect();
        RoleJudgement { role, fate, mark, false_mark: tags.damaged_mark.or(copied), names }
    }

    /// Why a role is no orphan, by its tags and the clusters in view: what holds in a partial view too.
    fn life(&self, tags: &RoleTags, problems: Vec<TagProblem>) -> Option<Life> {
        if let Some(problem) = problems.into_iter().next() {
            return Some(Life::BadTag(problem));
        }
        if tags.grants.is_empty() {
            return Some(Life::NoGrant);
        }
        let of_grant = |Grant { subject, .. }: &Grant| match &subject.clusters {
            ClusterSelector::All | ClusterSelector::Tags(_) => Some(Life::NamesNoCluster(subject.clone())),
            ClusterSelector::RegionAndName(region, _) if !self.snapshot.looks_at(region) => {
                Some(Life::RegionNotSeen(region.clone(), subject.clone()))
            }
            selector => {
                let there = self.snapshot.clusters.keys().find(|cluster| selector.names(cluster));
                there.cloned().map(Life::ClusterThere)
            }
        };
        tags.grants.iter().find_map(of_grant)
    }

    /// Of a role whose grants all name clusters that are not in view.
    fn fate_of_orphan(&self, role: &Role, tags: &RoleTags, mark: Option<&OrphanMark>) -> RoleFate {
        let snapshot = self.snapshot;
        let (now, grace) = (snapshot.observed_at, self.settings.grace);
        if let Some(gap) = snapshot.gaps.first() {
            return RoleFate::Unknown { why: format!("the view is partial: {}", gap.why) };
        }
        if let Some(why) = snapshot.why_partial() {
            let went =
                |grant: &Grant| snapshot.clusters_gone.iter().any(|gone| grant.subject.clusters.names(gone));
            // It was its own deletion that was seen, and the other clusters were asked for by name.
            return if tags.grants.iter().any(went) {
                RoleFate::Reported(Leave::NotLookedInto { why: None })
            } else {
                RoleFate::Unknown { why: format!("the view is partial: {why}") }
            };
        }
        if now.saturating_sub(role.created_at) < grace {
            return RoleFate::Lives(Life::Young { until: role.created_at.saturating_add(grace) });
        }
        let Some(inventory) = snapshot.inventories.get(&role.arn) else {
            return RoleFate::Reported(Leave::NotLookedInto { why: None });
        };
        let protections = self.protections(role, inventory, mark);
        if !protections.is_empty() {
            return RoleFate::Protected(protections);
        }
        if tags.on_orphan != OnOrphan::Delete {
            return RoleFate::Reported(Leave::NotAsked { deletes: self.settings.delete });
        }
        if !self.settings.delete {
            return RoleFate::Reported(Leave::SwitchedOff);
        }
        // By whom, if all its clusters were gone? The grace period begins anew.
        let unused = |mark: &&OrphanMark| inventory.last_used.is_none_or(|at| at <= mark.since);
        let mark = mark.filter(unused);
        if let Some(mark) = mark
            && now.saturating_sub(mark.since) < grace
        {
            return RoleFate::Waits { until: mark.since.saturating_add(grace) };
        }
        // The tags that AWS itself puts on count for nothing (IAM and AWS STS quotas).
        let tags_of_users = role.tags.keys().filter(|key| !key.starts_with("aws:")).count();
        if mark.is_none() && tags_of_users >= TAGS && !role.tags.contains_key(&self.keys.key(OrphanMark::KEY))
        {
            return RoleFate::Reported(Leave::NoRoomForMark);
        }
        // What it costs to look at every association is spent where it decides: to mark, and to delete.
        if !self.holders_known {
            return RoleFate::Reported(Leave::NotLookedInto { why: snapshot.holders_unseen.clone() });
        }
        if mark.is_none() {
            return RoleFate::Marked { until: now.saturating_add(grace) };
        }
        match RoleRecord::of(role, inventory) {
            Some(record) => RoleFate::Goes(Box::new(record)),
            None => RoleFate::Reported(Leave::NotReadWhole),
        }
    }

    fn protections(
        &self,
        role: &Role,
        inventory: &RoleInventory,
        mark: Option<&OrphanMark>,
    ) -> Vec<Protection> {
        let mut protections = Vec::new();
        protections.extend(reserved_path(&role.arn).map(Protection::ReservedPath));
        // Never used, or not tracked yet: then it would be younger than IAM's lag, and the grace period covers that.
        let of_late = |at: &i64| {
            self.snapshot.observed_at.saturating_sub(*at) < self.settings.grace
                || mark.is_some_and(|mark| mark.begun && *at > mark.since)
        };
        protections.extend(inventory.last_used.filter(of_late).map(|at| Protection::Used { at }));
        if !inventory.instance_profiles.is_empty() {
            protections.push(Protection::InstanceProfiles(inventory.instance_profiles.clone()));
        }
        match others_let_in(&role.trust_policy) {
            Ok(others) if others.is_empty() => {}
            Ok(others) => protections.push(Protection::TrustsOthers(others)),
            Err(why) => protections.push(Protection::TrustUnclear(why)),
        }
        // Least first, whatever their order in view.
        let held = self.holders.get(role.arn.as_str()).into_iter().flatten();
        let mut by: Vec<String> = held.map(|held| held_by(&role.arn, held)).collect();
        by.sort();
        if let Some(first) = by.first() {
            protections.push(Protection::Held { by: first.clone(), more: by.len() - 1 });
        }
        protections
    }
}

fn held_by(role: &RoleArn, association: &Association) -> String {
    let ours = association.managed().is_some_and(|mark| mark.role_arn == *role);
    let whose = if ours { "podgrant's" } else { "not podgrant's" };
    format!("{} {} (association {}, {whose})", association.cluster, association.workload, association.id)
}

/// A line of a report, for a person.
impl fmt::Display for RoleJudgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "role {}: ", self.role.arn.role_name())?;
        if self.is_half_deleted() {
            f.write_str("its deletion was begun, so policies of it may be missing; now ")?;
        } else if !matches!(self.fate, RoleFate::Lives(_) | RoleFate::Unknown { .. }) {
            write!(f, "every cluster that its grants name is gone ({}); ", self.clusters())?;
        }
        write!(f, "{}", self.fate)?;
        match &self.mark {
            Some(mark) => write!(f, "  (orphaned since {})", rfc3339(mark.since)),
            None => Ok(()),
        }
    }
}

/// Why a role stays or goes: "it is kept: …".
impl fmt::Display for RoleFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lives(life) => write!(f, "it is no orphan: {life}"),
            Self::Unknown { why } => write!(f, "it is not judged: {why}"),
            Self::Protected(protections) => {
                let words: Vec<String> = protections.iter().map(ToString::to_string).collect();
                write!(f, "it is kept: {}", words.join("; "))
            }
            Self::Reported(leave) => write!(f, "it is only reported: {leave}"),
            Self::Marked { until } => write!(f, "it is to be marked, and goes after {}", rfc3339(*until)),
            Self::Waits { until } => write!(f, "it is marked, and goes after {}", rfc3339(*until)),
            Self::Goes(_) => f.write_str("it goes"),
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGrant => f.write_str("it has no grant"),
            Self::BadTag(problem) => write!(f, "what it asks for can't be told ({problem})"),
            Self::NamesNoCluster(subject) => {
                write!(f, "{subject} names no cluster, and may match one tomorrow")
            }
            Self::RegionNotSeen(region, subject) => {
                write!(f, "{subject} names the region {region}, which podgrant does not look at")
            }
            Self::ClusterThere(cluster) => write!(f, "cluster {cluster} is there"),
            Self::Young { until } => {
                write!(f, "it is younger than the grace period, until {}", rfc3339(*until))
            }
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed =
            |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        match self {
            Self::ReservedPath(path) => write!(f, "its path {path} is AWS's own"),
            Self::Used { at } => {
                write!(f, "it was used at {}, within the grace period", rfc3339(*at))
            }
            Self::InstanceProfiles(names) => write!(f, "it is in instance profiles ({})", listed(names)),
            Self::TrustsOthers(names) => {
                write!(f, "its trust policy lets in others than pods ({})", listed(names))
            }
            Self::TrustUnclear(why) => write!(f, "whom its trust policy lets in can't be told ({why})"),
            Self::Held { by, more: 0 } => write!(f, "pods have it: {by}"),
            Self::Held { by, more } => write!(f, "pods have it: {by}, and {more} more"),
        }
    }
}

impl fmt::Display for Leave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLookedInto { why: Some(why) } => {
                return write!(f, "what may protect it was not looked for: {why}");
            }
            Self::NotLookedInto { why: None } => "what may protect it was not looked for",
            Self::NotAsked { .. } => "its tags do not ask for more",
            Self::SwitchedOff => "podgrant is not configured to delete roles",
            Self::NoRoomForMark => "it has no room for one tag more",
            Self::NotReadWhole => "not all of it was read that would make it again",
        })
    }
}
