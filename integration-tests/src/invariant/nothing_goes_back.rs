//! A node's term never goes back, also over restarts; what it has applied does not while its process
//! lives: Ongaro and Ousterhout 2014, figure 2.
//!
//! What a node says is committed may go back: a leader tells each follower no more than it holds, and
//! a follower forgets what only its former leader told it.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::{Appended, Reply, Request};

use super::{Invariant, Look, Said, words};

/// The furthest that each node has shown.
#[derive(Debug, Default)]
pub(super) struct NothingGoesBack {
    terms: BTreeMap<NodeId, u64>,
    applied: BTreeMap<NodeId, LogPos>,
}

fn forward<T: Copy + Ord>(seen: &mut BTreeMap<NodeId, T>, node: NodeId, now: T) -> Option<T> {
    let last = seen.entry(node).or_insert(now);
    if now < *last {
        return Some(*last);
    }
    *last = now;
    None
}

impl Invariant for NothingGoesBack {
    fn name(&self) -> &'static str {
        "nothing_goes_back"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let term = match said {
            Said::Asks(Request::Vote(candidacy)) => candidacy.vote.term,
            Said::Answers(
                _,
                Reply::Voted { vote, .. }
                | Reply::Appended { outcome: Appended::Superseded(vote), .. },
            ) => vote.term,
            // An append may still be under way when its sender has a newer vote.
            _ => return None,
        };
        let last = forward(&mut self.terms, node, term)?;
        Some(format!("node {node} was in term {last} and is in term {term}"))
    }

    fn look(&mut self, look: &Look) -> Option<String> {
        let Look { node, applied, .. } = *look;
        let last = forward(&mut self.applied, node, applied)?;
        Some(format!("node {node} had applied {}, now {}", words(last), words(applied)))
    }

    fn died(&mut self, node: NodeId) {
        self.applied.remove(&node);
    }
}
