//! Arguments, and what is said of those that make no sense.

use bytes::Bytes;

use crate::resp::{Value, parse_i64};

/// `ERR syntax error`.
pub(super) fn syntax() -> Value {
    Value::error("ERR syntax error")
}

/// `ERR value is not an integer or out of range`.
pub(super) fn not_an_integer() -> Value {
    Value::error("ERR value is not an integer or out of range")
}

/// `ERR invalid expire time in 'set' command`.
pub(super) fn invalid_expire_time(command: &str) -> Value {
    Value::error(format!("ERR invalid expire time in '{command}' command"))
}

/// `ERR wrong number of arguments for 'get' command`.
pub(super) fn wrong_number(command: &str) -> Value {
    Value::error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// A number of 64 bits.
pub(super) fn integer(word: &[u8]) -> Result<i64, Value> {
    parse_i64(word).ok_or_else(not_an_integer)
}

/// A number of 32 bits.
pub(super) fn small_integer(word: &[u8]) -> Result<i32, Value> {
    i32::try_from(integer(word)?).map_err(|_| {
        let (low, high) = (i32::MIN, i32::MAX);
        Value::error(format!("ERR value is out of range, value must between {low} and {high}"))
    })
}

/// A database's number: there is one, 0.
pub(super) fn database(word: &[u8]) -> Result<(), Value> {
    match small_integer(word)? {
        0 => Ok(()),
        _ => Err(Value::error("ERR DB index is out of range")),
    }
}

/// Whether a word is this one, in capitals or not.
pub(super) fn is(word: &[u8], expected: &str) -> bool {
    word.eq_ignore_ascii_case(expected.as_bytes())
}

/// A word as C's `%.128s` shows it: up to a zero byte and 128 bytes.
pub(super) fn shown(word: &[u8]) -> &[u8] {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len());
    &word[..end.min(128)]
}

/// An error that quotes what the client sent, as it was sent.
pub(super) fn quoting(before: &str, word: &[u8], after: &str) -> Value {
    Value::Error(Bytes::from([before.as_bytes(), shown(word), after.as_bytes()].concat()))
}
