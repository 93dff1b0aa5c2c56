//! Connections between nodes under TLS, over any other kind of connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::NoServerSessionStorage;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::{
    Authority, Credentials, FOR_NODES, TlsError, client_config, explain, names, server_config,
    server_name,
};
use crate::ids::NodeId;
use crate::transport::tcp::{Listener, Proof, Socket, Sockets};

/// Mutual TLS between nodes: each end shows the certificate of the node that it says it is.
///
/// Give it to a transport as [`TcpParts::sockets`](crate::transport::tcp::TcpParts). Whoever has no
/// certificate of the authority, or another node's, gets no further than the handshake.
pub struct TlsSockets {
    inner: Arc<dyn Sockets>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl fmt::Debug for TlsSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSockets").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl TlsSockets {
    /// Connections of `node` over `inner`, such as
    /// [`SystemSockets`](crate::transport::tcp::SystemSockets). `own` must name `node`.
    pub fn new(
        inner: Arc<dyn Sockets>,
        node: NodeId,
        own: &Credentials,
        nodes: &Authority,
    ) -> Result<Self, TlsError> {
        own.must_name(node)?;
        let mut server = server_config(own, Some(nodes), FOR_NODES)?;
        // Connections live for long, and every one of them shall show its certificate anew.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = client_config(nodes, Some(own), FOR_NODES)?;
        client.resumption = Resumption::disabled();
        Ok(Self {
            inner,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
        })
    }
}

fn secured<S>(stream: S, remote: String, proof: Option<Box<dyn Proof>>) -> Socket
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    Socket { reader: Box::new(Plainly(reader)), writer: Box::new(writer), remote, proof }
}

fn plainly(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), explain(error))
}

#[async_trait]
impl Sockets for TlsSockets {
    async fn connect(&self, node: NodeId, address: &str) -> io::Result<Socket> {
        let Socket { reader, writer, remote, .. } = self.inner.connect(node, address).await?;
        let stream = tokio::io::join(reader, writer);
        let stream = self.connector.connect(server_name(node)?, stream).await;
        // The name of the node was checked by the handshake.
        Ok(secured(stream.map_err(|e| plainly(&e))?, remote, None))
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        self.inner.bind(address).await
    }

    async fn admit(&self, socket: Socket) -> io::Result<Socket> {
        let Socket { reader, writer, remote, .. } = self.inner.admit(socket).await?;
        let stream = self.acceptor.accept(tokio::io::join(reader, writer)).await;
        let stream = stream.map_err(|e| plainly(&e))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let Some(shown) = shown.map(|shown| shown.clone().into_owned()) else {
            return Err(io::Error::other("it showed no certificate"));
        };
        Ok(secured(TlsStream::from(stream), remote, Some(Box::new(Shown(shown)))))
    }
}

/// The certificate that the other end has shown, and holds the key of.
struct Shown(CertificateDer<'static>);

impl Proof for Shown {
    fn proves(&self, node: NodeId) -> Result<(), String> {
        names(&self.0, node)
    }
}

/// A reader whose errors say what to do. With TLS 1.3 the end that connects learns only when it
/// reads that it was refused.
struct Plainly<R>(R);

impl<R: AsyncRead + Unpin> AsyncRead for Plainly<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map(|read| match read {
            // Killed, without a farewell of TLS. Frames carry their length, so a cut one is noticed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(error),
            Err(error) => Err(plainly(&error)),
            Ok(()) => Ok(()),
        })
    }
}
