//! What `grant` and `revoke` share: showing what a change of tags comes to, writing it, and waiting until it is so.

use std::collections::{BTreeMap, BTreeSet};

use podgrant_aws::View;
use podgrant_core::model::RoleNews;
use podgrant_core::outcome::FollowUp;
use podgrant_core::plan::Duty;
use podgrant_core::tags::edit::{Edit, TagChange};
use podgrant_core::{Change, ClusterId, Role, Subject};
use podgrant_events::Trigger;
use podgrant_runtime::Function;
use podgrant_runtime::by_hand::PreparedPass;
use podgrant_runtime::scope::Task;
use serde::Serialize;

use crate::arguments::{Consent, Waiting, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::{PlanShape, Shown};
use crate::ui::{JSON_VERSION, Look};

/// Seconds between two looks.
const PAUSE: u64 = 5;

/// A role, and how its tags are to change.
pub struct Edited {
    pub role: Role,
    pub edit: Edit,
    pub subjects: BTreeSet<Subject>,
    /// What is said of a subject that needs no change.
    pub already: &'static str,
}

#[derive(Serialize)]
struct Shape {
    version: u32,
    role: String,
    tags: Vec<TagShape>,
    subjects: Vec<SubjectShape>,
    /// Whether the tags were written.
    written: bool,
    /// Whether it is so by now; null where it was not waited for.
    real: Option<bool>,
    #[serde(flatten)]
    plan: PlanShape,
}

#[derive(Serialize)]
struct TagShape {
    key: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Serialize)]
struct SubjectShape {
    subject: String,
    /// Whether no tag had to change for it.
    already: bool,
    /// The clusters that it means now.
    clusters: Vec<String>,
}

/// Subjects as the tags' own grammar reads them.
pub fn parsed(texts: &[String]) -> Result<BTreeSet<Subject>, Problem> {
    let parsed = texts
        .iter()
        .map(|text| text.parse().map_err(|error| Problem::usage(format!("{text:?}: {error}"), "")));
    parsed.collect()
}

pub async fn role(session: &mut Session<'_>, named: &str) -> Result<Role, Problem> {
    session.ui.progress("looking at the role …");
    let found = session.aws.role(role_name(named)).await.map_err(|error| session.problem(&error))?;
    found.ok_or_else(|| session.no_such_role(named))
}

/// Shows what the change comes to, asks, writes it, and waits if that is wanted.
pub async fn write(
    session: &mut Session<'_>,
    edited: Edited,
    consent: &Consent,
    waiting: &Waiting,
) -> Result<Exit, Problem> {
    if !consent.yes && !session.ui.can_ask() {
        return Err(Problem::usage(
            "it asks before it changes anything, and there is nobody to ask",
            "run it on a terminal, or with --yes",
        ));
    }
    let name = edited.role.arn.role_name().to_owned();
    session.ui.progress("looking at the clusters …");
    let tags = edited.edit.tags.clone();
    let as_if = look(session, View::RoleAsIf { name: name.clone(), tags }).await?;
    let shown = Shown::of_pass(&as_if);
    let mut shape = Shape {
        version: JSON_VERSION,
        role: edited.role.arn.to_string(),
        tags: edited.edit.changes.iter().map(TagShape::of).collect(),
        subjects: edited.subjects.iter().map(|subject| edited.shape(subject, &as_if)).collect(),
        written: false,
        real: None,
        plan: shown.shape(),
    };
    edited.show(session, &shape.subjects);
    session.ui.show("What podgrant makes of it, where it runs, or podgrant apply by hand:");
    session.ui.show("");
    shown.show(&mut session.ui);
    session.ui.show("");

    let exit = |shown: &Shown| match !shown.unread.is_empty() || shown.says_no() {
        true => Exit::InPart,
        false => Exit::Done,
    };
    let mut ended = exit(&shown);
    if edited.edit.changes.is_empty() {
        session.ui.show("The tags are so already.");
    } else {
        if !consent.yes && !session.ui.agrees("Write these tags?") {
            session.ui.say("Nothing was changed.");
            session.ui.json(&shape);
            return Ok(Exit::Declined);
        }
        write_tags(session, &edited.role, &edited.edit).await.map_err(|unwritten| unwritten.problem)?;
        shape.written = true;
        session.ui.show(&format!("The tags of {name} are written."));
    }
    if waiting.wait {
        let (real, shown) = wait(session, &edited, i64::from(waiting.wait_limit)).await?;
        shape.real = Some(real);
        shape.plan = shown.shape();
        ended = if real { exit(&shown) } else { Exit::InPart };
    }
    session.ui.json(&shape);
    Ok(ended)
}

pub(super) async fn look(session: &Session<'_>, view: View) -> Result<PreparedPass, Problem> {
    let duty = Duty::Grants { guardrails: session.config.guardrails.clone() };
    let name = match &view {
        View::Role { name, .. } | View::RoleAsIf { name, .. } => name.clone(),
        _ => String::new(),
    };
    let wake = session.wake(Trigger::FollowUp(FollowUp::Role { name }));
    let flow = session.flow(Function::ReconcileAssociations);
    flow.prepare_task(Task { view, duty }, &wake).await.map_err(|error| session.problem(&error))
}

/// Looks until all is as the tags say, and tells what is missing whenever that changes.
async fn wait(session: &mut Session<'_>, edited: &Edited, limit: i64) -> Result<(bool, Shown), Problem> {
    let began = session.now();
    let mut told = String::new();
    loop {
        let news = news(&edited.edit);
        let pass = look(session, View::Role { name: edited.role.arn.role_name().to_owned(), news }).await?;
        let shown = Shown::of_pass(&pass);
        // What else is to be done for the role is not waited for.
        let asked =
            |change: &&Change| change.mark().is_none_or(|mark| edited.subjects.contains(&mark.subject));
        let changes = shown.plan.changes.iter().filter(asked).map(ToString::to_string);
        let missing: Vec<String> =
            changes.chain(shown.plan.waits.iter().map(|wait| wait.reason.clone())).collect();
        if missing.is_empty() && shown.unread.is_empty() {
            session.ui.show("It is so.");
            return Ok((true, shown));
        }
        let now = missing.join("\n  ");
        if now != told {
            session.ui.say(&format!("waiting for:\n  {now}"));
            told = now;
        }
        let waited = session.now() - began;
        if waited >= limit || session.is_interrupted() {
            session.ui.show(&format!(
                "After {waited} s it is not so yet. Where podgrant runs, its log says why; by hand:"
            ));
            session.ui.show(&format!("  podgrant apply --role {}", edited.role.arn.role_name()));
            return Ok((false, shown));
        }
        session.pause(PAUSE).await;
    }
}

impl Edited {
    fn show(&self, session: &mut Session<'_>, subjects: &[SubjectShape]) {
        let heading = format!("Role {}", self.role.arn.role_name());
        let heading = session.ui.look(Look::Bold, &heading);
        session.ui.show(&heading);
        for line in tag_lines(&self.edit) {
            let line = session.ui.look(Look::of_sign(&line), &line);
            session.ui.show(&format!("  {line}"));
        }
        for SubjectShape { subject, already, clusters } in subjects {
            let already = if *already { format!(" {};", self.already) } else { String::new() };
            let clusters = match clusters.as_slice() {
                [] => "no cluster now".to_owned(),
                clusters => clusters.join(", "),
            };
            session.ui.show(&format!("  {subject}{already} means {clusters}"));
        }
        session.ui.show("");
    }

    fn shape(&self, subject: &Subject, seen: &PreparedPass) -> SubjectShape {
        let clusters = seen.snapshot().clusters.values();
        let meant = clusters.filter(|cluster| subject.clusters.matches(cluster)).map(|cluster| &cluster.id);
        SubjectShape {
            subject: subject.to_string(),
            already: self.edit.already.contains(subject),
            clusters: meant.map(ClusterId::to_string).collect(),
        }
    }
}

/// Why tags were not written, for certain or maybe.
pub(super) struct Unwritten {
    pub problem: Problem,
    pub is_certain: bool,
}

/// Writes tags, if the role is still as it was when they were shown: IAM has no conditional write.
pub(super) async fn write_tags(session: &Session<'_>, role: &Role, edit: &Edit) -> Result<(), Unwritten> {
    let name = role.arn.role_name();
    let no = |problem| Unwritten { problem, is_certain: true };
    let current = session.aws.role(name).await.map_err(|error| no(session.problem(&error)))?;
    if !current.is_some_and(|now| now.id == role.id && now.tags == role.tags) {
        let told = format!("the role {name} changed since it was shown, and nothing was written");
        return Err(no(Problem::failed(told, "run it again")));
    }
    let (set, removed) = (set(edit), removed(edit));
    let written = session.aws.tag_role(name, &set, &removed).await;
    written.map_err(|error| Unwritten {
        problem: session.problem(&error),
        // The first of two calls may be done.
        is_certain: error.is_a_no() && (set.is_empty() || removed.is_empty()),
    })
}

/// The diff of tags, as lines.
pub(super) fn tag_lines(edit: &Edit) -> Vec<String> {
    let lines = edit.changes.iter().flat_map(|TagChange { key, before, after }| {
        let line = |sign: char, value: &Option<String>| {
            value.as_ref().map(|value| format!("{sign} {key} = {value}"))
        };
        [line('-', before), line('+', after)]
    });
    lines.flatten().collect()
}

/// What whoever reads the role must see before it is as it was written.
fn news(edit: &Edit) -> RoleNews {
    RoleNews { tags_set: set(edit), tags_removed: removed(edit), trust_policy: None }
}

fn set(edit: &Edit) -> BTreeMap<String, String> {
    let changes = edit.changes.iter();
    changes.filter_map(|change| Some((change.key.clone(), change.after.clone()?))).collect()
}

fn removed(edit: &Edit) -> BTreeSet<String> {
    let gone = edit.changes.iter().filter(|change| change.after.is_none());
    gone.map(|change| change.key.clone()).collect()
}

impl TagShape {
    fn of(change: &TagChange) -> Self {
        Self { key: change.key.clone(), before: change.before.clone(), after: change.after.clone() }
    }
}
