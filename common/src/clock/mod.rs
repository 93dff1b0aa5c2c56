//! Time and causality: the hybrid logical clock, dots and version vectors.

mod dot;
mod hlc;
#[cfg(test)]
mod laws;

pub use dot::{Dot, VersionVector};
pub use hlc::{Hlc, HybridClock};
