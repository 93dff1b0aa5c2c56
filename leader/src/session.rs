//! Client sessions: each command takes effect exactly once, however often it is sent.
//!
//! Ongaro 2014, section 6.3. Every member keeps, as part of the replicated state, how far each
//! client has come and the replies that the client has not confirmed. A command is applied only if
//! it is the next of its client; an earlier one is a repetition and gets its stored reply, a later
//! one waits for what is missing. So a client that repeats what it has no answer for, in order, has
//! each command applied once and in the order it gave them, over any number of leaders.
//!
//! ```text
//! keyspace "leader.clients":
//!   client (8 bytes, big-endian)                   -> last applied, done up to, last active
//!   client, first sequence (8 bytes, big-endian)   -> the replies of one entry
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec;
use common::ids::{ClientId, LogPos};
use common::storage::engine::{EngineError, KeyRange, Keyspace, PageLimit, Read};
use common::{mutate, sometimes};
use serde::{Deserialize, Serialize};

use crate::entry::{CommandReply, Commands};
use crate::state_machine::Draft;

/// Where sessions are stored.
pub(crate) const CLIENTS: Keyspace = Keyspace("leader.clients");

/// A session that nobody used for this long, by the replicated clock, is closed.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// The most idle sessions that opening one closes, so that no entry takes long to apply.
const CLOSE_AT_ONCE: usize = 64;

/// The most unconfirmed replies kept per session; beyond, the oldest are forgotten.
const MAX_REPLIES: u64 = 65_536;

/// How far one client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    last: u64,
    done_upto: u64,
    active: Hlc,
}

/// The replies of the commands of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Replies {
    at: LogPos,
    /// The number within its entry of the first of them.
    sub: u16,
    /// The entry's time by the replicated clock.
    stamp: Hlc,
    list: Vec<Bytes>,
}

#[derive(Debug)]
struct Session {
    row: Row,
    replies: BTreeMap<u64, Replies>,
}

/// All sessions of a state, as the state's rows say.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    sessions: BTreeMap<ClientId, Session>,
}

/// Which commands of an entry are new, and what the others are answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// The session is not known.
    UnknownClient,
    /// The first of them are repetitions, with these answers; those from `fresh` on are new, unless
    /// a command before the first is missing.
    Known {
        /// Answers to the repetitions, in order.
        repeated: Vec<CommandReply>,
        /// The index in the entry of the first new command, or none when a gap is before it.
        fresh: Option<usize>,
    },
}

fn row_key(client: ClientId) -> [u8; 8] {
    client.0.to_be_bytes()
}

fn replies_key(client: ClientId, first: u64) -> Vec<u8> {
    [client.0.to_be_bytes(), first.to_be_bytes()].concat()
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, EngineError> {
    codec::decode_body(bytes)
        .map_err(|error| EngineError::Corrupt(format!("a client session's row: {error}")))
}

impl Sessions {
    /// The sessions that a state holds.
    pub(crate) fn load(state: &dyn Read) -> Result<Self, EngineError> {
        let mut sessions = BTreeMap::new();
        let mut range = KeyRange::all();
        loop {
            let page = state.scan(CLIENTS, &range, PageLimit { items: 1_000, bytes: 1 << 20 })?;
            for (key, value) in &page.items {
                let client = key.first_chunk::<8>().map(|id| ClientId(u64::from_be_bytes(*id)));
                let first = key.get(8..).and_then(|rest| rest.first_chunk::<8>());
                match (client, first) {
                    (Some(client), None) if key.len() == 8 => {
                        let session = Session { row: decode(value)?, replies: BTreeMap::new() };
                        sessions.insert(client, session);
                    }
                    (Some(client), Some(first)) if key.len() == 16 => {
                        let Some(session) = sessions.get_mut(&client) else {
                            return Err(EngineError::Corrupt(format!(
                                "replies of client {} without its session",
                                client.0
                            )));
                        };
                        session.replies.insert(u64::from_be_bytes(*first), decode(value)?);
                    }
                    _ => return Err(EngineError::Corrupt("a client session's key".into())),
                }
            }
            match page.items.last() {
                Some((key, _)) if page.more => range = range.after(key.clone()),
                _ => return Ok(Self { sessions }),
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// The last command of a session that was applied.
    pub(crate) fn last(&self, client: ClientId) -> Option<u64> {
        self.sessions.get(&client).map(|session| session.row.last)
    }

    /// Opens a session, and closes some that were idle for too long.
    pub(crate) fn open(&mut self, draft: &mut Draft<'_>, client: ClientId, clock: Hlc) {
        let idle = IDLE.as_millis() as u64;
        let gone: Vec<ClientId> = self
            .sessions
            .iter()
            .filter(|(_, s)| s.row.active.millis().saturating_add(idle) < clock.millis())
            .map(|(id, _)| *id)
            .take(CLOSE_AT_ONCE)
            .collect();
        for id in gone {
            self.close(draft, id);
        }
        let row = Row { last: 0, done_upto: 0, active: clock };
        draft.put(CLIENTS, row_key(client).to_vec(), codec::encode_body(&row));
        self.sessions.insert(client, Session { row, replies: BTreeMap::new() });
    }

    fn close(&mut self, draft: &mut Draft<'_>, client: ClientId) {
        let Some(session) = self.sessions.remove(&client) else { return };
        for first in session.replies.keys() {
            draft.delete(CLIENTS, replies_key(client, *first));
        }
        draft.delete(CLIENTS, row_key(client).to_vec());
    }

    /// Tells new commands from repeated ones.
    pub(crate) fn judge(&self, commands: &Commands) -> Judged {
        let Some(session) = self.sessions.get(&commands.client) else {
            return Judged::UnknownClient;
        };
        let last =
            mutate!("retry_applies_twice", session.row.last, commands.first.saturating_sub(1));
        let count = commands.list.len();
        let known = last.saturating_add(1).saturating_sub(commands.first).min(count as u64);
        if known > 0 {
            sometimes!("dedup-hit");
        }
        let repeated = (0..known).map(|i| session.stored(commands.first + i)).collect();
        let next = commands.first + known == last + 1;
        let fresh = (next && (known as usize) < count).then_some(known as usize);
        Judged::Known { repeated, fresh }
    }

    /// Notes that the commands of an entry from index `fresh` on were applied with these replies.
    pub(crate) fn applied(
        &mut self,
        draft: &mut Draft<'_>,
        commands: &Commands,
        fresh: usize,
        (at, replies): (LogPos, Vec<Bytes>),
        clock: Hlc,
    ) {
        let client = commands.client;
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.row.active = clock;
        if !replies.is_empty() {
            let first = commands.first + fresh as u64;
            session.row.last = first + replies.len() as u64 - 1;
            let stored = Replies { at, sub: fresh as u16, stamp: clock, list: replies };
            draft.put(CLIENTS, replies_key(client, first), codec::encode_body(&stored));
            session.replies.insert(first, stored);
        }
        let forgotten = session.row.last.saturating_sub(MAX_REPLIES);
        let done = commands.done_upto.min(session.row.last).max(forgotten);
        session.row.done_upto = session.row.done_upto.max(done);
        draft.put(CLIENTS, row_key(client).to_vec(), codec::encode_body(&session.row));
        while let Some((first, replies)) = session.replies.first_key_value() {
            if first + replies.list.len() as u64 - 1 > session.row.done_upto {
                break;
            }
            draft.delete(CLIENTS, replies_key(client, *first));
            session.replies.pop_first();
        }
    }
}

impl Session {
    /// The answer to a command that was applied before.
    fn stored(&self, sequence: u64) -> CommandReply {
        let found = self.replies.range(..=sequence).next_back().and_then(|(first, replies)| {
            let number = sequence - first;
            let reply = replies.list.get(number as usize)?;
            Some(CommandReply::Done {
                at: replies.at,
                sub: replies.sub + number as u16,
                stamp: replies.stamp,
                reply: reply.clone(),
            })
        });
        found.unwrap_or(CommandReply::Forgotten)
    }
}

#[cfg(test)]
mod tests {
    use common::storage::engine::{Engine, MemoryEngine};

    use super::*;

    const CLIENT: ClientId = ClientId(5);
    const NOW: Hlc = Hlc::new(1_000, 0);

    fn commands(first: u64, done_upto: u64, count: usize) -> Commands {
        Commands { client: CLIENT, first, done_upto, list: vec![Bytes::from_static(b"c"); count] }
    }

    fn at(index: u64) -> LogPos {
        LogPos { term: 1, index }
    }

    /// Applies what is new of the commands, replying with the entry's index, and stores it.
    fn apply(
        engine: &MemoryEngine,
        sessions: &mut Sessions,
        entry: &Commands,
        index: u64,
    ) -> Judged {
        let judged = sessions.judge(entry);
        if let Judged::Known { fresh, .. } = &judged {
            let count = fresh.map_or(0, |fresh| entry.list.len() - fresh);
            let replies = vec![Bytes::from(index.to_string()); count];
            let mut draft = Draft::new(engine);
            let fresh = fresh.unwrap_or(0);
            sessions.applied(&mut draft, entry, fresh, (at(index), replies), NOW);
            engine.write(draft.into_batch()).unwrap();
        }
        judged
    }

    fn opened() -> (MemoryEngine, Sessions) {
        let (engine, mut sessions) = (MemoryEngine::volatile(), Sessions::default());
        let mut draft = Draft::new(&engine);
        sessions.open(&mut draft, CLIENT, NOW);
        engine.write(draft.into_batch()).unwrap();
        (engine, sessions)
    }

    fn known(repeated: &[(u64, u16)], fresh: Option<usize>) -> Judged {
        let done = |(index, sub): &(u64, u16)| CommandReply::Done {
            at: at(*index),
            sub: *sub,
            stamp: NOW,
            reply: Bytes::from(index.to_string()),
        };
        Judged::Known { repeated: repeated.iter().map(done).collect(), fresh }
    }

    #[test]
    fn a_repeated_command_gets_its_first_reply_and_a_later_one_waits() {
        let (engine, mut sessions) = opened();
        assert_eq!(apply(&engine, &mut sessions, &commands(1, 0, 3), 10), known(&[], Some(0)));
        assert_eq!(
            sessions.judge(&commands(1, 0, 3)),
            known(&[(10, 0), (10, 1), (10, 2)], None),
            "the same entry again"
        );
        assert_eq!(sessions.judge(&commands(5, 0, 1)), known(&[], None), "4 is missing");
        let overlapping = apply(&engine, &mut sessions, &commands(3, 0, 2), 11);
        assert_eq!(overlapping, known(&[(10, 2)], Some(1)), "3 again, and 4");
        assert_eq!(sessions.judge(&commands(4, 0, 1)), known(&[(11, 1)], None));
    }

    #[test]
    fn confirmed_replies_are_forgotten_and_the_rest_survives_a_restart() {
        let (engine, mut sessions) = opened();
        apply(&engine, &mut sessions, &commands(1, 0, 2), 10);
        apply(&engine, &mut sessions, &commands(3, 0, 2), 11);
        apply(&engine, &mut sessions, &commands(5, 3, 1), 12);
        let loaded = Sessions::load(&engine).unwrap();
        for sessions in [&sessions, &loaded] {
            let Judged::Known { repeated, fresh: None } = sessions.judge(&commands(1, 3, 5)) else {
                panic!("all were applied");
            };
            assert_eq!(repeated[0], CommandReply::Forgotten);
            assert_eq!(repeated[1], CommandReply::Forgotten);
            assert!(matches!(&repeated[2], CommandReply::Done { .. }), "3 shares an entry with 4");
            assert!(matches!(&repeated[4], CommandReply::Done { .. }));
        }
    }

    #[test]
    fn an_unknown_client_is_told_so_and_an_idle_one_is_closed() {
        let (engine, mut sessions) = opened();
        apply(&engine, &mut sessions, &commands(1, 0, 1), 10);
        let other = Commands { client: ClientId(6), ..commands(1, 0, 1) };
        assert_eq!(sessions.judge(&other), Judged::UnknownClient);
        let next_day = Hlc::new(1_000 + 24 * 3_600_000 + 1, 0);
        let mut draft = Draft::new(&engine);
        sessions.open(&mut draft, ClientId(7), next_day);
        engine.write(draft.into_batch()).unwrap();
        assert_eq!(sessions.judge(&commands(2, 0, 1)), Judged::UnknownClient);
        assert_eq!(Sessions::load(&engine).unwrap().len(), 1, "its rows are gone, too");
    }
}
