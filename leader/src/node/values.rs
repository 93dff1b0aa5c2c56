//! What a node is asked for and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::ids::{ClusterId, LogPos, NodeId};
use common::receipt::LogReceipt;
use common::storage::engine::{EngineError, KeyRange, Keyspace, Page, PageLimit, Read};
use common::storage::wal::DiskHealth;
use common::token::{JoinError, LogToken};
use serde::{Deserialize, Serialize};

use crate::divergence::Quarantined;
use crate::membership::roster::{Attributes, Replacement};
use crate::quota::{Quota, Usage};
use crate::replication_mode::{AckReport, ReplicationMode};

/// What a write asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteOptions {
    /// How long to wait for the acknowledgement, through failovers. Default 5 s.
    pub timeout: Duration,
    /// When the write is acknowledged. Default: the node's [`Config::write_mode`](crate::Config::write_mode).
    pub mode: Option<ReplicationMode>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), mode: None }
    }
}

impl WriteOptions {
    /// The defaults with a mode.
    pub fn mode(mode: ReplicationMode) -> Self {
        Self { mode: Some(mode), ..Self::default() }
    }
}

/// How fresh a read is.
///
/// Members send it to each other: a level is added at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ReadLevel {
    /// Sees every write acknowledged before it began: one round of the leader to a majority.
    #[default]
    Strong,
    /// The same answer by the leader's lease, without a round; relies on bounded clock rates.
    Lease,
    /// What this replica has applied. Never uncommitted data, but possibly old.
    Eventual,
    /// Every write that was acknowledged as committed so long before the read began, and perhaps
    /// newer ones. Proven by this member's own clock: no two clocks are compared.
    Bounded(Duration),
    /// Everything that the session has seen and done, as [`ReadOptions::token`] says: its own
    /// writes, and never less than it has read before, on any member.
    Causal,
    /// The state at exactly this position, which this member keeps as
    /// [`Node::snapshot`](crate::Node::snapshot) has asked, or which is its newest.
    At(LogPos),
}

/// Who answers a read of [`Node::read`](crate::Node::read) that this member cannot answer at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefer {
    /// This member as long as it will be able to in time, then the leader.
    #[default]
    Here,
    /// The member with the shortest round trip of those that can honour the level at once, then the
    /// leader.
    Nearest,
}

/// The answer to a query of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// What [`StateMachine::answer`](crate::state_machine::StateMachine::answer) has made.
    pub body: Bytes,
    /// Whose state it is of.
    pub from: NodeId,
    /// The level that was kept.
    pub level: ReadLevel,
    /// The last entry that the state contains.
    pub at: LogPos,
    /// The replicated clock there.
    pub clock: Hlc,
    /// How old it may be; none where nothing is proven of that.
    pub age: Option<Duration>,
}

/// What a read asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadOptions {
    /// How fresh. Default [`ReadLevel::Strong`].
    pub level: ReadLevel,
    /// What the answer must cover, at every level. [`ReadLevel::Causal`] asks for nothing else.
    pub token: Option<LogToken>,
    /// Who answers, for [`Node::read`](crate::Node::read). Default [`Prefer::Here`].
    pub prefer: Prefer,
    /// How long to wait for the leader's confirmation and for this replica to catch up. Default 5 s.
    pub timeout: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        let (level, prefer) = (ReadLevel::Strong, Prefer::Here);
        Self { level, token: None, prefer, timeout: Duration::from_secs(5) }
    }
}

impl ReadOptions {
    /// The defaults at a level.
    pub fn level(level: ReadLevel) -> Self {
        Self { level, ..Self::default() }
    }

    /// A read that covers what a session has seen.
    pub fn causal(token: LogToken) -> Self {
        Self { level: ReadLevel::Causal, token: Some(token), ..Self::default() }
    }
}

/// An acknowledged write. If its report says `committed`, it is durable on a majority, applied, and
/// never lost; otherwise its mode has acknowledged it earlier, and the receipt tells its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<R> {
    /// What the machine answered.
    pub reply: R,
    /// Where it stands in the log.
    pub at: LogPos,
    /// Its number within its entry.
    pub sub: u16,
    /// What [`Node::resolve`](crate::Node::resolve) tells its fate by.
    pub receipt: LogReceipt,
    /// What it had achieved when it was acknowledged.
    pub report: AckReport,
}

impl<R> Written<R> {
    /// The token of a session that has done nothing but this write.
    pub fn token(&self) -> LogToken {
        let mut token = LogToken::new(self.receipt.cluster, self.receipt.epoch);
        // One term is never too many.
        let _ = self.note_in(&mut token);
        token
    }

    /// Adds the write to what a session has seen and done.
    pub fn note_in(&self, token: &mut LogToken) -> Result<(), JoinError> {
        if self.report.committed {
            token.saw_committed(self.at);
            return Ok(());
        }
        token.wrote_pending(self.at)
    }
}

/// A consistent cut of the state to read from.
#[derive(Clone)]
pub struct View {
    pub(crate) state: Arc<dyn Read>,
    pub(crate) applied: LogPos,
    pub(crate) clock: Hlc,
    pub(crate) now: Hlc,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl View {
    /// The last entry this view contains.
    pub const fn applied(&self) -> LogPos {
        self.applied
    }

    /// The replicated clock at this cut. What is due by it is gone, on every replica.
    pub const fn clock(&self) -> Hlc {
        self.clock
    }

    /// The best knowledge of the leader's clock, at or after [`View::clock`]: for remaining times.
    pub const fn now(&self) -> Hlc {
        self.now
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

/// What a node is doing in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It has no members yet: bootstrap it, or let a leader add it.
    Uninitialized,
    /// It orders writes.
    Leader,
    /// It follows a leader, or looks for one.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It has stopped: see [`Status::failure`].
    Stopped,
}

/// A member of the group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where its transport listens.
    pub address: String,
}

/// What a node knows of itself and its group.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// The cluster, once known.
    pub cluster: Option<ClusterId>,
    /// What it is doing.
    pub role: Role,
    /// The leader it knows of.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// The last entry in its log.
    pub last_log: Option<u64>,
    /// The last entry it knows to be committed.
    pub committed: Option<LogPos>,
    /// The last entry it has applied.
    pub applied: Option<LogPos>,
    /// The last entry its last checkpoint or snapshot contains.
    pub snapshot: Option<LogPos>,
    /// The last entry that was dropped from the log behind a checkpoint.
    pub purged: Option<LogPos>,
    /// Voters of the configuration in force, by id.
    pub voters: BTreeMap<NodeId, Member>,
    /// Members without a vote.
    pub learners: BTreeMap<NodeId, Member>,
    /// What the state says of members; those of whom it says nothing are absent.
    pub attributes: BTreeMap<NodeId, Attributes>,
    /// The id for the next member: higher than any that was given. None before there are members.
    pub next_id: Option<NodeId>,
    /// A replacement that was begun and is not done: go on with it, or abort it.
    pub replacing: Option<Replacement>,
    /// Whether a change of the voters is between its two steps.
    pub changing: bool,
    /// On the leader: the last entry each member is known to hold durably.
    pub matched: BTreeMap<NodeId, Option<LogPos>>,
    /// Open client sessions in the state.
    pub sessions: usize,
    /// Bytes of the state, roughly.
    pub state_bytes: u64,
    /// Smoothed round-trip times to other members, while somebody reads by nearness.
    pub round_trips: BTreeMap<NodeId, Duration>,
    /// Snapshots that are kept for reads.
    pub snapshots: usize,
    /// How large the state is by its quota.
    pub usage: Usage,
    /// How large it may become.
    pub quota: Quota,
    /// How many commands this node has refused since its start, as the leader, since they would have
    /// grown the state over its quota.
    pub quota_refused: u64,
    /// The disk under the log.
    pub disk: DiskHealth,
    /// Why this node serves no reads, if its state was found to be wrong.
    pub quarantine: Option<Quarantined>,
    /// Why the node has stopped, if it has.
    pub failure: Option<String>,
}
