//! `podgrant`: the process around [`podgrant_cli::run`].

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use podgrant_aws::{Onlooker, Roller};
use podgrant_cli::{KubernetesHands, Outside, Streams, Surroundings, Terminal};
use podgrant_runtime::{Clock, Lookout};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Until something is being changed, Ctrl-C ends the process as it ends any.
    let watched: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let is_interrupted = || {
        let interrupted = watched.get_or_init(|| {
            let interrupted = Arc::new(AtomicBool::new(false));
            tokio::spawn(watch(Arc::clone(&interrupted)));
            interrupted
        });
        interrupted.load(Ordering::Relaxed)
    };
    let terminal = Terminal {
        input: stdin().is_terminal(),
        out: stdout().is_terminal(),
        errors: stderr().is_terminal(),
    };
    let streams =
        Streams { out: &mut stdout(), errors: &mut stderr(), answers: &mut stdin().lock(), terminal };
    let outside = Outside {
        variable: &|name| std::env::var(name).ok(),
        clock: Clock::system(),
        sdk: &|profile| Box::pin(podgrant_aws::sdk_config_of(profile)),
        lookout: Some(Lookout::new(podgrant_kubernetes::agent_pods, podgrant_kubernetes::misfits)),
        onlooker: Some(Onlooker::new(
            podgrant_kubernetes::look_at_workload,
            podgrant_kubernetes::look_into_cluster,
        )),
        hands: Arc::new(KubernetesHands),
        roller: Some(Roller::new(
            podgrant_kubernetes::annotated,
            podgrant_kubernetes::pods_of_accounts,
            podgrant_kubernetes::objects,
            podgrant_kubernetes::budgets,
            podgrant_kubernetes::roll,
            podgrant_kubernetes::annotate,
        )),
        interrupted: &is_interrupted,
        #[expect(clippy::disallowed_methods, reason = "a person asked to wait")]
        pause: &|time| Box::pin(tokio::time::sleep(time)),
    };
    ExitCode::from(podgrant_cli::run(std::env::args_os(), Surroundings { streams, outside }).await)
}

/// Ends after the call that is under way at the first Ctrl-C, and at once at the second.
async fn watch(interrupted: Arc<AtomicBool>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        if interrupted.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("podgrant: ending after the calls that are under way; again, and it ends at once");
    }
}
