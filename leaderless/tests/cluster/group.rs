//! A group of simulated machines, driven by one seed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::env::{Env, SplitMix64};
use common::ids::{ClusterId, KeyspaceId, NodeId, Region};
use common::seal::ClusterSecret;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::storage::engine::MemoryEngines;
use common::transport::simulated::{SimNetwork, SimNetworkConfig};
use leaderless::layout::{Bits, Layout, NewNode, Rack};
use leaderless::{Config, Key, Keyspace, KeyspaceConfig, Kind, Lww, Node, ReadOptions, Siblings};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    host: SimHost,
    disk: SimDisk,
    env: Option<Env>,
    node: Option<Node>,
}

pub(crate) struct Group {
    pub(crate) net: SimNetwork,
    pub(crate) layout: Layout,
    machines: BTreeMap<NodeId, Machine>,
    clock: SimWorldClock,
    rng: SplitMix64,
    disks: u64,
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

pub(crate) fn key(name: &str) -> Key {
    Key::plain(name.to_owned())
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn new_node(id: u64, region: &str) -> NewNode {
    let (address, rack) = (format!("sim:{id}"), Rack(format!("r{id}")));
    NewNode { address, region: Region(region.into()), rack, capacity: 1 }
}

impl Group {
    /// Machines 1 to `nodes` with three copies, none of them running.
    pub(crate) fn new(nodes: u64, seed: u64) -> Self {
        let regions: Vec<&str> = (0..nodes).map(|_| "here").collect();
        Self::in_regions(&regions, 3, seed)
    }

    pub(crate) fn in_regions(regions: &[&str], factor: u8, seed: u64) -> Self {
        let clock = SimWorldClock::new();
        let rng = SplitMix64::new(seed);
        let net = SimNetwork::new(&clock, &rng, Trace::default(), SimNetworkConfig::default());
        let nodes = regions.iter().zip(1..).map(|(region, id)| new_node(id, region)).collect();
        let factors = regions.iter().map(|r| (Region((*r).into()), factor)).collect();
        let (layout, _) = Layout::first(Bits::new(4).unwrap(), 9, nodes, factors).unwrap();
        let mut group = Self { net, layout, machines: BTreeMap::new(), clock, rng, disks: 0 };
        for id in 1..=regions.len() as u64 {
            group.add_machine(NodeId(id));
        }
        group
    }

    pub(crate) fn add_machine(&mut self, id: NodeId) {
        let host = SimHost::new(id, &self.clock, &self.rng, Trace::default());
        let disk = self.new_disk(id);
        self.machines.insert(id, Machine { host, disk, env: None, node: None });
    }

    fn new_disk(&mut self, id: NodeId) -> SimDisk {
        self.disks += 1;
        let rng = SplitMix64::new(self.disks);
        SimDisk::new(id, &self.clock, &rng, Trace::default(), SimDiskConfig::default())
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.machines.keys().copied().collect()
    }

    pub(crate) async fn start(&mut self, id: NodeId) -> Node {
        let keyspaces = [("keys", Kind::Siblings), ("last", Kind::Lww), ("cas", Kind::Registers)];
        let keyspaces = keyspaces
            .into_iter()
            .zip(1..)
            .map(|((name, kind), n)| KeyspaceConfig { name: name.into(), id: KeyspaceId(n), kind })
            .collect();
        let secret = ClusterSecret::new([7; 16]);
        let mut config = Config::new(id, ClusterId(1), secret, self.layout.clone(), keyspaces);
        config.exchange_every = Duration::from_millis(300);
        config.checkpoint_every = Duration::from_secs(5);
        let machine = self.machines.get_mut(&id).unwrap();
        let (net, disk) = (self.net.clone(), machine.disk.clone());
        let env = machine.host.boot(|life| (net.attach(id, life), disk.mount(life)));
        let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
        let opening = env.spawn("open", Node::open(env.clone(), engines, config));
        let node = opening.await.unwrap().unwrap();
        (machine.node, machine.env) = (Some(node.clone()), Some(env));
        node
    }

    pub(crate) async fn started(nodes: u64, seed: u64) -> Self {
        Self::new(nodes, seed).start_all().await
    }

    pub(crate) async fn start_all(mut self) -> Self {
        for id in self.ids() {
            self.start(id).await;
        }
        self.ready().await;
        self
    }

    /// Waits until every running node holds what it owns.
    pub(crate) async fn ready(&self) {
        self.until("ready", || self.running().iter().all(|id| self.node(*id).status().synced))
            .await;
    }

    pub(crate) async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = self.clock.elapsed() + PATIENCE;
        while !done() {
            let status: Vec<_> = self.running().iter().map(|id| self.node(*id).status()).collect();
            assert!(self.clock.elapsed() < deadline, "not {what} within {PATIENCE:?}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> Node {
        self.machines[&id].node.clone().unwrap()
    }

    pub(crate) fn keys(&self, id: NodeId) -> Keyspace<Siblings> {
        self.node(id).keyspace("keys").unwrap()
    }

    pub(crate) fn last(&self, id: NodeId) -> Keyspace<Lww> {
        self.node(id).keyspace("last").unwrap()
    }

    pub(crate) fn running(&self) -> Vec<NodeId> {
        self.machines.iter().filter(|(_, m)| m.node.is_some()).map(|(id, _)| *id).collect()
    }

    /// As pulling the plug: what was not synced is lost, kept or torn.
    pub(crate) fn unplug(&mut self, id: NodeId) {
        let machine = self.machines.get_mut(&id).unwrap();
        self.net.vanish(id);
        machine.disk.power_loss();
        machine.host.kill();
        (machine.node, machine.env) = (None, None);
    }

    /// The machine is gone with its disk; another with an empty one takes its place.
    pub(crate) fn lose_disk(&mut self, id: NodeId) {
        self.unplug(id);
        let disk = self.new_disk(id);
        self.machines.get_mut(&id).unwrap().disk = disk;
    }

    pub(crate) fn jump(&self, id: NodeId, millis: i64) {
        self.machines[&id].host.jump(millis);
    }

    pub(crate) fn panics(&self) -> Vec<String> {
        let all = self.machines.values().flat_map(|m| m.host.take_panics());
        all.map(|p| format!("{}: {} {:?}", p.task, p.message, p.location)).collect()
    }

    /// The values of a key, sorted, as a quorum through this node has them.
    pub(crate) async fn values(&self, through: NodeId, name: &str) -> Vec<String> {
        let read = self.keys(through).get(&key(name), ReadOptions::default()).await.unwrap();
        let mut values: Vec<String> = read.values.iter().map(|s| text(&s.value)).collect();
        values.sort();
        values
    }

    /// Waits until all running nodes have everything of each other and wait for nothing. Whether
    /// they store the same is for the story to say.
    pub(crate) async fn settle(&self) -> bool {
        let deadline = self.clock.elapsed() + PATIENCE;
        loop {
            let all: Vec<_> = self.running().iter().map(|id| self.node(*id).status()).collect();
            if all.iter().all(|s| s.synced && s.unstable == 0 && s.tombstones == 0) {
                return true;
            }
            if self.clock.elapsed() > deadline {
                eprintln!("{all:#?}");
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn equal(&self) -> bool {
        let mut all: Vec<u64> =
            self.running().iter().map(|id| self.node(*id).fingerprint().unwrap()).collect();
        all.dedup();
        all.len() <= 1
    }
}
