//! From a backup to the folder of a node of a new cluster.
//!
//! ```text
//! folder is empty         else refused
//! file `restoring`        from here on no node opens the folder
//! engine, generation 1    filled from the backup, which is checked to its end
//!   position              the same; cluster, secret and members are the new ones; durable
//! log                     begins behind that position, with a vote in its term
//! file `id`               the node and the new cluster
//! `restoring` is removed  the folder is a node's
//! ```
//!
//! Whatever fails, all that was made is removed again. What a crash leaves is refused by name.

use std::hash::Hasher;
use std::sync::Arc;

use bytes::Bytes;
use common::env::Env;
use common::ids::{ClusterId, Epoch, Incarnation};
use common::storage::disk::{Disk, DiskError, Open};
use common::storage::engine::{Batch, Engine, EngineError, Engines, Generation};
use futures::{Stream, StreamExt};
use siphasher::sip::SipHasher13;

use super::{DamagedBackup, Summary, Verifier};
use crate::apply::{APPLIED, META};
use crate::config::Config;
use crate::error::OpenError;
use crate::identity::{Identity, UNFINISHED};
use crate::node::Member;
use crate::raft;

/// What the new cluster is to be. Its name and the node are the configuration's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCluster {
    /// Its voters, this node among them. The others start with empty folders, or with folders
    /// restored from the same backup, with the same members and the same id.
    pub members: Vec<Member>,
    /// Its id. None draws one; name it to restore the same backup on several nodes of one cluster.
    pub id: Option<ClusterId>,
}

/// A folder that is a node's now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// The new cluster.
    pub cluster: ClusterId,
    /// What it begins with.
    pub from: Summary,
}

/// Why nothing was restored. The folder is as it was, unless removing what was made has failed too:
/// then no node opens it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The folder holds something.
    #[error("the folder is not empty: it holds {0}; restore into an empty one")]
    NotEmpty(String),
    /// The new cluster contradicts itself, or is the old one.
    #[error("{0}")]
    Refused(String),
    /// The backup is damaged or not complete.
    #[error(transparent)]
    Damaged(#[from] DamagedBackup),
    /// The backup cannot be read.
    #[error("the backup cannot be read: {0}")]
    Read(std::io::Error),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The configuration is wrong, or the log could not be made.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Makes the environment's empty folder the one of node `config.node` of a new cluster, with the
/// state of a backup, which comes in pieces of any size.
pub async fn restore(
    env: &Env,
    engines: Arc<dyn Engines>,
    config: &Config,
    new: NewCluster,
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Unpin + Send,
) -> Result<Restored, RestoreError> {
    config.validate().map_err(OpenError::from)?;
    if !new.members.iter().any(|member| member.id == config.node) {
        return Err(RestoreError::Refused(format!(
            "the members of the new cluster do not include this node ({})",
            config.node
        )));
    }
    let found = env.disk.list("").await?;
    if !found.is_empty() {
        return Err(RestoreError::NotEmpty(found.join(", ")));
    }
    let restored = env.scope(fill(env, engines, config, new, pieces)).await;
    if restored.is_err()
        && let Err(error) = empty(&env.disk).await
    {
        tracing::warn!(%error, "what the restore had made could not be removed; empty the folder");
    }
    restored
}

async fn fill(
    env: &Env,
    engines: Arc<dyn Engines>,
    config: &Config,
    new: NewCluster,
    mut pieces: impl Stream<Item = std::io::Result<Bytes>> + Unpin + Send,
) -> Result<Restored, RestoreError> {
    env.disk.open(UNFINISHED, Open::New).await?.sync().await?;
    env.disk.sync_dir("").await?;
    let engine = engines.create(Generation(1)).await?;
    let mut verifier = Verifier::new();
    while let Some(piece) = pieces.next().await {
        let mut batch = Batch::new();
        verifier.take_with(&piece.map_err(RestoreError::Read)?, |keyspace, key, value| {
            batch.put(keyspace, key, value);
        })?;
        write(&engine, batch)?;
    }
    let (from, mut applied) = verifier.finish_with()?;
    let cluster = new.id.unwrap_or_else(|| ClusterId(env.rng.next_u64().max(1)));
    if cluster == from.cluster || cluster == ClusterId(0) {
        return Err(RestoreError::Refused(format!(
            "{cluster} is no id for a new cluster: it is the backup's own, or 0"
        )));
    }
    applied.secret = secret(applied.secret, cluster);
    applied.cluster = Some(cluster);
    applied.members = Some((from.at, raft::encode_members(&new.members)));
    let mut batch = Batch::new();
    batch.put(META, APPLIED, applied.encode());
    write(&engine, batch)?;
    drop(engine);
    engines.switch(Generation(1)).await?;
    raft::begin(env, config, from.at).await?;
    let identity = Identity {
        node: config.node,
        cluster_name: config.cluster_name.clone(),
        cluster: Some(cluster),
        epoch: Epoch(0),
        incarnation: Incarnation(0),
    };
    identity.save(&env.disk).await?;
    env.disk.remove(UNFINISHED).await?;
    env.disk.sync_dir("").await?;
    Ok(Restored { cluster, from })
}

fn write(engine: &Arc<dyn Engine>, batch: Batch) -> Result<(), EngineError> {
    if batch.is_empty() { Ok(()) } else { engine.write(batch) }
}

/// The new cluster's secret: every restore of one backup under one id gets the same, and who knows
/// the id alone does not.
fn secret(old: [u8; 16], cluster: ClusterId) -> [u8; 16] {
    let mut new = [0; 16];
    for (half, bytes) in (0_u64..).zip(new.chunks_exact_mut(8)) {
        let mut hasher = SipHasher13::new_with_key(&old);
        hasher.write_u64(cluster.0);
        hasher.write_u64(half);
        bytes.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    new
}

/// Removes all that is in the folder; the mark that it is not finished goes last.
async fn empty(disk: &Arc<dyn Disk>) -> Result<(), DiskError> {
    for name in disk.list("").await? {
        match name.strip_suffix('/') {
            Some(folder) => disk.remove_dir(folder).await?,
            None if name == UNFINISHED => {}
            None => disk.remove(&name).await?,
        }
    }
    disk.sync_dir("").await?;
    match disk.remove(UNFINISHED).await {
        Ok(()) | Err(DiskError::NotFound(_)) => disk.sync_dir("").await,
        Err(error) => Err(error),
    }
}
