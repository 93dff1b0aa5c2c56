//! What clients saw, and when: the only thing a black-box checker knows.
//!
//! - `Applied` took effect between its invocation and its return.
//! - `NotApplied` never did, and never will.
//! - `Unknown` may take effect at any later time or never: it returns at infinity, and its client
//!   goes on under a new process id.
//! - An **early** acknowledgement (before commit) is open too, until its receipt resolves: committed
//!   at that answer's time, or lost, which makes it `NotApplied`.
//! - A read that failed says nothing and is left out.
//!
//! The first three are what the recorder writes down; [`History::effects`] applies the rules.

mod recorder;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use recorder::{OpId, Recorder, Reply};

use crate::time::SimTime;
use crate::workload::{Action, Class, Seen};

/// A client's thread of control. It does one thing at a time; after an unknown outcome the client
/// continues as the next incarnation, because the old operation may still be running.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Process {
    /// The client.
    pub client: u8,
    /// How many of its operations were left behind before.
    pub incarnation: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.incarnation == 0 {
            write!(f, "client {}", self.client)
        } else {
            write!(f, "client {}.{}", self.client, self.incarnation)
        }
    }
}

/// What happened to the data, as the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect between its invocation and its return.
    Applied,
    /// It took no effect and never will.
    NotApplied,
    /// It may have taken effect, may do so later, or never.
    Unknown,
}

/// What a receipt resolved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// The write will never be lost; the answer came at this time.
    Committed(SimTime),
    /// The write is not part of the history of the data and never will be.
    Lost,
}

/// One operation, from its invocation to what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Who asked.
    pub process: Process,
    /// What was asked.
    pub action: Action,
    /// With which guarantees.
    #[serde(default)]
    pub class: Class,
    /// Which session of the client it belongs to: a session that is lost is followed by the next.
    #[serde(default, skip_serializing_if = "is_first")]
    pub session: u32,
    /// The node that was asked, by its number in the plan, if the client got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u8>,
    /// When it was asked.
    pub invoked: SimTime,
    /// When the client had an answer, also an answer of `Unknown`. `None` when the run ended first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<SimTime>,
    /// When the client must have had an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SimTime>,
    /// What happened to the data.
    pub outcome: Outcome,
    /// Whether it was acknowledged before it was committed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
    /// What it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Seen>,
    /// The receipt of the write, opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// What the receipt resolved to, if it was asked for and was not pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
const fn is_first(session: &u32) -> bool {
    *session == 0
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} .. ", self.invoked)?;
        match self.returned {
            Some(at) => write!(f, "{at}]")?,
            None => f.write_str("open]")?,
        }
        write!(f, " {}", self.process)?;
        if let Some(node) = self.target {
            write!(f, " at node {node}")?;
        }
        write!(f, ": {}", self.action)?;
        match self.outcome {
            Outcome::Applied => {}
            Outcome::NotApplied => f.write_str(", not applied")?,
            Outcome::Unknown => f.write_str(", unknown")?,
        }
        if let Some(seen) = &self.seen {
            write!(f, " => {seen}")?;
        }
        if self.early {
            f.write_str(" (acknowledged early)")?;
        }
        match self.fate {
            Some(Fate::Committed(at)) => write!(f, " (committed, said {at})"),
            Some(Fate::Lost) => f.write_str(" (lost, as its receipt says)"),
            None => Ok(()),
        }
    }
}

/// An operation after the rules of outcomes: what may have happened to the data, and until when.
#[derive(Clone, Copy, Debug)]
pub struct Effect<'a> {
    /// The operation as it was recorded.
    pub operation: &'a Operation,
    /// When it had taken effect for certain. `None`: at any later time, or never.
    pub returned: Option<SimTime>,
}

/// What clients saw in one run, in the order of invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl Operation {
    /// Whether the data never changed and never will because of it: refused, lost with a receipt
    /// that says so, or a compare-and-set that did not match.
    pub fn never_took_effect(&self) -> bool {
        self.outcome == Outcome::NotApplied
            || self.fate == Some(Fate::Lost)
            || self.seen == Some(Seen::Swapped(false))
    }

    /// When it had taken effect for certain, by the rules of outcomes.
    pub fn certain_from(&self) -> Option<SimTime> {
        match (self.outcome, self.fate) {
            (Outcome::Applied, None) if !self.early => self.returned,
            // A receipt may also settle what the client itself could not tell.
            (Outcome::Applied | Outcome::Unknown, Some(Fate::Committed(at))) => {
                if self.early || self.outcome == Outcome::Unknown {
                    Some(at)
                } else {
                    self.returned
                }
            }
            _ => None,
        }
    }
}

impl History {
    /// The operations that say something about the data, by the rules of outcomes: what was refused
    /// or lost and reads that failed are left out.
    pub fn effects(&self) -> impl Iterator<Item = Effect<'_>> {
        self.operations.iter().filter_map(|operation| {
            let says_nothing = operation.action.is_read() && operation.outcome != Outcome::Applied;
            let absent =
                operation.outcome == Outcome::NotApplied || operation.fate == Some(Fate::Lost);
            (!says_nothing && !absent)
                .then(|| Effect { operation, returned: operation.certain_from() })
        })
    }

    /// The history in a JSON file's text.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The history as JSON, one field per line.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a history is plain data")
    }
}
