//! `podgrant plan`.

use serde::Serialize;

use super::prepare::{About, prepare};
use crate::arguments::{Looks, Target};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::shown::{PlanShape, Shown};
use crate::ui::JSON_VERSION;

#[derive(Serialize)]
struct Shape {
    version: u32,
    about: About,
    #[serde(flatten)]
    plan: PlanShape,
}

pub async fn run(session: &mut Session<'_>, target: &Target, looks: &Looks) -> Result<Exit, Problem> {
    let (about, prepared) = prepare(session, target, looks).await?;
    let shown = Shown::of(prepared.iter().map(|(_, prepared)| prepared));
    match session.ui.output {
        crate::arguments::Output::Text => shown.show(&mut session.ui),
        crate::arguments::Output::Json => {
            session.ui.json(&Shape { version: JSON_VERSION, about, plan: shown.shape() });
        }
    }
    Ok(shown.exit())
}
