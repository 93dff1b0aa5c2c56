//! What the tests of this folder share.

use common::env::simulated::{SimHost, SimWorldClock, Trace};
use common::env::{Env, SplitMix64};
use common::ids::NodeId;
use common::storage::disk::simulated::{SimDisk, SimDiskConfig};
use common::transport::simulated::{SimNetwork, SimNetworkConfig};

/// One simulated machine with a disk. Make it inside of a runtime with paused time.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) host: SimHost,
    pub(crate) disk: SimDisk,
    network: SimNetwork,
}

impl Machine {
    pub(crate) fn new(seed: u64) -> Self {
        let (world, rng, node) = (SimWorldClock::new(), SplitMix64::new(seed), NodeId(1));
        let trace = Trace::default();
        let config = SimDiskConfig::default();
        Self {
            host: SimHost::new(node, &world, &rng, trace.clone()),
            disk: SimDisk::new(node, &world, &rng, trace.clone(), config),
            network: SimNetwork::new(&world, &rng, trace, SimNetworkConfig::default()),
        }
    }

    /// A new life of the node. What still runs of the last one is gone, as after a `kill -9`.
    pub(crate) fn boot(&self) -> Env {
        self.host.boot(|incarnation| {
            (self.network.attach(self.host.node(), incarnation), self.disk.mount(incarnation))
        })
    }

    /// The machine loses its power: of what was not synced, each part is kept, lost or torn.
    pub(crate) fn power_loss(&self) {
        self.host.kill();
        self.disk.power_loss();
    }
}
