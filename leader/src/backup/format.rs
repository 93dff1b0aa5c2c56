//! The file of a backup: frames that check themselves, in an order that shows what is missing.
//!
//! ```text
//! frame "TLbh" version 1: when, node, cluster, its name, epoch, position, clock
//! frame "TLbc" version 1, one per chunk: the next bytes of a snapshot's stream
//! frame "TLbz" version 1: number, bytes and digest of the chunks; number and hash of the items
//! ```
//!
//! The file ends with the last frame. One that ends before is not complete, whatever made it so.

use std::hash::Hasher;

use bytes::{Bytes, BytesMut};
use common::clock::Hlc;
use common::codec::{self, CodecError, Format};
use common::ids::{ClusterId, Epoch, LogPos, NodeId};
use common::storage::engine::{EngineError, Keyspace};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use super::Summary;
use crate::apply::{APPLIED, Applied, META};
use crate::snapshot::{Reading, SnapshotError};
use crate::state_hash::StateHash;

/// The version of the layout.
pub(super) const VERSION: u16 = 1;

const HEADER: Format = Format { magic: *b"TLbh", version: VERSION };
const CHUNK: Format = Format { magic: *b"TLbc", version: VERSION };
const END: Format = Format { magic: *b"TLbz", version: VERSION };

/// The largest first or last frame in bytes.
const SMALL: usize = 4_096;
/// The largest chunk in bytes: more than any `snapshot_chunk_bytes`.
const LARGE: usize = 9 << 20;

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) taken_unix_millis: u64,
    pub(super) node: NodeId,
    pub(super) cluster: ClusterId,
    pub(super) cluster_name: String,
    pub(super) epoch: Epoch,
    pub(super) at: LogPos,
    pub(super) clock: Hlc,
}

/// The last frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    chunks: u64,
    bytes: u64,
    digest: u64,
    state: StateHash,
}

/// Number, bytes and digest of the chunks so far, in their order.
#[derive(Clone, Debug)]
struct Chunks {
    count: u64,
    bytes: u64,
    digest: SipHasher13,
}

impl Default for Chunks {
    fn default() -> Self {
        let digest = SipHasher13::new_with_keys(0x7465_7263_6574, 0x6261_636b_7570);
        Self { count: 0, bytes: 0, digest }
    }
}

impl Chunks {
    fn add(&mut self, chunk: &[u8]) {
        self.count += 1;
        self.bytes += chunk.len() as u64;
        self.digest.write(chunk);
    }

    fn end(&self, state: StateHash) -> End {
        End { chunks: self.count, bytes: self.bytes, digest: self.digest.finish(), state }
    }
}

/// The frames of a file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    header: Header,
    chunks: Chunks,
}

impl Writing {
    pub(super) fn new(header: Header) -> Self {
        Self { header, chunks: Chunks::default() }
    }

    pub(super) fn header(&self) -> Bytes {
        codec::encode(HEADER, &self.header)
    }

    pub(super) fn chunk(&mut self, chunk: &Bytes) -> Bytes {
        self.chunks.add(chunk);
        codec::encode(CHUNK, chunk)
    }

    pub(super) fn end(&self, state: StateHash) -> Bytes {
        codec::encode(END, &self.chunks.end(state))
    }
}

/// Why a file is no whole backup. Do not use it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamagedBackup {
    /// It ends too early.
    #[error("the backup is not complete: it ends after {bytes} bytes; make it again")]
    Incomplete {
        /// How many bytes there are.
        bytes: u64,
    },
    /// A frame cannot be read.
    #[error("not a backup that this build reads, or a damaged one: byte {at}: {cause}")]
    Frame {
        /// Where the frame begins.
        at: u64,
        /// What is wrong with it.
        cause: CodecError,
    },
    /// Every frame can be read, but together they are no backup.
    #[error("the backup is damaged: {0}")]
    Content(String),
}

fn content<T>(what: impl Into<String>) -> Result<T, DamagedBackup> {
    Err(DamagedBackup::Content(what.into()))
}

/// Reads a backup piece by piece and checks all of it.
#[derive(Debug, Default)]
pub struct Verifier {
    buffer: BytesMut,
    /// The bytes before the buffer.
    passed: u64,
    header: Option<Header>,
    chunks: Chunks,
    reading: Reading,
    applied: Option<Bytes>,
    end: Option<End>,
}

impl Verifier {
    /// Reads a backup from its first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file, however many.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), DamagedBackup> {
        self.take_with(bytes, |_, _, _| {})
    }

    /// Takes the next bytes, and calls `each` with every item that they complete. An item counts
    /// only when the whole file is checked.
    pub(super) fn take_with(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Keyspace, Bytes, Bytes),
    ) -> Result<(), DamagedBackup> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= codec::HEADER {
            let bad = |cause| DamagedBackup::Frame { at: self.passed, cause };
            if self.end.is_some() {
                return content("bytes follow its end");
            }
            let (format, limit) = match self.buffer.first_chunk::<4>() {
                _ if self.header.is_none() => (HEADER, SMALL),
                Some(magic) if *magic == END.magic => (END, SMALL),
                _ => (CHUNK, LARGE),
            };
            let length = codec::body_length(format, &self.buffer, limit).map_err(bad)?;
            let length = codec::HEADER + length;
            if self.buffer.len() < length {
                return Ok(());
            }
            let frame = self.buffer.split_to(length);
            if format == HEADER {
                self.header = Some(codec::decode(format, &frame, limit).map_err(bad)?);
            } else if format == END {
                self.end = Some(codec::decode(format, &frame, limit).map_err(bad)?);
            } else {
                let chunk: Bytes = codec::decode(format, &frame, limit).map_err(bad)?;
                self.chunk(&chunk, &mut each)?;
            }
            self.passed += length as u64;
        }
        Ok(())
    }

    fn chunk(
        &mut self,
        chunk: &Bytes,
        each: &mut impl FnMut(Keyspace, Bytes, Bytes),
    ) -> Result<(), DamagedBackup> {
        self.chunks.add(chunk);
        let Self { reading, applied, .. } = self;
        let taken = reading.take(chunk, |keyspace, key, value| {
            if keyspace == META && key == APPLIED {
                *applied = Some(value.clone());
            }
            each(keyspace, key, value);
        });
        taken.or_else(|error| content(said(&error)))
    }

    /// Checks that the file has ended, and returns what it holds.
    pub fn finish(self) -> Result<Summary, DamagedBackup> {
        self.finish_with().map(|(summary, _)| summary)
    }

    pub(super) fn finish_with(self) -> Result<(Summary, Applied), DamagedBackup> {
        let bytes = self.passed + self.buffer.len() as u64;
        if self.end.is_some() && !self.buffer.is_empty() {
            return content("bytes follow its end");
        }
        let (Some(header), Some(end)) = (self.header, self.end) else {
            return Err(DamagedBackup::Incomplete { bytes });
        };
        let state = match self.reading.finish() {
            Ok(state) => state,
            Err(error) => return content(said(&error)),
        };
        if self.chunks.end(state) != end {
            return content("number, order or hash of its parts differ from what it says");
        }
        let applied = self.applied.map(|bytes| Applied::decode(&bytes));
        let Some(Ok(applied)) = applied else {
            return content("its state does not say at which position it is");
        };
        let said = (Some(header.at), Some(header.cluster), header.clock);
        if (applied.at, applied.cluster, applied.clock) != said {
            return content("its state is at another position than it says");
        }
        let Header { taken_unix_millis, node, cluster, cluster_name, epoch, at, clock } = header;
        let summary = Summary {
            taken_unix_millis,
            node,
            cluster,
            cluster_name,
            epoch,
            at,
            clock,
            state,
            bytes,
        };
        Ok((summary, applied))
    }
}

/// What is wrong with the stream, in a backup's words.
fn said(error: &SnapshotError) -> String {
    match error {
        SnapshotError::Damaged(what) | SnapshotError::Engine(EngineError::Refused(what)) => {
            what.clone()
        }
        SnapshotError::Incomplete => "its state is not complete".to_owned(),
        SnapshotError::Engine(error) => error.to_string(),
    }
}
