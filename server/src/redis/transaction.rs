//! Several commands as one step: what WATCH saw must still be so, then each is done in order.
//!
//! The commands of a transaction are bytes of their own, so that no bytes from a peer can nest
//! transactions without end. As in Redis, a command that cannot be done is a reply like any other,
//! and those after it are done all the same.

use bytes::Bytes;
use common::codec;
use common::storage::engine::EngineError;
use leader::key_value::Revision;
use leader::state_machine::{Draft, Refused, Stamp};

use super::command::{Command, Refusal, Reply};
use super::state::State;
use super::{MAX_REPLY_BYTES, admission, apply};

/// The most commands of one transaction, so that no entry takes long to apply.
pub const MAX_STEPS: usize = 4_096;

/// A command as a step of a transaction.
pub fn step(command: &Command) -> Bytes {
    codec::encode_body(command).into()
}

/// The command of a step; none for bytes that are none, or that must not be part of a transaction.
fn command(step: &[u8]) -> Option<Command> {
    let command = codec::decode_body(step).ok()?;
    (!matches!(command, Command::Transaction { .. } | Command::Sweep { .. })).then_some(command)
}

/// Refuses what must not be proposed.
pub(super) fn check(steps: &[Bytes]) -> Result<(), Refused> {
    if steps.len() > MAX_STEPS {
        let count = steps.len();
        let reason = format!("a transaction of {count} commands is over the limit of {MAX_STEPS}");
        return Err(Refused { reason });
    }
    steps.iter().try_for_each(|step| match command(step) {
        Some(command) => admission::check(&command),
        None => Err(Refused { reason: "not a command that a transaction can have".to_owned() }),
    })
}

/// Whether all of it can only shrink the state.
pub(super) fn shrinks(steps: &[Bytes]) -> bool {
    steps.iter().all(|step| command(step).is_some_and(|command| admission::shrinks(&command)))
}

/// Does all of it, or nothing if a watched key has changed.
pub(super) fn run(
    draft: &mut Draft<'_>,
    watched: &[(Bytes, Option<Revision>)],
    steps: &[Bytes],
    stamp: Stamp,
) -> Result<Reply, EngineError> {
    let state = State::open(draft, stamp)?;
    for (key, revision) in watched {
        if state.slot(key)?.present().map(|record| record.revision) != *revision {
            return Ok(Reply::NotDone);
        }
    }
    let (mut replies, mut bytes) = (Vec::with_capacity(steps.len()), 0);
    for step in steps {
        let reply = match command(step) {
            None => Reply::Refused(Refusal::Inadmissible),
            Some(Command::Query(_)) if bytes > MAX_REPLY_BYTES => {
                Reply::Refused(Refusal::ReplyTooLong)
            }
            Some(command) => apply::apply(draft, &command, stamp)?,
        };
        let reply = Bytes::from(codec::encode_body(&reply));
        bytes += reply.len();
        replies.push(reply);
    }
    Ok(Reply::Many(replies))
}

/// The replies of a transaction, one by one.
pub fn replies(encoded: Vec<Bytes>) -> impl Iterator<Item = Reply> {
    let decode = |bytes: Bytes| codec::decode_body(&bytes).ok();
    encoded.into_iter().map(move |b| decode(b).unwrap_or(Reply::Refused(Refusal::Inadmissible)))
}
