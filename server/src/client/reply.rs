//! Replies of the Redis protocol, version 2.

use std::fmt;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A short status such as `OK`.
    Status(String),
    /// An error, with its prefix.
    Error(String),
    /// A number.
    Number(i64),
    /// A value.
    Value(Vec<u8>),
    /// No value.
    Nothing,
    /// Several replies.
    Several(Vec<Reply>),
}

impl Reply {
    /// The value as bytes, if it is one.
    pub fn value(&self) -> Option<&[u8]> {
        match self {
            Self::Value(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The error's text, if it is one.
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Whether it is the status `OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Status(text) if text == "OK")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(text) => f.write_str(text),
            Self::Error(text) => write!(f, "(error) {text}"),
            Self::Number(number) => write!(f, "(integer) {number}"),
            Self::Value(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Nothing => f.write_str("(nil)"),
            Self::Several(replies) => f.debug_list().entries(replies).finish(),
        }
    }
}

/// Bytes that are no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadReply(String);

/// The longest value that is believed, in bytes: Redis's own limit.
const LONGEST: usize = 512 << 20;
/// The deepest nesting that is believed.
const DEEPEST: usize = 16;

/// The first reply in `bytes` and its length, or `None` when more bytes are needed.
pub fn parse(bytes: &[u8]) -> Result<Option<(Reply, usize)>, BadReply> {
    let mut at = 0;
    Ok(next(bytes, &mut at, 0)?.map(|reply| (reply, at)))
}

fn next(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Reply>, BadReply> {
    let Some(line) = line(bytes, at) else { return Ok(None) };
    let Some((&kind, rest)) = line.split_first() else {
        return Err(BadReply("an empty line".to_owned()));
    };
    let text = || String::from_utf8_lossy(rest).into_owned();
    let number =
        || text().parse::<i64>().map_err(|_| BadReply(format!("{:?} is not a number", text())));
    match kind {
        b'+' => Ok(Some(Reply::Status(text()))),
        b'-' => Ok(Some(Reply::Error(text()))),
        b':' => Ok(Some(Reply::Number(number()?))),
        b'$' => match number()? {
            -1 => Ok(Some(Reply::Nothing)),
            length => value(bytes, at, length),
        },
        b'*' => match number()? {
            -1 => Ok(Some(Reply::Nothing)),
            count => several(bytes, at, count, depth),
        },
        other => Err(BadReply(format!("a reply begins with {:?}", char::from(other)))),
    }
}

/// The bytes up to the next line end, which is consumed.
fn line<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let rest = &bytes[*at..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    *at += end + 2;
    Some(&rest[..end])
}

fn value(bytes: &[u8], at: &mut usize, length: i64) -> Result<Option<Reply>, BadReply> {
    let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
    let Some(length) = length else {
        return Err(BadReply("a value with an impossible length".to_owned()));
    };
    let rest = &bytes[*at..];
    if rest.len() < length + 2 {
        return Ok(None);
    }
    if &rest[length..length + 2] != b"\r\n" {
        return Err(BadReply("a value that is longer than it says".to_owned()));
    }
    *at += length + 2;
    Ok(Some(Reply::Value(rest[..length].to_vec())))
}

fn several(
    bytes: &[u8],
    at: &mut usize,
    count: i64,
    depth: usize,
) -> Result<Option<Reply>, BadReply> {
    let count = usize::try_from(count).ok().filter(|count| *count <= LONGEST);
    let Some(count) = count.filter(|_| depth < DEEPEST) else {
        return Err(BadReply("an array with an impossible length or depth".to_owned()));
    };
    let mut replies = Vec::new();
    for _ in 0..count {
        match next(bytes, at, depth + 1)? {
            Some(reply) => replies.push(reply),
            None => return Ok(None),
        }
    }
    Ok(Some(Reply::Several(replies)))
}
