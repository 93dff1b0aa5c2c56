//! What a read may see, when a write is acknowledged, and what both cost.
//!
//! One vocabulary for all strategies. A strategy refuses by name what it cannot honour; it never
//! gives less than it was asked for.

mod trade_off;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use trade_off::{Available, Cut, Fault, Loss, TradeOff, Visible};

use crate::ids::{NodeId, Region};

/// How fresh a read is, from the weakest to the strongest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Consistency {
    /// What this replica has. Never uncommitted data, but possibly old.
    Eventual,
    /// At most this old, proven without comparing clocks of two machines.
    Bounded(Duration),
    /// Everything the session has seen and done, and everything that caused it: read-your-writes,
    /// monotonic reads, monotonic writes and writes-follow-reads together.
    Causal,
    /// Linearizable: sees every write acknowledged before the read began.
    Strong,
    /// The same answer as [`Consistency::Strong`] by the leader's lease, without a round trip;
    /// relies on a bound on how differently clocks run.
    Lease,
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eventual => f.write_str("eventual"),
            Self::Bounded(d) => write!(f, "bounded {} ms", d.as_millis()),
            Self::Causal => f.write_str("causal"),
            Self::Strong => f.write_str("strong"),
            Self::Lease => f.write_str("lease"),
        }
    }
}

/// When a write is acknowledged. A mode never degrades silently: a timeout returns what was
/// achieved, and the write's fate stays resolvable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReplicationMode {
    /// When the node that took it has it durably. A failover may lose it, and tells.
    Async,
    /// When that node and so many others have it durably.
    SemiSync {
        /// The others: voters besides the leader, or sites besides the local one.
        followers: u8,
    },
    /// When a majority has it durably.
    Quorum,
    /// When a majority has it, and those named have reached the point.
    Sync {
        /// Who must have it.
        who: Who,
        /// What having it means.
        point: AckPoint,
    },
}

impl fmt::Display for ReplicationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Async => f.write_str("async"),
            Self::SemiSync { followers } => write!(f, "semi-sync({followers})"),
            Self::Quorum => f.write_str("quorum"),
            Self::Sync { who, point } => write!(f, "sync({who}, {point})"),
        }
    }
}

/// Who must have a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Who {
    /// Every voter.
    All,
    /// The first so many of these names that are present.
    First(u8, Vec<NodeId>),
    /// Any so many of these names.
    Any(u8, Vec<NodeId>),
    /// So many members in each of these regions.
    EachDatacenter(BTreeMap<Region, u8>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |f: &mut fmt::Formatter<'_>, names: &[NodeId]| {
            names.iter().try_for_each(|name| write!(f, " {name}"))
        };
        match self {
            Self::All => f.write_str("all"),
            Self::First(n, of) => {
                write!(f, "first {n} of")?;
                names(f, of)
            }
            Self::Any(n, of) => {
                write!(f, "any {n} of")?;
                names(f, of)
            }
            Self::EachDatacenter(regions) => {
                f.write_str("datacenter")?;
                regions.iter().try_for_each(|(region, n)| write!(f, " {region}={n}"))
            }
        }
    }
}

/// What having a write means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AckPoint {
    /// It is in the synced log.
    Durable,
    /// It is in the state, so that every read there sees it.
    Applied,
}

impl fmt::Display for AckPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Durable => "durable",
            Self::Applied => "applied",
        })
    }
}

/// How many replicas answer a request of the leaderless strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Level {
    /// One replica, or a hint kept for it.
    Any,
    /// One replica.
    One,
    /// Two replicas.
    Two,
    /// Three replicas.
    Three,
    /// A majority of all replicas.
    Quorum,
    /// One replica of the local datacenter.
    LocalOne,
    /// A majority of the local datacenter's replicas.
    LocalQuorum,
    /// A majority of each datacenter's replicas.
    EachQuorum,
    /// Every replica.
    All,
    /// So many replicas.
    Exactly(u8),
}

#[cfg(test)]
mod tests;
