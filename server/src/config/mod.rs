//! What one node is told: a TOML file, checked as a whole before anything starts.
//!
//! [`File`] is the file as written, [`NodeConfig`] is what came out of the checks. Every refusal
//! names the key and says what to do; nothing is created or bound before all of it is accepted.

mod check;
mod file;
mod tls;
mod units;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::ids::NodeId;
use common::storage::engine::FjallConfig;

use crate::service::Limits;
use crate::users::Users;

pub use file::{
    ClientTls, EngineKind, File, FjallKnobs, LeaderKnobs, LimitKnobs, Listen, NamedUser, Peer,
    PeerTls, QuotaKnobs, Strategy, TlsFiles, WalKnobs,
};
pub use tls::Tls;
pub use units::{Size, Span, UnitError};

/// The commented default that `tercet node --print-config` prints.
pub const TEMPLATE: &str = include_str!("default.toml");

/// Why a configuration is refused. Nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "{}: {source}; write one with `tercet node --print-config > {}`", path.display(), path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is not TOML, or a key is unknown, missing or of another type.
    #[error("{}: {problem}\nhint: `tercet node --print-config` shows every key with its meaning", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place.
        problem: String,
    },
    /// A value is not possible, or contradicts another.
    #[error("{}: {problem}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with one key, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct Problem {
    /// The key, with its section.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Problem {
    fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// The three addresses of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// For Redis clients.
    pub resp: String,
    /// For status, metrics and administration.
    pub http: String,
    /// For other nodes.
    pub peer: String,
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "redis {}, http {}, peers {}", self.resp, self.http, self.peer)
    }
}

/// A node's configuration, checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeConfig {
    /// This node.
    pub id: NodeId,
    /// The cluster's name.
    pub cluster: String,
    /// How writes are ordered.
    pub strategy: Strategy,
    /// The data folder.
    pub data: PathBuf,
    /// Where the state lives.
    pub engine: EngineKind,
    /// Whether this node may found the cluster.
    pub bootstrap: bool,
    /// The log filter, if the file has one.
    pub log: Option<String>,
    /// Every node, this one included, by id.
    pub peers: Vec<Peer>,
    /// What others are told of this node.
    pub advertised: Addresses,
    /// What this node binds.
    pub listen: Addresses,
    /// The knobs of the strategy and its log.
    pub leader: leader::Config,
    /// The knobs of the engine on disk.
    pub fjall: FjallConfig,
    /// Who may connect with the Redis protocol.
    pub users: Users,
    /// How much one client may take.
    pub limits: Limits,
    /// What connections are made with; without TLS where there is nothing.
    pub tls: Tls,
}

impl NodeConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let file: File = toml::from_str(&text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            problem: error.to_string().trim_end().to_owned(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::check(file, folder)
            .map_err(|problem| ConfigError::Refused { path: path.to_owned(), problem })
    }

    /// Checks what a file says; its relative paths count from `folder`.
    pub fn check(file: File, folder: &Path) -> Result<Self, Problem> {
        check::names(&file)?;
        check::peers(&file)?;
        check::listen(&file)?;
        let leader = check::knobs(&file)?;
        let fjall = check::engine(&file)?;
        check::log(&file)?;
        let users = check::users(&file)?;
        let limits = check::limits(&file, &leader)?;
        let tls = Tls::load(&file.tls, NodeId(file.id), folder)?;
        let mut peers = file.peers;
        peers.sort_by_key(|peer| peer.id);
        let Some(me) = peers.iter().find(|peer| peer.id == file.id) else {
            return Err(Problem::new("id", "is not among the peers"));
        };
        let advertised =
            Addresses { resp: me.resp.clone(), http: me.http.clone(), peer: me.peer.clone() };
        let listen = Addresses {
            resp: file.listen.resp.unwrap_or_else(|| me.resp.clone()),
            http: file.listen.http.unwrap_or_else(|| me.http.clone()),
            peer: file.listen.peer.unwrap_or_else(|| me.peer.clone()),
        };
        Ok(Self {
            id: NodeId(file.id),
            cluster: file.cluster,
            strategy: file.strategy,
            data: folder.join(file.data),
            engine: file.engine,
            bootstrap: file.bootstrap,
            log: file.log,
            advertised,
            listen,
            leader,
            fjall,
            users,
            limits,
            tls,
            peers,
        })
    }

    /// The peer that founds a new cluster: the one with the lowest id.
    pub fn founder(&self) -> NodeId {
        self.peers.iter().map(|peer| NodeId(peer.id)).min().unwrap_or(self.id)
    }

    /// The other nodes.
    pub fn others(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| NodeId(peer.id) != self.id)
    }
}

/// The default lease for reads at an election timeout.
fn lease_for(election_timeout_max: Duration) -> Duration {
    election_timeout_max * 9 / 10
}

#[cfg(test)]
mod tests;
