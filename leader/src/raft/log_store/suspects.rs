//! Entries that were dropped, until it is known whether that lost them.
//!
//! A leader that was deposed drops what it could not replicate, and a member that takes a snapshot
//! drops what the snapshot stands for. Some of it may be committed elsewhere, some is lost for ever,
//! and its leader may have acknowledged it. The log itself is the evidence: its segments stay until
//! the committed history has passed judgement on every entry in them, and what is lost is in a
//! rollback file. A replay meets the same records again and finds the same suspects, so nothing has
//! to be written at the moment in which a tail is dropped, and no crash can lose the evidence.

use std::ops::Range;

use common::storage::wal::{Lsn, WalError};

use super::reader::PAGE_BYTES;
use super::record::{EntryRecord, Record};
use super::{LogStore, Run};

/// The judgement on entries of one term: indexes below `committed` are, from there on below `lost`
/// they are lost, and the rest is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) committed: u64,
    pub(crate) lost: u64,
}

/// What was dropped and not judged yet.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    runs: Vec<Run>,
    /// Records below this are needed by nothing but suspects.
    releasable: Option<Lsn>,
}

impl Suspects {
    pub(super) fn add(&mut self, dropped: Vec<Run>) {
        self.runs.extend(dropped);
    }

    /// Records below `below` are needed by suspects at most.
    pub(super) fn release(&mut self, below: Lsn) {
        self.releasable = self.releasable.max(Some(below));
    }

    /// Forgets what is committed, and returns what is lost; that stays until it is settled.
    fn judge(&mut self, judge: impl Fn(u64, Range<u64>) -> Judgement) -> Vec<Run> {
        let (mut open, mut lost) = (Vec::new(), Vec::new());
        for run in self.runs.drain(..) {
            let said = judge(run.term, run.index..run.end());
            if said.lost > said.committed {
                lost.push(run.part(said.committed, said.lost));
            }
            if said.lost < run.end() {
                open.push(run.part(said.lost, run.end()));
            }
        }
        self.runs = open;
        self.runs.extend(&lost);
        lost
    }

    fn settle(&mut self, run: &Run) {
        self.runs.retain(|suspect| suspect != run);
    }

    /// Below which record nothing is needed any more.
    fn free(&mut self) -> Option<Lsn> {
        let first = self.runs.iter().map(|run| run.lsn).min();
        let upto = self.releasable?;
        let free = first.map_or(upto, |first| first.min(upto));
        if free == upto {
            self.releasable = None;
        }
        Some(free)
    }
}

impl LogStore {
    /// Waits until entries were dropped since the last look, or may be released.
    pub(crate) async fn dropped(&self) {
        self.0.dropped.notified().await;
    }

    /// Whether anything that was dropped is not judged yet.
    pub(crate) fn suspects(&self) -> bool {
        !self.state().suspects.runs.is_empty()
    }

    /// Judges what was dropped, and returns what is lost: it stays until it is settled. `judge` gets
    /// a term and a range of indexes.
    pub(crate) fn judge(&self, judge: impl Fn(u64, Range<u64>) -> Judgement) -> Vec<Run> {
        let mut state = self.state();
        if state.suspects.runs.is_empty() { Vec::new() } else { state.suspects.judge(judge) }
    }

    /// What was lost of this run is kept elsewhere, durably.
    pub(crate) fn settle(&self, run: &Run) {
        self.state().suspects.settle(run);
    }

    /// Lets the segments go that nothing needs any more.
    pub(crate) fn release_settled(&self) {
        let free = self.state().suspects.free();
        if let Some(below) = free {
            common::sometimes!("log-segments-released");
            self.0.wal.release(below);
        }
    }

    /// The entries of a run that was dropped and not settled, from its `skip`-th on: at most a page,
    /// at least one unless all are read. Entries with commands only; the number is how many entries
    /// the page has passed.
    pub(crate) async fn read_dropped(
        &self,
        run: &Run,
        skip: u64,
    ) -> Result<(u64, Vec<EntryRecord>), WalError> {
        let (from, end) = (Lsn(run.lsn.0 + skip), Lsn(run.lsn.0 + run.length));
        let mut entries = Vec::new();
        let mut passed = 0;
        for (lsn, record) in self.0.wal.read(from, PAGE_BYTES).await? {
            if lsn >= end {
                break;
            }
            passed += 1;
            if let Ok(Record::Entry(entry)) = Record::decode(record) {
                entries.push(entry);
            }
        }
        Ok((passed, entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(term: u64, index: u64, lsn: u64, length: u64) -> Run {
        Run { term, index, lsn: Lsn(lsn), length }
    }

    #[test]
    fn segments_stay_until_every_suspect_in_them_is_judged_and_settled() {
        let mut suspects = Suspects::default();
        suspects.add(vec![run(1, 0, 10, 5), run(2, 5, 20, 5)]);
        suspects.release(Lsn(100));
        assert_eq!(suspects.free(), Some(Lsn(10)));
        // Term 1 is committed up to 2, the rest of it lost; nothing is known of term 2.
        let judge = |term, range: Range<u64>| match term {
            1 => Judgement { committed: 3, lost: range.end },
            _ => Judgement { committed: range.start, lost: range.start },
        };
        let lost = suspects.judge(judge);
        assert_eq!(lost, [run(1, 3, 13, 2)]);
        assert_eq!(suspects.free(), Some(Lsn(13)), "it may be needed again");
        assert_eq!(suspects.judge(judge), lost, "told until it is settled");
        suspects.settle(&lost[0]);
        assert_eq!(suspects.free(), Some(Lsn(20)));
        assert_eq!(
            suspects.judge(|_, range| Judgement { committed: range.end, lost: range.end }),
            []
        );
        assert_eq!(suspects.free(), Some(Lsn(100)));
        assert_eq!(suspects.free(), None, "nothing new");
    }
}
