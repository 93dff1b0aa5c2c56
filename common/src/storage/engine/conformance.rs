//! What every [`Engines`] must do, as tests for your own.
//!
//! Implement [`Place`] for yours and call [`all`] from a test. The claims are small functions, so
//! that a failure names the one that broke. [`run`] compares any sequence of [`Step`]s with a plain
//! sorted map; [`all`] does so with random ones, and a property test can bring its own.

#![allow(clippy::unwrap_used, reason = "these are tests; an error is a failure")]

pub mod claims;
mod model;

use std::sync::Arc;

use async_trait::async_trait;

use super::Engines;

pub use claims::all;
pub use model::{KEYSPACES, Step, random, run};

/// A place where engines live, that can be opened again and again.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the engines, as after a restart. All that an earlier opening gave was dropped.
    async fn open(&self) -> Arc<dyn Engines>;

    /// Whether anything survives a restart.
    fn survives(&self) -> bool {
        true
    }
}

/// Makes a new, empty place for each claim.
pub type NewPlace<'a> = &'a (dyn Fn() -> Box<dyn Place> + Send + Sync);
