use std::time::Duration;

use super::*;

/// What was proposed before the disk was found full still fits into what the log holds back.
#[tokio::test(start_paused = true)]
async fn what_is_under_way_when_the_disk_becomes_full_is_not_lost() {
    let machine = Machine::new(1);
    let mut config = small_config();
    config.wal.segment_bytes = 64 << 10;
    let mut log = open_with(&machine, &config).await.unwrap();
    append(&log, batches(1, 0..1, 10)).await.unwrap();
    machine.disk.set_full(true);
    let mut next = 1;
    while !log.health().full {
        append(&log, batches(1, next..next + 1, 1000)).await.unwrap();
        next += 1;
    }
    // From here on a leader refuses to propose; these were under way.
    append(&log, batches(1, next..next + 20, 1000)).await.unwrap();
    log.save_vote(&raft_vote(vote(5, 2, false))).await.unwrap();
    machine.power_loss();
    let log = open_with(&machine, &config).await.unwrap();
    assert_eq!(log.vote(), Some(vote(5, 2, false)));
    assert_eq!(log.last(), Some(at(1, next + 19)));
}

/// When even the reserve is used up, the node stops, with a log that is a prefix of what it was
/// told: nothing behind the refused record counts, also when there is space again.
#[tokio::test(start_paused = true)]
async fn behind_a_refused_record_nothing_counts() {
    for seed in 0..10 {
        let machine = Machine::new(seed);
        let config = small_config();
        let mut log = open_with(&machine, &config).await.unwrap();
        let acked = Arc::new(Mutex::new(Vec::new()));
        let mut next = 0;
        let mut append_some = |log: &LogStore, count: u64| {
            for _ in 0..count {
                let (pos, acked) = (at(1, next), acked.clone());
                let noted = move |synced: Result<(), io::Error>| {
                    acked.lock().unwrap().push((pos, synced.is_ok()));
                };
                if log.append_entries(vec![batch(pos, 700)], noted).is_err() {
                    return;
                }
                next += 1;
            }
        };
        append_some(&log, 20);
        log.sync().await.unwrap();
        machine.disk.set_full(true);
        append_some(&log, 60);
        log.0.env.sleep(Duration::from_millis(500)).await;
        machine.disk.set_full(false);
        // The log below goes on by itself now; this one must not.
        log.0.env.sleep(Duration::from_secs(2)).await;
        append_some(&log, 20);
        let failed = log.sync().await.is_err();
        append_some(&log, 5);
        let acked = acked.lock().unwrap().clone();
        let good = acked.iter().take_while(|(_, ok)| *ok).count();
        assert!(acked[good..].iter().all(|(_, ok)| !ok), "seed {seed}: {acked:?}");
        assert!(failed, "seed {seed}: the reserve was not used up");
        assert!(log.save_vote(&raft_vote(vote(9, 9, false))).await.is_err());
        if seed % 2 == 0 {
            let _ = log.close().await;
        }
        machine.power_loss();
        let log = open_with(&machine, &config).await.unwrap();
        let found = contents(&log).await;
        for (pos, _) in &acked[..good] {
            assert!(found.contains(pos), "seed {seed}: {pos:?} was acknowledged");
        }
        // What comes next survives as well, though numbers are missing in the log.
        let next = found.last().map_or(0, |pos| pos.index + 1);
        append(&log, batches(2, next..next + 3, 10)).await.unwrap();
        machine.power_loss();
        let log = open_with(&machine, &config).await.unwrap();
        assert_eq!(log.last(), Some(at(2, next + 2)), "seed {seed}");
    }
}
