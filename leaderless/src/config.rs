//! Every knob of a node.

use std::time::Duration;

use common::ids::{ClusterId, KeyspaceId, NodeId};
use common::seal::ClusterSecret;

use crate::layout::Layout;
use crate::version::Kind;

/// A keyspace, as every node of the cluster must name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceConfig {
    /// Its name.
    pub name: String,
    /// Its number. Never given to another keyspace.
    pub id: KeyspaceId,
    /// Its policy. Never changes.
    pub kind: Kind,
}

/// The knobs of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// What contexts are sealed under.
    pub secret: ClusterSecret,
    /// The layout to begin with; a newer one of a peer replaces it.
    pub layout: Layout,
    /// The keyspaces.
    pub keyspaces: Vec<KeyspaceConfig>,
    /// How often clocks are compared with each peer. Default 1 s. More often heals sooner and costs
    /// a message per pair.
    pub exchange_every: Duration,
    /// How often the engine is made durable and the log before it freed. Default 30 s.
    pub checkpoint_every: Duration,
    /// How long one replica may take before another is asked beside it. Default 50 ms.
    pub hedge_after: Duration,
    /// After a failed call a node counts as away for so long. Default 500 ms.
    pub away_for: Duration,
    /// How far a clock may be off the median of its peers before the node stamps no write of a
    /// last-writer-wins keyspace. Default 500 ms.
    pub max_offset: Duration,
    /// Largest key, in bytes. Default 32 KiB.
    pub max_key: usize,
    /// Largest value, in bytes. Default 1 MiB.
    pub max_value: usize,
    /// Concurrent values of one key that a write may make. Default 64.
    pub max_siblings: usize,
    /// Writes and reads that this node coordinates at once; above, requests are `Overloaded`.
    /// Default 4,096.
    pub max_requests: usize,
}

impl Config {
    /// The defaults.
    pub fn new(
        node: NodeId,
        cluster: ClusterId,
        secret: ClusterSecret,
        layout: Layout,
        keyspaces: Vec<KeyspaceConfig>,
    ) -> Self {
        Self {
            node,
            cluster,
            secret,
            layout,
            keyspaces,
            exchange_every: Duration::from_secs(1),
            checkpoint_every: Duration::from_secs(30),
            hedge_after: Duration::from_millis(50),
            away_for: Duration::from_millis(500),
            max_offset: Duration::from_millis(500),
            max_key: 32 << 10,
            max_value: 1 << 20,
            max_siblings: 64,
            max_requests: 4_096,
        }
    }

    /// Refuses contradictions by name.
    pub fn validate(&self) -> Result<(), String> {
        for (i, one) in self.keyspaces.iter().enumerate() {
            if self.keyspaces[..i].iter().any(|k| k.name == one.name || k.id == one.id) {
                return Err(format!("keyspace {:?} is there twice, by name or number", one.name));
            }
        }
        if self.exchange_every.is_zero() || self.checkpoint_every.is_zero() {
            return Err("exchange_every and checkpoint_every must be longer than zero".into());
        }
        self.layout.check().map_err(|why| format!("the layout is not valid: {why}"))
    }
}
