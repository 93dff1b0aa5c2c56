//! The layout: one value that a cluster agrees on.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::codec::{self, CodecError, Format};
use common::ids::{NodeId, Region};
use serde::{Deserialize, Serialize};

use super::{Bits, MAX_FACTOR, NodeInfo, Owners, PartitionSet};

/// The number of a layout: each one that is agreed on has one more than the last. From 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of the next layout.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Since when older views are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The first epoch in which reads were served by today's `previous`, or `owners` when stable.
    pub base: Epoch,
    /// The first epoch of the change under way.
    pub moving: Epoch,
    /// The last epoch that moved a partition from `Moving` to `Synced`.
    pub synced: Epoch,
}

/// Who owns what, and the change under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The number of this layout.
    pub epoch: Epoch,
    /// The number of partitions. Never changes.
    pub bits: Bits,
    /// The seed of tokens. Never changes.
    pub seed: u64,
    /// The smallest node id that was never given. Ids below it that are no members were removed.
    pub next_node: u64,
    /// The nodes that hold the register of layouts: 3 or 5, fewer in smaller clusters.
    pub stewards: Vec<NodeId>,
    /// The members.
    pub nodes: BTreeMap<NodeId, NodeInfo>,
    /// The replication factor of each region.
    pub factors: BTreeMap<Region, u8>,
    /// The owners, or those to be while a change is under way.
    pub owners: Owners,
    /// The owners that a change leaves.
    pub previous: Option<Owners>,
    /// Partitions whose current owners have met the barrier. Empty while stable.
    pub synced: PartitionSet,
    /// Owners that do not hold their partitions yet, outside of the change itself: they lost their
    /// storage, or were left behind when a change was finished.
    pub unsynced: BTreeMap<NodeId, PartitionSet>,
    /// Since when older views are refused.
    pub marks: Marks,
}

const FORMAT: Format = Format { magic: *b"TLAY", version: 1 };

/// The largest layout that is decoded, in bytes.
pub const MAX_LAYOUT: usize = 32 << 20;

/// Why bytes are not a layout. Nothing was adopted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The bytes are not a layout of this version.
    #[error("not a layout: {0}")]
    Codec(#[from] CodecError),
    /// The parts contradict each other.
    #[error("a layout that contradicts itself: {0}")]
    Invalid(&'static str),
}

impl Layout {
    /// The layout in a frame.
    pub fn encode(&self) -> Bytes {
        codec::encode(FORMAT, self)
    }

    /// Decodes and checks a layout.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let layout: Self = codec::decode(FORMAT, bytes, MAX_LAYOUT)?;
        layout.check().map_err(LayoutError::Invalid)?;
        Ok(layout)
    }

    /// Whether the parts agree with each other; if not, what does not.
    pub fn check(&self) -> Result<(), &'static str> {
        let partitions = self.bits.partitions();
        let sets = || std::iter::once(&self.owners).chain(&self.previous);
        let owner_known =
            |(_, row): (_, &[NodeId])| row.iter().all(|node| self.nodes.contains_key(node));
        let members = |nodes: &[NodeId]| nodes.iter().all(|node| self.nodes.contains_key(node));
        let rules = [
            (self.epoch.0 > 0, "epochs count from 1"),
            (self.nodes.keys().all(|node| node.0 < self.next_node), "a node id was never given"),
            (self.factors.values().all(|factor| *factor <= MAX_FACTOR), "a factor is over 15"),
            (sets().all(|set| set.well_formed(partitions)), "owners are not one row per partition"),
            (sets().all(|set| set.rows().all(owner_known)), "an owner is no member"),
            (!self.stewards.is_empty() && members(&self.stewards), "a steward is no member"),
            (self.previous.is_some() || self.synced.is_empty(), "synced without a change"),
            (self.synced.fits(self.bits), "a synced partition does not exist"),
            (self.unsynced.values().all(|set| set.fits(self.bits)), "no such partition"),
            (self.unsynced.keys().all(|node| self.nodes.contains_key(node)), "unsynced no member"),
            (
                [self.marks.base, self.marks.moving, self.marks.synced]
                    .iter()
                    .all(|mark| *mark <= self.epoch),
                "a mark is later than the layout",
            ),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, broken)| Err(broken))
    }
}
