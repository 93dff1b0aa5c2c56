//! Hashes: HSET, HGET, HGETALL, HSCAN and the like.

use bytes::Bytes;

use super::arguments::{integer, is, syntax, wrong_number};
use super::keys::cursor;
use super::{Action, Context, Handled, plain};
use crate::redis::{Command, Condition, Query, Reply};
use crate::resp::Value;

/// Fields and values in turn.
fn pairs(name: &str, words: &[Bytes]) -> Result<Vec<(Bytes, Bytes)>, Value> {
    let pairs = words.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(wrong_number(name));
    }
    Ok(pairs.map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

/// HSET key field value [field value ...].
pub(super) fn hset(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = pairs("hset", &words[2..])?;
    let (key, condition) = (words[1].clone(), Condition::Always);
    Ok(Action::Write(Command::HashSet { key, pairs, condition }, plain))
}

/// HMSET key field value [field value ...].
pub(super) fn hmset(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = pairs("hmset", &words[2..])?;
    let (key, condition) = (words[1].clone(), Condition::Always);
    let show = |reply| match reply {
        Reply::Integer(_) => Value::OK,
        other => plain(other),
    };
    Ok(Action::Write(Command::HashSet { key, pairs, condition }, show))
}

/// HSETNX key field value.
pub(super) fn hsetnx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = vec![(words[2].clone(), words[3].clone())];
    let (key, condition) = (words[1].clone(), Condition::IfAbsent);
    Ok(Action::Write(Command::HashSet { key, pairs, condition }, plain))
}

/// HDEL key field [field ...].
pub(super) fn hdel(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, fields) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::HashDelete { key, fields }, plain))
}

/// HINCRBY key field increment.
pub(super) fn hincrby(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, field, by) = (words[1].clone(), words[2].clone(), integer(&words[3])?);
    Ok(Action::Write(Command::HashIncrement { key, field, by }, plain))
}

/// HINCRBYFLOAT key field increment.
pub(super) fn hincrbyfloat(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, field, by) = (words[1].clone(), words[2].clone(), words[3].clone());
    Ok(Action::Write(Command::HashIncrementFloat { key, field, by }, plain))
}

fn one(words: &[Bytes], show: super::Show) -> Handled {
    let (key, fields) = (words[1].clone(), vec![words[2].clone()]);
    Ok(Action::Read(Query::HashGet { key, fields }, show))
}

/// The only one of several values.
fn only(reply: Reply) -> Result<Option<Bytes>, Value> {
    match reply {
        Reply::Values(mut values) => Ok(values.pop().flatten()),
        other => Err(plain(other)),
    }
}

/// HGET key field.
pub(super) fn hget(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    one(words, |reply| only(reply).map_or_else(|error| error, Value::maybe))
}

/// HEXISTS key field.
pub(super) fn hexists(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    one(words, |reply| {
        only(reply).map_or_else(|error| error, |value| Value::Integer(i64::from(value.is_some())))
    })
}

/// HSTRLEN key field.
pub(super) fn hstrlen(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    one(words, |reply| {
        let length = |value: Option<Bytes>| value.map_or(0, |value| value.len() as i64);
        only(reply).map_or_else(|error| error, |value| Value::Integer(length(value)))
    })
}

/// HMGET key field [field ...].
pub(super) fn hmget(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, fields) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Read(Query::HashGet { key, fields }, plain))
}

/// HLEN key.
pub(super) fn hlen(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::HashCount { key: words[1].clone() }, plain))
}

fn all(words: &[Bytes], show: super::Show) -> Handled {
    Ok(Action::Read(Query::HashAll { key: words[1].clone() }, show))
}

/// Fields, each with its value.
fn fields(reply: Reply) -> Result<Vec<(Value, Value)>, Value> {
    let Reply::Values(values) = reply else { return Err(plain(reply)) };
    let mut values = values.into_iter().map(Value::maybe);
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(field), Some(value)) = (values.next(), values.next()) {
        pairs.push((field, value));
    }
    Ok(pairs)
}

/// HGETALL key.
pub(super) fn hgetall(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    all(words, |reply| fields(reply).map_or_else(|error| error, Value::Map))
}

/// HKEYS key.
pub(super) fn hkeys(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    all(words, |reply| match fields(reply) {
        Ok(pairs) => Value::Array(pairs.into_iter().map(|(field, _)| field).collect()),
        Err(error) => error,
    })
}

/// HVALS key.
pub(super) fn hvals(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    all(words, |reply| match fields(reply) {
        Ok(pairs) => Value::Array(pairs.into_iter().map(|(_, value)| value).collect()),
        Err(error) => error,
    })
}

/// HSCAN key cursor [MATCH pattern] [COUNT count].
pub(super) fn hscan(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, cursor) = (words[1].clone(), cursor(&words[2])?);
    let (pattern, count) = scan_options(&words[3..])?;
    Ok(Action::Read(Query::HashStep { key, cursor, count, pattern }, step))
}

/// MATCH pattern and COUNT count.
pub(super) fn scan_options(words: &[Bytes]) -> Result<(Option<Bytes>, u64), Value> {
    let (mut pattern, mut count) = (None, 10);
    let mut options = words.iter();
    while let Some(option) = options.next() {
        let Some(value) = options.next() else { return Err(syntax()) };
        if is(option, "COUNT") {
            let number = integer(value)?;
            count = u64::try_from(number).ok().filter(|n| *n > 0).ok_or_else(syntax)?;
        } else if is(option, "MATCH") {
            pattern = Some(value.clone());
        } else {
            return Err(syntax());
        }
    }
    Ok((pattern, count))
}

/// The next cursor, and what was found.
pub(super) fn step(reply: Reply) -> Value {
    match reply {
        Reply::Values(mut values) if !values.is_empty() => {
            let rest = values.split_off(1).into_iter().map(Value::maybe).collect();
            let next = values.pop().flatten();
            Value::Array(vec![Value::maybe(next), Value::Array(rest)])
        }
        other => plain(other),
    }
}
