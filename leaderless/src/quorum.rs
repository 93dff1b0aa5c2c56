//! When enough replicas have answered: pure, decided anew after every answer.

use std::collections::{BTreeMap, BTreeSet};

use common::consistency::Level;
use common::ids::{NodeId, Region};
use common::mutate;

use crate::layout::{Layout, LiveSets};

/// The level cannot be met by this many owners. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("level {level:?} needs {need} of {of} owners; ask for fewer")]
pub struct InvalidLevel {
    /// The level.
    pub level: Level,
    /// How many it needs.
    pub need: usize,
    /// How many there are.
    pub of: usize,
}

/// So many of these nodes must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The nodes that count.
    pub members: Vec<NodeId>,
    /// How many of them must answer.
    pub need: usize,
}

/// What a level asks of the owner sets of one partition: every group must be met. While a layout
/// changes, a write's level holds in each set on its own, so a pending owner never stands in for an
/// old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The groups.
    pub groups: Vec<Group>,
}

impl Quorum {
    /// What a write needs.
    pub fn of_write(
        level: Level,
        layout: &Layout,
        sets: &LiveSets<'_>,
        local: &Region,
    ) -> Result<Self, InvalidLevel> {
        let writers = sets.writers();
        let writers = mutate!(
            "pending_owner_not_counted",
            writers,
            sets.writers().split_off(writers.len() - 1)
        );
        let mut groups = Vec::new();
        for set in writers {
            groups.extend(groups_of(level, layout, set, local)?);
        }
        Ok(Self { groups })
    }

    /// What a read needs.
    pub fn of_read(
        level: Level,
        layout: &Layout,
        sets: &LiveSets<'_>,
        local: &Region,
    ) -> Result<Self, InvalidLevel> {
        Ok(Self { groups: groups_of(level, layout, sets.readers(), local)? })
    }

    /// Whether these answers are enough.
    pub fn is_met(&self, answered: &BTreeSet<NodeId>) -> bool {
        let less = mutate!("acked_at_w_minus_1", 0, 1);
        self.groups.iter().all(|g| count(g, answered) + less >= g.need)
    }

    /// Whether these nodes, should all of them answer, would be enough.
    pub fn is_possible(&self, candidates: &BTreeSet<NodeId>) -> bool {
        self.groups.iter().all(|g| count(g, candidates) >= g.need)
    }

    /// How many answers the groups need, taken together.
    pub fn need(&self) -> usize {
        self.groups.iter().map(|g| g.need).sum()
    }

    /// Whether one more answer of this node helps.
    pub fn wants(&self, node: NodeId, answered: &BTreeSet<NodeId>) -> bool {
        self.groups.iter().any(|g| g.members.contains(&node) && count(g, answered) < g.need)
    }
}

fn count(group: &Group, nodes: &BTreeSet<NodeId>) -> usize {
    group.members.iter().filter(|node| nodes.contains(node)).count()
}

fn groups_of(
    level: Level,
    layout: &Layout,
    set: &[NodeId],
    local: &Region,
) -> Result<Vec<Group>, InvalidLevel> {
    let mut regions: BTreeMap<&Region, Vec<NodeId>> = BTreeMap::new();
    for node in set {
        if let Some(info) = layout.nodes.get(node) {
            regions.entry(&info.region).or_default().push(*node);
        }
    }
    let near = regions.get(local).cloned().unwrap_or_default();
    let majority = |n: usize| n / 2 + 1;
    let (members, need) = match level {
        Level::Any | Level::One => (set.to_vec(), 1),
        Level::Two => (set.to_vec(), 2),
        Level::Three => (set.to_vec(), 3),
        Level::Exactly(k) => (set.to_vec(), usize::from(k.max(1))),
        Level::Quorum => (set.to_vec(), majority(set.len())),
        Level::All => (set.to_vec(), set.len().max(1)),
        Level::LocalOne => (near, 1),
        Level::LocalQuorum => {
            let need = majority(near.len());
            (near, need)
        }
        Level::EachQuorum => {
            return Ok(regions
                .into_values()
                .map(|members| Group { need: majority(members.len()), members })
                .collect());
        }
    };
    if need > members.len() {
        return Err(InvalidLevel { level, need, of: members.len() });
    }
    Ok(vec![Group { members, need }])
}

#[cfg(test)]
mod tests;
