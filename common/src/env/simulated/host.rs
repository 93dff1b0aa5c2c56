//! One machine of a simulated world, and the life of the node on it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::clock::{MachineClock, SimClock, SimWorldClock, since_world_began};
use super::life::{Boot, NodePanic, Panics, SimSpawn};
use super::trace::Trace;
use crate::env::{Env, Mono, Parts, Rng};
use crate::ids::{Incarnation, NodeId};
use crate::storage::disk::Disk;
use crate::transport::Transport;

/// What the node on a host is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// No node runs.
    Down,
    /// The node runs.
    Up,
    /// The node is there, and none of its tasks is polled.
    Paused,
}

/// One machine: its clock, and the node that boots, pauses and dies on it.
///
/// Cloning gives another handle to the same machine.
#[derive(Clone)]
pub struct SimHost(Arc<Machine>);

struct Machine {
    node: NodeId,
    world: SimWorldClock,
    clock: Arc<MachineClock>,
    rng: Arc<dyn Rng>,
    trace: Trace,
    panics: Panics,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Incarnation,
    boot: Option<Arc<Boot>>,
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimHost({:?}, {:?})", self.0.node, self.life())
    }
}

impl SimHost {
    /// A machine without a running node. Its randomness is a stream of `rng` that only `node`
    /// names.
    pub fn new(node: NodeId, world: &SimWorldClock, rng: &dyn Rng, trace: Trace) -> Self {
        Self(Arc::new(Machine {
            node,
            world: *world,
            clock: Arc::new(MachineClock::new(*world)),
            rng: rng.stream(&format!("node {node}")),
            trace,
            panics: Panics::default(),
            state: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str, payload: &[u8]) {
        self.0.trace.note(self.0.world.nanos(), self.0.node.0, what, payload);
    }

    /// The node that lives here.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// The boot that runs, or the last one that did; 0 before the first.
    pub fn incarnation(&self) -> Incarnation {
        self.state().last
    }

    /// What the node is doing.
    pub fn life(&self) -> Life {
        match &self.state().boot {
            None => Life::Down,
            Some(boot) if boot.is_paused() => Life::Paused,
            Some(_) => Life::Up,
        }
    }

    /// Starts a new life of the node and returns its environment; a node that still runs is killed
    /// first. `seams` attaches network and disk for the new incarnation, after whose start those
    /// of older ones must swallow what they are asked.
    pub fn boot(
        &self,
        seams: impl FnOnce(Incarnation) -> (Arc<dyn Transport>, Arc<dyn Disk>),
    ) -> Env {
        self.kill();
        let machine = &*self.0;
        let incarnation = {
            let mut state = self.state();
            state.last = Incarnation(state.last.0 + 1);
            state.last
        };
        let (node, world, trace) = (machine.node, machine.world, machine.trace.clone());
        let boot = Boot::new(node, incarnation, world, trace.clone(), machine.panics.clone());
        self.note("boot", &incarnation.0.to_le_bytes());
        let (transport, disk) = seams(incarnation);
        let env = Env::new(Parts {
            node,
            incarnation,
            clock: Arc::new(SimClock::new(node, machine.clock.clone(), trace)),
            rng: machine.rng.stream(&format!("boot {incarnation}")),
            spawn: Arc::new(SimSpawn(boot.clone())),
            transport,
            disk,
        });
        self.state().boot = Some(boot);
        env
    }

    /// Drops all tasks of the node, now. Their `Drop` code runs in the node's scope and can start
    /// nothing more; cut the incarnation's network and disk before, so that it sends and writes
    /// nothing either.
    pub fn kill(&self) {
        let boot = self.state().boot.take();
        if let Some(boot) = boot {
            self.note("kill", &boot.incarnation().0.to_le_bytes());
            boot.kill();
        }
    }

    /// Stops polling the node's tasks, as SIGSTOP does. Whoever is woken meanwhile is polled after
    /// [`SimHost::resume`], so timers fire late.
    pub fn pause(&self) {
        let boot = self.state().boot.clone();
        if let Some(boot) = boot {
            self.note("pause", &[]);
            boot.pause();
        }
    }

    /// Lets a paused node go on.
    pub fn resume(&self) {
        let boot = self.state().boot.clone();
        if let Some(boot) = boot {
            self.note("resume", &[]);
            boot.resume();
        }
    }

    /// How many tasks of the node run.
    pub fn tasks(&self) -> usize {
        self.state().boot.as_ref().map_or(0, |boot| boot.running())
    }

    /// Takes the panics since the last call, over all boots.
    pub fn take_panics(&self) -> Vec<NodePanic> {
        self.0.panics.take()
    }

    /// Lets the machine's clock go faster by this many millionths from now on (50,000 is 5 %), or
    /// slower when negative. What has passed stays passed; sleeping timers take the new speed.
    pub fn set_drift(&self, ppm: i32) {
        self.note("drift", &ppm.to_le_bytes());
        self.0.clock.set_drift(ppm);
    }

    /// Sets how many milliseconds the wall clock is ahead. Monotonic time does not notice.
    pub fn set_offset(&self, millis: i64) {
        self.note("offset", &millis.to_le_bytes());
        self.0.clock.set_offset(millis);
    }

    /// Moves the wall clock by so many milliseconds. Monotonic time does not notice.
    pub fn jump(&self, millis: i64) {
        self.note("jump", &millis.to_le_bytes());
        self.0.clock.jump(millis);
    }

    /// What the machine's monotonic clock shows, for a node that booted when the world began.
    pub fn now(&self) -> Mono {
        since_world_began(&self.0.clock)
    }

    /// What the machine's wall clock shows, in milliseconds since the Unix epoch.
    pub fn wall_millis(&self) -> u64 {
        self.0.clock.wall_millis()
    }
}
