//! What a [`TcpTransport`](super::TcpTransport) is told when it is bound.

use std::sync::Arc;
use std::time::Duration;

use super::sockets::{Sockets, SystemSockets};
use super::{BindError, LinkLimits};
use crate::env::{Clock, Rng, Spawn, SplitMix64, SystemClock, TokioSpawn};
use crate::ids::{ClusterId, Epoch, Incarnation, NodeId};
use crate::transport::{frame, handshake};

/// The seams that the transport stands on. An [`Env`](crate::env::Env) contains the transport, so
/// they come one by one.
#[derive(Clone, Debug)]
pub struct TcpParts {
    /// Deadlines, heartbeats and backoff.
    pub clock: Arc<dyn Clock>,
    /// Jitter of the backoff.
    pub rng: Arc<dyn Rng>,
    /// The transport's own tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Connections.
    pub sockets: Arc<dyn Sockets>,
}

impl TcpParts {
    /// The system's clock, randomness, tasks and sockets.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::default()),
            rng: Arc::new(SplitMix64::from_system()),
            spawn: Arc::new(TokioSpawn),
            sockets: Arc::new(SystemSockets),
        }
    }
}

/// Who the node is, where it listens, and how much a peer may ask of it.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Where to listen, as `host:port`. Port 0 takes any free one.
    pub listen: String,
    /// The address that peers are told. Default: the one that `listen` was bound to, which is
    /// wrong when that is a wildcard or behind a translated address.
    pub advertise: Option<String>,
    /// Who this node is.
    pub node: NodeId,
    /// Which opening of its storage it runs on. Peers that have seen a newer one refuse it.
    pub incarnation: Incarnation,
    /// Its cluster, or `ClusterId(0)` while it does not know it: then it talks to peers of the
    /// same name, and to those of one cluster id only. See
    /// [`TcpTransport::set_cluster`](super::TcpTransport::set_cluster).
    pub cluster: ClusterId,
    /// The cluster's name, 1 to 255 bytes. Peers of another name are refused.
    pub cluster_name: String,
    /// Its history of the cluster. Peers of another are refused.
    pub epoch: Epoch,
    /// Bounds on memory and time.
    pub limits: LinkLimits,
}

impl TcpConfig {
    /// A configuration with default limits for a node that does not know its cluster's id yet.
    pub fn new(listen: &str, node: NodeId, cluster_name: &str) -> Self {
        Self {
            listen: listen.to_owned(),
            advertise: None,
            node,
            incarnation: Incarnation(0),
            cluster: ClusterId(0),
            cluster_name: cluster_name.to_owned(),
            epoch: Epoch(0),
            limits: LinkLimits::default(),
        }
    }

    /// Refuses what cannot work, by name.
    pub(super) fn validate(&self) -> Result<(), BindError> {
        let refuse = |why: String| Err(BindError::Config(why));
        let name = self.cluster_name.len();
        if name == 0 || name > handshake::TEXT_LIMIT {
            return refuse(format!(
                "`cluster_name` has {name} bytes, it must have 1 to {}",
                handshake::TEXT_LIMIT
            ));
        }
        if self.advertise.as_ref().is_some_and(|a| a.len() > handshake::TEXT_LIMIT) {
            return refuse(format!("`advertise` is over {} bytes", handshake::TEXT_LIMIT));
        }
        self.limits.validate().or_else(refuse)
    }
}

impl LinkLimits {
    fn validate(&self) -> Result<(), String> {
        let largest = u32::MAX as usize / 2;
        if self.frame == 0 || self.frame > largest {
            return Err(format!("`frame` is {}, it must be 1 to {largest} bytes", self.frame));
        }
        if self.queue_bytes < self.frame {
            return Err(format!(
                "`queue_bytes` is {}, less than one frame of {} bytes",
                self.queue_bytes, self.frame
            ));
        }
        for (name, value) in [
            ("queue_calls", self.queue_calls),
            ("serving", self.serving),
            ("connections", self.connections),
            ("handshakes", self.handshakes),
        ] {
            if value == 0 {
                return Err(format!("`{name}` is 0: nothing could pass"));
            }
        }
        for (name, value) in
            [("handshake", self.handshake), ("idle", self.idle), ("backoff_min", self.backoff_min)]
        {
            if value < Duration::from_millis(1) {
                return Err(format!("`{name}` is under a millisecond"));
            }
        }
        if self.backoff_max < self.backoff_min {
            return Err("`backoff_max` is less than `backoff_min`".to_owned());
        }
        Ok(())
    }
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            frame: frame::DEFAULT_LIMIT,
            queue_bytes: 64 << 20,
            queue_calls: 16_384,
            serving: 4_096,
            connections: 256,
            handshakes: 64,
            handshake: Duration::from_secs(2),
            idle: Duration::from_secs(3),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            drain: Duration::from_secs(1),
        }
    }
}
