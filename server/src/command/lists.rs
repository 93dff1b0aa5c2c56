//! Lists: LPUSH, LRANGE, LMOVE and the like.

use bytes::Bytes;

use super::arguments::{integer, is, syntax};
use super::{Action, Context, Handled, Show, plain};
use crate::redis::{Command, End, Query, Reply};
use crate::resp::{Value, parse_i64};

fn push(words: &[Bytes], end: End, only_existing: bool) -> Handled {
    let (key, values) = (words[1].clone(), words[2..].to_vec());
    Ok(Action::Write(Command::ListPush { key, end, values, only_existing }, plain))
}

/// LPUSH key element [element ...].
pub(super) fn lpush(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    push(words, End::Front, false)
}

/// RPUSH key element [element ...].
pub(super) fn rpush(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    push(words, End::Back, false)
}

/// LPUSHX key element [element ...].
pub(super) fn lpushx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    push(words, End::Front, true)
}

/// RPUSHX key element [element ...].
pub(super) fn rpushx(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    push(words, End::Back, true)
}

fn pop(name: &str, words: &[Bytes], end: End) -> Handled {
    let one: Show = |reply| match reply {
        Reply::Values(values) => Value::maybe(values.into_iter().next().flatten()),
        other => plain(other),
    };
    let many: Show = |reply| match reply {
        Reply::NotDone => Value::NullArray,
        other => plain(other),
    };
    let (count, show) = match &words[2..] {
        [] => (1, one),
        [count] => {
            let positive = || Value::error("ERR value is out of range, must be positive");
            let count = parse_i64(count).and_then(|count| u64::try_from(count).ok());
            (count.ok_or_else(positive)?, many)
        }
        _ => return Err(super::arguments::wrong_number(name)),
    };
    Ok(Action::Write(Command::ListPop { key: words[1].clone(), end, count }, show))
}

/// LPOP key [count].
pub(super) fn lpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop("lpop", words, End::Front)
}

/// RPOP key [count].
pub(super) fn rpop(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    pop("rpop", words, End::Back)
}

/// LLEN key.
pub(super) fn llen(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    Ok(Action::Read(Query::ListLength { key: words[1].clone() }, plain))
}

/// LINDEX key index.
pub(super) fn lindex(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, index) = (words[1].clone(), words[2].clone());
    Ok(Action::Read(Query::ListIndex { key, index }, plain))
}

/// LRANGE key start stop.
pub(super) fn lrange(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (start, stop) = (integer(&words[2])?, integer(&words[3])?);
    Ok(Action::Read(Query::ListRange { key: words[1].clone(), start, stop }, plain))
}

/// LSET key index element.
pub(super) fn lset(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, index, value) = (words[1].clone(), words[2].clone(), words[3].clone());
    Ok(Action::Write(Command::ListSet { key, index, value }, plain))
}

/// LTRIM key start stop.
pub(super) fn ltrim(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (start, stop) = (integer(&words[2])?, integer(&words[3])?);
    Ok(Action::Write(Command::ListTrim { key: words[1].clone(), start, stop }, plain))
}

/// LREM key count element.
pub(super) fn lrem(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let (key, count, value) = (words[1].clone(), integer(&words[2])?, words[3].clone());
    Ok(Action::Write(Command::ListRemove { key, count, value }, plain))
}

/// LINSERT key BEFORE|AFTER pivot element.
pub(super) fn linsert(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let side = if is(&words[2], "BEFORE") {
        End::Front
    } else if is(&words[2], "AFTER") {
        End::Back
    } else {
        return Err(syntax());
    };
    let (key, pivot, value) = (words[1].clone(), words[3].clone(), words[4].clone());
    Ok(Action::Write(Command::ListInsert { key, side, pivot, value }, plain))
}

fn moved(from: (&Bytes, End), to: (&Bytes, End)) -> Handled {
    let (from, to) = ((from.0.clone(), from.1), (to.0.clone(), to.1));
    Ok(Action::Write(Command::ListMove { from, to }, plain))
}

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT.
pub(super) fn lmove(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    let end = |word: &Bytes| match word {
        word if is(word, "LEFT") => Ok(End::Front),
        word if is(word, "RIGHT") => Ok(End::Back),
        _ => Err(syntax()),
    };
    moved((&words[1], end(&words[3])?), (&words[2], end(&words[4])?))
}

/// RPOPLPUSH source destination.
pub(super) fn rpoplpush(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    moved((&words[1], End::Back), (&words[2], End::Front))
}

/// LPOS key element [RANK rank] [COUNT matches] [MAXLEN length].
pub(super) fn lpos(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    const RANK: &str = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the \
                        second ... or use negative to start from the end of the list";
    let (mut rank, mut count, mut most) = (1, None, 0);
    let mut options = words[3..].iter();
    while let Some(option) = options.next() {
        let Some(value) = options.next() else { return Err(syntax()) };
        let natural = |what: &str| {
            let negative = || Value::error(format!("ERR {what} can't be negative"));
            parse_i64(value).and_then(|n| u64::try_from(n).ok()).ok_or_else(negative)
        };
        if is(option, "RANK") {
            rank = integer(value)?;
            if rank == i64::MIN {
                let text = "ERR value is out of range, value must between \
                            -9223372036854775807 and 9223372036854775807";
                return Err(Value::error(text));
            }
            if rank == 0 {
                return Err(Value::error(RANK));
            }
        } else if is(option, "COUNT") {
            count = Some(natural("COUNT")?);
        } else if is(option, "MAXLEN") {
            most = natural("MAXLEN")?;
        } else {
            return Err(syntax());
        }
    }
    let one: Show = |reply| match reply {
        Reply::Integers(found) => found.first().map_or(Value::Null, |at| Value::Integer(*at)),
        other => plain(other),
    };
    let show = if count.is_some() { plain } else { one };
    let (key, value) = (words[1].clone(), words[2].clone());
    let query = Query::ListPositions { key, value, rank, count: count.unwrap_or(1), most };
    Ok(Action::Read(query, show))
}
