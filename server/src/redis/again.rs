//! Commands that a failover has lost, for a second time.

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{EngineError, Read};
use leader::rollback::{AbsentKeys, Again};

use super::{Command, Condition, Cut, step};

/// The keys of a command whose effect does not depend on what was there: plain sets, and deletes.
fn keys(command: &Command) -> Option<Vec<Bytes>> {
    match command {
        Command::Set { key, condition: Condition::Always, .. } => Some(vec![key.clone()]),
        Command::SetMany { pairs, condition: Condition::Always } => {
            Some(pairs.iter().map(|(key, _)| key.clone()).collect())
        }
        Command::Delete { keys } => Some(keys.clone()),
        _ => None,
    }
}

/// See [`StateMachine::again`](leader::state_machine::StateMachine::again).
pub(super) fn again(
    state: &dyn Read,
    clock: Hlc,
    command: &Command,
    before: u64,
    absent: AbsentKeys,
) -> Result<Again<Command>, EngineError> {
    let Some(keys) = keys(command) else { return Ok(Again::Never) };
    let cut = Cut::open(state, clock, clock)?;
    let mut watched = Vec::with_capacity(keys.len());
    for key in keys {
        let revision = match cut.get(&key)? {
            Some(record) if record.revision.index < before => Some(record.revision),
            None if absent == AbsentKeys::Written => None,
            Some(_) | None => return Ok(Again::Changed),
        };
        watched.push((key, revision));
    }
    Ok(Again::Propose(Command::Transaction { watched, steps: vec![step(command)] }))
}
