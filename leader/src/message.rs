//! Every message between the members of a group.
//!
//! A message is a [`Request`] or a [`Reply`] in one codec frame. Log entries travel as the very
//! bytes that they have in the log: they are encoded once, by the leader that proposed them.
//!
//! ```text
//! Append -> Appended        log entries, and heartbeats when there are none
//! PreVote, Vote -> Voted    elections
//! Transfer -> Transferred   leadership, handed over
//! Forward -> Forwarded      a write that reached a member which does not lead
//! Read -> Read              a read that a nearer or a fresher member answers
//! State -> State            the hash of a member's state at a position
//! Repair -> Repairing       a snapshot for a member whose state is wrong
//! Snapshot -> Repairing     a snapshot for a member that lost its state
//! Poll -> Polled            what a voter holds, and whether it can lead
//! Applied -> Applied        how far a member has applied, once it is so far
//! ReadIndex -> ReadIndexed  how far a replica must have applied to read without being stale
//! Offer, Chunk -> Wanted, Took; Install -> Installed     a snapshot; Rejected ends it
//! ```

use bytes::Bytes;
use common::clock::Hlc;
use common::codec::{self, CodecError, Format};
use common::ids::{LogPos, NodeId};
use serde::{Deserialize, Serialize};

use crate::state_hash::StateHash;

/// The layout of a request in version 1.
const REQUEST: Format = Format { magic: *b"TLRQ", version: 1 };
/// The layout of a reply in version 1.
const REPLY: Format = Format { magic: *b"TLRP", version: 1 };

/// The largest message in bytes, as large as the transport's frames: a page of log entries, or one
/// entry that is larger than a page, or a chunk of a snapshot.
pub const MAX_BYTES: usize = 16 << 20;

/// Whom a member has promised to follow in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate, or the leader.
    pub node: NodeId,
    /// Whether a majority has elected that node: then it leads the term.
    pub established: bool,
}

/// Why a candidate asks for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It has heard no leader for longer than a lease.
    Silence,
    /// The leader asked it to take over, so a lease that still runs is no obstacle (Ongaro 2014,
    /// §4.2.3).
    Transfer,
}

/// What a candidate says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidacy {
    /// The vote it asks for.
    pub vote: Vote,
    /// The last entry in its log.
    pub last: Option<LogPos>,
    /// Why it asks.
    pub cause: Cause,
}

/// Which proof of leadership a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// Answers of a majority to messages sent after the request arrived.
    Round,
    /// A lease that is still valid, else a round.
    Lease,
}

/// What a member asks of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request {
    /// Append these entries; a heartbeat when there are none. Answer: [`Reply::Appended`].
    Append {
        /// The stream this message belongs to: its messages are handled in order, and after one
        /// that is refused the rest is void. A heartbeat is outside of all streams.
        stream: Option<u64>,
        /// The sender's vote.
        vote: Vote,
        /// The entry before the first one here; nothing when that is the first of all.
        previous: Option<LogPos>,
        /// The last entry that the sender knows to be committed.
        committed: Option<LogPos>,
        /// Entries as they are in the log, in order, without gaps.
        entries: Vec<Bytes>,
    },
    /// Would you vote for me? Changes nothing. Answer: [`Reply::Voted`].
    PreVote(Candidacy),
    /// Vote for me. Answer: [`Reply::Voted`].
    Vote(Candidacy),
    /// Take over the leadership once you hold my log. Answer: [`Reply::Transferred`].
    Transfer {
        /// The leader's vote.
        vote: Vote,
        /// Who is to lead.
        to: NodeId,
        /// The last entry in the leader's log.
        last: Option<LogPos>,
    },
    /// Execute this write. Answer: [`Reply::Forwarded`].
    Forward {
        /// Encoded by the writer.
        body: Bytes,
    },
    /// How far must I have applied before I may read? Answer: [`Reply::ReadIndexed`].
    ReadIndex {
        /// By which proof.
        by: Proof,
    },
    /// A snapshot is ready. Answer: [`Reply::Wanted`] or [`Reply::Rejected`].
    Offer {
        /// Names the snapshot; the same after a broken connection.
        id: u64,
        /// The leader's vote.
        vote: Vote,
        /// Where it stands, encoded by its writer.
        meta: Bytes,
    },
    /// A part of a snapshot. Answer: [`Reply::Took`] or [`Reply::Rejected`].
    Chunk {
        /// The snapshot.
        id: u64,
        /// Which part, from 0.
        number: u32,
        /// Whether it is the last one.
        last: bool,
        /// The part.
        body: Bytes,
        /// Checksum of the part.
        crc32c: u32,
    },
    /// All chunks are there: verify and install. Answer: [`Reply::Installed`] or
    /// [`Reply::Rejected`].
    Install {
        /// The snapshot.
        id: u64,
        /// The leader's vote.
        vote: Vote,
    },
    /// What time is it? Answer: [`Reply::Pong`].
    Ping,
    /// Say when you have applied this entry. Answer: [`Reply::Applied`].
    Applied {
        /// The entry, which is committed.
        at: LogPos,
    },
    /// What do you hold, and could you lead? Answer: [`Reply::Polled`].
    Poll,
    /// What is the hash of your state at this check? Answer: [`Reply::State`].
    State {
        /// The position of the check.
        at: LogPos,
    },
    /// My state is wrong: send me yours, if it had this hash at this check. Answer:
    /// [`Reply::Repairing`] or [`Reply::Rejected`].
    Repair {
        /// The position of the check.
        at: LogPos,
        /// What is right there.
        state: StateHash,
    },
    /// My state was lost: send me yours, if it goes as far as my log begins. Answer:
    /// [`Reply::Repairing`] or [`Reply::Rejected`].
    Snapshot {
        /// The entry after which my log begins.
        after: LogPos,
    },
    /// Answer this read. Answer: [`Reply::Read`].
    Read {
        /// Encoded by the reader.
        body: Bytes,
    },
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    /// The member's log agrees with the leader's up to here, and is durable up to here.
    Durable(Option<LogPos>),
    /// The member has another entry, or none, where the leader's `previous` should be.
    Conflict,
    /// The member follows a newer vote.
    Superseded(Vote),
}

/// Why a transfer was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferAnswer {
    /// The receiver asks for votes now.
    Accepted,
    /// The receiver follows another vote than the sender's.
    VoteChanged {
        /// The vote it follows.
        actual: Vote,
    },
    /// The receiver does not hold the sender's log durably.
    Behind {
        /// The last entry it holds.
        actual: Option<LogPos>,
    },
}

/// How far a replica must have applied before it may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadIndexed {
    /// Everything acknowledged before the request is at or below `index`.
    At {
        /// Apply up to here.
        index: LogPos,
        /// The leader's clock.
        clock: Hlc,
    },
    /// The receiver does not lead.
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// Leadership was not confirmed.
    Failed(String),
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Reply {
    /// To [`Request::Append`].
    Appended {
        /// What became of it.
        outcome: Appended,
        /// The last entry the member has applied.
        applied: Option<LogPos>,
    },
    /// To [`Request::Vote`] and [`Request::PreVote`].
    Voted {
        /// The vote the member follows.
        vote: Vote,
        /// The last entry in its log.
        last: Option<LogPos>,
        /// Whether it votes, or would vote, for the candidate.
        granted: bool,
    },
    /// To [`Request::Transfer`].
    Transferred(TransferAnswer),
    /// To [`Request::Forward`].
    Forwarded {
        /// Encoded by the executor.
        body: Bytes,
    },
    /// To [`Request::ReadIndex`].
    ReadIndexed(ReadIndexed),
    /// To [`Request::Offer`]: send from this chunk on.
    Wanted {
        /// The first chunk that is missing.
        next: u32,
    },
    /// To [`Request::Chunk`]: it is stored.
    Took {
        /// The first chunk that is missing.
        next: u32,
    },
    /// To [`Request::Install`]: the snapshot is in force, or the vote is newer than the sender's.
    Installed(Vote),
    /// To [`Request::Offer`], [`Request::Chunk`], [`Request::Install`]: start again, or give up.
    Rejected {
        /// Why.
        reason: String,
    },
    /// To [`Request::Ping`].
    Pong {
        /// The receiver's wall clock, in milliseconds since the Unix epoch.
        wall_millis: u64,
    },
    /// To [`Request::Applied`], after a while in any case.
    Applied {
        /// The last entry that the receiver has applied.
        at: Option<LogPos>,
    },
    /// To [`Request::Poll`].
    Polled {
        /// The last entry in the receiver's log.
        last: Option<LogPos>,
        /// How much it is wanted as leader.
        priority: u8,
        /// Whether its disk keeps up and it is past its vote gate.
        able: bool,
    },
    /// To [`Request::State`].
    State {
        /// None when the member has not come so far, or has forgotten it.
        state: Option<StateHash>,
    },
    /// To [`Request::Repair`]: the snapshot comes.
    Repairing,
    /// To [`Request::Read`].
    Read {
        /// Encoded by the member.
        body: Bytes,
    },
}

impl Request {
    /// The bytes that travel.
    pub fn encode(&self) -> Bytes {
        codec::encode(REQUEST, self)
    }

    /// Reads what [`Request::encode`] made, refusing more than [`MAX_BYTES`] before reading.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REQUEST, bytes, MAX_BYTES)
    }
}

impl Reply {
    /// The bytes that travel.
    pub fn encode(&self) -> Bytes {
        codec::encode(REPLY, self)
    }

    /// Reads what [`Reply::encode`] made, refusing more than [`MAX_BYTES`] before reading.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REPLY, bytes, MAX_BYTES)
    }
}

#[cfg(test)]
mod tests;
