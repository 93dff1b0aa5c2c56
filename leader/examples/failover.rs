//! A failover as clients see it: the leader dies while they write, and what each of them notices.
//!
//! The three machines are simulated, so the run takes no time and is the same every time; give it
//! another seed to see another one:
//!
//! ```text
//! cargo run -p tercet-leader --example failover -- 7
//! ```

#![allow(clippy::disallowed_methods, reason = "clients are not part of the simulated machines")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::env::{Env, SplitMix64};
use common::ids::NodeId;
use common::receipt::Receipt;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::storage::engine::MemoryEngines;
use common::transport::simulated::{SimNetwork, SimNetworkConfig};
use leader::key_value::{Command, KeyValue};
use leader::{Config, Member, Node, ReadOptions, WriteError, WriteOptions};

type Error = Box<dyn std::error::Error>;

/// Increments per client, and the pause between two.
const COUNT: i64 = 60;
const PAUSE: Duration = Duration::from_millis(50);
/// When the leader dies, and what a client calls a pause.
const DEATH: Duration = Duration::from_secs(1);
const NOTICED: Duration = Duration::from_millis(100);

/// One simulated machine with its node.
struct Machine {
    host: SimHost,
    node: Node<KeyValue>,
}

struct Cluster {
    clock: SimWorldClock,
    network: SimNetwork,
    machines: BTreeMap<NodeId, Machine>,
}

impl Cluster {
    async fn start(seed: u64) -> Result<Self, Error> {
        let (clock, rng) = (SimWorldClock::new(), SplitMix64::new(seed));
        let network = SimNetwork::new(&clock, &rng, Trace::default(), SimNetworkConfig::default());
        let mut machines = BTreeMap::new();
        for id in (1..=3).map(NodeId) {
            let host = SimHost::new(id, &clock, &rng, Trace::default());
            let disk = SimDisk::new(id, &clock, &rng, Trace::default(), SimDiskConfig::default());
            let env = host.boot(|life| (network.attach(id, life), disk.mount(life)));
            let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), "engine"));
            let node = open(env, engines, Config::new(id, "example")).await?;
            machines.insert(id, Machine { host, node });
        }
        let cluster = Self { clock, network, machines };
        let member = |id: &NodeId| Member { id: *id, address: format!("sim:{id}") };
        let members = cluster.machines.keys().map(member).collect();
        cluster.node(NodeId(1)).bootstrap(members).await?;
        Ok(cluster)
    }

    fn node(&self, id: NodeId) -> Node<KeyValue> {
        self.machines[&id].node.clone()
    }

    async fn leader(&self, seen_by: NodeId) -> Result<NodeId, Error> {
        let node = self.node(seen_by);
        let known = node.wait_until(Duration::from_secs(10), |s| s.leader.is_some()).await;
        known.ok().and_then(|status| status.leader).ok_or_else(|| "no leader".into())
    }

    /// As `kill -9`.
    fn kill(&mut self, id: NodeId) {
        self.network.detach(id);
        if let Some(machine) = self.machines.remove(&id) {
            machine.host.kill();
        }
    }

    fn now(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }
}

/// Opens a node as a task of its machine, so that it dies with it.
async fn open(
    env: Env,
    engines: Arc<MemoryEngines>,
    config: Config,
) -> Result<Node<KeyValue>, Error> {
    let inner = env.clone();
    Ok(env.spawn("open", Node::open(inner, engines, KeyValue, config)).await??)
}

/// What a client has seen.
#[derive(Default)]
struct Seen {
    acknowledged: i64,
    last: Option<Receipt>,
    unknown: Option<String>,
}

/// Increments through one node, one after the other.
async fn count(
    name: &'static str,
    node: Node<KeyValue>,
    clock: SimWorldClock,
    key: &'static str,
) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..COUNT {
        let begun = clock.elapsed();
        let written = node.write(Command::increment(key, 1), WriteOptions::default()).await;
        let (now, took) = (clock.elapsed(), clock.elapsed().saturating_sub(begun));
        match written {
            Ok(written) => {
                seen.acknowledged += 1;
                if took > NOTICED {
                    println!(
                        "{:6.3} s  {name}: increment {} took {} ms; nothing else was noticed",
                        now.as_secs_f64(),
                        seen.acknowledged,
                        took.as_millis()
                    );
                }
                seen.last = Some(Receipt::Log(written.receipt));
            }
            Err(error @ (WriteError::Unknown { .. } | WriteError::Stopping(_))) => {
                seen.unknown = Some(error.to_string());
                return seen;
            }
            Err(error) => println!("{:6.3} s  {name}: {error}", now.as_secs_f64()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    seen
}

async fn tell(seed: u64) -> Result<(), Error> {
    let mut cluster = Cluster::start(seed).await?;
    let leader = cluster.leader(NodeId(1)).await?;
    println!("{:6.3} s  node {leader} leads", cluster.now());
    let others: Vec<NodeId> = cluster.machines.keys().copied().filter(|id| *id != leader).collect();

    // One client talks to a node that lives on, the other to the one that will die.
    let clock = cluster.clock;
    let near = tokio::spawn(count("client a", cluster.node(others[0]), clock, "a"));
    let far = tokio::spawn(count("client b", cluster.node(leader), clock, "b"));
    tokio::time::sleep(DEATH).await;
    cluster.kill(leader);
    println!("{:6.3} s  node {leader} is killed", cluster.now());

    let a = near.await?;
    let b = far.await?;
    let next = cluster.leader(others[0]).await?;
    println!("{:6.3} s  node {next} leads; client a is done", cluster.now());
    println!(
        "          client b had {} increments acknowledged and then: {}",
        b.acknowledged,
        b.unknown.as_deref().unwrap_or("no error")
    );

    // A client whose node is gone asks another one what became of its last acknowledged write.
    let node = cluster.node(others[1]);
    if let Some(receipt) = &b.last {
        let fate = node.resolve(receipt, Duration::from_secs(5)).await?;
        println!("          node {} about b's last receipt: {fate:?}", others[1]);
    }
    let view = node.view(ReadOptions::default()).await?;
    for (key, seen) in [("a", &a), ("b", &b)] {
        let record = KeyValue::get(&view, view.clock(), key.as_bytes())?.ok_or("missing")?;
        let value: i64 = String::from_utf8_lossy(&record.value).parse()?;
        println!(
            "          {key} = {value}, and {} increments were acknowledged",
            seen.acknowledged
        );
        // Whose fate the client was not told may have happened, once.
        let most = seen.acknowledged + i64::from(seen.unknown.is_some());
        if !(seen.acknowledged..=most).contains(&value) {
            return Err(format!("{key} is {value}, not {} to {most}", seen.acknowledged).into());
        }
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let seed = std::env::args().nth(1).map_or(Ok(1), |seed| seed.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    // Simulated time: it stands still while something runs, and jumps when all wait.
    let mut runtime = runtime;
    runtime.enable_time().start_paused(true).build()?.block_on(tell(seed))
}
