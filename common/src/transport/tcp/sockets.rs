//! Where connections come from: two functions, so that a simulated TCP can stand in.
#![expect(clippy::disallowed_types, reason = "this is the real side of the seams")]

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::ids::NodeId;

/// The two directions of one connection. Dropping both closes it.
pub struct Socket {
    /// What the other end sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the other end receives.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The other end's address, for people.
    pub remote: String,
    /// What the other end has proven of itself, if it was asked to.
    pub proof: Option<Box<dyn Proof>>,
}

/// Something that only certain nodes can show, such as a certificate.
pub trait Proof: Send + Sync {
    /// Whether the other end may call itself `node`. `Err` says why not.
    fn proves(&self, node: NodeId) -> Result<(), String>;
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.remote)
    }
}

/// A way to make connections.
#[async_trait]
pub trait Sockets: Send + Sync + fmt::Debug {
    /// Connects to `node` at an address of the form `host:port`. Where ends prove who they are,
    /// it is an error when another than `node` answers.
    async fn connect(&self, node: NodeId, address: &str) -> io::Result<Socket>;
    /// Listens on an address of the form `host:port`; port 0 takes any free one.
    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>>;
    /// Makes an accepted connection ready for use, which may take messages both ways: so it is
    /// apart from accepting, and a slow newcomer holds up no other. The caller has a deadline.
    async fn admit(&self, socket: Socket) -> io::Result<Socket> {
        Ok(socket)
    }
}

/// A bound address that others connect to.
#[async_trait]
pub trait Listener: Send {
    /// The address it is bound to, with the real port.
    fn address(&self) -> String;
    /// Waits for the next connection.
    async fn accept(&mut self) -> io::Result<Socket>;
}

/// The operating system's TCP, without Nagle's delay.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemSockets;

fn socket(stream: TcpStream, remote: String) -> io::Result<Socket> {
    // Frames are already gathered into few writes; waiting for more would only add latency.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Socket { reader: Box::new(reader), writer: Box::new(writer), remote, proof: None })
}

#[async_trait]
impl Sockets for SystemSockets {
    async fn connect(&self, _: NodeId, address: &str) -> io::Result<Socket> {
        socket(TcpStream::connect(address).await?, address.to_owned())
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?.to_string();
        Ok(Box::new(SystemListener { listener, address }))
    }
}

struct SystemListener {
    listener: TcpListener,
    address: String,
}

#[async_trait]
impl Listener for SystemListener {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Socket> {
        let (stream, remote) = self.listener.accept().await?;
        socket(stream, remote.to_string())
    }
}
