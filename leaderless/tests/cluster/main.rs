//! Whole clusters in simulated time: what a node promises, with its real log, codec and messages.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the storyteller's clock is tokio's paused one")]

mod group;

mod deletes;
mod layouts;
#[cfg(feature = "unstable-mutants")]
mod mutants;
mod sweep;
mod writes_and_reads;
