//! Commands: from the words of a request to what is to be done.
//!
//! A request is looked up in the one [`table`], its arguments are read by the command's handler, and
//! what comes out is an [`Action`]: a reply, or a write or read of the machine and how its answer is
//! shown. Handlers never wait and never touch the state; [`connection`](crate::connection) does
//! actions in their order.

#![expect(clippy::unnecessary_wraps, reason = "all handlers have one signature, for the table")]

mod arguments;
mod blocking;
mod client;
mod configuration;
mod counters;
mod expiry;
mod explore;
mod failure;
mod feed;
mod greeting;
mod hashes;
mod info;
mod introspection;
mod keys;
mod lists;
mod quota;
mod repl;
mod replication;
mod session;
mod sets;
mod snapshot;
mod sorted;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::redis::{Command, Query, Reply};
use crate::resp::Value;
use crate::service::Service;

pub(crate) use blocking::{Pop, block};
pub(crate) use explore::{Exploration, explore};
pub(crate) use failure::{read_failure, write_failure};
pub(crate) use repl::{Inquiry, answer, fate, write_mode};
pub(crate) use replication::wait_for_replicas;
pub(crate) use session::Session;
pub(crate) use transaction::{Queued, Watched};

/// What begins once everything before it is answered, and its reply.
pub(crate) type Asked =
    Box<dyn FnOnce(&mut Session, Arc<Service>) -> BoxFuture<'static, Answered> + Send>;

/// What becomes of the session with a reply.
pub(crate) type Then = Box<dyn FnOnce(&mut Session) + Send>;

/// A reply, and what becomes of the session with it.
pub(crate) struct Answered {
    pub(crate) value: Value,
    pub(crate) then: Option<Then>,
}

impl From<Value> for Answered {
    fn from(value: Value) -> Self {
        Self { value, then: None }
    }
}

/// How a reply of the machine is shown to the client.
pub(crate) type Show = fn(Reply) -> Value;

/// What a request asks for.
pub(crate) enum Action {
    /// The reply is known.
    Reply(Value),
    /// There is no reply.
    Nothing,
    /// The reply is known, and given after a while.
    Later(Duration, Value),
    /// The reply is the connection's last word.
    Close(Value),
    /// The connection ends without a word.
    Drop,
    /// A command for the machine.
    Write(Command, Show),
    /// A read of single keys.
    Read(Query, Show),
    /// A read of many keys, or of none: it takes a cut of its own.
    Explore(Exploration),
    /// Notes how these keys are now.
    Watch(Vec<Bytes>),
    /// Does what was queued, unless what is watched has changed.
    Exec(Vec<Queued>),
    /// Is answered when everything before it is.
    Inquire(Inquiry),
    /// The same, by something that takes its time.
    Ask(Asked),
    /// Waits until a key has something.
    Block(Pop),
    /// Waits until so many replicas hold the connection's last write.
    Wait {
        /// How many.
        replicas: i64,
        /// How long, in milliseconds; without one, for ever.
        timeout: Option<u64>,
    },
}

/// What a handler makes of its arguments: an action, or an error reply.
type Handled = Result<Action, Value>;

/// What a handler works with.
struct Context<'a> {
    session: &'a mut Session,
    service: &'a Service,
}

/// Makes an action of a request. `words` holds at least the command's name.
pub(crate) fn handle(session: &mut Session, service: &Service, words: &[Bytes]) -> Action {
    session.begin();
    // A browser that was made to send a form here must not get a second line executed.
    let name = words[0].as_ref();
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        return Action::Drop;
    }
    let (spec, handler) = match table::find(words) {
        Ok(found) => found,
        Err(refusal) => {
            transaction::refused(session);
            return Action::Reply(refusal);
        }
    };
    session.command = spec.name;
    if let Some(refusal) = may(session, spec).or_else(|| feed::refuses(session, spec.name)) {
        transaction::refused(session);
        return Action::Reply(refusal);
    }
    let queued = transaction::is_queued(session, spec);
    let mut context = Context { session, service };
    if queued {
        return transaction::queue(&mut context, spec, handler, words);
    }
    handler(&mut context, words).unwrap_or_else(Action::Reply)
}

/// Why the connection's user may not run a command, if so.
fn may(session: &Session, spec: &table::Spec) -> Option<Value> {
    match &session.user {
        None if spec.flags.contains(&"no_auth") => None,
        None => Some(Value::error("NOAUTH Authentication required.")),
        Some(user) if user.role.may(spec.flags) => None,
        Some(_) => {
            let name = spec.name;
            let text = format!("NOPERM this user has no permissions to run the '{name}' command");
            Some(Value::error(text))
        }
    }
}

/// The command of the machine that EXEC asks for, if there is anything to do.
pub(crate) fn transaction_command(watched: Vec<Watched>, queued: &[Queued]) -> Option<Command> {
    transaction::command(watched, queued)
}

/// The reply to EXEC.
pub(crate) fn transaction_reply(queued: Vec<Queued>, reply: Reply) -> Value {
    transaction::show(queued, reply)
}

/// A reply that is ready.
fn say(value: Value) -> Handled {
    Ok(Action::Reply(value))
}

/// `+OK`.
fn ok() -> Handled {
    say(Value::OK)
}

/// Shows a reply in the way that nearly all commands do.
fn plain(reply: Reply) -> Value {
    match reply {
        Reply::Done => Value::OK,
        Reply::NotDone => Value::Null,
        Reply::Value(value) => Value::maybe(value),
        Reply::Values(values) => Value::Array(values.into_iter().map(Value::maybe).collect()),
        Reply::Integer(number) => Value::Integer(number),
        Reply::Integers(numbers) => Value::Array(numbers.into_iter().map(Value::Integer).collect()),
        Reply::Kind(kind) => Value::Simple(kind.map_or("none", |kind| kind.name())),
        Reply::Refused(refusal) => Value::error(refusal.to_string()),
        // Only EXEC asks for the first, and who asks for scores shows them.
        Reply::Many(_)
        | Reply::Scores(_)
        | Reply::Scored(_)
        | Reply::TakenFrom(..)
        | Reply::ScoredFrom(..) => Value::error("ERR an answer to another command"),
    }
}

/// Shows whether something was done as 1 or 0.
fn done(reply: Reply) -> Value {
    match reply {
        Reply::Done => Value::Integer(1),
        Reply::NotDone => Value::Integer(0),
        other => plain(other),
    }
}

/// Shows milliseconds as seconds, rounded, and what is no time as it is.
fn seconds(reply: Reply) -> Value {
    match reply {
        Reply::Integer(millis @ 0..) => Value::Integer(millis.saturating_add(500) / 1000),
        other => plain(other),
    }
}
