//! `tercet cluster`: a local cluster until Ctrl-C.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{BasePort, Cluster, ClusterError, Layout, MOST_NODES};
use crate::config::{EngineKind, Strategy};
use crate::stop::Signals;

/// How often it is looked whether a node has ended.
const WATCH: Duration = Duration::from_millis(100);
/// How long a node may take to stop gracefully.
const STOP: Duration = Duration::from_secs(20);
/// The port of the first node where none is given: Redis's own.
const DEFAULT_PORT: u16 = 6379;

/// What `tercet cluster` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// How writes are ordered and acknowledged.
    #[arg(long, value_enum, default_value_t = Strategy::Leader)]
    pub strategy: Strategy,
    /// How many nodes (3, or as many as the data folder has): three survive the loss of one, five
    /// of two.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_NODES)))]
    pub nodes: Option<u32>,
    /// Port of the first node for Redis clients [default: 6379]. The others follow; peers are 1000
    /// above, HTTP 2000 above. 0 takes any free ports.
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..=i64::from(BasePort::HIGHEST)))]
    pub base_port: Option<u16>,
    /// Folder for the nodes' configuration and data, kept for the next time. Without it, a
    /// temporary one that is removed at the end.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Keep the state in memory; the log is on disk all the same.
    #[arg(long)]
    pub memory: bool,
    /// TLS for clients and between nodes, with certificates that are made for it.
    #[arg(long)]
    pub tls: bool,
}

/// Runs a cluster until a signal comes, or until no node is left.
pub async fn foreground(arguments: &Arguments, log: &str) -> Result<(), ClusterError> {
    let binary = std::env::current_exe()
        .map_err(|source| ClusterError::Folder { path: PathBuf::from("tercet"), source })?;
    let mut signals =
        Signals::listen().map_err(|source| ClusterError::Process { id: 0, source })?;
    let temporary = match &arguments.data {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("tercet-")
                .tempdir()
                .map_err(|source| ClusterError::Folder { path: std::env::temp_dir(), source })?,
        ),
    };
    let folder = match (&arguments.data, &temporary) {
        (Some(folder), _) => folder.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => PathBuf::new(),
    };
    let mut cluster = open(arguments, &binary, &folder, log)?;
    println!("{}", introduction(&cluster, temporary.is_some()));
    let signal = tokio::select! {
        ran = start_and_watch(&mut cluster) => return ran,
        signal = signals.next() => signal,
    };
    println!("\n{signal}: stopping the nodes");
    let stopped = tokio::select! {
        stopped = cluster.stop_all(STOP) => stopped,
        _ = signals.next() => {
            println!("again: ending them at once");
            Vec::new()
        }
    };
    for (id, status) in stopped {
        match status {
            Some(status) if status.success() => println!("node {id} stopped"),
            Some(status) => println!("node {id} ended with {status}"),
            None => println!("node {id} did not stop within {STOP:?} and was killed"),
        }
    }
    Ok(())
}

/// The cluster that is in the folder, or a new one. What is asked for must not contradict what is
/// there.
fn open(
    arguments: &Arguments,
    binary: &Path,
    folder: &Path,
    log: &str,
) -> Result<Cluster, ClusterError> {
    if arguments.strategy != Strategy::Leader {
        return Err(ClusterError::Contradiction(format!(
            "--strategy {} is not built yet; use --strategy leader",
            format!("{:?}", arguments.strategy).to_lowercase()
        )));
    }
    let engine = if arguments.memory { EngineKind::Memory } else { EngineKind::Fjall };
    let there = Cluster::existing(binary, folder)?;
    if there.ids().is_empty() {
        let nodes = arguments.nodes.unwrap_or(3);
        let (log, tls) = (log.to_owned(), arguments.tls);
        let layout = Layout { nodes, engine, log, tls, ..Layout::default() };
        let base = match arguments.base_port.unwrap_or(DEFAULT_PORT) {
            0 => BasePort::Free,
            port => BasePort::From(port),
        };
        return Cluster::create(binary, folder, &layout, base);
    }
    let contradiction = |what: String| {
        let folder = folder.display();
        Err(ClusterError::Contradiction(format!(
            "{what}; leave the flag out, edit the files in {folder}, or use another --data folder"
        )))
    };
    let nodes = there.ids().len();
    if arguments.nodes.is_some_and(|wanted| wanted as usize != nodes) {
        return contradiction(format!("--nodes contradicts {}: it has {nodes}", folder.display()));
    }
    let first = there.config(1);
    if arguments.base_port.is_some_and(|port| !first.advertised.resp.ends_with(&format!(":{port}")))
    {
        let address = &first.advertised.resp;
        return contradiction(format!("--base-port contradicts node 1's address {address}"));
    }
    if arguments.memory && first.engine != EngineKind::Memory {
        return contradiction("--memory contradicts the engine of the nodes there".to_owned());
    }
    if arguments.tls && first.tls.clients.is_none() {
        return contradiction("--tls contradicts the files of the nodes there".to_owned());
    }
    Ok(there)
}

fn introduction(cluster: &Cluster, temporary: bool) -> String {
    let mut text = String::new();
    let kept = if temporary { "removed at the end" } else { "kept" };
    let ids = cluster.ids();
    let _ = writeln!(text, "{} nodes in {} ({kept})", ids.len(), cluster.folder().display());
    for &id in &ids {
        let _ = writeln!(text, "  node {id}: {}", cluster.config(id).advertised);
    }
    let first = cluster.config(ids[0]);
    let (host, port) = first.advertised.resp.rsplit_once(':').unwrap_or(("127.0.0.1", "6379"));
    let tls = if first.tls.clients.is_some() {
        let certificates = cluster.certificates();
        let (certificate, key) = certificates.client();
        let [ca, certificate, key] = [certificates.ca(), certificate, key];
        format!(
            " --tls --cacert {} --cert {} --key {}",
            ca.display(),
            certificate.display(),
            key.display()
        )
    } else {
        String::new()
    };
    let _ = write!(
        text,
        "talk to any of them:\n  redis-cli -h {host} -p {port}{tls} set greeting hello\n  \
         tercet status --address {http}\n  and open http://{http}/ in a browser",
        http = first.advertised.http
    );
    text
}

/// Starts the nodes and reports each that ends; fails when none is left.
async fn start_and_watch(cluster: &mut Cluster) -> Result<(), ClusterError> {
    let begun = Instant::now();
    cluster.start_all().await?;
    println!("ready after {:.1} s; Ctrl-C stops it", begun.elapsed().as_secs_f64());
    let mut left = cluster.ids().len();
    while left > 0 {
        for (id, status) in cluster.ended()? {
            left -= 1;
            println!("node {id} ended by itself ({status}); {left} left. Its last words:");
            println!("{}", cluster.last_words(id));
        }
        sleep(WATCH).await;
    }
    Err(ClusterError::Contradiction("no node is left".to_owned()))
}
