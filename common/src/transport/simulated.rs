//! The simulated network: ordered lanes between nodes, under one seed and paused time.
//!
//! Each directed pair of nodes has, per class, one stream of messages that leave and one of answers
//! that come back, both ordered, as the contract in [`transport`](super) promises. A message
//! arrives after a fixed and an exponentially drawn latency, never before its predecessor. Faults
//! come in two kinds:
//!
//! - *Within the contract*: a reset loses any suffix of what is under way ([`SimNetwork::reset`]), a
//!   cut loses what arrives while it holds and all that is under way behind it
//!   ([`SimNetwork::cut`]), a clog holds messages back ([`SimNetwork::clog`]), a slow link gives each
//!   lane a rate ([`SimNetwork::set_rate`]).
//! - *Beyond it*, to be asked for: messages lost, doubled, reordered, or late by a reset
//!   ([`SimNetwork::set_unruly`]).
//!
//! All draws come from streams of randomness that belong to a directed pair, so that traffic
//! elsewhere changes nothing, and every message is noted in the [`Trace`].
//!
//! # Caveats
//!
//! - Lanes of one slow link do not share its rate: each has all of it.
//! - A caller does not notice a half-open connection: its calls end by their deadlines.
//! - Nodes find each other by id. An address is needed only with [`Addressing::Learned`].

mod endpoint;
mod link;
#[cfg(test)]
mod tests;
mod world;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use self::endpoint::SimTransport;
pub use self::link::{Latency, Rate, Unruly};
use self::world::World;
use super::{Class, Transport, frame};
use crate::env::Rng;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};

/// How a simulated network behaves where no pair of nodes has settings of its own.
#[derive(Clone, Debug)]
pub struct SimNetworkConfig {
    /// Latency of every link. Default: 1 ms, and 1 ms more on average.
    pub latency: Latency,
    /// Largest body, in bytes. Default 16 MiB.
    pub frame_limit: usize,
    /// Messages that may be under way, and calls that may be open, per directed pair and class;
    /// above, they are overloaded. Default 16384.
    pub queue_messages: usize,
    /// How a node finds a peer. Default: by its id.
    pub addressing: Addressing,
}

/// How a node finds a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// By its id, unless the peer was forgotten.
    #[default]
    ById,
    /// Only after [`Transport::learn`], with any address.
    Learned,
}

impl Default for SimNetworkConfig {
    fn default() -> Self {
        Self {
            latency: Latency { minimum: Duration::from_millis(1), mean: Duration::from_millis(1) },
            frame_limit: frame::DEFAULT_LIMIT,
            queue_messages: 16_384,
            addressing: Addressing::ById,
        }
    }
}

/// One message as it leaves a node, whether or not it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// True time of the world.
    pub at: Duration,
    /// Who sends it.
    pub from: NodeId,
    /// Which incarnation of the sender.
    pub incarnation: Incarnation,
    /// Who shall receive it.
    pub to: NodeId,
    /// Its class. An answer has the class of its call.
    pub class: Class,
    /// What it is.
    pub kind: frame::Kind,
    /// Which call it is or answers, unique in the network; 0 for casts.
    pub call: u64,
    /// Its bytes.
    pub body: Bytes,
}

/// Sees every message at the moment in which it leaves.
pub type Observer = Arc<dyn Fn(&Envelope) + Send + Sync>;

/// A network of simulated nodes. Cloning gives another handle to the same network.
#[derive(Clone)]
pub struct SimNetwork(Arc<Net>);

struct Net {
    world: SimWorldClock,
    trace: Trace,
    state: Mutex<World>,
    observers: Mutex<Vec<Observer>>,
    /// Notified when something new may be due.
    changed: Arc<tokio::sync::Notify>,
}

impl fmt::Debug for SimNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimNetwork({:?})", self.0.world)
    }
}

impl Net {
    fn state(&self) -> MutexGuard<'_, World> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimNetwork {
    /// A network without nodes. Call it inside of the runtime.
    pub fn new(
        world: &SimWorldClock,
        rng: &dyn Rng,
        trace: Trace,
        config: SimNetworkConfig,
    ) -> Self {
        let changed = Arc::new(tokio::sync::Notify::new());
        let net = Arc::new(Net {
            world: *world,
            trace,
            state: Mutex::new(World::new(rng.stream("network"), config)),
            observers: Mutex::default(),
            changed: changed.clone(),
        });
        endpoint::start_pump(&net, changed);
        Self(net)
    }

    /// Connects a node. Whatever of an older incarnation is still attached is detached: it neither
    /// sends nor receives any more.
    pub fn attach(&self, node: NodeId, incarnation: Incarnation) -> Arc<dyn Transport> {
        self.detach(node);
        let generation = self.0.state().attach(node, incarnation);
        Arc::new(SimTransport::new(self.0.clone(), node, generation))
    }

    /// Disconnects a node as the death of its process does: some of what it sent last is lost, and
    /// its peers' calls break.
    pub fn detach(&self, node: NodeId) {
        let now = self.0.world.elapsed();
        self.0.state().detach(node, now, world::Farewell::Announced);
        self.0.changed.notify_one();
    }

    /// Disconnects a node as a power loss does: some of what it sent last is lost, and nobody is
    /// told.
    pub fn vanish(&self, node: NodeId) {
        let now = self.0.world.elapsed();
        self.0.state().detach(node, now, world::Farewell::Silent);
        self.0.changed.notify_one();
    }

    /// Shows every message that leaves from now on to `observer`, which must not send any itself.
    pub fn observe(&self, observer: Observer) {
        self.0.observers.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
    }

    /// Loses what arrives from `from` at `to`, and all that is under way behind it.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.state().link(from, to).cut = true;
    }

    /// Ends [`SimNetwork::cut`] in this direction.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        self.0.state().link(from, to).cut = false;
    }

    /// Cuts a node off from all others, in both directions, also from those that come later.
    pub fn isolate(&self, node: NodeId) {
        self.0.state().isolated.insert(node);
    }

    /// Ends [`SimNetwork::isolate`].
    pub fn rejoin(&self, node: NodeId) {
        self.0.state().isolated.remove(&node);
    }

    /// Ends all cuts, isolations, clogs, rates and unruliness. Latencies stay.
    pub fn heal_all(&self) {
        let now = self.0.world.elapsed();
        self.0.state().heal_all(now);
        self.0.changed.notify_one();
    }

    /// Whether messages from `from` are lost when they arrive at `to`.
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.0.state().is_cut(from, to)
    }

    /// Breaks the connections between two nodes: of each stream a drawn suffix is lost, and open
    /// calls break after what survived.
    pub fn reset(&self, a: NodeId, b: NodeId) {
        let now = self.0.world.elapsed();
        self.0.state().reset(a, b, now);
        self.0.changed.notify_one();
    }

    /// Holds what arrives from `from` at `to` back for `length` from now; no length ends an earlier
    /// clog.
    pub fn clog(&self, from: NodeId, to: NodeId, length: Duration) {
        let now = self.0.world.elapsed();
        self.0.state().clog(from, to, now + length, now);
        self.0.changed.notify_one();
    }

    /// Gives a directed pair a latency of its own, or takes it back.
    pub fn set_latency(&self, from: NodeId, to: NodeId, latency: Option<Latency>) {
        self.0.state().link(from, to).latency = latency;
    }

    /// Slows a directed pair down, or ends that.
    pub fn set_rate(&self, from: NodeId, to: NodeId, rate: Option<Rate>) {
        let now = self.0.world.elapsed();
        self.0.state().set_rate(from, to, rate, now);
        self.0.changed.notify_one();
    }

    /// Lets a directed pair break the contract of a transport, or ends that with the default.
    pub fn set_unruly(&self, from: NodeId, to: NodeId, unruly: Unruly) {
        self.0.state().link(from, to).unruly = unruly;
    }

    /// How many messages are under way.
    pub fn under_way(&self) -> usize {
        self.0.state().under_way()
    }
}
