//! How openraft's types are filled in, and the way between them and ours.
//!
//! `leader_id_std` allows one leader per term, so a term and an index name one entry for ever. The
//! command type carries bytes that are already encoded, so that openraft never serialises anything.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use common::ids::{ClientId, LogPos, NodeId};
use openraft::impls::leader_id_std::LeaderId;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use super::log_store::EntryRecord;
use super::runtime::EnvRuntime;
use crate::message;

/// Fills in openraft's types. One for all machines, so that openraft is compiled once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Cmd;
    type R = Replies;
    type NodeId = u64;
    type Node = PeerAddr;
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Cmd, u64, PeerAddr>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = EnvRuntime;
    type Responder<T>
        = SlotResponder<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type RaftVote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::alias::PayloadOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, PeerAddr>;

/// Where an entry was appended, noted by the log of the node that proposed it.
///
/// The position is known as soon as the entry is in the log's order, long before it is committed:
/// what is reported as unknown can be named by it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    batch: Option<Batch>,
    /// The position, and whether the commands take effect if the entry is committed.
    appended: OnceLock<(LogPos, bool)>,
}

/// Commands of a client session, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The session.
    pub(crate) client: ClientId,
    /// The first.
    pub(crate) first: u64,
    /// The last.
    pub(crate) last: u64,
    /// The last of the session that was applied here when these were proposed; none if the session
    /// was not known.
    pub(crate) applied: Option<u64>,
}

impl Slot {
    /// A slot for one proposal.
    pub(crate) fn new(batch: Option<Batch>) -> Arc<Self> {
        Arc::new(Self { batch, appended: OnceLock::new() })
    }

    pub(super) const fn batch(&self) -> Option<&Batch> {
        self.batch.as_ref()
    }

    /// The position, once the entry is in the log.
    pub(crate) fn position(&self) -> Option<LogPos> {
        self.appended.get().map(|(at, _)| *at)
    }

    /// The position, and whether the commands take effect if the entry is committed: none that
    /// stands before them in their session is missing in the log.
    pub(crate) fn appended(&self) -> Option<(LogPos, bool)> {
        self.appended.get().copied()
    }

    /// Notes where it was appended. That happens once; a second note is ignored.
    pub(super) fn note(&self, at: LogPos, follows: bool) {
        let _ = self.appended.set((at, follows));
    }
}

/// A batch of commands, encoded.
#[derive(Clone)]
pub(crate) struct Cmd {
    /// The encoded batch.
    pub(crate) body: Bytes,
    /// Filled when the entry is appended. Only on the way from the proposer to its log.
    pub(crate) slot: Option<Arc<Slot>>,
    /// Whether it may be appended when the disk is full.
    pub(crate) growth: Growth,
    /// The log record that `body` is the end of, once it has been through a log: it goes on the
    /// wire and into the next log as it is.
    pub(super) record: Option<EntryRecord>,
}

/// What applying a batch does to the space that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Growth {
    /// It takes more space, as far as the log knows.
    #[default]
    Grows,
    /// It frees space: deletes, expiry. The space that is reserved for a full disk is open to it.
    Shrinks,
}

impl Cmd {
    /// A batch that is about to be proposed.
    pub(crate) fn new(body: Bytes, slot: Option<Arc<Slot>>) -> Self {
        Self { body, slot, growth: Growth::Grows, record: None }
    }
}

impl fmt::Debug for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cmd({} bytes)", self.body.len())
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.body.len())
    }
}

/// What the state machine answers to one entry, for the proposer in the same process to downcast.
/// `None` for entries that carry no commands.
#[derive(Default)]
pub(crate) struct Replies(pub(crate) Option<Box<dyn Any + Send + Sync>>);

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Replies(..)" } else { "Replies(None)" })
    }
}

/// What openraft knows of a member besides its id: where it listens. Labels and priorities live in
/// the state machine, so that changing them is an ordinary entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerAddr {
    /// Where its transport listens.
    pub(crate) address: String,
}

type Complete<T> = Box<dyn FnOnce(T) + Send>;

/// Hands the fate of a proposal to a closure. Unlike openraft's own responders it costs one
/// allocation and logs nothing when nobody waits any more.
pub(crate) struct SlotResponder<T> {
    complete: Complete<T>,
}

impl<T: Send + 'static> SlotResponder<T> {
    /// Calls `complete` with the fate of the proposal, on openraft's task: it must not block.
    /// When the node stops, it is dropped without being called.
    pub(crate) fn new(complete: impl FnOnce(T) + Send + 'static) -> Self {
        Self { complete: Box::new(complete) }
    }

    /// A responder, and what receives its result.
    #[cfg(test)]
    pub(crate) fn channel() -> (Self, tokio::sync::oneshot::Receiver<T>) {
        let (send, receive) = tokio::sync::oneshot::channel();
        (Self::new(move |result| drop(send.send(result))), receive)
    }
}

impl<T> fmt::Debug for SlotResponder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotResponder")
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for SlotResponder<T> {
    fn on_complete(self, result: T) {
        (self.complete)(result);
    }
}

/// Our position of an openraft log id. They are the same two numbers: openraft's first entry, the
/// membership that a cluster is bootstrapped with, has term 0 and index 0.
pub(crate) fn position(id: &LogId) -> LogPos {
    LogPos { term: id.leader_id.term, index: id.index }
}

/// The openraft log id of a position.
pub(crate) fn log_id(at: LogPos) -> LogId {
    LogId::new_term_index(at.term, at.index)
}

/// Our vote of an openraft vote.
pub(crate) fn vote(v: &RaftVote) -> message::Vote {
    message::Vote {
        term: v.leader_id.term,
        node: NodeId(v.leader_id.voted_for),
        established: v.committed,
    }
}

/// The openraft vote of a vote.
pub(crate) fn raft_vote(v: message::Vote) -> RaftVote {
    if v.established {
        RaftVote::new_committed(v.term, v.node.0)
    } else {
        RaftVote::new(v.term, v.node.0)
    }
}

/// A configuration as it is stored and sent: the sets of voters that must each agree (two during a
/// change), and every member with its address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// The voter sets: none before the bootstrap, two while voters change, else one.
    pub(crate) voters: Vec<BTreeSet<NodeId>>,
    /// All members. Those in no voter set are learners.
    pub(crate) nodes: BTreeMap<NodeId, String>,
}

/// A stored configuration names a voter that it does not list as a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a configuration: {0}")]
pub(crate) struct NotAConfiguration(String);

impl From<&Membership> for Members {
    fn from(m: &Membership) -> Self {
        let set = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect();
        Self {
            voters: m.get_joint_config().iter().map(set).collect(),
            nodes: m.nodes().map(|(id, node)| (NodeId(*id), node.address.clone())).collect(),
        }
    }
}

impl TryFrom<Members> for Membership {
    type Error = NotAConfiguration;

    fn try_from(m: Members) -> Result<Self, NotAConfiguration> {
        // A node that was never given members stores the empty configuration, which openraft's
        // checked constructor refuses.
        if m == Members::default() {
            return Ok(Self::default());
        }
        let set = |ids: BTreeSet<NodeId>| ids.into_iter().map(|id| id.0).collect();
        let nodes: BTreeMap<u64, PeerAddr> =
            m.nodes.into_iter().map(|(id, address)| (id.0, PeerAddr { address })).collect();
        Self::new(m.voters.into_iter().map(set).collect(), nodes)
            .map_err(|e| NotAConfiguration(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(voters: &[&[u64]], nodes: &[u64]) -> Members {
        Members {
            voters: voters.iter().map(|s| s.iter().copied().map(NodeId).collect()).collect(),
            nodes: nodes.iter().map(|id| (NodeId(*id), format!("127.0.0.1:{id}"))).collect(),
        }
    }

    #[test]
    fn a_configuration_survives_the_way_there_and_back() {
        for m in [
            Members::default(),
            members(&[&[1]], &[1]),
            members(&[&[1, 2, 3]], &[1, 2, 3, 4]),
            members(&[&[1, 2, 3], &[3, 4, 5]], &[1, 2, 3, 4, 5, 6]),
        ] {
            let there = Membership::try_from(m.clone()).unwrap();
            assert_eq!(Members::from(&there), m);
        }
    }

    #[test]
    fn a_voter_that_is_no_member_is_refused() {
        let refused = Membership::try_from(members(&[&[1, 2]], &[1]));
        assert!(refused.unwrap_err().to_string().contains("not a configuration"));
    }

    #[test]
    fn positions_and_votes_survive_the_way_there_and_back() {
        let at = LogPos { term: 7, index: 9 };
        assert_eq!(position(&log_id(at)), at);
        for established in [false, true] {
            let v = message::Vote { term: 3, node: NodeId(2), established };
            assert_eq!(vote(&raft_vote(v)), v);
        }
    }

    #[test]
    fn a_responder_nobody_waits_for_is_silent() {
        let (responder, receiver) = SlotResponder::channel();
        drop(receiver);
        Responder::on_complete(responder, 1);
    }
}
