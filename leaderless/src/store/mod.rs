//! One node's replicas: the commit log, the engine under it, and what is kept in memory of each
//! place.
//!
//! Every change is one [`Batch`] of engine changes. It goes to the log and to the engine under one
//! lock, so the log's order is the engine's, and opening applies the log's tail again. Nothing is
//! acknowledged before [`Store::durable`] has returned.

mod apply;
mod open;
mod place;
mod record;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::clock::HybridClock;
use common::env::Env;
use common::ids::{Actor, NodeId};
use common::mutate;
use common::storage::engine::{Batch, Engine, EngineError};
use common::storage::wal::{Wal, WalError};

use crate::version::Life;

pub(crate) use apply::{Applied, Merge, Own, Source};
pub use open::OpenStoreError;
pub(crate) use place::{Place, Replica};

/// Why the store did not do what was asked. The node takes no more writes after one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Wal(#[from] WalError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("stored data is damaged: {0}; compare the key's replicas and restore it")]
    Damaged(String),
}

/// The replicas of one node.
#[derive(Debug)]
pub(crate) struct Store {
    env: Env,
    wal: Wal,
    engine: Arc<dyn Engine>,
    state: Mutex<State>,
    /// The last record that is synced.
    synced: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) places: BTreeMap<Place, Replica>,
    /// The largest life that each node is known to have had; those before it have ended.
    pub(crate) lives: BTreeMap<NodeId, Life>,
    pub(crate) hlc: HybridClock,
    /// Whether this storage has what its predecessor acknowledged, or has no predecessor.
    pub(crate) synced: bool,
    position: u64,
}

impl Store {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the disk refuses ordinary writes.
    pub(crate) fn is_full(&self) -> bool {
        let health = self.wal.health();
        health.full || health.poisoned.is_some()
    }

    /// The actor of this opening.
    pub(crate) fn actor(&self, state: &State) -> Option<Actor> {
        let life = *state.lives.get(&self.env.node)?;
        let random = self.env.rng.stream("actor").next_u64();
        let (life, random) = mutate!("dot_reused_after_wipe", (life, random), (Life(1), 0));
        crate::version::Opening { node: self.env.node, life }.actor(random)
    }

    /// Puts a batch into log and engine. What is in the engine is visible at once.
    pub(crate) fn commit(&self, state: &mut State, mut batch: Batch) -> Result<(), StoreError> {
        let record = record::encode(&batch);
        // What is applied here must be in the log, so it may use the reserve: writes are refused
        // before, when the disk is full. A log that fails stays failed, and nothing after it counts.
        let synced = self.synced.clone();
        let lsn = self.wal.append_reserved(vec![record], move |done| match done {
            Ok(lsn) => drop(synced.fetch_max(lsn.0, Ordering::Relaxed)),
            Err(error) => tracing::error!(%error, "the commit log takes nothing more"),
        });
        state.position = lsn.0;
        record::put_node(&mut batch, state);
        self.engine.write(batch)?;
        Ok(())
    }

    /// Returns when everything committed before is synced.
    pub(crate) async fn durable(&self) -> Result<(), StoreError> {
        if self.state().position > self.synced.load(Ordering::Relaxed) {
            self.wal.sync().await?;
        }
        Ok(())
    }

    /// Makes the engine durable and frees the log before it.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let position = self.state().position;
        self.durable().await?;
        self.engine.checkpoint().await?;
        self.wal.release(common::storage::wal::Lsn(position + 1));
        Ok(())
    }

    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        Ok(self.wal.close().await?)
    }
}
