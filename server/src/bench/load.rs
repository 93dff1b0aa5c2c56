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

use super::histogram::Histogram;
use crate::client::{Client, ClientError, Reply, Tls, encode};

/// How long one batch may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client waits before it connects again.
const PAUSE: Duration = Duration::from_millis(50);
/// So many failures in a row end a client: nobody is there.
const GIVE_UP: u32 = 100;
/// Keys per command when the keys are made.
const PER_COMMAND: u64 = 100;

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to, in turn.
    pub addresses: Vec<String>,
    /// Clients at the same time.
    pub clients: usize,
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

    /// Whether the nodes take the settings, before all clients ask.
    pub(super) async fn try_settings(&self) -> Result<(), String> {
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
    let mut client = load.connect(&load.addresses[0]).await.map_err(|e| e.to_string())?;
    load.set_up(&mut client).await?;
    let value = vec![b'x'; load.value_size];
    let mut from = 0;
    while from < load.keys {
        let to = (from + PER_COMMAND).min(load.keys);
        let keys: Vec<String> = (from..to).map(key).collect();
        let mut command: Vec<&[u8]> = vec![b"MSET"];
        for key in &keys {
            command.extend([key.as_bytes(), &value]);
        }
        let reply = client.command(&command).await.map_err(|e| e.to_string())?;
        if !reply.is_ok() {
            return Err(format!("{} answered MSET with {reply}", load.addresses[0]));
        }
        progress(to);
        from = to;
    }
    Ok(())
}

/// The kind of an error reply: its prefix, as clients tell errors apart.
fn kind(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or("an empty error")
}

/// One client: its connection while it has one, and what came of its requests.
struct Caller {
    run: Arc<Run>,
    rng: SplitMix64,
    /// The place in the addresses that it connects to next.
    next: usize,
    failures: u32,
    connection: Option<Client>,
    value: Vec<u8>,
    outcome: Outcome,
}

impl Caller {
    async fn connected(&mut self) -> Option<Client> {
        if let Some(client) = self.connection.take() {
            return Some(client);
        }
        let addresses = &self.run.load.addresses;
        let address = &addresses[self.next % addresses.len()];
        self.next += 1;
        let mut client = self.run.load.connect(address).await.ok()?;
        self.run.load.set_up(&mut client).await.ok()?;
        Some(client)
    }

    /// Encodes a batch and says which of its commands are reads.
    fn batch(&mut self, count: u64) -> (Vec<u8>, Vec<bool>) {
        let (mut bytes, mut reads) = (Vec::new(), Vec::new());
        let load = &self.run.load;
        for _ in 0..count {
            let key = key(self.rng.below(load.keys));
            let read = (self.rng.next_u64() as f64 / u64::MAX as f64) < load.read_share;
            reads.push(read);
            if read {
                encode(&[b"GET", key.as_bytes()], &mut bytes);
            } else {
                let stamp = self.rng.next_u64().to_be_bytes();
                let stamped = stamp.len().min(self.value.len());
                self.value[..stamped].copy_from_slice(&stamp[..stamped]);
                encode(&[b"SET", key.as_bytes(), &self.value], &mut bytes);
            }
        }
        (bytes, reads)
    }

    /// Sends one batch and records what comes back. Returns why it ended early, if it did.
    async fn send(&mut self, count: u64) -> Result<(), &'static str> {
        let Some(mut client) = self.connected().await else {
            self.outcome.error("no connection", count);
            return Err("no connection");
        };
        let (bytes, reads) = self.batch(count);
        let outcome = &mut self.outcome;
        let sent = Instant::now();
        let mut answered = 0;
        let exchanged = client
            .exchange(&bytes, reads.len(), |reply| {
                let latency = sent.elapsed().as_nanos() as u64;
                match (&reply, reads[answered]) {
                    (Reply::Error(text), _) => outcome.error(kind(text), 1),
                    (_, true) => outcome.reads.record(latency),
                    (_, false) => outcome.writes.record(latency),
                }
                answered += 1;
            })
            .await;
        if let Err(error) = exchanged {
            let why = match error {
                ClientError::TimedOut { .. } => "no reply in time",
                ClientError::Protocol { .. } => "not the Redis protocol",
                _ => "connection broke",
            };
            outcome.error(why, count - answered as u64);
            return Err(why);
        }
        self.connection = Some(client);
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
