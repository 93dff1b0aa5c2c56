//! Messages between nodes: calls with a deadline, in order, with urgent ones ahead of bulk.
//!
//! The contract that every implementation keeps, and that the conformance suite tests:
//!
//! - [`Transport::call`] and [`Transport::cast`] take their place in the order of their peer and
//!   class **when they are called**, not when the returned future is first polled.
//! - Within one peer, class and connection, the handler sees messages in that order. A reset may
//!   lose a suffix; nothing is delivered twice.
//! - A later `Control` message never waits behind `Data` or `Bulk`.
//! - Every call ends by its deadline.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod frame;
pub mod handshake;
pub mod offline;
#[cfg(any(test, feature = "test-util"))]
pub mod simulated;
pub mod tcp;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::ids::NodeId;

/// How urgent a message is, and which lane it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Heartbeats, votes, pings: small, and first.
    Control,
    /// Requests and log entries.
    Data,
    /// Snapshots and repair: large, and last.
    Bulk,
}

/// Why a call has no answer, and so whether the peer may have acted on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The peer has no known address, or no connection could be made: the message never left.
    #[error("node {0} cannot be reached: {1}")]
    Unreachable(NodeId, String),
    /// The deadline passed. The peer may or may not have acted.
    #[error("no answer from node {0} within the deadline")]
    TimedOut(NodeId),
    /// The connection broke after the message was queued. The peer may or may not have acted.
    #[error("the connection to node {0} broke before it answered")]
    Broken(NodeId),
    /// The message is over the frame limit: it was never sent.
    #[error("a message of {size} bytes is over the frame limit of {limit}")]
    TooLarge {
        /// Size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The queue to the peer is full: the message was never sent.
    #[error("the queue to node {0} is full")]
    Overloaded(NodeId),
    /// The peer answered that it does not serve such a message.
    #[error("node {0} refused the message: {1}")]
    Refused(NodeId, String),
    /// This node is shutting down.
    #[error("this node is shutting down")]
    Closed,
}

impl CallError {
    /// Whether it is certain that the peer never saw the message.
    pub const fn never_sent(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(..) | Self::TooLarge { .. } | Self::Overloaded(_) | Self::Closed
        )
    }
}

/// What serves the messages that arrive at a node.
pub trait Handler: Send + Sync {
    /// Takes one message. Called in wire order per peer and class; the futures it returns run
    /// concurrently. A cast's answer is dropped. An error text reaches the caller as
    /// [`CallError::Refused`].
    fn handle(
        &self,
        from: NodeId,
        class: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// A way to send bytes to other nodes and to serve theirs.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends a message and waits for its answer, at most `deadline` from now.
    fn call(
        &self,
        to: NodeId,
        class: Class,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// Sends a message without an answer. `Ok` means queued, not delivered.
    fn cast(&self, to: NodeId, class: Class, body: Bytes) -> Result<(), CallError>;

    /// Serves messages with `handler` from now on. Before, callers get [`CallError::Refused`].
    fn serve(&self, handler: Arc<dyn Handler>);

    /// Learns or changes a peer's address.
    fn learn(&self, peer: NodeId, address: &str);

    /// Forgets a peer: its connections close, calls to it are [`CallError::Unreachable`].
    fn forget(&self, peer: NodeId);

    /// Stops serving, closes all connections, and returns when that is done.
    async fn close(&self);
}
