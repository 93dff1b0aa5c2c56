//! Time and causality: the hybrid logical clock, dots and version vectors.

mod dot;
mod hlc;

pub use dot::{Dot, VersionVector};
pub use hlc::{Hlc, HybridClock};
