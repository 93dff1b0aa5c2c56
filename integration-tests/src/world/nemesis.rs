//! Faults as they begin and end, and what those that are active amount to together.
//!
//! Faults overlap: a machine may be cut off twice and lose its power meanwhile. So nothing is ever
//! undone. The active faults say what should be, and the world is made so, whenever one begins or
//! ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use common::env::simulated::Life;

use super::audit;
use super::machine::{self, Death};
use super::resolve::shuffled;
use super::{World, struck};
use crate::plan::{FaultKind, TimedFault};
use crate::strategy::{Chore, Place, Strategy};
use crate::time::SimTime;

/// Clocks of two nodes may drift apart by 5 %, the most that strategies promise to bear; a plan
/// draws up to 5 % for each, either way.
const DRIFT_DIVISOR: i32 = 2;

/// What happens at one moment of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begin(usize),
    /// The next crash of a restart storm.
    Again(usize),
    End(usize),
    Core,
    Heal,
}

/// A fault that is active, with who it is about.
#[derive(Clone, Debug)]
struct Active {
    kind: FaultKind,
    places: Vec<Place>,
    /// Directed pairs whose messages it stops, holds or slows.
    pairs: Vec<(Place, Place)>,
    /// Wall clocks when it began, for those that it freezes.
    froze_at: SimTime,
}

/// What active faults amount to together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weather {
    pub(super) down: BTreeSet<Place>,
    pub(super) paused: BTreeSet<Place>,
    pub(super) cut: BTreeSet<(Place, Place)>,
    pub(super) clogged: BTreeSet<(Place, Place)>,
    /// Bytes per second.
    pub(super) slow: BTreeMap<(Place, Place), u32>,
    /// Least latency and mean of the exponential part.
    pub(super) latency: BTreeMap<Place, (Duration, Duration)>,
    pub(super) drift: BTreeMap<Place, i32>,
    pub(super) offset: BTreeMap<Place, i64>,
    pub(super) disk_slow: BTreeMap<Place, u16>,
    pub(super) sync_stalled: BTreeSet<Place>,
    pub(super) disk_full: BTreeSet<Place>,
}

impl Weather {
    /// A message is as slow as the slower end of its link.
    pub(super) fn latency_of(&self, (a, b): (Place, Place)) -> Option<(Duration, Duration)> {
        [a, b].iter().filter_map(|end| self.latency.get(end)).max().copied()
    }
}

/// Carries out the faults and the phases of the plan.
pub(super) async fn torment<S: Strategy>(world: Arc<World<S>>) {
    let mut nemesis = Nemesis {
        active: BTreeMap::new(),
        dead: BTreeSet::new(),
        jumped: BTreeMap::new(),
        now: Weather::default(),
        world,
    };
    for (at, step) in timeline(&nemesis.world.plan.faults, &nemesis.world) {
        nemesis.world.sleep_until(at).await;
        nemesis.step(step);
    }
}

fn timeline<S: Strategy>(faults: &[TimedFault], world: &World<S>) -> Vec<(SimTime, Step)> {
    let phases = world.plan.config.phases;
    let mut steps = vec![(phases.core, Step::Core), (phases.heal, Step::Heal)];
    for (i, fault) in faults.iter().enumerate().filter(|(_, f)| f.at < phases.core) {
        steps.push((fault.at, Step::Begin(i)));
        if let FaultKind::RestartStorm { times } = fault.kind {
            for n in 1..times {
                let at = fault.at + fault.lasts * u32::from(n) / u32::from(times);
                steps.push((at, Step::Again(i)));
            }
        }
        if fault.lasts > Duration::ZERO {
            steps.push((fault.at + fault.lasts, Step::End(i)));
        }
    }
    steps.retain(|(at, step)| *at < phases.core || matches!(step, Step::Core | Step::Heal));
    steps.sort_unstable();
    steps
}

struct Nemesis<S: Strategy> {
    world: Arc<World<S>>,
    active: BTreeMap<usize, Active>,
    /// Nodes that are dead in the core phase.
    dead: BTreeSet<Place>,
    /// Where jumps have left wall clocks.
    jumped: BTreeMap<Place, i64>,
    now: Weather,
}

impl<S: Strategy> Nemesis<S> {
    fn step(&mut self, step: Step) {
        let world = self.world.clone();
        match step {
            Step::Begin(i) => self.begin(i),
            Step::Again(i) => {
                for place in self.active.get(&i).map_or(Vec::new(), |a| a.places.clone()) {
                    self.die(place, Death::Process);
                }
            }
            Step::End(i) => {
                world.note(None, "fault ends", &(i as u64).to_le_bytes());
                self.active.remove(&i);
            }
            Step::Core => {
                world.note(None, "core", &[]);
                self.active.clear();
                let core = &world.plan.config.core;
                self.dead = world.places().filter(|p| !core.contains(&p.0)).collect();
                for place in self.dead.clone() {
                    self.die(place, Death::Process);
                }
            }
            Step::Heal => {
                world.note(None, "heal", &[]);
                self.active.clear();
                self.dead.clear();
                for (place, _) in std::mem::take(&mut self.jumped) {
                    world.machine(place).host.set_offset(0);
                }
            }
        }
        self.settle();
    }

    fn die(&self, place: Place, death: Death) {
        if death == Death::Power {
            audit::audit(&self.world);
        }
        let world = &self.world;
        world.machine(place).kill(&world.strategy, &world.net, death);
    }

    fn begin(&mut self, index: usize) {
        let world = self.world.clone();
        let fault = &world.plan.faults[index];
        let places = world.resolve_many(&fault.on, fault.salt);
        let said = format!("{:?} on {places:?}", fault.kind);
        world.note(None, "fault", said.as_bytes());
        struck(&world, fault.kind.name());
        let machines = || places.iter().map(|p| world.machine(*p));
        match fault.kind {
            FaultKind::Crash | FaultKind::RestartStorm { .. } => {
                for place in &places {
                    self.die(*place, Death::Process);
                }
            }
            FaultKind::PowerLoss => places.iter().for_each(|p| self.die(*p, Death::Power)),
            FaultKind::Reset => {
                for pair in links(&places) {
                    world.net.reset(pair);
                }
            }
            FaultKind::ClockJump { millis } => {
                for place in &places {
                    let offset = self.jumped.entry(*place).or_default();
                    *offset = offset.saturating_add(millis);
                    world.machine(*place).host.jump(millis);
                }
            }
            FaultKind::SyncFails => {
                machines().for_each(|m| m.disk.fail_next_sync());
            }
            FaultKind::Transfer => self.ask(&places, Chore::Transfer),
            FaultKind::Snapshot => self.ask(&places, Chore::Snapshot),
            _ => {}
        }
        if fault.lasts > Duration::ZERO {
            let pairs = pairs(&world, fault, &places);
            let active = Active { kind: fault.kind, places, pairs, froze_at: world.now() };
            self.active.insert(index, active);
        }
    }

    /// Asks the nodes to do a chore, in tasks of their own.
    fn ask(&self, places: &[Place], chore: Chore) {
        for place in places {
            let machine = self.world.machine(*place);
            if let Some((env, node)) = machine.running() {
                let strategy = self.world.strategy.clone();
                drop(env.spawn("chore", async move { strategy.chore(&node, chore).await }));
            }
        }
    }

    fn weather(&self) -> Weather {
        let mut weather = Weather { down: self.dead.clone(), ..Weather::default() };
        for active in self.active.values() {
            let Active { kind, places, pairs, froze_at } = active;
            let (places, pairs) = (places.iter().copied(), pairs.iter().copied());
            match *kind {
                FaultKind::Crash | FaultKind::PowerLoss => weather.down.extend(places),
                FaultKind::Pause => weather.paused.extend(places),
                FaultKind::Isolate
                | FaultKind::CutOneWay
                | FaultKind::CutTwoWay
                | FaultKind::Bridge
                | FaultKind::Halves => weather.cut.extend(pairs),
                FaultKind::Clog => weather.clogged.extend(pairs),
                FaultKind::SlowLink { bytes_per_second } => {
                    for pair in pairs {
                        let rate = weather.slow.entry(pair).or_insert(bytes_per_second);
                        *rate = (*rate).min(bytes_per_second);
                    }
                }
                FaultKind::Latency { min, mean } => {
                    weather.latency.extend(places.map(|p| (p, (min, mean))));
                }
                FaultKind::ClockOffset { millis } => {
                    weather.offset.extend(places.map(|p| (p, millis)));
                }
                FaultKind::ClockFreeze => {
                    // Standing still is being behind by what has passed, renewed at every change of
                    // the weather; at the end the clock jumps to the right time.
                    let behind = self.world.now().since(*froze_at).as_millis() as i64;
                    weather.offset.extend(places.map(|p| (p, -behind)));
                }
                FaultKind::ClockDrift { ppm } => {
                    weather.drift.extend(places.map(|p| (p, ppm / DRIFT_DIVISOR)));
                }
                FaultKind::DiskSlow { factor } => {
                    for place in places {
                        let slow = weather.disk_slow.entry(place).or_insert(factor);
                        *slow = (*slow).max(factor);
                    }
                }
                FaultKind::SyncStall => weather.sync_stalled.extend(places),
                FaultKind::DiskFull => weather.disk_full.extend(places),
                FaultKind::RestartStorm { .. }
                | FaultKind::Reset
                | FaultKind::ClockJump { .. }
                | FaultKind::SyncFails
                | FaultKind::Transfer
                | FaultKind::Snapshot => {}
            }
        }
        weather
    }

    /// Makes the world what the active faults say.
    fn settle(&mut self) {
        let world = self.world.clone();
        let weather = self.weather();
        world.net.apply(&weather);
        for machine in &world.machines {
            let place = machine.place;
            let host = &machine.host;
            machine.disk.apply(&weather);
            let full = weather.disk_full.contains(&place);
            machine.excuse_for_now(full.then_some("its disk is full"));
            let drift = weather.drift.get(&place).copied().unwrap_or(0);
            if self.now.drift.get(&place).copied().unwrap_or(0) != drift {
                host.set_drift(drift);
            }
            let jumped = self.jumped.get(&place).copied().unwrap_or(0);
            let offset = weather.offset.get(&place).copied();
            if self.now.offset.get(&place).copied() != offset {
                host.set_offset(jumped.saturating_add(offset.unwrap_or(0)));
            }
            let down = weather.down.contains(&place);
            machine.want(!down);
            if !down && host.life() == Life::Down {
                machine::boot(&world, place);
            }
            match (weather.paused.contains(&place), host.life()) {
                (true, Life::Up) => host.pause(),
                (false, Life::Paused) => host.resume(),
                _ => {}
            }
        }
        self.now = weather;
    }
}

/// Both directions between the first two places.
fn links(places: &[Place]) -> Vec<(Place, Place)> {
    match places {
        [a, b, ..] if a != b => vec![(*a, *b), (*b, *a)],
        _ => Vec::new(),
    }
}

/// The directed pairs whose messages a fault stops, holds or slows.
fn pairs<S: Strategy>(
    world: &World<S>,
    fault: &TimedFault,
    places: &[Place],
) -> Vec<(Place, Place)> {
    let between = |ones: &[Place], others: &[Place]| {
        let both = |a: &Place| others.iter().flat_map(|b| links(&[*a, *b])).collect::<Vec<_>>();
        ones.iter().flat_map(both).collect::<Vec<_>>()
    };
    let rest: Vec<Place> = world.places().filter(|p| !places.contains(p)).collect();
    match fault.kind {
        FaultKind::Isolate | FaultKind::Halves => between(places, &rest),
        FaultKind::Bridge => {
            let mixed = shuffled(rest.into_iter(), fault.salt);
            let (left, right) = mixed.split_at(mixed.len() / 2);
            between(left, right)
        }
        FaultKind::CutTwoWay => links(places),
        FaultKind::CutOneWay | FaultKind::Clog | FaultKind::SlowLink { .. } => {
            links(places).into_iter().take(1).collect()
        }
        _ => Vec::new(),
    }
}
