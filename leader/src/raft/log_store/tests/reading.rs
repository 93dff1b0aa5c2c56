use super::reader::PAGE_BYTES;
use super::*;

async fn all(log: &LogStore) -> Vec<Entry> {
    log.reader().entries_stream(..).await.try_collect().await.unwrap()
}

/// Entries beyond the cache are read from the files, past the entries that a truncation replaced.
#[tokio::test(start_paused = true)]
async fn what_is_not_in_memory_is_read_from_the_disk() {
    let machine = Machine::new(1);
    let config = small_config();
    let mut log = open_with(&machine, &config).await.unwrap();
    for (term, from) in [(1, 0), (2, 30), (3, 20), (4, 60), (5, 55)] {
        if from > 0 {
            let before = log.0.state.lock().unwrap().index.find(from - 1).unwrap().0;
            log.truncate_after(Some(log_id(before))).await.unwrap();
        }
        queue(&log, batches(term, from..from + 45, 100));
        log.save_vote(&raft_vote(vote(term, 1, true))).await.unwrap();
    }
    let expected: Vec<LogPos> = (0..20)
        .map(|i| at(1, i))
        .chain((20..55).map(|i| at(3, i)))
        .chain((55..100).map(|i| at(5, i)))
        .collect();
    assert_eq!(contents(&log).await, expected);
    assert_eq!(log.reader().try_get_log_entries(..).await.unwrap().len(), 100);
    // Not synced, and neither in the cache.
    machine.disk.stall_syncs(true);
    queue(&log, batches(5, 100..130, 100));
    assert_eq!(contents(&log).await.len(), 130);
    machine.disk.stall_syncs(false);
    log.sync().await.unwrap();
    let log = open_with(&machine, &config).await.unwrap();
    assert_eq!(contents(&log).await.len(), 130);
}

#[tokio::test(start_paused = true)]
async fn a_page_has_a_megabyte_at_most_and_one_entry_at_least() {
    for cached in [64 << 20, 0] {
        let machine = Machine::new(1);
        let mut config = Config::new(NodeId(1), "test");
        config.log_cache_bytes = cached;
        config.wal.recent_bytes = 0;
        let log = open_with(&machine, &config).await.unwrap();
        queue(&log, batches(1, 0..10, 300 << 10));
        queue(&log, batches(1, 10..11, 3 << 20));
        queue(&log, batches(1, 11..12, 10));
        log.sync().await.unwrap();
        let mut reader = log.reader();
        let page = reader.limited_get_log_entries(0, 12).await.unwrap();
        let bytes: usize = page.iter().map(|entry| body(entry).len()).sum();
        assert!((2..=3).contains(&page.len()) && bytes <= PAGE_BYTES, "{} entries", page.len());
        assert_eq!(reader.limited_get_log_entries(10, 12).await.unwrap().len(), 1);
        assert_eq!(reader.limited_get_log_entries(4, 5).await.unwrap().len(), 1);
        assert_eq!(reader.limited_get_log_entries(5, 5).await.unwrap().len(), 0);
        let sizes: Vec<usize> = all(&log).await.iter().map(|entry| body(entry).len()).collect();
        assert_eq!(sizes, [vec![300 << 10; 10], vec![3 << 20, 10]].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn a_range_is_cut_to_what_the_log_has() {
    let mut log = open(&Machine::new(1)).await;
    let mut reader = log.reader();
    assert!(reader.try_get_log_entries(..).await.unwrap().is_empty());
    queue(&log, batches(1, 0..10, 10));
    log.purge(log_id(at(1, 3))).await.unwrap();
    for (range, expected) in [(0..4, 0), (0..6, 2), (4..10, 6), (8..100, 2), (10..20, 0)] {
        let found = reader.try_get_log_entries(range.clone()).await.unwrap().len();
        assert_eq!(found, expected, "{range:?}");
    }
    assert_eq!(reader.try_get_log_entries(5..=7).await.unwrap().len(), 3);
    assert!(reader.limited_get_log_entries(0, 5).await.unwrap().is_empty());
}

/// A follower's log and the wire carry what the leader encoded, not an encoding of their own.
#[tokio::test(start_paused = true)]
async fn an_entry_keeps_its_bytes_from_log_to_log() {
    let leader = open(&Machine::new(1)).await;
    queue(&leader, batches(1, 0..3, 40));
    let sent: Vec<Bytes> = all(&leader).await.iter().map(wire_entry).collect();
    let follower = open(&Machine::new(2)).await;
    let received = sent.iter().map(|bytes| unwire_entry(bytes.clone()).unwrap()).collect();
    queue(&follower, received);
    let stored = follower.state();
    for (index, bytes) in sent.iter().enumerate() {
        let entry = stored.cache.get(index as u64).unwrap();
        assert_eq!(&entry.bytes, bytes);
        assert_eq!(entry.bytes.as_ptr(), bytes.as_ptr(), "not even copied");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cache_keeps_to_its_limit() {
    let log = open_with(&Machine::new(1), &small_config()).await.unwrap();
    queue(&log, batches(1, 0..1000, 100));
    let cached = (0..1000).filter(|i| log.state().cache.get(*i).is_some()).count();
    assert!((5..20).contains(&cached), "{cached} entries in 2000 bytes");
    assert_eq!(contents(&log).await.len(), 1000);
}
