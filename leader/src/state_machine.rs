//! What is replicated: a state machine of your own behind three functions.
//!
//! A command is ordered by the leader, made durable by a majority, and then applied by every
//! member in the same order. So `apply` must be **deterministic**: no clocks, no randomness, no
//! hash-map order; time comes in as the command's stamp. Its changes go into the engine in one
//! atomic batch with the position of the log.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{Batch, EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use serde::{Serialize, de::DeserializeOwned};

/// Why a command is refused before it is proposed. It is not applied, now or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// What is wrong, for the one who sent it.
    pub reason: String,
}

/// Where a command stands in the replicated order, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The replicated clock: never goes back, equal on all members.
    pub clock: Hlc,
    /// Index of the log entry. Commands of one batch share it.
    pub index: u64,
    /// The command's number within its entry.
    pub sub: u16,
}

/// A state machine: deterministic application of commands to an ordered key-value state.
pub trait StateMachine: Send + Sync + 'static {
    /// What is replicated. Encoded once, on the leader.
    type Command: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What `apply` answers.
    type Reply: Serialize + DeserializeOwned + Send + Sync + Clone + 'static;

    /// Refuses what must not be proposed: sizes over a limit, malformed arguments. What is refused
    /// here costs no log entry.
    fn admit(&self, command: &Self::Command) -> Result<(), Refused> {
        let _ = command;
        Ok(())
    }

    /// Whether the command only shrinks the state, so that it passes on a full disk.
    fn shrinks(&self, command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// Applies one command. Reads through `state` see the changes it made so far, and those of all
    /// earlier commands. An error is a failure of the storage under it and stops the node; a
    /// command that cannot be done (wrong type, overflow) is a reply.
    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Self::Command,
        stamp: Stamp,
    ) -> Result<Self::Reply, EngineError>;

    /// At most `limit` commands that deadlines up to `upto`, or unfinished sweeping, ask for now.
    /// The leader replicates the time, then every member applies these commands at that place in
    /// the order. An empty answer means there is nothing to do.
    fn due(
        &self,
        state: &dyn Read,
        upto: Hlc,
        limit: usize,
    ) -> Result<Vec<Self::Command>, EngineError> {
        let _ = (state, upto, limit);
        Ok(Vec::new())
    }
}

/// The state as one command sees it: what is stored, overlaid with what was changed since.
pub struct Draft<'a> {
    base: &'a dyn Read,
    overlay: BTreeMap<(Keyspace, Bytes), Option<Bytes>>,
    changed: usize,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("changes", &self.overlay.len()).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// A draft without changes over a stored state.
    pub fn new(base: &'a dyn Read) -> Self {
        Self { base, overlay: BTreeMap::new(), changed: 0 }
    }

    /// The key gets the value.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.changed += key.len() + value.len();
        self.overlay.insert((keyspace, key), Some(value));
    }

    /// The key is gone.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        let key = key.into();
        self.changed += key.len();
        self.overlay.insert((keyspace, key), None);
    }

    /// Bytes of keys and values changed so far, counting repeated changes again.
    pub const fn changed_bytes(&self) -> usize {
        self.changed
    }

    /// The changes as one batch.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for ((keyspace, key), value) in self.overlay {
            match value {
                Some(value) => batch.put(keyspace, key, value),
                None => batch.delete(keyspace, key),
            }
        }
        batch
    }
}

impl Read for Draft<'_> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if !self.overlay.is_empty() {
            if let Some(value) = self.overlay.get(&(keyspace, Bytes::copy_from_slice(key))) {
                return Ok(value.clone());
            }
        }
        self.base.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        let page = self.base.scan(keyspace, range, limit)?;
        // The base's page is complete up to its last key: only overlay keys up to there belong to
        // this page, or all of the range's when the base has no more.
        let upper = match (page.more, page.items.last()) {
            (true, Some((last, _))) => Bound::Included(last.clone()),
            _ => range.end.clone(),
        };
        let within = |key: &Bytes| {
            (match &range.start {
                Bound::Included(s) => key >= s,
                Bound::Excluded(s) => key > s,
                Bound::Unbounded => true,
            }) && (match &upper {
                Bound::Included(e) => key <= e,
                Bound::Excluded(e) => key < e,
                Bound::Unbounded => true,
            })
        };
        let from = (keyspace, Bytes::new());
        let mut merged: BTreeMap<Bytes, Bytes> = page.items.into_iter().collect();
        for ((_, key), value) in self
            .overlay
            .range(from..)
            .take_while(|((k, _), _)| *k == keyspace)
            .filter(|((_, key), _)| within(key))
        {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(Page { items: merged.into_iter().collect(), more: page.more })
    }
}
