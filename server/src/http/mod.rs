//! The node over HTTP: is it well, what does it know, and what should it do.
//!
//! | path | answers |
//! | --- | --- |
//! | `GET /` | a page for people, refreshing itself |
//! | `GET /health` | 200 while the process lives |
//! | `GET /ready` | 200 when a read that sees every acknowledged write succeeds here, else 503 with the reason |
//! | `GET /status` | this node as JSON: [`StatusReport`] |
//! | `GET /cluster` | all nodes as JSON: [`ClusterReport`] |
//! | `GET /metrics` | figures for Prometheus: [`metrics`](crate::metrics) |
//! | `GET /members` | the members as JSON |
//! | `POST /members` | `{"add": {"id": 4, "address": "host:port"}}`, `promote`, `remove`, `replace`, `abort`, `describe`, `relocate`; with `wait_seconds` and `accept` |
//! | `POST /transfer` | `{}` or `{"to": 2}`: hands leadership over |
//! | `GET /backup` | all data at one position, as a [backup](leader::backup); `?level=eventual` needs no leader |
//! | `POST /check` | `{}` or `{"seconds": 60}`: has all nodes compare their states, and waits so long |
//! | `GET /rollbacks` | this node's rollback files: writes that a failover has lost |
//! | `GET /rollbacks/NAME` | the commands of one |
//! | `GET /watch?from=POSITION&prefix=TEXT` | the change feed, as JSON lines that go on |
//! | `GET /holds` | what keeps this node's log |
//! | `POST /holds/NAME` | `{"after": "3.57"}`: keeps the log from there on; `DELETE` releases it |
//! | `POST /rollbacks/NAME` | `{}` or `{"absent": "written"}`: writes again what nobody has touched since |
//!
//! Every error is JSON: `{"error": "...", "hint": "..."}`. The server answers from the first moment
//! of the process, before the log is replayed, so that peers and people can see that it starts.
//!
//! There is no authentication yet but for `/watch` on a node with users, which tells their data:
//! whoever reaches the port can change the cluster.

mod answer;
mod basic;
mod holds;
mod routes;
#[cfg(test)]
mod tests;
mod watch;

pub(crate) use watch::{position, position_text};

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use common::ids::NodeId;
use common::storage::engine::EngineError;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use leader::error::{AdminError, ReadError};
use leader::rollback::{AbsentKeys, Replayed, RollbackError};
use leader::watch::{Hold, HoldError};
use leader::{ChangeOptions, Changed, Member, ReadLevel, Replacement};
use serde::Deserialize;

use crate::status::{CheckReport, ClusterReport, LostReport, RollbackReport, StatusReport};

pub(crate) use basic::authorization;
pub use holds::HoldReport;
pub use routes::router;
pub(crate) use watch::Lines;
pub use watch::{WatchRefused, WatchRequest};

/// A change of the members, as `POST /members` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Change {
    /// Adds a member without a vote.
    Add(Member),
    /// Gives a caught-up learner a vote.
    Promote(NodeId),
    /// Removes a member.
    Remove(NodeId),
    /// Puts a member in a voter's place.
    Replace(Replacement),
    /// Takes a replacement back.
    Abort {},
    /// Sets what the cluster knows of a member.
    Describe(Description),
    /// Changes a member's address.
    Relocate(Member),
}

/// What is to be set of a member; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The member.
    pub id: NodeId,
    /// How much it is wanted as leader.
    pub priority: Option<u8>,
    /// Whether clients do not find it.
    pub hidden: Option<bool>,
    /// The region; empty for none.
    pub region: Option<String>,
    /// The rack; empty for none.
    pub rack: Option<String>,
}

/// A large answer, piece by piece. Making one may wait for a disk.
pub type Pieces = Box<dyn Iterator<Item = Result<Bytes, EngineError>> + Send>;

/// What the pages need from a node. The tests have one that is not real.
pub trait Admin: Send + Sync {
    /// What the node says of itself.
    fn report(&self) -> BoxFuture<'_, StatusReport>;
    /// Whether it can serve; otherwise why not.
    fn ready(&self) -> BoxFuture<'_, Result<(), String>>;
    /// What all nodes say, as far as they answer.
    fn cluster(&self) -> BoxFuture<'_, ClusterReport>;
    /// The figures for Prometheus.
    fn metrics(&self) -> BoxFuture<'_, String>;
    /// Hands leadership over.
    fn transfer(&self, to: Option<NodeId>) -> BoxFuture<'_, Result<NodeId, AdminError>>;
    /// Changes the members.
    fn change(
        &self,
        change: Change,
        options: ChangeOptions,
    ) -> BoxFuture<'_, Result<Changed, AdminError>>;
    /// A backup of the node's state that contains what a read at the level would see.
    fn backup(&self, level: ReadLevel) -> BoxFuture<'_, Result<Pieces, ReadError>>;
    /// Has all members compare their states.
    fn check(&self, timeout: Duration) -> BoxFuture<'_, Result<CheckReport, AdminError>>;
    /// The change feed, line by line.
    fn watch(&self, request: WatchRequest) -> Result<BoxStream<'static, String>, WatchRefused>;
    /// What keeps the log.
    fn holds(&self) -> Vec<HoldReport>;
    /// Keeps the log.
    fn hold(&self, hold: Hold) -> Result<(), HoldError>;
    /// Ends a hold; whether there was one.
    fn release(&self, name: &str) -> bool;
    /// The rollback files.
    fn rollbacks(&self) -> BoxFuture<'_, Result<Vec<RollbackReport>, RollbackError>>;
    /// The commands of one of them.
    fn rollback(&self, name: String) -> BoxFuture<'_, Result<Vec<LostReport>, RollbackError>>;
    /// Writes them again where nobody has touched what they change.
    fn replay(
        &self,
        name: String,
        absent: AbsentKeys,
    ) -> BoxFuture<'_, Result<Replayed, RollbackError>>;
}

/// The node behind the pages, once it is open.
#[derive(Clone, Default)]
pub struct Stage(Arc<OnceLock<Arc<dyn Admin>>>);

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("open", &self.0.get().is_some()).finish()
    }
}

impl Stage {
    /// From now on the pages show this node. Only the first one counts.
    pub fn enter(&self, node: Arc<dyn Admin>) {
        let _ = self.0.set(node);
    }

    fn node(&self) -> Option<&Arc<dyn Admin>> {
        self.0.get()
    }
}
