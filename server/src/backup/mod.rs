//! `tercet backup`, `tercet verify` and `tercet restore`: a cluster's data as one file.
//!
//! A backup comes over HTTP from any node, while it serves. It gets its name only when it is whole,
//! checked and on the disk; what has the name can be restored, and a name that is taken is refused.

mod file;
mod restore;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use leader::backup::{DamagedBackup, Summary};

use crate::client::http::HttpError;
use crate::exit::Exit;

pub use file::{backup, verify};
pub use restore::{RestoreFailure, restore};

/// How long the node may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a backup has at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Every write that was acknowledged before it began.
    #[default]
    Strong,
    /// What the node has applied. Works without a leader.
    Eventual,
}

impl Level {
    /// Its name in a request.
    const fn name(self) -> &'static str {
        match self {
            Self::Strong => "strong",
            Self::Eventual => "eventual",
        }
    }
}

/// What `tercet backup` is told.
#[derive(Debug, Args)]
pub struct Backup {
    /// HTTP address of the node to back up, as host:port. A follower has the same data.
    #[arg(long, default_value = "127.0.0.1:8379")]
    pub from: String,
    /// What it has at least.
    #[arg(long, value_enum, default_value_t)]
    pub level: Level,
    /// The file to make. One that exists is never overwritten.
    pub file: PathBuf,
}

/// What `tercet verify` is told.
#[derive(Debug, Args)]
pub struct Verify {
    /// The backup.
    pub file: PathBuf,
}

/// What `tercet restore` is told.
#[derive(Debug, Args)]
pub struct Restore {
    /// The backup.
    pub file: PathBuf,
    /// Configuration of the node that is to have the data: its id, the new cluster's name and peers.
    #[arg(long)]
    pub config: PathBuf,
    /// The data folder, if it is another one than the configuration's.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// The new cluster's id, as a restore on another of its nodes has shown it. Without it, one is
    /// drawn.
    #[arg(long, value_parser = cluster_id)]
    pub cluster_id: Option<u64>,
}

fn cluster_id(text: &str) -> Result<u64, String> {
    let wrong = |_| "a cluster's id is up to 16 hexadecimal digits".to_owned();
    u64::from_str_radix(text, 16).map_err(wrong)
}

/// Why there is no backup, or no good one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The name is taken.
    #[error("{} exists; it was not touched: choose another name", .0.display())]
    Exists(PathBuf),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The node refused, or cannot be reached.
    #[error("no backup was made: {0}")]
    Node(#[from] HttpError),
    /// The file is not whole.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DamagedBackup,
    },
    /// What came from the node is not whole.
    #[error("no backup was made: {0}")]
    Came(#[from] DamagedBackup),
}

impl BackupError {
    /// The exit code that says which kind of failure it was.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Exists(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

/// A backup in a few lines.
fn shown(summary: &Summary) -> String {
    format!(
        "position      {} (term {})\n\
         records       {}\n\
         bytes         {}\n\
         state         {:016x}\n\
         cluster       {} ({:?})\n\
         made by       node {}, at {} ms since the Unix epoch\n",
        summary.at.index,
        summary.at.term,
        summary.state.items,
        summary.bytes,
        summary.state.hash,
        summary.cluster,
        summary.cluster_name,
        summary.node,
        summary.taken_unix_millis,
    )
}
