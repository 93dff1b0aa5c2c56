//! The records of the log, as they are on disk and, for entries, on the wire.
//!
//! ```text
//! kind: u8, then little-endian
//!   1 entry      epoch: u32 | term: u64 | index: u64 | payload: u8 | body
//!                payload: 0 blank, no body; 1 batch; 2 membership; 3 batch that only frees space
//!   2 vote       term: u64 | node: u64 | established: u8
//!   3 truncate   none: 0u8, or 1u8 | term: u64 | index: u64     drops all entries after it
//!   4 committed  term: u64 | index: u64
//!   5 purged     term: u64 | index: u64                         drops all entries up to it
//!   6 epoch      epoch: u32
//!   7 resumed    nothing; see `replay`
//! ```
//!
//! The log below adds length and checksum. An unknown kind is refused, never skipped: it may be
//! what a newer version relies on.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use common::codec::{self, Format};
use common::ids::{Epoch, LogPos, NodeId};
use openraft::EntryPayload;

use crate::message::Vote;
use crate::raft::type_config::{
    Cmd, Entry, Growth, Members, Membership, Payload, log_id, position,
};

/// Bytes of an entry before its body.
const ENTRY_HEADER: usize = 22;

/// The largest configuration in bytes.
const MEMBERS_LIMIT: usize = 1 << 20;
const MEMBERS: Format = Format { magic: *b"TLMB", version: 1 };

/// What an entry's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the first entry of a leader.
    Blank,
    /// Commands.
    Batch,
    /// A configuration.
    Membership,
    /// Commands that free more space than they take.
    Shrinking,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A log entry. Its bytes stay in one piece, see [`EntryRecord`].
    Entry(EntryRecord),
    /// The vote that is in force from here on.
    Vote(Vote),
    /// Entries after this position are dropped.
    Truncate(Option<LogPos>),
    /// Entries up to this position are known to be committed.
    Committed(LogPos),
    /// Entries up to this position are dropped: the state contains them.
    Purged(LogPos),
    /// The epoch that is in force from here on.
    Epoch(Epoch),
    /// Records between one that was refused and this one do not count.
    Resumed,
}

/// The bytes of one entry with what their header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryRecord {
    /// The epoch it was proposed in.
    pub(crate) epoch: Epoch,
    /// Its position.
    pub(crate) at: LogPos,
    /// What its body is.
    pub(crate) kind: Kind,
    /// The record, header and body.
    pub(crate) bytes: Bytes,
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MalformedRecord {
    /// Too short, or too long, for its kind.
    #[error("a record of kind {kind} has {bytes} bytes")]
    Length {
        /// The kind, 0 for no bytes at all.
        kind: u8,
        /// How many bytes there are.
        bytes: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown record kind {0}; it was written by a newer version")]
    Kind(u8),
    /// A field with a value that it cannot have.
    #[error("a record of kind {kind} has the value {value} where only 0 to {most} can be")]
    Value {
        /// The kind.
        kind: u8,
        /// The value found.
        value: u8,
        /// The largest possible.
        most: u8,
    },
    /// An entry's configuration cannot be read.
    #[error("the configuration in entry {at:?} cannot be read: {cause}")]
    Membership {
        /// The entry.
        at: LogPos,
        /// Why.
        cause: String,
    },
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const TRUNCATE: u8 = 3;
const COMMITTED: u8 = 4;
const PURGED: u8 = 5;
const EPOCH: u8 = 6;
const RESUMED: u8 = 7;

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Blank => 0,
            Self::Batch => 1,
            Self::Membership => 2,
            Self::Shrinking => 3,
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Blank,
            1 => Self::Batch,
            2 => Self::Membership,
            3 => Self::Shrinking,
            _ => return None,
        })
    }
}

fn put_position(out: &mut BytesMut, at: LogPos) {
    out.put_u64_le(at.term);
    out.put_u64_le(at.index);
}

fn get_position(bytes: &mut Bytes) -> LogPos {
    LogPos { term: bytes.get_u64_le(), index: bytes.get_u64_le() }
}

impl Record {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(18);
        match self {
            Self::Entry(entry) => return entry.bytes.clone(),
            Self::Vote(vote) => {
                out.put_u8(VOTE);
                out.put_u64_le(vote.term);
                out.put_u64_le(vote.node.0);
                out.put_u8(u8::from(vote.established));
            }
            Self::Truncate(after) => {
                out.put_u8(TRUNCATE);
                out.put_u8(u8::from(after.is_some()));
                if let Some(at) = after {
                    put_position(&mut out, *at);
                }
            }
            Self::Committed(at) => {
                out.put_u8(COMMITTED);
                put_position(&mut out, *at);
            }
            Self::Purged(at) => {
                out.put_u8(PURGED);
                put_position(&mut out, *at);
            }
            Self::Epoch(epoch) => {
                out.put_u8(EPOCH);
                out.put_u32_le(epoch.0);
            }
            Self::Resumed => out.put_u8(RESUMED),
        }
        out.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, MalformedRecord> {
        let Some(&kind) = bytes.first() else {
            return Err(MalformedRecord::Length { kind: 0, bytes: 0 });
        };
        let flag = |value: u8| match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MalformedRecord::Value { kind, value, most: 1 }),
        };
        let mut rest = bytes.clone();
        rest.advance(1);
        let length = |want: usize| {
            let wrong = MalformedRecord::Length { kind, bytes: bytes.len() };
            if bytes.len() == want + 1 { Ok(()) } else { Err(wrong) }
        };
        Ok(match kind {
            ENTRY => Self::Entry(EntryRecord::decode(bytes)?),
            VOTE => {
                length(17)?;
                Self::Vote(Vote {
                    term: rest.get_u64_le(),
                    node: NodeId(rest.get_u64_le()),
                    established: flag(rest.get_u8())?,
                })
            }
            TRUNCATE => {
                length(if bytes.len() > 2 { 17 } else { 1 })?;
                let some = flag(rest.get_u8())?;
                length(if some { 17 } else { 1 })?;
                Self::Truncate(some.then(|| get_position(&mut rest)))
            }
            COMMITTED => {
                length(16)?;
                Self::Committed(get_position(&mut rest))
            }
            PURGED => {
                length(16)?;
                Self::Purged(get_position(&mut rest))
            }
            EPOCH => {
                length(4)?;
                Self::Epoch(Epoch(rest.get_u32_le()))
            }
            RESUMED => {
                length(0)?;
                Self::Resumed
            }
            _ => return Err(MalformedRecord::Kind(kind)),
        })
    }
}

impl EntryRecord {
    pub(super) fn new(epoch: Epoch, at: LogPos, kind: Kind, body: &[u8]) -> Self {
        let mut out = BytesMut::with_capacity(ENTRY_HEADER + body.len());
        out.put_u8(ENTRY);
        out.put_u32_le(epoch.0);
        put_position(&mut out, at);
        out.put_u8(kind.byte());
        out.put_slice(body);
        Self { epoch, at, kind, bytes: out.freeze() }
    }

    /// Reads the header of an entry's bytes. The body is not looked into.
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, MalformedRecord> {
        let mut header = bytes.clone();
        if header.len() < ENTRY_HEADER {
            let kind = header.first().copied().unwrap_or(0);
            return Err(MalformedRecord::Length { kind, bytes: header.len() });
        }
        match header.get_u8() {
            ENTRY => {}
            other => return Err(MalformedRecord::Kind(other)),
        }
        let epoch = Epoch(header.get_u32_le());
        let at = get_position(&mut header);
        let value = header.get_u8();
        let kind =
            Kind::from_byte(value).ok_or(MalformedRecord::Value { kind: ENTRY, value, most: 3 })?;
        if kind == Kind::Blank && header.has_remaining() {
            return Err(MalformedRecord::Length { kind: ENTRY, bytes: bytes.len() });
        }
        Ok(Self { epoch, at, kind, bytes })
    }

    /// The body of an entry with commands.
    pub(crate) fn commands(&self) -> Option<Bytes> {
        matches!(self.kind, Kind::Batch | Kind::Shrinking).then(|| self.body())
    }

    fn body(&self) -> Bytes {
        self.bytes.slice(ENTRY_HEADER..)
    }

    /// The record of an entry: the one it came with, or a new one of `epoch`.
    pub(crate) fn of(entry: &Entry, epoch: Epoch) -> Self {
        let at = position(&entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => Self::new(epoch, at, Kind::Blank, &[]),
            EntryPayload::Membership(m) => {
                let body = codec::encode(MEMBERS, &Members::from(m));
                Self::new(epoch, at, Kind::Membership, &body)
            }
            EntryPayload::Normal(cmd) => match &cmd.record {
                // The position is openraft's to decide, so a record counts only under its own.
                Some(record) if record.at == at => record.clone(),
                _ => Self::new(epoch, at, cmd.growth.into(), &cmd.body),
            },
        }
    }

    /// The entry for openraft.
    pub(crate) fn into_entry(self) -> Result<Entry, MalformedRecord> {
        let payload: Payload = match self.kind {
            Kind::Blank => EntryPayload::Blank,
            Kind::Membership => {
                let cause = |cause: String| MalformedRecord::Membership { at: self.at, cause };
                let members: Members = codec::decode(MEMBERS, &self.body(), MEMBERS_LIMIT)
                    .map_err(|e| cause(e.to_string()))?;
                EntryPayload::Membership(
                    Membership::try_from(members).map_err(|e| cause(e.to_string()))?,
                )
            }
            Kind::Batch | Kind::Shrinking => EntryPayload::Normal(Cmd {
                body: self.body(),
                slot: None,
                growth: if self.kind == Kind::Batch { Growth::Grows } else { Growth::Shrinks },
                record: Some(self.clone()),
            }),
        };
        Ok(Entry { log_id: log_id(self.at), payload })
    }
}

impl From<Growth> for Kind {
    fn from(growth: Growth) -> Self {
        match growth {
            Growth::Grows => Self::Batch,
            Growth::Shrinks => Self::Shrinking,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    fn at(term: u64, index: u64) -> LogPos {
        LogPos { term, index }
    }

    fn records() -> Vec<Record> {
        let entry = |kind, body: &[u8]| {
            Record::Entry(EntryRecord::new(Epoch(1), at(2, 0x0102_0304_0506_0708), kind, body))
        };
        let vote = |established| Record::Vote(Vote { term: 3, node: NodeId(9), established });
        vec![
            entry(Kind::Blank, b""),
            entry(Kind::Batch, b"hi"),
            entry(Kind::Membership, b"m"),
            entry(Kind::Shrinking, b""),
            vote(false),
            vote(true),
            Record::Truncate(None),
            Record::Truncate(Some(at(2, 7))),
            Record::Committed(at(2, 5)),
            Record::Purged(at(1, 4)),
            Record::Epoch(Epoch(6)),
            Record::Resumed,
        ]
    }

    /// They are on somebody's disk.
    #[test]
    fn records_keep_their_bytes() {
        let bytes: Vec<String> = records().iter().map(|r| hex(&r.encode())).collect();
        assert_eq!(
            bytes,
            [
                "01010000000200000000000000080706050403020100",
                "010100000002000000000000000807060504030201016869",
                "010100000002000000000000000807060504030201026d",
                "01010000000200000000000000080706050403020103",
                "020300000000000000090000000000000000",
                "020300000000000000090000000000000001",
                "0300",
                "030102000000000000000700000000000000",
                "0402000000000000000500000000000000",
                "0501000000000000000400000000000000",
                "0606000000",
                "07",
            ]
        );
    }

    #[test]
    fn every_record_survives_the_way_there_and_back() {
        for record in records() {
            assert_eq!(Record::decode(record.encode()), Ok(record));
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let refused = Record::decode(Bytes::from_static(&[8, 0, 0])).unwrap_err();
        assert!(refused.to_string().contains("unknown record kind 8"), "{refused}");
    }

    #[test]
    fn an_entry_goes_through_openraft_with_its_bytes() {
        let mut members = Members::default();
        members.voters.push([NodeId(1)].into());
        members.nodes.insert(NodeId(1), "127.0.0.1:1".into());
        let body = codec::encode(MEMBERS, &members);
        for (kind, body) in [
            (Kind::Blank, &b""[..]),
            (Kind::Batch, b"commands"),
            (Kind::Shrinking, b"delete"),
            (Kind::Membership, &body),
        ] {
            let record = EntryRecord::new(Epoch(4), at(5, 6), kind, body);
            let entry = record.clone().into_entry().unwrap();
            // Another epoch is in force by now: an entry keeps the one it was proposed in.
            let again = EntryRecord::of(&entry, Epoch(4));
            assert_eq!(again.bytes, record.bytes, "{kind:?}");
        }
        let record = EntryRecord::new(Epoch(4), at(5, 6), Kind::Batch, b"x");
        let entry = record.clone().into_entry().unwrap();
        assert_eq!(EntryRecord::of(&entry, Epoch(5)), record, "a batch keeps its epoch");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes: Vec<u8>, kind in 0_u8..9) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(record) = Record::decode(bytes.clone().into()) {
                prop_assert_eq!(record.encode(), bytes);
                if let Record::Entry(entry) = record {
                    let _ = entry.into_entry();
                }
            }
        }
    }
}
