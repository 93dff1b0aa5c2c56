//! What commands do to hashes.

use bytes::Bytes;

use super::apply::Stop;
use super::collection::open;
use super::command::{Condition, Refusal, Reply};
use super::extended::Extended;
use super::record::Kind;
use super::state::State;
use crate::resp::{Decimal, parse_i64};

/// Sets fields; answers how many are new.
pub(super) fn set(
    state: &mut State<'_, '_>,
    key: &[u8],
    pairs: &[(Bytes, Bytes)],
    condition: Condition,
) -> Result<Reply, Stop> {
    let mut hash = open(state, key, Kind::Hash)?;
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
        added += i64::from(hash.put(state, field, value.clone())?);
    }
    hash.close(state);
    Ok(Reply::Integer(added))
}

/// Removes elements of a hash or a set; answers how many were there.
pub(super) fn delete(
    state: &mut State<'_, '_>,
    key: &[u8],
    kind: Kind,
    elements: &[Bytes],
) -> Result<Reply, Stop> {
    let mut collection = open(state, key, kind)?;
    let mut removed = 0;
    for element in elements {
        removed += i64::from(collection.delete(state, element)?);
    }
    if removed > 0 {
        collection.close(state);
    }
    Ok(Reply::Integer(removed))
}

/// Adds to a field's number; answers the sum.
pub(super) fn increment(
    state: &mut State<'_, '_>,
    key: &[u8],
    field: &Bytes,
    by: i64,
) -> Result<Reply, Stop> {
    let mut hash = open(state, key, Kind::Hash)?;
    let number = match hash.get(state, field)? {
        Some(value) => parse_i64(&value).ok_or(Refusal::HashNotAnInteger)?,
        None => 0,
    };
    let sum = number.checked_add(by).ok_or(Refusal::Overflow)?;
    hash.put(state, field, Bytes::copy_from_slice(Decimal::new(sum).as_bytes()))?;
    hash.close(state);
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
    let mut hash = open(state, key, Kind::Hash)?;
    let number = match hash.get(state, field)? {
        Some(value) => Extended::parse(&value).ok_or(Refusal::HashNotAFloat)?,
        None => Extended::ZERO,
    };
    let sum = number.add(by).filter(|sum| !sum.is_infinite()).ok_or(Refusal::NotFinite)?;
    let text = Bytes::from(sum.text());
    hash.put(state, field, text.clone())?;
    hash.close(state);
    Ok(Reply::Value(Some(text)))
}
