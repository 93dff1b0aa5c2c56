//! What is refused before it is proposed, and what passes on a full disk.

use bytes::Bytes;
use common::storage::engine::MAX_KEY;
use leader::state_machine::Refused;

use super::command::{Command, Query};
use super::elements::MAX_ELEMENT_BYTES;
use super::rows::BEFORE_KEY;
use super::transaction;

/// The longest key in bytes. Redis allows 512 MiB; the engines under this machine do not.
pub const MAX_KEY_BYTES: usize = 64_000;
const _: () = assert!(MAX_KEY_BYTES + BEFORE_KEY <= MAX_KEY);

/// The longest value in bytes, also one that has grown. A command is also held to the node's
/// `max_command_bytes`, which is smaller by default.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// Refuses what must not be proposed.
pub(super) fn check(command: &Command) -> Result<(), Refused> {
    match command {
        Command::Set { key: name, value: bytes, .. }
        | Command::Append { key: name, value: bytes }
        | Command::SetRange { key: name, value: bytes, .. } => key(name).and(value(bytes)),
        Command::GetDelete { key: name }
        | Command::GetExpire { key: name, .. }
        | Command::Increment { key: name, .. }
        | Command::IncrementFloat { key: name, .. }
        | Command::Expire { key: name, .. }
        | Command::Persist { key: name } => key(name),
        Command::SetMany { pairs, .. } => {
            pairs.iter().try_for_each(|(name, bytes)| key(name).and(value(bytes)))
        }
        Command::Rename { from, to, .. } | Command::Copy { from, to, .. } => key(from).and(key(to)),
        Command::Transaction { steps, .. } => transaction::check(steps),
        Command::HashSet { key: name, pairs, .. } => {
            key(name)?;
            pairs.iter().try_for_each(|(field, bytes)| element(field).and(value(bytes)))
        }
        Command::HashIncrement { key: name, field, .. }
        | Command::HashIncrementFloat { key: name, field, .. } => key(name).and(element(field)),
        Command::SetAdd { key: name, members } => {
            key(name)?;
            members.iter().try_for_each(element)
        }
        Command::SetMove { to, member, .. } => key(to).and(element(member)),
        Command::SetStore { to, .. } => key(to),
        Command::ListPush { key: name, values, .. } => {
            key(name)?;
            values.iter().try_for_each(value)
        }
        Command::ListSet { value: bytes, .. } | Command::ListInsert { value: bytes, .. } => {
            value(bytes)
        }
        Command::ListMove { to, .. } => key(&to.0),
        Command::SortedAdd { key: name, pairs, .. } => {
            key(name)?;
            pairs.iter().try_for_each(|(_, member)| element(member))
        }
        Command::SortedIncrement { key: name, member, .. } => key(name).and(element(member)),
        Command::HashDelete { .. }
        | Command::SetRemove { .. }
        | Command::SetPop { .. }
        | Command::SortedRemove { .. }
        | Command::SortedRemoveSpan { .. }
        | Command::SortedPop { .. }
        | Command::PopFirst { .. }
        | Command::ListPop { .. }
        | Command::ListTrim { .. }
        | Command::ListRemove { .. } => Ok(()),
        // A key that is too long is not there: that is no error where keys are looked up only.
        Command::Delete { .. } | Command::Flush | Command::Sweep { .. } | Command::Query(_) => {
            Ok(())
        }
    }
}

/// Whether the command can only shrink the state.
pub(super) fn shrinks(command: &Command) -> bool {
    if let Command::Transaction { steps, .. } = command {
        return transaction::shrinks(steps);
    }
    matches!(
        command,
        Command::GetDelete { .. }
            | Command::Delete { .. }
            | Command::HashDelete { .. }
            | Command::SetRemove { .. }
            | Command::SetPop { .. }
            | Command::SortedRemove { .. }
            | Command::SortedRemoveSpan { .. }
            | Command::SortedPop { .. }
            | Command::PopFirst { .. }
            | Command::ListPop { .. }
            | Command::ListTrim { .. }
            | Command::ListRemove { .. }
            | Command::Flush
            | Command::Sweep { .. }
            | Command::Query(_)
    )
}

/// Whether the command makes room, now or later, so that no quota refuses it: a deadline costs a row.
pub(super) fn passes_quota(command: &Command) -> bool {
    shrinks(command) || matches!(command, Command::Expire { .. } | Command::Persist { .. })
}

/// Whether a key can be stored at all.
pub(super) fn fits(key: &[u8]) -> bool {
    key.len() <= MAX_KEY_BYTES
}

impl Query {
    /// Whether the answer is small, whatever the state holds, so that it may travel with writes.
    pub fn is_small(&self) -> bool {
        match self {
            Self::GetMany { keys } | Self::Exists { keys } => keys.len() <= 16,
            Self::Get { .. }
            | Self::Range { .. }
            | Self::Length { .. }
            | Self::Kind { .. }
            | Self::Remaining { .. }
            | Self::Deadline { .. }
            | Self::HashCount { .. }
            | Self::SetCount { .. }
            | Self::SortedCount { .. }
            | Self::ListLength { .. }
            | Self::ListIndex { .. }
            | Self::Count => true,
            Self::HashGet { fields: elements, .. }
            | Self::SortedScores { members: elements, .. }
            | Self::SetHas { members: elements, .. } => elements.len() <= 16,
            Self::SetSample { count, .. } => *count <= 16,
            Self::HashAll { .. }
            | Self::HashStep { .. }
            | Self::SetStep { .. }
            | Self::SortedRank { .. }
            | Self::SortedSpan { .. }
            | Self::SortedStep { .. }
            | Self::ListRange { .. }
            | Self::ListPositions { .. }
            | Self::SetCombine { .. } => false,
        }
    }
}

fn key(name: &Bytes) -> Result<(), Refused> {
    if fits(name) {
        return Ok(());
    }
    let size = name.len();
    Err(Refused {
        reason: format!("a key of {size} bytes is over the limit of {MAX_KEY_BYTES}; shorten it"),
    })
}

fn element(bytes: &Bytes) -> Result<(), Refused> {
    if bytes.len() <= MAX_ELEMENT_BYTES {
        return Ok(());
    }
    let size = bytes.len();
    let limit = MAX_ELEMENT_BYTES;
    Err(Refused {
        reason: format!("an element of {size} bytes is over the limit of {limit}; shorten it"),
    })
}

fn value(bytes: &Bytes) -> Result<(), Refused> {
    if bytes.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let size = bytes.len();
    Err(Refused {
        reason: format!("a value of {size} bytes is over the limit of {MAX_VALUE_BYTES}; split it"),
    })
}
