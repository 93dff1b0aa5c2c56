//! Requests, cut out of a stream of bytes.

use bytes::{Buf, Bytes, BytesMut};

use super::inline;
use super::number::parse_i64;

/// The longest line, in bytes: an inline request, or a length.
const LONGEST_LINE: usize = 64 << 10;
/// The longest argument that the protocol knows, in bytes.
const LONGEST_ARGUMENT: i64 = 512 << 20;
/// What an argument costs beyond its bytes, in memory and in the limit.
const ARGUMENT_COST: usize = 32;

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command's name and arguments, at least the name. They share the memory that they arrived
    /// in: whoever keeps one for long copies it.
    Command(Vec<Bytes>),
    /// A request over the limit. It was skipped; the stream goes on behind it.
    TooLarge {
        /// What it took, or would have: its arguments and 32 bytes for each.
        bytes: u64,
    },
}

/// What came is not the protocol, so where the next request begins is unknown. The client is told
/// and its connection closes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Protocol error: {}", String::from_utf8_lossy(.0))]
pub struct ProtocolError(pub Bytes);

/// Bytes of one connection on their way to requests.
///
/// The bytes of a request are kept until it is complete, at most the limit and one line or read
/// more. After an error nothing more is to be asked of it.
#[derive(Debug)]
pub struct Requests {
    buffer: BytesMut,
    limit: usize,
    state: State,
    /// How far into the buffer the request in progress was read.
    at: usize,
}

#[derive(Debug)]
enum State {
    /// Between two requests.
    Idle,
    /// In a request of this many more arguments.
    Arguments {
        left: u64,
        /// The argument whose length is known.
        length: Option<usize>,
        /// Where the complete ones are in the buffer.
        done: Vec<(usize, usize)>,
        cost: u64,
    },
    /// In a request that is over the limit.
    Skipping {
        left: u64,
        /// What is still to come of the current argument with its line end.
        length: Option<usize>,
        cost: u64,
    },
}

/// A line that begins where reading stopped.
struct Line {
    end: usize,
    /// Where what follows it begins.
    next: usize,
}

impl Requests {
    /// How many bytes a request may take.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// From the next request on, so many bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// No bytes yet. A request may take `limit` bytes, counting 32 for each argument.
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, state: State::Idle, at: 0 }
    }

    /// Where arriving bytes are added.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that wait here.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The next complete request, or none until more bytes are added.
    pub fn take(&mut self) -> Result<Option<Request>, ProtocolError> {
        loop {
            match self.state {
                State::Idle => match self.buffer.first() {
                    None => return Ok(None),
                    Some(b'*') => {
                        if !self.begin()? {
                            return Ok(None);
                        }
                    }
                    Some(_) => match self.inline()? {
                        None => return Ok(None),
                        Some(words) if words.is_empty() => {}
                        Some(words) => return Ok(Some(Request::Command(words))),
                    },
                },
                State::Arguments { .. } => {
                    if let Some(command) = self.arguments()? {
                        return Ok(Some(Request::Command(command)));
                    }
                    if matches!(self.state, State::Arguments { .. }) {
                        return Ok(None);
                    }
                }
                State::Skipping { .. } => {
                    return Ok(self.skip()?.map(|bytes| Request::TooLarge { bytes }));
                }
            }
        }
    }

    /// Reads the line that says how many arguments follow. Whether it was there.
    fn begin(&mut self) -> Result<bool, ProtocolError> {
        let Some(line) = self.line("mbulk count")? else { return Ok(false) };
        let count = parse_i64(&self.buffer[self.at + 1..line.end]);
        let Some(count) = count.filter(|n| *n <= i64::from(i32::MAX)) else {
            return Err(ProtocolError("invalid multibulk length".into()));
        };
        self.at = line.next;
        let Ok(left @ 1..) = u64::try_from(count) else {
            self.consumed();
            return Ok(true);
        };
        let cost = left * ARGUMENT_COST as u64;
        self.state = if cost > self.limit as u64 {
            self.consumed();
            State::Skipping { left, length: None, cost }
        } else {
            // The count is only a claim: what it reserves is bounded.
            let done = Vec::with_capacity(left.min(64) as usize);
            State::Arguments { left, length: None, done, cost }
        };
        Ok(true)
    }

    /// Reads arguments as far as they are there; the command when it is complete.
    fn arguments(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            let known = match &self.state {
                State::Arguments { length, .. } => *length,
                _ => return Ok(None),
            };
            let size = match known {
                Some(size) => size,
                None => match self.argument_length()? {
                    Some(size) => size,
                    None => return Ok(None),
                },
            };
            let State::Arguments { left, length, done, cost } = &mut self.state else {
                return Ok(None);
            };
            if known.is_none() {
                *cost += size as u64;
                *length = Some(size);
                if *cost > self.limit as u64 {
                    let (left, cost) = (*left, *cost);
                    self.consumed();
                    self.state = State::Skipping { left, length: Some(size + 2), cost };
                    return Ok(None);
                }
            }
            if self.buffer.len() - self.at < size + 2 {
                return Ok(None);
            }
            done.push((self.at, self.at + size));
            self.at += size + 2;
            *length = None;
            *left -= 1;
            if *left == 0 {
                let done = std::mem::take(done);
                self.state = State::Idle;
                let whole = self.buffer.split_to(std::mem::take(&mut self.at)).freeze();
                return Ok(Some(done.into_iter().map(|(a, b)| whole.slice(a..b)).collect()));
            }
        }
    }

    /// Drops arguments as far as they are there; what the request cost when it is complete.
    fn skip(&mut self) -> Result<Option<u64>, ProtocolError> {
        loop {
            let State::Skipping { left, length, cost } = &mut self.state else { return Ok(None) };
            if let Some(size) = length {
                let there = (*size).min(self.buffer.len());
                *size -= there;
                let complete = *size == 0;
                self.buffer.advance(there);
                if !complete {
                    return Ok(None);
                }
                *length = None;
                *left -= 1;
                if *left == 0 {
                    let cost = *cost;
                    self.state = State::Idle;
                    return Ok(Some(cost));
                }
            }
            let Some(size) = self.argument_length()? else { return Ok(None) };
            self.consumed();
            if let State::Skipping { length, cost, .. } = &mut self.state {
                *length = Some(size + 2);
                *cost += size as u64;
            }
        }
    }

    /// Reads the line with the length of the next argument.
    fn argument_length(&mut self) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line("bulk count")? else { return Ok(None) };
        // The line may be empty: then it begins with its own end.
        let first = self.buffer[self.at];
        if first != b'$' {
            let mut text = b"expected '$', got '".to_vec();
            // Redis builds the text as C does: it ends at a zero byte.
            if first != 0 {
                text.extend([first, b'\'']);
            }
            return Err(ProtocolError(text.into()));
        }
        let size = parse_i64(&self.buffer[self.at + 1..line.end]);
        let Some(size) = size.filter(|n| (0..=LONGEST_ARGUMENT).contains(n)) else {
            return Err(ProtocolError("invalid bulk length".into()));
        };
        self.at = line.next;
        Ok(Some(size as usize))
    }

    /// The line that begins where reading stopped, and where it ends: at `\r` and one more byte.
    fn line(&self, what: &str) -> Result<Option<Line>, ProtocolError> {
        let rest = &self.buffer[self.at..];
        let searched = &rest[..rest.len().min(LONGEST_LINE + 1)];
        match searched.iter().position(|byte| *byte == b'\r') {
            Some(end) if rest.len() >= end + 2 => {
                let end = self.at + end;
                Ok(Some(Line { end, next: end + 2 }))
            }
            None if rest.len() > LONGEST_LINE => {
                Err(ProtocolError(format!("too big {what} string").into()))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Reads an inline request; no words for an empty line.
    fn inline(&mut self) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let searched = &self.buffer[..self.buffer.len().min(LONGEST_LINE + 1)];
        let Some(end) = searched.iter().position(|byte| *byte == b'\n') else {
            if self.buffer.len() > LONGEST_LINE {
                return Err(ProtocolError("too big inline request".into()));
            }
            return Ok(None);
        };
        let line = self.buffer.split_to(end + 1);
        let line = &line[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match inline::words(line) {
            Some(words) => Ok(Some(words)),
            None => Err(ProtocolError("unbalanced quotes in request".into())),
        }
    }

    /// What was read is not needed again.
    fn consumed(&mut self) {
        self.buffer.advance(std::mem::take(&mut self.at));
    }
}
