//! From a trigger to what has to be looked at: the one place that knows which
//! function answers which event.

use std::collections::BTreeSet;

use podgrant_aws::View;
use podgrant_core::model::RoleNews;
use podgrant_core::outcome::FollowUp;
use podgrant_core::plan::{Announce, Duty};
use podgrant_core::sweep::{MESSAGE_BYTES, Round};
use podgrant_core::{AssociationId, ClusterId, Workload, part_bytes};
use podgrant_events::{RoleRef, Trigger, Wake};

use crate::config::Config;

/// One of podgrant's Lambda functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    InstallAgent,
    ReconcileAssociations,
    CleanUpOrphans,
}

impl Function {
    pub fn name(self) -> &'static str {
        match self {
            Self::InstallAgent => "install-agent",
            Self::ReconcileAssociations => "reconcile-associations",
            Self::CleanUpOrphans => "clean-up-orphans",
        }
    }
}

/// What a message asks of a function: where to look, and what to make true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    pub view: View,
    pub duty: Duty,
}

impl Task {
    /// What to come back for to begin anew; none for sweeps: the next one does.
    pub fn again(&self) -> Option<FollowUp> {
        let announce = matches!(&self.duty, Duty::Agents { announce: Announce::Cluster, .. });
        Some(match &self.view {
            View::Role { name, .. } | View::RoleAsIf { name, .. } => FollowUp::Role { name: name.clone() },
            View::RoleGone { name } => FollowUp::RoleGone { name: name.clone() },
            View::ClusterGrants { cluster, missed, .. } if !missed.is_empty() => {
                FollowUp::AccountsMissed { cluster: cluster.clone(), missed: missed.clone() }
            }
            View::ClusterGrants { cluster, doubt, workload, .. } => FollowUp::ClusterGrants {
                cluster: cluster.clone(),
                doubt: doubt.clone(),
                workload: workload.clone(),
            },
            View::ClusterGone { cluster } => FollowUp::ClusterDeleting { cluster: cluster.clone() },
            View::ClusterAgent { cluster, .. } if announce => {
                FollowUp::ClusterCreating { cluster: cluster.clone() }
            }
            View::ClusterAgent { cluster, .. } => FollowUp::AgentStarting { cluster: cluster.clone() },
            View::ClusterSweep { part } => FollowUp::ClusterSweep(part.clone()),
            View::FleetOrphans { missed_before, .. } => {
                FollowUp::Orphans { roles_missed: missed_before.clone() }
            }
            View::FleetSweep
            | View::FleetAgents { .. }
            | View::Associations { .. }
            | View::Uninstall { .. } => return None,
        })
    }
}

/// The task that a trigger means for a function.
///
/// `now` in seconds since 1970.
///
/// # Errors
/// Why there is none: it is another function's, or about a region that is not
/// configured (spokes forward whatever happens in theirs).
pub fn scope(function: Function, wake: &Wake, config: &Config, now: i64) -> Result<Task, String> {
    let task = task(function, wake, config, now)
        .ok_or_else(|| format!("{} has nothing to do with {:?}", function.name(), wake.trigger.in_short()))?;
    match &task.view {
        View::ClusterGrants { cluster, .. }
        | View::ClusterGone { cluster }
        | View::ClusterAgent { cluster, .. }
            if !config.regions.contains(&cluster.region) =>
        {
            Err(format!("{cluster} is in a region that is not configured; add it to PODGRANT_REGIONS"))
        }
        View::ClusterSweep { part } if !config.regions.contains(&part.cluster.region) => {
            Err(format!("{} is in a region that is not configured any more", part.cluster))
        }
        _ => Ok(task),
    }
}

/// How often a role is looked at until IAM shows what an event said of it: with the delays in between, for somewhat
/// more than a minute. What IAM shows then is the truth: it changed again since.
const STALE_LOOKS: u32 = 4;

/// What the event says of podgrant's own tags, and of the trust policy.
fn ours(news: &RoleNews, config: &Config) -> RoleNews {
    let mut news = news.clone();
    news.tags_set.retain(|key, _| config.tag_keys.owns(key));
    news.tags_removed.retain(|key| config.tag_keys.owns(key));
    news
}

fn task(function: Function, wake: &Wake, config: &Config, now: i64) -> Option<Task> {
    let (trigger, attempt) = (&wake.trigger, wake.attempt);
    let (view, duty) = match function {
        Function::InstallAgent => {
            let settings = || config.agent.clone();
            let agents = |announce| Duty::Agents { announce, settings: settings(), attempt };
            let agent_of =
                |cluster: &ClusterId| View::ClusterAgent { cluster: cluster.clone(), settings: settings() };
            match trigger {
                Trigger::ClusterCreated { cluster }
                | Trigger::FollowUp(FollowUp::ClusterCreating { cluster }) => {
                    (agent_of(cluster), agents(Announce::Cluster))
                }
                Trigger::ClusterRetagged { cluster } => (agent_of(cluster), agents(Announce::Nothing)),
                Trigger::AgentHealthChanged { cluster }
                | Trigger::FollowUp(FollowUp::AgentStarting { cluster }) => {
                    (agent_of(cluster), agents(Announce::Agent))
                }
                Trigger::Sweep => (View::FleetAgents { settings: settings() }, agents(Announce::Nothing)),
                _ => return None,
            }
        }
        Function::ReconcileAssociations => {
            let role = |name: &str, news: RoleNews| View::Role { name: name.to_owned(), news };
            let cluster_grants =
                |cluster: &ClusterId, doubt: &Option<AssociationId>, workload: &Option<Workload>| {
                    View::ClusterGrants {
                        cluster: cluster.clone(),
                        doubt: doubt.clone(),
                        workload: workload.clone(),
                        missed: BTreeSet::new(),
                    }
                };
            let view = match trigger {
                Trigger::RoleChanged { role: RoleRef { name, .. }, news }
                | Trigger::RoleTrustChanged { role: RoleRef { name, .. }, news } => {
                    role(name, ours(news, config))
                }
                Trigger::FollowUp(FollowUp::RoleStale { name, news }) if attempt < STALE_LOOKS => {
                    role(name, news.clone())
                }
                Trigger::FollowUp(
                    FollowUp::Role { name }
                    | FollowUp::RoleUnseen { name }
                    | FollowUp::RoleStale { name, .. },
                ) => role(name, RoleNews::default()),
                Trigger::AssociationChanged { cluster, association: doubt, workload }
                | Trigger::FollowUp(FollowUp::ClusterGrants { cluster, doubt, workload }) => {
                    cluster_grants(cluster, doubt, workload)
                }
                Trigger::FollowUp(FollowUp::AccountsMissed { cluster, missed }) => View::ClusterGrants {
                    cluster: cluster.clone(),
                    doubt: None,
                    workload: None,
                    missed: missed.clone(),
                },
                Trigger::ClusterReady { cluster } | Trigger::ClusterRetagged { cluster } => {
                    cluster_grants(cluster, &None, &None)
                }
                Trigger::FollowUp(FollowUp::ClusterSweep(part)) => View::ClusterSweep { part: part.clone() },
                Trigger::Sweep => {
                    let round = Round::at(now, config.sweep_interval, config.drift_rounds);
                    return Some(Task {
                        view: View::FleetSweep,
                        duty: Duty::Sweep {
                            round,
                            guardrails: config.guardrails.clone(),
                            part_bytes: part_bytes(MESSAGE_BYTES),
                        },
                    });
                }
                _ => return None,
            };
            (view, Duty::Grants { guardrails: config.guardrails.clone() })
        }
        Function::CleanUpOrphans => {
            let orphans = |missed_before: &BTreeSet<String>| View::FleetOrphans {
                missed_before: missed_before.clone(),
                round: Round::at(now, config.sweep_interval, config.drift_rounds),
            };
            let view = match trigger {
                Trigger::RoleDeleted { role } => View::RoleGone { name: role.name.clone() },
                Trigger::FollowUp(FollowUp::RoleGone { name }) => View::RoleGone { name: name.clone() },
                Trigger::ClusterDeleted { cluster }
                | Trigger::FollowUp(FollowUp::ClusterDeleting { cluster }) => {
                    View::ClusterGone { cluster: cluster.clone() }
                }
                Trigger::Sweep => orphans(&BTreeSet::new()),
                Trigger::FollowUp(FollowUp::Orphans { roles_missed }) => orphans(roles_missed),
                _ => return None,
            };
            (view, Duty::Orphans { settings: config.orphans, guardrails: config.guardrails.clone() })
        }
    };
    Some(Task { view, duty })
}
