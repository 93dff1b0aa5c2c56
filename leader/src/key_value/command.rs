//! What can be asked of the machine, and what it answers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use serde::{Deserialize, Serialize};

use super::record::{Record, Revision};

/// A command: what is replicated as one step.
///
/// Bounded in depth by its types, so that no bytes from a peer can nest without end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// One operation. Answers [`Reply::One`].
    One(Operation),
    /// All comparisons hold: `then`, otherwise `or_else`, in order and atomically. Answers
    /// [`Reply::Transaction`], or [`Reply::Aborted`] when an operation is refused.
    Transaction {
        /// What must hold, all of it. Nothing to compare always holds.
        compare: Vec<Compare>,
        /// What happens if it does.
        then: Vec<Operation>,
        /// What happens if it does not.
        or_else: Vec<Operation>,
    },
    /// Removes up to `limit` keys whose deadline has passed, at most
    /// [`MAX_SWEEP`](super::MAX_SWEEP). Answers [`Reply::Swept`]. The leader proposes it by itself.
    Sweep {
        /// At most this many keys.
        limit: u32,
    },
    /// The key gets the value, whatever is there. Answers [`Reply::Set`], without what it replaced:
    /// so a mode that does not wait for the commit can acknowledge it before it is applied.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// What becomes of the key's deadline.
        deadline: Deadline,
    },
}

/// One thing done to the state, alone or in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Reads a key at this place in the order. Answers [`Answer::Got`].
    Get {
        /// The key.
        key: Bytes,
    },
    /// The key gets the value if the condition holds. Answers [`Answer::Stored`] or
    /// [`Answer::NotStored`].
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
        /// When it is stored.
        condition: Condition,
        /// What becomes of the key's deadline.
        deadline: Deadline,
    },
    /// The keys are gone. Answers [`Answer::Deleted`].
    Delete {
        /// The keys. One that is absent, or named twice, does no harm.
        keys: Vec<Bytes>,
    },
    /// Adds to a decimal number, absent being 0. Keeps the deadline. Answers [`Answer::Counted`],
    /// or [`Answer::Refused`] when the value is no number or the sum does not fit into an `i64`.
    Increment {
        /// The key.
        key: Bytes,
        /// How much, may be negative.
        by: i64,
    },
    /// Adds bytes at the end of a value, absent being empty. Keeps the deadline. Answers
    /// [`Answer::Appended`], or [`Answer::Refused`] when the value would become too large.
    Append {
        /// The key.
        key: Bytes,
        /// What is added.
        value: Bytes,
    },
}

/// When a put takes place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// The key is absent.
    IfAbsent,
    /// The key is present.
    IfPresent,
    /// The key was last changed at this revision: compare-and-set that also sees a value that was
    /// changed and changed back.
    IfRevision(Revision),
    /// The key holds this value.
    IfValue(Bytes),
}

/// What a put does to the key's deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// It stays as it is, or none.
    Keep,
    /// There is none from now on.
    #[default]
    Clear,
    /// The key is gone from this instant of the replicated clock on.
    At(Hlc),
    /// The key is gone this long after the command's stamp, in milliseconds rounded up.
    After(Duration),
}

impl Deadline {
    /// The instant, seen from a command stamped `clock`, for a key whose deadline is `current`.
    pub(super) fn resolve(self, clock: Hlc, current: Option<Hlc>) -> Option<Hlc> {
        /// The last millisecond that a stamp can hold.
        const LAST: u64 = (1 << 48) - 1;
        match self {
            Self::Keep => current,
            Self::Clear => None,
            Self::At(at) => Some(at),
            Self::After(span) => {
                let millis = u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(LAST);
                let at = clock.millis().saturating_add(millis).min(LAST);
                Some(Hlc::new(at, clock.counter()))
            }
        }
    }
}

/// One comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// What must hold for it.
    pub target: Target,
}

/// What a comparison asks of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// It is absent.
    Absent,
    /// It is present.
    Present,
    /// It was last changed at this revision.
    Revision(Revision),
    /// It holds this value.
    Value(Bytes),
}

/// What the machine answers to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Command::One`].
    One(Answer),
    /// To [`Command::Transaction`] that took place.
    Transaction {
        /// Whether all comparisons held, so that `then` was done.
        matched: bool,
        /// One answer per operation of the branch, in order.
        answers: Vec<Answer>,
    },
    /// To [`Command::Transaction`] with an operation that was refused. **Nothing of it happened.**
    Aborted {
        /// Whether all comparisons held.
        matched: bool,
        /// Which operation of the branch was refused, from 0.
        operation: u32,
        /// Why.
        refusal: Refusal,
    },
    /// To [`Command::Sweep`].
    Swept {
        /// How many keys were removed.
        keys: u32,
    },
    /// To [`Command::Set`].
    Set,
}

/// What the machine answers to one operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To a get: the record, or none.
    Got(Option<Record>),
    /// The put took place.
    Stored {
        /// The revision it made.
        revision: Revision,
        /// What it replaced.
        previous: Option<Record>,
    },
    /// The put's condition did not hold. Nothing changed.
    NotStored {
        /// What the key holds instead.
        current: Option<Record>,
    },
    /// The delete took place.
    Deleted {
        /// Per key in order, the revision of what was removed, or none where nothing was there.
        removed: Vec<Option<Revision>>,
    },
    /// The increment took place.
    Counted {
        /// The sum.
        value: i64,
        /// The revision it made.
        revision: Revision,
        /// The revision it replaced.
        previous: Option<Revision>,
    },
    /// The append took place.
    Appended {
        /// Bytes of the value now.
        length: u64,
        /// The revision it made.
        revision: Revision,
        /// The revision it replaced.
        previous: Option<Revision>,
    },
    /// The operation cannot be done to what the key holds. Nothing changed.
    Refused(Refusal),
}

/// Why an operation cannot be done. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The value is not a decimal number that fits into an `i64`.
    NotANumber,
    /// The sum does not fit into an `i64`.
    Overflow,
    /// The value would become larger than [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES).
    TooLarge,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "the value is not a decimal number of 64 bits; nothing changed",
            Self::Overflow => "the sum does not fit into 64 bits; nothing changed",
            Self::TooLarge => "the value would become too large; nothing changed",
        })
    }
}

impl std::error::Error for Refusal {}

impl From<Operation> for Command {
    fn from(operation: Operation) -> Self {
        Self::One(operation)
    }
}

/// The common cases in few words.
impl Command {
    /// Puts a value, whatever is there, without a deadline.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Operation::put(key, value).into()
    }

    /// The same without an answer, for modes that acknowledge before the commit.
    pub fn set(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Set { key: key.into(), value: value.into(), deadline: Deadline::Clear }
    }

    /// Puts a value if the condition holds, keeping the key's deadline.
    pub fn put_if(key: impl Into<Bytes>, value: impl Into<Bytes>, condition: Condition) -> Self {
        let (key, value) = (key.into(), value.into());
        Operation::Put { key, value, condition, deadline: Deadline::Keep }.into()
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Operation::delete(key).into()
    }

    /// Adds to a counter.
    pub fn increment(key: impl Into<Bytes>, by: i64) -> Self {
        Operation::Increment { key: key.into(), by }.into()
    }

    /// Adds bytes at the end of a value.
    pub fn append(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Operation::Append { key: key.into(), value: value.into() }.into()
    }
}

/// The common cases in few words.
impl Operation {
    /// Reads a key.
    pub fn get(key: impl Into<Bytes>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Puts a value, whatever is there, without a deadline.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put {
            key: key.into(),
            value: value.into(),
            condition: Condition::Always,
            deadline: Deadline::Clear,
        }
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete { keys: vec![key.into()] }
    }
}

impl Reply {
    /// The answer to a command of one operation, or `None` for another command's reply.
    pub fn answer(self) -> Option<Answer> {
        match self {
            Self::One(answer) => Some(answer),
            Self::Transaction { .. } | Self::Aborted { .. } | Self::Swept { .. } | Self::Set => {
                None
            }
        }
    }
}
