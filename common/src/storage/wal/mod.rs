//! The write-ahead log: one ordered stream of records with pipelined group commit and strict
//! recovery.

use bytes::Bytes;

use super::disk::DiskError;
use crate::env::Env;

/// The number of a record in its log: dense, from 1, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Why the log did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The log is damaged in front of valid records. Nothing was changed.
    #[error("{segment}: damaged at byte {offset}: {detail}")]
    Corrupt {
        /// The segment file.
        segment: String,
        /// Where in it.
        offset: u64,
        /// What is wrong, and what to do.
        detail: String,
    },
    /// An earlier write or sync failed; the log takes nothing more until the node is restarted.
    #[error("the log is poisoned by an earlier failure: {0}")]
    Poisoned(String),
    /// The records asked for were released.
    #[error("records before {oldest:?} are gone")]
    Released {
        /// The oldest record still there.
        oldest: Lsn,
    },
    /// A replayed record was refused by its owner.
    #[error("record {lsn:?} was refused: {reason}")]
    Refused {
        /// The record.
        lsn: Lsn,
        /// Why.
        reason: String,
    },
    /// A record is over [`WalConfig::max_record`].
    #[error("a record of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The knobs of a log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Bytes of one segment file. Default 64 MiB, at least 4 KiB. Larger ones roll less often,
    /// smaller ones free space sooner.
    pub segment_bytes: u64,
    /// The largest record in bytes. Default 16 MiB.
    pub max_record: usize,
    /// The most bytes written and synced as one group. Default 4 MiB. Larger groups need fewer
    /// syncs under load, smaller ones answer sooner.
    pub group_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_record: 16 << 20, group_bytes: 4 << 20 }
    }
}

/// Receives the records of a log when it is opened, in order.
pub trait Replay: Send {
    /// Takes one record; an error refuses the log.
    fn record(&mut self, lsn: Lsn, record: Bytes) -> Result<(), String>;
}

/// How the disk under a log is doing.
#[derive(Clone, Debug, Default)]
pub struct DiskHealth {
    /// How long the oldest record has waited for its sync, in microseconds; 0 when none waits.
    pub oldest_unsynced_micros: u64,
    /// The 99th percentile of recent syncs, in microseconds.
    pub sync_p99_micros: u64,
    /// Why the log takes nothing more, if so.
    pub poisoned: Option<String>,
    /// Whether the disk is full: only the reserved segment is left.
    pub full: bool,
    /// Bytes in segment files.
    pub bytes: u64,
    /// Syncs since the log was opened.
    pub syncs: u64,
    /// Records appended since the log was opened.
    pub records: u64,
}

/// A write-ahead log.
#[derive(Debug)]
pub struct Wal {}

impl Wal {
    /// Opens or makes the log in the folder `dir`, giving every valid record to `replay`. A torn
    /// tail is cut; damage in front of a valid record is refused.
    pub async fn open(
        env: &Env,
        dir: &str,
        config: WalConfig,
        replay: &mut dyn Replay,
    ) -> Result<Self, WalError> {
        let _ = (env, dir, config, replay);
        todo!()
    }

    /// Queues records in order and returns the number of the last one. `durable` is called once, in
    /// stream order, when all of them are synced or can never be. Never blocks, never waits.
    pub fn append(
        &self,
        records: Vec<Bytes>,
        durable: impl FnOnce(Result<Lsn, WalError>) + Send + 'static,
    ) -> Lsn {
        let _ = (records, durable);
        todo!()
    }

    /// Returns when everything appended before is durable.
    pub async fn sync(&self) -> Result<Lsn, WalError> {
        todo!()
    }

    /// Records from `from` on, up to `max_bytes` of them, at least one where there is one. Also
    /// those that are not synced yet.
    pub async fn read(&self, from: Lsn, max_bytes: usize) -> Result<Vec<(Lsn, Bytes)>, WalError> {
        let _ = (from, max_bytes);
        todo!()
    }

    /// Allows segments that hold only records below `below` to be removed.
    pub fn release(&self, below: Lsn) {
        let _ = below;
    }

    /// How the disk is doing.
    pub fn health(&self) -> DiskHealth {
        DiskHealth::default()
    }

    /// Stops taking records, writes and syncs what is queued, and ends the log's tasks.
    pub async fn close(&self) -> Result<(), WalError> {
        todo!()
    }
}
