//! A key-value machine: conditional writes, counters, deadlines and transactions.
//!
//! It is what most projects need, and the example of how to write a [`StateMachine`] of one's own:
//! everything it decides follows from the state and the command's [`Stamp`], so every member decides
//! the same.
//!
//! A key holds a [`Record`]: its value, the [`Revision`] of its last change, and a deadline if it
//! has one. A deadline is an instant of the replicated clock. **A key whose deadline is not after
//! the clock is absent**, for reads and for conditions, whether or not it was swept yet; so what
//! has expired can never be seen again, on no member.
//!
//! ```text
//! keyspace "data":   key                                      -> record
//! keyspace "expiry": deadline (8 bytes, big-endian) then key  -> nothing
//! ```
//!
//! The second keyspace lists the deadlines in order, so that finding what is due costs nothing in
//! proportion to the keys.
//!
//! What it does not do: no secondary indexes, no ranges in transactions, no more than
//! [`MAX_OPERATIONS`] operations in one. A write that meets its condition answers with the record
//! that it replaced, so overwriting large values costs their size in replies.

mod admission;
mod again;
mod apply;
mod command;
mod read;
mod record;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::storage::engine::{EngineError, Keyspace, Read};

use crate::node::View;
use crate::rollback::{AbsentKeys, Again};
use crate::state_machine::{Draft, Refused, Stamp, StateMachine};
use crate::watch::{Change, ChangedRow};

pub use admission::{MAX_DELETED_KEYS, MAX_KEY_BYTES, MAX_OPERATIONS, MAX_VALUE_BYTES};
pub use command::{
    Answer, Command, Compare, Condition, Deadline, Operation, Refusal, Reply, Target,
};
pub use read::Records;
pub use record::{Record, Revision};

/// Records by key.
const DATA: Keyspace = Keyspace("data");
/// Deadlines in order, each with its key.
const EXPIRY: Keyspace = Keyspace("expiry");

/// The most keys that one [`Command::Sweep`] removes, so that no entry takes long to apply.
pub const MAX_SWEEP: u32 = 1_000;

/// The key-value machine. It has no settings: members must never differ in what they decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyValue;

impl StateMachine for KeyValue {
    type Command = Command;
    type Reply = Reply;

    fn admit(&self, command: &Command) -> Result<(), Refused> {
        admission::check(command)
    }

    fn shrinks(&self, command: &Command) -> bool {
        admission::shrinks(command)
    }

    fn holds_keys(&self, keyspace: Keyspace) -> bool {
        keyspace == DATA
    }

    fn blind_reply(&self, command: &Command) -> Option<Reply> {
        matches!(command, Command::Set { .. }).then_some(Reply::Set)
    }

    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Reply, EngineError> {
        match command {
            Command::One(operation) => apply::one(state, operation, stamp).map(Reply::One),
            Command::Transaction { compare, then, or_else } => {
                apply::transaction(state, compare, then, or_else, stamp)
            }
            Command::Sweep { limit } => apply::sweep(state, *limit, stamp.clock),
            Command::Set { key, value, deadline } => {
                let (key, value, condition) = (key.clone(), value.clone(), Condition::Always);
                let put = Operation::Put { key, value, condition, deadline: *deadline };
                apply::one(state, &put, stamp).map(|_| Reply::Set)
            }
        }
    }

    /// A query is a key, and the answer its encoded record: see [`KeyValue::answered`].
    fn answer(&self, view: &View, query: &[u8]) -> Result<Bytes, Refused> {
        let record = read::get(view, view.clock(), query);
        let record = record.map_err(|error| Refused { reason: error.to_string() })?;
        Ok(codec::encode_body(&record).into())
    }

    fn again(
        &self,
        state: &dyn Read,
        clock: Hlc,
        command: &Command,
        before: u64,
        absent: AbsentKeys,
    ) -> Result<Again<Command>, EngineError> {
        again::again(state, clock, command, before, absent)
    }

    fn took_place(&self, reply: &Reply) -> bool {
        matches!(reply, Reply::Transaction { matched: true, .. })
    }

    fn changes(
        &self,
        _: &dyn Read,
        command: &Command,
        rows: &[ChangedRow],
    ) -> Result<Vec<Change>, EngineError> {
        let swept = matches!(command, Command::Sweep { .. });
        let data = rows.iter().filter(|row| row.keyspace == DATA);
        let changes = data.map(|row| {
            let key = row.key.clone();
            Ok(match &row.value {
                Some(record) => {
                    Change::Put { key, value: Record::decode(&row.key, record.clone())?.value }
                }
                None if swept => Change::Expired { key },
                None => Change::Deleted { key },
            })
        });
        changes.collect()
    }

    fn describe(&self, command: &Command) -> String {
        again::describe(command)
    }

    /// One [`Command::Sweep`] while some deadline has passed; each removes [`MAX_SWEEP`] keys.
    fn due(&self, state: &dyn Read, upto: Hlc, limit: usize) -> Result<Vec<Command>, EngineError> {
        if limit == 0 || read::first_deadline(state)?.is_none_or(|first| first > upto) {
            return Ok(Vec::new());
        }
        Ok(vec![Command::Sweep { limit: MAX_SWEEP }])
    }
}
