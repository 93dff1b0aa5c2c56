//! What is stored per key, and how it becomes bytes.
//!
//! ```text
//! record, version 1:
//!   version: u8 = 1 | kind: u8 | flags: u8 | index: u64 | sub: u16
//!   | [deadline: u64] | [generation: u64 | count: u64] | value
//! ```
//!
//! Numbers are little-endian. Bit 0 of the flags says that a deadline follows, in milliseconds since
//! the Unix epoch. Bit 1 says that the elements are rows of their own: then a generation names the
//! rows and a count says how many there are. A string has no such rows. The engine and the snapshots
//! that carry records have checksums of their own.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::storage::engine::EngineError;
use leader::key_value::Revision;
use serde::{Deserialize, Serialize};

/// The types of Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Bytes.
    String,
    /// A list.
    List,
    /// A set.
    Set,
    /// A sorted set.
    SortedSet,
    /// A hash.
    Hash,
}

impl Kind {
    const ALL: [Self; 5] = [Self::String, Self::List, Self::Set, Self::SortedSet, Self::Hash];

    /// How many generations of elements a key of this type has: a sorted set also has its scores.
    pub(super) const fn generations(self) -> u64 {
        match self {
            Self::SortedSet => 2,
            _ => 1,
        }
    }

    /// Its name, as TYPE answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
        }
    }
}

/// Rows that belong to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elements {
    /// Names the rows: never used before for another key, or for this one.
    pub generation: u64,
    /// How many there are.
    pub count: u64,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its type.
    pub kind: Kind,
    /// When it was last changed.
    pub revision: Revision,
    /// From when on it is gone, in milliseconds of the replicated clock.
    pub deadline: Option<u64>,
    /// Its elements, unless it is a string.
    pub elements: Option<Elements>,
    /// Its value, if it is a string.
    pub value: Bytes,
}

const VERSION: u8 = 1;
const HAS_DEADLINE: u8 = 1;
const HAS_ELEMENTS: u8 = 2;
/// Version, kind, flags and revision.
const FIXED: usize = 13;

impl Record {
    /// Whether the deadline has passed at `clock`, so that the key is absent.
    pub fn is_due(&self, clock: u64) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= clock)
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(FIXED + 24 + self.value.len());
        let deadline = if self.deadline.is_some() { HAS_DEADLINE } else { 0 };
        let elements = if self.elements.is_some() { HAS_ELEMENTS } else { 0 };
        out.put_u8(VERSION);
        out.put_u8(self.kind as u8);
        out.put_u8(deadline | elements);
        out.put_u64_le(self.revision.index);
        out.put_u16_le(self.revision.sub);
        if let Some(deadline) = self.deadline {
            out.put_u64_le(deadline);
        }
        if let Some(elements) = self.elements {
            out.put_u64_le(elements.generation);
            out.put_u64_le(elements.count);
        }
        out.put_slice(&self.value);
        out.freeze()
    }

    /// Decodes a record without copying its value. `key` is for the message.
    pub(super) fn decode(key: &[u8], mut bytes: Bytes) -> Result<Self, EngineError> {
        let damaged = |what: String| {
            EngineError::Corrupt(format!("record of key \"{}\": {what}", key.escape_ascii()))
        };
        let short = |_| damaged("it ends too early".into());
        if bytes.remaining() < FIXED {
            return Err(damaged("it ends too early".into()));
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(damaged(format!("layout version {version}, this build reads {VERSION}")));
        }
        let kind = bytes.get_u8();
        let Some(kind) = Kind::ALL.get(usize::from(kind)).copied() else {
            return Err(damaged(format!("unknown type {kind}")));
        };
        let flags = bytes.get_u8();
        let unknown = flags & !(HAS_DEADLINE | HAS_ELEMENTS) != 0;
        if unknown || (flags & HAS_ELEMENTS != 0) == (kind == Kind::String) {
            return Err(damaged(format!("flags {flags:#04x} do not fit a {}", kind.name())));
        }
        let revision = Revision { index: bytes.get_u64_le(), sub: bytes.get_u16_le() };
        let deadline = match flags & HAS_DEADLINE {
            0 => None,
            _ => Some(bytes.try_get_u64_le().map_err(short)?),
        };
        let elements = match flags & HAS_ELEMENTS {
            0 => None,
            _ => Some(Elements {
                generation: bytes.try_get_u64_le().map_err(short)?,
                count: bytes.try_get_u64_le().map_err(short)?,
            }),
        };
        Ok(Self { kind, revision, deadline, elements, value: bytes })
    }
}
