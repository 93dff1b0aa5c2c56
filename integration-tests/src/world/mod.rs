//! The world: one runtime with paused time in which a plan happens to a cluster.
//!
//! ```text
//! audit.rs     whether what nodes said is durable really is, and what they say to each other
//! clients.rs   what clients ask for, over links that a dying node cuts
//! machine.rs   one machine: boots, dies, keeps its disk
//! fabric.rs    the wires and disks, and how faults change them
//! nemesis.rs   faults as they begin and end, and what they amount to together
//! resolve.rs   who a role is, at the moment it is needed
//! watch.rs     panics, nodes that stop by themselves, samples for the invariants
//! report.rs    what came of it
//! ```
//!
//! The order of a run is the plan's: *safety* (any fault), *core* (a majority is healed and must
//! progress, the rest is dead), *heal* (all return), quiescence, and the final reads of every key
//! from each replica.

mod audit;
mod clients;
mod fabric;
mod fates;
mod machine;
mod nemesis;
mod report;
mod resolve;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::env::simulated::{SimWorldClock, Trace};
use common::env::{Rng, SplitMix64};
use futures::future::{Either, select};
use tokio::runtime::{Builder, RngSeed};

use crate::check::{self, Case, Verdict, Witness};
use crate::history::Recorder;
use crate::plan::{FaultName, Plan};
use crate::strategy::{Findings, Place, Strategy};
use crate::time::SimTime;

use fabric::Net;
use machine::{Death, Machine};
pub use report::{Report, Stats, describe};

/// How a plan is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many of the last events the report keeps.
    pub keep_events: usize,
    /// The planted bug, by name. Without the feature `mutants` nothing is planted.
    pub mutant: Option<&'static str>,
    /// Where tokio's own generator is seeded from.
    pub runtime: RuntimeSeed,
}

/// Where the seed of tokio's own generator comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuntimeSeed {
    /// From the plan: runs repeat.
    Plan,
    /// From the machine: the negative control of the determinism test.
    Machine,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_events: 0, mutant: None, runtime: RuntimeSeed::Plan }
    }
}

/// Everything that the tasks of a run share.
pub(crate) struct World<S: Strategy> {
    pub(crate) plan: Plan,
    pub(crate) strategy: Arc<S>,
    pub(crate) clock: SimWorldClock,
    pub(crate) trace: Trace,
    pub(crate) rng: SplitMix64,
    pub(crate) net: Net,
    pub(crate) machines: Vec<Machine<S>>,
    state: Mutex<State>,
}

/// What is written down while a run goes on.
#[derive(Default)]
struct State {
    recorder: Recorder,
    findings: Vec<(&'static str, Verdict)>,
    stats: Stats,
}

impl<S: Strategy> World<S> {
    fn new(strategy: Arc<S>, plan: Plan, trace: Trace) -> Self {
        let clock = SimWorldClock::new();
        let rng = SplitMix64::new(plan.seed);
        let rng = SplitMix64::new(rng.stream("run").next_u64());
        let net = Net::new(&clock, &rng, &trace, &plan.config);
        let machines = (0..plan.config.nodes)
            .map(|n| Machine::new(Place(n), &clock, &rng, &trace, &plan.config))
            .collect();
        Self { plan, strategy, clock, trace, rng, net, machines, state: Mutex::default() }
    }

    pub(crate) fn now(&self) -> SimTime {
        SimTime::from(self.clock.elapsed())
    }

    pub(crate) async fn sleep_until(&self, at: SimTime) {
        self.clock.sleep_until(at.elapsed()).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn record<T>(&self, with: impl FnOnce(&mut Recorder) -> T) -> T {
        with(&mut self.state().recorder)
    }

    pub(crate) fn count(&self, with: impl FnOnce(&mut Stats)) {
        with(&mut self.state().stats);
    }

    pub(crate) fn note(&self, place: Option<Place>, what: &str, payload: &[u8]) {
        let node = place.map_or(0, |p| p.id().0);
        self.trace.note(self.clock.nanos(), node, what, payload);
    }

    /// Writes a verdict down that did not come from a history. A run stops caring after a few.
    pub(crate) fn find(&self, judge: &'static str, verdict: Verdict) {
        let mut state = self.state();
        if state.findings.len() < 20 {
            state.findings.push((judge, verdict));
        }
    }

    /// A violation that white-box checks found, now.
    pub(crate) fn violated(&self, judge: &'static str, claim: impl AsRef<str>) {
        let claim = format!("at {}: {}", self.now(), claim.as_ref());
        self.note(None, judge, claim.as_bytes());
        self.find(judge, Verdict::Violation(Witness::new(claim, [])));
    }

    pub(crate) fn machine(&self, place: Place) -> &Machine<S> {
        &self.machines[usize::from(place.0)]
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<S> {
        (0..self.plan.config.nodes).map(Place)
    }

    /// Writes down what looking inside came to.
    pub(crate) fn found(&self, findings: Findings, counted: impl FnOnce(&mut Stats, u64)) {
        self.count(|stats| counted(stats, findings.looked));
        for broken in findings.broken {
            self.violated(broken.judge, broken.claim);
        }
    }

    /// The nodes that are open and running.
    pub(crate) fn open_nodes(&self) -> BTreeMap<Place, S::Node> {
        self.machines.iter().filter_map(|m| Some((m.place, m.node()?))).collect()
    }
}

thread_local! {
    /// The clock of the world that this thread runs, for logs.
    static NOW: std::cell::Cell<Option<SimWorldClock>> = const { std::cell::Cell::new(None) };
}

/// The time of the world that this thread runs, if it runs one.
pub fn now() -> Option<std::time::Duration> {
    NOW.with(|clock| clock.get().map(|clock| clock.elapsed()))
}

/// Runs a plan on a strategy and judges what happened.
pub fn run<S: Strategy>(strategy: S, plan: &Plan, options: &Options) -> Report {
    plant(options.mutant);
    crate::mark::Coverage::reset();
    let strategy = Arc::new(strategy);
    let trace = Trace::keeping(options.keep_events);
    let ran = catch_unwind(AssertUnwindSafe(|| happen(strategy.clone(), plan, &trace, options)));
    plant(None);
    let (state, end) = ran.unwrap_or_else(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default();
        let mut state = State::default();
        state.findings.push(("harness", Verdict::Harness(format!("the world panicked: {words}"))));
        (state, SimTime::ZERO)
    });
    judge(state, end, plan, &trace)
}

fn judge(state: State, end: SimTime, plan: &Plan, trace: &Trace) -> Report {
    let State { recorder, mut findings, mut stats } = state;
    let history = recorder.finish();
    stats.simulated = end.elapsed();
    stats.note_history(&history);
    if !findings.iter().any(|(_, verdict)| matches!(verdict, Verdict::Harness(_))) {
        let case = Case::of_plan(&history, plan, end);
        findings.extend(check::judge(&case));
    }
    let (digest, events) = trace.digest();
    let last = trace.last();
    Report { seed: plan.seed, digest, events, verdicts: findings, stats, history, last }
}

fn happen<S: Strategy>(
    strategy: Arc<S>,
    plan: &Plan,
    trace: &Trace,
    options: &Options,
) -> (State, SimTime) {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    if options.runtime == RuntimeSeed::Plan {
        builder.rng_seed(RngSeed::from_bytes(&plan.seed.to_le_bytes()));
    }
    let runtime = builder.build().expect("a runtime without I/O needs nothing of the machine");
    let result = runtime.block_on(async {
        let world = Arc::new(World::new(strategy, plan.clone(), trace.clone()));
        NOW.with(|now| now.set(Some(world.clock)));
        let end = unfold(&world).await;
        for machine in &world.machines {
            machine.kill(&world.strategy, &world.net, Death::Process);
        }
        NOW.with(|now| now.set(None));
        let state = std::mem::take(&mut *world.state());
        (state, end)
    });
    drop(runtime);
    result
}

/// The run itself, until the final reads are done or the plan's end.
async fn unfold<S: Strategy>(world: &Arc<World<S>>) -> SimTime {
    audit::listen(world);
    for place in world.places() {
        machine::boot(world, place);
    }
    let nemesis = tokio::spawn(nemesis::torment(world.clone()));
    let watch = tokio::spawn(watch::watch(world.clone()));
    let clients = tokio::spawn(clients::run_all(world.clone()));
    let fates = tokio::spawn(fates::ask(world.clone()));
    let end = world.plan.config.phases.end;
    let limit = std::pin::pin!(world.sleep_until(end));
    if let Either::Left((Err(error), _)) = select(clients, limit).await {
        world.find("harness", Verdict::Harness(format!("the clients ended early: {error}")));
    }
    if nemesis.is_finished() && nemesis.await.is_err() {
        world.find("harness", Verdict::Harness("the nemesis panicked".to_owned()));
    }
    if fates.is_finished() && fates.await.is_err() {
        world.find("harness", Verdict::Harness("asking for fates panicked".to_owned()));
    }
    if watch.is_finished() {
        world.find("harness", Verdict::Harness("the watch ended early".to_owned()));
    }
    watch::look(world);
    let now = world.now();
    audit::audit_to_the_end(world).await;
    now
}

#[cfg(feature = "mutants")]
fn plant(mutant: Option<&'static str>) {
    common::mutant::select(mutant);
}

#[cfg(not(feature = "mutants"))]
const fn plant(_: Option<&'static str>) {}

/// A fault of a kind has struck so many machines or links.
pub(crate) fn struck<S: Strategy>(world: &World<S>, kind: FaultName) {
    world.count(|stats| *stats.faults.entry(kind).or_default() += 1);
}
