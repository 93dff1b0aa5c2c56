//! Strings: GET and SET with their relatives.

use bytes::Bytes;

use super::arguments::{integer, invalid_expire_time, is, not_an_integer, syntax, wrong_number};
use super::{Action, Context, Handled, done, plain};
use crate::redis::{Answer, Command, Condition, Lifetime, Moment, Query, Reply};
use crate::resp::{Value, parse_i64};
use crate::service::wall_clock;

/// GET key.
pub(super) fn get(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Get { key: words[1].clone() }, plain))
}

/// SET key value with all options.
pub(super) fn set(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let options = Options::read(&words[3..], Family::Set)?;
    let condition = match (options.if_absent, options.if_present) {
        (true, _) => Condition::IfAbsent,
        (_, true) => Condition::IfPresent,
        _ => Condition::Always,
    };
    let lifetime = match options.expiry {
        Some((unit, time)) => Lifetime::Until(moment(unit, &time, "set")?),
        None if options.keep => Lifetime::Keep,
        None => Lifetime::Clear,
    };
    let answer = if options.get { Answer::Previous } else { Answer::Done };
    Ok(store(words, words[2].clone(), condition, lifetime, answer, plain))
}

/// SETNX key value.
pub(super) fn setnx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let value = words[2].clone();
    Ok(store(words, value, Condition::IfAbsent, Lifetime::Clear, Answer::Done, done))
}

/// SETEX key seconds value.
pub(super) fn setex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    set_for(words, Unit::Seconds, "setex")
}

/// PSETEX key milliseconds value.
pub(super) fn psetex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    set_for(words, Unit::Millis, "psetex")
}

fn set_for(words: &[Bytes], unit: Unit, command: &str) -> Handled {
    let lifetime = Lifetime::Until(moment((unit, Base::Now), &words[2], command)?);
    Ok(store(words, words[3].clone(), Condition::Always, lifetime, Answer::Done, plain))
}

/// GETSET key value.
pub(super) fn getset(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let value = words[2].clone();
    Ok(store(words, value, Condition::Always, Lifetime::Clear, Answer::Previous, plain))
}

fn store(
    words: &[Bytes],
    value: Bytes,
    condition: Condition,
    lifetime: Lifetime,
    answer: Answer,
    show: super::Show,
) -> Action {
    let key = words[1].clone();
    Action::Write(Command::Set { key, value, condition, lifetime, answer }, show)
}

/// GETDEL key.
pub(super) fn getdel(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Write(Command::GetDelete { key: words[1].clone() }, plain))
}

/// GETEX key with all options.
pub(super) fn getex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let options = Options::read(&words[2..], Family::GetEx)?;
    let key = words[1].clone();
    let lifetime = match options.expiry {
        Some((unit, time)) => match moment(unit, &time, "getex") {
            Ok(moment) => Lifetime::Until(moment),
            // Redis looks at the key before it looks at the time.
            Err(error) if error == not_an_integer() => {
                return Ok(Action::Read(Query::Get { key }, |reply| {
                    unless_there(reply, not_an_integer())
                }));
            }
            Err(_) => {
                return Ok(Action::Read(Query::Get { key }, |reply| {
                    unless_there(reply, invalid_expire_time("getex"))
                }));
            }
        },
        None if options.persist => Lifetime::Clear,
        None => return Ok(Action::Read(Query::Get { key }, plain)),
    };
    Ok(Action::Write(Command::GetExpire { key, lifetime }, plain))
}

fn unless_there(reply: Reply, error: Value) -> Value {
    match reply {
        Reply::Value(Some(_)) => error,
        other => plain(other),
    }
}

/// MSET key value [key value ...].
pub(super) fn mset(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = pairs(words, "mset")?;
    Ok(Action::Write(Command::SetMany { pairs, condition: Condition::Always }, plain))
}

/// MSETNX key value [key value ...].
pub(super) fn msetnx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let pairs = pairs(words, "msetnx")?;
    Ok(Action::Write(Command::SetMany { pairs, condition: Condition::IfAbsent }, done))
}

fn pairs(words: &[Bytes], command: &str) -> Result<Vec<(Bytes, Bytes)>, Value> {
    let (pairs, rest) = words[1..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_number(command));
    }
    Ok(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
}

/// MGET key [key ...].
pub(super) fn mget(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::GetMany { keys: words[1..].to_vec() }, plain))
}

/// APPEND key value.
pub(super) fn append(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, value) = (words[1].clone(), words[2].clone());
    Ok(Action::Write(Command::Append { key, value }, plain))
}

/// STRLEN key.
pub(super) fn strlen(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::Length { key: words[1].clone() }, plain))
}

/// GETRANGE key start end, and SUBSTR, its former name.
pub(super) fn getrange(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (start, end) = (integer(&words[2])?, integer(&words[3])?);
    Ok(Action::Read(Query::Range { key: words[1].clone(), start, end }, plain))
}

/// SETRANGE key offset value.
pub(super) fn setrange(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let offset = u64::try_from(integer(&words[2])?)
        .map_err(|_| Value::error("ERR offset is out of range"))?;
    let (key, value) = (words[1].clone(), words[3].clone());
    Ok(Action::Write(Command::SetRange { key, offset, value }, plain))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Millis,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Base {
    /// Counted from now.
    Now,
    /// Counted from the Unix epoch.
    Epoch,
}

/// Whose options they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Set,
    GetEx,
}

#[derive(Default)]
struct Options {
    if_absent: bool,
    if_present: bool,
    get: bool,
    keep: bool,
    persist: bool,
    expiry: Option<((Unit, Base), Bytes)>,
}

impl Options {
    fn read(words: &[Bytes], family: Family) -> Result<Self, Value> {
        let mut these = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let set = family == Family::Set;
            if set && is(word, "NX") && !these.if_present {
                these.if_absent = true;
            } else if set && is(word, "XX") && !these.if_absent {
                these.if_present = true;
            } else if set && is(word, "GET") {
                these.get = true;
            } else if set && is(word, "KEEPTTL") && these.expiry.is_none() {
                these.keep = true;
            } else if !set && is(word, "PERSIST") && these.expiry.is_none() {
                these.persist = true;
            } else {
                let kind = expiry_kind(word).filter(|_| !these.keep && !these.persist);
                let former = these.expiry.as_ref().map(|(kind, _)| *kind);
                let (Some(kind), Some(time)) = (kind, words.next()) else { return Err(syntax()) };
                // The same option twice is taken, two different ones are not.
                if former.is_some_and(|former| former != kind) {
                    return Err(syntax());
                }
                these.expiry = Some((kind, time.clone()));
            }
        }
        Ok(these)
    }
}

fn expiry_kind(word: &[u8]) -> Option<(Unit, Base)> {
    [
        ("EX", Unit::Seconds, Base::Now),
        ("PX", Unit::Millis, Base::Now),
        ("EXAT", Unit::Seconds, Base::Epoch),
        ("PXAT", Unit::Millis, Base::Epoch),
    ]
    .into_iter()
    .find_map(|(name, unit, base)| is(word, name).then_some((unit, base)))
}

/// When a key is gone: a time that is positive, in milliseconds, and not beyond the last one.
fn moment((unit, base): (Unit, Base), time: &[u8], command: &str) -> Result<Moment, Value> {
    let time = parse_i64(time).ok_or_else(not_an_integer)?;
    let millis = match unit {
        Unit::Seconds => time.checked_mul(1000),
        Unit::Millis => Some(time),
    };
    let now = wall_clock().as_millis() as i64;
    let valid = millis.filter(|millis| *millis > 0).filter(|millis| match base {
        Base::Now => millis.checked_add(now).is_some(),
        Base::Epoch => true,
    });
    let millis = valid.ok_or_else(|| invalid_expire_time(command))?;
    Ok(if base == Base::Now { Moment::After(millis) } else { Moment::At(millis) })
}
