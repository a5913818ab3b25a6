//! `podgrant uninstall`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use podgrant_core::plan::{Left, LeftThing, adopting};
use podgrant_core::{Change, ClusterId, Finding, FindingKind, Verdict};
use podgrant_events::Trigger;
use podgrant_runtime::Function;
use podgrant_runtime::by_hand::PreparedUninstall;
use serde::Serialize;

use super::apply::CarriedOut;
use super::prepare::About;
use crate::arguments::ClusterArgument;
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::{ChangeShape, FindingShape, PlaceShape, PlanShape, Shown, beside_its_heading};
use crate::ui::{JSON_VERSION, Look, Ui};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    version: u32,
    about: About,
    /// What `--confirm` has to say for it.
    confirm: String,
    /// Whether it was confirmed, and something was to go.
    applied: bool,
    /// How many service accounts lose their role, by cluster.
    losing: BTreeMap<String, usize>,
    #[serde(flatten)]
    plan: PlanShape,
    /// What podgrant did not make.
    left: Vec<LeftShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LeftShape {
    thing: LeftThing,
    #[serde(flatten)]
    place: PlaceShape,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    text: String,
}

pub async fn run(
    session: &mut Session<'_>,
    cluster: Option<&ClusterArgument>,
    confirm: Option<&str>,
) -> Result<Exit, Problem> {
    if session.config.dry_run {
        return Err(Problem::usage("PODGRANT_DRY_RUN is on, and forbids it", "unset it"));
    }
    let cluster = match cluster {
        Some(named) => Some(session.cluster(named).await?),
        // What the other regions need of roles does not show in one.
        None if !session.names_regions => {
            return Err(Problem::usage(
                "which regions podgrant looked at is not said",
                "name all of them, with --region or in PODGRANT_REGIONS",
            ));
        }
        None => None,
    };
    session.ui.progress("looking for all that podgrant made …");
    let flow = session.flow(Function::CleanUpOrphans);
    let wake = session.wake(Trigger::Sweep);
    let prepared = flow.prepare_uninstall(cluster.as_ref(), &wake).await;
    let prepared = prepared.map_err(|error| session.problem(&error))?;
    let shown = Shown::of_pass(&prepared.pass);
    let confirmation = &prepared.confirmation;
    let mut shape = Shape {
        version: JSON_VERSION,
        about: About::cluster(session, cluster.as_ref()),
        confirm: confirmation.to_string(),
        applied: false,
        losing: losing(&shown).into_iter().map(|(cluster, count)| (cluster.to_string(), count)).collect(),
        plan: shown.shape(),
        left: prepared.left.iter().map(LeftShape::of).collect(),
    };
    show(&mut session.ui, &prepared, &shown);
    if shown.plan.changes.is_empty() {
        session.ui.json(&shape);
        return Ok(if keeps_ours(&shown) { Exit::InPart } else { Exit::Done });
    }
    for line in warnings(session, &prepared, cluster.as_ref(), !shape.losing.is_empty()) {
        session.ui.show(&line);
    }
    session.ui.show("");
    let typed = match confirm {
        Some(text) => text.to_owned(),
        None if session.ui.can_ask() => {
            session.ui.asks(&format!("Type {confirmation} to take all of it away: "))
        }
        None => {
            session
                .ui
                .say("podgrant: uninstall asks before it takes anything away, and there is nobody to ask");
            session.ui.say(&format!("  run it on a terminal, or with --confirm {:?}", shape.confirm));
            session.ui.json(&shape);
            return Ok(Exit::Usage);
        }
    };
    let (ui, is_interrupted) = session.at_work();
    let (ui, begun, all) = (RefCell::new(ui), Cell::new(0), shown.plan.changes.len());
    let time_is_up = || {
        let is_up = is_interrupted();
        begun.set(begun.get() + usize::from(!is_up));
        ui.borrow_mut().progress(&format!("taking away {} of {all} …", begun.get()));
        is_up
    };
    let Some((report, outcomes)) = flow.carry_out_uninstall(&prepared, &typed, time_is_up).await else {
        session.ui.say(&format!("Nothing was changed: that is not {confirmation}."));
        session.ui.json(&shape);
        return Ok(Exit::Declined);
    };
    let mut done = CarriedOut::default();
    done.add(session, outcomes);
    done.summed_up(session);
    let is_whole = done.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Done);
    if !is_whole {
        session.ui.show("Not all of it is gone: run it again, and it goes on with what is left.");
    }
    shape.applied = true;
    shape.plan.changes = done.outcomes.iter().map(|o| ChangeShape::of(&o.change, Some(&o.verdict))).collect();
    shape.plan.findings = report.findings.iter().map(FindingShape::of).collect();
    shape.plan.waiting = if session.is_interrupted() { Vec::new() } else { report.waiting };
    session.ui.json(&shape);
    let anything = done.outcomes.iter().any(|outcome| outcome.verdict == Verdict::Done);
    Ok(match (is_whole && !keeps_ours(&shown), anything) {
        (true, _) => Exit::Done,
        (false, false) if done.failed() => Exit::Failed,
        (false, _) => Exit::InPart,
    })
}

/// Whether something of podgrant's stays, or was not read.
fn keeps_ours(shown: &Shown) -> bool {
    let kept = |finding: &Finding| {
        matches!(
            finding.kind,
            FindingKind::Withheld
                | FindingKind::AgentKept
                | FindingKind::TrustPolicy
                | FindingKind::HalfDeletedRole
        )
    };
    !shown.unread.is_empty() || shown.plan.findings.iter().any(kept)
}

/// How many service accounts lose their role, on the clusters where any does.
fn losing(shown: &Shown) -> BTreeMap<&ClusterId, usize> {
    let mut losing = BTreeMap::new();
    for change in &shown.plan.changes {
        if let Change::Revoke { association, .. } = change {
            *losing.entry(&association.cluster).or_default() += 1;
        }
    }
    losing
}

fn show(ui: &mut Ui<'_>, prepared: &PreparedUninstall, shown: &Shown) {
    let mut sections: BTreeMap<Option<&ClusterId>, Vec<String>> = BTreeMap::new();
    for change in &shown.plan.changes {
        sections.entry(change.cluster()).or_default().push(beside_its_heading(change));
    }
    for finding in &shown.plan.findings {
        let beside = Finding { cluster: None, ..finding.clone() };
        sections.entry(finding.cluster.as_ref()).or_default().push(format!("! {beside}"));
    }
    for gap in &shown.unread {
        sections.entry(gap.cluster.as_ref()).or_default().push(format!("! not read: {}", gap.why));
    }
    for left in &prepared.left {
        sections.entry(left.cluster.as_ref()).or_default().push(format!("= {}", left.told));
    }
    let losing = losing(shown);
    for (cluster, lines) in sections {
        let heading = match cluster {
            None => "Roles and fleet".to_owned(),
            Some(cluster) => match losing.get(cluster) {
                None => cluster.to_string(),
                Some(count) => format!(
                    "{cluster}: {} role",
                    plural(*count, "service account loses its", "service accounts lose their")
                ),
            },
        };
        let heading = ui.look(Look::Bold, &heading);
        ui.show(&heading);
        for line in lines {
            let line = ui.look(Look::of_sign(&line), &line);
            ui.show(&format!("  {line}"));
        }
        ui.show("");
    }
    ui.show(&summary(shown, &prepared.left));
}

fn summary(shown: &Shown, left: &[Left]) -> String {
    let count = |one: &str, many: &str, kind: fn(&Change) -> bool| {
        let count = shown.plan.changes.iter().filter(|change| kind(change)).count();
        (count > 0).then(|| plural(count, one, many))
    };
    let kinds: Vec<String> = [
        count("association", "associations", |change| matches!(change, Change::Revoke { .. })),
        count("agent", "agents", |change| matches!(change, Change::RemoveAgent { .. })),
        count("access entry", "access entries", |change| matches!(change, Change::RemoveAccessEntry { .. })),
        count("trust policy's statements", "trust policies' statements", |change| {
            matches!(change, Change::WithdrawTrust { .. })
        }),
        count("orphan mark", "orphan marks", |change| matches!(change, Change::UnmarkOrphan { .. })),
    ]
    .into_iter()
    .flatten()
    .collect();
    let goes = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
    let stays = plural(left.len(), "thing stays", "things stay");
    format!("Uninstall: {goes} to take away; {stays} that podgrant did not make.")
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// What a person has to know before it goes.
fn warnings(
    session: &Session<'_>,
    prepared: &PreparedUninstall,
    cluster: Option<&ClusterId>,
    loses: bool,
) -> Vec<String> {
    let keys = &session.config.tag_keys;
    let mut warnings = Vec::new();
    if loses {
        let when = "Pods lose their role with the association, at the latest when the credentials end that they have.";
        warnings.push(when.to_owned());
    }
    if let Some(roles) = adopting(prepared.pass.snapshot(), keys) {
        warnings.push(format!(
            "Associations that podgrant adopted from others go too ({} = on: {roles}): who wants to keep them takes podgrant's tags off them first.",
            keys.key("adopt")
        ));
    }
    match cluster.and_then(|cluster| prepared.pass.snapshot().clusters.get(cluster)) {
        Some(cluster) => {
            let roles = "Roles stay as they are, with podgrant's statements in their trust policies.";
            warnings.push(roles.to_owned());
            if cluster.is_enrolled(keys) {
                warnings.push(format!(
                    "Where podgrant's functions run they make it again: tag the cluster {} = off first, and keep that tag.",
                    keys.key("enroll")
                ));
            }
        }
        None => {
            let regions: Vec<String> = session.config.regions.iter().map(ToString::to_string).collect();
            warnings.push(format!(
                "Looked at: {}. What podgrant made in other regions stays: name them all (--region).",
                regions.join(", ")
            ));
            let is_withdrawal = |change: &Change| matches!(change, Change::WithdrawTrust { .. });
            if prepared.pass.approved().changes().iter().any(is_withdrawal) {
                let everywhere = "Trust policies count in every region: in one that is not named, pods with podgrant's associations lose their role.";
                warnings.push(everywhere.to_owned());
            }
            let is_deployed = prepared.left.iter().any(|left| left.thing == LeftThing::Stack);
            warnings.push(format!(
                "{} make all of it again: delete the stacks first, or switch off their schedule and rules (docs/operate.md).",
                if is_deployed {
                    "podgrant's functions are deployed, by the roles above, and"
                } else {
                    "Where podgrant's functions run, which is not seen from here, they"
                }
            ));
        }
    }
    warnings
}

impl LeftShape {
    fn of(left: &Left) -> Self {
        Self {
            thing: left.thing,
            place: PlaceShape::of(left.cluster.as_ref(), left.workload.as_ref()),
            role: left.role.as_ref().map(ToString::to_string),
            text: left.told.clone(),
        }
    }
}
