//! Who is elected: the freshest, then whom its operator wants.

use std::time::Duration;

use common::ids::NodeId;
use leader::key_value::{Command, KeyValue};
use leader::{ReadLevel, ReadOptions, ReplicationMode, WriteOptions};

use crate::group::{Group, story};

/// Behaviour 5 of the design: five voters, a write that only the leader and one follower hold, and
/// the leader gone with its disk. Any three of the others could elect one that lacks it.
#[test]
fn a_semi_synchronous_write_survives_the_leader_among_five() {
    for seed in 0..40 {
        story(|| async move {
            let mut group = Group::started(5, 100 + seed).await;
            for id in group.ids() {
                group.put(id, "first", "value").await;
            }
            group.converge().await;
            let leader = group.leader().await;
            let others: Vec<NodeId> = group.ids().into_iter().filter(|id| *id != leader).collect();
            let holder = others[seed as usize % others.len()];
            for id in others.iter().filter(|id| **id != holder) {
                group.net.cut(leader, *id);
                group.net.cut(*id, leader);
            }
            let mut options = WriteOptions::mode(ReplicationMode::SemiSync { followers: 1 });
            options.timeout = Duration::from_millis(300);
            let set = Command::set("key", "held by two");
            let written = group.node(leader).write(set, options).await.unwrap();
            assert!(!written.report.committed, "{:?}", written.report);
            group.unplug(leader);
            let read = group.read(others[0], "key", ReadLevel::Strong).await;
            assert_eq!(read.as_deref(), Some("held by two"), "seed {seed}");
        });
    }
}

#[test]
fn the_leadership_goes_to_whom_its_operator_wants_and_comes_back() {
    story(|| async {
        let group = Group::new(3, 150).with(|config| {
            config.election_priority = if config.node == NodeId(2) { 5 } else { 1 };
        });
        let mut group = group.start_all().await;
        let led = |group: &Group, by: NodeId| {
            let node = group.node(NodeId(1));
            async move { node.wait_until(Duration::from_secs(30), |s| s.leader == Some(by)).await }
        };
        led(&group, NodeId(2)).await.unwrap();
        group.kill(NodeId(2));
        let other = group.leader().await;
        assert_ne!(other, NodeId(2));
        group.put(other, "key", "value").await;
        group.start(NodeId(2)).await;
        led(&group, NodeId(2)).await.unwrap();
        assert_eq!(group.get(NodeId(2), "key").await.as_deref(), Some("value"));
    });
}

/// Behaviour 21: who is wanted least leads only when nobody else can.
#[test]
fn a_voter_of_priority_0_leads_only_as_the_last_resort() {
    story(|| async {
        let group = Group::new(3, 151).with(|config| {
            config.election_priority = u8::from(config.node != NodeId(3));
        });
        let mut group = group.start_all().await;
        for round in 0..5 {
            let leader = group.leader().await;
            assert_ne!(leader, NodeId(3), "round {round}");
            group.kill(leader);
            let next = group.leader().await;
            assert_ne!(next, NodeId(3), "round {round}");
            group.start(leader).await;
            group.converge().await;
        }
        // Only it and an empty log are left of a majority: it must lead, and hands over.
        let [one, two, three] = [1, 2, 3].map(NodeId);
        let leader = group.leader().await;
        let other = if leader == one { two } else { one };
        group.kill(other);
        group.put(leader, "only here", "value").await;
        group.kill(leader);
        group.start(other).await;
        let last = group.node(three);
        last.wait_until(Duration::from_secs(60), |s| s.leader.is_some()).await.unwrap();
        let read = group.read(other, "only here", ReadLevel::Strong).await;
        assert_eq!(read.as_deref(), Some("value"));
        let handed = group
            .node(three)
            .wait_until(Duration::from_secs(60), |s| s.leader.is_some_and(|by| by != three))
            .await;
        assert!(handed.is_ok());
        let view = group.node(other).view(ReadOptions::level(ReadLevel::Strong)).await.unwrap();
        assert!(KeyValue::get(&view, view.clock(), b"only here").unwrap().is_some());
    });
}
