//! One read, from the client to its answer, top to bottom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::Level;
use common::env::Mono;
use common::ids::{Actor, NodeId};
use common::token::DotsToken;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::config::KeyspaceConfig;
use crate::error::ReadError;
use crate::layout::Key;
use crate::message::{Reply, Request};
use crate::node::{Core, Located};
use crate::quorum::Quorum;
use crate::store::Merge;
use crate::version::{
    Cell, Claim, ClientContext, Container, Context, Dots, PartitionClock, Sibling, Winner,
};

/// What a read does about owners that lack what it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Enough owners have it before the answer, so that no later read of this level goes back. For
    /// levels of more than one.
    Blocking,
    /// They get it after the answer.
    Async,
}

/// How to read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadOptions {
    /// How many owners must answer. Default `Quorum`.
    pub level: Level,
    /// How long to wait for them. Default 5 s.
    pub timeout: Duration,
    /// What is done about differences. Default `Blocking`.
    pub repair: Repair,
    /// The session: only owners that have what it saw count.
    pub token: Option<DotsToken>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            level: Level::Quorum,
            timeout: Duration::from_secs(5),
            repair: Repair::Blocking,
            token: None,
        }
    }
}

impl ReadOptions {
    /// With another level.
    pub fn level(level: Level) -> Self {
        Self { level, ..Self::default() }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What the keyspace's policy makes of the visible values.
    pub values: T,
    /// What a write shows to replace what was read. Also there when nothing was.
    pub context: Bytes,
    /// What was read, for a session's token: with the place, each write and its stamp.
    pub seen: Vec<(common::ids::KeyspaceId, common::ids::PartitionId, crate::version::Dot, Hlc)>,
}

impl<T> Read<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Read<U> {
        Read { values: f(self.values), context: self.context, seen: self.seen }
    }

    /// Adds what was read to a session's token.
    pub fn note(&self, token: &mut DotsToken) -> Result<(), common::token::JoinError> {
        self.seen.iter().try_for_each(|(k, p, dot, at)| token.saw(*k, *p, *dot, *at))
    }
}

/// Entries of a client's context, so that it stays below its limit.
const MAX_ACTORS: usize = 150;

/// What owners have answered so far.
#[derive(Default)]
struct Answers {
    /// With all cells.
    full: BTreeMap<NodeId, (u64, Claim)>,
    /// With a digest only.
    digests: BTreeMap<NodeId, u64>,
    behind: bool,
}

impl Answers {
    fn nodes(&self) -> BTreeSet<NodeId> {
        self.full.keys().chain(self.digests.keys()).copied().collect()
    }

    fn agree(&self) -> bool {
        let all: BTreeSet<u64> =
            self.full.values().map(|(d, _)| *d).chain(self.digests.values().copied()).collect();
        !self.full.is_empty() && all.len() == 1
    }

    /// One state of the key out of all that were answered.
    fn merged(&self, winner: Winner) -> Container {
        let mut out = Container::young();
        for (_, claim) in self.full.values() {
            out.absorb(claim, &PartitionClock::new(), winner);
        }
        out
    }
}

type Replies = FuturesUnordered<BoxFuture<'static, (NodeId, Result<Reply, String>)>>;

struct Reading<'a> {
    core: &'a Arc<Core>,
    at: Located,
    deadline: Mono,
    after: Vec<(Actor, Dots)>,
    replies: Replies,
    answers: Answers,
}

impl Reading<'_> {
    fn send(&self, to: NodeId, full: bool) {
        let (core, deadline) = (self.core.clone(), self.deadline);
        let (place, key, after) = (self.at.place, self.at.key.clone(), self.after.clone());
        let request = Request::Get { epoch: core.layout().epoch, place, key, full, after };
        let call = async move {
            if to == core.config.node {
                (to, core.ask(to, &request, deadline).await)
            } else {
                (to, core.call_in_epoch(to, request, deadline).await)
            }
        };
        self.replies.push(call.boxed());
    }

    fn take(&mut self, node: NodeId, reply: Result<Reply, String>) -> bool {
        match reply {
            Ok(Reply::Got { bases, claim: Some(claim), digest }) => {
                self.answers.digests.remove(&node);
                self.answers.full.insert(node, (digest, claim.filled(&bases)));
            }
            Ok(Reply::Got { claim: None, digest, .. }) => {
                let _ = self.answers.digests.insert(node, digest);
            }
            Ok(Reply::Behind) => {
                self.answers.behind = true;
                return false;
            }
            _ => return false,
        }
        true
    }
}

fn session(token: Option<&DotsToken>, at: &Located) -> Vec<(Actor, Dots)> {
    let Some(seen) = token.and_then(|t| t.partitions.get(&(at.place.keyspace, at.place.partition)))
    else {
        return Vec::new();
    };
    let dots = |seen: &common::token::SeenDots| {
        let mut dots = Dots::upto(seen.upto());
        seen.above().for_each(|n| dots.add(n));
        dots
    };
    seen.iter().map(|(actor, seen)| (*actor, dots(seen))).collect()
}

/// Coordinates a read. Any node can.
pub(crate) async fn coordinate(
    core: &Arc<Core>,
    keyspace: &KeyspaceConfig,
    key: &Key,
    options: ReadOptions,
) -> Result<Read<Vec<Sibling>>, ReadError> {
    // 1. Whom to ask, in which order.
    let own = core.config.node;
    let not_ready = |why: String| ReadError::NotReady { node: own, why };
    if core.removed.load(std::sync::atomic::Ordering::Relaxed) {
        return Err(not_ready("it was removed from the cluster".into()));
    }
    let Some(_admitted) = core.admit() else { return Err(not_ready("it is overloaded".into())) };
    if options.level == Level::Any {
        return Err(ReadError::Invalid("Any is a level of writes".into()));
    }
    let deadline = core.env.now() + options.timeout;
    let at = core.locate(keyspace.id, key);
    let layout = at.layout.clone();
    let sets = layout.live_sets(at.partition);
    let quorum = Quorum::of_read(options.level, &layout, &sets, &core.region())
        .map_err(|e| ReadError::Invalid(e.to_string()))?;
    let readers: Vec<NodeId> = sets.readers().to_vec();
    let preference = layout.preference(crate::layout::Token(at.token), &core.region());
    let mut order: Vec<NodeId> =
        preference.current.into_iter().chain(preference.previous).collect();
    order.retain(|n| quorum.groups.iter().any(|g| g.members.contains(n)));
    order.sort_by_key(|n| (core.is_away(*n), *n != own));
    order.dedup();
    let after = session(options.token.as_ref(), &at);
    let (replies, answers) = (FuturesUnordered::new(), Answers::default());
    let mut reading = Reading { core, at, deadline, after, replies, answers };

    // 2. As many as needed, one of them with all cells. Whoever is slow or refuses is made up for
    //    by another owner.
    let mut asked = BTreeSet::new();
    let mut waiting = order.clone();
    for node in &order {
        if quorum.wants(*node, &asked) {
            reading.send(*node, asked.is_empty());
            asked.insert(*node);
            waiting.retain(|n| n != node);
        }
    }
    while !quorum.is_met(&reading.answers.nodes()) {
        let hedge = core.env.now() + core.config.hedge_after;
        match core.env.timeout_at(deadline.min(hedge), reading.replies.next()).await {
            Ok(Some((node, reply))) => {
                if !reading.take(node, reply) {
                    // It is asked again after the others: its state may change until the deadline.
                    if !waiting.contains(&node) {
                        waiting.push(node);
                    }
                }
            }
            Ok(None) => {
                core.env.sleep(core.config.hedge_after.min(deadline.since(core.env.now()))).await;
            }
            Err(_) if core.env.now() >= deadline => break,
            Err(_) => common::sometimes!("read-hedged"),
        }
        if core.env.now() >= deadline {
            break;
        }
        if let Some(node) = waiting
            .iter()
            .position(|n| quorum.wants(*n, &reading.answers.nodes()))
            .filter(|_| !quorum.is_met(&reading.answers.nodes()))
        {
            let node = waiting.remove(node);
            if reading.replies.len() <= order.len() {
                reading.send(node, reading.answers.full.is_empty());
            }
            if reading.answers.behind {
                core.env.sleep(Duration::from_millis(20)).await;
            }
        }
    }
    let nodes = reading.answers.nodes();
    if !quorum.is_met(&nodes) {
        if reading.answers.behind {
            return Err(ReadError::Behind);
        }
        return Err(ReadError::Unavailable { need: quorum.need(), got: nodes.len() });
    }

    // 3. Different answers: all cells of those that differ.
    if !reading.answers.agree() {
        let missing: Vec<NodeId> = reading.answers.digests.keys().copied().collect();
        for node in missing {
            reading.send(node, true);
        }
        while !reading.answers.digests.is_empty() {
            match core.env.timeout_at(deadline, reading.replies.next()).await {
                Ok(Some((node, reply))) => drop(reading.take(node, reply)),
                Ok(None) | Err(_) => break,
            }
        }
        if !quorum.is_met(&reading.answers.full.keys().copied().collect()) {
            return Err(ReadError::Unavailable {
                need: quorum.need(),
                got: reading.answers.full.len(),
            });
        }
    }
    let winner = keyspace.kind.winner();
    let merged = reading.answers.merged(winner);

    // 4. So many owners must hold it that no later read can miss it.
    let differ = reading.answers.full.values().any(|(digest, _)| *digest != merged.digest());
    if differ || !reading.answers.agree() {
        common::sometimes!("repair-merged");
        let least = readers.len() + 1 - quorum.need().min(readers.len());
        let blocking = options.repair == Repair::Blocking && quorum.need() > 1;
        repair(&reading, &readers, &merged, if blocking { least } else { 0 }).await?;
    }

    // 5. What the client gets.
    let wall = core.env.clock.wall_millis();
    let mut seen = merged.context.clone();
    merged.cells.iter().for_each(|(dot, _)| seen.raise(*dot));
    if seen.len() > MAX_ACTORS {
        // Enough to replace what was read; what that superseded goes by itself.
        seen = merged.cells.iter().map(|(dot, _)| (dot.actor, dot.n)).collect();
    }
    let fingerprint = xxhash_rust::xxh3::xxh3_64(&reading.at.key);
    let context = ClientContext {
        cluster: core.config.cluster,
        keyspace: keyspace.id,
        key: fingerprint,
        stamp: merged.stamp(),
        seen,
    };
    let place = reading.at.place;
    let noted = merged
        .cells
        .iter()
        .map(|(dot, c)| (place.keyspace, place.partition, *dot, c.at()))
        .collect();
    let visible = merged.cells.into_iter().filter(|(_, cell)| cell.is_visible(wall));
    let values = visible
        .filter_map(|(dot, cell)| match cell {
            Cell::Value { bytes, at, .. } => Some(Sibling { dot, value: bytes, at }),
            Cell::Tombstone { .. } => None,
        })
        .collect();
    Ok(Read { values, context: context.seal(&core.config.secret), seen: noted })
}

/// Sends the merged state to the owners that may lack it, also to those that were not asked, and
/// waits until `least` of them hold it.
async fn repair(
    reading: &Reading<'_>,
    readers: &[NodeId],
    merged: &Container,
    least: usize,
) -> Result<(), ReadError> {
    let core = reading.core;
    let (place, key) = (reading.at.place, reading.at.key.clone());
    let digest = merged.digest();
    let mut holders: BTreeSet<NodeId> =
        reading.answers.full.iter().filter(|(_, (d, _))| *d == digest).map(|(n, _)| *n).collect();
    let claim =
        Claim { cells: merged.cells.clone(), context: merged.context.clone(), established: false };
    let deadline =
        if least == 0 { core.env.now() + Duration::from_secs(1) } else { reading.deadline };
    let mut calls: FuturesUnordered<BoxFuture<'static, (NodeId, bool)>> = FuturesUnordered::new();
    for node in readers.iter().copied().filter(|n| !holders.contains(n)) {
        let core = core.clone();
        let merges = vec![Merge { key: key.clone(), claim: claim.clone(), settles: Vec::new() }];
        calls.push(
            async move {
                let request = |restore| Request::Repair {
                    place,
                    bases: Context::new(),
                    merges: merges.clone(),
                    restore,
                };
                let first = core.ask(node, &request(false), deadline).await;
                let done = match first {
                    Ok(Reply::Repaired { doubted }) if doubted.is_empty() => true,
                    // Its clock has what it does not store: it was lost there. What this read found
                    // alive on others brings it back.
                    Ok(Reply::Repaired { .. }) => {
                        common::sometimes!("lost-key-restored");
                        matches!(
                            core.ask(node, &request(true), deadline).await,
                            Ok(Reply::Repaired { .. })
                        )
                    }
                    _ => false,
                };
                (node, done)
            }
            .boxed(),
        );
    }
    if least == 0 {
        drop(core.env.spawn("read repair", async move { while calls.next().await.is_some() {} }));
        return Ok(());
    }
    while holders.len() < least {
        match core.env.timeout_at(deadline, calls.next()).await {
            Ok(Some((node, true))) => drop(holders.insert(node)),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => {
                return Err(ReadError::Unconfirmed { holders: holders.len(), need: least });
            }
        }
    }
    Ok(())
}
