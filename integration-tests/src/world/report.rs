//! What came of a run.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use common::env::simulated::Event;
use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::history::{Fate, History, Outcome};
use crate::plan::FaultName;

/// Figures of a run, or of many.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Simulated time.
    pub simulated: Duration,
    /// Operations that took effect or showed something.
    pub applied: u64,
    /// Operations that certainly did not.
    pub not_applied: u64,
    /// Operations of which the client does not know.
    pub unknown: u64,
    /// Operations of the plan whose client was still busy with an earlier one.
    pub skipped: u64,
    /// Times a node was started.
    pub boots: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<FaultName, u64>,
    /// Claims of nodes that a recovered copy of a disk was asked about.
    pub claims: u64,
    /// Samples of nodes' states that were compared.
    pub samples: u64,
    /// Writes acknowledged before they were committed.
    pub early: u64,
    /// Receipts whose fate every node was asked for.
    pub fates: u64,
    /// Of those writes, the ones that are lost, as their receipts say.
    pub lost: u64,
    /// Entries of which two nodes' change feeds were compared.
    pub watched: u64,
    /// Commands in rollback files at the end, acknowledged or not.
    pub rolled_back: u64,
}

impl Stats {
    pub(super) fn note_history(&mut self, history: &History) {
        for operation in &history.operations {
            match operation.outcome {
                Outcome::Applied => self.applied += 1,
                Outcome::NotApplied => self.not_applied += 1,
                Outcome::Unknown => self.unknown += 1,
            }
            self.early += u64::from(operation.early);
            self.lost += u64::from(operation.early && operation.fate == Some(Fate::Lost));
        }
    }

    /// All operations that clients asked for.
    pub const fn operations(&self) -> u64 {
        self.applied + self.not_applied + self.unknown
    }

    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.simulated += other.simulated;
        self.applied += other.applied;
        self.not_applied += other.not_applied;
        self.unknown += other.unknown;
        self.skipped += other.skipped;
        self.boots += other.boots;
        self.claims += other.claims;
        self.samples += other.samples;
        self.early += other.early;
        self.fates += other.fates;
        self.lost += other.lost;
        self.watched += other.watched;
        self.rolled_back += other.rolled_back;
        for (kind, times) in &other.faults {
            *self.faults.entry(*kind).or_default() += times;
        }
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "simulated   {:.1} s", self.simulated.as_secs_f64())?;
        writeln!(
            f,
            "operations  {} ({} applied, {} not applied, {} unknown; {} skipped by busy clients)",
            self.operations(),
            self.applied,
            self.not_applied,
            self.unknown,
            self.skipped
        )?;
        let faults: u64 = self.faults.values().sum();
        write!(f, "faults      {faults}")?;
        for (i, (kind, times)) in self.faults.iter().enumerate() {
            let begin = if i == 0 { ": " } else { ", " };
            write!(f, "{begin}{} {times}", kind.as_str())?;
        }
        write!(
            f,
            "\nfates       {} asked for; {} writes acknowledged early, {} of them lost and told; {} \
             commands in rollback files",
            self.fates, self.early, self.lost, self.rolled_back
        )?;
        write!(
            f,
            "\nnodes       {} boots, {} claims checked after power losses, {} samples and the \
             feeds of {} entries compared",
            self.boots, self.claims, self.samples, self.watched
        )
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan's seed.
    pub seed: u64,
    /// The fold of everything that crossed a seam: equal digests, equal runs.
    pub digest: u128,
    /// How many crossings it holds.
    pub events: u64,
    /// What every judge says.
    pub verdicts: Vec<(&'static str, Verdict)>,
    /// Figures.
    pub stats: Stats,
    /// What clients saw.
    pub history: History,
    /// The last events, if they were kept.
    pub last: Vec<Event>,
}

impl Report {
    /// The verdicts that fail the run, by judge.
    pub fn failures(&self) -> impl Iterator<Item = &(&'static str, Verdict)> {
        self.verdicts.iter().filter(|(_, verdict)| verdict.fails())
    }

    /// Whether the run has no failing verdict.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// Whether this judge fails the run.
    pub fn killed_by(&self, judge: &str) -> bool {
        self.failures().any(|(name, _)| *name == judge)
    }
}

/// A verdict in words.
pub fn describe(judge: &str, verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => format!("{judge}: pass"),
        Verdict::Violation(witness) => format!("{judge}: VIOLATION: {witness}"),
        Verdict::Refused { node, reason } => format!("{judge}: REFUSED by node {node}: {reason}"),
        Verdict::Undecided(why) => format!("{judge}: undecided: {why}"),
        Verdict::NotExercised(why) => format!("{judge}: not exercised: {why}"),
        Verdict::Harness(why) => format!("{judge}: THE HARNESS IS WRONG: {why}"),
    }
}
