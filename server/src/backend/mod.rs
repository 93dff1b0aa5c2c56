//! What connections dispatch to: a replicated machine, or one in this process.
//!
//! Everything that a command needs from replication is these three functions, so that a connection
//! is the same over a cluster and, in tests and benches, over a map in memory.

mod local;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::{Consistency, TradeOff};
use common::ids::{ClusterId, LogPos, NodeId};
use common::receipt::{Fate, LogReceipt, Receipt};
use common::seal::ClusterSecret;
use common::storage::engine::{EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use common::token::LogToken;
use futures::future::BoxFuture;
use leader::error::{AdminError, ReadError, ResolveError, WriteError};
use leader::quota::{Quota, Usage};
use leader::{AckReport, ReadLevel, ReadOptions, ReplicationMode, Role, WriteOptions};

use crate::redis::{Command, Redis, Reply};

pub use local::Local;

/// A write that is acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What the machine answered.
    pub reply: Reply,
    /// What tells its fate.
    pub receipt: LogReceipt,
    /// What it has achieved.
    pub report: AckReport,
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
    /// The last entry it contains.
    pub at: LogPos,
}

impl From<leader::View> for View {
    fn from(view: leader::View) -> Self {
        let (clock, now, at) = (view.clock(), view.now(), view.applied());
        Self { state: Arc::new(view), clock, now, at }
    }
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
    /// How large the state is.
    pub usage: Usage,
    /// How large it may become.
    pub quota: Quota,
}

/// Where commands are written and states are read.
pub trait Backend: Send + Sync + 'static {
    /// Gives the command its place in this node's order **now**; the future waits for its
    /// acknowledgement by the mode, or by the node's own, and need not be polled for the command to
    /// get on.
    fn submit(
        &self,
        command: Command,
        mode: Option<ReplicationMode>,
    ) -> BoxFuture<'static, Result<Applied, WriteError>>;

    /// A consistent cut, as fresh as asked for, which covers what a token says.
    fn view(
        &self,
        level: ReadLevel,
        token: Option<LogToken>,
    ) -> BoxFuture<'_, Result<View, ReadError>>;

    /// A cut as by [`Backend::view`] that is kept, so that it can be read at again by
    /// [`ReadLevel::At`] its position. Default: refuses.
    fn snapshot(
        &self,
        level: ReadLevel,
        token: Option<LogToken>,
    ) -> BoxFuture<'_, Result<View, ReadError>> {
        let _ = (level, token);
        let refused = "this server keeps no snapshots".to_owned();
        Box::pin(std::future::ready(Err(ReadError::Unsupported(refused))))
    }

    /// A snapshot is not needed any more by one of those who asked for it.
    fn release_snapshot(&self, at: LogPos) {
        let _ = at;
    }

    /// What became of a write.
    fn resolve<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<Fate, ResolveError>>;

    /// The mode of writes that name none.
    fn write_mode(&self) -> ReplicationMode;

    /// What a mode and a level give and cost, or why the members cannot honour the mode.
    fn explain(&self, mode: &ReplicationMode, level: Consistency) -> Result<TradeOff, String>;

    /// What seals tokens and receipts; none until the cluster is founded.
    fn seal(&self) -> Option<(ClusterId, ClusterSecret)>;

    /// The token of a session that has seen nothing; none until the cluster is founded.
    fn token(&self) -> Option<LogToken>;

    /// What is known of the group. Never waits.
    fn standing(&self) -> Standing;

    /// Sets how large the state may become. Default: refuses.
    fn set_quota(&self, quota: Quota) -> BoxFuture<'_, Result<(), AdminError>> {
        let _ = quota;
        let refused = "this server has no quota".to_owned();
        Box::pin(std::future::ready(Err(AdminError::Refused(refused))))
    }
}

impl Backend for leader::Node<Redis> {
    fn submit(
        &self,
        command: Command,
        mode: Option<ReplicationMode>,
    ) -> BoxFuture<'static, Result<Applied, WriteError>> {
        let mut options = WriteOptions::default();
        options.mode = mode;
        let written = self.write(command, options);
        Box::pin(async move {
            let written = written.await?;
            let (reply, receipt, report) = (written.reply, written.receipt, written.report);
            Ok(Applied { reply, receipt, report })
        })
    }

    fn view(
        &self,
        level: ReadLevel,
        token: Option<LogToken>,
    ) -> BoxFuture<'_, Result<View, ReadError>> {
        Box::pin(async move {
            let mut options = ReadOptions::level(level);
            options.token = token;
            Ok(leader::Node::view(self, options).await?.into())
        })
    }

    fn snapshot(
        &self,
        level: ReadLevel,
        token: Option<LogToken>,
    ) -> BoxFuture<'_, Result<View, ReadError>> {
        Box::pin(async move {
            let mut options = ReadOptions::level(level);
            options.token = token;
            Ok(leader::Node::snapshot(self, options).await?.into())
        })
    }

    fn release_snapshot(&self, at: LogPos) {
        leader::Node::release_snapshot(self, at);
    }

    fn resolve<'a>(&'a self, receipt: &'a Receipt) -> BoxFuture<'a, Result<Fate, ResolveError>> {
        Box::pin(leader::Node::resolve(self, receipt, ReadOptions::default().timeout))
    }

    fn write_mode(&self) -> ReplicationMode {
        leader::Node::write_mode(self)
    }

    fn explain(&self, mode: &ReplicationMode, level: Consistency) -> Result<TradeOff, String> {
        leader::Node::explain(self, mode, level)
    }

    fn seal(&self) -> Option<(ClusterId, ClusterSecret)> {
        leader::Node::seal(self)
    }

    fn token(&self) -> Option<LogToken> {
        leader::Node::token(self)
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
            usage: status.usage,
            quota: status.quota,
        }
    }

    fn set_quota(&self, quota: Quota) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(leader::Node::set_quota(self, quota, WriteOptions::default().timeout))
    }
}
