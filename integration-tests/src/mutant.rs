//! Planted bugs and the seeds that must find them.
//!
//! `mutants.toml` lists every mutant with the mix of workload and faults that is made to see it, the
//! judge that must kill it, and how many seeds it may live for. A kill by another judge alone does
//! not count: the named one is blind then.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::plan::{ClusterConfig, FaultName, Gap, Plan};
use crate::sweep::Length;
use crate::time::SimTime;
use crate::workload::Workload;
use crate::world::{self, Options, Report};

/// The list, as the repository has it.
const LIST: &str = include_str!("../mutants.toml");

/// The judge of mutants that no cluster shows: a small test of their own kills them.
pub const PROPERTY: &str = "property";

/// The judge of mutants that a scripted scenario kills, in `tests/scenarios`.
pub const SCENARIO: &str = "scenario";

/// One planted bug.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutant {
    /// The name in `mutate!`.
    pub name: String,
    /// What breaks.
    pub breaks: String,
    /// The source file with the planted branch.
    pub file: String,
    /// The judge that must notice.
    pub killed_by: String,
    /// How many seeds it may live for.
    pub budget: u64,
    /// What clients do.
    pub workloads: Vec<Workload>,
    /// Nodes, when the mix needs a certain number.
    pub nodes: Option<u8>,
    /// Simulated seconds of faults.
    pub seconds: u64,
    /// Log entries between two snapshots.
    pub snapshot_every: Option<u64>,
    /// Bytes of a segment of the log.
    pub wal_segment: Option<u64>,
    /// Of a hundred writes, so many are fast.
    #[serde(default)]
    pub fast: u8,
    /// Clients with sessions.
    #[serde(default)]
    pub sessions: u8,
    /// Faults of the mix, with milliseconds between two of a kind.
    pub faults: BTreeMap<FaultName, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

/// Every mutant of the list.
///
/// # Panics
/// If `mutants.toml` is malformed: it is part of the source.
pub fn all() -> Vec<Mutant> {
    let list: List = toml::from_str(LIST).expect("mutants.toml is well-formed");
    list.mutant
}

/// The mutant of a name.
pub fn named(name: &str) -> Option<Mutant> {
    all().into_iter().find(|mutant| mutant.name == name)
}

/// What became of a mutant.
#[derive(Clone, Debug)]
pub enum Fate {
    /// Its judge noticed in the run of this seed.
    Killed {
        /// The seed.
        seed: u64,
        /// What the judge said.
        said: String,
    },
    /// Nobody noticed within the budget, or only others did.
    Alive {
        /// What other judges said.
        others: Vec<String>,
    },
}

impl Mutant {
    /// The plan of a seed in this mutant's mix.
    pub fn plan(&self, seed: u64) -> Plan {
        Plan::draw_with(seed, |config| {
            Length::Short.set(config);
            self.mix(config);
        })
    }

    fn mix(&self, config: &mut ClusterConfig) {
        let shift = SimTime::from_secs(self.seconds).since(config.phases.core);
        let phases = &mut config.phases;
        for phase in [&mut phases.core, &mut phases.heal, &mut phases.end] {
            *phase = *phase + shift;
        }
        config.workloads.clone_from(&self.workloads);
        (config.fast, config.sessions) = (self.fast, self.sessions);
        if let Some(nodes) = self.nodes {
            config.nodes = nodes;
            config.core = (0..nodes).collect();
        }
        config.knobs.snapshot_every = self.snapshot_every.or(config.knobs.snapshot_every);
        config.knobs.wal_segment = self.wal_segment.or(config.knobs.wal_segment);
        let gap = |(kind, millis): (&FaultName, &u64)| (*kind, Gap(Duration::from_millis(*millis)));
        config.faults = self.faults.iter().map(gap).collect();
    }

    /// Runs the mix of one seed, with the bug.
    pub fn run(&self, seed: u64, strategy: impl Fn(&Plan, &Options) -> Report) -> Report {
        let options = Options { mutant: Some(leak(&self.name)), ..Options::default() };
        strategy(&self.plan(seed), &options)
    }

    /// Runs seeds until the named judge notices.
    pub fn hunt(&self, strategy: impl Fn(&Plan, &Options) -> Report) -> Fate {
        let mut others = Vec::new();
        for seed in 0..self.budget {
            let report = self.run(seed, &strategy);
            for (judge, verdict) in report.failures() {
                let said = format!("seed {seed}: {}", world::describe(judge, verdict));
                if *judge == self.killed_by {
                    return Fate::Killed { seed, said };
                }
                others.push(said);
            }
        }
        Fate::Alive { others }
    }
}

/// Names live as long as the program: there are few, each planted many times.
fn leak(name: &str) -> &'static str {
    use std::collections::BTreeSet;
    use std::sync::{Mutex, PoisonError};
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let leaked: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(leaked);
    leaked
}

/// A mutant's name for [`Options::mutant`], if it is one of the list.
pub fn static_name(name: &str) -> Option<&'static str> {
    named(name).map(|mutant| leak(&mutant.name))
}
