//! Why the log did not do what was asked.

use super::Lsn;
use crate::storage::disk::DiskError;

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
    /// What was appended since the last success is on the disk or not, nobody knows.
    #[error("the log is poisoned by an earlier failure: {0}; look at the disk, then restart")]
    Poisoned(String),
    /// The disk is full, and these records may not use the reserved segment. They are not in the
    /// log and never will be; the log goes on by itself when there is space again.
    #[error("the disk is full; free space or add some, the log goes on by itself")]
    Full,
    /// The log was closed. Nothing was appended.
    #[error("the log is closed")]
    Closed,
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
    /// A record is over [`WalConfig::max_record`](super::WalConfig::max_record). Nothing was
    /// appended.
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

impl WalError {
    /// Damage, with the advice that belongs to it.
    pub(super) fn corrupt(segment: &str, offset: u64, what: &str) -> Self {
        crate::sometimes!("corruption-refused");
        let detail = format!(
            "{what}. Nothing was changed: move the folder away for analysis, then restore a backup \
             or let the node copy from its peers under a new id"
        );
        Self::Corrupt { segment: segment.to_owned(), offset, detail }
    }
}
