//! The log over the simulated disk, and over a real one.

mod bench;
mod life;
