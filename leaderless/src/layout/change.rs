//! From one layout to the next: every step of a change is a new layout with the next epoch.
//!
//! ```text
//! Stable --begin--> Moving --synced--> .. all partitions Synced --finish--> Stable
//!                     \--begin, abort--> (what reads are served from stays the base)
//! ```

use std::collections::BTreeMap;

use common::ids::{Incarnation, NodeId, Region};

use super::{
    Epoch, Layout, Marks, NodeInfo, NodeState, Owners, Partition, PartitionSet, Phase, PlanError,
    Rack, Warning, plan,
};

/// A node that joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Where it listens for peers: `host:port`.
    pub address: String,
    /// Its datacenter.
    pub region: Region,
    /// Its rack.
    pub rack: Rack,
    /// How much it can hold compared with the others; 0 owns nothing.
    pub capacity: u32,
}

/// A change of the owners.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Nodes join.
    Join(Vec<NewNode>),
    /// Nodes give their partitions away and leave.
    Leave(Vec<NodeId>),
    /// A dead node's partitions go to a new one; the others keep theirs. At risk are writes that
    /// the dead node alone acknowledged.
    Replace {
        /// The node that is dead.
        dead: NodeId,
        /// The one in its place.
        with: NewNode,
    },
    /// A node holds more or less than before.
    Capacity {
        /// The node.
        node: NodeId,
        /// Its new capacity.
        capacity: u32,
    },
    /// Regions have other factors.
    Factors(BTreeMap<Region, u8>),
}

/// A layout that begins a change, to be proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The layout.
    pub layout: Layout,
    /// The ids of the nodes that joined, in the order given.
    pub joined: Vec<NodeId>,
    /// Replicas that have to be transferred.
    pub moves: usize,
    /// What the placement could not do.
    pub warnings: Vec<Warning>,
}

/// Why a step of a change is refused. The layout is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no placement.
    #[error("no placement: {0}")]
    Plan(#[from] PlanError),
    /// The node is no member.
    #[error("node {0} is no member of this layout")]
    NoMember(NodeId),
    /// No change is under way.
    #[error("no change of owners is under way")]
    NotMoving,
    /// Partitions have not met the barrier yet.
    #[error("{0} partitions have not met the barrier yet: wait, or abort the change")]
    NotSynced(usize),
    /// The node is a steward: move the register of layouts first.
    #[error("node {0} is a steward of the layout: choose another steward first")]
    Steward(NodeId),
    /// The incarnation is not later than the member's.
    #[error("incarnation {found} of node {node} is not later than {current}")]
    OldIncarnation {
        /// The node.
        node: NodeId,
        /// The incarnation given.
        found: Incarnation,
        /// The member's.
        current: Incarnation,
    },
}

impl Layout {
    /// The first layout of a cluster: nodes get the ids 1, 2, and so on; the first 5 (3, 1) are
    /// its stewards.
    pub fn first(
        bits: super::Bits,
        seed: u64,
        nodes: Vec<NewNode>,
        factors: BTreeMap<Region, u8>,
    ) -> Result<(Self, Vec<Warning>), ChangeError> {
        let nodes: BTreeMap<NodeId, NodeInfo> =
            (1..).map(NodeId).zip(nodes.into_iter().map(NewNode::into_info)).collect();
        let (owners, warnings) = plan(bits, None, &nodes, &factors)?;
        let stewards = if nodes.len() >= 5 { 5 } else { 1 + (nodes.len().min(3) - 1) / 2 * 2 };
        let epoch = Epoch(1);
        let layout = Self {
            epoch,
            bits,
            seed,
            next_node: nodes.len() as u64 + 1,
            stewards: nodes.keys().copied().take(stewards).collect(),
            nodes,
            factors,
            owners,
            previous: None,
            synced: PartitionSet::default(),
            unsynced: BTreeMap::new(),
            marks: Marks { base: epoch, moving: epoch, synced: epoch },
        };
        Ok((layout, warnings))
    }

    fn after(&self) -> Self {
        Self { epoch: self.epoch.next(), ..self.clone() }
    }

    /// The owners that reads are served from today.
    pub fn readers(&self) -> Owners {
        let row = |partition| self.live_sets(partition).readers().to_vec();
        match &self.previous {
            None => self.owners.clone(),
            Some(previous) if self.synced.is_empty() => previous.clone(),
            Some(_) => Owners::from_rows(self.bits.all().map(row).collect()),
        }
    }

    fn member(&mut self, node: NodeId) -> Result<&mut NodeInfo, ChangeError> {
        self.nodes.get_mut(&node).ok_or(ChangeError::NoMember(node))
    }

    fn admit(&mut self, node: NewNode) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, node.into_info());
        id
    }

    /// Begins a change, or replaces the one under way: what reads are served from is its base.
    pub fn begin(&self, change: Change) -> Result<Planned, ChangeError> {
        let base = self.readers();
        let mut next = self.after();
        let mut joined = Vec::new();
        let mut replaced = None;
        match change {
            Change::Join(nodes) => joined.extend(nodes.into_iter().map(|node| next.admit(node))),
            Change::Leave(nodes) => {
                for node in nodes {
                    next.refuse_steward(node)?;
                    next.member(node)?.state = NodeState::Leaving;
                }
            }
            Change::Replace { dead, with } => {
                next.refuse_steward(dead)?;
                next.member(dead)?.state = NodeState::Dead;
                let with = next.admit(with);
                joined.push(with);
                replaced = Some((dead, with));
            }
            Change::Capacity { node, capacity } => next.member(node)?.capacity = capacity,
            Change::Factors(factors) => next.factors = factors,
        }
        let (owners, warnings) = match replaced {
            Some((dead, with)) => (base.substitute(dead, with), Vec::new()),
            None => plan(self.bits, Some(&base), &next.nodes, &next.factors)?,
        };
        let moves = owners.moves_from(&base);
        next.start(base, owners);
        next.forget_strangers();
        Ok(Planned { layout: next, joined, moves, warnings })
    }

    fn refuse_steward(&self, node: NodeId) -> Result<(), ChangeError> {
        if self.stewards.contains(&node) { Err(ChangeError::Steward(node)) } else { Ok(()) }
    }

    fn start(&mut self, base: Owners, owners: Owners) {
        // A base that reads are served from in a new mixture, or from owners that a former change
        // had synced, is new: views from before it are refused. See the module `judge`.
        if !self.synced.is_empty() {
            self.marks.base = self.epoch;
        }
        self.marks.moving = self.epoch;
        self.marks.synced = self.epoch;
        self.synced = PartitionSet::default();
        self.previous = Some(base);
        self.owners = owners;
    }

    /// Drops members that are going and own nothing any more, and what is noted of them.
    fn forget_strangers(&mut self) {
        let owns = |node: NodeId| {
            let sets = std::iter::once(&self.owners).chain(&self.previous);
            sets.flat_map(Owners::rows).any(|(_, row)| row.contains(&node))
        };
        let gone: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(_, info)| matches!(info.state, NodeState::Leaving | NodeState::Dead))
            .map(|(node, _)| *node)
            .filter(|node| !owns(*node))
            .collect();
        for node in gone {
            self.nodes.remove(&node);
        }
        let nodes = &self.nodes;
        self.unsynced.retain(|node, _| nodes.contains_key(node));
    }

    /// Notes that the current owners of partitions have met the barrier, but for those that are
    /// down and left behind.
    pub fn sync(
        &self,
        partitions: &PartitionSet,
        left_behind: &BTreeMap<NodeId, PartitionSet>,
    ) -> Result<Self, ChangeError> {
        if self.previous.is_none() {
            return Err(ChangeError::NotMoving);
        }
        let mut next = self.after();
        next.synced.extend(partitions.iter().filter(|p| p.0 < self.bits.partitions()));
        for (node, set) in left_behind {
            next.member(*node)?;
            next.unsynced.entry(*node).or_default().extend(set.iter());
        }
        next.marks.synced = next.epoch;
        Ok(next)
    }

    /// Ends a change: the previous owners drop what they own no more. Allowed when
    /// [`may_finish`] says so for every partition.
    pub fn finish(&self) -> Result<Self, ChangeError> {
        if self.previous.is_none() {
            return Err(ChangeError::NotMoving);
        }
        let open = self.bits.partitions() as usize - self.synced.len();
        if open > 0 {
            return Err(ChangeError::NotSynced(open));
        }
        let mut next = self.after();
        next.become_stable();
        Ok(next)
    }

    fn become_stable(&mut self) {
        self.previous = None;
        self.synced = PartitionSet::default();
        self.marks = Marks { base: self.epoch, moving: self.epoch, synced: self.epoch };
        self.forget_strangers();
    }

    /// Takes a change back.
    ///
    /// While no partition is synced every acknowledged write is at the base and every read is
    /// served there, so the base is stable again at once. Otherwise the way back is a change of its
    /// own: reads move back only when the old owners have met a barrier.
    pub fn abort(&self) -> Result<Self, ChangeError> {
        let Some(previous) = &self.previous else { return Err(ChangeError::NotMoving) };
        let mut next = self.after();
        for info in next.nodes.values_mut().filter(|info| info.state == NodeState::Leaving) {
            info.state = NodeState::Serving;
        }
        for (node, info) in &mut next.nodes {
            let joined = !previous.rows().any(|(_, row)| row.contains(node));
            let joins = self.owners.rows().any(|(_, row)| row.contains(node));
            if joined && joins {
                info.state = NodeState::Leaving;
            }
        }
        let base = self.readers();
        let old = previous.clone();
        if self.synced.is_empty() {
            next.owners = old;
            next.become_stable();
        } else {
            next.start(base, old);
            next.forget_strangers();
        }
        Ok(next)
    }

    /// A node lost its storage: it comes back under a new incarnation, keeps its partitions, and
    /// serves no reads before it has them again.
    pub fn reincarnate(
        &self,
        node: NodeId,
        incarnation: Incarnation,
        address: String,
    ) -> Result<Self, ChangeError> {
        let mut next = self.after();
        let info = next.member(node)?;
        if incarnation <= info.incarnation {
            let current = info.incarnation;
            return Err(ChangeError::OldIncarnation { node, found: incarnation, current });
        }
        info.incarnation = incarnation;
        info.address = address;
        let sets = std::iter::once(&self.owners).chain(&self.previous);
        let lost: PartitionSet = sets.flat_map(|set| set.owned_by(node)).collect();
        next.unsynced.insert(node, lost);
        Ok(next)
    }

    /// Partitions of a node that lost its storage are complete again.
    pub fn recovered(&self, node: NodeId, partitions: &PartitionSet) -> Result<Self, ChangeError> {
        let mut next = self.after();
        next.member(node)?;
        if let Some(set) = next.unsynced.get_mut(&node) {
            for partition in partitions.iter() {
                set.remove(partition);
            }
        }
        next.unsynced.retain(|_, set| !set.is_empty());
        Ok(next)
    }

    /// A node stops for a while, or comes back from it; or listens elsewhere. Owners stay.
    pub fn update(
        &self,
        node: NodeId,
        address: String,
        draining: bool,
    ) -> Result<Self, ChangeError> {
        let mut next = self.after();
        let info = next.member(node)?;
        info.address = address;
        if matches!(info.state, NodeState::Serving | NodeState::Draining) {
            info.state = if draining { NodeState::Draining } else { NodeState::Serving };
        }
        Ok(next)
    }

    /// Puts one steward in the place of another: one at a time, see the register of layouts.
    pub fn change_stewards(&self, stewards: Vec<NodeId>) -> Result<Self, ChangeError> {
        let mut next = self.after();
        for node in &stewards {
            next.member(*node)?;
        }
        next.stewards = stewards;
        Ok(next)
    }
}

impl NewNode {
    fn into_info(self) -> NodeInfo {
        let Self { address, region, rack, capacity } = self;
        let (incarnation, state) = (Incarnation(1), NodeState::Serving);
        NodeInfo { address, region, rack, capacity, incarnation, state }
    }
}

/// Whether enough of a synced partition's previous owners have adopted `Synced` for the change to
/// end: n - `weakest_read` + 1 of n, so that no read of the old view can find `weakest_read`
/// owners any more. Those named as dead by an operator are excused, at the risk of reads by their
/// old view.
pub fn may_finish(
    layout: &Layout,
    partition: Partition,
    adopted: impl Fn(NodeId) -> bool,
    forced: impl Fn(NodeId) -> bool,
    weakest_read: usize,
) -> bool {
    let sets = layout.live_sets(partition);
    if sets.phase != Phase::Synced {
        return false;
    }
    let excused = |node: NodeId| {
        forced(node) || layout.nodes.get(&node).is_some_and(|info| info.state == NodeState::Dead)
    };
    let done = sets.previous.iter().filter(|node| adopted(**node) || excused(**node)).count();
    done > sets.previous.len().saturating_sub(weakest_read.max(1))
}
