//! One process of a cluster: everything a node is made of, put together and taken apart in order.
//!
//! Up: the addresses first, because a port in use is the likeliest mistake and nothing is touched
//! yet; then the folder, the transport, the replica, its clients, and founding where it is this
//! node's turn. Down: leadership is handed over while clients are still served, then clients finish
//! what is in flight, then the replica and the transport close.

mod admin;
mod founding;
mod incarnation;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::env::{Env, Parts, SplitMix64, SystemClock, TokioSpawn};
use common::ids::NodeId;
use common::storage::disk::{DiskError, OsDisk};
use common::storage::engine::{Engines, FjallEngines, MemoryEngines};
use common::transport::Transport as _;
use common::transport::tcp::{BindError, TcpConfig, TcpParts, TcpTransport};
use leader::error::OpenError;
use leader::{Event, Role};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;
use tracing::{error, info, warn};

use crate::config::{EngineKind, NodeConfig};
use crate::exit::Exit;
use crate::http::{Stage, router};
use crate::listener::{Identity, Service, serve};
use crate::metrics::Watched;
use crate::redis::Redis;

/// The replicated machine of this program.
pub type Replica = leader::Node<Redis>;

pub(crate) use founding::members;

/// How long a waiting task sleeps in one go; it is woken by what it waits for.
const LONG: Duration = Duration::from_secs(3600);
/// How long handing over leadership may take before clients are let go.
const HAND_OVER: Duration = Duration::from_secs(2);
/// How long the replica may take to close before the process ends anyway. What was acknowledged is
/// on disk in any case.
const CLOSE: Duration = Duration::from_secs(10);

/// Why a node did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An address cannot be listened on. Nothing was touched.
    #[error("cannot listen on {address} for {purpose}: {source}{}", in_use_hint(source))]
    Listen {
        /// The address.
        address: String,
        /// What for.
        purpose: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The transport's configuration contradicts itself.
    #[error("{0}")]
    Transport(String),
    /// The data folder cannot be used.
    #[error("data folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: FolderError,
    },
    /// The folder is empty, although a peer knows that this node held entries.
    #[error(
        "data folder {}: it is empty, but node {peer} knows that node {id} held entries up to \
         {index}: its data was lost, and under its old id it could vote twice; remove node {id} \
         (POST /members {{\"remove\": {id}}} on the leader) and add this machine under a new id, or \
         point `data` at the right folder", folder.display()
    )]
    Lost {
        /// The folder.
        folder: PathBuf,
        /// This node.
        id: NodeId,
        /// The peer that knows.
        peer: NodeId,
        /// The last entry it knows of.
        index: u64,
    },
    /// The replica did not open.
    #[error("data folder {}: {source}", folder.display())]
    Open {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: OpenError,
    },
    /// The cluster was not founded.
    #[error("the cluster was not founded: {0}")]
    Founding(leader::error::AdminError),
    /// The node failed while it ran. What it acknowledged is on a majority's disks.
    #[error("the node cannot go on: {0}; nothing that was acknowledged is lost")]
    Failed(String),
}

/// What is wrong with a data folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It cannot be opened or is in use.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its count of openings.
    #[error(transparent)]
    Incarnation(io::Error),
}

fn in_use_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process uses it, perhaps this node already: stop that one, or choose another \
             port in the configuration"
        }
        io::ErrorKind::AddrNotAvailable => {
            "; this machine does not have it: set `listen` to one that it has"
        }
        io::ErrorKind::PermissionDenied => "; choose a port above 1023",
        _ => "",
    }
}

impl NodeError {
    /// The exit code that says which kind of failure it was.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Exit::AddressInUse
            }
            Self::Listen { .. } | Self::Transport(_) => Exit::Usage,
            Self::Folder { .. } | Self::Lost { .. } => Exit::Folder,
            Self::Open { source, .. } => match source {
                OpenError::Config(_) => Exit::Usage,
                _ => Exit::Folder,
            },
            Self::Founding(_) | Self::Failed(_) => Exit::Failed,
        }
    }
}

/// The engines of a node's data folder, which is open as `disk`.
pub(crate) fn engines(config: &NodeConfig, disk: Arc<OsDisk>) -> Arc<dyn Engines> {
    match config.engine {
        EngineKind::Fjall => {
            Arc::new(FjallEngines::new(config.data.join("engine"), config.fjall.clone()))
        }
        EngineKind::Memory => Arc::new(MemoryEngines::on_disk(disk, "engine")),
    }
}

async fn listen(address: &str, purpose: &'static str) -> Result<TcpListener, NodeError> {
    TcpListener::bind(address).await.map_err(|source| NodeError::Listen {
        address: address.to_owned(),
        purpose,
        source,
    })
}

async fn transport(
    config: &NodeConfig,
    at: common::ids::Incarnation,
) -> Result<Arc<TcpTransport>, NodeError> {
    let mut tcp = TcpConfig::new(&config.listen.peer, config.id, &config.cluster);
    tcp.advertise = Some(config.advertised.peer.clone());
    tcp.incarnation = at;
    let mut parts = TcpParts::system();
    if let Some(sockets) = &config.tls.peers {
        parts.sockets = sockets.clone();
    }
    let bound = TcpTransport::bind(parts, tcp).await;
    let transport = bound.map_err(|error| match error {
        BindError::Listen { address, source } => {
            NodeError::Listen { address, purpose: "other nodes", source }
        }
        other => NodeError::Transport(other.to_string()),
    })?;
    for peer in config.others() {
        transport.learn(NodeId(peer.id), &peer.peer);
    }
    Ok(transport)
}

/// Runs a node until `stop` completes, which says why, or until it fails.
pub async fn run(
    config: NodeConfig,
    stop: impl Future<Output = &'static str>,
) -> Result<(), NodeError> {
    let begun = Instant::now();
    let clients = listen(&config.listen.resp, "Redis clients").await?;
    let pages = listen(&config.listen.http, "HTTP").await?;
    // Bound for a moment, so that the folder is not touched when it cannot be; the transport needs
    // the folder's count of openings before it binds for good.
    drop(listen(&config.listen.peer, "other nodes").await?);

    let stage = Stage::default();
    let app = router(stage.clone());
    let pages = tokio::spawn(async move {
        if let Err(failure) = axum::serve(pages, app).await {
            error!("the HTTP server ended: {failure}");
        }
    });
    let outcome = open_and_serve(config, clients, stage, begun, stop).await;
    pages.abort();
    outcome
}

async fn open_and_serve(
    config: NodeConfig,
    clients: TcpListener,
    stage: Stage,
    begun: Instant,
    stop: impl Future<Output = &'static str>,
) -> Result<(), NodeError> {
    let folder = config.data.clone();
    let wrong = |source| NodeError::Folder { folder: folder.clone(), source };
    let fresh = !folder.join("wal").exists();
    if fresh && let Some((peer, index)) = founding::lost_entries(&config).await {
        return Err(NodeError::Lost { folder, id: config.id, peer, index });
    }
    let disk = OsDisk::open(&folder).await.map_err(|e| wrong(e.into()))?;
    let opening = incarnation::next(&folder).map_err(|e| wrong(FolderError::Incarnation(e)))?;
    let transport = transport(&config, opening).await?;
    let disk = Arc::new(disk);
    let engines = engines(&config, disk.clone());
    let env = Env::new(Parts {
        node: config.id,
        incarnation: opening,
        clock: Arc::new(SystemClock::default()),
        rng: Arc::new(SplitMix64::from_system()),
        spawn: Arc::new(TokioSpawn),
        transport: transport.clone(),
        disk,
    });
    info!("node {} of {:?} opens {}", config.id, config.cluster, folder.display());
    let mut stop = std::pin::pin!(stop);
    // Opening can take as long as the log, or the state of another member, is large.
    let replica = tokio::select! {
        opened = Replica::open(env.clone(), engines, Redis, config.leader.clone()) => {
            opened.map_err(|source| NodeError::Open { folder, source })?
        }
        why = &mut stop => {
            info!("{why}: stopping before the node was open");
            return Ok(());
        }
    };
    info!("node {} serves: {}", config.id, config.advertised);
    let how = |tls: bool| if tls { "by TLS only" } else { "in the open" };
    let (by_clients, by_peers) = (config.tls.clients.is_some(), config.tls.peers.is_some());
    info!("clients connect {}, other nodes {}", how(by_clients), how(by_peers));

    let watched = Arc::new(Watched::default());
    let service = service(&config, &replica);
    stage.enter(Arc::new(admin::Desk {
        config: config.clone(),
        replica: replica.clone(),
        service: service.clone(),
        watched: watched.clone(),
        begun,
        watchers: Arc::default(),
    }));
    let watch = tokio::spawn(watch_leader(replica.clone(), watched));
    let introduce = tokio::spawn(introduce(replica.clone(), transport.clone()));
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(clients, service, async move {
        let _ = closed.await;
    }));

    let outcome = tokio::select! {
        why = &mut stop => { info!("{why}: stopping"); Ok(()) }
        failure = replica.failed() => Err(NodeError::Failed(failure)),
        refused = found(&config, &replica) => Err(refused),
    };

    if outcome.is_ok() {
        hand_over(&replica).await;
    }
    drop(close);
    if let Err(failure) = serving.await {
        warn!("the listener ended badly: {failure}");
    }
    watch.abort();
    introduce.abort();
    if tokio::time::timeout(CLOSE, replica.shutdown()).await.is_err() {
        warn!("the replica did not close within {CLOSE:?}; what was acknowledged is on disk");
    }
    if tokio::time::timeout(CLOSE, transport.close()).await.is_err() {
        warn!("the transport did not close within {CLOSE:?}");
    }
    if outcome.is_ok() {
        info!("stopped");
    }
    outcome
}

fn service(config: &NodeConfig, replica: &Replica) -> Arc<Service> {
    let addresses = config.peers.iter().map(|peer| (NodeId(peer.id), peer.resp.clone())).collect();
    let identity = Identity {
        cluster: config.cluster.clone(),
        node: config.id,
        addresses,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (users, tls) = (config.users.clone(), config.tls.clients.clone());
    Service::with_tls(Arc::new(replica.clone()), identity, config.limits, users, tls)
}

/// Founds the cluster when it is this node's turn. Returns only when that is refused.
async fn found(config: &NodeConfig, replica: &Replica) -> NodeError {
    let founded = || !replica.status().voters.is_empty();
    if let Some(members) = founding::turn(config, founded).await {
        let count = members.len();
        match replica.bootstrap(members).await {
            Ok(()) => info!("founded the cluster {:?} of {count} nodes", config.cluster),
            Err(refused) => return NodeError::Founding(refused),
        }
    }
    std::future::pending().await
}

/// Tells peers the cluster's id as soon as it is known, so that others of the same name are
/// refused.
async fn introduce(replica: Replica, transport: Arc<TcpTransport>) {
    loop {
        let known = replica.wait_until(LONG, |status| status.cluster.is_some()).await;
        let Some(cluster) = known.ok().and_then(|status| status.cluster) else { continue };
        if let Err(mismatch) = transport.set_cluster(cluster) {
            error!("{mismatch}");
        }
        return;
    }
}

/// Counts and logs every other leader that is seen.
async fn watch_leader(replica: Replica, watched: Arc<Watched>) {
    let mut events = replica.events();
    let status = replica.status();
    let mut news = Some((status.leader, status.term));
    let mut last = None;
    loop {
        if let Some((Some(leader), term)) = news.filter(|(leader, _)| *leader != last) {
            last = Some(leader);
            info!("node {leader} leads in term {term}");
            watched.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        news = match events.recv().await {
            Ok(Event::Leader { leader, term }) => Some((leader, term)),
            Ok(_) => None,
            Err(RecvError::Lagged(_)) => {
                let status = replica.status();
                Some((status.leader, status.term))
            }
            Err(RecvError::Closed) => return,
        };
    }
}

/// Hands leadership over while clients are still served through the new leader.
async fn hand_over(replica: &Replica) {
    let status = replica.status();
    if status.role != Role::Leader || status.voters.len() < 2 {
        return;
    }
    match tokio::time::timeout(HAND_OVER, replica.transfer(None)).await {
        Ok(Ok(to)) => info!("handed leadership over to node {to}"),
        Ok(Err(refused)) => warn!("leadership was not handed over: {refused}"),
        Err(_) => warn!("leadership was not handed over within {HAND_OVER:?}"),
    }
}
