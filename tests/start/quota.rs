//! The share of a CPU that a function of so much memory has: 1,769 MB are one CPU's worth (AWS Lambda developer guide,
//! "Configure Lambda function memory"). By Linux's control groups, version 1 or 2, where they can be written.

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fmt, fs};

use anyhow::{Context, Result, bail};

/// Microseconds of a period. Not documented by AWS; measurements by others say 20 ms.
const PERIOD: u64 = 20_000;
const ONE_CPU_MB: u64 = 1_769;

/// A size of memory, in MB, that a quota stands for; 0: there is no quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    mb: u32,
    /// The quota does not hold while starting.
    starts_free: bool,
}

impl FromStr for Memory {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let number = text.strip_suffix('+');
        Ok(Self { mb: number.unwrap_or(text).parse()?, starts_free: number.is_some() })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { mb: 0, .. } => f.write_str("no quota"),
            Self { mb, starts_free } => write!(f, "{mb} MB{}", if *starts_free { "+" } else { "" }),
        }
    }
}

pub struct Quota {
    memory: Memory,
    group: Option<PathBuf>,
}

impl Quota {
    /// The quota of this much memory.
    pub fn of(memory: Memory) -> Result<Self> {
        if memory.mb == 0 {
            return Ok(Self { memory, group: None });
        }
        let share = PERIOD * u64::from(memory.mb) / ONE_CPU_MB;
        let name = format!("podgrant-bench-{}-{}", std::process::id(), memory.mb);
        let v1 = Path::new("/sys/fs/cgroup/cpu");
        let v2 = Path::new("/sys/fs/cgroup");
        let group = if v1.join("cpu.cfs_quota_us").exists() {
            let group = made(&v1.join(name))?;
            fs::write(group.join("cpu.cfs_period_us"), PERIOD.to_string()).context("setting a period")?;
            fs::write(group.join("cpu.cfs_quota_us"), share.to_string()).context("setting a quota")?;
            group
        } else if v2.join("cgroup.controllers").exists() {
            let group = made(&v2.join(name))?;
            fs::write(group.join("cpu.max"), format!("{share} {PERIOD}")).context("setting a quota")?;
            group
        } else {
            bail!("no control group for the CPU here");
        };
        Ok(Self { memory, group: Some(group) })
    }

    /// What a shell does to come under it.
    pub fn enter(&self) -> String {
        match &self.group {
            Some(group) if !self.memory.starts_free => {
                format!("echo $$ > {}/cgroup.procs &&", group.display())
            }
            _ => String::new(),
        }
    }

    /// Puts a process under it that has started without.
    pub fn hold(&self, pid: u32) -> Result<()> {
        let free = self.group.iter().filter(|_| self.memory.starts_free);
        for group in free {
            fs::write(group.join("cgroup.procs"), pid.to_string())
                .context("putting a process under a quota")?;
        }
        Ok(())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It stays where a process is in it still; it is empty, and costs nothing.
        self.group.iter().for_each(|group| drop(fs::remove_dir(group)));
    }
}

fn made(group: &Path) -> Result<PathBuf> {
    fs::create_dir_all(group)
        .with_context(|| format!("making the control group {}: are you root?", group.display()))?;
    Ok(group.to_owned())
}
