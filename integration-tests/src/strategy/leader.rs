//! The crate `leader` under test.
//!
//! A register and a counter are a key each, with a decimal number; an element of a set is a key of
//! its own, so that a set grows the state and a snapshot that loses a key loses an element. Half of
//! the reads that must be linearizable ask for a round, the other half for the lease: both promise
//! the same.

mod image;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::env::{Env, Rng};
use common::ids::{LogPos, NodeId};
use common::outcome::{HasOutcome, Outcome as Fate};
use common::receipt::{Fate as Committed, LogReceipt};
use common::storage::disk::simulated::SimDisk;
use common::storage::engine::{KeyRange, MemoryEngines, PageLimit};
use common::token::LogToken;
use common::transport::simulated::Envelope;
use futures::FutureExt;
use futures::future::BoxFuture;
use leader::key_value::{Answer, Command, Condition, Operation, Reply as Answered};
use leader::quota::Quota;
use leader::watch::{Filter, WatchError, WatchFrom, Watched};
use leader::{
    AckPoint, Config, KeyValue, Member, Node, Prefer, ReadError, ReadLevel, ReadOptions,
    ReplicationMode, Role, View, Who, WriteError, WriteOptions, Written,
};

use super::{Broken, Chore, Feed, Findings, Place, Strategy};
use crate::history::{Outcome, Reply};
use crate::invariant::{Ear, Invariants, Look, Said};
use crate::ledger::Ledger;
use crate::plan::ClusterConfig;
use crate::workload::{Action, Class, Expect, Key, Seen};

/// Where the engine keeps its checkpoints on a node's disk.
const ENGINE: &str = "engine";

/// The strategy.
#[derive(Debug)]
pub struct Leader {
    config: ClusterConfig,
    books: Arc<Mutex<Books>>,
    check_interval: Option<Duration>,
    quota: Quota,
}

/// What the judge writes down of one run.
#[derive(Debug, Default)]
struct Books {
    ear: Ear,
    invariants: Invariants,
    ledger: Ledger,
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub struct LeaderNode {
    node: Node<KeyValue>,
    env: Env,
    levels: Arc<dyn Rng>,
    page_keys: usize,
}

impl Leader {
    /// A cluster that was never started.
    pub fn new(config: &ClusterConfig) -> Self {
        Self {
            config: config.clone(),
            books: Arc::default(),
            check_interval: None,
            quota: Quota::default(),
        }
    }

    /// Whose members compare their states so often. Otherwise they do not: a repair would hide what
    /// the judges are to see.
    #[must_use]
    pub fn comparing_every(mut self, interval: Duration) -> Self {
        self.check_interval = Some(interval);
        self
    }

    /// Whose state may only become so large.
    #[must_use]
    pub fn within(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Whether a member counts its state as it is, and within its hard limits.
    fn audit_usage(&self, node: &LeaderNode) -> Option<Broken> {
        let (said, counted) = node.node.audit_usage().ok()?;
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        let (bytes, keys) = (self.quota.bytes.hard, self.quota.keys.hard);
        let claim = if said != counted {
            format!("{} says {said:?} and has {counted:?}", node.env.node)
        } else if over(bytes, counted.bytes) || over(keys, counted.keys) {
            format!("{} has {counted:?}, over {:?}", node.env.node, self.quota)
        } else {
            return None;
        };
        Some(Broken { judge: "quota", claim })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The node's configuration in a plan: small sizes, so that segments roll, snapshots are taken and
/// logs purged within seconds; times that fit the plan's latency, never shorter than the defaults.
fn configure(config: &ClusterConfig, place: Place) -> Config {
    let knobs = &config.knobs;
    let mut node = Config::new(place.id(), "simulated");
    let round_trip = (config.latency_min + config.latency_mean * 2) * 2;
    node.heartbeat_interval = round_trip.max(node.heartbeat_interval);
    node.election_timeout_min = node.heartbeat_interval * 6;
    node.election_timeout_max = node.heartbeat_interval * 12;
    node.lease_read_max_age = node.election_timeout_max.mul_f64(0.9);
    let entries = knobs.snapshot_every.unwrap_or(200);
    // An entry with one command takes about so many bytes.
    node.checkpoint_bytes = (entries * 120).min(node.checkpoint_bytes);
    node.checkpoint_interval = Duration::from_secs(5);
    node.keep_entries = (entries / 4).min(node.keep_entries);
    node.snapshot_chunk_bytes = 1 << 10;
    node.batch_commands = knobs.group.map_or(16, |group| group as usize);
    node.max_command_bytes = 4 << 10;
    node.log_cache_bytes = 16 << 10;
    node.wal.segment_bytes = knobs.wal_segment.unwrap_or(16 << 10);
    node.wal.max_record = 64 << 10;
    node.wal.recent_bytes = 4 << 10;
    node.wal.group_bytes = 16 << 10;
    node
}

impl Strategy for Leader {
    type Node = LeaderNode;

    fn name(&self) -> &'static str {
        "leader"
    }

    fn open(
        &self,
        env: Env,
        config: &ClusterConfig,
        place: Place,
    ) -> BoxFuture<'static, Result<LeaderNode, String>> {
        let mut settings = configure(config, place);
        settings.check_interval = self.check_interval;
        settings.quota = self.quota;
        let page_keys = config.knobs.page_keys.map_or(100, |keys| keys as usize);
        let members = (0..config.nodes).map(|n| {
            let id = Place(n).id();
            Member { id, address: format!("node-{id}") }
        });
        let members: Vec<_> = members.collect();
        async move {
            let engines = Arc::new(MemoryEngines::on_disk(env.disk.clone(), ENGINE));
            let opened = Node::open(env.clone(), engines, KeyValue, settings).await;
            let node = opened.map_err(|error| error.to_string())?;
            if place == Place(0) {
                // Idempotent, so every start of the first node asks for it: the one before may have
                // died just before it did.
                node.bootstrap(members).await.map_err(|error| error.to_string())?;
            }
            let levels = env.rng.stream("read levels");
            Ok(LeaderNode { node, env, levels, page_keys })
        }
        .boxed()
    }

    fn perform(
        &self,
        node: &LeaderNode,
        class: Class,
        action: Action,
        session: Option<String>,
        timeout: Duration,
    ) -> BoxFuture<'static, Reply> {
        let (node, books) = (node.clone(), self.books.clone());
        async move {
            let token = session.map(|text| serde_json::from_str(&text).expect("a token"));
            if action.is_read() {
                node.read(class, action, token, timeout).await
            } else {
                let (reply, at) = node.write(class, action, token, timeout).await;
                if let Some(at) = at {
                    let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
                    books.ledger.hear(node.env.node, Said::Acknowledges(at));
                    books.invariants.hear(node.env.node, Said::Acknowledges(at));
                }
                reply
            }
        }
        .boxed()
    }

    fn authority(&self, nodes: &BTreeMap<Place, LeaderNode>, _: Key) -> Option<Place> {
        let leads = |(place, node): (&Place, &LeaderNode)| {
            let status = node.node.status();
            (status.role == Role::Leader).then_some((status.term, *place))
        };
        nodes.iter().filter_map(leads).max().map(|(_, place)| place)
    }

    fn failure(&self, node: &LeaderNode) -> Option<String> {
        let status = node.node.status();
        status.failure.or(status.disk.poisoned)
    }

    fn overhear(&self, message: &Envelope) -> Findings {
        let mut books = self.books();
        let Books { ear, invariants, ledger } = &mut *books;
        let broken = ear.hear(message, |node, said| {
            ledger.hear(node, said);
            invariants.hear(node, said)
        });
        Findings { looked: 0, broken: broken.unwrap_or_default() }
    }

    fn look(&self, nodes: &BTreeMap<Place, LeaderNode>) -> Findings {
        let mut findings = Findings::default();
        for node in nodes.values() {
            // Nothing has to be waited for.
            let view = node.node.view(ReadOptions::level(ReadLevel::Eventual)).now_or_never();
            let Some(Ok(view)) = view else { continue };
            let Ok(digest) = KeyValue::digest(&view) else { continue };
            findings.broken.extend(self.audit_usage(node));
            let (node, applied) = (node.env.node, view.applied());
            let committed = nodes[&Place::of(node)].node.status().committed;
            findings.looked += 1;
            let look = Look { node, committed, applied, digest };
            findings.broken.extend(self.books().invariants.look(&look));
        }
        findings
    }

    fn died(&self, place: Place) {
        self.books().invariants.died(place.id());
    }

    fn audit(&self, images: BTreeMap<Place, SimDisk>) -> Option<BoxFuture<'static, Findings>> {
        // What is said while the copies are read is not about them.
        let ledger = self.books().ledger.clone();
        if ledger.claims() == 0 {
            return None;
        }
        let config = self.config.clone();
        let audit = async move {
            let mut disks = BTreeMap::new();
            for (place, disk) in images {
                let found = image::read(&disk, configure(&config, place), ENGINE).await;
                disks.insert(place.id(), found);
            }
            let missing = ledger.missing(&disks).into_iter();
            let broken = missing.map(|claim| Broken { judge: "ledger", claim }).collect();
            Findings { looked: ledger.claims(), broken }
        };
        Some(image::Unmarked::new(audit).boxed())
    }

    fn resolve(
        &self,
        node: &LeaderNode,
        receipts: Vec<String>,
    ) -> BoxFuture<'static, Vec<Option<bool>>> {
        /// How long a node may look for what it does not know itself.
        const PATIENCE: Duration = Duration::from_millis(100);
        let node = node.node.clone();
        async move {
            let mut answers = Vec::with_capacity(receipts.len());
            for receipt in receipts {
                let receipt: LogReceipt = serde_json::from_str(&receipt).expect("a receipt");
                answers.push(match node.resolve(&receipt.into(), PATIENCE).await {
                    Ok(Committed::Committed) => Some(true),
                    Ok(Committed::Lost { .. }) => Some(false),
                    Ok(Committed::Pending) | Err(_) => None,
                });
            }
            answers
        }
        .boxed()
    }

    fn rolled_back(&self, node: &LeaderNode) -> BoxFuture<'static, Vec<String>> {
        let node = node.node.clone();
        async move {
            let mut receipts = Vec::new();
            for file in node.rollbacks().await.unwrap_or_default() {
                let lost = node.rolled_back(&file.name).await.unwrap_or_default();
                receipts.extend(lost.iter().filter_map(|lost| text(&lost.receipt)));
            }
            receipts
        }
        .boxed()
    }

    fn feed(&self, node: &LeaderNode) -> Option<Feed> {
        let node = &node.node;
        let applied = node.status().applied?;
        let mut feed = Feed { end: applied.index + 1, ..Feed::default() };
        let mut watch = node.watch(WatchFrom::Start, Filter::default()).ok()?;
        // Whatever is applied is there without waiting.
        while let Some(told) = watch.next().now_or_never() {
            match told {
                Ok(Watched::Changes(entry)) if entry.at.index < feed.end => {
                    let changes = format!("{}: {:?}", entry.at.term, entry.list);
                    feed.changes.insert(entry.at.index, changes);
                }
                Err(WatchError::Compacted { oldest: Some(oldest), .. }) if feed.from == 0 => {
                    feed.from = oldest.index + 1;
                    watch = node.watch(WatchFrom::After(oldest), Filter::default()).ok()?;
                }
                Ok(_) => break,
                Err(_) => return None,
            }
        }
        Some(feed)
    }

    fn chore(&self, node: &LeaderNode, chore: Chore) -> BoxFuture<'static, ()> {
        let node = node.node.clone();
        async move {
            match chore {
                Chore::Transfer => drop(node.transfer(None).await),
                Chore::Snapshot => drop(node.checkpoint().await),
            }
        }
        .boxed()
    }
}

fn name(key: Key) -> Bytes {
    key.to_string().into()
}

/// The key of a set's element. Digits in a fixed width, so that they are in order.
fn element_key(set: Key, element: i64) -> Bytes {
    format!("{set}/{element:020}").into()
}

fn decimal(number: i64) -> Bytes {
    number.to_string().into()
}

/// What is stored is what was written, or the run is worth nothing.
fn number(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).expect("values are decimal numbers")
}

/// A receipt as the history keeps it.
fn text(receipt: &LogReceipt) -> Option<String> {
    serde_json::to_string(receipt).ok()
}

fn token_text(token: &LogToken) -> Option<String> {
    serde_json::to_string(token).ok()
}

fn failed(outcome: Fate) -> Outcome {
    match outcome {
        Fate::NotApplied => Outcome::NotApplied,
        Fate::Applied => Outcome::Applied,
        Fate::Unknown => Outcome::Unknown,
    }
}

impl LeaderNode {
    async fn read(
        &self,
        class: Class,
        action: Action,
        mut token: Option<LogToken>,
        timeout: Duration,
    ) -> Reply {
        let level = match class {
            Class::Fast => ReadLevel::Eventual,
            Class::Safe if self.levels.below(2) == 0 => ReadLevel::Lease,
            Class::Safe => ReadLevel::Strong,
            Class::Session => ReadLevel::Causal,
            Class::Bounded => ReadLevel::Bounded(Class::BOUND),
        };
        let mut options = ReadOptions::level(level);
        options.timeout = timeout;
        options.token = token.clone().filter(|_| class == Class::Session);
        // Half of what sessions ask for a value may be answered by whoever is nearest.
        let elsewhere = matches!(class, Class::Session | Class::Bounded)
            && matches!(action, Action::Read { .. })
            && self.levels.below(2) == 0;
        if elsewhere {
            options.prefer = Prefer::Nearest;
            return self.read_nearest(action.key(), options, token).await;
        }
        let view = match self.node.view(options).await {
            Ok(view) => view,
            Err(error) => {
                let session_lost = matches!(error, ReadError::SessionLost { .. });
                return Reply { session_lost, ..Reply::new(Outcome::NotApplied) };
            }
        };
        // Before its cluster has a name there is nothing to see on a node.
        token = token.or_else(|| self.node.token());
        if let Some(token) = &mut token {
            token.saw_committed(view.applied());
        }
        let seen = if let Action::ReadSet { set } = action {
            self.elements(&view, set).map(Seen::Elements)
        } else {
            let found = KeyValue::get(&view, view.clock(), &name(action.key()));
            found.ok().map(|record| Seen::Value(record.map(|record| number(&record.value))))
        };
        let reply = seen.map_or_else(|| Reply::new(Outcome::NotApplied), Reply::seen);
        Reply { token: token.and_then(|token| token_text(&token)), ..reply }
    }

    /// A read of one value, by any member.
    async fn read_nearest(&self, key: Key, options: ReadOptions, token: Option<LogToken>) -> Reply {
        let answer = match self.node.read(name(key), options).await {
            Ok(answer) => answer,
            Err(error) => {
                let session_lost = matches!(error, ReadError::SessionLost { .. });
                return Reply { session_lost, ..Reply::new(Outcome::NotApplied) };
            }
        };
        let mut token = token.or_else(|| self.node.token());
        if let Some(token) = &mut token {
            token.saw_committed(answer.at);
        }
        let found = KeyValue::answered(&answer.body).expect("a record or none");
        let seen = Seen::Value(found.map(|record| number(&record.value)));
        Reply { token: token.and_then(|token| token_text(&token)), ..Reply::seen(seen) }
    }

    fn elements(&self, view: &View, set: Key) -> Option<Vec<i64>> {
        let prefix = format!("{set}/");
        let mut range = KeyRange::prefix(prefix.clone());
        let limit = PageLimit { items: self.page_keys, bytes: 1 << 20 };
        let mut elements = Vec::new();
        loop {
            let page = KeyValue::scan(view, view.clock(), &range, limit).ok()?;
            elements.extend(page.items.iter().map(|(key, _)| number(&key[prefix.len()..])));
            match page.items.last() {
                Some((last, _)) if page.more => range = range.after(last.clone()),
                _ => return Some(elements),
            }
        }
    }

    /// When a write is acknowledged: fast ones before the commit, safe ones with it, and some only
    /// once more members have it.
    fn mode(&self, class: Class) -> ReplicationMode {
        let voters: Vec<NodeId> = self.node.status().voters.into_keys().collect();
        let others = (voters.len() as u64).saturating_sub(1);
        let sync = |who, point| ReplicationMode::Sync { who, point };
        match (class, self.levels.below(20)) {
            (Class::Fast, 0..10) | (Class::Session, 0..5) => ReplicationMode::Async,
            (Class::Session, _) => ReplicationMode::Quorum,
            (Class::Fast, _) => {
                ReplicationMode::SemiSync { followers: self.levels.below(others + 1) as u8 }
            }
            (_, 0) => sync(Who::All, AckPoint::Durable),
            (_, 1) => sync(Who::First(1, voters), AckPoint::Applied),
            (_, 2) => sync(Who::Any(2, voters), AckPoint::Applied),
            _ => ReplicationMode::Quorum,
        }
    }

    /// The reply, and the position of what is committed.
    async fn write(
        &self,
        class: Class,
        action: Action,
        mut token: Option<LogToken>,
        timeout: Duration,
    ) -> (Reply, Option<LogPos>) {
        let blind = matches!(class, Class::Fast | Class::Session);
        let command = match action {
            Action::Write { key, value } if blind => Command::set(name(key), decimal(value)),
            Action::Add { set, element } if blind => {
                Command::set(element_key(set, element), Bytes::new())
            }
            Action::Write { key, value } => Command::put(name(key), decimal(value)),
            Action::CompareAndSet { key, expect, value } => {
                let Expect::Value(expected) = expect else {
                    unreachable!("filled in by the client's memory")
                };
                let condition = expected
                    .map_or(Condition::IfAbsent, |value| Condition::IfValue(decimal(value)));
                Command::put_if(name(key), decimal(value), condition)
            }
            Action::Increment { key, by } => Command::increment(name(key), by),
            Action::Add { set, element } => {
                Operation::put(element_key(set, element), Bytes::new()).into()
            }
            Action::Read { .. } | Action::ReadSet { .. } => unreachable!("not a write"),
        };
        let mut options = WriteOptions::mode(self.mode(class));
        options.timeout = timeout;
        let written = match self.node.write(command, options).await {
            Ok(written) => written,
            Err(WriteError::AckTimeout { receipt, report }) => {
                let outcome = if report.committed { Outcome::Applied } else { Outcome::Unknown };
                let at = report.committed.then_some(receipt.at);
                // What a compare-and-set or a sum came to is not known with it.
                let plain = matches!(action, Action::Write { .. } | Action::Add { .. });
                let outcome = if plain { outcome } else { Outcome::Unknown };
                return (Reply { receipt: text(&receipt), ..Reply::new(outcome) }, at);
            }
            Err(error) => return (Reply::new(failed(error.outcome())), None),
        };
        // Under too many leaders without one commit the session goes on without this write.
        let token = match &mut token {
            None => Some(written.token()),
            Some(token) => written.note_in(token).is_ok().then(|| token.clone()),
        };
        let token = token.and_then(|token| token_text(&token));
        let Written { reply, at, receipt, report, .. } = written;
        if !report.committed {
            let (early, receipt) = (true, text(&receipt));
            return (Reply { early, receipt, token, ..Reply::new(Outcome::Applied) }, None);
        }
        let reply = match reply {
            Answered::Set => Reply::new(Outcome::Applied),
            Answered::One(Answer::Stored { .. }) => match action {
                Action::CompareAndSet { .. } => Reply::seen(Seen::Swapped(true)),
                _ => Reply::new(Outcome::Applied),
            },
            Answered::One(Answer::NotStored { .. }) => Reply::seen(Seen::Swapped(false)),
            Answered::One(Answer::Counted { value, .. }) => Reply::seen(Seen::Value(Some(value))),
            other => unreachable!("not an answer to {action}: {other:?}"),
        };
        (Reply { token, ..reply }, Some(at))
    }
}
