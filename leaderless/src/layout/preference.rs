//! The nodes of a request, best first.

use common::ids::{NodeId, Region};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Layout, NodeState, Partition, Token};

/// The nodes that a request for one token goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preference {
    /// Owners by the current layout: the local region first, rotated by the token.
    pub current: Vec<NodeId>,
    /// Owners of the set that the layout leaves, in the same order. Empty while it is stable.
    pub previous: Vec<NodeId>,
    /// Who stands in for an owner that is away, best first: other serving nodes of the local
    /// region, those in racks without an owner before the others.
    pub fallbacks: Vec<NodeId>,
}

impl Layout {
    /// The nodes for a token, as seen from a region.
    pub fn preference(&self, token: Token, local: &Region) -> Preference {
        let partition = self.bits.partition(token);
        let ordered = |row: &[NodeId]| {
            let region_of = |node: &NodeId| self.nodes.get(node).map(|info| &info.region);
            let (mut near, far): (Vec<NodeId>, Vec<NodeId>) =
                row.iter().partition(|node| region_of(node) == Some(local));
            // The low bits of a token are independent of its partition, which is its top bits.
            let turn = token.0 as usize;
            if !near.is_empty() {
                let turn = turn % near.len();
                near.rotate_left(turn);
            }
            near.extend(far);
            near
        };
        Preference {
            current: ordered(self.owners.of(partition)),
            previous: self.previous.as_ref().map_or(Vec::new(), |old| ordered(old.of(partition))),
            fallbacks: self.fallbacks(partition, local),
        }
    }

    /// Rendezvous hashing (Thaler and Ravishankar 1998): a node that leaves moves only what it had.
    fn fallbacks(&self, partition: Partition, local: &Region) -> Vec<NodeId> {
        let live = self.live_sets(partition);
        let owner_racks: Vec<_> = live
            .all()
            .filter_map(|node| self.nodes.get(&node))
            .filter(|info| info.region == *local)
            .map(|info| &info.rack)
            .collect();
        let mut others: Vec<(bool, u64, NodeId)> = self
            .nodes
            .iter()
            .filter(|(node, info)| {
                info.state == NodeState::Serving && info.region == *local && !live.contains(**node)
            })
            .map(|(node, info)| {
                let mut pair = [0; 12];
                pair[..4].copy_from_slice(&partition.0.to_le_bytes());
                pair[4..].copy_from_slice(&node.0.to_le_bytes());
                let score = xxh3_64_with_seed(&pair, self.seed);
                (owner_racks.contains(&&info.rack), u64::MAX - score, *node)
            })
            .collect();
        others.sort_unstable();
        others.into_iter().map(|(_, _, node)| node).collect()
    }
}
