//! The hybrid logical clock: physical milliseconds with a counter behind them.
//!
//! Kulkarni et al., "Logical Physical Clocks", 2014. A stamp is 64 bits: 48 bits of milliseconds
//! since the Unix epoch, 16 bits of counter. A counter that overflows carries into the
//! milliseconds, so stamps of one clock always grow.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A hybrid timestamp. Its order is the order of the events it stamps, as far as one clock, or two
/// clocks that exchanged messages, can tell.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Hlc(u64);

impl Hlc {
    /// The smallest stamp.
    pub const ZERO: Self = Self(0);

    /// A stamp from milliseconds since the Unix epoch (48 bits are kept) and a counter.
    pub const fn new(millis: u64, counter: u16) -> Self {
        Self((millis << 16) | counter as u64)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0 >> 16
    }

    /// The counter behind the milliseconds.
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The next stamp: counter + 1, carried into the milliseconds when it overflows. After the last
    /// stamp there is comes none: it is its own next. Only a peer that invents stamps gets there,
    /// ten thousand years ahead; refuse such ones on receipt.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The stamp as one number, for storage keys: big-endian bytes of it sort like stamps.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The stamp that [`Hlc::to_bits`] gave this number for.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis(), self.counter())
    }
}

/// A clock that issues growing stamps near physical time.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: Hlc,
}

impl HybridClock {
    /// A clock whose next stamp is later than `last`.
    pub const fn after(last: Hlc) -> Self {
        Self { last }
    }

    /// The stamp of a local event at `physical` milliseconds since the Unix epoch.
    pub fn tick(&mut self, physical: u64) -> Hlc {
        self.last = self.last.next().max(Hlc::new(physical, 0));
        self.last
    }

    /// The stamp of receiving a message stamped `seen`.
    pub fn merge(&mut self, seen: Hlc, physical: u64) -> Hlc {
        self.last = self.last.max(seen);
        self.tick(physical)
    }

    /// The last stamp issued or merged.
    pub const fn last(&self) -> Hlc {
        self.last
    }
}
