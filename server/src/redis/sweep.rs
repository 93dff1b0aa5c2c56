//! Removing what nobody can see any more: keys that are due, elements whose key is gone, and rows that
//! a flush has left.

use std::ops::Bound;

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{EngineError, KeyRange, Keyspace, PageLimit, Read};

use super::elements::first_dropped;
use super::record::Record;
use super::rows::{Ledger, first_row, key_row, parse_row};
use super::state::State;
use super::{DROPPED, ELEMENTS, EXPIRY, KEYS, MAX_SWEEP};

/// Bytes of rows over which a sweep removes no further ones.
const SWEEP_BYTES: usize = 1 << 20;

/// Whether there is something to sweep at `upto`.
pub(super) fn is_due(state: &dyn Read, upto: Hlc) -> Result<bool, EngineError> {
    let ledger = Ledger::read(state)?;
    if ledger.oldest < ledger.generation {
        return Ok(true);
    }
    let due = due_deadlines(ledger.generation, upto.millis());
    if first_dropped(state, ledger.generation)?.is_some() {
        return Ok(true);
    }
    Ok(!state.scan(EXPIRY, &due, PageLimit { items: 1, bytes: 0 })?.items.is_empty())
}

/// Removes up to `limit` rows: keys that are due, the earliest deadlines first, then rows of older
/// generations. How many there were.
pub(super) fn sweep(state: &mut State<'_, '_>, limit: u32) -> Result<usize, EngineError> {
    let limit = limit.min(MAX_SWEEP) as usize;
    let generation = state.ledger.generation;
    let mut swept = 0;
    let due = due_deadlines(generation, state.clock());
    for row in rows(state, EXPIRY, due, limit)?.0 {
        let (_, key) = parse_row(row.clone())?;
        let key_row = key_row(generation, &key);
        if let Some(bytes) = state.draft.get(KEYS, &key_row)? {
            state.drop_elements(&Record::decode(&key, bytes)?);
        }
        state.draft.delete(KEYS, key_row);
        state.draft.delete(EXPIRY, row);
        state.ledger.count = state.ledger.count.saturating_sub(1);
        state.ledger.dated = state.ledger.dated.saturating_sub(1);
        swept += 1;
    }
    while swept < limit
        && let Some(owner) = first_dropped(state.draft, generation)?
    {
        let (found, more) = rows(state, ELEMENTS, owner.from(0), limit - swept)?;
        swept += found.len();
        for row in found {
            state.draft.delete(ELEMENTS, row);
        }
        if more {
            return Ok(swept);
        }
        state.draft.delete(DROPPED, owner.dropped());
        swept += 1;
    }
    if state.ledger.oldest < generation {
        let older =
            KeyRange { start: Bound::Unbounded, end: Bound::Excluded(first_row(generation, 0)) };
        let mut left = false;
        for keyspace in [KEYS, EXPIRY, ELEMENTS, DROPPED] {
            let (found, more) = rows(state, keyspace, older.clone(), limit.saturating_sub(swept))?;
            swept += found.len();
            for row in found {
                state.draft.delete(keyspace, row);
            }
            left |= more;
        }
        if !left {
            state.ledger.oldest = generation;
        }
    }
    Ok(swept)
}

/// The deadlines of a generation up to an instant, included.
fn due_deadlines(generation: u32, upto: u64) -> KeyRange {
    let end = upto
        .checked_add(1)
        .map_or(Bound::Unbounded, |end| Bound::Excluded(first_row(generation, end)));
    KeyRange { start: Bound::Included(first_row(generation, 0)), end }
}

/// The first rows of a range, up to `limit` of them or [`SWEEP_BYTES`], and whether it may have more.
///
/// How many these are must follow from the rows alone: where a page of the state ends depends on
/// what the commands before have changed in the same batch, and members batch differently.
fn rows(
    state: &State<'_, '_>,
    keyspace: Keyspace,
    mut range: KeyRange,
    limit: usize,
) -> Result<(Vec<Bytes>, bool), EngineError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while rows.len() < limit && bytes < SWEEP_BYTES {
        let items = limit - rows.len();
        let page = state.draft.scan(keyspace, &range, PageLimit { items, bytes: SWEEP_BYTES })?;
        for (row, value) in page.items {
            if rows.len() == limit || bytes >= SWEEP_BYTES {
                return Ok((rows, true));
            }
            bytes += row.len() + value.len();
            rows.push(row);
        }
        match rows.last() {
            Some(last) if page.more => range = range.after(last.clone()),
            _ => return Ok((rows, false)),
        }
    }
    Ok((rows, true))
}
