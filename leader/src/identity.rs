//! Who a folder belongs to: the file `id`, so that no node ever opens another's.
//!
//! ```text
//! frame "TLid" version 1: node, cluster name, cluster id if known, epoch, incarnation
//! ```
//!
//! The file is replaced by a rename, so a crash leaves the old one or the new one.

use std::sync::Arc;

use common::codec::{self, Format};
use common::ids::{ClusterId, Epoch, Incarnation, NodeId};
use common::storage::disk::{Disk, DiskError, Open};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::error::OpenError;

const FORMAT: Format = Format { magic: *b"TLid", version: 1 };
const FILE: &str = "id";
const NEXT: &str = "id.next";
const LIMIT: usize = 4_096;

/// A file that says that the folder is being filled from a backup: what is in it is no state yet.
pub(crate) const UNFINISHED: &str = "restoring";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The node.
    pub(crate) node: NodeId,
    /// The cluster's name.
    pub(crate) cluster_name: String,
    /// The cluster, once it has an id.
    pub(crate) cluster: Option<ClusterId>,
    /// The cluster's history.
    pub(crate) epoch: Epoch,
    /// How often the folder was opened.
    pub(crate) incarnation: Incarnation,
}

impl Identity {
    /// Opens the folder's identity for a node, or makes it, and counts the opening.
    pub(crate) fn open<'a>(
        disk: &'a Arc<dyn Disk>,
        node: NodeId,
        cluster_name: &'a str,
    ) -> BoxFuture<'a, Result<Self, OpenError>> {
        Self::count(disk, node, cluster_name).boxed()
    }

    async fn count(
        disk: &Arc<dyn Disk>,
        node: NodeId,
        cluster_name: &str,
    ) -> Result<Self, OpenError> {
        let mut identity = match read(disk).await? {
            None => {
                refuse_unfinished(disk).await?;
                Self {
                    node,
                    cluster_name: cluster_name.to_owned(),
                    cluster: None,
                    epoch: Epoch(0),
                    incarnation: Incarnation(0),
                }
            }
            Some(found) => found.check(node, cluster_name)?,
        };
        let known = identity.incarnation.0 > 0;
        identity.incarnation.0 += 1;
        match identity.save(disk).await {
            Ok(()) => Ok(identity),
            // A full disk is no reason to stay away: the folder's owner is on it already.
            Err(DiskError::Full { .. }) if known => Ok(identity),
            Err(error) => Err(error.into()),
        }
    }

    fn check(self, node: NodeId, cluster_name: &str) -> Result<Self, OpenError> {
        if self.node != node {
            return Err(OpenError::WrongFolder(format!(
                "this folder belongs to node {} of cluster \"{}\", not to node {node}; give node \
                 {node} a folder of its own",
                self.node, self.cluster_name
            )));
        }
        if self.cluster_name != cluster_name {
            return Err(OpenError::WrongFolder(format!(
                "this folder belongs to cluster \"{}\", not to cluster \"{cluster_name}\"; use \
                 another folder, or the right cluster name",
                self.cluster_name
            )));
        }
        Ok(self)
    }

    /// Replaces the file durably.
    pub(crate) async fn save(&self, disk: &Arc<dyn Disk>) -> Result<(), DiskError> {
        let bytes = codec::encode(FORMAT, self);
        let file = disk.open(NEXT, Open::Any).await?;
        file.set_len(0).await?;
        file.write_at(0, bytes).await?;
        file.sync().await?;
        disk.rename(NEXT, FILE).await?;
        disk.sync_dir("").await
    }
}

async fn refuse_unfinished(disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    match disk.open(UNFINISHED, Open::Existing).await {
        Err(DiskError::NotFound(_)) => Ok(()),
        Err(other) => Err(other.into()),
        Ok(_) => Err(OpenError::WrongFolder(
            "this folder is from a restore that did not come to its end; empty it, and restore \
             again"
                .to_owned(),
        )),
    }
}

async fn read(disk: &Arc<dyn Disk>) -> Result<Option<Identity>, OpenError> {
    let file = match disk.open(FILE, Open::Existing).await {
        Ok(file) => file,
        Err(DiskError::NotFound(_)) => return Ok(None),
        Err(other) => return Err(other.into()),
    };
    let bytes = file.read_at(0, LIMIT + codec::HEADER).await?;
    codec::decode(FORMAT, &bytes, LIMIT).map(Some).map_err(|error| {
        OpenError::WrongFolder(format!(
            "the file `{FILE}` of this folder cannot be read: {error}; it is damaged or not a \
             folder of Tercet: restore it, or join the cluster again as a new node with an empty \
             folder"
        ))
    })
}
