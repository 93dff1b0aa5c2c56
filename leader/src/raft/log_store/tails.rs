//! How far each client's commands stand in this log without a gap, in the current term.
//!
//! A session applies commands in order, so a batch whose predecessor was never appended is
//! committed and changes nothing. Only the log's own order tells: of two batches that were sent one
//! after the other, the first may have been refused and the second not.

use std::collections::BTreeMap;

use common::ids::{ClientId, LogPos};

use crate::raft::type_config::Batch;

/// The last command of each client, of those who have commands of this term in the log.
#[derive(Debug, Default)]
pub(super) struct Tails {
    term: u64,
    last: BTreeMap<ClientId, u64>,
}

impl Tails {
    /// Notes that a batch was appended. Whether it takes effect if it is committed.
    pub(super) fn append(&mut self, at: LogPos, batch: &Batch) -> bool {
        if self.term != at.term {
            self.term = at.term;
            self.last.clear();
        }
        let known = self.last.get(&batch.client).copied().max(batch.applied);
        let Some(known) = known.filter(|known| batch.first <= known + 1) else { return false };
        self.last.insert(batch.client, known.max(batch.last));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_behind_a_gap_does_not_follow_and_neither_does_what_comes_after_it() {
        let mut tails = Tails::default();
        let mut index = 0;
        let mut append = |term, client, first, last, applied| {
            index += 1;
            let batch = Batch { client: ClientId(client), first, last, applied };
            tails.append(LogPos { term, index }, &batch)
        };
        assert!(append(1, 7, 1, 4, Some(0)));
        assert!(append(1, 7, 5, 6, Some(0)), "not applied yet, but in the log");
        assert!(!append(1, 7, 9, 9, Some(4)), "7 and 8 are missing");
        assert!(!append(1, 7, 10, 12, Some(4)));
        assert!(append(1, 7, 7, 12, Some(4)), "sent again");
        assert!(append(1, 7, 5, 6, Some(12)), "a repetition");
        assert!(append(1, 7, 13, 13, Some(4)));
        assert!(!append(1, 8, 1, 1, None), "no such session");
        assert!(!append(2, 7, 14, 14, Some(4)), "what an earlier term appended is not known");
        assert!(append(2, 7, 14, 14, Some(13)));
    }
}
