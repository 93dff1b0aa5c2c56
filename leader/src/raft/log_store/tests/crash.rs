use super::reconcile::Reconciled;
use super::*;

/// What the script was told is durable before the machine stopped.
#[derive(Debug, Default)]
struct Told {
    vote: Option<Vote>,
    /// The last entry that was acknowledged, and how many steps later it was not truncated yet.
    entries: Vec<LogPos>,
    purged: Option<LogPos>,
}

/// Terms that replace each other's tails, with votes, marks and purges between. Ends at the first
/// failure.
async fn script(log: &LogStore, told: &mut Told) -> Result<(), io::Error> {
    let mut store = log.clone();
    let mut next = 0_u64;
    for term in 1..=6_u64 {
        for established in [false, true] {
            let vote = vote(term, term % 3, established);
            store.save_vote(&raft_vote(vote)).await?;
            told.vote = Some(vote);
        }
        if term % 2 == 0 {
            next -= 3;
            // Truncated entries were never acknowledged by a majority, but by this node they were.
            told.entries.retain(|pos| pos.index < next);
            let last = log.state().index.find(next - 1).map(|(pos, _)| pos);
            store.truncate_after(last.map(log_id)).await?;
        }
        for _ in 0..4 {
            let entries = batches(term, next..next + 2, 150);
            next += 2;
            let positions: Vec<LogPos> = entries.iter().map(|e| position(&e.log_id)).collect();
            append(log, entries).await?;
            told.entries.extend(positions);
        }
        let safe = log.state().index.find(next - 4).map(|(pos, _)| pos);
        store.save_committed(safe.map(log_id)).await?;
        if term % 3 == 0 {
            let upto = log.state().index.find(next - 6).map(|(pos, _)| pos).unwrap();
            store.purge(log_id(upto)).await?;
            log.sync().await.map_err(io::Error::other)?;
            told.purged = Some(upto);
        }
    }
    Ok(())
}

/// Scenario 14 of the design, for the log: a crash at every change of the disk.
#[tokio::test(start_paused = true)]
async fn a_crash_at_every_change_of_the_disk_loses_nothing_that_was_told() {
    let config = small_config();
    let changes = {
        let machine = Machine::new(1);
        let log = open_with(&machine, &config).await.unwrap();
        let mut told = Told::default();
        script(&log, &mut told).await.unwrap();
        assert_eq!(told.entries.last(), Some(&at(6, 38)));
        machine.disk.counts().changes
    };
    assert!(changes > 50, "{changes}");
    for stop in 0..changes {
        let machine = Machine::new(1);
        machine.disk.stop_after(stop);
        let mut told = Told::default();
        if let Ok(log) = open_with(&machine, &config).await {
            let _ = script(&log, &mut told).await;
        }
        if stop % 2 == 0 {
            machine.power_loss();
        } else {
            machine.host.kill();
            machine.disk.crash();
        }
        let log = open_with(&machine, &config).await.unwrap();
        let found = contents(&log).await;
        let purged = log.purged();
        for pos in &told.entries {
            let kept = found.contains(pos) || purged >= Some(*pos);
            assert!(kept, "stop {stop}: {pos:?} was acknowledged, there are {found:?}");
        }
        let term = |vote: Option<Vote>| vote.map(|v| (v.term, v.established));
        assert!(term(log.vote()) >= term(told.vote), "stop {stop}: {told:?}");
        assert!(purged >= told.purged, "stop {stop}");
        let state = (log.vote(), log.last(), purged, log.committed());
        let again = open_with(&machine, &config).await.unwrap();
        assert_eq!(contents(&again).await, found, "stop {stop}: a second open changes nothing");
        assert_eq!((again.vote(), again.last(), again.purged(), again.committed()), state);
        let next = again.last().map_or(0, |pos| pos.index + 1);
        append(&again, batches(9, next..next + 1, 10)).await.unwrap();
    }
}

/// Trap 8 of the design: what the state contains was committed, so the log gives way.
#[tokio::test(start_paused = true)]
async fn the_log_gives_way_to_a_state_that_is_ahead_of_it() {
    struct Case {
        name: &'static str,
        applied: Option<LogPos>,
        found: Result<Reconciled, &'static str>,
        first: Option<LogPos>,
        last: Option<LogPos>,
    }
    // The log holds entries 5 to 9 of term 2 behind a purge up to 4.
    let (first, last) = (Some(at(2, 5)), Some(at(2, 9)));
    let cut = Ok(Reconciled::LogCut { had: last });
    let behind = Err("the state lost what was durable");
    let agree = Ok(Reconciled::Agree);
    for Case { name, applied, found, first, last } in [
        Case { name: "inside", applied: Some(at(2, 7)), found: agree, first, last },
        Case { name: "at the end", applied: last, found: agree, first, last },
        Case { name: "at the purge point", applied: Some(at(1, 4)), found: agree, first, last },
        Case {
            name: "ahead of the end",
            applied: Some(at(3, 12)),
            found: cut,
            first: None,
            last: Some(at(3, 12)),
        },
        Case {
            name: "against a stale tail",
            applied: Some(at(3, 7)),
            found: cut,
            first: None,
            last: Some(at(3, 7)),
        },
        Case { name: "behind", applied: Some(at(1, 3)), found: behind, first, last },
        Case { name: "empty", applied: None, found: behind, first, last },
    ] {
        let machine = Machine::new(1);
        let mut log = open(&machine).await;
        append(&log, batches(1, 0..5, 10)).await.unwrap();
        append(&log, batches(2, 5..10, 10)).await.unwrap();
        log.purge(log_id(at(1, 4))).await.unwrap();
        log.sync().await.unwrap();
        match (log.reconcile(applied).await, found) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
            (Err(e), Err(expected)) => assert!(e.to_string().contains(expected), "{name}: {e}"),
            (found, expected) => panic!("{name}: {found:?} instead of {expected:?}"),
        }
        machine.power_loss();
        let log = open(&machine).await;
        assert_eq!((log.first(), log.last()), (first, last), "{name}");
        let next = last.map_or(0, |pos| pos.index + 1);
        append(&log, batches(4, next..next + 2, 10)).await.unwrap();
    }
    let log = open(&Machine::new(1)).await;
    assert_eq!(log.reconcile(None).await.unwrap(), Reconciled::Agree, "a new node");
}
