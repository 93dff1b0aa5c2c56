//! What connections dispatch to: a replicated machine, or one in this process.
//!
//! Everything that a command needs from replication is these three functions, so that a connection
//! is the same over a cluster and, in tests and benches, over a map in memory.

mod local;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::consistency::{Consistency, TradeOff};
use common::ids::{ClusterId, LogPos, NodeId};
use common::receipt::{Fate, LogReceipt, Receipt};
use common::seal::ClusterSecret;
use common::storage::engine::{EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use common::token::LogToken;
use futures::future::BoxFuture;
use leader::error::{AdminError, ReadError, ResolveError, WriteError};
use leader::quota::{Quota, Usage};
use leader::watch::{Filter, WatchError, WatchFrom, Watched as Told};
use leader::{AckReport, Prefer, ReadLevel, ReadOptions, ReplicationMode, Role, WriteOptions};

use crate::redis::{Command, Query, Redis, Reply};

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
    /// How old it may be; none where nothing is proven of that.
    pub age: Option<Duration>,
}

/// Who has answered a read, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whose state it was.
    pub server: NodeId,
    /// The level that was kept.
    pub level: ReadLevel,
    /// The last entry that the state contains.
    pub at: LogPos,
    /// How old it may be; none where nothing is proven of that.
    pub age: Option<Duration>,
}

/// How a read is to be answered.
#[derive(Clone, Debug, Default)]
pub struct Asking {
    /// How fresh.
    pub level: ReadLevel,
    /// What it must cover.
    pub token: Option<LogToken>,
    /// By whom, where this node cannot answer at once.
    pub prefer: Prefer,
}

impl Asking {
    fn options(self) -> ReadOptions {
        let mut options = ReadOptions::level(self.level);
        (options.token, options.prefer) = (self.token, self.prefer);
        options
    }
}

/// Tells what is changed, as [`leader::watch`] does.
pub trait Feed: Send {
    /// The next changes, or how far the feed is.
    fn next(&mut self) -> BoxFuture<'_, Result<Told, WatchError>>;
    /// The position to go on from.
    fn position(&self) -> Option<LogPos>;
}

impl Feed for leader::watch::Watch {
    fn next(&mut self) -> BoxFuture<'_, Result<Told, WatchError>> {
        Box::pin(Self::next(self))
    }

    fn position(&self) -> Option<LogPos> {
        Self::position(self)
    }
}

impl From<leader::View> for View {
    fn from(view: leader::View) -> Self {
        let (clock, now, at) = (view.clock(), view.now(), view.applied());
        Self { state: Arc::new(view), clock, now, at, age: None }
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
    /// Members that clients shall not find.
    pub hidden: BTreeSet<NodeId>,
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

    /// The same, but no longer than it makes sense before another node is asked by
    /// [`Backend::read_elsewhere`].
    fn view_soon(&self, asking: Asking) -> BoxFuture<'_, Result<View, ReadError>> {
        self.view(asking.level, asking.token)
    }

    /// The answer of another node that can honour what is asked for. Default: there is no other.
    fn read_elsewhere(
        &self,
        query: Query,
        asking: Asking,
    ) -> BoxFuture<'_, Result<(Reply, Served), ReadError>> {
        let _ = (query, asking);
        let alone = ReadError::Unsupported("there is no other node".to_owned());
        Box::pin(std::future::ready(Err(alone)))
    }

    /// Watches what is changed to keys that begin with a prefix. Default: nothing is told.
    fn watch(&self, from: WatchFrom, prefix: Bytes) -> Result<Box<dyn Feed>, WatchError> {
        let _ = (from, prefix);
        Err(WatchError::Off)
    }

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
            let view = leader::Node::view(self, options).await?.into();
            Ok(View { age: self.age_at(level), ..view })
        })
    }

    fn view_soon(&self, asking: Asking) -> BoxFuture<'_, Result<View, ReadError>> {
        Box::pin(async move {
            let level = asking.level;
            let mut options = asking.options();
            options.timeout = self.patience(&options);
            let view = leader::Node::view(self, options).await?.into();
            Ok(View { age: self.age_at(level), ..view })
        })
    }

    fn read_elsewhere(
        &self,
        query: Query,
        asking: Asking,
    ) -> BoxFuture<'_, Result<(Reply, Served), ReadError>> {
        let query = Bytes::from(codec::encode_body(&query));
        Box::pin(async move {
            let answer = leader::Node::read_elsewhere(self, query, asking.options()).await?;
            let reply = codec::decode_body(&answer.body)
                .map_err(|error| ReadError::Unsupported(error.to_string()))?;
            let leader::Answer { from: server, level, at, age, .. } = answer;
            Ok((reply, Served { server, level, at, age }))
        })
    }

    fn watch(&self, from: WatchFrom, prefix: Bytes) -> Result<Box<dyn Feed>, WatchError> {
        Ok(Box::new(leader::Node::watch(self, from, Filter::prefix(prefix))?))
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
            hidden: status.attributes.iter().filter(|(_, a)| a.hidden).map(|(id, _)| *id).collect(),
            matched: status.matched,
            usage: status.usage,
            quota: status.quota,
        }
    }

    fn set_quota(&self, quota: Quota) -> BoxFuture<'_, Result<(), AdminError>> {
        Box::pin(leader::Node::set_quota(self, quota, WriteOptions::default().timeout))
    }
}
