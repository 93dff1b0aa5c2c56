//! Nothing is applied that is not committed: Ongaro and Ousterhout 2014, §5.3.
//!
//! A node may have applied an entry a moment before anybody says that it is committed, and what it
//! shows of itself is gathered at different moments. So it has until it is looked at again.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::Request;

use super::{Invariant, Look, Said, words};

/// The last entry known to be committed, and what nodes have applied beyond it.
#[derive(Debug, Default)]
pub(super) struct AppliedWithinCommitted {
    committed: u64,
    beyond: BTreeMap<NodeId, LogPos>,
}

impl Invariant for AppliedWithinCommitted {
    fn name(&self) -> &'static str {
        "applied_within_committed"
    }

    fn hear(&mut self, _: NodeId, said: Said<'_>) -> Option<String> {
        if let Said::Asks(Request::Append { committed: Some(at), .. }) = said {
            self.committed = self.committed.max(at.index);
        }
        None
    }

    fn look(&mut self, look: &Look) -> Option<String> {
        let Look { node, applied, committed, .. } = *look;
        let known = self.committed.max(committed.map_or(0, |at| at.index));
        if let Some(former) = self.beyond.remove(&node)
            && former.index > known
        {
            return Some(format!(
                "node {node} has applied {}, and nothing beyond index {known} is committed",
                words(former)
            ));
        }
        if applied.index > known {
            self.beyond.insert(node, applied);
        }
        None
    }

    fn died(&mut self, node: NodeId) {
        self.beyond.remove(&node);
    }
}
