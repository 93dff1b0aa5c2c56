//! How values become bytes: a frame with magic, version, length and checksum around `bincode`.
//!
//! This is the only file that names `bincode`. Sizes are checked before anything is decoded.
//!
//! ```text
//! magic: 4 bytes | version: u16 | length: u32 | crc32c of body: u32 | body (bincode, little-endian, variable integers)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// What a frame holds: four letters that name the kind of value, and the version of its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Four bytes that name the kind of value.
    pub magic: [u8; 4],
    /// Version of the layout, from 1.
    pub version: u16,
}

/// Bytes before the body of a frame.
pub const HEADER: usize = 14;

/// Why bytes could not be decoded. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes end before the value does.
    #[error("truncated: {need} bytes needed, {have} there")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The magic is of another kind of value.
    #[error("not a {expected}: it begins with {found:02x?}")]
    Magic {
        /// The expected magic, as text.
        expected: String,
        /// The bytes found.
        found: [u8; 4],
    },
    /// The version is not one that this build reads.
    #[error("{kind} has layout version {found}, this build reads {supported}")]
    Version {
        /// The kind of value.
        kind: String,
        /// The version found.
        found: u16,
        /// The version this build reads.
        supported: u16,
    },
    /// The value says it is larger than the limit.
    #[error("{length} bytes are over the limit of {limit}")]
    TooLarge {
        /// The length in the header.
        length: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The checksum does not match: the bytes are damaged.
    #[error("checksum mismatch: the bytes are damaged")]
    Checksum,
    /// The checksum matches but the body is not a value of this type.
    #[error("malformed body: {0}")]
    Body(String),
    /// Bytes follow the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

const fn config() -> bincode::config::Configuration {
    bincode::config::standard()
}

/// How many bytes of memory one byte of input may ask for, at most: a number of 16 bytes can be
/// encoded in one.
const GROWTH: usize = 16;

/// Decodes with a bound on memory that follows the size of the input: a length inside of it could
/// otherwise ask for any amount before it is found to be a lie. The bound is a constant of the
/// decoder's type, so it comes in steps.
fn decode_bounded<T: DeserializeOwned>(
    bytes: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    const SMALL: usize = 4 << 10;
    const MIDDLE: usize = 512 << 10;
    const LARGE: usize = 64 << 20;
    use bincode::serde::decode_from_slice as decode;
    if bytes.len() <= SMALL {
        decode(bytes, config().with_limit::<{ SMALL * GROWTH }>())
    } else if bytes.len() <= MIDDLE {
        decode(bytes, config().with_limit::<{ MIDDLE * GROWTH }>())
    } else if bytes.len() <= LARGE {
        decode(bytes, config().with_limit::<{ LARGE * GROWTH }>())
    } else {
        decode(bytes, config().with_limit::<{ 64 << 30 }>())
    }
}

/// The checksum of frames, for bytes that travel without one.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Encodes a value without a frame, for a place that has a frame and a checksum of its own.
///
/// # Panics
/// If the value's `Serialize` fails, which the types of this workspace never do.
pub fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config()).expect("serialising to memory cannot fail")
}

/// Decodes what [`encode_body`] made. All bytes must be used.
pub fn decode_body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = decode_bounded::<T>(bytes).map_err(|e| CodecError::Body(e.to_string()))?;
    if used != bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - used));
    }
    Ok(value)
}

/// Encodes a value in a frame.
pub fn encode<T: Serialize>(format: Format, value: &T) -> Bytes {
    let body = encode_body(value);
    let mut out = BytesMut::with_capacity(HEADER + body.len());
    out.put_slice(&format.magic);
    out.put_u16_le(format.version);
    out.put_u32_le(body.len() as u32);
    out.put_u32_le(crc32c::crc32c(&body));
    out.put_slice(&body);
    out.freeze()
}

/// The length of the body behind a frame's header, refusing one over `limit` bytes.
pub fn body_length(format: Format, header: &[u8], limit: usize) -> Result<usize, CodecError> {
    let Some(header) = header.first_chunk::<HEADER>() else {
        return Err(CodecError::Truncated { need: HEADER, have: header.len() });
    };
    let kind = || String::from_utf8_lossy(&format.magic).into_owned();
    let [m0, m1, m2, m3, v0, v1, l0, l1, l2, l3, ..] = *header;
    if [m0, m1, m2, m3] != format.magic {
        return Err(CodecError::Magic { expected: kind(), found: [m0, m1, m2, m3] });
    }
    let found = u16::from_le_bytes([v0, v1]);
    if found != format.version {
        return Err(CodecError::Version { kind: kind(), found, supported: format.version });
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > limit {
        return Err(CodecError::TooLarge { length, limit });
    }
    Ok(length)
}

/// Decodes one framed value that fills `bytes`, refusing a body over `limit` bytes.
pub fn decode<T: DeserializeOwned>(
    format: Format,
    bytes: &[u8],
    limit: usize,
) -> Result<T, CodecError> {
    let length = body_length(format, bytes, limit)?;
    let (header, body) = bytes.split_at(HEADER);
    if body.len() < length {
        return Err(CodecError::Truncated { need: length, have: body.len() });
    }
    if body.len() > length {
        return Err(CodecError::Trailing(body.len() - length));
    }
    let crc = u32::from_le_bytes([header[10], header[11], header[12], header[13]]);
    if crc32c::crc32c(body) != crc {
        return Err(CodecError::Checksum);
    }
    decode_body(body)
}

#[cfg(test)]
mod tests;
