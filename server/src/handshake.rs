//! The beginning of a client's connection under TLS.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::line::Line;

/// What the first byte of every handshake is: the type of its record.
const HANDSHAKE: u8 = 0x16;
/// What a client is told that speaks in the open.
const PLAIN: &[u8] = b"-ERR this port speaks TLS only; connect with TLS (redis-cli --tls)\r\n";
/// How long, and for how many bytes, such a client is listened to so that it can read that: a
/// connection that is closed with bytes unread takes the answer with it.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES: u64 = 64 << 10;

/// Why a client got no connection.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It went before it said anything, as those do that only look whether the port is open.
    Gone,
    /// It did not speak TLS, or had not the right certificate.
    Refused(String),
}

/// Does the handshake. The caller has a deadline.
pub(crate) async fn secure(stream: TcpStream, tls: &TlsAcceptor) -> Result<Line, Refusal> {
    let mut first = [0; 1];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(Refusal::Gone),
        Ok(_) if first[0] != HANDSHAKE => {
            // It may be gone already, or not read.
            let _ = tokio::time::timeout(FAREWELL, turn_away(stream)).await;
            return Err(Refusal::Refused("it does not speak TLS".to_owned()));
        }
        Ok(_) => {}
    }
    match tls.accept(stream).await {
        Ok(stream) => Ok(Line::Tls(Box::new(TlsStream::from(stream)))),
        Err(error) => Err(Refusal::Refused(common::tls::explain(&error))),
    }
}

async fn turn_away(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(PLAIN).await?;
    stream.shutdown().await?;
    let mut unread = stream.take(FAREWELL_BYTES);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await.map(drop)
}
