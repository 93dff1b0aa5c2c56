//! The generations of a node's engines in memory.
//!
//! ```text
//! <dir>/CURRENT                     which generation is current
//! <dir>/<generation>/checkpoint     its state at the last checkpoint
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::super::generation::{self, CURRENT, CURRENT_NEXT};
use super::super::{Engine, EngineError, Engines, Generation};
use super::MemoryEngine;
use super::checkpoint::Checkpoints;
use crate::storage::disk::{Disk, DiskError, Open, sync_names};

/// Engines in memory, without a disk or with checkpoints on one.
///
/// A node's opening makes one of these. Whoever keeps it and opens the node again with it gets
/// the engine as it was in memory, not as it was on disk.
#[derive(Debug)]
pub struct MemoryEngines {
    place: Option<Place>,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Place {
    disk: Arc<dyn Disk>,
    dir: String,
}

/// The engines in memory now.
#[derive(Debug, Default)]
struct Live {
    current: Option<(Generation, Arc<MemoryEngine>)>,
    created: BTreeMap<Generation, Arc<MemoryEngine>>,
    /// Whether the disk was asked which generation is current.
    opened: bool,
}

impl MemoryEngines {
    /// Engines that end with the process.
    pub fn volatile() -> Self {
        Self { place: None, live: Mutex::default() }
    }

    /// Engines whose checkpoints are in the folder `dir` of a disk.
    pub fn on_disk(disk: Arc<dyn Disk>, dir: impl Into<String>) -> Self {
        Self { place: Some(Place { disk, dir: dir.into() }), live: Mutex::default() }
    }

    async fn open(&self, live: &mut Live) -> Result<(), EngineError> {
        if live.opened {
            return Ok(());
        }
        if let Some(place) = &self.place {
            live.current = place.open().await?;
        }
        live.opened = true;
        Ok(())
    }
}

impl Place {
    fn folder(&self, generation: Generation) -> String {
        format!("{}/{}", self.dir, generation::folder(generation))
    }

    async fn open(&self) -> Result<Option<(Generation, Arc<MemoryEngine>)>, EngineError> {
        let path = format!("{}/{CURRENT}", self.dir);
        let current = match self.disk.open(&path, Open::Existing).await {
            Ok(file) => Some(generation::decode(&path, &file.read_at(0, 64).await?)?),
            Err(DiskError::NotFound(_)) => None,
            Err(other) => return Err(other.into()),
        };
        // Unfinished generations, and former ones that a crash left.
        for name in self.disk.list(&self.dir).await? {
            if generation::of_folder(&name).is_some_and(|g| Some(g) != current) {
                self.remove(&format!("{}/{}", self.dir, name.trim_end_matches('/'))).await?;
            }
        }
        let Some(current) = current else { return Ok(None) };
        // A process that died between giving a name and syncing it left what is seen here and may
        // not be durable; whoever opens it builds on it.
        let folder = self.folder(current);
        sync_names(self.disk.as_ref(), &folder).await?;
        let disk = Arc::clone(&self.disk);
        let (state, checkpoints) = Checkpoints::read(disk, folder).await?;
        Ok(Some((current, Arc::new(MemoryEngine::on_disk(state, checkpoints)))))
    }

    async fn remove(&self, folder: &str) -> Result<(), EngineError> {
        match self.disk.remove_dir(folder).await {
            Ok(()) | Err(DiskError::NotFound(_)) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    async fn create(&self, generation: Generation) -> Result<MemoryEngine, EngineError> {
        let folder = self.folder(generation);
        self.remove(&folder).await?;
        self.disk.create_dir(&folder).await?;
        sync_names(self.disk.as_ref(), &self.dir).await?;
        let checkpoints = Checkpoints::new(Arc::clone(&self.disk), folder);
        Ok(MemoryEngine::on_disk(super::State::default(), checkpoints))
    }

    async fn switch(&self, to: Generation) -> Result<(), EngineError> {
        let (from, path) =
            (format!("{}/{CURRENT_NEXT}", self.dir), format!("{}/{CURRENT}", self.dir));
        let file = self.disk.open(&from, Open::Any).await?;
        file.set_len(0).await?;
        file.write_at(0, generation::encode(to)).await?;
        file.sync().await?;
        self.disk.rename(&from, &path).await?;
        self.disk.sync_dir(&self.dir).await?;
        Ok(())
    }
}

#[async_trait]
impl Engines for MemoryEngines {
    async fn current(&self) -> Result<Option<(Generation, Arc<dyn Engine>)>, EngineError> {
        let mut live = self.live.lock().await;
        self.open(&mut live).await?;
        Ok(live.current.as_ref().map(|(g, e)| (*g, Arc::clone(e) as Arc<dyn Engine>)))
    }

    async fn create(&self, generation: Generation) -> Result<Arc<dyn Engine>, EngineError> {
        let mut live = self.live.lock().await;
        self.open(&mut live).await?;
        generation::check_free(live.current.as_ref().map(|(g, _)| *g), generation)?;
        let engine = Arc::new(match &self.place {
            Some(place) => place.create(generation).await?,
            None => MemoryEngine::volatile(),
        });
        if let Some(former) = live.created.insert(generation, Arc::clone(&engine)) {
            former.retire().await;
        }
        Ok(engine)
    }

    async fn switch(&self, to: Generation) -> Result<(), EngineError> {
        let mut live = self.live.lock().await;
        let engine = live.created.get(&to).cloned().ok_or_else(|| generation::unknown(to))?;
        engine.checkpoint().await?;
        if let Some(place) = &self.place {
            place.switch(to).await?;
        }
        live.created.remove(&to);
        if let Some((former, engine)) = live.current.replace((to, engine)) {
            engine.retire().await;
            if let Some(place) = &self.place {
                // The switch is durable, so a folder that stays is only space: the next opening
                // removes it.
                if let Err(error) = place.remove(&place.folder(former)).await {
                    tracing::warn!(%error, generation = former.0, "a former engine's folder stays");
                }
            }
        }
        Ok(())
    }
}
