//! When a write is acknowledged, and what is said of it otherwise.

use std::time::Duration;

use common::ids::NodeId;
use common::outcome::{HasOutcome, Outcome};
use leader::key_value::{Command, KeyValue};
use leader::{Config, ReadLevel, ReadOptions, ReplicationMode};

use crate::elections::{others, quick};
use crate::group::{Group, patient, story};

/// openraft#1802: with uneven followers a commit is counted that no majority holds.
pub(crate) fn commit_without_quorum() {
    for voters in [3_u64, 5, 7] {
        story(|| async move {
            let group = Group::started(voters, 1100 + voters).await;
            let leader = group.leader().await;
            group.put(leader, "key", "1").await;
            // One disk too few, the leader's included.
            let rest = others(&group, leader);
            let spare = usize::try_from(voters / 2).unwrap() - 1;
            for id in &rest[spare..] {
                group.disk(*id).stall_syncs(true);
            }
            let put = || Command::put("key", "2");
            let node = group.node(leader);
            let told = node.write(put(), quick(ReplicationMode::Quorum, 400)).await;
            assert!(told.is_err(), "acknowledged by {} of {voters} disks", spare + 1);
            group.disk(rest[spare]).stall_syncs(false);
            assert_eq!(group.get(leader, "key").await.as_deref(), Some("2"));
        });
    }
}

/// MongoDB 2.4 to 3.4.0-rc3: a write that a majority acknowledged is gone after failovers.
pub(crate) fn majority_ack_lost() {
    story(|| async {
        let mut group = Group::started(3, 1110).await;
        for round in 0..30 {
            let leader = group.leader().await;
            for id in group.ids() {
                let hours = i64::try_from(id.0).unwrap() - 2;
                group.set_wall_offset(id, 3_600_000 * hours);
            }
            group.put(leader, "key", &round.to_string()).await;
            let victims = if round % 3 == 0 { group.ids() } else { vec![leader] };
            for id in &victims {
                group.unplug(*id);
            }
            for id in &victims {
                group.start(*id).await;
            }
            let on = group.ids()[round % 3];
            assert_eq!(group.get(on, "key").await, Some(round.to_string()), "round {round}");
        }
        group.converge().await;
    });
}

/// etcd#14370: a single node acknowledges what its disk does not hold.
pub(crate) fn single_node_ack() {
    story(|| async {
        let group = Group::started(1, 1120).await;
        group.put(NodeId(1), "key", "1").await;
        group.disk(NodeId(1)).stall_syncs(true);
        for mode in [ReplicationMode::Async, ReplicationMode::Quorum] {
            let set = Command::set("key", "2");
            let told = group.node(NodeId(1)).write(set, quick(mode.clone(), 300)).await;
            assert!(told.is_err(), "{mode} was acknowledged");
        }
        group.disk(NodeId(1)).stall_syncs(false);
    });
}

/// MySQL: semi-synchronous replication becomes asynchronous when it takes too long.
pub(crate) fn silent_async_fallback() {
    story(|| async {
        let group = Group::started(5, 1130).await;
        let leader = group.leader().await;
        group.put(leader, "key", "1").await;
        for id in others(&group, leader) {
            group.net.cut(leader, id);
        }
        let mode = ReplicationMode::SemiSync { followers: 1 };
        let told = group.node(leader).write(Command::set("key", "2"), quick(mode, 400)).await;
        assert_eq!(told.unwrap_err().outcome(), Outcome::Unknown);
        group.net.heal_all();
        group.put(leader, "another", "value").await;
        group.converge().await;
    });
}

/// Patroni#1412, MySQL AFTER_COMMIT: a wait is cancelled, somebody sees the write, and a failover
/// takes it away.
pub(crate) fn cancelled_wait_visible_then_lost() {
    story(|| async {
        let mut group = Group::started(5, 1140).await;
        let leader = group.leader().await;
        group.put(leader, "key", "1").await;
        let rest = others(&group, leader);
        for id in &rest[1..] {
            group.net.cut(leader, *id);
        }
        let node = group.node(leader);
        let waiting = tokio::spawn(node.write(Command::set("key", "2"), patient()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        waiting.abort();
        for _ in 0..10 {
            for id in [leader, rest[0]] {
                let value = group.read(id, "key", ReadLevel::Eventual).await;
                assert_eq!(value.as_deref(), Some("1"), "visible on {id} before the commit");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(waiting);
        group.unplug(leader);
        group.unplug(rest[0]);
        assert_eq!(group.get(rest[1], "key").await.as_deref(), Some("1"));
    });
}

/// consul#2893, dragonboat#303: a write is called failed although it is in the next leader's log.
pub(crate) fn unknown_after_leadership_loss() {
    story(|| async {
        let group = Group::started(3, 1150).await;
        let leader = group.leader().await;
        group.put(leader, "key", "1").await;
        let rest = others(&group, leader);
        for id in &rest {
            group.net.cut(*id, leader);
        }
        let put = Command::put("key", "2");
        let told = group.node(leader).write(put, quick(ReplicationMode::Quorum, 2_000)).await;
        assert_eq!(told.unwrap_err().outcome(), Outcome::Unknown);
        assert_eq!(group.get(rest[0], "key").await.as_deref(), Some("2"), "it took effect");
    });
}

fn small_tail(config: &mut Config) {
    config.max_uncommitted_bytes = 16 << 10;
}

/// etcd-io/raft#11, scylladb#31402: a leader without followers takes writes until it has no memory.
pub(crate) fn uncommitted_tail_unbounded() {
    story(|| async {
        let group = Group::new(3, 1160).with(small_tail).start_all().await;
        let leader = group.leader().await;
        group.put(leader, "key", "1").await;
        group.net.isolate(leader);
        let mut writes = Vec::new();
        for number in 0..100 {
            let set = Command::set(format!("key {number}"), "v".repeat(3_000));
            let write = group.node(leader).write(set, quick(ReplicationMode::Async, 300));
            writes.push(tokio::spawn(write));
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let mut acknowledged = 0;
        for write in writes {
            acknowledged += usize::from(write.await.unwrap().is_ok());
        }
        assert!((1..8).contains(&acknowledged), "{acknowledged} of 3 KB, where 16 KiB may be open");
    });
}

/// MongoDB 4.2.6, TiDB 2.1.7: what is sent again after a lost answer is applied again.
pub(crate) fn retry_applies_twice() {
    story(|| async {
        let group = Group::started(3, 1170).await;
        let leader = group.leader().await;
        let writer = others(&group, leader)[0];
        group.add(writer, "count").await;
        for _ in 0..10 {
            // Requests arrive, answers do not.
            group.net.cut(leader, writer);
            let node = group.node(writer);
            let write = tokio::spawn(node.write(Command::increment("count", 1), patient()));
            tokio::time::sleep(Duration::from_millis(200)).await;
            group.net.heal_all();
            write.await.unwrap().unwrap();
        }
        assert_eq!(group.get(writer, "count").await.as_deref(), Some("11"));
    });
}

/// MongoDB's rollback files: what was deleted is not in them.
pub(crate) fn deletes_missing_from_rollback() {
    story(|| async {
        let group = Group::started(3, 1180).await;
        let old = group.leader().await;
        group.put(old, "gone", "value").await;
        group.add(old, "count").await;
        group.converge().await;
        group.net.isolate(old);
        let commands =
            [Command::set("put", "v"), Command::delete("gone"), Command::increment("count", 1)];
        for command in commands.clone() {
            let _ = group.node(old).write(command, quick(ReplicationMode::Async, 100)).await;
        }
        let other = others(&group, old)[0];
        group.put(other, "after", "value").await;
        group.net.rejoin(old);
        group.converge().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let node = group.node(old);
        let mut kept = Vec::new();
        for file in node.rollbacks().await.unwrap() {
            kept.extend(node.rolled_back(&file.name).await.unwrap());
        }
        let kept: Vec<_> = kept.into_iter().filter_map(|lost| lost.command).collect();
        assert_eq!(kept, commands);
    });
}

/// openraft#1810: one follower that never answers stops the others.
pub(crate) fn hung_follower_freezes_core() {
    // The control: where both followers hang, nothing is acknowledged.
    for (hung, lives) in [(1, true), (2, false)] {
        story(|| async move {
            let group = Group::started(3, 1190).await;
            let leader = group.leader().await;
            group.put(leader, "key", "1").await;
            for id in &others(&group, leader)[..hung] {
                group.pause(*id);
            }
            for number in 0..200 {
                let put = Command::put("key", number.to_string());
                let told = group.node(leader).write(put, quick(ReplicationMode::Quorum, 200)).await;
                assert_eq!(told.is_ok(), lives, "write {number}: {told:?}");
                if !lives {
                    return;
                }
            }
            let view = group.node(leader).view(ReadOptions::level(ReadLevel::Strong)).await;
            let view = view.unwrap();
            let record = KeyValue::get(&view, view.clock(), b"key").unwrap().unwrap();
            assert_eq!(record.value, b"199"[..]);
        });
    }
}
