//! Redis's data types as a state machine: what `tercet` replicates.
//!
//! Everything it decides follows from the state and the command's [`Stamp`], so every member decides
//! the same. Time is the replicated clock: **a key whose deadline is not after the clock is absent**,
//! swept or not, and a remaining time given with a command is counted from the command's stamp.
//!
//! ```text
//! keyspace "redis.ledger": ""                                  -> generation, oldest, counts
//! keyspace "redis.keys":   generation | hash of the key | key  -> record
//! keyspace "redis.expiry": generation | deadline | key         -> nothing
//! keyspace "redis.elements": generation | elements | hash | element -> value
//! keyspace "redis.dropped":  generation | elements             -> nothing
//! ```
//!
//! Keys stand in the order of an eight-byte hash, so that a cursor of SCAN is a plain number, and
//! means the same on every node and after a failover. The ledger counts keys, so that DBSIZE reads
//! one record. FLUSHALL begins a new generation and is done; the rows of older ones are unreachable
//! from then on, and [`StateMachine::due`] asks for sweeping them piece by piece, as it does for what
//! has expired.
//!
//! What it does not do yet: a sorted set counts its members to find a rank, so a high one of a large
//! set takes its time, and one of over a million refuses.

mod admission;
mod again;
mod apply;
mod changes;
mod collection;
mod command;
mod cut;
mod elements;
mod extended;
mod glob;
mod hashes;
mod lists;
mod query;
mod record;
mod rows;
mod sets;
mod sorted;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod transaction;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::storage::engine::{EngineError, Keyspace, Read};
use leader::rollback::{AbsentKeys, Again};
use leader::state_machine::{Draft, Refused, Stamp, StateMachine};
use leader::watch::{Change, ChangedRow};

pub use admission::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
pub use command::{
    Answer, Combine, Command, Condition, End, ExpireCondition, Lifetime, Moment, Query, Refusal,
    Reply,
};
pub use cut::{Cut, Found};
pub use elements::MAX_ELEMENT_BYTES;
pub use glob::matches;
pub use record::{Elements, Kind, Record};
pub use sets::MAX_COMBINED;
pub use sorted::{Part, Rules, Score, Span};
pub use transaction::{MAX_STEPS, replies, step};

/// Records by generation, hash and key.
const KEYS: Keyspace = Keyspace("redis.keys");
/// Deadlines in order, each with its key.
const EXPIRY: Keyspace = Keyspace("redis.expiry");
/// Elements of keys, by their owner and hash.
const ELEMENTS: Keyspace = Keyspace("redis.elements");
/// Owners whose keys are gone.
const DROPPED: Keyspace = Keyspace("redis.dropped");
/// The one row that counts.
const LEDGER: Keyspace = Keyspace("redis.ledger");

/// The most rows that one [`Command::Sweep`] removes, so that no entry takes long to apply.
pub const MAX_SWEEP: u32 = 1_000;

/// The most bytes of values that one reply carries.
pub const MAX_REPLY_BYTES: usize = 64 << 20;

/// The machine. It has no settings: members must never differ in what they decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redis;

impl StateMachine for Redis {
    type Command = Command;
    type Reply = Reply;

    fn admit(&self, command: &Command) -> Result<(), Refused> {
        admission::check(command)
    }

    fn shrinks(&self, command: &Command) -> bool {
        admission::shrinks(command)
    }

    fn passes_quota(&self, command: &Command) -> bool {
        admission::passes_quota(command)
    }

    fn holds_keys(&self, keyspace: Keyspace) -> bool {
        keyspace == KEYS
    }

    fn blind_reply(&self, command: &Command) -> Option<Reply> {
        match command {
            Command::Set { condition: Condition::Always, answer: Answer::Done, .. }
            | Command::SetMany { condition: Condition::Always, .. }
            | Command::Flush => Some(Reply::Done),
            _ => None,
        }
    }

    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Reply, EngineError> {
        apply::apply(state, command, stamp)
    }

    /// A query is an encoded [`Query`], and the answer an encoded [`Reply`].
    fn answer(&self, view: &leader::View, query: &[u8]) -> Result<Bytes, Refused> {
        let refused = |reason: String| Refused { reason };
        let query: Query = codec::decode_body(query).map_err(|error| refused(error.to_string()))?;
        let reply = Cut::open(view, view.clock(), view.now()).and_then(|cut| cut.answer(&query));
        let reply = reply.map_err(|error| refused(error.to_string()))?;
        Ok(codec::encode_body(&reply).into())
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
        *reply != Reply::NotDone
    }

    fn changes(
        &self,
        state: &dyn Read,
        command: &Command,
        rows: &[ChangedRow],
    ) -> Result<Vec<Change>, EngineError> {
        changes::changes(state, command, rows)
    }

    fn describe(&self, command: &Command) -> String {
        format!("{command:?}")
    }

    /// One [`Command::Sweep`] while a deadline has passed or rows of an older generation are left.
    fn due(&self, state: &dyn Read, upto: Hlc, limit: usize) -> Result<Vec<Command>, EngineError> {
        if limit > 0 && sweep::is_due(state, upto)? {
            return Ok(vec![Command::Sweep { limit: MAX_SWEEP }]);
        }
        Ok(Vec::new())
    }
}
