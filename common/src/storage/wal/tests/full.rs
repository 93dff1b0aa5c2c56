//! The full disk: nothing is poisoned, nothing is half-written, and the reserve is there.

use super::super::*;
use super::bench::*;
use crate::storage::disk::DiskError;

async fn one(wal: &Wal, right: Right, n: u64, size: usize) -> Result<Lsn, WalError> {
    let (tell, told) = oneshot::channel();
    let note = move |done| tell.send(done).unwrap();
    match right {
        Right::Ordinary => wal.append(vec![record(n, size)], note),
        Right::Reserve => wal.append_reserved(vec![record(n, size)], note),
    };
    told.await.unwrap()
}

/// Appends until one is refused. Returns how many were taken.
async fn fill(wal: &Wal, right: Right) -> u64 {
    for n in 0..100 {
        match one(wal, right, n, 1000).await {
            Ok(_) => {}
            Err(WalError::Full) => return n,
            Err(e) => panic!("{e}"),
        }
    }
    panic!("the disk is not full");
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_ordinary_records_and_keeps_a_segment_for_the_others() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    settle().await;
    disk.set_full(true);
    let taken = fill(&wal, Right::Ordinary).await;
    assert!((3..=8).contains(&taken), "the current segment and one spare: {taken}");
    let health = wal.health();
    assert!(health.full && health.poisoned.is_none(), "{health:?}");
    assert_eq!(one(&wal, Right::Ordinary, 0, 1000).await, Err(WalError::Full));
    // Where the reserve begins, only those who may use it are taken, in order with the others.
    let told = Told::default();
    let last = wal.last();
    wal.append_reserved(vec![record(1, 1000)], told.note());
    wal.append(vec![record(2, 1000)], told.note());
    wal.append_reserved(vec![record(3, 1000)], told.note());
    wal.sync().await.unwrap();
    let (a, b) = (Lsn(last.0 + 1), Lsn(last.0 + 2));
    assert_eq!(told.all(), [Ok(a), Err(WalError::Full), Ok(b)]);
    let more = fill(&wal, Right::Reserve).await;
    assert!(more <= 2, "the reserve is one segment: {more}");
    assert!(wal.health().poisoned.is_none());
    // With space again, it goes on by itself.
    disk.set_full(false);
    settle().await;
    assert!(!wal.health().full);
    for n in 0..20 {
        one(&wal, Right::Ordinary, n, 1000).await.unwrap();
    }
    let last = wal.last();
    let all = wal.read(Lsn(1), usize::MAX).await.unwrap();
    wal.close().await.unwrap();
    disk.power_loss();
    let (wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0, all);
    assert_eq!(wal.last(), last);
}

#[tokio::test(start_paused = true)]
async fn releasing_segments_makes_room() {
    let disk = sim_disk(1);
    disk.set_quota(Some(8 * 4096));
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    let taken = fill(&wal, Right::Ordinary).await;
    assert!(taken >= 15, "{taken}");
    wal.release(wal.last());
    settle().await;
    assert!(!wal.health().full);
    assert!(fill(&wal, Right::Ordinary).await >= 9);
}

/// Records that had their numbers when the disk turned out to be full.
#[tokio::test(start_paused = true)]
async fn numbers_of_records_that_were_refused_late_stay_empty() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    settle().await;
    disk.set_full(true);
    let told = Told::default();
    let appended: Vec<Lsn> =
        (1..=40).map(|n| wal.append(vec![record(n, 500)], told.note())).collect();
    let vote = wal.append_reserved(vec![record(41, 500)], told.note());
    assert_eq!((appended[39], vote), (Lsn(40), Lsn(41)), "none was refused at once");
    wal.sync().await.unwrap();
    let done = told.all();
    let taken = done.iter().take_while(|done| done.is_ok()).count() as u64;
    assert!((7..=14).contains(&taken), "{taken}");
    assert!(done[taken as usize..40].iter().all(|done| *done == Err(WalError::Full)));
    assert_eq!(done[40], Ok(vote));
    let mut expected: Vec<_> = (1..=taken).map(|n| (Lsn(n), record(n, 500))).collect();
    expected.push((vote, record(41, 500)));
    assert_eq!(wal.read(Lsn(1), usize::MAX).await.unwrap(), expected);
    assert_eq!(wal.read(Lsn(taken + 1), 1).await.unwrap(), [(vote, record(41, 500))]);
    disk.power_loss();
    let (wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0, expected);
    assert_eq!(wal.last(), vote);
    assert_eq!(wal.read(Lsn(taken + 1), 1).await.unwrap(), [(vote, record(41, 500))]);
}

/// A copy-on-write file system may refuse writes into space that was reserved.
#[tokio::test(start_paused = true)]
async fn a_write_that_finds_no_space_is_not_half_done() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    one(&wal, Right::Ordinary, 1, 100).await.unwrap();
    for size in [10, 300, 2000] {
        disk.fill_next_write(size);
        let told = Told::default();
        wal.append((2..=5).map(|n| record(n, 200)).collect(), told.note());
        wal.append_reserved(vec![record(6, 200)], told.note());
        wal.sync().await.unwrap();
        assert_eq!(told.all(), [Err(WalError::Full), Err(WalError::Full)], "{size}");
        assert!(wal.health().poisoned.is_none());
        let fork = disk.fork("crash");
        fork.power_loss();
        let (_wal, replayed) = open(&mount(&fork), small()).await.unwrap();
        assert_eq!(replayed.0[0], (Lsn(1), record(1, 100)));
    }
    settle().await;
    assert_eq!(one(&wal, Right::Ordinary, 7, 10).await, Ok(Lsn(17)));
    wal.close().await.unwrap();
    disk.power_loss();
    let (_wal, replayed) = open(&mount(&disk), small()).await.unwrap();
    assert_eq!(replayed.0, [(Lsn(1), record(1, 100)), (Lsn(17), record(7, 10))]);
}

#[tokio::test(start_paused = true)]
async fn a_log_opens_on_a_full_disk_and_keeps_its_reserve() {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    settle().await;
    disk.set_full(true);
    fill(&wal, Right::Ordinary).await;
    wal.close().await.unwrap();
    disk.crash();
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    settle().await;
    assert!(wal.health().full);
    one(&wal, Right::Reserve, 1, 1000).await.unwrap();
    one(&wal, Right::Reserve, 2, 1000).await.unwrap();
    let empty = sim_disk(2);
    empty.set_full(true);
    let refused = open(&mount(&empty), small()).await.map(drop);
    assert!(matches!(refused, Err(WalError::Disk(DiskError::Full { .. }))), "{refused:?}");
}
