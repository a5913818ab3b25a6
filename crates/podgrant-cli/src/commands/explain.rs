//! `podgrant explain` and `podgrant doctor`.

use podgrant_aws::Explanation;
use podgrant_core::explain::{Chain, Diagnosis};
use serde::Serialize;

use crate::arguments::{Asked, Output};
use crate::exit::Exit;
use crate::problem::Problem;
use crate::session::Session;
use crate::ui::JSON_VERSION;

#[derive(Serialize)]
struct ExplanationShape<'a> {
    version: u32,
    #[serde(flatten)]
    explanation: &'a Explanation,
}

#[derive(Serialize)]
struct DiagnosesShape<'a> {
    version: u32,
    diagnoses: &'a [Diagnosis],
}

/// Explains.
pub async fn run(session: &mut Session<'_>, target: &Asked) -> Result<Exit, Problem> {
    session.ui.progress("looking at every link …");
    let explanation = session.aws.explain(target, session.onlooker(), session.now()).await;
    match session.ui.output {
        Output::Text => session.ui.show(&explanation.to_string()),
        Output::Json => {
            session.ui.json(&ExplanationShape { version: JSON_VERSION, explanation: &explanation });
        }
    }
    Ok(if explanation.chains.iter().any(Chain::is_broken) {
        Exit::Found
    } else if explanation.chains.iter().all(Chain::is_whole) {
        Exit::Done
    } else {
        Exit::InPart
    })
}

/// Diagnoses.
pub async fn diagnose(session: &mut Session<'_>, target: &Asked) -> Result<Exit, Problem> {
    session.ui.progress("looking for what is wrong …");
    let diagnoses = session.aws.diagnose(target, session.onlooker(), session.now()).await;
    match session.ui.output {
        Output::Text => {
            let texts: Vec<String> = diagnoses.iter().map(ToString::to_string).collect();
            session.ui.show(&texts.join("\n\n"));
        }
        Output::Json => {
            session.ui.json(&DiagnosesShape { version: JSON_VERSION, diagnoses: &diagnoses });
        }
    }
    Ok(if diagnoses.iter().any(|diagnosis| !diagnosis.causes.is_empty()) {
        Exit::Found
    } else if diagnoses.iter().all(|diagnosis| diagnosis.unseen.is_empty()) {
        Exit::Done
    } else {
        Exit::InPart
    })
}
