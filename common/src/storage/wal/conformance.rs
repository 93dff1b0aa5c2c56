//! What a [`Wal`] does over any disk, as tests for your own disk: a small function per claim, and
//! [`all`].

#![allow(clippy::unwrap_used, reason = "these are tests; an error is a failure")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Lsn, Replay, Wal, WalConfig, WalError};
use crate::env::Env;

/// A place where a log lives, that can be opened again and again.
#[async_trait]
pub trait Place: Send + Sync {
    /// The environment of a new life of the node, as after a restart. The former one's log was
    /// closed, and all of it was dropped.
    async fn start(&self) -> Env;
}

/// Makes a new, empty place for each claim.
pub type NewPlace<'a> = &'a (dyn Fn() -> Box<dyn Place> + Send + Sync);

/// Runs every claim, each in a place of its own.
///
/// # Panics
/// When a claim does not hold.
pub async fn all(new: NewPlace<'_>) {
    numbers_are_dense_from_one(&*new()).await;
    callbacks_come_in_stream_order(&*new()).await;
    one_sync_serves_all_who_wait(&*new()).await;
    records_are_read_before_they_are_synced(&*new()).await;
    reads_end_at_their_limit(&*new()).await;
    records_of_every_size_come_back(&*new()).await;
    a_record_over_the_limit_is_refused_alone(&*new()).await;
    released_segments_are_removed_and_nothing_else(&*new()).await;
    a_closed_log_takes_nothing(&*new()).await;
    a_refused_record_refuses_the_log(&*new()).await;
    readers_keep_up_with_a_writer(&*new()).await;
}

/// Small segments, and nearly nothing in memory, so that every path is taken.
pub fn config() -> WalConfig {
    WalConfig { segment_bytes: 4096, recent_bytes: 100, ..WalConfig::default() }
}

/// All that a log replayed.
#[derive(Debug, Default)]
struct Replayed(Vec<(Lsn, Bytes)>);

impl Replay for Replayed {
    fn record(&mut self, lsn: Lsn, record: Bytes) -> Result<(), String> {
        self.0.push((lsn, record));
        Ok(())
    }
}

async fn open(place: &dyn Place) -> (Wal, Vec<(Lsn, Bytes)>) {
    let mut replayed = Replayed::default();
    let env = place.start().await;
    let wal = Wal::open(&env, "node/wal", config(), &mut replayed).await.unwrap();
    (wal, replayed.0)
}

async fn restart(place: &dyn Place, wal: Wal) -> (Wal, Vec<(Lsn, Bytes)>) {
    wal.close().await.unwrap();
    drop(wal);
    open(place).await
}

/// Lets others work, and time pass.
async fn wait(wal: &Wal) {
    wal.shared.env.sleep(Duration::from_millis(1)).await;
}

fn record(n: u64, length: usize) -> Bytes {
    Bytes::from((0..length).map(|i| (n as usize * 31 + i) as u8).collect::<Vec<_>>())
}

async fn append(wal: &Wal, records: Vec<Bytes>) -> Result<Lsn, WalError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    wal.append(records, move |done| tell.send(done).unwrap());
    told.await.unwrap()
}

/// From 1, over appends of any number of records and over restarts.
pub async fn numbers_are_dense_from_one(place: &dyn Place) {
    let (wal, replayed) = open(place).await;
    assert!(replayed.is_empty());
    assert_eq!((wal.last(), wal.oldest()), (Lsn(0), Lsn(1)));
    assert_eq!(wal.sync().await, Ok(Lsn(0)), "there is nothing to wait for");
    assert_eq!(wal.append(vec![record(1, 9)], drop), Lsn(1));
    assert_eq!(wal.append((2..=4).map(|n| record(n, 9)).collect(), drop), Lsn(4));
    assert_eq!(wal.append(Vec::new(), drop), Lsn(4));
    assert_eq!(wal.sync().await, Ok(Lsn(4)));
    let (wal, replayed) = restart(place, wal).await;
    assert_eq!(replayed, (1..=4).map(|n| (Lsn(n), record(n, 9))).collect::<Vec<_>>());
    assert_eq!(append(&wal, vec![record(5, 9)]).await, Ok(Lsn(5)));
    let (wal, replayed) = restart(place, wal).await;
    assert_eq!(replayed.len(), 5);
    wal.close().await.unwrap();
}

/// One per append, whatever its size, in the order of the appends.
pub async fn callbacks_come_in_stream_order(place: &dyn Place) {
    let (wal, _) = open(place).await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut expected = Vec::new();
    for n in 0..300_u64 {
        let told = told.clone();
        let records = (0..n % 4).map(|i| record(n + i, (n * 37 % 900) as usize)).collect();
        let last = wal.append(records, move |done| told.lock().unwrap().push(done.unwrap()));
        expected.push(last);
        if n % 17 == 0 {
            wait(&wal).await;
        }
    }
    wal.sync().await.unwrap();
    assert_eq!(*told.lock().unwrap(), expected);
    wal.close().await.unwrap();
}

/// Many records in one group need one sync, one record needs one sync.
pub async fn one_sync_serves_all_who_wait(place: &dyn Place) {
    let (wal, _) = open(place).await;
    for n in 0..50 {
        wal.append(vec![record(n, 10)], |done| assert!(done.is_ok()));
    }
    wal.sync().await.unwrap();
    let health = wal.health();
    assert_eq!(health.records, 50);
    assert!(health.syncs <= 2, "{} syncs for 50 records that wait together", health.syncs);
    let before = health.syncs;
    for n in 0..5 {
        append(&wal, vec![record(n, 10)]).await.unwrap();
    }
    assert_eq!(wal.health().syncs, before + 5);
    wal.sync().await.unwrap();
    assert_eq!(wal.health().syncs, before + 5, "nothing new needs no sync");
    assert_eq!(wal.health().oldest_unsynced_micros, 0);
    wal.close().await.unwrap();
}

/// In the moment in which `append` returns.
pub async fn records_are_read_before_they_are_synced(place: &dyn Place) {
    let (wal, _) = open(place).await;
    for n in 1..=20 {
        let lsn = wal.append(vec![record(n, 200)], drop);
        assert_eq!(wal.read(lsn, 1).await.unwrap(), [(lsn, record(n, 200))]);
    }
    assert_eq!(wal.read(Lsn(1), usize::MAX).await.unwrap().len(), 20);
    assert_eq!(wal.read(Lsn(21), usize::MAX).await.unwrap(), []);
    wal.close().await.unwrap();
}

/// But give one record where there is one, from the disk as from memory.
pub async fn reads_end_at_their_limit(place: &dyn Place) {
    let (wal, _) = open(place).await;
    for n in 1..=100 {
        wal.append(vec![record(n, 100)], drop);
    }
    for _ in 0..2 {
        for from in [1, 2, 50, 99, 100] {
            for (limit, count) in [(0, 1), (99, 1), (100, 1), (199, 1), (200, 2), (1050, 10)] {
                let found = wal.read(Lsn(from), limit).await.unwrap();
                let to = (from + count).min(101);
                let expected: Vec<_> = (from..to).map(|n| (Lsn(n), record(n, 100))).collect();
                assert_eq!(found, expected, "{limit} bytes from {from}");
            }
        }
        wal.sync().await.unwrap();
    }
    wal.close().await.unwrap();
}

/// Empty ones, and ones that are larger than a segment.
pub async fn records_of_every_size_come_back(place: &dyn Place) {
    let sizes = [0, 1, 7, 8, 4000, 4005, 4012, 4096, 5000, 0, 40_000, 3, 100_000];
    let (wal, _) = open(place).await;
    let expected: Vec<_> = (1..).zip(sizes).map(|(n, size)| (Lsn(n), record(n, size))).collect();
    for (_, record) in &expected {
        wal.append(vec![record.clone()], |done| assert!(done.is_ok()));
    }
    wal.sync().await.unwrap();
    assert_eq!(wal.read(Lsn(1), usize::MAX).await.unwrap(), expected);
    let (wal, replayed) = restart(place, wal).await;
    assert_eq!(replayed, expected);
    for n in 1..=sizes.len() as u64 {
        assert_eq!(wal.read(Lsn(n), 0).await.unwrap(), [expected[n as usize - 1].clone()]);
    }
    wal.close().await.unwrap();
}

/// With all of its append; those before and after are kept.
pub async fn a_record_over_the_limit_is_refused_alone(place: &dyn Place) {
    let env = place.start().await;
    let config = WalConfig { max_record: 1000, ..config() };
    let mut replayed = Replayed::default();
    let wal = Wal::open(&env, "node/wal", config.clone(), &mut replayed).await.unwrap();
    wal.append(vec![record(1, 1000)], |done| assert_eq!(done, Ok(Lsn(1))));
    let refused = append(&wal, vec![record(2, 1), record(3, 1001)]).await;
    assert_eq!(refused, Err(WalError::TooLarge { size: 1001, limit: 1000 }));
    assert_eq!(append(&wal, vec![record(2, 2)]).await, Ok(Lsn(2)));
    wal.close().await.unwrap();
}

/// Records in the segments that are left stay readable, the others are gone by name.
pub async fn released_segments_are_removed_and_nothing_else(place: &dyn Place) {
    let (wal, _) = open(place).await;
    for n in 1..=100 {
        wal.append(vec![record(n, 1000)], drop);
    }
    wal.sync().await.unwrap();
    let before = wal.health().bytes;
    wal.release(Lsn(50));
    // Three records to a segment: one of them holds 49 to 51.
    while wal.oldest() < Lsn(49) {
        wait(&wal).await;
    }
    let oldest = wal.oldest();
    assert_eq!(oldest, Lsn(49));
    assert!(wal.health().bytes < before * 2 / 3);
    assert_eq!(wal.read(oldest, usize::MAX).await.unwrap().len() as u64, 101 - oldest.0);
    assert_eq!(wal.read(Lsn(1), 10).await, Err(WalError::Released { oldest }));
    wal.release(Lsn(10));
    wal.release(Lsn(1000));
    let (wal, replayed) = restart(place, wal).await;
    assert_eq!(replayed.last(), Some(&(Lsn(100), record(100, 1000))));
    assert_eq!(append(&wal, vec![record(101, 1)]).await, Ok(Lsn(101)));
    wal.close().await.unwrap();
}

/// And says so; closing twice is fine.
pub async fn a_closed_log_takes_nothing(place: &dyn Place) {
    let (wal, _) = open(place).await;
    let first = Arc::new(Mutex::new(None));
    let noted = first.clone();
    wal.append(vec![record(1, 10)], move |done| *noted.lock().unwrap() = Some(done));
    wal.close().await.unwrap();
    assert_eq!(*first.lock().unwrap(), Some(Ok(Lsn(1))), "what was queued is written");
    assert_eq!(append(&wal, vec![record(2, 10)]).await, Err(WalError::Closed));
    assert_eq!(wal.sync().await, Err(WalError::Closed));
    wal.close().await.unwrap();
}

/// The owner knows what its records mean.
pub async fn a_refused_record_refuses_the_log(place: &dyn Place) {
    struct Picky;
    impl Replay for Picky {
        fn record(&mut self, lsn: Lsn, _: Bytes) -> Result<(), String> {
            if lsn < Lsn(3) { Ok(()) } else { Err("of another group".to_owned()) }
        }
    }
    let (wal, _) = open(place).await;
    for n in 1..=5 {
        wal.append(vec![record(n, 10)], drop);
    }
    wal.close().await.unwrap();
    drop(wal);
    let env = place.start().await;
    let refused = Wal::open(&env, "node/wal", config(), &mut Picky).await.map(drop);
    drop(env);
    let reason = "of another group".to_owned();
    assert_eq!(refused, Err(WalError::Refused { lsn: Lsn(3), reason }));
    let (wal, replayed) = open(place).await;
    assert_eq!(replayed.len(), 5);
    wal.close().await.unwrap();
}

/// Over segment bounds, and while segments are released behind them.
pub async fn readers_keep_up_with_a_writer(place: &dyn Place) {
    let (wal, _) = open(place).await;
    let writer = async {
        for n in 1..=300 {
            wal.append(vec![record(n, 200)], |done| assert!(done.is_ok()));
            if n % 5 == 0 {
                wal.sync().await.unwrap();
            }
        }
    };
    let reader = async {
        let mut next = 1;
        while next <= 300 {
            let found = wal.read(Lsn(next), 900).await.unwrap();
            for (lsn, found) in found {
                assert_eq!((lsn, found), (Lsn(next), record(next, 200)));
                next += 1;
            }
            wal.release(Lsn(next));
            wait(&wal).await;
        }
    };
    tokio::join!(writer, reader);
    wal.close().await.unwrap();
}
