//! What all connections of a node share: whom they ask, who the node is, limits and counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::ids::NodeId;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::backend::Backend;
use crate::blocking::Blocked;
use crate::clients::Clients;
use crate::users::Users;

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

impl Identity {
    /// Host and port of a member, or an unspecified host and port 0 if they are not known.
    pub(crate) fn address(&self, node: NodeId) -> (&str, u16) {
        let address = self.addresses.get(&node).and_then(|address| {
            let (host, port) = address.rsplit_once(':')?;
            Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
        });
        address.unwrap_or(("?", 0))
    }
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
    /// Most requests of a connection that are in flight. Default 1,024; further ones wait.
    pub pipeline: usize,
    /// Bytes of requests that are taken from a client although they have to wait. Default 1 MiB;
    /// further ones stay in the network.
    pub waiting_bytes: usize,
    /// Bytes of replies that a client has not taken yet, over which its requests wait. Default
    /// 16 MiB; the last reply may exceed it. Larger lets clients send longer pipelines before they
    /// read the first reply.
    pub unsent_bytes: usize,
    /// How long a client may be silent while it waits for nothing, before its connection is closed.
    /// Default never, as Redis's `timeout 0`. Clients that keep connections for later must expect
    /// the end of one, or send PING.
    pub idle: Option<Duration>,
    /// How long a client may take none of the replies that wait for it, before its connection is
    /// closed. Default 60 s. Until then they take `unsent_bytes` of memory at most.
    pub stall: Duration,
    /// How long a client may take for the handshake of TLS. Default 10 s.
    pub handshake: Duration,
    /// How long connections may finish what is in flight when the server stops. Default 5 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            request_bytes: 2 << 20,
            pipeline: 1_024,
            waiting_bytes: 1 << 20,
            unsent_bytes: 16 << 20,
            idle: None,
            stall: Duration::from_secs(60),
            handshake: Duration::from_secs(10),
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
    /// Connections that were closed because the client was silent, or took none of its replies.
    pub timed_out: AtomicU64,
    /// Connections that were closed because there was no handshake of TLS, or a wrong certificate.
    pub handshakes_failed: AtomicU64,
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

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, by: u64) {
        if by > 0 {
            counter.fetch_add(by, Ordering::Relaxed);
        }
    }
}

/// What all connections of a node share.
pub struct Service {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) limits: Limits,
    pub(crate) clients: Clients,
    /// Those who wait for elements.
    pub(crate) blocked: Blocked,
    pub(crate) users: Users,
    /// With it, clients connect with TLS and in no other way.
    pub(crate) tls: Option<TlsAcceptor>,
    identity: Identity,
    counters: Counters,
    started: Instant,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Service {
    /// A service over `backend`: a `leader::Node<Redis>`, or [`Local`](crate::backend::Local).
    pub fn new(backend: Arc<dyn Backend>, identity: Identity, limits: Limits) -> Arc<Self> {
        Self::with_users(backend, identity, limits, Users::default())
    }

    /// The same, for users who must show a password.
    pub fn with_users(
        backend: Arc<dyn Backend>,
        identity: Identity,
        limits: Limits,
        users: Users,
    ) -> Arc<Self> {
        Self::with_tls(backend, identity, limits, users, None)
    }

    /// The same, for clients that connect with TLS: see [`common::tls::server`].
    pub fn with_tls(
        backend: Arc<dyn Backend>,
        identity: Identity,
        limits: Limits,
        users: Users,
        tls: Option<Arc<ServerConfig>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            backend,
            limits,
            clients: Clients::default(),
            blocked: Blocked::default(),
            users,
            tls: tls.map(TlsAcceptor::from),
            identity,
            counters: Counters::default(),
            started: Instant::now(),
        })
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

/// What the machine's clock on the wall says.
pub(crate) fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
