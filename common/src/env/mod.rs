//! The seams: whatever makes one run different from the last comes in through here.
//!
//! A node gets one [`Env`]: a clock, randomness, a way to start tasks, a transport and a disk. On a
//! real machine they are the operating system's, in the simulator they are driven by one seed, and
//! the node's code is the same.

mod real;
mod rng;
mod scope;
#[cfg(any(test, feature = "test-util"))]
pub mod simulated;

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;

pub use real::{SystemClock, TokioSpawn};
pub use rng::{Rng, SplitMix64};
pub use scope::Scoped;

use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::Disk;
use crate::transport::Transport;

/// A point on one node's monotonic clock: the time since some origin of that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub Duration);

impl Mono {
    /// The time from `earlier` to here, zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(d))
    }
}

impl AddAssign<Duration> for Mono {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(d))
    }
}

impl SubAssign<Duration> for Mono {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub for Mono {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Time. Monotonic time measures, wall time labels; they may drift apart.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Monotonic time: never goes back while the node runs.
    fn now(&self) -> Mono;
    /// Milliseconds since the Unix epoch, as the machine believes. May jump.
    fn wall_millis(&self) -> u64;
    /// Completes when [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()>;
}

/// Starts tasks that belong to one node: when the node dies, they are dropped.
pub trait Spawn: Send + Sync + fmt::Debug {
    /// Starts a task. `future` is already wrapped so that its node's [`Env`] is current in it.
    fn spawn(
        &self,
        name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> tokio::task::JoinHandle<()>;
}

/// The five seams of one node, and who the node is.
#[derive(Clone)]
pub struct Env(Arc<Parts>);

/// What an [`Env`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The node that lives here.
    pub node: NodeId,
    /// Which opening of the node's storage this is, as far as the seams can tell.
    pub incarnation: Incarnation,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness. Each purpose takes a stream of its own with [`Rng::stream`].
    pub rng: Arc<dyn Rng>,
    /// Tasks.
    pub spawn: Arc<dyn Spawn>,
    /// Messages to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Files.
    pub disk: Arc<dyn Disk>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Env({:?})", self.0.node)
    }
}

impl std::ops::Deref for Env {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// A deadline passed before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

impl Env {
    /// Bundles the seams.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The environment of the task that is being polled on this thread, if it was started by
    /// [`Env::spawn`] or runs inside [`Env::scope`].
    pub fn current() -> Option<Self> {
        scope::current()
    }

    /// Runs `future` with this environment as [`Env::current`].
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped::new(self.clone(), future)
    }

    /// Monotonic time of this node.
    pub fn now(&self) -> Mono {
        self.clock.now()
    }

    /// Waits for `d` of this node's monotonic time.
    pub fn sleep(&self, d: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep_until(self.clock.now() + d)
    }

    /// Runs `future` until it is done or `d` has passed.
    pub async fn timeout<F: Future>(&self, d: Duration, future: F) -> Result<F::Output, Elapsed> {
        self.timeout_at(self.now() + d, future).await
    }

    /// Runs `future` until it is done or this node's monotonic clock has reached `at`.
    pub async fn timeout_at<F: Future>(&self, at: Mono, future: F) -> Result<F::Output, Elapsed> {
        let future = std::pin::pin!(future);
        match futures::future::select(future, self.clock.sleep_until(at)).await {
            futures::future::Either::Left((out, _)) => Ok(out),
            futures::future::Either::Right(_) => Err(Elapsed),
        }
    }

    /// Starts a task of this node. Dropping the handle detaches the task.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (done, result) = tokio::sync::oneshot::channel();
        let scoped = self.scope(async move {
            let _ = done.send(future.await);
        });
        Task { join: self.0.spawn.spawn(name, Box::pin(scoped)), result }
    }
}

/// A running task of a node.
#[derive(Debug)]
pub struct Task<T> {
    join: tokio::task::JoinHandle<()>,
    result: tokio::sync::oneshot::Receiver<T>,
}

/// The task ended without a result: it panicked, was aborted, or its node died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task ended without a result: it panicked, was aborted, or its node stopped")]
pub struct TaskEnded;

impl<T> Task<T> {
    /// Asks the task to end at its next await point.
    pub fn abort(&self) {
        self.join.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskEnded>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|r| r.map_err(|_| TaskEnded))
    }
}
