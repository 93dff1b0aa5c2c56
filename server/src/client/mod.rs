//! The other end of the line: a small client for the Redis protocol and one for HTTP.
//!
//! The demo, the load generator and the tests talk to nodes as any client would, through a socket.
//! The parser of replies is apart from the server's, so that a mistake in one does not hide in the
//! other.

pub mod http;
pub mod lines;
mod reply;
mod tls;

use std::io;
use std::time::Duration;

use common::tls::TlsError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

pub use reply::{BadReply, Reply, parse};
pub use tls::Tls;

use self::tls::open;
use crate::line::Line;

/// Why a command has no reply. The connection is not used again after any of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The certificates of this end cannot be used: nothing was sent.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// No connection: the command was not sent.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke: the command may or may not have been done.
    #[error("the connection to {address} broke: {source}")]
    Broken {
        /// Where to.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No reply in time: the command may or may not have been done.
    #[error("no reply from {address} within {after:?}")]
    TimedOut {
        /// Where to.
        address: String,
        /// How long it was waited.
        after: Duration,
    },
    /// What came back is not the Redis protocol.
    #[error("{address} does not speak the Redis protocol: {problem}")]
    Protocol {
        /// Where to.
        address: String,
        /// What is wrong.
        problem: BadReply,
    },
}

impl ClientError {
    /// Whether it is certain that the command was not done.
    pub const fn never_sent(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Certificates(_))
    }
}

/// Encodes one command as clients send it.
pub fn encode(command: &[&[u8]], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for part in command {
        into.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        into.extend_from_slice(part);
        into.extend_from_slice(b"\r\n");
    }
}

/// One connection to a node.
#[derive(Debug)]
pub struct Client {
    address: String,
    line: Line,
    timeout: Duration,
    received: Vec<u8>,
    consumed: usize,
}

impl Client {
    /// Connects. `timeout` bounds the connecting and each later exchange.
    pub async fn connect(address: &str, timeout: Duration) -> Result<Self, ClientError> {
        Self::over(address, timeout, async { open(address).await.map(Line::Plain) }).await
    }

    /// The same with TLS. The server's certificate must carry the host of `address`.
    pub async fn connect_tls(
        address: &str,
        tls: &Tls,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        Self::over(address, timeout, Box::pin(tls.open(address))).await
    }

    async fn over(
        address: &str,
        timeout: Duration,
        connecting: impl Future<Output = io::Result<Line>>,
    ) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { address: address.to_owned(), source };
        let line = match tokio::time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        Ok(Self { address: address.to_owned(), line, timeout, received: Vec::new(), consumed: 0 })
    }

    /// Where it is connected to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends one command and waits for its reply. An error reply is a reply.
    pub async fn command(&mut self, command: &[&[u8]]) -> Result<Reply, ClientError> {
        let mut bytes = Vec::new();
        encode(command, &mut bytes);
        let mut reply = None;
        self.exchange(&bytes, 1, |received| reply = Some(received)).await?;
        reply.ok_or_else(|| self.broken(io::ErrorKind::UnexpectedEof.into()))
    }

    /// As [`Client::command`], with the parts as text separated by spaces.
    pub async fn line(&mut self, line: &str) -> Result<Reply, ClientError> {
        let parts: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        self.command(&parts).await
    }

    /// Sends encoded commands at once and gives each of the `expected` replies, in order, to
    /// `each`. The whole exchange has one deadline.
    pub async fn exchange(
        &mut self,
        bytes: &[u8],
        expected: usize,
        each: impl FnMut(Reply),
    ) -> Result<(), ClientError> {
        let deadline = Instant::now() + self.timeout;
        let (received, consumed) = (&mut self.received, &mut self.consumed);
        let outcome = match &mut self.line {
            Line::Plain(stream) => {
                let halves = stream.split();
                let both = converse(halves, bytes, expected, received, consumed, each);
                timeout_at(deadline, both).await
            }
            Line::Tls(stream) => {
                let halves = tokio::io::split(&mut **stream);
                let both = converse(halves, bytes, expected, received, consumed, each);
                timeout_at(deadline, both).await
            }
        };
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Io(source))) => Err(self.broken(source)),
            Ok(Err(Failure::Protocol(problem))) => {
                Err(ClientError::Protocol { address: self.address.clone(), problem })
            }
            Err(_) => {
                Err(ClientError::TimedOut { address: self.address.clone(), after: self.timeout })
            }
        }
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Broken { address: self.address.clone(), source }
    }
}

/// Sends `bytes`, and gives each reply to `each`.
async fn converse(
    (mut reader, mut writer): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    bytes: &[u8],
    expected: usize,
    received: &mut Vec<u8>,
    consumed: &mut usize,
    mut each: impl FnMut(Reply),
) -> Result<(), Failure> {
    // Sending and receiving side by side: with a long pipeline, a server that waits for its
    // replies to be read and a client that waits for its commands to be read wait for ever.
    let receive = async {
        let mut left = expected;
        while left > 0 {
            if let Some((reply, length)) =
                parse(&received[*consumed..]).map_err(Failure::Protocol)?
            {
                *consumed += length;
                left -= 1;
                each(reply);
                continue;
            }
            received.drain(..std::mem::take(consumed));
            if reader.read_buf(received).await.map_err(Failure::Io)? == 0 {
                let closed = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it");
                return Err(Failure::Io(closed));
            }
        }
        Ok(())
    };
    let send = async {
        writer.write_all(bytes).await.map_err(Failure::Io)?;
        writer.flush().await.map_err(Failure::Io)
    };
    tokio::try_join!(send, receive).map(drop)
}

enum Failure {
    Io(io::Error),
    Protocol(BadReply),
}

#[cfg(test)]
mod tests;
