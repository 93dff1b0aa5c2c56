//! What commands do to lists.
//!
//! Elements stand at positions without gaps, in rows of their own; the record's value says where the
//! list begins and ends. Both ends grow for ever in their direction. What changes the middle moves
//! all behind it, and is refused where that is too much for one step.
//!
//! ```text
//! record's value:  first position: i64 | position behind the last: i64, little-endian
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::storage::engine::{EngineError, Read};

use super::ELEMENTS;
use super::apply::Stop;
use super::collection::{Collection, open};
use super::command::{End, Refusal, Reply};
use super::elements::Owner;
use super::record::Kind;
use super::sets::MAX_COMBINED;
use super::state::State;
use crate::resp::parse_i64;

/// Where a list begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    first: i64,
    end: i64,
}

impl Bounds {
    /// What a record's value says; an empty one is an empty list's.
    pub(super) fn decode(value: &Bytes) -> Result<Self, EngineError> {
        if value.is_empty() {
            return Ok(Self::default());
        }
        let mut bytes = value.clone();
        let (Ok(first), Ok(end), true) =
            (bytes.try_get_i64_le(), bytes.try_get_i64_le(), bytes.is_empty())
        else {
            return Err(EngineError::Corrupt(format!("the bounds of a list: {value:02x?}")));
        };
        Ok(Self { first, end })
    }

    fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_i64_le(self.first);
        out.put_i64_le(self.end);
        out.freeze()
    }

    pub(super) const fn length(self) -> i64 {
        self.end - self.first
    }

    /// The position of an element by its index, negative ones counted from the end.
    fn place(self, index: i64) -> Option<i64> {
        let index = if index < 0 { index.checked_add(self.length())? } else { index };
        (0..self.length()).contains(&index).then(|| self.first + index)
    }

    /// The positions from `start` to `stop`, both included, negative ones counted from the end.
    fn range(self, start: i64, stop: i64) -> std::ops::Range<i64> {
        let from_end = |at: i64| if at < 0 { at.saturating_add(self.length()) } else { at };
        let start = from_end(start).max(0);
        let stop = from_end(stop).min(self.length() - 1);
        if start > stop {
            self.first..self.first
        } else {
            self.first + start..self.first + stop + 1
        }
    }
}

/// A list while a command works on it.
struct List<'k> {
    collection: Collection<'k>,
    bounds: Bounds,
}

fn list<'k>(state: &mut State<'_, '_>, key: &'k [u8]) -> Result<List<'k>, Stop> {
    let collection = open(state, key, Kind::List)?;
    let bounds = Bounds::decode(collection.value())?;
    Ok(List { collection, bounds })
}

impl List<'_> {
    fn put(&self, state: &mut State<'_, '_>, at: i64, value: Bytes) {
        state.draft.put(ELEMENTS, self.collection.owner().place(at), value);
    }

    fn get(&self, state: &State<'_, '_>, at: i64) -> Result<Bytes, EngineError> {
        element(self.collection.owner(), state.draft, at)
    }

    fn push(&mut self, state: &mut State<'_, '_>, end: End, value: Bytes) {
        let at = match end {
            End::Front => {
                self.bounds.first -= 1;
                self.bounds.first
            }
            End::Back => {
                self.bounds.end += 1;
                self.bounds.end - 1
            }
        };
        self.put(state, at, value);
    }

    fn pop(&mut self, state: &mut State<'_, '_>, end: End) -> Result<Option<Bytes>, EngineError> {
        if self.bounds.length() == 0 {
            return Ok(None);
        }
        let at = match end {
            End::Front => self.bounds.first,
            End::Back => self.bounds.end - 1,
        };
        let value = self.get(state, at)?;
        self.forget(state, at);
        match end {
            End::Front => self.bounds.first += 1,
            End::Back => self.bounds.end -= 1,
        }
        Ok(Some(value))
    }

    fn forget(&self, state: &mut State<'_, '_>, at: i64) {
        state.draft.delete(ELEMENTS, self.collection.owner().place(at));
    }

    /// All values, if they are few enough to be moved in one step.
    fn all(&self, state: &State<'_, '_>) -> Result<Vec<Bytes>, Stop> {
        if self.bounds.length() as u64 > MAX_COMBINED {
            return Err(Refusal::TooManyElements.into());
        }
        let mut values = Vec::new();
        for at in self.bounds.first..self.bounds.end {
            values.push(self.get(state, at)?);
        }
        Ok(values)
    }

    /// Other values take the place of all, from the same beginning on.
    fn replace(&mut self, state: &mut State<'_, '_>, values: Vec<Bytes>) {
        let end = self.bounds.first + values.len() as i64;
        for at in end..self.bounds.end {
            self.forget(state, at);
        }
        self.bounds.end = end;
        for (at, value) in (self.bounds.first..).zip(values) {
            self.put(state, at, value);
        }
    }

    fn close(mut self, state: &mut State<'_, '_>) {
        self.collection.count = self.bounds.length() as u64;
        self.collection.set_value(self.bounds.encode());
        self.collection.close(state);
    }
}

/// The element at a position, which must be there.
fn element(owner: Owner, state: &dyn Read, at: i64) -> Result<Bytes, EngineError> {
    let found = state.get(ELEMENTS, &owner.place(at))?;
    found.ok_or_else(|| EngineError::Corrupt(format!("the element {at} of a list is missing")))
}

/// Adds values at an end; answers the length.
pub(super) fn push(
    state: &mut State<'_, '_>,
    key: &[u8],
    end: End,
    values: &[Bytes],
    only_existing: bool,
) -> Result<Reply, Stop> {
    let mut list = list(state, key)?;
    if only_existing && !list.collection.is_there() {
        return Ok(Reply::Integer(0));
    }
    for value in values {
        list.push(state, end, value.clone());
    }
    let length = list.bounds.length();
    list.close(state);
    Ok(Reply::Integer(length))
}

/// Removes values from an end; answers them, or [`Reply::NotDone`] where there is no list.
pub(super) fn pop(
    state: &mut State<'_, '_>,
    key: &[u8],
    end: End,
    count: u64,
) -> Result<Reply, Stop> {
    let mut list = list(state, key)?;
    if !list.collection.is_there() {
        return Ok(Reply::NotDone);
    }
    let count = count.min(list.bounds.length() as u64);
    if count > MAX_COMBINED {
        return Err(Refusal::TooManyElements.into());
    }
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(list.pop(state, end)?);
    }
    if count > 0 {
        list.close(state);
    }
    Ok(Reply::Values(values))
}

/// Replaces an element.
pub(super) fn set(
    state: &mut State<'_, '_>,
    key: &[u8],
    index: &[u8],
    value: &Bytes,
) -> Result<Reply, Stop> {
    let list = list(state, key)?;
    if !list.collection.is_there() {
        return Err(Refusal::NoSuchKey.into());
    }
    let index = parse_i64(index).ok_or(Refusal::NotAnInteger)?;
    let at = list.bounds.place(index).ok_or(Refusal::IndexOutOfRange)?;
    list.put(state, at, value.clone());
    list.close(state);
    Ok(Reply::Done)
}

/// Keeps only a range.
pub(super) fn trim(
    state: &mut State<'_, '_>,
    key: &[u8],
    start: i64,
    stop: i64,
) -> Result<Reply, Stop> {
    let mut list = list(state, key)?;
    if !list.collection.is_there() {
        return Ok(Reply::Done);
    }
    let kept = list.bounds.range(start, stop);
    let gone = list.bounds.length() - (kept.end - kept.start);
    if kept.is_empty() {
        // All rows go at once, as those of a key that is deleted.
        let slot = state.slot(key)?;
        state.remove(slot);
        return Ok(Reply::Done);
    }
    if gone as u64 > MAX_COMBINED {
        return Err(Refusal::TooManyElements.into());
    }
    for at in (list.bounds.first..kept.start).chain(kept.end..list.bounds.end) {
        list.forget(state, at);
    }
    list.bounds = Bounds { first: kept.start, end: kept.end };
    list.close(state);
    Ok(Reply::Done)
}

/// Removes elements equal to a value: so many from the front, from the back if negative, or all;
/// answers how many.
pub(super) fn remove(
    state: &mut State<'_, '_>,
    key: &[u8],
    count: i64,
    value: &Bytes,
) -> Result<Reply, Stop> {
    let mut list = list(state, key)?;
    if !list.collection.is_there() {
        return Ok(Reply::Integer(0));
    }
    let mut values = list.all(state)?;
    let before = values.len();
    let mut left = if count == 0 { u64::MAX } else { count.unsigned_abs() };
    let mut keep = |element: &Bytes| {
        let goes = left > 0 && element == value;
        left -= u64::from(goes);
        !goes
    };
    if count < 0 {
        values.reverse();
        values.retain(&mut keep);
        values.reverse();
    } else {
        values.retain(&mut keep);
    }
    let removed = before - values.len();
    if removed > 0 {
        list.replace(state, values);
        list.close(state);
    }
    Ok(Reply::Integer(removed as i64))
}

/// Adds a value beside the first one that is equal to `pivot`; answers the length, or -1 if there is
/// none.
pub(super) fn insert(
    state: &mut State<'_, '_>,
    key: &[u8],
    side: End,
    pivot: &Bytes,
    value: &Bytes,
) -> Result<Reply, Stop> {
    let mut list = list(state, key)?;
    if !list.collection.is_there() {
        return Ok(Reply::Integer(0));
    }
    let mut values = list.all(state)?;
    let Some(found) = values.iter().position(|element| element == pivot) else {
        return Ok(Reply::Integer(-1));
    };
    values.insert(found + usize::from(side == End::Back), value.clone());
    list.replace(state, values);
    let length = list.bounds.length();
    list.close(state);
    Ok(Reply::Integer(length))
}

/// Moves an element from an end of a list to an end of another, or of itself; answers it.
pub(super) fn move_element(
    state: &mut State<'_, '_>,
    from: (&[u8], End),
    to: (&[u8], End),
) -> Result<Reply, Stop> {
    let mut source = list(state, from.0)?;
    if !source.collection.is_there() {
        return Ok(Reply::Value(None));
    }
    if from.0 != to.0 {
        list(state, to.0)?;
    }
    let Some(value) = source.pop(state, from.1)? else { return Ok(Reply::Value(None)) };
    if from.0 == to.0 {
        source.push(state, to.1, value.clone());
        source.close(state);
        return Ok(Reply::Value(Some(value)));
    }
    source.close(state);
    // Opened only now: the source's end may have changed what the ledger says.
    let mut target = list(state, to.0)?;
    target.push(state, to.1, value.clone());
    target.close(state);
    Ok(Reply::Value(Some(value)))
}

/// A list that is read.
pub(super) struct Found<'r> {
    pub(super) owner: Owner,
    pub(super) bounds: Bounds,
    pub(super) state: &'r dyn Read,
}

impl Found<'_> {
    /// The element with an index.
    pub(super) fn index(
        &self,
        index: &[u8],
    ) -> Result<Result<Option<Bytes>, Refusal>, EngineError> {
        let Some(index) = parse_i64(index) else { return Ok(Err(Refusal::NotAnInteger)) };
        let Some(at) = self.bounds.place(index) else { return Ok(Ok(None)) };
        element(self.owner, self.state, at).map(|value| Ok(Some(value)))
    }

    /// The elements of a range, as long as `fits` says so.
    pub(super) fn range(
        &self,
        start: i64,
        stop: i64,
        mut fits: impl FnMut(&Bytes) -> bool,
    ) -> Result<Option<Vec<Bytes>>, EngineError> {
        let mut values = Vec::new();
        for at in self.bounds.range(start, stop) {
            let value = element(self.owner, self.state, at)?;
            if !fits(&value) {
                return Ok(None);
            }
            values.push(value);
        }
        Ok(Some(values))
    }

    /// The indexes of elements equal to a value: from the `rank`-th match on, at most `count`, among
    /// the first `most` that are looked at; from the back if `rank` is negative. 0 is no limit.
    pub(super) fn positions(
        &self,
        value: &Bytes,
        (rank, count, most): (i64, u64, u64),
    ) -> Result<Vec<i64>, EngineError> {
        let length = self.bounds.length();
        let most = if most == 0 { length as u64 } else { most.min(length as u64) };
        let (mut matches, mut found) = (0, Vec::new());
        for step in 0..most as i64 {
            let index = if rank < 0 { length - 1 - step } else { step };
            if element(self.owner, self.state, self.bounds.first + index)? != *value {
                continue;
            }
            matches += 1;
            if matches >= rank.unsigned_abs() {
                found.push(index);
                if count > 0 && found.len() as u64 >= count {
                    break;
                }
            }
        }
        Ok(found)
    }
}
