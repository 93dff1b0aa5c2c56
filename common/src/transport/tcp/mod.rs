//! The transport over TCP: framed, multiplexed, pipelined, bounded.
//!
//! Each node connects to a peer when it first has a message for it, once per
//! [`Class`], and answers come back on the connection that brought the call. Both
//! ends introduce themselves first (`handshake`), and every connection has heartbeats, so that a
//! peer that is gone without a word is noticed within [`LinkLimits::idle`].
//!
//! # Caveats
//!
//! - Without [`TlsSockets`](crate::tls::TlsSockets) (feature `tls`), whoever reaches the port and
//!   knows the cluster's name can speak to a node.
//! - Deadlines do not travel: a handler runs on when its caller has given up.

mod accept;
mod config;
mod dial;
mod greet;
mod lane;
mod sockets;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use tokio::sync::Notify;

pub use config::{TcpConfig, TcpParts};
pub use sockets::{Listener, Proof, Socket, Sockets, SystemSockets};

use self::accept::{Incoming, Newcomers};
use self::greet::Acquaintances;
use self::lane::Lane;
use self::wire::{Signal, lock};
use super::handshake::Identity;
use super::{CallError, Class, Handler, Transport};
use crate::env::{Env, Mono, Rng};
use crate::ids::{ClusterId, NodeId};

/// Bounds of one node's connections. Memory is at most about `connections` x `queue_bytes` incoming
/// and three times `queue_bytes` per known peer outgoing.
#[derive(Clone, Debug)]
pub struct LinkLimits {
    /// Largest body of a message, in bytes. Default 16 MiB; must not be below a batch of the log.
    pub frame: usize,
    /// Bytes that may wait for one peer and class, or that one incoming connection may occupy.
    /// Default 64 MiB. More bridges longer stalls of the network and costs memory.
    pub queue_bytes: usize,
    /// Messages that may wait, and calls that may be open, per peer and class. Default 16384.
    pub queue_calls: usize,
    /// Handlers that one incoming connection may keep busy; above, it is not read. Default 4096.
    pub serving: usize,
    /// Introduced incoming connections. Default 256: three per peer are needed.
    pub connections: usize,
    /// Incoming connections that have not introduced themselves; above, the oldest is closed.
    /// Default 64.
    pub handshakes: usize,
    /// Time to connect and introduce oneself. Default 2 s.
    pub handshake: Duration,
    /// A connection on which nothing was heard for this long is closed. Default 3 s. Shorter notices
    /// a dead peer earlier, and breaks connections of one that only paused.
    pub idle: Duration,
    /// First delay after a failed attempt to connect. Default 50 ms.
    pub backoff_min: Duration,
    /// Longest delay between attempts. Default 1 s.
    pub backoff_max: Duration,
    /// How long `close` lets queued messages leave and running handlers answer. Default 1 s.
    pub drain: Duration,
}

/// Why a transport could not be bound. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The configuration contradicts itself.
    #[error("transport configuration: {0}")]
    Config(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The cluster id is already set to another value. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this node belongs to cluster {known:?}, it cannot become one of {other:?}")]
pub struct ClusterMismatch {
    /// The cluster it belongs to.
    pub known: ClusterId,
    /// The cluster it was told to join.
    pub other: ClusterId,
}

/// How things stand with one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub peer: NodeId,
    /// Its address, as learned or, for a peer that only ever connected to us, as it said.
    pub address: String,
    /// Whether any connection to or from it is up.
    pub connected: bool,
    /// Since when the present state holds, if it ever changed.
    pub since: Option<Mono>,
    /// Why the last connection ended or could not be made.
    pub last_error: Option<String>,
    /// Last measured round trip in microseconds, by preference of the control class.
    pub rtt_micros: Option<u64>,
    /// Bytes received from it, over all connections.
    pub bytes_in: u64,
    /// Bytes sent to it, over all connections.
    pub bytes_out: u64,
}

/// The transport of one node over TCP. Dropping it stops it; [`Transport::close`] does so gently.
pub struct TcpTransport {
    shared: Arc<Shared>,
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpTransport({:?} at {})", self.shared.config.node, self.shared.address)
    }
}

/// What all tasks of one transport know.
struct Shared {
    config: TcpConfig,
    parts: TcpParts,
    jitter: Arc<dyn Rng>,
    /// The advertised address.
    address: String,
    acquaintances: Mutex<Acquaintances>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    accepted: Mutex<BTreeMap<(NodeId, Class), Arc<Incoming>>>,
    newcomers: Newcomers,
    served: Mutex<Option<Served>>,
    closing: Signal,
    tasks: AtomicUsize,
    task_ended: Notify,
}

/// Who serves, and the node that it belongs to.
#[derive(Clone)]
struct Served {
    handler: Arc<dyn Handler>,
    env: Option<Env>,
}

/// One known peer.
#[derive(Debug)]
struct Peer {
    address: Mutex<String>,
    lanes: [Arc<Lane>; 3],
    started: Mutex<[bool; 3]>,
    link: Mutex<Link>,
    rtt: [AtomicU64; 3],
    bytes_in: Arc<AtomicU64>,
    bytes_out: Arc<AtomicU64>,
    /// Notified per lane when the peer has connected to us or has a new address.
    returned: [Notify; 3],
    /// Notified when connections must be introduced anew.
    reconnect: Notify,
    forgotten: Signal,
}

#[derive(Debug, Default)]
struct Link {
    up: [bool; 3],
    since: Option<Mono>,
    last_error: Option<String>,
}

impl Peer {
    fn new(id: NodeId, address: &str, limits: &LinkLimits) -> Self {
        Self {
            address: Mutex::new(address.to_owned()),
            lanes: Class::ALL.map(|class| Arc::new(Lane::new(id, class, limits.clone()))),
            started: Mutex::default(),
            link: Mutex::default(),
            rtt: Default::default(),
            bytes_in: Arc::default(),
            bytes_out: Arc::default(),
            returned: Default::default(),
            reconnect: Notify::new(),
            forgotten: Signal::default(),
        }
    }

    fn up(&self, class: Class, now: Mono) {
        let mut link = lock(&self.link);
        if link.up == [false; 3] {
            link.since = Some(now);
        }
        link.up[class as usize] = true;
    }

    fn down(&self, class: Class, why: &str, now: Mono) {
        let mut link = lock(&self.link);
        let was_up = std::mem::take(&mut link.up[class as usize]);
        if was_up && link.up == [false; 3] {
            link.since = Some(now);
        }
        link.last_error = Some(why.to_owned());
    }
}

impl Shared {
    fn sleep(&self, d: Duration) -> BoxFuture<'static, ()> {
        self.parts.clock.sleep_until(self.parts.clock.now() + d)
    }

    /// Starts a task that [`Transport::close`] waits for.
    fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        struct Running(Arc<Shared>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.tasks.fetch_sub(1, Ordering::SeqCst);
                self.0.task_ended.notify_waiters();
            }
        }
        self.tasks.fetch_add(1, Ordering::SeqCst);
        let running = Running(self.clone());
        let task = async move {
            task.await;
            drop(running);
        };
        drop(self.parts.spawn.spawn(name, Box::pin(task)));
    }

    /// Lists an introduced connection. Returns those it replaces: the same node and class, and all
    /// of an older incarnation.
    fn register(&self, incoming: &Arc<Incoming>) -> Result<Vec<Arc<Incoming>>, String> {
        let mut accepted = lock(&self.accepted);
        let key = (incoming.peer, incoming.class);
        let limit = self.config.limits.connections;
        if accepted.len() >= limit && !accepted.contains_key(&key) {
            return Err(format!("this node serves {limit} connections already"));
        }
        let older = |other: &Arc<Incoming>| {
            other.peer == incoming.peer && other.hello.incarnation < incoming.hello.incarnation
        };
        let mut replaced: Vec<_> = accepted.values().filter(|o| older(o)).cloned().collect();
        accepted.retain(|_, other| !older(other));
        replaced.extend(accepted.insert(key, incoming.clone()));
        Ok(replaced)
    }

    fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        lock(&self.peers).get(&id).cloned()
    }

    fn peer_returned(&self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            peer.returned.iter().for_each(Notify::notify_waiters);
        }
    }

    fn counters(&self, id: NodeId) -> (Arc<AtomicU64>, Arc<AtomicU64>) {
        self.peer(id).map_or_else(Default::default, |p| (p.bytes_in.clone(), p.bytes_out.clone()))
    }

    /// The lane to a peer, with its task running.
    fn lane(self: &Arc<Self>, to: NodeId, class: Class) -> Result<Arc<Lane>, CallError> {
        if self.closing.is_set() {
            return Err(CallError::Closed);
        }
        let Some(peer) = self.peer(to) else {
            let why = if to == self.config.node { "it is this node" } else { "no known address" };
            return Err(CallError::Unreachable(to, why.to_owned()));
        };
        let lane = peer.lanes[class as usize].clone();
        let fresh = !std::mem::replace(&mut lock(&peer.started)[class as usize], true);
        if fresh {
            self.spawn("transport lane", dial::run(self.clone(), peer, lane.clone()));
        }
        Ok(lane)
    }
}

impl TcpTransport {
    /// Listens, and is ready to call and to serve. Must be called inside a runtime.
    pub fn bind(
        parts: TcpParts,
        config: TcpConfig,
    ) -> BoxFuture<'static, Result<Arc<Self>, BindError>> {
        // Boxed here, so that the transport is compiled with this crate and not again with each user.
        Self::listen(parts, config).boxed()
    }

    async fn listen(parts: TcpParts, config: TcpConfig) -> Result<Arc<Self>, BindError> {
        config.validate()?;
        let listener = parts.sockets.bind(&config.listen).await;
        let listener = listener
            .map_err(|source| BindError::Listen { address: config.listen.clone(), source })?;
        let identity = Identity {
            cluster: config.cluster,
            offered: None,
            name: config.cluster_name.clone(),
            epoch: config.epoch,
            node: config.node,
        };
        let shared = Arc::new(Shared {
            jitter: parts.rng.stream("transport backoff"),
            address: config.advertise.clone().unwrap_or_else(|| listener.address()),
            acquaintances: Mutex::new(Acquaintances::new(identity)),
            peers: Mutex::default(),
            accepted: Mutex::default(),
            newcomers: Newcomers::default(),
            served: Mutex::default(),
            closing: Signal::default(),
            tasks: AtomicUsize::new(0),
            task_ended: Notify::new(),
            config,
            parts,
        });
        shared.spawn("transport listener", accept::listen(shared.clone(), listener));
        Ok(Arc::new(Self { shared }))
    }

    /// The address that peers are told: the configured one, or the one that was bound.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// The cluster's id, if it is set.
    pub fn cluster(&self) -> Option<ClusterId> {
        let cluster = lock(&self.shared.acquaintances).identity.cluster;
        (cluster != ClusterId(0)).then_some(cluster)
    }

    /// The cluster id that a peer of the same cluster name has told, while this node's own was not
    /// set. Until [`TcpTransport::set_cluster`], peers of any other id are refused.
    pub fn offered_cluster(&self) -> Option<ClusterId> {
        lock(&self.shared.acquaintances).identity.offered
    }

    /// Sets the cluster's id, once, after it has been stored safely. Connections that were
    /// introduced without it are closed and made anew, so that from now on both sides have checked.
    pub fn set_cluster(&self, cluster: ClusterId) -> Result<(), ClusterMismatch> {
        {
            let mut acquaintances = lock(&self.shared.acquaintances);
            let known = acquaintances.identity.cluster;
            if known == cluster {
                return Ok(());
            }
            if known != ClusterId(0) {
                return Err(ClusterMismatch { known, other: cluster });
            }
            acquaintances.identity.cluster = cluster;
        }
        for peer in lock(&self.shared.peers).values() {
            peer.reconnect.notify_waiters();
        }
        for incoming in lock(&self.shared.accepted).values() {
            if incoming.hello.cluster != cluster {
                incoming.close("the cluster's id is known now: introduce yourself anew");
            }
        }
        Ok(())
    }

    /// How things stand with every known peer and every node that is connected to this one.
    pub fn links(&self) -> Vec<LinkStatus> {
        let mut links: BTreeMap<NodeId, LinkStatus> = BTreeMap::new();
        for (&id, peer) in lock(&self.shared.peers).iter() {
            let link = lock(&peer.link);
            let rtt = peer.rtt.iter().map(|rtt| rtt.load(Ordering::Relaxed)).find(|rtt| *rtt > 0);
            let status = LinkStatus {
                peer: id,
                address: lock(&peer.address).clone(),
                connected: link.up != [false; 3],
                since: link.since,
                last_error: link.last_error.clone(),
                rtt_micros: rtt,
                bytes_in: peer.bytes_in.load(Ordering::Relaxed),
                bytes_out: peer.bytes_out.load(Ordering::Relaxed),
            };
            links.insert(id, status);
        }
        for incoming in lock(&self.shared.accepted).values() {
            let status = links.entry(incoming.peer).or_insert_with(|| LinkStatus {
                peer: incoming.peer,
                address: incoming.address.clone(),
                connected: true,
                since: None,
                last_error: None,
                rtt_micros: None,
                bytes_in: 0,
                bytes_out: 0,
            });
            status.connected = true;
        }
        links.into_values().collect()
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn call(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let clock = self.shared.parts.clock.clone();
        let at = clock.now() + deadline;
        match self.shared.lane(to, class).and_then(|lane| lane.call(body, at, clock)) {
            Ok(answer) => answer,
            Err(e) => Box::pin(ready(Err(e))),
        }
    }

    fn cast(&self, to: NodeId, class: Class, body: Bytes) -> Result<(), CallError> {
        self.shared.lane(to, class)?.cast(body)
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        *lock(&self.shared.served) = Some(Served { handler, env: Env::current() });
    }

    fn learn(&self, peer: NodeId, address: &str) {
        if peer == self.shared.config.node {
            return;
        }
        let mut peers = lock(&self.shared.peers);
        if let Some(known) = peers.get(&peer) {
            let former = std::mem::replace(&mut *lock(&known.address), address.to_owned());
            if former != address {
                known.returned.iter().for_each(Notify::notify_waiters);
                known.reconnect.notify_waiters();
            }
            return;
        }
        peers.insert(peer, Arc::new(Peer::new(peer, address, &self.shared.config.limits)));
    }

    fn forget(&self, peer: NodeId) {
        if let Some(known) = lock(&self.shared.peers).remove(&peer) {
            known.forgotten.set();
        }
        for incoming in lock(&self.shared.accepted).values() {
            if incoming.peer == peer {
                incoming.close("the node was forgotten here");
            }
        }
    }

    async fn close(&self) {
        self.shared.closing.set();
        loop {
            let mut ended = std::pin::pin!(self.shared.task_ended.notified());
            ended.as_mut().enable();
            if self.shared.tasks.load(Ordering::SeqCst) == 0 {
                break;
            }
            ended.await;
        }
        // The handler holds the node, and the node holds this transport.
        lock(&self.shared.served).take();
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.closing.set();
    }
}
