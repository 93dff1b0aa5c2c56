//! Many seeds: what one run comes to in a line, and what all of them come to together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::check::Verdict;
use crate::plan::{ClusterConfig, Plan};
use crate::strategy::leader::Leader;
use crate::strategy::model::{Bug, Model};
use crate::time::SimTime;
use crate::world::{self, Options, Report, Stats};

/// How much of a run is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Length {
    /// 30 s of faults, about a minute in all.
    Full,
    /// 10 s of faults, about 25 s in all: what continuous integration affords.
    #[default]
    Short,
}

impl Length {
    /// Sets the phases of a configuration.
    pub fn set(self, config: &mut ClusterConfig) {
        if self == Self::Short {
            config.phases.core = SimTime::from_secs(10);
            config.phases.heal = SimTime::from_secs(14);
            config.phases.end = SimTime::from_secs(45);
            config.quiescence = Duration::from_secs(6);
            config.op_deadline = Duration::from_secs(3);
        }
    }

    /// The plan of a seed.
    pub fn plan(self, seed: u64) -> Plan {
        Plan::draw_with(seed, |config| self.set(config))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Short => "short",
        })
    }
}

impl FromStr for Length {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "short" => Ok(Self::Short),
            other => Err(format!("`{other}` is no length: short or full")),
        }
    }
}

/// A strategy by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subject {
    /// The crate `leader`.
    #[default]
    Leader,
    /// The model that proves the harness.
    Model,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leader => "leader",
            Self::Model => "model",
        })
    }
}

impl FromStr for Subject {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "leader" => Ok(Self::Leader),
            "model" => Ok(Self::Model),
            other => Err(format!("`{other}` is no strategy: leader or model")),
        }
    }
}

impl Subject {
    /// Runs a plan on a fresh cluster.
    pub fn run(self, plan: &Plan, options: &Options) -> Report {
        match self {
            Self::Leader => world::run(Leader::new(&plan.config), plan, options),
            Self::Model => world::run(Model::new(Bug::None), plan, options),
        }
    }
}

/// What a run came to, as a worker process writes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The seed.
    pub seed: u64,
    /// The fold of the run, in hexadecimal digits.
    pub digest: String,
    /// Crossings of seams.
    pub events: u64,
    /// Figures.
    pub stats: Stats,
    /// Failing judges and what they say.
    pub failures: Vec<(String, String)>,
    /// Judges that could not decide.
    pub undecided: Vec<String>,
    /// Marks that fired.
    pub marks: BTreeSet<String>,
}

impl Line {
    /// The line of a report, with the marks that fired on this thread.
    pub fn of(report: &Report) -> Self {
        let said = |(judge, verdict): &(&'static str, Verdict)| {
            ((*judge).to_owned(), world::describe(judge, verdict))
        };
        let undecided = report.verdicts.iter().filter(|(_, v)| matches!(v, Verdict::Undecided(_)));
        Self {
            seed: report.seed,
            digest: format!("{:032x}", report.digest),
            events: report.events,
            stats: report.stats.clone(),
            failures: report.failures().map(said).collect(),
            undecided: undecided.map(|(judge, v)| world::describe(judge, v)).collect(),
            marks: common::mark::take().into_iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a sweep came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Crossings of seams.
    pub events: u64,
    /// All figures together.
    pub stats: Stats,
    /// Lines of seeds that failed.
    pub failed: Vec<Line>,
    /// Verdicts that could not be reached.
    pub undecided: u64,
    /// In how many seeds each mark fired.
    pub marks: BTreeMap<String, u64>,
}

impl Summary {
    /// Adds one run.
    pub fn add(&mut self, line: Line) {
        self.seeds += 1;
        self.events += line.events;
        self.stats.add(&line.stats);
        self.undecided += line.undecided.len() as u64;
        for mark in &line.marks {
            *self.marks.entry(mark.clone()).or_default() += 1;
        }
        if !line.failures.is_empty() {
            self.failed.push(line);
        }
    }

    /// Runs seeds one after the other in this thread.
    pub fn of_seeds(
        seeds: impl IntoIterator<Item = u64>,
        subject: Subject,
        length: Length,
    ) -> Self {
        let mut summary = Self::default();
        for seed in seeds {
            let report = subject.run(&length.plan(seed), &Options::default());
            summary.add(Line::of(&report));
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seeds       {} ({} failed)", self.seeds, self.failed.len())?;
        writeln!(f, "{}", self.stats)?;
        writeln!(f, "seams       {} crossings", self.events)?;
        write!(f, "verdicts    {} undecided", self.undecided)?;
        if !self.marks.is_empty() {
            write!(f, "\nmarks       ")?;
            for (i, (mark, seeds)) in self.marks.iter().enumerate() {
                write!(f, "{}{mark} {seeds}", if i == 0 { "" } else { ", " })?;
            }
        }
        Ok(())
    }
}
