//! Reads at a position: many of them see one cut, for a bounded time.

use std::time::Duration;

use bytes::Bytes;
use common::ids::{LogPos, NodeId};
use common::storage::engine::{KeyRange, PageLimit};
use leader::key_value::{Command, KeyValue, Operation};
use leader::{ReadError, ReadLevel, ReadOptions};

use crate::group::{Group, patient, story};

const PAGE: PageLimit = PageLimit { items: 1_000, bytes: 32 << 10 };

/// Reads everything in pages, each by a read of its own, with a pause after each: the sum of the
/// values, the number of keys, and the most bytes that a page had.
async fn scan(group: &Group, on: NodeId, at: LogPos) -> (i64, usize, usize) {
    let (mut range, mut sum, mut keys, mut most) = (KeyRange::all(), 0, 0, 0);
    loop {
        let view = group.node(on).view(ReadOptions::level(ReadLevel::At(at))).await.unwrap();
        assert_eq!(view.applied(), at);
        let page = KeyValue::scan(&view, view.clock(), &range, PAGE).unwrap();
        keys += page.items.len();
        most = most.max(page.items.iter().map(|(key, r)| key.len() + r.value.len()).sum());
        for (_, record) in &page.items {
            sum += std::str::from_utf8(&record.value).unwrap().parse::<i64>().unwrap();
        }
        match page.items.last() {
            Some((last, _)) if page.more => range = range.after(last.clone()),
            _ => return (sum, keys, most),
        }
        drop(view);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Behaviour 29 of the design, with as many keys as a test affords.
#[test]
fn pages_of_a_scan_of_many_keys_while_writing_are_one_cut() {
    story(|| async {
        const KEYS: usize = 100_000;
        let group = Group::started(3, 310).await;
        let (leader, follower) = (group.leader().await, group.follower().await);
        let key = |n: usize| Bytes::from(format!("{n:06}"));
        let fill = (0..KEYS).step_by(100).map(|from| {
            let then = (from..from + 100).map(|n| Operation::put(key(n), "10")).collect();
            let fill = Command::Transaction { compare: vec![], then, or_else: vec![] };
            group.node(leader).write(fill, patient())
        });
        assert!(futures::future::join_all(fill).await.iter().all(Result::is_ok));
        for on in [leader, follower] {
            let kept = group.node(on).snapshot(ReadOptions::default()).await.unwrap();
            let at = kept.applied();
            drop(kept);
            let scan = scan(&group, on, at);
            // What one key loses, another one gets, and every time a key comes and goes.
            let write = async {
                for n in 0..200_usize {
                    let then = vec![
                        Operation::Increment { key: key(n * 7 % KEYS), by: -1 },
                        Operation::Increment { key: key(KEYS - 1 - n * 11 % KEYS), by: 1 },
                        Operation::put(format!("{:06}x", n * 400), "1000"),
                    ];
                    let moved = Command::Transaction { compare: vec![], then, or_else: vec![] };
                    group.node(on).write(moved, patient()).await.unwrap();
                }
                for n in 0..200 {
                    let gone = Command::delete(format!("{:06}x", n * 400));
                    group.node(on).write(gone, patient()).await.unwrap();
                }
            };
            let ((sum, keys, most), ()) = tokio::join!(scan, write);
            assert_eq!((sum, keys), (10 * i64::try_from(KEYS).unwrap(), KEYS), "on {on}");
            assert!(most <= PAGE.bytes + 64, "a page of {most} bytes");
            assert!(group.node(on).release_snapshot(at));
            assert_eq!(group.node(on).status().snapshots, 0);
        }
    });
}

#[test]
fn a_position_is_kept_for_its_time_and_then_too_old_by_name() {
    story(|| async {
        let group = Group::new(3, 311).with(|config| {
            config.snapshot_retention = Duration::from_secs(2);
            config.max_snapshots = 2;
        });
        let group = group.start_all().await;
        let leader = group.leader().await;
        let node = group.node(leader);
        let mut kept = Vec::new();
        for n in 0..3 {
            group.put(leader, "key", &n.to_string()).await;
            kept.push(node.snapshot(ReadOptions::default()).await.unwrap().applied());
        }
        group.put(leader, "key", "newest").await;
        let at = |at| node.view(ReadOptions::level(ReadLevel::At(at)));
        let too_old = at(kept[0]).await.unwrap_err();
        assert_eq!(too_old, ReadError::SnapshotTooOld { at: kept[0], oldest: Some(kept[1]) });
        for (n, position) in [(1, kept[1]), (2, kept[2])] {
            let view = at(position).await.unwrap();
            let record = KeyValue::get(&view, view.clock(), b"key").unwrap().unwrap();
            assert_eq!(record.value, n.to_string());
        }
        // Joined by another one: it stays when the first one lets it go.
        node.snapshot(ReadOptions::level(ReadLevel::At(kept[2]))).await.unwrap();
        assert!(node.release_snapshot(kept[2]));
        assert!(at(kept[2]).await.is_ok());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let too_old = at(kept[2]).await.unwrap_err();
        assert_eq!(too_old, ReadError::SnapshotTooOld { at: kept[2], oldest: None });
        assert_eq!(node.status().snapshots, 0);
    });
}

/// A token names a position: what was written with it is read at it.
#[test]
fn the_newest_position_can_be_read_at_without_being_kept() {
    story(|| async {
        let group = Group::started(1, 312).await;
        let node = group.node(NodeId(1));
        let put = Command::put("key", "value");
        let token = node.write(put, patient()).await.unwrap().token();
        let view = node.view(ReadOptions::level(ReadLevel::At(token.committed))).await.unwrap();
        assert_eq!(view.applied(), token.committed);
        group.put(NodeId(1), "key", "other").await;
        assert!(node.view(ReadOptions::level(ReadLevel::At(token.committed))).await.is_err());
    });
}
