//! One request over HTTP/1.1, as much as asking a node for its status needs.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes.
const LARGEST: usize = 16 << 20;
/// The largest head of an answer that is too large for memory, and the largest refusal, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
/// How many bytes of it are read at once.
const PIECE: usize = 256 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, or it broke.
    #[error("{address}: {source}")]
    Io {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time.
    #[error("{address}: no answer within {after:?}")]
    TimedOut {
        /// Where to.
        address: String,
        /// How long it was waited.
        after: Duration,
    },
    /// What came back is not what was asked for.
    #[error("{address}: {problem}")]
    Unexpected {
        /// Where to.
        address: String,
        /// What is wrong.
        problem: String,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The body.
    pub body: String,
}

/// Asks for a path.
pub async fn get(address: &str, path: &str, timeout: Duration) -> Result<Answer, HttpError> {
    request(address, "GET", path, None, timeout).await
}

/// Asks for a path and reads its JSON.
pub async fn get_json<T: DeserializeOwned>(
    address: &str,
    path: &str,
    timeout: Duration,
) -> Result<T, HttpError> {
    let answer = get(address, path, timeout).await?;
    let unexpected =
        |problem: String| HttpError::Unexpected { address: address.to_owned(), problem };
    if answer.code != 200 {
        return Err(unexpected(format!("answered {}: {}", answer.code, answer.body.trim())));
    }
    serde_json::from_str(&answer.body)
        .map_err(|error| unexpected(format!("this is not a Tercet node of this version: {error}")))
}

/// Sends one request. `body` is JSON.
pub async fn request(
    address: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
    timeout: Duration,
) -> Result<Answer, HttpError> {
    let io = |source| HttpError::Io { address: address.to_owned(), source };
    match tokio::time::timeout(timeout, exchange(address, method, path, body)).await {
        Ok(received) => read(&received.map_err(io)?).ok_or_else(|| HttpError::Unexpected {
            address: address.to_owned(),
            problem: "the answer is not HTTP".to_owned(),
        }),
        Err(_) => Err(HttpError::TimedOut { address: address.to_owned(), after: timeout }),
    }
}

/// A large answer on its way.
#[derive(Debug)]
pub struct Download {
    address: String,
    stream: TcpStream,
    /// What came with the head.
    first: Option<Bytes>,
    patience: Duration,
}

impl Download {
    /// The next piece, or none at the end. An answer that broke off ends too: whoever reads it has
    /// to know its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        let read = within(&self.address, self.patience, self.stream.read_buf(&mut piece)).await?;
        Ok(Some(piece.freeze()).filter(|_| read > 0))
    }
}

/// Asks for a path whose answer is too large for memory. The node may be silent for `patience`.
pub async fn download(
    address: &str,
    path: &str,
    patience: Duration,
) -> Result<Download, HttpError> {
    let unexpected =
        |problem: String| HttpError::Unexpected { address: address.to_owned(), problem };
    let mut stream = within(address, patience, TcpStream::connect(address)).await?;
    // By version 1.0, so that the body comes as it is and not in chunks.
    let head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    within(address, patience, stream.write_all(head.as_bytes())).await?;
    let mut received = BytesMut::with_capacity(PIECE);
    let body = loop {
        let found = received.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = found {
            break end + 4;
        }
        let long = received.len() > LARGEST_HEAD;
        if long || within(address, patience, stream.read_buf(&mut received)).await? == 0 {
            return Err(unexpected("the answer is not HTTP".to_owned()));
        }
    };
    let head = received.split_to(body);
    let code = String::from_utf8_lossy(&head);
    let code = code.get(9..12).and_then(|code| code.parse::<u16>().ok());
    let mut download = Download {
        address: address.to_owned(),
        stream,
        first: Some(received.freeze()).filter(|first| !first.is_empty()),
        patience,
    };
    if code == Some(200) {
        return Ok(download);
    }
    let mut said = BytesMut::new();
    while said.len() < LARGEST_HEAD
        && let Some(piece) = download.next().await?
    {
        said.extend_from_slice(&piece);
    }
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let json: Option<serde_json::Value> = serde_json::from_str(&said).ok();
    let text = |key: &str| json.as_ref().and_then(|json| json[key].as_str().map(str::to_owned));
    Err(unexpected(match (text("error"), text("hint")) {
        (Some(error), Some(hint)) => format!("{error}; {hint}"),
        _ => format!("answered {}: {said}", code.unwrap_or_default()),
    }))
}

async fn within<T>(
    address: &str,
    after: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, HttpError> {
    match tokio::time::timeout(after, step).await {
        Ok(done) => done.map_err(|source| HttpError::Io { address: address.to_owned(), source }),
        Err(_) => Err(HttpError::TimedOut { address: address.to_owned(), after }),
    }
}

async fn exchange(
    address: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    if let Some(body) = body {
        head.push_str("Content-Type: application/json\r\n");
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    head.push_str(body.unwrap_or_default());
    stream.write_all(head.as_bytes()).await?;
    let mut received = Vec::new();
    stream.take(LARGEST as u64).read_to_end(&mut received).await?;
    Ok(received)
}

/// Takes an answer apart. Nodes send bodies whole, never in chunks.
fn read(received: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(received);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { code, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = read(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{\"x\":1}").unwrap();
        assert_eq!((answer.code, answer.body.as_str()), (503, "{\"x\":1}"));
        for bad in ["", "HTTP/1.1 200 OK\r\n", "-ERR unknown\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
