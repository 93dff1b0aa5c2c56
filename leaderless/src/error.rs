//! Every failure, and what happened to the data.

use std::time::Duration;

use common::ids::NodeId;
use common::outcome::{HasOutcome, Outcome};
use common::receipt::DotsReceipt;
use serde::{Deserialize, Serialize};

pub use crate::store::OpenStoreError;

/// Why a node does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// The storage.
    #[error(transparent)]
    Store(#[from] OpenStoreError),
}

/// Why a write has no acknowledgement. All but [`WriteError::Unknown`] mean that no dot exists: the
/// value is never visible later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The request contradicts itself, or its context or level is not valid.
    #[error("{0}")]
    Invalid(String),
    /// Fewer owners than the level needs can be reached. Wait, or ask for less.
    #[error("{live} owners can be reached, the level needs {need}")]
    Unavailable {
        /// How many the level needs.
        need: usize,
        /// How many can be reached.
        live: usize,
    },
    /// The key has as many concurrent values as are allowed. Read it, and write with the context.
    #[error("the key would have {0} concurrent values: read it and write with its context")]
    TooManySiblings(usize),
    /// This node's clock is too far off its peers' to stamp a write where the last writer wins.
    #[error(
        "this node's clock is {offset_millis} ms off its peers': set it, or write through another node"
    )]
    ClockSkew {
        /// How far ahead it is, in milliseconds.
        offset_millis: i64,
    },
    /// Too much work. Try again after the pause.
    #[error("overloaded; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// How long to wait.
        retry_after: Duration,
    },
    /// This node takes no writes: its disk is full or failed, it is not complete yet, or was removed.
    #[error("node {node} takes no writes: {why}")]
    NotReady {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
    /// The write has a dot and did not meet its level in time: it may spread or not.
    #[error("the level was not met in time; {} owners have the write; its receipt tells later", achieved.len())]
    Unknown {
        /// What tells its fate; none when a forwarded request got no answer.
        receipt: Option<DotsReceipt>,
        /// Owners that have it durably.
        achieved: Vec<NodeId>,
    },
}

impl HasOutcome for WriteError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unknown { .. } => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }
}

/// Why a read has no answer. Nothing was changed but by repair, which changes no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The request contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// Fewer owners than the level needs answered in time.
    #[error("{got} owners answered, the level needs {need}")]
    Unavailable {
        /// How many the level needs.
        need: usize,
        /// How many answered.
        got: usize,
    },
    /// The owners that answered lack what the session saw.
    #[error("no owner has what this session saw yet; try again, or begin a new session")]
    Behind,
    /// The newest value is held by too few owners for a later read to be sure to see it.
    #[error(
        "the newest value is held by {holders} owners, {need} are needed for reads never to go back; try again"
    )]
    Unconfirmed {
        /// Owners that hold it.
        holders: usize,
        /// Owners that are needed.
        need: usize,
    },
    /// This node cannot serve.
    #[error("node {node} cannot read: {why}")]
    NotReady {
        /// The node.
        node: NodeId,
        /// Why.
        why: String,
    },
}

/// Why a receipt could not be resolved. Ask again, or another node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It is of another cluster or strategy.
    #[error("{0}")]
    Foreign(String),
}
