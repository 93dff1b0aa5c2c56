//! The token of a leader's log: one position that covers what is committed, and a few that are
//! acknowledged but not known committed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{JoinError, same_cluster};
use crate::ids::{ClusterId, Epoch, LogPos};
use crate::mutate;

/// What a session of the single-leader strategy has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's history that the positions are in.
    pub epoch: Epoch,
    /// Covers everything it read, and every write of its own that is known committed.
    pub committed: LogPos,
    /// Per term, the index of the last write acknowledged early and not known committed. A log
    /// holds all of a term's earlier entries below it, so the last one stands for all.
    pub pending: BTreeMap<u64, u64>,
}

impl LogToken {
    /// How many terms may have pending writes; a client that meets more leaders than that without
    /// one commit resolves some before it goes on.
    pub const MAX_PENDING: usize = 8;

    /// A session that has seen nothing.
    pub const fn new(cluster: ClusterId, epoch: Epoch) -> Self {
        Self { cluster, epoch, committed: LogPos { term: 0, index: 0 }, pending: BTreeMap::new() }
    }

    /// Adds what was read, or a write that is known committed.
    pub fn saw_committed(&mut self, at: LogPos) {
        self.committed = self.committed.max(at);
    }

    /// Adds a write that was acknowledged before it was committed.
    pub fn wrote_pending(&mut self, at: LogPos) -> Result<(), JoinError> {
        let terms = self.pending.len() + usize::from(!self.pending.contains_key(&at.term));
        if terms > Self::MAX_PENDING {
            return Err(JoinError::TooManyPending { terms, limit: Self::MAX_PENDING });
        }
        let index = self.pending.entry(at.term).or_default();
        *index = at.index.max(*index);
        Ok(())
    }

    /// A write was found committed: it, and those of its term before it, move over.
    pub fn resolved_committed(&mut self, at: LogPos) {
        if self.pending.get(&at.term).is_some_and(|index| *index <= at.index) {
            self.pending.remove(&at.term);
        }
        self.saw_committed(at);
    }

    /// The smallest token that covers both: the larger `committed`, and per term the larger
    /// pending index.
    ///
    /// A pending write below `committed` stays pending: positions alone do not tell whether a
    /// later term's history contains it, only a node's answer does.
    pub fn join(&self, other: &Self) -> Result<Self, JoinError> {
        same_cluster(self.cluster, other.cluster)?;
        if self.epoch != other.epoch {
            return Err(JoinError::Epochs { left: self.epoch, right: other.epoch });
        }
        let mut pending = self.pending.clone();
        for (term, index) in &other.pending {
            let mine = pending.entry(*term).or_default();
            *mine = mutate!("token_join_keeps_left", (*mine).max(*index), *mine);
        }
        if pending.len() > Self::MAX_PENDING {
            let (terms, limit) = (pending.len(), Self::MAX_PENDING);
            return Err(JoinError::TooManyPending { terms, limit });
        }
        let committed =
            mutate!("token_join_keeps_left", self.committed.max(other.committed), self.committed);
        Ok(Self { cluster: self.cluster, epoch: self.epoch, committed, pending })
    }
}
