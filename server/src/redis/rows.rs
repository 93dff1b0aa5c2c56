//! Where things are stored: the keys of rows, and the ledger.
//!
//! ```text
//! key's row:           generation: u32 | siphash13 of the key: u64 | key
//! deadline's row:      generation: u32 | deadline: u64 | key
//! ledger, version 1:   version: u8 = 1 | generation: u32 | oldest: u32 | count: u64 | dated: u64
//!                      | elements: u64
//! ```
//!
//! All numbers here are big-endian, so that rows stand in their order.

use std::hash::Hasher;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::storage::engine::{EngineError, Read};
use siphasher::sip::SipHasher13;

use super::LEDGER;

/// Bytes before the key in each kind of row.
pub(super) const BEFORE_KEY: usize = 12;

/// The hash that orders keys: SipHash-1-3 under a key that never changes, since it is on disk.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7465_7263_6574_2e31, 0x6b65_792e_6f72_6465);
    hasher.write(key);
    hasher.finish()
}

/// The row of a key.
pub(super) fn key_row(generation: u32, key: &[u8]) -> Bytes {
    row(generation, hash(key), key)
}

/// The row of a deadline.
pub(super) fn deadline_row(generation: u32, deadline: u64, key: &[u8]) -> Bytes {
    row(generation, deadline, key)
}

/// The first row that a generation can have from a number on.
pub(super) fn first_row(generation: u32, number: u64) -> Bytes {
    row(generation, number, b"")
}

fn row(generation: u32, number: u64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(BEFORE_KEY + key.len());
    row.put_u32(generation);
    row.put_u64(number);
    row.put_slice(key);
    row.freeze()
}

/// The number and the key of a row.
pub(super) fn parse_row(mut row: Bytes) -> Result<(u64, Bytes), EngineError> {
    if row.remaining() < BEFORE_KEY {
        return Err(EngineError::Corrupt(format!(
            "the key of a row, {row:02x?}, is shorter than {BEFORE_KEY} bytes"
        )));
    }
    row.advance(4);
    let number = row.get_u64();
    Ok((number, row))
}

/// What is known of all keys together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Whose rows are in force. It grows with every flush.
    pub(super) generation: u32,
    /// The oldest that may have rows left.
    pub(super) oldest: u32,
    /// Keys in force, those that are due but not swept included.
    pub(super) count: u64,
    /// Those of them that have a deadline.
    pub(super) dated: u64,
    /// The generation of the next key's elements.
    pub(super) elements: u64,
}

const VERSION: u8 = 1;
const LENGTH: usize = 33;

impl Ledger {
    pub(super) fn read(state: &dyn Read) -> Result<Self, EngineError> {
        match state.get(LEDGER, b"")? {
            None => Ok(Self::default()),
            Some(bytes) => Self::decode(bytes),
        }
    }

    pub(super) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(LENGTH);
        out.put_u8(VERSION);
        out.put_u32(self.generation);
        out.put_u32(self.oldest);
        out.put_u64(self.count);
        out.put_u64(self.dated);
        out.put_u64(self.elements);
        out.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Result<Self, EngineError> {
        if bytes.len() != LENGTH || bytes[0] != VERSION {
            return Err(EngineError::Corrupt(format!(
                "the ledger of keys is {bytes:02x?}, this build reads {LENGTH} bytes that begin \
                 with {VERSION}"
            )));
        }
        bytes.advance(1);
        Ok(Self {
            generation: bytes.get_u32(),
            oldest: bytes.get_u32(),
            count: bytes.get_u64(),
            dated: bytes.get_u64(),
            elements: bytes.get_u64(),
        })
    }
}
