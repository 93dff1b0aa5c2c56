//! openraft's asynchronous runtime, over the node's [`Env`].
//!
//! openraft reaches time, tasks and randomness through functions without `self`, so they find their
//! node in the scope that [`Env::spawn`] and [`Env::scope`] put around every poll. Whatever calls
//! openraft therefore runs inside such a scope; outside of one, the functions here panic, since they
//! could only answer with the wrong node's time.

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use common::env::{Elapsed, Env, Mono, Rng, Task, TaskEnded};
use futures::future::BoxFuture;
use openraft::{AsyncRuntime, OptionalSend};

/// The runtime of every node.
#[derive(Debug)]
pub(crate) struct EnvRuntime {
    #[cfg(test)]
    test: tests::TestRuntime,
}

/// The environment of the node whose task is being polled.
fn env() -> Env {
    Env::current().expect(
        "broken invariant: openraft is called outside the scope of a node; wrap the call in \
         Env::scope or start it with Env::spawn",
    )
}

/// A point on the node's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EnvInstant(pub(crate) Mono);

impl Add<Duration> for EnvInstant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0 + d)
    }
}

impl AddAssign<Duration> for EnvInstant {
    fn add_assign(&mut self, d: Duration) {
        self.0 += d;
    }
}

impl Sub<Duration> for EnvInstant {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0 - d)
    }
}

impl SubAssign<Duration> for EnvInstant {
    fn sub_assign(&mut self, d: Duration) {
        self.0 -= d;
    }
}

impl Sub for EnvInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

impl openraft::Instant for EnvInstant {
    fn now() -> Self {
        Self(env().now())
    }
}

/// The node's randomness. Each call takes the next number of the node's own stream, so a run
/// depends on the order of calls in one node, never on another node.
pub(crate) struct EnvRng(Arc<dyn Rng>);

impl rand_core::TryRng for EnvRng {
    type Error = rand_core::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.0.next_u64().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// A running task of the node.
pub(crate) struct EnvTask<T> {
    task: Task<T>,
    panicked: Arc<AtomicBool>,
}

/// A task of openraft ended without a result.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct JoinError {
    source: TaskEnded,
    panicked: bool,
}

impl<T> Future for EnvTask<T> {
    type Output = Result<T, JoinError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.task).poll(cx));
        let panicked = self.panicked.load(Ordering::Acquire);
        Poll::Ready(ended.map_err(|source| JoinError { source, panicked }))
    }
}

/// Notes that the task it lives in is unwinding.
struct NotePanic(Arc<AtomicBool>);

impl Drop for NotePanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// A future with a deadline.
pub(crate) struct EnvTimeout<F> {
    future: Pin<Box<F>>,
    deadline: BoxFuture<'static, ()>,
}

impl<F: Future> Future for EnvTimeout<F> {
    type Output = Result<F::Output, Elapsed>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(out) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(out));
        }
        self.deadline.as_mut().poll(cx).map(|()| Err(Elapsed))
    }
}

/// tokio's channels and locks, through the only door that openraft leaves to them without another
/// pinned dependency.
type Tokio = openraft::impls::TokioRuntime;

impl AsyncRuntime for EnvRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = EnvTask<T>;
    type Sleep = BoxFuture<'static, ()>;
    type Instant = EnvInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = EnvTimeout<T>;
    type ThreadLocalRng = EnvRng;
    type Mpsc = <Tokio as AsyncRuntime>::Mpsc;
    type Watch = <Tokio as AsyncRuntime>::Watch;
    type Oneshot = <Tokio as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let panicked = Arc::new(AtomicBool::new(false));
        let note = NotePanic(Arc::clone(&panicked));
        let task = env().spawn("openraft", async move {
            let _note = note;
            future.await
        });
        EnvTask { task, panicked }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        env().sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        env().clock.sleep_until(deadline.0)
    }

    fn timeout<R, F>(duration: Duration, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        EnvTimeout { future: Box::pin(future), deadline: env().sleep(duration) }
    }

    fn timeout_at<R, F>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F>
    where
        F: Future<Output = R> + OptionalSend,
    {
        EnvTimeout { future: Box::pin(future), deadline: env().clock.sleep_until(deadline.0) }
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.panicked
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        EnvRng(Arc::clone(&env().rng))
    }

    #[cfg(not(test))]
    fn new(_threads: usize) -> Self {
        panic!("broken invariant: a node never makes a runtime, it lives in its opener's")
    }

    #[cfg(not(test))]
    fn block_on<F, T>(&mut self, _future: F) -> T
    where
        F: Future<Output = T>,
    {
        panic!("broken invariant: a node never blocks a thread")
    }

    #[cfg(test)]
    fn new(_threads: usize) -> Self {
        Self { test: tests::TestRuntime::new() }
    }

    #[cfg(test)]
    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.test.block_on(future)
    }

    /// Inline: what openraft would block on (nothing, with our storage) is short, and threads would
    /// make a run unrepeatable.
    async fn spawn_blocking<F, T>(f: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(f())
    }
}

impl<T> fmt::Debug for EnvTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvTask")
    }
}

#[cfg(test)]
mod tests;
