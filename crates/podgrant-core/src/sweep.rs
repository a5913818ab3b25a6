//! A sweep, spread out: what one cluster should have, by value, in messages that a queue takes.
//!
//! Whoever serves a part reads no roles but to confirm what it is about to change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Cluster, Role, Stretch};
use crate::names::{AssociationId, ClusterId, Region, RoleArn, RoleId, Workload};
use crate::powers::Powers;
use crate::subject::Subject;
use crate::tags::TagKeys;

/// How large the roles of a part may be, in bytes of JSON, where a message may have `message_bytes`. What else is in it
/// is small: a cluster's tags, 50 of 384 characters at most, are the most of it.
pub fn part_bytes(message_bytes: usize) -> usize {
    message_bytes.saturating_sub(32_768)
}

/// What a message of any queue may hold: 256 KiB. Since 2025 queues can take up to 1 MiB (Amazon SQS quotas).
pub const MESSAGE_BYTES: usize = 262_144;

/// A part of a sweep: one cluster's service accounts, or a stretch of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SweepPart {
    pub cluster: ClusterId,
    /// The cluster's tags as the sweep saw them, where any grant selects by tags. A hint: before anything is
    /// changed the cluster itself is asked.
    pub tags: BTreeMap<String, String>,
    /// Other regions that have a cluster of that name.
    pub namesakes: BTreeSet<Region>,
    #[serde(flatten)]
    pub stretch: Stretch,
    /// Which associations are described, though the index knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
    /// The roles whose grants mean service accounts of the stretch on this cluster.
    #[serde(with = "packed")]
    pub roles: Vec<Arc<Role>>,
}

/// A rotating share of the associations: after as many sweeps as there are rounds, each was described once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Round {
    /// Counts the sweeps.
    pub number: u64,
    /// Never 0.
    pub of: u64,
}

/// How many associations of a cluster a sweep describes for no reason but that it is their turn, on average at the most:
/// somewhat more than the calls that list 5,000, the most that a cluster can have (EKS service quotas), and their tags.
pub const MOST_DESCRIBED: u64 = 125;

impl Round {
    /// The round of a sweep. `None` where `rounds` or `interval` is 0: no share is described.
    ///
    /// `now` in seconds since 1970; `interval` is the seconds from one sweep to the next. Sweeps that are due at
    /// multiples of it, and early or late by less than half of it, each have their own number; due halfway between, one
    /// that is early or late can repeat or skip a number, and its share comes with a later round.
    pub fn at(now: i64, interval: i64, rounds: u64) -> Option<Self> {
        let number = (now + interval / 2).checked_div(interval)?;
        (rounds > 0).then_some(Self { number: number.unsigned_abs(), of: rounds })
    }

    /// The round of a cluster with so many associations. Where its share would be more than [`MOST_DESCRIBED`] there are as many
    /// times more rounds: a sweep's cost is bounded, and what is described is found later instead.
    pub fn of_cluster(self, associations: usize) -> Self {
        let share = self.of.max(1).saturating_mul(MOST_DESCRIBED);
        let times = u64::try_from(associations).unwrap_or(u64::MAX).div_ceil(share).max(1);
        Self { of: self.of.saturating_mul(times), ..self }
    }

    pub fn holds(self, id: &AssociationId) -> bool {
        self.holds_text(id.as_str())
    }

    pub fn holds_cluster(self, cluster: &ClusterId) -> bool {
        self.holds_text(&cluster.to_string())
    }

    fn holds_text(self, text: &str) -> bool {
        // FNV-1a, 64 bits: even enough, and the same in every invocation.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The low bits of FNV are its weak ones.
        (hash >> 16) % self.of.max(1) == self.number % self.of.max(1)
    }
}

impl SweepPart {
    /// The cluster, and those of its name elsewhere, as far as the sweep saw them.
    pub fn clusters(&self) -> Vec<Cluster> {
        let seen = |region: &Region, tags: BTreeMap<String, String>| {
            let id = ClusterId::new(region.clone(), self.cluster.name.clone());
            // Trust policies may speak of it.
            let arn = self.roles.first().map(|role| id.arn_beside(&role.arn)).unwrap_or_default();
            Cluster { arn, ..Cluster::in_short(id, tags) }
        };
        let namesakes = self.namesakes.iter().map(|region| seen(region, BTreeMap::new()));
        namesakes.chain([seen(&self.cluster.region, self.tags.clone())]).collect()
    }

    /// What is left of it from this service account on.
    pub fn rest(&self, from: Workload) -> Self {
        Self { stretch: Stretch { from: Some(from), to: self.stretch.to.clone() }, ..self.clone() }
    }
}

/// Cuts what one cluster should have into stretches whose roles are at most `bytes` long together: whoever claims
/// the same service account, by its name or by a pattern, is in the same one, so that conflicts are settled as in one
/// piece. A role with a pattern is in each stretch that the pattern may mean something of.
///
/// A service account that more roles claim than fit keeps the oldest of them, before those that can't win it: who
/// holds it is looked at anyway. Those left out are told.
pub(crate) fn stretches<'a>(
    named: BTreeMap<Workload, Vec<&'a Claimant>>,
    patterned: &[(&'a Subject, &'a Claimant)],
    bytes: usize,
) -> Stretches {
    let mut cut = Stretches::default();
    let mut points = points(named, patterned);
    let mut open = Open::default();
    let mut from: Option<Workload> = None;
    // Patterns that began, and are not over yet.
    let mut running: Vec<(&Subject, &Claimant)> = Vec::new();
    let mut told: BTreeSet<&RoleArn> = BTreeSet::new();
    while let Some((workload, point)) = points.pop_first() {
        running.retain(|(subject, _)| subject.reaches(&workload));
        if !point.beginning.is_empty() {
            running.extend(point.beginning);
            running.sort_by_key(|(_, claimant)| claimant.rank());
        }
        let mut names = point.named;
        names.sort_by_key(|claimant| claimant.rank());
        let by_name = names.into_iter().map(|claimant| (true, claimant));
        let by_pattern = running.iter().map(|(_, claimant)| (false, *claimant));
        let (mut length, mut here) = (0, BTreeSet::new());
        let mut fitting: Vec<&Claimant> = Vec::new();
        // A name goes before a pattern.
        for (is_named, claimant) in by_name.chain(by_pattern) {
            if !here.insert(&claimant.role.arn) {
                continue;
            }
            length += claimant.bytes + claimant.policy_bytes;
            if length <= bytes || fitting.is_empty() {
                fitting.push(claimant);
            } else if is_named || told.insert(&claimant.role.arn) {
                let place = is_named.then(|| workload.clone());
                cut.left_out.push((place, Arc::clone(&claimant.role)));
            }
        }
        if open.length + open.length_of_all(&fitting) > bytes && !open.roles.is_empty() {
            let to = Some(workload.clone());
            cut.stretches
                .push((Stretch { from: from.take(), to: to.clone() }, std::mem::take(&mut open).done()));
            from = to;
        }
        open.add_all(&fitting);
    }
    cut.stretches.push((Stretch { from, to: None }, open.done()));
    cut
}

/// Where a stretch can be cut: at a service account that is named, or where a pattern begins.
#[derive(Default)]
struct Point<'a> {
    named: Vec<&'a Claimant>,
    beginning: Vec<(&'a Subject, &'a Claimant)>,
}

fn points<'a>(
    named: BTreeMap<Workload, Vec<&'a Claimant>>,
    patterned: &[(&'a Subject, &'a Claimant)],
) -> BTreeMap<Workload, Point<'a>> {
    let point = |(workload, named)| (workload, Point { named, ..Point::default() });
    let mut points: BTreeMap<Workload, Point<'a>> = named.into_iter().map(point).collect();
    for (subject, claimant) in patterned {
        points.entry(subject.lowest()).or_default().beginning.push((*subject, *claimant));
    }
    points
}

/// A role that claims a service account.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    pub role: Arc<Role>,
    /// Nothing about the role itself keeps it from winning.
    pub sound: bool,
    /// What it takes in a message, in bytes of JSON estimated from above: itself, and its trust policy where no other
    /// role of the message has the same.
    bytes: usize,
    policy_bytes: usize,
}

impl Claimant {
    pub fn new(role: Arc<Role>, sound: bool) -> Self {
        let escaped = |text: &str| text.len() + text.matches(['"', '\\', '\n']).count();
        let tags: usize = role.tags.iter().map(|(key, value)| escaped(key) + escaped(value) + 6).sum();
        let boundary = role.permissions_boundary.as_ref().map_or(0, |arn| arn.len() + 20);
        // Names of policies and what is wrong with them, where a guardrail refuses the role for it.
        let powers = match &role.powers {
            Powers::Unread | Powers::Limited => 0,
            Powers::Everything { policy } => escaped(policy) + 40,
            Powers::Unclear { policy, problem } => escaped(policy) + escaped(problem) + 40,
        };
        let bytes = role.arn.as_str().len() + role.id.as_str().len() + 52 + tags + boundary + powers;
        let policy_bytes = escaped(&role.trust_policy) + 6;
        Self { role, sound, bytes, policy_bytes }
    }

    /// The least comes first: who can win, then the oldest.
    fn rank(&self) -> (bool, i64, &RoleArn) {
        (!self.sound, self.role.created_at, &self.role.arn)
    }
}

/// What one cluster should have, cut into stretches.
#[derive(Debug, Default)]
pub(crate) struct Stretches {
    pub stretches: Vec<(Stretch, Vec<Arc<Role>>)>,
    /// Roles that claim a service account, and are too many; those that claim it by a pattern without it.
    pub left_out: Vec<(Option<Workload>, Arc<Role>)>,
}

/// A stretch that is being filled.
#[derive(Debug, Default)]
struct Open<'a> {
    roles: BTreeMap<&'a RoleArn, &'a Arc<Role>>,
    policies: BTreeSet<&'a str>,
    /// Bytes of JSON, estimated from above.
    length: usize,
}

impl<'a> Open<'a> {
    /// What a role adds, beside policies that come with others.
    fn length_of(&self, claimant: &Claimant, coming: &BTreeSet<&str>) -> usize {
        if self.roles.contains_key(&claimant.role.arn) {
            return 0;
        }
        let policy = claimant.role.trust_policy.as_str();
        let new = !self.policies.contains(policy) && !coming.contains(policy);
        claimant.bytes + if new { claimant.policy_bytes } else { 0 }
    }

    fn length_of_all(&self, claimants: &[&Claimant]) -> usize {
        let mut coming = BTreeSet::new();
        let mut length = 0;
        for claimant in claimants {
            length += self.length_of(claimant, &coming);
            coming.insert(claimant.role.trust_policy.as_str());
        }
        length
    }

    fn done(self) -> Vec<Arc<Role>> {
        self.roles.into_values().cloned().collect()
    }

    fn add_all(&mut self, claimants: &[&'a Claimant]) {
        self.length += self.length_of_all(claimants);
        for claimant in claimants {
            self.roles.insert(&claimant.role.arn, &claimant.role);
            self.policies.insert(&claimant.role.trust_policy);
        }
    }
}

/// A role as a part carries it: just podgrant's own tags.
pub(crate) fn carried(role: &Role, keys: &TagKeys) -> Arc<Role> {
    let tags = role.tags.iter().filter(|(key, _)| keys.owns(key));
    Arc::new(Role { tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(), ..role.clone() })
}

/// Roles with each trust policy once: most roles share theirs.
mod packed {
    use serde::de::Error as _;
    use serde::{Deserializer, Serializer};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Packed {
        policies: Vec<String>,
        roles: Vec<PackedRole>,
    }

    /// With names of a letter: there are thousands of them, and each byte is a role less in the message.
    #[derive(Serialize, Deserialize)]
    struct PackedRole {
        #[serde(rename = "a")]
        arn: RoleArn,
        #[serde(rename = "i")]
        id: RoleId,
        #[serde(rename = "c")]
        created_at: i64,
        #[serde(rename = "p")]
        policy: usize,
        #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
        boundary: Option<String>,
        #[serde(rename = "w", default = "limited", skip_serializing_if = "is_limited")]
        powers: Powers,
        #[serde(rename = "t")]
        tags: BTreeMap<String, String>,
    }

    fn limited() -> Powers {
        Powers::Limited
    }

    fn is_limited(powers: &Powers) -> bool {
        *powers == Powers::Limited
    }

    pub fn serialize<S: Serializer>(roles: &[Arc<Role>], serializer: S) -> Result<S::Ok, S::Error> {
        let unique: BTreeSet<&str> = roles.iter().map(|role| role.trust_policy.as_str()).collect();
        let policies: Vec<String> = unique.into_iter().map(str::to_owned).collect();
        let packed = roles.iter().map(|role| PackedRole {
            arn: role.arn.clone(),
            id: role.id.clone(),
            created_at: role.created_at,
            policy: policies.binary_search(&role.trust_policy).unwrap_or_default(),
            boundary: role.permissions_boundary.clone(),
            powers: role.powers.clone(),
            tags: role.tags.clone(),
        });
        let roles = packed.collect();
        Packed { policies, roles }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<Role>>, D::Error> {
        let Packed { policies, roles } = Packed::deserialize(deserializer)?;
        let unpacked = roles.into_iter().map(|role| {
            let policy = policies.get(role.policy).cloned();
            Ok(Arc::new(Role {
                trust_policy: policy
                    .ok_or_else(|| D::Error::custom("a role names a policy that is not there"))?,
                arn: role.arn,
                id: role.id,
                created_at: role.created_at,
                permissions_boundary: role.boundary,
                powers: role.powers,
                tags: role.tags,
            }))
        });
        unpacked.collect()
    }
}

#[cfg(test)]
mod tests;
