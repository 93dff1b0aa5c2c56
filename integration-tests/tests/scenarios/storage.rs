//! Logs, snapshots and disks.

use std::time::Duration;

use common::ids::NodeId;
use common::outcome::{HasOutcome, Outcome};
use leader::key_value::{Command, KeyValue};
use leader::{Config, Node, ReplicationMode};

use crate::elections::{others, quick};
use crate::group::{Group, PATIENCE, patient, story};

pub(crate) fn short_log(config: &mut Config) {
    config.keep_entries = 10;
    config.snapshot_chunk_bytes = 512;
    config.wal.segment_bytes = 16 << 10;
}

/// Checkpoints until nothing is left of the log but its end.
pub(crate) async fn purge(node: &Node<KeyValue>) {
    let applied = node.status().applied.unwrap().index;
    let mut asked = 0;
    while node.status().purged.is_none_or(|purged| purged.index + 50 < applied) {
        node.checkpoint().await.unwrap();
        asked += 1;
        assert!(asked < 200, "the log stays: {:?}", node.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A member that is away while the log behind it is purged.
async fn left_behind(seed: u64) -> (Group, NodeId, NodeId) {
    let mut group = Group::new(3, seed).with(short_log).start_all().await;
    let away = group.follower().await;
    let leader = group.leader().await;
    group.add(others(&group, leader)[0], "count").await;
    group.kill(away);
    for number in 0..300 {
        group.put(leader, &format!("key {number:03}"), "value").await;
    }
    for id in group.running() {
        purge(&group.node(id)).await;
    }
    (group, leader, away)
}

/// openstack-experimental/keystone PR #1293: a snapshot lacks what is not in the main keyspace.
pub(crate) fn snapshot_omits_keyspace() {
    story(|| async {
        let (mut group, leader, away) = left_behind(1200).await;
        let node = group.start(away).await;
        group.converge().await;
        assert_eq!(node.status().sessions, group.node(leader).status().sessions);
    });
}

/// openraft#1828: a follower behind everything that is kept is never brought up.
pub(crate) fn follower_behind_full_purge() {
    story(|| async {
        let (mut group, _, away) = left_behind(1210).await;
        group.start(away).await;
        for number in 0..300 {
            let value = group.get(away, &format!("key {number:03}")).await;
            assert_eq!(value.as_deref(), Some("value"), "key {number:03}");
        }
        group.converge().await;
    });
}

/// openraft#1761, PR #1762: a leader that lost its place gets a snapshot, and its callers wait for
/// ever.
pub(crate) fn stranded_after_snapshot() {
    story(|| async {
        let group = Group::new(3, 1220).with(short_log).start_all().await;
        let old = group.leader().await;
        group.put(old, "key", "1").await;
        group.converge().await;
        group.net.isolate(old);
        let mut calls = Vec::new();
        for number in 0..10 {
            let set = Command::set(format!("lost {number}"), "value");
            calls.push(tokio::spawn(group.node(old).write(set, patient())));
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let other = others(&group, old)[0];
        for number in 0..300 {
            group.put(other, &format!("key {number}"), "value").await;
        }
        for id in others(&group, old) {
            purge(&group.node(id)).await;
        }
        group.net.rejoin(old);
        group.converge().await;
        for call in calls {
            let told = tokio::time::timeout(PATIENCE, call).await.expect("the call ends").unwrap();
            if let Err(error) = told {
                assert_ne!(error.outcome(), Outcome::Applied, "{error}");
            }
        }
        let mut kept = 0;
        for file in group.node(old).rollbacks().await.unwrap() {
            kept += file.commands;
        }
        assert_eq!(kept, 10, "each lost command is kept once");
    });
}

/// rqlite#2759: an installation that is interrupted leaves a mixture.
pub(crate) fn restore_diverges() {
    story(|| async {
        let (mut group, _, away) = left_behind(1230).await;
        for step in 0..30 {
            group.boot_and_unplug(away, Duration::from_millis(2 * step)).await;
        }
        group.start(away).await;
        group.converge().await;
        let value = group.get(away, "key 299").await;
        assert_eq!(value.as_deref(), Some("value"));
        for number in 0..300 {
            let value = group.get(away, &format!("key {number:03}")).await;
            assert_eq!(value.as_deref(), Some("value"), "key {number:03}");
        }
    });
}

/// etcd#13766, #17780: a crash between an entry's data and its position. The disk stops after each
/// change of a script with checkpoints in it.
pub(crate) fn applied_index_apart_from_data() {
    story(|| async {
        let mut group = Group::new(1, 1240).with(short_log).start_all().await;
        let one = NodeId(1);
        let (mut acknowledged, mut tried) = (group.add(one, "count").await, 1);
        for changes in 0..120 {
            group.disk(one).stop_after(changes);
            for number in 0..8 {
                let add = Command::increment("count", 1);
                let mode = ReplicationMode::Quorum;
                let told = group.node(one).write(add, quick(mode, 100)).await;
                tried += 1;
                acknowledged += i64::from(told.is_ok());
                if number == 3 {
                    let node = group.node(one);
                    let checkpoint = node.checkpoint();
                    let _ = tokio::time::timeout(Duration::from_millis(100), checkpoint).await;
                }
            }
            group.unplug(one);
            group.start(one).await;
            let value = group.get(one, "count").await.unwrap().parse::<i64>().unwrap();
            assert!(
                (acknowledged..=tried).contains(&value),
                "{value} after {changes} changes: {acknowledged} acknowledged, {tried} tried"
            );
        }
    });
}

/// fjall-rs/fjall#311: a journal is cut where it is damaged, with valid records behind.
pub(crate) fn journal_cut_in_the_middle() {
    story(|| async {
        let mut group = Group::started(3, 1250).await;
        let away = group.follower().await;
        for number in 0..50 {
            group.put(away, &format!("key {number}"), "value").await;
        }
        group.converge().await;
        group.unplug(away);
        let files = group.disk(away).files();
        let (log, _) = files.into_iter().find(|(name, _)| name.contains("wal/")).unwrap();
        group.disk(away).flip(&log, 1_000, 0x10);
        let (env, engines, config) = group.boot(away);
        let inner = env.clone();
        let opening = env.spawn("open", Node::open(inner, engines, KeyValue, config));
        let opened = opening.await.unwrap().map(|node| node.status().role);
        assert!(opened.is_err_and(|e| !e.to_string().is_empty()), "a damaged log was taken");
        let leader = group.leader().await;
        group.put(leader, "others", "go on").await;
    });
}
