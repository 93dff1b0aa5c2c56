//! One replica of one place: what is kept in memory of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::ids::{Actor, KeyspaceId, NodeId, PartitionId};
use serde::{Deserialize, Serialize};

use crate::version::{Context, Dot, PartitionClock};

/// One partition of one keyspace: what has a clock of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) partition: PartitionId,
}

impl Place {
    /// The first bytes of all its keys in the engine.
    pub(super) fn prefix(self) -> [u8; 8] {
        let mut out = [0; 8];
        out[..4].copy_from_slice(&self.keyspace.0.to_be_bytes());
        out[4..].copy_from_slice(&self.partition.0.to_be_bytes());
        out
    }

    pub(super) fn of(prefix: &[u8]) -> Option<Self> {
        let (keyspace, rest) = prefix.split_first_chunk::<4>()?;
        let (partition, _) = rest.split_first_chunk::<4>()?;
        Some(Self {
            keyspace: KeyspaceId(u32::from_be_bytes(*keyspace)),
            partition: PartitionId(u32::from_be_bytes(*partition)),
        })
    }

    pub(super) fn cell(self, key: &[u8]) -> Vec<u8> {
        [&self.prefix()[..], key].concat()
    }

    pub(super) fn dot(self, dot: &Dot) -> Vec<u8> {
        let (actor, n) = (dot.actor.0.to_be_bytes(), dot.n.to_be_bytes());
        [&self.prefix()[..], &actor, &n].concat()
    }
}

/// The dot at the end of an engine key that [`Place::dot`] made.
pub(super) fn dot_of(key: &[u8]) -> Option<Dot> {
    let (rest, n) = key.split_last_chunk::<8>()?;
    let (_, actor) = rest.split_last_chunk::<8>()?;
    Some(Dot::new(Actor(u64::from_be_bytes(*actor)), u64::from_be_bytes(*n)))
}

/// What is in memory of a replica of one place. Keys are engine keys without the place.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    pub(crate) clock: PartitionClock,
    /// Which key each dot wrote, until every owner has it; `None` when its key is gone.
    pub(crate) log: BTreeMap<Dot, Option<Bytes>>,
    /// Deletes that wait for every owner.
    pub(crate) tombstones: BTreeMap<Dot, Bytes>,
    /// Per owner the bases of its clock, as it last said they are synced.
    pub(crate) watermarks: BTreeMap<NodeId, Context>,
    /// Deletes of last-writer-wins keys whose first round is over: what the second waits for.
    pub(crate) second: BTreeMap<Dot, Context>,
}

impl Replica {
    /// Whether every one of `owners` said that its base covers the dot.
    pub(crate) fn is_stable(&self, dot: &Dot, owners: &[NodeId]) -> bool {
        owners.iter().all(|node| self.watermarks.get(node).is_some_and(|bases| bases.covers(dot)))
    }
}
