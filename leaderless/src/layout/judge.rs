//! The three phases of a change: what goes where, and which older views are refused.

use common::ids::NodeId;

use super::{Epoch, Layout, NodeState, Owners, Partition};

/// Where a partition is in a change of its owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// One owner set.
    Stable,
    /// Two owner sets take writes; the previous one answers reads.
    Moving,
    /// Two owner sets take writes; the current one answers reads, as it has met the barrier.
    Synced,
}

/// What a request does to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intent {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// A replica's judgement of a request by the epoch that it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Serve,
    /// The sender's view is too old for this: answer with the layout. The sender adopts it and
    /// goes on with the same dot.
    Stale,
    /// The sender's view is newer: fetch the layout first, then judge again.
    Ahead,
    /// This node is not in an owner set that the intent needs.
    NotOwner,
    /// This node owns the partition and does not hold it yet: it takes writes and answers no reads.
    NotSynced,
}

/// The owner sets of a partition in its phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSets<'a> {
    /// The phase.
    pub phase: Phase,
    /// The current owners.
    pub current: &'a [NodeId],
    /// The owners that the change leaves; empty while the partition is stable.
    pub previous: &'a [NodeId],
}

impl<'a> LiveSets<'a> {
    /// The set that answers reads.
    pub fn readers(&self) -> &'a [NodeId] {
        match self.phase {
            Phase::Stable | Phase::Synced => self.current,
            Phase::Moving => self.previous,
        }
    }

    /// The sets in each of which a write must meet its level.
    pub fn writers(&self) -> Vec<&'a [NodeId]> {
        match self.phase {
            Phase::Stable => vec![self.current],
            Phase::Moving | Phase::Synced => vec![self.previous, self.current],
        }
    }

    /// Whether the node is in a live set.
    pub fn contains(&self, node: NodeId) -> bool {
        self.current.contains(&node) || self.previous.contains(&node)
    }

    /// The nodes of all live sets, each once: where a write is sent.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + 'a {
        let current = self.current;
        let gone = self.previous.iter().filter(move |node| !current.contains(node));
        current.iter().chain(gone).copied()
    }

    /// Whether the node is a pending owner: it takes writes, and neither coordinates nor reads.
    pub fn pending(&self, node: NodeId) -> bool {
        self.phase == Phase::Moving
            && self.current.contains(&node)
            && !self.previous.contains(&node)
    }
}

impl Layout {
    /// The phase of a partition. While a change is under way it is `Moving` or `Synced` also where
    /// the owners stay: equal rows give the same quorums either way.
    pub fn phase(&self, partition: Partition) -> Phase {
        match (&self.previous, self.synced.contains(partition)) {
            (None, _) => Phase::Stable,
            (Some(_), false) => Phase::Moving,
            (Some(_), true) => Phase::Synced,
        }
    }

    /// The owner sets of a partition.
    pub fn live_sets(&self, partition: Partition) -> LiveSets<'_> {
        LiveSets {
            phase: self.phase(partition),
            current: self.owners.of(partition),
            previous: self.previous.as_ref().map_or(&[], |old: &Owners| old.of(partition)),
        }
    }

    /// Whether the node's replica of the partition is complete.
    pub fn is_synced(&self, node: NodeId, partition: Partition) -> bool {
        !self.unsynced.get(&node).is_some_and(|set| set.contains(partition))
    }

    /// Whether the node may coordinate requests for the partition: an owner that reads are served
    /// from, complete, and not about to stop.
    pub fn may_coordinate(&self, node: NodeId, partition: Partition) -> bool {
        let serving = self
            .nodes
            .get(&node)
            .is_some_and(|info| matches!(info.state, NodeState::Serving | NodeState::Leaving));
        serving
            && self.live_sets(partition).readers().contains(&node)
            && self.is_synced(node, partition)
    }

    /// The oldest epoch whose view a replica may still serve, by phase and intent.
    ///
    /// While a change is under way a read by the view before it goes to the previous owners, where
    /// reads are served anyway, and a write by a view of the same change reaches both sets.
    pub fn oldest_served(&self, phase: Phase, intent: Intent) -> Epoch {
        match (phase, intent) {
            (Phase::Stable, _) | (Phase::Moving, Intent::Read) => self.marks.base,
            (Phase::Moving | Phase::Synced, Intent::Write) => self.marks.moving,
            (Phase::Synced, Intent::Read) => self.marks.synced,
        }
    }

    /// What `node` does with a request of `epoch` for a partition.
    pub fn judge(
        &self,
        node: NodeId,
        partition: Partition,
        intent: Intent,
        epoch: Epoch,
    ) -> Verdict {
        if epoch > self.epoch {
            return Verdict::Ahead;
        }
        let sets = self.live_sets(partition);
        if epoch < self.oldest_served(sets.phase, intent) {
            return Verdict::Stale;
        }
        let owner = match intent {
            Intent::Read => sets.readers().contains(&node),
            Intent::Write => sets.contains(node),
        };
        if !owner {
            return Verdict::NotOwner;
        }
        if intent == Intent::Read && !self.is_synced(node, partition) {
            return Verdict::NotSynced;
        }
        Verdict::Serve
    }
}
