//! What a failover takes back is kept, told, and can be written again.

use std::time::Duration;

use common::ids::NodeId;
use common::receipt::LogReceipt;
use leader::key_value::{Command, KeyValue};
use leader::rollback::{AbsentKeys, RollbackError};
use leader::{Event, Node, ReplicationMode, WriteOptions};

use crate::group::{Group, PATIENCE, story};

const SHORT: Duration = Duration::from_millis(200);

/// The receipts in all rollback files of a node, in order.
async fn kept(node: &Node<KeyValue>) -> Vec<LogReceipt> {
    let mut receipts = Vec::new();
    for file in node.rollbacks().await.unwrap() {
        let commands = node.rolled_back(&file.name).await.unwrap();
        assert_eq!(commands.len() as u64, file.commands);
        assert!(commands.iter().all(|lost| lost.command.is_some()));
        receipts.extend(commands.into_iter().map(|lost| lost.receipt));
    }
    receipts
}

async fn wait_for_files(node: &Node<KeyValue>) {
    while node.rollbacks().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A cut-off leader acknowledges `key 0` to `key 9`, each under its own name, and a failover loses
/// them. The node, and what it has acknowledged.
async fn lose_ten(group: &Group) -> (NodeId, Vec<LogReceipt>) {
    let old = group.leader().await;
    let other = group.ids().into_iter().find(|id| *id != old).unwrap();
    let node = group.node(old);
    group.net.isolate(old);
    let mut lost = Vec::new();
    for number in 0..10 {
        let mut options = WriteOptions::mode(ReplicationMode::Async);
        options.timeout = SHORT;
        let set = Command::set(format!("key {number}"), "lost");
        lost.push(node.write(set, options).await.unwrap().receipt);
    }
    group.put(other, "after", "the failover").await;
    (old, lost)
}

async fn group(seed: u64) -> Group {
    let group = Group::started(3, seed).await;
    for id in group.ids() {
        group.put(id, "key 0", "before").await;
        group.put(id, "key 1", "before").await;
    }
    group.converge().await;
    group
}

/// Behaviours 3 and 27 of the design.
#[test]
fn the_rollback_file_holds_exactly_what_was_lost() {
    story(|| async {
        let group = group(60).await;
        let leader = group.leader().await;
        let mut events = group.node(leader).events();
        let (old, lost) = lose_ten(&group).await;
        assert_eq!(old, leader);
        group.net.rejoin(old);
        group.converge().await;
        let node = group.node(old);
        wait_for_files(&node).await;
        assert_eq!(kept(&node).await, lost);
        let told = loop {
            if let Event::RolledBack(file) = events.recv().await.unwrap() {
                break file;
            }
        };
        assert_eq!([told], *node.rollbacks().await.unwrap());
        for id in group.ids().into_iter().filter(|id| *id != old) {
            assert_eq!(kept(&group.node(id)).await, [], "{id} has lost nothing");
        }
    });
}

/// The leader dies with its tail and comes back as a follower, again and again: by its log, and by
/// a snapshot, with which the tail is never truncated but purged.
#[test]
fn what_a_dead_leader_held_is_kept_when_it_comes_back() {
    for snapshot in [false, true] {
        story(|| async {
            let group = Group::new(3, 61).with(|config| config.keep_entries = 1);
            let mut group = group.start_all().await;
            for id in group.ids() {
                group.put(id, "first", "value").await;
            }
            let (old, lost) = lose_ten(&group).await;
            group.unplug(old);
            group.net.rejoin(old);
            if snapshot {
                let leader = group.leader().await;
                for number in 0..40 {
                    group.put(leader, &format!("more {number}"), "value").await;
                }
                for id in group.running() {
                    group.node(id).checkpoint().await.unwrap();
                    group.node(id).checkpoint().await.unwrap();
                }
            }
            group.start(old).await;
            group.converge().await;
            wait_for_files(&group.node(old)).await;
            assert_eq!(kept(&group.node(old)).await, lost, "snapshot: {snapshot}");
            let purged = group.node(old).status().purged;
            assert_eq!(purged > Some(lost[9].at), snapshot, "{purged:?}");
            for _ in 0..3 {
                group.unplug(old);
                group.start(old).await;
                group.converge().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(kept(&group.node(old)).await, lost, "no twice, no less");
            }
        });
    }
}

#[test]
fn a_replay_brings_back_only_what_nobody_has_touched_since() {
    story(|| async {
        let group = group(62).await;
        let (old, _) = lose_ten(&group).await;
        let other = group.ids().into_iter().find(|id| *id != old).unwrap();
        group.put(other, "key 1", "newer").await;
        group.net.rejoin(old);
        group.converge().await;
        let node = group.node(old);
        wait_for_files(&node).await;
        let name = node.rollbacks().await.unwrap().remove(0).name;
        let replayed = node.replay(&name, AbsentKeys::Stay, PATIENCE).await.unwrap();
        assert_eq!((replayed.written, replayed.changed, replayed.never), (1, 9, 0));
        assert_eq!(group.get(old, "key 0").await.as_deref(), Some("lost"));
        assert_eq!(group.get(old, "key 1").await.as_deref(), Some("newer"));
        assert_eq!(group.get(old, "key 2").await, None);
        let replayed = node.replay(&name, AbsentKeys::Written, PATIENCE).await.unwrap();
        assert_eq!((replayed.written, replayed.changed), (8, 2));
        assert_eq!(group.get(old, "key 2").await.as_deref(), Some("lost"));
        let replayed = node.replay(&name, AbsentKeys::Written, PATIENCE).await.unwrap();
        assert_eq!(replayed.written, 0, "a second time does no harm");
        assert_eq!(group.get(old, "key 1").await.as_deref(), Some("newer"));
        for wrong in ["nothing", "../id", "0-1-2-3"] {
            let refused = node.rolled_back(wrong).await.unwrap_err();
            assert!(matches!(refused, RollbackError::Unknown(_)), "{refused}");
        }
    });
}
