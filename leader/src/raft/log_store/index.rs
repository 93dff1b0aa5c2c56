//! Which record of the log holds which entry.
//!
//! Entries are numbered densely, and so are records. Where both go up by one and the term stays,
//! one row covers the whole run, so a busy log costs far less than a row per entry.

use std::collections::VecDeque;

use common::ids::LogPos;
use common::storage::wal::Lsn;

/// Entries that lie next to each other, of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Their term.
    pub(crate) term: u64,
    /// The index of the first.
    pub(crate) index: u64,
    /// The record of the first.
    pub(super) lsn: Lsn,
    /// How many they are.
    pub(crate) length: u64,
}

impl Run {
    /// The first index behind the run.
    pub(crate) const fn end(&self) -> u64 {
        self.index + self.length
    }

    const fn at(&self, index: u64) -> LogPos {
        LogPos { term: self.term, index }
    }

    /// The part of the run from `from` up to, but without, `end`.
    pub(super) const fn part(&self, from: u64, end: u64) -> Self {
        let lsn = Lsn(self.lsn.0 + (from - self.index));
        Self { term: self.term, index: from, lsn, length: end - from }
    }
}

/// The entries of a log: a gapless range of indexes.
#[derive(Debug, Default)]
pub(super) struct Index {
    runs: VecDeque<Run>,
}

/// An entry would leave a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {found} would follow entry {}: the log would have a gap", expected - 1)]
pub(crate) struct Gap {
    /// The next index of the log.
    expected: u64,
    /// The index of the entry.
    found: u64,
}

impl Index {
    /// The first entry.
    pub(super) fn first(&self) -> Option<LogPos> {
        self.runs.front().map(|run| run.at(run.index))
    }

    /// The last entry.
    pub(super) fn last(&self) -> Option<LogPos> {
        self.runs.back().map(|run| run.at(run.end() - 1))
    }

    /// The record of the first entry.
    pub(super) fn first_lsn(&self) -> Option<Lsn> {
        self.runs.front().map(|run| run.lsn)
    }

    /// The entry with this index: its position and its record.
    pub(super) fn find(&self, index: u64) -> Option<(LogPos, Lsn)> {
        let behind = self.runs.partition_point(|run| run.index <= index);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let offset = index - run.index;
        (offset < run.length).then(|| (run.at(index), Lsn(run.lsn.0 + offset)))
    }

    /// Whether an entry may be appended.
    pub(super) fn follows(&self, index: u64) -> Result<(), Gap> {
        match self.runs.back() {
            Some(run) if run.end() != index => Err(Gap { expected: run.end(), found: index }),
            _ => Ok(()),
        }
    }

    /// Appends an entry. The first of an empty log may have any index.
    pub(super) fn push(&mut self, at: LogPos, lsn: Lsn) -> Result<(), Gap> {
        self.follows(at.index)?;
        if let Some(run) = self.runs.back_mut()
            && run.term == at.term
            && run.lsn.0 + run.length == lsn.0
        {
            run.length += 1;
        } else {
            self.runs.push_back(Run { term: at.term, index: at.index, lsn, length: 1 });
        }
        Ok(())
    }

    /// Drops all entries from `index` on, and returns them.
    pub(super) fn truncate_from(&mut self, index: u64) -> Vec<Run> {
        let mut dropped = Vec::new();
        while let Some(run) = self.runs.pop_back() {
            if run.index >= index {
                dropped.push(run);
                continue;
            }
            if run.end() > index {
                dropped.push(run.part(index, run.end()));
            }
            self.runs.push_back(run.part(run.index, run.end().min(index)));
            break;
        }
        dropped
    }

    /// Drops all entries below `index`, and returns them.
    pub(super) fn purge_below(&mut self, index: u64) -> Vec<Run> {
        let mut dropped = Vec::new();
        while let Some(run) = self.runs.pop_front() {
            if run.end() <= index {
                dropped.push(run);
                continue;
            }
            if run.index < index {
                dropped.push(run.part(run.index, index));
            }
            self.runs.push_front(run.part(run.index.max(index), run.end()));
            break;
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_gap_is_refused() {
        let mut index = Index::default();
        index.push(LogPos { term: 1, index: 5 }, Lsn(1)).unwrap();
        let refused = index.push(LogPos { term: 1, index: 7 }, Lsn(2)).unwrap_err();
        assert_eq!(refused.to_string(), "entry 7 would follow entry 5: the log would have a gap");
        assert_eq!(index.last(), Some(LogPos { term: 1, index: 5 }));
    }

    #[test]
    fn entries_next_to_each_other_share_a_row() {
        let mut index = Index::default();
        for i in 0..1000 {
            index.push(LogPos { term: 1, index: i }, Lsn(10 + i)).unwrap();
        }
        assert_eq!(index.runs.len(), 1);
        index.purge_below(400);
        index.truncate_from(600);
        assert_eq!(index.runs.len(), 1);
        assert_eq!(index.first(), Some(LogPos { term: 1, index: 400 }));
        assert_eq!(index.first_lsn(), Some(Lsn(410)));
        assert_eq!(index.last(), Some(LogPos { term: 1, index: 599 }));
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Entries, with other records between them where `skip` is above 0.
        Push {
            count: u64,
            skip: u64,
            term: u64,
        },
        Truncate(u64),
        Purge(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1..6_u64, 0..3_u64, 0..2_u64)
                .prop_map(|(count, skip, term)| Step::Push { count, skip, term }),
            1 => (0..60_u64).prop_map(Step::Truncate),
            1 => (0..60_u64).prop_map(Step::Purge),
        ]
    }

    /// A row per entry.
    fn rows(runs: &[Run]) -> BTreeMap<u64, (LogPos, Lsn)> {
        let all = runs.iter().flat_map(|run| (run.index..run.end()).map(move |i| (i, run)));
        all.map(|(i, run)| (i, (run.at(i), Lsn(run.lsn.0 + i - run.index)))).collect()
    }

    proptest! {
        /// A map with a row per entry is the model.
        #[test]
        fn runs_say_what_a_row_per_entry_would(
            start in 0..3_u64,
            steps in prop::collection::vec(step(), 0..30),
        ) {
            let mut index = Index::default();
            let mut model = BTreeMap::new();
            let (mut lsn, mut term, mut next) = (0, 1, start);
            for step in steps {
                match step {
                    Step::Push { count, skip, term: later } => {
                        term += later;
                        lsn += skip;
                        for _ in 0..count {
                            lsn += 1;
                            let at = LogPos { term, index: next };
                            index.push(at, Lsn(lsn)).unwrap();
                            model.insert(next, (at, Lsn(lsn)));
                            next += 1;
                        }
                    }
                    Step::Truncate(from) => {
                        let dropped = rows(&index.truncate_from(from));
                        prop_assert_eq!(dropped, model.split_off(&from));
                        if let Some((last, _)) = model.last_key_value() {
                            next = last + 1;
                        }
                    }
                    Step::Purge(below) => {
                        let dropped = rows(&index.purge_below(below));
                        let kept = model.split_off(&below);
                        prop_assert_eq!(dropped, std::mem::replace(&mut model, kept));
                    }
                }
                prop_assert_eq!(index.first(), model.values().next().map(|row| row.0));
                prop_assert_eq!(index.first_lsn(), model.values().next().map(|row| row.1));
                prop_assert_eq!(index.last(), model.values().next_back().map(|row| row.0));
                for i in 0..80 {
                    prop_assert_eq!(index.find(i), model.get(&i).copied());
                }
            }
        }
    }
}
