//! Replies, read as a client reads them: for tests, benches and the commands that ask a server.

use bytes::Bytes;

use super::number::parse_i64;
use super::value::Value;

/// Arrays within arrays that a reply may have.
const DEEPEST: usize = 32;

/// The bytes are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reply of the Redis protocol: {0}")]
pub struct ReadError(String);

/// The first reply in `bytes` and its length, or none until it is complete.
///
/// Texts that are not known beforehand come as [`Value::Bulk`], simple or not.
pub fn read(bytes: &[u8]) -> Result<Option<(Value, usize)>, ReadError> {
    let mut at = 0;
    Ok(one(bytes, &mut at, 0)?.map(|value| (value, at)))
}

fn one(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Value>, ReadError> {
    if depth > DEEPEST {
        return Err(ReadError(format!("more than {DEEPEST} arrays within each other")));
    }
    let rest = &bytes[*at..];
    let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let (kind, text) = match &rest[..end] {
        [kind, text @ ..] => (*kind, text),
        [] => return Err(ReadError("an empty line".into())),
    };
    *at += end + 2;
    let number = || {
        parse_i64(text).ok_or_else(|| {
            ReadError(format!("{:?} is not a number", String::from_utf8_lossy(text)))
        })
    };
    let value = match kind {
        b'+' if text == b"OK" => Value::OK,
        b'+' => Value::bulk(Bytes::copy_from_slice(text)),
        b'-' => Value::error(Bytes::copy_from_slice(text)),
        b':' => Value::Integer(number()?),
        b'_' => Value::Null,
        b'#' => Value::Boolean(text == b"t"),
        b',' => {
            let parsed = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
            Value::Double(parsed.ok_or_else(|| ReadError("not a double".into()))?)
        }
        b'$' | b'=' => {
            let Ok(size) = usize::try_from(number()?) else { return Ok(Some(Value::Null)) };
            let Some(body) = bytes.get(*at..).and_then(|rest| rest.get(..size.checked_add(2)?))
            else {
                return Ok(None);
            };
            *at += size + 2;
            let body = Bytes::copy_from_slice(&body[..size]);
            match kind {
                b'=' => Value::Verbatim(body.slice(body.len().min(4)..)),
                _ => Value::Bulk(body),
            }
        }
        b'*' | b'~' | b'>' => {
            let Ok(count) = usize::try_from(number()?) else { return Ok(Some(Value::NullArray)) };
            let mut values = Vec::new();
            for _ in 0..count {
                let Some(value) = one(bytes, at, depth + 1)? else { return Ok(None) };
                values.push(value);
            }
            if kind == b'~' { Value::Set(values) } else { Value::Array(values) }
        }
        b'%' => {
            let mut pairs = Vec::new();
            for _ in 0..number()? {
                let Some(key) = one(bytes, at, depth + 1)? else { return Ok(None) };
                let Some(value) = one(bytes, at, depth + 1)? else { return Ok(None) };
                pairs.push((key, value));
            }
            Value::Map(pairs)
        }
        other => return Err(ReadError(format!("it begins with {:?}", char::from(other)))),
    };
    Ok(Some(value))
}
