//! What each write mode waits for, and what becomes of a write that a failover takes away.

use std::time::Instant;

use super::ledger::{PATIENCE, Pairs, ask};
use super::narrator::Narrator;
use super::{DemoError, ELECTION, lost, status};
use crate::client::{Client, Reply};
use crate::cluster::Cluster;

/// Modes as REPL ACK takes them, with what each may lose.
const MODES: [(&str, &str); 5] = [
    ("async", "what it acknowledged within a lease, when the leader is lost"),
    ("semi 1", "nothing with three nodes: two of three are a majority"),
    ("quorum", "nothing, unless two of three disks are destroyed"),
    ("all", "nothing while one disk is left, and waits while a node is away"),
    ("all APPLIED", "the same, and every node shows it at once, whatever is read"),
];

/// How often the asynchronous write is tried.
const ATTEMPTS: u32 = 3;

pub(super) async fn connect(cluster: &Cluster, id: u64) -> Result<Client, DemoError> {
    cluster.connect(id, PATIENCE).await.map_err(|error| DemoError::Client(error.to_string()))
}

pub(super) async fn line(client: &mut Client, line: &str) -> Result<Reply, DemoError> {
    let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
    let reply = ask(client, &words).await.map_err(DemoError::Client)?;
    match reply.error() {
        Some(error) => Err(DemoError::Client(format!("{line}: {error}"))),
        None => Ok(reply),
    }
}

/// A field of REPL LAST.
async fn last(client: &mut Client, name: &str) -> Result<Reply, DemoError> {
    let Reply::Several(fields) = line(client, "REPL LAST").await? else {
        return Err(DemoError::Check("REPL LAST tells nothing of a write".into()));
    };
    let named = |pair: &&[Reply]| pair[0].value() == Some(name.as_bytes());
    let field = fields.chunks_exact(2).find(named).map(|pair| pair[1].clone());
    field.ok_or_else(|| DemoError::Check(format!("REPL LAST has no {name}")))
}

pub(super) fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(reply.value().unwrap_or_default()).into_owned()
}

/// Writes once in every mode, and says what it took and what it may lose.
pub(super) async fn every_mode(
    narrator: &Narrator,
    cluster: &Cluster,
    leader: u64,
    follower: u64,
) -> Result<Pairs, DemoError> {
    let mut client = connect(cluster, leader).await?;
    let mut eventual = connect(cluster, follower).await?;
    line(&mut eventual, "REPL READ eventual").await?;
    let mut pairs = Pairs::new();
    for (number, (mode, loses)) in MODES.into_iter().enumerate() {
        line(&mut client, &format!("REPL ACK {mode}")).await?;
        let key = format!("mode:{number}");
        let begun = Instant::now();
        line(&mut client, &format!("SET {key} {number}")).await?;
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        let committed = last(&mut client, "committed").await? == Reply::Number(1);
        let state = if committed { "committed" } else { "not committed yet" };
        narrator.tell(format!("{mode:<12} {took:5.1} ms, {state}; may lose {loses}"));
        if mode == "all APPLIED" {
            let seen = line(&mut eventual, &format!("GET {key}")).await?;
            if text(&seen) != number.to_string() {
                return Err(DemoError::Check(format!("an eventual read shows {seen}")));
            }
        }
        pairs.insert(key.into_bytes(), number.to_string().into_bytes());
    }
    // What was acknowledged early is committed a moment later; a causal read waits for it.
    let token = text(&line(&mut client, "REPL TOKEN").await?);
    line(&mut eventual, "REPL READ causal").await?;
    line(&mut eventual, &format!("REPL TOKEN {token}")).await?;
    let seen = line(&mut eventual, "GET mode:0").await?;
    narrator.tell(format!(
        "with the session's token, a causal read on node {follower} sees the first of them: {seen}"
    ));
    if text(&seen) != "0" {
        return Err(DemoError::Check("a causal read misses a write of its session".into()));
    }
    Ok(pairs)
}

async fn start_others(cluster: &mut Cluster, leader: u64) -> Result<(), DemoError> {
    let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    for id in &others {
        cluster.start(*id)?;
    }
    for id in &others {
        cluster.ready(*id, ELECTION).await?;
    }
    Ok(())
}

/// Has a failover take an asynchronous write away, and asks every node what became of it.
pub(super) async fn lose_one(narrator: &Narrator, cluster: &mut Cluster) -> Result<(), DemoError> {
    let mut attempt = 0;
    let (leader, receipt) = loop {
        let leader = cluster.leader().await.ok_or_else(|| lost("the leader"))?;
        let mut client = connect(cluster, leader).await?;
        line(&mut client, "SET mode:kept 1").await?;
        line(&mut client, "REPL ACK async").await?;
        for id in cluster.ids().into_iter().filter(|id| *id != leader) {
            cluster.kill(id)?;
        }
        if line(&mut client, &format!("SET mode:lost:{attempt} 1")).await.is_ok() {
            break (leader, text(&last(&mut client, "receipt").await?));
        }
        // A machine that was busy for longer than the lease.
        attempt += 1;
        if attempt == ATTEMPTS {
            return Err(DemoError::Check("no asynchronous write within a lease".into()));
        }
        start_others(cluster, leader).await?;
    };
    narrator.tell(format!(
        "both followers are gone; node {leader} still has its lease and acknowledges an \
         asynchronous write, with a receipt"
    ));
    cluster.kill(leader)?;
    start_others(cluster, leader).await?;
    let next = cluster.leader().await.ok_or_else(|| lost("the next leader"))?;
    let term = status(cluster, next).await?.term;
    narrator.tell(format!(
        "node {leader} is gone, too; the others are back, and node {next} leads in term {term}"
    ));
    cluster.start(leader)?;
    cluster.ready(leader, ELECTION).await?;
    for id in cluster.ids() {
        let mut client = connect(cluster, id).await?;
        let fate = text(&line(&mut client, &format!("REPL RESOLVE {receipt}")).await?);
        let found = line(&mut client, &format!("GET mode:lost:{attempt}")).await?;
        narrator.tell(format!("node {id}: the receipt says \"{fate}\"; its key reads {found}"));
        if !fate.starts_with("lost") || found != Reply::Nothing {
            return Err(DemoError::Check(format!("node {id}: {fate}, {found}")));
        }
    }
    Ok(())
}
