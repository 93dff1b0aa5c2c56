//! Failing syncs, writes and reads.

use super::super::*;
use super::bench::*;
use crate::mark;
use crate::storage::disk::simulated::ReadFault;

fn is_poisoned(done: &Result<Lsn, WalError>) -> bool {
    matches!(done, Err(WalError::Poisoned(_)))
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_poisons_the_log_and_is_never_asked_again() {
    let _ = mark::take();
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    let told = Told::default();
    wal.append(vec![record(1, 10)], told.note());
    wal.sync().await.unwrap();
    disk.fail_next_sync();
    let syncs = disk.counts().syncs;
    wal.append(vec![record(2, 10)], told.note());
    wal.append(vec![record(3, 10)], told.note());
    assert!(is_poisoned(&wal.sync().await));
    for n in 4..100 {
        wal.append(vec![record(n, 100)], told.note());
        wal.append_reserved(vec![record(n, 100)], told.note());
    }
    assert!(is_poisoned(&wal.sync().await));
    let told = told.all();
    assert_eq!((told.len(), &told[0]), (1 + 2 + 192, &Ok(Lsn(1))));
    assert!(told[1..].iter().all(is_poisoned), "{told:?}");
    assert!(wal.health().poisoned.is_some_and(|why| why.contains("sync failed")));
    assert!(matches!(wal.close().await, Err(WalError::Poisoned(_))));
    assert_eq!(disk.counts().syncs, syncs + 1, "a failed sync is never retried");
    assert!(mark::take().contains("log-poisoned"));
}

/// The cache shows what a failed sync has not written, and calls it clean. What a restart finds
/// there, it makes durable before it calls it so.
#[tokio::test(start_paused = true)]
async fn what_is_replayed_after_a_failed_sync_is_durable() {
    for size in [10, 900, 6000] {
        let disk = sim_disk(1);
        let (wal, _) = open(&mount(&disk), small()).await.unwrap();
        wal.append(vec![record(1, 10)], drop);
        wal.sync().await.unwrap();
        disk.fail_next_sync();
        wal.append((2..=4).map(|n| record(n, size)).collect(), drop);
        assert!(wal.sync().await.is_err());
        drop(wal);
        disk.crash();
        let (wal, found) = open(&mount(&disk), small()).await.unwrap();
        drop(wal);
        disk.power_loss();
        let (wal, again) = open(&mount(&disk), small()).await.unwrap();
        assert_eq!(again, found, "records of {size} bytes");
        drop(wal);
    }
}

/// A spare whose sync failed has its space in the cache only. No log is built on it.
#[tokio::test(start_paused = true)]
async fn a_spare_whose_sync_failed_is_not_used() {
    for opened in [false, true] {
        let disk = sim_disk(1);
        if !opened {
            disk.fail_next_sync();
        }
        let first = open(&mount(&disk), small()).await;
        assert_eq!(first.is_ok(), opened);
        if let Ok((wal, _)) = first {
            // The next sync is that of a spare that is made ahead.
            disk.fail_next_sync();
            tokio::task::yield_now().await;
            assert!(is_poisoned(&wal.sync().await));
        }
        disk.crash();
        let (wal, _) = open(&mount(&disk), small()).await.unwrap();
        for n in 1..=10 {
            wal.append(vec![record(n, 1000)], drop);
        }
        wal.sync().await.unwrap();
        let is_segment = |name: &str| name.starts_with("wal/0");
        let segments = disk.files().iter().filter(|(name, _)| is_segment(name)).count();
        assert!(segments > 2, "{segments} segments");
        drop(wal);
        disk.power_loss();
        let (_wal, replayed) = open(&mount(&disk), small()).await.unwrap();
        assert_eq!(replayed.0.len(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_of_the_folder_poisons_the_log() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    wal.append(vec![record(1, 10)], drop);
    wal.sync().await.unwrap();
    disk.fail_next_dir_sync();
    let told = Told::default();
    for n in 2..=10 {
        wal.append(vec![record(n, 1000)], told.note());
    }
    let _ = wal.sync().await;
    let told = told.all();
    let good = told.iter().take_while(|done| done.is_ok()).count();
    assert!(good < 5 && told[good..].iter().all(is_poisoned), "{told:?}");
    drop(wal);
    disk.power_loss();
    let (_wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert!(replayed.0.len() > good);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_poisons_the_log() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    settle().await;
    disk.fail_next_write();
    let (told, syncs) = (Told::default(), disk.counts().syncs);
    wal.append(vec![record(1, 10)], told.note());
    wal.append(vec![record(2, 10)], told.note());
    assert!(is_poisoned(&wal.sync().await));
    assert!(told.all().iter().all(is_poisoned));
    assert_eq!(disk.counts().syncs, syncs, "what was not written is not synced");
}

#[tokio::test(start_paused = true)]
async fn a_failed_or_damaged_read_is_an_error_and_the_log_goes_on() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    for n in 1..=20 {
        wal.append(vec![record(n, 1000)], drop);
    }
    wal.sync().await.unwrap();
    let segment = "wal/0000000000000001.wal";
    disk.fail_reads(segment, 0, ReadFault::Once);
    assert!(matches!(wal.read(Lsn(1), 1).await, Err(WalError::Disk(_))));
    assert_eq!(wal.read(Lsn(1), 1).await.unwrap(), [(Lsn(1), record(1, 1000))]);
    disk.flip(segment, 500, 1);
    let damaged = wal.read(Lsn(1), 1).await;
    let Err(WalError::Corrupt { segment: named, offset: 48, .. }) = damaged else {
        panic!("{damaged:?}");
    };
    assert_eq!(named, segment);
    assert_eq!(wal.append(vec![record(21, 10)], drop), Lsn(21));
    assert_eq!(wal.sync().await, Ok(Lsn(21)));
    assert_eq!(wal.read(Lsn(9), 1).await.unwrap(), [(Lsn(9), record(9, 1000))]);
}
