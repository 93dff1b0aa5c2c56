//! Sets: SADD, SMEMBERS, SINTER, SPOP and the like.

use bytes::Bytes;

use super::arguments::{integer, syntax};
use super::explore::random;
use super::keys::cursor;
use super::{Action, Context, Handled, Show, plain};
use crate::redis::{Combine, Command, Query, Reply};
use crate::resp::Value;

/// SADD key member [member ...].
pub(super) fn sadd(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::SetAdd { key, members }, plain))
}

/// SREM key member [member ...].
pub(super) fn srem(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::SetRemove { key, members }, plain))
}

/// SMOVE source destination member.
pub(super) fn smove(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (from, to, member) = (words[1].clone(), words[2].clone(), words[3].clone());
    Ok(Action::Write(Command::SetMove { from, to, member }, plain))
}

/// SCARD key.
pub(super) fn scard(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::SetCount { key: words[1].clone() }, plain))
}

/// 1 for each that is there, 0 for each that is not.
fn there(reply: Reply) -> Result<Vec<Value>, Value> {
    match reply {
        Reply::Values(values) => {
            let there = values.into_iter().map(|v| Value::Integer(i64::from(v.is_some())));
            Ok(there.collect())
        }
        other => Err(plain(other)),
    }
}

/// SISMEMBER key member.
pub(super) fn sismember(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), vec![words[2].clone()]);
    Ok(Action::Read(Query::SetHas { key, members }, |reply| match there(reply) {
        Ok(mut there) => there.pop().unwrap_or(Value::Integer(0)),
        Err(error) => error,
    }))
}

/// SMISMEMBER key member [member ...].
pub(super) fn smismember(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, members) = (words[1].clone(), words[2..].to_vec());
    let show = |reply| there(reply).map_or_else(|error| error, Value::Array);
    Ok(Action::Read(Query::SetHas { key, members }, show))
}

/// Members without an order.
fn members(reply: Reply) -> Value {
    match reply {
        Reply::Values(values) => Value::Set(values.into_iter().map(Value::maybe).collect()),
        other => plain(other),
    }
}

fn combined(how: Combine, keys: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::SetCombine { how, keys: keys.to_vec() }, members))
}

/// SMEMBERS key.
pub(super) fn smembers(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    combined(Combine::Union, &words[1..])
}

/// SINTER key [key ...].
pub(super) fn sinter(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    combined(Combine::Intersection, &words[1..])
}

/// SUNION key [key ...].
pub(super) fn sunion(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    combined(Combine::Union, &words[1..])
}

/// SDIFF key [key ...].
pub(super) fn sdiff(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    combined(Combine::Difference, &words[1..])
}

fn stored(how: Combine, words: &[Bytes]) -> Handled {
    let (to, keys) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::SetStore { how, to, keys }, plain))
}

/// SINTERSTORE destination key [key ...].
pub(super) fn sinterstore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    stored(Combine::Intersection, words)
}

/// SUNIONSTORE destination key [key ...].
pub(super) fn sunionstore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    stored(Combine::Union, words)
}

/// SDIFFSTORE destination key [key ...].
pub(super) fn sdiffstore(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    stored(Combine::Difference, words)
}

/// The first of several values, or nothing.
fn first(reply: Reply) -> Value {
    match reply {
        Reply::Values(values) => Value::maybe(values.into_iter().next().flatten()),
        other => plain(other),
    }
}

/// SPOP key [count].
pub(super) fn spop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (count, show): (u64, Show) = match &words[2..] {
        [] => (1, first),
        [count] => {
            let positive = || Value::error("ERR value is out of range, must be positive");
            let count = crate::resp::parse_i64(count).ok_or_else(positive)?;
            (u64::try_from(count).map_err(|_| positive())?, members)
        }
        _ => return Err(syntax()),
    };
    let (key, seed) = (words[1].clone(), random());
    Ok(Action::Write(Command::SetPop { key, count, seed }, show))
}

/// SRANDMEMBER key [count].
pub(super) fn srandmember(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (count, again, show): (u64, bool, Show) = match &words[2..] {
        [] => (1, false, first),
        [count] => {
            let count = integer(count)?;
            if count < -(i64::MAX / 2) {
                return Err(Value::error("ERR value is out of range"));
            }
            (count.unsigned_abs(), count < 0, plain)
        }
        _ => return Err(syntax()),
    };
    let (key, seed) = (words[1].clone(), random());
    Ok(Action::Read(Query::SetSample { key, count, again, seed }, show))
}

/// SSCAN key cursor [MATCH pattern] [COUNT count].
pub(super) fn sscan(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, cursor) = (words[1].clone(), cursor(&words[2])?);
    let (pattern, count) = super::hashes::scan_options(&words[3..])?;
    Ok(Action::Read(Query::SetStep { key, cursor, count, pattern }, super::hashes::step))
}
