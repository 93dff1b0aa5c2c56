//! Introductions: the handshake over a socket, and what this node knows of others by it.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Shared, Socket};
use crate::ids::{ClusterId, Incarnation, NodeId};
use crate::transport::Class;
use crate::transport::handshake::{self, Greeting, Hello, Identity};

/// Incarnations of this many nodes are remembered. More distinct ids than this only come from a
/// peer that invents them.
const REMEMBERED: usize = 4096;

/// Who this node is and which incarnations of others it has met.
#[derive(Debug)]
pub(super) struct Acquaintances {
    pub(super) identity: Identity,
    met: BTreeMap<NodeId, Incarnation>,
}

impl Acquaintances {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, met: BTreeMap::new() }
    }

    /// Judges a hello and remembers what it says. `Err` is the reason for the other end to read.
    fn meet(&mut self, hello: &Hello) -> Result<(), String> {
        self.identity.judge(hello)?;
        let newest = self.met.get(&hello.node).copied();
        if let Some(newest) = newest
            && hello.incarnation < newest
        {
            return Err(format!(
                "{}, it has met incarnation {newest} of node {} and refuses the older {}: is the node running twice?",
                self.identity, hello.node, hello.incarnation
            ));
        }
        if newest.is_none() && self.met.len() >= REMEMBERED {
            return Err(format!("{}, it has met too many nodes", self.identity));
        }
        self.met.insert(hello.node, hello.incarnation);
        if self.identity.cluster == ClusterId(0) && hello.cluster != ClusterId(0) {
            self.identity.offered.get_or_insert(hello.cluster);
        }
        Ok(())
    }
}

impl Shared {
    fn hello(&self, expected: NodeId, class: Class) -> Hello {
        let identity = super::wire::lock(&self.acquaintances).identity.clone();
        Hello {
            versions: (handshake::OLDEST, handshake::NEWEST),
            cluster: identity.cluster,
            epoch: identity.epoch,
            node: identity.node,
            incarnation: self.config.incarnation,
            expected,
            class,
            frame_limit: self.config.limits.frame as u32,
            name: identity.name,
            address: self.address.clone(),
        }
    }

    /// Introduces this node on a connection it made. `Err` says why there can be none.
    pub(super) async fn greet(
        &self,
        socket: &mut Socket,
        expected: NodeId,
        class: Class,
    ) -> Result<Hello, String> {
        let hello = Greeting::Hello(self.hello(expected, class));
        send(&mut socket.writer, &hello).await?;
        match receive(&mut socket.reader).await? {
            Greeting::Welcome(hello) => {
                if hello.node != expected {
                    return Err(format!(
                        "node {} answers at this address, not node {expected}: check the addresses",
                        hello.node
                    ));
                }
                super::wire::lock(&self.acquaintances).meet(&hello)?;
                Ok(hello)
            }
            Greeting::Rejected(reason) => Err(format!("it refused the connection: {reason}")),
            Greeting::Hello(_) => Err("it answered out of turn".to_owned()),
        }
    }

    /// Hears who has connected. `Err` says why the connection must be closed.
    pub(super) async fn receive_greeting(&self, socket: &mut Socket) -> Result<Hello, String> {
        match receive(&mut socket.reader).await? {
            Greeting::Hello(hello) => {
                // Before anything that it says is remembered.
                let proven = socket.proof.as_ref().map_or(Ok(()), |p| p.proves(hello.node));
                let judged =
                    proven.and_then(|()| super::wire::lock(&self.acquaintances).meet(&hello));
                match judged {
                    Ok(()) => Ok(hello),
                    Err(reason) => {
                        self.reject(socket, &reason).await;
                        Err(format!("refused node {} with: {reason}", hello.node))
                    }
                }
            }
            Greeting::Welcome(_) | Greeting::Rejected(_) => {
                Err("it answered a greeting that was never sent".to_owned())
            }
        }
    }

    pub(super) async fn welcome(&self, socket: &mut Socket, to: &Hello) -> Result<(), String> {
        let welcome = Greeting::Welcome(self.hello(to.node, to.class));
        send(&mut socket.writer, &welcome).await
    }

    pub(super) async fn reject(&self, socket: &mut Socket, reason: &str) {
        let rejected = Greeting::Rejected(reason.to_owned());
        // The connection closes in any case; the reason is a courtesy.
        let _ = send(&mut socket.writer, &rejected).await;
        let _ = socket.writer.shutdown().await;
    }
}

async fn send(
    writer: &mut (dyn AsyncWrite + Send + Unpin),
    greeting: &Greeting,
) -> Result<(), String> {
    writer.write_all(&handshake::encode(greeting)).await.map_err(|e| e.to_string())?;
    writer.flush().await.map_err(|e| e.to_string())
}

async fn receive(reader: &mut (dyn AsyncRead + Send + Unpin)) -> Result<Greeting, String> {
    let broken = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => "it closed the connection in the handshake".to_owned(),
        _ => format!("the connection broke in the handshake: {e}"),
    };
    let mut header = [0; handshake::HEADER];
    // The first bytes tell whether it speaks this protocol, also when no whole header follows.
    let (magic, rest) = header.split_at_mut(4);
    reader.read_exact(magic).await.map_err(broken)?;
    handshake::check_magic(magic).map_err(|e| e.to_string())?;
    reader.read_exact(rest).await.map_err(broken)?;
    let length = handshake::length(header).map_err(|e| e.to_string())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(broken)?;
    handshake::decode(header, &body).map_err(|e| e.to_string())
}
