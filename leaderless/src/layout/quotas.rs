//! How many replicas each node of a region gets: the most usable capacity, racks respected.
//!
//! All partitions are alike, so a placement exists for exactly those quotas that respect the
//! limits of nodes and racks in sum (integral flows decompose). Quotas can therefore be found
//! without looking at a single partition.

use std::collections::BTreeMap;

use common::ids::NodeId;

use super::Rack;

/// A node that can be given replicas.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) node: NodeId,
    pub(super) rack: usize,
    pub(super) capacity: u32,
    /// Replicas that it has now: between equals, who has more keeps more.
    pub(super) had: u32,
}

/// How many replicas of one partition a rack takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RackBounds {
    pub(super) least: u32,
    pub(super) most: u32,
}

/// The bounds of each rack by its number of nodes, so that a partition's replicas are spread as
/// evenly as the racks allow. With at least `factor` racks none takes two.
pub(super) fn rack_bounds(sizes: &[u32], factor: u32) -> Vec<RackBounds> {
    let held = |level: u32| sizes.iter().map(|size| (*size).min(level)).sum::<u32>();
    let level = (1..=factor).find(|level| held(*level) >= factor).unwrap_or(factor);
    sizes
        .iter()
        .map(|size| RackBounds { least: (level - 1).min(*size), most: level.min(*size) })
        .collect()
}

/// Numbers the racks of a region in the order of their names.
pub(super) fn number_racks<'a>(
    racks: impl Iterator<Item = &'a Rack> + Clone,
) -> BTreeMap<&'a Rack, usize> {
    let mut numbers: BTreeMap<&Rack, usize> = racks.map(|rack| (rack, 0)).collect();
    for (at, number) in numbers.values_mut().enumerate() {
        *number = at;
    }
    numbers
}

/// The replicas that each place gets; their sum is `partitions * factor`.
///
/// Slots are given one by one to the place with the most capacity per replica (highest averages).
/// That makes the smallest capacity per replica as large as it can be, and equal nodes differ by
/// one at most. Mandatory slots of racks are given first.
pub(super) fn quotas(
    places: &[Place],
    bounds: &[RackBounds],
    partitions: u32,
    factor: u32,
) -> Vec<u32> {
    let mut quotas = vec![0u32; places.len()];
    let mut filled = vec![0u64; bounds.len()];
    for (rack, bound) in bounds.iter().enumerate() {
        for _ in 0..u64::from(bound.least) * u64::from(partitions) {
            let inside = (0..places.len()).filter(|at| places[*at].rack == rack);
            let Some(best) = best(places, &quotas, inside, partitions) else { break };
            quotas[best] += 1;
            filled[rack] += 1;
        }
    }
    let total = u64::from(partitions) * u64::from(factor);
    while filled.iter().sum::<u64>() < total {
        let open = |at: &usize| {
            let rack = places[*at].rack;
            filled[rack] < u64::from(bounds[rack].most) * u64::from(partitions)
        };
        let open = (0..places.len()).filter(open);
        let Some(best) = best(places, &quotas, open, partitions) else { break };
        quotas[best] += 1;
        filled[places[best].rack] += 1;
    }
    quotas
}

/// The place with the most capacity for one more replica; between equals the one that has more of
/// its present replicas to keep, then the smaller id.
fn best(
    places: &[Place],
    quotas: &[u32],
    candidates: impl Iterator<Item = usize>,
    partitions: u32,
) -> Option<usize> {
    candidates.filter(|at| quotas[*at] < partitions).max_by(|a, b| {
        let average = |at: &usize, other: &usize| {
            u64::from(places[*at].capacity) * (u64::from(quotas[*other]) + 1)
        };
        let keeps = |at: &usize| places[*at].had > quotas[*at];
        average(a, b)
            .cmp(&average(b, a))
            .then_with(|| keeps(a).cmp(&keeps(b)))
            .then_with(|| places[*b].node.cmp(&places[*a].node))
    })
}
