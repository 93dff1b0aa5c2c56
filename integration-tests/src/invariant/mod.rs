//! What must always hold inside of `leader`, whatever clients see: one file per property of Raft.
//!
//! | property | says | where it is from |
//! | --- | --- | --- |
//! | [`one_leader_per_term`] | at most one node leads a term | Ongaro and Ousterhout 2014, fig. 3, election safety |
//! | [`one_vote_per_term`] | a node votes for one candidate per term | there, §5.2 |
//! | [`log_matching`] | a term and an index name one entry, and one predecessor | there, fig. 3, log matching |
//! | [`leader_completeness`] | what is committed is in the log of every later leader | there, fig. 3, leader completeness |
//! | [`committed_immutable`] | one entry per index is ever committed | there, fig. 3, state machine safety |
//! | [`nothing_goes_back`] | votes never, commit and applied not while a process lives | there, fig. 2 |
//! | [`applied_within_committed`] | nothing is applied that nobody knows committed | there, §5.3 |
//! | [`equal_position_equal_state`] | states at one position are equal, on all nodes, at all times | there, fig. 3, state machine safety; Schneider 1990 |
//!
//! Messages are judged when they leave, by what they say, so no line of the product is about this.
//! An invariant that is broken says so once.

mod applied_within_committed;
mod committed_immutable;
mod equal_position_equal_state;
mod leader_completeness;
mod log_matching;
mod nothing_goes_back;
mod one_leader_per_term;
mod one_vote_per_term;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use common::transport::frame::Kind;
use common::transport::simulated::Envelope;
use leader::message::{Candidacy, Reply, Request, Vote};

use crate::strategy::Broken;

/// What a node says.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// It asks another node.
    Asks(&'a Request),
    /// It answers another node, that asked this.
    Answers(Asked, &'a Reply),
    /// It acknowledged a client's write at this position.
    Acknowledges(LogPos),
}

/// What a node was asked, as far as its answer needs it to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To append, by the leader with this vote.
    Append(Vote),
    /// For its vote.
    Vote(Candidacy),
    /// Something else.
    Other,
}

/// What a running node shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The node.
    pub node: NodeId,
    /// The last entry it knows to be committed.
    pub committed: Option<LogPos>,
    /// The last entry in its state.
    pub applied: LogPos,
    /// A hash of its state.
    pub digest: u64,
}

/// One property.
pub trait Invariant: Send {
    /// Its name, as in reports and for mutants.
    fn name(&self) -> &'static str;

    /// A node says something. `Some` tells how that breaks the property.
    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let _ = (node, said);
        None
    }

    /// A running node shows itself.
    fn look(&mut self, look: &Look) -> Option<String> {
        let _ = look;
        None
    }

    /// A node's process is gone.
    fn died(&mut self, node: NodeId) {
        let _ = node;
    }
}

/// All properties of one run.
pub struct Invariants {
    /// Those that hold so far.
    holding: Vec<Box<dyn Invariant>>,
}

impl std::fmt::Debug for Invariants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.holding.iter().map(|i| i.name())).finish()
    }
}

impl Default for Invariants {
    fn default() -> Self {
        Self {
            holding: vec![
                Box::<one_leader_per_term::OneLeaderPerTerm>::default(),
                Box::<one_vote_per_term::OneVotePerTerm>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<leader_completeness::LeaderCompleteness>::default(),
                Box::<committed_immutable::CommittedImmutable>::default(),
                Box::<nothing_goes_back::NothingGoesBack>::default(),
                Box::<applied_within_committed::AppliedWithinCommitted>::default(),
                Box::<equal_position_equal_state::EqualPositionEqualState>::default(),
            ],
        }
    }
}

impl Invariants {
    /// A node says something.
    pub fn hear(&mut self, node: NodeId, said: Said<'_>) -> Vec<Broken> {
        self.ask(|invariant| invariant.hear(node, said))
    }

    /// A running node shows itself.
    pub fn look(&mut self, look: &Look) -> Vec<Broken> {
        self.ask(|invariant| invariant.look(look))
    }

    /// A node's process is gone.
    pub fn died(&mut self, node: NodeId) {
        self.holding.iter_mut().for_each(|invariant| invariant.died(node));
    }

    fn ask(&mut self, question: impl Fn(&mut dyn Invariant) -> Option<String>) -> Vec<Broken> {
        let mut broken = Vec::new();
        self.holding.retain_mut(|invariant| {
            let Some(claim) = question(&mut **invariant) else { return true };
            broken.push(Broken { judge: invariant.name(), claim });
            false
        });
        broken
    }
}

/// Understands messages: answers are told together with what was asked.
#[derive(Debug, Default)]
pub struct Ear {
    open: BTreeMap<u64, Asked>,
}

impl Ear {
    /// Reads a message and hands what it says to `judge`. What nobody can read says nothing.
    pub fn hear<T>(
        &mut self,
        message: &Envelope,
        judge: impl FnOnce(NodeId, Said<'_>) -> T,
    ) -> Option<T> {
        match message.kind {
            Kind::Call | Kind::Cast => {
                let request = Request::decode(&message.body).ok()?;
                let asked = match &request {
                    Request::Append { vote, .. } => Asked::Append(*vote),
                    Request::Vote(candidacy) => Asked::Vote(*candidacy),
                    _ => Asked::Other,
                };
                if message.kind == Kind::Call && asked != Asked::Other {
                    self.open.insert(message.call, asked);
                }
                Some(judge(message.from, Said::Asks(&request)))
            }
            Kind::Reply => {
                let asked = self.open.remove(&message.call).unwrap_or(Asked::Other);
                let reply = Reply::decode(&message.body).ok()?;
                Some(judge(message.from, Said::Answers(asked, &reply)))
            }
            _ => None,
        }
    }
}

/// The position of an entry as it travels, and the checksum of all of it that is the same in every
/// log. The layout is that of `leader`'s log records: kind, epoch of the log, term, index, the rest.
pub fn entry(bytes: &[u8]) -> Option<(LogPos, u32)> {
    let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let at = LogPos { term: number(5)?, index: number(13)? };
    Some((at, crc32c::crc32c(&bytes[5..])))
}

/// A position in words.
fn words(at: LogPos) -> String {
    format!("index {} of term {}", at.index, at.term)
}
