//! The frame: what one message looks like on a connection, as plain functions over bytes.
//!
//! ```text
//! offset  0  length   u32   bytes of the body
//!         4  kind     u8    1 call, 2 reply, 3 refusal, 4 cast, 5 ping, 6 pong, 7 goodbye
//!         5  class    u8    0 control, 1 data, 2 bulk
//!         6  flags    u16   0
//!         8  group    u32
//!        12  epoch    u32
//!        16  call     u64   which call this is or answers; for pings the sender's clock
//!        24  body     u32   crc32c of the body
//!        28  head     u32   crc32c of the 28 bytes before
//!        32  body
//! ```
//!
//! Numbers are little-endian. The length comes first and is checked against the limit before
//! anything is allocated; an unknown kind, class or flag is refused, never skipped. The head has a
//! checksum of its own, so that a damaged length is noticed at once: believed, it would make the
//! reader wait for bytes that nobody sends. The magic and the version are in the handshake, once
//! per connection.

use bytes::Bytes;

use super::Class;
use crate::ids::{Epoch, GroupId};

/// Bytes before the body.
pub const HEADER: usize = 32;

/// Bytes of the header that its own checksum covers.
const COVERED: usize = 28;

/// Bodies are at most this large, unless configured otherwise: 16 MiB.
pub const DEFAULT_LIMIT: usize = 16 << 20;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A message that wants an answer.
    Call = 1,
    /// The answer to a call.
    Reply = 2,
    /// A call that was not served; the body says why, as text.
    Refusal = 3,
    /// A message without an answer.
    Cast = 4,
    /// A sign of life that wants one back.
    Ping = 5,
    /// The answer to a ping.
    Pong = 6,
    /// The sender closes the connection; the body says why, as text.
    Goodbye = 7,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Call,
            2 => Self::Reply,
            3 => Self::Refusal,
            4 => Self::Cast,
            5 => Self::Ping,
            6 => Self::Pong,
            7 => Self::Goodbye,
            _ => return None,
        })
    }
}

impl Class {
    pub(super) const ALL: [Self; 3] = [Self::Control, Self::Data, Self::Bulk];

    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
            Self::Bulk => 2,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Control,
            1 => Self::Data,
            2 => Self::Bulk,
            _ => return None,
        })
    }
}

/// Everything of a frame but its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the frame is for.
    pub kind: Kind,
    /// The lane it belongs to.
    pub class: Class,
    /// The replication group it is for.
    pub group: GroupId,
    /// The history of the cluster that its sender lives in.
    pub epoch: Epoch,
    /// Which call it is or answers.
    pub call: u64,
}

impl Head {
    /// A head for the one group and the first epoch.
    pub const fn new(kind: Kind, class: Class, call: u64) -> Self {
        Self { kind, class, group: GroupId(0), epoch: Epoch(0), call }
    }
}

/// Why bytes are not a frame. The connection they came on is closed: nothing after them can be
/// trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The body is over the limit. It was not read.
    #[error("a frame with a body of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size of the body as the header claims, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The checksum does not match.
    #[error("the checksum of a frame does not match: the bytes are damaged")]
    Checksum,
    /// The kind is not one of this version.
    #[error("unknown kind of frame: {0}")]
    Kind(u8),
    /// The class is not one of this version.
    #[error("unknown class of frame: {0}")]
    Class(u8),
    /// A flag is set that this version does not know.
    #[error("unknown flags of a frame: {0:#06x}")]
    Flags(u16),
}

/// What the front of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// Not yet a whole frame.
    Partial {
        /// Bytes the buffer must hold before it is worth another look.
        need: usize,
    },
    /// A frame, its checksum verified.
    Whole {
        /// The head.
        head: Head,
        /// The body.
        body: &'a [u8],
    },
}

/// The header bytes of a frame with this head and body.
///
/// # Panics
/// If the body is larger than `u32` counts: callers check their limit first.
pub fn encode_header(head: Head, body: &[u8]) -> [u8; HEADER] {
    let length = u32::try_from(body.len()).expect("bodies are within the frame limit");
    let mut out = [0; HEADER];
    out[0..4].copy_from_slice(&length.to_le_bytes());
    out[4] = head.kind as u8;
    out[5] = head.class.byte();
    out[8..12].copy_from_slice(&head.group.0.to_le_bytes());
    out[12..16].copy_from_slice(&head.epoch.0.to_le_bytes());
    out[16..24].copy_from_slice(&head.call.to_le_bytes());
    out[24..28].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let checksum = crc32c::crc32c(&out[..COVERED]);
    out[COVERED..].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// A whole frame in one piece.
pub fn encode(head: Head, body: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&encode_header(head, body));
    out.extend_from_slice(body);
    out.into()
}

/// Reads the frame at the front of `bytes`, refusing a body over `limit` bytes as soon as its
/// length is known.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Decoded<'_>, FrameError> {
    let Some(size) = u32_at(bytes, 0) else {
        return Ok(Decoded::Partial { need: HEADER });
    };
    let size = size as usize;
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return Ok(Decoded::Partial { need: HEADER });
    };
    if u32_at(header, COVERED) != Some(crc32c::crc32c(&header[..COVERED])) {
        return Err(FrameError::Checksum);
    }
    let head = decode_head(header)?;
    let Some(body) = bytes.get(HEADER..HEADER + size) else {
        return Ok(Decoded::Partial { need: HEADER + size });
    };
    if u32_at(header, 24) != Some(crc32c::crc32c(body)) {
        return Err(FrameError::Checksum);
    }
    Ok(Decoded::Whole { head, body })
}

fn decode_head(header: &[u8; HEADER]) -> Result<Head, FrameError> {
    let kind = Kind::from_byte(header[4]).ok_or(FrameError::Kind(header[4]))?;
    let class = Class::from_byte(header[5]).ok_or(FrameError::Class(header[5]))?;
    let flags = u16::from_le_bytes([header[6], header[7]]);
    if flags != 0 {
        return Err(FrameError::Flags(flags));
    }
    let group = GroupId(u32_at(header, 8).unwrap_or_default());
    let epoch = Epoch(u32_at(header, 12).unwrap_or_default());
    let mut call = [0; 8];
    call.copy_from_slice(&header[16..24]);
    Ok(Head { kind, class, group, epoch, call: u64::from_le_bytes(call) })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests;
