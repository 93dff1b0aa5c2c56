//! How the program ends: one code per kind of failure, so that scripts can tell them apart.

use std::process::{ExitCode, ExitStatus};

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well; a node stopped gracefully.
    Good = 0,
    /// It failed: a check of the demo, a node that could not go on, an unreachable cluster.
    Failed = 1,
    /// The command line or the configuration is wrong. Nothing was started.
    Usage = 2,
    /// An address is in use. Nothing was changed.
    AddressInUse = 3,
    /// The data folder belongs to another node or cluster, is in use, damaged, or was lost.
    Folder = 4,
}

impl Exit {
    /// What `--help` says about the codes.
    pub const HELP: &'static str = "\
Exit codes:
  0  all went well; a node stopped gracefully
  1  it failed: a check, a node that could not go on, an unreachable cluster
  2  the command line or the configuration is wrong; nothing was started
  3  an address is in use; nothing was changed
  4  the data folder belongs to another node or cluster, is in use, damaged, or was lost";

    /// Whether a process ended with this code.
    pub fn is(self, status: ExitStatus) -> bool {
        status.code() == Some(self as i32)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
