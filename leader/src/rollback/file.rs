//! Rollback files: written once, synced, and never changed.
//!
//! ```text
//! rollback/<epoch>-<term>-<first index>-<last index>
//!   frame "TLrb" version 1: cluster, epoch, term, first and last index
//!   frame "TLrc" version 1, one per command: position, number, stamp, client, sequence, command
//! ```
//!
//! A file is written under the name `next` and gets its own by a rename, so whatever has a name of
//! this form is complete.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use common::clock::Hlc;
use common::codec::{self, CodecError, Format};
use common::ids::{ClientId, ClusterId, Epoch, LogPos};
use common::storage::disk::{Disk, DiskError, File, Open};
use serde::{Deserialize, Serialize};

use super::{Rollback, RollbackError};
use crate::entry::MAX_ENTRY;

const HEADER: Format = Format { magic: *b"TLrb", version: 1 };
const COMMAND: Format = Format { magic: *b"TLrc", version: 1 };
const FOLDER: &str = "rollback";
const NEXT: &str = "rollback/next";

/// The first frame of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) cluster: ClusterId,
    pub(crate) epoch: Epoch,
    pub(crate) term: u64,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// A command that was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LostCommand {
    pub(crate) at: LogPos,
    pub(crate) sub: u16,
    pub(crate) stamp: Hlc,
    pub(crate) client: ClientId,
    pub(crate) sequence: u64,
    pub(crate) command: Bytes,
}

impl Header {
    fn name(&self) -> String {
        format!("{}-{}-{}-{}", self.epoch.0, self.term, self.first, self.last)
    }

    /// What a file's name says: epoch, term, first and last index. None for other files.
    pub(super) fn parse(name: &str) -> Option<(Epoch, u64, u64, u64)> {
        let parts: Vec<u64> = name.split('-').map_while(|part| part.parse().ok()).collect();
        let [epoch, term, first, last] = *parts.as_slice() else { return None };
        let epoch = Epoch(u32::try_from(epoch).ok()?);
        (format!("{}-{term}-{first}-{last}", epoch.0) == name).then_some((epoch, term, first, last))
    }
}

/// A file that is being written.
pub(super) struct Writing {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    header: Header,
    length: u64,
    commands: u64,
}

impl Writing {
    pub(super) async fn begin(disk: &Arc<dyn Disk>, header: Header) -> Result<Self, DiskError> {
        disk.create_dir(FOLDER).await?;
        let file = disk.open(NEXT, Open::Any).await?;
        file.set_len(0).await?;
        let mut writing = Self { disk: disk.clone(), file, header, length: 0, commands: 0 };
        writing.put(codec::encode(HEADER, &header)).await?;
        Ok(writing)
    }

    async fn put(&mut self, bytes: Bytes) -> Result<(), DiskError> {
        let at = self.length;
        self.length += bytes.len() as u64;
        self.file.write_at(at, bytes).await
    }

    pub(super) async fn add(&mut self, commands: &[LostCommand]) -> Result<(), DiskError> {
        let mut bytes = BytesMut::new();
        for command in commands {
            bytes.extend_from_slice(&codec::encode(COMMAND, command));
        }
        self.commands += commands.len() as u64;
        self.put(bytes.freeze()).await
    }

    pub(super) async fn end(self) -> Result<Rollback, DiskError> {
        let Self { disk, file, header, length, commands } = self;
        file.sync().await?;
        let name = header.name();
        disk.rename(NEXT, &format!("{FOLDER}/{name}")).await?;
        disk.sync_dir(FOLDER).await?;
        disk.sync_dir("").await?;
        let Header { epoch, term, first, last, .. } = header;
        Ok(Rollback { name, epoch, term, first, last, commands, bytes: length })
    }
}

/// The names of all files, the oldest term first.
pub(super) async fn names(disk: &Arc<dyn Disk>) -> Result<Vec<String>, DiskError> {
    let mut found: Vec<_> = disk
        .list(FOLDER)
        .await?
        .into_iter()
        .filter_map(|name| Header::parse(&name).map(|key| (key, name)))
        .collect();
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

/// All that a file says.
pub(super) async fn read(
    disk: &Arc<dyn Disk>,
    name: &str,
) -> Result<(Header, Vec<LostCommand>, u64), RollbackError> {
    if Header::parse(name).is_none() {
        return Err(RollbackError::Unknown(name.to_owned()));
    }
    let file = match disk.open(&format!("{FOLDER}/{name}"), Open::Existing).await {
        Err(DiskError::NotFound(_)) => return Err(RollbackError::Unknown(name.to_owned())),
        other => other?,
    };
    let length = file.len().await?;
    let mut frames = Frames { file, length, at: 0 };
    let damaged = |error: &dyn std::fmt::Display| RollbackError::Damaged {
        name: name.to_owned(),
        cause: error.to_string(),
    };
    let header: Header = match frames.next(HEADER).await? {
        Some(header) => header.map_err(|error| damaged(&error))?,
        None => return Err(damaged(&"the file is empty")),
    };
    let mut commands = Vec::new();
    while let Some(command) = frames.next(COMMAND).await? {
        commands.push(command.map_err(|error| damaged(&error))?);
    }
    Ok((header, commands, length))
}

struct Frames {
    file: Arc<dyn File>,
    length: u64,
    at: u64,
}

impl Frames {
    async fn next<T: serde::de::DeserializeOwned>(
        &mut self,
        format: Format,
    ) -> Result<Option<Result<T, CodecError>>, DiskError> {
        if self.at >= self.length {
            return Ok(None);
        }
        let header = self.file.read_at(self.at, codec::HEADER).await?;
        let length = match codec::body_length(format, &header, MAX_ENTRY) {
            Ok(length) => codec::HEADER + length,
            Err(error) => return Ok(Some(Err(error))),
        };
        let bytes = self.file.read_at(self.at, length).await?;
        self.at += length as u64;
        Ok(Some(codec::decode(format, &bytes, MAX_ENTRY)))
    }
}
