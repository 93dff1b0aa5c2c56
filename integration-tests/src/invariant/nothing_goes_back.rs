//! A node asks for votes in later and later terms, also over restarts, and what it has applied does
//! not go back while its process lives: Ongaro and Ousterhout 2014, figure 2.
//!
//! Other messages may say less than earlier ones: answers leave in any order, and a leader tells each
//! follower no more is committed than it holds.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::Request;

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
        let Said::Asks(Request::Vote(candidacy)) = said else { return None };
        let term = candidacy.vote.term;
        let last = forward(&mut self.terms, node, term)?;
        Some(format!("node {node} asked for votes in term {last}, now in term {term}"))
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
