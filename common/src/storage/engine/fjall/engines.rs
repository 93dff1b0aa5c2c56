//! The generations of a node's engines on disk.
//!
//! ```text
//! <path>/CURRENT          which generation is current
//! <path>/<generation>/    its database
//! ```
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the library under it has its own files and threads, so this does too"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::super::generation::{self, CURRENT, CURRENT_NEXT};
use super::super::{Engine, EngineError, Engines, Generation};
use super::{FjallConfig, FjallEngine, error};

/// Engines on disk, below a real path.
///
/// One opening of a node makes one of these: the library locks a database that is open, so it and
/// everything read from it must be dropped before the path is opened again.
#[derive(Debug)]
pub struct FjallEngines {
    place: Arc<Place>,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    config: FjallConfig,
}

#[derive(Debug, Default)]
struct Live {
    current: Option<(Generation, Arc<FjallEngine>)>,
    created: BTreeMap<Generation, Arc<FjallEngine>>,
    opened: bool,
}

impl FjallEngines {
    /// Engines below `path`, which is made when the first one is.
    pub fn new(path: impl Into<PathBuf>, config: FjallConfig) -> Self {
        let place = Arc::new(Place { path: path.into(), config });
        Self { place, live: Mutex::default() }
    }

    /// Runs what blocks away from the async threads. A panic of the library over damaged files is
    /// an error like any other.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Place) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let place = Arc::clone(&self.place);
        let path = self.place.path.clone();
        match tokio::task::spawn_blocking(move || run(&place)).await {
            Ok(done) => done,
            Err(e) if e.is_panic() => Err(error::damaged(&path, "the library cannot read it")),
            Err(e) => Err(EngineError::Io(format!("{}: {e}", path.display()))),
        }
    }

    async fn open(&self, live: &mut Live) -> Result<(), EngineError> {
        if !live.opened {
            live.current = self.blocking(Place::open).await?;
            live.opened = true;
        }
        Ok(())
    }
}

impl Place {
    fn folder(&self, generation: Generation) -> PathBuf {
        self.path.join(generation::folder(generation))
    }

    fn failed(&self, error: std::io::Error) -> EngineError {
        error::io(&self.path, &error)
    }

    fn open(&self) -> Result<Option<(Generation, Arc<FjallEngine>)>, EngineError> {
        let path = self.path.join(CURRENT);
        let current = match fs::read(&path) {
            Ok(bytes) => Some(generation::decode(&path.display().to_string(), &bytes)?),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(self.failed(e)),
        };
        self.remove_others(current)?;
        let Some(current) = current else { return Ok(None) };
        let folder = self.folder(current);
        // The library would make a new, empty database in its place.
        if !folder.join("version").is_file() {
            return Err(error::damaged(&folder, "the database is missing"));
        }
        // A process that died between giving the names and syncing them left what is seen here and
        // may not be durable; whoever opens it builds on it.
        self.sync_names().map_err(|e| self.failed(e))?;
        let engine = FjallEngine::open(folder, &self.config)?;
        Ok(Some((current, Arc::new(engine))))
    }

    /// Removes unfinished generations, and former ones that a crash left.
    fn remove_others(&self, current: Option<Generation>) -> Result<(), EngineError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.failed(e)),
        };
        for entry in entries {
            let name = entry.map_err(|e| self.failed(e))?.file_name();
            let other = name.to_str().and_then(generation::of_folder);
            if other.is_some_and(|g| Some(g) != current) {
                self.remove(&self.path.join(name))?;
            }
        }
        Ok(())
    }

    fn remove(&self, folder: &Path) -> Result<(), EngineError> {
        match fs::remove_dir_all(folder) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(self.failed(e)),
            _ => Ok(()),
        }
    }

    fn sync_dir(dir: &Path) -> std::io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// Makes the names of the generations durable, and that of their folder.
    fn sync_names(&self) -> std::io::Result<()> {
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        [Some(self.path.as_path()), parent].into_iter().flatten().try_for_each(Self::sync_dir)
    }

    fn create(&self, generation: Generation) -> Result<Arc<FjallEngine>, EngineError> {
        let folder = self.folder(generation);
        self.remove(&folder)?;
        fs::create_dir_all(&folder).map_err(|e| self.failed(e))?;
        self.sync_names().map_err(|e| self.failed(e))?;
        Ok(Arc::new(FjallEngine::open(folder, &self.config)?))
    }

    fn switch(&self, to: Generation) -> Result<(), EngineError> {
        let (from, path) = (self.path.join(CURRENT_NEXT), self.path.join(CURRENT));
        let replace = || {
            let mut file = File::create(&from)?;
            file.write_all(&generation::encode(to))?;
            file.sync_all()?;
            fs::rename(&from, &path)?;
            Self::sync_dir(&self.path)
        };
        replace().map_err(|e| self.failed(e))
    }
}

#[async_trait]
impl Engines for FjallEngines {
    async fn current(&self) -> Result<Option<(Generation, Arc<dyn Engine>)>, EngineError> {
        let mut live = self.live.lock().await;
        self.open(&mut live).await?;
        Ok(live.current.as_ref().map(|(g, e)| (*g, Arc::clone(e) as Arc<dyn Engine>)))
    }

    async fn create(&self, generation: Generation) -> Result<Arc<dyn Engine>, EngineError> {
        let mut live = self.live.lock().await;
        self.open(&mut live).await?;
        generation::check_free(live.current.as_ref().map(|(g, _)| *g), generation)?;
        let unfinished = live.created.remove(&generation);
        if let Some(engine) = unfinished.as_ref().filter(|e| e.is_shared()) {
            // Its files are in use, so they cannot make room under this number.
            live.created.insert(generation, Arc::clone(engine));
            return Err(generation::in_use(generation));
        }
        let create = move |place: &Place| {
            drop(unfinished);
            place.create(generation)
        };
        let engine = self.blocking(create).await?;
        live.created.insert(generation, Arc::clone(&engine));
        Ok(engine)
    }

    async fn switch(&self, to: Generation) -> Result<(), EngineError> {
        let mut live = self.live.lock().await;
        let engine = live.created.get(&to).cloned().ok_or_else(|| generation::unknown(to))?;
        engine.checkpoint().await?;
        self.blocking(move |place| place.switch(to)).await?;
        live.created.remove(&to);
        if let Some((_, former)) = live.current.replace((to, engine)) {
            former.retire();
        }
        Ok(())
    }
}
