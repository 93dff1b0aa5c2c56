//! A member whose state is not what it should be is found, serves no reads, and is repaired.

use std::time::Duration;

use common::ids::NodeId;
use common::storage::engine::{Batch, Keyspace};
use leader::{Config, Event, ReadError, ReadLevel, ReadOptions};
use tokio::sync::broadcast::Receiver;

use crate::group::{Group, PATIENCE, story};

const DATA: Keyspace = Keyspace("data");

/// Flips a bit of a key's value in one member's engine, behind its back.
async fn damage(group: &Group, on: NodeId, key: &str) {
    let engine = group.engine(on).await;
    let mut row = engine.get(DATA, key.as_bytes()).unwrap().unwrap().to_vec();
    let value = row.windows(5).position(|bytes| bytes == b"value").unwrap();
    row[value] ^= 1;
    let mut batch = Batch::new();
    batch.put(DATA, key.to_owned(), row);
    engine.write(batch).unwrap();
}

/// Waits for an event.
async fn event(events: &mut Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.recv().await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

async fn filled(seed: u64, settings: fn(&mut Config)) -> Group {
    let group = Group::new(3, seed).with(settings).start_all().await;
    let leader = group.leader().await;
    for i in 0..60 {
        group.put(leader, &format!("k{i}"), "value").await;
    }
    group.converge().await;
    group
}

fn only_when_asked(config: &mut Config) {
    config.check_interval = None;
    config.snapshot_chunk_bytes = 512;
}

fn slow(config: &mut Config) {
    only_when_asked(config);
    config.check_bytes_per_second = 1 << 10;
}

fn every_two_seconds(config: &mut Config) {
    only_when_asked(config);
    config.check_interval = Some(Duration::from_secs(2));
}

#[test]
fn equal_members_agree_at_one_position_while_they_write() {
    story(|| async {
        for seed in 70..74 {
            let group = filled(seed, slow).await;
            let load = async {
                for i in 0..200 {
                    group.add(NodeId(1 + i % 3), "n").await;
                }
            };
            let checks = async {
                for id in group.ids() {
                    let checked = group.node(id).check(PATIENCE).await.unwrap();
                    assert_eq!(checked.members.len(), 3);
                    assert!(checked.silent().is_empty(), "{checked:?}");
                    assert!(checked.majority.is_some(), "{checked:?}");
                    assert_eq!(checked.differing(), Vec::<NodeId>::new());
                }
            };
            futures::future::join(load, checks).await;
            assert_eq!(group.panics(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_flipped_value_on_a_follower_is_found_and_repaired() {
    story(|| async {
        for seed in 80..84 {
            let group = filled(seed, only_when_asked).await;
            let (leader, bad) = (group.leader().await, group.follower().await);
            let mut seen = group.node(bad).events();
            let mut told = group.node(leader).events();
            damage(&group, bad, "k7").await;
            group.put(leader, "later", "yes").await;
            assert_eq!(group.get(bad, "k7").await.as_deref(), Some("walue"), "nobody knows yet");
            let checked = group.node(leader).check(PATIENCE).await.unwrap();
            assert_eq!(checked.differing(), [bad]);
            let at = checked.at;
            let found = |e: &Event| matches!(e, Event::Quarantined(why) if why.at == at);
            event(&mut seen, found).await;
            event(&mut told, |e| *e == Event::Diverged { node: bad, at }).await;
            group.put(leader, "meanwhile", "yes").await;
            event(&mut seen, |e| *e == Event::Repaired { at }).await;
            assert_eq!(group.node(bad).status().quarantine, None);
            assert_eq!(group.get(bad, "k7").await.as_deref(), Some("value"));
            assert_eq!(group.get(bad, "meanwhile").await.as_deref(), Some("yes"));
            group.converge().await;
            let again = group.node(bad).check(PATIENCE).await.unwrap();
            assert!(again.differing().is_empty() && again.silent().is_empty(), "{again:?}");
            assert_eq!(group.panics(), Vec::<String>::new());
        }
    });
}

#[test]
fn a_damaged_leader_hands_over_and_is_repaired() {
    story(|| async {
        let group = filled(90, only_when_asked).await;
        let bad = group.leader().await;
        let mut seen = group.node(bad).events();
        damage(&group, bad, "k7").await;
        group.node(bad).check(PATIENCE).await.unwrap();
        event(&mut seen, |e| matches!(e, Event::Repaired { .. })).await;
        assert_ne!(group.leader().await, bad);
        for id in group.ids() {
            assert_eq!(group.get(id, "k7").await.as_deref(), Some("value"));
            group.put(id, "after", "repair").await;
        }
        group.converge().await;
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn a_quarantine_outlives_a_restart_and_refuses_every_read() {
    story(|| async {
        let mut group = filled(91, only_when_asked).await;
        let bad = group.follower().await;
        let others: Vec<_> = group.ids().into_iter().filter(|id| *id != bad).collect();
        let mut seen = group.node(bad).events();
        damage(&group, bad, "k7").await;
        group.node(bad).check(PATIENCE).await.unwrap();
        event(&mut seen, |e| matches!(e, Event::Quarantined(_))).await;
        // The file is written before the event.
        group.kill(bad);
        for id in &others {
            group.kill(*id);
        }
        group.start(bad).await;
        let node = group.node(bad);
        assert!(node.status().quarantine.is_some());
        for level in [ReadLevel::Eventual, ReadLevel::Strong, ReadLevel::Lease, ReadLevel::Causal] {
            let refused = node.view(ReadOptions::level(level)).await.unwrap_err();
            assert!(matches!(refused, ReadError::Quarantined(_)), "{level:?}: {refused}");
        }
        assert!(node.backup(ReadOptions::level(ReadLevel::Eventual)).await.is_err());
        assert!(node.checkpoint().await.is_err(), "its log is needed for the repair");
        // They come to the check again when they replay their logs.
        let mut seen = node.events();
        for id in &others {
            group.start(*id).await;
        }
        event(&mut seen, |e| matches!(e, Event::Repaired { .. })).await;
        assert_eq!(group.get(bad, "k7").await.as_deref(), Some("value"));
        group.converge().await;
        // And the repair outlives a power loss.
        group.unplug(bad);
        group.start(bad).await;
        assert_eq!(group.node(bad).status().quarantine, None);
        assert_eq!(group.get(bad, "k7").await.as_deref(), Some("value"));
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn without_a_majority_there_is_an_alarm_and_no_guess() {
    story(|| async {
        let group = filled(92, only_when_asked).await;
        let leader = group.leader().await;
        let mut seen = group.node(leader).events();
        let others = group.ids().into_iter().filter(|id| *id != leader);
        for (id, key) in others.zip(["k7", "k8"]) {
            damage(&group, id, key).await;
        }
        let checked = group.node(leader).check(PATIENCE).await.unwrap();
        assert_eq!((checked.majority, checked.differing().len()), (None, 0));
        event(&mut seen, |e| *e == Event::Undecided { at: checked.at }).await;
        for id in group.ids() {
            assert_eq!(group.node(id).status().quarantine, None);
            assert!(group.get(id, "k1").await.is_some());
        }
    });
}

#[test]
fn checks_come_by_themselves_and_find_what_is_missing() {
    story(|| async {
        let group = filled(93, every_two_seconds).await;
        let bad = group.follower().await;
        let mut seen = group.node(bad).events();
        let mut batch = Batch::new();
        batch.delete(DATA, "k7");
        group.engine(bad).await.write(batch).unwrap();
        event(&mut seen, |e| matches!(e, Event::Quarantined(_))).await;
        event(&mut seen, |e| matches!(e, Event::Repaired { .. })).await;
        assert_eq!(group.get(bad, "k7").await.as_deref(), Some("value"));
    });
}
