//! A backup is the state at its position, and a new cluster goes on from there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::ids::{ClusterId, LogPos, NodeId};
use common::receipt::Receipt;
use leader::backup::{NewCluster, RestoreError, Restored, Summary, Verifier, restore};
use leader::key_value::{Command, Deadline, KeyValue};
use leader::{OpenError, ReadLevel, ReadOptions, ResolveError};

use crate::group::{Group, PATIENCE, patient, story};

/// A backup of a node, with pauses in which the node goes on.
async fn backup(group: &Group, on: NodeId) -> (Vec<u8>, LogPos) {
    let mut options = ReadOptions::default();
    options.timeout = PATIENCE;
    let backup = group.node(on).backup(options).await.unwrap();
    let (at, mut file) = (backup.at(), Vec::new());
    for piece in backup {
        file.extend_from_slice(&piece.unwrap());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (file, at)
}

fn verify(file: &[u8]) -> Summary {
    let mut verifier = Verifier::new();
    verifier.take(file).unwrap();
    verifier.finish().unwrap()
}

/// Restores into a machine's folder.
async fn restored(
    group: &Group,
    id: NodeId,
    file: &[u8],
    cluster: Option<ClusterId>,
) -> Result<Restored, RestoreError> {
    let (env, engines, config) = group.boot(id);
    let pieces: Vec<_> = file.chunks(1_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    let new = NewCluster { members: group.members(), id: cluster };
    let restore = async move {
        let inner = env.clone();
        let pieces = futures::stream::iter(pieces);
        let task = async move { restore(&inner, engines, &config, new, pieces).await };
        env.spawn("restore", task).await.unwrap()
    };
    restore.await
}

fn small_chunks(config: &mut leader::Config) {
    config.snapshot_chunk_bytes = 200;
}

#[test]
fn a_backup_under_load_is_the_state_at_its_position() {
    story(|| async {
        let group = Group::new(3, 51).with(small_chunks).start_all().await;
        let on = group.follower().await;
        let writers = group.ids().into_iter().map(|id| {
            let node = group.node(id);
            async move {
                let mut written = Vec::new();
                for i in 0..150_u64 {
                    let (key, value) = (format!("k{}", i * 7 % 40), format!("{id} {i}"));
                    let command = Command::put(key.clone(), value.clone());
                    let at = node.write(command, patient()).await.unwrap();
                    written.push(((at.at.index, at.sub), key, value));
                }
                written
            }
        });
        let backing_up = async {
            let half = |s: &leader::Status| s.applied.is_some_and(|at| at.index > 150);
            group.node(on).wait_until(PATIENCE, half).await.unwrap();
            backup(&group, on).await
        };
        let (written, (file, at)) =
            futures::future::join(futures::future::join_all(writers), backing_up).await;
        let mut written: Vec<_> = written.into_iter().flatten().collect();
        written.sort();
        let expected: BTreeMap<String, String> = written
            .iter()
            .filter(|((index, _), ..)| *index <= at.index)
            .map(|(_, key, value)| (key.clone(), value.clone()))
            .collect();
        let after = written.iter().filter(|((index, _), ..)| *index > at.index).count();
        assert!(after > 50 && expected.len() > 20, "{after} writes came later; at {at:?}");
        assert_eq!(verify(&file).at, at);

        let mut copy = Group::new(1, 52);
        restored(&copy, NodeId(1), &file, None).await.unwrap();
        copy.start(NodeId(1)).await;
        copy.leader().await;
        for (key, value) in expected {
            assert_eq!(copy.get(NodeId(1), &key).await, Some(value), "{key}");
        }
        assert_eq!(group.panics(), Vec::<String>::new());
    });
}

#[test]
fn a_new_cluster_begins_with_the_state_and_is_not_the_old_one() {
    story(|| async {
        let group = Group::new(3, 53).with(small_chunks).start_all().await;
        let leader = group.leader().await;
        for i in 0..30 {
            group.put(leader, &format!("k{i}"), "v").await;
        }
        group.add(leader, "n").await;
        let receipt = group.node(leader).write(Command::put("r", "v"), patient()).await.unwrap();
        let (file, at) = backup(&group, leader).await;
        let summary = verify(&file);
        let options = ReadOptions::level(ReadLevel::Eventual);
        let (position, state) = group.node(leader).state_hash(options.clone()).await.unwrap();
        assert_eq!((summary.at, summary.state), (position, state));
        assert_eq!(Some(summary.cluster), group.node(leader).status().cluster);

        let mut new = Group::new(3, 54);
        let cluster = restored(&new, NodeId(2), &file, None).await.unwrap().cluster;
        assert_ne!(cluster, summary.cluster);
        let node = new.start(NodeId(2)).await;
        let begins = node.state_hash(options).await.unwrap();
        assert_eq!(begins, (at, state), "the same position has the same hash");
        assert_eq!(node.status().cluster, Some(cluster));
        assert_ne!(node.seal(), group.node(leader).seal());
        // The others' folders are empty: they vote, and get the state by a snapshot.
        new.start(NodeId(1)).await;
        new.start(NodeId(3)).await;
        let leads = new.leader().await;
        assert!(new.node(leads).status().term > at.term, "no position is given twice");
        for (id, count) in new.ids().into_iter().zip(2..) {
            assert_eq!(new.get(id, "k29").await.as_deref(), Some("v"));
            assert_eq!(new.add(id, "n").await, count);
        }
        new.converge().await;
        let old = Receipt::Log(receipt.receipt);
        let refused = new.node(leads).resolve(&old, PATIENCE).await;
        assert!(matches!(refused, Err(ResolveError::Foreign(_))), "{refused:?}");
        assert_eq!(new.panics(), Vec::<String>::new());
        // And it is durable.
        for id in new.ids() {
            new.unplug(id);
        }
        for id in new.ids() {
            new.start(id).await;
        }
        assert_eq!(new.get(NodeId(1), "n").await.as_deref(), Some("4"));
    });
}

#[test]
fn one_backup_restored_on_every_node_under_one_id_is_one_cluster() {
    story(|| async {
        let group = Group::new(1, 55).start_all().await;
        group.put(NodeId(1), "k", "v").await;
        let (file, _) = backup(&group, NodeId(1)).await;
        let mut new = Group::new(3, 56);
        for id in new.ids() {
            restored(&new, id, &file, Some(ClusterId(99))).await.unwrap();
        }
        for id in new.ids() {
            new.start(id).await;
        }
        new.leader().await;
        new.put(NodeId(3), "k", "w").await;
        let seals: Vec<_> = new.ids().into_iter().map(|id| new.node(id).seal()).collect();
        assert!(seals.iter().all(|seal| *seal == seals[0] && seal.is_some()));
        new.converge().await;
    });
}

#[test]
fn what_was_due_since_the_backup_is_gone_and_the_rest_keeps_its_deadline() {
    story(|| async {
        let group = Group::new(1, 57).start_all().await;
        let one = NodeId(1);
        for (key, millis) in [("soon", 60_000), ("late", 3_600_000)] {
            let deadline = Deadline::After(Duration::from_millis(millis));
            let put = Command::Set { key: key.into(), value: "v".into(), deadline };
            group.node(one).write(put, patient()).await.unwrap();
        }
        let (file, _) = backup(&group, one).await;
        let mut new = Group::new(1, 58);
        restored(&new, one, &file, None).await.unwrap();
        new.set_wall_offset(one, 120_000);
        new.start(one).await;
        new.leader().await;
        assert_eq!(new.get(one, "late").await.as_deref(), Some("v"));
        assert_eq!(new.get(one, "soon").await, None);
    });
}

#[test]
fn a_refused_restore_leaves_nothing_behind() {
    story(|| async {
        let group = Group::new(1, 59).start_all().await;
        let one = NodeId(1);
        for i in 0..20 {
            group.put(one, &format!("k{i}"), &"v".repeat(100)).await;
        }
        let (file, _) = backup(&group, one).await;
        let own = verify(&file).cluster;
        let new = Group::new(1, 60);
        let mut damaged = file.clone();
        damaged[file.len() / 2] ^= 1;
        let cases: [(&[u8], Option<ClusterId>, &str); 5] = [
            (&[], None, "not complete"),
            (&file[..file.len() - 3], None, "not complete"),
            (&file[..file.len() / 2], None, "not complete"),
            (&damaged, None, "checksum"),
            (&file, Some(own), "no id for a new cluster"),
        ];
        for (file, id, part) in cases {
            let error = restored(&new, one, file, id).await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            let (env, ..) = new.boot(one);
            assert_eq!(env.disk.list("").await.unwrap(), Vec::<String>::new(), "{part}");
        }
        restored(&new, one, &file, None).await.unwrap();
        let again = restored(&new, one, &file, None).await.unwrap_err();
        assert!(
            matches!(&again, RestoreError::NotEmpty(names) if names.contains("wal/")),
            "{again}"
        );
        // What is there is as it was.
        let mut new = new;
        new.start(one).await;
        new.leader().await;
        assert!(new.get(one, "k19").await.is_some());
    });
}

/// A crash at any moment of a restore leaves a folder that is a node's, or that no node opens.
#[test]
fn an_interrupted_restore_is_never_taken_for_a_node() {
    story(|| async {
        let group = Group::new(1, 61).start_all().await;
        let one = NodeId(1);
        for i in 0..50 {
            group.put(one, &format!("k{i}"), &"v".repeat(300)).await;
        }
        let (file, _) = backup(&group, one).await;
        let (mut whole, mut refused) = (0, 0);
        let begun = tokio::time::Instant::now();
        restored(&Group::new(1, 62), one, &file, None).await.unwrap();
        let takes = begun.elapsed();
        for step in 0..30 {
            let mut new = Group::new(1, 63 + u64::from(step));
            let pause = takes * step / 25;
            let cut = tokio::time::timeout(pause, restored(&new, one, &file, None)).await;
            new.unplug(one);
            let (env, engines, config) = new.boot(one);
            let found = env.disk.list("").await.unwrap();
            if found.iter().any(|name| name == "id") {
                new.start(one).await;
                new.leader().await;
                assert!(new.get(one, "k49").await.is_some());
                whole += 1;
            } else if found.iter().any(|name| name == "restoring") {
                let opening = {
                    let inner = env.clone();
                    let opened = leader::Node::open(inner, engines, KeyValue, config);
                    env.spawn("open", opened)
                };
                let error = opening.await.unwrap().unwrap_err();
                assert!(matches!(error, OpenError::WrongFolder(_)), "{error}");
                refused += 1;
            } else {
                assert!(cut.is_err() && found.is_empty(), "{found:?}");
            }
        }
        assert!(whole > 0 && refused > 0, "{whole} whole, {refused} refused");
    });
}
