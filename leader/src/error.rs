//! Every failure, and what happened to the data.

use std::time::Duration;

use common::ids::{LogPos, NodeId};
use common::outcome::{HasOutcome, Outcome};

use common::receipt::LogReceipt;

use crate::config::ConfigError;
use crate::divergence::Quarantined;
use crate::membership::placement::Danger;
use crate::quota::OverQuota;
use crate::replication_mode::AckReport;

/// Why a node did not open. Its folder is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder belongs to another node or another cluster.
    #[error("{0}")]
    WrongFolder(String),
    /// The log.
    #[error(transparent)]
    Wal(#[from] common::storage::wal::WalError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] common::storage::disk::DiskError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] common::storage::engine::EngineError),
    /// Log or state are readable but do not fit together.
    #[error("{0}")]
    Inconsistent(String),
    /// The consensus core refused to start.
    #[error("consensus: {0}")]
    Consensus(String),
}

/// Why a write was not acknowledged. [`HasOutcome::outcome`] says what happened to the data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The machine or the limits refuse the command. Not applied.
    #[error("{0}")]
    Refused(String),
    /// No leader is known and none appeared within the deadline. Not applied: retry later.
    #[error("no leader within {0:?}; not applied, retry later")]
    NoLeader(Duration),
    /// Too much is in flight. Not applied: retry after a while.
    #[error("overloaded; not applied, retry in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The disk of the leader is full. Not applied; reads and deletes work.
    #[error("the leader's disk is full; not applied; free space or delete keys")]
    DiskFull,
    /// The command would grow the state over its hard quota. Not applied; reads, deletes and what does
    /// not grow the state work.
    #[error(transparent)]
    OverQuota(#[from] OverQuota),
    /// The deadline passed, or the node stopped, before the fate was known. The command may have
    /// been applied, or may still be.
    #[error("no acknowledgement within the deadline; the write may or may not have been applied")]
    Unknown {
        /// Where in the log it was proposed, if that is known.
        at: Option<LogPos>,
    },
    /// The deadline passed before the mode that was asked for was satisfied. The write stays; what
    /// it has achieved is in the report, and its receipt tells its fate.
    #[error(
        "not acknowledged as asked for within the deadline; {}",
        if report.committed {
            "the write is committed, and the members that were asked for have not all reached it"
        } else {
            "the write may still be lost or committed: its receipt tells"
        }
    )]
    AckTimeout {
        /// Tells the write's fate.
        receipt: Box<LogReceipt>,
        /// What it has achieved.
        report: AckReport,
    },
    /// The client's session is no longer known: it was idle for too long. Not applied by this call.
    #[error("the client session has expired; open a new one")]
    SessionExpired,
    /// The node is stopping or has failed. Not applied.
    #[error("node {0} is stopping; not applied")]
    Stopping(NodeId),
}

impl HasOutcome for WriteError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(_)
            | Self::NoLeader(_)
            | Self::Overloaded { .. }
            | Self::DiskFull
            | Self::OverQuota(_)
            | Self::SessionExpired
            | Self::Stopping(_) => Outcome::NotApplied,
            Self::AckTimeout { report, .. } if report.committed => Outcome::Applied,
            Self::Unknown { .. } | Self::AckTimeout { .. } => Outcome::Unknown,
        }
    }
}

/// Why a read has no answer. Reads change nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader confirmed the read within the deadline.
    #[error("no leader confirmed the read within {0:?}; retry, or read with `Eventual`")]
    NoLeader(Duration),
    /// This replica did not catch up within the deadline.
    #[error("this replica did not catch up within {0:?}; retry")]
    Behind(Duration),
    /// Writes that this session saw acknowledged before they were committed are lost, so no state
    /// contains all that it has seen. Take the token's reset as the end of the session.
    #[error(
        "the session has lost the write at term {} index {}, acknowledged before it was committed; \
         begin a new session",
        lost.term,
        lost.index
    )]
    SessionLost {
        /// The last of them.
        lost: LogPos,
    },
    /// The token is of another cluster or another history of this one.
    #[error("{0}")]
    OtherToken(String),
    /// The state at this position is not kept here, or not any more: read at another, or begin anew.
    #[error(
        "the state at {}.{} is not kept on this node any more, {}; take a new snapshot",
        at.term,
        at.index,
        oldest.map_or_else(
            || "and no other is".to_owned(),
            |at| format!("the oldest one is at {}.{}", at.term, at.index),
        )
    )]
    SnapshotTooOld {
        /// The position.
        at: LogPos,
        /// The oldest one that is kept.
        oldest: Option<LogPos>,
    },
    /// The level is not one that this version serves.
    #[error("{0}")]
    Unsupported(String),
    /// This node's state is wrong, so it serves no reads until it has another one.
    #[error("this node is in quarantine: {0}; ask another node until it is repaired")]
    Quarantined(Quarantined),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] common::storage::engine::EngineError),
    /// The node is stopping or has failed.
    #[error("node {0} is stopping")]
    Stopping(NodeId),
}

impl ReadError {
    /// Whether another member may answer what this one could not.
    pub const fn others_may_answer(&self) -> bool {
        matches!(self, Self::NoLeader(_) | Self::Behind(_) | Self::Quarantined(_))
    }
}

/// Why a receipt has no answer. It is as good as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The receipt is of another cluster, strategy or history.
    #[error("{0}")]
    Foreign(String),
    /// The entry is not decided by what this node has, and no leader could be asked.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Why a change of the cluster was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// It contradicts the state of the cluster. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// A learner does not follow closely enough for a vote. Nothing was changed.
    #[error(
        "node {id} is not close enough for a vote: it lacks {lag} entries (1000 are allowed), and its state \
         is {} (1 s is allowed); try again later, or wait for it",
        age.map_or_else(|| "older than a second".to_owned(), |age| format!("{age:?} old"))
    )]
    NotCaughtUp {
        /// The learner.
        id: NodeId,
        /// How many entries it lacks.
        lag: u64,
        /// How old its state was at most; none if it did not show that within a second.
        age: Option<Duration>,
    },
    /// The change would put the cluster in danger, and the danger was not accepted. Nothing was
    /// changed.
    #[error("{what}; accept {danger} if that is meant")]
    Dangerous {
        /// The danger, to be named.
        danger: Danger,
        /// What it would come from.
        what: String,
    },
    /// This node is not the leader; ask `leader`.
    #[error("node {this} is not the leader{}", leader.map(|l| format!("; ask node {l}")).unwrap_or_default())]
    NotLeader {
        /// This node.
        this: NodeId,
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// It did not complete in time: it may or may not take effect. Ask for the status.
    #[error("not completed within {0:?}; it may still take effect, see the status")]
    TimedOut(Duration),
    /// The node is stopping or has failed.
    #[error("node {0} is stopping")]
    Stopping(NodeId),
}
