//! Rollback files as JSON with keys that stay.

use leader::rollback::Rollback;
use serde::{Deserialize, Serialize};

/// A rollback file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackReport {
    /// Its name.
    pub name: String,
    /// The cluster's history.
    pub epoch: u32,
    /// The term whose leader proposed what is in it.
    pub term: u64,
    /// The first lost index.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many commands are in it.
    pub commands: u64,
    /// Its size.
    pub bytes: u64,
}

impl From<Rollback> for RollbackReport {
    fn from(file: Rollback) -> Self {
        Self {
            name: file.name,
            epoch: file.epoch.0,
            term: file.term,
            first: file.first,
            last: file.last,
            commands: file.commands,
            bytes: file.bytes,
        }
    }
}

/// A command in a rollback file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostReport {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Its number within the entry.
    pub sub: u16,
    /// When it was proposed, by the leader's clock, in milliseconds since the Unix epoch.
    pub unix_millis: u64,
    /// Its receipt, as `REPL LAST` showed it.
    pub receipt: Option<String>,
    /// The command in words.
    pub command: String,
}
