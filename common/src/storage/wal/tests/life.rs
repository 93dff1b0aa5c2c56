//! The claims of the conformance suite over both disks, and the log under a node that is killed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::conformance::{self, Place};
use super::super::*;
use super::bench::*;
use crate::mark;
use crate::storage::disk::OsDisk;
use crate::storage::disk::simulated::SimDisk;

struct Real(tempfile::TempDir);

#[async_trait]
impl Place for Real {
    async fn start(&self) -> Env {
        env(Arc::new(OsDisk::open(self.0.path()).await.unwrap()))
    }
}

/// Every start is after a power loss.
struct Simulated(SimDisk);

#[async_trait]
impl Place for Simulated {
    async fn start(&self) -> Env {
        self.0.power_loss();
        mount(&self.0)
    }
}

#[tokio::test]
async fn the_log_over_the_real_disk_conforms() {
    conformance::all(&|| Box::new(Real(tempfile::tempdir().unwrap()))).await;
}

#[tokio::test(start_paused = true)]
async fn the_log_over_the_simulated_disk_conforms() {
    let _ = mark::take();
    conformance::all(&|| Box::new(Simulated(sim_disk(1)))).await;
    conformance::all(&|| Box::new(Simulated(slow_disk(1)))).await;
    let marks = mark::take();
    assert!(marks.contains("segment-rolled") && marks.contains("group-over-8"), "{marks:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "threads are what is tested")]
async fn many_threads_append_to_one_log() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(OsDisk::open(folder.path()).await.unwrap());
    let (wal, _) = open(&env(disk), WalConfig::default()).await.unwrap();
    let wal = Arc::new(wal);
    let writers = (0..8).map(|_| {
        let wal = wal.clone();
        std::thread::spawn(move || {
            let told = Told::default();
            let lsns: Vec<_> =
                (0..200).map(|n| Ok(wal.append(vec![record(n, 50)], told.note()))).collect();
            (lsns, told)
        })
    });
    let writers: Vec<_> = writers.collect();
    let writers: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    wal.sync().await.unwrap();
    for (lsns, told) in writers {
        assert_eq!(told.all(), lsns);
    }
    assert!(wal.health().syncs < 800, "{:?}", wal.health());
    assert_eq!(wal.last(), Lsn(1600));
    wal.close().await.unwrap();
}

/// The next group queues up while one is synced.
#[tokio::test(start_paused = true)]
async fn a_stalled_sync_shows_in_the_health_and_blocks_no_append() {
    let disk = slow_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    wal.append(vec![record(1, 10)], drop);
    wal.sync().await.unwrap();
    disk.stall_syncs(true);
    let told = Told::default();
    for n in 2..=40 {
        wal.append(vec![record(n, 10)], told.note());
        if n % 8 == 0 {
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(told.all(), []);
    assert_eq!(wal.read(Lsn(40), 1).await.unwrap().len(), 1);
    disk.stall_syncs(false);
    wal.sync().await.unwrap();
    assert_eq!(told.all().len(), 39);
    assert_eq!(wal.health().syncs, 3, "one group stalled, all others went together");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_log_writes_what_is_queued() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    let told = Told::default();
    for n in 1..=50 {
        wal.append(vec![record(n, 300)], told.note());
    }
    drop(wal);
    while told.all().len() < 50 {
        tokio::task::yield_now().await;
    }
    disk.power_loss();
    let (_wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0.len(), 50);
}

/// Spares of the last opening are used again: on a full disk they are the only ones.
#[tokio::test(start_paused = true)]
async fn restarts_do_not_pile_up_files() {
    let disk = sim_disk(1);
    for n in 0..10 {
        let (wal, replayed) = open(&mount(&disk), small()).await.unwrap();
        assert_eq!(replayed.0.len(), n);
        wal.append(vec![record(1, 3000)], drop);
        wal.close().await.unwrap();
        disk.crash();
    }
    let spares = disk.files().iter().filter(|(path, _)| path.contains("spare")).count();
    assert!(spares <= keeper::STOCK, "{:?}", disk.files());
    // Spares of a smaller size are replaced.
    let config = WalConfig { segment_bytes: 8192, ..small() };
    let (wal, _) = open(&mount(&disk), config).await.unwrap();
    wal.close().await.unwrap();
    let sizes: Vec<_> = disk.files().into_iter().filter(|(p, _)| p.contains("spare")).collect();
    assert!(sizes.iter().all(|(_, length)| *length == 8192), "{sizes:?}");
}
