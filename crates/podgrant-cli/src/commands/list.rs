//! `podgrant list`.

use podgrant_aws::View;
use podgrant_core::verify::looks_like_verify;
use podgrant_core::{Association, RoleArn, Snapshot};
use serde::Serialize;

use crate::arguments::{ClusterArgument, role_name};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::{PlaceShape, UnreadShape};
use crate::table;
use crate::ui::JSON_VERSION;

#[derive(Serialize)]
struct Shape {
    version: u32,
    associations: Vec<Row>,
    unread: Vec<UnreadShape>,
}

/// An association, and whose it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    #[serde(flatten)]
    place: PlaceShape,
    association: String,
    /// Its ARN.
    pub role: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_role: Option<String>,
    pub role_is: RoleIs,
    owner: Owner,
    /// Of an add-on or another AWS service.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner_arn: Option<String>,
    /// The tag's text that podgrant made it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<String>,
    #[serde(skip)]
    shown: [String; 5],
}

impl Row {
    /// As people read it.
    pub fn made_by(&self) -> &str {
        &self.shown[4]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Owner {
    Podgrant,
    /// Temporary, of `podgrant verify`.
    PodgrantVerify,
    Aws,
    SomebodyElse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleIs {
    There,
    Gone,
    /// Deleted and made again: it never asked.
    Replaced,
    Unknown,
}

pub async fn run(
    session: &mut Session<'_>,
    cluster: Option<&ClusterArgument>,
    role: Option<&str>,
) -> Result<Exit, Problem> {
    let cluster = match cluster {
        Some(named) => Some(session.cluster(named).await?),
        None => None,
    };
    session.ui.progress("looking at associations …");
    let view = View::Associations { cluster };
    let seen = session.aws.observe(&view, session.now(), || false).await;
    let seen = seen.map_err(|error| session.problem(&error))?;
    let gives = |association: &&Association| {
        role.is_none_or(|role| association.roles().iter().any(|arn| role_name(arn) == role_name(role)))
    };
    let mut associations: Vec<&Association> = seen.associations.iter().filter(gives).collect();
    associations.sort_by_key(|association| (&association.cluster, &association.workload, &association.id));
    let rows: Vec<Row> = associations.into_iter().map(|association| row(association, &seen)).collect();
    match session.ui.output {
        crate::arguments::Output::Text => show(session, &rows, &seen),
        crate::arguments::Output::Json => session.ui.json(&Shape {
            version: JSON_VERSION,
            associations: rows,
            unread: seen.gaps.iter().map(UnreadShape::of).collect(),
        }),
    }
    Ok(if seen.gaps.is_empty() { Exit::Done } else { Exit::InPart })
}

fn show(session: &mut Session<'_>, rows: &[Row], seen: &Snapshot) {
    let cells: Vec<[String; 5]> = rows.iter().map(|row| row.shown.clone()).collect();
    if cells.is_empty() {
        session.ui.show("No associations.");
    } else {
        table::show(&mut session.ui, ["CLUSTER", "SERVICE ACCOUNT", "ROLE", "ROLE IS", "MADE BY"], &cells);
    }
    for gap in &seen.gaps {
        session.ui.show(&format!("! not read: {}", gap.why));
    }
}

/// What a look at associations tells of one.
pub fn row(association: &Association, seen: &Snapshot) -> Row {
    let mark = association.managed();
    let role = match (mark, &association.record) {
        (_, Some(record)) => record.role_arn.clone(),
        (Some(mark), None) => mark.role_arn.to_string(),
        (None, None) => String::new(),
    };
    let target_role = match &association.record {
        Some(record) => record.target_role.clone(),
        None => mark.and_then(|mark| mark.target_role.as_ref()).map(ToString::to_string),
    };
    let found = role.parse::<RoleArn>().ok().and_then(|arn| seen.roles.get(&arn));
    let role_is = match found {
        _ if role.is_empty() || seen.roles.is_empty() => RoleIs::Unknown,
        None => RoleIs::Gone,
        Some(found) if mark.is_some_and(|mark| mark.role_arn == found.arn && mark.role_id != found.id) => {
            RoleIs::Replaced
        }
        Some(_) => RoleIs::There,
    };
    let (owner, made_by) = match (mark, &association.owner) {
        (Some(mark), _) => (Owner::Podgrant, format!("podgrant, for {}", mark.subject)),
        (None, Some(arn)) => (Owner::Aws, arn.splitn(6, ':').last().unwrap_or(arn).to_owned()),
        (None, None) if looks_like_verify(&association.workload, &role) => {
            (Owner::PodgrantVerify, "podgrant verify".to_owned())
        }
        (None, None) => (Owner::SomebodyElse, "somebody else".to_owned()),
    };
    let word = match role_is {
        RoleIs::There => "there",
        RoleIs::Gone => "gone",
        RoleIs::Replaced => "another of its name",
        RoleIs::Unknown => "unknown",
    };
    let shown = [
        association.cluster.to_string(),
        association.workload.to_string(),
        role_name(&role).to_owned(),
        word.to_owned(),
        made_by,
    ];
    Row {
        place: PlaceShape::of(Some(&association.cluster), Some(&association.workload)),
        association: association.id.to_string(),
        role,
        target_role,
        role_is,
        owner,
        owner_arn: association.owner.clone(),
        grant: mark.map(|mark| mark.subject.to_string()),
        shown,
    }
}
