//! The newest records, in memory: those that are not synced yet, and some before them, so that a
//! reader who keeps up never waits for the disk.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Lsn;

#[derive(Debug)]
pub(super) struct Recent {
    first: Lsn,
    /// `None` is a void record.
    records: VecDeque<Option<Bytes>>,
    bytes: usize,
    limit: usize,
}

impl Recent {
    pub(super) fn new(first: Lsn, limit: usize) -> Self {
        Self { first, records: VecDeque::new(), bytes: 0, limit }
    }

    /// The oldest record that is here; when there is none, the one that comes next.
    pub(super) const fn first(&self) -> Lsn {
        self.first
    }

    pub(super) fn push(&mut self, record: Bytes) {
        self.bytes += record.len();
        self.records.push_back(Some(record));
    }

    /// Empties `count` records from `first` on.
    pub(super) fn void(&mut self, first: Lsn, count: u32) {
        let start = first.0.saturating_sub(self.first.0) as usize;
        for record in self.records.iter_mut().skip(start).take(count as usize) {
            self.bytes -= record.take().map_or(0, |bytes| bytes.len());
        }
    }

    /// Drops the oldest records over the limit, but none behind `durable`.
    pub(super) fn trim(&mut self, durable: Lsn) {
        while self.bytes > self.limit && self.first <= durable {
            let Some(record) = self.records.pop_front() else { return };
            self.bytes -= record.map_or(0, |bytes| bytes.len());
            self.first = Lsn(self.first.0 + 1);
        }
    }

    /// Records from `from` on, up to `max_bytes` of them, at least one where there is one.
    pub(super) fn read(&self, from: Lsn, max_bytes: usize, out: &mut Vec<(Lsn, Bytes)>) {
        let start = from.0.saturating_sub(self.first.0) as usize;
        let mut bytes: usize = out.iter().map(|(_, record)| record.len()).sum();
        let numbered = (self.first.0..).map(Lsn).zip(&self.records).skip(start);
        for (lsn, record) in numbered {
            let Some(record) = record else { continue };
            bytes += record.len();
            if bytes > max_bytes && !out.is_empty() {
                return;
            }
            out.push((lsn, record.clone()));
        }
    }
}
