//! Acknowledged writes per second of three nodes in one process: logs and engines on the disk,
//! messages handed over in memory.
//!
//! `cargo bench -p tercet-leader --bench writes [-- SECONDS]`. What it leaves out of a real cluster
//! is the network and the Redis protocol; what is left is consensus, the logs and the engines of
//! all three nodes, on one machine's processors. Set `TERCET_BENCH_DIR` to a folder on the disk to
//! measure; the default is the folder for temporary files.
#![expect(clippy::disallowed_methods, reason = "a bench measures real time, in tasks of its own")]
#![allow(clippy::unwrap_used, reason = "a bench that fails should end")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::{Incarnation, NodeId};
use common::storage::disk::OsDisk;
use common::storage::engine::{FjallConfig, FjallEngines};
use common::transport::{CallError, Class, Handler, Transport};
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesUnordered, StreamExt};
use leader::key_value::{Command, KeyValue};
use leader::{Config, Member, Node, WriteOptions};

/// The handlers of all nodes.
type Handlers = Arc<Mutex<BTreeMap<NodeId, Arc<dyn Handler>>>>;

/// Hands messages to the other node's handler at once: each takes its place in the order when it
/// is called, and its answer runs in a task.
#[derive(Clone)]
struct HandOver {
    node: NodeId,
    handlers: Handlers,
}

impl std::fmt::Debug for HandOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HandOver({})", self.node)
    }
}

impl HandOver {
    fn hand(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
    ) -> Result<BoxFuture<'static, Result<Bytes, String>>, CallError> {
        let handler = self.handlers.lock().unwrap().get(&to).cloned();
        let handler = handler.ok_or_else(|| CallError::Refused(to, "not there yet".to_owned()))?;
        Ok(handler.handle(self.node, class, body))
    }
}

#[async_trait]
impl Transport for HandOver {
    fn call(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let answer = match self.hand(to, class, body) {
            Ok(answer) => tokio::spawn(tokio::time::timeout(deadline, answer)),
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        async move {
            match answer.await {
                Ok(Ok(answer)) => answer.map_err(|text| CallError::Refused(to, text)),
                Ok(Err(_)) => Err(CallError::TimedOut(to)),
                Err(_) => Err(CallError::Broken(to)),
            }
        }
        .boxed()
    }

    fn cast(&self, to: NodeId, class: Class, body: Bytes) -> Result<(), CallError> {
        drop(tokio::spawn(self.hand(to, class, body)?));
        Ok(())
    }

    fn serve(&self, handler: Arc<dyn Handler>) {
        self.handlers.lock().unwrap().insert(self.node, handler);
    }

    fn learn(&self, _: NodeId, _: &str) {}

    fn forget(&self, _: NodeId) {}

    async fn close(&self) {
        self.handlers.lock().unwrap().remove(&self.node);
    }
}

async fn open(root: &Path, node: NodeId, handlers: &Handlers) -> Node<KeyValue> {
    let folder = root.join(node.to_string());
    let env = Env::new(Parts {
        node,
        incarnation: Incarnation(1),
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::from_system()),
        spawn: Arc::new(TokioSpawn),
        transport: Arc::new(HandOver { node, handlers: handlers.clone() }),
        disk: Arc::new(OsDisk::open(&folder).await.unwrap()),
    });
    let engines = Arc::new(FjallEngines::new(folder.join("engine"), FjallConfig::default()));
    Node::open(env, engines, KeyValue, Config::new(node, "bench")).await.unwrap()
}

/// Writes with `in_flight` of them under way until the time is over. Returns how many were
/// acknowledged, and the median and 99th percentile of their latencies.
async fn write(
    node: &Node<KeyValue>,
    in_flight: usize,
    time: Duration,
) -> (usize, Duration, Duration) {
    let value = Bytes::from(vec![b'x'; 100]);
    let begun = Instant::now();
    let mut number = 0_u64;
    let mut next = || {
        number =
            number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = format!("bench:{:012}", (number >> 33) % 100_000);
        let written = node.write(Command::put(key, value.clone()), WriteOptions::default());
        async move {
            let sent = Instant::now();
            written.await.unwrap();
            sent.elapsed()
        }
    };
    let mut under_way: FuturesUnordered<_> = (0..in_flight).map(|_| next()).collect();
    let mut latencies = Vec::new();
    while let Some(latency) = under_way.next().await {
        latencies.push(latency);
        if begun.elapsed() < time {
            under_way.push(next());
        }
    }
    latencies.sort_unstable();
    (latencies.len(), latencies[latencies.len() / 2], latencies[latencies.len() * 99 / 100])
}

#[tokio::main]
async fn main() {
    // Cargo passes --bench to what it runs.
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5.0);
    let time = Duration::from_secs_f64(seconds);
    let place = std::env::var_os("TERCET_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let root = tempfile::tempdir_in(place).unwrap();
    let handlers = Handlers::default();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(open(root.path(), NodeId(id), &handlers).await);
    }
    let member = |node: &Node<KeyValue>| Member { id: node.id(), address: node.id().to_string() };
    nodes[0].bootstrap(nodes.iter().map(member).collect()).await.unwrap();
    let patience = Duration::from_secs(10);
    let status = nodes[0].wait_until(patience, |status| status.leader.is_some()).await.unwrap();
    let leader = nodes.iter().find(|node| Some(node.id()) == status.leader).unwrap();
    write(leader, 256, Duration::from_millis(500)).await;
    println!("in flight   acknowledged/s     p50 ms     p99 ms");
    for in_flight in [1, 16, 64, 256, 1_024, 4_096, 16_384] {
        let begun = Instant::now();
        let (count, p50, p99) = write(leader, in_flight, time).await;
        println!(
            "{in_flight:>9}{:>17.0}{:>11.2}{:>11.2}",
            count as f64 / begun.elapsed().as_secs_f64(),
            p50.as_secs_f64() * 1e3,
            p99.as_secs_f64() * 1e3
        );
    }
    for node in &nodes {
        node.shutdown().await;
    }
}
