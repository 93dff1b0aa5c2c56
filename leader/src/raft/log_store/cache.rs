//! The newest entries in memory, for replication and for applying.

use std::collections::VecDeque;

use super::record::EntryRecord;

/// What an entry costs beyond its bytes: its row here, and the allocation behind its bytes.
const OVERHEAD: usize = 128;

/// A gapless range of entries that ends with the newest one, within a limit of bytes.
#[derive(Debug)]
pub(super) struct Cache {
    entries: VecDeque<EntryRecord>,
    bytes: usize,
    limit: usize,
}

fn cost(entry: &EntryRecord) -> usize {
    entry.bytes.len() + OVERHEAD
}

impl Cache {
    pub(super) const fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit }
    }

    /// Adds the newest entry; the oldest ones make room. What is dropped here can be read from the
    /// log, synced or not.
    pub(super) fn push(&mut self, entry: EntryRecord) {
        if self.entries.back().is_some_and(|last| last.at.index + 1 != entry.at.index) {
            self.clear();
        }
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.limit {
            self.pop_front();
        }
    }

    pub(super) fn get(&self, index: u64) -> Option<&EntryRecord> {
        let first = self.entries.front()?.at.index;
        self.entries.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }

    /// Drops all entries from `index` on.
    pub(super) fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|last| last.at.index >= index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= cost(&entry);
            }
        }
    }

    /// Drops all entries below `index`.
    pub(super) fn purge_below(&mut self, index: u64) {
        while self.entries.front().is_some_and(|first| first.at.index < index) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= cost(&entry);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Epoch, LogPos};

    use super::super::record::Kind;
    use super::*;

    fn entry(index: u64, size: usize) -> EntryRecord {
        let at = LogPos { term: 1, index };
        EntryRecord::new(Epoch(0), at, Kind::Batch, &vec![0; size])
    }

    #[test]
    fn the_oldest_make_room_for_the_newest() {
        let mut cache = Cache::new(10 * (100 + 22 + OVERHEAD));
        for index in 5..25 {
            cache.push(entry(index, 100));
        }
        assert!(cache.get(14).is_none());
        assert_eq!(cache.get(15).unwrap().at.index, 15);
        assert_eq!(cache.get(24).unwrap().at.index, 24);
        assert!(cache.get(25).is_none() && cache.get(0).is_none());
        cache.truncate_from(20);
        cache.purge_below(18);
        assert!(cache.get(17).is_none() && cache.get(20).is_none());
        assert!(cache.get(18).is_some() && cache.get(19).is_some());
        cache.truncate_from(0);
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn an_entry_over_the_limit_is_not_kept() {
        let mut cache = Cache::new(1000);
        cache.push(entry(1, 10));
        cache.push(entry(2, 5000));
        assert!(cache.get(1).is_none() && cache.get(2).is_none());
        assert_eq!(cache.bytes, 0);
        cache.push(entry(3, 10));
        assert!(cache.get(3).is_some());
    }
}
