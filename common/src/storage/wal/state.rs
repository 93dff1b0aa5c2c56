//! What the log's handle, its writer and its keeper share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use super::format::{SegmentHeader, frame_size};
use super::recent::Recent;
use super::{Lsn, Right, WalConfig, WalError};
use crate::env::{Env, Mono};
use crate::storage::disk::File;

/// Called once with what became of an append.
pub(super) type Durable = Box<dyn FnOnce(Result<Lsn, WalError>) + Send>;

/// An append that waits for its turn.
pub(super) struct Pending {
    /// What the callback gets.
    pub(super) last: Lsn,
    pub(super) records: VecDeque<Bytes>,
    pub(super) right: Right,
    pub(super) at: Mono,
    /// Decided when it was appended: it has no records, and waits only for its turn to be told.
    pub(super) refusal: Option<WalError>,
    pub(super) durable: Durable,
    /// Some of its records are written, or in the group that is being written.
    pub(super) split: bool,
}

/// A segment as far as it is written.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) header: SegmentHeader,
    /// Where its frames end.
    pub(super) end: u64,
    /// Some of its frames: first record and offset.
    pub(super) marks: Vec<(Lsn, u64)>,
    /// Open once it was read or written.
    pub(super) file: Option<Arc<dyn File>>,
}

/// Bytes of frames between two marks of a segment.
const MARK_EVERY: u64 = 64 << 10;

impl Segment {
    /// Lets go of the file of an older segment, which is opened when it is read.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Remembers where a frame is, when the last one remembered is far away.
    pub(super) fn mark(&mut self, first: Lsn, offset: u64) {
        if self.marks.last().is_none_or(|(_, last)| offset - last >= MARK_EVERY) {
            self.marks.push((first, offset));
        }
    }
}

/// An empty file that has its space already.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) file: Arc<dyn File>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Takes no records, works off what is queued.
    Closing,
    /// All is written; the keeper ends.
    Written,
    /// Its tasks are gone.
    Ended,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) queue: VecDeque<Pending>,
    /// The number that the next record gets.
    pub(super) next: Lsn,
    pub(super) durable: Lsn,
    pub(super) recent: Recent,
    pub(super) segments: VecDeque<Segment>,
    /// Segments to be. The last one is for those who may use the reserve.
    pub(super) stock: VecDeque<Spare>,
    /// The number of the newest spare.
    pub(super) last_spare: u64,
    pub(super) release_below: Lsn,
    pub(super) poisoned: Option<String>,
    /// No segment could be added to the stock.
    pub(super) full: bool,
    /// Bytes of the current segment that are not written yet.
    pub(super) room: u64,
    /// Bytes that wait to be written, at most.
    pub(super) queued: u64,
    /// When the oldest append was made that the writer has taken.
    pub(super) oldest_taken: Option<Mono>,
    pub(super) syncs: u64,
    pub(super) records: u64,
    pub(super) sync_times: VecDeque<Duration>,
}

/// Syncs that the 99th percentile is taken from.
const SYNC_TIMES: usize = 256;

impl State {
    /// Whether the writer has nothing more to do, for ever.
    pub(super) fn has_written(&self) -> bool {
        matches!(self.phase, Phase::Written | Phase::Ended)
    }

    /// Whether these records are refused at once, and why.
    pub(super) fn admit(
        &self,
        records: &[Bytes],
        right: Right,
        config: &WalConfig,
    ) -> Result<(), WalError> {
        if let Some(record) = records.iter().find(|record| record.len() > config.max_record) {
            return Err(WalError::TooLarge { size: record.len(), limit: config.max_record });
        }
        // With the disk full, what an ordinary append may use is what is left of the current
        // segment. The writer decides for those who may use more.
        let size: u64 = records.iter().map(|record| frame_size(record.len()) as u64).sum();
        let left = if self.is_reserved() { 0 } else { self.room.saturating_sub(self.queued) };
        if self.full && right == Right::Ordinary && !records.is_empty() && size > left {
            return Err(WalError::Full);
        }
        Ok(())
    }

    /// Whether what is left of the current segment is all that the disk gives.
    pub(super) fn is_reserved(&self) -> bool {
        self.full && self.stock.is_empty()
    }

    pub(super) fn note_sync(&mut self, time: Duration) {
        self.syncs += 1;
        if self.sync_times.len() == SYNC_TIMES {
            self.sync_times.pop_front();
        }
        self.sync_times.push_back(time);
    }

    /// The 99th percentile of recent syncs.
    pub(super) fn sync_p99(&self) -> Duration {
        let mut times: Vec<Duration> = self.sync_times.iter().copied().collect();
        times.sort_unstable();
        let rank = (times.len() * 99).div_ceil(100);
        times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The oldest record that is still in the log.
    pub(super) fn oldest(&self) -> Lsn {
        self.segments.front().map_or(self.next, |segment| segment.header.first)
    }
}

pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) dir: String,
    pub(super) config: WalConfig,
    pub(super) state: Mutex<State>,
    /// Something for the writer to do.
    pub(super) work: Notify,
    /// Something for the keeper to do.
    pub(super) chores: Notify,
    /// The stock has grown, or cannot.
    pub(super) stocked: Notify,
    /// The tasks are gone.
    pub(super) ended: Notify,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes nothing more, for the first reason that is given.
    pub(super) fn poison(&self, cause: &dyn std::fmt::Display) {
        crate::sometimes!("log-poisoned");
        let reason = cause.to_string();
        tracing::error!(dir = self.dir, reason, "the log is poisoned");
        self.state().poisoned.get_or_insert(reason);
        self.work.notify_one();
        self.stocked.notify_one();
    }

    pub(super) fn path(&self, name: &str) -> String {
        path(&self.dir, name)
    }
}

pub(super) fn path(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:016}.wal")
}

/// The number in the file name of a segment.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let number = digits.parse().ok()?;
    (digits.len() == 16 && segment_name(number) == name).then_some(number)
}
