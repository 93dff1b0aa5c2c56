//! A consistent cut of the keys, to read from.

use std::ops::Bound;

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{EngineError, KeyRange, PageLimit, Read, after_prefix};

use super::admission::fits;
use super::record::{Kind, Record};
use super::rows::{Ledger, first_row, key_row, parse_row};
use super::{KEYS, query};
use super::{Query, Reply};

/// A state at an instant.
pub struct Cut<'a> {
    state: &'a dyn Read,
    pub(super) ledger: Ledger,
    clock: u64,
    now: u64,
}

impl std::fmt::Debug for Cut<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cut").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// One step of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Keys with their types.
    pub keys: Vec<(Bytes, Kind)>,
    /// Where to go on, or 0 after the last step.
    pub next: u64,
}

impl<'a> Cut<'a> {
    /// `clock` says what is gone; `now`, at or after it, is what remaining times are counted from.
    pub fn open(state: &'a dyn Read, clock: Hlc, now: Hlc) -> Result<Self, EngineError> {
        let ledger = Ledger::read(state)?;
        Ok(Self { state, ledger, clock: clock.millis(), now: now.millis() })
    }

    pub(super) fn state(&self) -> &dyn Read {
        self.state
    }

    /// Answers a read.
    pub fn answer(&self, query: &Query) -> Result<Reply, EngineError> {
        query::answer(self, query)
    }

    /// What a key holds.
    pub fn get(&self, key: &[u8]) -> Result<Option<Record>, EngineError> {
        if !fits(key) {
            return Ok(None);
        }
        let Some(bytes) = self.state.get(KEYS, &key_row(self.ledger.generation, key))? else {
            return Ok(None);
        };
        Ok(Some(Record::decode(key, bytes)?).filter(|record| !record.is_due(self.clock)))
    }

    /// How many keys there are; some may be due.
    pub const fn count(&self) -> u64 {
        self.ledger.count
    }

    /// How many of them have a deadline.
    pub const fn dated(&self) -> u64 {
        self.ledger.dated
    }

    /// What remaining times are counted from, in milliseconds since the Unix epoch.
    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// The keys from a cursor on, about `count` of them; 0 begins. Every key that is there from the
    /// first step to the last is found: keys stand in the order of their hash, the cursor is the
    /// hash to go on with, and keys of one hash are never torn apart.
    pub fn scan(&self, cursor: u64, count: usize) -> Result<Found, EngineError> {
        const PAGE_BYTES: usize = 1 << 20;
        let prefix = self.ledger.generation.to_be_bytes();
        let end = after_prefix(&prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let start = Bound::Included(first_row(self.ledger.generation, cursor));
        // One more than asked for: usually only it is left for the next step.
        let limit = PageLimit { items: count.saturating_add(1), bytes: PAGE_BYTES };
        let mut page = self.state.scan(KEYS, &KeyRange { start, end: end.clone() }, limit)?;
        let hash = |row: &Bytes| parse_row(row.clone()).map(|(hash, _)| hash);
        let mut next = 0;
        if let (Some((first, _)), Some((last, _))) = (page.items.first(), page.items.last())
            && (page.more || page.items.len() > count)
        {
            let (first, last) = (hash(first)?, hash(last)?);
            if first == last {
                // A whole page of one hash, or a single key: finish the hash, go on behind it.
                while page.more {
                    let (row, _) = &page.items[page.items.len() - 1];
                    let start = Bound::Excluded(row.clone());
                    let range = KeyRange { start, end: end.clone() };
                    let more = self.state.scan(KEYS, &range, limit)?;
                    page.more = more.more;
                    for (row, value) in more.items {
                        if hash(&row)? == last {
                            page.items.push((row, value));
                        } else {
                            page.more = false;
                            next = last.wrapping_add(1);
                            break;
                        }
                    }
                }
            } else {
                while let Some((row, _)) = page.items.last()
                    && hash(row)? == last
                {
                    page.items.pop();
                }
                next = last;
            }
        }
        let mut keys = Vec::with_capacity(page.items.len());
        for (row, value) in page.items {
            let (_, key) = parse_row(row)?;
            let record = Record::decode(&key, value)?;
            if !record.is_due(self.clock) {
                keys.push((key, record.kind));
            }
        }
        Ok(Found { keys, next })
    }

    /// Some key: the first from a hash on, around the end if need be.
    pub fn any(&self, from: u64) -> Result<Option<Bytes>, EngineError> {
        const STEP: usize = 16;
        let mut wrapped = false;
        let mut cursor = from;
        loop {
            let found = self.scan(cursor, STEP)?;
            if let Some((key, _)) = found.keys.into_iter().next() {
                return Ok(Some(key));
            }
            cursor = found.next;
            if cursor == 0 {
                if wrapped {
                    return Ok(None);
                }
                wrapped = true;
            }
        }
    }
}
