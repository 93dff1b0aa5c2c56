use std::time::Duration;

use super::*;

#[tokio::test(start_paused = true)]
async fn what_was_synced_survives_a_power_loss() {
    let machine = Machine::new(1);
    let mut log = open(&machine).await;
    assert_eq!((log.vote(), log.last(), log.committed()), (None, None, None));
    log.save_vote(&raft_vote(vote(1, 2, true))).await.unwrap();
    append(&log, batches(1, 0..10, 50)).await.unwrap();
    machine.power_loss();
    let log = open(&machine).await;
    assert_eq!(log.vote(), Some(vote(1, 2, true)));
    assert_eq!(log.last(), Some(at(1, 9)));
    assert_eq!(contents(&log).await, (0..10).map(|i| at(1, i)).collect::<Vec<_>>());
    assert_eq!(log.0.acks.own(), Some(at(1, 9)), "what was replayed is durable");
}

/// A candidate asks for votes as soon as its own is saved, a voter answers.
#[tokio::test(start_paused = true)]
async fn a_vote_is_durable_when_it_is_saved() {
    for seed in 0..20 {
        let machine = Machine::new(seed);
        let mut log = open(&machine).await;
        for term in 1..4 {
            log.save_vote(&raft_vote(vote(term, 1, false))).await.unwrap();
        }
        machine.power_loss();
        assert_eq!(open(&machine).await.vote(), Some(vote(3, 1, false)), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_returns_at_once_and_is_seen_by_every_reader() {
    let machine = Machine::new(1);
    let log = open(&machine).await;
    let mut reader = log.reader();
    machine.disk.stall_syncs(true);
    let synced = Arc::new(Mutex::new(None));
    let note = synced.clone();
    log.append_entries(batches(3, 5..8, 10), move |r| *note.lock().unwrap() = Some(r.is_ok()))
        .unwrap();
    assert_eq!(reader.limited_get_log_entries(5, 8).await.unwrap().len(), 3);
    log.0.env.sleep(Duration::from_secs(1)).await;
    assert_eq!(*synced.lock().unwrap(), None);
    assert_eq!(log.0.acks.own(), None, "nothing is acknowledged before it is synced");
    machine.disk.stall_syncs(false);
    log.sync().await.unwrap();
    assert_eq!(*synced.lock().unwrap(), Some(true));
    assert_eq!(log.0.acks.own(), Some(at(3, 7)));
}

#[tokio::test(start_paused = true)]
async fn a_proposal_learns_its_position_when_it_is_appended() {
    let log = open(&Machine::new(1)).await;
    let slots: Vec<_> = (0..3).map(|_| Slot::new(None)).collect();
    let entries = slots.iter().zip(7..).map(|(slot, index)| Entry {
        log_id: log_id(at(2, index)),
        payload: Payload::Normal(Cmd::new(Bytes::from_static(b"x"), Some(slot.clone()))),
    });
    assert_eq!(slots[0].position(), None);
    queue(&log, entries.collect());
    let positions: Vec<_> = slots.iter().map(|slot| slot.position()).collect();
    assert_eq!(positions, [Some(at(2, 7)), Some(at(2, 8)), Some(at(2, 9))]);
    assert_eq!(Arc::strong_count(&slots[0]), 1, "the log keeps no slot");
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_refused_and_changes_nothing() {
    let log = open(&Machine::new(1)).await;
    append(&log, batches(1, 0..3, 10)).await.unwrap();
    let refused = append(&log, batches(1, 4..5, 10)).await.unwrap_err();
    assert!(refused.to_string().contains("the log would have a gap"), "{refused}");
    assert_eq!(log.last(), Some(at(1, 2)));
    append(&log, batches(1, 3..4, 10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn votes_entries_and_truncations_keep_their_order() {
    let machine = Machine::new(1);
    let mut log = open(&machine).await;
    queue(&log, batches(1, 0..10, 30));
    log.save_vote(&raft_vote(vote(2, 3, true))).await.unwrap();
    log.truncate_after(Some(log_id(at(1, 5)))).await.unwrap();
    assert_eq!(log.last(), Some(at(1, 5)));
    queue(&log, batches(2, 6..9, 30));
    log.truncate_after(Some(log_id(at(2, 7)))).await.unwrap();
    queue(&log, batches(3, 8..9, 30));
    log.purge(log_id(at(1, 2))).await.unwrap();
    log.sync().await.unwrap();
    let expected = [at(1, 3), at(1, 4), at(1, 5), at(2, 6), at(2, 7), at(3, 8)];
    assert_eq!(contents(&log).await, expected);
    machine.power_loss();
    let mut log = open(&machine).await;
    assert_eq!(contents(&log).await, expected);
    assert_eq!((log.purged(), log.vote()), (Some(at(1, 2)), Some(vote(2, 3, true))));
    log.truncate_after(None).await.unwrap();
    assert_eq!(log.last(), Some(at(1, 2)), "the purge point is the last position then");
    log.sync().await.unwrap();
    assert_eq!(log.last(), open(&machine).await.last());
}

/// Old segments go, and with them the only records of a vote that is still in force: so it is
/// written again before they do.
#[tokio::test(start_paused = true)]
async fn what_a_purge_removes_is_not_needed_by_the_next_start() {
    let machine = Machine::new(1);
    let config = small_config();
    let mut log = open_with(&machine, &config).await.unwrap();
    log.save_vote(&raft_vote(vote(7, 2, false))).await.unwrap();
    for index in 0..200 {
        append(&log, batches(1, index..index + 1, 300)).await.unwrap();
    }
    log.save_committed(Some(log_id(at(1, 150)))).await.unwrap();
    let before = log.health().bytes;
    for upto in [120, 190, 199] {
        log.purge(log_id(at(1, upto))).await.unwrap();
        log.sync().await.unwrap();
        while log.health().bytes > before / 2 {
            // All of it is committed.
            log.judge(|_, range| Judgement { committed: range.end, lost: range.end });
            log.release_settled();
            log.0.env.sleep(Duration::from_millis(10)).await;
        }
        // Whatever else would be removed is removed by now.
        log.0.env.sleep(Duration::from_secs(1)).await;
        machine.power_loss();
        log = open_with(&machine, &config).await.unwrap();
        assert_eq!(log.vote(), Some(vote(7, 2, false)));
        assert_eq!(log.purged(), Some(at(1, upto)));
        assert_eq!(log.committed(), Some(at(1, 150)));
        assert_eq!(contents(&log).await.len() as u64, 199 - upto);
    }
    append(&log, batches(2, 200..201, 10)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_purge_beyond_the_end_leaves_an_empty_log_that_goes_on_behind_it() {
    let machine = Machine::new(1);
    let mut log = open(&machine).await;
    append(&log, batches(1, 0..3, 10)).await.unwrap();
    log.purge(log_id(at(4, 50))).await.unwrap();
    assert_eq!((log.first(), log.last()), (None, Some(at(4, 50))));
    append(&log, batches(4, 51..53, 10)).await.unwrap();
    machine.power_loss();
    let log = open(&machine).await;
    assert_eq!((log.first(), log.last()), (Some(at(4, 51)), Some(at(4, 52))));
}

#[tokio::test(start_paused = true)]
async fn a_commit_mark_needs_no_sync_of_its_own_while_others_come() {
    let machine = Machine::new(1);
    let mut log = open(&machine).await;
    let syncs = |log: &LogStore| log.health().syncs;
    let before = syncs(&log);
    for index in 0..10 {
        append(&log, batches(1, index..index + 1, 10)).await.unwrap();
        log.save_committed(Some(log_id(at(1, index)))).await.unwrap();
    }
    assert_eq!(syncs(&log) - before, 10);
    assert_eq!(log.committed(), Some(at(1, 9)));
    machine.power_loss();
    let mut log = open(&machine).await;
    assert_eq!(log.committed(), Some(at(1, 8)), "the last mark had no company yet");
    log.save_committed(Some(log_id(at(1, 9)))).await.unwrap();
    // An idle node writes it in the end.
    log.0.env.sleep(Duration::from_millis(500)).await;
    machine.power_loss();
    assert_eq!(open(&machine).await.committed(), Some(at(1, 9)));
}

#[tokio::test(start_paused = true)]
async fn a_vote_for_itself_makes_the_acks_count() {
    let log = open(&Machine::new(1)).await;
    let mut store = log.clone();
    store.save_vote(&raft_vote(vote(2, 1, false))).await.unwrap();
    log.0.acks.durable(2, NodeId(2), at(1, 1));
    assert!(log.0.acks.matched().is_empty(), "a candidate counts nobody");
    store.save_vote(&raft_vote(vote(2, 1, true))).await.unwrap();
    log.0.acks.durable(2, NodeId(2), at(1, 1));
    assert_eq!(log.0.acks.matched().len(), 1);
    store.save_vote(&raft_vote(vote(3, 2, true))).await.unwrap();
    assert!(log.0.acks.matched().is_empty());
}

/// A follower's tail can be replaced while its sync is under way.
#[tokio::test(start_paused = true)]
async fn a_sync_of_what_was_cut_meanwhile_proves_nothing() {
    let machine = Machine::new(1);
    let mut log = open(&machine).await;
    append(&log, batches(1, 0..3, 10)).await.unwrap();
    machine.disk.stall_syncs(true);
    queue(&log, batches(1, 3..9, 10));
    log.truncate_after(Some(log_id(at(1, 1)))).await.unwrap();
    machine.disk.stall_syncs(false);
    log.sync().await.unwrap();
    assert_eq!(log.0.acks.own(), Some(at(1, 1)));
    append(&log, batches(2, 2..3, 10)).await.unwrap();
    assert_eq!(log.0.acks.own(), Some(at(2, 2)));
}
