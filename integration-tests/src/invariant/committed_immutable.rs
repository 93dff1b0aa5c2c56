//! One entry per index is ever committed: state machine safety, Ongaro and Ousterhout 2014, figure 3.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::Request;

use super::{Invariant, Look, Said, words};

/// The term of what is committed, by index.
#[derive(Debug, Default)]
pub(super) struct CommittedImmutable(BTreeMap<u64, u64>);

impl CommittedImmutable {
    fn note(&mut self, node: NodeId, at: LogPos) -> Option<String> {
        let term = *self.0.entry(at.index).or_insert(at.term);
        let known = LogPos { term, index: at.index };
        (known != at)
            .then(|| format!("{} is committed, and for node {node} {}", words(known), words(at)))
    }
}

impl Invariant for CommittedImmutable {
    fn name(&self) -> &'static str {
        "committed_immutable"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        match said {
            Said::Asks(Request::Append { committed: Some(at), .. }) => self.note(node, *at),
            Said::Acknowledges(at) => self.note(node, at),
            _ => None,
        }
    }

    fn look(&mut self, look: &Look) -> Option<String> {
        (look.applied.index > 0).then(|| self.note(look.node, look.applied))?
    }
}
