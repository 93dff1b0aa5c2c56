//! An engine in memory, with snapshots that cost nothing and, on a disk, checkpoints as files.
//!
//! For tests, the simulator, and data that fits: a cell costs about 112 bytes beyond its key and
//! value. A checkpoint writes the whole state, so it suits states that are written in seconds.
//! After a restart the state is the last checkpoint's, and the log brings back what followed, as
//! with an engine on disk.

mod checkpoint;
mod engines;
mod versions;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;
use bytes::Bytes;

pub use engines::MemoryEngines;

use super::{Batch, Engine, EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use checkpoint::Checkpoints;
use versions::{Seq, Snapshots, State};

/// An ordered key-value store in memory.
pub struct MemoryEngine {
    shared: Arc<Shared>,
    checkpoints: Option<Checkpoints>,
}

/// What an engine and its snapshots share.
#[derive(Debug, Default)]
struct Shared {
    state: RwLock<State>,
    snapshots: Snapshots,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.read();
        f.debug_struct("MemoryEngine")
            .field("batches", &state.seq())
            .field("bytes", &state.bytes())
            .finish_non_exhaustive()
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::volatile()
    }
}

impl MemoryEngine {
    /// An empty engine without a disk: a checkpoint of it does nothing, and it ends with its last
    /// owner.
    pub fn volatile() -> Self {
        Self { shared: Arc::default(), checkpoints: None }
    }

    fn on_disk(state: State, checkpoints: Checkpoints) -> Self {
        let shared = Shared { state: RwLock::new(state), snapshots: Snapshots::default() };
        Self { shared: Arc::new(shared), checkpoints: Some(checkpoints) }
    }

    /// Another generation is current: checkpoints of this one do nothing from now on.
    async fn retire(&self) {
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.retire().await;
        }
    }

    fn view(&self) -> Snapshot {
        // Under the state's lock no batch can come in between, so that a writer either sees this
        // snapshot in the registry or has finished before.
        let state = self.shared.read();
        let seq = state.seq();
        self.shared.snapshots.open(seq);
        drop(state);
        Snapshot { shared: Arc::clone(&self.shared), seq }
    }
}

impl Read for MemoryEngine {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.shared.read().get(keyspace.0, key, Seq::MAX))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        self.scan_named(keyspace.0, range, limit)
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    fn write(&self, batch: Batch) -> Result<(), EngineError> {
        batch.check()?;
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        state.apply(batch, &self.shared.snapshots);
        Ok(())
    }

    fn snapshot(&self) -> Result<Arc<dyn Read>, EngineError> {
        Ok(Arc::new(self.view()))
    }

    fn keyspaces(&self) -> Result<Vec<String>, EngineError> {
        Ok(self.shared.read().keyspaces())
    }

    fn scan_named(
        &self,
        keyspace: &str,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        Ok(self.shared.read().scan(keyspace, range, limit, Seq::MAX))
    }

    async fn checkpoint(&self) -> Result<(), EngineError> {
        match &self.checkpoints {
            Some(checkpoints) => checkpoints.write(|| self.view()).await,
            None => Ok(()),
        }
    }

    fn size(&self) -> u64 {
        self.shared.read().bytes()
    }
}

/// The state as it was after one batch.
#[derive(Debug)]
struct Snapshot {
    shared: Arc<Shared>,
    seq: Seq,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.shared.snapshots.close(self.seq);
    }
}

impl Snapshot {
    fn keyspaces(&self) -> Vec<String> {
        self.shared.read().keyspaces()
    }

    fn scan_named(&self, keyspace: &str, range: &KeyRange, limit: PageLimit) -> Page {
        self.shared.read().scan(keyspace, range, limit, self.seq)
    }
}

impl Read for Snapshot {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.shared.read().get(keyspace.0, key, self.seq))
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        Ok(self.scan_named(keyspace.0, range, limit))
    }
}
