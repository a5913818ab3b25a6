//! podgrant by hand.
//!
//! Commands decide nothing by themselves: what is planned, guarded and applied is what the functions plan, guard and
//! apply, by `podgrant_runtime::by_hand`. Here are arguments, questions, text and JSON.

use std::ffi::OsString;

use clap::Parser;
use clap::error::ErrorKind;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};

mod arguments;
mod commands;
mod exit;
mod page;
mod problem;
mod session;
mod shown;
mod surroundings;
mod table;
mod ui;

pub use exit::Exit;
pub use surroundings::{Hands, KubernetesHands, Outside, Streams, Surroundings, Terminal};

use arguments::{Arguments, Asked, Command};
use commands::{
    apply, completions, explain, grant, list, man, migrate, plan, report, restart, revoke, uninstall, verify,
};
use problem::Problem;
use session::Session;
use ui::Ui;

/// Runs one command. `arguments` begin with the program's name.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, surroundings: Surroundings<'_>) -> u8 {
    let Surroundings { streams, outside } = surroundings;
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let stream = if is_answer { streams.out } else { streams.errors };
            // Whoever closed the stream does not want it.
            let _ = write!(stream, "{}", error.render());
            return if is_answer { Exit::Done } else { Exit::Usage }.code();
        }
    };
    // https://no-color.org: set, and not empty.
    let colours = (outside.variable)("NO_COLOR").is_none_or(|value| value.is_empty());
    let Streams { out, errors, answers, terminal } = streams;
    let mut ui = Ui::new(out, errors, answers, terminal, arguments.common.output, colours);
    let ended = match &arguments.command {
        Command::Completions { shell } => Ok(completions::run(&mut ui, *shell)),
        Command::Man { command } => man::run(&mut ui, command.as_deref()),
        command => {
            let (opened, ended) = with_aws(command, ui, &arguments.common, outside).await;
            ui = opened;
            ended
        }
    };
    ended
        .unwrap_or_else(|problem| {
            ui.problem(&problem);
            problem.exit
        })
        .code()
}

/// Runs a command that asks AWS.
async fn with_aws<'a>(
    command: &Command,
    ui: Ui<'a>,
    common: &arguments::Common,
    mut outside: Outside<'a>,
) -> (Ui<'a>, Result<Exit, Problem>) {
    if let Command::Plan { looks, .. } | Command::Apply { looks, .. } | Command::Report { looks, .. } =
        command
        && looks.no_kubernetes
    {
        outside.lookout = None;
    }
    let mut session = match Session::open(ui, common, outside).await {
        Ok(session) => session,
        Err((ui, problem)) => return (ui, Err(problem)),
    };
    let running: LocalBoxFuture<'_, Result<Exit, Problem>> = match command {
        Command::Plan { target, looks } => plan::run(&mut session, target, looks).boxed_local(),
        Command::Apply { target, looks, consent, allowance, event_bus } => {
            let event_bus = event_bus.as_deref();
            apply::run(&mut session, (target, looks), consent, allowance, event_bus).boxed_local()
        }
        Command::List { cluster, role } => {
            list::run(&mut session, cluster.as_ref(), role.as_deref()).boxed_local()
        }
        Command::Explain { what, pod } => match what.as_ref().or(pod.as_ref()) {
            Some(target) => explain::run(&mut session, target).boxed_local(),
            // clap wants one.
            None => ready(Ok(Exit::Usage)).boxed_local(),
        },
        Command::Doctor { account, pod, cluster } => {
            let target = account.as_ref().or(pod.as_ref()).or(cluster.as_ref()).unwrap_or(&Asked::Fleet);
            explain::diagnose(&mut session, target).boxed_local()
        }
        Command::Report { format, file, looks } => {
            report::run(&mut session, *format, file.as_deref(), looks).boxed_local()
        }
        Command::Verify { cluster, clean, settings, consent } => match cluster {
            cluster if *clean => verify::clean(&mut session, cluster.as_ref(), consent).boxed_local(),
            Some(cluster) => verify::run(&mut session, cluster, settings, consent).boxed_local(),
            // clap wants one.
            None => ready(Ok(Exit::Usage)).boxed_local(),
        },
        Command::Restart { account, cluster, apply, consent, waiting } => {
            let target = account.as_ref().or(cluster.as_ref()).unwrap_or(&Asked::Fleet);
            restart::run(&mut session, target, *apply, consent, waiting).boxed_local()
        }
        Command::Migrate { cluster, accounts, migration, consent } => {
            migrate::run(&mut session, cluster, accounts, migration, consent).boxed_local()
        }
        Command::Uninstall { cluster, confirm } => {
            uninstall::run(&mut session, cluster.as_ref(), confirm.as_deref()).boxed_local()
        }
        Command::Grant { subjects, label, consent, waiting } => {
            grant::run(&mut session, subjects, label.as_deref(), consent, waiting).boxed_local()
        }
        Command::Revoke { subjects, consent, waiting } => {
            revoke::run(&mut session, subjects, consent, waiting).boxed_local()
        }
        // Those ask nobody.
        Command::Completions { .. } | Command::Man { .. } => ready(Ok(Exit::Done)).boxed_local(),
    };
    let ended = running.await;
    (session.ui, ended)
}
