//! One node: open, use, shut down.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::env::{Env, Mono};
use common::ids::{Actor, NodeId, PartitionId, Region};
use common::receipt::{DotsReceipt, Fate, Receipt};
use common::storage::engine::Engines;
use common::transport::Class;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::config::{Config, KeyspaceConfig};
use crate::error::{OpenError, ReadError, ResolveError, WriteError};
use crate::layout::{Epoch, Key, Layout, Partition, engine_key};
use crate::message::{Reply, Request};
use crate::quorum::Quorum;
use crate::read::{Read, ReadOptions};
use crate::store::{Place, Store};
use crate::version::{Life, Opening, Plain, Policy};
use crate::write::{Put, WriteOptions, Written};
use crate::{anti_entropy, read, serve, write};

/// What all tasks of a node share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) env: Env,
    pub(crate) config: Config,
    pub(crate) store: Store,
    layout: Mutex<Arc<Layout>>,
    /// The actor of this opening, once the node may coordinate.
    pub(crate) actor: OnceLock<Actor>,
    /// Until when peers count as away.
    away: Mutex<BTreeMap<NodeId, Mono>>,
    /// How far the peers' wall clocks are ahead, as last heard.
    pub(crate) offsets: Mutex<BTreeMap<NodeId, i64>>,
    /// When the last exchange began after which nothing of a peer was missing.
    pub(crate) proven: Mutex<BTreeMap<NodeId, Mono>>,
    pub(crate) removed: AtomicBool,
    requests: AtomicUsize,
}

/// One request under coordination; dropping it makes room for the next.
pub(crate) struct Admitted<'a>(&'a AtomicUsize);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A key's place, as the layout of this moment has it.
pub(crate) struct Located {
    pub(crate) layout: Arc<Layout>,
    pub(crate) partition: Partition,
    pub(crate) place: Place,
    pub(crate) token: u64,
    pub(crate) key: Bytes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn layout(&self) -> Arc<Layout> {
        lock(&self.layout).clone()
    }

    /// Takes a layout over if it is newer; whether it was.
    pub(crate) fn adopt(&self, layout: Layout) -> bool {
        let mut own = lock(&self.layout);
        if layout.epoch <= own.epoch || layout.bits != own.bits || layout.seed != own.seed {
            return false;
        }
        for (id, info) in &layout.nodes {
            self.env.transport.learn(*id, &info.address);
        }
        *own = Arc::new(layout);
        true
    }

    pub(crate) fn region(&self) -> Region {
        let layout = self.layout();
        layout.nodes.get(&self.config.node).map_or(Region(String::new()), |i| i.region.clone())
    }

    pub(crate) fn keyspace(&self, place: Place) -> Option<&KeyspaceConfig> {
        self.config.keyspaces.iter().find(|k| k.id == place.keyspace)
    }

    pub(crate) fn locate(&self, keyspace: common::ids::KeyspaceId, key: &Key) -> Located {
        let layout = self.layout();
        let token = key.token(layout.seed);
        let partition = layout.bits.partition(token);
        let place = Place { keyspace, partition: PartitionId(partition.0) };
        Located { partition, place, token: token.0, key: engine_key(token, key).into(), layout }
    }

    pub(crate) fn admit(&self) -> Option<Admitted<'_>> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(&self.requests);
        (before < self.config.max_requests).then_some(admitted)
    }

    pub(crate) fn is_away(&self, node: NodeId) -> bool {
        lock(&self.away).get(&node).is_some_and(|until| *until > self.env.now())
    }

    /// Calls a peer, takes over a newer layout it answers with, and notes whether it is there. A
    /// failure of a call that began before a later answer does not count against the peer.
    pub(crate) async fn call(
        self: &Arc<Self>,
        to: NodeId,
        class: Class,
        request: &Request,
        deadline: Mono,
    ) -> Result<Reply, String> {
        let began = self.env.now();
        let answer =
            self.env.transport.call(to, class, request.encode(), deadline.since(began)).await;
        match answer {
            Ok(bytes) => {
                lock(&self.away).insert(to, began);
                let reply = Reply::decode(&bytes).map_err(|e| e.to_string())?;
                match &reply {
                    Reply::Stale(layout) => {
                        if let Ok(layout) = Layout::decode(layout) {
                            self.adopt(layout);
                        }
                    }
                    Reply::Removed { at_epoch } if *at_epoch > self.layout().epoch => {
                        self.removed.store(true, Ordering::Relaxed);
                    }
                    _ => {}
                }
                Ok(reply)
            }
            Err(error) => {
                let mut away = lock(&self.away);
                if away.get(&to).is_none_or(|heard| *heard <= began) {
                    away.insert(to, self.env.now() + self.config.away_for);
                }
                Err(error.to_string())
            }
        }
    }

    /// As [`Core::call`]; a peer whose layout is older gets this one first.
    pub(crate) async fn call_in_epoch(
        self: &Arc<Self>,
        to: NodeId,
        request: Request,
        deadline: Mono,
    ) -> Result<Reply, String> {
        loop {
            match self.call(to, Class::Data, &request, deadline).await? {
                Reply::Ahead if self.env.now() < deadline => {
                    let layout = Request::Adopt(self.layout().encode());
                    self.call(to, Class::Control, &layout, deadline).await?;
                }
                reply => return Ok(reply),
            }
        }
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.store.state().synced
    }

    /// Why this node cannot serve, if so.
    pub(crate) fn unfit(&self) -> Option<String> {
        if self.removed.load(Ordering::Relaxed) {
            return Some(
                "it was removed from the cluster; start it with an empty folder under a new id"
                    .into(),
            );
        }
        (!self.is_synced()).then(|| "it does not hold its data yet; ask another".to_owned())
    }

    /// How far this node's wall clock is ahead of the median of its peers, in milliseconds.
    pub(crate) fn skew(&self) -> i64 {
        let mut offsets: Vec<i64> = lock(&self.offsets).values().map(|o| -o).collect();
        offsets.push(0);
        offsets.sort_unstable();
        offsets[offsets.len() / 2]
    }

    pub(crate) fn begin_life(&self) {
        let state = self.store.state();
        if let Some(actor) = self.store.actor(&state) {
            let _ = self.actor.set(actor);
        }
    }
}

/// One node of a leaderless cluster. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) core: Arc<Core>,
}

/// How a node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The layout it knows.
    pub epoch: Epoch,
    /// Which opening of its storage this is.
    pub life: Life,
    /// Whether it holds what it owns.
    pub synced: bool,
    /// Whether it was removed from the cluster.
    pub removed: bool,
    /// Peers that did not answer lately.
    pub away: BTreeSet<NodeId>,
    /// Writes that not every owner has yet, as far as this node knows.
    pub unstable: usize,
    /// Deletes that wait for every owner.
    pub tombstones: usize,
    /// How long ago the last exchange with each peer began after which nothing of it was missing.
    pub proven_age: BTreeMap<NodeId, Duration>,
    /// How far its wall clock is ahead of the median of its peers, in milliseconds.
    pub skew_millis: i64,
}

impl Node {
    /// Opens the node: replays its log, serves its peers and begins to compare clocks with them. A
    /// node with an empty folder reads and coordinates only when every peer has said that it never
    /// held anything, or when it has copied what it owns.
    pub async fn open(
        env: Env,
        engines: Arc<dyn Engines>,
        config: Config,
    ) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let store = Store::open(&env, &*engines).await?;
        let opening = Opening { node: config.node, life: Life(1) };
        if env.node != config.node || opening.actor(0).is_none() {
            return Err(OpenError::Config(format!("node {} cannot be opened here", config.node)));
        }
        for (id, info) in &config.layout.nodes {
            env.transport.learn(*id, &info.address);
        }
        let core = Arc::new(Core {
            layout: Mutex::new(Arc::new(config.layout.clone())),
            env: env.clone(),
            config,
            store,
            actor: OnceLock::new(),
            away: Mutex::default(),
            offsets: Mutex::default(),
            proven: Mutex::default(),
            removed: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        if core.is_synced() {
            core.begin_life();
        }
        env.transport.serve(Arc::new(serve::Peer(core.clone())));
        drop(env.spawn("anti-entropy", anti_entropy::run(core.clone())));
        drop(env.spawn("checkpoints", checkpoints(core.clone())));
        Ok(Self { core })
    }

    /// This node.
    pub fn id(&self) -> NodeId {
        self.core.config.node
    }

    /// A keyspace under the policy that its configuration names; `None` when there is no such one.
    pub fn keyspace<P: Policy>(&self, name: &str) -> Option<Keyspace<P>> {
        let config =
            self.core.config.keyspaces.iter().find(|k| k.name == name && k.kind == P::KIND);
        Some(Keyspace { core: self.core.clone(), config: config?.clone(), policy: PhantomData })
    }

    /// The layout it knows.
    pub fn layout(&self) -> Arc<Layout> {
        self.core.layout()
    }

    /// Gives the node a newer layout, as an operator or an authority does. Peers learn it from it.
    pub fn adopt(&self, layout: Layout) -> bool {
        self.core.adopt(layout)
    }

    /// How it is doing.
    pub fn status(&self) -> Status {
        let core = &self.core;
        let now = core.env.now();
        let away =
            lock(&core.away).iter().filter(|(_, until)| **until > now).map(|(id, _)| *id).collect();
        let proven_age = lock(&core.proven).iter().map(|(id, at)| (*id, now.since(*at))).collect();
        let skew_millis = core.skew();
        let epoch = core.layout().epoch;
        let state = core.store.state();
        Status {
            epoch,
            life: state.lives.get(&core.config.node).copied().unwrap_or_default(),
            synced: state.synced,
            removed: core.removed.load(Ordering::Relaxed),
            away,
            unstable: state.places.values().map(|r| r.log.len()).sum(),
            tombstones: state.places.values().map(|r| r.tombstones.len()).sum(),
            proven_age,
            skew_millis,
        }
    }

    /// What has become of a write. Any node answers; `Committed` and `Lost` are final.
    pub async fn resolve(
        &self,
        receipt: &Receipt,
        timeout: Duration,
    ) -> Result<Fate, ResolveError> {
        let Receipt::Dots(receipt) = receipt else {
            return Err(ResolveError::Foreign("this receipt is of another strategy".into()));
        };
        if receipt.cluster != self.core.config.cluster {
            let text = format!("this receipt is of cluster {}", receipt.cluster);
            return Err(ResolveError::Foreign(text));
        }
        Ok(self.core.fate(receipt, self.core.env.now() + timeout).await)
    }

    /// A fingerprint of everything this node stores, contexts left out: equal for owners of the same
    /// keys at rest.
    pub fn fingerprint(&self) -> Result<u64, String> {
        self.core.store.fingerprint().map_err(|e| e.to_string())
    }

    /// Stops serving and closes the log.
    pub async fn shutdown(&self) {
        self.core.env.transport.close().await;
        if let Err(error) = self.core.store.close().await {
            tracing::warn!(%error, "the log was not closed cleanly");
        }
    }
}

impl Core {
    async fn fate(self: &Arc<Self>, receipt: &DotsReceipt, deadline: Mono) -> Fate {
        let layout = self.layout();
        let partition = Partition(receipt.partition.0);
        if partition.0 >= layout.bits.partitions() {
            return Fate::Pending;
        }
        let sets = layout.live_sets(partition);
        let place = Place { keyspace: receipt.keyspace, partition: receipt.partition };
        let request = Request::Ask { place, dot: receipt.dot };
        let mut asked: FuturesUnordered<_> = sets
            .all()
            .map(|node| {
                let request = &request;
                async move { (node, self.ask(node, request, deadline).await) }
            })
            .collect();
        let Ok(quorum) = Quorum::of_write(receipt.level, &layout, &sets, &self.region()) else {
            return Fate::Pending;
        };
        let mut covered = BTreeSet::new();
        while let Some((node, reply)) = asked.next().await {
            match reply {
                Ok(Reply::Answered { void: true, .. }) => return Fate::Lost { replaced_by: None },
                Ok(Reply::Answered { covered: true, .. }) => drop(covered.insert(node)),
                _ => {}
            }
            if quorum.is_met(&covered) {
                return Fate::Committed;
            }
        }
        Fate::Pending
    }

    /// Asks a node, which may be this one.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        node: NodeId,
        request: &Request,
        deadline: Mono,
    ) -> Result<Reply, String> {
        if node == self.config.node {
            Ok(serve::answer(self.clone(), node, request.clone()).await)
        } else {
            self.call(node, Class::Data, request, deadline).await
        }
    }
}

async fn checkpoints(core: Arc<Core>) {
    loop {
        core.env.sleep(core.config.checkpoint_every).await;
        if let Err(error) = core.store.checkpoint().await {
            tracing::error!(%error, "no checkpoint: the log keeps growing");
        }
    }
}

/// A keyspace under its policy.
#[derive(Clone, Debug)]
pub struct Keyspace<P> {
    core: Arc<Core>,
    config: KeyspaceConfig,
    policy: PhantomData<P>,
}

impl<P: Plain> Keyspace<P> {
    /// Reads a key.
    pub async fn get(&self, key: &Key, options: ReadOptions) -> Result<Read<P::Out>, ReadError> {
        let read = Box::pin(read::coordinate(&self.core, &self.config, key, options)).await?;
        Ok(read.map(P::read))
    }

    /// Writes a value in place of what the context in `options` covers.
    pub async fn put(
        &self,
        key: &Key,
        value: Bytes,
        options: WriteOptions,
    ) -> Result<Written, WriteError> {
        self.write(key, Some(value), options).await
    }

    /// Deletes what the context in `options` covers; without one, in a keyspace where the last
    /// writer wins, the key.
    pub async fn delete(&self, key: &Key, options: WriteOptions) -> Result<Written, WriteError> {
        self.write(key, None, options).await
    }

    async fn write(
        &self,
        key: &Key,
        value: Option<Bytes>,
        options: WriteOptions,
    ) -> Result<Written, WriteError> {
        let put = Put::new(&self.core, &self.config, key.clone(), value, options);
        Box::pin(write::write(&self.core, put)).await
    }
}
