//! What a client saw of a key: handed out with a read, shown again with the write that follows.
//!
//! A context is input. One with huge numbers would erase future writes, and one of another key would
//! erase that key's values; so it is bound to its key and carries a tag under the cluster's secret.
//!
//! ```text
//! version: u8 | body (codec, without frame) | SipHash-2-4 of all before: u64, little-endian
//! ```

use std::hash::Hasher;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::ids::{ClusterId, KeyspaceId};
use common::seal::ClusterSecret;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::Context;

const VERSION: u8 = 1;

/// The largest sealed context in bytes.
const LIMIT: usize = 4 << 10;

/// What a client saw of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientContext {
    /// The cluster.
    pub cluster: ClusterId,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// A fingerprint of the key.
    pub key: u64,
    /// The largest stamp it saw: a write that follows is stamped above it.
    pub stamp: Hlc,
    /// The dots it saw, and those that they supersede.
    pub seen: Context,
}

/// Why a context is refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// It is over the limit.
    #[error("a context of {size} bytes is over the limit of {limit}; read the key again")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It was not made by this cluster, or was changed.
    #[error("this context was not made by this cluster, or was changed; read the key again")]
    Forged,
    /// It is of another key, keyspace or cluster.
    #[error("this context belongs to another key; show it with the key it was read with")]
    OtherKey,
}

impl ClientContext {
    fn tag(secret: &ClusterSecret, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(secret.expose());
        hasher.write(b"leaderless context");
        hasher.write(bytes);
        hasher.finish()
    }

    /// The sealed form.
    pub fn seal(&self, secret: &ClusterSecret) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&codec::encode_body(self));
        let tag = Self::tag(secret, &out);
        out.extend_from_slice(&tag.to_le_bytes());
        out.into()
    }

    /// The context in a sealed form, if this cluster made it.
    pub fn open(bytes: &[u8], secret: &ClusterSecret) -> Result<Self, ContextError> {
        if bytes.len() > LIMIT {
            return Err(ContextError::TooLarge { size: bytes.len(), limit: LIMIT });
        }
        let (sealed, tag) = bytes.split_last_chunk::<8>().ok_or(ContextError::Forged)?;
        if Self::tag(secret, sealed) != u64::from_le_bytes(*tag) {
            return Err(ContextError::Forged);
        }
        match sealed.split_first() {
            Some((&VERSION, body)) => codec::decode_body(body).map_err(|_| ContextError::Forged),
            _ => Err(ContextError::Forged),
        }
    }

    /// Whether it is of this key.
    pub fn check(
        self,
        cluster: ClusterId,
        keyspace: KeyspaceId,
        key: u64,
    ) -> Result<Self, ContextError> {
        if (self.cluster, self.keyspace, self.key) == (cluster, keyspace, key) {
            Ok(self)
        } else {
            Err(ContextError::OtherKey)
        }
    }
}
