//! Balance, racks, capacity and least movement.

use std::collections::BTreeMap;

use common::ids::{Incarnation, NodeId};
use proptest::prelude::*;

use super::{apart, factor, node};
use crate::layout::{Bits, NewNode, NodeInfo, NodeState, Owners, PlanError, Rack, Warning, plan};

fn members(nodes: &[NewNode]) -> BTreeMap<NodeId, NodeInfo> {
    let info = |node: &NewNode| NodeInfo {
        address: node.address.clone(),
        region: node.region.clone(),
        rack: node.rack.clone(),
        capacity: node.capacity,
        incarnation: Incarnation(1),
        state: NodeState::Serving,
    };
    (1..).map(NodeId).zip(nodes.iter().map(info)).collect()
}

fn counts(owners: &Owners) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for node in owners.rows().flat_map(|(_, row)| row) {
        *counts.entry(*node).or_default() += 1;
    }
    counts
}

/// Checks what holds for every plan.
fn valid(owners: &Owners, nodes: &BTreeMap<NodeId, NodeInfo>, factors: &[(&str, u8)]) {
    for (partition, row) in owners.rows() {
        assert!(row.windows(2).all(|pair| pair[0] < pair[1]), "a node twice in {partition:?}");
        for (name, factor) in factors {
            let inside = || nodes.iter().filter(|(_, i)| i.region.0 == *name && i.capacity > 0);
            let owns = row.iter().filter(|n| nodes[n].region.0 == *name).count();
            assert_eq!(owns, usize::from(*factor), "{partition:?} in {name}");
            let mut sizes: BTreeMap<&Rack, (usize, usize)> = BTreeMap::new();
            for (node, info) in inside() {
                let size = sizes.entry(&info.rack).or_default();
                size.0 += 1;
                size.1 += usize::from(row.contains(node));
            }
            // As even as possible: a rack below the fullest one's level minus one must be full.
            let fullest = sizes.values().map(|(_, held)| *held).max().unwrap_or(0);
            for (size, held) in sizes.values() {
                assert!(*held + 1 >= fullest || held == size, "{partition:?}: {sizes:?}");
            }
        }
    }
}

#[test]
fn sixty_equal_nodes_are_within_two_percent() {
    let bits = Bits::DEFAULT;
    let nodes = members(&apart(60));
    let (owners, warnings) = plan(bits, None, &nodes, &factor(&[("eu", 3)])).unwrap();
    valid(&owners, &nodes, &[("eu", 3)]);
    assert_eq!(warnings, []);
    let counts = counts(&owners);
    assert_eq!((counts.values().min(), counts.values().max()), (Some(&51), Some(&52)));
    // Who is away is covered by many: its partners are not a few neighbours.
    let partners: std::collections::BTreeSet<_> = owners
        .rows()
        .filter(|(_, row)| row.contains(&NodeId(1)))
        .flat_map(|(_, row)| row)
        .collect();
    assert!(partners.len() > 40, "{} partners", partners.len());
}

#[test]
fn one_node_more_moves_its_share_and_nothing_else() {
    let factors = factor(&[("eu", 3)]);
    let (before, _) = plan(Bits::DEFAULT, None, &members(&apart(8)), &factors).unwrap();
    let nodes = members(&apart(9));
    let (after, _) = plan(Bits::DEFAULT, Some(&before), &nodes, &factors).unwrap();
    valid(&after, &nodes, &[("eu", 3)]);
    assert_eq!(after.moves_from(&before), counts(&after)[&NodeId(9)]);
    let (back, _) = plan(Bits::DEFAULT, Some(&after), &members(&apart(8)), &factors).unwrap();
    assert_eq!(back.moves_from(&after), counts(&after)[&NodeId(9)]);
}

#[test]
fn the_same_cluster_stays_as_it_is() {
    let nodes = members(&[
        node("eu", "a", 3),
        node("eu", "a", 5),
        node("eu", "b", 9),
        node("eu", "c", 4),
        node("us", "x", 1),
        node("us", "y", 1),
    ]);
    let factors = factor(&[("eu", 3), ("us", 2)]);
    let bits = Bits::new(8).unwrap();
    let (owners, _) = plan(bits, None, &nodes, &factors).unwrap();
    valid(&owners, &nodes, &[("eu", 3), ("us", 2)]);
    assert_eq!(plan(bits, Some(&owners), &nodes, &factors).unwrap().0, owners);
}

#[test]
fn capacity_decides_where_racks_allow_it() {
    let nodes = members(&[node("eu", "a", 100), node("eu", "b", 200), node("eu", "c", 300)]);
    let bits = Bits::new(6).unwrap();
    let (owners, _) = plan(bits, None, &nodes, &factor(&[("eu", 1)])).unwrap();
    let counts = counts(&owners).into_values().collect::<Vec<_>>();
    assert_eq!(counts, [11, 21, 32]);
    // With as many replicas as nodes each has all, and the largest is far from full.
    let (_, warnings) = plan(bits, None, &nodes, &factor(&[("eu", 3)])).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(matches!(warnings[1], Warning::CapacityUnused { node: NodeId(3), used_percent: 33 }));
}

#[test]
fn too_few_racks_are_shared_with_a_warning() {
    let nodes =
        members(&[node("eu", "a", 9), node("eu", "a", 9), node("eu", "b", 9), node("eu", "b", 9)]);
    let (owners, warnings) =
        plan(Bits::new(6).unwrap(), None, &nodes, &factor(&[("eu", 3)])).unwrap();
    valid(&owners, &nodes, &[("eu", 3)]);
    assert!(matches!(&warnings[..], [Warning::RacksShared { racks: 2, factor: 3, .. }]));
}

#[test]
fn what_cannot_be_placed_is_refused_by_name() {
    let bits = Bits::new(4).unwrap();
    let nodes = members(&[node("eu", "a", 1), node("eu", "b", 0)]);
    assert!(matches!(
        plan(bits, None, &nodes, &factor(&[("eu", 2)])),
        Err(PlanError::TooFewNodes { need: 2, have: 1, .. })
    ));
    assert_eq!(plan(bits, None, &nodes, &factor(&[("eu", 0)])), Err(PlanError::NoFactor));
    assert!(matches!(
        plan(bits, None, &nodes, &factor(&[("eu", 16)])),
        Err(PlanError::FactorTooLarge { factor: 16, .. })
    ));
}

/// The largest number of replicas that can stay by the numbers of `after` alone.
fn could_stay(before: &Owners, after: &Owners) -> usize {
    let (had, quota) = (counts(before), counts(after));
    had.iter().map(|(node, had)| (*had).min(quota.get(node).copied().unwrap_or(0))).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn plans_are_balanced_spread_and_move_little(
        first in proptest::collection::vec((0usize..5, 1u32..4), 3..9),
        joins in proptest::collection::vec((0usize..6, 1u32..4), 0..4),
        leaves in proptest::collection::btree_set(0usize..9, 0..3),
        rf in 1u8..4,
        bits in 4u8..7,
    ) {
        let bits = Bits::new(bits).unwrap();
        let all: Vec<NewNode> =
            first.iter().chain(&joins).map(|(r, c)| node("eu", &format!("r{r}"), c * 10)).collect();
        let factors = factor(&[("eu", rf)]);
        let old = members(&all[..first.len()]);
        let (before, _) = plan(bits, None, &old, &factors).unwrap();
        valid(&before, &old, &[("eu", rf)]);
        let mut new = members(&all);
        new.retain(|node, _| !leaves.contains(&(node.0 as usize - 1)));
        prop_assume!(new.len() >= usize::from(rf));
        let (after, _) = plan(bits, Some(&before), &new, &factors).unwrap();
        valid(&after, &new, &[("eu", rf)]);
        // Nodes of one rack and capacity differ by one replica at most.
        let counts = counts(&after);
        for (a, info_a) in &new {
            for (b, info_b) in &new {
                if info_a.rack == info_b.rack && info_a.capacity == info_b.capacity {
                    let count = |node| counts.get(node).copied().unwrap_or(0);
                    prop_assert!(count(a).abs_diff(count(b)) <= 1);
                }
            }
        }
        // Never more stays than the quotas allow; that no plan moves less is asserted by the flow.
        let total = after.width() * after.partitions();
        prop_assert!(total - after.moves_from(&before) <= could_stay(&before, &after));
        // Once placed, it stays.
        prop_assert_eq!(plan(bits, Some(&after), &new, &factors).unwrap().0, after);
    }
}
