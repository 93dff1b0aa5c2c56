//! The elements of a key: a row each, named by a generation that no other key ever had.
//!
//! ```text
//! element's row:  generation of the state: u32 | of the elements: u64 | siphash13: u64 | element
//! of a list:      generation of the state: u32 | of the elements: u64 | position: u64
//! dropped:        generation of the state: u32 | of the elements: u64
//! ```
//!
//! Rows stand in the order of a hash, so that a cursor of HSCAN is a plain number. A key that is
//! gone only notes that its elements are dropped, whatever their number; sweeping removes their rows
//! piece by piece.

use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};
use common::storage::engine::{
    EngineError, KeyRange, MAX_KEY, Page, PageLimit, Read, after_prefix,
};

use super::rows::hash;
use super::{DROPPED, ELEMENTS};

/// Bytes before the element in its row.
const BEFORE: usize = 20;

/// The longest element in bytes.
pub const MAX_ELEMENT_BYTES: usize = 64_000;
const _: () = assert!(MAX_ELEMENT_BYTES + BEFORE <= MAX_KEY);

/// Names the elements of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owner {
    /// The generation of the state.
    pub(super) state: u32,
    /// The generation of the elements.
    pub(super) elements: u64,
}

impl Owner {
    /// The row that says that these elements are dropped.
    pub(super) fn dropped(self) -> Bytes {
        self.prefix().freeze()
    }

    fn prefix(self) -> BytesMut {
        let mut row = BytesMut::with_capacity(BEFORE);
        row.put_u32(self.state);
        row.put_u64(self.elements);
        row
    }

    /// The owner that a row begins with.
    pub(super) fn of(row: &[u8]) -> Option<Self> {
        let state = u32::from_be_bytes(*row.first_chunk()?);
        let elements = u64::from_be_bytes(*row.get(4..)?.first_chunk()?);
        Some(Self { state, elements })
    }

    /// The row of an element.
    pub(super) fn row(self, element: &[u8]) -> Bytes {
        let mut row = self.prefix();
        row.put_u64(hash(element));
        row.put_slice(element);
        row.freeze()
    }

    /// The row of a list's position.
    pub(super) fn place(self, at: i64) -> Bytes {
        let mut row = self.prefix();
        // In the order of the numbers, negative ones first.
        row.put_u64(at.cast_unsigned() ^ (1 << 63));
        row.freeze()
    }

    /// The same row of another owner.
    pub(super) fn takes(self, row: &[u8]) -> Bytes {
        let mut own = self.prefix();
        own.put_slice(row.get(own.len()..).unwrap_or_default());
        own.freeze()
    }

    /// All rows from a hash on.
    pub(super) fn from(self, hash: u64) -> KeyRange {
        let mut start = self.prefix();
        start.put_u64(hash);
        let end = after_prefix(&self.prefix()).map_or(Bound::Unbounded, Bound::Excluded);
        KeyRange { start: Bound::Included(start.freeze()), end }
    }

    /// The value of an element.
    pub(super) fn get(
        self,
        state: &dyn Read,
        element: &[u8],
    ) -> Result<Option<Bytes>, EngineError> {
        if element.len() > MAX_ELEMENT_BYTES {
            return Ok(None);
        }
        state.get(ELEMENTS, &self.row(element))
    }

    /// Gives all elements with their values, in order, to `each`, until it says that it is enough.
    pub(super) fn each(
        self,
        state: &dyn Read,
        mut each: impl FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), EngineError> {
        let mut damaged = None;
        self.each_row(state, |row, value| match element(&row) {
            Ok(element) => each(element, value),
            Err(error) => {
                damaged = Some(error);
                false
            }
        })?;
        damaged.map_or(Ok(()), Err)
    }

    /// The same with the elements' rows.
    pub(super) fn each_row(
        self,
        state: &dyn Read,
        mut each: impl FnMut(Bytes, Bytes) -> bool,
    ) -> Result<(), EngineError> {
        const PAGE: PageLimit = PageLimit { items: 1_000, bytes: 1 << 20 };
        let mut range = self.from(0);
        loop {
            let Page { items, more } = state.scan(ELEMENTS, &range, PAGE)?;
            let last = items.last().map(|(row, _)| row.clone());
            for (row, value) in items {
                if !each(row, value) {
                    return Ok(());
                }
            }
            match last {
                Some(last) if more => range = range.after(last),
                _ => return Ok(()),
            }
        }
    }

    /// About `count` elements from a cursor on, and the next cursor, or 0 after the last. Elements
    /// of one hash are never torn apart.
    pub(super) fn step(
        self,
        state: &dyn Read,
        cursor: u64,
        count: usize,
    ) -> Result<(Vec<(Bytes, Bytes)>, u64), EngineError> {
        let (mut found, mut last) = (Vec::new(), 0);
        let mut range = self.from(cursor);
        loop {
            let limit = PageLimit { items: count.saturating_add(1), bytes: 1 << 20 };
            let Page { items, more } = state.scan(ELEMENTS, &range, limit)?;
            let end = items.last().map(|(row, _)| row.clone());
            for (row, value) in items {
                let element = element(&row)?;
                let place = hash(&element);
                if found.len() >= count && place != last {
                    return Ok((found, place));
                }
                last = place;
                found.push((element, value));
            }
            match end {
                Some(end) if more => range = range.after(end),
                _ => return Ok((found, 0)),
            }
        }
    }
}

/// The element of a row.
fn element(row: &Bytes) -> Result<Bytes, EngineError> {
    if row.len() < BEFORE {
        return Err(EngineError::Corrupt(format!(
            "the key of an element's row, {row:02x?}, is shorter than {BEFORE} bytes"
        )));
    }
    Ok(row.slice(BEFORE..))
}

/// The first owner whose elements are dropped, of a generation of the state.
pub(super) fn first_dropped(
    state: &dyn Read,
    generation: u32,
) -> Result<Option<Owner>, EngineError> {
    let range = KeyRange::prefix(generation.to_be_bytes().to_vec());
    let page = state.scan(DROPPED, &range, PageLimit { items: 1, bytes: 0 })?;
    Ok(page.items.first().and_then(|(row, _)| Owner::of(row)))
}
