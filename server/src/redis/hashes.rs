//! What commands do to hashes.

use bytes::Bytes;
use common::storage::engine::EngineError;

use super::ELEMENTS;
use super::apply::Stop;
use super::command::{Condition, Refusal, Reply};
use super::elements::Owner;
use super::extended::Extended;
use super::record::{Elements, Kind, Record};
use super::state::{Slot, State};
use crate::resp::{Decimal, parse_i64};

/// A hash while a command works on it.
struct Open<'k> {
    slot: Slot<'k>,
    record: Record,
    elements: Elements,
    owner: Owner,
    /// It was there before.
    there: bool,
}

/// A key as a hash: the one that it holds, or a new one.
fn open<'k>(state: &mut State<'_, '_>, key: &'k [u8]) -> Result<Open<'k>, Stop> {
    let slot = state.slot(key)?;
    let (record, elements, there) = if let Some(record) = slot.present() {
        let elements = record.elements.filter(|_| record.kind == Kind::Hash);
        (record.clone(), elements.ok_or(Refusal::WrongType)?, true)
    } else {
        let elements = Elements { generation: state.ledger.elements, count: 0 };
        (state.record(Kind::Hash), elements, false)
    };
    let owner = Owner { state: state.ledger.generation, elements: elements.generation };
    Ok(Open { slot, record, elements, owner, there })
}

impl Open<'_> {
    fn get(&self, state: &State<'_, '_>, field: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if self.there { self.owner.get(state.draft, field) } else { Ok(None) }
    }

    /// Writes what has changed: the fields that are given, and how many there are then. A hash
    /// without fields is no key.
    fn close(self, state: &mut State<'_, '_>, count: u64) {
        if count == 0 {
            return state.remove(self.slot);
        }
        if !self.there {
            state.ledger.elements += 1;
        }
        let deadline = self.record.deadline;
        let elements = Some(Elements { count, ..self.elements });
        state.store_again(self.slot, Record { elements, ..self.record }, deadline);
    }
}

/// Sets fields; answers how many are new.
pub(super) fn set(
    state: &mut State<'_, '_>,
    key: &[u8],
    pairs: &[(Bytes, Bytes)],
    condition: Condition,
) -> Result<Reply, Stop> {
    let hash = open(state, key)?;
    if condition != Condition::Always {
        let wanted = condition == Condition::IfPresent;
        for (field, _) in pairs {
            if hash.get(state, field)?.is_some() != wanted {
                return Ok(Reply::Integer(0));
            }
        }
    }
    let mut added = 0;
    for (field, value) in pairs {
        let there = hash.get(state, field)?.is_some();
        // A field that is named twice is there the second time: rows of a new hash are its own.
        let again = !hash.there && hash.owner.get(state.draft, field)?.is_some();
        added += u64::from(!there && !again);
        state.draft.put(ELEMENTS, hash.owner.row(field), value.clone());
    }
    let count = hash.elements.count + added;
    hash.close(state, count);
    Ok(Reply::Integer(added as i64))
}

/// Removes fields; answers how many were there.
pub(super) fn delete(
    state: &mut State<'_, '_>,
    key: &[u8],
    fields: &[Bytes],
) -> Result<Reply, Stop> {
    let hash = open(state, key)?;
    let mut removed = 0;
    for field in fields {
        if hash.get(state, field)?.is_some() {
            state.draft.delete(ELEMENTS, hash.owner.row(field));
            removed += 1;
        }
    }
    if removed > 0 {
        let count = hash.elements.count.saturating_sub(removed);
        hash.close(state, count);
    }
    Ok(Reply::Integer(removed as i64))
}

/// Adds to a field's number; answers the sum.
pub(super) fn increment(
    state: &mut State<'_, '_>,
    key: &[u8],
    field: &Bytes,
    by: i64,
) -> Result<Reply, Stop> {
    let hash = open(state, key)?;
    let former = hash.get(state, field)?;
    let number = match &former {
        Some(value) => parse_i64(value).ok_or(Refusal::HashNotAnInteger)?,
        None => 0,
    };
    let sum = number.checked_add(by).ok_or(Refusal::Overflow)?;
    let text = Bytes::copy_from_slice(Decimal::new(sum).as_bytes());
    state.draft.put(ELEMENTS, hash.owner.row(field), text);
    let count = hash.elements.count + u64::from(former.is_none());
    hash.close(state, count);
    Ok(Reply::Integer(sum))
}

/// Adds to a field's number with a fraction; answers the sum's text.
pub(super) fn increment_float(
    state: &mut State<'_, '_>,
    key: &[u8],
    field: &Bytes,
    by: &[u8],
) -> Result<Reply, Stop> {
    let by = Extended::parse(by).ok_or(Refusal::NotAFloat)?;
    if by.is_infinite() {
        return Err(Refusal::NanOrInfinity.into());
    }
    let hash = open(state, key)?;
    let former = hash.get(state, field)?;
    let number = match &former {
        Some(value) => Extended::parse(value).ok_or(Refusal::HashNotAFloat)?,
        None => Extended::ZERO,
    };
    let sum = number.add(by).filter(|sum| !sum.is_infinite()).ok_or(Refusal::NotFinite)?;
    let text = Bytes::from(sum.text());
    state.draft.put(ELEMENTS, hash.owner.row(field), text.clone());
    let count = hash.elements.count + u64::from(former.is_none());
    hash.close(state, count);
    Ok(Reply::Value(Some(text)))
}
