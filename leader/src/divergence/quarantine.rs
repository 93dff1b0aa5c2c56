//! The file `quarantine`: as long as it is there, the node serves no reads.
//!
//! ```text
//! frame "TLqu" version 1: position, own number and hash, the majority's number and hash
//! ```

use std::sync::Arc;

use common::codec::{self, Format};
use common::storage::disk::{Disk, DiskError, Open};

use super::Quarantined;
use crate::error::OpenError;

const FORMAT: Format = Format { magic: *b"TLqu", version: 1 };
const FILE: &str = "quarantine";
const NEXT: &str = "quarantine.next";
const LIMIT: usize = 4_096;

pub(super) async fn read(disk: &Arc<dyn Disk>) -> Result<Option<Quarantined>, OpenError> {
    let file = match disk.open(FILE, Open::Existing).await {
        Ok(file) => file,
        Err(DiskError::NotFound(_)) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    let bytes = file.read_at(0, LIMIT + codec::HEADER).await?;
    codec::decode(FORMAT, &bytes, LIMIT).map(Some).map_err(|error| {
        OpenError::WrongFolder(format!(
            "the file `{FILE}` cannot be read: {error}; the node's state is in doubt: replace the \
             node under a new id"
        ))
    })
}

pub(super) async fn write(disk: &Arc<dyn Disk>, why: &Quarantined) -> Result<(), DiskError> {
    let file = disk.open(NEXT, Open::Any).await?;
    file.set_len(0).await?;
    file.write_at(0, codec::encode(FORMAT, why)).await?;
    file.sync().await?;
    disk.rename(NEXT, FILE).await?;
    disk.sync_dir("").await
}

pub(super) async fn remove(disk: &Arc<dyn Disk>) -> Result<(), DiskError> {
    match disk.remove(FILE).await {
        Ok(()) | Err(DiskError::NotFound(_)) => disk.sync_dir("").await,
        Err(error) => Err(error),
    }
}
