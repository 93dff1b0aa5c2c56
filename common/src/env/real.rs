//! The seams of a real machine that need no configuration: the system's clock and tokio's tasks.
#![expect(clippy::disallowed_methods, reason = "this is the real side of the seams")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::{Clock, Mono, Spawn};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        // An hour of headroom, so that "now minus a while" is never before the origin.
        let now = Instant::now();
        Self { origin: now.checked_sub(Duration::from_secs(3600)).unwrap_or(now) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Mono {
        Mono(self.origin.elapsed())
    }

    fn wall_millis(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.origin + at.0))
    }
}

/// Tasks of the tokio runtime that the caller runs in.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawn;

impl Spawn for TokioSpawn {
    fn spawn(
        &self,
        _name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> tokio::task::JoinHandle<()> {
        tokio::spawn(future)
    }
}
