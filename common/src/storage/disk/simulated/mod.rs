//! The simulated disk: sectors and names that are durable or only cached, under one seed.
//!
//! A [`SimDisk`] is the hardware: it outlives the nodes that [`SimDisk::mount`] it, one incarnation
//! after the other. What an older incarnation asks is swallowed. A process that dies
//! ([`SimDisk::crash`]) leaves the cache; a machine that loses its power
//! ([`SimDisk::power_loss`]) leaves each unsynced sector old, new or torn and each unsynced name
//! there or not. Syncs take simulated time; writes and reads take none, unless the disk is slowed.
//!
//! # Caveats
//!
//! - Writes are seen at once and wait for a sync in any order: a disk that writes back by itself is
//!   covered by the draw at a power loss.
//! - A torn sector keeps the bytes that the torn write does not change. Disks without that property
//!   are not simulated, and no log that fills its sectors in several writes survives them.
//! - Names take no space, and unsynced changes of names are lost independently of each other, which
//!   journaling file systems do not do to the same degree.

mod mounted;
mod names;
mod sectors;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::mounted::Mounted;
use self::names::{Entry, Names};
use self::sectors::Body;
use super::{Disk, DiskError};
use crate::env::Rng;
use crate::env::simulated::{SimWorldClock, Trace};
use crate::ids::{Incarnation, NodeId};

/// How a simulated disk is made.
#[derive(Clone, Copy, Debug)]
pub struct SimDiskConfig {
    /// Bytes of a sector, the unit that is torn. Default 4096; old disks have 512.
    pub sector_bytes: u64,
    /// The least time of a sync. Default 1 ms.
    pub sync_minimum: Duration,
    /// The mean of what a sync takes longer, exponentially drawn. Default 1 ms.
    pub sync_mean: Duration,
    /// Bytes that fit. Default: no limit.
    pub capacity: Option<u64>,
}

impl Default for SimDiskConfig {
    fn default() -> Self {
        let ms = Duration::from_millis(1);
        Self { sector_bytes: 4096, sync_minimum: ms, sync_mean: ms, capacity: None }
    }
}

impl SimDiskConfig {
    /// A disk whose syncs take no time, for tests without a simulated clock.
    pub fn instant() -> Self {
        Self { sync_minimum: Duration::ZERO, sync_mean: Duration::ZERO, ..Self::default() }
    }
}

/// How often a planted read error shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Once.
    Once,
    /// At every read.
    ForEver,
}

/// The disk of one machine. Cloning gives another handle to the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Hardware>);

struct Hardware {
    node: NodeId,
    world: SimWorldClock,
    trace: Trace,
    rng: Arc<dyn Rng>,
    config: SimDiskConfig,
    /// Notified when a stall of syncs ends.
    unstalled: Notify,
    state: Mutex<State>,
}

struct State {
    mounted: Option<Incarnation>,
    names: Names,
    files: BTreeMap<u64, Body>,
    next_file: u64,
    faults: Faults,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Faults {
    full: bool,
    capacity: Option<u64>,
    slow: u32,
    stalled: bool,
    sync_failures: u32,
    /// Who saw a sync fail last.
    sync_failed: Option<Incarnation>,
    dir_sync_failures: u32,
    /// What the next write does: nothing, with an error, or some of its bytes on a full disk.
    next_write: Option<WriteFault>,
    reads: BTreeMap<(String, u64), ReadFault>,
    /// Changes the disk takes before it stops.
    changes_left: Option<u64>,
    /// It was asked for one change more.
    stopped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteFault {
    Fails,
    Full(usize),
}

/// What a disk has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls that change bytes or names or sync them, whether or not they failed.
    pub changes: u64,
    /// Syncs of files, whether or not they failed.
    pub syncs: u64,
    /// Syncs of folders, whether or not they failed.
    pub dir_syncs: u64,
    /// Bytes written.
    pub written: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({:?}, {:?})", self.0.node, self.0.state().counts)
    }
}

impl Hardware {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str, payload: &[u8]) {
        self.trace.note(self.world.nanos(), self.node.0, what, payload);
    }
}

impl State {
    fn usage(&self) -> u64 {
        self.names.files().filter_map(|(_, id)| self.files.get(&id)).map(Body::usage).sum()
    }

    /// Whether so many more bytes fit.
    fn fits(&self, more: u64) -> bool {
        let capacity = self.faults.capacity.unwrap_or(u64::MAX);
        more == 0 || (!self.faults.full && self.usage() + more <= capacity)
    }

    fn body(&mut self, path: &str) -> Option<&mut Body> {
        match self.names.get(path)? {
            Entry::File(id) => self.files.get_mut(&id),
            Entry::Dir => None,
        }
    }

    fn start_again(&mut self) {
        self.faults.changes_left = None;
        self.faults.stopped = false;
    }

    /// Drops the files that no name stands for any more.
    fn collect(&mut self) {
        let named: BTreeSet<u64> = self.names.files().map(|(_, id)| id).collect();
        self.files.retain(|id, _| named.contains(id));
    }
}

impl SimDisk {
    /// An empty disk. Its randomness is a stream of `rng` that only `node` names.
    pub fn new(
        node: NodeId,
        world: &SimWorldClock,
        rng: &dyn Rng,
        trace: Trace,
        config: SimDiskConfig,
    ) -> Self {
        let faults = Faults { slow: 1, capacity: config.capacity, ..Faults::default() };
        let state = State {
            mounted: None,
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
            faults,
            counts: Counts::default(),
        };
        Self::make(node, *world, rng.stream(&format!("disk {node}")), trace, config, state)
    }

    fn make(
        node: NodeId,
        world: SimWorldClock,
        rng: Arc<dyn Rng>,
        trace: Trace,
        config: SimDiskConfig,
        state: State,
    ) -> Self {
        let (unstalled, state) = (Notify::new(), Mutex::new(state));
        Self(Arc::new(Hardware { node, world, trace, rng, config, unstalled, state }))
    }

    /// Attaches the disk to an incarnation of its node; older ones are cut off.
    pub fn mount(&self, incarnation: Incarnation) -> Arc<dyn Disk> {
        self.0.note("disk mount", &incarnation.0.to_le_bytes());
        self.0.state().mounted = Some(incarnation);
        Arc::new(Mounted { disk: self.0.clone(), incarnation })
    }

    /// The process is gone: it changes nothing any more, and the cache stays.
    pub fn crash(&self) {
        let mut state = self.0.state();
        state.mounted = None;
        state.start_again();
    }

    /// The machine is gone: what was not synced is kept, lost or torn, as drawn.
    pub fn power_loss(&self) {
        let mut state = self.0.state();
        let rng = &*self.0.rng;
        state.mounted = None;
        state.names.lose_power(rng);
        state.collect();
        for body in state.files.values_mut() {
            body.lose_power(rng);
        }
        state.start_again();
        drop(state);
        self.0.note("disk power loss", &[]);
    }

    /// Fails the next sync of a file: what waited for it stays as it was on the platter, and counts
    /// as synced.
    pub fn fail_next_sync(&self) {
        self.0.state().faults.sync_failures += 1;
    }

    /// Whether a planted failure of a sync has shown itself to this incarnation of the node.
    pub fn sync_has_failed(&self, incarnation: Incarnation) -> bool {
        self.0.state().faults.sync_failed == Some(incarnation)
    }

    /// Fails the next sync of a folder: the changes of its names are seen, and never durable.
    pub fn fail_next_dir_sync(&self) {
        self.0.state().faults.dir_sync_failures += 1;
    }

    /// Fails the next write: nothing is written.
    pub fn fail_next_write(&self) {
        self.0.state().faults.next_write = Some(WriteFault::Fails);
    }

    /// Finds no space in the middle of the next write, after so many bytes.
    pub fn fill_next_write(&self, written: usize) {
        self.0.state().faults.next_write = Some(WriteFault::Full(written));
    }

    /// Whether there is no room for one byte more.
    pub fn set_full(&self, full: bool) {
        self.0.state().faults.full = full;
    }

    /// Limits the bytes that fit, or takes the limit back.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.0.state().faults.capacity = bytes;
    }

    /// Makes everything take this many times as long.
    pub fn set_slow(&self, factor: u32) {
        self.0.state().faults.slow = factor.max(1);
    }

    /// Lets syncs wait until this is taken back.
    pub fn stall_syncs(&self, stalled: bool) {
        self.0.state().faults.stalled = stalled;
        if !stalled {
            self.0.unstalled.notify_waiters();
        }
    }

    /// Fails reads of the sector that holds byte `offset` of a file.
    pub fn fail_reads(&self, path: &str, offset: u64, fault: ReadFault) {
        let sector = offset / self.0.config.sector_bytes;
        self.0.state().faults.reads.insert((path.to_owned(), sector), fault);
    }

    /// Flips the bits of `mask` in one byte at rest. Nothing, where the file has no such byte.
    pub fn flip(&self, path: &str, offset: u64, mask: u8) {
        if let Some(body) = self.0.state().body(path) {
            body.flip(offset, mask);
        }
    }

    /// Stops the machine before its next change but `changes`: from then on every call fails,
    /// until [`SimDisk::crash`] or [`SimDisk::power_loss`] and a new mount.
    pub fn stop_after(&self, changes: u64) {
        self.0.state().faults.changes_left = Some(changes);
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.0.state().counts
    }

    /// Bytes in use.
    pub fn usage(&self) -> u64 {
        self.0.state().usage()
    }

    /// All files and their lengths, as programs see them, in order of their paths.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.0.state();
        let length = |id| state.files.get(&id).map_or(0, |body| body.now.length);
        state.names.files().map(|(path, id)| (path.to_owned(), length(id))).collect()
    }

    /// A copy of what is durable, on a disk of its own without faults, whose syncs take no time.
    /// It is what a power loss leaves that keeps nothing it need not keep.
    #[must_use]
    pub fn durable_image(&self) -> Self {
        let here = &*self.0;
        let state = here.state();
        let mut copy = State {
            mounted: None,
            names: state.names.durable_copy(),
            files: state.files.iter().map(|(id, body)| (*id, body.durable_copy())).collect(),
            next_file: state.next_file,
            faults: Faults { slow: 1, ..Faults::default() },
            counts: Counts::default(),
        };
        copy.collect();
        let config =
            SimDiskConfig { sector_bytes: here.config.sector_bytes, ..SimDiskConfig::instant() };
        let rng = here.rng.stream("image");
        // What is done to a copy is not part of the run.
        Self::make(here.node, here.world, rng, Trace::default(), config, copy)
    }

    /// A copy of everything, cache and all, on a disk of its own with a stream of randomness that
    /// `purpose` names: what-if, for tests.
    #[must_use]
    pub fn fork(&self, purpose: &str) -> Self {
        let here = &*self.0;
        let state = here.state();
        let copy = State {
            mounted: None,
            names: state.names.clone(),
            files: state.files.clone(),
            next_file: state.next_file,
            faults: Faults { slow: 1, capacity: state.faults.capacity, ..Faults::default() },
            counts: Counts::default(),
        };
        let rng = here.rng.stream(purpose);
        Self::make(here.node, here.world, rng, Trace::default(), here.config, copy)
    }
}

fn input_output_error(path: &str, operation: &'static str) -> DiskError {
    DiskError::Io { path: path.to_owned(), operation, cause: "input/output error".to_owned() }
}

/// What a call of a dead incarnation, or of a stopped machine, gets.
fn off(path: &str, operation: &'static str) -> DiskError {
    DiskError::Io { path: path.to_owned(), operation, cause: "the machine is off".to_owned() }
}
