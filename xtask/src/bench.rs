//! How fast, how small, how many calls: measured, printed, and compared with the figures that are kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::dist::{self, Architecture};
use crate::{build, figures, local_aws, run};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bench {
    /// From exec to the first request for work, to the first AWS call and answer; memory; sizes. Beside boto3.
    Start,
    /// Sweeps and events over fleets of up to 500,000 associations, in virtual time.
    Scale,
    /// Parsing, planning and guarding, by criterion.
    Planning,
    /// The same in instructions, by callgrind: a figure that a noisy machine can't move.
    Instructions,
}

/// How much more a piece of work may cost than the figures that are kept say. Seeds of hash maps and what a processor
/// offers libc move them by a few hundredths.
const TOLERANCE: f64 = 0.10;

/// Runs benches. With `check`, fails where instructions grew; with `keep`, keeps their figures.
pub fn bench(benches: &[Bench], check: bool, keep: bool) -> Result<ExitCode> {
    let root = run::root()?;
    let mut code = ExitCode::SUCCESS;
    for bench in benches {
        match bench {
            Bench::Start => start(&root, keep)?,
            Bench::Scale => scale(&root, keep)?,
            Bench::Planning => {
                build::cargo(&root, ["bench", "--package", "podgrant-core", "--bench", "planning"])?;
            }
            Bench::Instructions => {
                if !instructions(&root, keep)? && check {
                    code = ExitCode::FAILURE;
                }
            }
        }
    }
    Ok(code)
}

fn start(root: &Path, keep: bool) -> Result<()> {
    let architecture = Architecture::of_this_machine()?;
    let built = dist::bootstraps(root, architecture)?;
    let bin = local_aws::environment(root, "tests/start/requirements.txt", "target/bench/venv")?;
    build::cargo(root, ["build", "--release", "--package", "lambda-runtime-alone"])?;
    build::cargo(root, ["build", "--workspace", "--bins", "--profile", "local"])?;
    let target = build::target(root);
    let mut command = Command::new(target.join("local/start"));
    command.arg("--python").arg(bin.join("python")).current_dir(root);
    command.arg(format!("lambda_runtime alone={}", target.join("release/lambda-runtime-alone").display()));
    for (function, path) in built {
        command.arg(format!("{function}={}", path.display()));
    }
    command.arg("boto3=python:tests/start/boto3_handler.py");
    measured(root, "start", &mut command, keep)
}

fn scale(root: &Path, keep: bool) -> Result<()> {
    build::cargo(root, ["build", "--workspace", "--bins", "--profile", "local"])?;
    let mut command = Command::new(build::target(root).join("local/scale"));
    command.current_dir(root);
    if keep {
        command.arg("--plot").arg(root.join("docs/scale.svg"));
    }
    measured(root, "scale", &mut command, keep)
}

/// Runs what measures and prints; then how its figures differ from those that are kept, or keeps them.
fn measured(root: &Path, name: &str, command: &mut Command, keep: bool) -> Result<()> {
    let folder = build::target(root).join("bench");
    fs::create_dir_all(&folder)?;
    let measured = folder.join(format!("{name}.json"));
    local_aws::run(command.arg("--json").arg(&measured))?;
    let kept = root.join("docs/figures").join(format!("{name}.json"));
    if keep {
        fs::copy(&measured, &kept).with_context(|| format!("keeping {}", kept.display()))?;
        return Ok(());
    }
    print!("\n{}", figures::changes(&figures::read(&measured)?, &figures::read(&kept)?));
    Ok(())
}

/// Counts, prints and compares; whether nothing grew beyond the tolerance.
fn instructions(root: &Path, keep: bool) -> Result<bool> {
    let kept_path = root.join("docs/figures/instructions.json");
    let kept: BTreeMap<String, u64> = match fs::read_to_string(&kept_path) {
        Ok(text) => {
            serde_json::from_str(&text).with_context(|| format!("reading {}", kept_path.display()))?
        }
        Err(_) => BTreeMap::new(),
    };
    let counted = counted(root)?;
    let listed = Command::new(&counted).output().context("asking what can be counted")?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut holds = true;
    println!("{:<16} {:>16} {:>16} {:>9}", "work", "instructions", "kept", "change");
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let count = count(&counted, line)?;
        let change = kept.get(line).map(|kept| ratio(count, *kept));
        let grew = change.is_none_or(|change| change > TOLERANCE);
        holds &= !grew;
        println!(
            "{line:<16} {count:>16} {:>16} {:>9}{}",
            kept.get(line).map(ToString::to_string).unwrap_or_default(),
            change.map(|change| format!("{:+.1} %", change * 100.0)).unwrap_or_default(),
            if grew && !kept.is_empty() { "  too much" } else { "" },
        );
        found.insert(line.to_owned(), count);
    }
    if keep {
        fs::write(&kept_path, format!("{}\n", serde_json::to_string_pretty(&found)?))?;
    } else if !holds {
        eprintln!(
            "More than {:.0} % over the figures in {}. If that is worth it: cargo xtask bench instructions --keep",
            TOLERANCE * 100.0,
            kept_path.display()
        );
    }
    Ok(holds)
}

fn ratio(now: u64, before: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (now, before) = (now as f64, before as f64);
    now / before - 1.0
}

/// Where cargo put the executable that callgrind runs.
fn counted(root: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["bench", "--package", "podgrant-core", "--bench", "counted", "--no-run"]);
    cargo.args(["--quiet", "--message-format=json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = cargo.output().context("starting cargo")?;
    if !output.status.success() {
        bail!("{cargo:?} ended with {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == "counted").then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    path.context("cargo told of no executable")
}

/// The instructions of one piece of work.
fn count(executable: &Path, work: &str) -> Result<u64> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=counted::counted*",
    ]);
    valgrind.arg(executable).args(work.split(' '));
    let output = valgrind.output().context("starting valgrind (on Debian, the package valgrind)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    match collected {
        Some(count) if count > 0 => Ok(count),
        _ => bail!("valgrind counted nothing of {work}: {said}"),
    }
}
