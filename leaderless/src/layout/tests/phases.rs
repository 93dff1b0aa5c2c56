//! The phases of a change as a table, and its steps.

use std::collections::BTreeMap;

use common::ids::{Incarnation, NodeId};

use super::{apart, cluster, factor, region};
use crate::layout::{
    Change, ChangeError, Epoch, Intent, Layout, NewNode, NodeState, Partition, PartitionSet, Phase,
    Verdict, may_finish,
};

/// Epoch 1: nodes 1, 2, 3. Epoch 2: node 4 joins. Epoch 3: half is synced. Epoch 4: all.
fn steps() -> [Layout; 5] {
    let stable = cluster(apart(3), factor(&[("eu", 3)]));
    let moving = stable.begin(Change::Join(apart(1))).unwrap().layout;
    let half: PartitionSet = (0..32).map(Partition).collect();
    let half = moving.sync(&half, &BTreeMap::new()).unwrap();
    let synced = half.sync(&PartitionSet::all(half.bits), &BTreeMap::new()).unwrap();
    let done = synced.finish().unwrap();
    [stable, moving, half, synced, done]
}

/// A partition below 32 that node 4 takes over, and who leaves it.
fn moved(layout: &Layout) -> (Partition, NodeId) {
    let mine = |p: &Partition| p.0 < 32 && layout.owners.owns(NodeId(4), *p);
    let partition = layout.bits.all().find(mine).unwrap();
    let left = [1, 2, 3].map(NodeId).into_iter().find(|n| !layout.owners.owns(*n, partition));
    (partition, left.unwrap())
}

/// Section 4.11's table: what each phase serves and refuses, by the view of the sender.
#[test]
fn each_phase_refuses_exactly_the_views_that_would_miss_a_write() {
    use Intent::{Read, Write};
    use Verdict::{Ahead, NotOwner, Serve, Stale};
    let [stable, moving, half, synced, done] = steps();
    let (partition, leaver) = moved(&moving);
    let stays = moving.owners.of(partition).iter().copied().find(|n| *n != NodeId(4)).unwrap();
    let joiner = NodeId(4);
    #[rustfmt::skip]
    let table = [
        // at        by       intent  view  verdict
        (&stable, stays,  Read,  1, Serve),    (&stable, stays,  Write, 1, Serve),
        (&stable, stays,  Read,  2, Ahead),    (&stable, stays,  Write, 2, Ahead),
        (&stable, joiner, Read,  1, NotOwner), (&stable, joiner, Write, 1, NotOwner),
        // Moving: old views may read where reads are served, and must not write.
        (&moving, stays,  Read,  1, Serve),    (&moving, stays,  Write, 1, Stale),
        (&moving, stays,  Read,  2, Serve),    (&moving, stays,  Write, 2, Serve),
        (&moving, leaver, Read,  1, Serve),    (&moving, leaver, Write, 2, Serve),
        (&moving, joiner, Read,  2, NotOwner), (&moving, joiner, Write, 2, Serve),
        // Synced: views of the change may write to both sets, and older ones must not read.
        (&half,   stays,  Read,  1, Stale),    (&half,   stays,  Write, 1, Stale),
        (&half,   stays,  Read,  2, Stale),    (&half,   stays,  Write, 2, Serve),
        (&half,   stays,  Read,  3, Serve),    (&half,   joiner, Read,  3, Serve),
        (&half,   leaver, Read,  3, NotOwner), (&half,   leaver, Write, 2, Serve),
        (&synced, joiner, Read,  4, Serve),    (&synced, joiner, Read,  3, Stale),
        // Stable again: everything older is refused, and the old owner is none.
        (&done,   stays,  Read,  4, Stale),    (&done,   stays,  Write, 4, Stale),
        (&done,   stays,  Read,  5, Serve),    (&done,   joiner, Write, 5, Serve),
        (&done,   leaver, Read,  5, NotOwner), (&done,   leaver, Write, 5, NotOwner),
    ];
    for (row, (layout, node, intent, view, verdict)) in table.into_iter().enumerate() {
        assert_eq!(layout.judge(node, partition, intent, Epoch(view)), verdict, "row {row}");
    }
    let phases = [&stable, &moving, &half, &synced, &done].map(|l| l.phase(partition));
    assert_eq!(phases, [Phase::Stable, Phase::Moving, Phase::Synced, Phase::Synced, Phase::Stable]);
    assert!(moving.live_sets(partition).pending(joiner));
    assert!(!moving.may_coordinate(joiner, partition) && moving.may_coordinate(leaver, partition));
    assert!(half.may_coordinate(joiner, partition) && !half.may_coordinate(leaver, partition));
}

/// Any two views that replicas may serve at one time: a read quorum meets every write quorum.
#[test]
fn a_read_and_a_write_that_are_both_served_share_an_owner() {
    let layouts = steps();
    let (partition, _) = moved(&layouts[1]);
    let quorum = |set: &[NodeId], of: &[NodeId]| {
        set.iter().filter(|n| of.contains(n)).count() > set.len() / 2
    };
    let all: Vec<NodeId> = (1..=4).map(NodeId).collect();
    let subsets = |bits: u32| -> Vec<NodeId> {
        all.iter().enumerate().filter(|(at, _)| bits & (1 << at) != 0).map(|(_, n)| *n).collect()
    };
    // Each replica is at one of two neighbouring layouts; writer and reader as well.
    for pair in layouts.windows(2) {
        for views in 0..16u32 {
            let at = |node: NodeId| &pair[((views >> (node.0 - 1)) & 1) as usize];
            for (writer, reader) in
                [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(w, r)| (&pair[w], &pair[r]))
            {
                let serves = |node: &NodeId, view: &Layout, intent| {
                    at(*node).judge(*node, partition, intent, view.epoch) == Verdict::Serve
                };
                for (w, r) in (0..256u32).map(|bits| (subsets(bits & 15), subsets(bits >> 4))) {
                    let written = w.iter().all(|n| serves(n, writer, Intent::Write))
                        && writer.live_sets(partition).writers().iter().all(|set| quorum(set, &w));
                    let read = r.iter().all(|n| serves(n, reader, Intent::Read))
                        && quorum(reader.live_sets(partition).readers(), &r);
                    let shared = w.iter().any(|n| r.contains(n));
                    // A write served before the step to `Synced` is caught by the barrier.
                    let barrier = pair[1].phase(partition) == Phase::Synced
                        && pair[0].phase(partition) == Phase::Moving;
                    assert!(!(written && read) || shared || barrier, "{w:?} {r:?} {views:b}");
                }
            }
        }
    }
}

#[test]
fn a_change_ends_when_no_read_of_the_old_view_can_succeed() {
    let [_, moving, _, synced, _] = steps();
    let (partition, _) = moved(&moving);
    let adopted = |count: u64| move |node: NodeId| node.0 <= count;
    let none = |_: NodeId| false;
    assert!(!may_finish(&moving, partition, adopted(3), none, 1), "not synced");
    assert!(!may_finish(&synced, partition, adopted(2), none, 1));
    assert!(may_finish(&synced, partition, adopted(3), none, 1));
    assert!(may_finish(&synced, partition, adopted(2), |node| node == NodeId(3), 1), "forced");
    assert!(may_finish(&synced, partition, adopted(2), none, 2), "weak reads are forbidden");
    assert_eq!(moving.finish(), Err(ChangeError::NotSynced(64)));
}

#[test]
fn an_aborted_change_is_gone_at_once_only_while_nothing_is_synced() {
    let [stable, moving, half, ..] = steps();
    let back = moving.abort().unwrap();
    assert_eq!((&back.owners, &back.previous), (&stable.owners, &None));
    assert!(!back.nodes.contains_key(&NodeId(4)));
    let (partition, _) = moved(&moving);
    assert_eq!(back.judge(NodeId(1), partition, Intent::Write, moving.epoch), Verdict::Stale);

    let way_back = half.abort().unwrap();
    assert_eq!(way_back.phase(partition), Phase::Moving);
    let sets = way_back.live_sets(partition);
    assert_eq!(sets.readers(), half.owners.of(partition), "reads stay where they are");
    assert_eq!(sets.current, stable.owners.of(partition));
    assert_eq!(way_back.judge(NodeId(4), partition, Intent::Read, Epoch(1)), Verdict::Stale);
    assert_eq!(way_back.nodes[&NodeId(4)].state, NodeState::Leaving);
    let all = PartitionSet::all(way_back.bits);
    let done = way_back.sync(&all, &BTreeMap::new()).unwrap().finish().unwrap();
    assert!(!done.nodes.contains_key(&NodeId(4)) && done.owners == stable.owners);
}

#[test]
fn a_pending_change_is_replaced_and_its_base_stays() {
    let [stable, moving, ..] = steps();
    let other = moving.begin(Change::Join(apart(1))).unwrap().layout;
    assert_eq!(other.previous.as_ref(), Some(&stable.owners));
    let partition = Partition(0);
    assert_eq!(other.judge(NodeId(1), partition, Intent::Read, Epoch(1)), Verdict::Serve);
    assert_eq!(other.judge(NodeId(1), partition, Intent::Write, Epoch(2)), Verdict::Stale);
}

#[test]
fn a_replacement_takes_the_dead_nodes_place_and_nothing_else_moves() {
    let stable = cluster(apart(8), factor(&[("eu", 3)]));
    let dead = NodeId(8);
    let with = NewNode { capacity: 900, ..apart(1).remove(0) };
    let planned = stable.begin(Change::Replace { dead, with: with.clone() }).unwrap();
    assert_eq!(planned.moves, stable.owners.owned_by(dead).count());
    let steward = stable.stewards[0];
    assert_eq!(
        stable.begin(Change::Replace { dead: steward, with }),
        Err(ChangeError::Steward(steward))
    );
}

#[test]
fn a_node_that_lost_its_storage_answers_no_reads_before_it_has_it_again() {
    let stable = cluster(apart(3), factor(&[("eu", 3)]));
    let lost = stable.reincarnate(NodeId(2), Incarnation(2), "n2:1".into()).unwrap();
    let (p, epoch) = (Partition(5), Epoch(2));
    assert_eq!(lost.judge(NodeId(2), p, Intent::Read, epoch), Verdict::NotSynced);
    assert_eq!(lost.judge(NodeId(2), p, Intent::Write, epoch), Verdict::Serve);
    assert!(!lost.may_coordinate(NodeId(2), p));
    let again = lost.recovered(NodeId(2), &PartitionSet::all(lost.bits)).unwrap();
    assert_eq!(again.judge(NodeId(2), p, Intent::Read, Epoch(3)), Verdict::Serve);
    assert!(again.unsynced.is_empty());
}

#[test]
fn preferences_begin_at_home_and_rotate_with_the_token() {
    let mut nodes = apart(5);
    nodes.extend(["x", "y", "z"].map(|rack| super::node("us", rack, 100)));
    let layout = cluster(nodes, factor(&[("eu", 3), ("us", 2)]));
    let mut firsts = std::collections::BTreeSet::new();
    for low in 0..6u64 {
        let token = crate::layout::Token(low);
        let preference = layout.preference(token, &region("eu"));
        assert_eq!(preference.current.len(), 5);
        let near = |node: &NodeId| layout.nodes[node].region == region("eu");
        assert!(
            preference.current[..3].iter().all(near) && !preference.current[3..].iter().any(near)
        );
        assert_eq!(preference.fallbacks.len(), 2);
        assert!(preference.fallbacks.iter().all(|n| near(n) && !preference.current.contains(n)));
        assert!(preference.previous.is_empty());
        firsts.insert(preference.current[0]);
    }
    assert_eq!(firsts.len(), 3, "each owner coordinates");
    let moving = layout.begin(Change::Leave(vec![NodeId(7)])).unwrap().layout;
    let preference = moving.preference(crate::layout::Token(0), &region("us"));
    assert_eq!(preference.previous.len(), 5);
}
