//! The demo and the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{build, local_aws};

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
    let mut failed = Vec::new();

    if filter.is_none() {
        for (what, folder) in [("the local AWS itself", "tests/local-aws"), ("the templates", "infra")] {
            eprintln!("Testing {what} …");
            let mut python = Command::new(bin.join("python"));
            python.args(["-B", "-m", "unittest", "discover"]).current_dir(root.join(folder));
            failed.extend(local_aws::run(&mut python).err());
        }
    }

    eprintln!("Testing podgrant …");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--workspace", "--profile", "local", "--no-fail-fast"]).args(filter);
    failed.extend(local_aws::run(with_local_aws(cargo.current_dir(&root), &root, &bin)).err());

    for error in &failed {
        eprintln!("failed: {error:#}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

fn root() -> Result<PathBuf> {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(xtask.parent().context("xtask has no parent folder")?.to_owned())
}
