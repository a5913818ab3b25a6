//! The file that a migration's journal is in.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use podgrant_core::migrate::{Annotated, Entry, Journal, Line, Moved};
use podgrant_core::moment::rfc3339;
use podgrant_core::{ClusterId, Workload};

use crate::problem::Problem;

/// A journal, and where it is written.
pub struct JournalFile {
    path: PathBuf,
    cluster: ClusterId,
    /// None: it is only read.
    file: Option<File>,
    journal: Journal,
    is_there: bool,
}

impl JournalFile {
    /// Reads it, and where it is `written` keeps others from writing until it is closed.
    pub fn open(named: Option<&Path>, cluster: &ClusterId, written: bool) -> Result<Self, Problem> {
        let path = named.map_or_else(
            || PathBuf::from(format!("podgrant-migrate.{}.{}.jsonl", cluster.region, cluster.name)),
            Path::to_owned,
        );
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            let problem = format!("the journal {} could not be {what}: {error}", path.display());
            Problem::failed(problem, "name another with --journal, or mend what is in the way")
        };
        let opened = if written {
            OpenOptions::new().read(true).append(true).create(true).open(&path)
        } else {
            File::open(&path)
        };
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound && !written => {
                let journal = Journal::default();
                return Ok(Self { path, cluster: cluster.clone(), file: None, journal, is_there: false });
            }
            Err(error) => return Err(failed("opened", &error)),
        };
        if written {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let problem = format!("another podgrant migrate writes {}", path.display());
                    return Err(Problem::failed(problem, "wait for it"));
                }
                Err(TryLockError::Error(error)) => return Err(failed("locked", &error)),
            }
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| failed("read", &error))?;
        let journal = Journal::read(&text).map_err(|error| failed("read", &error))?;
        if written {
            // A line that was never finished is not one, and the next must not go on with it.
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            let length = u64::try_from(whole).unwrap_or_default();
            let cut = file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0)));
            cut.map_err(|error| failed("written", &error))?;
        }
        let is_there = !text.is_empty();
        Ok(Self { path, cluster: cluster.clone(), file: written.then_some(file), journal, is_there })
    }

    /// Notes a step, and returns when it is on the disk.
    pub fn note(&mut self, now: i64, account: &Annotated, entry: Entry, done: bool) -> Result<(), Problem> {
        let line = Line::new(rfc3339(now), &self.cluster, &account.workload, &account.role, entry, done);
        let written = match &mut self.file {
            None => Err(std::io::Error::other("it was opened to be read")),
            Some(file) => serde_json::to_string(&line)
                .map_err(std::io::Error::other)
                .and_then(|text| file.write_all(format!("{text}\n").as_bytes()))
                .and_then(|()| file.sync_data()),
        };
        written.map_err(|error| {
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

    pub fn moved(&self, account: &Workload) -> Option<&Moved> {
        self.journal.of(&self.cluster, account)
    }

    /// The service accounts that something was done for, with the role that their annotation has or had.
    pub fn known(&self) -> Vec<Annotated> {
        let accounts = self.journal.accounts(&self.cluster).into_iter();
        accounts
            .filter_map(|workload| {
                let role = self.moved(&workload)?.role.clone();
                Some(Annotated { workload, role })
            })
            .collect()
    }
}
