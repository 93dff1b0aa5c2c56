//! The simulated seams: clock, tasks and node life cycle under one seed.
//!
//! A simulation is one tokio current-thread runtime with paused time. [`SimWorldClock`] is its
//! only time; each [`SimHost`] is one machine in it, with a clock that may drift and jump, and with
//! a node that boots, pauses, dies and boots again. Network and disk are
//! `crate::transport::simulated` and `crate::storage::disk::simulated`; a host bundles them with
//! its own clock, tasks and randomness to an [`Env`](super::Env).
//!
//! ```
//! use common::env::SplitMix64;
//! use common::env::simulated::{SimHost, SimWorldClock, Trace};
//! use common::ids::NodeId;
//!
//! let runtime = tokio::runtime::Builder::new_current_thread()
//!     .enable_time()
//!     .start_paused(true)
//!     .build()
//!     .unwrap();
//! runtime.block_on(async {
//!     let world = SimWorldClock::new();
//!     let host = SimHost::new(NodeId(1), &world, &SplitMix64::new(4711), Trace::default());
//!     host.set_drift(50_000); // 5 % fast
//!     tokio::time::sleep(std::time::Duration::from_secs(100)).await;
//!     assert_eq!(host.now().0.as_secs(), 3600 + 105);
//! });
//! ```

mod clock;
mod host;
mod life;
mod trace;

#[cfg(test)]
mod tests;

pub use clock::SimWorldClock;
pub use host::{Life, SimHost};
pub use life::NodePanic;
pub use trace::{Event, Trace};
