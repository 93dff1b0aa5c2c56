//! What faults cost clients: a cluster of its own is led through them while clients write.
//!
//! Two figures tell a pause. The *gap* is the longest time in which no client got an
//! acknowledgement. The *stall* is the longest that one write took, its repetitions on other nodes
//! included: what the unluckiest client has seen.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::BenchError;
use super::load::{End, Load, fill};
use super::target::Protocol;
use crate::client::{Client, http};
use crate::cluster::{Cluster, Layout};
use crate::progress::Progress;

/// Clients that write, spread over the nodes.
const WRITERS: usize = 12;
/// How long they write before a fault, and after it is over.
const WHILE: Duration = Duration::from_secs(1);
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one attempt of a client may take before it asks another node.
const ATTEMPT: Duration = Duration::from_secs(3);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(5);
/// How long an idle cluster rests before it is measured, and how long it is measured.
const SETTLE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);
/// Bytes per value of the state that nodes restart with.
const VALUE: usize = 4_096;

/// Times of one kind of fault, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// Half of all took at most so long.
    pub median_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Each, in order.
    pub all_ms: Vec<f64>,
}

impl Times {
    fn push(&mut self, time: Duration) {
        self.all_ms.push((time.as_secs_f64() * 10_000.0).round() / 10.0);
        let mut sorted = self.all_ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let half = sorted.len() / 2;
        let odd = sorted.len() % 2 == 1;
        self.median_ms =
            if odd { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        self.max_ms = sorted[sorted.len() - 1];
    }
}

/// What was measured. Keys are added, never renamed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FaultReport {
    /// The version of the program.
    pub version: String,
    /// Percent of one processor that each idle node takes.
    pub idle_cpu_percent: Vec<f64>,
    /// MiB of memory that each idle node takes.
    pub idle_rss_mib: Vec<f64>,
    /// Kill -9 of the leader: no client was acknowledged.
    pub kill_gap: Times,
    /// Kill -9 of the leader: the longest write of one client.
    pub kill_stall: Times,
    /// The killed node, started again: until it is ready.
    pub rejoin: Times,
    /// A planned transfer: no client was acknowledged.
    pub transfer_gap: Times,
    /// A planned transfer: the longest write of one client.
    pub transfer_stall: Times,
    /// Bytes of values in the state that nodes restart with; none was asked for.
    pub state_bytes: Option<u64>,
    /// A follower with that state, killed and started: until it answers a strong read.
    pub restart_one: Option<Times>,
    /// All nodes with that state, killed and started: until a write is acknowledged.
    pub restart_all: Option<Times>,
}

impl FaultReport {
    /// The report as people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let each = |figures: &[f64]| {
            let figures: Vec<String> = figures.iter().map(|one| format!("{one:.2}")).collect();
            figures.join(", ")
        };
        let _ = writeln!(text, "idle node: {} % of a processor", each(&self.idle_cpu_percent));
        let _ = writeln!(text, "idle node: {} MiB", each(&self.idle_rss_mib));
        let _ = writeln!(text, "{:<52}{:>7}{:>12}{:>12}", "", "times", "median ms", "longest ms");
        let rows = [
            ("leader killed: nobody acknowledged", Some(&self.kill_gap)),
            ("leader killed: longest write of a client", Some(&self.kill_stall)),
            ("killed node started: until ready", Some(&self.rejoin)),
            ("transfer: nobody acknowledged", Some(&self.transfer_gap)),
            ("transfer: longest write of a client", Some(&self.transfer_stall)),
            ("restart with state, one: until a strong read", self.restart_one.as_ref()),
            ("restart with state, all: until a write", self.restart_all.as_ref()),
        ];
        for (name, times) in rows.into_iter().filter_map(|(name, times)| Some((name, times?))) {
            let (median, max, count) = (times.median_ms, times.max_ms, times.all_ms.len());
            let _ = writeln!(text, "{name:<52}{count:>7}{median:>12.1}{max:>12.1}");
        }
        if let Some(bytes) = self.state_bytes {
            let _ = writeln!(text, "state: {} MiB of values", bytes >> 20);
        }
        text
    }
}

/// Leads a cluster through `rounds` of each fault, and restarts it with `state` bytes if that is
/// not 0.
pub(super) async fn faults(
    binary: &Path,
    rounds: u32,
    state: u64,
) -> Result<FaultReport, BenchError> {
    let layout = Layout { log: "warn".to_owned(), ..Layout::default() };
    let mut cluster = Cluster::temporary(binary, &layout).await?;
    let mut report =
        FaultReport { version: env!("CARGO_PKG_VERSION").to_owned(), ..FaultReport::default() };
    idle(&cluster, &mut report).await;

    let progress = Progress::new("faults", u64::from(rounds) * 2);
    let addresses: Vec<String> =
        cluster.ids().iter().map(|id| cluster.resp(*id).to_owned()).collect();
    let writers = Writers::start(&addresses);
    let mut kills = Vec::new();
    let mut transfers = Vec::new();
    for round in 0..rounds {
        sleep(WHILE).await;
        let leader = leader(&cluster).await?;
        let killed = Instant::now();
        cluster.kill(leader)?;
        sleep(WHILE * 2).await;
        kills.push((killed, Instant::now()));
        cluster.start(leader)?;
        report.rejoin.push(cluster.ready(leader, PATIENCE).await?);
        progress.at(u64::from(round) + 1);
    }
    for round in 0..rounds {
        sleep(WHILE).await;
        let leader = leader(&cluster).await?;
        let address = cluster.config(leader).advertised.http.clone();
        let begun = Instant::now();
        let answer = http::request(&address, "POST", "/transfer", Some("{}"), PATIENCE).await;
        let moved = answer.map_err(|error| BenchError::Fault(error.to_string()))?;
        if moved.code != 200 {
            return Err(BenchError::Fault(format!(
                "a transfer was refused: {}",
                moved.body.trim()
            )));
        }
        sleep(WHILE / 2).await;
        transfers.push((begun, Instant::now()));
        progress.at(u64::from(rounds + round) + 1);
    }
    let written = writers.finish().await;
    progress.finish();
    for (from, to) in kills {
        report.kill_gap.push(gap(&written, from, to));
        report.kill_stall.push(stall(&written, from, to));
    }
    for (from, to) in transfers {
        report.transfer_gap.push(gap(&written, from, to));
        report.transfer_stall.push(stall(&written, from, to));
    }
    if state > 0 {
        restarts(&mut cluster, state, rounds.min(3), &mut report).await?;
    }
    cluster.stop_all(Duration::from_secs(10)).await;
    Ok(report)
}

async fn leader(cluster: &Cluster) -> Result<u64, BenchError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(leader) = cluster.leader().await {
            return Ok(leader);
        }
        sleep(AGAIN).await;
    }
    Err(BenchError::Fault(format!("there is no leader after {PATIENCE:?}")))
}

/// Measures nodes that nobody asks for anything.
async fn idle(cluster: &Cluster, report: &mut FaultReport) {
    sleep(SETTLE).await;
    let pids: Vec<u32> = cluster.ids().iter().filter_map(|id| cluster.pid(*id)).collect();
    let before: Vec<u64> = pids.iter().map(|pid| processor_nanos(*pid)).collect();
    let begun = Instant::now();
    sleep(IDLE).await;
    let passed = begun.elapsed().as_nanos() as f64;
    for (pid, before) in pids.iter().zip(before) {
        let took = processor_nanos(*pid).saturating_sub(before) as f64;
        report.idle_cpu_percent.push((took / passed * 10_000.0).round() / 100.0);
        report.idle_rss_mib.push((resident_kib(*pid) as f64 / 1024.0 * 10.0).round() / 10.0);
    }
}

/// How long the threads of a process have run; 0 where the system does not tell.
fn processor_nanos(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let one = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(|thread| one(thread.path())).sum()
}

/// The memory that a process holds; 0 where the system does not tell.
fn resident_kib(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Fills the cluster, then kills and starts one follower, and all nodes.
async fn restarts(
    cluster: &mut Cluster,
    state: u64,
    rounds: u32,
    report: &mut FaultReport,
) -> Result<(), BenchError> {
    let leading = leader(cluster).await?;
    let load = Load {
        addresses: vec![cluster.resp(leading).to_owned()],
        clients: 1,
        protocol: Protocol::Redis,
        wait: None,
        pipeline: 1,
        value_size: VALUE,
        read_share: 0.0,
        user: None,
        ack: None,
        read: None,
        tls: None,
        keys: state.div_ceil(VALUE as u64),
        end: End::Requests(1),
    };
    let progress = Progress::new("writing the state", load.keys);
    fill(&load, |done| progress.at(done)).await.map_err(BenchError::Fill)?;
    progress.finish();
    report.state_bytes = Some(load.keys * VALUE as u64);
    let (mut one, mut all) = (Times::default(), Times::default());
    for _ in 0..rounds {
        let leader = leader(cluster).await?;
        let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap_or(leader);
        cluster.kill(follower)?;
        let begun = Instant::now();
        cluster.start(follower)?;
        served(cluster, &[follower], &[b"GET", b"bench:000000000000"]).await?;
        one.push(begun.elapsed());
        cluster.ready(follower, PATIENCE).await?;
    }
    for _ in 0..rounds {
        let ids = cluster.ids();
        for id in &ids {
            cluster.kill(*id)?;
        }
        let begun = Instant::now();
        for id in &ids {
            cluster.start(*id)?;
        }
        served(cluster, &ids, &[b"SET", b"bench:restart", b"x"]).await?;
        all.push(begun.elapsed());
        for id in &ids {
            cluster.ready(*id, PATIENCE).await?;
        }
    }
    (report.restart_one, report.restart_all) = (Some(one), Some(all));
    Ok(())
}

/// Waits until one of these nodes answers the command.
async fn served(cluster: &Cluster, ids: &[u64], command: &[&[u8]]) -> Result<(), BenchError> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        for id in ids {
            let Ok(mut client) = cluster.connect(*id, PATIENCE).await else { continue };
            if client.command(command).await.is_ok_and(|reply| reply.error().is_none()) {
                return Ok(());
            }
        }
        sleep(AGAIN).await;
    }
    Err(BenchError::Fault(format!("no answer within {PATIENCE:?} after a restart")))
}

/// One acknowledged write: when it was first sent, and when it was acknowledged.
type Acknowledged = (Instant, Instant);

/// The longest time from `from` to `to` in which no client was acknowledged. `written` is ordered
/// by the acknowledgements.
fn gap(written: &[Acknowledged], from: Instant, to: Instant) -> Duration {
    let inside = written.iter().map(|(_, at)| *at).filter(|at| (from..to).contains(at));
    let mut longest = Duration::ZERO;
    let mut last = from;
    for at in inside.chain([to]) {
        longest = longest.max(at - last);
        last = at;
    }
    longest
}

/// The longest write that was under way between `from` and `to`.
fn stall(written: &[Acknowledged], from: Instant, to: Instant) -> Duration {
    let during = written.iter().filter(|(sent, at)| *at >= from && *sent <= to);
    during.map(|(sent, at)| *at - *sent).max().unwrap_or_default()
}

/// Clients that write one key after the other, each on another node when its own is away.
struct Writers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<Acknowledged>>>,
}

impl Writers {
    fn start(addresses: &[String]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |number| tokio::spawn(write(number, addresses.to_vec(), stop.clone()));
        let tasks = (0..WRITERS).map(one).collect();
        Self { stop, tasks }
    }

    /// Ends them and returns what was acknowledged, in that order.
    async fn finish(mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks.drain(..) {
            all.extend(task.await.unwrap_or_default());
        }
        all.sort_unstable_by_key(|(_, at)| *at);
        all
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn write(number: usize, addresses: Vec<String>, stop: Arc<AtomicBool>) -> Vec<Acknowledged> {
    let mut written = Vec::new();
    let mut client: Option<Client> = None;
    let mut at = number;
    let key = format!("bench:writer:{number}").into_bytes();
    let value = [b'x'; 100];
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            if client.is_none() {
                client = Client::connect(&addresses[at % addresses.len()], ATTEMPT).await.ok();
            }
            let reply = match &mut client {
                Some(client) => client.command(&[b"SET", &key, &value]).await.ok(),
                None => None,
            };
            if reply.is_some_and(|reply| reply.is_ok()) {
                written.push((sent, Instant::now()));
                break;
            }
            client = None;
            at += 1;
            sleep(AGAIN).await;
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_all_clients_and_a_stall_one() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let written = [(at(0), at(10)), (at(12), at(20)), (at(15), at(500)), (at(490), at(510))];
        assert_eq!(gap(&written, at(5), at(520)), Duration::from_millis(480));
        assert_eq!(gap(&written, at(505), at(2_000)), Duration::from_millis(1_490));
        assert_eq!(stall(&written, at(5), at(520)), Duration::from_millis(485));
        assert_eq!(stall(&written, at(505), at(520)), Duration::from_millis(20));
        assert_eq!(stall(&written, at(600), at(700)), Duration::ZERO);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_ones() {
        let mut times = Times::default();
        for millis in [5, 1, 9] {
            times.push(Duration::from_millis(millis));
        }
        assert_eq!((times.median_ms, times.max_ms), (5.0, 9.0));
        times.push(Duration::from_millis(7));
        assert_eq!((times.median_ms, times.all_ms.len()), (6.0, 4));
    }
}
