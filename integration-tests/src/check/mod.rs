//! The checkers: one file per guarantee, and what they say.
//!
//! A checker sees what clients saw, never how a strategy works. It says `Pass` only when it has
//! looked: a search out of budget is undecided, a run without the operations that it needs has not
//! exercised the guarantee.

pub mod bounds;
pub mod lin;
pub mod liveness;
pub mod loss;
pub mod outcome;
pub mod session;
pub mod staleness;
#[cfg(test)]
mod tests;
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

/// A guarantee and the function that judges it.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    /// The name, as in reports and for mutants.
    pub name: &'static str,
    /// What it guarantees, in one sentence.
    pub guarantee: &'static str,
    /// Judges a case.
    pub check: fn(&Case<'_>) -> Verdict,
}

/// Every checker.
pub const CHECKERS: [Checker; 7] = [
    Checker {
        name: "lin",
        guarantee: "Every operation takes effect at one moment between invocation and return.",
        check: lin::check,
    },
    Checker {
        name: "loss",
        guarantee: "An acknowledged element is in every final read of every replica.",
        check: loss::check,
    },
    Checker {
        name: "bounds",
        guarantee: "A counter is never below what was acknowledged nor above what was attempted.",
        check: bounds::check,
    },
    Checker {
        name: "outcome",
        guarantee: "What was not applied is never seen, and every operation ends by its deadline.",
        check: outcome::check,
    },
    Checker {
        name: "session",
        guarantee: "A session misses nothing that it has done or seen before, on any node.",
        check: session::check,
    },
    Checker {
        name: "staleness",
        guarantee: "A read with a bound misses nothing that was certain so long before it began.",
        check: staleness::check,
    },
    Checker {
        name: "liveness",
        guarantee: "A healthy cluster makes progress, and a healed one recovers in time.",
        check: liveness::check,
    },
];

/// What every checker says about a run.
pub fn judge(case: &Case<'_>) -> Vec<(&'static str, Verdict)> {
    CHECKERS.iter().map(|checker| (checker.name, (checker.check)(case))).collect()
}

impl<'a> Case<'a> {
    /// States that a search for a linearization visits per key by default: about a second.
    pub const BUDGET: u64 = 5_000_000;
    /// Time after a fault before a cluster must make progress again: an election or three.
    pub const SETTLE: Duration = Duration::from_secs(10);

    /// A history that ran without a fault, with nothing known about it.
    pub fn new(history: &'a History) -> Self {
        let times = |o: &crate::history::Operation| o.returned.unwrap_or(o.invoked).max(o.invoked);
        Self {
            history,
            healed: SimTime::ZERO,
            final_from: SimTime::ZERO,
            end: history.operations.iter().map(times).max().unwrap_or_default(),
            healthy: Vec::new(),
            grain: Duration::from_millis(1),
            budget: Self::BUDGET,
        }
    }

    /// The history of a plan's run that ended at `end`.
    pub fn of_plan(history: &'a History, plan: &crate::plan::Plan, end: SimTime) -> Self {
        Self {
            healed: plan.config.phases.heal,
            final_from: plan.config.phases.heal + plan.config.quiescence,
            end,
            healthy: plan.healthy(Self::SETTLE, liveness::WINDOW),
            ..Self::new(history)
        }
    }
}
