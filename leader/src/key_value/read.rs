//! Reads of the machine's state, on a view of a node or on any other consistent state.

use std::hash::Hasher;

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{EngineError, KeyRange, Keyspace, PageLimit, Read};
use siphasher::sip::SipHasher24;

use super::record::{Record, parse_deadline_row};
use super::{DATA, EXPIRY, KeyValue};

/// One page of a scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Keys with their records, in key order.
    pub items: Vec<(Bytes, Record)>,
    /// Whether the range may hold more: go on with [`KeyRange::after`] the last key.
    pub more: bool,
}

/// Reads. `clock` is the state's replicated clock, [`View::clock`](crate::View::clock): what is
/// due by it is absent.
impl KeyValue {
    /// What a key holds, or `None` where it is absent.
    pub fn get(state: &dyn Read, clock: Hlc, key: &[u8]) -> Result<Option<Record>, EngineError> {
        get(state, clock, key)
    }

    /// What a key holds, as [`Node::read`](crate::Node::read) has answered. None of what is no such
    /// answer.
    pub fn answered(answer: &[u8]) -> Option<Option<Record>> {
        common::codec::decode_body(answer).ok()
    }

    /// The first records of a range, in key order. At least one is returned where there is one;
    /// limits count the bytes as stored.
    pub fn scan(
        state: &dyn Read,
        clock: Hlc,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Records, EngineError> {
        let mut range = range.clone();
        loop {
            let page = state.scan(DATA, &range, limit)?;
            let last = page.items.last().map(|(key, _)| key.clone());
            let mut items = Vec::with_capacity(page.items.len());
            for (key, bytes) in page.items {
                let record = Record::decode(&key, bytes)?;
                if !record.is_due(clock) {
                    items.push((key, record));
                }
            }
            match last {
                // Everything on the page was due: an empty page with more to come would give the
                // caller no key to go on from.
                Some(last) if items.is_empty() && page.more => range = range.after(last),
                _ => return Ok(Records { items, more: page.more }),
            }
        }
    }

    /// A hash of everything stored, deadlines and due keys included: replicas that have applied the
    /// same entries have the same one. Reads the whole state.
    pub fn digest(state: &dyn Read) -> Result<u64, EngineError> {
        let mut hasher = SipHasher24::new();
        for keyspace in [DATA, EXPIRY] {
            digest_keyspace(state, keyspace, &mut hasher)?;
        }
        Ok(hasher.finish())
    }
}

fn digest_keyspace(
    state: &dyn Read,
    keyspace: Keyspace,
    hasher: &mut SipHasher24,
) -> Result<(), EngineError> {
    let limit = PageLimit { items: 1_024, bytes: 1 << 20 };
    let mut range = KeyRange::all();
    // Lengths go in as fixed bytes, so that the hash is the same on every kind of machine.
    let field = |hasher: &mut SipHasher24, bytes: &[u8]| {
        hasher.write(&(bytes.len() as u64).to_le_bytes());
        hasher.write(bytes);
    };
    field(hasher, keyspace.0.as_bytes());
    loop {
        let page = state.scan(keyspace, &range, limit)?;
        for (key, value) in &page.items {
            field(hasher, key);
            field(hasher, value);
        }
        match page.items.last() {
            Some((key, _)) if page.more => range = range.after(key.clone()),
            _ => return Ok(()),
        }
    }
}

/// What is stored for a key, due or not.
pub(super) fn stored(state: &dyn Read, key: &[u8]) -> Result<Option<Record>, EngineError> {
    state.get(DATA, key)?.map(|bytes| Record::decode(key, bytes)).transpose()
}

/// What a key holds at an instant.
pub(super) fn get(state: &dyn Read, clock: Hlc, key: &[u8]) -> Result<Option<Record>, EngineError> {
    Ok(stored(state, key)?.filter(|record| !record.is_due(clock)))
}

/// The earliest deadline of any key.
pub(super) fn first_deadline(state: &dyn Read) -> Result<Option<Hlc>, EngineError> {
    let page = state.scan(EXPIRY, &KeyRange::all(), PageLimit { items: 1, bytes: 0 })?;
    let row = page.items.into_iter().next();
    row.map(|(row, _)| parse_deadline_row(row).map(|(deadline, _)| deadline)).transpose()
}
