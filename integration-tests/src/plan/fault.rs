//! What goes wrong, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use serde::{Deserialize, Serialize};

use super::config::{ClusterConfig, Gap, exponential, log_uniform};
use super::operations::Role;
use crate::time::{SimTime, nanos};
use crate::workload::Key;

/// One kind of fault, with its figures. How long it lasts is the [`TimedFault`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The process dies and comes back. What it wrote to the page cache stays.
    Crash,
    /// The machine dies and comes back. What was not synced is lost, kept or torn.
    PowerLoss,
    /// The process is not scheduled: timers fire late, messages queue.
    Pause,
    /// The process dies so many times, evenly over the fault's time, and is started at once.
    RestartStorm {
        /// How often.
        times: u8,
    },
    /// The node hears nobody and nobody hears it.
    Isolate,
    /// Messages from the first to the second of a link are lost.
    CutOneWay,
    /// Messages between the two of a link are lost.
    CutTwoWay,
    /// Two halves see each other only through the node.
    Bridge,
    /// A minority is cut from the rest.
    Halves,
    /// Connections of a link break: a suffix of what is in flight is lost each way.
    Reset,
    /// Messages of a link are held and delivered when the fault ends.
    Clog,
    /// A link carries so many messages and so many bytes at a time.
    SlowLink {
        /// Bytes per second.
        bytes_per_second: u32,
    },
    /// All messages of the node are slower.
    Latency {
        /// The least latency.
        #[serde(with = "nanos")]
        min: Duration,
        /// Mean of the exponential part.
        #[serde(with = "nanos")]
        mean: Duration,
    },
    /// The node's wall clock is off while the fault lasts.
    ClockOffset {
        /// By so much, negative is behind.
        millis: i64,
    },
    /// The node's wall clock jumps once and stays so.
    ClockJump {
        /// By so much, negative is back.
        millis: i64,
    },
    /// The node's wall clock stands still, then jumps to the right time.
    ClockFreeze,
    /// The node's monotonic and wall clocks run at another rate.
    ClockDrift {
        /// Parts per million, negative is slower.
        ppm: i32,
    },
    /// Every call of the disk takes longer.
    DiskSlow {
        /// So many times.
        factor: u16,
    },
    /// No sync of the disk completes while the fault lasts.
    SyncStall,
    /// The disk takes no more bytes until the fault ends.
    DiskFull,
    /// The next sync of the disk fails. The node must stop; it is started again when the fault ends.
    SyncFails,
    /// The authority is asked to hand over.
    Transfer,
    /// The node is asked to write a snapshot and to purge its log.
    Snapshot,
}

/// A kind of fault without its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is documented at the variant of FaultKind with its name")]
pub enum FaultName {
    Crash,
    PowerLoss,
    Pause,
    RestartStorm,
    Isolate,
    CutOneWay,
    CutTwoWay,
    Bridge,
    Halves,
    Reset,
    Clog,
    SlowLink,
    Latency,
    ClockOffset,
    ClockJump,
    ClockFreeze,
    ClockDrift,
    DiskSlow,
    SyncStall,
    DiskFull,
    SyncFails,
    Transfer,
    Snapshot,
}

/// One fault and when it strikes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedFault {
    /// When it begins.
    pub at: SimTime,
    /// How long it lasts. A fault still active when the core phase begins ends there.
    #[serde(with = "nanos")]
    pub lasts: Duration,
    /// What happens.
    pub kind: FaultKind,
    /// To whom.
    pub on: Role,
    /// Seed of whatever the runner must draw to carry it out, so that deleting another fault changes
    /// nothing here.
    pub salt: u64,
}

impl fmt::Display for TimedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:?}: {:?} on {}", self.at, self.lasts, self.kind, self.on)
    }
}

impl FaultKind {
    /// The kind without its figures.
    pub const fn name(&self) -> FaultName {
        match self {
            Self::Crash => FaultName::Crash,
            Self::PowerLoss => FaultName::PowerLoss,
            Self::Pause => FaultName::Pause,
            Self::RestartStorm { .. } => FaultName::RestartStorm,
            Self::Isolate => FaultName::Isolate,
            Self::CutOneWay => FaultName::CutOneWay,
            Self::CutTwoWay => FaultName::CutTwoWay,
            Self::Bridge => FaultName::Bridge,
            Self::Halves => FaultName::Halves,
            Self::Reset => FaultName::Reset,
            Self::Clog => FaultName::Clog,
            Self::SlowLink { .. } => FaultName::SlowLink,
            Self::Latency { .. } => FaultName::Latency,
            Self::ClockOffset { .. } => FaultName::ClockOffset,
            Self::ClockJump { .. } => FaultName::ClockJump,
            Self::ClockFreeze => FaultName::ClockFreeze,
            Self::ClockDrift { .. } => FaultName::ClockDrift,
            Self::DiskSlow { .. } => FaultName::DiskSlow,
            Self::SyncStall => FaultName::SyncStall,
            Self::DiskFull => FaultName::DiskFull,
            Self::SyncFails => FaultName::SyncFails,
            Self::Transfer => FaultName::Transfer,
            Self::Snapshot => FaultName::Snapshot,
        }
    }
}

impl FaultName {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::Crash,
        Self::PowerLoss,
        Self::Pause,
        Self::RestartStorm,
        Self::Isolate,
        Self::CutOneWay,
        Self::CutTwoWay,
        Self::Bridge,
        Self::Halves,
        Self::Reset,
        Self::Clog,
        Self::SlowLink,
        Self::Latency,
        Self::ClockOffset,
        Self::ClockJump,
        Self::ClockFreeze,
        Self::ClockDrift,
        Self::DiskSlow,
        Self::SyncStall,
        Self::DiskFull,
        Self::SyncFails,
        Self::Transfer,
        Self::Snapshot,
    ];

    /// The name in files, on the command line and in the keys of streams.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::PowerLoss => "power_loss",
            Self::Pause => "pause",
            Self::RestartStorm => "restart_storm",
            Self::Isolate => "isolate",
            Self::CutOneWay => "cut_one_way",
            Self::CutTwoWay => "cut_two_way",
            Self::Bridge => "bridge",
            Self::Halves => "halves",
            Self::Reset => "reset",
            Self::Clog => "clog",
            Self::SlowLink => "slow_link",
            Self::Latency => "latency",
            Self::ClockOffset => "clock_offset",
            Self::ClockJump => "clock_jump",
            Self::ClockFreeze => "clock_freeze",
            Self::ClockDrift => "clock_drift",
            Self::DiskSlow => "disk_slow",
            Self::SyncStall => "sync_stall",
            Self::DiskFull => "disk_full",
            Self::SyncFails => "sync_fails",
            Self::Transfer => "transfer",
            Self::Snapshot => "snapshot",
        }
    }

    /// Whether the fault ends a process: what recovery is tested by.
    pub const fn is_crash(self) -> bool {
        matches!(self, Self::Crash | Self::PowerLoss | Self::RestartStorm)
    }

    /// The kinds that are on in a swarm, with their rates.
    ///
    /// The mean gap of all faults together is log-uniform over two orders of magnitude, and a drawn
    /// share of them are crashes: gentle runs find what needs a cluster that works, harsh runs what
    /// needs many recoveries.
    pub(super) fn swarm(root: &SplitMix64) -> BTreeMap<Self, Gap> {
        let rng = root.stream("swarm");
        let mean = log_uniform(rng.as_ref(), Duration::from_millis(50), Duration::from_secs(5));
        let crash_share = rng.below(81) as u32;
        let on: Vec<Self> = Self::ALL
            .into_iter()
            .filter(|kind| root.stream(&format!("on-{}", kind.as_str())).below(2) == 0)
            .collect();
        let crashes = on.iter().filter(|k| k.is_crash()).count() as u32;
        let others = on.len() as u32 - crashes;
        on.into_iter()
            .filter_map(|kind| {
                let (share, kinds) = if kind.is_crash() {
                    (crash_share, crashes)
                } else {
                    (100 - crash_share, others)
                };
                (share > 0).then(|| (kind, Gap(mean * 100 * kinds / share)))
            })
            .collect()
    }

    fn figures(self, rng: &dyn Rng) -> FaultKind {
        let sign = if rng.below(2) == 0 { -1 } else { 1 };
        let size = rng.next_u64();
        let millis = |least: u64, most: u64| {
            let d = log_uniform(rng, Duration::from_millis(least), Duration::from_millis(most));
            d.as_millis() as i64
        };
        match self {
            Self::Crash => FaultKind::Crash,
            Self::PowerLoss => FaultKind::PowerLoss,
            Self::Pause => FaultKind::Pause,
            Self::RestartStorm => FaultKind::RestartStorm { times: 2 + (size % 5) as u8 },
            Self::Isolate => FaultKind::Isolate,
            Self::CutOneWay => FaultKind::CutOneWay,
            Self::CutTwoWay => FaultKind::CutTwoWay,
            Self::Bridge => FaultKind::Bridge,
            Self::Halves => FaultKind::Halves,
            Self::Reset => FaultKind::Reset,
            Self::Clog => FaultKind::Clog,
            Self::SlowLink => FaultKind::SlowLink { bytes_per_second: 1_000 << (size % 8) },
            Self::Latency => FaultKind::Latency {
                min: Duration::from_micros(size % 30_000),
                mean: log_uniform(rng, Duration::from_millis(1), Duration::from_millis(100)),
            },
            Self::ClockOffset => FaultKind::ClockOffset { millis: sign * millis(1, 3_600_000) },
            Self::ClockJump => FaultKind::ClockJump { millis: sign * millis(1, 3_600_000) },
            Self::ClockFreeze => FaultKind::ClockFreeze,
            Self::ClockDrift => {
                FaultKind::ClockDrift { ppm: sign as i32 * (1 + (size % 50_000) as i32) }
            }
            Self::DiskSlow => FaultKind::DiskSlow { factor: 1 << (size % 10) },
            Self::SyncStall => FaultKind::SyncStall,
            Self::DiskFull => FaultKind::DiskFull,
            Self::SyncFails => FaultKind::SyncFails,
            Self::Transfer => FaultKind::Transfer,
            Self::Snapshot => FaultKind::Snapshot,
        }
    }

    /// How long it lasts. Faults that are one event last no time.
    fn lasts(self, rng: &dyn Rng) -> Duration {
        let drawn = log_uniform(rng, Duration::from_millis(5), Duration::from_secs(15));
        match self {
            Self::Reset | Self::ClockJump | Self::Transfer | Self::Snapshot => Duration::ZERO,
            Self::Pause | Self::SyncStall => drawn.max(Duration::from_millis(100)),
            Self::Clog => drawn / 3,
            _ => drawn,
        }
    }

    fn role(self, rng: &dyn Rng, nodes: u8) -> Role {
        let key = Key::register(0);
        let node = rng.below(u64::from(nodes)) as u8;
        let step = 1 + rng.below(u64::from(nodes.max(2)) - 1) as u8;
        // Who leads is a third of the cluster's luck, so it gets more than its share of the faults.
        let single = match rng.below(3) {
            0 => Role::Authority(key),
            _ => Role::Node(node),
        };
        match self {
            Self::CutOneWay | Self::CutTwoWay | Self::Reset | Self::Clog | Self::SlowLink => {
                let mut ends = match single {
                    Role::Authority(key) => [Role::Authority(key), Role::Other(key, step)],
                    _ => [Role::Node(node), Role::Node((node + step) % nodes.max(1))],
                };
                if rng.below(2) == 0 {
                    ends.reverse();
                }
                Role::Link(Box::new(ends))
            }
            Self::Halves => Role::Minority(Box::new(single)),
            Self::Transfer => Role::Authority(key),
            Self::PowerLoss if rng.below(10) == 0 => Role::All,
            _ => single,
        }
    }
}

/// The faults of a plan: one stream per kind, until the core phase begins.
pub(super) fn draw(root: &SplitMix64, config: &ClusterConfig) -> Vec<TimedFault> {
    let mut faults = Vec::new();
    for (&name, gap) in &config.faults {
        let rng = root.stream(&format!("fault-{}", name.as_str()));
        let mut at = SimTime::ZERO;
        loop {
            at = at + exponential(rng.as_ref(), gap.0).max(Duration::from_millis(1));
            if at >= config.phases.core {
                break;
            }
            // One draw of the kind's stream per fault; the rest is the fault's own.
            let salt = rng.next_u64();
            let own = SplitMix64::new(salt);
            faults.push(TimedFault {
                at,
                lasts: name.lasts(own.stream("lasts").as_ref()),
                kind: name.figures(own.stream("figures").as_ref()),
                on: name.role(own.stream("role").as_ref(), config.nodes),
                salt,
            });
        }
    }
    faults.sort_by_key(|f| (f.at, f.kind.name()));
    faults
}
