//! Appending, reading, closing, opening again.

use super::super::*;
use super::bench::*;
use crate::storage::disk::OsDisk;

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_survives_a_power_loss() {
    let disk = sim_disk(1);
    let (wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0, []);
    let told = Told::default();
    for n in 1..=100 {
        assert_eq!(wal.append(vec![record(n, 100)], told.note()), Lsn(n));
    }
    assert_eq!(wal.sync().await, Ok(Lsn(100)));
    assert_eq!(told.all(), (1..=100).map(|n| Ok(Lsn(n))).collect::<Vec<_>>());
    disk.power_loss();
    let (wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    let expected: Vec<_> = (1..=100).map(|n| (Lsn(n), record(n, 100))).collect();
    assert_eq!(replayed.0, expected);
    assert_eq!(wal.read(Lsn(1), usize::MAX).await.unwrap(), expected);
    assert_eq!(wal.append(vec![record(101, 10)], told.note()), Lsn(101));
    wal.close().await.unwrap();
    let (_, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0.len(), 101);
}

#[tokio::test]
async fn a_log_in_a_real_folder_is_read_and_released() {
    let folder = tempfile::tempdir().unwrap();
    let open_disk = || async { Arc::new(OsDisk::open(folder.path()).await.unwrap()) };
    let (wal, _) = open(&env(open_disk().await), small()).await.unwrap();
    for n in 1..=200 {
        wal.append(vec![record(n, 90)], |done| assert!(done.is_ok()));
    }
    wal.sync().await.unwrap();
    assert_eq!(wal.read(Lsn(7), 1).await.unwrap(), [(Lsn(7), record(7, 90))]);
    wal.release(Lsn(150));
    while wal.oldest() == Lsn(1) {
        tokio::task::yield_now().await;
    }
    wal.close().await.unwrap();
    drop(wal);
    let (wal, replayed) = open(&env(open_disk().await), small()).await.unwrap();
    assert!(replayed.0[0].0 > Lsn(1) && replayed.0[0].0 <= Lsn(150));
    assert_eq!(replayed.0.last().unwrap().0, Lsn(200));
    wal.close().await.unwrap();
}
