//! What a node does with the messages of its peers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::ids::NodeId;
use common::mutate;
use common::storage::engine::PageLimit;
use common::transport::{Class, Handler};
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::layout::{Epoch, Intent, Layout, Partition, Verdict};
use crate::message::{Reply, Request};
use crate::node::Core;
use crate::store::{Place, Source, StoreError};
use crate::version::{Container, Opening, Winner};
use crate::{anti_entropy, write};

/// Serves one node.
pub(crate) struct Peer(pub(crate) Arc<Core>);

/// How many dots one `Fetch` may answer.
const DOTS: usize = 1_000;
const PAGE: PageLimit = PageLimit { items: 500, bytes: 1 << 20 };

impl Handler for Peer {
    fn handle(
        &self,
        from: NodeId,
        _class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let core = self.0.clone();
        async move {
            let request = Request::decode(&body).map_err(|e| e.to_string())?;
            Ok(answer(core, from, request).await.encode())
        }
        .boxed()
    }
}

/// Answers a request of a peer, or of this node itself.
pub(crate) async fn answer(core: Arc<Core>, from: NodeId, request: Request) -> Reply {
    let layout = core.layout();
    let removed = !layout.nodes.contains_key(&from) && from.0 < layout.next_node;
    if mutate!("removed_node_not_fenced", removed, false) {
        return Reply::Removed { at_epoch: layout.epoch };
    }
    if core.removed.load(Ordering::Relaxed) {
        return Reply::Refused("this node was removed".into());
    }
    Box::pin(serve(&core, from, request))
        .await
        .unwrap_or_else(|error| Reply::Refused(error.to_string()))
}

fn judge(core: &Core, place: Place, intent: Intent, epoch: Epoch) -> Option<Reply> {
    let layout = core.layout();
    if place.partition.0 >= layout.bits.partitions() {
        return Some(Reply::Refused("no such partition".into()));
    }
    match layout.judge(core.config.node, Partition(place.partition.0), intent, epoch) {
        Verdict::Serve => None,
        Verdict::Stale => Some(Reply::Stale(layout.encode())),
        Verdict::Ahead => Some(Reply::Ahead),
        Verdict::NotOwner if epoch < layout.epoch => Some(Reply::Stale(layout.encode())),
        Verdict::NotOwner | Verdict::NotSynced => {
            Some(Reply::Refused("not an owner that can serve".into()))
        }
    }
}

fn winner(core: &Core, place: Place) -> Winner {
    core.keyspace(place).map_or(Winner::Every, |k| k.kind.winner())
}

async fn serve(core: &Arc<Core>, from: NodeId, request: Request) -> Result<Reply, StoreError> {
    let store = &core.store;
    Ok(match request {
        Request::Hello => {
            let known = store.state().lives.get(&from).copied().unwrap_or_default();
            Reply::Greeted { known }
        }
        Request::Adopt(layout) => {
            if let Ok(layout) = Layout::decode(&layout) {
                core.adopt(layout);
            }
            Reply::Stored
        }
        Request::Store { epoch, place, dot, bases, merge } => {
            if let Some(reply) = judge(core, place, Intent::Write, epoch) {
                return Ok(reply);
            }
            if store.is_full() || core.keyspace(place).is_none() {
                return Ok(Reply::Refused("the disk is full, or there is no such keyspace".into()));
            }
            let taken =
                store.merge(place, Source::Write(dot), winner(core, place), &bases, &[merge])?;
            if let Err(refusal) = taken {
                return Ok(Reply::Refused(format!("{refusal:?}")));
            }
            store.durable().await?;
            Reply::Stored
        }
        Request::Repair { place, bases, merges, restore } => {
            let source = if restore { Source::Restore } else { Source::Repair };
            match store.merge(place, source, winner(core, place), &bases, &merges)? {
                Err(refusal) => Reply::Refused(format!("{refusal:?}")),
                Ok(doubted) => {
                    store.durable().await?;
                    Reply::Repaired { doubted }
                }
            }
        }
        Request::Get { epoch, place, key, full, after } => {
            if let Some(reply) = judge(core, place, Intent::Read, epoch) {
                return Ok(reply);
            }
            if let Some(why) = core.unfit() {
                return Ok(Reply::Refused(why));
            }
            let (bases, container) = {
                let state = store.state();
                let replica = state.places.get(&place);
                let covered = after.iter().all(|(actor, dots)| {
                    replica.is_some_and(|r| r.clock.dots(actor).includes(dots)) || dots.is_empty()
                });
                if !covered {
                    return Ok(Reply::Behind);
                }
                let bases = replica.map(|r| r.clock.bases()).unwrap_or_default();
                (bases, store.container(place, &key)?.unwrap_or_else(Container::young))
            };
            // What a reader counts must not vanish with this node's power.
            store.durable().await?;
            let digest = container.digest();
            Reply::Got { bases, claim: full.then(|| container.claim()), digest }
        }
        Request::Exchange { epoch, lives, places } => {
            let layout = core.layout();
            if epoch < layout.epoch {
                return Ok(Reply::Stale(layout.encode()));
            }
            if epoch > layout.epoch {
                return Ok(Reply::Ahead);
            }
            if let Some(life) = lives.get(&from) {
                store.learn_life(from, *life)?;
            }
            anti_entropy::compare(core, from, &places).await?
        }
        Request::Fetch { place, wanted } => {
            let clock =
                store.state().places.get(&place).map(|r| r.clock.clone()).unwrap_or_default();
            let (bases, merges) = store.lookup(place, &wanted, DOTS)?;
            Reply::Merges { bases, clock, merges, more: false }
        }
        Request::Page { place, after } => {
            if !core.is_synced() {
                return Ok(Reply::Refused("not complete itself".into()));
            }
            let clock =
                store.state().places.get(&place).map(|r| r.clock.clone()).unwrap_or_default();
            let (bases, merges, more) = store.page(place, after.as_deref(), PAGE)?;
            Reply::Merges { bases, clock, merges, more }
        }
        Request::Ask { place, dot } => {
            let (covered, void) = {
                let state = store.state();
                let clock = state.places.get(&place).map(|r| &r.clock);
                (clock.is_some_and(|c| c.covers(&dot)), clock.is_some_and(|c| c.is_void(&dot)))
            };
            store.durable().await?;
            Reply::Answered { covered: covered && !void, void }
        }
        Request::Seal { place, lives, actors } => {
            for actor in &actors {
                let opening = Opening::of(*actor);
                if let Some(life) = lives.get(&opening.node) {
                    store.learn_life(opening.node, *life)?;
                }
            }
            let dots = {
                let state = store.state();
                let clock = state.places.get(&place).map(|r| r.clock.clone()).unwrap_or_default();
                // Void dots count as seen; what was written is what a retired actor's set keeps.
                let real = |actor: &common::ids::Actor| {
                    let dots = clock.dots(actor);
                    clock
                        .retired()
                        .find(|(a, _)| *a == actor)
                        .map_or(dots.clone(), |(_, all)| dots.meet(all))
                };
                actors.iter().map(|actor| (*actor, real(actor))).collect()
            };
            store.durable().await?;
            Reply::Sealed(dots)
        }
        Request::Forward(put) => Reply::Forwarded(Box::pin(write::coordinate(core, put)).await),
    })
}
