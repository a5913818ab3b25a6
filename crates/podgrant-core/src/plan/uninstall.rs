//! All that podgrant made goes, and nothing else. What carries our mark is ours; what people wrote, and what others
//! made, stays.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use serde::Serialize;

use super::{AgentRemoval, Change, Plan, RevokeReason, UnmarkReason};
use crate::guard::Approved;
use crate::model::{Association, Cluster, ClusterStatus, Role, Snapshot};
use crate::names::{ClusterId, Region, RoleArn, Workload};
use crate::orphan::OrphanMark;
use crate::outcome::{Finding, FindingKind};
use crate::subject::ClusterSelector;
use crate::tags::{RoleTags, TagKeys};
use crate::trust::manage::{subjects, withdrawn};
use crate::trust::{PODS_PRINCIPAL, TrustPolicy, Use};
use crate::verify::{ROLE_PATH, looks_like_verify};

/// Where the roles of podgrant's functions are, by CloudFormation and by Terraform (`infra`).
const STACK_PATH: &str = "/podgrant/";

/// What `podgrant verify` made, and another command takes away.
const OF_VERIFY: &str = "of a podgrant verify that has not ended: podgrant verify --clean";

/// How many of many are named.
const NAMED: usize = 10;

/// What is said of all that goes because a person takes away what podgrant made.
pub(super) const UNINSTALLED: &str = "podgrant is uninstalled";

impl Change {
    /// Whether it is done for nothing but that a person takes away all that podgrant made.
    pub fn uninstalls(&self) -> bool {
        matches!(
            self,
            Self::Revoke { reason: RevokeReason::Uninstalled, .. }
                | Self::RemoveAgent { reason: AgentRemoval::Uninstalled, .. }
                | Self::UnmarkOrphan { reason: UnmarkReason::Uninstalled, .. }
                | Self::RemoveAccessEntry { .. }
                | Self::WithdrawTrust { .. }
        )
    }
}

/// Whom statements of ours let in that go.
pub(super) fn fmt_withdrawal(
    f: &mut fmt::Formatter<'_>,
    role: &RoleArn,
    before: &str,
    after: &str,
) -> fmt::Result {
    let (before, after) = (subjects(before), subjects(after));
    let gone: Vec<&str> = before.difference(&after).map(String::as_str).collect();
    write!(
        f,
        "- role {}  trust policy: podgrant's statements, that allow {PODS_PRINCIPAL} for {}",
        role.role_name(),
        gone.join(", ")
    )
}

/// Plans that nothing of podgrant's is left, on the clusters in scope and, where every cluster is, on roles.
///
/// It counts for opted-out clusters too: a cluster that is to leave podgrant's care opts out first, or its associations
/// are made again.
pub fn plan_uninstall(snapshot: &Snapshot, keys: &TagKeys) -> Plan {
    let mut plan = Plan::default();
    let ours = snapshot.associations.iter().filter(|association| association.managed().is_some());
    plan.changes.extend(ours.map(|association| Change::Revoke {
        association: association.clone(),
        reason: RevokeReason::Uninstalled,
    }));
    plan.findings.extend(snapshot.clusters.values().filter(|cluster| is_going(cluster)).map(|cluster| {
        let reason = format!("the cluster is {}: what is on it goes with it", cluster.status);
        finding(FindingKind::ClusterNotReady, None, Some(&cluster.id), reason)
    }));
    for (cluster, agent) in snapshot.agents.iter().filter(|(_, agent)| agent.managed) {
        match agent_needed(cluster, snapshot, |association| association.managed().is_some()) {
            _ if agent.status == "DELETING" => {}
            Some(why) => plan.findings.push(finding(FindingKind::AgentKept, None, Some(cluster), why)),
            None => plan.changes.push(Change::RemoveAgent {
                cluster: cluster.clone(),
                agent: agent.clone(),
                reason: AgentRemoval::Uninstalled,
            }),
        }
    }
    let entries = snapshot.access_entries.iter().filter(|entry| entry.managed);
    plan.changes.extend(entries.map(|entry| Change::RemoveAccessEntry { entry: entry.clone() }));
    // Whoever looks at one cluster can't tell what the others need of a role.
    if snapshot.scope.clusters.is_none() {
        let others = Others::of(snapshot);
        snapshot.roles.values().for_each(|role| plan_role(role, snapshot, &others, keys, &mut plan));
    }
    plan
}

fn plan_role(role: &Role, snapshot: &Snapshot, others: &Others<'_>, keys: &TagKeys, plan: &mut Plan) {
    let found = |kind, reason| finding(kind, Some(&role.arn), None, reason);
    let kept = |why| found(FindingKind::TrustPolicy, format!("podgrant's statements stay: {why}"));
    match withdrawn(&role.trust_policy) {
        Ok(None) => {}
        Ok(Some(policy)) => match trust_needed(role, &policy, snapshot, others, keys) {
            Some(why) => plan.findings.push(kept(why)),
            None => plan.changes.push(Change::WithdrawTrust {
                role: role.arn.clone(),
                role_id: role.id.clone(),
                policy_before: role.trust_policy.clone(),
                policy,
            }),
        },
        Err(why) => plan.findings.push(kept(why)),
    }
    let (tags, _) = RoleTags::parse(keys, &role.tags);
    let key = keys.key(OrphanMark::KEY);
    match tags.orphaned_since {
        None => plan.findings.extend(tags.damaged_mark.map(|problem| {
            found(FindingKind::FalseOrphanMark, format!("{problem}; podgrant did not write it, and leaves it"))
        })),
        Some(mark) if !mark.is_of(role, snapshot.observed_at) => plan.findings.push(found(
            FindingKind::FalseOrphanMark,
            format!("tag {key}: {mark} is not this role's own; podgrant did not write it, and leaves it"),
        )),
        // That policies of it may be gone must not be forgotten.
        Some(mark) if mark.begun => plan.findings.push(found(
            FindingKind::HalfDeletedRole,
            format!(
                "its deletion was begun, so policies of it may be missing, and its tag {key} stays to say so: give them \
                 back, or delete the role, and then take the tag off by hand"
            ),
        )),
        Some(mark) => plan.changes.push(Change::UnmarkOrphan {
            role: role.arn.clone(),
            mark,
            reason: UnmarkReason::Uninstalled,
        }),
    }
}

fn finding(
    kind: FindingKind,
    role: Option<&RoleArn>,
    cluster: Option<&ClusterId>,
    reason: String,
) -> Finding {
    Finding { kind, role: role.cloned(), cluster: cluster.cloned(), workload: None, grant: None, reason }
}

/// Whether a cluster takes what is on it along.
fn is_going(cluster: &Cluster) -> bool {
    cluster.status == ClusterStatus::Deleting
}

/// Who needs the agent of a cluster, once the associations that `goes` says are gone.
pub(crate) fn agent_needed(
    cluster: &ClusterId,
    snapshot: &Snapshot,
    goes: impl Fn(&Association) -> bool,
) -> Option<String> {
    let staying = snapshot.associations.iter().filter(|association| association.cluster == *cluster);
    let staying: BTreeSet<String> = staying
        .filter(|association| !goes(association))
        .map(|association| format!("{} ({})", association.workload, association.id))
        .collect();
    if staying.is_empty() {
        return None;
    }
    Some(format!("podgrant installed it, and associations that stay need it: {}", named(&staying)))
}

fn named(all: &BTreeSet<String>) -> String {
    let named: Vec<&str> = all.iter().take(NAMED).map(String::as_str).collect();
    let more = all.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// The roles that let podgrant adopt what others made, where associations of theirs go: which of these were adopted does
/// not show any more.
pub fn adopting(snapshot: &Snapshot, keys: &TagKeys) -> Option<String> {
    let going = snapshot.associations.iter().filter_map(Association::managed);
    let going: BTreeSet<&RoleArn> = going.map(|mark| &mark.role_arn).collect();
    let roles = going.into_iter().filter_map(|role| snapshot.roles.get(role));
    let adopting: BTreeSet<String> = roles
        .filter(|role| RoleTags::parse(keys, &role.tags).0.adopt)
        .map(|role| role.arn.role_name().to_owned())
        .collect();
    (!adopting.is_empty()).then(|| named(&adopting))
}

/// What stands and is not podgrant's.
#[derive(Debug, Default)]
pub(crate) struct Others<'a> {
    /// By the roles that pods get by them.
    by_role: HashMap<&'a str, Vec<&'a Association>>,
    /// One of which it was not read which role it has.
    opaque: Option<&'a Association>,
}

impl<'a> Others<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot) -> Self {
        let mut others = Self::default();
        for association in snapshot.associations.iter().filter(|other| other.managed().is_none()) {
            // The mark of one that is not ours was copied, and says nothing of its role.
            if association.record.is_none() {
                others.opaque = others.opaque.or(Some(association));
            }
            for role in association.roles() {
                others.by_role.entry(role).or_default().push(association);
            }
        }
        others
    }
}

/// Who needs podgrant's statements in a role's trust policy, when nothing of podgrant's is left on the clusters in view.
/// `policy` is what would be left.
pub(crate) fn trust_needed(
    role: &Role,
    policy: &str,
    snapshot: &Snapshot,
    others: &Others<'_>,
    keys: &TagKeys,
) -> Option<String> {
    if let Some(which) = means_elsewhere(role, snapshot, keys) {
        return Some(format!(
            "{which} names a region that is not looked at; name that region too, with --region"
        ));
    }
    if let Some(association) = others.opaque {
        return Some(format!(
            "which role association {} on {} has was not read",
            association.id, association.cluster
        ));
    }
    let (before, after) = (TrustPolicy::read(&role.trust_policy), TrustPolicy::read(policy));
    let staying = others.by_role.get(role.arn.as_str()).into_iter().flatten();
    let mut needing = staying.filter(|association| {
        let usage = Use {
            account: role.arn.account(),
            session_tags_off: association.record.as_ref().map(|record| record.session_tags_off),
            place: snapshot.clusters.get(&association.cluster).zip(Some(&association.workload)),
        };
        before.allows(&usage).is_ok() && after.allows(&usage).is_err()
    });
    needing.next().map(|association| {
        format!(
            "association {} of {} on {}, that podgrant did not make, needs them",
            association.id, association.workload, association.cluster
        )
    })
}

/// What names a region of which nothing is known: a grant, or a statement of ours whose grant is gone.
fn means_elsewhere(role: &Role, snapshot: &Snapshot, keys: &TagKeys) -> Option<String> {
    let (tags, _) = RoleTags::parse(keys, &role.tags);
    let grant = tags.grants.iter().find(|grant| {
        matches!(&grant.subject.clusters, ClusterSelector::RegionAndName(region, _) if !snapshot.looks_at(region))
    });
    if let Some(grant) = grant {
        return Some(format!("its grant {}", grant.subject));
    }
    let region = |subject: &str| {
        let (region, _) = subject.rsplit_once('@')?.1.split_once('/')?;
        region.parse::<Region>().ok()
    };
    let mut stated = subjects(&role.trust_policy).into_iter();
    let stated = stated.find(|subject| region(subject).is_some_and(|region| !snapshot.looks_at(&region)));
    stated.map(|subject| format!("one of them, for {subject},"))
}

/// Whether an association that was listed is still the one to be taken away: podgrant's own, for the same service
/// account, and of the very role that was listed, by its unique id. What the role's tags say by now makes no difference.
pub fn still_uninstalled(listed: &Association, now: &Association) -> bool {
    let role = |association: &Association| {
        association.managed().map(|mark| (mark.role_arn.clone(), mark.role_id.clone()))
    };
    let place = |association: &Association| {
        (association.cluster.clone(), association.id.clone(), association.workload.clone())
    };
    role(now).is_some() && role(now) == role(listed) && place(now) == place(listed)
}

/// What a person types so that all of it goes: it names what was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    text: String,
    /// The same in full.
    or: Option<String>,
}

impl Confirmation {
    /// For one cluster its name, with its region or without; for the fleet how much goes, so that what was counted is
    /// what is confirmed.
    pub fn of(cluster: Option<&ClusterId>, approved: &Approved) -> Self {
        match cluster {
            Some(cluster) => Self { text: cluster.name.to_string(), or: Some(cluster.to_string()) },
            None => Self { text: format!("remove {}", approved.changes().len()), or: None },
        }
    }

    pub fn is_given_by(&self, typed: &str) -> bool {
        typed == self.text || self.or.as_deref() == Some(typed)
    }
}

impl fmt::Display for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Something that has to do with podgrant and stays, for podgrant did not make it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    pub cluster: Option<ClusterId>,
    pub thing: LeftThing,
    pub role: Option<RoleArn>,
    pub workload: Option<Workload>,
    /// What it is, and whose.
    pub told: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftThing {
    /// A role of podgrant's own functions: as long as they run, they make everything again.
    Stack,
    /// A role that `podgrant verify` made.
    VerifyRole,
    /// Tags by which people ask for grants.
    RoleTags,
    /// Tags by which people say how a cluster is to be treated.
    ClusterTags,
    Association,
    Agent,
}

/// What stays, sorted.
pub fn left(snapshot: &Snapshot, keys: &TagKeys) -> Vec<Left> {
    let mut left = Vec::new();
    for role in snapshot.roles.values() {
        let about = |thing, told| Left {
            cluster: None,
            thing,
            role: Some(role.arn.clone()),
            workload: None,
            told: format!("role {}  {told}", role.arn.role_name()),
        };
        if role.arn.path() == ROLE_PATH {
            left.push(about(LeftThing::VerifyRole, OF_VERIFY.to_owned()));
            continue;
        }
        if role.arn.path() == STACK_PATH {
            left.push(about(LeftThing::Stack, "of podgrant's own functions: a stack is deployed".to_owned()));
        }
        let mark = keys.key(OrphanMark::KEY);
        let asked: Vec<&str> =
            role.tags.keys().filter(|key| keys.owns(key) && **key != mark).map(String::as_str).collect();
        if !asked.is_empty() {
            left.push(about(LeftThing::RoleTags, format!("tags {}", asked.join(", "))));
        }
    }
    for cluster in snapshot.clusters.values().filter(|cluster| snapshot.scope.holds_cluster(&cluster.id)) {
        let tags = cluster.tags.iter().filter(|(key, _)| keys.owns(key));
        let tags: Vec<String> = tags.map(|(key, value)| format!("{key} = {value}")).collect();
        if !tags.is_empty() {
            left.push(on(&cluster.id, LeftThing::ClusterTags, format!("tags {}", tags.join(", "))));
        }
    }
    let foreign = snapshot.associations.iter().filter(|association| association.managed().is_none());
    left.extend(foreign.map(|association| {
        let role = association.record.as_ref().map(|record| record.role_arn.as_str());
        let whose = match &association.owner {
            Some(owner) => format!("of {}", owner.splitn(6, ':').last().unwrap_or(owner)),
            None if role.is_some_and(|role| looks_like_verify(&association.workload, role)) => {
                OF_VERIFY.to_owned()
            }
            None => "made by somebody else".to_owned(),
        };
        Left {
            workload: Some(association.workload.clone()),
            ..on(
                &association.cluster,
                LeftThing::Association,
                format!("{}  association {}, {whose}", association.workload, association.id),
            )
        }
    }));
    let others = snapshot.agents.iter().filter(|(_, agent)| !agent.managed);
    left.extend(others.map(|(cluster, agent)| {
        on(cluster, LeftThing::Agent, format!("agent {}, not installed by podgrant", agent.version))
    }));
    left.sort();
    left
}

fn on(cluster: &ClusterId, thing: LeftThing, told: String) -> Left {
    Left { cluster: Some(cluster.clone()), thing, role: None, workload: None, told }
}
