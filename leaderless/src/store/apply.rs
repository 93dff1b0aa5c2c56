//! What changes a replica: own writes, others' claims, watermarks, collection.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::ids::{Actor, NodeId};
use common::mutate;
use common::storage::engine::{Batch, KeyRange, PageLimit};
use serde::{Deserialize, Serialize};

use super::record::{CELLS, DOT_LOG, PLACES, TOMBSTONES};
use super::{Place, State, Store, StoreError};
use crate::version::{
    Cell, Claim, Container, Context, Dot, Dots, Life, Opening, Winner, decode_container,
    encode_container,
};

/// One key's state on the wire, and which dots of it the receiver may note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Merge {
    /// The engine key without the place; empty when only dots are settled.
    pub(crate) key: Bytes,
    pub(crate) claim: Claim,
    /// Dots of this key that are superseded, named one by one.
    pub(crate) settles: Vec<Dot>,
}

/// Where a claim comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The coordinator of this write.
    Write(Dot),
    /// Another owner that repairs.
    Repair,
    /// A complete transfer of the place.
    Transfer,
    /// The union of other owners, for a key that was lost here.
    Restore,
}

/// Why a message was refused whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The write can never happen any more.
    Void,
    /// A later opening of its node has ended its actor.
    Ended,
    /// Too many gaps: repair has to close some first.
    Gaps,
}

/// A write as its coordinator makes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a> {
    pub(crate) actor: Actor,
    pub(crate) place: Place,
    pub(crate) key: &'a Bytes,
    pub(crate) winner: Winner,
    /// What the client saw.
    pub(crate) seen: &'a Context,
    /// The stamp is above this one.
    pub(crate) floor: Hlc,
    pub(crate) max_siblings: usize,
}

/// An own write, as it goes to the other owners.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) dot: Dot,
    pub(crate) at: Hlc,
    pub(crate) merge: Merge,
    pub(crate) bases: Context,
    pub(crate) context: Context,
}

impl Store {
    /// The container of a key. Damage is an error, never an absence.
    pub(crate) fn container(
        &self,
        place: Place,
        key: &[u8],
    ) -> Result<Option<Container>, StoreError> {
        let Some(bytes) = self.engine.get(CELLS, &place.cell(key))? else { return Ok(None) };
        decode_container(&bytes).map(Some).map_err(StoreError::Damaged)
    }

    fn put(
        batch: &mut Batch,
        state: &mut State,
        place: Place,
        key: &Bytes,
        mut container: Container,
        noted: &[Dot],
    ) {
        let replica = state.places.entry(place).or_default();
        container.strip(&replica.clock);
        if container.cells.is_empty() && container.context.is_empty() {
            batch.delete(CELLS, place.cell(key));
        } else {
            batch.put(CELLS, place.cell(key), encode_container(&container));
        }
        for dot in noted {
            replica.log.insert(*dot, (!key.is_empty()).then(|| key.clone()));
            batch.put(DOT_LOG, place.dot(dot), key.clone());
        }
        for (dot, _) in container.cells.iter().filter(|(_, cell)| cell.is_tombstone()) {
            if replica.tombstones.insert(*dot, key.clone()).is_none() {
                batch.put(TOMBSTONES, place.dot(dot), key.clone());
            }
        }
    }

    fn put_place(batch: &mut Batch, state: &State, place: Place) {
        if let Some(replica) = state.places.get(&place) {
            let body = codec::encode_body(&(&replica.clock, &replica.watermarks));
            batch.put(PLACES, place.prefix().to_vec(), body);
        }
    }

    /// Writes as coordinator: one cell in place of what the context covers. `make` gets the stamp.
    /// `Ok(Err(n))`: the key would have `n` siblings, over the limit; nothing was written.
    pub(crate) fn write(
        &self,
        own: &Own<'_>,
        make: impl FnOnce(Hlc) -> Cell,
    ) -> Result<Result<Applied, usize>, StoreError> {
        let Own { actor, place, key, winner, seen, floor, max_siblings } = *own;
        let mut guard = self.state();
        let state = &mut *guard;
        let mut container = self.container(place, key)?.unwrap_or_else(Container::young);
        let ignored = Context::new();
        let seen = mutate!("context_ignored", Some(seen), None).unwrap_or(&ignored);
        let floor = floor.max(container.stamp());
        let mut settles = container.discard(seen);
        if winner == Winner::Every && container.cells.len() >= max_siblings {
            return Ok(Err(container.cells.len() + 1));
        }
        let at = state.hlc.merge(floor, self.env.clock.wall_millis());
        let replica = state.places.entry(place).or_default();
        let dot = replica.clock.next(actor);
        container.add(dot, make(at));
        settles.extend(container.keep(winner));
        let mut context = container.context.clone();
        container.cells.iter().for_each(|(dot, _)| context.raise(*dot));
        let bases = replica.clock.bases();
        let claim = container.claim();
        let mut batch = Batch::new();
        Self::put(&mut batch, state, place, key, container, &[dot]);
        Self::put_place(&mut batch, state, place);
        self.commit(state, batch)?;
        let merge = Merge { key: key.clone(), claim, settles };
        Ok(Ok(Applied { dot, at, merge, bases, context }))
    }

    /// Merges what another node says of keys.
    pub(crate) fn merge(
        &self,
        place: Place,
        source: Source,
        winner: Winner,
        bases: &Context,
        merges: &[Merge],
    ) -> Result<Result<Vec<Dot>, Refusal>, StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        if let Source::Write(dot) = source {
            let clock = &state.places.entry(place).or_default().clock;
            let opening = Opening::of(dot.actor);
            if clock.is_void(&dot) {
                return Ok(Err(Refusal::Void));
            }
            if state.lives.get(&opening.node).is_some_and(|life| *life > opening.life) {
                return Ok(Err(Refusal::Ended));
            }
            if !clock.has_room(&dot) {
                return Ok(Err(Refusal::Gaps));
            }
        }
        let mut batch = Batch::new();
        let mut doubted = Vec::new();
        for merge in merges {
            let known = self.container(place, &merge.key)?;
            let absent = known.is_none();
            let mut container = known.unwrap_or_else(Container::young);
            let claim = merge.claim.clone().filled(bases);
            let replica = state.places.entry(place).or_default();
            let before = container.clone();
            if mutate!("repair_overwrites_siblings", false, source == Source::Repair) {
                container.cells.clone_from(&claim.cells);
            }
            let absorbed = match source {
                Source::Restore => container.restore(&claim, &replica.clock, winner),
                _ => container.absorb(&claim, &replica.clock, winner),
            };
            if source == Source::Transfer && claim.established {
                container.young = false;
            }
            doubted.extend(absorbed.doubted.iter().copied());
            let dealt = absorbed.dealt.iter().chain(&merge.settles);
            let noted: Vec<Dot> = dealt.filter(|dot| !replica.clock.covers(dot)).copied().collect();
            for dot in &noted {
                replica.clock.mark(*dot);
            }
            let stamp = container.stamp();
            state.hlc = common::clock::HybridClock::after(state.hlc.last().max(stamp));
            if absent && container.cells.is_empty() {
                container.context = Context::new();
            }
            if container != before || !noted.is_empty() {
                Self::put(&mut batch, state, place, &merge.key, container, &noted);
            }
        }
        if !batch.is_empty() {
            Self::put_place(&mut batch, state, place);
            self.commit(state, batch)?;
        }
        Ok(Ok(doubted))
    }

    /// The states of the keys that the wanted dots wrote, as far as this replica still knows.
    pub(crate) fn lookup(
        &self,
        place: Place,
        wanted: &BTreeMap<Actor, Dots>,
        limit: usize,
    ) -> Result<(Context, Vec<Merge>), StoreError> {
        let state = self.state();
        let Some(replica) = state.places.get(&place) else { return Ok(Default::default()) };
        let mut keys: BTreeMap<Bytes, Vec<Dot>> = BTreeMap::new();
        let dots = wanted.iter().flat_map(|(actor, dots)| dots.iter().map(|n| Dot::new(*actor, n)));
        for dot in dots.take(limit) {
            if let Some(key) = replica.log.get(&dot) {
                keys.entry(key.clone().unwrap_or_default()).or_default().push(dot);
            }
        }
        let mut merges = Vec::new();
        for (key, settles) in keys {
            let claim = match self.container(place, &key)? {
                Some(container) => container.claim(),
                None if key.is_empty() => Claim::default(),
                // The key is not there though the log says so: damage here is no answer.
                None => continue,
            };
            merges.push(Merge { key, claim, settles });
        }
        Ok((replica.clock.bases(), merges))
    }

    /// A page of all keys of a place, for a replica that has lost its storage.
    pub(crate) fn page(
        &self,
        place: Place,
        after: Option<&[u8]>,
        limit: PageLimit,
    ) -> Result<(Context, Vec<Merge>, bool), StoreError> {
        let state = self.state();
        let bases = state.places.get(&place).map(|r| r.clock.bases()).unwrap_or_default();
        let all = KeyRange::prefix(place.prefix().to_vec());
        let range = after.map_or(all.clone(), |key| all.after(place.cell(key)));
        let page = self.engine.scan(CELLS, &range, limit)?;
        let mut merges = Vec::new();
        for (key, bytes) in page.items {
            let container = decode_container(&bytes).map_err(StoreError::Damaged)?;
            merges.push(Merge {
                key: key.slice(8..),
                claim: container.claim(),
                settles: Vec::new(),
            });
        }
        Ok((bases, merges, page.more))
    }

    /// After a complete transfer: what all pages were complete for is dealt with.
    pub(crate) fn adopt(
        &self,
        place: Place,
        clock: &crate::version::PartitionClock,
    ) -> Result<(), StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.places.entry(place).or_default().clock.join(clock);
        let mut batch = Batch::new();
        Self::put_place(&mut batch, state, place);
        self.commit(state, batch)
    }

    /// Notes that nodes have begun new lives: messages of actors before them are refused from now on.
    pub(crate) fn learn_life(&self, node: NodeId, life: Life) -> Result<(), StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.lives.get(&node).is_some_and(|known| *known >= life) {
            return Ok(());
        }
        state.lives.insert(node, life);
        self.put_lives(state)
    }

    /// Closes an actor's set of dots.
    pub(crate) fn retire(&self, place: Place, actor: Actor, all: &Dots) -> Result<(), StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        state.places.entry(place).or_default().clock.retire(actor, all);
        let mut batch = Batch::new();
        Self::put_place(&mut batch, state, place);
        self.commit(state, batch)
    }

    /// Takes an owner's synced bases, forgets what every owner has, and collects deletes that every
    /// owner knows. How many were collected.
    pub(crate) fn watermark(
        &self,
        place: Place,
        node: NodeId,
        bases: Context,
        owners: &[NodeId],
        winner: Winner,
    ) -> Result<usize, StoreError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let replica = state.places.entry(place).or_default();
        if replica.watermarks.get(&node) == Some(&bases)
            && replica.log.is_empty()
            && replica.tombstones.is_empty()
        {
            return Ok(0);
        }
        let news = replica.watermarks.insert(node, bases.clone()) != Some(bases);
        let mut batch = Batch::new();
        // C2, and for the last writer C4: a second round over all that was known in the first.
        let mut ripe = Vec::new();
        for (dot, key) in &replica.tombstones {
            let stable = mutate!("tombstone_dropped_early", replica.is_stable(dot, owners), true);
            if !stable {
                continue;
            }
            if winner == Winner::Last {
                let first = replica.second.entry(*dot).or_insert_with(|| {
                    let mut all = Context::new();
                    replica.watermarks.values().for_each(|bases| all.join(bases));
                    all
                });
                let over =
                    |n: &NodeId| replica.watermarks.get(n).is_some_and(|b| b.includes(first));
                if !owners.iter().all(over) {
                    continue;
                }
            }
            ripe.push((*dot, key.clone()));
        }
        let gone: Vec<Dot> =
            replica.log.keys().filter(|d| replica.is_stable(d, owners)).copied().collect();
        let mut keys = BTreeSet::new();
        for dot in &gone {
            keys.extend(replica.log.remove(dot).flatten());
            batch.delete(DOT_LOG, place.dot(dot));
        }
        let mut changed: BTreeMap<Bytes, Container> = BTreeMap::new();
        for key in keys {
            let replica = state.places.entry(place).or_default();
            if let Some(mut container) = self.container(place, &key)?.filter(|c| c.young)
                && container.cells.iter().all(|(dot, _)| replica.is_stable(dot, owners))
            {
                container.young = false;
                changed.insert(key, container);
            }
        }
        let mut collected = 0;
        for (dot, key) in ripe {
            let found = match changed.remove(&key) {
                Some(container) => Some(container),
                None => self.container(place, &key)?,
            };
            let replica = state.places.entry(place).or_default();
            let keep = found.as_ref().is_some_and(|c| {
                let mut stripped = c.clone();
                stripped.strip(&replica.clock);
                // C1: a context that is left protects a gap.
                c.young || !stripped.context.is_empty() || dot.n > replica.clock.base(&dot.actor)
            });
            if keep && mutate!("tombstone_dropped_early", true, false) {
                changed.extend(found.map(|c| (key, c)));
                continue;
            }
            replica.tombstones.remove(&dot);
            replica.second.remove(&dot);
            batch.delete(TOMBSTONES, place.dot(&dot));
            if let Some(mut container) = found {
                container.cells.retain(|(d, _)| *d != dot);
                if container.cells.is_empty() {
                    // C3: what the log still has of the key is settled.
                    for (dot, at) in &mut replica.log {
                        if at.as_ref() == Some(&key) {
                            *at = None;
                            batch.put(DOT_LOG, place.dot(dot), Bytes::new());
                        }
                    }
                }
                changed.insert(key, container);
            }
            collected += 1;
            common::sometimes!("tombstone-collected");
        }
        for (key, container) in changed {
            Self::put(&mut batch, state, place, &key, container, &[]);
        }
        if news || !batch.is_empty() {
            Self::put_place(&mut batch, state, place);
            self.commit(state, batch)?;
        }
        Ok(collected)
    }
}

impl Store {
    /// A fingerprint of all cells, contexts left out.
    pub(crate) fn fingerprint(&self) -> Result<u64, StoreError> {
        let mut hash = 0_u64;
        let mut range = KeyRange::all();
        loop {
            let page =
                self.engine.scan(CELLS, &range, PageLimit { items: 1_000, bytes: 1 << 20 })?;
            for (key, bytes) in page.items {
                let container = decode_container(&bytes).map_err(StoreError::Damaged)?;
                if !container.cells.is_empty() {
                    let body = codec::encode_body(&(&key, &container.cells));
                    hash ^= xxhash_rust::xxh3::xxh3_64(&body);
                }
                range = range.after(key);
            }
            if !page.more {
                return Ok(hash);
            }
        }
    }
}
