//! Who owns each partition.

use common::ids::NodeId;
use serde::{Deserialize, Serialize};

use super::Partition;

/// The owners of every partition: one row of node ids each, all rows of one width, each in the
/// order of the ids.
///
/// A lookup is one index into one list and allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    width: u16,
    flat: Vec<NodeId>,
}

impl Owners {
    /// Puts rows of one width together, each sorted here.
    ///
    /// # Panics
    /// If rows differ in width: a plan gives every partition as many owners.
    pub(super) fn from_rows(rows: Vec<Vec<NodeId>>) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let mut flat = Vec::with_capacity(rows.len() * width);
        for mut row in rows {
            assert_eq!(row.len(), width, "every partition has as many owners");
            row.sort_unstable();
            flat.extend(row);
        }
        Self { width: width as u16, flat }
    }

    /// The owners of a partition; none for one out of range.
    pub fn of(&self, partition: Partition) -> &[NodeId] {
        let width = usize::from(self.width);
        let at = partition.index() * width;
        self.flat.get(at..at + width).unwrap_or(&[])
    }

    /// Whether the node owns the partition.
    pub fn owns(&self, node: NodeId, partition: Partition) -> bool {
        self.of(partition).contains(&node)
    }

    /// How many owners each partition has.
    pub fn width(&self) -> usize {
        usize::from(self.width)
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.flat.len().checked_div(self.width()).unwrap_or(0)
    }

    /// The rows with their partitions, in order.
    pub fn rows(&self) -> impl Iterator<Item = (Partition, &[NodeId])> {
        self.flat
            .chunks(self.width().max(1))
            .enumerate()
            .map(|(at, row)| (Partition(at as u32), row))
    }

    /// The partitions of a node.
    pub fn owned_by(&self, node: NodeId) -> impl Iterator<Item = Partition> + '_ {
        self.rows().filter(move |(_, row)| row.contains(&node)).map(|(partition, _)| partition)
    }

    /// How many replicas are owned here and were not owned before: what has to be transferred.
    pub fn moves_from(&self, previous: &Self) -> usize {
        let new = |(partition, row): (Partition, &[NodeId])| {
            row.iter().filter(|node| !previous.owns(**node, partition)).count()
        };
        self.rows().map(new).sum()
    }

    /// The same owners with one node in the place of another; the others keep what they have.
    pub(super) fn substitute(&self, dead: NodeId, with: NodeId) -> Self {
        let put = |node: &NodeId| if *node == dead { with } else { *node };
        Self::from_rows(self.rows().map(|(_, row)| row.iter().map(put).collect()).collect())
    }

    /// Whether the rows are as many as said, sorted, without doubles, and full.
    pub(super) fn well_formed(&self, partitions: u32) -> bool {
        self.width > 0
            && self.flat.len() == self.width() * partitions as usize
            && self.rows().all(|(_, row)| row.windows(2).all(|pair| pair[0] < pair[1]))
    }
}
