//! The bytes of the commit log and of the engine's bookkeeping.

use bytes::Bytes;
use common::clock::{Hlc, HybridClock};
use common::codec::{self, CodecError, Format};
use common::storage::engine::{Batch, Change, Keyspace};
use serde::{Deserialize, Serialize};

use super::State;

const RECORD: Format = Format { magic: *b"TDcl", version: 1 };
const LIMIT: usize = 64 << 20;

pub(super) const CELLS: Keyspace = Keyspace("cells");
pub(super) const PLACES: Keyspace = Keyspace("partitions");
pub(super) const DOT_LOG: Keyspace = Keyspace("dot_log");
pub(super) const TOMBSTONES: Keyspace = Keyspace("tombstones");
pub(super) const NODE: Keyspace = Keyspace("node");
/// The numbers of keyspaces in records: new ones go to the end.
const KEYSPACES: [Keyspace; 5] = [CELLS, PLACES, DOT_LOG, TOMBSTONES, NODE];

pub(super) const LIVES: &[u8] = b"lives";
pub(super) const SYNCED: &[u8] = b"synced";
const POSITION: &[u8] = b"position";

type Changes = Vec<(u8, Bytes, Option<Bytes>)>;

/// A record: the batch's changes, so that applying it again changes nothing.
pub(super) fn encode(batch: &Batch) -> Bytes {
    let number = |ks: &Keyspace| KEYSPACES.iter().position(|k| k == ks).unwrap_or_default() as u8;
    let changes: Changes = batch
        .changes
        .iter()
        .map(|change| match change {
            Change::Put(ks, key, value) => (number(ks), key.clone(), Some(value.clone())),
            Change::Delete(ks, key) => (number(ks), key.clone(), None),
        })
        .collect();
    codec::encode(RECORD, &changes)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Batch, CodecError> {
    let mut batch = Batch::new();
    for (number, key, value) in codec::decode::<Changes>(RECORD, bytes, LIMIT)? {
        let Some(keyspace) = KEYSPACES.get(usize::from(number)) else {
            return Err(CodecError::Body(format!("keyspace number {number} is not known")));
        };
        match value {
            Some(value) => batch.put(*keyspace, key, value),
            None => batch.delete(*keyspace, key),
        }
    }
    Ok(batch)
}

/// What the engine knows of the log: how far it is, and the largest stamp so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) lsn: u64,
    pub(super) stamp: Hlc,
}

pub(super) fn put_node(batch: &mut Batch, state: &State) {
    let at = Position { lsn: state.position, stamp: state.hlc.last() };
    batch.put(NODE, POSITION, codec::encode_body(&at));
}

pub(super) fn position(
    engine: &dyn common::storage::engine::Engine,
) -> Result<Position, super::StoreError> {
    match engine.get(NODE, POSITION)? {
        None => Ok(Position::default()),
        Some(bytes) => {
            codec::decode_body(&bytes).map_err(|e| super::StoreError::Damaged(e.to_string()))
        }
    }
}

pub(super) fn take_position(state: &mut State, at: &Position) {
    state.position = at.lsn;
    state.hlc = HybridClock::after(at.stamp);
}
