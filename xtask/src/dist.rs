//! What is deployed: a zip for each function and architecture, and their checksums.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use crate::build::FUNCTIONS;
use crate::{local_aws, run};

/// What functions are built for, by Lambda's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Architecture {
    Arm64,
    #[value(name = "x86_64")]
    X86_64,
}

impl Architecture {
    fn name(self) -> &'static str {
        match self {
            Self::Arm64 => "arm64",
            Self::X86_64 => "x86_64",
        }
    }

    /// That of the machine this runs on.
    pub fn of_this_machine() -> Result<Self> {
        match env::consts::ARCH {
            "aarch64" => Ok(Self::Arm64),
            "x86_64" => Ok(Self::X86_64),
            other => bail!("Lambda has no {other}"),
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Arm64 => "aarch64-unknown-linux-gnu",
            Self::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// With the C library of Lambda's `provided.al2023` (Amazon Linux 2023 user guide, "Comparing AL2 and AL2023"). One
    /// that could be older has parts of it in libraries of their own, and each is a dozen system calls of a start.
    fn target_with_glibc(self) -> String {
        format!("{}.2.34", self.target())
    }
}

/// Builds `target/dist/<function>-<architecture>.zip`, and `SHA256SUMS` beside them.
pub fn dist(architectures: &[Architecture]) -> Result<ExitCode> {
    let root = run::root()?;
    for architecture in architectures {
        has_standard_library(*architecture)?;
    }
    let bin = local_aws::environment(&root, "xtask/requirements-dist.txt", "target/tools/dist")?;
    let folder = root.join("target/dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("removing the old {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)?;
    let mut sums = String::new();
    for architecture in architectures {
        for function in FUNCTIONS {
            eprintln!("Building {function} for {} …", architecture.name());
            let built = build(&root, &bin, function, *architecture)?;
            let name = format!("{function}-{}.zip", architecture.name());
            let bytes = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
            fs::write(folder.join(&name), &bytes)?;
            let sum = Sha256::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            println!("{:>9} bytes  {name}", bytes.len());
            let _ = writeln!(sums, "{sum}  {name}");
        }
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    println!("{}", folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the functions as they are deployed, and tells where each bootstrap is, with its zip beside it.
pub fn bootstraps(root: &Path, architecture: Architecture) -> Result<Vec<(&'static str, PathBuf)>> {
    has_standard_library(architecture)?;
    let bin = local_aws::environment(root, "xtask/requirements-dist.txt", "target/tools/dist")?;
    let release = crate::build::target(root).join(architecture.target()).join("release");
    let mut built = Vec::new();
    for function in FUNCTIONS {
        eprintln!("Building {function} for {} …", architecture.name());
        let zip = build(root, &bin, function, architecture)?;
        let folder = root.join("target/bench").join(function);
        fs::create_dir_all(&folder)?;
        fs::copy(&zip, folder.join("bootstrap.zip"))?;
        fs::copy(release.join(function), folder.join("bootstrap"))?;
        built.push((function, folder.join("bootstrap")));
    }
    Ok(built)
}

/// One function at a time: built together, each would get what the others need of shared crates.
fn build(root: &Path, bin: &Path, function: &str, architecture: Architecture) -> Result<PathBuf> {
    let path = env::join_paths(
        [bin.to_owned()].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut command = Command::new(bin.join("cargo-lambda"));
    command
        .current_dir(root)
        // It looks for zig there.
        .env("PATH", path)
        .args(["lambda", "build", "--release", "--locked", "--output-format", "zip", "--package", function])
        // By our own profile, and not by that and cargo-lambda's.
        .arg("--disable-optimizations")
        .args(["--target", &architecture.target_with_glibc()]);
    local_aws::run(&mut command)?;
    Ok(crate::build::target(root).join("lambda").join(function).join("bootstrap.zip"))
}

/// Whether Rust's own libraries are there for an architecture.
fn has_standard_library(architecture: Architecture) -> Result<()> {
    let target = architecture.target();
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let folder = output.context("starting rustc")?.stdout;
    if Path::new(String::from_utf8_lossy(&folder).trim()).is_dir() {
        return Ok(());
    }
    bail!("Rust's libraries for {target} are not installed; run: rustup target add {target}")
}
