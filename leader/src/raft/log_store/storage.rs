//! What openraft writes.
//!
//! The core awaits each of these calls before it does anything else, heartbeats included, so they
//! queue and return. Only a vote waits for its sync: a candidate may not ask for votes, and a voter
//! may not answer, before its own vote would survive a crash.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use common::ids::LogPos;
use common::storage::wal::{Lsn, WalError};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tokio::sync::oneshot;

use super::record::{EntryRecord, Record};
use super::{LogReader, LogStore, io_error};
use crate::error::OpenError;
use crate::message::Vote;
use crate::raft::type_config::{Entry, LogId, RaftVote, TypeConfig, log_id, position, vote};

/// How long a commit mark waits for another record to go along with, before it gets a write and a
/// sync of its own. Only an idle node waits that long, and only its marks do.
const MARK_PATIENCE: Duration = Duration::from_millis(100);

impl LogStore {
    /// Appends entries; `durable` is called with the position of the last one once all are synced.
    pub(super) fn append_entries(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        durable: impl FnOnce(Result<(), io::Error>) + Send + 'static,
    ) -> Result<(), io::Error> {
        let mut state = self.state();
        let mut appended = Vec::new();
        for mut entry in entries {
            let record = EntryRecord::of(&entry, state.epoch);
            if let EntryPayload::Normal(cmd) = &mut entry.payload
                && let Some(slot) = cmd.slot.take()
            {
                let follows = slot.batch().is_some_and(|b| state.tails.append(record.at, b));
                slot.note(record.at, common::mutate!("early_ack_over_a_gap", follows, true));
            }
            appended.push(record);
        }
        let (Some(first), Some(last)) = (appended.first(), appended.last().map(|e| e.at)) else {
            drop(state);
            durable(Ok(()));
            return Ok(());
        };
        state.index.follows(first.at.index).map_err(io::Error::other)?;
        let records = appended.iter().map(|entry| entry.bytes.clone()).collect();
        let (acks, cuts) = (self.0.acks.clone(), self.0.acks.cuts());
        let first = self.enqueue(&mut state, records, move |synced| match synced {
            Ok(_) => {
                durable(Ok(()));
                acks.synced(last, cuts);
            }
            Err(e) => durable(Err(io_error(e))),
        });
        for (lsn, entry) in (first.map_err(io_error)?.0..).map(Lsn).zip(appended) {
            state.index.push(entry.at, lsn).map_err(io::Error::other)?;
            state.cache.push(entry);
        }
        Ok(())
    }

    /// The first vote of a log that was made for a state from elsewhere.
    pub(crate) async fn begin(&self, vote: Vote) -> Result<(), OpenError> {
        self.save(vote).await.map_err(|error| OpenError::Inconsistent(error.to_string()))
    }

    /// Saves a vote and returns when it is durable.
    async fn save(&self, vote: Vote) -> Result<(), io::Error> {
        let (synced, receive) = oneshot::channel();
        {
            let mut state = self.state();
            state.vote = Some(vote);
            let record = Record::Vote(vote).encode();
            self.enqueue(&mut state, vec![record], |result| drop(synced.send(result)))
                .map_err(io_error)?;
        }
        // From here on, replies to the streams of an older term count no more.
        if vote.established && vote.node == self.0.node {
            self.0.acks.lead(vote.term);
        } else {
            self.0.acks.follow();
        }
        let ended = || io::Error::other("the log ended before the vote was durable");
        common::mutate!(
            "vote_not_durable",
            receive.await.map_err(|_| ended())?.map(|_| ()).map_err(io_error),
            {
                drop(receive);
                let _ = ended;
                Ok(())
            }
        )
    }

    /// Notes that entries up to `at` are committed, without a sync of its own while others come.
    fn note_committed(&self, at: LogPos) {
        let mut state = self.state();
        let waits = state.unsaved_committed.is_some();
        if state.committed.max(state.unsaved_committed) >= Some(at) {
            return;
        }
        state.unsaved_committed = Some(at);
        drop(state);
        if !waits {
            let shared = Arc::downgrade(&self.0);
            let patience = self.0.env.sleep(MARK_PATIENCE);
            self.0.env.spawn("commit mark", async move {
                patience.await;
                if let Some(shared) = shared.upgrade() {
                    Self(shared).save_committed_now();
                }
            });
        }
    }

    pub(super) fn truncate(&self, after: Option<LogPos>) -> Result<(), WalError> {
        let mut state = self.state();
        state.truncate_after(after);
        let record = Record::Truncate(after).encode();
        self.enqueue(&mut state, vec![record], |_| {})?;
        drop(state);
        self.0.acks.truncated(after);
        self.0.dropped.notify_one();
        Ok(())
    }

    /// Drops entries up to `upto`. Their segments go once the records that a replay needs, and that
    /// may be in no other segment, are durable behind them, and none of the entries is a suspect.
    pub(super) fn purge_upto(&self, upto: LogPos) -> Result<(), WalError> {
        let mut state = self.state();
        state.purge(upto);
        let mut records = vec![Record::Epoch(state.epoch).encode()];
        records.extend(state.vote.map(|vote| Record::Vote(vote).encode()));
        let committed = state.unsaved_committed.take().max(state.committed);
        state.committed = committed;
        records.extend(committed.map(|at| Record::Committed(at).encode()));
        records.push(Record::Purged(state.purged.unwrap_or(upto)).encode());
        let count = records.len() as u64;
        let needed = state.index.first_lsn();
        let shared = Arc::downgrade(&self.0);
        self.enqueue(&mut state, records, move |synced| {
            if let (Ok(last), Some(shared)) = (synced, shared.upgrade()) {
                let first = Lsn(last.0 + 1 - count);
                let log = Self(shared);
                log.state().suspects.release(needed.unwrap_or(first));
                log.0.dropped.notify_one();
            }
        })?;
        Ok(())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.state();
        Ok(LogState {
            last_purged_log_id: state.purged.map(log_id),
            last_log_id: state.last().map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, v: &RaftVote) -> Result<(), io::Error> {
        self.save(vote(v)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.note_committed(position(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed().map(log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.append_entries(entries, move |synced| callback.io_completed(synced))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.truncate(last.as_ref().map(position)).map_err(io_error)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.purge_upto(position(&upto)).map_err(io_error)
    }
}
