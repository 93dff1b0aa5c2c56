//! From the stream of records to the state, when the log is opened.

use bytes::Bytes;
use common::storage::wal::{Lsn, Replay};

use super::State;
use super::record::{EntryRecord, Record};

/// Takes the records of a log in order.
///
/// A disk that becomes full may refuse a record that has its number already; then numbers are
/// missing. The process that wrote it was told, and counted nothing behind it, although later
/// records may have reached the disk. So they are ignored, up to the mark that the next process
/// leaves when it opens such a log.
pub(super) struct Replaying {
    state: State,
    last: Lsn,
    refused: bool,
}

impl Replaying {
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self { state: State::new(cache_bytes), last: Lsn(0), refused: false }
    }

    /// What the records amount to, and whether the log needs [`Record::Resumed`] before anything
    /// else, given the number of its last record.
    pub(super) fn finish(self, last: Lsn) -> (State, bool) {
        (self.state, self.refused || last != self.last)
    }

    fn entry(&mut self, lsn: Lsn, entry: EntryRecord) -> Result<(), String> {
        self.state.index.push(entry.at, lsn).map_err(|gap| gap.to_string())?;
        // The replayed bytes may be a slice of a whole segment, which must not stay in memory.
        let bytes = Bytes::copy_from_slice(&entry.bytes);
        self.state.cache.push(EntryRecord { bytes, ..entry });
        Ok(())
    }
}

impl Replay for Replaying {
    fn record(&mut self, lsn: Lsn, record: Bytes) -> Result<(), String> {
        // The first record that is still there may have any number.
        self.refused |= self.last != Lsn(0) && lsn.0 != self.last.0 + 1;
        self.last = lsn;
        let record = Record::decode(record).map_err(|e| e.to_string())?;
        if self.refused && record != Record::Resumed {
            common::sometimes!("record-behind-a-refused-one-ignored");
            return Ok(());
        }
        match record {
            Record::Entry(entry) => self.entry(lsn, entry)?,
            Record::Vote(vote) => self.state.vote = Some(vote),
            Record::Truncate(after) => self.state.truncate_after(after),
            Record::Committed(at) => self.state.committed = self.state.committed.max(Some(at)),
            Record::Purged(upto) => self.state.purge(upto),
            Record::Epoch(epoch) => self.state.epoch = epoch,
            Record::Resumed => self.refused = false,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{Epoch, LogPos, NodeId};

    use super::super::record::Kind;
    use super::*;
    use crate::message::Vote;

    fn entry(term: u64, index: u64) -> Record {
        let at = LogPos { term, index };
        Record::Entry(EntryRecord::new(Epoch(0), at, Kind::Batch, b"x"))
    }

    /// The disk was full when entry 2 was to be written, and had space again for what was queued
    /// behind it: a truncation, another leader's entries, a vote.
    #[test]
    fn what_follows_a_refused_record_is_ignored_up_to_the_next_start() {
        let mut replaying = Replaying::new(1000);
        let vote = Vote { term: 9, node: NodeId(9), established: true };
        for (lsn, record) in [
            (5, entry(1, 0)),
            (6, entry(1, 1)),
            (8, Record::Truncate(None)),
            (9, entry(2, 0)),
            (10, Record::Vote(vote)),
            (11, Record::Purged(LogPos { term: 1, index: 0 })),
            (13, Record::Resumed),
            (14, entry(3, 2)),
        ] {
            replaying.record(Lsn(lsn), record.encode()).unwrap();
        }
        let (state, resume) = replaying.finish(Lsn(14));
        assert!(!resume);
        assert_eq!((state.vote, state.purged), (None, None));
        let found: Vec<_> = (0..4).map(|i| state.index.find(i).map(|(at, _)| at.term)).collect();
        assert_eq!(found, [Some(1), Some(1), Some(3), None]);
    }

    #[test]
    fn a_log_with_a_refused_record_at_its_end_needs_the_mark() {
        for (last, expected) in [(Lsn(1), false), (Lsn(2), true)] {
            let mut replaying = Replaying::new(1000);
            replaying.record(Lsn(1), entry(1, 0).encode()).unwrap();
            assert_eq!(replaying.finish(last).1, expected);
        }
    }

    #[test]
    fn a_gap_without_a_refused_record_refuses_the_log() {
        let mut replaying = Replaying::new(1000);
        replaying.record(Lsn(1), entry(1, 0).encode()).unwrap();
        let refused = replaying.record(Lsn(2), entry(1, 2).encode()).unwrap_err();
        assert!(refused.contains("the log would have a gap"), "{refused}");
    }
}
