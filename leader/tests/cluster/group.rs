//! A group of simulated machines, driven by one seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::env::{Env, SplitMix64};
use common::ids::NodeId;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::storage::engine::{Engine, Engines, MemoryEngines};
use common::transport::simulated::{SimNetwork, SimNetworkConfig};
use leader::key_value::{Answer, Command, KeyValue, Reply};
use leader::{Config, Member, Node, ReadLevel, ReadOptions, Role, WriteOptions};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

struct Machine {
    host: SimHost,
    disk: SimDisk,
    node: Option<Node<KeyValue>>,
    env: Option<Env>,
    engines: Option<Arc<MemoryEngines>>,
}

pub(crate) struct Group {
    pub(crate) net: SimNetwork,
    machines: BTreeMap<NodeId, Machine>,
    clock: SimWorldClock,
    rng: SplitMix64,
    settings: fn(&mut Config),
}

/// Runs a story in simulated time.
pub(crate) fn story<F: Future<Output = ()>>(told: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(told());
}

impl Group {
    /// Machines 1 to `nodes`, none of them running.
    pub(crate) fn new(nodes: u64, seed: u64) -> Self {
        let clock = SimWorldClock::new();
        let rng = SplitMix64::new(seed);
        let net = SimNetwork::new(&clock, &rng, Trace::default(), SimNetworkConfig::default());
        let mut group = Self { net, machines: BTreeMap::new(), clock, rng, settings: |_| {} };
        for id in 1..=nodes {
            group.add_machine(NodeId(id));
        }
        group
    }

    /// With other settings than the defaults.
    pub(crate) fn with(mut self, settings: fn(&mut Config)) -> Self {
        self.settings = settings;
        self
    }

    pub(crate) fn add_machine(&mut self, id: NodeId) {
        let host = SimHost::new(id, &self.clock, &self.rng, Trace::default());
        let config = SimDiskConfig::default();
        let disk = SimDisk::new(id, &self.clock, &self.rng, Trace::default(), config);
        self.machines.insert(id, Machine { host, disk, node: None, env: None, engines: None });
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    /// Boots a machine and opens its node.
    pub(crate) async fn start(&mut self, id: NodeId) -> Node<KeyValue> {
        let (env, engines, config) = self.boot(id);
        let machine = self.machines.get_mut(&id).unwrap();
        machine.engines = Some(engines.clone());
        let opening = {
            let env = env.clone();
            let inner = env.clone();
            env.spawn("open", Node::open(inner, engines, KeyValue, config))
        };
        let node = opening.await.unwrap().unwrap();
        machine.node = Some(node.clone());
        machine.env = Some(env);
        node
    }

    /// A new life of a machine, in which nothing runs yet.
    pub(crate) fn boot(&self, id: NodeId) -> (Env, Arc<MemoryEngines>, Config) {
        let machine = &self.machines[&id];
        let (net, disk) = (self.net.clone(), machine.disk.clone());
        let env = machine.host.boot(|life| (net.attach(id, life), disk.mount(life)));
        let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
        let mut config = Config::new(id, "test");
        (self.settings)(&mut config);
        (env, engines, config)
    }

    /// All machines, as members.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.ids().into_iter().map(|id| Member { id, address: format!("sim:{id}") }).collect()
    }

    /// The engine that a running node's state is in.
    pub(crate) async fn engine(&self, id: NodeId) -> Arc<dyn Engine> {
        self.machines[&id].engines.as_ref().unwrap().current().await.unwrap().unwrap().1
    }

    /// Boots all machines and makes them one cluster.
    pub(crate) async fn started(nodes: u64, seed: u64) -> Self {
        Self::new(nodes, seed).start_all().await
    }

    pub(crate) async fn start_all(mut self) -> Self {
        for id in self.ids() {
            self.start(id).await;
        }
        self.node(NodeId(1)).bootstrap(self.members()).await.unwrap();
        self.leader().await;
        self
    }

    pub(crate) fn node(&self, id: NodeId) -> Node<KeyValue> {
        self.machines[&id].node.clone().unwrap()
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.machines.iter().filter(|(_, m)| m.node.is_some()).map(|(id, _)| *id).collect()
    }

    /// As `kill -9`: the page cache stays.
    pub(crate) fn kill(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).unwrap();
        self.net.detach(id);
        machine.disk.crash();
        machine.node = None;
        machine.env = None;
        machine.host.kill();
    }

    /// As pulling the plug: what was not synced is lost, kept or torn.
    pub(crate) fn unplug(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).unwrap();
        self.net.vanish(id);
        machine.disk.power_loss();
        machine.node = None;
        machine.env = None;
        machine.host.kill();
    }

    /// Starts a machine, and pulls its plug so long after that.
    pub(crate) async fn boot_and_unplug(&mut self, id: NodeId, after: Duration) {
        let (env, engines, config) = self.boot(id);
        let inner = env.clone();
        let opening = env.spawn("open", Node::open(inner, engines, KeyValue, config));
        let _ = tokio::time::timeout(after, opening).await;
        tokio::time::sleep(after).await;
        self.unplug(id);
    }

    pub(crate) fn pause(&self, id: NodeId) {
        self.machines[&id].host.pause();
    }

    pub(crate) fn resume(&self, id: NodeId) {
        self.machines[&id].host.resume();
    }

    pub(crate) fn set_wall_offset(&self, id: NodeId, millis: i64) {
        self.machines[&id].host.set_offset(millis);
    }

    pub(crate) fn disk(&self, id: NodeId) -> &SimDisk {
        &self.machines[&id].disk
    }

    pub(crate) fn panics(&self) -> Vec<String> {
        let all = self.machines.values().flat_map(|m| m.host.take_panics());
        all.map(|p| format!("{}: {}", p.task, p.message)).collect()
    }

    /// Waits for a leader that a majority of the running nodes follow.
    pub(crate) async fn leader(&self) -> NodeId {
        let deadline = self.clock.elapsed() + PATIENCE;
        loop {
            for id in self.running() {
                let status = self.node(id).status();
                if status.role == Role::Leader {
                    let followers = self
                        .running()
                        .into_iter()
                        .filter(|other| self.node(*other).status().leader == Some(id))
                        .count();
                    if followers * 2 > status.voters.len() {
                        return id;
                    }
                }
            }
            assert!(self.clock.elapsed() < deadline, "no leader within {PATIENCE:?}: {self:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn follower(&self) -> NodeId {
        let leader = self.leader().await;
        self.running().into_iter().find(|id| *id != leader).unwrap()
    }

    pub(crate) async fn put(&self, on: NodeId, key: &str, value: &str) {
        let command = Command::put(key.to_owned(), value.to_owned());
        let written = self.node(on).write(command, patient()).await;
        assert!(written.is_ok(), "{key}: {written:?}");
    }

    pub(crate) async fn add(&self, on: NodeId, key: &str) -> i64 {
        let command = Command::increment(key.to_owned(), 1);
        match self.node(on).write(command, patient()).await.unwrap().reply {
            Reply::One(Answer::Counted { value, .. }) => value,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn get(&self, on: NodeId, key: &str) -> Option<String> {
        self.read(on, key, ReadLevel::Strong).await
    }

    pub(crate) async fn read(&self, on: NodeId, key: &str, level: ReadLevel) -> Option<String> {
        let mut options = ReadOptions::level(level);
        options.timeout = PATIENCE;
        let view = self.node(on).view(options).await.unwrap();
        let record = KeyValue::get(&view, view.clock(), key.as_bytes()).unwrap();
        record.map(|r| String::from_utf8(r.value.to_vec()).unwrap())
    }

    /// Waits until all running nodes have applied the same, and returns their equal digest.
    pub(crate) async fn converge(&self) -> u64 {
        let deadline = self.clock.elapsed() + PATIENCE;
        loop {
            let mut seen = BTreeMap::new();
            for id in self.running() {
                let view =
                    self.node(id).view(ReadOptions::level(ReadLevel::Eventual)).await.unwrap();
                seen.insert((view.applied(), KeyValue::digest(&view).unwrap()), id);
            }
            if let [((_, digest), _)] = seen.iter().collect::<Vec<_>>()[..] {
                return *digest;
            }
            assert!(self.clock.elapsed() < deadline, "not equal within {PATIENCE:?}: {seen:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn patient() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.timeout = PATIENCE;
    options
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for id in self.running() {
            writeln!(f, "{:?}", self.node(id).status())?;
        }
        Ok(())
    }
}
