//! The log over the simulated disk, and over a real one.

mod bench;
mod crash;
mod damage;
mod failure;
mod full;
mod fuzz;
mod golden;
mod life;
#[cfg(feature = "unstable-mutants")]
mod mutants;
