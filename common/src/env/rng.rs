//! Randomness of our own, so that a stream never changes with the version of a library.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stream of random numbers. Not for secrets.
pub trait Rng: Send + Sync + fmt::Debug {
    /// The next number, uniform over all of `u64`.
    fn next_u64(&self) -> u64;

    /// A stream for one purpose. The same purpose gives the same stream, whatever this one has
    /// drawn since.
    fn stream(&self, purpose: &str) -> Arc<dyn Rng>;

    /// A number below `bound`, or 0 when `bound` is 0. Lemire's multiplication, without rejection:
    /// the bias is below 2^-32 for bounds that fit 32 bits.
    fn below(&self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// Steele, Lea and Flood 2014: one addition and three mixing steps per number.
#[derive(Debug)]
pub struct SplitMix64 {
    seed: u64,
    state: AtomicU64,
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SplitMix64 {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, state: AtomicU64::new(seed) }
    }

    /// A stream seeded by the operating system's randomness.
    pub fn from_system() -> Self {
        Self::new(std::collections::hash_map::RandomState::new().build_hasher().finish())
    }
}

impl Rng for SplitMix64 {
    fn next_u64(&self) -> u64 {
        mix(self.state.fetch_add(GAMMA, Ordering::Relaxed).wrapping_add(GAMMA))
    }

    fn stream(&self, purpose: &str) -> Arc<dyn Rng> {
        let mut seed = self.seed;
        for byte in purpose.bytes() {
            seed = mix(seed.wrapping_add(GAMMA) ^ u64::from(byte));
        }
        Arc::new(Self::new(mix(seed)))
    }
}
