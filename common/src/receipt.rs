//! Receipts: what an acknowledged write returns, and what tells its fate ever after.
//!
//! A client keeps a receipt as text. Any node of its cluster answers with the write's [`Fate`],
//! also after a failover: an acknowledged write that was lost is *told*, not hidden.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::clock::{Dot, Hlc};
use crate::consistency::Level;
use crate::ids::{
    Actor, ClientId, ClusterId, Epoch, GroupId, KeyspaceId, LogPos, Origin, PartitionId,
};
use crate::seal::{ClusterSecret, Kind, SealError};

const KIND: Kind = Kind { name: "receipt", magic: b'r', version: 1, limit: 512 };

/// Which write was acknowledged, by the strategy that took it.
///
/// The order of the variants and of their fields is the wire format: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Receipt {
    /// A command in a leader's log.
    Log(LogReceipt),
    /// An event of a partition, taken by any replica.
    Dots(DotsReceipt),
    /// A transaction of one site.
    Origin(OriginReceipt),
}

/// The receipt of a command in a leader's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogReceipt {
    /// The cluster that took it.
    pub cluster: ClusterId,
    /// The cluster's history it is part of.
    pub epoch: Epoch,
    /// The group whose log it is in.
    pub group: GroupId,
    /// The log entry.
    pub at: LogPos,
    /// The command's number within the entry, from 0.
    pub sub: u16,
    /// The entry's stamp by the replicated clock.
    pub stamp: Hlc,
    /// The client's session and its sequence number there, for a command that has them.
    pub client: Option<(ClientId, u64)>,
}

/// The receipt of a write of the leaderless strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DotsReceipt {
    /// The cluster that took it.
    pub cluster: ClusterId,
    /// The layout of the ring under which it was taken.
    pub epoch: Epoch,
    /// The keyspace of its key.
    pub keyspace: KeyspaceId,
    /// The key's place on the ring.
    pub token: u64,
    /// The partition of that place.
    pub partition: PartitionId,
    /// The event.
    pub dot: Dot<Actor>,
    /// What it was to reach.
    pub level: Level,
}

/// The receipt of a transaction of the multi-leader strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginReceipt {
    /// The cluster that took it.
    pub cluster: ClusterId,
    /// The transaction: its origin and its number there.
    pub dot: Dot<Origin>,
    /// Its stamp.
    pub stamp: Hlc,
}

impl Receipt {
    /// The cluster that took the write.
    pub const fn cluster(&self) -> ClusterId {
        match self {
            Self::Log(r) => r.cluster,
            Self::Dots(r) => r.cluster,
            Self::Origin(r) => r.cluster,
        }
    }

    /// The sealed form, as bytes.
    pub fn seal(&self, secret: &ClusterSecret) -> Vec<u8> {
        KIND.seal(self, secret)
    }

    /// The receipt in a sealed form, if this cluster made it.
    pub fn open(
        bytes: &[u8],
        secret: &ClusterSecret,
        cluster: ClusterId,
    ) -> Result<Self, SealError> {
        KIND.open(bytes, secret, cluster, Self::cluster)
    }

    /// The sealed form, as text that is safe in URLs.
    pub fn seal_text(&self, secret: &ClusterSecret) -> String {
        KIND.seal_text(self, secret)
    }

    /// The receipt in a sealed text, if this cluster made it.
    pub fn open_text(
        text: &str,
        secret: &ClusterSecret,
        cluster: ClusterId,
    ) -> Result<Self, SealError> {
        KIND.open_text(text, secret, cluster, Self::cluster)
    }
}

impl From<LogReceipt> for Receipt {
    fn from(receipt: LogReceipt) -> Self {
        Self::Log(receipt)
    }
}

impl From<DotsReceipt> for Receipt {
    fn from(receipt: DotsReceipt) -> Self {
        Self::Dots(receipt)
    }
}

impl From<OriginReceipt> for Receipt {
    fn from(receipt: OriginReceipt) -> Self {
        Self::Origin(receipt)
    }
}

/// What became of an acknowledged write. `Committed` and `Lost` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fate {
    /// It is part of the history for ever.
    Committed,
    /// It has no effect, and never will.
    Lost {
        /// What stands in its place, where places are shared, as in a log.
        replaced_by: Option<LogPos>,
    },
    /// It is not decided yet. Ask again.
    Pending,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("committed"),
            Self::Lost { replaced_by: None } => f.write_str("lost"),
            Self::Lost { replaced_by: Some(at) } => {
                write!(f, "lost, replaced by term {} index {}", at.term, at.index)
            }
            Self::Pending => f.write_str("pending"),
        }
    }
}
