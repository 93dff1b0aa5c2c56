//! The log over a simulated disk.

mod crash;
mod full_disk;
mod reading;
mod suite;
mod writing;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::storage::wal::WalConfig;
use futures::TryStreamExt;
use openraft::storage::{RaftLogReader, RaftLogStorage};

use super::*;
use crate::raft::testing::Machine;
use crate::raft::type_config::{Cmd, Payload, Slot, log_id, position, raft_vote};

fn at(term: u64, index: u64) -> LogPos {
    LogPos { term, index }
}

fn small_config() -> Config {
    let mut config = Config::new(NodeId(1), "test");
    config.wal = WalConfig { segment_bytes: 4096, recent_bytes: 0, ..WalConfig::default() };
    config.log_cache_bytes = 2000;
    config
}

async fn open_with(machine: &Machine, config: &Config) -> Result<LogStore, OpenError> {
    let env = machine.boot();
    let acks = Acks::new(NodeId(1));
    env.scope(LogStore::open(&env, config, acks)).await
}

async fn open(machine: &Machine) -> LogStore {
    open_with(machine, &Config::new(NodeId(1), "test")).await.unwrap()
}

/// A batch of `size` bytes that names its position.
fn batch(pos: LogPos, size: usize) -> Entry {
    let mut body = format!("{}.{} ", pos.term, pos.index).into_bytes();
    body.resize(size.max(body.len()), b'x');
    Entry { log_id: log_id(pos), payload: Payload::Normal(Cmd::new(body.into(), None)) }
}

fn batches(term: u64, indexes: std::ops::Range<u64>, size: usize) -> Vec<Entry> {
    indexes.map(|index| batch(at(term, index), size)).collect()
}

/// Appends and waits for the sync.
async fn append(log: &LogStore, entries: Vec<Entry>) -> Result<(), io::Error> {
    let (tell, told) = tokio::sync::oneshot::channel();
    log.append_entries(entries, move |synced| drop(tell.send(synced)))?;
    told.await.unwrap()
}

/// Appends without waiting.
fn queue(log: &LogStore, entries: Vec<Entry>) {
    log.append_entries(entries, |_| {}).unwrap();
}

fn vote(term: u64, node: u64, established: bool) -> Vote {
    Vote { term, node: NodeId(node), established }
}

fn body(entry: &Entry) -> Bytes {
    match &entry.payload {
        Payload::Normal(cmd) => cmd.body.clone(),
        other => panic!("not a batch: {other}"),
    }
}

/// The positions in the log, each checked against what its entry says.
async fn contents(log: &LogStore) -> Vec<LogPos> {
    let mut reader = log.reader();
    let entries: Vec<Entry> = reader.entries_stream(..).await.try_collect().await.unwrap();
    let positions = entries.iter().map(|entry| {
        let pos = position(&entry.log_id);
        let named = format!("{}.{} ", pos.term, pos.index);
        assert!(body(entry).starts_with(named.as_bytes()), "{pos:?} has another's content");
        pos
    });
    let positions: Vec<LogPos> = positions.collect();
    assert_eq!(positions.first().copied(), log.first());
    assert!(positions.windows(2).all(|pair| pair[0].index + 1 == pair[1].index), "{positions:?}");
    positions
}
