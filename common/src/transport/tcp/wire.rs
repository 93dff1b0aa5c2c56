//! One connection's bytes: a queue that is gathered into few writes, and a reader that cuts frames.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use crate::env::{Clock, Mono};
use crate::transport::frame::{self, Decoded, FrameError, HEADER, Head, Kind};

/// Bodies up to this size are copied next to their headers, larger ones are written in place.
const COPIED: usize = 16 << 10;

/// A batch of writes is closed when it holds this much.
const BATCH: usize = 256 << 10;

/// Room that a read offers.
const READ: usize = 64 << 10;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The states behind these locks are changed in single steps: a panic leaves none half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something that happens once and that many may wait for.
#[derive(Debug, Default)]
pub(super) struct Signal {
    set: AtomicBool,
    notify: Notify,
}

impl Signal {
    pub(super) fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub(super) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    pub(super) async fn wait(&self) {
        loop {
            let mut notified = std::pin::pin!(self.notify.notified());
            notified.as_mut().enable();
            if self.is_set() {
                return;
            }
            notified.await;
        }
    }
}

/// An encoded frame that waits to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) header: [u8; HEADER],
    pub(super) body: Bytes,
    pub(super) kind: Kind,
    /// The call it carries, if it carries one.
    pub(super) call: Option<u64>,
}

impl Outgoing {
    pub(super) fn new(head: Head, body: Bytes) -> Self {
        let call = (head.kind == Kind::Call).then_some(head.call);
        Self { header: frame::encode_header(head, &body), body, kind: head.kind, call }
    }

    pub(super) fn size(&self) -> usize {
        HEADER + self.body.len()
    }
}

/// Frames in the order in which they will be written.
#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Outgoing>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, frame: Outgoing) {
        self.bytes += frame.size();
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Outgoing> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.size();
        Some(frame)
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What the next writes hold: small frames copied together, large bodies on their own.
#[derive(Debug, Default)]
pub(super) struct Batch {
    small: BytesMut,
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BATCH
    }

    pub(super) fn push(&mut self, frame: Outgoing) {
        self.bytes += frame.size();
        self.small.extend_from_slice(&frame.header);
        if frame.body.len() <= COPIED {
            self.small.extend_from_slice(&frame.body);
        } else {
            self.parts.push(self.small.split().freeze());
            self.parts.push(frame.body);
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
        self.bytes = 0;
        std::mem::take(&mut self.parts)
    }
}

/// What a connection's writer takes its frames from.
pub(super) trait Source: Send + Sync {
    /// Moves waiting frames into `batch` until it is full.
    fn drain(&self, batch: &mut Batch);
    /// Notified when there is something to drain.
    fn wake(&self) -> &Notify;
}

/// Signs of life of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Arc<dyn Clock>,
    heard: AtomicU64,
    written: AtomicU64,
    writing: AtomicBool,
    /// The reader waits on purpose, so silence proves nothing.
    pub(super) paused: AtomicBool,
    pub(super) bytes_in: Arc<AtomicU64>,
    pub(super) bytes_out: Arc<AtomicU64>,
}

impl Pulse {
    pub(super) fn new(
        clock: Arc<dyn Clock>,
        bytes_in: Arc<AtomicU64>,
        bytes_out: Arc<AtomicU64>,
    ) -> Self {
        let now = AtomicU64::new(micros(clock.now()));
        Self {
            heard: AtomicU64::new(now.load(Ordering::Relaxed)),
            written: now,
            writing: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            clock,
            bytes_in,
            bytes_out,
        }
    }

    fn now(&self) -> u64 {
        micros(self.clock.now())
    }

    pub(super) fn hear(&self, bytes: usize) {
        self.heard.store(self.now(), Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wrote(&self, bytes: usize) {
        self.written.store(self.now(), Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How long nothing was heard, although it was listened for.
    pub(super) fn silence(&self) -> Duration {
        if self.paused.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_micros(self.now().saturating_sub(self.heard.load(Ordering::Relaxed)))
    }

    /// How long the other end took nothing of what is being written.
    pub(super) fn stall(&self) -> Duration {
        if !self.writing.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_micros(self.now().saturating_sub(self.written.load(Ordering::Relaxed)))
    }
}

pub(super) fn micros(at: Mono) -> u64 {
    at.0.as_micros() as u64
}

/// Writes what `source` holds. With `until_empty`, returns when there is nothing left; otherwise
/// only on an error.
pub(super) async fn write_from(
    source: &dyn Source,
    writer: &mut (dyn AsyncWrite + Send + Unpin),
    pulse: &Pulse,
    until_empty: bool,
) -> io::Result<()> {
    let mut batch = Batch::default();
    loop {
        source.drain(&mut batch);
        let parts = batch.take();
        if parts.is_empty() {
            if until_empty {
                return writer.flush().await;
            }
            source.wake().notified().await;
            continue;
        }
        pulse.wrote(0);
        pulse.writing.store(true, Ordering::Relaxed);
        for mut part in parts {
            while part.has_remaining() {
                let written = writer.write(&part).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                part.advance(written);
                pulse.wrote(written);
            }
        }
        // A layer between, such as TLS, may hold back what it was given.
        writer.flush().await?;
        pulse.writing.store(false, Ordering::Relaxed);
    }
}

/// Why no further frame can be read from a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("it closed the connection")]
    Closed,
    #[error("it closed the connection in the middle of a frame")]
    Truncated,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Cuts a stream of bytes into frames.
pub(super) struct FrameReader<R> {
    reader: R,
    buffer: BytesMut,
    limit: usize,
}

impl<R: AsyncRead + Send + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R, limit: usize) -> Self {
        Self { reader, buffer: BytesMut::new(), limit }
    }

    pub(super) async fn next(&mut self, pulse: &Pulse) -> Result<(Head, Bytes), ReadError> {
        loop {
            let found = match frame::decode(&self.buffer, self.limit)? {
                Decoded::Whole { head, body } => Ok((head, body.len())),
                Decoded::Partial { need } => Err(need),
            };
            match found {
                Ok((head, size)) => return Ok((head, self.take_body(size))),
                Err(need) => {
                    // Room grows with what has arrived, not with what a header announces.
                    let missing = need - self.buffer.len();
                    if self.buffer.capacity() - self.buffer.len() < missing.min(READ / 8) {
                        self.buffer.reserve(missing.min(self.buffer.len()).max(READ));
                    }
                    let read = self.reader.read_buf(&mut self.buffer).await?;
                    if read == 0 {
                        let clean = self.buffer.is_empty();
                        return Err(if clean { ReadError::Closed } else { ReadError::Truncated });
                    }
                    pulse.hear(read);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    fn take_body(&mut self, size: usize) -> Bytes {
        if size <= COPIED {
            // A small body of its own does not keep the whole read buffer alive.
            let body = Bytes::copy_from_slice(&self.buffer[HEADER..HEADER + size]);
            self.buffer.advance(HEADER + size);
            body
        } else {
            self.buffer.advance(HEADER);
            self.buffer.split_to(size).freeze()
        }
    }
}
