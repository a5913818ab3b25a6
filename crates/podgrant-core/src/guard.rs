//! Between the plan and AWS: ownership, partial views, and a limit on loss.
//!
//! Nothing is applied but what stands in an [`Approved`], and only [`guard()`]
//! makes one.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::model::{Association, Gap, Role, Snapshot};
use crate::names::{AssociationId, ClusterId};
use crate::orphan::{OrphanMark, RoleRecord, reserved_path};
use crate::outcome::{Finding, FindingKind, Wait};
use crate::plan::{
    AgentRemoval, Change, OrphanStanding, Others, Plan, UnmarkReason, agent_needed, trust_needed,
};
use crate::subject::ClusterSelector;
use crate::tags::{Grant, OnOrphan, RoleTags, TagKeys};
use crate::trust::manage::{keeps_what_is_not_ours, others_let_in, withdrawn};

/// How much one pass may take away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// At most this many deletions of associations.
    pub deletions: usize,
    /// At most this many deletions of roles.
    pub role_deletions: usize,
    /// At most this share of the managed associations in view, 0 to 1, and of the roles that ask for any. It binds
    /// passes over a whole cluster or fleet: a role's view holds little but what goes.
    pub share: f64,
    /// Below this many deletions the share does not bind: one of two is no disaster.
    pub share_from: usize,
    /// How whoever meets a limit goes beyond it once.
    pub allow_by: AllowBy,
}

impl Default for Limits {
    fn default() -> Self {
        Self { deletions: 100, role_deletions: 5, share: 0.2, share_from: 10, allow_by: AllowBy::Invoke }
    }
}

/// How a limit is raised for one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowBy {
    /// `"allow"` beside the event of a direct invoke.
    Invoke,
    /// A flag of the command line.
    Flag,
}

impl AllowBy {
    fn told(self, Allowance { name, flag }: Allowance, value: impl fmt::Display) -> String {
        match self {
            Self::Invoke => format!(
                "allow it once by invoking this function with \"allow\": {{\"{name}\": {value}}} beside the event"
            ),
            Self::Flag => format!("allow it once with {flag} {value}"),
        }
    }
}

/// What a limit is called where it is raised once.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    name: &'static str,
    flag: &'static str,
}

/// The changes of a plan that may be made, in the plan's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Approved {
    changes: Vec<Change>,
    findings: Vec<Finding>,
    waits: Vec<Wait>,
    unchanged: usize,
    orphans: Vec<OrphanStanding>,
}

impl Approved {
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The plan's findings, and one for each change that was withheld.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    pub fn waits(&self) -> &[Wait] {
        &self.waits
    }

    pub fn unchanged(&self) -> usize {
        self.unchanged
    }

    /// The plan's, whatever was withheld.
    pub fn orphans(&self) -> &[OrphanStanding] {
        &self.orphans
    }
}

/// Lets through what may be done, and explains what may not.
pub fn guard(plan: Plan, snapshot: &Snapshot, keys: &TagKeys, limits: &Limits) -> Approved {
    let Plan { changes, mut findings, waits, unchanged, orphans } = plan;
    let (mut approved, mut withheld) = (Vec::new(), Vec::new());
    // Looked up once for all roles; by no other pass.
    let withdraws = changes.iter().any(|change| matches!(change, Change::WithdrawTrust { .. }));
    let others = if withdraws { Others::of(snapshot) } else { Others::default() };
    for change in changes {
        let reason = foreign(&change)
            .or_else(|| unasked(&change, snapshot, keys))
            .or_else(|| uninstalling(&change, snapshot, &others, keys, limits))
            .or_else(|| blind(&change, snapshot));
        match reason {
            Some(reason) => withheld.push((change, reason)),
            None => approved.push(change),
        }
    }
    // Each kind by itself: roles that are tidied up hold up no association that must go.
    for loss in losses(&approved, snapshot, keys, limits) {
        let (taken, left): (Vec<Change>, Vec<Change>) = approved.into_iter().partition(loss.0);
        approved = left;
        withheld.extend(taken.into_iter().map(|change| (change, loss.1.clone())));
    }
    if approved.iter().any(Change::uninstalls) {
        let (free, needed) = unneeded(approved, snapshot, withdraws);
        approved = free;
        withheld.extend(needed);
    }
    findings.extend(withheld.into_iter().map(|(change, reason)| Finding {
        kind: FindingKind::Withheld,
        role: change.role().cloned(),
        cluster: change.cluster().cloned(),
        workload: change.workload().cloned(),
        grant: change.mark().map(|mark| mark.subject.to_string()),
        reason,
    }));
    Approved { changes: approved, findings, waits, unchanged, orphans }
}

/// Parts what goes only where nobody needs it any more, by what is left of the other changes, from what is needed, and why.
fn unneeded(
    approved: Vec<Change>,
    snapshot: &Snapshot,
    withdraws: bool,
) -> (Vec<Change>, Vec<(Change, String)>) {
    let going: BTreeSet<(ClusterId, AssociationId)> = approved
        .iter()
        .filter_map(|change| match change {
            Change::Revoke { association, .. } => Some((association.cluster.clone(), association.id.clone())),
            _ => None,
        })
        .collect();
    let goes =
        |association: &Association| going.contains(&(association.cluster.clone(), association.id.clone()));
    let ours = |association: &&Association| association.managed().is_some() && !goes(association);
    let mut standing: HashMap<&str, &Association> = HashMap::new();
    for association in snapshot.associations.iter().filter(|_| withdraws).filter(ours) {
        for role in association.roles() {
            standing.entry(role).or_insert(association);
        }
    }
    let (mut free, mut needed) = (Vec::new(), Vec::new());
    for change in approved {
        match leant_on(&change, snapshot, goes, &standing) {
            Some(reason) => needed.push((change, reason)),
            None => free.push(change),
        }
    }
    (free, needed)
}

fn foreign(change: &Change) -> Option<String> {
    if let Change::RemoveAgent { agent, .. } = change {
        return (!agent.managed).then(|| "podgrant did not install this agent".to_owned());
    }
    if let Change::RemoveAccessEntry { entry } = change {
        return (!entry.managed)
            .then(|| format!("podgrant did not make the access entry of {}", entry.principal));
    }
    if let Change::WithdrawTrust { policy_before, policy, .. } = change {
        return (withdrawn(policy_before).as_ref() != Ok(&Some(policy.clone())))
            .then(|| "it would change what is not podgrant's in the trust policy".to_owned());
    }
    if let Change::AmendTrust { policy_before, policy, .. } = change {
        return (!keeps_what_is_not_ours(policy_before, policy))
            .then(|| "it would change what is not podgrant's in the trust policy".to_owned());
    }
    let association = change.existing()?;
    if let Change::Adopt { association, mark } = change
        && association.may_be_adopted_by(&mark.role_arn)
        && association.cluster == mark.cluster
        && mark.subject.means(&association.workload)
    {
        return None;
    }
    match (&association.mark, &association.owner) {
        (_, Some(owner)) => Some(format!("association {} is owned by {owner}", association.id)),
        (None, None) if matches!(change, Change::Adopt { .. }) => Some(format!(
            "association {} is not known to have the role that would adopt it in this place",
            association.id
        )),
        (None, None) => Some(format!("association {} does not carry podgrant's mark", association.id)),
        (Some(mark), None) if association.managed().is_none() => Some(format!(
            "association {} carries the mark of {} on {}: it was copied, and is not podgrant's",
            association.id, mark.subject, mark.cluster
        )),
        (Some(_), None) if matches!(change, Change::Adopt { .. }) => {
            Some(format!("association {} is podgrant's already", association.id))
        }
        (Some(_), None) => None,
    }
}

/// Why a role must not be marked, unmarked or deleted: judged anew, by what was read and not by what was planned.
fn unasked(change: &Change, snapshot: &Snapshot, keys: &TagKeys) -> Option<String> {
    let (arn, id) = match change {
        Change::MarkOrphan { role, mark } | Change::UnmarkOrphan { role, mark, .. } => (role, &mark.role_id),
        Change::DeleteRole { record, .. } => (&record.role_arn, &record.role_id),
        _ => return None,
    };
    let Some(role) = snapshot.roles.get(arn).filter(|role| role.id == *id) else {
        return Some(format!("the role {id} is not in view, or another has its name"));
    };
    let (tags, problems) = RoleTags::parse(keys, &role.tags);
    let key = keys.key(OrphanMark::KEY);
    match change {
        // That policies of it may be gone must not be forgotten.
        Change::MarkOrphan { .. }
            if tags
                .orphaned_since
                .as_ref()
                .is_some_and(|mark| mark.begun && mark.is_of(role, snapshot.observed_at)) =>
        {
            Some("the role's deletion was begun".to_owned())
        }
        // A mark of another day would cut the grace period short.
        Change::MarkOrphan { mark, .. } => (mark.since != snapshot.observed_at || mark.begun)
            .then(|| format!("{key} = {mark} is not the mark of a role that is found to be an orphan now")),
        Change::UnmarkOrphan { mark, .. } => (tags.orphaned_since.as_ref() != Some(mark) || mark.begun)
            .then(|| format!("{key} = {mark} is not a mark that the role has and may lose")),
        Change::DeleteRole { record, mark } => {
            let marked = tags.orphaned_since.as_ref() == Some(mark) && mark.is_of(role, snapshot.observed_at);
            if !marked {
                return Some(format!("the role does not carry {key} = {mark}, or it is not its own"));
            }
            if tags.on_orphan != OnOrphan::Delete {
                return Some(format!("the role does not carry {} = delete", keys.key("on-orphan")));
            }
            if let Some(problem) = problems.first() {
                return Some(format!("what the role asks for can't be told: {problem}"));
            }
            protected(role, &tags, record, snapshot).or_else(|| {
                let since = record.last_used.is_some_and(|at| at > mark.since);
                since.then(|| "it was used since it was marked".to_owned())
            })
        }
        _ => None,
    }
}

/// Why a role is not to be deleted, whatever its marks.
fn protected(role: &Role, tags: &RoleTags, record: &RoleRecord, snapshot: &Snapshot) -> Option<String> {
    let inventory = snapshot.inventories.get(&role.arn);
    if inventory.and_then(|inventory| RoleRecord::of(role, inventory)).as_ref() != Some(record) {
        return Some("what is kept of the role is not what was read of it".to_owned());
    }
    if let Some(path) = reserved_path(&role.arn) {
        return Some(format!("its path {path} is AWS's own"));
    }
    if inventory.is_some_and(|inventory| !inventory.instance_profiles.is_empty()) {
        return Some("it is in an instance profile".to_owned());
    }
    if others_let_in(&role.trust_policy) != Ok(BTreeSet::new()) {
        return Some("its trust policy lets in others than pods, or can't be told".to_owned());
    }
    let elsewhere = |grant: &&Grant| matches!(&grant.subject.clusters, ClusterSelector::RegionAndName(region, _) if !snapshot.looks_at(region));
    if let Some(grant) = tags.grants.iter().find(elsewhere) {
        return Some(format!("its grant {} names a region that is not looked at", grant.subject));
    }
    let named = |cluster| tags.grants.iter().find(|grant| grant.subject.clusters.matches(cluster));
    if tags.grants.iter().any(|grant| grant.subject.clusters.cluster_name().is_none())
        || tags.grants.is_empty()
    {
        return Some("its grants do not name clusters".to_owned());
    }
    if let Some(grant) = snapshot.clusters.values().find_map(named) {
        return Some(format!("a cluster is there for its grant {}", grant.subject));
    }
    let holds = |association: &&Association| association.roles().contains(role.arn.as_str());
    if let Some(association) = snapshot.associations.iter().find(holds) {
        return Some(format!("association {} on {} has it", association.id, association.cluster));
    }
    // Which role one of them has does not show in a listing.
    let opaque = |association: &Association| association.mark.is_none() && association.record.is_none();
    (!snapshot.holders_whole || snapshot.associations.iter().any(opaque))
        .then(|| "not every association was looked at".to_owned())
}

/// Why what podgrant made must not be taken away whole: judged anew, by what was read.
fn uninstalling(
    change: &Change,
    snapshot: &Snapshot,
    others: &Others<'_>,
    keys: &TagKeys,
    limits: &Limits,
) -> Option<String> {
    if change.uninstalls() && limits.allow_by != AllowBy::Flag {
        return Some("only a person at the command line takes away all that podgrant made".to_owned());
    }
    let Change::WithdrawTrust { role, role_id, policy_before, policy } = change else { return None };
    let found = snapshot.roles.get(role);
    let Some(role) = found.filter(|role| role.id == *role_id && role.trust_policy == *policy_before) else {
        return Some(format!("the role {role_id} with this trust policy is not in view"));
    };
    trust_needed(role, policy, snapshot, others, keys)
}

/// Why what others lean on has to stay, when of the associations in view just those go that `goes` says. `standing` has one
/// of podgrant's that does not, by role.
fn leant_on(
    change: &Change,
    snapshot: &Snapshot,
    goes: impl Fn(&Association) -> bool,
    standing: &HashMap<&str, &Association>,
) -> Option<String> {
    match change {
        Change::RemoveAgent { cluster, reason: AgentRemoval::Uninstalled, .. } => {
            agent_needed(cluster, snapshot, goes)
        }
        Change::WithdrawTrust { role, .. } => standing.get(role.as_str()).map(|association| {
            format!("association {} on {} stays, and needs it", association.id, association.cluster)
        }),
        _ => None,
    }
}

/// What a change needs to see, and this pass does not.
fn blind(change: &Change, snapshot: &Snapshot) -> Option<String> {
    let why = match change {
        // Roles are of every cluster; what is on one cluster is seen there.
        Change::WithdrawTrust { .. } | Change::UnmarkOrphan { reason: UnmarkReason::Uninstalled, .. } => {
            snapshot.why_partial()
        }
        change if change.uninstalls() => {
            let here = |gap: &&Gap| gap.cluster.is_some() && gap.cluster.as_ref() == change.cluster();
            snapshot.gaps.iter().find(here).map(|gap| gap.why.as_str())
        }
        Change::MarkOrphan { .. } | Change::DeleteRole { .. } => snapshot.why_partial(),
        change if change.takes_away() => snapshot.gaps.first().map(|gap| gap.why.as_str()),
        _ => None,
    };
    let does = if matches!(change, Change::MarkOrphan { .. }) { "marks" } else { "deletes" };
    why.map(|why| {
        format!("a partial view {does} nothing: {why}; it is looked at again when the view is whole")
    })
}

/// Whether a change is a loss of one kind.
type Kind = fn(&Change) -> bool;

/// Which kinds of loss are too many, and why none of a kind is allowed.
fn losses(changes: &[Change], snapshot: &Snapshot, keys: &TagKeys, limits: &Limits) -> Vec<(Kind, String)> {
    // What a person takes away whole was counted, and confirmed with the count.
    let of_associations =
        |change: &Change| change.existing().is_some() && change.takes_away() && !change.uninstalls();
    // One whose deletion was begun was allowed before, and is the worse for waiting.
    let of_roles = |change: &Change| matches!(change, Change::DeleteRole { mark, .. } if !mark.begun);
    // Agents are not counted: each is removed at the word of its own cluster's tag.
    let associations = Loss {
        what: "associations",
        lost: changes.iter().filter(|change| of_associations(change)).count(),
        of: "managed associations",
        most: limits.deletions,
        variable: "PODGRANT_MAX_DELETIONS",
        allowance: Allowance { name: "deletions", flag: "--allow-deletions" },
    };
    let roles = Loss {
        what: "roles",
        lost: changes.iter().filter(|change| of_roles(change)).count(),
        of: "roles with grants",
        most: limits.role_deletions,
        variable: "PODGRANT_MAX_ROLE_DELETIONS",
        allowance: Allowance { name: "roleDeletions", flag: "--allow-role-deletions" },
    };
    let in_view = || snapshot.associations.iter().filter(|a| a.managed().is_some()).count();
    let asking = || {
        let tags = snapshot.roles.values().map(|role| RoleTags::parse(keys, &role.tags).0);
        tags.filter(|tags| !tags.grants.is_empty()).count()
    };
    let all_roles = snapshot.scope.roles.is_none();
    let managed = || in_view() + snapshot.managed_elsewhere;
    let of_associations: Kind = of_associations;
    [
        associations.too_many(all_roles, managed, limits).map(|reason| (of_associations, reason)),
        roles.too_many(all_roles, asking, limits).map(|reason| (of_roles as Kind, reason)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a pass would take away of one kind of thing.
struct Loss {
    what: &'static str,
    lost: usize,
    /// What the share is of.
    of: &'static str,
    most: usize,
    variable: &'static str,
    allowance: Allowance,
}

impl Loss {
    fn too_many(&self, share_binds: bool, all: impl Fn() -> usize, limits: &Limits) -> Option<String> {
        let Self { what, lost, of, most, variable, allowance } = self;
        if lost > most {
            let once = limits.allow_by.told(*allowance, lost);
            return Some(format!(
                "this pass would delete {lost} {what}, and at most {most} are allowed; \
                 if that is meant, {once}, or raise {variable} to {lost}"
            ));
        }
        if !share_binds || *lost < limits.share_from || *lost == 0 {
            return None;
        }
        let all = all();
        #[expect(clippy::cast_precision_loss, reason = "counts of associations and roles are far below 2^52")]
        let share = *lost as f64 / all.max(1) as f64;
        (share > limits.share).then(|| {
            // Rounded up, so that the number named is one that lets it through.
            let enough = format!("{:.2}", (share * 100.0).ceil() / 100.0);
            let once = limits.allow_by.told(Allowance { name: "share", flag: "--allow-share" }, &enough);
            format!(
                "this pass would delete {lost} of {all} {of}, and at most {:.0} % are allowed; \
                 if that is meant, {once}, or raise PODGRANT_MAX_DELETION_SHARE to {enough}",
                limits.share * 100.0,
            )
        })
    }
}

#[cfg(test)]
mod tests;
