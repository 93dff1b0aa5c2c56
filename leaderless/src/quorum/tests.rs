use super::*;
use crate::layout::{Bits, Change, NewNode, Rack};

fn new_node(id: u64, region: &str) -> NewNode {
    let (address, rack) = (format!("n{id}"), Rack(format!("r{id}")));
    NewNode { address, region: Region(region.into()), rack, capacity: 1 }
}

fn layout(regions: &[&str]) -> Layout {
    let nodes = regions.iter().zip(1..).map(|(region, id)| new_node(id, region)).collect();
    let factors = regions.iter().map(|r| (Region((*r).into()), 3)).collect();
    Layout::first(Bits::new(4).unwrap(), 1, nodes, factors).unwrap().0
}

fn met(quorum: &Quorum, nodes: &[NodeId]) -> bool {
    quorum.is_met(&nodes.iter().copied().collect())
}

/// Owners ABC become ABD: a quorum is one in each set on its own.
#[test]
fn while_a_layout_changes_a_write_meets_its_level_in_both_sets() {
    let here = Region("a".into());
    let moving = layout(&["a"; 3]).begin(Change::Join(vec![new_node(4, "a")])).unwrap().layout;
    let partition = moving.bits.all().find(|p| moving.owners.owns(NodeId(4), *p)).unwrap();
    let sets = moving.live_sets(partition);
    let stays: Vec<NodeId> = sets.current.iter().copied().filter(|n| n.0 != 4).collect();
    let (a, b, d) = (stays[0], stays[1], NodeId(4));
    let c = *sets.previous.iter().find(|n| !sets.current.contains(n)).unwrap();
    let quorum = Quorum::of_write(Level::Quorum, &moving, &sets, &here).unwrap();
    for (nodes, expected) in [
        (vec![a, b], true),
        (vec![a, c, d], true),
        (vec![b, c, d], true),
        (vec![a, c], false),
        (vec![a, d], false),
        (vec![c, d], false),
    ] {
        assert_eq!(met(&quorum, &nodes), expected, "{nodes:?}");
    }
    let one = Quorum::of_write(Level::One, &moving, &sets, &here).unwrap();
    for (nodes, expected) in
        [(vec![a], true), (vec![c, d], true), (vec![c], false), (vec![d], false)]
    {
        assert_eq!(met(&one, &nodes), expected, "{nodes:?}");
    }
}

#[test]
fn levels_count_as_their_names_say() {
    let layout = layout(&["a", "a", "a", "b", "b", "b"]);
    let sets = layout.live_sets(crate::layout::Partition(0));
    let need = |level, region: &str| {
        Quorum::of_write(level, &layout, &sets, &Region(region.into())).map(|q| q.need()).ok()
    };
    for (level, expected) in [
        (Level::Any, Some(1)),
        (Level::One, Some(1)),
        (Level::Two, Some(2)),
        (Level::Three, Some(3)),
        (Level::Quorum, Some(4)),
        (Level::All, Some(6)),
        (Level::LocalOne, Some(1)),
        (Level::LocalQuorum, Some(2)),
        (Level::EachQuorum, Some(4)),
        (Level::Exactly(5), Some(5)),
        (Level::Exactly(7), None),
    ] {
        assert_eq!(need(level, "a"), expected, "{level:?}");
    }
    assert_eq!(need(Level::LocalOne, "elsewhere"), None);
}

#[cfg(feature = "unstable-mutants")]
#[test]
#[expect(clippy::disallowed_methods, reason = "mutants are selected per thread")]
fn a_pending_owner_that_stands_in_is_noticed() {
    let run = || {
        common::mutant::select(Some("pending_owner_not_counted"));
        while_a_layout_changes_a_write_meets_its_level_in_both_sets();
    };
    assert!(std::thread::spawn(run).join().is_err());
}
