//! An ordered key-value store under a log: atomic batches, snapshots, bounded scans.
//!
//! An engine is a cache of a log. Its batches are not synced one by one; [`Engine::checkpoint`]
//! makes all before it durable, and what a crash takes away is applied again from the log.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod fjall;
mod generation;
pub mod memory;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

pub use fjall::{FjallConfig, FjallEngine, FjallEngines};
pub use memory::{MemoryEngine, MemoryEngines};

/// A named, ordered map inside an engine. Made by its first write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keyspace(pub &'static str);

/// The longest key in bytes. Longer ones are refused, by every engine alike.
pub const MAX_KEY: usize = 65_000;

/// The longest name of a keyspace in bytes.
pub const MAX_NAME: usize = 255;

/// Why an engine did not do what was asked. A batch that failed has no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// No space is left.
    #[error("engine: no space left on the disk: {0}")]
    Full(String),
    /// Stored bytes are damaged. Do not serve from this engine: rebuild it from a peer.
    #[error("engine: stored data is damaged: {0}")]
    Corrupt(String),
    /// A key is longer than [`MAX_KEY`], or a keyspace's name is not usable. Whoever makes keys
    /// refuses such ones before they come here.
    #[error("engine: {0}; the batch was not applied")]
    Refused(String),
    /// The operating system refused or failed.
    #[error("engine: {0}")]
    Io(String),
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The key gets the value.
    Put(Keyspace, Bytes, Bytes),
    /// The key is gone.
    Delete(Keyspace, Bytes),
}

impl Change {
    /// The keyspace it changes.
    pub const fn keyspace(&self) -> Keyspace {
        match self {
            Self::Put(keyspace, ..) | Self::Delete(keyspace, _) => *keyspace,
        }
    }

    /// The key it changes.
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Put(_, key, _) | Self::Delete(_, key) => key,
        }
    }
}

/// Changes that happen together or not at all, later ones winning over earlier ones.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The changes in order.
    pub changes: Vec<Change>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds: the key gets the value.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.changes.push(Change::Put(keyspace, key.into(), value.into()));
    }

    /// Adds: the key is gone.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        self.changes.push(Change::Delete(keyspace, key.into()));
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Refuses keys and names that not every engine can store. Engines call it before they change
    /// anything.
    pub fn check(&self) -> Result<(), EngineError> {
        for change in &self.changes {
            let (name, key) = (change.keyspace().0, change.key());
            if key.len() > MAX_KEY {
                let size = key.len();
                return Err(EngineError::Refused(format!(
                    "a key of {size} bytes in {name} is over the limit of {MAX_KEY}"
                )));
            }
            if name.is_empty() || name.len() > MAX_NAME || name.contains('\0') {
                return Err(EngineError::Refused(format!(
                    "{name:?} is not a keyspace's name: it has 1 to {MAX_NAME} bytes without zeros"
                )));
            }
        }
        Ok(())
    }

    /// The last change of each key, in the order of keyspaces and keys: what the batch amounts to.
    pub fn into_last_changes(self) -> Vec<Change> {
        let place = |change: &Change| (change.keyspace(), change.key().clone());
        if self.changes.is_sorted_by(|a, b| (a.keyspace(), a.key()) < (b.keyspace(), b.key())) {
            return self.changes;
        }
        let last: BTreeMap<_, _> = self.changes.into_iter().map(|c| (place(&c), c)).collect();
        last.into_values().collect()
    }
}

/// A range of keys in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// All keys.
    pub const fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        let end = after_prefix(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(prefix), end }
    }

    /// Keys from `start` on, included.
    pub fn from(start: impl Into<Bytes>) -> Self {
        Self { start: Bound::Included(start.into()), end: Bound::Unbounded }
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(start), Bound::Included(end)) => start > end,
            (
                Bound::Included(start) | Bound::Excluded(start),
                Bound::Included(end) | Bound::Excluded(end),
            ) => start >= end,
        }
    }

    /// The same range, beginning after `key`.
    #[must_use]
    pub fn after(&self, key: impl Into<Bytes>) -> Self {
        Self { start: Bound::Excluded(key.into()), end: self.end.clone() }
    }
}

/// The first key after all keys that begin with `prefix`, or `None` when there is none.
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let keep = prefix.iter().rposition(|b| *b != 0xff)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end.into())
}

/// How much one page of a scan may hold. At least one item is returned where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit {
    /// At most this many items.
    pub items: usize,
    /// Stop after this many bytes of keys and values.
    pub bytes: usize,
}

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values, in key order.
    pub items: Vec<(Bytes, Bytes)>,
    /// Whether the range may hold more after the last item.
    pub more: bool,
}

/// Reads of one consistent state.
pub trait Read: Send + Sync {
    /// The value of a key.
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// The first items of a range, in key order.
    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError>;
}

/// An ordered key-value store.
#[async_trait]
pub trait Engine: Read + fmt::Debug {
    /// Applies a batch atomically. Visible to reads when it returns, durable at the next
    /// checkpoint. One writer at a time.
    fn write(&self, batch: Batch) -> Result<(), EngineError>;
    /// A view of the state as it is now, whatever is written later.
    fn snapshot(&self) -> Result<Arc<dyn Read>, EngineError>;
    /// The keyspaces that were ever written, sorted by name.
    fn keyspaces(&self) -> Result<Vec<String>, EngineError>;
    /// As [`Read::scan`], for a keyspace known by its name only, such as one in a snapshot file.
    fn scan_named(
        &self,
        keyspace: &str,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError>;
    /// Returns when all batches written before the call are durable.
    async fn checkpoint(&self) -> Result<(), EngineError>;
    /// Bytes on disk or in memory, roughly.
    fn size(&self) -> u64;
}

/// Which engine a node uses: it grows with every wipe and every installed snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// The engines of one node: one is current, another may be in the making.
///
/// Installing a snapshot or wiping fills a new generation and switches to it atomically, so a
/// crash leaves the old state or the new one, never a mixture.
#[async_trait]
pub trait Engines: Send + Sync + fmt::Debug {
    /// Opens the current generation, or `None` before the first switch.
    async fn current(&self) -> Result<Option<(Generation, Arc<dyn Engine>)>, EngineError>;
    /// Makes a new, empty engine, removing an unfinished one of that number that nobody uses any
    /// more. The current one is refused.
    async fn create(&self, generation: Generation) -> Result<Arc<dyn Engine>, EngineError>;
    /// Makes a created generation the current one, durably, after a checkpoint of it. The former
    /// one is removed when its last reader is gone.
    async fn switch(&self, to: Generation) -> Result<(), EngineError>;
}

#[cfg(test)]
mod tests;
