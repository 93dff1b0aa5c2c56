//! `tercet bench`: how fast is it, over the Redis protocol, as a client sees it.

mod etcd;
mod faults;
mod histogram;
mod load;
mod report;
mod target;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::tls::TlsError;
use tokio::time::sleep;

use crate::certificates::Folder;
use crate::client::Tls;
use crate::cluster::{Cluster, ClusterError, Layout};
use crate::config::{EngineKind, Size, Span};
use crate::progress::Progress;
use crate::stop::Signals;

pub use faults::{FaultReport, Times};
pub use histogram::Histogram;
pub use load::{End, Load, Outcome, Run, fill};
pub use report::{Figures, Report};
pub use target::Protocol;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// The longest run.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What `tercet bench` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Node to ask, as host:port; repeat it to spread the clients. Without it, a cluster of three
    /// is started in a temporary folder.
    #[arg(long)]
    pub address: Vec<String>,
    /// Clients at the same time.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub clients: u32,
    /// Commands that a client sends before it waits for the replies.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub pipeline: u64,
    /// Bytes per value.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub value_size: u32,
    /// Share of reads, from 0 to 1.
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    pub read_share: f64,
    /// The user to be, with the password in the variable TERCET_PASSWORD.
    #[arg(long, requires = "address")]
    pub user: Option<String>,
    /// When writes are acknowledged: what REPL ACK takes, such as "async" or "all APPLIED". Without
    /// it, the nodes' own mode.
    #[arg(long)]
    pub ack: Option<String>,
    /// How fresh reads are: what REPL READ takes [default: strong].
    #[arg(long)]
    pub read: Option<String>,
    /// Send WAIT for so many replicas after each batch with writes, and count them as answered when
    /// that is: for plain Redis, which else answers before its replicas have anything.
    #[arg(long, value_name = "REPLICAS", requires = "address")]
    pub wait: Option<u32>,
    /// The addresses are those of etcd, spoken to by gRPC. Its values are at most 15,000 bytes.
    #[arg(long, requires = "address", conflicts_with_all = ["wait", "ack", "read", "user", "certificates"])]
    pub etcd: bool,
    /// Measure faults instead: clients write to a cluster of three while its leader is killed so
    /// many times, and leadership is moved as often. Also what idle nodes take.
    #[arg(long, value_name = "ROUNDS", conflicts_with_all = ["address", "memory", "tls", "requests", "duration"],
        value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub faults: Option<u32>,
    /// With --faults, also restart nodes with so much state, such as 1GiB.
    #[arg(long, value_name = "SIZE", requires = "faults")]
    pub state: Option<Size>,
    /// Different keys.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub keys: u64,
    /// End after so many requests.
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// End after this time, such as 10s or 2min [default: 10s].
    #[arg(long)]
    pub duration: Option<Span>,
    /// Also write the figures to this file as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Keep the state of the cluster that is started in memory.
    #[arg(long, conflicts_with = "address")]
    pub memory: bool,
    /// Start that cluster with TLS for clients and between nodes.
    #[arg(long, conflicts_with = "address")]
    pub tls: bool,
    /// Connect with TLS, with the files ca.pem, client.pem and client.key of this folder, as
    /// `tercet certificates` makes it.
    #[arg(long, value_name = "FOLDER", requires = "address")]
    pub certificates: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("write a number from 0 (writes only) to 1 (reads only)".to_owned()),
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The cluster to measure.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The certificates of the clients.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The keys could not be made.
    #[error("the keys could not be written: {0}; is a cluster running there?")]
    Fill(String),
    /// The mode or the level was refused.
    #[error("{0}")]
    Settings(String),
    /// A fault went otherwise than it should.
    #[error("{0}")]
    Fault(String),
    /// Nothing was answered.
    #[error("nothing was answered: {0}")]
    NoAnswer(String),
    /// The file could not be written.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Ctrl-C.
    #[error("interrupted by {0}")]
    Interrupted(&'static str),
}

/// Runs the load and prints its figures.
pub async fn bench(arguments: &Arguments) -> Result<(), BenchError> {
    let mut signals =
        Signals::listen().map_err(|source| ClusterError::Process { id: 0, source })?;
    tokio::select! {
        measured = measure(arguments) => measured,
        signal = signals.next() => Err(BenchError::Interrupted(signal)),
    }
}

async fn measure(arguments: &Arguments) -> Result<(), BenchError> {
    if let Some(rounds) = arguments.faults {
        let binary =
            std::env::current_exe().map_err(|source| ClusterError::Process { id: 0, source })?;
        let state = arguments.state.map_or(0, |size| size.0);
        let report = Box::pin(faults::faults(&binary, rounds, state)).await?;
        print!("{}", report.text());
        return save(arguments.json.as_deref(), &report);
    }
    if arguments.etcd && arguments.value_size as usize > etcd::LARGEST_VALUE {
        let most = etcd::LARGEST_VALUE;
        return Err(BenchError::Settings(format!("--etcd takes values of at most {most} bytes")));
    }
    let mut own = None;
    let mut certificates = arguments.certificates.as_deref().map(Folder::at);
    let mut addresses = arguments.address.clone();
    if addresses.is_empty() {
        let binary =
            std::env::current_exe().map_err(|source| ClusterError::Process { id: 0, source })?;
        let engine = if arguments.memory { EngineKind::Memory } else { EngineKind::Fjall };
        let layout = Layout { engine, log: "warn".into(), tls: arguments.tls, ..Layout::default() };
        eprintln!("starting three nodes in a temporary folder");
        let cluster = Cluster::temporary(&binary, &layout).await?;
        addresses = cluster.ids().iter().map(|id| cluster.resp(*id).to_owned()).collect();
        certificates = arguments.tls.then(|| cluster.certificates());
        own = Some(cluster);
    }
    let tls = certificates.map(|folder| {
        let (certificate, key) = folder.client();
        Tls::load(&folder.ca(), Some((&certificate, &key)))
    });
    let end = match (arguments.requests, arguments.duration) {
        (Some(count), _) => End::Requests(count),
        (None, Some(span)) => End::After(span.0.min(LONGEST)),
        (None, None) => End::After(Duration::from_secs(10)),
    };
    let load = Load {
        addresses,
        clients: arguments.clients as usize,
        protocol: if arguments.etcd { Protocol::Etcd } else { Protocol::Redis },
        wait: arguments.wait,
        pipeline: arguments.pipeline,
        value_size: arguments.value_size as usize,
        read_share: arguments.read_share,
        user: arguments
            .user
            .clone()
            .map(|user| (user, std::env::var("TERCET_PASSWORD").unwrap_or_default())),
        ack: arguments.ack.clone(),
        read: arguments.read.clone(),
        tls: tls.transpose()?,
        keys: arguments.keys,
        end,
    };
    let report = run(load).await?;
    print!("{}", report.text());
    save(arguments.json.as_deref(), &report)?;
    if let Some(mut cluster) = own {
        cluster.stop_all(Duration::from_secs(10)).await;
    }
    Ok(())
}

/// Writes figures to the file, if there is one.
fn save(path: Option<&Path>, figures: &impl serde::Serialize) -> Result<(), BenchError> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures).unwrap_or_default() + "\n";
    std::fs::write(path, text).map_err(|source| BenchError::Json { path: path.to_owned(), source })
}

/// Makes the keys, runs the load and shows its progress.
pub async fn run(load: Load) -> Result<Report, BenchError> {
    if load.read_share > 0.0 {
        let progress = Progress::new("writing keys", load.keys);
        fill(&load, |done| progress.at(done)).await.map_err(BenchError::Fill)?;
    }
    load.try_settings().await.map_err(BenchError::Settings)?;
    let run = Arc::new(Run::new(load.clone()));
    let (_, total) = run.progress();
    let unit = if matches!(load.end, End::Requests(_)) { "requests" } else { "milliseconds" };
    let progress = Progress::new(unit, total);
    let mut all = std::pin::pin!(run.clone().all());
    let outcome = loop {
        tokio::select! {
            outcome = &mut all => break outcome,
            () = sleep(TICK) => progress.at(run.progress().0),
        }
    };
    let elapsed = run.elapsed();
    progress.at(total);
    progress.finish();
    let report = Report::of(&load, &outcome, elapsed);
    if report.reads.count + report.writes.count == 0 {
        let kinds: Vec<String> =
            report.errors.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        return Err(BenchError::NoAnswer(kinds.join(", ")));
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
