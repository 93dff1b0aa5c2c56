//! One direction between two nodes: its latency, its faults, and its own randomness.

use std::sync::Arc;
use std::time::Duration;

use crate::env::Rng;

/// How long messages take: a minimum, and an exponentially distributed rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// No message is faster.
    pub minimum: Duration,
    /// What a message takes longer than that, on average.
    pub mean: Duration,
}

/// How much a slow link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bytes per second, 0 counts as 1.
    Bytes(u64),
    /// Messages per second, 0 counts as 1.
    Messages(u64),
}

/// Chances, in millionths per message, of what no transport may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unruly {
    /// It is lost, and its successors are not.
    pub lost: u32,
    /// It arrives twice.
    pub doubled: u32,
    /// It may arrive before its predecessors.
    pub reordered: u32,
    /// A reset or cut that should lose it makes it late instead.
    pub stale: u32,
}

/// The state of one direction.
#[derive(Debug)]
pub(super) struct Link {
    rng: Arc<dyn Rng>,
    pub(super) cut: bool,
    pub(super) clogged_until: Duration,
    pub(super) latency: Option<Latency>,
    pub(super) rate: Option<Rate>,
    pub(super) unruly: Unruly,
}

impl Link {
    pub(super) fn new(rng: Arc<dyn Rng>) -> Self {
        Self {
            rng,
            cut: false,
            clogged_until: Duration::ZERO,
            latency: None,
            rate: None,
            unruly: Unruly::default(),
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut = false;
        self.clogged_until = Duration::ZERO;
        self.rate = None;
        self.unruly = Unruly::default();
    }

    pub(super) fn draw_latency(&self, default: Latency) -> Duration {
        let latency = self.latency.unwrap_or(default);
        // Uniform over (0, 1], so that the logarithm is finite.
        let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        latency.minimum + latency.mean.mul_f64(-uniform.ln())
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// Draws for a chance in millionths. A chance of none draws nothing.
    pub(super) fn happens(&self, millionths: u32) -> bool {
        millionths > 0 && self.rng.below(1_000_000) < u64::from(millionths)
    }

    /// How long a message of this size occupies the link.
    pub(super) fn transmission(&self, size: usize) -> Duration {
        match self.rate {
            None => Duration::ZERO,
            Some(Rate::Bytes(rate)) => {
                Duration::from_nanos(size as u64 * 1_000_000_000 / rate.max(1))
            }
            Some(Rate::Messages(rate)) => Duration::from_nanos(1_000_000_000 / rate.max(1)),
        }
    }
}
