//! What is acknowledged is read, at the level asked for; what is refused is never seen.

use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClusterId, NodeId};
use common::outcome::{HasOutcome, Outcome};
use common::receipt::{Fate, Receipt};
use common::token::DotsToken;
use leaderless::{Level, ReadOptions, WriteError, WriteOptions};

use crate::group::{Group, PATIENCE, key, story, text};

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn every_node_takes_writes_and_reads_them_everywhere() {
    story(|| async {
        let group = Group::started(5, 1).await;
        for id in group.ids() {
            let name = format!("key {id}");
            let keys = group.keys(id);
            let written = keys.put(&key(&name), value("v"), WriteOptions::default()).await.unwrap();
            assert!(written.achieved.len() >= 2);
            for reader in group.ids() {
                assert_eq!(group.values(reader, &name).await, ["v"], "{id} {reader}");
            }
            let receipt = Receipt::Dots(written.receipt);
            let fate = group.node(NodeId(1)).resolve(&receipt, PATIENCE).await.unwrap();
            assert_eq!(fate, Fate::Committed);
        }
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn acknowledged_writes_survive_power_loss_of_all_machines() {
    for seed in 0..5 {
        story(|| async move {
            let mut group = Group::started(3, 100 + seed).await;
            for i in 0..40 {
                let keys = group.keys(NodeId(1 + i % 3));
                keys.put(&key(&format!("k{i}")), value(&i.to_string()), WriteOptions::default())
                    .await
                    .unwrap();
            }
            for id in group.ids() {
                group.unplug(id);
            }
            for id in group.ids() {
                group.start(id).await;
            }
            for i in 0..40 {
                let found = group.values(NodeId(1 + i % 3), &format!("k{i}")).await;
                assert_eq!(found, [i.to_string()], "k{i}");
            }
            assert!(group.settle().await);
            assert!(group.equal());
        });
    }
}

#[test]
fn siblings_are_kept_and_a_write_with_their_context_replaces_them() {
    story(|| async {
        let group = Group::started(3, 2).await;
        for id in 1..=3 {
            let keys = group.keys(NodeId(id));
            keys.put(&key("k"), value(&id.to_string()), WriteOptions::default()).await.unwrap();
        }
        let read = group.keys(NodeId(1)).get(&key("k"), ReadOptions::default()).await.unwrap();
        assert_eq!(read.values.len(), 3);
        let options = WriteOptions::default().after(read.context);
        group.keys(NodeId(2)).put(&key("k"), value("all"), options).await.unwrap();
        assert_eq!(group.values(NodeId(3), "k").await, ["all"]);
    });
}

#[test]
fn one_client_with_contexts_never_makes_siblings_whoever_coordinates() {
    story(|| async {
        let group = Group::started(3, 3).await;
        let mut context = None;
        for i in 0..200_u64 {
            let keys = group.keys(NodeId(1 + i * 7 % 3));
            let mut options = WriteOptions::default();
            options.context = context;
            let written = keys.put(&key("k"), value(&i.to_string()), options).await.unwrap();
            context = Some(written.context);
            assert_eq!(group.values(NodeId(1 + i % 3), "k").await, [i.to_string()]);
        }
    });
}

#[test]
fn without_enough_owners_nothing_is_written_or_the_outcome_is_unknown() {
    story(|| async {
        let mut group = Group::started(3, 4).await;
        group.unplug(NodeId(2));
        group.unplug(NodeId(3));
        let keys = group.keys(NodeId(1));
        let mut options = WriteOptions::default();
        options.timeout = Duration::from_millis(300);
        let first = keys.put(&key("k"), value("maybe"), options.clone()).await.unwrap_err();
        assert_eq!(first.outcome(), Outcome::Unknown, "{first}");
        let second = keys.put(&key("k"), value("never"), options).await.unwrap_err();
        assert!(matches!(second, WriteError::Unavailable { need: 2, live: 1 }), "{second}");
        group.start(NodeId(2)).await;
        group.start(NodeId(3)).await;
        assert!(group.settle().await);
        let WriteError::Unknown { receipt: Some(receipt), .. } = first else { panic!("{first}") };
        let fate = group.node(NodeId(2)).resolve(&Receipt::Dots(receipt), PATIENCE).await.unwrap();
        assert_eq!(fate, Fate::Committed);
        assert_eq!(group.values(NodeId(3), "k").await, ["maybe"]);
    });
}

#[test]
fn a_session_reads_its_own_write_at_level_one() {
    story(|| async {
        let group = Group::started(3, 5).await;
        let mut token = DotsToken::new(ClusterId(1));
        for i in 0..50_u64 {
            let name = format!("k{}", i % 5);
            let keys = group.keys(NodeId(1 + i % 3));
            let read = keys.get(&key(&name), ReadOptions::default()).await.unwrap();
            let mut options = WriteOptions::level(Level::One).after(read.context);
            options.token = Some(token.clone());
            let written = keys.put(&key(&name), value(&i.to_string()), options).await.unwrap();
            let receipt = written.receipt;
            token.saw(receipt.keyspace, receipt.partition, receipt.dot, written.at).unwrap();
            let mut options = ReadOptions::level(Level::One);
            options.token = Some(token.clone());
            let read = group.keys(NodeId(1 + (i + 1) % 3)).get(&key(&name), options).await.unwrap();
            let found: Vec<_> = read.values.iter().map(|s| text(&s.value)).collect();
            assert_eq!(found, [i.to_string()]);
        }
    });
}

#[test]
fn local_quorums_go_on_and_each_quorum_is_refused_when_a_region_is_cut() {
    story(|| async {
        let regions = ["a", "a", "a", "b", "b", "b"];
        let group = Group::in_regions(&regions, 3, 6).start_all().await;
        for a in 1..=3 {
            for b in 4..=6 {
                group.net.cut(NodeId(a), NodeId(b));
                group.net.cut(NodeId(b), NodeId(a));
            }
        }
        let write = |level| {
            let mut options = WriteOptions::level(level);
            options.timeout = Duration::from_millis(500);
            options
        };
        for id in [1, 4] {
            let keys = group.keys(NodeId(id));
            let name = key(&format!("of {id}"));
            keys.put(&name, value("v"), write(Level::LocalQuorum)).await.unwrap();
            let read = keys.get(&name, ReadOptions::level(Level::LocalQuorum)).await.unwrap();
            assert_eq!(read.values.len(), 1);
            assert!(keys.put(&name, value("w"), write(Level::EachQuorum)).await.is_err());
        }
        group.net.heal_all();
        assert!(group.settle().await);
        assert!(group.equal());
    });
}
