//! The token of the leaderless strategy: events per partition, exact where that is cheap.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{JoinError, same_cluster};
use crate::clock::{Dot, Hlc};
use crate::ids::{Actor, ClusterId, KeyspaceId, PartitionId};

/// What a session of the leaderless strategy has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DotsToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// The largest stamp it met: later writes of the session are stamped above it.
    pub stamp: Hlc,
    /// Per partition and actor, the events it read and wrote.
    pub partitions: BTreeMap<(KeyspaceId, PartitionId), BTreeMap<Actor, SeenDots>>,
}

/// Events of one actor: a few exact ones, and all up to a number.
///
/// Beyond [`SeenDots::MAX_EXACT`] the smallest ones become the prefix. That asks for more than
/// was seen, never for less, and costs at most one round of repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDots {
    upto: u64,
    above: BTreeSet<u64>,
}

impl SeenDots {
    /// How many events are kept one by one.
    pub const MAX_EXACT: usize = 8;

    /// All events up to this number.
    pub const fn upto(&self) -> u64 {
        self.upto
    }

    /// The events above [`SeenDots::upto`], in order.
    pub fn above(&self) -> impl Iterator<Item = u64> {
        self.above.iter().copied()
    }

    /// Adds one event.
    pub fn add(&mut self, n: u64) {
        self.above.insert(n);
        self.normalise();
    }

    fn join(&mut self, other: &Self) {
        self.upto = self.upto.max(other.upto);
        self.above.extend(&other.above);
        self.normalise();
    }

    /// Keeps the largest few exact. The prefix is then the largest that was dropped, whatever the
    /// order in which events came: that makes the join associative.
    fn normalise(&mut self) {
        while self.above.len() > Self::MAX_EXACT {
            self.upto = self.above.pop_first().map_or(self.upto, |n| n.max(self.upto));
        }
        while self.above.first().is_some_and(|n| *n <= self.upto) {
            self.above.pop_first();
        }
    }
}

impl DotsToken {
    /// How many partitions one session may touch.
    pub const MAX_PARTITIONS: usize = 256;

    /// A session that has seen nothing.
    pub const fn new(cluster: ClusterId) -> Self {
        Self { cluster, stamp: Hlc::ZERO, partitions: BTreeMap::new() }
    }

    /// Adds an event that was read or written.
    pub fn saw(
        &mut self,
        keyspace: KeyspaceId,
        partition: PartitionId,
        dot: Dot<Actor>,
        stamp: Hlc,
    ) -> Result<(), JoinError> {
        let place = (keyspace, partition);
        let partitions = self.partitions.len() + usize::from(!self.partitions.contains_key(&place));
        limit(partitions)?;
        self.partitions.entry(place).or_default().entry(dot.actor).or_default().add(dot.n);
        self.stamp = self.stamp.max(stamp);
        Ok(())
    }

    /// The smallest token that covers both.
    pub fn join(&self, other: &Self) -> Result<Self, JoinError> {
        same_cluster(self.cluster, other.cluster)?;
        let mut out = self.clone();
        out.stamp = out.stamp.max(other.stamp);
        for (place, actors) in &other.partitions {
            let mine = out.partitions.entry(*place).or_default();
            for (actor, seen) in actors {
                mine.entry(*actor).or_default().join(seen);
            }
        }
        limit(out.partitions.len())?;
        Ok(out)
    }
}

fn limit(partitions: usize) -> Result<(), JoinError> {
    let limit = DotsToken::MAX_PARTITIONS;
    if partitions > limit {
        return Err(JoinError::TooManyPartitions { partitions, limit });
    }
    Ok(())
}
