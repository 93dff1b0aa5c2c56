//! A node whose data changed on its disk, in a cluster of real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use ::common::storage::engine::{
    Batch, Engines, FjallConfig, FjallEngines, KeyRange, Keyspace, PageLimit,
};
use common::{PATIENCE, describe, run, said, three_nodes, until};
use server::cluster::{Cluster, Signal};
use server::exit::Exit;

const VALUE: &[u8] = b"precious";

/// Flips a bit of the value in the engine of a node that does not run.
async fn damage(data: &Path) {
    let engines = FjallEngines::new(data.join("engine"), FjallConfig::default());
    let (_, engine) = engines.current().await.unwrap().unwrap();
    let mut changed = 0;
    for name in engine.keyspaces().unwrap() {
        let limit = PageLimit { items: 10_000, bytes: 16 << 20 };
        let keyspace = Keyspace(Box::leak(name.clone().into_boxed_str()));
        // The sessions hold what clients were answered, which is not what this test is about.
        if name.starts_with("leader.") {
            continue;
        }
        for (key, row) in engine.scan_named(&name, &KeyRange::all(), limit).unwrap().items {
            let Some(at) = row.windows(VALUE.len()).position(|part| part == VALUE) else {
                continue;
            };
            let mut row = row.to_vec();
            row[at] ^= 1;
            let mut batch = Batch::new();
            batch.put(keyspace, key, row);
            engine.write(batch).unwrap();
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    engine.checkpoint().await.unwrap();
}

async fn stop(cluster: &mut Cluster, id: u64) {
    cluster.signal(id, Signal::Terminate).unwrap();
    until("it stops", async || cluster.ended().unwrap().iter().any(|(ended, _)| *ended == id))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_changed_on_a_disk_is_found_and_repaired() {
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let bad = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mut client = cluster.connect(leader, PATIENCE).await.unwrap();
    for number in 0..100 {
        assert!(client.line(&format!("SET key:{number} value")).await.unwrap().is_ok());
    }
    assert!(client.line("SET damaged precious").await.unwrap().is_ok());
    let applied = cluster.status(leader).await.unwrap().log.applied;
    until("it has all", async || {
        cluster.status(bad).await.is_ok_and(|status| status.log.applied >= applied)
    })
    .await;
    stop(&mut cluster, bad).await;
    damage(&cluster.config(bad).data.clone()).await;
    cluster.start(bad).unwrap();
    cluster.ready(bad, PATIENCE).await.unwrap();
    let mut other = cluster.connect(bad, PATIENCE).await.unwrap();
    assert_eq!(other.line("GET damaged").await.unwrap().to_string(), "\"qrecious\"");

    let http = cluster.config(leader).advertised.http.clone();
    let found = run(&["check", "--address", &http]);
    assert!(Exit::Failed.is(found.status), "{}\n{}", said(&found), describe(&cluster).await);
    let text = said(&found);
    let row = text.lines().find(|line| line.starts_with(&bad.to_string())).unwrap_or_default();
    assert!(row.contains("differs"), "{text}");
    until("it is repaired", async || {
        let value = other.line("GET damaged").await.map(|value| value.to_string());
        value.is_ok_and(|value| value == "\"precious\"")
    })
    .await;
    assert_eq!(cluster.status(bad).await.unwrap().quarantine, None);
    let equal = run(&["check", "--address", &http]);
    assert!(equal.status.success(), "{}\n{}", said(&equal), describe(&cluster).await);
    assert!(client.line("SET after repair").await.unwrap().is_ok());
}
