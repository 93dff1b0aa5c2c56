//! Keys of any type: DEL, EXISTS, RENAME, SCAN and the like.

use bytes::Bytes;

use super::arguments::{database, integer, is, syntax};
use super::explore::Exploration;
use super::{Action, Context, Handled, done, plain};
use crate::redis::{Command, Condition, Query, Reply};
use crate::resp::{Value, parse_i64};

/// DEL and UNLINK key [key ...].
pub(super) fn del(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Write(Command::Delete { keys: words[1..].to_vec() }, plain))
}

/// EXISTS and TOUCH key [key ...].
pub(super) fn exists(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Exists { keys: words[1..].to_vec() }, plain))
}

/// TYPE key.
pub(super) fn kind(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Kind { key: words[1].clone() }, plain))
}

/// RENAME key newkey.
pub(super) fn rename(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (from, to) = (words[1].clone(), words[2].clone());
    Ok(Action::Write(Command::Rename { from, to, condition: Condition::Always }, plain))
}

/// RENAMENX key newkey.
pub(super) fn renamenx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (from, to) = (words[1].clone(), words[2].clone());
    Ok(Action::Write(Command::Rename { from, to, condition: Condition::IfAbsent }, done))
}

/// COPY source destination [DB 0] [REPLACE].
pub(super) fn copy(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (from, to) = (words[1].clone(), words[2].clone());
    let mut condition = Condition::IfAbsent;
    let mut options = words[3..].iter();
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            condition = Condition::Always;
        } else if is(option, "DB")
            && let Some(number) = options.next()
        {
            database(number)?;
        } else {
            return Err(syntax());
        }
    }
    if from == to {
        return Err(Value::error("ERR source and destination objects are the same"));
    }
    Ok(Action::Write(Command::Copy { from, to, condition }, plain))
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type].
pub(super) fn scan(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let cursor = cursor(&words[1])?;
    let (mut pattern, mut count, mut kind) = (None, 10, None);
    let mut options = words[2..].iter();
    while let Some(option) = options.next() {
        let Some(value) = options.next() else { return Err(syntax()) };
        if is(option, "COUNT") {
            let number = integer(value)?;
            count = usize::try_from(number).ok().filter(|n| *n > 0).ok_or_else(syntax)?;
        } else if is(option, "MATCH") {
            pattern = Some(value.clone());
        } else if is(option, "TYPE") {
            kind = Some(value.clone());
        } else {
            return Err(syntax());
        }
    }
    Ok(Action::Explore(Exploration::Scan { cursor, pattern, count, kind }))
}

/// A cursor as C's `strtoul` reads it: a sign is taken, and nothing at all is 0.
pub(super) fn cursor(word: &[u8]) -> Result<u64, Value> {
    let invalid = || Value::error("ERR invalid cursor");
    let text = std::str::from_utf8(word).map_err(|_| invalid())?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if text.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// KEYS pattern.
pub(super) fn keys(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Explore(Exploration::Keys { pattern: words[1].clone() }))
}

/// RANDOMKEY.
pub(super) fn randomkey(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    Ok(Action::Explore(Exploration::Any))
}

/// DBSIZE.
pub(super) fn dbsize(_: &mut Context<'_>, _: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Count, plain))
}

/// FLUSHALL and FLUSHDB [ASYNC | SYNC]. Both are the same: it is done at once, and what is left of
/// the keys is swept later.
pub(super) fn flush(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match &words[1..] {
        [] => {}
        [how] if is(how, "ASYNC") || is(how, "SYNC") => {}
        _ => return Err(syntax()),
    }
    Ok(Action::Write(Command::Flush, plain))
}

/// OBJECT ENCODING key. How a value is kept here has no name in Redis: the answer is what Redis
/// would have chosen for a value that was set, not one that has grown.
pub(super) fn encoding(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Get { key: words[2].clone() }, |reply| match reply {
        Reply::Value(Some(value)) => Value::bulk(match value.len() {
            1..=20 if parse_i64(&value).is_some() => "int",
            0..=44 => "embstr",
            _ => "raw",
        }),
        other => plain(other),
    }))
}

/// OBJECT REFCOUNT key.
pub(super) fn refcount(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if_there(&words[2], |reply| there(reply, Value::Integer(1)))
}

/// OBJECT IDLETIME key. Accesses are not recorded: reads change nothing here.
pub(super) fn idletime(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if_there(&words[2], |reply| there(reply, Value::Integer(0)))
}

/// OBJECT FREQ key.
pub(super) fn freq(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if_there(&words[2], |reply| there(reply, Value::error(NO_FREQUENCIES)))
}

const NO_FREQUENCIES: &str = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that \
     when switching between policies at runtime LRU and LFU data will take some time to adjust.";

fn if_there(key: &Bytes, show: super::Show) -> Handled {
    Ok(Action::Read(Query::Exists { keys: vec![key.clone()] }, show))
}

fn there(reply: Reply, value: Value) -> Value {
    match reply {
        Reply::Integer(0) => Value::Null,
        Reply::Integer(_) => value,
        other => plain(other),
    }
}
