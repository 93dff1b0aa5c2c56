//! Simulated time: one world, and a clock per machine that may be wrong about it.
#![expect(clippy::disallowed_methods, reason = "this is a side of the seams")]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::trace::Trace;
use crate::env::{Clock, Mono};
use crate::ids::NodeId;

/// 2026-01-01, when every simulated world begins.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// Every boot's monotonic clock begins an hour in, as [`SystemClock`](crate::env::SystemClock)
/// does.
const HEADROOM: Duration = Duration::from_secs(3600);

const MILLION: u128 = 1_000_000;

/// The true time of a simulated world: what has passed of the runtime's paused time.
#[derive(Clone, Copy, Debug)]
pub struct SimWorldClock {
    start: Instant,
}

impl SimWorldClock {
    /// A clock that begins at zero now. Call it inside of the runtime.
    #[expect(clippy::new_without_default, reason = "it reads the runtime's time")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same in nanoseconds, as [`Trace::note`] takes it.
    pub fn nanos(&self) -> u64 {
        self.elapsed().as_nanos() as u64
    }

    /// Waits until the world is `at` old.
    pub async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }
}

/// The clock hardware of one machine. It runs on while the node is down.
#[derive(Debug)]
pub(super) struct MachineClock {
    world: SimWorldClock,
    state: Mutex<State>,
    /// Tells sleepers that the rate has changed under them.
    changed: Notify,
}

/// A line: since the world was `since` old, at which time the clock showed `base`, it has gone at
/// (1 + drift) times the speed of the world.
#[derive(Clone, Copy, Debug)]
struct State {
    since: Duration,
    base: Duration,
    drift_ppm: i32,
    wall_offset_millis: i64,
}

impl State {
    fn rate(self) -> u128 {
        MILLION.saturating_add_signed(i128::from(self.drift_ppm))
    }

    fn at(self, world: Duration) -> Duration {
        let passed = world.saturating_sub(self.since).as_nanos();
        self.base + nanos(passed * self.rate() / MILLION)
    }

    /// The first nanosecond of the world at which this clock shows `at`.
    fn world_when(self, at: Duration) -> Duration {
        let ahead = at.saturating_sub(self.base).as_nanos();
        self.since + nanos((ahead * MILLION).div_ceil(self.rate()))
    }
}

fn nanos(n: u128) -> Duration {
    Duration::from_nanos(u64::try_from(n).unwrap_or(u64::MAX))
}

impl MachineClock {
    pub(super) fn new(world: SimWorldClock) -> Self {
        let since = world.elapsed();
        let state = State { since, base: since, drift_ppm: 0, wall_offset_millis: 0 };
        Self { world, state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.state().at(self.world.elapsed())
    }

    pub(super) fn wall_millis(&self) -> u64 {
        let state = self.state();
        let true_millis = EPOCH_MILLIS + state.at(self.world.elapsed()).as_millis() as u64;
        true_millis.saturating_add_signed(state.wall_offset_millis)
    }

    /// Changes the speed from here on: what has passed stays passed.
    pub(super) fn set_drift(&self, ppm: i32) {
        // A clock that stands still or goes backwards is not monotonic time.
        let ppm = ppm.max(-999_999);
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.world.elapsed();
            *state = State { since: now, base: state.at(now), drift_ppm: ppm, ..*state };
        }
        self.changed.notify_waiters();
    }

    pub(super) fn set_offset(&self, millis: i64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).wall_offset_millis = millis;
    }

    pub(super) fn jump(&self, millis: i64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wall_offset_millis = state.wall_offset_millis.saturating_add(millis);
    }

    async fn sleep_until(&self, at: Duration) {
        loop {
            // Registered before the time is read, so that no change of rate is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let state = self.state();
            if state.at(self.world.elapsed()) >= at {
                return;
            }
            let until = self.world.sleep_until(state.world_when(at));
            futures::future::select(std::pin::pin!(until), changed).await;
        }
    }
}

/// A node's view of its machine's clock. Its origin is the node's own start, as a process's is.
#[derive(Debug)]
pub(super) struct SimClock {
    node: NodeId,
    machine: Arc<MachineClock>,
    booted: Duration,
    trace: Trace,
}

impl SimClock {
    pub(super) fn new(node: NodeId, machine: Arc<MachineClock>, trace: Trace) -> Self {
        let booted = machine.now();
        Self { node, machine, booted, trace }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Mono {
        Mono(HEADROOM + self.machine.now().saturating_sub(self.booted))
    }

    fn wall_millis(&self) -> u64 {
        self.machine.wall_millis()
    }

    fn sleep_until(&self, at: Mono) -> BoxFuture<'static, ()> {
        let at = self.booted + at.0.saturating_sub(HEADROOM);
        let (machine, node, trace) = (self.machine.clone(), self.node, self.trace.clone());
        Box::pin(async move {
            machine.sleep_until(at).await;
            trace.note(machine.world.nanos(), node.0, "timer", &[]);
        })
    }
}

/// What a machine's monotonic clock shows to a node that booted when the world began.
pub(super) fn since_world_began(machine: &MachineClock) -> Mono {
    Mono(HEADROOM + machine.now())
}
