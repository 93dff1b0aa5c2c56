//! One write, from the client to its acknowledgement, top to bottom.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::Level;
use common::ids::{KeyspaceId, NodeId};
use common::receipt::DotsReceipt;
use common::token::DotsToken;
use common::transport::Class;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};

use crate::config::KeyspaceConfig;
use crate::error::WriteError;
use crate::layout::Key;
use crate::message::{Reply, Request};
use crate::node::Core;
use crate::quorum::Quorum;
use crate::store::{Applied, Own};
use crate::version::{Cell, ClientContext, Context, Kind};

/// How to write.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteOptions {
    /// How many owners must have it durably. Default `Quorum`.
    pub level: Level,
    /// How long to wait for them. Default 5 s.
    pub timeout: Duration,
    /// What the client read before: replaced by this write.
    pub context: Option<Bytes>,
    /// The session: the write is stamped above what it saw.
    pub token: Option<DotsToken>,
    /// For how long the value is visible. Default: for ever.
    pub ttl: Option<Duration>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            level: Level::Quorum,
            timeout: Duration::from_secs(5),
            context: None,
            token: None,
            ttl: None,
        }
    }
}

impl WriteOptions {
    /// With another level.
    pub fn level(level: Level) -> Self {
        Self { level, ..Self::default() }
    }

    /// With what was read before.
    #[must_use]
    pub fn after(mut self, context: Bytes) -> Self {
        self.context = Some(context);
        self
    }
}

/// An acknowledged write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// What tells its fate.
    pub receipt: DotsReceipt,
    /// Its stamp.
    pub at: Hlc,
    /// The key's context after it: a next write that shows it replaces this one.
    pub context: Bytes,
    /// Owners that have it durably.
    pub achieved: Vec<NodeId>,
}

/// A write on its way to its coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Put {
    keyspace: KeyspaceId,
    key: Key,
    value: Option<Bytes>,
    context: Option<Bytes>,
    floor: Hlc,
    level: Level,
    millis: u64,
    ttl_millis: Option<u64>,
}

impl Put {
    pub(crate) fn new(
        core: &Core,
        keyspace: &KeyspaceConfig,
        key: Key,
        value: Option<Bytes>,
        options: WriteOptions,
    ) -> Self {
        let token = options.token.filter(|token| token.cluster == core.config.cluster);
        Self {
            keyspace: keyspace.id,
            key,
            value,
            context: options.context,
            floor: token.map_or(Hlc::ZERO, |token| token.stamp),
            level: options.level,
            millis: options.timeout.as_millis() as u64,
            ttl_millis: options.ttl.map(|ttl| ttl.as_millis() as u64),
        }
    }
}

fn invalid(why: impl ToString) -> WriteError {
    WriteError::Invalid(why.to_string())
}

/// Coordinates the write here, or forwards it once to a node that can.
pub(crate) async fn write(core: &Arc<Core>, mut put: Put) -> Result<Written, WriteError> {
    let deadline = core.env.now() + Duration::from_millis(put.millis);
    let located = core.locate(put.keyspace, &put.key);
    let own = core.config.node;
    let coordinates = located.layout.may_coordinate(own, located.partition);
    if coordinates && core.unfit().is_none() && core.actor.get().is_some() {
        return coordinate(core, put).await;
    }
    let layout = &located.layout;
    let preference = layout.preference(crate::layout::Token(located.token), &core.region());
    let readers = layout.live_sets(located.partition).readers();
    let mut ready: Vec<NodeId> =
        preference.current.into_iter().chain(preference.previous).collect();
    ready.retain(|n| {
        *n != own && readers.contains(n) && layout.may_coordinate(*n, located.partition)
    });
    ready.sort_by_key(|n| core.is_away(*n));
    let (mut live, need) = (0, 1);
    for node in ready {
        let left = deadline.since(core.env.now());
        put.millis = (left * 9 / 10).as_millis() as u64;
        match core.call(node, Class::Data, &Request::Forward(put.clone()), deadline).await {
            Ok(Reply::Forwarded(Err(WriteError::NotReady { .. }))) => live += 1,
            Ok(Reply::Forwarded(result)) => return result,
            Ok(_) => {}
            // It may have a dot by now: only what surely never left may go to another node.
            Err(error) if error.contains("cannot be reached") => {}
            Err(_) => return Err(WriteError::Unknown { receipt: None, achieved: Vec::new() }),
        }
    }
    if let Some(why) = core.unfit() {
        return Err(WriteError::NotReady { node: own, why });
    }
    Err(WriteError::Unavailable { need, live })
}

/// Coordinates a write on an owner.
pub(crate) async fn coordinate(core: &Arc<Core>, put: Put) -> Result<Written, WriteError> {
    // 1. Admission: what cannot be done is refused before a dot exists.
    let own = core.config.node;
    let deadline = core.env.now() + Duration::from_millis(put.millis);
    let not_ready = |why: &str| WriteError::NotReady { node: own, why: why.to_owned() };
    if let Some(why) = core.unfit() {
        return Err(not_ready(&why));
    }
    let Some(_admitted) = core.admit() else {
        return Err(WriteError::Overloaded { retry_after: Duration::from_millis(100) });
    };
    if core.store.is_full() {
        return Err(not_ready("its disk is full or failed"));
    }
    let located = core.locate(put.keyspace, &put.key);
    let place = located.place;
    let Some(keyspace) = core.keyspace(place) else { return Err(invalid("no such keyspace")) };
    let size = put.value.as_ref().map_or(0, Bytes::len);
    if put.key.size() > core.config.max_key || size > core.config.max_value {
        return Err(invalid(format!(
            "a key of {} bytes with {size} bytes is too large",
            put.key.size()
        )));
    }
    let skew = core.skew();
    if keyspace.kind == Kind::Lww && skew.unsigned_abs() > core.config.max_offset.as_millis() as u64
    {
        return Err(WriteError::ClockSkew { offset_millis: skew });
    }
    if !located.layout.may_coordinate(own, located.partition) {
        return Err(not_ready("it does not own the key"));
    }
    let Some(actor) = core.actor.get().copied() else { return Err(not_ready("it begins")) };
    let fingerprint = xxhash_rust::xxh3::xxh3_64(&located.key);
    let context = match &put.context {
        None => None,
        Some(bytes) => Some(
            ClientContext::open(bytes, &core.config.secret)
                .and_then(|c| c.check(core.config.cluster, place.keyspace, fingerprint))
                .map_err(invalid)?,
        ),
    };

    // 2. Who has to have it, and whether so many can be reached.
    let mut layout = located.layout.clone();
    let region = core.region();
    let quorum = |layout: &crate::layout::Layout| {
        Quorum::of_write(put.level, layout, &layout.live_sets(located.partition), &region)
    };
    let mut needed = quorum(&layout).map_err(invalid)?;
    let candidates: BTreeSet<NodeId> =
        layout.live_sets(located.partition).all().filter(|n| !core.is_away(*n)).collect();
    if !needed.is_possible(&candidates) {
        return Err(WriteError::Unavailable { need: needed.need(), live: candidates.len() });
    }

    // 3. The dot. From here on the outcome is `Written` or `Unknown`.
    let nothing = Context::new();
    let (seen, stamp) = context.as_ref().map_or((&nothing, Hlc::ZERO), |c| (&c.seen, c.stamp));
    let winner = keyspace.kind.winner();
    let max_siblings = core.config.max_siblings;
    let floor = stamp.max(put.floor);
    let request = Own { actor, place, key: &located.key, winner, seen, floor, max_siblings };
    let expires = put.ttl_millis.map(|ttl| core.env.clock.wall_millis().saturating_add(ttl));
    let cell = |at| match put.value.clone() {
        Some(bytes) => Cell::Value { bytes, at, expires },
        None => Cell::Tombstone { at },
    };
    let Applied { dot, at, merge, bases, context } = core
        .store
        .write(&request, cell)
        .map_err(|error| not_ready(&error.to_string()))?
        .map_err(WriteError::TooManySiblings)?;
    let receipt = DotsReceipt {
        cluster: core.config.cluster,
        epoch: common::ids::Epoch(layout.epoch.0 as u32),
        keyspace: place.keyspace,
        token: located.token,
        partition: place.partition,
        dot,
        level: put.level,
    };

    // 4. To all owners of all live sets at once, and into the own log.
    let mut asked: BTreeSet<NodeId> = BTreeSet::new();
    let mut replies: FuturesUnordered<BoxFuture<'static, (NodeId, Result<Reply, String>)>> =
        FuturesUnordered::new();
    let send = |to: NodeId, epoch| {
        let core = core.clone();
        let (bases, merge) = (bases.clone(), merge.clone());
        let request = Request::Store { epoch, place, dot, bases, merge };
        async move {
            let reply = if to == core.config.node {
                core.store.durable().await.map(|()| Reply::Stored).map_err(|e| e.to_string())
            } else {
                core.call_in_epoch(to, request, deadline).await
            };
            (to, reply)
        }
        .boxed()
    };
    for node in layout.live_sets(located.partition).all() {
        asked.insert(node);
        replies.push(send(node, layout.epoch));
    }

    // 5. Decided after every answer.
    let mut achieved: BTreeSet<NodeId> = BTreeSet::new();
    let mut met = needed.is_met(&achieved);
    while !met {
        match core.env.timeout_at(deadline, replies.next()).await {
            Ok(Some((node, Ok(Reply::Stored)))) => drop(achieved.insert(node)),
            // The layout has changed: the same dot goes to the owners of today.
            Ok(Some((node, Ok(Reply::Stale(_))))) => {
                layout = core.layout();
                needed = quorum(&layout).map_err(|_| WriteError::Unknown {
                    receipt: Some(receipt),
                    achieved: Vec::new(),
                })?;
                replies.push(send(node, layout.epoch));
                for node in layout.live_sets(located.partition).all() {
                    if asked.insert(node) {
                        replies.push(send(node, layout.epoch));
                    }
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
        met = needed.is_met(&achieved);
    }
    // Whoever has not answered yet gets it from here on by the exchange of clocks.
    let achieved: Vec<NodeId> = achieved.into_iter().collect();
    if !met {
        return Err(WriteError::Unknown { receipt: Some(receipt), achieved });
    }
    let (cluster, keyspace) = (core.config.cluster, place.keyspace);
    let context = ClientContext { cluster, keyspace, key: fingerprint, stamp: at, seen: context };
    Ok(Written { receipt, at, context: context.seal(&core.config.secret), achieved })
}
