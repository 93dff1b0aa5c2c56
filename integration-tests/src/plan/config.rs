//! The cluster, its clients and the phases of a plan, drawn as a swarm.

use std::collections::BTreeMap;
use std::time::Duration;

use common::env::{Rng, SplitMix64};
use serde::{Deserialize, Serialize};

use super::fault::FaultName;
use crate::time::{SimTime, nanos};
use crate::workload::{Class, Workload};

/// The boundaries of a run.
///
/// *Safety* until `core`: any fault. *Core* until `heal`: a set of nodes that could serve is healed
/// and must progress, the rest stays dead. *Heal* until `end`: all return, quiescence, every key is
/// read from each replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// When a serving core is healed.
    pub core: SimTime,
    /// When everything is healed.
    pub heal: SimTime,
    /// When the run ends at the latest.
    pub end: SimTime,
}

/// Sizes that a run draws from the ends of their range now and then. `None` is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    /// Bytes of a segment of the write-ahead log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_segment: Option<u64>,
    /// Writes in one group commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Keys in one page of a scan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_keys: Option<u32>,
    /// Log entries between two snapshots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_every: Option<u64>,
}

/// Everything about a run that is not an operation or a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterConfig {
    /// Nodes: 3, 5 or 7.
    pub nodes: u8,
    /// The nodes that serve in the core phase, a majority; the others are dead in it.
    pub core: Vec<u8>,
    /// Clients, each with a stream of its own.
    pub clients: u8,
    /// Client `i` runs workload `i` modulo their number.
    pub workloads: Vec<Workload>,
    /// The guarantees that clients ask for.
    pub class: Class,
    /// Mean time between two operations of a client.
    #[serde(with = "nanos")]
    pub op_gap: Duration,
    /// Of a hundred writes, so many ask for [`Class::Fast`] instead.
    #[serde(default)]
    pub fast: u8,
    /// So many clients, the first ones, ask for [`Class::Session`] in everything they do.
    #[serde(default)]
    pub sessions: u8,
    /// How long a client waits for an answer.
    #[serde(with = "nanos")]
    pub op_deadline: Duration,
    /// The boundaries of the run.
    pub phases: Phases,
    /// Time after the heal before the final reads begin.
    #[serde(with = "nanos")]
    pub quiescence: Duration,
    /// The least latency of a message.
    #[serde(with = "nanos")]
    pub latency_min: Duration,
    /// Mean of the exponential part of the latency.
    #[serde(with = "nanos")]
    pub latency_mean: Duration,
    /// Bytes that a disk writes whole.
    pub sector: u32,
    /// Sizes.
    pub knobs: Knobs,
    /// The kinds of fault that are on, each with the mean time between two of it.
    pub faults: BTreeMap<FaultName, Gap>,
}

/// A mean time between faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gap(#[serde(with = "nanos")] pub Duration);

/// A time drawn from an exponential distribution, at most 20 means.
///
/// Integer arithmetic throughout: floating-point functions of the platform may differ in the last bit,
/// and a plan must not. `-ln(u)` is summed from bits: the number of leading zeros of a uniform number
/// is `-log2` of it, and a table of the remaining fraction interpolates.
pub(super) fn exponential(rng: &dyn Rng, mean: Duration) -> Duration {
    let u = rng.next_u64() | 1;
    let zeros = u64::from(u.leading_zeros());
    // The bits after the leading one, as a fraction in 2^-16: log2(1 + f) is about
    // f + 0.3436 f (1 - f), exact at both ends and within 0.01 between.
    let f = (u << zeros << 1) >> 48;
    let log2 = f + (22_518 * f / 65_536) * (65_536 - f) / 65_536;
    let minus_log2 = (zeros + 1) * 65_536 - log2;
    // ln 2 = 45426 / 65536.
    let factor = minus_log2 * 45_426 / 65_536;
    let nanos = u128::from(SimTime::from(mean).0) * u128::from(factor) / 65_536;
    let limit = u128::from(SimTime::from(mean).0) * 20;
    Duration::from_nanos(nanos.min(limit) as u64)
}

/// A time drawn between `least` and `most` so that each order of magnitude is equally likely.
pub(super) fn log_uniform(rng: &dyn Rng, least: Duration, most: Duration) -> Duration {
    let (least, most) = (SimTime::from(least).0.max(1), SimTime::from(most).0.max(1));
    let doublings = u64::from((most / least).max(1).ilog2());
    let octave = least << rng.below(doublings + 1);
    Duration::from_nanos((octave + rng.below(octave)).clamp(least, most))
}

impl ClusterConfig {
    /// Draws a configuration from its own streams of the run's seed.
    pub(super) fn draw(root: &SplitMix64) -> Self {
        let rng = root.stream("config");
        let rng = rng.as_ref();
        let nodes = match rng.below(4) {
            0 => 3,
            1 | 2 => 5,
            _ => 7,
        };
        let clients = 3 + rng.below(6) as u8;
        let workloads = match rng.below(8) {
            0..3 => vec![Workload::Register],
            3 | 4 => vec![Workload::Set],
            5 => vec![Workload::Counter],
            _ => Workload::ALL.to_vec(),
        };
        // About 180 operations per second from five clients.
        let op_gap = log_uniform(rng, Duration::from_millis(10), Duration::from_millis(60));
        let latency_min = Duration::from_micros(rng.below(30_000));
        let latency_mean =
            log_uniform(rng, Duration::from_micros(500), Duration::from_millis(100)) / 4;
        let sector = if rng.below(4) == 0 { 512 } else { 4096 };
        let knobs = if rng.below(4) == 0 { Knobs::ends(rng) } else { Knobs::default() };
        let phases = Phases {
            core: SimTime::from_secs(30),
            heal: SimTime::from_secs(45),
            end: SimTime::from_secs(70),
        };
        Self {
            nodes,
            core: draw_core(root.stream("core").as_ref(), nodes),
            clients,
            workloads,
            class: Class::Safe,
            op_gap,
            fast: if root.stream("classes").below(2) == 0 { 0 } else { 40 },
            sessions: root.stream("sessions").below(u64::from(clients) / 2 + 1) as u8,
            op_deadline: Duration::from_secs(5),
            phases,
            quiescence: Duration::from_secs(10),
            latency_min,
            latency_mean,
            sector,
            knobs,
            faults: FaultName::swarm(root),
        }
    }
}

/// A majority: each number of dead nodes up to the most that leaves one is equally likely.
fn draw_core(rng: &dyn Rng, nodes: u8) -> Vec<u8> {
    let mut dead = rng.below(u64::from(nodes.saturating_sub(1) / 2) + 1) as u8;
    let mut core: Vec<u8> = (0..nodes).collect();
    while dead > 0 {
        core.remove(rng.below(core.len() as u64) as usize);
        dead -= 1;
    }
    core
}

impl Knobs {
    fn ends(rng: &dyn Rng) -> Self {
        // All are drawn, then some are kept, so that one knob's range never shifts another's draw.
        let pick = |small, large| match rng.below(4) {
            0 | 1 => Some(small),
            2 => Some(large),
            _ => None,
        };
        Self {
            wal_segment: pick(4 << 10, 1 << 20),
            group: pick(2, 4096).map(|g| g as u32),
            page_keys: pick(3, 10_000).map(|p| p as u32),
            snapshot_every: pick(20, 100_000),
        }
    }
}
