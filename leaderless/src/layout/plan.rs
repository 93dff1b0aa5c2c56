//! Placement: which nodes own each partition.

use std::collections::BTreeMap;

use common::ids::{NodeId, Region};

use super::flow::Flow;
use super::quotas::{Place, number_racks, quotas, rack_bounds};
use super::{Bits, NodeInfo, Owners, Rack};

/// The largest replication factor of a region.
pub const MAX_FACTOR: u8 = 15;

/// Why there is no placement. Nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A region has fewer nodes that can own partitions than its factor.
    #[error(
        "region {region} needs {need} nodes with capacity for its factor and has {have}: add nodes or lower the factor"
    )]
    TooFewNodes {
        /// The region.
        region: Region,
        /// Its factor.
        need: u8,
        /// Its nodes that can own partitions.
        have: usize,
    },
    /// No region has a factor above zero.
    #[error("no region has a replication factor: give at least one region a factor of 1 or more")]
    NoFactor,
    /// A factor is beyond [`MAX_FACTOR`].
    #[error("region {region} asks for {factor} replicas: at most 15 are allowed")]
    FactorTooLarge {
        /// The region.
        region: Region,
        /// The factor.
        factor: u8,
    },
}

/// What a placement could not do as well as an operator may expect. It is valid all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A region has fewer racks than its factor, so racks hold several replicas of a partition.
    RacksShared {
        /// The region.
        region: Region,
        /// Its racks.
        racks: usize,
        /// Its factor.
        factor: u8,
    },
    /// A node is full by the rules (one replica of a partition per node, racks) before its
    /// capacity is used.
    CapacityUnused {
        /// The node.
        node: NodeId,
        /// How much of its capacity is used when the region is full, in percent.
        used_percent: u8,
    },
    /// A region has nodes that own nothing, because it has more of them than replicas.
    Idle {
        /// The node.
        node: NodeId,
    },
}

/// Places the partitions: per region exactly its factor, then racks, then the most usable
/// capacity, then the fewest moves from `previous`, ties by node id.
///
/// * never two replicas of a partition on one node, nor in one rack while the region has as many
///   racks as its factor; with fewer they are spread as evenly as possible, with a warning;
/// * the smallest capacity per replica is as large as possible, and equal nodes that no rack binds
///   differ by one replica at most;
/// * among all placements with these numbers of replicas, one with the fewest moves.
///
/// Equal input gives equal output on every machine.
pub fn plan(
    bits: Bits,
    previous: Option<&Owners>,
    nodes: &BTreeMap<NodeId, NodeInfo>,
    factors: &BTreeMap<Region, u8>,
) -> Result<(Owners, Vec<Warning>), PlanError> {
    if factors.values().all(|factor| *factor == 0) {
        return Err(PlanError::NoFactor);
    }
    let mut rows: Vec<Vec<NodeId>> = vec![Vec::new(); bits.partitions() as usize];
    let mut warnings = Vec::new();
    for (region, &factor) in factors.iter().filter(|(_, factor)| **factor > 0) {
        if factor > MAX_FACTOR {
            return Err(PlanError::FactorTooLarge { region: region.clone(), factor });
        }
        place_region(region, factor, previous, nodes, &mut rows, &mut warnings)?;
    }
    Ok((Owners::from_rows(rows), warnings))
}

fn place_region(
    region: &Region,
    factor: u8,
    previous: Option<&Owners>,
    nodes: &BTreeMap<NodeId, NodeInfo>,
    rows: &mut [Vec<NodeId>],
    warnings: &mut Vec<Warning>,
) -> Result<(), PlanError> {
    let inside: Vec<(NodeId, &NodeInfo)> = nodes
        .iter()
        .filter(|(_, info)| info.region == *region && info.plannable())
        .map(|(node, info)| (*node, info))
        .collect();
    if inside.len() < usize::from(factor) {
        let (region, need, have) = (region.clone(), factor, inside.len());
        return Err(PlanError::TooFewNodes { region, need, have });
    }
    let numbers: BTreeMap<NodeId, usize> =
        inside.iter().enumerate().map(|(at, (node, _))| (*node, at)).collect();
    let before: Vec<Vec<usize>> = (0..rows.len())
        .map(|partition| {
            let row =
                previous.map_or(&[][..], |owners| owners.of(super::Partition(partition as u32)));
            row.iter().filter_map(|node| numbers.get(node).copied()).collect()
        })
        .collect();
    let racks: BTreeMap<&Rack, usize> = number_racks(inside.iter().map(|(_, info)| &info.rack));
    let mut sizes = vec![0u32; racks.len()];
    let mut places: Vec<Place> = Vec::with_capacity(inside.len());
    for (node, info) in &inside {
        let rack = racks[&info.rack];
        sizes[rack] += 1;
        places.push(Place { node: *node, rack, capacity: info.capacity, had: 0 });
    }
    for at in before.iter().flatten() {
        places[*at].had += 1;
    }
    let bounds = rack_bounds(&sizes, u32::from(factor));
    let quotas = quotas(&places, &bounds, rows.len() as u32, u32::from(factor));
    if racks.len() < usize::from(factor) {
        let (region, racks) = (region.clone(), racks.len());
        warnings.push(Warning::RacksShared { region, racks, factor });
    }
    warnings.extend(unused(&places, &quotas));
    let placed = Flow::new(&places, &bounds, &quotas, &before, usize::from(factor)).run();
    for (row, placed) in rows.iter_mut().zip(placed) {
        row.extend(placed.into_iter().map(|at| places[at].node));
    }
    Ok(())
}

/// Nodes whose capacity the rules leave unused by more than a tenth.
fn unused(places: &[Place], quotas: &[u32]) -> Vec<Warning> {
    let fullness = |(place, quota): (&Place, &u32)| {
        (*quota > 0).then(|| f64::from(place.capacity) / f64::from(*quota))
    };
    let size = places.iter().zip(quotas).filter_map(fullness).fold(f64::INFINITY, f64::min);
    let judge = |(place, quota): (&Place, &u32)| {
        if *quota == 0 {
            return Some(Warning::Idle { node: place.node });
        }
        // One replica more would not fit, so up to one replica may stay unused.
        let used = (f64::from(*quota + 1) * size / f64::from(place.capacity)).min(1.0);
        let used_percent = (used * 100.0) as u8;
        (used_percent < 90).then_some(Warning::CapacityUnused { node: place.node, used_percent })
    };
    places.iter().zip(quotas).filter_map(judge).collect()
}
