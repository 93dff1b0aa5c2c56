//! What a log entry says: encoded once, on the leader, and applied everywhere from the same bytes.
//!
//! ```text
//! frame "TLen" version 1: stamp, then one of
//!   open       a new client session; its id is the entry's index
//!   commands   of one session: client, first sequence number, done up to, commands
//!   due        commands that deadlines asked for; they have no session
//!   check      members compare their states at this position
//!   found      the cluster's id and the secret of its seals, drawn by its first leader
//!   quota      how large the state may become
//!   describe   attributes of a member
//!   replace    a member comes for another, or no more
//! ```
//!
//! All commands of an entry belong to one session and are numbered without gaps, so one pair of
//! numbers tells for each of them whether it was applied before.

use bytes::Bytes;
use common::clock::Hlc;
use common::codec::{self, CodecError, Format};
use common::ids::{ClientId, ClusterId, LogPos, NodeId};
use serde::{Deserialize, Serialize};

use crate::membership::roster::{Attribute, Replacement};
use crate::quota::Quota;

const FORMAT: Format = Format { magic: *b"TLen", version: 1 };

/// The largest entry in bytes that is ever decoded.
pub(crate) const MAX_ENTRY: usize = 32 << 20;

/// A log entry's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The leader's clock when it was proposed.
    pub(crate) stamp: Hlc,
    /// What is asked.
    pub(crate) ask: Ask,
}

/// What an entry asks for. The order of the variants is the format: new ones go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A new client session.
    Open,
    /// Commands of a session.
    Commands(Commands),
    /// Commands that deadlines asked for.
    Due(Vec<Bytes>),
    /// What a new cluster's first leader draws. Later ones change nothing.
    Found {
        /// The cluster's id.
        cluster: ClusterId,
        /// What seals its tokens and receipts.
        secret: [u8; 16],
    },
    /// Compare the states of all members at this position. Changes nothing but the clock.
    Check,
    /// The state's limits from here on.
    Quota(Quota),
    /// Set attributes of a member.
    Describe {
        /// The member.
        member: NodeId,
        /// What is set.
        attributes: Vec<Attribute>,
    },
    /// The replacement that is under way from here on.
    Replace(Option<Replacement>),
}

/// Commands of one session, numbered from `first` without gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commands {
    /// The session.
    pub(crate) client: ClientId,
    /// The sequence number of the first command, from 1.
    pub(crate) first: u64,
    /// All up to here are answered: their replies may be forgotten.
    pub(crate) done_upto: u64,
    /// The commands. One without bytes was withdrawn before it was ever sent: it only takes its
    /// number.
    pub(crate) list: Vec<Bytes>,
}

/// What came of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EntryReply {
    /// Nothing that anybody waits for.
    Nothing,
    /// The session is open.
    Opened(ClientId),
    /// What came of each command.
    Commands(Vec<CommandReply>),
    /// The session is not known: it expired, or never was. Nothing was applied.
    UnknownClient,
    /// The states are compared at this position.
    Checked(LogPos),
    /// The limits are set.
    Limited,
}

/// What came of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommandReply {
    /// It is applied, now or by an earlier entry, and this is its reply.
    Done {
        /// The entry that applied it.
        at: LogPos,
        /// Its number within that entry.
        sub: u16,
        /// The entry's time by the replicated clock.
        stamp: Hlc,
        /// The machine's encoded reply.
        reply: Bytes,
    },
    /// It was applied by an earlier entry, and its reply is forgotten.
    Forgotten,
    /// A command before it is missing: it was not applied.
    Gap,
}

impl Entry {
    pub(crate) fn encode(&self) -> Bytes {
        codec::encode(FORMAT, self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(FORMAT, bytes, MAX_ENTRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Limit;

    #[test]
    fn the_format_of_version_1_stays() {
        let entry = Entry {
            stamp: Hlc::new(1_000, 3),
            ask: Ask::Commands(Commands {
                client: ClientId(7),
                first: 5,
                done_upto: 4,
                list: vec![Bytes::from_static(b"ab"), Bytes::new()],
            }),
        };
        let bytes = entry.encode();
        let hex = bytes.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
        assert_eq!(&hex[..20], "544c656e01000e000000", "magic, version, length");
        assert_eq!(&hex[28..], "fc0300e803010705040202616200", "body");
        assert_eq!(Entry::decode(&bytes), Ok(entry));
    }

    #[test]
    fn a_quota_keeps_its_bytes() {
        let bytes = Limit { soft: Some(80), hard: Some(100) };
        let ask = Ask::Quota(Quota { bytes, keys: Limit::default() });
        let bytes = Entry { stamp: Hlc::new(1_000, 3), ask: ask.clone() }.encode();
        let hex = bytes.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
        assert_eq!(&hex[28..], "fc0300e803050150016400 00".replace(' ', ""), "body");
        assert_eq!(Entry::decode(&bytes).unwrap().ask, ask);
    }

    #[test]
    fn damaged_entries_are_refused() {
        let bytes = Entry { stamp: Hlc::ZERO, ask: Ask::Open }.encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x40;
            assert!(Entry::decode(&damaged).is_err(), "byte {at}");
            assert!(Entry::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
