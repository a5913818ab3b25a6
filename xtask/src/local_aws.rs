//! Python's packages, in virtual environments at pinned versions: the local AWS, and tools.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The oldest Python that the pinned packages take.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// Makes the local AWS's environment, and returns its `bin` folder.
///
/// # Errors
/// As [`environment`].
pub fn install(root: &Path) -> Result<PathBuf> {
    environment(root, "tests/local-aws/requirements.txt", "target/local-aws/venv")
}

/// Makes a virtual environment, once for each content of its requirements, and
/// returns its `bin` folder.
///
/// # Errors
/// No Python, one that is too old or without venv, or no way to the package index.
pub fn environment(root: &Path, requirements: &str, venv: &str) -> Result<PathBuf> {
    let requirements = root.join(requirements);
    let wanted =
        fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let venv = root.join(venv);
    let bin = venv.join("bin");
    let stamp = venv.join("podgrant-requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(bin);
    }
    let python = python()?;
    eprintln!("Installing {} into {} …", requirements.display(), venv.display());
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("removing the old {}", venv.display()))?;
    }
    run(Command::new(&python).args(["-m", "venv"]).arg(&venv)).context(
        "making a virtual environment (on Debian and Ubuntu, Python's venv is the package python3-venv)",
    )?;
    run(Command::new(bin.join("python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements))
    .with_context(|| format!("installing the packages of {}", requirements.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(bin)
}

fn python() -> Result<PathBuf> {
    let python = env::var_os("PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let output = Command::new(&python)
        .args(["-c", "import sys; print(sys.version_info[0], sys.version_info[1])"])
        .output()
        .with_context(|| {
            format!("running {}: install Python 3, or name it in the variable PYTHON", python.display())
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_PYTHON => Ok(python),
        _ => bail!(
            "{} is Python {}, and {}.{} or later is needed; name another in the variable PYTHON",
            python.display(),
            text.trim().replace(' ', "."),
            OLDEST_PYTHON.0,
            OLDEST_PYTHON.1
        ),
    }
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
