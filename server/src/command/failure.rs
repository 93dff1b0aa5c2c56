//! Failures of replication, with the words that clients know.
//!
//! What happened to the data is in the first word already: after `UNKNOWN` a write may have taken
//! place, now or later; after `ACKTIMEOUT` it has, unless its receipt says otherwise, and not all
//! members that were asked for have it; after any other it has not.

use leader::error::{ReadError, WriteError};

use crate::resp::Value;

/// Why a write was not acknowledged.
pub(crate) fn write_failure(error: &WriteError) -> Value {
    let word = match error {
        WriteError::NoLeader(_) | WriteError::Stopping(_) => "CLUSTERDOWN",
        WriteError::Overloaded { .. } | WriteError::SessionExpired => "TRYAGAIN",
        WriteError::DiskFull => "MISCONF",
        // Redis's words, which clients look for.
        WriteError::OverQuota(_) => "OOM command not allowed when used memory > 'maxmemory':",
        WriteError::Unknown { .. } => "UNKNOWN",
        WriteError::AckTimeout { .. } => "ACKTIMEOUT",
        _ => "ERR",
    };
    Value::error(format!("{word} {error}"))
}

/// Why a read has no answer.
pub(crate) fn read_failure(error: &ReadError) -> Value {
    let word = match error {
        ReadError::NoLeader(_) | ReadError::Stopping(_) => "CLUSTERDOWN",
        ReadError::Behind(_) => "TRYAGAIN",
        ReadError::SnapshotTooOld { .. } => "SNAPSHOTTOOLD",
        ReadError::SessionLost { .. } => "SESSIONLOST",
        ReadError::Quarantined(_) => "QUARANTINED",
        _ => "ERR",
    };
    Value::error(format!("{word} {error}"))
}
