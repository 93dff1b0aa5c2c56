//! A node votes for one candidate per term, also over its restarts: Ongaro and Ousterhout 2014, §5.2.

use std::collections::BTreeMap;

use common::ids::NodeId;
use leader::message::Reply;

use super::{Asked, Invariant, Said};

/// Whom a node gave its vote, by node and term.
#[derive(Debug, Default)]
pub(super) struct OneVotePerTerm(BTreeMap<(NodeId, u64), NodeId>);

impl Invariant for OneVotePerTerm {
    fn name(&self) -> &'static str {
        "one_vote_per_term"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let Said::Answers(Asked::Vote(candidacy), Reply::Voted { granted: true, .. }) = said else {
            return None;
        };
        let (term, candidate) = (candidacy.vote.term, candidacy.vote.node);
        let first = *self.0.entry((node, term)).or_insert(candidate);
        (first != candidate)
            .then(|| format!("node {node} votes for {first} and {candidate} in term {term}"))
    }
}
