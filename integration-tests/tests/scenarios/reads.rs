//! What a read may show, by its level.

use std::time::Duration;

use common::ids::NodeId;
use leader::key_value::{Command, KeyValue};
use leader::watch::{Filter, WatchError, WatchFrom};
use leader::{ReadLevel, ReadOptions, ReplicationMode};

use crate::elections::{others, quick};
use crate::group::{Group, PATIENCE, patient, story};
use crate::storage::{purge, short_log};

/// The value on a node, or nothing where the read fails or the key is absent.
async fn seen(group: &Group, on: NodeId, key: &str, options: ReadOptions) -> Option<String> {
    let view = group.node(on).view(options).await.ok()?;
    let record = KeyValue::get(&view, view.clock(), key.as_bytes()).unwrap();
    record.map(|r| String::from_utf8(r.value.to_vec()).unwrap())
}

/// etcd#20418, dqlite#258: a leader that was paused answers from the time before.
pub(crate) fn paused_leader_reads() {
    for (seed, level) in [(1000, ReadLevel::Strong), (1001, ReadLevel::Lease)] {
        story(|| async move {
            let group = Group::started(3, seed).await;
            let old = group.leader().await;
            group.put(old, "key", "1").await;
            group.pause(old);
            let other = others(&group, old)[0];
            group.put(other, "key", "2").await;
            let node = group.node(old);
            let mut options = ReadOptions::level(level);
            options.timeout = PATIENCE;
            let read = node.view(options);
            let asked = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
            });
            asked.await.unwrap();
            tokio::time::sleep(Duration::from_secs(10)).await;
            group.resume(old);
            if let Ok(view) = read.await {
                let record = KeyValue::get(&view, view.clock(), b"key").unwrap().unwrap();
                assert_eq!(record.value, b"2"[..], "what was true before the pause");
            }
        });
    }
}

/// MySQL Group Replication WL#11123: a new primary answers before it has applied its backlog.
pub(crate) fn new_leader_reads_backlog() {
    for seed in 1010..1015 {
        story(|| async move {
            let mut group = Group::started(3, seed).await;
            let old = group.leader().await;
            for number in 0..30 {
                group.put(old, "key", &number.to_string()).await;
            }
            group.kill(old);
            for id in group.running() {
                assert_eq!(group.get(id, "key").await.as_deref(), Some("29"), "on {id}");
            }
        });
    }
}

/// TiDB#60446: a follower answers a strong read by what it knew of the former leader.
pub(crate) fn follower_read_over_leader_change() {
    story(|| async {
        let group = Group::started(3, 1020).await;
        for round in 0..20 {
            let leader = group.leader().await;
            group.put(leader, "key", &round.to_string()).await;
            let node = group.node(leader);
            let moving = tokio::spawn(async move { node.transfer(None).await });
            for id in group.ids() {
                let value = group.get(id, "key").await;
                assert_eq!(value, Some(round.to_string()), "round {round} on {id}");
            }
            moving.await.unwrap().unwrap();
        }
    });
}

/// MongoDB 3.6.4: a session goes back when it meets another member, at some levels.
pub(crate) fn causal_at_every_level() {
    story(|| async {
        let group = Group::started(3, 1030).await;
        let modes = [
            ReplicationMode::Async,
            ReplicationMode::SemiSync { followers: 1 },
            ReplicationMode::Quorum,
        ];
        let leader = group.leader().await;
        group.put(leader, "key", "first").await;
        let mut token = group.node(leader).token().unwrap();
        for round in 0..30 {
            let leader = group.leader().await;
            let behind = others(&group, leader)[round % 2];
            group.net.clog(leader, behind, Duration::from_millis(100));
            let set = Command::set("key", round.to_string());
            let mode = modes[round % 3].clone();
            let written = group.node(leader).write(set, quick(mode, 2_000)).await.unwrap();
            written.note_in(&mut token).unwrap();
            let mut options = ReadOptions::causal(token.clone());
            options.timeout = PATIENCE;
            let value = seen(&group, behind, "key", options).await;
            assert_eq!(value, Some(round.to_string()), "round {round}");
        }
    });
}

/// rqlite#2347: an endpoint forgets the level that it was asked for. Every member, every level,
/// while a member is behind.
pub(crate) fn level_ignored() {
    let bounded = ReadLevel::Bounded(Duration::from_millis(100));
    for (seed, level) in
        [(1040, ReadLevel::Strong), (1041, ReadLevel::Lease), (1042, bounded), (1043, bounded)]
    {
        story(|| async move {
            let group = Group::started(3, seed).await;
            let leader = group.leader().await;
            for id in group.ids() {
                group.put(id, "key", "old").await;
                assert_eq!(group.read(id, "key", level).await.as_deref(), Some("old"));
            }
            for behind in others(&group, leader) {
                group.net.clog(leader, behind, Duration::from_millis(400));
                group.put(leader, "key", &behind.to_string()).await;
                tokio::time::sleep(Duration::from_millis(150)).await;
                for id in group.ids() {
                    let mut options = ReadOptions::level(level);
                    options.timeout = PATIENCE;
                    let value = seen(&group, id, "key", options).await;
                    assert_eq!(value, Some(behind.to_string()), "{level:?} on {id}");
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }
}

/// etcd#14140: a read shows what no disk holds yet.
pub(crate) fn unsynced_read() {
    story(|| async {
        let group = Group::started(1, 1050).await;
        let one = NodeId(1);
        group.put(one, "key", "durable").await;
        group.disk(one).stall_syncs(true);
        let node = group.node(one);
        let write = tokio::spawn(node.write(Command::put("key", "not yet"), patient()));
        tokio::time::sleep(Duration::from_millis(500)).await;
        for level in [ReadLevel::Strong, ReadLevel::Lease, ReadLevel::Eventual] {
            let value = seen(&group, one, "key", ReadOptions::level(level)).await;
            assert_ne!(value.as_deref(), Some("not yet"), "{level:?}");
        }
        group.disk(one).stall_syncs(false);
        write.await.unwrap().unwrap();
        assert_eq!(group.get(one, "key").await.as_deref(), Some("not yet"));
    });
}

/// etcd#15220 and others: a watcher misses changes and is not told.
pub(crate) fn feed_gaps() {
    story(|| async {
        let mut group = Group::new(3, 1060).with(short_log).start_all().await;
        let away = group.follower().await;
        group.put(away, "key", "first").await;
        group.converge().await;
        let from = group.node(away).status().applied.unwrap();
        group.kill(away);
        let leader = group.leader().await;
        for number in 0..300 {
            group.put(leader, &format!("key {number}"), "value").await;
        }
        purge(&group.node(leader)).await;
        let node = group.start(away).await;
        group.converge().await;
        let mut watch = match node.watch(WatchFrom::After(from), Filter::default()) {
            Ok(watch) => watch,
            Err(told) => return assert!(matches!(told, WatchError::Compacted { .. }), "{told:?}"),
        };
        let told = tokio::time::timeout(Duration::from_secs(5), watch.next()).await;
        assert!(matches!(told, Ok(Err(WatchError::Compacted { .. }))), "a gap untold: {told:?}");
    });
}
