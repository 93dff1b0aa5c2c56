//! What is committed in a term is in the log of every leader of a later one: leader completeness,
//! Ongaro and Ousterhout 2014, figure 3.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::Request;

use super::{Invariant, Said, entry, words};

/// By index: what is committed there, and the first term whose leader said so.
#[derive(Debug, Default)]
pub(super) struct LeaderCompleteness(BTreeMap<u64, (LogPos, u64)>);

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader_completeness"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let Said::Asks(Request::Append { vote, previous, committed, entries, .. }) = said else {
            return None;
        };
        let sent = entries.iter().filter_map(|bytes| Some(entry(bytes)?.0));
        for at in previous.iter().copied().chain(sent) {
            if let Some((committed, in_term)) = self.0.get(&at.index)
                && vote.term > *in_term
                && *committed != at
            {
                return Some(format!(
                    "node {node} leads term {} with {} where {} was committed in term {in_term}",
                    vote.term,
                    words(at),
                    words(*committed)
                ));
            }
        }
        if let Some(at) = committed {
            self.0.entry(at.index).or_insert((*at, vote.term));
        }
        None
    }
}
