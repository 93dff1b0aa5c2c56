//! The client's side of TLS.

use std::io;
use std::path::Path;

use common::tls::{Authority, Credentials, TlsError, explain};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::line::Line;

/// Whom a client trusts, and what it shows.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Trusts the authority in the file `ca`, and shows a certificate with its key if there is one.
    pub fn load(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let own = own.map(|(certificate, key)| Credentials::load(certificate, key)).transpose()?;
        let config = common::tls::client(&Authority::load(ca)?, own.as_ref())?;
        Ok(Self(TlsConnector::from(config)))
    }

    pub(super) async fn open(&self, address: &str) -> io::Result<Line> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connected = self.0.connect(name, open(address).await?).await;
        let stream = connected.map_err(|error| io::Error::new(error.kind(), explain(&error)))?;
        Ok(Line::Tls(Box::new(TlsStream::from(stream))))
    }
}

/// A connection of TCP that sends at once.
pub(super) async fn open(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
