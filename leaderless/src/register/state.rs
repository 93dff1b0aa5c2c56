//! The value of a register, and what changes do to it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The name of one client's change, so that a retry is not a second change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u128);

/// How many changes a register remembers by name.
const REMEMBERED: usize = 8;

/// A register's value with the names of its last changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct State {
    /// The value; none before the first write and after a delete.
    pub value: Option<Bytes>,
    /// How many changes were made.
    pub version: u64,
    /// The last eight changes, the newest last.
    pub recent: Vec<RequestId>,
}

/// What to do with a register.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Read it: writes what is there again, so that what was read stays read.
    Read,
    /// Write, whatever is there.
    Set(Bytes),
    /// Write if there is no value.
    PutIfAbsent(Bytes),
    /// Write if the value is this one, or there is none and none is expected.
    CompareAndSet {
        /// The expected value.
        expected: Option<Bytes>,
        /// The new one; none deletes.
        value: Option<Bytes>,
    },
    /// Remove the value.
    Delete,
}

/// What a change does to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// It is made.
    Made,
    /// It was made before, by the same request.
    MadeBefore,
    /// The expectation fails, or it is a read: the state stays as it is, and is written again so
    /// that the answer cannot be taken back by a write that was under way.
    Kept,
}

impl State {
    /// The state after a change.
    pub fn apply(&self, request: RequestId, change: &Change) -> (Self, Decision) {
        if self.recent.contains(&request) {
            return (self.clone(), Decision::MadeBefore);
        }
        let value = match change {
            Change::Read => return (self.clone(), Decision::Kept),
            Change::PutIfAbsent(_) if self.value.is_some() => {
                return (self.clone(), Decision::Kept);
            }
            Change::CompareAndSet { expected, .. } if *expected != self.value => {
                return (self.clone(), Decision::Kept);
            }
            Change::Set(value) | Change::PutIfAbsent(value) => Some(value.clone()),
            Change::CompareAndSet { value, .. } => value.clone(),
            Change::Delete => None,
        };
        let forget = (self.recent.len() + 1).saturating_sub(REMEMBERED);
        let mut recent = self.recent[forget..].to_vec();
        recent.push(request);
        (Self { value, version: self.version + 1, recent }, Decision::Made)
    }
}
