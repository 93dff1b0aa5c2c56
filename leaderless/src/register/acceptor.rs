//! What one replica remembers of a register, and how it answers.

use common::ids::NodeId;
use common::mutate;
use serde::{Deserialize, Serialize};

use super::State;

/// The number of an attempt: a round, and who attempts it. Larger ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// The round, from 1.
    pub round: u64,
    /// The proposer. A node never uses one ballot twice; after a restart it must begin above what
    /// a majority has promised, which a refused attempt tells it.
    pub node: NodeId,
}

impl Ballot {
    /// A ballot of `node` above another one, or the first.
    pub fn above(other: Option<Self>, node: NodeId) -> Self {
        Self { round: other.map_or(0, |ballot| ballot.round).saturating_add(1), node }
    }
}

/// What a proposer asks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Request {
    /// Promise to accept nothing below this ballot.
    Prepare(Ballot),
    /// Accept this state.
    Accept(Ballot, State),
    /// Tell what was accepted, without a promise.
    Peek,
}

/// What an acceptor answers. To be sent only when the acceptor is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Promised; this was accepted before.
    Promised(Ballot, Option<(Ballot, State)>),
    /// Accepted under this ballot.
    Accepted(Ballot),
    /// A higher ballot was promised: try again above it. Nothing has changed.
    Refused(Ballot),
    /// What was accepted.
    Peeked(Option<(Ballot, State)>),
}

/// The memory of one replica: about 40 bytes beside the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Acceptor {
    /// The highest ballot that was promised or accepted.
    pub promised: Option<Ballot>,
    /// The last accepted state.
    pub accepted: Option<(Ballot, State)>,
}

impl Acceptor {
    /// Answers a request. If the acceptor has changed it must be durable before the answer leaves.
    pub fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Peek => Reply::Peeked(self.accepted.clone()),
            Request::Prepare(ballot) => match self.promised {
                // The same prepare twice is answered twice: a message may be doubled.
                Some(promised) if promised > ballot => Reply::Refused(promised),
                _ => {
                    self.promised = Some(ballot);
                    Reply::Promised(ballot, self.accepted.clone())
                }
            },
            Request::Accept(ballot, state) => match self.promised {
                Some(promised)
                    if promised > ballot
                        && mutate!("register_accepts_below_promise", true, false) =>
                {
                    Reply::Refused(promised)
                }
                _ => {
                    self.promised = Some(ballot);
                    self.accepted = Some((ballot, state));
                    Reply::Accepted(ballot)
                }
            },
        }
    }

    /// What anti-entropy carries: an accepted state of another replica, under the promise check.
    /// Whether it was taken over.
    pub fn redeliver(&mut self, ballot: Ballot, state: State) -> bool {
        let known = self.accepted.as_ref().is_some_and(|(own, _)| *own >= ballot);
        !known && matches!(self.answer(Request::Accept(ballot, state)), Reply::Accepted(_))
    }
}
