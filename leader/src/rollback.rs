//! Writes that are lost for ever, kept where they were: what a failover took back.
//!
//! A mode that does not wait for the commit can acknowledge a write that a failover loses. Its
//! receipt says so on every member; its content is in a rollback file of the node that held it,
//! written before the log lets go of it:
//!
//! ```text
//! log drops a tail      a deposed leader follows its successor, or takes a snapshot
//! suspects              the dropped entries; their segments stay
//! history               says of each, once enough is applied here: committed elsewhere, or lost
//! rollback file         the lost commands, deletes and counters too; synced; an event is sent
//! ```
//!
//! A file holds every lost command of its range, acknowledged or not: one that was not acknowledged
//! may have been sent again by its node, and be committed under another position. So a replay
//! ([`Node::replay`]) is conditional: it brings back only what nobody has touched since.

mod file;
mod keep;

use std::time::Duration;

use common::codec;
use common::ids::{Epoch, GroupId};
use common::receipt::LogReceipt;
use common::storage::disk::DiskError;

use crate::error::{ReadError, WriteError};
use crate::node::{Node, ReadLevel, ReadOptions, WriteOptions};
use crate::state_machine::StateMachine;
pub(crate) use keep::keep;

/// A rollback file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rollback {
    /// Its name in the folder `rollback`.
    pub name: String,
    /// The cluster's history.
    pub epoch: Epoch,
    /// The term whose leader proposed the lost entries.
    pub term: u64,
    /// The index of the first lost entry.
    pub first: u64,
    /// The index of the last one.
    pub last: u64,
    /// How many commands are in it.
    pub commands: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A command of a rollback file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack<C> {
    /// Its receipt, as whoever wrote it has got it if it was acknowledged.
    pub receipt: LogReceipt,
    /// The command; none if this build cannot read it.
    pub command: Option<C>,
}

/// What a replay does about a key that is absent. Whether it was absent all the time or deleted
/// since is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbsentKeys {
    /// Stay absent: no delete is undone.
    #[default]
    Stay,
    /// Are written.
    Written,
}

/// A command of a rollback file, for a second time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Again<C> {
    /// Propose this: it takes place only if what it changes is still as it is in the state.
    Propose(C),
    /// What it changes was changed since the write was lost.
    Changed,
    /// Such a command cannot be replayed: what it does depends on what was there.
    Never,
}

/// What a replay came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Commands that took place.
    pub written: u64,
    /// Commands that did not, since what they change was changed in the meantime.
    pub changed: u64,
    /// Commands that cannot be replayed.
    pub never: u64,
}

/// Why a rollback file could not be read or replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackError {
    /// There is no such file.
    #[error("there is no rollback file {0:?} on this node")]
    Unknown(String),
    /// The file is damaged.
    #[error("the rollback file {name} is damaged: {cause}")]
    Damaged {
        /// The file.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// The disk failed.
    #[error("the rollback files cannot be read: {0}")]
    Disk(#[from] DiskError),
    /// A read on the way failed. What was replayed before it stays.
    #[error("the replay ended early: {0}; call it again, it goes on where it ended")]
    Read(#[from] ReadError),
    /// A write on the way failed. What was replayed before it stays.
    #[error("the replay ended early: {0}; call it again, it goes on where it ended")]
    Write(#[from] WriteError),
}

impl<M: StateMachine> Node<M> {
    /// The rollback files of this node, the oldest term first.
    pub async fn rollbacks(&self) -> Result<Vec<Rollback>, RollbackError> {
        let disk = self.disk();
        let mut found = Vec::new();
        for name in file::names(disk).await? {
            let (header, commands, bytes) = file::read(disk, &name).await?;
            let file::Header { epoch, term, first, last, .. } = header;
            let commands = commands.len() as u64;
            found.push(Rollback { name, epoch, term, first, last, commands, bytes });
        }
        Ok(found)
    }

    /// The commands of a rollback file, in their order.
    pub async fn rolled_back(
        &self,
        name: &str,
    ) -> Result<Vec<RolledBack<M::Command>>, RollbackError> {
        let (header, commands, _) = file::read(self.disk(), name).await?;
        let commands = commands.into_iter().map(|lost| RolledBack {
            receipt: LogReceipt {
                cluster: header.cluster,
                epoch: header.epoch,
                group: GroupId(0),
                at: lost.at,
                sub: lost.sub,
                stamp: lost.stamp,
                client: Some((lost.client, lost.sequence)),
            },
            command: codec::decode_body(&lost.command).ok(),
        });
        Ok(commands.collect())
    }

    /// Writes the commands of a rollback file again, each only if what it changes was not changed
    /// since the write was lost, and is not changed meanwhile. The last one first, so that of
    /// several writes to a key the last counts. Calling it again does no harm.
    pub async fn replay(
        &self,
        name: &str,
        absent: AbsentKeys,
        timeout: Duration,
    ) -> Result<Replayed, RollbackError> {
        let mut replayed = Replayed::default();
        let commands = self.rolled_back(name).await?;
        let (header, ..) = file::read(self.disk(), name).await?;
        for RolledBack { command, .. } in commands.into_iter().rev() {
            let mut options = ReadOptions::level(ReadLevel::Strong);
            options.timeout = timeout;
            let view = self.view(options).await?;
            let again = match command {
                None => Again::Never,
                Some(command) => self
                    .machine()
                    .again(&view, view.clock(), &command, header.first, absent)
                    .map_err(ReadError::from)?,
            };
            match again {
                Again::Changed => replayed.changed += 1,
                Again::Never => replayed.never += 1,
                Again::Propose(command) => {
                    let options = WriteOptions { timeout, ..WriteOptions::default() };
                    let written = self.write(command, options).await?;
                    if self.machine().took_place(&written.reply) {
                        replayed.written += 1;
                    } else {
                        replayed.changed += 1;
                    }
                }
            }
        }
        Ok(replayed)
    }
}
