//! Both engines keep the same contract.

mod map_disk;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::conformance::{self, KEYSPACES, Place, Step};
use super::{
    Batch, EngineError, Engines, FjallConfig, FjallEngines, Generation, KeyRange, Keyspace,
    MemoryEngines, PageLimit,
};
use crate::env::SplitMix64;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::simulated::{SimDisk, SimDiskConfig};
use map_disk::MapDisk;

struct Volatile;

#[async_trait]
impl Place for Volatile {
    async fn open(&self) -> Arc<dyn Engines> {
        Arc::new(MemoryEngines::volatile())
    }

    fn survives(&self) -> bool {
        false
    }
}

/// Every opening is after a crash.
#[derive(Default)]
struct Memory(MapDisk);

#[async_trait]
impl Place for Memory {
    async fn open(&self) -> Arc<dyn Engines> {
        self.0.crash();
        Arc::new(MemoryEngines::on_disk(Arc::new(self.0.clone()), "engine"))
    }
}

struct Fjall(tempfile::TempDir);

impl Fjall {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

#[async_trait]
impl Place for Fjall {
    async fn open(&self) -> Arc<dyn Engines> {
        Arc::new(FjallEngines::new(self.0.path().join("engine"), FjallConfig::default()))
    }
}

#[tokio::test]
async fn the_engine_in_memory_conforms() {
    conformance::all(&|| Box::new(Volatile)).await;
}

#[tokio::test]
async fn the_engine_in_memory_with_checkpoints_conforms() {
    conformance::all(&|| Box::new(Memory::default())).await;
}

#[tokio::test]
async fn the_engine_on_disk_conforms() {
    conformance::all(&|| Box::new(Fjall::new())).await;
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop::sample::select(vec![0, 1, b'a', 0xff]), 0..3)
}

fn range() -> impl Strategy<Value = KeyRange> {
    use std::ops::Bound;
    let bound = || {
        prop_oneof![
            Just(Bound::Unbounded),
            key().prop_map(|k| Bound::Included(Bytes::from(k))),
            key().prop_map(|k| Bound::Excluded(Bytes::from(k))),
        ]
    };
    (bound(), bound()).prop_map(|(start, end)| KeyRange { start, end })
}

fn step() -> impl Strategy<Value = Step> {
    let space = || 0..KEYSPACES.len();
    let change = (space(), key(), prop::option::weighted(0.7, vec(any::<u8>(), 0..20)));
    let limit = (0..5_usize, 0..80_usize).prop_map(|(items, bytes)| PageLimit { items, bytes });
    prop_oneof![
        8 => vec(change, 0..6).prop_map(Step::Write),
        3 => Just(Step::Open),
        2 => (0..4_usize).prop_map(Step::Close),
        4 => (space(), key()).prop_map(|(s, k)| Step::Get(s, k)),
        5 => (space(), range(), limit).prop_map(|(s, r, l)| Step::Scan(s, r, l)),
        2 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => Just(Step::Switch),
        1 => Just(Step::Unfinished),
    ]
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_engine_in_memory_agrees_with_a_sorted_map(steps in vec(step(), 0..60)) {
        block_on(conformance::run(&Memory::default(), &steps));
    }
}

proptest! {
    // Opening a database syncs, so few cases take long.
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_engine_on_disk_agrees_with_a_sorted_map(steps in vec(step(), 0..60)) {
        block_on(conformance::run(&Fjall::new(), &steps));
    }
}

const DATA: Keyspace = Keyspace("data");

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(DATA, key.to_owned(), value.to_owned());
    batch
}

const CHECKPOINT: &str = "engine/0000000001/checkpoint";

/// A disk with one engine whose checkpoint holds a few chunks.
async fn checkpointed() -> Memory {
    let place = Memory::default();
    let engines = place.open().await;
    let engine = engines.create(Generation(1)).await.unwrap();
    for n in 0..20 {
        engine.write(put(&format!("k{n:02}"), &"x".repeat(100_000))).unwrap();
    }
    engines.switch(Generation(1)).await.unwrap();
    place
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused_wherever_the_damage_is() {
    let place = checkpointed().await;
    let length = place.0.with(CHECKPOINT, |bytes| bytes.len());
    for at in (0..40).chain((40..length).step_by(100_003)).chain(length - 20..length) {
        place.0.with(CHECKPOINT, |bytes| bytes[at] ^= 0x10);
        let found = place.open().await.current().await;
        assert!(matches!(found, Err(EngineError::Corrupt(_))), "byte {at}: {found:?}");
        place.0.with(CHECKPOINT, |bytes| bytes[at] ^= 0x10);
    }
    assert!(place.open().await.current().await.is_ok());
}

#[tokio::test]
async fn a_checkpoint_that_lost_or_gained_bytes_is_refused() {
    let place = checkpointed().await;
    let whole = place.0.with(CHECKPOINT, |bytes| bytes.clone());
    for length in [0, 1, 13, 14, 600_000, whole.len() - 1] {
        place.0.with(CHECKPOINT, |bytes| bytes.truncate(length));
        let found = place.open().await.current().await;
        assert!(matches!(found, Err(EngineError::Corrupt(_))), "{length} bytes: {found:?}");
        place.0.with(CHECKPOINT, |bytes| bytes.clone_from(&whole));
    }
    place.0.with(CHECKPOINT, |bytes| bytes.push(0));
    assert!(matches!(place.open().await.current().await, Err(EngineError::Corrupt(_))));
}

#[tokio::test]
async fn a_current_file_that_is_damaged_or_names_nothing_is_refused_with_advice() {
    let place = checkpointed().await;
    place.0.with("engine/CURRENT", |bytes| bytes[15 - 1] ^= 1);
    let Err(EngineError::Corrupt(text)) = place.open().await.current().await else {
        panic!("a damaged CURRENT is corruption");
    };
    assert!(text.contains("remove the engine's folder"), "{text}");
}

/// Whatever step of a checkpoint is the last before a crash, the state is the former one or the
/// new one.
#[tokio::test]
async fn a_crash_within_a_checkpoint_leaves_the_former_one_or_the_new_one() {
    let mut whole = false;
    for changes in 0..40 {
        let place = checkpointed().await;
        let (_, engine) = place.open().await.current().await.unwrap().unwrap();
        engine.write(put("k00", "new")).unwrap();
        place.0.full_after(changes);
        let done = engine.checkpoint().await;
        let (_, engine) = place.open().await.current().await.unwrap().unwrap();
        let found = engine.get(DATA, b"k00").unwrap().unwrap();
        assert_eq!(found == "new", done.is_ok(), "after {changes} changes of the disk: {done:?}");
        assert!(matches!(done, Ok(()) | Err(EngineError::Full(_))));
        whole |= done.is_ok();
    }
    assert!(whole, "one of the crashes came after the whole checkpoint");
}

#[tokio::test]
async fn a_crash_within_a_switch_leaves_the_former_engine_or_the_new_one() {
    let mut whole = false;
    for changes in 0..40 {
        let place = checkpointed().await;
        let engines = place.open().await;
        engines.current().await.unwrap();
        let next = engines.create(Generation(2)).await.unwrap();
        next.write(put("k00", "new")).unwrap();
        place.0.full_after(changes);
        let done = engines.switch(Generation(2)).await;
        let (generation, engine) = place.open().await.current().await.unwrap().unwrap();
        let found = engine.get(DATA, b"k00").unwrap().unwrap();
        assert_eq!(found == "new", generation == Generation(2), "state and number agree");
        assert_eq!(generation == Generation(2), done.is_ok(), "after {changes} changes: {done:?}");
        whole |= done.is_ok();
    }
    assert!(whole, "one of the crashes came after the whole switch");
}

fn sim_disk(seed: u64) -> SimDisk {
    let (world, rng) = (SimWorldClock::new(), SplitMix64::new(seed));
    SimDisk::new(NodeId(1), &world, &rng, Trace::default(), SimDiskConfig::instant())
}

fn engines(disk: &SimDisk, incarnation: u64) -> MemoryEngines {
    MemoryEngines::on_disk(disk.mount(Incarnation(incarnation)), "a/b")
}

async fn make_and_switch(engines: &MemoryEngines, generation: u64) -> Result<(), EngineError> {
    let engine = engines.create(Generation(generation)).await?;
    engine.write(put("key", &generation.to_string()))?;
    engines.switch(Generation(generation)).await
}

/// The current generation, after a check that the state is its own.
async fn current(disk: &SimDisk, incarnation: u64) -> Option<Generation> {
    let (generation, engine) = engines(disk, incarnation).current().await.unwrap()?;
    let value = engine.get(DATA, b"key").unwrap().unwrap();
    assert_eq!(value, generation.0.to_string());
    Some(generation)
}

/// The folder of the engines is as new as they are: its own name must be durable, too.
#[tokio::test]
async fn a_checkpoint_survives_a_power_loss_in_a_new_folder() {
    for seed in 0..20 {
        let disk = sim_disk(seed);
        make_and_switch(&engines(&disk, 1), 1).await.unwrap();
        disk.power_loss();
        assert_eq!(current(&disk, 2).await, Some(Generation(1)));
    }
}

/// A process dies at any call of the disk, and what the next one finds in the cache it builds on.
#[tokio::test]
async fn what_an_opening_finds_survives_a_power_loss() {
    let mut found = Vec::new();
    for stop in 0..60 {
        let disk = sim_disk(stop);
        disk.stop_after(stop);
        let opened = engines(&disk, 1);
        let done = match make_and_switch(&opened, 1).await {
            Ok(()) => make_and_switch(&opened, 2).await,
            failed => failed,
        };
        disk.crash();
        let seen = current(&disk, 2).await;
        disk.power_loss();
        assert_eq!(current(&disk, 3).await, seen, "stopped after {stop} changes: {done:?}");
        found.push(seen);
    }
    found.dedup();
    assert_eq!(found, [None, Some(Generation(1)), Some(Generation(2))]);
}

/// A full disk fails the checkpoint, not the engine: with room again, the next one works.
#[tokio::test]
async fn the_engine_in_memory_goes_on_when_the_disk_has_room_again() {
    let place = checkpointed().await;
    let (_, engine) = place.open().await.current().await.unwrap().unwrap();
    engine.write(put("k", "1")).unwrap();
    place.0.full_after(2);
    assert!(matches!(engine.checkpoint().await, Err(EngineError::Full(_))));
    place.0.full_after(1_000);
    engine.checkpoint().await.unwrap();
    let (_, engine) = place.open().await.current().await.unwrap().unwrap();
    assert_eq!(engine.get(DATA, b"k").unwrap().unwrap(), "1");
}
