//! Files with explicit sync. Nothing is durable before it is synced: a file's bytes by
//! [`File::sync`], a file's name by [`Disk::sync_dir`].
//!
//! [`OsDisk`] is a folder of the operating system. `SimDisk`, behind `test-util`, loses and tears
//! what was not synced, fails, fills up and rots as it is told to. Both keep the contract that
//! `conformance` tests.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod os;
#[cfg(any(test, feature = "test-util"))]
pub mod simulated;
#[cfg(test)]
mod tests;

pub use os::OsDisk;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// Why the disk did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// There is no such file.
    #[error("{0}: no such file")]
    NotFound(String),
    /// The file exists already.
    #[error("{0}: already exists")]
    Exists(String),
    /// No space is left (also a quota or a file size limit). Nothing, or only a part, was written.
    #[error(
        "{path}: no space left on the disk; free space or add some, the node goes on by itself"
    )]
    Full {
        /// The file that was being written.
        path: String,
    },
    /// The file is held by another process.
    #[error("{path}: in use by another process ({detail})")]
    InUse {
        /// The file.
        path: String,
        /// What is known of the holder.
        detail: String,
    },
    /// The path leads out of the disk's folder, or is none.
    #[error("{0:?}: not a path on this disk; paths are relative, with names between slashes")]
    BadPath(String),
    /// The operating system refused or failed.
    #[error("{path}: {operation} failed: {cause}")]
    Io {
        /// The file.
        path: String,
        /// What was asked of it.
        operation: &'static str,
        /// The system's words.
        cause: String,
    },
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It must exist; read and write.
    Existing,
    /// It must not exist; it is made, empty.
    New,
    /// It is made if it does not exist.
    Any,
}

/// A folder of files. Paths are relative to it, with `/` between parts.
#[async_trait]
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens a file.
    async fn open(&self, path: &str, how: Open) -> Result<Arc<dyn File>, DiskError>;
    /// The names in a folder, sorted; folders end with `/`. A missing folder is empty.
    async fn list(&self, dir: &str) -> Result<Vec<String>, DiskError>;
    /// Makes a folder and those above it. Its name is durable after [`Disk::sync_dir`] of its parent.
    async fn create_dir(&self, dir: &str) -> Result<(), DiskError>;
    /// Renames a file, replacing another atomically. Durable after [`Disk::sync_dir`].
    async fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    async fn remove(&self, path: &str) -> Result<(), DiskError>;
    /// Removes a folder and all in it. Durable after [`Disk::sync_dir`] of its parent.
    async fn remove_dir(&self, dir: &str) -> Result<(), DiskError>;
    /// Makes the names in a folder durable.
    async fn sync_dir(&self, dir: &str) -> Result<(), DiskError>;
}

/// An open file.
#[async_trait]
pub trait File: Send + Sync + fmt::Debug {
    /// Length in bytes.
    async fn len(&self) -> Result<u64, DiskError>;
    /// Whether it has no bytes.
    async fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len().await? == 0)
    }
    /// Up to `length` bytes from `offset`: fewer only at the end of the file.
    async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes, DiskError>;
    /// Writes all of `bytes` at `offset`, growing the file where needed.
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError>;
    /// Reserves space up to `length` bytes, reading as zeros. `Full` when there is none.
    async fn allocate(&self, length: u64) -> Result<(), DiskError>;
    /// Cuts or extends the file to `length` bytes.
    async fn set_len(&self, length: u64) -> Result<(), DiskError>;
    /// Makes all bytes written so far durable. After an error, nothing is known about what was
    /// written since the last success, and asking again proves nothing (Rebello et al. 2020).
    /// So it never fails with [`DiskError::Full`], which promises that the disk goes on by itself.
    async fn sync(&self) -> Result<(), DiskError>;
    /// [`File::write_at`], then [`File::sync`]: one call, so that a disk which works in threads
    /// changes between them once.
    async fn write_and_sync(&self, offset: u64, bytes: Bytes) -> Result<(), DiskError> {
        self.write_at(offset, bytes).await?;
        self.sync().await
    }
}

/// Makes the names in a folder durable, and the folder's own name and those above it.
pub(crate) async fn sync_names(disk: &dyn Disk, dir: &str) -> Result<(), DiskError> {
    let mut dir = dir;
    loop {
        disk.sync_dir(dir).await?;
        if dir.is_empty() {
            return Ok(());
        }
        dir = parent(dir);
    }
}

/// The parts of a path, refusing what would lead out of the folder.
fn parts(path: &str) -> Result<Vec<&str>, DiskError> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').collect();
    let fine = |part: &&str| !matches!(*part, "" | "." | "..") && !part.contains('\0');
    if parts.iter().all(fine) { Ok(parts) } else { Err(DiskError::BadPath(path.into())) }
}

/// The folder that holds a path: empty for the disk's own.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
