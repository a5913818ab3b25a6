//! `podgrant migrate`: what could move from IRSA to Pod Identity. It shows, and changes nothing.

use std::collections::BTreeSet;

use podgrant_aws::View;
use podgrant_core::migrate::{Sight, State, Verdict, as_if, judge, refusals};
use podgrant_core::{Cluster, FindingKind, Workload};
use serde::Serialize;

use super::tags::look;
use crate::arguments::{ClusterArgument, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::Shown;
use crate::table;
use crate::ui::{JSON_VERSION, Look};

#[derive(Serialize)]
struct Shape {
    version: u32,
    cluster: String,
    accounts: Vec<AccountShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountShape {
    service_account: String,
    /// As the annotation has it.
    role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pods: Option<usize>,
    state: &'static str,
    told: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
    steps: Vec<StepShape>,
}

#[derive(Serialize)]
struct StepShape {
    step: &'static str,
    done: bool,
    told: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    caution: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    command: String,
}

pub async fn run(
    session: &mut Session<'_>,
    named: &ClusterArgument,
    accounts: &[Workload],
) -> Result<Exit, Problem> {
    let Some(roller) = session.roller().cloned() else {
        return Err(Problem::failed("there is no way into clusters' Kubernetes APIs", ""));
    };
    let id = session.cluster(named).await?;
    let cluster = session.aws.cluster(&id).await.map_err(|error| session.problem(&error))?;
    let cluster = cluster.ok_or_else(|| Problem::failed(format!("there is no cluster {id} any more"), ""))?;
    session.ui.progress("looking for service accounts …");
    let wanted: BTreeSet<Workload> = accounts.iter().cloned().collect();
    let seen = session.aws.annotated(&cluster, &wanted, &roller, session.onlooker(), session.now()).await;
    let mut seen = seen.map_err(|why| {
        Problem::failed(
            format!("the service accounts of {id} can't be seen: {why}"),
            "it needs AmazonEKSViewPolicy there, and a way to the cluster's endpoint",
        )
    })?;
    for sight in &mut seen {
        session.ui.progress(&format!("looking at {} …", sight.annotated.workload));
        sight.refused = refused(session, sight, &cluster).await;
    }
    let judged: Vec<(Sight, Verdict)> = seen
        .into_iter()
        .map(|sight| {
            let verdict = judge(&sight, &cluster, session.aws.keys());
            (sight, verdict)
        })
        .collect();
    show(session, &judged);
    for missing in
        wanted.iter().filter(|wanted| !judged.iter().any(|(sight, _)| sight.annotated.workload == **wanted))
    {
        session.ui.show(&format!("{missing} has no annotation of IRSA, or is not there."));
    }
    let accounts = judged.iter().map(|(sight, verdict)| AccountShape::of(sight, verdict)).collect();
    session.ui.json(&Shape { version: JSON_VERSION, cluster: id.to_string(), accounts });
    Ok(exit(&judged))
}

/// What the planning rules would refuse, were the role's tags as they are to be.
async fn refused(
    session: &Session<'_>,
    sight: &Sight,
    cluster: &Cluster,
) -> Result<Vec<(FindingKind, String)>, String> {
    let Some(edit) = as_if(sight, cluster, session.aws.keys()) else { return Ok(Vec::new()) };
    let edit = match edit {
        Ok(edit) => edit,
        Err(error) => return Ok(vec![(FindingKind::BadTag, error.to_string())]),
    };
    let name = role_name(&sight.annotated.role).to_owned();
    let pass = look(session, View::RoleAsIf { name, tags: edit.tags }).await;
    let shown = Shown::of_pass(&pass.map_err(|problem| problem.message)?);
    if let Some(gap) = shown.unread.first() {
        return Err(gap.why.clone());
    }
    Ok(refusals(&shown.plan, sight, cluster, &session.config.guardrails))
}

fn show(session: &mut Session<'_>, judged: &[(Sight, Verdict)]) {
    if judged.is_empty() {
        session.ui.show("No service account that was looked at has IRSA's annotation.");
        return;
    }
    let rows: Vec<[String; 5]> = judged
        .iter()
        .map(|(sight, verdict)| {
            [
                sight.annotated.workload.to_string(),
                role_name(&sight.annotated.role).to_owned(),
                sight.pods.as_ref().map_or_else(|_| "?".to_owned(), |pods| pods.len().to_string()),
                verdict.state.as_str().replace('-', " "),
                verdict.told.clone(),
            ]
        })
        .collect();
    table::show(&mut session.ui, ["SERVICE ACCOUNT", "ROLE", "PODS", "STATE", "WHY"], &rows);
    for (sight, verdict) in judged {
        if verdict.steps.is_empty() && verdict.remedy.is_empty() {
            continue;
        }
        session.ui.show("");
        let heading = session.ui.look(Look::Bold, &sight.annotated.workload.to_string());
        session.ui.show(&heading);
        if !verdict.remedy.is_empty() {
            session.ui.show(&format!("  → {}", verdict.remedy));
        }
        for (step, number) in verdict.steps.iter().zip(1..) {
            let done = if step.done { "done" } else { "    " };
            session.ui.show(&format!("  {number}. {done}  {}", step.told));
            let more = [step.caution, step.command.as_str()];
            for line in more.iter().filter(|line| !step.done && !line.is_empty()) {
                session.ui.show(&format!("           {line}"));
            }
        }
    }
    let count = |state| judged.iter().filter(|(_, verdict)| verdict.state == state).count();
    let line = format!(
        "{} to move, {} under way, {} moved, {} to mend first, {} that stay, {} unknown. Nothing was changed.",
        count(State::ToMove),
        count(State::UnderWay),
        count(State::Moved),
        count(State::MendFirst),
        count(State::Stays),
        count(State::Unknown),
    );
    session.ui.show("");
    session.ui.show(&line);
}

impl AccountShape {
    fn of(sight: &Sight, verdict: &Verdict) -> Self {
        let steps = verdict.steps.iter().map(|step| StepShape {
            step: step.kind.as_str(),
            done: step.done,
            told: step.told.clone(),
            caution: step.caution,
            command: step.command.clone(),
        });
        Self {
            service_account: sight.annotated.workload.to_string(),
            role: sight.annotated.role.clone(),
            pods: sight.pods.as_ref().ok().map(Vec::len),
            state: verdict.state.as_str(),
            told: verdict.told.clone(),
            remedy: verdict.remedy.clone(),
            steps: steps.collect(),
        }
    }
}

fn exit(judged: &[(Sight, Verdict)]) -> Exit {
    let has = |states: &[State]| judged.iter().any(|(_, verdict)| states.contains(&verdict.state));
    if has(&[State::Unknown]) {
        Exit::InPart
    } else if has(&[State::ToMove, State::UnderWay, State::Moved, State::MendFirst]) {
        Exit::Found
    } else {
        Exit::Done
    }
}
