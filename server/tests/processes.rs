//! Three real processes under load through the Redis protocol, while the leader is killed with
//! kill -9, paused with SIGSTOP and restarted. Every acknowledged write and every read is checked.
//!
//! The load is registers that only grow: each key has one writer, which writes 1, 2, 3 … and goes
//! on to a fresh key when it does not know what became of a write. So for every read two numbers
//! are known without any bookkeeping of histories: it must not be less than what was acknowledged,
//! or read by anyone, before it began, and not more than what was sent before it ended. That is
//! linearizability for such a register. Reads go to all nodes, the killed and the paused one too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{PATIENCE, describe, three_nodes};
use server::client::{Client, ClientError, Reply};
use server::cluster::{Cluster, Signal};
use tokio::task::JoinSet;

/// Registers that are written at the same time, each by a writer of its own.
const WRITERS: usize = 6;
/// Readers per node.
const READERS: usize = 2;
/// Counters' clients.
const COUNTERS: usize = 2;
/// How long a client waits for one reply: less than a pause, more than an election.
const REPLY: Duration = Duration::from_secs(4);

/// What is known of one register.
#[derive(Debug)]
struct Register {
    key: String,
    /// The largest value that was sent.
    sent: AtomicU64,
    /// The largest value that was acknowledged.
    acknowledged: AtomicU64,
    /// The largest value that any read returned.
    seen: AtomicU64,
}

/// What all clients share.
#[derive(Debug, Default)]
struct Load {
    stop: AtomicBool,
    /// Every register there ever was.
    registers: Mutex<Vec<Arc<Register>>>,
    /// The one that each writer is at.
    current: Mutex<BTreeMap<usize, Arc<Register>>>,
    writes: AtomicU64,
    unknown: AtomicU64,
    reads: AtomicU64,
    unread: AtomicU64,
    counted: AtomicU64,
    perhaps_counted: AtomicU64,
    violations: Mutex<Vec<String>>,
}

impl Load {
    fn running(&self) -> bool {
        !self.stop.load(SeqCst)
    }

    fn fresh(&self, writer: usize) -> Arc<Register> {
        let mut registers = self.registers.lock().unwrap();
        let register = Arc::new(Register {
            key: format!("register:{writer}:{}", registers.len()),
            sent: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            seen: AtomicU64::new(0),
        });
        registers.push(register.clone());
        self.current.lock().unwrap().insert(writer, register.clone());
        register
    }

    fn violation(&self, what: String) {
        self.violations.lock().unwrap().push(what);
    }
}

/// A connection that is made again, at the next address, when it breaks.
struct Line {
    addresses: Vec<String>,
    at: usize,
    client: Option<Client>,
}

impl Line {
    fn new(addresses: &[String], at: usize) -> Self {
        Self { addresses: addresses.to_vec(), at, client: None }
    }

    /// A reply, or whether the command may have been done all the same.
    async fn ask(&mut self, command: &[&[u8]]) -> Result<Reply, MayHaveHappened> {
        if self.client.is_none() {
            let address = &self.addresses[self.at % self.addresses.len()];
            match Client::connect(address, REPLY).await {
                Ok(client) => self.client = Some(client),
                Err(error) => return self.failed(&error).await,
            }
        }
        let Some(client) = &mut self.client else { return Err(MayHaveHappened(false)) };
        match client.command(command).await {
            Ok(reply) => Ok(reply),
            Err(error) => self.failed(&error).await,
        }
    }

    async fn failed(&mut self, error: &ClientError) -> Result<Reply, MayHaveHappened> {
        self.client = None;
        self.at += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        Err(MayHaveHappened(!error.never_sent()))
    }
}

#[derive(Debug)]
struct MayHaveHappened(bool);

async fn write(load: Arc<Load>, mut line: Line, writer: usize) {
    let mut register = load.fresh(writer);
    let mut next = 1;
    while load.running() {
        register.sent.fetch_max(next, SeqCst);
        let value = next.to_string();
        match line.ask(&[b"SET", register.key.as_bytes(), value.as_bytes()]).await {
            Ok(reply) if reply.is_ok() => {
                register.acknowledged.fetch_max(next, SeqCst);
                load.writes.fetch_add(1, SeqCst);
                next += 1;
            }
            Err(MayHaveHappened(false)) => {}
            // An error reply, or none: it may take effect now, later or never.
            Ok(_) | Err(MayHaveHappened(true)) => {
                load.unknown.fetch_add(1, SeqCst);
                register = load.fresh(writer);
                next = 1;
            }
        }
    }
}

/// The number in a reply to GET; a missing key counts as 0.
fn number(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Nothing => Some(0),
        Reply::Value(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

async fn read(load: Arc<Load>, mut line: Line, reader: usize) {
    for round in reader.. {
        if !load.running() {
            return;
        }
        let register = load.current.lock().unwrap().get(&(round % WRITERS)).cloned();
        let Some(register) = register else {
            tokio::task::yield_now().await;
            continue;
        };
        let least = register.acknowledged.load(SeqCst).max(register.seen.load(SeqCst));
        let answer = line.ask(&[b"GET", register.key.as_bytes()]).await;
        let most = register.sent.load(SeqCst);
        let Some(found) = answer.ok().as_ref().and_then(number) else {
            load.unread.fetch_add(1, SeqCst);
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        register.seen.fetch_max(found, SeqCst);
        load.reads.fetch_add(1, SeqCst);
        if found < least || found > most {
            load.violation(format!(
                "{} at {}: read {found}, known to be {least} to {most}",
                register.key, line.addresses[0]
            ));
        }
    }
}

async fn count(load: Arc<Load>, mut line: Line) {
    while load.running() {
        match line.ask(&[b"INCR", b"counter"]).await {
            Ok(Reply::Number(_)) => load.counted.fetch_add(1, SeqCst),
            Err(MayHaveHappened(false)) => 0,
            Ok(_) | Err(_) => load.perhaps_counted.fetch_add(1, SeqCst),
        };
    }
}

/// Starts all clients.
fn start(cluster: &Cluster, load: &Arc<Load>) -> JoinSet<()> {
    let all: Vec<String> = cluster.ids().iter().map(|id| cluster.resp(*id).to_owned()).collect();
    let mut clients = JoinSet::new();
    for writer in 0..WRITERS {
        clients.spawn(write(load.clone(), Line::new(&all, writer), writer));
    }
    for counter in 0..COUNTERS {
        clients.spawn(count(load.clone(), Line::new(&all, counter + 1)));
    }
    for (place, address) in all.iter().enumerate() {
        for reader in 0..READERS {
            // A reader stays with its node, also while that is away.
            let line = Line::new(std::slice::from_ref(address), 0);
            clients.spawn(read(load.clone(), line, place + reader * 3));
        }
    }
    clients
}

/// Waits until so many more writes are acknowledged and reads answered.
async fn goes_on(cluster: &Cluster, load: &Load, what: &str) {
    let (writes, reads) = (load.writes.load(SeqCst), load.reads.load(SeqCst));
    let begun = Instant::now();
    while load.writes.load(SeqCst) < writes + 200 || load.reads.load(SeqCst) < reads + 200 {
        if begun.elapsed() > PATIENCE {
            let done = (load.writes.load(SeqCst) - writes, load.reads.load(SeqCst) - reads);
            let (unknown, unread) = (load.unknown.load(SeqCst), load.unread.load(SeqCst));
            panic!(
                "{what}: {done:?} writes and reads in {PATIENCE:?}, {unknown} and {unread} without \
                 answer so far\n{}",
                describe(cluster).await
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{what}: writes and reads go on after {:?}", begun.elapsed());
}

/// Waits for another leader than `former`, asking the other nodes only.
async fn other_leader(cluster: &Cluster, former: u64) -> u64 {
    let begun = Instant::now();
    loop {
        for id in cluster.ids().into_iter().filter(|id| *id != former) {
            let status = cluster.status(id).await;
            if status.is_ok_and(|status| status.role == "leader") {
                println!("node {id} leads {:?} after node {former} was gone", begun.elapsed());
                return id;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "no leader after node {former} was gone");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every register on every node: nothing acknowledged is missing, nothing is there that was never
/// sent, and all nodes agree.
async fn check(cluster: &Cluster, load: &Load) {
    let registers = load.registers.lock().unwrap().clone();
    let mut counters = Vec::new();
    let mut values: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for id in cluster.ids() {
        let mut client = cluster.connect(id, PATIENCE).await.unwrap();
        for register in &registers {
            let reply = client.command(&[b"GET", register.key.as_bytes()]).await.unwrap();
            let found = number(&reply).unwrap_or_else(|| panic!("node {id}: {reply}"));
            let (least, most) = (register.acknowledged.load(SeqCst), register.sent.load(SeqCst));
            assert!(
                (least..=most).contains(&found),
                "node {id} has {found} in {}, acknowledged {least}, sent {most}",
                register.key
            );
            values.entry(register.key.clone()).or_default().push(found);
        }
        let reply = client.line("GET counter").await.unwrap();
        counters.push(number(&reply).unwrap_or_else(|| panic!("node {id}: {reply}")));
    }
    for (key, found) in values {
        assert!(found.iter().all(|value| *value == found[0]), "{key} differs: {found:?}");
    }
    let (least, perhaps) = (load.counted.load(SeqCst), load.perhaps_counted.load(SeqCst));
    for found in &counters {
        assert!(
            (least..=least + perhaps).contains(found),
            "the counter is {found}; {least} increments were acknowledged and {perhaps} are unknown"
        );
    }
    assert!(counters.iter().all(|found| *found == counters[0]), "counters differ: {counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_and_reads_hold_through_kills_and_pauses_of_the_leader() {
    let mut cluster = three_nodes().await;
    let load = Arc::new(Load::default());
    let mut clients = start(&cluster, &load);
    goes_on(&cluster, &load, "in peace").await;

    let first = cluster.leader().await.expect("a ready cluster has a leader");
    cluster.kill(first).unwrap();
    let second = other_leader(&cluster, first).await;
    goes_on(&cluster, &load, "without the killed leader").await;
    cluster.start(first).unwrap();
    cluster.ready(first, PATIENCE).await.unwrap();
    goes_on(&cluster, &load, "after the killed leader came back").await;

    cluster.signal(second, Signal::Pause).unwrap();
    let third = other_leader(&cluster, second).await;
    goes_on(&cluster, &load, "while the former leader is paused").await;
    cluster.signal(second, Signal::Resume).unwrap();
    cluster.ready(second, PATIENCE).await.unwrap();
    goes_on(&cluster, &load, "after the paused leader came back").await;

    let follower = cluster.ids().into_iter().find(|id| *id != third).unwrap();
    cluster.kill(follower).unwrap();
    goes_on(&cluster, &load, "without a follower").await;
    cluster.start(follower).unwrap();
    cluster.ready(follower, PATIENCE).await.unwrap();
    goes_on(&cluster, &load, "after the follower came back").await;

    load.stop.store(true, SeqCst);
    while clients.join_next().await.is_some() {}
    check(&cluster, &load).await;
    let violations = load.violations.lock().unwrap();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    println!(
        "{} writes acknowledged, {} unknown; {} reads, {} without answer; {} increments, {} unknown",
        load.writes.load(SeqCst),
        load.unknown.load(SeqCst),
        load.reads.load(SeqCst),
        load.unread.load(SeqCst),
        load.counted.load(SeqCst),
        load.perhaps_counted.load(SeqCst)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_killed_at_once_comes_back_with_everything() {
    let mut cluster = three_nodes().await;
    let load = Arc::new(Load::default());
    let mut clients = start(&cluster, &load);
    goes_on(&cluster, &load, "in peace").await;
    for id in cluster.ids() {
        cluster.kill(id).unwrap();
    }
    load.stop.store(true, SeqCst);
    while clients.join_next().await.is_some() {}
    cluster.start_all().await.unwrap();
    check(&cluster, &load).await;
    assert!(load.violations.lock().unwrap().is_empty());
}
