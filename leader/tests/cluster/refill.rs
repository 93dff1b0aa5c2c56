//! A member whose engine lost its state takes one from another and keeps its id.

use std::time::Duration;

use common::ids::NodeId;
use leader::key_value::KeyValue;
use leader::{Config, Node, OpenError};

use crate::group::{Group, PATIENCE, story};

fn short_log(config: &mut Config) {
    config.keep_entries = 10;
    config.snapshot_chunk_bytes = 512;
    config.wal.segment_bytes = 16 << 10;
}

fn with_contacts(config: &mut Config) {
    short_log(config);
    config.contacts = (1..=3).map(|id| (NodeId(id), format!("sim:{id}"))).collect();
}

/// Writes until the log of `node` does not go back to its beginning.
async fn purge(group: &Group, node: NodeId, keys: usize) {
    for i in 0..keys {
        group.put(node, &format!("k{i}"), &"v".repeat(20)).await;
    }
    group.converge().await;
    for id in group.running() {
        group.node(id).checkpoint().await.unwrap();
        let purged = group.node(id).wait_until(PATIENCE, |s| s.purged.is_some()).await;
        assert!(purged.is_ok(), "{purged:?}");
    }
}

/// Removes everything under the engine's folder, as somebody with a shell would.
async fn remove_engine(group: &mut Group, id: NodeId) {
    let (env, _, _) = group.boot(id);
    let files: Vec<String> = group.disk(id).files().into_iter().map(|(path, _)| path).collect();
    let of_engine: Vec<_> = files.iter().filter(|path| path.starts_with("engine/")).collect();
    assert!(!of_engine.is_empty(), "{files:?}");
    for path in of_engine {
        env.disk.remove(path).await.unwrap();
        let folder = path.rsplit_once('/').unwrap().0;
        env.disk.sync_dir(folder).await.unwrap();
    }
    group.kill(id);
}

#[test]
fn a_member_that_lost_its_engine_takes_a_state_from_another_and_keeps_its_id() {
    story(|| async {
        for seed in 200..206 {
            let mut group = Group::new(3, seed).with(with_contacts).start_all().await;
            let bad = if seed % 2 == 0 { group.follower().await } else { group.leader().await };
            let leader = group.leader().await;
            purge(&group, leader, 120).await;
            group.kill(bad);
            let leader = group.leader().await;
            group.put(leader, "meanwhile", "yes").await;
            remove_engine(&mut group, bad).await;
            let node = group.start(bad).await;
            assert_eq!(node.id(), bad);
            group.put(leader, "later", "yes").await;
            for i in 0..120 {
                assert_eq!(group.get(bad, &format!("k{i}")).await, Some("v".repeat(20)), "k{i}");
            }
            assert_eq!(group.get(bad, "meanwhile").await.as_deref(), Some("yes"));
            assert_eq!(group.get(bad, "later").await.as_deref(), Some("yes"));
            group.converge().await;
            let checked = group.node(leader).check(PATIENCE).await.unwrap();
            assert!(checked.differing().is_empty() && checked.silent().is_empty(), "{checked:?}");
            // What it took is durable: it needs nobody the next time.
            group.unplug(bad);
            for id in group.ids() {
                if group.running().contains(&id) {
                    group.kill(id);
                }
            }
            let alone = group.start(bad).await;
            assert!(alone.status().applied.is_some());
            assert_eq!(group.panics(), Vec::<String>::new());
        }
    });
}

#[test]
fn while_it_waits_for_a_state_it_neither_votes_nor_answers() {
    story(|| async {
        let mut group = Group::new(3, 210).with(with_contacts).start_all().await;
        let bad = group.follower().await;
        let leader = group.leader().await;
        purge(&group, leader, 120).await;
        group.kill(bad);
        remove_engine(&mut group, bad).await;
        // Of the two others one is away: the one that is left must not become leader with the help
        // of a member that has no state.
        let other = group.running().into_iter().find(|id| *id != leader).unwrap();
        group.kill(leader);
        group.kill(other);
        let (env, engines, config) = group.boot(bad);
        let opening = {
            let env = env.clone();
            env.clone().spawn("open", Node::open(env, engines, KeyValue, config))
        };
        tokio::time::sleep(Duration::from_secs(20)).await;
        let survivor = group.start(other).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        // It gets the state of the survivor, and with that both elect a leader again.
        let node = opening.await.unwrap().unwrap();
        node.wait_until(PATIENCE, |s| s.leader.is_some()).await.unwrap();
        let led = survivor.wait_until(PATIENCE, |s| s.leader.is_some()).await;
        assert!(led.is_ok());
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn without_another_member_it_says_what_is_lost_and_what_to_do() {
    story(|| async {
        let mut group = Group::new(1, 211).with(short_log).start_all().await;
        let only = group.leader().await;
        purge(&group, only, 120).await;
        group.kill(only);
        remove_engine(&mut group, only).await;
        let (env, engines, config) = group.boot(only);
        let inner = env.clone();
        let opened = env.spawn("open", Node::open(inner, engines, KeyValue, config)).await.unwrap();
        let Err(OpenError::Inconsistent(said)) = opened else { panic!("{opened:?}") };
        for part in ["the engine holds nothing", "knows no other member", "restore a backup"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    });
}
