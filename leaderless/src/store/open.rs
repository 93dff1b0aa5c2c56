//! Opening: the engine takes up the log's tail, memory is read from the engine, and a new life
//! begins.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::codec;
use common::env::Env;
use common::storage::engine::{
    Batch, Engine, EngineError, Engines, Generation, KeyRange, Keyspace, PageLimit,
};
use common::storage::wal::{Lsn, Replay, Wal, WalConfig, WalError};

use super::place::dot_of;
use super::record::{self, DOT_LOG, LIVES, NODE, PLACES, SYNCED, TOMBSTONES};
use super::{Place, State, Store, StoreError};
use crate::version::{Dot, Life};

/// Why a store does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenStoreError {
    /// The commit log.
    #[error("the commit log: {0}")]
    Wal(#[from] WalError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine ends before the log begins.
    #[error(
        "the engine ends at record {engine}, the log begins at {log}: start with an empty folder, so that the node copies from its peers"
    )]
    Gap {
        /// Where the engine ends.
        engine: u64,
        /// Where the log begins.
        log: u64,
    },
    /// Stored bookkeeping cannot be read.
    #[error("{0}; start with an empty folder, so that the node copies from its peers")]
    Damaged(String),
}

impl From<StoreError> for OpenStoreError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Wal(error) => Self::Wal(error),
            StoreError::Engine(error) => Self::Engine(error),
            StoreError::Damaged(what) => Self::Damaged(what),
        }
    }
}

struct Tail {
    engine: Arc<dyn Engine>,
    behind: u64,
    first: Option<u64>,
}

impl Replay for Tail {
    fn record(&mut self, lsn: Lsn, bytes: Bytes) -> Result<(), String> {
        self.first.get_or_insert(lsn.0);
        if lsn.0 <= self.behind {
            return Ok(());
        }
        let batch = record::decode(&bytes).map_err(|e| e.to_string())?;
        self.engine.write(batch).map_err(|e| e.to_string())
    }
}

fn each(
    engine: &dyn Engine,
    keyspace: Keyspace,
    mut take: impl FnMut(Bytes, Bytes) -> Option<()>,
) -> Result<(), StoreError> {
    let mut range = KeyRange::all();
    loop {
        let page = engine.scan(keyspace, &range, PageLimit { items: 1_000, bytes: 1 << 20 })?;
        for (key, value) in page.items {
            range = range.after(key.clone());
            take(key, value).ok_or_else(|| {
                StoreError::Damaged(format!("an unreadable entry in {keyspace:?}"))
            })?;
        }
        if !page.more {
            return Ok(());
        }
    }
}

fn optional(key: &Bytes) -> Option<Bytes> {
    if key.is_empty() { None } else { Some(key.clone()) }
}

impl State {
    fn load(engine: &dyn Engine) -> Result<Self, StoreError> {
        let mut state = Self::default();
        record::take_position(&mut state, &record::position(engine)?);
        if let Some(bytes) = engine.get(NODE, LIVES)? {
            state.lives =
                codec::decode_body(&bytes).map_err(|e| StoreError::Damaged(e.to_string()))?;
        }
        state.synced = engine.get(NODE, SYNCED)?.is_some();
        each(engine, PLACES, |key, value| {
            let replica = state.places.entry(Place::of(&key)?).or_default();
            (replica.clock, replica.watermarks) = codec::decode_body(&value).ok()?;
            Some(())
        })?;
        let entry = |key: &Bytes| -> Option<(Place, Dot)> { Some((Place::of(key)?, dot_of(key)?)) };
        each(engine, DOT_LOG, |key, value| {
            let (place, dot) = entry(&key)?;
            state.places.entry(place).or_default().log.insert(dot, optional(&value));
            Some(())
        })?;
        each(engine, TOMBSTONES, |key, value| {
            let (place, dot) = entry(&key)?;
            state.places.entry(place).or_default().tombstones.insert(dot, value);
            Some(())
        })?;
        Ok(state)
    }
}

impl Store {
    /// Opens a node's replicas. The new life is durable when this returns.
    pub(crate) async fn open(env: &Env, engines: &dyn Engines) -> Result<Self, OpenStoreError> {
        let engine = if let Some((_, engine)) = engines.current().await? {
            engine
        } else {
            let first = Generation(1);
            let engine = engines.create(first).await?;
            engines.switch(first).await?;
            engine
        };
        let behind = record::position(&*engine)?.lsn;
        let mut tail = Tail { engine: engine.clone(), behind, first: None };
        let wal = Wal::open(env, "wal", WalConfig::default(), &mut tail).await?;
        if let Some(log) = tail.first.filter(|first| *first > behind + 1) {
            return Err(OpenStoreError::Gap { engine: behind, log });
        }
        let mut state = State::load(&*engine)?;
        // A log whose tail was lost gives its numbers again: the engine must not be ahead of them.
        state.position = wal.last().0;
        let life = state.lives.entry(env.node).or_default();
        *life = Life(life.0 + 1);
        let store = Self {
            env: env.clone(),
            wal,
            engine,
            state: Mutex::new(State::default()),
            synced: Arc::default(),
        };
        store.put_lives(&mut state)?;
        store.wal.sync().await?;
        store.engine.checkpoint().await?;
        *store.state() = state;
        Ok(store)
    }

    /// Writes down which lives are known, and whether this storage is complete.
    pub(crate) fn put_lives(&self, state: &mut State) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        batch.put(NODE, LIVES, codec::encode_body(&state.lives));
        if state.synced {
            batch.put(NODE, SYNCED, Bytes::from_static(b"1"));
        }
        self.commit(state, batch)
    }
}
