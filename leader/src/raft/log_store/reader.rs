//! What openraft reads: pages of bounded size, from the cache while they are new.

use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};

use common::ids::LogPos;
use common::storage::wal::{Lsn, WalError};
use futures::{Stream, TryStreamExt, stream};
use openraft::storage::RaftLogReader;

use super::record::{EntryRecord, Record};
use super::{LogStore, io_error};
use crate::raft::type_config::{Entry, RaftVote, TypeConfig, raft_vote};

/// The most bytes of one page, unless its first entry alone is larger.
pub(super) const PAGE_BYTES: usize = 1 << 20;

/// Reads the log. What an append has returned for is visible at once.
#[derive(Clone)]
pub(crate) struct LogReader {
    log: LogStore,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogReader")
    }
}

/// Where the entries of a page are.
enum Place {
    /// In the cache, and here they are.
    Cached(Vec<EntryRecord>),
    /// In the log, from this record on.
    Logged(Lsn),
}

impl LogReader {
    pub(super) const fn new(log: LogStore) -> Self {
        Self { log }
    }

    /// The range, cut to what the log contains.
    fn clip(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let state = self.log.state();
        match (state.index.first(), state.index.last()) {
            (Some(first), Some(last)) => (start.max(first.index), end.min(last.index + 1)),
            _ => (start, start),
        }
    }

    fn place(&self, start: u64, end: u64) -> Option<Place> {
        let state = self.log.state();
        if state.cache.get(start).is_none() {
            return state.index.find(start).map(|(_, lsn)| Place::Logged(lsn));
        }
        let (mut page, mut bytes) = (Vec::new(), 0);
        for index in start..end {
            let Some(entry) = state.cache.get(index) else { break };
            bytes += entry.bytes.len();
            if bytes > PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(entry.clone());
        }
        Some(Place::Cached(page))
    }

    /// The first entries of `start..end`, at most a page. Empty when they are not there.
    async fn page(&self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let records = match self.place(start, end) {
            None => return Ok(Vec::new()),
            Some(Place::Cached(records)) => records,
            Some(Place::Logged(lsn)) => self.logged(lsn, start, end).await?,
        };
        records
            .into_iter()
            .map(EntryRecord::into_entry)
            .collect::<Result<_, _>>()
            .map_err(io::Error::other)
    }

    /// Entries from the log's files. Other records lie between them, and entries that were
    /// truncated later: an entry counts when the index says that it is in this very record.
    async fn logged(&self, lsn: Lsn, start: u64, end: u64) -> Result<Vec<EntryRecord>, io::Error> {
        let (mut from, mut next, mut page) = (lsn, start, Vec::new());
        while page.is_empty() && next < end {
            let records = match self.log.0.wal.read(from, PAGE_BYTES).await {
                Ok(records) => records,
                // Purged since the index was asked.
                Err(WalError::Released { .. }) => break,
                Err(e) => return Err(io_error(e)),
            };
            let Some((last, _)) = records.last() else { break };
            from = Lsn(last.0 + 1);
            for (lsn, record) in records {
                let Record::Entry(entry) = Record::decode(record).map_err(io::Error::other)? else {
                    continue;
                };
                if entry.at.index == next && next < end && self.holds(entry.at, lsn) {
                    next += 1;
                    page.push(entry);
                }
            }
        }
        Ok(page)
    }

    fn holds(&self, at: LogPos, lsn: Lsn) -> bool {
        self.log.state().index.find(at.index) == Some((at, lsn))
    }

    /// The pages of a range, one after the other.
    fn pages<R: RangeBounds<u64>>(
        &self,
        range: &R,
    ) -> impl Stream<Item = Result<Vec<Entry>, io::Error>> + Send + use<R> {
        let (start, end) = self.clip(range);
        stream::try_unfold((self.clone(), start), move |(reader, start)| async move {
            if start >= end {
                return Ok(None);
            }
            let page = reader.page(start, end).await?;
            let Some(last) = page.last() else {
                // The range was cut to what the log holds, so only a purge or a truncation since
                // can take entries away, and both leave none of the rest.
                return Ok(None);
            };
            let next = last.log_id.index + 1;
            Ok(Some((page, (reader, next))))
        })
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + Send,
    {
        self.pages(&range).try_concat().await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        if start >= end { Ok(Vec::new()) } else { self.page(start, end).await }
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + fmt::Debug + Send,
    {
        self.pages(&range).map_ok(|page| stream::iter(page.into_iter().map(Ok))).try_flatten()
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        Ok(self.log.vote().map(raft_vote))
    }
}
