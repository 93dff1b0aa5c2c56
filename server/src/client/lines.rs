//! An answer over HTTP that comes line by line, for as long as the node sends.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::http::{Answer, HttpError};

/// The largest answer that is not a stream, in bytes.
const LARGEST: u64 = 1 << 20;

/// The lines of an answer.
#[derive(Debug)]
pub struct Lines {
    address: String,
    stream: BufReader<TcpStream>,
    patience: Duration,
}

impl Lines {
    /// Asks for a path. An answer that is no stream is the second case. `patience` is how long each
    /// line may take.
    pub async fn get(
        address: &str,
        path: &str,
        authorization: Option<&str>,
        patience: Duration,
    ) -> Result<Result<Self, Answer>, HttpError> {
        let io = |source| HttpError::Io { address: address.to_owned(), source };
        let late = |_| HttpError::TimedOut { address: address.to_owned(), after: patience };
        let asked = tokio::time::timeout(patience, async {
            let mut stream = TcpStream::connect(address).await?;
            // Of version 1.0, so that lines come as they are and not in chunks.
            let mut head = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n");
            if let Some(authorization) = authorization {
                let _ = write!(head, "Authorization: {authorization}\r\n");
            }
            head.push_str("\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut stream = BufReader::new(stream);
            let (mut code, mut line) = (None, String::new());
            loop {
                line.clear();
                if stream.read_line(&mut line).await? == 0 || line == "\r\n" {
                    break;
                }
                code = code.or_else(|| line.split(' ').nth(1)?.parse::<u16>().ok());
            }
            let code = code.unwrap_or(0);
            if code == 200 {
                return Ok(Ok(stream));
            }
            let mut body = String::new();
            stream.take(LARGEST).read_to_string(&mut body).await?;
            Ok(Err(Answer { code, body }))
        });
        let answer = asked.await.map_err(late)?.map_err(io)?;
        let address = address.to_owned();
        Ok(answer.map(|stream| Self { address, stream, patience }))
    }

    /// The next whole line; none at the end.
    pub async fn next(&mut self) -> Result<Option<String>, HttpError> {
        let mut line = String::new();
        let read = tokio::time::timeout(self.patience, self.stream.read_line(&mut line)).await;
        let address = || self.address.clone();
        let read =
            read.map_err(|_| HttpError::TimedOut { address: address(), after: self.patience })?;
        read.map_err(|source| HttpError::Io { address: address(), source })?;
        Ok(line.ends_with('\n').then(|| line.trim_end().to_owned()))
    }
}
