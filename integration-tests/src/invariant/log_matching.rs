//! A term and an index name one entry and one predecessor, in every log: log matching, Ongaro and
//! Ousterhout 2014, figure 3.

use std::collections::BTreeMap;

use common::ids::{LogPos, NodeId};
use leader::message::Request;

use super::{Invariant, Said, entry, words};

/// Checksum and predecessor of every entry that was sent.
#[derive(Debug, Default)]
pub(super) struct LogMatching(BTreeMap<LogPos, (u32, Option<LogPos>)>);

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log_matching"
    }

    fn hear(&mut self, node: NodeId, said: Said<'_>) -> Option<String> {
        let Said::Asks(Request::Append { previous, entries, .. }) = said else { return None };
        let mut before = *previous;
        for bytes in entries {
            let (at, checksum) = entry(bytes)?;
            let known = *self.0.entry(at).or_insert((checksum, before));
            if known.0 != checksum {
                return Some(format!("{} has two contents, one sent by node {node}", words(at)));
            }
            if known.1 != before {
                return Some(format!(
                    "{} follows {:?} and, as node {node} says, {before:?}",
                    words(at),
                    known.1
                ));
            }
            before = Some(at);
        }
        None
    }
}
