//! The members of a cluster, and the fence against those that were.

use common::ids::{Incarnation, NodeId, Region};
use serde::{Deserialize, Serialize};

use super::{Epoch, Layout};

/// A rack, as the label on its nodes says: nodes that may fail together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rack(pub String);

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It serves, coordinates and is given partitions.
    Serving,
    /// It is about to stop for a while: it coordinates nothing and keeps its partitions.
    Draining,
    /// It gives its partitions away and is removed when the change is done.
    Leaving,
    /// An operator has named it as dead: nothing waits for it, and it is removed when the change is
    /// done. At risk are writes that it alone acknowledged.
    Dead,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Where it listens for peers: `host:port`.
    pub address: String,
    /// Its datacenter.
    pub region: Region,
    /// Its rack inside the region.
    pub rack: Rack,
    /// How much it can hold compared with the others, in any unit. 0: it owns nothing and only
    /// forwards.
    pub capacity: u32,
    /// Which life of its storage. A node that lost its storage comes back under a larger one.
    pub incarnation: Incarnation,
    /// What it does.
    pub state: NodeState,
}

impl NodeInfo {
    /// Whether it is given partitions by a plan.
    pub fn plannable(&self) -> bool {
        self.capacity > 0 && matches!(self.state, NodeState::Serving | NodeState::Draining)
    }
}

/// Why a node's connection is refused. Nothing of what it says enters the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Fence {
    /// It was a member once. Ids are never given twice, so it must stop and join as a new node.
    #[error("the node was removed before epoch {}: its id is never used again; join with an empty storage", at_epoch.0)]
    Removed {
        /// The epoch of the layout that says so.
        at_epoch: Epoch,
    },
    /// Its storage was replaced by a later one.
    #[error("the node's storage was replaced: it is incarnation {found}, the layout has {current}")]
    OldIncarnation {
        /// What it says it is.
        found: Incarnation,
        /// The layout's.
        current: Incarnation,
    },
    /// It knows a layout that this node does not know yet: ask the authority, then judge again.
    #[error("the node is of a later layout than epoch {}: ask for it first", epoch.0)]
    Unknown {
        /// The epoch of the layout that was asked.
        epoch: Epoch,
    },
}

impl Layout {
    /// Judges a peer by its id and incarnation.
    ///
    /// Ids count up and are never given twice: one below `next_node` that is no member was removed.
    pub fn fence(&self, node: NodeId, incarnation: Incarnation) -> Result<(), Fence> {
        match self.nodes.get(&node) {
            None if node.0 < self.next_node => Err(Fence::Removed { at_epoch: self.epoch }),
            None => Err(Fence::Unknown { epoch: self.epoch }),
            Some(info) if incarnation < info.incarnation => {
                let (found, current) = (incarnation, info.incarnation);
                Err(Fence::OldIncarnation { found, current })
            }
            Some(info) if incarnation > info.incarnation => {
                Err(Fence::Unknown { epoch: self.epoch })
            }
            Some(_) => Ok(()),
        }
    }
}
