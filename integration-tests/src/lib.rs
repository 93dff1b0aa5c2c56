//! The judge of the three strategies.

#[cfg(not(tokio_unstable))]
compile_error!(
    "the simulator seeds tokio's own generator: build with `--cfg tokio_unstable`, as \
     .cargo/config.toml does unless a RUSTFLAGS variable replaces its flags"
);

pub mod check;
pub mod history;
pub mod invariant;
pub mod ledger;
pub mod mark;
pub mod mutant;
pub mod plan;
pub mod strategy;
pub mod sweep;
pub mod time;
pub mod workload;
pub mod world;
