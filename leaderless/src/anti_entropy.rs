//! Owners become equal: clocks are compared each second, what is missing is fetched, ended actors
//! are retired, and what every owner has is forgotten.
//!
//! Progress *is* the clock, so nothing has to be resumed. In rest a round costs one small message
//! per pair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use common::env::Mono;
use common::ids::NodeId;
use common::transport::Class;
use futures::future::join_all;

use crate::layout::Partition;
use crate::message::{Reply, Request};
use crate::node::Core;
use crate::store::{Place, Source, StoreError};
use crate::version::{Context, Dots, Life, PartitionClock, Winner};

fn owners(core: &Core, place: Place) -> Vec<NodeId> {
    let layout = core.layout();
    if place.partition.0 >= layout.bits.partitions() {
        return Vec::new();
    }
    layout.live_sets(Partition(place.partition.0)).all().collect()
}

fn winner(core: &Core, place: Place) -> Winner {
    core.keyspace(place).map_or(Winner::Every, |k| k.kind.winner())
}

/// The synced clocks of the places that this node shares with `with`.
async fn synced_clocks(
    core: &Core,
    with: NodeId,
) -> Result<BTreeMap<Place, PartitionClock>, StoreError> {
    let own = core.config.node;
    let clocks = {
        let state = core.store.state();
        let shared = |place: &Place| {
            let owners = owners(core, *place);
            owners.contains(&own) && owners.contains(&with)
        };
        let places = state.places.iter().filter(|(place, _)| shared(place));
        places.map(|(place, replica)| (*place, replica.clock.clone())).collect()
    };
    core.store.durable().await?;
    Ok(clocks)
}

/// Answers a comparison.
pub(crate) async fn compare(
    core: &Arc<Core>,
    from: NodeId,
    places: &[(Place, u64)],
) -> Result<Reply, StoreError> {
    let clocks = synced_clocks(core, from).await?;
    let asked: BTreeMap<Place, u64> = places.iter().copied().collect();
    let (mut equal, mut differ) = (Vec::new(), Vec::new());
    for (place, clock) in clocks {
        if asked.get(&place) == Some(&clock.fingerprint()) {
            equal.push(place);
        } else {
            differ.push((place, clock));
        }
    }
    let mut lives = BTreeMap::new();
    if core.actor.get().is_some() {
        let life = core.store.state().lives.get(&core.config.node).copied();
        lives.extend(life.map(|life| (core.config.node, life)));
    }
    let wall = core.env.clock.wall_millis();
    Ok(Reply::Exchanged { lives, equal, differ, wall })
}

/// Compares with every peer again and again.
pub(crate) async fn run(core: Arc<Core>) {
    let rng = core.env.rng.stream("anti-entropy");
    let every = core.config.exchange_every;
    core.env.sleep(every * (rng.below(1_000) as u32) / 4_000).await;
    loop {
        let peers: Vec<NodeId> =
            core.layout().nodes.keys().copied().filter(|n| *n != core.config.node).collect();
        if let Err(error) = round(&core, &peers).await {
            tracing::warn!(%error, "a round of anti-entropy ended early");
        }
        let jitter = every * (rng.below(1_000) as u32) / 10_000;
        core.env.sleep(every + jitter).await;
    }
}

async fn round(core: &Arc<Core>, peers: &[NodeId]) -> Result<(), StoreError> {
    let deadline = core.env.now() + core.config.exchange_every * 2;
    if core.actor.get().is_none() {
        begin(core, peers, deadline).await?;
    }
    let all = join_all(peers.iter().map(|peer| Box::pin(exchange(core, *peer, deadline)))).await;
    all.into_iter().collect::<Result<Vec<()>, _>>()?;
    let places: Vec<(Place, Context)> = {
        let state = core.store.state();
        state.places.iter().map(|(place, r)| (*place, r.clock.bases())).collect()
    };
    core.store.durable().await?;
    for (place, bases) in places {
        let owners = owners(core, place);
        if owners.contains(&core.config.node) {
            core.store.watermark(place, core.config.node, bases, &owners, winner(core, place))?;
            retire(core, place, &owners, deadline).await?;
        }
    }
    Ok(())
}

async fn exchange(core: &Arc<Core>, peer: NodeId, deadline: Mono) -> Result<(), StoreError> {
    let began = core.env.now();
    let clocks = synced_clocks(core, peer).await?;
    let lives = {
        let state = core.store.state();
        let own =
            state.lives.get(&core.config.node).copied().filter(|_| core.actor.get().is_some());
        own.map(|life| (core.config.node, life)).into_iter().collect()
    };
    let places = clocks.iter().map(|(place, clock)| (*place, clock.fingerprint())).collect();
    let request = Request::Exchange { epoch: core.layout().epoch, lives, places };
    let reply = core.call(peer, Class::Control, &request, deadline).await;
    let (lives, equal, differ) = match reply {
        Ok(Reply::Exchanged { lives, equal, differ, wall }) => {
            let half = core.env.now().since(began).as_millis() as i64 / 2;
            let offset = wall
                .cast_signed()
                .saturating_add(half)
                .saturating_sub(core.env.clock.wall_millis().cast_signed());
            core.offsets.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, offset);
            (lives, equal, differ)
        }
        Ok(Reply::Ahead) => {
            let layout = Request::Adopt(core.layout().encode());
            let _ = core.call(peer, Class::Control, &layout, deadline).await;
            return Ok(());
        }
        _ => return Ok(()),
    };
    if let Some(life) = lives.get(&peer) {
        core.store.learn_life(peer, *life)?;
    }
    let mut complete = true;
    for place in equal {
        if let Some(clock) = clocks.get(&place) {
            let owners = owners(core, place);
            core.store.watermark(place, peer, clock.bases(), &owners, winner(core, place))?;
        }
    }
    for (place, theirs) in differ {
        if core.keyspace(place).is_none() || !owners(core, place).contains(&core.config.node) {
            continue;
        }
        let own =
            core.store.state().places.get(&place).map(|r| r.clock.clone()).unwrap_or_default();
        let mut news = own.clone();
        if news.adopt_retired(&theirs) {
            for (actor, all) in theirs.retired() {
                core.store.retire(place, *actor, all)?;
            }
        }
        complete &= fetch(core, peer, place, &theirs, deadline).await?;
        let owners = owners(core, place);
        core.store.watermark(place, peer, theirs.bases(), &owners, winner(core, place))?;
    }
    if complete {
        core.proven.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, began);
    }
    Ok(())
}

/// Fetches what a peer's clock has and the own one has not; whether nothing is missing any more.
async fn fetch(
    core: &Arc<Core>,
    peer: NodeId,
    place: Place,
    theirs: &PartitionClock,
    deadline: Mono,
) -> Result<bool, StoreError> {
    loop {
        let wanted = {
            let state = core.store.state();
            state.places.get(&place).map(|r| r.clock.clone()).unwrap_or_default().missing(theirs)
        };
        if wanted.is_empty() {
            return Ok(true);
        }
        let count = |wanted: &BTreeMap<_, Dots>| wanted.values().map(Dots::len).sum::<u64>();
        let before = count(&wanted);
        let reply = core.call(peer, Class::Bulk, &Request::Fetch { place, wanted }, deadline).await;
        let Ok(Reply::Merges { bases, merges, .. }) = reply else { return Ok(false) };
        if core.store.merge(place, Source::Repair, winner(core, place), &bases, &merges)?.is_err() {
            return Ok(false);
        }
        let own =
            core.store.state().places.get(&place).map(|r| r.clock.clone()).unwrap_or_default();
        if count(&own.missing(theirs)) >= before {
            return Ok(false);
        }
        common::sometimes!("anti-entropy-repaired");
    }
}

/// An empty folder: new when every peer says that it never heard of this node, else a lost storage,
/// which copies all it owns from **every** other owner before it serves.
async fn begin(core: &Arc<Core>, peers: &[NodeId], deadline: Mono) -> Result<(), StoreError> {
    let mut known = Life(0);
    for peer in peers {
        match core.call(*peer, Class::Control, &Request::Hello, deadline).await {
            Ok(Reply::Greeted { known: life }) => known = known.max(life),
            _ => return Ok(()),
        }
    }
    if known > Life(0) {
        common::sometimes!("lost-storage-copied");
        // An empty clock is what the peers have to know of this replica first: nothing more is
        // collected then by what the lost one had acknowledged.
        for peer in peers {
            exchange(core, *peer, core.env.now() + core.config.exchange_every * 2).await?;
        }
        for peer in peers {
            if !copy(core, *peer).await? {
                return Ok(());
            }
        }
    }
    {
        let mut state = core.store.state();
        let life = state.lives.entry(core.config.node).or_default();
        *life = Life(life.0.max(known.0 + 1));
        state.synced = true;
        core.store.put_lives(&mut state)?;
    }
    core.store.durable().await?;
    core.begin_life();
    Ok(())
}

/// Copies every place that a peer shares with this node.
async fn copy(core: &Arc<Core>, peer: NodeId) -> Result<bool, StoreError> {
    let patience = || core.env.now() + core.config.exchange_every * 5;
    let request = Request::Exchange {
        epoch: core.layout().epoch,
        lives: BTreeMap::new(),
        places: Vec::new(),
    };
    let Ok(Reply::Exchanged { differ, .. }) =
        core.call(peer, Class::Control, &request, patience()).await
    else {
        return Ok(false);
    };
    for (place, _) in differ {
        if core.keyspace(place).is_none() {
            continue;
        }
        let mut after = None;
        let mut held: Option<PartitionClock> = None;
        loop {
            let request = Request::Page { place, after };
            let reply = core.call(peer, Class::Bulk, &request, patience()).await;
            let Ok(Reply::Merges { bases, clock, merges, more }) = reply else { return Ok(false) };
            after = merges.last().map(|merge| merge.key.clone());
            if core
                .store
                .merge(place, Source::Transfer, winner(core, place), &bases, &merges)?
                .is_err()
            {
                return Ok(false);
            }
            // Only what every page was complete for is dealt with.
            held = Some(held.map_or(clock.clone(), |held| held.meet(&clock)));
            if !more {
                break;
            }
        }
        if let Some(clock) = held {
            core.store.adopt(place, &clock)?;
        }
    }
    Ok(true)
}

/// Retires actors that a later opening of their node has ended: every owner refuses their writes
/// first, then the union of what the owners have is all there ever was.
async fn retire(
    core: &Arc<Core>,
    place: Place,
    owners: &[NodeId],
    deadline: Mono,
) -> Result<(), StoreError> {
    let (lives, actors, clock) = {
        let state = core.store.state();
        let Some(replica) = state.places.get(&place) else { return Ok(()) };
        (state.lives.clone(), replica.clock.ended(&state.lives), replica.clock.clone())
    };
    // Retired already, and something is missing that nobody may have any more: ask again.
    let open = clock.retired().filter(|(actor, all)| !clock.dots(actor).includes(all));
    let actors: BTreeSet<_> = actors.into_iter().chain(open.map(|(actor, _)| *actor)).collect();
    if actors.is_empty() {
        return Ok(());
    }
    let actors: Vec<_> = actors.into_iter().collect();
    let request = Request::Seal { place, lives, actors };
    let replies =
        join_all(owners.iter().map(|node| Box::pin(core.ask(*node, &request, deadline)))).await;
    let mut all: BTreeMap<common::ids::Actor, Dots> = BTreeMap::new();
    for reply in replies {
        let Ok(Reply::Sealed(dots)) = reply else { return Ok(()) };
        for (actor, dots) in dots {
            all.entry(actor).or_default().join(&dots);
        }
    }
    common::sometimes!("actor-retired");
    for (actor, dots) in all {
        core.store.retire(place, actor, &dots)?;
    }
    Ok(())
}
