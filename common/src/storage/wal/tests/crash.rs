//! Crash points: a script of operations is cut at every call that changes the disk, and what was
//! acknowledged must be there when the log is opened again.

use std::collections::BTreeMap;

use super::super::*;
use super::bench::*;
use super::damage::{files, segments as only_segments};
use crate::env::{Rng, SplitMix64};
use crate::storage::disk::simulated::SimDisk;

/// What the script's log may hold after a crash.
#[derive(Default)]
struct Model {
    appended: BTreeMap<u64, Bytes>,
    /// The last record whose append was acknowledged.
    acknowledged: u64,
    /// Records below may be gone.
    released: u64,
}

async fn segments(disk: &SimDisk) -> BTreeMap<String, Bytes> {
    only_segments(&files(disk).await)
}

/// Runs a script of 200 operations until it ends or the disk stops.
async fn script(wal: &Wal, model: &mut Model) {
    let rng = SplitMix64::new(7);
    let told = Told::default();
    for _ in 0..200 {
        match rng.below(10) {
            0..=6 => {
                let first = wal.last().0 + 1;
                let sizes = [10, 100, 700, 3000, 6000];
                let records: Vec<Bytes> = (0..=rng.below(3))
                    .map(|n| record(first + n, sizes[rng.below(5) as usize]))
                    .collect();
                for (lsn, record) in (first..).zip(&records) {
                    model.appended.insert(lsn, record.clone());
                }
                wal.append(records, told.note());
            }
            7 | 8 => {
                if wal.sync().await.is_err() {
                    break;
                }
            }
            _ => {
                let below = model.acknowledged.saturating_sub(10);
                model.released = model.released.max(below);
                wal.release(Lsn(below));
            }
        }
        // Groups of different sizes: sometimes the writer runs, sometimes it does not.
        for _ in 0..rng.below(4) {
            tokio::task::yield_now().await;
        }
        acknowledge(&told, model);
    }
    let _ = wal.close().await;
    acknowledge(&told, model);
}

/// Callbacks come in stream order, and none succeeds after one that failed.
fn acknowledge(told: &Told, model: &mut Model) {
    let all = told.all();
    let good: Vec<u64> = all.iter().map_while(|done| done.as_ref().ok()).map(|l| l.0).collect();
    assert!(good.is_sorted(), "{all:?}");
    assert!(all[good.len()..].iter().all(Result::is_err), "{all:?}");
    model.acknowledged = good.last().copied().unwrap_or(0);
}

/// Opens the log and compares it with the model. Returns what it holds.
async fn check(disk: &SimDisk, model: &Model, what: &str) -> Replayed {
    let opened = open(&mount(disk), small()).await;
    let (wal, replayed) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
    let lsns: Vec<u64> = replayed.0.iter().map(|(lsn, _)| lsn.0).collect();
    if let Some(first) = lsns.first() {
        assert!(*first <= model.released.max(1), "{what}: begins with {first}");
        assert_eq!(lsns, (*first..first + lsns.len() as u64).collect::<Vec<_>>(), "{what}");
    }
    let last = lsns.last().copied().unwrap_or(0);
    assert!(last >= model.acknowledged, "{what}: {last}, {} acknowledged", model.acknowledged);
    for (lsn, record) in &replayed.0 {
        assert_eq!(model.appended.get(&lsn.0), Some(record), "{what}: {lsn:?}");
    }
    drop(wal);
    disk.crash();
    replayed
}

async fn run_until(changes: Option<u64>, seed: u64) -> (SimDisk, Model) {
    let disk = sim_disk(seed);
    if let Some(changes) = changes {
        disk.stop_after(changes);
    }
    let mut model = Model::default();
    if let Ok((wal, _)) = open(&mount(&disk), small()).await {
        script(&wal, &mut model).await;
    }
    (disk, model)
}

#[tokio::test(start_paused = true)]
async fn acknowledged_records_survive_a_power_loss_at_every_call_of_the_disk() {
    points(1).await;
}

/// Cuts the script at every `step`th call of the disk.
pub(super) async fn points(step: usize) {
    let (disk, model) = run_until(None, 0).await;
    assert!(model.acknowledged > 200, "the script does something: {}", model.acknowledged);
    let calls = disk.counts().changes;
    for point in (0..=calls).step_by(step) {
        let (disk, model) = run_until(Some(point), 0).await;
        for luck in 0..3 {
            let what = format!("call {point} of {calls}, luck {luck}");
            let disk = disk.fork(&what);
            disk.power_loss();
            let found = check(&disk, &model, &what).await;
            // What a recovery found is durable: it survives another power loss, and opening again
            // finds and changes nothing more.
            disk.power_loss();
            let segments = segments(&disk).await;
            assert_eq!(check(&disk, &model, &what).await, found, "{what}: a second opening");
            assert!(self::segments(&disk).await == segments, "{what}: something was changed");
        }
        let what = format!("call {point} of {calls}, process only");
        disk.crash();
        let found = check(&disk, &model, &what).await;
        disk.power_loss();
        assert_eq!(check(&disk, &model, &what).await, found, "{what}: a power loss after it");
    }
}

/// A recovery that is itself cut, at each of its calls.
#[tokio::test(start_paused = true)]
async fn a_power_loss_within_a_recovery_loses_nothing() {
    let calls = run_until(None, 1).await.0.counts().changes;
    for point in (0..=calls).step_by(7) {
        let (disk, model) = run_until(Some(point), 1).await;
        disk.power_loss();
        for cut in 0..12 {
            for luck in 0..3 {
                let what = format!("call {point}, recovery cut at {cut}, luck {luck}");
                let disk = disk.fork(&what);
                disk.stop_after(cut);
                let cut_short = open(&mount(&disk), small()).await;
                assert!(!matches!(cut_short, Err(WalError::Corrupt { .. })), "{what}");
                drop(cut_short);
                disk.power_loss();
                check(&disk, &model, &what).await;
            }
        }
    }
}
