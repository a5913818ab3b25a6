//! `podgrant revoke`.

use podgrant_core::tags::edit;

use super::tags::{self, Edited};
use crate::arguments::{Consent, Subjects, Waiting};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;

pub async fn run(
    session: &mut Session<'_>,
    named: &Subjects,
    consent: &Consent,
    waiting: &Waiting,
) -> Result<Exit, Problem> {
    let subjects = tags::parsed(&named.subjects)?;
    let role = tags::role(session, &named.role).await?;
    let edit = edit::revoke(session.aws.keys(), &role.tags, &subjects);
    let edited = Edited { role, edit, subjects, already: "is not granted" };
    tags::write(session, edited, consent, waiting).await
}
