//! The knobs of a log, and what it says about its disk.

use super::format::{FRAME_HEADER, SEGMENT_HEADER};

/// The knobs of a log.
#[derive(Clone, Debug)]
pub struct WalConfig {
    /// Bytes of one segment file. Default 64 MiB, at least 4 KiB. Larger ones roll less often,
    /// smaller ones free space sooner. Two more segments than are in use are held ready.
    pub segment_bytes: u64,
    /// The largest record in bytes. Default 16 MiB, at most 1 GiB. A record that does not fit into
    /// a segment gets a larger one.
    pub max_record: usize,
    /// The most bytes written and synced as one group. Default 4 MiB. Larger groups need fewer
    /// syncs under load, smaller ones answer sooner.
    pub group_bytes: usize,
    /// Bytes of the newest records that are kept in memory for readers, beside those that are not
    /// synced yet. Default 8 MiB.
    pub recent_bytes: usize,
}

impl Default for WalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_record: 16 << 20,
            group_bytes: 4 << 20,
            recent_bytes: 8 << 20,
        }
    }
}

impl WalConfig {
    /// The same, with values out of range replaced by the nearest in range.
    pub(super) fn clamped(mut self) -> Self {
        self.segment_bytes = self.segment_bytes.max(4 << 10).next_multiple_of(8);
        self.max_record = self.max_record.min(1 << 30);
        self.group_bytes = self.group_bytes.max(SEGMENT_HEADER + FRAME_HEADER);
        self
    }
}

/// How the disk under a log is doing.
#[derive(Clone, Debug, Default)]
pub struct DiskHealth {
    /// How long the oldest record has waited for its sync, in microseconds; 0 when none waits.
    pub oldest_unsynced_micros: u64,
    /// The 99th percentile of recent writes with their syncs, in microseconds.
    pub sync_p99_micros: u64,
    /// Why the log takes nothing more, if so.
    pub poisoned: Option<String>,
    /// Whether the disk is full: no further segment could be prepared. Ordinary records still fit
    /// into the current segment until it ends; then only the reserved one is left.
    pub full: bool,
    /// Bytes in segment files.
    pub bytes: u64,
    /// Groups written and synced since the log was opened.
    pub syncs: u64,
    /// Records written since the log was opened.
    pub records: u64,
}
