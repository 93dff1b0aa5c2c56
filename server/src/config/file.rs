//! The file as it is written: every key, before anything is checked against anything.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units::{Size, Span};
use crate::users::Role;

/// How writes are ordered and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// One leader orders every write; a majority makes it durable.
    #[default]
    Leader,
    /// Any replica takes a write; quorums decide. Not built yet.
    Leaderless,
    /// Every site takes writes; conflicts are merged. Not built yet.
    Multileader,
}

/// Where the state lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// On disk, for data of any size.
    #[default]
    Fjall,
    /// In memory, for data that fits. The log and checkpoints are on disk all the same.
    Memory,
}

/// One node of the cluster, as all others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its id.
    pub id: u64,
    /// Where Redis clients connect, as `host:port`.
    pub resp: String,
    /// Where status, metrics and administration are, as `host:port`.
    pub http: String,
    /// Where other nodes connect, as `host:port`.
    pub peer: String,
    /// The region it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The rack it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
}

/// Somebody who may connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedUser {
    /// The name; clients that name none are `default`.
    pub name: String,
    /// The SHA-256 digest of the password, as `sha256sum` prints it.
    pub password_sha256: String,
    /// What the user may do.
    pub role: Role,
}

/// Addresses to bind where they differ from the ones that others are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// For Redis clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resp: Option<String>,
    /// For status, metrics and administration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// For other nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
}

/// Certificates for clients and nodes; a part that is absent is without TLS. Relative paths count
/// from the file's own folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// For Redis clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientTls>,
    /// Between nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<PeerTls>,
}

/// What Redis clients are shown, and must show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The certificate that clients see, in PEM, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority whose certificates clients must show; without it they show none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// What nodes show each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerTls {
    /// This node's certificate, in PEM; it carries the name of the node.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority of all nodes' certificates.
    pub ca: PathBuf,
}

/// How much one client may take; what is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "they are Limits', and documented there and in the template")]
pub struct LimitKnobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsent_timeout: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_timeout: Option<Span>,
}

/// The knobs of the strategy `leader`; what is absent has its default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(
    missing_docs,
    reason = "they are leader::Config's, and documented there and in the template"
)]
pub struct LeaderKnobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_timeout_min: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_timeout_max: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election_priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_stall_limit: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clock_drift: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_read_max_age: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_commands: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_command_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_uncommitted_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_entries: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_cache_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_chunk_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change_feed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_snapshots: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_interval: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_bytes_per_second: Option<Size>,
}

/// How large the state may become; what is absent is without a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaKnobs {
    /// Above so many bytes of keys and values the node warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_bytes: Option<Size>,
    /// Growth over so many bytes is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_bytes: Option<Size>,
    /// Above so many keys the node warns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_keys: Option<u64>,
    /// Growth over so many keys is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_keys: Option<u64>,
}

/// The knobs of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "they are WalConfig's, and documented there and in the template")]
pub struct WalKnobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_record: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_bytes: Option<Size>,
}

/// The knobs of the engine on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "they are FjallConfig's, and documented there and in the template")]
pub struct FjallKnobs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_bytes: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
}

/// The whole file. `tercet node --print-config` explains every key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Which of the peers this node is.
    pub id: u64,
    /// The cluster's name.
    pub cluster: String,
    /// How writes are ordered and acknowledged.
    #[serde(default)]
    pub strategy: Strategy,
    /// The data folder; a relative one counts from the file's own folder.
    pub data: PathBuf,
    /// Where the state lives.
    #[serde(default)]
    pub engine: EngineKind,
    /// Whether this node may make the first cluster of these peers.
    #[serde(default = "yes")]
    pub bootstrap: bool,
    /// The log filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Every node of the cluster, this one included.
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Who may connect with the Redis protocol; everybody, if nobody is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<NamedUser>,
    /// Addresses to bind where they differ from the peers' list.
    #[serde(default, skip_serializing_if = "is_default")]
    pub listen: Listen,
    /// Certificates for TLS.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: TlsFiles,
    /// How much one client may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: LimitKnobs,
    /// How large the state may become.
    #[serde(default, skip_serializing_if = "is_default")]
    pub quota: QuotaKnobs,
    /// The knobs of the strategy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub leader: LeaderKnobs,
    /// The knobs of the log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wal: WalKnobs,
    /// The knobs of the engine on disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fjall: Option<FjallKnobs>,
}

const fn yes() -> bool {
    true
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
