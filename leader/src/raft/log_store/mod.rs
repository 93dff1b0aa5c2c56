//! The Raft log on disk: entries, votes and marks as one ordered stream of records.
//!
//! One stream, because a vote and an entry may never change places: whoever replays a prefix of it
//! gets a state that this node has been in. Truncation and purge are records, too, so nothing is
//! rewritten; the space of dropped records is freed by the segment.
//!
//! | file | says |
//! | --- | --- |
//! | `record` | the bytes of each record |
//! | `replay` | from the stream to the state, when the log is opened |
//! | `storage` | openraft's writes: what is queued, and who is told when it is durable |
//! | `reader` | openraft's reads, by pages |
//! | `reconcile` | when the state machine and the log disagree after a crash |
//! | `index`, `cache` | which record holds which entry; the newest entries in memory |
//! | `suspects` | entries that were dropped and may have been lost by it |
//!
//! **A full disk.** What reaches this log was proposed already, by this node or by its leader, and
//! must not be lost. So all of it may use the space that the `Wal` holds back, and the refusal comes
//! earlier: a leader refuses to propose batches that grow, and a follower refuses appends that
//! contain such (`Growth`), while [`LogStore::health`] says `full`. Both go on to vote, to change
//! members and to delete. What is in flight at that moment is bounded by the
//! leader's limits. Only when even the reserve is used up an append fails, and then the node stops
//! with its log as it is.

mod cache;
mod index;
mod reader;
mod reconcile;
mod record;
mod replay;
mod storage;
mod suspects;
mod tails;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use common::env::Env;
use common::ids::{Epoch, LogPos, NodeId};
use common::storage::wal::{DiskHealth, Lsn, Wal, WalError};

use super::acks::Acks;
use super::type_config::Entry;
use crate::config::Config;
use crate::error::OpenError;
use crate::message::Vote;
use cache::Cache;
use index::Index;
pub(crate) use index::Run;
pub(crate) use reader::LogReader;
use record::Record;
pub(crate) use record::{EntryRecord, MalformedRecord};
use replay::Replaying;
pub(crate) use suspects::Judgement;
use suspects::Suspects;
use tails::Tails;
use tokio::sync::Notify;

/// Where the log is in the node's folder.
const FOLDER: &str = "wal";

/// The log of one node. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Shared>);

struct Shared {
    env: Env,
    node: NodeId,
    wal: Wal,
    acks: Acks,
    state: Mutex<State>,
    /// Told when entries are dropped.
    dropped: Notify,
    /// The first failure of the log. There is no second: nothing counts any more.
    failed: Arc<OnceLock<WalError>>,
}

/// What the records so far amount to.
#[derive(Debug)]
struct State {
    epoch: Epoch,
    vote: Option<Vote>,
    committed: Option<LogPos>,
    /// Known to be committed, but no record says so yet: it goes along with the next record.
    unsaved_committed: Option<LogPos>,
    purged: Option<LogPos>,
    index: Index,
    cache: Cache,
    tails: Tails,
    suspects: Suspects,
}

impl State {
    fn new(cache_bytes: usize) -> Self {
        Self {
            epoch: Epoch::default(),
            vote: None,
            committed: None,
            unsaved_committed: None,
            purged: None,
            index: Index::default(),
            cache: Cache::new(cache_bytes),
            tails: Tails::default(),
            suspects: Suspects::default(),
        }
    }

    /// The last entry, or the purge point when there is none behind it.
    fn last(&self) -> Option<LogPos> {
        self.index.last().or(self.purged)
    }

    /// Drops all entries after a position.
    fn truncate_after(&mut self, after: Option<LogPos>) {
        let from = after.map_or(0, |at| at.index + 1);
        self.suspects.add(self.index.truncate_from(from));
        self.cache.truncate_from(from);
    }

    /// Drops all entries up to a position.
    fn purge(&mut self, upto: LogPos) {
        if self.purged < Some(upto) {
            self.purged = Some(upto);
        }
        self.suspects.add(self.index.purge_below(upto.index + 1));
        self.cache.purge_below(upto.index + 1);
    }
}

impl fmt::Debug for LogStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogStore")
            .field("node", &self.0.node)
            .field("last", &self.last())
            .finish_non_exhaustive()
    }
}

impl LogStore {
    /// Opens or makes the log. `acks` learns of its syncs from now on.
    pub(crate) async fn open(env: &Env, config: &Config, acks: Acks) -> Result<Self, OpenError> {
        let mut replaying = Replaying::new(config.log_cache_bytes);
        let wal = Wal::open(env, FOLDER, config.wal.clone(), &mut replaying).await?;
        let (state, resume) = replaying.finish(wal.last());
        // Whatever can be replayed is durable, or was made so by opening.
        if let Some(last) = state.index.last() {
            acks.synced(last, acks.cuts());
        }
        let (env, node) = (env.clone(), config.node);
        let (state, failed, dropped) = (Mutex::new(state), Arc::default(), Notify::new());
        let log = Self(Arc::new(Shared { env, node, wal, acks, state, dropped, failed }));
        if resume {
            common::sometimes!("log-resumed-behind-a-refused-record");
            log.enqueue(&mut log.state(), vec![Record::Resumed.encode()], |_| {})?;
            log.sync().await?;
        }
        Ok(log)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The vote in force, if this node has ever voted.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.state().vote
    }

    /// The last entry known to be committed that is in this log or before it. After a crash it may
    /// be older than what this node knew.
    pub(crate) fn committed(&self) -> Option<LogPos> {
        let state = self.state();
        let marked = state.unsaved_committed.max(state.committed)?;
        // A mark that outlived its entry says nothing about the entry that is there now; what was
        // purged was committed.
        let found = state.index.find(marked.index).map(|(at, _)| at);
        if found == Some(marked) { found } else { state.purged.min(Some(marked)) }
    }

    /// The last entry that was dropped behind a checkpoint.
    pub(crate) fn purged(&self) -> Option<LogPos> {
        self.state().purged
    }

    /// The first entry that can be read.
    #[cfg(test)]
    pub(crate) fn first(&self) -> Option<LogPos> {
        self.state().index.first()
    }

    /// The last entry, or the purge point when there is none behind it.
    pub(crate) fn last(&self) -> Option<LogPos> {
        self.state().last()
    }

    /// The terms of all entries that can be read, by index.
    pub(crate) fn terms(&self) -> BTreeMap<u64, u64> {
        let state = self.state();
        let (first, last) = (state.index.first(), state.index.last());
        let indexes = first.map_or(1, |at| at.index)..=last.map_or(0, |at| at.index);
        let found = indexes.filter_map(|index| state.index.find(index));
        found.map(|(at, _)| (at.index, at.term)).collect()
    }

    /// How the disk under the log is doing.
    pub(crate) fn health(&self) -> DiskHealth {
        self.0.wal.health()
    }

    /// Whether the disk under the log is full but for its reserve.
    pub(crate) fn is_full(&self) -> bool {
        self.0.wal.is_full()
    }

    /// Returns when everything appended before is durable. A checkpoint calls this before it
    /// counts, so that no state is ever durable before its log.
    pub(crate) async fn sync(&self) -> Result<(), WalError> {
        self.save_committed_now();
        self.0.wal.sync().await?;
        self.0.failed.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    /// Writes and syncs what is queued, and ends the log's tasks.
    pub(crate) async fn close(&self) -> Result<(), WalError> {
        self.save_committed_now();
        self.0.wal.close().await
    }

    /// A handle to read with.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader::new(self.clone())
    }

    /// Queues records behind all others and returns the number of the first; a commit mark that
    /// waits for company goes along. The caller's lock is held over both, so that the state and the
    /// stream agree on the order.
    ///
    /// `durable` gets the number of the last one. Once one record has failed, none behind it counts:
    /// a later one may still reach the disk, but without what it builds on.
    fn enqueue(
        &self,
        state: &mut State,
        mut records: Vec<Bytes>,
        durable: impl FnOnce(Result<Lsn, WalError>) + Send + 'static,
    ) -> Result<Lsn, WalError> {
        let failed = self.0.failed.clone();
        if let Some(e) = failed.get() {
            durable(Err(e.clone()));
            return Err(e.clone());
        }
        let count = records.len() as u64;
        if let Some(committed) = state.unsaved_committed.take() {
            state.committed = Some(committed);
            // Behind the others: entries keep their place next to each other.
            records.push(Record::Committed(committed).encode());
        }
        let queued = records.len() as u64;
        let before = self.0.wal.last();
        let last = self.0.wal.append_reserved(records, move |result| {
            let result = failed.get().map_or(result, |e| Err(e.clone()));
            if let Err(e) = &result {
                let _ = failed.set(e.clone());
            }
            durable(result.map(|last| Lsn(last.0 - (queued - count))));
        });
        if last.0 - before.0 != queued {
            let poisoned = || self.health().poisoned.map_or(WalError::Closed, WalError::Poisoned);
            return Err(self.0.failed.get().cloned().unwrap_or_else(poisoned));
        }
        Ok(Lsn(before.0 + 1))
    }

    /// Writes the commit mark that waits for company, if one does. On a full disk it goes on
    /// waiting: it is worth no reserve.
    fn save_committed_now(&self) {
        let mut state = self.state();
        if state.unsaved_committed.is_some() && !self.is_full() {
            // A failure stops the node by way of the next record that somebody waits for.
            let _ = self.enqueue(&mut state, Vec::new(), |_| {});
        }
    }
}

/// The bytes of an entry on the wire: the record that it has in the log of whoever sends it.
pub(crate) fn wire_entry(entry: &Entry) -> Bytes {
    // A batch brings its record, with the epoch it was proposed in. What is encoded anew, a leader's
    // first entry or a configuration, gets the epoch of each log it comes to.
    EntryRecord::of(entry, Epoch::default()).bytes
}

/// The entry that came as these bytes.
pub(crate) fn unwire_entry(bytes: Bytes) -> Result<Entry, MalformedRecord> {
    EntryRecord::decode(bytes)?.into_entry()
}

/// How openraft takes a failure of the log: as one that stops the node.
fn io_error(e: WalError) -> io::Error {
    io::Error::other(e)
}
