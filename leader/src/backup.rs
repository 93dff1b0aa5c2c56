//! Backups: a whole state in one file, made while the member serves, and a new cluster made of it.
//!
//! A backup is a consistent cut of one member's state at one position of the log, in the form of a
//! [snapshot](crate) on its way between members, with what it is and a checksum on every part. All
//! that is replicated is in it: records, deadlines, client sessions, the history of terms, and the
//! secret that seals tokens and receipts. So keep the file as safe as the data.
//!
//! [`restore`] makes of it the folder of a node of a **new** cluster, offline. The new cluster has an
//! id and a secret of its own: nodes of the old one are refused by name, and so are its tokens and
//! receipts. The members are new, too; those whose folders are empty get the state from the restored
//! one by a snapshot.
//!
//! Positions and the replicated clock go on from where they were. A deadline is an instant of that
//! clock, so what has come due since the backup was made is gone soon after the restore.

mod format;
mod restore;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use common::clock::Hlc;
use common::ids::{ClusterId, Epoch, LogPos, NodeId};
use common::storage::engine::EngineError;

use crate::error::ReadError;
use crate::node::{Node, ReadOptions};
use crate::snapshot::Source;
use crate::state_hash::StateHash;
use crate::state_machine::StateMachine;

pub use format::{DamagedBackup, Verifier};
use format::{Header, Writing};
pub use restore::{NewCluster, RestoreError, Restored, restore};

/// The version of the file's layout that this build writes, and the newest one that it reads.
pub const FORMAT_VERSION: u16 = format::VERSION;

/// What a whole backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// When it was begun, by the wall clock of the member that made it, in milliseconds since the
    /// Unix epoch.
    pub taken_unix_millis: u64,
    /// That member.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub cluster_name: String,
    /// The cluster's history.
    pub epoch: Epoch,
    /// The last entry that the state contains.
    pub at: LogPos,
    /// The replicated clock.
    pub clock: Hlc,
    /// The hash of the state, as every member has it at that position.
    pub state: StateHash,
    /// The bytes of the file.
    pub bytes: u64,
}

/// A backup that is being made, piece by piece: the concatenation of all pieces is the file. The
/// state it reads from stays pinned until it is dropped.
#[derive(Debug)]
pub struct Backup {
    writing: Writing,
    source: Source,
    chunk_bytes: usize,
    at: LogPos,
    step: Step,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin,
    Chunks,
    Last,
    Done,
}

impl Backup {
    /// The last entry that it contains.
    pub const fn at(&self) -> LogPos {
        self.at
    }

    fn piece(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self.step {
            Step::Begin => {
                self.step = Step::Chunks;
                Ok(Some(self.writing.header()))
            }
            Step::Chunks => {
                let (chunk, last) = self.source.next_chunk(self.chunk_bytes)?;
                if last {
                    self.step = Step::Last;
                }
                Ok(Some(self.writing.chunk(&chunk)))
            }
            Step::Last => {
                self.step = Step::Done;
                Ok(Some(self.writing.end(self.source.state())))
            }
            Step::Done => Ok(None),
        }
    }
}

impl Iterator for Backup {
    type Item = Result<Bytes, EngineError>;

    /// The next piece. It reads from the engine, which may wait for a disk. After an error there is
    /// nothing more, and what was written is no backup.
    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.piece();
        if piece.is_err() {
            self.step = Step::Done;
        }
        piece.transpose()
    }
}

impl<M: StateMachine> Node<M> {
    /// A backup of this member's state, which contains whatever a read with these options would see.
    /// The member goes on serving meanwhile.
    pub async fn backup(&self, options: ReadOptions) -> Result<Backup, ReadError> {
        let deadline = self.surroundings().0.now() + options.timeout;
        self.view(options).await?;
        // The first leader names the cluster, perhaps after the first writes.
        self.cluster(deadline).await;
        let pinned = self.pin()?;
        let (Some(at), Some(cluster)) = (pinned.at.at, pinned.at.cluster) else {
            let what = "this node belongs to no cluster yet: there is nothing to back up";
            return Err(ReadError::Unsupported(what.to_owned()));
        };
        let (env, config, epoch) = self.surroundings();
        let header = Header {
            taken_unix_millis: env.clock.wall_millis(),
            node: self.id(),
            cluster,
            cluster_name: config.cluster_name.clone(),
            epoch,
            at,
            clock: pinned.at.clock,
        };
        let chunk_bytes = config.snapshot_chunk_bytes;
        let (writing, source) = (Writing::new(header), Source::new(pinned));
        Ok(Backup { writing, source, chunk_bytes, at, step: Step::Begin })
    }

    /// The hash of the state that a read with these options would see, and its position. Reads the
    /// whole state; two members have the same at the same position.
    pub async fn state_hash(&self, options: ReadOptions) -> Result<(LogPos, StateHash), ReadError> {
        self.view(options).await?;
        let pinned = self.pin()?;
        let (env, config, _) = self.surroundings();
        let state = crate::state_hash::hash(env, &pinned, config.check_bytes_per_second).await?;
        Ok((pinned.at.at.unwrap_or_default(), state))
    }
}
