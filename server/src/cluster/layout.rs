//! The folder of a local cluster: one configuration file per node, as `tercet node` takes it.
//!
//! ```text
//! <folder>/node-1.toml    its configuration
//! <folder>/node-1.log     its messages
//! <folder>/node-1/        its data
//! <folder>/certificates/  for TLS, if it was asked for
//! ```

use std::path::{Path, PathBuf};

use common::ids::NodeId;

use crate::certificates::{self, Folder};
use crate::config::{
    ClientTls, EngineKind, File, LeaderKnobs, LimitKnobs, Listen, NodeConfig, Peer, PeerTls,
    QuotaKnobs, Strategy, TlsFiles, WalKnobs,
};

use super::ClusterError;

/// The most nodes of a local cluster.
pub const MOST_NODES: u32 = 15;

/// Where its certificates are, and for how long they are good.
pub(super) const CERTIFICATES: &str = "certificates";
const DAYS: u32 = 365;

/// What a new local cluster looks like.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How many nodes.
    pub nodes: u32,
    /// The cluster's name.
    pub cluster: String,
    /// Where the state lives.
    pub engine: EngineKind,
    /// Knobs that differ from the defaults.
    pub leader: LeaderKnobs,
    /// The log filter of the nodes.
    pub log: String,
    /// Whether clients and nodes connect with TLS, for which certificates are made.
    pub tls: bool,
    /// Whether the others reach each node over a [`Link`](super::Link), which can be slowed down
    /// and cut. It lives in the process that has the cluster, so the folder cannot be used without.
    pub links: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            nodes: 3,
            cluster: "local".to_owned(),
            engine: EngineKind::Fjall,
            leader: LeaderKnobs::default(),
            log: "info".to_owned(),
            tls: false,
            links: false,
        }
    }
}

/// Ports of the nodes, by their place from 0: for Redis clients, HTTP, peers, and what a node binds
/// for peers where they come over a link.
pub(super) type Ports<'a> = &'a dyn Fn(u16) -> [u16; 4];

pub(super) fn config_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("node-{id}.toml"))
}

pub(super) fn log_path(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("node-{id}.log"))
}

impl Layout {
    fn peers(&self, ports: Ports<'_>) -> Vec<Peer> {
        let peer = |at: u32| {
            let [resp, http, peer, _] = ports(at as u16).map(|port| format!("127.0.0.1:{port}"));
            Peer { id: u64::from(at) + 1, resp, http, peer, region: None, rack: None }
        };
        (0..self.nodes).map(peer).collect()
    }

    /// Writes the files of all nodes.
    pub(super) fn write(&self, folder: &Path, ports: Ports<'_>) -> Result<(), ClusterError> {
        let failed = |path: &Path, source| ClusterError::Folder { path: path.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
        if self.tls {
            certificates::make(&certificates::Arguments {
                folder: folder.join(CERTIFICATES),
                nodes: self.nodes,
                host: Vec::new(),
                days: DAYS,
            })?;
        }
        let peers = self.peers(ports);
        for (at, peer) in peers.iter().enumerate() {
            let behind = self.links.then(|| format!("127.0.0.1:{}", ports(at as u16)[3]));
            let file = File {
                users: Vec::new(),
                id: peer.id,
                cluster: self.cluster.clone(),
                strategy: Strategy::Leader,
                data: PathBuf::from(format!("node-{}", peer.id)),
                engine: self.engine,
                bootstrap: true,
                log: Some(self.log.clone()),
                peers: peers.clone(),
                listen: Listen { peer: behind, ..Listen::default() },
                tls: if self.tls { tls(NodeId(peer.id)) } else { TlsFiles::default() },
                limits: LimitKnobs::default(),
                quota: QuotaKnobs::default(),
                leader: self.leader.clone(),
                wal: WalKnobs::default(),
                fjall: None,
            };
            let path = config_path(folder, peer.id);
            let text =
                toml::to_string(&file).map_err(|e| failed(&path, std::io::Error::other(e)))?;
            let head = "# Written by `tercet cluster`; `tercet node --print-config` explains the keys.\n\n";
            std::fs::write(&path, format!("{head}{text}"))
                .map_err(|source| failed(&path, source))?;
        }
        Ok(())
    }
}

/// The certificates of a node, where [`certificates::make`] puts them.
fn tls(node: NodeId) -> TlsFiles {
    let folder = Folder::at(Path::new(CERTIFICATES));
    let ((certificate, key), ca) = (folder.node(node), folder.ca());
    TlsFiles {
        clients: Some(ClientTls {
            certificate: certificate.clone(),
            key: key.clone(),
            ca: Some(ca.clone()),
        }),
        peers: Some(PeerTls { certificate, key, ca }),
    }
}

/// The configurations in a folder that a cluster was made in before, by id; none where there was
/// none.
pub(super) fn read(folder: &Path) -> Result<Vec<(PathBuf, NodeConfig)>, ClusterError> {
    let first = config_path(folder, 1);
    if !first.exists() {
        return Ok(Vec::new());
    }
    let listed = NodeConfig::load(&first)?.peers;
    let load = |peer: &Peer| {
        let path = config_path(folder, peer.id);
        Ok((path.clone(), NodeConfig::load(&path)?))
    };
    listed.iter().map(load).collect()
}
