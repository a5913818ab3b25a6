//! The share of a CPU that a function of so much memory has: 1,769 MB are one CPU's worth (AWS Lambda developer guide,
//! "Configure Lambda function memory"). By Linux's control groups, version 1 or 2, where they can be written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Microseconds of a period. Not documented by AWS; measurements by others say 20 ms.
const PERIOD: u64 = 20_000;
const ONE_CPU_MB: u64 = 1_769;

pub struct Quota {
    memory: u32,
    group: Option<PathBuf>,
}

impl Quota {
    /// The quota of this much memory in MB; 0 is none.
    pub fn of(memory: u32) -> Result<Self> {
        if memory == 0 {
            return Ok(Self { memory, group: None });
        }
        let share = PERIOD * u64::from(memory) / ONE_CPU_MB;
        let name = format!("podgrant-bench-{}-{memory}", std::process::id());
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

    pub fn name(&self) -> String {
        if self.memory == 0 { "no quota".to_owned() } else { format!("{} MB", self.memory) }
    }

    /// What a shell does to come under it.
    pub fn enter(&self) -> String {
        match &self.group {
            Some(group) => format!("echo $$ > {}/cgroup.procs &&", group.display()),
            None => String::new(),
        }
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
