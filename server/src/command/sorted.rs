//! Sorted sets: ZADD, ZRANGE, ZPOPMIN and the like.

use std::ops::Bound;

use bytes::Bytes;

use super::arguments::{integer, is, syntax};
use super::keys::cursor;
use super::{Action, Context, Handled, Show, plain};
use crate::redis::{Command, End, Part, Query, Reply, Rules, Score, Span};
use crate::resp::{Value, parse_i64};

fn not_a_float() -> Value {
    Value::error("ERR value is not a valid float")
}

fn score(word: &[u8]) -> Result<Score, Value> {
    Score::parse(word).ok_or_else(not_a_float)
}

/// ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...].
pub(super) fn zadd(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (mut rules, mut increments, mut first) = (Rules::default(), false, 2);
    for word in &words[2..] {
        match word {
            word if is(word, "NX") => rules.only_new = true,
            word if is(word, "XX") => rules.only_present = true,
            word if is(word, "GT") => rules.only_greater = true,
            word if is(word, "LT") => rules.only_less = true,
            word if is(word, "CH") => rules.count_changed = true,
            word if is(word, "INCR") => increments = true,
            _ => break,
        }
        first += 1;
    }
    let pairs = words[first..].chunks_exact(2);
    if !pairs.remainder().is_empty() || pairs.len() == 0 {
        return Err(syntax());
    }
    if rules.only_new && rules.only_present {
        return Err(Value::error("ERR XX and NX options at the same time are not compatible"));
    }
    if usize::from(rules.only_new) + usize::from(rules.only_greater) + usize::from(rules.only_less)
        > 1
    {
        return Err(Value::error(
            "ERR GT, LT, and/or NX options at the same time are not compatible",
        ));
    }
    if increments && pairs.len() > 1 {
        return Err(Value::error("ERR INCR option supports a single increment-element pair"));
    }
    let pairs = pairs.map(|pair| Ok((score(&pair[0])?, pair[1].clone())));
    let mut pairs = pairs.collect::<Result<Vec<_>, Value>>()?;
    let key = words[1].clone();
    if increments && let Some((by, member)) = pairs.pop() {
        return Ok(Action::Write(Command::SortedIncrement { key, member, by, rules }, one));
    }
    Ok(Action::Write(Command::SortedAdd { key, pairs, rules }, plain))
}

/// ZINCRBY key increment member.
pub(super) fn zincrby(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, by, member) = (words[1].clone(), score(&words[2])?, words[3].clone());
    let rules = Rules::default();
    Ok(Action::Write(Command::SortedIncrement { key, member, by, rules }, one))
}

/// The only one of several scores.
fn one(reply: Reply) -> Value {
    match reply {
        Reply::Scores(scores) => shown(scores.into_iter().next().flatten()),
        other => plain(other),
    }
}

fn shown(score: Option<Score>) -> Value {
    score.map_or(Value::Null, |score| Value::Double(score.get()))
}

/// ZREM key member [member ...].
pub(super) fn zrem(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::SortedRemove { key, members }, plain))
}

/// ZCARD key.
pub(super) fn zcard(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::SortedCount { key: words[1].clone() }, plain))
}

/// ZSCORE key member.
pub(super) fn zscore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), vec![words[2].clone()]);
    Ok(Action::Read(Query::SortedScores { key, members }, one))
}

/// ZMSCORE key member [member ...].
pub(super) fn zmscore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Read(Query::SortedScores { key, members }, |reply| match reply {
        Reply::Scores(scores) => Value::Array(scores.into_iter().map(shown).collect()),
        other => plain(other),
    }))
}

fn ranked(words: &[Bytes], reverse: bool) -> Handled {
    let (key, member) = (words[1].clone(), words[2].clone());
    Ok(Action::Read(Query::SortedRank { key, member, reverse }, plain))
}

/// ZRANK key member.
pub(super) fn zrank(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    ranked(words, false)
}

/// ZREVRANK key member.
pub(super) fn zrevrank(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    ranked(words, true)
}

/// A score that a range begins or ends with.
fn score_bound(word: &[u8]) -> Result<Bound<Score>, Value> {
    let (text, exclusive) = match word.split_first() {
        Some((b'(', rest)) => (rest, true),
        _ => (word, false),
    };
    // C's reader of numbers, which Redis uses here, reads nothing at all as zero.
    let text = if text.is_empty() { b"0" } else { text };
    let score = Score::parse(text).ok_or_else(|| Value::error("ERR min or max is not a float"))?;
    Ok(if exclusive { Bound::Excluded(score) } else { Bound::Included(score) })
}

/// The members from `low` to `high`; none where a bound is on the wrong side of all.
fn member_span(low: &Bytes, high: &Bytes) -> Result<Span, Value> {
    let wrong = || Value::error("ERR min or max not valid string range item");
    // An infinite bound on the other's side leaves nothing.
    let nothing = Span::Ranks(1, 0);
    let bound = |word: &Bytes| match word.split_first() {
        Some((b'[', _)) => Ok(Some(Bound::Included(word.slice(1..)))),
        Some((b'(', _)) => Ok(Some(Bound::Excluded(word.slice(1..)))),
        Some((b'-' | b'+', [])) => Ok(None),
        _ => Err(wrong()),
    };
    let (from, to) = (bound(low)?, bound(high)?);
    if from.is_none() && low[0] == b'+' || to.is_none() && high[0] == b'-' {
        return Ok(nothing);
    }
    Ok(Span::Members(from.unwrap_or(Bound::Unbounded), to.unwrap_or(Bound::Unbounded)))
}

fn score_span(low: &[u8], high: &[u8]) -> Result<Span, Value> {
    Ok(Span::Scores(score_bound(low)?, score_bound(high)?))
}

/// How a range is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Member,
}

/// A range's words: its ends, and what follows them.
fn range(words: &[Bytes], by: Option<By>, reverse: Option<bool>) -> Handled {
    let (mut named, mut back, mut limit, mut scores) = (by, reverse, None, false);
    let mut options = words[4..].iter();
    while let Some(option) = options.next() {
        if is(option, "WITHSCORES") {
            scores = true;
        } else if is(option, "LIMIT") {
            let (Some(offset), Some(count)) = (options.next(), options.next()) else {
                return Err(syntax());
            };
            limit = Some((integer(offset)?, integer(count)?));
        } else if back.is_none() && is(option, "REV") {
            back = Some(true);
        } else if named.is_none() && is(option, "BYSCORE") {
            named = Some(By::Score);
        } else if named.is_none() && is(option, "BYLEX") {
            named = Some(By::Member);
        } else {
            return Err(syntax());
        }
    }
    let (named, back) = (named.unwrap_or(By::Rank), back.unwrap_or(false));
    if limit.is_some() && named == By::Rank {
        return Err(Value::error(
            "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
        ));
    }
    if scores && named == By::Member {
        return Err(Value::error(
            "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
        ));
    }
    // Read from the back, the higher end is named first.
    let (low, high) =
        if back && named != By::Rank { (&words[3], &words[2]) } else { (&words[2], &words[3]) };
    let span = match named {
        By::Rank => Span::Ranks(integer(low)?, integer(high)?),
        By::Score => score_span(low, high)?,
        By::Member => member_span(low, high)?,
    };
    let (offset, count) = limit.unwrap_or((0, -1));
    let part = Part { reverse: back, offset, count };
    let show: Show = if scores { with_scores } else { without_scores };
    Ok(Action::Read(Query::SortedSpan { key: words[1].clone(), span, part }, show))
}

fn with_scores(reply: Reply) -> Value {
    match reply {
        Reply::Scored(found) => {
            let pair =
                |(member, score): (Bytes, Score)| (Value::Bulk(member), Value::Double(score.get()));
            Value::Pairs(found.into_iter().map(pair).collect())
        }
        other => plain(other),
    }
}

fn without_scores(reply: Reply) -> Value {
    match reply {
        Reply::Scored(found) => {
            Value::Array(found.into_iter().map(|(member, _)| Value::Bulk(member)).collect())
        }
        other => plain(other),
    }
}

/// ZRANGE key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES].
pub(super) fn zrange(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, None, None)
}

/// ZREVRANGE key start stop [WITHSCORES].
pub(super) fn zrevrange(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, Some(By::Rank), Some(true))
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count].
pub(super) fn zrangebyscore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, Some(By::Score), Some(false))
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count].
pub(super) fn zrevrangebyscore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, Some(By::Score), Some(true))
}

/// ZRANGEBYLEX key min max [LIMIT offset count].
pub(super) fn zrangebylex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, Some(By::Member), Some(false))
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count].
pub(super) fn zrevrangebylex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    range(words, Some(By::Member), Some(true))
}

fn counted(key: &Bytes, span: Span) -> Handled {
    let part = Part { reverse: false, offset: 0, count: -1 };
    Ok(Action::Read(Query::SortedSpan { key: key.clone(), span, part }, |reply| match reply {
        Reply::Scored(found) => Value::Integer(found.len() as i64),
        other => plain(other),
    }))
}

/// ZCOUNT key min max.
pub(super) fn zcount(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    counted(&words[1], score_span(&words[2], &words[3])?)
}

/// ZLEXCOUNT key min max.
pub(super) fn zlexcount(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    counted(&words[1], member_span(&words[2], &words[3])?)
}

fn removed(key: &Bytes, span: Span) -> Handled {
    Ok(Action::Write(Command::SortedRemoveSpan { key: key.clone(), span }, plain))
}

/// ZREMRANGEBYRANK key start stop.
pub(super) fn zremrangebyrank(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    removed(&words[1], Span::Ranks(integer(&words[2])?, integer(&words[3])?))
}

/// ZREMRANGEBYSCORE key min max.
pub(super) fn zremrangebyscore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    removed(&words[1], score_span(&words[2], &words[3])?)
}

/// ZREMRANGEBYLEX key min max.
pub(super) fn zremrangebylex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    removed(&words[1], member_span(&words[2], &words[3])?)
}

fn popped(words: &[Bytes], end: End) -> Handled {
    let flat: Show = |reply| match reply {
        Reply::Scored(found) => {
            let pair =
                |(member, score): (Bytes, Score)| [Value::Bulk(member), Value::Double(score.get())];
            Value::Array(found.into_iter().flat_map(pair).collect())
        }
        other => plain(other),
    };
    let (count, show) = match &words[2..] {
        [] => (1, flat),
        [count] => {
            let positive = || Value::error("ERR value is out of range, must be positive");
            let count = parse_i64(count).and_then(|count| u64::try_from(count).ok());
            (count.ok_or_else(positive)?, with_scores as Show)
        }
        _ => return Err(syntax()),
    };
    Ok(Action::Write(Command::SortedPop { key: words[1].clone(), end, count }, show))
}

/// ZPOPMIN key [count].
pub(super) fn zpopmin(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    popped(words, End::Front)
}

/// ZPOPMAX key [count].
pub(super) fn zpopmax(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    popped(words, End::Back)
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count].
pub(super) fn zscan(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, cursor) = (words[1].clone(), cursor(&words[2])?);
    let (pattern, count) = super::hashes::scan_options(&words[3..])?;
    Ok(Action::Read(Query::SortedStep { key, cursor, count, pattern }, super::hashes::step))
}
