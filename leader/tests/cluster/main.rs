//! Whole groups in simulated time: what a node promises, with its real log, codec and messages.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the storyteller's clock is tokio's paused one")]

#[allow(dead_code, reason = "the scenarios of integration-tests use the rest")]
mod group;

mod agent;
mod backup;
mod bounded;
mod divergence;
mod elections;
mod exactly_once;
mod failures;
mod kept;
mod members;
mod modes;
mod nearest;
mod quota;
mod refill;
mod rollbacks;
mod snapshots;
mod watch;
mod writes_and_reads;
