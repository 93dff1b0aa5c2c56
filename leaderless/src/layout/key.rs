//! Keys, their tokens, and how they are ordered in the engine.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The name of a container: where it lives, and its place among the keys that live there.
///
/// All keys with one route share their owners; `sort` orders them under it (fields of a hash,
/// elements of a set). A plain key has an empty `sort`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// What is hashed.
    pub route: Bytes,
    /// The order under the route.
    pub sort: Bytes,
}

/// The hash of a route: XXH3-64 with the cluster's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

impl Key {
    /// A key without a sort part.
    pub fn plain(route: impl Into<Bytes>) -> Self {
        Self { route: route.into(), sort: Bytes::new() }
    }

    /// A key under a route.
    pub fn sorted(route: impl Into<Bytes>, sort: impl Into<Bytes>) -> Self {
        Self { route: route.into(), sort: sort.into() }
    }

    /// The token of the key's route under a cluster's seed.
    pub fn token(&self, seed: u64) -> Token {
        Token(xxh3_64_with_seed(&self.route, seed))
    }

    /// Bytes of both parts.
    pub fn size(&self) -> usize {
        self.route.len() + self.sort.len()
    }
}

/// A zero inside a route, and the end of it. The end is smaller than everything that can follow.
const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x00;

/// Why bytes are not a key of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineKeyError {
    /// The bytes end before the route does.
    #[error("an engine key ends before its route does")]
    Truncated,
    /// A zero byte is followed by neither an end nor an escape.
    #[error("an engine key has a zero byte that is neither escaped nor the end of the route")]
    Escape,
}

/// The engine's key: `token (8, big endian) | escaped route | 00 00 | sort`.
///
/// Keys are ordered by token, then route, then sort, so that a partition, and a leaf of the hash
/// tree, is one contiguous range.
pub fn engine_key(token: Token, key: &Key) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + key.size());
    out.extend_from_slice(&token.0.to_be_bytes());
    for &byte in &key.route {
        out.push(byte);
        if byte == ESCAPE {
            out.push(ESCAPED_ZERO);
        }
    }
    out.extend_from_slice(&[ESCAPE, END]);
    out.extend_from_slice(&key.sort);
    out
}

/// The token and the key behind an engine's key.
pub fn decode_engine_key(bytes: &[u8]) -> Result<(Token, Key), EngineKeyError> {
    let (token, rest) = bytes.split_first_chunk::<8>().ok_or(EngineKeyError::Truncated)?;
    let mut route = Vec::with_capacity(rest.len());
    let mut at = 0;
    loop {
        match (rest.get(at), rest.get(at + 1)) {
            (Some(&ESCAPE), Some(&END)) => break,
            (Some(&ESCAPE), Some(&ESCAPED_ZERO)) => {
                route.push(ESCAPE);
                at += 2;
            }
            (Some(&ESCAPE), Some(_)) => return Err(EngineKeyError::Escape),
            (Some(&ESCAPE), None) | (None, _) => return Err(EngineKeyError::Truncated),
            (Some(&byte), _) => {
                route.push(byte);
                at += 1;
            }
        }
    }
    let sort = Bytes::copy_from_slice(&rest[at + 2..]);
    Ok((Token(u64::from_be_bytes(*token)), Key { route: route.into(), sort }))
}
