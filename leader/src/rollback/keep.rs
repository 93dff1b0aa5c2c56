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
        let lost = consensus.judge_dropped();
        let mut failed = false;
        for run in lost {
            let kept = keep_run(&env.disk, &consensus, applier.as_ref(), epoch, &run).await;
            match kept {
                Ok(rollback) => {
                    consensus.settle(&run);
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

/// Writes the file of a lost run; none if no command of it is lost that is not in a file yet.
async fn keep_run(
    disk: &Arc<dyn Disk>,
    consensus: &Consensus,
    applier: &dyn Applier,
    epoch: Epoch,
    run: &LostRun,
) -> Result<Option<crate::rollback::Rollback>, DiskError> {
    let names = file::names(disk).await?;
    let known: Vec<_> = names.iter().filter_map(|name| Header::parse(name)).collect();
    let kept = |index: u64| {
        known.iter().any(|(e, term, first, last)| {
            (*e, *term) == (epoch, run.term) && (*first..=*last).contains(&index)
        })
    };
    let open: Vec<u64> = (run.index..run.end()).filter(|index| !kept(*index)).collect();
    let (Some(first), Some(last)) = (open.first().copied(), open.last().copied()) else {
        return Ok(None);
    };
    let cluster = applier.applied().cluster.unwrap_or(ClusterId(0));
    let header = Header { cluster, epoch, term: run.term, first, last };
    let mut writing: Option<Writing> = None;
    let mut passed = 0;
    loop {
        let io = |cause: String| DiskError::Io { path: "wal".into(), operation: "read", cause };
        let (read, commands) =
            consensus.read_dropped(run, passed).await.map_err(|error| io(error.to_string()))?;
        if read == 0 {
            break;
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
        writing = Some(file);
    }
    match writing {
        Some(file) => file.end().await.map(Some),
        None => Ok(None),
    }
}
