//! The fate of a write: committed, lost or not decided, told from any member's state.
//!
//! A term and an index name one entry for ever. The committed history says of which term the entry
//! at each index is: one row per leader that committed something, part of the state and of every
//! snapshot, never trimmed. So whether a write is part of the history follows from what is
//! committed, and never from the disk of the leader that took it.
//!
//! ```text
//! keyspace "leader.history":  first index (8 bytes, big-endian) -> term
//! ```

use std::collections::BTreeMap;
use std::ops::Range;

use common::codec;
use common::ids::LogPos;
use common::mutate;
use common::receipt::Fate;
use common::storage::engine::{EngineError, KeyRange, Keyspace, PageLimit, Read};

use crate::raft::Judgement;
use crate::state_machine::Draft;

/// Where the history is stored.
pub(crate) const HISTORY: Keyspace = Keyspace("leader.history");

/// Of which term each committed entry is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// The first index of each run of entries of one term.
    firsts: BTreeMap<u64, u64>,
}

impl History {
    /// The history that a state holds.
    pub(crate) fn load(state: &dyn Read) -> Result<Self, EngineError> {
        let mut firsts = BTreeMap::new();
        let mut range = KeyRange::all();
        loop {
            let page = state.scan(HISTORY, &range, PageLimit { items: 1_000, bytes: 1 << 20 })?;
            for (key, value) in &page.items {
                let damaged = || EngineError::Corrupt("a row of the history of terms".into());
                let first =
                    key.first_chunk::<8>().filter(|_| key.len() == 8).ok_or_else(damaged)?;
                let term = codec::decode_body(value).map_err(|_| damaged())?;
                firsts.insert(u64::from_be_bytes(*first), term);
            }
            match page.items.last() {
                Some((key, _)) if page.more => range = range.after(key.clone()),
                _ => return Ok(Self { firsts }),
            }
        }
    }

    /// An entry is committed.
    pub(crate) fn note(&mut self, draft: &mut Draft<'_>, at: LogPos) {
        if self.firsts.last_key_value().is_none_or(|(_, term)| *term != at.term) {
            draft.put(HISTORY, at.index.to_be_bytes().to_vec(), codec::encode_body(&at.term));
            self.firsts.insert(at.index, at.term);
        }
    }

    /// The term of a committed entry.
    fn term_at(&self, index: u64) -> Option<u64> {
        self.firsts.range(..=index).next_back().map(|(_, term)| *term)
    }

    /// What has become of an entry, as far as a state that has applied up to `applied` can tell.
    pub(crate) fn fate(&self, at: LogPos, applied: Option<LogPos>) -> Option<Fate> {
        let applied = applied?;
        if at.index <= applied.index {
            let term = self.term_at(at.index)?;
            if mutate!("resolve_by_index_alone", term == at.term, true) {
                return Some(Fate::Committed);
            }
            return Some(Fate::Lost { replaced_by: Some(LogPos { term, index: at.index }) });
        }
        // Terms never decrease along a log, so no log that continues this one has the entry.
        (applied.term > at.term).then_some(Fate::Lost { replaced_by: None })
    }

    /// The same for a range of entries of one term, which one leader appended in this order: so
    /// those that are committed come first, then those that are lost, then those that are open.
    pub(crate) fn judge(&self, term: u64, range: Range<u64>, applied: Option<LogPos>) -> Judgement {
        let Some(applied) = applied else {
            return Judgement { committed: range.start, lost: range.start };
        };
        let known = (applied.index + 1).clamp(range.start, range.end);
        // Where the term's part of the history ends, if it has one.
        let firsts = &self.firsts;
        let before = firsts.range(..range.end).rev().find(|(_, of)| **of <= term);
        let own = before.filter(|(_, of)| **of == term).map(|(first, _)| *first);
        let end = own.and_then(|first| firsts.range(first + 1..).next()).map(|(first, _)| *first);
        let committed = match own {
            Some(first) if first <= range.start => end.unwrap_or(u64::MAX).min(known),
            _ => range.start,
        };
        let lost = if applied.term > term { range.end } else { known };
        let judged = Judgement { committed: committed.max(range.start), lost };
        mutate!(
            "lost_tail_forgotten",
            judged,
            Judgement { committed: judged.lost.max(judged.committed), ..judged }
        )
    }
}

#[cfg(test)]
mod tests {
    use common::storage::engine::{Engine, MemoryEngine};

    use super::*;

    fn at(term: u64, index: u64) -> LogPos {
        LogPos { term, index }
    }

    fn history(entries: &[LogPos]) -> (MemoryEngine, History) {
        let (engine, mut history) = (MemoryEngine::volatile(), History::default());
        let mut draft = Draft::new(&engine);
        for entry in entries {
            history.note(&mut draft, *entry);
        }
        engine.write(draft.into_batch()).unwrap();
        (engine, history)
    }

    #[test]
    fn a_position_is_committed_lost_or_open() {
        let entries = [at(0, 0), at(1, 1), at(1, 2), at(3, 3), at(3, 4), at(4, 5)];
        let (engine, history) = history(&entries);
        assert_eq!(History::load(&engine).unwrap(), history);
        assert_eq!(history.firsts.len(), 4, "one row per term");
        let applied = Some(at(4, 5));
        for entry in entries {
            assert_eq!(history.fate(entry, applied), Some(Fate::Committed));
        }
        let lost = |replaced_by| Some(Fate::Lost { replaced_by });
        assert_eq!(history.fate(at(1, 3), applied), lost(Some(at(3, 3))));
        assert_eq!(history.fate(at(2, 5), applied), lost(Some(at(4, 5))));
        assert_eq!(history.fate(at(3, 9), applied), lost(None), "an older term cannot follow");
        assert_eq!(history.fate(at(4, 6), applied), None, "it may still be committed");
        assert_eq!(history.fate(at(7, 6), applied), None);
        assert_eq!(history.fate(at(1, 1), None), None);
    }

    #[test]
    fn a_run_is_judged_as_each_of_its_entries() {
        let entries = [at(0, 0), at(1, 1), at(1, 2), at(3, 3), at(3, 4), at(4, 5), at(6, 6)];
        for upto in 0..=entries.len() {
            let (_, history) = history(&entries[..upto]);
            let applied = upto.checked_sub(1).map(|last| entries[last]);
            // A run begins where its term's own part of the history does, or behind it.
            for (term, start) in (0..8).flat_map(|term| (0..9).map(move |start| (term, start))) {
                let first = entries.iter().find(|e| e.term == term).map_or(0, |e| e.index);
                for end in start.max(first)..10 {
                    let start = start.max(first);
                    let said = history.judge(term, start..end, applied);
                    for index in start..end {
                        let by_one = match history.fate(at(term, index), applied) {
                            Some(Fate::Committed) => index < said.committed,
                            Some(_) => (said.committed..said.lost).contains(&index),
                            None => index >= said.lost && index >= said.committed,
                        };
                        assert!(by_one, "{term}/{index} of {start}..{end} at {upto}: {said:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_answer_ever_changes() {
        let entries = [at(0, 0), at(1, 1), at(1, 2), at(3, 3), at(3, 4), at(4, 5), at(6, 6)];
        for asked in (0..8).flat_map(|term| (0..9).map(move |index| at(term, index))) {
            let mut said = None;
            for upto in 1..=entries.len() {
                let (_, history) = history(&entries[..upto]);
                let says = history.fate(asked, Some(entries[upto - 1]));
                let same = |a: Fate, b: Fate| (a == Fate::Committed) == (b == Fate::Committed);
                if let Some(before) = said {
                    assert!(says.is_some_and(|now| same(before, now)), "{asked:?} at {upto}");
                }
                said = says.or(said);
            }
        }
    }
}
