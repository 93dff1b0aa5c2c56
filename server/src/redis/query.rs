//! Reads of single keys.

use bytes::Bytes;
use common::storage::engine::EngineError;

use super::MAX_REPLY_BYTES;
use super::command::{Query, Refusal, Reply};
use super::cut::Cut;
use super::record::{Kind, Record};

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
        Query::Count => Reply::Integer(cut.count() as i64),
    })
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
