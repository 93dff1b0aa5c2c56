//! What commands do to sorted sets.
//!
//! A sorted set has two generations of elements: under its own, each member with its score; under the
//! next, each member once more in the order of the scores.
//!
//! ```text
//! member's row:  as any element's  -> score: f64, little-endian
//! score's row:   generation of the state: u32 | of the scores: u64 | score in order: u64 | member
//! ```

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use common::storage::engine::{EngineError, PageLimit, Read};
use serde::{Deserialize, Serialize};

use super::ELEMENTS;
use super::apply::Stop;
use super::collection::{Collection, open};
use super::command::{End, Refusal, Reply};
use super::elements::Owner;
use super::record::Kind;
use super::sets::MAX_COMBINED;
use super::state::State;

/// A score: a number that is not NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score(u64);

impl Score {
    /// The score of a number; none for NaN.
    pub fn new(number: f64) -> Option<Self> {
        (!number.is_nan()).then(|| Self(number.to_bits()))
    }

    /// The score that a text says.
    pub fn parse(text: &[u8]) -> Option<Self> {
        std::str::from_utf8(text).ok()?.parse().ok().and_then(Self::new)
    }

    /// Its number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// A number whose order is that of the scores; both zeros are one.
    fn order(self) -> u64 {
        let bits = (self.get() + 0.0).to_bits();
        if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
    }

    /// The score that has this order.
    const fn of_order(order: u64) -> f64 {
        f64::from_bits(if order >> 63 == 1 { order & !(1 << 63) } else { !order })
    }
}

/// When a member gets a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Members that are there stay as they are. NX.
    pub only_new: bool,
    /// No member is added. XX.
    pub only_present: bool,
    /// A score only grows. GT.
    pub only_greater: bool,
    /// A score only shrinks. LT.
    pub only_less: bool,
    /// Changed members are counted, too. CH.
    pub count_changed: bool,
}

/// Which members, in the order of their scores, then of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// From a rank to another, ends included, negative ones counted from the end.
    Ranks(i64, i64),
    /// From a score to another.
    Scores(Bound<Score>, Bound<Score>),
    /// From a member to another: where all scores are equal.
    Members(Bound<Bytes>, Bound<Bytes>),
}

/// The most members that one read looks at.
const MAX_READ: u64 = 1_000_000;

/// Where the scores of a sorted set are.
const fn scores(owner: Owner) -> Owner {
    Owner { state: owner.state, elements: owner.elements + 1 }
}

fn score_row(owner: Owner, score: Score, member: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(20 + member.len());
    row.extend_from_slice(&scores(owner).dropped());
    row.put_u64(score.order());
    row.put_slice(member);
    row.freeze()
}

fn decode(value: &Bytes) -> Result<Score, EngineError> {
    let bits = value.first_chunk::<8>().filter(|_| value.len() == 8);
    let bits = bits.ok_or_else(|| EngineError::Corrupt(format!("a score: {value:02x?}")))?;
    Ok(Score(u64::from_le_bytes(*bits)))
}

/// The score of a member.
pub(super) fn score(
    owner: Owner,
    state: &dyn Read,
    member: &[u8],
) -> Result<Option<Score>, EngineError> {
    owner.get(state, member)?.map(|value| decode(&value)).transpose()
}

fn put(
    set: &mut Collection<'_>,
    state: &mut State<'_, '_>,
    member: &Bytes,
    former: Option<Score>,
    new: Score,
) -> Result<(), EngineError> {
    if let Some(former) = former {
        state.draft.delete(ELEMENTS, score_row(set.owner(), former, member));
    }
    set.put(state, member, Bytes::copy_from_slice(&new.0.to_le_bytes()))?;
    state.draft.put(ELEMENTS, score_row(set.owner(), new, member), Bytes::new());
    Ok(())
}

fn delete(
    set: &mut Collection<'_>,
    state: &mut State<'_, '_>,
    member: &[u8],
) -> Result<bool, EngineError> {
    let Some(former) = score(set.owner(), state.draft, member)? else { return Ok(false) };
    state.draft.delete(ELEMENTS, score_row(set.owner(), former, member));
    set.delete(state, member)
}

fn allows(rules: Rules, former: Option<Score>, new: f64) -> bool {
    match former.map(Score::get) {
        None => !rules.only_present,
        Some(former) => {
            !rules.only_new
                && (!rules.only_greater || new > former)
                && (!rules.only_less || new < former)
        }
    }
}

/// Gives members scores; answers how many are new, or new and changed.
pub(super) fn add(
    state: &mut State<'_, '_>,
    key: &[u8],
    pairs: &[(Score, Bytes)],
    rules: Rules,
) -> Result<Reply, Stop> {
    let mut set = open(state, key, Kind::SortedSet)?;
    let (mut added, mut changed) = (0, 0);
    for (new, member) in pairs {
        let former = score(set.owner(), state.draft, member)?;
        if !allows(rules, former, new.get()) {
            continue;
        }
        match former {
            None => added += 1,
            #[expect(clippy::float_cmp, reason = "the same number is no change")]
            Some(former) if former.get() == new.get() => continue,
            Some(_) => changed += 1,
        }
        put(&mut set, state, member, former, *new)?;
    }
    if added + changed > 0 {
        set.close(state);
    }
    Ok(Reply::Integer(if rules.count_changed { added + changed } else { added }))
}

/// Adds to a member's score; answers it, or nothing where the rules forbid it.
pub(super) fn increment(
    state: &mut State<'_, '_>,
    key: &[u8],
    member: &Bytes,
    by: Score,
    rules: Rules,
) -> Result<Reply, Stop> {
    let mut set = open(state, key, Kind::SortedSet)?;
    let former = score(set.owner(), state.draft, member)?;
    if former.is_none() && rules.only_present || former.is_some() && rules.only_new {
        return Ok(Reply::Scores(vec![None]));
    }
    let sum = former.map_or(0.0, Score::get) + by.get();
    let new = Score::new(sum).ok_or(Refusal::NotANumber)?;
    if !allows(rules, former, sum) {
        return Ok(Reply::Scores(vec![None]));
    }
    if former != Some(new) {
        put(&mut set, state, member, former, new)?;
        set.close(state);
    }
    Ok(Reply::Scores(vec![Some(new)]))
}

/// Removes members; answers how many were there.
pub(super) fn remove(
    state: &mut State<'_, '_>,
    key: &[u8],
    members: &[Bytes],
) -> Result<Reply, Stop> {
    let mut set = open(state, key, Kind::SortedSet)?;
    let mut removed = 0;
    for member in members {
        removed += i64::from(delete(&mut set, state, member)?);
    }
    if removed > 0 {
        set.close(state);
    }
    Ok(Reply::Integer(removed))
}

/// Removes the members of a span; answers how many these are.
pub(super) fn remove_span(
    state: &mut State<'_, '_>,
    key: &[u8],
    span: &Span,
) -> Result<Reply, Stop> {
    let set = open(state, key, Kind::SortedSet)?;
    let found = select((set.owner(), set.count), state.draft, span, MAX_COMBINED)?;
    let members: Vec<Bytes> = found?.into_iter().map(|(member, _)| member).collect();
    remove(state, key, &members)
}

/// Removes members with the lowest or the highest scores; answers them.
pub(super) fn pop(
    state: &mut State<'_, '_>,
    key: &[u8],
    end: End,
    count: u64,
) -> Result<Reply, Stop> {
    let set = open(state, key, Kind::SortedSet)?;
    let count = i64::try_from(count.min(set.count)).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(Reply::Scored(Vec::new()));
    }
    let span = match end {
        End::Front => Span::Ranks(0, count - 1),
        End::Back => Span::Ranks(-count, -1),
    };
    let mut found = select((set.owner(), set.count), state.draft, &span, MAX_COMBINED)??;
    if end == End::Back {
        found.reverse();
    }
    let members: Vec<Bytes> = found.iter().map(|(member, _)| member.clone()).collect();
    remove(state, key, &members)?;
    Ok(Reply::Scored(found))
}

/// How many members come before one.
pub(super) fn rank(
    owner: Owner,
    state: &dyn Read,
    member: &[u8],
) -> Result<Option<u64>, EngineError> {
    let Some(own) = score(owner, state, member)? else { return Ok(None) };
    let (until, mut before) = (score_row(owner, own, member), 0);
    scores(owner).each_row(state, |row, _| {
        let earlier = row < until;
        before += u64::from(earlier);
        earlier
    })?;
    Ok(Some(before))
}

/// The members of a span with their scores, in order; looks at no more than `most`.
pub(super) fn select(
    (owner, count): (Owner, u64),
    state: &dyn Read,
    span: &Span,
    most: u64,
) -> Result<Result<Vec<(Bytes, Score)>, Refusal>, EngineError> {
    let length = i64::try_from(count).unwrap_or(i64::MAX);
    let (mut skip, mut take) = (0, i64::MAX);
    let mut from = 0;
    match span {
        Span::Ranks(start, stop) => {
            let place = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
            let (start, stop) = (place(*start).max(0), place(*stop).min(length - 1));
            if start > stop {
                return Ok(Ok(Vec::new()));
            }
            (skip, take) = (start, stop - start + 1);
        }
        Span::Scores(Bound::Included(low) | Bound::Excluded(low), _) => from = low.order(),
        Span::Scores(..) | Span::Members(..) => {}
    }
    let (mut found, mut looked) = (Vec::new(), 0);
    let mut range = scores(owner).from(from);
    loop {
        let page = state.scan(ELEMENTS, &range, PageLimit { items: 1_000, bytes: 1 << 20 })?;
        let last = page.items.last().map(|(row, _)| row.clone());
        for (row, _) in page.items {
            looked += 1;
            if looked > most {
                return Ok(Err(Refusal::TooManyElements));
            }
            let Some(order) = row.get(12..20).and_then(|order| order.first_chunk::<8>()) else {
                return Err(EngineError::Corrupt(format!("the row of a score: {row:02x?}")));
            };
            let number = Score::of_order(u64::from_be_bytes(*order));
            let member = row.slice(20..);
            match within(span, number, &member) {
                Place::Before => continue,
                Place::Behind => return Ok(Ok(found)),
                Place::Inside => {}
            }
            if skip > 0 {
                skip -= 1;
                continue;
            }
            // As it was given: both zeros have one order.
            let own = score(owner, state, &member)?.unwrap_or(Score(number.to_bits()));
            found.push((member, own));
            take -= 1;
            if take == 0 {
                return Ok(Ok(found));
            }
        }
        match last {
            Some(last) if page.more => range = range.after(last),
            _ => return Ok(Ok(found)),
        }
    }
}

enum Place {
    Before,
    Inside,
    Behind,
}

fn within(span: &Span, number: f64, member: &Bytes) -> Place {
    match span {
        Span::Ranks(..) => Place::Inside,
        Span::Scores(low, high) => {
            let before = match low {
                Bound::Included(low) => number < low.get(),
                Bound::Excluded(low) => number <= low.get(),
                Bound::Unbounded => false,
            };
            let behind = match high {
                Bound::Included(high) => number > high.get(),
                Bound::Excluded(high) => number >= high.get(),
                Bound::Unbounded => false,
            };
            if behind {
                Place::Behind
            } else if before {
                Place::Before
            } else {
                Place::Inside
            }
        }
        Span::Members(low, high) => {
            if (low.as_ref(), high.as_ref()) == (Bound::Unbounded, Bound::Unbounded) {
                return Place::Inside;
            }
            let before = match low {
                Bound::Included(low) => member < low,
                Bound::Excluded(low) => member <= low,
                Bound::Unbounded => false,
            };
            let behind = match high {
                Bound::Included(high) => member > high,
                Bound::Excluded(high) => member >= high,
                Bound::Unbounded => false,
            };
            if before {
                Place::Before
            } else if behind {
                Place::Behind
            } else {
                Place::Inside
            }
        }
    }
}

/// A part of a span, from either end: after `offset` members at most `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// From the back.
    pub reverse: bool,
    /// So many are left out; none are left of a negative one.
    pub offset: i64,
    /// So many at most; all if negative.
    pub count: i64,
}

/// The part of what a span holds.
pub(super) fn part(
    owner: (Owner, u64),
    state: &dyn Read,
    span: &Span,
    part: Part,
) -> Result<Result<Vec<(Bytes, Score)>, Refusal>, EngineError> {
    let span = match span {
        // Ranks are counted from the end that is read first.
        Span::Ranks(start, stop) if part.reverse => {
            let mirror = |at: i64| if at < 0 { at.saturating_neg() - 1 } else { -1 - at };
            &Span::Ranks(mirror(*stop), mirror(*start))
        }
        other => other,
    };
    let mut found = match select(owner, state, span, MAX_READ)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if part.reverse {
        found.reverse();
    }
    let Ok(offset) = usize::try_from(part.offset) else { return Ok(Ok(Vec::new())) };
    let found = found.into_iter().skip(offset);
    Ok(Ok(match usize::try_from(part.count) {
        Ok(count) => found.take(count).collect(),
        Err(_) => found.collect(),
    }))
}
