//! What a node says of itself, as JSON with keys that stay.
//!
//! `GET /status` answers one [`StatusReport`], `GET /cluster` a [`ClusterReport`] with those of all
//! nodes. Keys are added, never renamed; positions in the log are indexes, and absent (`null`)
//! where there is none.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::{Member, Role, Status};
use serde::{Deserialize, Serialize};

use crate::config::NodeConfig;

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The version of the program.
    pub version: String,
    /// The node's id.
    pub id: u64,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's id, once it is founded, in hexadecimal.
    pub cluster_id: Option<String>,
    /// The strategy.
    pub strategy: String,
    /// `leader`, `follower`, `candidate`, `learner`, `uninitialized` or `stopped`.
    pub role: String,
    /// The leader that this node knows of.
    pub leader: Option<u64>,
    /// Its term.
    pub term: u64,
    /// Its log.
    pub log: LogReport,
    /// The members of the cluster, as this node knows them.
    pub members: Vec<MemberReport>,
    /// The id for the next member; none is ever given twice.
    #[serde(default)]
    pub next_id: Option<u64>,
    /// A replacement that was begun and is not done.
    #[serde(default)]
    pub replacing: Option<ReplacingReport>,
    /// The disk under the log.
    pub disk: DiskReport,
    /// The state.
    pub state: StateReport,
    /// Where it can be reached.
    pub addresses: AddressReport,
    /// The region it stands in.
    pub region: Option<String>,
    /// The rack it stands in.
    pub rack: Option<String>,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Why it serves no reads, if its state was found to be wrong.
    #[serde(default)]
    pub quarantine: Option<String>,
    /// Why it stopped taking part, if it has.
    pub failure: Option<String>,
}

/// Positions in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReport {
    /// The last entry.
    pub last: Option<u64>,
    /// The last entry known to be committed.
    pub committed: Option<u64>,
    /// The last entry applied.
    pub applied: Option<u64>,
    /// The last entry in the newest checkpoint or snapshot.
    pub snapshot: Option<u64>,
    /// The last entry dropped.
    pub purged: Option<u64>,
}

/// One member of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its id.
    pub id: u64,
    /// Where other nodes connect to it.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// On the leader: the last entry it is known to hold durably.
    pub matched: Option<u64>,
    /// How much it is wanted as leader, if the cluster's state says so.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Whether clients do not find it.
    #[serde(default)]
    pub hidden: bool,
    /// The region it stands in, if the cluster's state says so.
    #[serde(default)]
    pub region: Option<String>,
    /// The rack it stands in, if the cluster's state says so.
    #[serde(default)]
    pub rack: Option<String>,
}

/// A member that is to take the place of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacingReport {
    /// The voter that goes.
    pub old: u64,
    /// The member that comes.
    pub new: u64,
}

/// The disk under the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Bytes of log.
    pub log_bytes: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Records written since the start.
    pub records: u64,
    /// The 99th percentile of recent syncs, in microseconds.
    pub sync_p99_micros: u64,
    /// How long the oldest record has waited for its sync, in microseconds.
    pub oldest_unsynced_micros: u64,
    /// Whether the disk is full.
    pub full: bool,
    /// Why the log takes nothing more, if so.
    pub poisoned: Option<String>,
}

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The engine.
    pub engine: String,
    /// Its size in bytes, roughly.
    pub bytes: u64,
    /// Open sessions of the nodes that write.
    #[serde(default)]
    pub sessions: usize,
    /// How large it is by its quota, and how large it may become.
    #[serde(default)]
    pub quota: QuotaReport,
}

/// The size of the state and its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaReport {
    /// Bytes of keys and values, as they are stored.
    pub bytes: u64,
    /// Keys.
    pub keys: u64,
    /// Above so many bytes the node warns.
    pub soft_bytes: Option<u64>,
    /// More bytes than these are refused.
    pub hard_bytes: Option<u64>,
    /// Above so many keys the node warns.
    pub soft_keys: Option<u64>,
    /// More keys than these are refused.
    pub hard_keys: Option<u64>,
    /// `within`, `warned` or `full`.
    pub state: String,
    /// Commands that this node has refused for it, as the leader.
    pub refused: u64,
}

impl QuotaReport {
    fn of(status: &Status) -> Self {
        let (usage, quota) = (status.usage, status.quota);
        Self {
            bytes: usage.bytes,
            keys: usage.keys,
            soft_bytes: quota.bytes.soft,
            hard_bytes: quota.bytes.hard,
            soft_keys: quota.keys.soft,
            hard_keys: quota.keys.hard,
            state: format!("{:?}", quota.judge(usage)).to_lowercase(),
            refused: status.quota_refused,
        }
    }
}

/// Addresses of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// For Redis clients.
    pub resp: String,
    /// For status, metrics and administration.
    pub http: String,
    /// For other nodes.
    pub peer: String,
}

/// All nodes, as one of them could ask them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClusterReport {
    /// One row per configured peer, by id.
    pub nodes: Vec<NodeRow>,
}

/// One node of a [`ClusterReport`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its id.
    pub id: u64,
    /// Its address for HTTP.
    pub http: String,
    /// What it says, if it answered.
    pub status: Option<StatusReport>,
    /// Why there is no status.
    pub error: Option<String>,
}

/// A role's stable name.
pub const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Uninitialized => "uninitialized",
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
        _ => "unknown",
    }
}

fn index(at: Option<LogPos>) -> Option<u64> {
    at.map(|at| at.index)
}

impl StatusReport {
    /// What a node of this configuration says of itself.
    pub fn of(config: &NodeConfig, status: &Status, uptime_ms: u64) -> Self {
        let me = config.peers.iter().find(|peer| peer.id == config.id.0);
        let matched = |id: &NodeId| status.matched.get(id).copied().flatten().map(|at| at.index);
        let members = |of: &BTreeMap<NodeId, Member>, voter| {
            of.iter()
                .map(|(id, member)| {
                    let said = status.attributes.get(id).cloned().unwrap_or_default();
                    MemberReport {
                        id: member.id.0,
                        address: member.address.clone(),
                        voter,
                        matched: matched(id),
                        priority: said.priority,
                        hidden: said.hidden,
                        region: said.region.map(|region| region.0),
                        rack: said.rack,
                    }
                })
                .collect::<Vec<_>>()
        };
        let mut all = members(&status.voters, true);
        all.extend(members(&status.learners, false));
        all.sort_by_key(|member| member.id);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id: status.id.0,
            cluster: config.cluster.clone(),
            cluster_id: status.cluster.map(|id| id.to_string()),
            strategy: format!("{:?}", config.strategy).to_lowercase(),
            role: role_name(status.role).to_owned(),
            leader: status.leader.map(|id| id.0),
            term: status.term,
            log: LogReport {
                last: status.last_log,
                committed: index(status.committed),
                applied: index(status.applied),
                snapshot: index(status.snapshot),
                purged: index(status.purged),
            },
            members: all,
            next_id: status.next_id.map(|id| id.0),
            replacing: status
                .replacing
                .as_ref()
                .map(|r| ReplacingReport { old: r.old.0, new: r.new.id.0 }),
            disk: DiskReport {
                log_bytes: status.disk.bytes,
                syncs: status.disk.syncs,
                records: status.disk.records,
                sync_p99_micros: status.disk.sync_p99_micros,
                oldest_unsynced_micros: status.disk.oldest_unsynced_micros,
                full: status.disk.full,
                poisoned: status.disk.poisoned.clone(),
            },
            state: StateReport {
                engine: format!("{:?}", config.engine).to_lowercase(),
                bytes: status.state_bytes,
                sessions: status.sessions,
                quota: QuotaReport::of(status),
            },
            addresses: AddressReport {
                resp: config.advertised.resp.clone(),
                http: config.advertised.http.clone(),
                peer: config.advertised.peer.clone(),
            },
            region: me.and_then(|peer| peer.region.clone()),
            rack: me.and_then(|peer| peer.rack.clone()),
            uptime_ms,
            quarantine: status.quarantine.map(|why| why.to_string()),
            failure: status.failure.clone(),
        }
    }
}
