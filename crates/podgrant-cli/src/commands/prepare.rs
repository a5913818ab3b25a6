//! From what was named on the command line to what would be done about it.

use podgrant_core::ClusterId;
use podgrant_core::outcome::FollowUp;
use podgrant_events::Trigger;
use podgrant_runtime::Function;
use podgrant_runtime::by_hand::Prepared;
use serde::Serialize;

use crate::arguments::{Looks, Target, role_name};
use crate::problem::Problem;
use crate::session::Session;

/// What a plan is about, found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    regions: Vec<String>,
}

impl About {
    /// One cluster, or the fleet.
    pub fn cluster(session: &Session<'_>, cluster: Option<&ClusterId>) -> Self {
        let regions = session.config.regions.iter().map(ToString::to_string).collect();
        Self { role: None, cluster: cluster.map(ToString::to_string), regions }
    }
}

/// Looks at all of it, with each function that has a say.
pub async fn prepare(
    session: &mut Session<'_>,
    target: &Target,
    looks: &Looks,
) -> Result<(About, Vec<(Function, Prepared)>), Problem> {
    if looks.thorough {
        session.config.drift_rounds = 1;
    }
    let mut about = About::cluster(session, None);
    let prepared = match (&target.role, &target.cluster) {
        (Some(role), _) => {
            about.role = Some(role_name(role).to_owned());
            vec![of_role(session, role_name(role)).await?]
        }
        (None, Some(cluster)) => {
            let cluster = session.cluster(cluster).await?;
            about.cluster = Some(cluster.to_string());
            let retagged = || Trigger::ClusterRetagged { cluster: cluster.clone() };
            vec![
                of_trigger(session, Function::InstallAgent, retagged()).await,
                of_trigger(session, Function::ReconcileAssociations, retagged()).await,
            ]
        }
        (None, None) => {
            let mut prepared = Vec::new();
            let functions =
                [Function::InstallAgent, Function::ReconcileAssociations, Function::CleanUpOrphans];
            for function in functions {
                prepared.push(of_trigger(session, function, Trigger::Sweep).await);
            }
            prepared
        }
    };
    // Nothing at all was read: that is no plan.
    if prepared.iter().all(|(_, prepared)| prepared.passes.is_empty())
        && let Some(error) = prepared.iter().find_map(|(_, prepared)| prepared.unread.first())
    {
        return Err(session.problem(error));
    }
    if let Some(reason) = prepared.iter().find_map(|(_, prepared)| prepared.dropped.first()) {
        return Err(Problem::failed(reason.clone(), ""));
    }
    Ok((about, prepared))
}

async fn of_trigger(session: &mut Session<'_>, function: Function, trigger: Trigger) -> (Function, Prepared) {
    let flow = session.flow(function);
    let wake = session.wake(trigger);
    let ui = &mut session.ui;
    let mut begins =
        |trigger: &Trigger| ui.progress(&format!("looking at {} …", looked_at(function, trigger)));
    (function, flow.prepare(&wake, &mut begins).await)
}

/// A role that is there, or what one that is not has left behind.
async fn of_role(session: &mut Session<'_>, name: &str) -> Result<(Function, Prepared), Problem> {
    let role = || name.to_owned();
    let trigger = Trigger::FollowUp(FollowUp::Role { name: role() });
    let prepared = of_trigger(session, Function::ReconcileAssociations, trigger).await;
    let is_gone =
        |prepared: &Prepared| prepared.passes.iter().any(|pass| pass.snapshot().roles_gone.contains(name));
    if !is_gone(&prepared.1) {
        return Ok(prepared);
    }
    let trigger = Trigger::FollowUp(FollowUp::RoleGone { name: role() });
    let (function, left) = of_trigger(session, Function::CleanUpOrphans, trigger).await;
    let has_left = left.passes.iter().any(|pass| !pass.snapshot().associations.is_empty());
    if has_left || !left.unread.is_empty() { Ok((function, left)) } else { Err(session.no_such_role(name)) }
}

fn looked_at(function: Function, trigger: &Trigger) -> String {
    let cluster = |cluster: &ClusterId| cluster.to_string();
    match trigger {
        Trigger::FollowUp(FollowUp::ClusterSweep(part)) => cluster(&part.cluster),
        Trigger::FollowUp(FollowUp::Role { name } | FollowUp::RoleGone { name }) => format!("role {name}"),
        Trigger::ClusterRetagged { cluster: id } => cluster(id),
        _ => match function {
            Function::InstallAgent => "agents".to_owned(),
            Function::ReconcileAssociations => "roles".to_owned(),
            Function::CleanUpOrphans => "orphans".to_owned(),
        },
    }
}
