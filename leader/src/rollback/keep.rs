//! From the log's suspects to rollback files.

use std::sync::Arc;
use std::time::Duration;

use common::env::Env;
use common::ids::{ClusterId, Epoch};
use common::sometimes;
use common::storage::disk::{Disk, DiskError};
use tokio::sync::broadcast;

use super::file::{self, Header, LostCommand, Writing};
use crate::apply::Applier;
use crate::entry::{Ask, Entry};
use crate::event::Event;
use crate::raft::{Consensus, LostRun};

/// How soon it is tried again to write a file that could not be written.
const AGAIN: Duration = Duration::from_secs(1);

/// Judges what the log drops, and keeps what is lost, as long as the node runs.
pub(crate) async fn keep(
    env: Env,
    consensus: Consensus,
    applier: Arc<dyn Applier>,
    epoch: Epoch,
    events: broadcast::Sender<Event>,
) {
    let mut progress = applier.watch();
    loop {
        progress.borrow_and_update();
        let mut failed = false;
        for tail in tails(consensus.judge_dropped()) {
            let kept = keep_tail(&env.disk, &consensus, applier.as_ref(), epoch, &tail).await;
            match kept {
                Ok(rollback) => {
                    for run in &tail {
                        consensus.settle(run);
                    }
                    if let Some(rollback) = rollback {
                        sometimes!("rolled-back");
                        tracing::warn!(
                            commands = rollback.commands,
                            file = rollback.name,
                            "writes of an earlier term are lost and kept in a rollback file"
                        );
                        let _ = events.send(Event::RolledBack(rollback));
                    }
                }
                Err(error) => {
                    // The log keeps the evidence, and does not shrink, until it can be written.
                    tracing::warn!(%error, "lost writes cannot be kept in a rollback file yet");
                    failed = true;
                }
            }
        }
        consensus.release_settled();
        let wakes = async {
            if failed {
                env.sleep(AGAIN).await;
            } else if consensus.suspects() {
                tokio::select! {
                    () = consensus.dropped() => {}
                    Ok(()) = progress.changed() => {}
                }
            } else {
                consensus.dropped().await;
            }
        };
        wakes.await;
    }
}

/// Lost runs that follow each other in one term: they belong together.
fn tails(mut lost: Vec<LostRun>) -> Vec<Vec<LostRun>> {
    lost.sort_unstable_by_key(|run| (run.term, run.index));
    let mut tails: Vec<Vec<LostRun>> = Vec::new();
    for run in lost {
        match tails.last_mut() {
            Some(tail)
                if tail
                    .last()
                    .is_some_and(|last| (last.term, last.end()) == (run.term, run.index)) =>
            {
                tail.push(run);
            }
            _ => tails.push(vec![run]),
        }
    }
    tails
}

/// Writes the file of a lost tail; none if no command of it is lost that is not in a file yet.
async fn keep_tail(
    disk: &Arc<dyn Disk>,
    consensus: &Consensus,
    applier: &dyn Applier,
    epoch: Epoch,
    tail: &[LostRun],
) -> Result<Option<crate::rollback::Rollback>, DiskError> {
    let names = file::names(disk).await?;
    let known: Vec<_> = names.iter().filter_map(|name| Header::parse(name)).collect();
    let Some(term) = tail.first().map(|run| run.term) else { return Ok(None) };
    let kept = |index: u64| {
        let here = |(e, t, first, last): &(Epoch, u64, u64, u64)| {
            (*e, *t) == (epoch, term) && (*first..=*last).contains(&index)
        };
        known.iter().any(here)
    };
    let mut open = tail.iter().flat_map(|run| run.index..run.end()).filter(|index| !kept(*index));
    let Some(first) = open.next() else { return Ok(None) };
    let last = open.next_back().unwrap_or(first);
    let cluster = applier.applied().cluster.unwrap_or(ClusterId(0));
    let header = Header { cluster, epoch, term, first, last };
    let mut writing: Option<Writing> = None;
    for run in tail {
        copy(disk, consensus, run, header, &kept, &mut writing).await?;
    }
    match writing {
        Some(file) => file.end().await.map(Some),
        None => Ok(None),
    }
}

/// Copies the commands of a lost run that are not `kept` yet; the first one begins the file.
async fn copy(
    disk: &Arc<dyn Disk>,
    consensus: &Consensus,
    run: &LostRun,
    header: Header,
    kept: &(dyn Fn(u64) -> bool + Sync),
    writing: &mut Option<Writing>,
) -> Result<(), DiskError> {
    let mut passed = 0;
    loop {
        let io = |cause: String| DiskError::Io { path: "wal".into(), operation: "read", cause };
        let (read, commands) =
            consensus.read_dropped(run, passed).await.map_err(|error| io(error.to_string()))?;
        if read == 0 {
            return Ok(());
        }
        passed += read;
        let lost: Vec<LostCommand> = commands
            .into_iter()
            .filter(|(at, _)| !kept(at.index))
            .filter_map(|(at, body)| Entry::decode(&body).ok().map(|entry| (at, entry)))
            .flat_map(|(at, entry)| {
                let Ask::Commands(commands) = entry.ask else { return Vec::new() };
                let numbered = commands.list.into_iter().enumerate();
                let lost = numbered.filter(|(_, command)| !command.is_empty());
                let lost = lost.map(|(sub, command)| LostCommand {
                    at,
                    sub: sub as u16,
                    stamp: entry.stamp,
                    client: commands.client,
                    sequence: commands.first + sub as u64,
                    command,
                });
                lost.collect()
            })
            .collect();
        if lost.is_empty() {
            continue;
        }
        let mut file = match writing.take() {
            Some(file) => file,
            None => Writing::begin(disk, header).await?,
        };
        file.add(&lost).await?;
        *writing = Some(file);
    }
}
