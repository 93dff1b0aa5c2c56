//! A delete never comes back, however long an owner was away, and costs nothing in the end.

use std::time::Duration;

use bytes::Bytes;
use common::ids::NodeId;
use leaderless::{Level, ReadOptions, WriteError, WriteOptions};

use crate::group::{Group, key, story};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn a_delete_stays_deleted_when_an_owner_returns_after_a_month() {
    story(|| async {
        let mut group = Group::started(3, 11).await;
        let keys = group.keys(NodeId(1));
        let written =
            keys.put(&key("k"), value("v"), WriteOptions::level(Level::All)).await.unwrap();
        group.unplug(NodeId(3));
        let options = WriteOptions::default().after(written.context);
        keys.delete(&key("k"), options).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        assert_eq!(group.node(NodeId(1)).status().tombstones, 1, "it waits for the third owner");
        group.start(NodeId(3)).await;
        assert!(group.settle().await, "and goes when that knows it");
        for id in group.ids() {
            assert_eq!(group.values(id, "k").await, Vec::<String>::new());
            assert_eq!(group.node(id).fingerprint(), Ok(0), "nothing is left");
        }
    });
}

#[test]
fn a_lost_disk_is_copied_before_it_serves_and_nothing_acknowledged_is_lost() {
    story(|| async {
        let mut group = Group::started(3, 12).await;
        for i in 0..60 {
            let keys = group.keys(NodeId(1 + i % 3));
            let name = key(&format!("k{i}"));
            let written = keys.put(&name, value("v"), WriteOptions::default()).await.unwrap();
            if i % 4 == 0 {
                keys.delete(&name, WriteOptions::default().after(written.context)).await.unwrap();
            }
        }
        group.lose_disk(NodeId(2));
        group.start(NodeId(2)).await;
        assert!(!group.node(NodeId(2)).status().synced);
        group.ready().await;
        assert!(group.settle().await);
        assert!(group.equal());
        for i in 0..60 {
            let expected = if i % 4 == 0 { vec![] } else { vec!["v".to_owned()] };
            assert_eq!(group.values(NodeId(2), &format!("k{i}")).await, expected, "k{i}");
        }
    });
}

#[test]
fn the_last_writer_wins_and_a_node_with_a_wrong_clock_stamps_nothing() {
    story(|| async {
        let group = Group::started(3, 13).await;
        let last = group.last(NodeId(1));
        last.put(&key("k"), value("1"), WriteOptions::default()).await.unwrap();
        group.last(NodeId(2)).put(&key("k"), value("2"), WriteOptions::default()).await.unwrap();
        let read = last.get(&key("k"), ReadOptions::default()).await.unwrap();
        assert_eq!(read.values, Some(value("2")));
        group.jump(NodeId(1), 3_600_000);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let refused = last.put(&key("k"), value("3"), WriteOptions::default()).await.unwrap_err();
        assert!(matches!(refused, WriteError::ClockSkew { .. }), "{refused}");
        let two = group.last(NodeId(2));
        two.put(&key("k"), value("4"), WriteOptions::default().after(read.context)).await.unwrap();
        let read = two.get(&key("k"), ReadOptions::default()).await.unwrap();
        assert_eq!(read.values, Some(value("4")));
        two.delete(&key("k"), WriteOptions::default().after(read.context)).await.unwrap();
        assert!(group.settle().await, "the second round ends, too");
        assert_eq!(group.node(NodeId(3)).fingerprint(), Ok(0));
    });
}
