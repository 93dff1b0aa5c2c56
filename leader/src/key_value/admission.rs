//! What is refused before it is proposed, and what passes on a full disk.

use bytes::Bytes;

use super::command::{Command, Condition, Operation, Target};
use crate::state_machine::Refused;

/// The longest key in bytes. Engines on disk take 64 KiB, and the deadlines' rows need eight more.
pub const MAX_KEY_BYTES: usize = 32 << 10;

/// The longest value in bytes, also one grown by [`Operation::Append`]. A command is also held to
/// the node's `max_command_bytes`, which is smaller by default.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// The most comparisons, and the most operations per branch, of a transaction: an answer may carry a
/// whole value, so this bounds the reply.
pub const MAX_OPERATIONS: usize = 128;

/// The most keys of one delete.
pub const MAX_DELETED_KEYS: usize = 1_024;

/// Refuses what must not be proposed.
pub(super) fn check(command: &Command) -> Result<(), Refused> {
    match command {
        Command::One(one) => operation(one),
        Command::Transaction { compare, then, or_else } => {
            count("comparisons", compare.len(), MAX_OPERATIONS)?;
            count("operations", then.len(), MAX_OPERATIONS)?;
            count("operations", or_else.len(), MAX_OPERATIONS)?;
            for one in compare {
                key(&one.key)?;
                if let Target::Value(expected) = &one.target {
                    value(expected)?;
                }
            }
            then.iter().chain(or_else).try_for_each(operation)
        }
        Command::Sweep { .. } => Ok(()),
        Command::Set { key: name, value: bytes, .. } => key(name).and(value(bytes)),
    }
}

/// Whether the command can only shrink the state.
pub(super) fn shrinks(command: &Command) -> bool {
    let shrinking =
        |one: &Operation| matches!(one, Operation::Get { .. } | Operation::Delete { .. });
    match command {
        Command::One(one) => shrinking(one),
        Command::Transaction { then, or_else, .. } => then.iter().chain(or_else).all(shrinking),
        Command::Sweep { .. } => true,
        Command::Set { .. } => false,
    }
}

fn operation(one: &Operation) -> Result<(), Refused> {
    match one {
        Operation::Get { key: name } | Operation::Increment { key: name, .. } => key(name),
        Operation::Append { key: name, value: bytes } => key(name).and(value(bytes)),
        Operation::Put { key: name, value: bytes, condition, .. } => {
            key(name)?;
            if let Condition::IfValue(expected) = condition {
                value(expected)?;
            }
            value(bytes)
        }
        Operation::Delete { keys } => {
            count("keys", keys.len(), MAX_DELETED_KEYS)?;
            keys.iter().try_for_each(key)
        }
    }
}

fn key(name: &Bytes) -> Result<(), Refused> {
    if name.is_empty() {
        return refuse("a key must not be empty".into());
    }
    if name.len() > MAX_KEY_BYTES {
        return refuse(format!("a key of {} bytes is over {MAX_KEY_BYTES}", name.len()));
    }
    Ok(())
}

fn value(bytes: &Bytes) -> Result<(), Refused> {
    if bytes.len() > MAX_VALUE_BYTES {
        return refuse(format!("a value of {} bytes is over {MAX_VALUE_BYTES}", bytes.len()));
    }
    Ok(())
}

fn count(what: &str, number: usize, most: usize) -> Result<(), Refused> {
    if number > most {
        return refuse(format!("{number} {what} in one command are over {most}"));
    }
    Ok(())
}

fn refuse(reason: String) -> Result<(), Refused> {
    Err(Refused { reason })
}
