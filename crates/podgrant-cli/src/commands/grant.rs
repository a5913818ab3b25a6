//! `podgrant grant`.

use podgrant_core::tags::edit;

use super::tags::{self, Edited};
use crate::arguments::{Consent, Subjects, Waiting};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;

pub async fn run(
    session: &mut Session<'_>,
    named: &Subjects,
    label: Option<&str>,
    consent: &Consent,
    waiting: &Waiting,
) -> Result<Exit, Problem> {
    let subjects = tags::parsed(&named.subjects)?;
    let role = tags::role(session, &named.role).await?;
    let edit = edit::grant(session.aws.keys(), &role.tags, label, &subjects)
        .map_err(|error| Problem::usage(format!("role {}: {error}", role.arn.role_name()), ""))?;
    let edited = Edited { role, edit, subjects, already: "is granted already" };
    tags::write(session, edited, consent, waiting).await
}
