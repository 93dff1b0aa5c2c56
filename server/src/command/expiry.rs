//! Deadlines: EXPIRE and TTL with their relatives.

use bytes::Bytes;

use super::arguments::{integer, invalid_expire_time, is, quoting};
use super::{Action, Context, Handled, plain, seconds};
use crate::redis::{Command, ExpireCondition, Moment, Query};
use crate::resp::Value;
use crate::service::wall_clock;

/// EXPIRE key seconds [NX | XX | GT | LT].
pub(super) fn expire(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    after(words, 1000, "expire")
}

/// PEXPIRE key milliseconds [NX | XX | GT | LT].
pub(super) fn pexpire(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    after(words, 1, "pexpire")
}

/// EXPIREAT key seconds [NX | XX | GT | LT].
pub(super) fn expireat(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    at(words, 1000, "expireat")
}

/// PEXPIREAT key milliseconds [NX | XX | GT | LT].
pub(super) fn pexpireat(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    at(words, 1, "pexpireat")
}

fn after(words: &[Bytes], unit: i64, command: &str) -> Handled {
    let condition = condition(&words[3..])?;
    let millis = integer(&words[2])?.checked_mul(unit);
    let now = wall_clock().as_millis() as i64;
    let millis = millis.filter(|millis| millis.checked_add(now).is_some());
    let millis = millis.ok_or_else(|| invalid_expire_time(command))?;
    let at = Moment::After(millis);
    Ok(Action::Write(Command::Expire { key: words[1].clone(), at, condition }, plain))
}

fn at(words: &[Bytes], unit: i64, command: &str) -> Handled {
    let condition = condition(&words[3..])?;
    let millis = integer(&words[2])?.checked_mul(unit);
    let at = Moment::At(millis.ok_or_else(|| invalid_expire_time(command))?);
    Ok(Action::Write(Command::Expire { key: words[1].clone(), at, condition }, plain))
}

fn condition(words: &[Bytes]) -> Result<ExpireCondition, Value> {
    let (mut none, mut some, mut earlier, mut later) = (false, false, false, false);
    for word in words {
        if is(word, "NX") {
            none = true;
        } else if is(word, "XX") {
            some = true;
        } else if is(word, "GT") {
            earlier = true;
        } else if is(word, "LT") {
            later = true;
        } else {
            return Err(quoting("ERR Unsupported option ", word, ""));
        }
    }
    match (none, some, earlier, later) {
        (true, false, false, false) => Ok(ExpireCondition::IfNone),
        (true, ..) => {
            Err(Value::error("ERR NX and XX, GT or LT options at the same time are not compatible"))
        }
        (_, _, true, true) => {
            Err(Value::error("ERR GT and LT options at the same time are not compatible"))
        }
        (_, _, true, _) => Ok(ExpireCondition::IfEarlier),
        (_, true, _, true) => Ok(ExpireCondition::IfSomeAndLater),
        (_, _, _, true) => Ok(ExpireCondition::IfLater),
        (_, true, ..) => Ok(ExpireCondition::IfSome),
        _ => Ok(ExpireCondition::Always),
    }
}

/// PERSIST key.
pub(super) fn persist(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Write(Command::Persist { key: words[1].clone() }, plain))
}

/// TTL key.
pub(super) fn ttl(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Remaining { key: words[1].clone() }, seconds))
}

/// PTTL key.
pub(super) fn pttl(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Remaining { key: words[1].clone() }, plain))
}

/// EXPIRETIME key.
pub(super) fn expiretime(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Deadline { key: words[1].clone() }, seconds))
}

/// PEXPIRETIME key.
pub(super) fn pexpiretime(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Deadline { key: words[1].clone() }, plain))
}
