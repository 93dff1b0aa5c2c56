//! Layouts against golden bytes, tables and properties.

mod bytes;
mod phases;
mod placement;

use std::collections::BTreeMap;

use common::ids::Region;

use super::{Bits, Layout, NewNode, Rack};

pub(super) fn region(name: &str) -> Region {
    Region(name.into())
}

/// A node of a region and rack with a capacity.
pub(super) fn node(in_region: &str, rack: &str, capacity: u32) -> NewNode {
    let address = format!("{in_region}-{rack}:7379");
    NewNode { address, region: region(in_region), rack: Rack(rack.into()), capacity }
}

/// Nodes of one region, each in a rack of its own.
pub(super) fn apart(count: usize) -> Vec<NewNode> {
    (0..count).map(|at| node("eu", &format!("r{at}"), 100)).collect()
}

pub(super) fn factor(of: &[(&str, u8)]) -> BTreeMap<Region, u8> {
    of.iter().map(|(name, factor)| (region(name), *factor)).collect()
}

pub(super) fn cluster(nodes: Vec<NewNode>, factor: BTreeMap<Region, u8>) -> Layout {
    Layout::first(Bits::new(6).unwrap(), 7, nodes, factor).unwrap().0
}
