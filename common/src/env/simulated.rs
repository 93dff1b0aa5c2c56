//! The simulated seams: clock, tasks and node life cycle under one seed.

use std::sync::{Arc, Mutex, PoisonError};

/// The fold of everything that crossed a seam in one run: equal folds, equal runs.
#[derive(Clone, Debug, Default)]
pub struct Trace(Arc<Mutex<Fold>>);

#[derive(Debug, Default)]
struct Fold {
    low: u64,
    high: u64,
    events: u64,
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Trace {
    /// Notes one crossing: simulated nanoseconds, node, seam and direction, payload.
    pub fn note(&self, nanos: u64, node: u64, what: &str, payload: &[u8]) {
        let mut fold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = what.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| mix(h ^ u64::from(b)));
        let body = (u64::from(crc32c::crc32c(payload)) << 32) | payload.len() as u64;
        for word in [nanos, node, what, body] {
            fold.low = mix(fold.low ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            fold.high = mix(fold.high.rotate_left(23) ^ fold.low);
        }
        fold.events += 1;
    }

    /// The fold so far, and how many crossings it holds.
    pub fn digest(&self) -> (u128, u64) {
        let fold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ((u128::from(fold.high) << 64) | u128::from(fold.low), fold.events)
    }
}
