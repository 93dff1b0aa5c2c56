//! What happens on a node without being asked for.

use common::ids::NodeId;

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
}

/// How many events a receiver may lag behind before it misses the oldest.
pub(crate) const KEPT: usize = 256;
