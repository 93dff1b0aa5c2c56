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
