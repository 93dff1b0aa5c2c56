//! Marks: how an engine notices that batches are missing from its middle.
//!
//! Every batch carries a number, as a key of its own beside its changes. The numbers of the
//! batches that may still stand in a journal, and not yet in a table, must be there without a gap
//! when the engine is opened. Tables have checksums that are checked when they are read; only
//! journals are cut silently.

use std::collections::VecDeque;
use std::path::Path;

use fjall::{Database, OwnedWriteBatch, Readable};

use super::{EngineError, error};

/// Below this key, the number of each batch in big-endian order.
const MARK: &[u8] = &[super::SEPARATOR, b'n'];

/// Writes stop while more than so many buffers wait for their flush: with the one being filled,
/// and as much again as margin, older batches are in tables.
const BUFFERS_UNFLUSHED: u64 = 10;

/// How many marks that are no longer needed a batch removes.
const TRIM: u64 = 2;

/// The marks that are stored.
#[derive(Clone, Debug)]
pub(super) struct Marks {
    /// The oldest one stored.
    first: u64,
    /// The next batch's number.
    next: u64,
    /// Bytes written since the engine was opened.
    written: u64,
    /// Where numbers stood when so many bytes had been written, in steps of one buffer.
    steps: VecDeque<(u64, u64)>,
    buffer: u64,
}

fn key(number: u64) -> Vec<u8> {
    [MARK, &number.to_be_bytes()].concat()
}

impl Marks {
    /// Reads the marks of an engine, and refuses it when one is missing among them.
    pub(super) fn open(
        path: &Path,
        db: &Database,
        tree: &fjall::Keyspace,
        buffer: u64,
    ) -> Result<Self, EngineError> {
        let mut first = None;
        let mut next = 1;
        for item in db.snapshot().prefix(tree, MARK) {
            let key = item.key().map_err(|e| error::of(path, e, false))?;
            let number = key[MARK.len()..].first_chunk().map(|n| u64::from_be_bytes(*n));
            let number = number.ok_or_else(|| error::damaged(path, "a mark is malformed"))?;
            if first.is_some() && number != next {
                let what = format!("batches {next} to {} are missing", number - 1);
                return Err(error::damaged(path, &what));
            }
            first.get_or_insert(number);
            next = number + 1;
        }
        let steps = VecDeque::from([(0, next)]);
        Ok(Self { first: first.unwrap_or(next), next, written: 0, steps, buffer })
    }

    /// Marks older than this one are of batches in tables.
    fn needed(&self) -> u64 {
        let unflushed = BUFFERS_UNFLUSHED * self.buffer;
        let old = self.steps.iter().take_while(|(written, _)| written + unflushed <= self.written);
        old.last().map_or(self.first, |(_, number)| *number)
    }

    fn trimmed(&self) -> std::ops::Range<u64> {
        self.first..(self.first + TRIM).min(self.needed()).max(self.first)
    }

    /// Adds a batch's mark to it, and removes old ones with it.
    pub(super) fn stage(&self, out: &mut OwnedWriteBatch, tree: &fjall::Keyspace) {
        out.insert(tree, key(self.next), []);
        for number in self.trimmed() {
            out.remove(tree, key(number));
        }
    }

    /// The staged batch, of so many bytes, was written.
    pub(super) fn written(&mut self, bytes: u64) {
        self.first = self.trimmed().end;
        self.next += 1;
        self.written += bytes;
        if self.steps.back().is_none_or(|(written, _)| written + self.buffer <= self.written) {
            self.steps.push_back((self.written, self.next));
        }
        let unflushed = BUFFERS_UNFLUSHED * self.buffer;
        while self.steps.get(1).is_some_and(|(written, _)| written + unflushed <= self.written) {
            self.steps.pop_front();
        }
    }
}
