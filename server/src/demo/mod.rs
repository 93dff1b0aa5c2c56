//! `tercet demo`: a guided tour that ends by itself and checks what it claims.
//!
//! Three real processes on this machine, each with its own folder, and clients that speak the Redis
//! protocol to them. The leader is killed as hard as a process can be, and at the end every value
//! that was acknowledged is read from every node.

mod ledger;
mod modes;
mod narrator;
mod reads;
mod writers;

use std::time::{Duration, Instant};

use tokio::time::sleep;

use self::ledger::{PATIENCE, Pairs, ask, difference, digest, read_all};
use self::narrator::{Narrator, say};
use self::writers::Writers;
use crate::cluster::{Cluster, ClusterError, Layout};
use crate::progress::Progress;
use crate::status::StatusReport;
use crate::stop::Signals;

/// Keys written before anything happens.
const KEYS: u64 = 2_000;
/// Writes in flight on the connection that writes them.
const PIPELINE: u64 = 50;
/// How long writes go on before the leader is killed, and after another took over.
const WHILE: Duration = Duration::from_millis(1_500);
/// How long an election, or a return, may take.
const ELECTION: Duration = Duration::from_secs(20);
/// How often nodes are asked.
const POLL: Duration = Duration::from_millis(10);

/// Why the tour failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The cluster.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A client got no answer, or a wrong one.
    #[error("{0}")]
    Client(String),
    /// What was promised does not hold.
    #[error("CHECK FAILED: {0}")]
    Check(String),
    /// Ctrl-C.
    #[error("interrupted by {0}; the nodes were ended and their folder removed")]
    Interrupted(&'static str),
}

/// Gives the tour. Whatever happens, the nodes end and their folder goes.
pub async fn demo() -> Result<(), DemoError> {
    let mut signals =
        Signals::listen().map_err(|source| ClusterError::Process { id: 0, source })?;
    // Dropping the tour drops its cluster, and that kills the nodes and removes the folder.
    tokio::select! {
        toured = tour() => toured,
        signal = signals.next() => Err(DemoError::Interrupted(signal)),
    }
}

async fn tour() -> Result<(), DemoError> {
    let binary =
        std::env::current_exe().map_err(|source| ClusterError::Process { id: 0, source })?;
    let mut narrator = Narrator::new();
    say("Tercet: three nodes, one leader, every acknowledged write on a majority of disks.");

    narrator.step("Start three nodes");
    let mut cluster =
        Cluster::temporary(&binary, &Layout { links: true, ..Layout::default() }).await?;
    introduce(&narrator, &cluster).await?;

    let leader = cluster.leader().await.ok_or_else(|| lost("the leader"))?;
    let [first, second] = followers(&cluster, leader)?;
    narrator.step(&format!("Write {KEYS} keys through node {first}, a follower"));
    let mut acknowledged = write(&narrator, &cluster, first).await?;

    narrator.step("Read on every node");
    read_everywhere(&narrator, &cluster).await?;

    narrator.step("Write in every mode on the leader");
    acknowledged.extend(modes::every_mode(&narrator, &cluster, leader, second).await?);

    narrator.step(&format!("Read at every level on node {second} while it lags"));
    acknowledged.extend(reads::every_level(&narrator, &cluster, leader, second).await?);

    narrator.step(&format!("Kill the leader, node {leader}, with kill -9 while clients write"));
    let addresses: Vec<String> =
        cluster.ids().iter().map(|id| cluster.resp(*id).to_owned()).collect();
    let writers = Writers::start(&addresses);
    narrator.tell("three clients write, one through each node, and go on elsewhere if it dies");
    sleep(WHILE).await;
    let term = status(&cluster, leader).await?.term;
    let pid = cluster.pid(leader).unwrap_or_default();
    let killed = Instant::now();
    cluster.kill(leader)?;
    narrator.tell(format!("node {leader} (process {pid}) is gone"));
    let next = next_leader(&cluster, [first, second], leader, term).await?;
    let elected = killed.elapsed();
    narrator.tell(format!(
        "node {} leads in term {}, {:.0} ms after the kill",
        next.id,
        next.term,
        elected.as_secs_f64() * 1000.0
    ));
    sleep(WHILE).await;

    narrator.step(&format!("Start node {leader} again on its folder"));
    let restarted = Instant::now();
    cluster.start(leader)?;
    cluster.ready(leader, ELECTION).await?;
    let back = Instant::now();
    let caught_up = status(&cluster, leader).await?;
    narrator.tell(format!(
        "it replayed its log, found its leader (node {}) and caught up to entry {} in {:.0} ms",
        caught_up.leader.unwrap_or_default(),
        caught_up.log.applied.unwrap_or_default(),
        (back - restarted).as_secs_f64() * 1000.0
    ));
    sleep(WHILE / 3).await;
    let written = writers.finish().await.map_err(DemoError::Client)?;
    narrator.tell(format!(
        "the clients wrote {} keys, {} of them while node {leader} was away; longest pause {:.0} ms, \
         {} attempts sent again",
        written.acknowledged.len(),
        written.between(killed, restarted),
        written.longest_gap(killed, back).as_secs_f64() * 1000.0,
        written.retries
    ));
    if written.between(killed + elected, restarted) == 0 {
        return Err(DemoError::Check("no write was acknowledged while one node was away".into()));
    }
    acknowledged.extend(written.acknowledged);

    narrator.step("Check that nothing was lost");
    check(&narrator, &cluster, &acknowledged).await?;

    narrator.step("Lose an asynchronous write in a failover, and be told");
    modes::lose_one(&narrator, &mut cluster).await?;

    narrator.step("Stop the nodes and remove their folder");
    for (id, ended) in cluster.stop_all(Duration::from_secs(10)).await {
        if !ended.is_some_and(|status| status.success()) {
            return Err(DemoError::Check(format!("node {id} did not stop gracefully: {ended:?}")));
        }
    }
    drop(cluster);
    narrator.tell("all three stopped gracefully");
    say(&format!(
        "\nDone in {:.1} s: {} writes were committed, none lost; one was not, and its loss was told.\n\
         Next: `tercet cluster` for a cluster of your own, `tercet bench` for speed.",
        narrator.seconds(),
        acknowledged.len()
    ));
    Ok(())
}

fn lost(what: &str) -> DemoError {
    DemoError::Check(format!("{what} is not known any more"))
}

fn followers(cluster: &Cluster, leader: u64) -> Result<[u64; 2], DemoError> {
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    others.try_into().map_err(|_| DemoError::Check("there are not three nodes".to_owned()))
}

async fn status(cluster: &Cluster, id: u64) -> Result<StatusReport, DemoError> {
    cluster.status(id).await.map_err(|error| DemoError::Client(error.to_string()))
}

async fn introduce(narrator: &Narrator, cluster: &Cluster) -> Result<(), DemoError> {
    narrator.tell(format!("folder {}", cluster.folder().display()));
    for id in cluster.ids() {
        let status = status(cluster, id).await?;
        let pid = cluster.pid(id).unwrap_or_default();
        narrator.tell(format!(
            "node {id}: process {pid}, {}, {}",
            status.role,
            cluster.config(id).advertised
        ));
    }
    Ok(())
}

/// Writes the first keys and returns what was acknowledged.
async fn write(narrator: &Narrator, cluster: &Cluster, id: u64) -> Result<Pairs, DemoError> {
    let said = |error: crate::client::ClientError| DemoError::Client(error.to_string());
    let mut client = cluster.connect(id, PATIENCE).await.map_err(said)?;
    let mut acknowledged = Pairs::new();
    let progress = Progress::new("writing", KEYS);
    let begun = Instant::now();
    for batch in 0..KEYS / PIPELINE {
        let mut bytes = Vec::new();
        let pairs: Vec<_> = (batch * PIPELINE..(batch + 1) * PIPELINE)
            .map(|n| (format!("key:{n:05}").into_bytes(), format!("value {n}").into_bytes()))
            .collect();
        for (key, value) in &pairs {
            crate::client::encode(&[b"SET", key, value], &mut bytes);
        }
        let mut refused = None;
        let each = |reply: crate::client::Reply| {
            if !reply.is_ok() {
                refused = Some(reply.to_string());
            }
        };
        client.exchange(&bytes, pairs.len(), each).await.map_err(said)?;
        if let Some(refused) = refused {
            return Err(DemoError::Client(format!("a write was refused: {refused}")));
        }
        acknowledged.extend(pairs);
        progress.at((batch + 1) * PIPELINE);
    }
    progress.finish();
    let seconds = begun.elapsed().as_secs_f64();
    narrator.tell(format!(
        "{KEYS} acknowledged in {seconds:.2} s ({:.0} per second on one connection, {PIPELINE} in flight)",
        KEYS as f64 / seconds
    ));
    Ok(acknowledged)
}

async fn read_everywhere(narrator: &Narrator, cluster: &Cluster) -> Result<(), DemoError> {
    let last = format!("key:{:05}", KEYS - 1);
    for id in cluster.ids() {
        let begun = Instant::now();
        let connected = cluster.connect(id, PATIENCE).await;
        let mut client = connected.map_err(|error| DemoError::Client(error.to_string()))?;
        let reply =
            ask(&mut client, &[b"GET", last.as_bytes()]).await.map_err(DemoError::Client)?;
        let expected = format!("value {}", KEYS - 1);
        if reply.value() != Some(expected.as_bytes()) {
            return Err(DemoError::Check(format!("node {id} answered GET {last} with {reply}")));
        }
        narrator.tell(format!(
            "node {id}: GET {last} = {reply}, the last value written, in {:.1} ms",
            begun.elapsed().as_secs_f64() * 1000.0
        ));
    }
    Ok(())
}

/// Waits until one of the survivors says that it leads, in a newer term.
async fn next_leader(
    cluster: &Cluster,
    survivors: [u64; 2],
    former: u64,
    term: u64,
) -> Result<StatusReport, DemoError> {
    let begun = Instant::now();
    while begun.elapsed() < ELECTION {
        for id in survivors {
            let status = status(cluster, id).await?;
            if status.role == "leader" && status.term > term && status.id != former {
                return Ok(status);
            }
        }
        sleep(POLL).await;
    }
    Err(DemoError::Check(format!("no new leader within {ELECTION:?} after the kill")))
}

/// Reads everything from every node and compares it with what was acknowledged.
async fn check(
    narrator: &Narrator,
    cluster: &Cluster,
    acknowledged: &Pairs,
) -> Result<(), DemoError> {
    let expected = digest(acknowledged);
    for id in cluster.ids() {
        let connected = cluster.connect(id, PATIENCE).await;
        let mut client = connected.map_err(|error| DemoError::Client(error.to_string()))?;
        let found = read_all(&mut client).await.map_err(DemoError::Client)?;
        if let Some(difference) = difference(acknowledged, &found) {
            return Err(DemoError::Check(format!("node {id}: {difference}")));
        }
        let size = ask(&mut client, &[b"DBSIZE"]).await.map_err(DemoError::Client)?;
        if size.number().and_then(|n| usize::try_from(n).ok()) != Some(acknowledged.len()) {
            return Err(DemoError::Check(format!("node {id}: DBSIZE answers {size}")));
        }
        narrator.tell(format!(
            "node {id}: {} keys, each with its value, digest {:016x}",
            found.len(),
            digest(&found)
        ));
        if digest(&found) != expected {
            return Err(DemoError::Check(format!("node {id} has another digest")));
        }
    }
    Ok(())
}
