//! The wires and disks of a world, and how faults change them.

use std::sync::{Arc, Mutex, PoisonError};

use common::env::SplitMix64;
use common::env::simulated::{SimWorldClock, Trace};
use common::ids::Incarnation;
use common::storage::disk::Disk;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::transport::Transport;
use common::transport::simulated::{Latency, Observer, Rate, SimNetwork, SimNetworkConfig};

use super::nemesis::Weather;
use crate::plan::ClusterConfig;
use crate::strategy::Place;

/// Longer than any run: a clog ends when its fault does.
const FOR_EVER: std::time::Duration = std::time::Duration::from_secs(1 << 20);

/// The wires between nodes.
#[derive(Debug)]
pub(crate) struct Net {
    network: SimNetwork,
    nodes: u8,
    /// The weather that the wires were set to last.
    now: Mutex<Weather>,
}

impl Net {
    pub(super) fn new(
        clock: &SimWorldClock,
        rng: &SplitMix64,
        trace: &Trace,
        config: &ClusterConfig,
    ) -> Self {
        let latency = Latency { minimum: config.latency_min, mean: config.latency_mean };
        let settings = SimNetworkConfig { latency, ..SimNetworkConfig::default() };
        let network = SimNetwork::new(clock, rng, trace.clone(), settings);
        Self { network, nodes: config.nodes, now: Mutex::default() }
    }

    pub(super) fn attach(&self, place: Place, incarnation: Incarnation) -> Arc<dyn Transport> {
        self.network.attach(place.id(), incarnation)
    }

    pub(super) fn detach(&self, place: Place) {
        self.network.detach(place.id());
    }

    pub(super) fn vanish(&self, place: Place) {
        self.network.vanish(place.id());
    }

    pub(super) fn observe(&self, observer: Observer) {
        self.network.observe(observer);
    }

    pub(super) fn reset(&self, (a, b): (Place, Place)) {
        self.network.reset(a.id(), b.id());
    }

    /// Makes the wires what the active faults say.
    pub(super) fn apply(&self, weather: &Weather) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let places = || (0..self.nodes).map(Place);
        for pair in places().flat_map(|a| places().map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let (from, to) = (pair.0.id(), pair.1.id());
            match (now.cut.contains(&pair), weather.cut.contains(&pair)) {
                (false, true) => self.network.cut(from, to),
                (true, false) => self.network.heal(from, to),
                _ => {}
            }
            match (now.clogged.contains(&pair), weather.clogged.contains(&pair)) {
                (false, true) => self.network.clog(from, to, FOR_EVER),
                (true, false) => self.network.clog(from, to, std::time::Duration::ZERO),
                _ => {}
            }
            let rate = weather.slow.get(&pair);
            if now.slow.get(&pair) != rate {
                let rate = rate.map(|bytes| Rate::Bytes(u64::from(*bytes)));
                self.network.set_rate(from, to, rate);
            }
            let latency = weather.latency_of(pair);
            if now.latency_of(pair) != latency {
                let latency = latency.map(|(minimum, mean)| Latency { minimum, mean });
                self.network.set_latency(from, to, latency);
            }
        }
        *now = weather.clone();
    }
}

/// The disk of a machine.
#[derive(Debug)]
pub(crate) struct Platter {
    place: Place,
    disk: SimDisk,
}

impl Platter {
    pub(super) fn new(
        place: Place,
        clock: &SimWorldClock,
        rng: &SplitMix64,
        trace: &Trace,
        config: &ClusterConfig,
    ) -> Self {
        let settings =
            SimDiskConfig { sector_bytes: u64::from(config.sector), ..SimDiskConfig::default() };
        Self { place, disk: SimDisk::new(place.id(), clock, rng, trace.clone(), settings) }
    }

    pub(super) fn mount(&self, incarnation: Incarnation) -> Arc<dyn Disk> {
        self.disk.mount(incarnation)
    }

    pub(super) fn crash(&self) {
        self.disk.crash();
    }

    pub(super) fn power_loss(&self) {
        self.disk.power_loss();
    }

    pub(super) fn fail_next_sync(&self) {
        self.disk.fail_next_sync();
    }

    pub(super) fn sync_has_failed(&self, incarnation: Incarnation) -> bool {
        self.disk.sync_has_failed(incarnation)
    }

    /// A copy of what is durable now, however little a power loss may keep.
    pub(crate) fn image(&self) -> SimDisk {
        self.disk.durable_image()
    }

    /// Makes the disk what the active faults say.
    pub(super) fn apply(&self, weather: &Weather) {
        let factor = weather.disk_slow.get(&self.place).copied().unwrap_or(1);
        self.disk.set_slow(u32::from(factor));
        self.disk.stall_syncs(weather.sync_stalled.contains(&self.place));
        self.disk.set_full(weather.disk_full.contains(&self.place));
    }
}
