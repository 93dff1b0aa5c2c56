//! Who an actor is: one opening of one node's storage.

use common::ids::{Actor, NodeId};
use serde::{Deserialize, Serialize};

/// How often a node's storage was opened, over all its disks. It is durable before the opening
/// coordinates its first write, and a node whose storage was lost goes on above what its peers
/// remember of it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Life(pub u64);

/// One opening of one node's storage, as its actor's number spells it.
///
/// ```text
/// actor: node, 20 bits | life, 20 bits | random, 24 bits
/// ```
///
/// So whoever meets a dot knows whose it is, and whether a later opening of that node has ended its
/// actor; no table of births has to travel. The random part tells two openings apart that a restored
/// image gave the same life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Opening {
    /// The node.
    pub node: NodeId,
    /// Which opening of its storage.
    pub life: Life,
}

const NODE_BITS: u32 = 20;
const LIFE_BITS: u32 = 20;
const RANDOM_BITS: u32 = 64 - NODE_BITS - LIFE_BITS;

impl Opening {
    /// The largest node id, and the largest life, that an actor can spell.
    pub const MAX: u64 = (1 << NODE_BITS) - 1;

    /// The actor of this opening. `None` when node or life are over [`Opening::MAX`].
    pub fn actor(self, random: u64) -> Option<Actor> {
        if self.node.0 > Self::MAX || self.life.0 > Self::MAX {
            return None;
        }
        let random = random >> (64 - RANDOM_BITS);
        Some(Actor((self.node.0 << (64 - NODE_BITS)) | (self.life.0 << RANDOM_BITS) | random))
    }

    /// The opening whose actor this is.
    pub const fn of(actor: Actor) -> Self {
        Self {
            node: NodeId(actor.0 >> (64 - NODE_BITS)),
            life: Life((actor.0 >> RANDOM_BITS) & ((1 << LIFE_BITS) - 1)),
        }
    }
}
