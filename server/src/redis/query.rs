//! Reads of single keys.

use bytes::Bytes;
use common::env::{Rng, SplitMix64};
use common::storage::engine::EngineError;

use super::MAX_REPLY_BYTES;
use super::command::{Query, Refusal, Reply};
use super::cut::Cut;
use super::elements::Owner;
use super::glob::matches;
use super::lists::{Bounds, Found};
use super::record::{Kind, Record};
use super::sets::{MAX_COMBINED, combine, find, sample};
use super::sorted;
use crate::resp::double;

/// Answers a read.
pub(super) fn answer(cut: &Cut<'_>, query: &Query) -> Result<Reply, EngineError> {
    let string = |key: &Bytes| cut.get(key).map(|record| record.map(text).transpose());
    Ok(match query {
        Query::Get { key } => match string(key)? {
            Ok(value) => Reply::Value(value),
            Err(refusal) => Reply::Refused(refusal),
        },
        Query::GetMany { keys } => {
            let (mut values, mut bytes) = (Vec::with_capacity(keys.len()), 0);
            for key in keys {
                let value = string(key)?.unwrap_or(None);
                bytes += value.as_ref().map_or(0, Bytes::len);
                if bytes > MAX_REPLY_BYTES {
                    return Ok(Reply::Refused(Refusal::ReplyTooLong));
                }
                values.push(value);
            }
            Reply::Values(values)
        }
        Query::Length { key } => match string(key)? {
            Ok(value) => Reply::Integer(value.map_or(0, |value| value.len() as i64)),
            Err(refusal) => Reply::Refused(refusal),
        },
        Query::Range { key, start, end } => match string(key)? {
            Ok(value) => {
                Reply::Value(Some(value.map_or_else(Bytes::new, |v| part(&v, *start, *end))))
            }
            Err(refusal) => Reply::Refused(refusal),
        },
        Query::Exists { keys } => {
            let mut there = 0;
            for key in keys {
                there += i64::from(cut.get(key)?.is_some());
            }
            Reply::Integer(there)
        }
        Query::Kind { key } => Reply::Kind(cut.get(key)?.map(|record| record.kind)),
        Query::Remaining { key } => Reply::Integer(match deadline(cut, key)? {
            Ok(deadline) => deadline.saturating_sub(cut.now()) as i64,
            Err(code) => code,
        }),
        Query::Deadline { key } => {
            Reply::Integer(deadline(cut, key)?.map_or_else(|code| code, |at| at as i64))
        }
        Query::HashGet { key, fields } => match find(cut, key, Kind::Hash)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(vec![None; fields.len()]),
            Ok(Some((owner, _))) => {
                let (mut values, mut bytes) = (Vec::with_capacity(fields.len()), 0);
                for field in fields {
                    let value = owner.get(cut.state(), field)?;
                    bytes += value.as_ref().map_or(0, Bytes::len);
                    if bytes > MAX_REPLY_BYTES {
                        return Ok(Reply::Refused(Refusal::ReplyTooLong));
                    }
                    values.push(value);
                }
                Reply::Values(values)
            }
        },
        Query::HashCount { key } => match find(cut, key, Kind::Hash)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(found) => Reply::Integer(found.map_or(0, |(_, count)| count as i64)),
        },
        Query::HashAll { key } => match find(cut, key, Kind::Hash)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(Vec::new()),
            Ok(Some((owner, _))) => {
                let (mut values, mut bytes) = (Vec::new(), 0);
                owner.each(cut.state(), |field, value| {
                    bytes += field.len() + value.len();
                    values.extend([Some(field), Some(value)]);
                    bytes <= MAX_REPLY_BYTES
                })?;
                if bytes > MAX_REPLY_BYTES {
                    return Ok(Reply::Refused(Refusal::ReplyTooLong));
                }
                Reply::Values(values)
            }
        },
        Query::HashStep { key, cursor, count, pattern } => match find(cut, key, Kind::Hash)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(vec![Some(Bytes::from_static(b"0"))]),
            Ok(Some((owner, _))) => {
                let count = (*count).clamp(1, MAX_STEP) as usize;
                let (found, next) = owner.step(cut.state(), *cursor, count)?;
                let mut values = vec![Some(Bytes::from(next.to_string()))];
                let fits = |(field, _): &(Bytes, Bytes)| {
                    pattern.as_ref().is_none_or(|pattern| matches(pattern, field))
                };
                let found = found.into_iter().filter(fits);
                values.extend(found.flat_map(|(field, value)| [Some(field), Some(value)]));
                Reply::Values(values)
            }
        },
        Query::SetHas { key, members } => match find(cut, key, Kind::Set)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(vec![None; members.len()]),
            Ok(Some((owner, _))) => {
                let has = members.iter().map(|member| owner.get(cut.state(), member));
                Reply::Values(has.collect::<Result<_, _>>()?)
            }
        },
        Query::SetCount { key } => match find(cut, key, Kind::Set)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(found) => Reply::Integer(found.map_or(0, |(_, count)| count as i64)),
        },
        Query::SetStep { key, cursor, count, pattern } => match find(cut, key, Kind::Set)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(vec![Some(Bytes::from_static(b"0"))]),
            Ok(Some((owner, _))) => {
                let count = (*count).clamp(1, MAX_STEP) as usize;
                let (found, next) = owner.step(cut.state(), *cursor, count)?;
                let fits = |member: &Bytes| pattern.as_ref().is_none_or(|p| matches(p, member));
                let found = found.into_iter().map(|(member, _)| member).filter(fits);
                let next = Bytes::from(next.to_string());
                Reply::Values([next].into_iter().chain(found).map(Some).collect())
            }
        },
        Query::SetSample { key, count, again, seed } => match find(cut, key, Kind::Set)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(Vec::new()),
            Ok(Some((owner, there))) => samples(cut, (owner, there), (*count, *again, *seed))?,
        },
        Query::SetCombine { how, keys } => {
            let mut owners = Vec::with_capacity(keys.len());
            for key in keys {
                match find(cut, key, Kind::Set)? {
                    Err(refusal) => return Ok(Reply::Refused(refusal)),
                    Ok(found) => owners.push(found),
                }
            }
            match combine(&owners, cut.state(), *how, MAX_READ)? {
                Err(refusal) => Reply::Refused(refusal),
                Ok(members) if members.iter().map(Bytes::len).sum::<usize>() > MAX_REPLY_BYTES => {
                    Reply::Refused(Refusal::ReplyTooLong)
                }
                Ok(members) => Reply::Values(members.into_iter().map(Some).collect()),
            }
        }
        Query::SortedCount { key } => match find(cut, key, Kind::SortedSet)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(found) => Reply::Integer(found.map_or(0, |(_, count)| count as i64)),
        },
        Query::SortedScores { key, members } => match find(cut, key, Kind::SortedSet)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Scores(vec![None; members.len()]),
            Ok(Some((owner, _))) => {
                let scores = members.iter().map(|member| sorted::score(owner, cut.state(), member));
                Reply::Scores(scores.collect::<Result<_, _>>()?)
            }
        },
        Query::SortedRank { key, member, reverse } => match find(cut, key, Kind::SortedSet)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Value(None),
            Ok(Some((owner, count))) => match sorted::rank(owner, cut.state(), member)? {
                None => Reply::Value(None),
                Some(rank) if *reverse => Reply::Integer(count as i64 - 1 - rank as i64),
                Some(rank) => Reply::Integer(rank as i64),
            },
        },
        Query::SortedSpan { key, span, part } => match find(cut, key, Kind::SortedSet)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Scored(Vec::new()),
            Ok(Some(found)) => match sorted::part(found, cut.state(), span, *part)? {
                Err(refusal) => Reply::Refused(refusal),
                Ok(found)
                    if found.iter().map(|(member, _)| member.len() + 32).sum::<usize>()
                        > MAX_REPLY_BYTES =>
                {
                    Reply::Refused(Refusal::ReplyTooLong)
                }
                Ok(found) => Reply::Scored(found),
            },
        },
        Query::SortedStep { key, cursor, count, pattern } => {
            match find(cut, key, Kind::SortedSet)? {
                Err(refusal) => Reply::Refused(refusal),
                Ok(None) => Reply::Values(vec![Some(Bytes::from_static(b"0"))]),
                Ok(Some((owner, _))) => {
                    let count = (*count).clamp(1, MAX_STEP) as usize;
                    let (found, next) = owner.step(cut.state(), *cursor, count)?;
                    let mut values = vec![Some(Bytes::from(next.to_string()))];
                    for (member, _) in found {
                        if pattern.as_ref().is_none_or(|pattern| matches(pattern, &member)) {
                            let score = sorted::score(owner, cut.state(), &member)?;
                            let text = score.map(|score| double(score.get()).into());
                            values.extend([Some(member), text]);
                        }
                    }
                    Reply::Values(values)
                }
            }
        }
        Query::ListLength { key } => match list(cut, key)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(found) => Reply::Integer(found.map_or(0, |list| list.bounds.length())),
        },
        Query::ListIndex { key, index } => match list(cut, key)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Value(None),
            Ok(Some(list)) => list.index(index)?.map_or_else(Reply::Refused, Reply::Value),
        },
        Query::ListRange { key, start, stop } => match list(cut, key)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Values(Vec::new()),
            Ok(Some(list)) => {
                let mut bytes = 0;
                let fits = |value: &Bytes| {
                    // Each element costs its line, too.
                    bytes += value.len() + 16;
                    bytes <= MAX_REPLY_BYTES
                };
                match list.range(*start, *stop, fits)? {
                    Some(values) => Reply::Values(values.into_iter().map(Some).collect()),
                    None => Reply::Refused(Refusal::ReplyTooLong),
                }
            }
        },
        Query::ListPositions { key, value, rank, count, most } => match list(cut, key)? {
            Err(refusal) => Reply::Refused(refusal),
            Ok(None) => Reply::Integers(Vec::new()),
            Ok(Some(list)) => Reply::Integers(list.positions(value, (*rank, *count, *most))?),
        },
        Query::Count => Reply::Integer(cut.count() as i64),
    })
}

/// The list that a key holds in a cut, if it holds one.
fn list<'c>(
    cut: &'c Cut<'_>,
    key: &[u8],
) -> Result<Result<Option<Found<'c>>, Refusal>, EngineError> {
    let (owner, _) = match find(cut, key, Kind::List)? {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(None) => return Ok(Ok(None)),
        Ok(Some(found)) => found,
    };
    let record = cut.get(key)?;
    let bounds = Bounds::decode(&record.map(|record| record.value).unwrap_or_default())?;
    Ok(Ok(Some(Found { owner, bounds, state: cut.state() })))
}

/// The most elements of all sets that one read looks at.
const MAX_READ: u64 = 1_000_000;
/// The most fields that one step of a scan looks at, whatever its COUNT.
const MAX_STEP: u64 = 10_000;

/// Members of a set: distinct ones, or each drawn by itself.
fn samples(
    cut: &Cut<'_>,
    (owner, there): (Owner, u64),
    (count, again, seed): (u64, bool, u64),
) -> Result<Reply, EngineError> {
    if count.min(if again { count } else { there }) > MAX_COMBINED {
        return Ok(Reply::Refused(Refusal::TooManyElements));
    }
    if !again {
        let members = sample(owner, cut.state(), count.min(there), seed)?;
        return Ok(Reply::Values(members.into_iter().map(Some).collect()));
    }
    let rng = SplitMix64::new(seed);
    let mut members = Vec::new();
    for _ in 0..count {
        members.extend(sample(owner, cut.state(), 1, rng.next_u64())?.into_iter().map(Some));
    }
    Ok(Reply::Values(members))
}

/// The value of a string.
pub(super) fn text(record: Record) -> Result<Bytes, Refusal> {
    if record.kind == Kind::String { Ok(record.value) } else { Err(Refusal::WrongType) }
}

/// A key's deadline, or what Redis answers where there is none.
fn deadline(cut: &Cut<'_>, key: &[u8]) -> Result<Result<u64, i64>, EngineError> {
    Ok(match cut.get(key)? {
        None => Err(-2),
        Some(record) => record.deadline.ok_or(-1),
    })
}

/// The bytes from `start` to `end`, both included, negative ones counted from the end.
fn part(value: &Bytes, start: i64, end: i64) -> Bytes {
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let length = value.len() as i64;
    let place = |at: i64| if at < 0 { at.saturating_add(length).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(length - 1));
    if start > end || length == 0 {
        return Bytes::new();
    }
    value.slice(start as usize..=end as usize)
}
