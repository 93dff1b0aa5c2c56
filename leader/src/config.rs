//! Every knob of a node: unit, default, range, and when to change it.

use std::collections::BTreeMap;
use std::time::Duration;

use common::consistency::ReplicationMode;
use common::ids::{NodeId, Region};
use common::storage::wal::WalConfig;

use crate::message::MAX_BYTES;
use crate::quota::Quota;

/// How a node behaves. [`Config::new`] gives the defaults, [`Config::validate`] refuses
/// contradictions by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Who this node is. Never reuse the id of a node whose disk was lost.
    pub node: NodeId,
    /// The name of the cluster, for people and for error messages.
    pub cluster_name: String,
    /// How often the leader shows that it lives. Default 50 ms; must exceed two round trips to the
    /// nearest majority, or an idle lease flaps.
    pub heartbeat_interval: Duration,
    /// The shortest silence after which a follower asks for votes once the lease is over. Default
    /// 300 ms, at least 3 heartbeats.
    pub election_timeout_min: Duration,
    /// The longest such silence. Default 600 ms. This is also the leader's lease: larger rides out
    /// longer pauses, smaller replaces a dead leader sooner.
    pub election_timeout_max: Duration,
    /// How much this node is wanted as leader, among voters whose logs are equally good: more is
    /// preferred, and takes the leadership back once it has caught up. Default 1. With 0 it leads
    /// only when nobody else can.
    pub election_priority: u8,
    /// How long a write may wait for its sync before the disk counts as hanging: then a leader hands
    /// over, and a follower does not ask for votes. Default 1.2 s, two leases.
    pub disk_stall_limit: Duration,
    /// How far two nodes' monotonic clocks may drift apart, as a fraction. Default 0.05. Lease
    /// reads rely on it.
    pub max_clock_drift: f64,
    /// How old the newest proof of leadership may be for a lease read. Default 0.9 ×
    /// `election_timeout_max`; at most `election_timeout_max × (1 − 2 × max_clock_drift)`.
    pub lease_read_max_age: Duration,
    /// When a write is acknowledged that does not say it itself. Default
    /// [`ReplicationMode::Quorum`]. What asks for members that do not exist is refused per write.
    pub write_mode: ReplicationMode,
    /// Where members stand, for acknowledgement per datacenter. The leader's own map decides, so
    /// give all members the same. Default: nothing is known.
    pub regions: BTreeMap<NodeId, Region>,
    /// In which rack of its region each member stands, for the rules of placement. What the cluster's
    /// state says of a member wins, here and for its region. Default: nothing is known.
    pub racks: BTreeMap<NodeId, String>,
    /// Most commands in one log entry. Default 256.
    pub batch_commands: usize,
    /// Most bytes of commands in one log entry, unless one command alone is larger. Default 64 KiB.
    pub batch_bytes: usize,
    /// The largest command in bytes. Default 1 MiB: an entry over it is refused.
    pub max_command_bytes: usize,
    /// Most bytes of entries proposed and not yet applied before writes are refused as
    /// overloaded. Default 64 MiB.
    pub max_uncommitted_bytes: usize,
    /// How large the state may become, until [`Node::set_quota`](crate::Node::set_quota) says
    /// otherwise for the whole cluster. The leader's own configuration decides, so give all members the
    /// same. Default: without bounds.
    pub quota: Quota,
    /// Bytes of log after which the state is checkpointed and the log before it may go. Default
    /// 256 MiB.
    pub checkpoint_bytes: u64,
    /// The longest time between two checkpoints while there are writes. Default 5 min.
    pub checkpoint_interval: Duration,
    /// Entries kept in the log behind the last checkpoint, so that a follower that was away for a
    /// short time needs no snapshot. Default 10,000.
    pub keep_entries: u64,
    /// Whether it is kept what each entry changes, for as long as the log keeps the entry, so that
    /// it can be watched ([`crate::watch`]). Default: yes. It costs writing each changed value once
    /// more; without it, watching this node is refused. Members may differ.
    pub change_feed: bool,
    /// How long a snapshot that was asked for by [`Node::snapshot`](crate::Node::snapshot) is kept.
    /// Default 5 min, at least 10 ms. What is overwritten meanwhile takes memory or disk until its end.
    pub snapshot_retention: Duration,
    /// Most snapshots that are kept at a time; the one taken first makes room. Default 64, at least 1.
    pub max_snapshots: usize,
    /// Bytes of recent entries kept in memory for replication. Default 64 MiB.
    pub log_cache_bytes: usize,
    /// Bytes per chunk of a snapshot on the wire. Default 1 MiB, at most 8 MiB.
    pub snapshot_chunk_bytes: usize,
    /// How often the leader has all members compare their states. Default 1 h; none for never by
    /// itself. Each time every member reads its whole state through.
    pub check_interval: Option<Duration>,
    /// How many bytes of state per second a member reads at most to compare it. Default 32 MiB, at
    /// least 1. More finds a difference sooner, and takes more from clients.
    pub check_bytes_per_second: u64,
    /// Where other members were last known to listen. Only asked by a node whose engine has lost
    /// its state, and with it the members: see [storage and recovery]. Default: nobody.
    ///
    /// [storage and recovery]: https://github.com/tercet/tercet/blob/main/docs/storage-and-recovery.md
    pub contacts: BTreeMap<NodeId, String>,
    /// The log's own knobs.
    pub wal: WalConfig,
}

impl Config {
    /// The defaults.
    pub fn new(node: NodeId, cluster_name: impl Into<String>) -> Self {
        Self {
            node,
            cluster_name: cluster_name.into(),
            heartbeat_interval: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_millis(600),
            election_priority: 1,
            disk_stall_limit: Duration::from_millis(1_200),
            max_clock_drift: 0.05,
            lease_read_max_age: Duration::from_millis(540),
            write_mode: ReplicationMode::Quorum,
            regions: BTreeMap::new(),
            racks: BTreeMap::new(),
            batch_commands: 256,
            batch_bytes: 64 << 10,
            max_command_bytes: 1 << 20,
            max_uncommitted_bytes: 64 << 20,
            quota: Quota::default(),
            checkpoint_bytes: 256 << 20,
            checkpoint_interval: Duration::from_secs(300),
            keep_entries: 10_000,
            change_feed: true,
            snapshot_retention: Duration::from_secs(300),
            max_snapshots: 64,
            log_cache_bytes: 64 << 20,
            snapshot_chunk_bytes: 1 << 20,
            check_interval: Some(Duration::from_secs(3_600)),
            check_bytes_per_second: 32 << 20,
            contacts: BTreeMap::new(),
            wal: WalConfig::default(),
        }
    }

    /// Refuses contradictions by name.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |knob: &'static str, problem: String| Err(ConfigError { knob, problem });
        if self.cluster_name.is_empty() {
            return refuse("cluster_name", "must not be empty".into());
        }
        if self.heartbeat_interval < Duration::from_millis(1) {
            return refuse("heartbeat_interval", "must be at least 1 ms".into());
        }
        if self.election_timeout_min < self.heartbeat_interval * 3 {
            return refuse(
                "election_timeout_min",
                format!(
                    "{:?} must be at least three times heartbeat_interval ({:?})",
                    self.election_timeout_min, self.heartbeat_interval
                ),
            );
        }
        if self.election_timeout_max <= self.election_timeout_min {
            return refuse(
                "election_timeout_max",
                format!(
                    "{:?} must be larger than election_timeout_min ({:?})",
                    self.election_timeout_max, self.election_timeout_min
                ),
            );
        }
        if self.disk_stall_limit < self.heartbeat_interval {
            return refuse("disk_stall_limit", "must be at least heartbeat_interval".into());
        }
        if !(0.0..0.5).contains(&self.max_clock_drift) {
            return refuse("max_clock_drift", "must be at least 0 and below 0.5".into());
        }
        let longest = self.election_timeout_max.mul_f64(1.0 - 2.0 * self.max_clock_drift);
        if self.lease_read_max_age > longest {
            return refuse(
                "lease_read_max_age",
                format!(
                    "{:?} is over election_timeout_max × (1 − 2 × max_clock_drift) = {longest:?}: \
                     a lease read could be stale",
                    self.lease_read_max_age
                ),
            );
        }
        if self.batch_commands == 0 || self.batch_commands > usize::from(u16::MAX) {
            return refuse("batch_commands", "must be 1 to 65,535".into());
        }
        if self.max_command_bytes == 0 || self.max_command_bytes * 2 > self.wal.max_record {
            return refuse(
                "max_command_bytes",
                format!(
                    "must be at least 1 and at most half of wal.max_record ({})",
                    self.wal.max_record
                ),
            );
        }
        // Half of what a message may have, so that an entry always fits with what is around it.
        for (knob, bytes) in
            [("max_command_bytes", self.max_command_bytes), ("batch_bytes", self.batch_bytes)]
        {
            if bytes > MAX_BYTES / 2 {
                return refuse(knob, format!("must be at most {} bytes", MAX_BYTES / 2));
            }
        }
        if self.snapshot_chunk_bytes == 0 || self.snapshot_chunk_bytes > 8 << 20 {
            return refuse("snapshot_chunk_bytes", "must be 1 byte to 8 MiB".into());
        }
        if self.check_interval.is_some_and(|interval| interval < Duration::from_millis(100)) {
            return refuse("check_interval", "must be at least 100 ms, or absent".into());
        }
        if self.snapshot_retention < Duration::from_millis(10) {
            return refuse("snapshot_retention", "must be at least 10 ms".into());
        }
        if self.max_snapshots == 0 {
            return refuse("max_snapshots", "must be at least 1".into());
        }
        if let Err(problem) = self.quota.validate() {
            return refuse("quota", problem);
        }
        if self.check_bytes_per_second == 0 {
            return refuse("check_bytes_per_second", "must be at least 1".into());
        }
        Ok(())
    }
}

/// A configuration that contradicts itself. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{knob}: {problem}")]
pub struct ConfigError {
    /// The knob.
    pub knob: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Limit;

    type Change = fn(&mut Config);

    #[test]
    fn the_defaults_are_valid_and_contradictions_are_refused_by_name() {
        let config = || Config::new(NodeId(1), "test");
        config().validate().unwrap();
        let changes: [(&str, Change); 15] = [
            ("cluster_name", |c| c.cluster_name.clear()),
            ("heartbeat_interval", |c| c.heartbeat_interval = Duration::ZERO),
            ("election_timeout_min", |c| c.heartbeat_interval = Duration::from_millis(101)),
            ("election_timeout_max", |c| c.election_timeout_max = c.election_timeout_min),
            ("disk_stall_limit", |c| c.disk_stall_limit = Duration::ZERO),
            ("max_clock_drift", |c| c.max_clock_drift = 0.5),
            ("lease_read_max_age", |c| c.lease_read_max_age = c.election_timeout_max),
            ("batch_commands", |c| c.batch_commands = 0),
            ("batch_bytes", |c| c.batch_bytes = MAX_BYTES),
            ("snapshot_chunk_bytes", |c| c.snapshot_chunk_bytes = 0),
            ("check_interval", |c| c.check_interval = Some(Duration::ZERO)),
            ("check_bytes_per_second", |c| c.check_bytes_per_second = 0),
            ("snapshot_retention", |c| c.snapshot_retention = Duration::ZERO),
            ("max_snapshots", |c| c.max_snapshots = 0),
            ("quota", |c| c.quota.keys = Limit { soft: Some(2), hard: Some(1) }),
        ];
        for (knob, change) in changes {
            let mut config = config();
            change(&mut config);
            assert_eq!(config.validate().unwrap_err().knob, knob);
        }
        let mut large = config();
        large.max_command_bytes = 9 << 20;
        assert!(large.validate().unwrap_err().problem.contains("wal.max_record"));
        large.wal.max_record = 64 << 20;
        assert!(large.validate().unwrap_err().problem.contains("at most 8388608"));
    }
}
