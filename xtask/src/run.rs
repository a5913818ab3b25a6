//! The demo and the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::local_kubernetes::Kubernetes;
use crate::{build, local_aws, local_kubernetes};

/// Plays the story on a local AWS.
pub fn demo(keep: bool) -> Result<ExitCode> {
    let root = root()?;
    let bin = prepare(&root)?;
    let mut command = Command::new(build::target(&root).join("local/demo"));
    if keep {
        command.arg("--keep");
    }
    let status = with_local_aws(&mut command, &root, &bin).status().context("starting the demo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every test there is.
pub fn test(filter: Option<&str>) -> Result<ExitCode> {
    let root = root()?;
    let bin = prepare(&root)?;
    eprintln!("Making the local Kubernetes (once for this machine, some 10 minutes) …");
    let kubernetes = local_kubernetes::install(&root, &bin)?;
    let mut failed = Vec::new();

    if filter.is_none() {
        let own = [
            ("the local AWS itself", "tests/local-aws"),
            ("the local Kubernetes itself", "tests/local-kubernetes"),
            ("the templates", "infra"),
        ];
        for (what, folder) in own {
            eprintln!("Testing {what} …");
            let mut python = Command::new(bin.join("python"));
            python.args(["-B", "-m", "unittest", "discover"]).current_dir(root.join(folder));
            failed.extend(local_aws::run(with_kubernetes(&mut python, &kubernetes)).err());
        }
    }

    eprintln!("Testing podgrant …");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace", "--profile", "local", "--no-fail-fast"]).args(filter);
    let tests = with_local_aws(cargo.current_dir(&root), &root, &bin);
    // What each function asks AWS for in all scenarios together, to be compared with its policy.
    let calls = root.join("target/tmp/calls.txt");
    let _ = fs::remove_file(&calls);
    fs::create_dir_all(root.join("target/tmp"))?;
    tests.env("PODGRANT_CALLS_FILE", &calls);
    failed.extend(local_aws::run(with_kubernetes(tests, &kubernetes)).err());
    if filter.is_none() && failed.is_empty() {
        eprintln!("Comparing what the functions ask for with what their policies allow …");
        let mut python = Command::new(bin.join("python"));
        python.arg("-B").arg(root.join("infra/compare_calls.py")).arg(&calls);
        failed.extend(local_aws::run(&mut python).err());
    }

    for error in &failed {
        eprintln!("failed: {error:#}");
    }
    match &kubernetes {
        Kubernetes::Binaries(_) => {}
        Kubernetes::Cluster => eprintln!(
            "skipped: what needs EKS's tokens, for PODGRANT_TEST_KUBECONFIG names a cluster that knows none"
        ),
        Kubernetes::Nothing(reason) => {
            eprintln!(
                "skipped: all that needs a Kubernetes API server ({reason}); PODGRANT_TEST_KUBECONFIG may name one"
            );
            // CI is where nobody reads that.
            if std::env::var_os("CI").is_some() {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Which API server the tests may use.
fn with_kubernetes<'a>(command: &'a mut Command, kubernetes: &Kubernetes) -> &'a mut Command {
    match kubernetes {
        Kubernetes::Binaries(folder) => command.env("PODGRANT_KUBERNETES_BIN", folder),
        Kubernetes::Cluster | Kubernetes::Nothing(_) => command.env_remove("PODGRANT_KUBERNETES_BIN"),
    }
}

fn prepare(root: &Path) -> Result<PathBuf> {
    let bin = local_aws::install(root)?;
    eprintln!("Building (a first build takes some minutes: the AWS SDK is large) …");
    build::bootstraps(root)?;
    Ok(bin)
}

/// What tests and demo have to know, and what they must not: no variable that
/// could lead them to the real AWS.
fn with_local_aws<'a>(command: &'a mut Command, root: &Path, bin: &Path) -> &'a mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") && name != "AWS_LC_SYS_NO_JITTER_ENTROPY" {
            command.env_remove(name);
        }
    }
    command.env("PODGRANT_ROOT", root).env("PODGRANT_LOCAL_AWS_BIN", bin)
}

pub fn root() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask.parent().context("xtask has no parent folder")?.to_owned())
}
