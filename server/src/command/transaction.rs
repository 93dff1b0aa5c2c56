//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! Commands between MULTI and EXEC are read, queued, and become one command of the machine: one
//! entry of the log, applied as one step on every member, after a check that what was watched is
//! unchanged. Nothing of it exists before EXEC: a connection that breaks leaves nothing behind.

use bytes::Bytes;
use leader::key_value::Revision;

use super::table::{Handler, Spec};
use super::{Action, Context, Handled, Session, Show, ok, plain, say};
use crate::redis::{Command, MAX_STEPS, Reply, replies, step};
use crate::resp::Value;

/// What was queued since MULTI.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    steps: Vec<Queued>,
    bytes: usize,
    /// A command could not be queued: EXEC does nothing.
    broken: bool,
}

/// A command between MULTI and EXEC.
#[derive(Debug)]
pub(crate) enum Queued {
    /// One for the machine, and how its answer is shown.
    Step(Bytes, Show),
    /// One whose reply is known.
    Ready(Value),
}

/// A key that is watched, and its revision when it was: none if it was absent.
pub(crate) type Watched = (Bytes, Option<Revision>);

/// Commands that are not queued but done.
const AT_ONCE: [&str; 6] = ["discard", "exec", "multi", "quit", "reset", "watch"];

/// Whether a command is queued now.
pub(super) fn is_queued(session: &Session, spec: &Spec) -> bool {
    session.transaction.is_some() && !AT_ONCE.contains(&spec.name)
}

/// A request that is no command, or not one with so many words.
pub(super) fn refused(session: &mut Session) {
    if let Some(transaction) = &mut session.transaction {
        transaction.broken = true;
    }
}

/// Queues a command.
pub(super) fn queue(
    context: &mut Context<'_>,
    spec: &'static Spec,
    handler: Handler,
    words: &[Bytes],
) -> Action {
    let limit = context.service.limits.request_bytes;
    let queued = if is_about_the_connection(spec) {
        None
    } else {
        match handler(context, words) {
            Ok(Action::Write(command, show)) => Some(Queued::Step(step(&command), show)),
            Ok(Action::Read(query, show)) => Some(Queued::Step(step(&Command::Query(query)), show)),
            // As in Redis, it does not wait there.
            Ok(Action::Block(pop)) => Some(Queued::Step(step(&pop.command(None)), pop.show)),
            // As in Redis, arguments are judged when the command is executed.
            Ok(Action::Reply(value)) | Err(value) => Some(Queued::Ready(value)),
            Ok(_) => None,
        }
    };
    let Some(transaction) = &mut context.session.transaction else { return Action::Nothing };
    let Some(queued) = queued else {
        transaction.broken = true;
        let name = spec.name.replace('|', " ").to_ascii_uppercase();
        let text = format!("ERR {name} is not supported between MULTI and EXEC");
        return Action::Reply(Value::error(text));
    };
    if let Queued::Step(bytes, _) = &queued {
        transaction.bytes += bytes.len();
    }
    if transaction.steps.len() == MAX_STEPS || transaction.bytes > limit {
        transaction.broken = true;
        return Action::Reply(Value::error(format!(
            "ERR a transaction is limited to {MAX_STEPS} commands and {limit} bytes"
        )));
    }
    transaction.steps.push(queued);
    Action::Reply(Value::Simple("QUEUED"))
}

/// Whether a command says something about the connection, which is not the machine's matter.
fn is_about_the_connection(spec: &Spec) -> bool {
    let harmless = ["ping", "echo", "select"].contains(&spec.name);
    (spec.group == "connection" && !harmless) || spec.name.starts_with("repl|")
}

/// MULTI.
pub(super) fn multi(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    if context.session.transaction.is_some() {
        return Err(Value::error("ERR MULTI calls can not be nested"));
    }
    context.session.transaction = Some(Box::default());
    ok()
}

/// EXEC.
pub(super) fn exec(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    let Some(transaction) = context.session.transaction.take() else {
        return Err(Value::error("ERR EXEC without MULTI"));
    };
    if transaction.broken {
        context.session.unwatch();
        let text = "EXECABORT Transaction discarded because of previous errors.";
        return Err(Value::error(text));
    }
    Ok(Action::Exec(transaction.steps))
}

/// DISCARD.
pub(super) fn discard(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    if context.session.transaction.take().is_none() {
        return Err(Value::error("ERR DISCARD without MULTI"));
    }
    context.session.unwatch();
    ok()
}

/// WATCH key [key ...].
pub(super) fn watch(context: &mut Context<'_>, words: &[Bytes]) -> Handled {
    if context.session.transaction.is_some() {
        return Err(Value::error("ERR WATCH inside MULTI is not allowed"));
    }
    Ok(Action::Watch(words[1..].to_vec()))
}

/// UNWATCH.
pub(super) fn unwatch(context: &mut Context<'_>, _: &[Bytes]) -> Handled {
    // Between MULTI and EXEC it changes nothing: EXEC forgets what was watched in any case.
    if context.session.transaction.is_none() {
        context.session.unwatch();
    }
    say(Value::OK)
}

/// The command of the machine that does what was queued; none where there is nothing to do.
pub(crate) fn command(watched: Vec<Watched>, queued: &[Queued]) -> Option<Command> {
    let steps = queued.iter().filter_map(|queued| match queued {
        Queued::Step(bytes, _) => Some(bytes.clone()),
        Queued::Ready(_) => None,
    });
    let steps: Vec<Bytes> = steps.collect();
    (!steps.is_empty() || !watched.is_empty()).then_some(Command::Transaction { watched, steps })
}

/// The reply to EXEC.
pub(crate) fn show(queued: Vec<Queued>, reply: Reply) -> Value {
    let encoded = match reply {
        Reply::Many(encoded) => encoded,
        Reply::NotDone => return Value::NullArray,
        other => return plain(other),
    };
    let mut answers = replies(encoded);
    let shown = queued.into_iter().map(|queued| match queued {
        Queued::Ready(value) => value,
        Queued::Step(_, show) => answers.next().map_or_else(|| Value::error("ERR no reply"), show),
    });
    Value::Array(shown.collect())
}
