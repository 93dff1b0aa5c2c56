//! What the tests of this folder share.

use std::sync::Arc;

use async_trait::async_trait;
use common::storage::disk::{Disk, DiskError, File, Open};

/// A disk for tests that write nothing.
#[derive(Debug)]
pub(crate) struct NoDisk;

#[async_trait]
impl Disk for NoDisk {
    async fn open(&self, path: &str, _: Open) -> Result<Arc<dyn File>, DiskError> {
        Err(DiskError::NotFound(path.into()))
    }
    async fn list(&self, _: &str) -> Result<Vec<String>, DiskError> {
        Ok(Vec::new())
    }
    async fn create_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn rename(&self, _: &str, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn remove(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn remove_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
    async fn sync_dir(&self, _: &str) -> Result<(), DiskError> {
        Ok(())
    }
}
