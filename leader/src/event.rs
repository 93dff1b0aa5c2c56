//! What happens on a node without being asked for.

use common::ids::{LogPos, NodeId};

use crate::divergence::Quarantined;
use crate::quota::{Fullness, Quota, Usage};
use crate::rollback::Rollback;

/// Something that has happened on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another leader is known, or none.
    Leader {
        /// Who leads now, as far as this node knows.
        leader: Option<NodeId>,
        /// The term that this node is in.
        term: u64,
    },
    /// Writes that this node's log held are lost for ever, and kept in a rollback file. Some may
    /// have been acknowledged by a mode that does not wait for the commit.
    RolledBack(Rollback),
    /// The state of another member differs from the majority's. It finds that itself, too.
    Diverged {
        /// The member.
        node: NodeId,
        /// The position of the check.
        at: LogPos,
    },
    /// The states of the members differ at a check, and no state has a majority: an alarm. All serve
    /// what they have.
    Undecided {
        /// The position of the check.
        at: LogPos,
    },
    /// This node's state differs from the majority's: it serves no reads from now on.
    Quarantined(Quarantined),
    /// This node's state was replaced by a snapshot from a member that has the right one. It serves
    /// reads again.
    Repaired {
        /// The position of the check that had found it.
        at: LogPos,
    },
    /// The state has passed a soft limit of its quota, is full, or is within its limits again.
    Quota {
        /// How it stands now.
        fullness: Fullness,
        /// How large it is.
        usage: Usage,
        /// How large it may become.
        quota: Quota,
    },
    /// A hold on the log has ended without being released: a watcher that still needs what it kept
    /// gets [`WatchError::Compacted`](crate::watch::WatchError::Compacted).
    HoldBroken {
        /// Whose it was.
        name: String,
        /// Everything after this entry was kept.
        after: LogPos,
        /// Why it ended.
        broken: Broken,
    },
}

/// Why a hold has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Nobody has renewed it in time.
    Expired,
    /// The log on disk has become larger than the hold allows.
    OverCap {
        /// How large it was.
        log_bytes: u64,
    },
}

/// How many events a receiver may lag behind before it misses the oldest.
pub(crate) const KEPT: usize = 256;
