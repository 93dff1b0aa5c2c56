//! The files of `[tls]`, read and tried together: a wrong one stops the node before it starts.

use std::path::Path;
use std::sync::Arc;

use common::ids::NodeId;
use common::tls::{Authority, Credentials, TlsError, TlsSockets};
use common::transport::tcp::{Sockets, SystemSockets};
use tokio_rustls::rustls::ServerConfig;

use super::Problem;
use super::file::{ClientTls, PeerTls, TlsFiles};

/// What a node's connections are made with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Tls {
    /// For Redis clients; without it they connect in the open.
    pub clients: Option<Arc<ServerConfig>>,
    /// Between nodes; without it they talk in the open.
    pub peers: Option<Arc<dyn Sockets>>,
}

impl Tls {
    pub(super) fn load(files: &TlsFiles, node: NodeId, folder: &Path) -> Result<Self, Problem> {
        let refused = |section: &str, error: &TlsError| {
            Problem::new(section, format!("cannot be used: {error}"))
        };
        let clients = files.clients.as_ref().map(|files| {
            for_clients(files, folder).map_err(|error| refused("tls.clients", &error))
        });
        let peers = files.peers.as_ref().map(|files| {
            for_peers(files, node, folder).map_err(|error| refused("tls.peers", &error))
        });
        Ok(Self { clients: clients.transpose()?, peers: peers.transpose()? })
    }
}

fn for_clients(files: &ClientTls, folder: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let own = Credentials::load(&folder.join(&files.certificate), &folder.join(&files.key))?;
    let ca = files.ca.as_ref().map(|ca| Authority::load(&folder.join(ca))).transpose()?;
    common::tls::server(&own, ca.as_ref())
}

fn for_peers(files: &PeerTls, node: NodeId, folder: &Path) -> Result<Arc<dyn Sockets>, TlsError> {
    let own = Credentials::load(&folder.join(&files.certificate), &folder.join(&files.key))?;
    let ca = Authority::load(&folder.join(&files.ca))?;
    Ok(Arc::new(TlsSockets::new(Arc::new(SystemSockets), node, &own, &ca)?))
}
