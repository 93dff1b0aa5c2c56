//! A data folder for a node of a new cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{ClusterId, Incarnation};
use common::storage::disk::OsDisk;
use common::transport::offline::Offline;
use leader::backup::{NewCluster, RestoreError};

use super::file::{checked, pieces};
use super::{BackupError, Restore, shown};
use crate::config::{ConfigError, NodeConfig};
use crate::exit::Exit;
use crate::node::{engines, members};

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreFailure {
    /// The configuration is wrong. Nothing was touched.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The backup is not whole. Nothing was touched.
    #[error("{0}; nothing was restored")]
    Backup(#[from] BackupError),
    /// The folder cannot be used, or making it failed. What was made is removed again.
    #[error("data folder {}: {source}; nothing was restored", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: RestoreError,
    },
}

impl RestoreFailure {
    /// The exit code that says which kind of failure it was.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::Usage,
            Self::Backup(_) => Exit::Failed,
            Self::Folder { .. } => Exit::Folder,
        }
    }
}

/// Makes the folder, and returns what to print. The whole backup is checked before anything is made.
pub async fn restore(arguments: &Restore) -> Result<String, RestoreFailure> {
    let mut config = NodeConfig::load(&arguments.config)?;
    if let Some(data) = &arguments.data {
        config.data.clone_from(data);
    }
    let summary = checked(&arguments.file)?;
    let folder = config.data.clone();
    let wrong = |source| RestoreFailure::Folder { folder: folder.clone(), source };
    let made = Made::missing(&folder);
    fill(arguments, &config).await.map_err(wrong).map(|cluster| {
        made.keep();
        format!(
            "{}restored to   {} as node {} of cluster {cluster} ({:?})\n\
             next          start this node, and the other members with empty folders; or restore on \
             each with --cluster-id {cluster} first\n",
            shown(&summary),
            folder.display(),
            config.id,
            config.cluster,
        )
    })
}

async fn fill(arguments: &Restore, config: &NodeConfig) -> Result<ClusterId, RestoreError> {
    let disk = OsDisk::open(&config.data).await?;
    let disk = Arc::new(disk);
    let env = Env::new(Parts {
        node: config.id,
        incarnation: Incarnation(0),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::from_system()),
        spawn: Arc::new(TokioSpawn),
        transport: Arc::new(Offline),
        disk: disk.clone(),
    });
    let new = NewCluster { members: members(config), id: arguments.cluster_id.map(ClusterId) };
    let pieces = futures::stream::iter(pieces(&arguments.file).map_err(RestoreError::Read)?);
    let engines = engines(config, disk);
    let restored = leader::backup::restore(&env, engines, &config.leader, new, pieces).await?;
    Ok(restored.cluster)
}

/// What was not there before, to be removed again: the folder, if there was none, or the lock file
/// of an empty one.
struct Made<'a> {
    folder: &'a Path,
    absent: bool,
    empty: bool,
    kept: bool,
}

impl<'a> Made<'a> {
    fn missing(folder: &'a Path) -> Self {
        let entries = fs::read_dir(folder);
        let absent = matches!(&entries, Err(e) if e.kind() == io::ErrorKind::NotFound);
        let empty = entries.is_ok_and(|mut entries| entries.next().is_none());
        Self { folder, absent, empty, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.kept || !(self.absent || self.empty) {
            return;
        }
        let _ = fs::remove_file(self.folder.join("LOCK"));
        if self.absent {
            // Refused when it is not empty.
            let _ = fs::remove_dir(self.folder);
        }
    }
}
