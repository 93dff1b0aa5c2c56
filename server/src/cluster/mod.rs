//! A cluster on this machine, each node a child process of the same program.
//!
//! `tercet cluster`, the demo, the load generator and the tests share it: they start nodes, wait
//! until they are ready, kill, pause and restart them, and everything goes when it is dropped.

mod foreground;
mod layout;
mod link;
mod ports;
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use futures::future::join_all;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::certificates::{CertificatesError, Folder};
use crate::client::http;
use crate::client::{Client, ClientError, Tls};
use crate::config::{ConfigError, NodeConfig};
use crate::exit::Exit;
use crate::status::StatusReport;

pub use foreground::{Arguments, foreground};
pub use layout::{Layout, MOST_NODES};
pub use link::Link;
pub use ports::{BLOCK, Block, NoPorts};
pub use process::{Process, Signal, last_lines};

/// How often a node is asked whether it is ready.
const POLL: Duration = Duration::from_millis(20);
/// How long one question to a node may take.
const QUESTION: Duration = Duration::from_secs(2);
/// How often ports may turn out to be taken after all.
const ATTEMPTS: usize = 5;

/// Why a local cluster does not do what it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Its folder.
    #[error("{}: {source}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration file in its folder.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates of the cluster.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// There are no free ports.
    #[error(transparent)]
    Ports(#[from] NoPorts),
    /// What was asked for contradicts what is in the folder.
    #[error("{0}")]
    Contradiction(String),
    /// A node's process could not be started, or signalled.
    #[error("the process of node {id}: {source}")]
    Process {
        /// The node.
        id: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// The way to a node could not be made.
    #[error("the link to node {id}: {source}")]
    Link {
        /// The node.
        id: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// A node ended by itself.
    #[error("node {id} ended by itself ({status}); its last words:\n{last_words}")]
    Ended {
        /// The node.
        id: u64,
        /// How.
        status: ExitStatus,
        /// The last lines of its log.
        last_words: String,
    },
    /// A node was not ready in time.
    #[error("node {id} is not ready after {after:?}: {reason}")]
    NotReady {
        /// The node.
        id: u64,
        /// How long it was waited.
        after: Duration,
        /// What it says.
        reason: String,
    },
}

/// One node of the cluster: its configuration and, while it runs, its process.
#[derive(Debug)]
struct Seat {
    path: PathBuf,
    config: NodeConfig,
    process: Option<Process>,
    link: Option<Link>,
}

/// A cluster of child processes. Dropping it kills them and removes a temporary folder.
#[derive(Debug)]
pub struct Cluster {
    // The processes go before the folder that they write to.
    seats: Vec<Seat>,
    binary: PathBuf,
    folder: PathBuf,
    ports: Option<Block>,
    temporary: Option<TempDir>,
}

/// Which ports a new cluster gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasePort {
    /// Any free ones.
    Free,
    /// This one and the next for Redis clients, those 1000 above for peers, 2000 above for HTTP, and
    /// 3000 above for what is behind links.
    From(u16),
}

impl BasePort {
    /// The distances of the peers' ports and the HTTP ports.
    const PEERS: u16 = 1000;
    const HTTP: u16 = 2000;
    const LINKED: u16 = 3000;

    /// The highest base that leaves room for all three.
    pub const HIGHEST: u16 = u16::MAX - Self::LINKED - MOST_NODES as u16;
}

impl Cluster {
    /// Starts a new cluster in a temporary folder on free ports, and waits until it is ready.
    pub async fn temporary(binary: &Path, layout: &Layout) -> Result<Self, ClusterError> {
        let made = tempfile::Builder::new().prefix("tercet-").tempdir();
        let temporary =
            made.map_err(|source| ClusterError::Folder { path: std::env::temp_dir(), source })?;
        let folder = temporary.path().to_owned();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut cluster = Self::create(binary, &folder, layout, BasePort::Free)?;
            match cluster.start_all().await {
                Ok(()) => {
                    cluster.temporary = Some(temporary);
                    return Ok(cluster);
                }
                // Nobody stored anything yet: begin again with other ports.
                Err(ClusterError::Ended { status, .. })
                    if attempts < ATTEMPTS && Exit::AddressInUse.is(status) =>
                {
                    drop(cluster);
                    clear(&folder)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the files of a new cluster; nothing is started.
    pub fn create(
        binary: &Path,
        folder: &Path,
        layout: &Layout,
        base: BasePort,
    ) -> Result<Self, ClusterError> {
        let block = match base {
            BasePort::Free => Some(Block::take(layout.nodes as u16 * 4)?),
            BasePort::From(_) => None,
        };
        layout.write(folder, &|at| match (&block, base) {
            (Some(block), _) => [0, 1, 2, 3].map(|purpose| block.port(at * 4 + purpose)),
            (None, BasePort::From(base)) => {
                let own = |distance| base + at + distance;
                [own(0), own(BasePort::HTTP), own(BasePort::PEERS), own(BasePort::LINKED)]
            }
            (None, BasePort::Free) => [0; 4],
        })?;
        let mut cluster = Self::existing(binary, folder)?;
        cluster.ports = block;
        if layout.links {
            cluster.connect_links()?;
        }
        Ok(cluster)
    }

    /// The cluster whose files are in `folder`; nothing is started. It has no nodes where there
    /// are no files.
    pub fn existing(binary: &Path, folder: &Path) -> Result<Self, ClusterError> {
        let seat = |(path, config)| Seat { path, config, process: None, link: None };
        Ok(Self {
            seats: layout::read(folder)?.into_iter().map(seat).collect(),
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            ports: None,
            temporary: None,
        })
    }

    fn connect_links(&mut self) -> Result<(), ClusterError> {
        for seat in &mut self.seats {
            let NodeConfig { id, advertised, listen, .. } = &seat.config;
            let link = Link::start(&advertised.peer, &listen.peer);
            let failed = |source| ClusterError::Link { id: id.0, source };
            seat.link = Some(link.map_err(failed)?);
        }
        Ok(())
    }

    /// The way to a node from the others, if it was made with [`Layout::links`].
    pub fn link(&self, id: u64) -> Option<&Link> {
        self.seats[self.place(id)].link.as_ref()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The ids of its nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.seats.iter().map(|seat| seat.config.id.0).collect()
    }

    /// A node's configuration.
    ///
    /// # Panics
    ///
    /// When there is no such node: ids come from [`Cluster::ids`].
    pub fn config(&self, id: u64) -> &NodeConfig {
        &self.seats[self.place(id)].config
    }

    /// Where Redis clients of a node connect.
    pub fn resp(&self, id: u64) -> &str {
        &self.config(id).advertised.resp
    }

    fn place(&self, id: u64) -> usize {
        let place = self.seats.iter().position(|seat| seat.config.id.0 == id);
        place.unwrap_or_else(|| panic!("there is no node {id} in this cluster"))
    }

    fn seat(&mut self, id: u64) -> &mut Seat {
        let place = self.place(id);
        &mut self.seats[place]
    }

    /// Starts a node's process, without waiting for it.
    pub fn start(&mut self, id: u64) -> Result<(), ClusterError> {
        let log = layout::log_path(&self.folder, id);
        let binary = self.binary.clone();
        let seat = self.seat(id);
        let process = Process::start(&binary, &seat.path, &log);
        seat.process = Some(process.map_err(|source| ClusterError::Process { id, source })?);
        Ok(())
    }

    /// Starts all nodes and waits until they are ready.
    pub async fn start_all(&mut self) -> Result<(), ClusterError> {
        for id in self.ids() {
            self.start(id)?;
        }
        for id in self.ids() {
            self.ready(id, Duration::from_secs(30)).await?;
        }
        Ok(())
    }

    /// Waits until a node can serve; returns how long that took.
    pub async fn ready(&mut self, id: u64, timeout: Duration) -> Result<Duration, ClusterError> {
        let address = self.config(id).advertised.http.clone();
        let begun = Instant::now();
        loop {
            let reason = match http::get(&address, "/ready", QUESTION).await {
                Ok(answer) if answer.code == 200 => return Ok(begun.elapsed()),
                Ok(answer) => answer.body.trim().to_owned(),
                Err(error) => error.to_string(),
            };
            if let Some((id, status)) = self.ended()?.into_iter().next() {
                let last_words = self.last_words(id);
                return Err(ClusterError::Ended { id, status, last_words });
            }
            if begun.elapsed() > timeout {
                return Err(ClusterError::NotReady { id, after: timeout, reason });
            }
            sleep(POLL).await;
        }
    }

    /// Kills a node with -9.
    pub fn kill(&mut self, id: u64) -> Result<(), ClusterError> {
        if let Some(mut process) = self.seat(id).process.take() {
            process.kill().map_err(|source| ClusterError::Process { id, source })?;
        }
        Ok(())
    }

    /// Signals a node.
    pub fn signal(&mut self, id: u64, signal: Signal) -> Result<(), ClusterError> {
        if let Some(process) = &self.seat(id).process {
            process.signal(signal).map_err(|source| ClusterError::Process { id, source })?;
        }
        Ok(())
    }

    /// A node's process id while it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.seats[self.place(id)].process.as_ref().map(Process::pid)
    }

    /// Stops all nodes gracefully; those that take longer than `timeout` are killed. Returns how
    /// each ended, with nothing for one that had to be killed.
    pub async fn stop_all(&mut self, timeout: Duration) -> Vec<(u64, Option<ExitStatus>)> {
        let stopping = self.seats.iter_mut().filter_map(|seat| {
            let mut process = seat.process.take()?;
            process.ask_to_stop();
            let id = seat.config.id.0;
            Some(async move { (id, process.wait(timeout).await.ok().flatten()) })
        });
        join_all(stopping).await
    }

    /// The nodes whose processes have ended by themselves since it was last asked.
    pub fn ended(&mut self) -> Result<Vec<(u64, ExitStatus)>, ClusterError> {
        let mut ended = Vec::new();
        for seat in &mut self.seats {
            let id = seat.config.id.0;
            let Some(process) = &mut seat.process else { continue };
            let status = process.ended().map_err(|source| ClusterError::Process { id, source })?;
            if let Some(status) = status {
                ended.push((id, status));
                seat.process = None;
            }
        }
        Ok(ended)
    }

    /// The last lines of a node's log.
    pub fn last_words(&self, id: u64) -> String {
        last_lines(&layout::log_path(&self.folder, id), 15)
    }

    /// What a node says of itself.
    pub async fn status(&self, id: u64) -> Result<StatusReport, http::HttpError> {
        http::get_json(&self.config(id).advertised.http, "/status", QUESTION).await
    }

    /// The leader that a running node with the newest term knows of, if there is one now.
    pub async fn leader(&self) -> Option<u64> {
        let running = self.seats.iter().filter(|seat| seat.process.is_some());
        let asked = running.map(|seat| self.status(seat.config.id.0));
        let reports = join_all(asked).await.into_iter().flatten();
        let newest = reports.max_by_key(|report| (report.term, report.leader.is_some()))?;
        newest.leader
    }

    /// Connects to a node as a Redis client, with the certificate of clients where it asks for one.
    pub async fn connect(&self, id: u64, timeout: Duration) -> Result<Client, ClientError> {
        if self.config(id).tls.clients.is_none() {
            return Client::connect(self.resp(id), timeout).await;
        }
        let folder = self.certificates();
        let (certificate, key) = folder.client();
        let tls = Tls::load(&folder.ca(), Some((&certificate, &key)))?;
        Client::connect_tls(self.resp(id), &tls, timeout).await
    }

    /// Where its certificates are, if it was made with [`Layout::tls`].
    pub fn certificates(&self) -> Folder {
        Folder::at(&self.folder.join(layout::CERTIFICATES))
    }
}

/// Removes what an attempt to start left.
fn clear(folder: &Path) -> Result<(), ClusterError> {
    let failed = |source| ClusterError::Folder { path: folder.to_owned(), source };
    std::fs::remove_dir_all(folder).map_err(failed)?;
    std::fs::create_dir_all(folder).map_err(failed)
}
