//! What is stored per key, and how it becomes bytes.
//!
//! ```text
//! record, version 1:  version: u8 = 1 | flags: u8 | index: u64 | sub: u16 | [deadline: u64] | value
//! deadline row's key: deadline: u64, big-endian | key
//! ```
//!
//! Numbers of a record are little-endian; bit 0 of the flags says that a deadline follows. The
//! engine and the snapshots that carry records have checksums of their own.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::clock::Hlc;
use common::storage::engine::EngineError;
use serde::{Deserialize, Serialize};

/// When a key was last changed: the place of the command in the replicated order.
///
/// Two commands never share one. Within a transaction all changes have the transaction's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// Index of the log entry.
    pub index: u64,
    /// The command's number within its entry.
    pub sub: u16,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.sub)
    }
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its value.
    pub value: Bytes,
    /// When it was last changed.
    pub revision: Revision,
    /// From which instant of the replicated clock on it is gone, if ever.
    pub deadline: Option<Hlc>,
}

const VERSION: u8 = 1;
const HAS_DEADLINE: u8 = 1;
/// Version, flags and revision.
const FIXED: usize = 12;

impl Record {
    /// Whether the deadline has passed, so that the key is absent.
    pub fn is_due(&self, clock: Hlc) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= clock)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FIXED + 8 + self.value.len());
        out.put_u8(VERSION);
        out.put_u8(if self.deadline.is_some() { HAS_DEADLINE } else { 0 });
        out.put_u64_le(self.revision.index);
        out.put_u16_le(self.revision.sub);
        if let Some(deadline) = self.deadline {
            out.put_u64_le(deadline.to_bits());
        }
        out.put_slice(&self.value);
        out.freeze()
    }

    /// Decodes a record without copying its value. `key` is for the message.
    pub(super) fn decode(key: &[u8], mut bytes: Bytes) -> Result<Self, EngineError> {
        let damaged =
            |what: String| EngineError::Corrupt(format!("record of key {key:02x?}: {what}"));
        let short = || damaged("it ends too early".into());
        if bytes.remaining() < FIXED {
            return Err(short());
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(damaged(format!("layout version {version}, this build reads {VERSION}")));
        }
        let flags = bytes.get_u8();
        if flags & !HAS_DEADLINE != 0 {
            return Err(damaged(format!("unknown flags {flags:#04x}")));
        }
        let revision = Revision { index: bytes.get_u64_le(), sub: bytes.get_u16_le() };
        let deadline = if flags & HAS_DEADLINE == 0 {
            None
        } else {
            let bits = bytes.try_get_u64_le().map_err(|_| short())?;
            Some(Hlc::from_bits(bits))
        };
        Ok(Self { value: bytes, revision, deadline })
    }
}

/// The key of a deadline's row.
pub(super) fn deadline_row(deadline: Hlc, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(8 + key.len());
    row.put_u64(deadline.to_bits());
    row.put_slice(key);
    row.freeze()
}

/// The deadline and the key that a row's key names.
pub(super) fn parse_deadline_row(mut row: Bytes) -> Result<(Hlc, Bytes), EngineError> {
    let bits = row.try_get_u64().map_err(|_| {
        EngineError::Corrupt("a row of the deadlines is shorter than a deadline".into())
    })?;
    Ok((Hlc::from_bits(bits), row))
}
