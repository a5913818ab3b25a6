//! How a command ended, for whoever runs it in a script.

/// The process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done = 0,
    /// Failed; what was done before is said.
    Failed = 1,
    /// Something is found: `plan` has something to do, `explain` a broken link, `doctor` a cause, `verify` that Pod
    /// Identity does not work, `restart` something to restart, `migrate` something to move.
    Found = 2,
    /// Done in part: something could not be read, is refused or withheld, or is still to come.
    InPart = 3,
    /// Asked, and declined.
    Declined = 4,
    /// Bad usage: arguments or variables that make no sense. Not clap's 2, which would read as changes.
    Usage = 64,
}

/// For the help, the manual and docs/cli.md.
pub const TABLE: &str = "Exit codes:
  0   done, or nothing to do
  1   failed
  2   plan: something is to be done; explain, doctor, verify: something is wrong;
      restart: something is to be restarted; migrate: something can move
  3   done in part: something could not be read, is refused or withheld, or is still to come
  4   asked, and declined
  64  bad usage";

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}
