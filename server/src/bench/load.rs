//! The load: clients that each send a batch, wait for all its replies, and send the next.
//!
//! A closed loop asks at most as fast as it is answered, so its latencies leave out what would have
//! waited in an open one. They compare settings; they do not predict a given arrival rate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use tokio::time::{Instant, sleep};

use super::etcd::Etcd;
use super::histogram::Histogram;
use super::target::{Connection, Protocol};
use crate::client::{Client, ClientError, Tls};

/// How long one batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits before it connects again.
const PAUSE: Duration = Duration::from_millis(50);
/// So many failures in a row end a client: nobody is there.
const GIVE_UP: u32 = 100;
/// Keys that are made at a time.
const PER_BATCH: u64 = 1_000;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to, in turn.
    pub addresses: Vec<String>,
    /// Clients at the same time.
    pub clients: usize,
    /// How the servers are spoken to.
    pub protocol: Protocol,
    /// How many replicas a `WAIT` after each batch with writes asks for. For plain Redis.
    pub wait: Option<u32>,
    /// Commands per batch.
    pub pipeline: u64,
    /// Bytes per value.
    pub value_size: usize,
    /// The share of reads, 0 to 1.
    pub read_share: f64,
    /// A user and the password, where they are asked for.
    pub user: Option<(String, String)>,
    /// When writes are acknowledged, as REPL ACK takes it.
    pub ack: Option<String>,
    /// How fresh reads are, as REPL READ takes it.
    pub read: Option<String>,
    /// Whom to trust and what to show, where TLS is asked for.
    pub tls: Option<Tls>,
    /// Different keys.
    pub keys: u64,
    /// When it ends.
    pub end: End,
}

impl Load {
    async fn connect(&self, address: &str) -> Result<Client, ClientError> {
        match &self.tls {
            None => Client::connect(address, PATIENCE).await,
            Some(tls) => Client::connect_tls(address, tls, PATIENCE).await,
        }
    }

    /// Sets a connection up.
    async fn set_up(&self, client: &mut Client) -> Result<(), String> {
        if let Some((user, password)) = &self.user {
            let auth: [&[u8]; 3] = [b"AUTH", user.as_bytes(), password.as_bytes()];
            let reply = client.command(&auth).await.map_err(|error| error.to_string())?;
            if !reply.is_ok() {
                return Err(format!("{} answered AUTH with {reply}", client.address()));
            }
        }
        let settings = [("ACK", &self.ack), ("READ", &self.read)];
        for (what, setting) in settings {
            let Some(setting) = setting else { continue };
            let line = format!("REPL {what} {setting}");
            let reply = client.line(&line).await.map_err(|error| error.to_string())?;
            if !reply.is_ok() {
                return Err(format!("{} answered {line} with {reply}", client.address()));
            }
        }
        Ok(())
    }

    /// A connection that is ready for the load.
    async fn open(&self, address: &str) -> Result<Connection, String> {
        match self.protocol {
            Protocol::Etcd => {
                let connected = tokio::time::timeout(PATIENCE, Etcd::connect(address)).await;
                let etcd = connected.map_err(|_| "no connection in time".to_owned())?;
                Ok(Connection::Etcd(Box::new(etcd.map_err(|e| format!("{address}: {e}"))?)))
            }
            Protocol::Redis => {
                let mut client = self.connect(address).await.map_err(|e| e.to_string())?;
                self.set_up(&mut client).await?;
                Ok(Connection::redis(client, self.wait))
            }
        }
    }

    /// Whether the nodes take the settings, before all clients ask.
    pub(super) async fn try_settings(&self) -> Result<(), String> {
        if self.protocol == Protocol::Etcd {
            return Ok(());
        }
        let Ok(mut client) = self.connect(&self.addresses[0]).await else {
            return Ok(());
        };
        self.set_up(&mut client).await
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// After so many requests.
    Requests(u64),
    /// After this time.
    After(Duration),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Latencies of answered reads in nanoseconds.
    pub reads: Histogram,
    /// Latencies of answered writes in nanoseconds.
    pub writes: Histogram,
    /// Requests without an answer or with an error, by kind.
    pub errors: BTreeMap<String, u64>,
}

impl Outcome {
    fn merge(&mut self, other: Self) {
        self.reads.merge(&other.reads);
        self.writes.merge(&other.writes);
        for (kind, count) in other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
    }

    fn error(&mut self, kind: &str, count: u64) {
        *self.errors.entry(kind.to_owned()).or_default() += count;
    }
}

/// What all clients of one run share.
#[derive(Debug)]
pub struct Run {
    load: Load,
    begun: Instant,
    /// Requests that a client has taken on.
    taken: AtomicU64,
    /// Requests that have ended.
    done: AtomicU64,
}

impl Run {
    /// A run that begins now.
    pub fn new(load: Load) -> Self {
        Self { load, begun: Instant::now(), taken: AtomicU64::new(0), done: AtomicU64::new(0) }
    }

    /// How far it is, and how far it goes: requests, or milliseconds.
    pub fn progress(&self) -> (u64, u64) {
        match self.load.end {
            End::Requests(count) => (self.done.load(Ordering::Relaxed), count),
            End::After(time) => (self.begun.elapsed().as_millis() as u64, time.as_millis() as u64),
        }
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// How many requests a client may send next; none at the end.
    fn take(&self) -> u64 {
        match self.load.end {
            End::Requests(count) => {
                let before = self.taken.fetch_add(self.load.pipeline, Ordering::Relaxed);
                count.saturating_sub(before).min(self.load.pipeline)
            }
            End::After(time) if self.begun.elapsed() < time => self.load.pipeline,
            End::After(_) => 0,
        }
    }

    /// Runs all clients to the end.
    pub async fn all(self: Arc<Self>) -> Outcome {
        let caller = |number| Caller {
            run: self.clone(),
            rng: SplitMix64::from_system(),
            next: number,
            failures: 0,
            connection: None,
            value: vec![b'x'; self.load.value_size],
            outcome: Outcome::default(),
        };
        let clients: Vec<_> =
            (0..self.load.clients).map(|number| tokio::spawn(caller(number).work())).collect();
        let mut all = Outcome::default();
        for client in clients {
            match client.await {
                Ok(outcome) => all.merge(outcome),
                Err(_) => all.error("a client of the load generator panicked", 1),
            }
        }
        all
    }
}

fn key(number: u64) -> String {
    format!("bench:{number:012}")
}

/// Makes all keys, so that reads find something. Returns the first problem.
pub async fn fill(load: &Load, mut progress: impl FnMut(u64)) -> Result<(), String> {
    let mut connection = load.open(&load.addresses[0]).await?;
    let value = vec![b'x'; load.value_size];
    let mut from = 0;
    while from < load.keys {
        let to = (from + PER_BATCH).min(load.keys);
        (from..to).for_each(|number| connection.set(key(number).as_bytes(), &value));
        let mut refused = None;
        let each = |_, answer: Result<(), &str>| {
            if let Err(kind) = answer {
                refused = Some(format!("{} refused a write with {kind}", load.addresses[0]));
            }
        };
        let address = &load.addresses[0];
        connection.exchange(each).await.map_err(|why| format!("{address}: {why}"))?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        progress(to);
        from = to;
    }
    Ok(())
}

/// One client: its connection while it has one, and what came of its requests.
struct Caller {
    run: Arc<Run>,
    rng: SplitMix64,
    /// The place in the addresses that it connects to next.
    next: usize,
    failures: u32,
    connection: Option<Connection>,
    value: Vec<u8>,
    outcome: Outcome,
}

impl Caller {
    async fn connected(&mut self) -> Option<Connection> {
        if let Some(connection) = self.connection.take() {
            return Some(connection);
        }
        let addresses = &self.run.load.addresses;
        let address = &addresses[self.next % addresses.len()];
        self.next += 1;
        self.run.load.open(address).await.ok()
    }

    /// Queues a batch and says which of its commands are reads.
    fn batch(&mut self, connection: &mut Connection, count: u64) -> Vec<bool> {
        let load = &self.run.load;
        let one = |_| {
            let key = key(self.rng.below(load.keys));
            let read = (self.rng.next_u64() as f64 / u64::MAX as f64) < load.read_share;
            if read {
                connection.get(key.as_bytes());
            } else {
                let stamp = self.rng.next_u64().to_be_bytes();
                let stamped = stamp.len().min(self.value.len());
                self.value[..stamped].copy_from_slice(&stamp[..stamped]);
                connection.set(key.as_bytes(), &self.value);
            }
            read
        };
        (0..count).map(one).collect()
    }

    /// Sends one batch and records what comes back. Returns why it ended early, if it did.
    async fn send(&mut self, count: u64) -> Result<(), &'static str> {
        let Some(mut connection) = self.connected().await else {
            self.outcome.error("no connection", count);
            return Err("no connection");
        };
        let reads = self.batch(&mut connection, count);
        let outcome = &mut self.outcome;
        let sent = Instant::now();
        let mut answered = 0;
        let each = |place: usize, answer: Result<(), &str>| {
            let latency = sent.elapsed().as_nanos() as u64;
            match (answer, reads[place]) {
                (Err(kind), _) => outcome.error(kind, 1),
                (Ok(()), true) => outcome.reads.record(latency),
                (Ok(()), false) => outcome.writes.record(latency),
            }
            answered += 1;
        };
        if let Err(why) = connection.exchange(each).await {
            let lost = count - answered;
            if lost > 0 {
                outcome.error(why, lost);
            }
            return Err(why);
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn work(mut self) -> Outcome {
        loop {
            let count = self.run.take();
            if count == 0 {
                return self.outcome;
            }
            let sent = self.send(count).await;
            self.run.done.fetch_add(count, Ordering::Relaxed);
            if sent.is_ok() {
                self.failures = 0;
                continue;
            }
            self.failures += 1;
            if self.failures >= GIVE_UP {
                return self.outcome;
            }
            sleep(PAUSE).await;
        }
    }
}
