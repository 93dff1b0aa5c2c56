//! Counters: INCR with its relatives.

use bytes::Bytes;

use super::arguments::integer;
use super::{Action, Context, Handled, plain};
use crate::redis::Command;
use crate::resp::Value;

/// INCR key.
pub(super) fn incr(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(by(words, 1))
}

/// DECR key.
pub(super) fn decr(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(by(words, -1))
}

/// INCRBY key number.
pub(super) fn incrby(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(by(words, integer(&words[2])?))
}

/// DECRBY key number.
pub(super) fn decrby(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match integer(&words[2])?.checked_neg() {
        Some(number) => Ok(by(words, number)),
        None => Err(Value::error("ERR decrement would overflow")),
    }
}

/// INCRBYFLOAT key number.
pub(super) fn incrbyfloat(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, by) = (words[1].clone(), words[2].clone());
    Ok(Action::Write(Command::IncrementFloat { key, by }, plain))
}

fn by(words: &[Bytes], by: i64) -> Action {
    Action::Write(Command::Increment { key: words[1].clone(), by }, plain)
}
