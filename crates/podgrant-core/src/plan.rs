//! From what is to what should be: pure, total, sorted.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::accounts::{Namespaces, SeenAccounts, ServiceAccounts};
use crate::guardrails::Guardrails;
use crate::mark::Mark;
use crate::model::{Agent, Association, ClusterAccess, Role, Scope, Snapshot};
use crate::moment::rfc3339;
use crate::names::{AssociationId, ClusterId, RoleArn, RoleId, Workload};
use crate::orphan::{OrphanMark, OrphanSettings, RoleRecord};
use crate::outcome::{Finding, FollowUp, Wait};
use crate::sweep::Round;
use crate::tags::TagKeys;
use crate::trust::{PODS_PRINCIPAL, manage};

mod grants;
mod orphans;
mod roles;
mod sweep;
mod uninstall;

pub use crate::agent::{AgentSettings, agent_namespaces, plan_agents};
pub use grants::{accounts_wanted, meant_accounts, plan_grants};
pub use orphans::{is_handed_over, plan_orphans};
pub use roles::{
    Leave, Life, OrphanStanding, Protection, RoleFate, RoleJudgement, Standing, judge_roles, role_still_goes,
};
pub use sweep::plan_sweep;
pub use uninstall::{Confirmation, Left, LeftThing, adopting, left, plan_uninstall, still_uninstalled};
pub(crate) use uninstall::{Others, agent_needed, trust_needed};

/// One change to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make an association as the mark says.
    Create { workload: Workload, mark: Mark },
    /// Make one of ours as the mark says; it stays in place meanwhile.
    Update { association: Association, mark: Mark },
    /// Make one that somebody else made ours, at the word of its own role's tag: mark it,
    /// and bring it to what the mark says.
    Adopt { association: Association, mark: Mark },
    /// Take one of ours away.
    Revoke { association: Association, reason: RevokeReason },
    /// Let EKS Pod Identity assume a role as its grants need: in its trust policy,
    /// statements of ours are added or replaced, and no others.
    AmendTrust {
        role: RoleArn,
        role_id: RoleId,
        /// The document that the decision was made from.
        policy_before: String,
        policy: String,
    },
    /// Take our own statements out of a trust policy, and nothing else.
    WithdrawTrust {
        role: RoleArn,
        role_id: RoleId,
        /// The document that the decision was made from.
        policy_before: String,
        policy: String,
    },
    /// Note on a role that every cluster that it names is gone, for the first time or in place of
    /// what is no mark of it.
    MarkOrphan { role: RoleArn, mark: OrphanMark },
    /// Take that note off.
    UnmarkOrphan { role: RoleArn, mark: OrphanMark, reason: UnmarkReason },
    /// Delete a role: detach its managed policies, delete its inline ones, then the role.
    DeleteRole {
        /// All that makes it again.
        record: Box<RoleRecord>,
        mark: OrphanMark,
    },
    /// Install the agent add-on.
    InstallAgent {
        cluster: ClusterId,
        version: String,
        /// The add-on's configuration values, as JSON; none: AWS's defaults.
        configuration: Option<String>,
        /// Whether it takes the place of an agent that is no add-on.
        overwrite: bool,
    },
    /// Bring the agent add-on to another version; its own configuration stays.
    UpdateAgent { cluster: ClusterId, agent: Agent, version: String },
    /// Remove an agent add-on that podgrant installed.
    RemoveAgent { cluster: ClusterId, agent: Agent, reason: AgentRemoval },
    /// Let podgrant look at the agent, or at service accounts, through the cluster's Kubernetes API: an access
    /// entry for its own role, that may view these namespaces.
    OpenKubernetes { cluster: ClusterId, namespaces: Namespaces },
    /// Take away an access entry that podgrant made, and its policies with it.
    RemoveAccessEntry { entry: ClusterAccess },
    /// Say that the agent is healthy now.
    AnnounceAgent {
        cluster: ClusterId,
        version: String,
        /// As the cluster itself says; none where it could not be asked.
        nodes: Option<NodeCount>,
    },
    /// Say that the cluster can take grants now.
    AnnounceCluster { cluster: ClusterId },
}

/// On how many nodes the agent is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCount {
    pub ready: u32,
    /// Nodes that should run it.
    pub desired: u32,
}

/// Why an association goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevokeReason {
    /// No tag on the role asks for it any more.
    GrantWithdrawn,
    /// The role does not exist.
    RoleGone,
    /// A role of the same name exists, with another unique id: it never asked.
    RoleReplaced,
    /// A guardrail refuses it to a role that still asks.
    Refused,
    /// A pattern asks for it, and the service account does not exist any more.
    ServiceAccountGone,
    /// A person takes away all that podgrant made, at the command line.
    Uninstalled,
}

/// Why an agent add-on goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentRemoval {
    /// Its cluster's tag asks for it.
    AskedFor,
    /// It could not be made, and is made anew afterwards.
    ToBeMadeAnew,
    /// A person takes away all that podgrant made.
    Uninstalled,
}

/// Why a role loses the note that it is an orphan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnmarkReason {
    /// Something was seen that speaks for the role, in these words.
    SpokenFor(String),
    /// A person takes away all that podgrant made.
    Uninstalled,
}

impl fmt::Display for UnmarkReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpokenFor(why) => f.write_str(why),
            Self::Uninstalled => f.write_str(uninstall::UNINSTALLED),
        }
    }
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GrantWithdrawn => "grant withdrawn",
            Self::RoleGone => "role gone",
            Self::RoleReplaced => "role deleted and made again",
            Self::Refused => "refused by a guardrail",
            Self::ServiceAccountGone => "service account gone",
            Self::Uninstalled => uninstall::UNINSTALLED,
        })
    }
}

/// Everything that one pass would do, and everything it would not and why.
///
/// `Display` is the dry run: the plan printed is the plan applied.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Sorted by cluster and workload, after what is of no cluster: roles, by what is done and ARN.
    pub changes: Vec<Change>,
    pub findings: Vec<Finding>,
    pub waits: Vec<Wait>,
    /// Associations or agents that are as they should be.
    pub unchanged: usize,
    /// Every orphaned role in view and how it stands, in the order of their ARNs: for a report. What is done about
    /// it stands among the changes and findings.
    pub orphans: Vec<OrphanStanding>,
}

/// Whom a pass over agents has news for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announce {
    /// Ready clusters are announced, so that their grants are made.
    Cluster,
    /// Healthy agents are announced: somebody waits for them.
    Agent,
    /// Nobody waits.
    Nothing,
}

/// What a pass is to make true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duty {
    /// Every enrolled cluster runs a healthy agent.
    Agents {
        announce: Announce,
        settings: AgentSettings,
        /// How often the work was put off before.
        attempt: u32,
    },
    /// Every valid grant has its association, and no association lacks its grant.
    Grants { guardrails: Guardrails },
    /// Each cluster is looked at by itself; what is wrong with the roles is known.
    Sweep {
        /// The share of the associations that is described this time.
        round: Option<Round>,
        guardrails: Guardrails,
        /// How large a part's roles may be, in bytes of JSON.
        part_bytes: usize,
    },
    /// No association points at a role that is gone; orphaned roles are known.
    Orphans {
        settings: OrphanSettings,
        /// Who may have a place that a role left behind.
        guardrails: Guardrails,
    },
    /// Nothing of podgrant's is left. A person's alone, at the command line: no message can hold it.
    #[serde(skip)]
    Uninstall,
}

/// Whether an association would still be taken away, looked at once more with
/// its role as it is now. The same rules that planned the removal confirm it.
///
/// `view` is that of the pass: by its clusters, selectors and names mean the same, and patterns by its service
/// accounts. Where the role's powers are not read again, nothing goes for what they were.
pub fn still_goes(
    association: &Association,
    role: Option<Role>,
    view: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> bool {
    let Some(mark) = association.managed() else { return false };
    let snapshot = Snapshot {
        scope: Scope {
            roles: Some([mark.role_arn.clone()].into()),
            clusters: Some([association.cluster.clone()].into()),
            ..Scope::default()
        },
        roles: role
            .filter(|role| role.arn == mark.role_arn)
            .map(|role| (role.arn.clone(), role))
            .into_iter()
            .collect(),
        ..around(association, view)
    };
    let goes = |plan: Plan| plan.changes.iter().any(|change| matches!(change, Change::Revoke { .. }));
    goes(plan_grants(&snapshot, keys, guardrails))
        || goes(plan_orphans(&snapshot, keys, guardrails, &OrphanSettings::default()))
}

/// Whether a role that has an association leaves it to another: to one that names its service account, where its own
/// grants mean it by a pattern. For both as they are now.
pub fn yields_to(
    association: &Association,
    role: Option<Role>,
    heir: &Role,
    view: &Snapshot,
    keys: &TagKeys,
    guardrails: &Guardrails,
) -> bool {
    let roles = role.into_iter().chain([heir.clone()]);
    let snapshot = Snapshot {
        scope: Scope { clusters: Some([association.cluster.clone()].into()), ..Scope::default() },
        roles: roles.map(|role| (role.arn.clone(), role)).collect(),
        ..around(association, view)
    };
    let planned = plan_grants(&snapshot, keys, guardrails).changes;
    planned.iter().any(|change| matches!(change, Change::Update { mark, .. } if mark.role_arn == heir.arn))
}

/// What a pass knows of an association and its cluster, but for roles.
fn around(association: &Association, view: &Snapshot) -> Snapshot {
    let place = (association.cluster.clone(), association.workload.clone());
    let accounts = view.service_accounts.get(&association.cluster).cloned();
    Snapshot {
        clusters: view.clusters.clone(),
        associations: vec![association.clone()],
        service_accounts: accounts
            .map(|accounts| (association.cluster.clone(), accounts))
            .into_iter()
            .collect(),
        accounts_missed: view.accounts_missed.get(&place).cloned().into_iter().collect(),
        ..Snapshot::default()
    }
}

/// A cluster of which nothing is known but that an association's service account is there.
fn account_of(association: &Association) -> (ClusterId, ServiceAccounts) {
    let seen = SeenAccounts::new(Namespaces::All, [association.workload.clone()].into());
    (association.cluster.clone(), ServiceAccounts::Seen(seen))
}

/// Plans one pass.
pub fn plan(duty: Duty, snapshot: &Snapshot, keys: &TagKeys) -> Plan {
    let takes_turns = matches!(duty, Duty::Sweep { .. });
    let mut plan = match duty {
        Duty::Agents { announce, settings, attempt } => {
            plan_agents(snapshot, keys, &settings, announce, attempt)
        }
        Duty::Grants { guardrails } => plan_grants(snapshot, keys, &guardrails),
        Duty::Sweep { round, guardrails, part_bytes } => {
            plan_sweep(snapshot, keys, &guardrails, round, part_bytes)
        }
        Duty::Orphans { settings, guardrails } => plan_orphans(snapshot, keys, &guardrails, &settings),
        Duty::Uninstall => plan_uninstall(snapshot, keys),
    };
    plan.changes.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    // The index and a listing may both have shown it.
    plan.changes.dedup();
    plan.findings.sort();
    plan.findings.dedup();
    // A sweep's parts stand in the order in which regions take turns.
    if !takes_turns {
        plan.waits.sort();
        plan.waits.dedup();
    }
    plan
}

impl Change {
    /// The association that stands, for changes to one.
    pub fn existing(&self) -> Option<&Association> {
        match self {
            Self::Update { association, .. }
            | Self::Adopt { association, .. }
            | Self::Revoke { association, .. } => Some(association),
            _ => None,
        }
    }

    pub fn cluster(&self) -> Option<&ClusterId> {
        Some(match self {
            Self::Create { mark, .. } => &mark.cluster,
            Self::Update { association, .. }
            | Self::Adopt { association, .. }
            | Self::Revoke { association, .. } => &association.cluster,
            // A role is of no cluster.
            Self::AmendTrust { .. }
            | Self::WithdrawTrust { .. }
            | Self::MarkOrphan { .. }
            | Self::UnmarkOrphan { .. }
            | Self::DeleteRole { .. } => return None,
            Self::RemoveAccessEntry { entry } => &entry.cluster,
            Self::InstallAgent { cluster, .. }
            | Self::UpdateAgent { cluster, .. }
            | Self::RemoveAgent { cluster, .. }
            | Self::OpenKubernetes { cluster, .. }
            | Self::AnnounceAgent { cluster, .. }
            | Self::AnnounceCluster { cluster } => cluster,
        })
    }

    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Self::Create { workload, .. } => Some(workload),
            _ => self.existing().map(|association| &association.workload),
        }
    }

    /// The mark that is written; for a removal, the one that goes.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Create { mark, .. } | Self::Update { mark, .. } | Self::Adopt { mark, .. } => Some(mark),
            Self::Revoke { association, .. } => association.mark.as_ref(),
            _ => None,
        }
    }

    /// The role that the change is about.
    pub fn role(&self) -> Option<&RoleArn> {
        match self {
            Self::AmendTrust { role, .. }
            | Self::WithdrawTrust { role, .. }
            | Self::MarkOrphan { role, .. }
            | Self::UnmarkOrphan { role, .. } => Some(role),
            Self::DeleteRole { record, .. } => Some(&record.role_arn),
            _ => self.mark().map(|mark| &mark.role_arn),
        }
    }

    /// What to come back for, so that the change is planned anew and not repeated blindly.
    pub fn follow_up(&self) -> FollowUp {
        match self {
            Self::Create { mark, .. } | Self::Update { mark, .. } | Self::Adopt { mark, .. } => {
                FollowUp::Role { name: mark.role_arn.role_name().to_owned() }
            }
            Self::AmendTrust { role, .. } | Self::WithdrawTrust { role, .. } => {
                FollowUp::Role { name: role.role_name().to_owned() }
            }
            // Only who sees everything can judge it again.
            Self::MarkOrphan { .. } | Self::UnmarkOrphan { .. } | Self::DeleteRole { .. } => {
                FollowUp::Orphans { roles_missed: BTreeSet::new() }
            }
            Self::Revoke { association, reason } => {
                let name = association.mark.as_ref().map(|mark| mark.role_arn.role_name().to_owned());
                match (name, reason) {
                    (Some(name), RevokeReason::GrantWithdrawn | RevokeReason::Refused) => {
                        FollowUp::Role { name }
                    }
                    (Some(name), RevokeReason::RoleGone | RevokeReason::RoleReplaced) => {
                        FollowUp::RoleGone { name }
                    }
                    // It was missed twice, and is looked at again as such.
                    (Some(_), RevokeReason::ServiceAccountGone) => FollowUp::AccountsMissed {
                        cluster: association.cluster.clone(),
                        missed: [association.workload.clone()].into(),
                    },
                    // Nothing comes back for what a person does but that person.
                    (_, RevokeReason::Uninstalled) | (None, _) => {
                        FollowUp::cluster_grants(&association.cluster)
                    }
                }
            }
            Self::InstallAgent { cluster, .. }
            | Self::UpdateAgent { cluster, .. }
            | Self::RemoveAgent { cluster, .. }
            | Self::OpenKubernetes { cluster, .. }
            | Self::RemoveAccessEntry { entry: ClusterAccess { cluster, .. } }
            | Self::AnnounceAgent { cluster, .. } => FollowUp::AgentStarting { cluster: cluster.clone() },
            Self::AnnounceCluster { cluster } => FollowUp::ClusterCreating { cluster: cluster.clone() },
        }
    }

    /// Whether something loses what it has.
    pub fn takes_away(&self) -> bool {
        match self {
            Self::Revoke { .. }
            | Self::RemoveAgent { .. }
            | Self::RemoveAccessEntry { .. }
            | Self::WithdrawTrust { .. }
            | Self::DeleteRole { .. } => true,
            Self::Update { association, mark } => {
                association.mark.as_ref().is_some_and(|old| old.role_arn != mark.role_arn)
            }
            _ => false,
        }
    }

    fn sort_key(&self) -> SortKey<'_> {
        let kind = match self {
            // Before all that leans on it: it has no cluster, and sorts first.
            Self::AmendTrust { .. } => 0,
            Self::UnmarkOrphan { .. } => 1,
            Self::MarkOrphan { .. } => 2,
            Self::DeleteRole { .. } => 3,
            Self::WithdrawTrust { .. } => 4,
            Self::AnnounceCluster { .. } | Self::OpenKubernetes { .. } => 0,
            Self::InstallAgent { .. } => 1,
            Self::UpdateAgent { .. } => 1,
            Self::RemoveAgent { .. } => 1,
            Self::RemoveAccessEntry { .. } => 2,
            Self::AnnounceAgent { .. } => 2,
            Self::Create { .. } => 3,
            Self::Update { .. } | Self::Adopt { .. } => 4,
            Self::Revoke { .. } => 5,
        };
        let of_no_cluster = self.role().filter(|_| self.cluster().is_none());
        let association = self.existing().map(|association| &association.id);
        (self.cluster(), self.workload(), kind, association, of_no_cluster)
    }
}

type SortKey<'a> =
    (Option<&'a ClusterId>, Option<&'a Workload>, u8, Option<&'a AssociationId>, Option<&'a RoleArn>);

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.findings.is_empty() && self.waits.is_empty()
    }

    /// What it comes to, in one line.
    pub fn summary(&self) -> String {
        let count = |kind: fn(&Change) -> bool| self.changes.iter().filter(|c| kind(c)).count();
        format!(
            "Plan: {} to create, {} to update, {} to delete, {} unchanged, {} waiting, {} findings.",
            count(|c| matches!(
                c,
                Change::Create { .. } | Change::InstallAgent { .. } | Change::OpenKubernetes { .. }
            )),
            count(|c| matches!(
                c,
                Change::Update { .. }
                    | Change::Adopt { .. }
                    | Change::AmendTrust { .. }
                    | Change::MarkOrphan { .. }
                    | Change::UnmarkOrphan { .. }
                    | Change::UpdateAgent { .. }
            )),
            count(|c| matches!(
                c,
                Change::Revoke { .. }
                    | Change::RemoveAgent { .. }
                    | Change::RemoveAccessEntry { .. }
                    | Change::WithdrawTrust { .. }
                    | Change::DeleteRole { .. }
            )),
            self.unchanged,
            self.waits.len(),
            self.findings.len(),
        )
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { workload, mark } => {
                write!(f, "+ {}  {workload}  role {}", mark.cluster, mark.role_arn.role_name())?;
                if mark.session_tags_off {
                    f.write_str("  session tags off")?;
                }
                if let Some(target) = &mark.target_role {
                    write!(f, "  target role {target}")?;
                }
                write!(f, "  ({})", mark.subject)
            }
            Self::Update { association, mark } => {
                write!(f, "~ {}  {}", association.cluster, association.workload)?;
                fmt_update(f, association, mark)
            }
            Self::Adopt { association, mark } => {
                write!(f, "* {}  {}", association.cluster, association.workload)?;
                fmt_adopt(f, association, mark)
            }
            Self::AmendTrust { role, policy_before, policy, .. } => fmt_trust(f, role, policy_before, policy),
            Self::WithdrawTrust { role, policy_before, policy, .. } => {
                uninstall::fmt_withdrawal(f, role, policy_before, policy)
            }
            Self::MarkOrphan { role, mark } => {
                write!(f, "~ role {}  + orphaned since {}", role.role_name(), rfc3339(mark.since))
            }
            Self::UnmarkOrphan { role, mark, reason } => {
                let (role, since) = (role.role_name(), rfc3339(mark.since));
                write!(f, "~ role {role}  - orphaned since {since}  ({reason})")
            }
            Self::DeleteRole { record, mark } => fmt_deletion(f, record, mark),
            Self::Revoke { association, reason } => {
                write!(f, "- {}  {}", association.cluster, association.workload)?;
                if let Some(role) = self.role() {
                    write!(f, "  role {}", role.role_name())?;
                }
                write!(f, "  ({reason})")
            }
            Self::InstallAgent { cluster, version, configuration, overwrite } => {
                write!(f, "+ {cluster}  agent {version}")?;
                if *overwrite {
                    f.write_str("  in place of any that is no add-on")?;
                }
                match configuration {
                    Some(values) => write!(f, "  configuration {values}"),
                    None => Ok(()),
                }
            }
            Self::UpdateAgent { cluster, agent, version } if agent.version == *version => {
                write!(f, "~ {cluster}  agent {version}  (again, for it is {})", agent.status)
            }
            Self::UpdateAgent { cluster, agent, version } => {
                write!(f, "~ {cluster}  agent {} -> {version}", agent.version)
            }
            Self::RemoveAgent { cluster, agent, reason: AgentRemoval::ToBeMadeAnew } => {
                write!(
                    f,
                    "- {cluster}  agent {}  (to be made anew, for it is {})",
                    agent.version, agent.status
                )
            }
            Self::RemoveAgent { cluster, agent, .. } => {
                write!(f, "- {cluster}  agent {}", agent.version)
            }
            Self::RemoveAccessEntry { entry } => {
                write!(f, "- {}  access entry of {}", entry.cluster, entry.principal)
            }
            Self::OpenKubernetes { cluster, namespaces } => {
                let what =
                    if is_the_agents(namespaces) { "the agent".to_owned() } else { namespaces.to_string() };
                write!(f, "+ {cluster}  access entry for podgrant, to view {what}")
            }
            Self::AnnounceAgent { cluster, version, nodes } => {
                write!(f, "> {cluster}  agent {version} is healthy")?;
                match nodes {
                    Some(NodeCount { ready, desired }) => {
                        write!(f, "  (ready on {ready} of {desired} nodes)")
                    }
                    None => Ok(()),
                }
            }
            Self::AnnounceCluster { cluster } => write!(f, "> {cluster}  ready for grants"),
        }
    }
}

/// Whether these are where the agent is, and no more.
fn is_the_agents(namespaces: &Namespaces) -> bool {
    *namespaces == agent_namespaces()
}

/// What an update changes: from what EKS does now, or where that is right
/// already, from what the mark says.
fn fmt_update(f: &mut fmt::Formatter<'_>, association: &Association, new: &Mark) -> fmt::Result {
    let Some(old) = &association.mark else {
        return write!(f, "  role {}", new.role_arn.role_name());
    };
    let record = association.record.as_ref();
    let old_role = record
        .map(|record| record.role_arn.as_str())
        .filter(|role| *role != new.role_arn.as_str())
        .unwrap_or(old.role_arn.as_str());
    if old_role == new.role_arn.as_str() {
        write!(f, "  role {}", new.role_arn.role_name())?;
    } else {
        let name = old_role.rsplit('/').next().unwrap_or(old_role);
        write!(f, "  role {name} -> {}", new.role_arn.role_name())?;
    }
    if old.role_id != new.role_id && old.role_arn == new.role_arn {
        write!(f, "  role id {} -> {}", old.role_id, new.role_id)?;
    }
    let old_off = record
        .map(|record| record.session_tags_off)
        .filter(|off| *off != new.session_tags_off)
        .unwrap_or(old.session_tags_off);
    if old_off != new.session_tags_off {
        let word = |off| if off { "off" } else { "on" };
        write!(f, "  session tags {} -> {}", word(old_off), word(new.session_tags_off))?;
    }
    let new_target = new.target_role.as_ref().map(RoleArn::as_str);
    let old_target = record
        .map(|record| record.target_role.as_deref())
        .filter(|target| *target != new_target)
        .unwrap_or(old.target_role.as_ref().map(RoleArn::as_str));
    if old_target != new_target {
        let name = |role: Option<&str>| role.unwrap_or("none").to_owned();
        write!(f, "  target role {} -> {}", name(old_target), name(new_target))?;
    }
    if old.label != new.label {
        write!(f, "  label {:?} -> {:?}", old.label, new.label)?;
    }
    if old.subject != new.subject {
        write!(f, "  ({} -> {})", old.subject, new.subject)?;
    }
    Ok(())
}

/// What an adoption changes beside the mark, from what EKS does now.
fn fmt_adopt(f: &mut fmt::Formatter<'_>, association: &Association, new: &Mark) -> fmt::Result {
    write!(f, "  role {}  adopted", new.role_arn.role_name())?;
    if let Some(record) = &association.record {
        if record.session_tags_off != new.session_tags_off {
            let word = |off| if off { "off" } else { "on" };
            write!(f, "  session tags {} -> {}", word(record.session_tags_off), word(new.session_tags_off))?;
        }
        let (old, new) = (record.target_role.as_deref(), new.target_role.as_ref().map(RoleArn::as_str));
        if old != new {
            write!(f, "  target role {} -> {}", old.unwrap_or("none"), new.unwrap_or("none"))?;
        }
    }
    write!(f, "  ({})", new.subject)
}

/// Whom the statements of ours are for now, and whom they no longer are.
fn fmt_trust(f: &mut fmt::Formatter<'_>, role: &RoleArn, before: &str, after: &str) -> fmt::Result {
    let (before, after) = (manage::subjects(before), manage::subjects(after));
    let listed =
        |subjects: Vec<&String>| subjects.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let new = match listed(after.difference(&before).collect()) {
        // The same are written anew: somebody had changed them.
        none if none.is_empty() => listed(after.iter().collect()),
        new => new,
    };
    write!(f, "~ role {}  trust policy: + allows {PODS_PRINCIPAL} for {new}", role.role_name())?;
    match listed(before.difference(&after).collect()) {
        none if none.is_empty() => Ok(()),
        gone => write!(f, "  - no longer for {gone}"),
    }
}

/// What goes with a role; the rest of its record is for the log and the event.
fn fmt_deletion(f: &mut fmt::Formatter<'_>, record: &RoleRecord, mark: &OrphanMark) -> fmt::Result {
    let path = if record.path == "/" { "" } else { record.path.as_str() };
    write!(f, "- role {path}{}", record.role_arn.role_name())?;
    let attached: Vec<&str> =
        record.attached_policies.iter().map(|arn| arn.rsplit('/').next().unwrap_or(arn)).collect();
    if !attached.is_empty() {
        write!(f, "  policies {}", attached.join(", "))?;
    }
    let inline: Vec<&str> = record.inline_policies.keys().map(String::as_str).collect();
    if !inline.is_empty() {
        write!(f, "  inline policies {}", inline.join(", "))?;
    }
    write!(f, "  (orphaned since {}", rfc3339(mark.since))?;
    match record.last_used {
        Some(at) => write!(f, ", last used {}", rfc3339(at))?,
        None => f.write_str(", no use known")?,
    }
    f.write_str(if mark.begun { "; its deletion was begun)" } else { ")" })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            writeln!(f, "{change}")?;
        }
        for wait in &self.waits {
            writeln!(f, ". not yet: {}", wait.reason)?;
        }
        for finding in &self.findings {
            writeln!(f, "! {finding}")?;
        }
        f.write_str(&self.summary())
    }
}

#[cfg(test)]
mod tests;
