//! What entries have changed, as rows beside the state.
//!
//! ```text
//! keyspace "leader.feed":
//!   nothing                       -> the floor: changes up to this position are not all here
//!   index (8 bytes, big-endian)   -> term, clock, changes; only of entries that changed something
//! ```
//!
//! The rows are this member's own, and in no snapshot. A state without the floor's row has applied
//! nothing since it came into being, by a snapshot or from a version without a feed: then its
//! position is the floor. The first batch of changes writes it.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::ids::LogPos;
use common::mutate;
use common::storage::engine::{Batch, EngineError, KeyRange, Keyspace, PageLimit, Read};
use serde::{Deserialize, Serialize};

use super::{Change, Changes};
use crate::state_machine::Draft;

/// Where changes are stored.
pub(crate) const FEED: Keyspace = Keyspace("leader.feed");
/// The floor's row.
const FLOOR: &[u8] = b"";

/// The largest value that is told.
const MAX_VALUE: usize = 64 << 10;
/// The most bytes of values that are told of one entry.
const MAX_ENTRY_VALUES: usize = 1 << 20;
/// What one page of a watcher holds, unless one entry alone is larger.
const PAGE: PageLimit = PageLimit { items: 256, bytes: 1 << 20 };
/// Rows that are removed at once.
const TRIM: PageLimit = PageLimit { items: 1_000, bytes: 1 << 20 };

/// An entry's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    term: u64,
    clock: Hlc,
    list: Vec<(u16, Change)>,
}

/// Comparable positions of one history: 0 before the first entry.
pub(super) fn index(at: Option<LogPos>) -> u64 {
    at.map_or(0, |at| at.index + 1)
}

/// What an entry changes, while it is applied.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    list: Vec<(u16, Change)>,
    bytes: usize,
}

impl Gathered {
    /// A command has changed this.
    pub(crate) fn add(&mut self, sub: u16, changes: Vec<Change>) {
        for change in changes {
            let change = match change {
                Change::Put { key, value }
                    if value.len() > MAX_VALUE || self.bytes + value.len() > MAX_ENTRY_VALUES =>
                {
                    Change::Changed { key }
                }
                change => change,
            };
            if let Change::Put { value, .. } = &change {
                self.bytes += value.len();
            }
            self.list.push((sub, change));
        }
    }

    /// Writes the entry's row, if it changes anything.
    pub(crate) fn write(self, draft: &mut Draft<'_>, at: LogPos, clock: Hlc) {
        if !self.list.is_empty() {
            let row = Row { term: at.term, clock, list: self.list };
            draft.put(FEED, at.index.to_be_bytes().to_vec(), codec::encode_body(&row));
        }
    }
}

/// Where a member's changes begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    /// The changes up to here are not all there.
    pub(crate) at: Option<LogPos>,
    /// Whether its row is written.
    pub(crate) saved: bool,
}

impl Floor {
    /// The floor of a state that is at `applied`.
    pub(crate) fn load(state: &dyn Read, applied: Option<LogPos>) -> Result<Self, EngineError> {
        match state.get(FEED, FLOOR)? {
            None => {
                let at = mutate!("snapshot_gap_untold", applied, None);
                Ok(Self { at, saved: false })
            }
            Some(bytes) => Ok(Self { at: decode(&bytes)?, saved: true }),
        }
    }

    /// Goes along with a batch of entries, with their changes if these are kept: without its row, a
    /// later start knows that changes are missing.
    pub(crate) fn write(self, draft: &mut Draft<'_>, keeps: bool) {
        match (self.saved, keeps) {
            (false, true) => draft.put(FEED, FLOOR, codec::encode_body(&self.at)),
            (true, false) => draft.delete(FEED, FLOOR),
            (true, true) | (false, false) => {}
        }
    }
}

/// A batch that raises the floor, so that the rows below it can go.
pub(crate) fn raise(to: LogPos) -> Batch {
    let mut batch = Batch::new();
    batch.put(FEED, FLOOR, codec::encode_body(&Some(to)));
    batch
}

/// A batch that removes rows from an index on and up to a floor, and the index to go on from.
pub(crate) fn trim(state: &dyn Read, from: u64, upto: LogPos) -> Result<(Batch, u64), EngineError> {
    let end = Bound::Included(Bytes::copy_from_slice(&upto.index.to_be_bytes()));
    let start = Bound::Included(Bytes::copy_from_slice(&from.to_be_bytes()));
    let range = KeyRange { start, end };
    let page = state.scan(FEED, &range, TRIM)?;
    let mut batch = Batch::new();
    let last = page.items.last().and_then(|(key, _)| key.first_chunk::<8>().copied());
    for (key, _) in page.items {
        batch.delete(FEED, key);
    }
    let next = last.filter(|_| page.more).map_or(upto.index, u64::from_be_bytes) + 1;
    Ok((batch, next))
}

/// The feed at one moment.
pub(crate) struct FeedCut {
    pub(crate) state: Arc<dyn Read>,
    /// How far it goes.
    pub(crate) applied: Option<LogPos>,
    /// Where it begins.
    pub(crate) floor: Option<LogPos>,
}

impl FeedCut {
    /// The first changes after a position that is not below the floor, and whether there are more.
    pub(super) fn page(&self, after: Option<LogPos>) -> Result<(Vec<Changes>, bool), EngineError> {
        let first = index(after).to_be_bytes().to_vec();
        let page = self.state.scan(FEED, &KeyRange::from(first), PAGE)?;
        let mut list = Vec::with_capacity(page.items.len());
        for (key, value) in page.items {
            let Some(index) = key.first_chunk::<8>().filter(|_| key.len() == 8) else {
                return Err(EngineError::Corrupt("the key of a row of changes".into()));
            };
            let Row { term, clock, list: changes } = decode(&value)?;
            let at = LogPos { term, index: u64::from_be_bytes(*index) };
            list.push(Changes { at, clock, list: changes });
        }
        Ok((list, page.more))
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, EngineError> {
    codec::decode_body(bytes)
        .map_err(|error| EngineError::Corrupt(format!("a row of changes: {error}")))
}

#[cfg(test)]
mod tests {
    use common::storage::engine::{Engine, MemoryEngine};

    use super::*;

    #[test]
    fn rows_up_to_the_floor_go_page_by_page_and_no_others() {
        let engine = MemoryEngine::volatile();
        let at = |index| LogPos { term: 1, index };
        let mut draft = Draft::new(&engine);
        for index in 5..3_000 {
            let mut gathered = Gathered::default();
            gathered.add(0, vec![Change::Cleared]);
            gathered.write(&mut draft, at(index), Hlc::ZERO);
        }
        engine.write(draft.into_batch()).unwrap();
        engine.write(raise(at(2_900))).unwrap();
        let (mut next, mut pages) = (0, 0);
        while next <= 2_900 {
            let (batch, then) = trim(&engine, next, at(2_900)).unwrap();
            assert!(then > next && batch.changes.len() <= TRIM.items);
            engine.write(batch).unwrap();
            (next, pages) = (then, pages + 1);
        }
        assert_eq!(pages, 3);
        let floor = Floor::load(&engine, Some(at(2_999))).unwrap();
        assert_eq!((floor.at, floor.saved), (Some(at(2_900)), true));
        let limit = PageLimit { items: 10_000, bytes: 1 << 30 };
        let rows = engine.scan(FEED, &KeyRange::all(), limit).unwrap().items;
        assert_eq!(rows.len(), 1 + 99, "the floor, and what is above it");
    }

    #[test]
    fn large_values_are_not_told() {
        let put = |bytes| Change::Put { key: "k".into(), value: vec![0; bytes].into() };
        let mut gathered = Gathered::default();
        for sub in 0..17 {
            gathered.add(sub, vec![put(MAX_VALUE)]);
        }
        gathered.add(17, vec![put(MAX_VALUE + 1), put(0)]);
        let told: Vec<bool> =
            gathered.list.iter().map(|(_, c)| matches!(c, Change::Put { .. })).collect();
        assert_eq!(told[..16], [true; 16]);
        assert_eq!(told[16..], [false, false, true]);
    }

    #[test]
    fn the_format_of_a_row_stays() {
        let row = Row {
            term: 3,
            clock: Hlc::new(1_000, 2),
            list: vec![
                (0, Change::Put { key: "k".into(), value: "v".into() }),
                (1, Change::Changed { key: "l".into() }),
                (2, Change::Deleted { key: "m".into() }),
                (3, Change::Expired { key: "n".into() }),
                (4, Change::Cleared),
            ],
        };
        let bytes = codec::encode_body(&row);
        let hex = bytes.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
        assert_eq!(hex, "03fc0200e803050000016b01760101016c0202016d0303016e0404");
        assert_eq!(codec::decode_body::<Row>(&bytes).unwrap(), row);
    }
}
