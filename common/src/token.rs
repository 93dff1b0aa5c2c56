//! Session tokens: what a client has seen and done, so that no replica shows it less.
//!
//! A client joins the token of every answer into its own and sends it with the next request.
//! Whoever it hands the token to sees what it saw: that makes a session causal across clients.
//! [`Token::join`] is commutative, associative and idempotent, so answers may be joined in any
//! order and any number of times.

mod dots;
#[cfg(test)]
mod laws;
mod log;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use dots::{DotsToken, SeenDots};
pub use log::LogToken;

use crate::clock::{Hlc, VersionVector};
use crate::ids::{ClusterId, Epoch, Origin};
use crate::receipt::Receipt;
use crate::seal::{ClusterSecret, Kind, SealError};

const KIND: Kind = Kind { name: "token", magic: b't', version: 1, limit: 64 * 1024 };

/// What a session has seen, by the strategy that served it.
///
/// The order of the variants and of their fields is the wire format: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Token {
    /// Positions in a leader's log.
    Log(LogToken),
    /// Events of partitions, taken by any replica.
    Dots(DotsToken),
    /// Transactions, per origin.
    Origins(OriginsToken),
}

/// What a session of the multi-leader strategy has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginsToken {
    /// The cluster.
    pub cluster: ClusterId,
    /// The transactions it read and wrote.
    pub seen: VersionVector<Origin>,
    /// The largest stamp it met: later writes of the session are stamped above it.
    pub stamp: Hlc,
}

/// Why two tokens have no join. Neither was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// They are of two clusters, whose positions have nothing to do with each other.
    #[error("tokens of cluster {left} and cluster {right} cannot be joined: keep one per cluster")]
    Clusters {
        /// The one's cluster.
        left: ClusterId,
        /// The other's cluster.
        right: ClusterId,
    },
    /// A recovery from a minority began a new history between them, which may lack what the older
    /// one saw. Show the older one to a node first: it answers with a token of the new history, or
    /// that the session is lost.
    #[error(
        "tokens of histories {} and {} cannot be joined: show the older one to a node first",
        left.0, right.0
    )]
    Epochs {
        /// The one's history.
        left: Epoch,
        /// The other's history.
        right: Epoch,
    },
    /// They are of two strategies.
    #[error("tokens of two strategies cannot be joined")]
    Strategies,
    /// Early-acknowledged writes under too many leaders are not known committed. Resolve some.
    #[error("writes of {terms} terms are not known committed, at most {limit} fit: resolve some")]
    TooManyPending {
        /// Terms with such writes.
        terms: usize,
        /// The limit.
        limit: usize,
    },
    /// The session touched too many partitions. Begin a new one.
    #[error("a session of {partitions} partitions is over the limit of {limit}: begin a new one")]
    TooManyPartitions {
        /// Partitions of both.
        partitions: usize,
        /// The limit.
        limit: usize,
    },
}

impl Token {
    /// The cluster whose positions it holds.
    pub const fn cluster(&self) -> ClusterId {
        match self {
            Self::Log(t) => t.cluster,
            Self::Dots(t) => t.cluster,
            Self::Origins(t) => t.cluster,
        }
    }

    /// The smallest token that covers both.
    pub fn join(&self, other: &Self) -> Result<Self, JoinError> {
        same_cluster(self.cluster(), other.cluster())?;
        match (self, other) {
            (Self::Log(a), Self::Log(b)) => a.join(b).map(Self::Log),
            (Self::Dots(a), Self::Dots(b)) => a.join(b).map(Self::Dots),
            (Self::Origins(a), Self::Origins(b)) => a.join(b).map(Self::Origins),
            _ => Err(JoinError::Strategies),
        }
    }

    /// The sealed form, as bytes.
    pub fn seal(&self, secret: &ClusterSecret) -> Vec<u8> {
        KIND.seal(self, secret)
    }

    /// The token in a sealed form, if this cluster made it.
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

    /// The token in a sealed text, if this cluster made it.
    pub fn open_text(
        text: &str,
        secret: &ClusterSecret,
        cluster: ClusterId,
    ) -> Result<Self, SealError> {
        KIND.open_text(text, secret, cluster, Self::cluster)
    }
}

impl OriginsToken {
    /// A session that has seen nothing.
    pub const fn new(cluster: ClusterId) -> Self {
        Self { cluster, seen: VersionVector::new(), stamp: Hlc::ZERO }
    }

    /// The smallest token that covers both.
    pub fn join(&self, other: &Self) -> Result<Self, JoinError> {
        same_cluster(self.cluster, other.cluster)?;
        let mut seen = self.seen.clone();
        seen.join(&other.seen);
        Ok(Self { cluster: self.cluster, seen, stamp: self.stamp.max(other.stamp) })
    }
}

fn same_cluster(left: ClusterId, right: ClusterId) -> Result<(), JoinError> {
    if left == right { Ok(()) } else { Err(JoinError::Clusters { left, right }) }
}

/// Whether a replica can serve a session.
///
/// It only grows from `Behind` to `Covered`, except to `Lost`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// The replica has everything the session saw and did.
    Covered,
    /// The replica lacks some of it.
    Behind {
        /// How many entries or events it lacks, at least.
        missing: u64,
        /// When it should have them, as far as its progress tells.
        eta: Option<Duration>,
    },
    /// A write that was acknowledged to this session is lost. Until the session is reset, its
    /// reads and writes fail.
    Lost(Receipt),
}
