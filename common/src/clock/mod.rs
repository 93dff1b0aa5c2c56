//! Time and causality: the hybrid logical clock, dots and version vectors.

mod hlc;

pub use hlc::{Hlc, HybridClock};
