//! The write-ahead log: one ordered stream of records with pipelined group commit and strict
//! recovery.
//!
//! Many writers append; one task writes what has queued up as one group, syncs it once, and tells
//! them all. While it syncs, the next group queues up. So the log needs one sync per group, however
//! many wait for it ("group commit").
//!
//! # What it promises
//!
//! - A record whose callback got `Ok` is there after any crash: its bytes were synced, and so were
//!   the name of its segment and of every folder above it.
//! - After a failed write or sync the log is *poisoned*: it takes nothing more, and never asks again.
//!   What such a sync leaves on the disk is unknown, and a second one that succeeds proves nothing
//!   (Rebello et al. 2020, "Can Applications Recover from fsync Failures?").
//! - Opening never skips anything. A *torn write* is a damaged group at the very end: it was never
//!   acknowledged, and is cut off durably before anything is appended. Any other damage refuses the
//!   log and leaves it as it is (Alagappan et al. 2018, "Protocol-Aware Recovery for Consensus-Based
//!   Storage"). How both are told apart is said in `format`: by frames that were written later and
//!   know what was durable then.
//! - On a full disk ordinary records are refused with [`WalError::Full`], and the log goes on by
//!   itself when there is space. One segment is reserved for
//!   [`append_reserved`](Wal::append_reserved): votes, membership, deletes.
//!
//! # Caveats
//!
//! - Rot in the last group of a log that was not closed looks like a torn write, and is cut. To
//!   close the log ([`Wal::close`]) writes a seal behind it, and then it does not.
//! - Segments that are missing at the end, or at the start, are not noticed: the owner knows which
//!   records must be there.
//! - The number of a record that was cut off, or lost in a crash, is given again.
//!
//! # Files of this folder
//!
//! | file | says |
//! | --- | --- |
//! | `format` | the bytes of a segment |
//! | `scan` | which bytes are valid, and torn or damaged what follows |
//! | `recover` | opening |
//! | `writer` | group commit, segments, the full disk |
//! | `segment`, `keeper` | how segments are prepared and removed |
//! | `read`, `recent` | reading, from the disk and from memory |
//! | `state` | what they share |

mod config;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod error;
mod format;
mod keeper;
mod read;
mod recent;
mod recover;
mod scan;
mod segment;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use self::format::frame_size;
use self::recent::Recent;
use self::state::{Durable, Pending, Phase, Shared, State};
use self::writer::{Active, Writer};
use crate::env::Env;

pub use config::{DiskHealth, WalConfig};
pub use error::WalError;
pub use scan::{Inspected, inspect};

/// The number of a record in its log: dense, from 1. Numbers of records that were refused on a full
/// disk after they had been queued stay empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Receives the records of a log when it is opened, in order.
pub trait Replay: Send {
    /// Takes one record; an error refuses the log.
    fn record(&mut self, lsn: Lsn, record: Bytes) -> Result<(), String>;
}

/// Whether records may use the last segment of a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    Ordinary,
    Reserve,
}

/// A write-ahead log. Dropping it without [`Wal::close`] writes what is queued, unless the node
/// dies.
pub struct Wal {
    shared: Arc<Shared>,
}

impl fmt::Debug for Wal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("Wal")
            .field("dir", &self.shared.dir)
            .field("oldest", &state.oldest())
            .field("next", &state.next)
            .field("durable", &state.durable)
            .field("poisoned", &state.poisoned)
            .finish_non_exhaustive()
    }
}

impl Wal {
    /// Opens or makes the log in the folder `dir`, giving every valid record to `replay`. A torn
    /// tail is cut; damage in front of a valid record is refused, and nothing is changed then, but
    /// `replay` may have got the records before the damage.
    pub async fn open(
        env: &Env,
        dir: &str,
        config: WalConfig,
        replay: &mut dyn Replay,
    ) -> Result<Self, WalError> {
        let config = config.clamped();
        let found = recover::recover(env, dir, &config, replay).await?;
        let next = found.next;
        let active = found.segments.back().and_then(|newest| {
            let (file, header) = (newest.file.clone()?, newest.header);
            Some(Active { file, header, offset: newest.end, chain: found.chain })
        });
        let active = active.expect("recovery returns an open segment");
        let state = State {
            phase: Phase::Open,
            queue: VecDeque::new(),
            next,
            durable: Lsn(next.0 - 1),
            recent: Recent::new(next, config.recent_bytes),
            segments: found.segments,
            stock: found.stock,
            last_spare: found.last_spare,
            release_below: Lsn(0),
            poisoned: None,
            full: false,
            room: active.room(),
            queued: 0,
            oldest_taken: None,
            syncs: 0,
            records: 0,
            sync_times: VecDeque::new(),
        };
        let shared = Arc::new(Shared {
            env: env.clone(),
            dir: dir.to_owned(),
            config,
            state: Mutex::new(state),
            work: Notify::new(),
            chores: Notify::new(),
            stocked: Notify::new(),
            ended: Notify::new(),
        });
        let writer = Writer::new(shared.clone(), active, next, found.sealed);
        let keeper = env.spawn("wal keeper", keeper::keep(shared.clone()));
        drop(env.spawn("wal writer", writer.run(keeper)));
        Ok(Self { shared })
    }

    /// Queues records in order and returns the number of the last one. `durable` is called once, in
    /// stream order, when all of them are synced or can never be. Never blocks, never waits.
    ///
    /// Refused records get no numbers, and the number of the last record before them is returned;
    /// `durable` says why. Only on a disk that has just become full, records may be refused that
    /// have their numbers already. `durable` runs in the task that writes, or here once the log is
    /// closed: it should be short, and must not panic.
    pub fn append(
        &self,
        records: Vec<Bytes>,
        durable: impl FnOnce(Result<Lsn, WalError>) + Send + 'static,
    ) -> Lsn {
        self.queue(Right::Ordinary, records, Box::new(durable))
    }

    /// As [`Wal::append`], for records that are needed to get out of trouble (votes, membership,
    /// deletes): on a full disk they may use the reserved segment.
    pub fn append_reserved(
        &self,
        records: Vec<Bytes>,
        durable: impl FnOnce(Result<Lsn, WalError>) + Send + 'static,
    ) -> Lsn {
        self.queue(Right::Reserve, records, Box::new(durable))
    }

    fn queue(&self, right: Right, records: Vec<Bytes>, durable: Durable) -> Lsn {
        let mut state = self.shared.state();
        if state.phase != Phase::Open {
            let last = Lsn(state.next.0 - 1);
            drop(state);
            durable(Err(WalError::Closed));
            return last;
        }
        let admitted = match &state.poisoned {
            Some(reason) => Err(WalError::Poisoned(reason.clone())),
            None => state.admit(&records, right, &self.shared.config),
        };
        let refusal = admitted.err();
        let records = if refusal.is_some() { Vec::new() } else { records };
        for record in &records {
            state.recent.push(record.clone());
            state.queued += frame_size(record.len()) as u64;
        }
        state.next.0 += records.len() as u64;
        let last = Lsn(state.next.0 - 1);
        let (records, at) = (records.into(), self.shared.env.now());
        let pending = Pending { last, records, right, at, refusal, durable, split: false };
        state.queue.push_back(pending);
        drop(state);
        self.shared.work.notify_one();
        last
    }

    /// Returns when everything appended before is durable or was refused, with the number of the
    /// last record.
    pub async fn sync(&self) -> Result<Lsn, WalError> {
        let (tell, told) = oneshot::channel();
        self.append(Vec::new(), move |done| {
            let _ = tell.send(done);
        });
        told.await.unwrap_or(Err(WalError::Closed))
    }

    /// Records from `from` on, up to `max_bytes` of them, at least one where there is one. Also
    /// those that are not synced yet.
    pub async fn read(&self, from: Lsn, max_bytes: usize) -> Result<Vec<(Lsn, Bytes)>, WalError> {
        read::read(&self.shared, from, max_bytes).await
    }

    /// Allows segments that hold only records below `below` to be removed. They go in the
    /// background, oldest first.
    pub fn release(&self, below: Lsn) {
        let mut state = self.shared.state();
        state.release_below = state.release_below.max(below);
        drop(state);
        self.shared.chores.notify_one();
    }

    /// The number of the last record that was queued; 0 before the first.
    pub fn last(&self) -> Lsn {
        Lsn(self.shared.state().next.0 - 1)
    }

    /// The number of the oldest record that can still be read, or of the next one when there is
    /// none.
    pub fn oldest(&self) -> Lsn {
        self.shared.state().oldest()
    }

    /// Whether the disk is full but for the reserve. Cheap: as often asked as there are writes.
    pub fn is_full(&self) -> bool {
        self.shared.state().full
    }

    /// How the disk is doing. Sorts the recent times of syncs: for people and for rare decisions.
    pub fn health(&self) -> DiskHealth {
        let now = self.shared.env.now();
        let state = self.shared.state();
        let queued = state.queue.front().map(|pending| pending.at);
        let oldest = state.oldest_taken.or(queued);
        DiskHealth {
            oldest_unsynced_micros: oldest.map_or(0, |at| now.since(at).as_micros() as u64),
            sync_p99_micros: state.sync_p99().as_micros() as u64,
            poisoned: state.poisoned.clone(),
            full: state.full,
            bytes: state.segments.iter().map(|segment| segment.header.bytes).sum(),
            syncs: state.syncs,
            records: state.records,
        }
    }

    /// Stops taking records, writes and syncs what is queued, and ends the log's tasks.
    pub async fn close(&self) -> Result<(), WalError> {
        self.start_closing();
        loop {
            let mut ended = std::pin::pin!(self.shared.ended.notified());
            ended.as_mut().enable();
            {
                let state = self.shared.state();
                if state.phase == Phase::Ended {
                    return state.poisoned.clone().map_or(Ok(()), |r| Err(WalError::Poisoned(r)));
                }
            }
            ended.await;
        }
    }

    fn start_closing(&self) {
        let mut state = self.shared.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Drop for Wal {
    fn drop(&mut self) {
        self.start_closing();
    }
}
