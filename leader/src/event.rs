//! What happens on a node without being asked for.

use common::ids::{LogPos, NodeId};

use crate::divergence::Quarantined;
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
}

/// How many events a receiver may lag behind before it misses the oldest.
pub(crate) const KEPT: usize = 256;
