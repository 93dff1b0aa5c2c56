//! Layouts that change while nodes run.

use std::collections::BTreeMap;

use common::ids::NodeId;
use leaderless::layout::{Change, Layout, PartitionSet};

use crate::group::{Group, story};

/// Node 4 is removed while it is down, and comes back with its old disk.
pub(crate) async fn removed_node_comes_back() -> bool {
    let mut group = Group::started(4, 21).await;
    group.unplug(NodeId(4));
    // Nothing is stored yet, so all partitions may count as moved.
    let leaving = group.layout.begin(Change::Leave(vec![NodeId(4)])).unwrap().layout;
    let synced = leaving.sync(&PartitionSet::all(leaving.bits), &BTreeMap::new()).unwrap();
    let next = synced.finish().unwrap();
    assert!(!next.nodes.contains_key(&NodeId(4)));
    let adopted = |layout: &Layout, group: &Group, id| group.node(id).adopt(layout.clone());
    assert!(adopted(&next, &group, NodeId(1)));
    group
        .until("spread", || (1..=3).all(|id| group.node(NodeId(id)).layout().epoch == next.epoch))
        .await;
    group.start(NodeId(4)).await;
    for _ in 0..200 {
        if group.node(NodeId(4)).status().removed {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    false
}

#[test]
fn a_removed_node_that_comes_back_with_its_old_disk_is_fenced() {
    story(|| async { assert!(removed_node_comes_back().await) });
}

#[cfg(feature = "unstable-mutants")]
#[test]
#[expect(clippy::disallowed_methods, reason = "mutants are selected per thread")]
fn a_removed_node_that_is_not_fenced_is_noticed() {
    let run = || {
        common::mutant::select(Some("removed_node_not_fenced"));
        a_removed_node_that_comes_back_with_its_old_disk_is_fenced();
    };
    assert!(std::thread::spawn(run).join().is_err());
}
