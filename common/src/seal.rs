//! Seals: what a cluster hands to its clients and takes back, so that nobody else can make it.
//!
//! Tokens and receipts travel through clients as text or bytes that mean nothing to them. They are
//! not secret, and showing a valid one twice is what they are for; the seal only tells a real one
//! from a damaged, a forged and a foreign one, and says which.
//!
//! ```text
//! kind: u8 | version: u8 | body (codec, without frame) | tag: u64 | crc32c of all before: u32
//! ```
//!
//! Numbers are little-endian. The tag is SipHash-2-4 (Aumasson and Bernstein 2012) of everything
//! before it, under the cluster's secret. Every version, also a later one, begins with kind and
//! version and ends with the checksum, so that an old build can tell "newer" from "damaged". As
//! text it is base32 in lower case without padding (RFC 4648, section 6), which survives URLs,
//! logs, and people reading it aloud.

mod base32;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::hash::Hasher;

use serde::{Serialize, de::DeserializeOwned};
use siphasher::sip::SipHasher24;

use crate::codec::{self, CodecError};
use crate::ids::ClusterId;

/// The key under which a cluster seals. All its nodes share it; it is made at bootstrap.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret([u8; 16]);

impl ClusterSecret {
    /// A secret from 16 bytes that nobody can guess.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A fresh secret from the operating system's randomness. A simulated cluster takes its secret
    /// from its own random stream instead.
    pub fn from_system() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Self(bytes))
    }

    /// The bytes, to be stored where only the cluster's nodes read them.
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }

    fn tag(&self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish()
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

/// Why a token or receipt is refused. Nothing was read or written with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// It lost or changed bytes on its way.
    #[error("this {kind} is damaged: {detail}; pass it on exactly as it was given")]
    Damaged {
        /// Token or receipt.
        kind: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// It is whole, but it is the other of token and receipt, or something else altogether.
    #[error("this is not a {0}")]
    NotA(&'static str),
    /// It was made by another version of the software.
    #[error("this {kind} has version {found}, this build reads {supported}; ask an upgraded node")]
    Version {
        /// Token or receipt.
        kind: &'static str,
        /// Its version.
        found: u8,
        /// The version this build reads.
        supported: u8,
    },
    /// It says that it belongs to another cluster.
    #[error(
        "this {kind} is of cluster {found}, this is cluster {expected}: ask there; after a restore \
         from a backup a cluster has a new id, and what the old one handed out is void"
    )]
    OtherCluster {
        /// Token or receipt.
        kind: &'static str,
        /// The cluster it belongs to.
        found: ClusterId,
        /// The cluster that was asked.
        expected: ClusterId,
    },
    /// This cluster did not make it: the tag is not the one its secret gives.
    #[error("this {0} was not made by this cluster, or was changed on purpose")]
    Forged(&'static str),
    /// The tag is right, but the content is not of this layout.
    #[error("this {kind} cannot be read: {cause}")]
    Malformed {
        /// Token or receipt.
        kind: &'static str,
        /// What is wrong.
        cause: CodecError,
    },
    /// It is over the size limit.
    #[error("this {kind} has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// Token or receipt.
        kind: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// A kind of value that is sealed.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) magic: u8,
    pub(crate) version: u8,
    /// The largest sealed form in bytes.
    pub(crate) limit: usize,
}

/// Kind and version.
const HEAD: usize = 2;
const TAG: usize = 8;
const CHECKSUM: usize = 4;

impl Kind {
    /// Seals a value.
    pub(crate) fn seal<T: Serialize>(&self, value: &T, secret: &ClusterSecret) -> Vec<u8> {
        let mut out = vec![self.magic, self.version];
        out.extend_from_slice(&codec::encode_body(value));
        out.extend_from_slice(&secret.tag(&out).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Checks the seal and gives the value. The checks go from the accidental to the deliberate,
    /// so that each failure has its own name.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        secret: &ClusterSecret,
        cluster: ClusterId,
        cluster_of: impl Fn(&T) -> ClusterId,
    ) -> Result<T, SealError> {
        let kind = self.name;
        if bytes.len() > self.limit {
            return Err(SealError::TooLarge { kind, size: bytes.len(), limit: self.limit });
        }
        let damaged = |detail: &str| SealError::Damaged { kind, detail: detail.to_owned() };
        let Some((checked, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Err(damaged("it is too short"));
        };
        if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum does not match"));
        }
        if checked.first() != Some(&self.magic) {
            return Err(SealError::NotA(kind));
        }
        match checked.get(1) {
            Some(found) if *found == self.version => {}
            Some(found) => {
                return Err(SealError::Version { kind, found: *found, supported: self.version });
            }
            None => return Err(damaged("it is too short")),
        }
        let Some((sealed, tag)) =
            checked.split_last_chunk::<TAG>().filter(|(s, _)| s.len() >= HEAD)
        else {
            return Err(damaged("it is too short"));
        };
        let value = codec::decode_body::<T>(&sealed[HEAD..]);
        if let Ok(value) = &value {
            let found = cluster_of(value);
            if found != cluster {
                return Err(SealError::OtherCluster { kind, found, expected: cluster });
            }
        }
        if secret.tag(sealed) != u64::from_le_bytes(*tag) {
            return Err(SealError::Forged(kind));
        }
        value.map_err(|cause| SealError::Malformed { kind, cause })
    }

    /// As [`Kind::seal`], as text.
    pub(crate) fn seal_text<T: Serialize>(&self, value: &T, secret: &ClusterSecret) -> String {
        base32::encode(&self.seal(value, secret))
    }

    /// As [`Kind::open`], from text.
    pub(crate) fn open_text<T: DeserializeOwned>(
        &self,
        text: &str,
        secret: &ClusterSecret,
        cluster: ClusterId,
        cluster_of: impl Fn(&T) -> ClusterId,
    ) -> Result<T, SealError> {
        let (kind, limit) = (self.name, self.limit);
        let size = text.len() / 8 * 5;
        if size > limit {
            return Err(SealError::TooLarge { kind, size, limit });
        }
        let bytes = base32::decode(text)
            .map_err(|detail| SealError::Damaged { kind, detail: detail.to_owned() })?;
        self.open(&bytes, secret, cluster, cluster_of)
    }
}
