//! What commands do to sets, and what several sets have together.

use std::collections::BTreeSet;

use bytes::Bytes;
use common::storage::engine::{EngineError, Read};

use super::apply::Stop;
use super::collection::open;
use super::command::{Combine, Refusal, Reply};
use super::cut::Cut;
use super::elements::Owner;
use super::record::Kind;
use super::rows::hash;
use super::state::State;

/// The most elements of all sets that one write looks at, so that no entry takes long to apply.
pub const MAX_COMBINED: u64 = 100_000;

/// Adds members; answers how many are new.
pub(super) fn add(state: &mut State<'_, '_>, key: &[u8], members: &[Bytes]) -> Result<Reply, Stop> {
    let mut set = open(state, key, Kind::Set)?;
    let mut added = 0;
    for member in members {
        added += i64::from(set.put(state, member, Bytes::new())?);
    }
    if added > 0 {
        set.close(state);
    }
    Ok(Reply::Integer(added))
}

/// Moves a member to another set; answers 1 if it was there.
pub(super) fn move_member(
    state: &mut State<'_, '_>,
    from: &[u8],
    to: &[u8],
    member: &Bytes,
) -> Result<Reply, Stop> {
    let mut source = open(state, from, Kind::Set)?;
    if !source.is_there() {
        return Ok(Reply::Integer(0));
    }
    open(state, to, Kind::Set)?;
    if from == to {
        let there = source.get(state, member)?.is_some();
        return Ok(Reply::Integer(i64::from(there)));
    }
    if !source.delete(state, member)? {
        return Ok(Reply::Integer(0));
    }
    source.close(state);
    // Opened again: the source's end may have changed what the ledger says.
    let mut target = open(state, to, Kind::Set)?;
    if target.put(state, member, Bytes::new())? {
        target.close(state);
    }
    Ok(Reply::Integer(1))
}

/// Removes members from a place that the seed gives; answers them.
pub(super) fn pop(
    state: &mut State<'_, '_>,
    key: &[u8],
    count: u64,
    seed: u64,
) -> Result<Reply, Stop> {
    let mut set = open(state, key, Kind::Set)?;
    if !set.is_there() {
        return Ok(Reply::Values(Vec::new()));
    }
    let members = sample(set.owner(), state.draft, set.count.min(count), seed)?;
    for member in &members {
        set.delete(state, member)?;
    }
    if !members.is_empty() {
        set.close(state);
    }
    Ok(Reply::Values(members.into_iter().map(Some).collect()))
}

/// So many members, one after the other in the order of their rows from a place that the seed gives.
pub(super) fn sample(
    owner: Owner,
    state: &dyn Read,
    count: u64,
    seed: u64,
) -> Result<Vec<Bytes>, EngineError> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut members = Vec::new();
    // From the place to the end, then from the beginning to the place.
    for (from, end) in [(seed, None), (0, Some(seed))] {
        let mut cursor = from;
        while members.len() < count {
            let (found, next) = owner.step(state, cursor, (count - members.len()).min(1_000))?;
            let before = |member: &Bytes| end.is_none_or(|end| hash(member) < end);
            members.extend(found.into_iter().map(|(member, _)| member).filter(before));
            cursor = next;
            if next == 0 || end.is_some_and(|end| next >= end) {
                break;
            }
        }
    }
    members.truncate(count);
    Ok(members)
}

/// What several sets have together.
pub(super) fn combine(
    owners: &[Option<(Owner, u64)>],
    state: &dyn Read,
    how: Combine,
    limit: u64,
) -> Result<Result<BTreeSet<Bytes>, Refusal>, EngineError> {
    if owners.iter().flatten().map(|(_, count)| count).sum::<u64>() > limit {
        return Ok(Err(Refusal::TooManyElements));
    }
    let mut members = BTreeSet::new();
    let all = |owner: &Owner, members: &mut BTreeSet<Bytes>| {
        owner.each(state, |member, _| {
            members.insert(member);
            true
        })
    };
    match how {
        Combine::Union => {
            for (owner, _) in owners.iter().flatten() {
                all(owner, &mut members)?;
            }
        }
        Combine::Intersection | Combine::Difference => {
            let Some((Some((first, _)), others)) = owners.split_first() else {
                return Ok(Ok(members));
            };
            all(first, &mut members)?;
            for other in others {
                let mut kept = BTreeSet::new();
                for member in members {
                    let there = match other {
                        Some((owner, _)) => owner.get(state, &member)?.is_some(),
                        None => false,
                    };
                    if there == (how == Combine::Intersection) {
                        kept.insert(member);
                    }
                }
                members = kept;
            }
        }
    }
    Ok(Ok(members))
}

/// Stores what several sets have together; answers how much that is.
pub(super) fn store(
    state: &mut State<'_, '_>,
    how: Combine,
    to: &[u8],
    keys: &[Bytes],
) -> Result<Reply, Stop> {
    let mut owners = Vec::with_capacity(keys.len());
    for key in keys {
        let set = open(state, key, Kind::Set)?;
        owners.push(set.is_there().then(|| (set.owner(), set.count)));
    }
    let members = combine(&owners, state.draft, how, MAX_COMBINED)??;
    let target = state.slot(to)?;
    state.remove(target);
    let mut target = open(state, to, Kind::Set)?;
    for member in &members {
        target.put(state, member, Bytes::new())?;
    }
    if !members.is_empty() {
        target.close(state);
    }
    Ok(Reply::Integer(members.len() as i64))
}

/// The set that a key holds in a cut, if it holds one.
pub(super) fn find(
    cut: &Cut<'_>,
    key: &[u8],
    kind: Kind,
) -> Result<Result<Option<(Owner, u64)>, Refusal>, EngineError> {
    let Some(record) = cut.get(key)? else { return Ok(Ok(None)) };
    let Some(elements) = record.elements.filter(|_| record.kind == kind) else {
        return Ok(Err(Refusal::WrongType));
    };
    let owner = Owner { state: cut.ledger.generation, elements: elements.generation };
    Ok(Ok(Some((owner, elements.count))))
}
