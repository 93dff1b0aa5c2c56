//! Sockets that do on demand what networks do when they like.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ids::NodeId;
use crate::transport::tcp::{Listener, Socket, Sockets, SystemSockets};

/// The system's sockets, whose outgoing connections can be harmed.
#[derive(Debug, Default)]
pub(super) struct FaultySockets {
    refuse: AtomicBool,
    attempts: AtomicUsize,
    wires: Mutex<Vec<Arc<Wire>>>,
}

/// What happens on one connection.
#[derive(Debug)]
struct Wire {
    /// After so many more bytes one is flipped; negative: none.
    flip_in: AtomicI64,
    /// After so many more bytes the connection breaks; negative: it does not.
    break_in: AtomicI64,
    broken: AtomicBool,
    /// Nothing passes any more, and nobody is told.
    dead: AtomicBool,
}

impl FaultySockets {
    pub(super) fn refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }

    /// How often a connection was tried.
    pub(super) fn attempts(&self) -> usize {
        self.attempts.load(Ordering::SeqCst)
    }

    fn each(&self, harm: impl Fn(&Wire)) {
        self.wires.lock().unwrap().iter().for_each(|wire| harm(wire));
    }

    /// Flips one byte on every present connection, after so many more.
    pub(super) fn flip_in(&self, bytes: i64) {
        self.each(|wire| wire.flip_in.store(bytes, Ordering::SeqCst));
    }

    /// Breaks every present connection, after so many more bytes.
    pub(super) fn break_in(&self, bytes: i64) {
        self.each(|wire| wire.break_in.store(bytes, Ordering::SeqCst));
    }

    /// From now on nothing passes on any present connection, in either direction.
    pub(super) fn half_open(&self) {
        self.each(|wire| wire.dead.store(true, Ordering::SeqCst));
    }
}

#[async_trait]
impl Sockets for FaultySockets {
    async fn connect(&self, node: NodeId, address: &str) -> io::Result<Socket> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        if self.refuse.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let Socket { reader, writer, remote, proof } = SystemSockets.connect(node, address).await?;
        let wire = Arc::new(Wire {
            flip_in: AtomicI64::new(-1),
            break_in: AtomicI64::new(-1),
            broken: AtomicBool::new(false),
            dead: AtomicBool::new(false),
        });
        self.wires.lock().unwrap().push(wire.clone());
        Ok(Socket {
            reader: Box::new(Reader { inner: reader, wire: wire.clone() }),
            writer: Box::new(Writer { inner: writer, wire }),
            remote,
            proof,
        })
    }

    async fn bind(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        SystemSockets.bind(address).await
    }
}

struct Reader {
    inner: Box<dyn AsyncRead + Send + Unpin>,
    wire: Arc<Wire>,
}

struct Writer {
    inner: Box<dyn AsyncWrite + Send + Unpin>,
    wire: Arc<Wire>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.wire.dead.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if self.wire.dead.load(Ordering::SeqCst) {
            buf.set_filled(before);
            return Poll::Pending;
        }
        read
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.wire.dead.load(Ordering::SeqCst) {
            // What a kernel does with bytes for a peer that is gone: it keeps some of them.
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.wire.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut bytes = bytes.to_vec();
        let break_in = self.wire.break_in.load(Ordering::SeqCst);
        if break_in >= 0 && i64::try_from(bytes.len()).unwrap() > break_in {
            bytes.truncate(break_in as usize);
        }
        let flip_in = self.wire.flip_in.load(Ordering::SeqCst);
        if flip_in >= 0
            && let Some(byte) = bytes.get_mut(flip_in as usize)
        {
            *byte ^= 0x10;
        }
        let written = if bytes.is_empty() {
            0
        } else {
            std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes))?
        };
        let passed = i64::try_from(written).unwrap();
        if flip_in >= 0 {
            self.wire.flip_in.store((flip_in - passed).max(-1), Ordering::SeqCst);
        }
        if break_in >= 0 {
            let left = break_in - passed;
            self.wire.break_in.store(left, Ordering::SeqCst);
            if left <= 0 {
                self.wire.broken.store(true, Ordering::SeqCst);
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
