//! The change feed: what applied commands did, in the order of the log, without a gap or with one
//! that is told.
//!
//! The log holds commands, and what a command does depends on the state: a condition may not hold, a
//! repetition has no effect, a sweep finds its keys by itself. So every member writes down what each
//! entry has changed when it applies it, in the same atomic batch, for as long as the log holds the
//! entry:
//!
//! ```text
//! apply        state, and the entry's changes at its index          one batch
//! log purged   the changes up to there go, too                      Compacted from then on
//! snapshot     a state without the entries that led to it           Compacted from then on
//! watch        reads from its position up to what is applied
//! ```
//!
//! Only applied entries are in it, so nothing that is told is ever taken back, and a position means
//! the same on every member: a watcher goes on anywhere with the last position it has seen. It reads
//! pages when it wants them and keeps one of them, so a slow watcher costs a page of memory and never
//! waits for, nor holds up, what is applied. When what it still needs is purged meanwhile it gets
//! [`WatchError::Compacted`]. A [`Hold`] keeps the log, up to a cap.
//!
//! What it does not do: a member that installed a snapshot has no changes from before it, even if
//! others have; holds are of one node and end with its process.

pub(crate) mod feed;
pub(crate) mod hold;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::sometimes;
use common::storage::engine::{EngineError, Keyspace};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::apply::Applier;
use crate::node::{Node, Role};
use crate::raft::Consensus;
use crate::state_machine::StateMachine;

pub use hold::{Hold, HoldError};

/// How often a watcher without news is told how far the feed is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What a command has done to one key. The order of the variants is the format on disk: new ones go
/// to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// The key has this value from here on.
    Put {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
    },
    /// The key has changed, and its value is not told: it is no plain one, or a large one. Read it.
    Changed {
        /// The key.
        key: Bytes,
    },
    /// The key is gone.
    Deleted {
        /// The key.
        key: Bytes,
    },
    /// The key is gone, since its deadline has passed.
    Expired {
        /// The key.
        key: Bytes,
    },
    /// All keys are gone.
    Cleared,
}

impl Change {
    /// The key it is about; none if it is about all.
    pub const fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Put { key, .. }
            | Self::Changed { key }
            | Self::Deleted { key }
            | Self::Expired { key } => Some(key),
            Self::Cleared => None,
        }
    }
}

/// A row of the machine that a command has changed, for [`StateMachine::changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangedRow {
    /// The row's keyspace.
    pub keyspace: Keyspace,
    /// The row's key.
    pub key: Bytes,
    /// What it holds after the command; none if it is gone.
    pub value: Option<Bytes>,
}

/// What one entry of the log has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Where the entry stands: resume after it.
    pub at: LogPos,
    /// Its time by the replicated clock.
    pub clock: Hlc,
    /// The changes in order, each with the number of its command within the entry. Never empty.
    pub list: Vec<(u16, Change)>,
}

/// What a watcher gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Watched {
    /// An entry has changed something that the watcher asked for. The entry is whole.
    Changes(Changes),
    /// All changes up to here are told: resume after it.
    Progress(LogPos),
}

/// Where a watcher begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// With the first entry of the log, if it is still there.
    Start,
    /// After what this node has applied now.
    Now,
    /// After this entry, wherever its position came from. One that this node has not applied yet is
    /// waited for.
    After(LogPos),
}

/// Which changes are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// Those of keys that begin so. Default: all. What is about all keys is always told.
    pub prefix: Bytes,
}

impl Filter {
    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        Self { prefix: prefix.into() }
    }

    fn wants(&self, change: &Change) -> bool {
        change.key().is_none_or(|key| key.starts_with(&self.prefix))
    }
}

/// Why a watcher gets nothing more. Nothing between its position and the error was told, and nothing
/// before it was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The changes after the watcher's position are not all here any more.
    #[error(
        "the changes after {} are not all on this node any more, the oldest position to go on from \
         is {}; read the state and watch from there, or ask another node", told(*after), told(*oldest)
    )]
    Compacted {
        /// The watcher's position; none before the first entry.
        after: Option<LogPos>,
        /// The oldest position that can be gone on from.
        oldest: Option<LogPos>,
    },
    /// The position is not in this cluster's history.
    #[error("{}.{} is no position in this cluster's history; was it another cluster's?", at.term, at.index)]
    Unknown {
        /// The position.
        at: LogPos,
    },
    /// This node keeps no changes.
    #[error("this node keeps no changes: `change_feed` is off in its configuration")]
    Off,
    /// Reading failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The node is stopping or has failed. Go on at another one.
    #[error("node {0} is stopping; go on at another node with the last position")]
    Stopping(NodeId),
}

fn told(at: Option<LogPos>) -> String {
    at.map_or_else(|| "the start".to_owned(), |at| format!("{}.{}", at.term, at.index))
}

/// A watcher of the change feed. Dropping it ends it.
#[derive(Debug)]
pub struct Watch {
    env: Env,
    consensus: Consensus,
    applier: Arc<dyn Applier>,
    progress: watch::Receiver<Option<LogPos>>,
    stopping: watch::Receiver<bool>,
    filter: Filter,
    /// All changes up to here are told, or not wanted.
    after: Option<LogPos>,
    /// Whether `after` is known to be in the history.
    known: bool,
    /// What was read and not told yet.
    page: VecDeque<Changes>,
    /// How far the page goes.
    upto: Option<LogPos>,
    /// When progress is told next.
    beat: Mono,
    ended: Option<WatchError>,
}

impl Watch {
    pub(crate) fn new(
        (env, consensus, applier): (&Env, &Consensus, Arc<dyn Applier>),
        stopping: watch::Receiver<bool>,
        from: WatchFrom,
        filter: Filter,
    ) -> Self {
        let progress = applier.watch();
        let (after, known) = match from {
            WatchFrom::Start => (None, true),
            WatchFrom::Now => (applier.applied().at, true),
            WatchFrom::After(at) => (Some(at), false),
        };
        Self {
            env: env.clone(),
            consensus: consensus.clone(),
            applier,
            progress,
            stopping,
            filter,
            after,
            known,
            page: VecDeque::new(),
            upto: after,
            beat: env.now() + PROGRESS_EVERY,
            ended: None,
        }
    }

    /// The position to go on from, here or on another node: everything before it is told. None
    /// before the first entry.
    pub const fn position(&self) -> Option<LogPos> {
        self.after
    }

    /// The next changes, or how far the feed is without any. Waits for them; a call that is dropped
    /// loses nothing. After an error it returns the same error again.
    pub async fn next(&mut self) -> Result<Watched, WatchError> {
        loop {
            if let Some(changes) = self.page.pop_front() {
                self.after = Some(changes.at);
                self.beat = self.env.now() + PROGRESS_EVERY;
                return Ok(Watched::Changes(changes));
            }
            self.after = self.upto;
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            match self.turn().await {
                Ok(None) => {}
                Ok(Some(at)) => return Ok(Watched::Progress(at)),
                Err(error) => self.ended = Some(error),
            }
        }
    }

    /// Reads the next page, or waits for one; a position if it is time to tell it.
    async fn turn(&mut self) -> Result<Option<LogPos>, WatchError> {
        let stopped = WatchError::Stopping(self.env.node);
        if *self.stopping.borrow() {
            return Err(stopped);
        }
        self.progress.borrow_and_update();
        let more = self.read()?;
        if !self.page.is_empty() {
            return Ok(None);
        }
        if more {
            // Nothing of this page is wanted: others get their turn before the next one.
            tokio::task::yield_now().await;
            return Ok(None);
        }
        let changed = async {
            tokio::select! {
                moved = self.progress.changed() => moved.is_ok(),
                _ = self.stopping.wait_for(|stopping| *stopping) => false,
            }
        };
        match self.env.timeout_at(self.beat, changed).await {
            Ok(true) => Ok(None),
            Ok(false) => Err(stopped),
            Err(_) if self.consensus.view().role == Role::Stopped => Err(stopped),
            Err(_) => {
                self.beat = self.env.now() + PROGRESS_EVERY;
                self.after = self.upto;
                Ok(self.after.filter(|_| self.known))
            }
        }
    }

    /// Reads a page behind what is told. Whether there is more behind it.
    fn read(&mut self) -> Result<bool, WatchError> {
        let cut = self.applier.feed()?;
        let Some(applied) = cut.applied else { return Ok(false) };
        if let Some(at) = self.after.filter(|_| !self.known) {
            if applied.index < at.index {
                return Ok(false);
            }
            let judged = self.applier.judge(at.term, at.index..at.index + 1);
            if judged.committed <= at.index {
                return Err(WatchError::Unknown { at });
            }
            self.known = true;
        }
        if feed::index(self.after) < feed::index(cut.floor) {
            sometimes!("watch-compacted");
            return Err(WatchError::Compacted { after: self.after, oldest: cut.floor });
        }
        let (page, more) = cut.page(self.after)?;
        let last = page.last().map(|changes| changes.at);
        self.upto = if more { last } else { Some(applied) };
        for mut changes in page {
            changes.list.retain(|(_, change)| self.filter.wants(change));
            if !changes.list.is_empty() {
                self.page.push_back(changes);
            }
        }
        Ok(more)
    }
}

impl<M: StateMachine> Node<M> {
    /// Watches what is changed, from a position on, on this node: see [`crate::watch`].
    pub fn watch(&self, from: WatchFrom, filter: Filter) -> Result<Watch, WatchError> {
        self.group().watch(from, filter)
    }

    /// Keeps the log, and with it the changes after `hold.after`, for those who will watch them:
    /// until it is released, expires or is over its cap. A hold of that name is replaced: so it is
    /// moved, and its time begins anew. It is of this node and ends with its process.
    pub fn hold(&self, hold: Hold) -> Result<(), HoldError> {
        self.group().hold(hold)
    }

    /// Ends a hold; whether there was one.
    pub fn release(&self, name: &str) -> bool {
        self.group().holds.release(name)
    }

    /// The holds in force.
    pub fn holds(&self) -> Vec<Hold> {
        self.group().holds.list()
    }
}
