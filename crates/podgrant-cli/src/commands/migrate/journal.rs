//! The file that a migration's journal is in.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use podgrant_core::migrate::{Annotated, Entry, Journal, Line, Moved, Stage};
use podgrant_core::moment::rfc3339;
use podgrant_core::{Cluster, ClusterId, Workload};

use crate::problem::Problem;

/// How each of its lines begins.
const BEGINS: &[u8] = b"{\"version\":";

/// A journal, and where it is written.
pub struct JournalFile {
    path: PathBuf,
    /// The cluster's ARN.
    cluster: String,
    /// With the length of its whole lines. None: it is only read, or could not be written.
    file: Option<(File, u64)>,
    journal: Journal,
    is_there: bool,
}

/// What is done with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Read,
    /// Written to, where it is there.
    Continue,
    Begin,
}

impl JournalFile {
    /// Reads it, and where it is written keeps others from that until it is closed.
    pub fn open(named: Option<&Path>, cluster: &Cluster, usage: Use) -> Result<Self, Problem> {
        let account = cluster.arn.split(':').nth(4).unwrap_or_default();
        let ClusterId { region, name } = &cluster.id;
        let path = named.map_or_else(
            || PathBuf::from(format!("podgrant-migrate.{account}.{region}.{name}.jsonl")),
            Path::to_owned,
        );
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            let problem = format!("the journal {} could not be {what}: {error}", path.display());
            Problem::failed(problem, "name another with --journal, or mend what is in the way")
        };
        let opened = match usage {
            Use::Read => File::open(&path),
            Use::Continue => OpenOptions::new().read(true).append(true).open(&path),
            Use::Begin => OpenOptions::new().read(true).append(true).create(true).open(&path),
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && usage != Use::Begin => {
                let (journal, cluster) = (Journal::default(), cluster.arn.clone());
                return Ok(Self { path, cluster, file: None, journal, is_there: false });
            }
            Err(error) => return Err(failed("opened", &error)),
        };
        let is_written = usage != Use::Read;
        if is_written {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let problem = format!("another podgrant migrate writes {}", path.display());
                    return Err(Problem::failed(problem, "wait for it"));
                }
                Err(TryLockError::Error(error)) => return Err(failed("locked", &error)),
            }
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| failed("read", &error))?;
        // A line that was never finished is not one, and the next takes its place.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let rest = bytes.split_off(whole);
        if !(rest.starts_with(BEGINS) || BEGINS.starts_with(&rest)) {
            return Err(failed("read", &"it ends with what is no line of a journal"));
        }
        let text = String::from_utf8(bytes).map_err(|error| failed("read", &error))?;
        let journal = Journal::read(&text).map_err(|error| failed("read", &error))?;
        if is_written {
            // A file that is new is one when its folder knows it.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let known = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
            known.map_err(|error| failed("written", &error))?;
        }
        let is_there = !text.is_empty();
        let length = u64::try_from(whole).unwrap_or_default();
        let file = is_written.then_some((file, length));
        Ok(Self { path, cluster: cluster.arn.clone(), file, journal, is_there })
    }

    /// Notes a step, and returns when it is on the disk. After a line that could not be written there is no other: it may
    /// have been written in part.
    pub fn note(&mut self, now: i64, account: &Annotated, entry: Entry, stage: Stage) -> Result<(), Problem> {
        let line = Line::new(rfc3339(now), &self.cluster, &account.workload, &account.role, entry, stage);
        let written = match &mut self.file {
            None => Err(std::io::Error::other("it could not be written before")),
            Some((file, length)) => {
                serde_json::to_string(&line).map_err(std::io::Error::other).and_then(|text| {
                    let text = format!("{text}\n");
                    file.set_len(*length)?;
                    file.write_all(text.as_bytes())?;
                    file.sync_data()?;
                    *length += u64::try_from(text.len()).unwrap_or_default();
                    Ok(())
                })
            }
        };
        written.map_err(|error| {
            self.file = None;
            Problem::failed(
                format!("the journal {} could not be written: {error}", self.path.display()),
                "what is not noted is not done; make room for it, and run it again",
            )
        })?;
        self.journal.add(line);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything was noted before.
    pub fn is_there(&self) -> bool {
        self.is_there
    }

    pub fn moved(&self, account: &Workload) -> Option<Moved> {
        self.journal.of(&self.cluster, account)
    }

    /// The service accounts that something was done for, with the role that their annotation has or had.
    pub fn known(&self) -> Vec<Annotated> {
        let accounts = self.journal.accounts(&self.cluster).into_iter();
        accounts
            .filter_map(|workload| {
                let role = self.moved(&workload)?.role;
                Some(Annotated { workload, role })
            })
            .collect()
    }
}
