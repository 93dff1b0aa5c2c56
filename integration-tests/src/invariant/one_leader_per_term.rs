//! At most one node leads a term: election safety, Ongaro and Ousterhout 2014, figure 3.

use std::collections::BTreeMap;

use common::ids::NodeId;
use leader::message::Request;

use super::{Invariant, Said};

/// Who was heard to lead, by term.
#[derive(Debug, Default)]
pub(super) struct OneLeaderPerTerm(BTreeMap<u64, NodeId>);

impl Invariant for OneLeaderPerTerm {
    fn name(&self) -> &'static str {
        "one_leader_per_term"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let Said::Asks(Request::Append { vote, .. }) = said else { return None };
        let first = *self.0.entry(vote.term).or_insert(node);
        if vote.node != node {
            return Some(format!("node {node} leads by a vote for node {}", vote.node));
        }
        (first != node).then(|| format!("nodes {first} and {node} both lead term {}", vote.term))
    }
}
