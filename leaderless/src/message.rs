//! Every message between nodes. Requests are imperatives, answers past participles.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::codec::{self, CodecError, Format};
use common::ids::{Actor, NodeId};
use serde::{Deserialize, Serialize};

use crate::error::WriteError;
use crate::layout::Epoch;
use crate::store::{Merge, Place};
use crate::version::{Context, Dot, Dots, Life, PartitionClock};
use crate::write::{Put, Written};

const REQUEST: Format = Format { magic: *b"TDrq", version: 1 };
const REPLY: Format = Format { magic: *b"TDrp", version: 1 };
const LIMIT: usize = 32 << 20;

/// The order of variants and fields is the wire format.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// What do you know of my lives?
    Hello,
    /// Store a write.
    Store { epoch: Epoch, place: Place, dot: Dot, bases: Context, merge: Merge },
    /// Merge what other owners have; `restore`: of a key that you lost.
    Repair { place: Place, bases: Context, merges: Vec<Merge>, restore: bool },
    /// Read a key, with its cells or only their digest, once `after` is covered.
    Get { epoch: Epoch, place: Place, key: Bytes, full: bool, after: Vec<(Actor, Dots)> },
    /// Compare clocks.
    Exchange { epoch: Epoch, lives: BTreeMap<NodeId, Life>, places: Vec<(Place, u64)> },
    /// Send what these dots wrote.
    Fetch { place: Place, wanted: BTreeMap<Actor, Dots> },
    /// Send all keys of a place, page by page.
    Page { place: Place, after: Option<Bytes> },
    /// Does your synced clock have this dot?
    Ask { place: Place, dot: Dot },
    /// Refuse writes of actors before these lives, and say which dots of these actors you have.
    Seal { place: Place, lives: BTreeMap<NodeId, Life>, actors: Vec<Actor> },
    /// Coordinate a write; never forwarded again.
    Forward(Put),
    /// A newer layout.
    Adopt(Bytes),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Greeted {
        known: Life,
    },
    Stored,
    Repaired {
        doubted: Vec<Dot>,
    },
    Got {
        bases: Context,
        claim: Option<crate::version::Claim>,
        digest: u64,
    },
    Behind,
    /// Those of the asked places that are equal, and the clocks of all others that both own.
    Exchanged {
        lives: BTreeMap<NodeId, Life>,
        equal: Vec<Place>,
        differ: Vec<(Place, PartitionClock)>,
        wall: u64,
    },
    Merges {
        bases: Context,
        clock: PartitionClock,
        merges: Vec<Merge>,
        more: bool,
    },
    Answered {
        covered: bool,
        void: bool,
    },
    Sealed(Vec<(Actor, Dots)>),
    Forwarded(Result<Written, WriteError>),
    /// Your layout is too old: here is mine.
    Stale(Bytes),
    /// My layout is too old: send me yours.
    Ahead,
    /// You are no member any more.
    Removed {
        at_epoch: Epoch,
    },
    /// Not done, and nothing was changed.
    Refused(String),
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        codec::encode(REQUEST, self)
    }
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REQUEST, bytes, LIMIT)
    }
}

impl Reply {
    pub(crate) fn encode(&self) -> Bytes {
        codec::encode(REPLY, self)
    }
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(REPLY, bytes, LIMIT)
    }
}
