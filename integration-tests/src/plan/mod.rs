//! A run as data: configuration, operations and faults, drawn from the seed alone before anything
//! runs.
//!
//! The same plan runs on every strategy, shrinking it is deleting from it, and its file outlives
//! commits that would draw something else from the seed. Every draw has a stream of its own, keyed
//! by what it is for: deleting one client, one kind of fault or one fault shifts nothing else.

mod config;
mod fault;
mod operations;
pub mod shrink;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use common::env::SplitMix64;
use serde::{Deserialize, Serialize};

pub use config::{ClusterConfig, Gap, Knobs, Phases};
pub use fault::{FaultKind, FaultName, TimedFault};
pub use operations::{Role, TimedOp};

use crate::time::SimTime;

/// Version of the file format that this build reads and writes.
pub const FORMAT: u32 = 1;

/// A run before it happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// The seed that the plan was drawn from. The streams of the run are keyed by it as well.
    pub seed: u64,
    /// The cluster, its clients and the phases.
    pub config: ClusterConfig,
    /// What clients ask for, by time.
    pub ops: Vec<TimedOp>,
    /// What goes wrong, by time.
    pub faults: Vec<TimedFault>,
}

/// Why a plan's file is of no use.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// The file cannot be read or written.
    File(std::io::Error),
    /// The text is not a plan.
    Text(serde_json::Error),
    /// The plan is of another format.
    Format(u32),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(e) => write!(f, "the plan's file cannot be used: {e}"),
            Self::Text(e) => write!(f, "this is not a plan: {e}"),
            Self::Format(found) => {
                write!(f, "the plan has format {found}, this build reads {FORMAT}: draw it again")
            }
        }
    }
}

impl std::error::Error for PlanError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(e) => Some(e),
            Self::Text(e) => Some(e),
            Self::Format(_) => None,
        }
    }
}

impl Plan {
    /// The plan of a seed: a swarm configuration, its operations and its faults.
    pub fn draw(seed: u64) -> Self {
        Self::draw_with(seed, |_| {})
    }

    /// The plan of a seed, after `adjust` has changed the drawn configuration: fewer kinds of
    /// faults, one workload, a longer run.
    pub fn draw_with(seed: u64, adjust: impl FnOnce(&mut ClusterConfig)) -> Self {
        let root = SplitMix64::new(seed);
        let mut config = ClusterConfig::draw(&root);
        adjust(&mut config);
        let ops = operations::draw(&root, &config);
        let faults = fault::draw(&root, &config);
        Self { format: FORMAT, seed, config, ops, faults }
    }

    /// Spans of at least `least` in which no fault is active and none was for `settle` before:
    /// a cluster must make progress there. No fault outlives the beginning of the core phase: the
    /// nodes that serve in it are healed then, and the others are dead.
    pub fn healthy(
        &self,
        settle: std::time::Duration,
        least: std::time::Duration,
    ) -> Vec<(SimTime, SimTime)> {
        let end = self.config.phases.end;
        let mut busy: Vec<(SimTime, SimTime)> = self
            .faults
            .iter()
            .map(|f| (f.at, (f.at + f.lasts).min(self.config.phases.core)))
            .collect();
        busy.sort_unstable();
        let mut spans = Vec::new();
        let mut free_from = SimTime::ZERO + settle;
        for (from, until) in busy {
            if from > free_from && from.since(free_from) >= least {
                spans.push((free_from, from));
            }
            free_from = free_from.max(until + settle);
        }
        if end > free_from && end.since(free_from) >= least {
            spans.push((free_from, end));
        }
        spans
    }

    /// The plan in a JSON file's text.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Header {
            format: u32,
        }
        let header: Header = serde_json::from_str(text).map_err(PlanError::Text)?;
        if header.format != FORMAT {
            return Err(PlanError::Format(header.format));
        }
        serde_json::from_str(text).map_err(PlanError::Text)
    }

    /// The plan as JSON, one operation and one fault per line, so that a difference between two plans
    /// shows what was deleted.
    ///
    /// # Panics
    /// Never: every field has a JSON form.
    pub fn to_json(&self) -> String {
        fn line<T: Serialize>(value: &T) -> String {
            serde_json::to_string(value).expect("a plan is plain data")
        }
        fn lines<T: Serialize>(values: &[T]) -> String {
            values.iter().map(|v| format!("\n    {}", line(v))).collect::<Vec<_>>().join(",")
        }
        format!(
            "{{\n  \"format\": {},\n  \"seed\": {},\n  \"config\": {},\n  \"ops\": [{}\n  ],\n  \"faults\": [{}\n  ]\n}}\n",
            self.format,
            self.seed,
            line(&self.config),
            lines(&self.ops),
            lines(&self.faults),
        )
    }

    /// Reads a plan's file.
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        Self::from_json(&std::fs::read_to_string(path).map_err(PlanError::File)?)
    }

    /// Writes a plan's file.
    pub fn save(&self, path: &Path) -> Result<(), PlanError> {
        std::fs::write(path, self.to_json()).map_err(PlanError::File)
    }
}
