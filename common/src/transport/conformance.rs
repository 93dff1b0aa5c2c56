//! What every [`Transport`] must do, as tests for your own.
//!
//! Implement [`Network`] for yours and call [`all`] from a test. The claims are small functions, so
//! that a failure names the one that broke. They wait for conditions, never for a time, so they run
//! on a busy machine as well as under paused time.

#![allow(clippy::unwrap_used, reason = "these are tests; an error is a failure")]

pub mod claims;
mod handlers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::Transport;
use crate::ids::NodeId;

pub use claims::all;

/// Bounds that the suite asks for: small, so that they are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body in bytes, of a message and of an answer.
    pub frame: usize,
    /// Calls that may be open per peer and class; above, calls are overloaded.
    pub calls: usize,
}

/// A network on which nodes can be bound.
#[async_trait]
pub trait Network: Send + Sync {
    /// A transport for a node. It knows no peer and serves nothing yet.
    async fn bind(&self, node: NodeId) -> Arc<dyn Transport>;

    /// The address under which others find a bound node, or an address where nobody listens.
    fn address(&self, node: NodeId) -> String;

    /// Waits for so much of the network's time.
    fn sleep(&self, d: Duration) -> BoxFuture<'static, ()>;

    /// How late a deadline may be noticed. A busy real machine needs seconds.
    fn slack(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Makes a new, empty network for each claim.
pub type NewNetwork<'a> = &'a (dyn Fn(Limits) -> Box<dyn Network> + Send + Sync);
