//! The binaries of a real Kubernetes API server, for the tests that need one.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What `tests/local-kubernetes/build.py` ends with where this machine can't make them.
const CANNOT: i32 = 3;

/// What the Kubernetes tests run against.
pub enum Kubernetes {
    /// Our own: the folder of its binaries.
    Binaries(PathBuf),
    /// A cluster of the user's: PODGRANT_TEST_KUBECONFIG names it.
    Cluster,
    /// Nothing, for this reason.
    Nothing(String),
}

/// Makes the binaries, once for this machine.
///
/// # Errors
/// When it should have worked and did not.
pub fn install(root: &Path, bin: &Path) -> Result<Kubernetes> {
    if std::env::var_os("PODGRANT_TEST_KUBECONFIG").is_some() {
        return Ok(Kubernetes::Cluster);
    }
    let mut build = Command::new(bin.join("python"));
    build.arg("-B").arg(root.join("tests/local-kubernetes/build.py"));
    build.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = build.spawn().with_context(|| format!("starting {build:?}"))?;
    // Its last line is the reason, where there is one.
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().context("build.py has no stderr")?).lines() {
        said = line?;
        eprintln!("  {said}");
    }
    let mut folder = String::new();
    child.stdout.take().context("build.py has no stdout")?.read_to_string(&mut folder)?;
    let status = child.wait()?;
    match status.code() {
        Some(0) => Ok(Kubernetes::Binaries(PathBuf::from(folder.trim()))),
        Some(CANNOT) => Ok(Kubernetes::Nothing(said.trim_start_matches("build: ").to_owned())),
        _ => bail!("making the local Kubernetes ended with {status}"),
    }
}
