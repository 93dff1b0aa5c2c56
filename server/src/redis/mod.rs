//! Redis's data types as a state machine: what `tercet` replicates.

use bytes::Bytes;
use common::storage::engine::EngineError;
use leader::state_machine::{Draft, Stamp, StateMachine};
use serde::{Deserialize, Serialize};

/// What is replicated as one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Nothing is left.
    Flush,
}

/// What the machine answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// It is done.
    Done,
    /// A value, or none.
    Value(Option<Bytes>),
}

/// The machine. It has no settings: members must never differ in what they decide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Redis;

impl StateMachine for Redis {
    type Command = Command;
    type Reply = Reply;

    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Command,
        stamp: Stamp,
    ) -> Result<Reply, EngineError> {
        let _ = (state, command, stamp);
        Ok(Reply::Done)
    }
}
