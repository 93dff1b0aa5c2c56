//! What connections dispatch to: a replicated machine, or one in this process.
//!
//! Everything that a command needs from replication is these three functions, so that a connection
//! is the same over a cluster and, in tests and benches, over a map in memory.

mod local;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::clock::Hlc;
use common::ids::{LogPos, NodeId};
use common::storage::engine::{EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use futures::future::BoxFuture;
use leader::error::{ReadError, WriteError};
use leader::{ReadLevel, ReadOptions, Role, WriteOptions};

use crate::redis::{Command, Redis, Reply};

pub use local::Local;

/// A write that has taken place and is durable on a majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the machine answered.
    pub reply: Reply,
    /// Where it stands in the log.
    pub at: LogPos,
}

/// A consistent cut of the state.
#[derive(Clone)]
pub struct View {
    /// The state.
    pub state: Arc<dyn Read>,
    /// The replicated clock: what is due by it is gone.
    pub clock: Hlc,
    /// The best knowledge of the leader's clock, for remaining times.
    pub now: Hlc,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Read for View {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.state.get(keyspace, key)
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        self.state.scan(keyspace, range, limit)
    }
}

/// What a node knows of its group, as far as clients ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What this node is doing.
    pub role: Role,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last entry it has applied.
    pub applied: Option<LogPos>,
    /// Members with a vote.
    pub voters: Vec<NodeId>,
    /// On the leader: the last entry that each member is known to hold durably.
    pub matched: BTreeMap<NodeId, Option<LogPos>>,
}

/// Where commands are written and states are read.
pub trait Backend: Send + Sync + 'static {
    /// Gives the command its place in this node's order **now**; the future waits for its
    /// acknowledgement, and need not be polled for the command to get on.
    fn submit(&self, command: Command) -> BoxFuture<'static, Result<Applied, WriteError>>;

    /// A consistent cut, as fresh as asked for.
    fn view(&self, level: ReadLevel) -> BoxFuture<'_, Result<View, ReadError>>;

    /// What is known of the group. Never waits.
    fn standing(&self) -> Standing;
}

impl Backend for leader::Node<Redis> {
    fn submit(&self, command: Command) -> BoxFuture<'static, Result<Applied, WriteError>> {
        let written = self.write(command, WriteOptions::default());
        Box::pin(async move {
            let written = written.await?;
            Ok(Applied { reply: written.reply, at: written.at })
        })
    }

    fn view(&self, level: ReadLevel) -> BoxFuture<'_, Result<View, ReadError>> {
        Box::pin(async move {
            let view = leader::Node::view(self, ReadOptions::level(level)).await?;
            let (clock, now) = (view.clock(), view.now());
            Ok(View { state: Arc::new(view), clock, now })
        })
    }

    fn standing(&self) -> Standing {
        let status = self.status();
        Standing {
            role: status.role,
            leader: status.leader,
            term: status.term,
            applied: status.applied,
            voters: status.voters.keys().copied().collect(),
            matched: status.matched,
        }
    }
}
