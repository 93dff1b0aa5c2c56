//! REPL WATCH: the change feed on a connection.
//!
//! ```text
//! REPL WATCH [FROM start | now | term.index] [PREFIX prefix]     OK, then messages:
//!   repl.change   position, changes: each put key value | changed key | deleted key | expired key | cleared
//!   repl.progress position        nothing else was changed up to here
//!   repl.gap      oldest | nil, why     the feed ends: changes are missing here
//! REPL WATCH STOP                           no more messages
//! ```
//!
//! Messages are pushes in version 3 of the protocol. In version 2 they are arrays, and until the end of
//! the feed the connection takes nothing but PING, REPL WATCH STOP, RESET and QUIT. A client that takes
//! its messages slowly is waited for: at most [`AHEAD`] entries, and what one connection may leave
//! untaken, are in memory. When the changes that it still needs are forgotten meanwhile, it gets
//! `repl.gap`; when it takes nothing at all for `unsent_timeout`, it is disconnected.

use bytes::Bytes;
use common::ids::LogPos;
use futures::FutureExt;
use leader::watch::{Change, WatchError, WatchFrom, Watched};
use tokio::sync::mpsc;

use super::arguments::{is, syntax};
use super::session::Session;
use super::{Action, Answered, Context, Handled};
use crate::backend::Feed;
use crate::http::{position, position_text};
use crate::resp::{Value, Version};

/// Entries that are read ahead of a client.
const AHEAD: usize = 16;

/// The messages of a connection's feed. It ends with this value.
pub(crate) type Messages = mpsc::Receiver<Value>;

/// REPL WATCH [FROM start | now | position] [PREFIX prefix] | STOP.
pub(super) fn watch(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if let [stop] = &words[2..]
        && is(stop, "STOP")
    {
        return Ok(Action::Ask(Box::new(|session, _| {
            let watched = session.messages.take().is_some();
            let none = || Value::error("ERR nothing is watched");
            let answer = if watched { Value::OK } else { none() };
            async move { Answered::from(answer) }.boxed()
        })));
    }
    let (mut from, mut prefix) = (WatchFrom::Now, Bytes::new());
    let (options, rest) = words[2..].as_chunks::<2>();
    if !rest.is_empty() {
        return Err(syntax());
    }
    for [name, value] in options {
        if is(name, "FROM") {
            from = beginning(value)?;
        } else if is(name, "PREFIX") {
            prefix = Bytes::copy_from_slice(value);
        } else {
            return Err(syntax());
        }
    }
    Ok(Action::Ask(Box::new(move |session, service| {
        let answer = if session.messages.is_some() {
            Value::error("ERR this connection watches already; REPL WATCH STOP ends that").into()
        } else {
            match service.backend.watch(from, prefix) {
                Ok(feed) => {
                    let (messages, taken) = mpsc::channel(AHEAD);
                    let then = move |session: &mut Session| {
                        tokio::spawn(tell(feed, messages));
                        session.messages = Some(taken);
                    };
                    Answered { value: Value::OK, then: Some(Box::new(then)) }
                }
                Err(error) => Value::error(format!("ERR {error}")).into(),
            }
        };
        async move { answer }.boxed()
    })))
}

fn beginning(word: &Bytes) -> Result<WatchFrom, Value> {
    if is(word, "now") {
        return Ok(WatchFrom::Now);
    }
    if is(word, "start") {
        return Ok(WatchFrom::Start);
    }
    let at = std::str::from_utf8(word).ok().and_then(position);
    at.map(WatchFrom::After).ok_or_else(|| {
        Value::error("ERR FROM takes start, now, or a position as 3.1041, after which it begins")
    })
}

/// Why a command cannot run on a connection that watches, if so.
pub(super) fn refuses(session: &Session, name: &'static str) -> Option<Value> {
    let watches = session.messages.is_some() && session.version == Version::V2;
    let allowed = ["ping", "quit", "repl|watch", "reset"].contains(&name);
    (watches && !allowed).then(|| {
        Value::error(format!(
            "ERR Can't execute '{name}': only PING / QUIT / RESET / REPL WATCH STOP are allowed in \
             this context"
        ))
    })
}

/// Reads the feed as fast as its messages are taken, until it or the connection ends.
async fn tell(mut feed: Box<dyn Feed>, messages: mpsc::Sender<Value>) {
    loop {
        let (message, ends) = match feed.next().await {
            Ok(Watched::Changes(entry)) => (changes(entry.at, entry.list), false),
            Ok(Watched::Progress(at)) => {
                (vec![Value::bulk("repl.progress"), Value::bulk(position_text(at))], false)
            }
            Ok(_) => continue,
            Err(error) => (gap(&error), true),
        };
        if messages.send(Value::Push(message)).await.is_err() || ends {
            return;
        }
    }
}

fn changes(at: LogPos, list: Vec<(u16, Change)>) -> Vec<Value> {
    let shown = list.into_iter().map(|(_, change)| {
        let words = match change {
            Change::Put { key, value } => vec![Bytes::from_static(b"put"), key, value],
            Change::Changed { key } => vec![Bytes::from_static(b"changed"), key],
            Change::Deleted { key } => vec![Bytes::from_static(b"deleted"), key],
            Change::Expired { key } => vec![Bytes::from_static(b"expired"), key],
            Change::Cleared => vec![Bytes::from_static(b"cleared")],
        };
        Value::Array(words.into_iter().map(Value::Bulk).collect())
    });
    let list = Value::Array(shown.collect());
    vec![Value::bulk("repl.change"), Value::bulk(position_text(at)), list]
}

fn gap(error: &WatchError) -> Vec<Value> {
    let oldest = match error {
        WatchError::Compacted { oldest: Some(oldest), .. } => Value::bulk(position_text(*oldest)),
        _ => Value::Null,
    };
    vec![Value::bulk("repl.gap"), oldest, Value::bulk(error.to_string())]
}
