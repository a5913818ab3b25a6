//! The bootstraps that the demo and the end-to-end tests run.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The functions, which are also their packages and their folders.
pub const FUNCTIONS: [&str; 3] = ["install-agent", "reconcile-associations", "clean-up-orphans"];

/// How often a line says that the build goes on, where there is no terminal.
const EVERY: Duration = Duration::from_secs(15);

/// Builds everything with the profile `local` and lays the bootstraps out as
/// infra/template.yaml wants them: target/lambda/<function>/bootstrap.
///
/// The whole workspace, tests included, and not just the functions: cargo then
/// resolves the same features for all of them, and builds the AWS SDK once.
///
/// # Errors
/// When the build fails; cargo has said why.
pub fn bootstraps(root: &Path) -> Result<()> {
    cargo(root, ["build", "--workspace", "--all-targets", "--profile", "local"])?;
    for function in FUNCTIONS {
        let built = target(root).join("local").join(function);
        let folder = root.join("target/lambda").join(function);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let bootstrap = folder.join("bootstrap");
        // A running function keeps its own copy: never write into it.
        let _ = fs::remove_file(&bootstrap);
        fs::copy(&built, &bootstrap)
            .with_context(|| format!("copying {} to {}", built.display(), bootstrap.display()))?;
    }
    Ok(())
}

/// Where cargo puts what it builds.
pub fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Runs cargo: with its own progress in a terminal, with a line now and then elsewhere.
pub fn cargo<S: AsRef<OsStr>>(root: &Path, arguments: impl IntoIterator<Item = S>) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    if std::io::stderr().is_terminal() {
        return crate::local_aws::run(&mut command);
    }
    command.arg("--quiet").arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let began = now();
    let (mut built, mut fresh, mut said) = (0u32, 0u32, began);
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line?;
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else {
            // What is run says it, and not cargo: figures of a bench.
            println!("{line}");
            continue;
        };
        if message["reason"] == "compiler-artifact" {
            *(if message["fresh"] == true { &mut fresh } else { &mut built }) += 1;
            if now() - said >= EVERY {
                said = now();
                eprintln!("  {:>4} s  {built} crates built", (said - began).as_secs());
            }
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    eprintln!("  {:>4} s  built: {built} crates now, {fresh} before", (now() - began).as_secs());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "xtask tells people how long things take")]
fn now() -> Instant {
    Instant::now()
}
