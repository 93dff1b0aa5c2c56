//! Bytes in and out, and how long the client is waited for.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::Connection;
use crate::line::Line;
use crate::patience::Awaited;
use crate::service::Counters;

/// Bytes that one read asks for.
const READ_BYTES: usize = 16 << 10;
/// An empty buffer for replies over this size is given back.
const KEPT_BYTES: usize = 64 << 10;

impl Connection {
    /// Ready when there is a reply, when the client has sent or taken something, and with an error
    /// when it was waited for in vain.
    pub(super) fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line,
    ) -> Poll<io::Result<()>> {
        let answers = !self.queue.is_empty() && self.has_room();
        if answers && self.poll_replies(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.poll_messages(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.wants_more()
            && let Poll::Ready(received) = self.poll_receive(cx, line)
        {
            return Poll::Ready(received);
        }
        if !self.is_sent()
            && let Poll::Ready(sent) = self.poll_send(cx, line)
        {
            return Poll::Ready(sent);
        }
        let waits = !self.queue.is_empty() || self.session.messages.is_some();
        let awaited = match (self.is_sent(), waits) {
            (false, _) => Awaited::Taking,
            (true, false) => Awaited::Request,
            (true, true) => Awaited::Nothing,
        };
        self.patience.poll_over(cx, awaited).map(|awaited| {
            Counters::add(&self.service.counters().timed_out, 1);
            let client = &self.session.client;
            tracing::info!(remote = client.peer, ?awaited, "a client was waited for in vain");
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Writes down what is told of changes, as long as the client takes it. Ready if that is something.
    fn poll_messages(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = Poll::Pending;
        while self.has_room()
            && let Some(messages) = &mut self.session.messages
        {
            match messages.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(message)) => {
                    message.write(self.session.version, &mut self.out);
                    progress = Poll::Ready(());
                }
                Poll::Ready(None) => self.session.messages = None,
            }
        }
        progress
    }

    /// Whether bytes of the client are taken now: those of a request that is not complete, and a
    /// bounded number of others, so that a client that writes before it reads is not stuck early.
    fn wants_more(&self) -> bool {
        !self.ended
            && !self.received_all
            && (self.hungry || self.requests.buffered() < self.service.limits.waiting_bytes)
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, line: &mut Line) -> Poll<io::Result<()>> {
        let buffer = self.requests.buffer();
        buffer.reserve(READ_BYTES);
        let received = match line.poll_receive(cx, buffer) {
            Poll::Pending => return Poll::Pending,
            // Without the farewell of TLS. Requests carry their lengths: half of one is not taken.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Poll::Ready(received) => received,
        };
        Poll::Ready(received.map(|count| {
            if count == 0 {
                // The client sends no more; what it has sent completely is answered.
                self.received_all = true;
            } else {
                self.hungry = false;
                self.patience.heard();
                Counters::add(&self.service.counters().bytes_in, count as u64);
            }
        }))
    }

    /// Whether all replies that are there are on their way.
    pub(super) fn is_sent(&self) -> bool {
        self.out.is_empty() && self.flushed
    }

    /// Sends what the client takes. Ready if that is something, or if there is nothing more.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        line: &mut Line,
    ) -> Poll<io::Result<()>> {
        let mut progress = Poll::Pending;
        while !self.out.is_empty() {
            match Pin::new(&mut *line).poll_write(cx, &self.out) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    Counters::add(&self.service.counters().bytes_out, count as u64);
                    self.out.advance(count);
                    self.flushed = false;
                    self.patience.took(self.out.len());
                    progress = Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.patience.waits();
                    return progress;
                }
            }
        }
        if !self.flushed {
            match Pin::new(line).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.flushed = true;
                    self.patience.took(0);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.patience.waits();
                    return progress;
                }
            }
        }
        if self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}
