//! The state of a [`MemoryEngine`](super::MemoryEngine) as a file.
//!
//! The file is a run of frames (see [`crate::codec`]). Each carries its number, and each but the
//! first the checksum of the one before, so that a missing, doubled or foreign chunk is noticed.
//!
//! ```text
//! Begin { keyspaces } | Items { keyspace, items }* | End { items }
//! ```
//!
//! It is written under another name, synced, renamed, and its folder synced: a crash leaves the
//! former checkpoint or this one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::super::{EngineError, KeyRange, PageLimit};
use super::Snapshot;
use super::versions::{Seq, State};
use crate::codec::{self, Format};
use crate::storage::disk::{Disk, DiskError, File, Open};

const FORMAT: Format = Format { magic: *b"TCKP", version: 1 };
const FILE: &str = "checkpoint";
const NEXT: &str = "checkpoint.next";

/// How much goes into one chunk. A larger item has a chunk of its own.
const CHUNK: PageLimit = PageLimit { items: 4096, bytes: 512 * 1024 };

/// Bytes are handed to the disk in blocks of about this size.
const BLOCK: usize = 1024 * 1024;

/// No chunk is larger: it would take an item of that size.
const LIMIT: usize = 1 << 30;

/// A part of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    number: u64,
    /// The checksum of the frame before, 0 for the first.
    previous: u32,
    part: Part,
}

#[derive(Debug, Serialize, Deserialize)]
enum Part {
    Begin { keyspaces: Vec<String> },
    Items { keyspace: String, items: Vec<(Bytes, Bytes)> },
    End { items: u64 },
}

/// Where an engine's checkpoints go, and which is the last.
#[derive(Debug)]
pub(super) struct Checkpoints {
    disk: Arc<dyn Disk>,
    dir: String,
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// No checkpoint yet.
    Never,
    /// The last checkpoint holds the batches up to this one.
    UpTo(Seq),
    /// Another generation is current: there is nothing to write any more.
    Retired,
}

impl Checkpoints {
    /// For an engine without a checkpoint.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: String) -> Self {
        Self { disk, dir, last: Mutex::new(Last::Never) }
    }

    /// Ends checkpoints for good, after one that is being written.
    pub(super) async fn retire(&self) {
        *self.last.lock().await = Last::Retired;
    }

    /// Writes what `view` shows, unless the last checkpoint holds it already.
    pub(super) async fn write(
        &self,
        view: impl Fn() -> Snapshot + Send,
    ) -> Result<(), EngineError> {
        let mut last = self.last.lock().await;
        let view = view();
        if *last == Last::Retired || *last == Last::UpTo(view.seq) {
            return Ok(());
        }
        let (from, to) = (self.path(NEXT), self.path(FILE));
        let mut out = Writer::new(self.disk.open(&from, Open::Any).await?).await?;
        let keyspaces = view.keyspaces();
        out.write(Part::Begin { keyspaces: keyspaces.clone() }).await?;
        let mut count = 0;
        for keyspace in keyspaces {
            let mut range = KeyRange::all();
            loop {
                let page = view.scan_named(&keyspace, &range, CHUNK);
                let Some((key, _)) = page.items.last() else { break };
                range = range.after(key.clone());
                count += page.items.len() as u64;
                out.write(Part::Items { keyspace: keyspace.clone(), items: page.items }).await?;
                if !page.more {
                    break;
                }
            }
        }
        out.write(Part::End { items: count }).await?;
        out.finish().await?;
        self.disk.rename(&from, &to).await?;
        self.disk.sync_dir(&self.dir).await?;
        *last = Last::UpTo(view.seq);
        Ok(())
    }

    /// Reads the last checkpoint.
    pub(super) async fn read(
        disk: Arc<dyn Disk>,
        dir: String,
    ) -> Result<(State, Self), EngineError> {
        let path = format!("{dir}/{FILE}");
        let file = match disk.open(&path, Open::Existing).await {
            Err(DiskError::NotFound(_)) => return Err(damaged(&path, 0, "it is missing")),
            other => other?,
        };
        let mut input = Reader { path: &path, file, offset: 0, number: 0, previous: 0 };
        let mut state = State::default();
        let mut count = 0;
        let Part::Begin { keyspaces } = input.read().await? else {
            return Err(damaged(&path, 0, "it does not begin with its keyspaces"));
        };
        for keyspace in keyspaces {
            state.load_space(&keyspace);
        }
        loop {
            match input.read().await? {
                Part::Items { keyspace, items } => {
                    count += items.len() as u64;
                    for (key, value) in items {
                        state.load(&keyspace, key, value);
                    }
                }
                Part::End { items } if items == count => break,
                Part::End { .. } => {
                    return Err(damaged(&path, input.offset, "items are missing"));
                }
                Part::Begin { .. } => {
                    return Err(damaged(&path, input.offset, "it begins twice"));
                }
            }
        }
        if input.file.len().await? != input.offset {
            return Err(damaged(&path, input.offset, "bytes follow its end"));
        }
        let checkpoints = Self { disk, dir, last: Mutex::new(Last::UpTo(state.seq())) };
        Ok((state, checkpoints))
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }
}

fn damaged(path: &str, offset: u64, what: &str) -> EngineError {
    EngineError::Corrupt(format!(
        "{path}: at byte {offset}: {what}; nothing of it was used: remove the engine's folder, so \
         that the node fetches its state from a peer"
    ))
}

/// Writes chunks in large blocks.
struct Writer {
    file: Arc<dyn File>,
    offset: u64,
    block: BytesMut,
    number: u64,
    previous: u32,
}

impl Writer {
    async fn new(file: Arc<dyn File>) -> Result<Self, EngineError> {
        // What an interrupted checkpoint left must not follow the end of this one.
        file.set_len(0).await?;
        Ok(Self { file, offset: 0, block: BytesMut::new(), number: 0, previous: 0 })
    }

    async fn write(&mut self, part: Part) -> Result<(), EngineError> {
        let chunk = Chunk { number: self.number, previous: self.previous, part };
        let frame = codec::encode(FORMAT, &chunk);
        self.number += 1;
        self.previous = crc32c::crc32c(&frame);
        self.block.extend_from_slice(&frame);
        if self.block.len() >= BLOCK {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), EngineError> {
        let block = self.block.split().freeze();
        let length = block.len() as u64;
        self.file.write_at(self.offset, block).await?;
        self.offset += length;
        // A long checkpoint shares its thread with the node's other tasks.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn finish(mut self) -> Result<(), EngineError> {
        self.flush().await?;
        self.file.sync().await?;
        Ok(())
    }
}

/// Reads chunks and refuses any that is not the one after the last.
struct Reader<'a> {
    path: &'a str,
    file: Arc<dyn File>,
    offset: u64,
    number: u64,
    previous: u32,
}

impl Reader<'_> {
    async fn read(&mut self) -> Result<Part, EngineError> {
        let header = self.file.read_at(self.offset, codec::HEADER).await?;
        let length = codec::body_length(FORMAT, &header, LIMIT)
            .map_err(|cause| damaged(self.path, self.offset, &cause.to_string()))?;
        let rest = self.file.len().await?.saturating_sub(self.offset);
        if rest < (codec::HEADER + length) as u64 {
            return Err(damaged(self.path, self.offset, "it ends within a chunk"));
        }
        let frame = self.file.read_at(self.offset, codec::HEADER + length).await?;
        let chunk: Chunk = codec::decode(FORMAT, &frame, LIMIT)
            .map_err(|cause| damaged(self.path, self.offset, &cause.to_string()))?;
        if (chunk.number, chunk.previous) != (self.number, self.previous) {
            return Err(damaged(self.path, self.offset, "a chunk is not the one that follows"));
        }
        self.number += 1;
        self.previous = crc32c::crc32c(&frame);
        self.offset += frame.len() as u64;
        Ok(chunk.part)
    }
}

impl From<DiskError> for EngineError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full { path } => Self::Full(path),
            other => Self::Io(other.to_string()),
        }
    }
}
