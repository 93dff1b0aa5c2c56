//! The checkers: one file per guarantee, and what they say.
//!
//! A checker sees what clients saw, never how a strategy works. It says `Pass` only when it has
//! looked: a search out of budget is undecided, a run without the operations that it needs has not
//! exercised the guarantee.

mod witness;

use std::time::Duration;

pub use witness::Witness;

use crate::history::History;
use crate::time::SimTime;

/// What a checker says about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The guarantee held.
    Pass,
    /// The guarantee was broken, shown by a few operations.
    Violation(Witness),
    /// A node panicked or refused to start. Without a fault that justifies it, it fails the run.
    Refused {
        /// The node's number in the plan.
        node: u8,
        /// What it said.
        reason: String,
    },
    /// The search ran out of its budget. Counted apart, never as a pass.
    Undecided(String),
    /// What the guarantee is about did not happen in this run.
    NotExercised(String),
    /// The harness itself is wrong. Never an outcome of the system.
    Harness(String),
}

impl Verdict {
    /// Whether the verdict fails a run: a violation, a refusal, or a broken harness.
    pub const fn fails(&self) -> bool {
        matches!(self, Self::Violation(_) | Self::Refused { .. } | Self::Harness(_))
    }
}

/// What a checker is given: a history, and what the plan and the world know about the run.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What clients saw.
    pub history: &'a History,
    /// When the last fault was healed.
    pub healed: SimTime,
    /// Operations invoked from here on are final: all is healed and quiet.
    pub final_from: SimTime,
    /// When the run ended.
    pub end: SimTime,
    /// Spans without an active fault, with time to settle taken off: the cluster must progress.
    pub healthy: Vec<(SimTime, SimTime)>,
    /// How much later than its deadline an operation may end: the grain of the timers.
    pub grain: Duration,
    /// States that a search for a linearization may visit per key.
    pub budget: u64,
}
