//! Commands that a failover has lost, for a second time and in words.

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{EngineError, Read};

use super::command::{Command, Compare, Operation, Target};
use super::read;
use crate::rollback::{AbsentKeys, Again};

/// Plain sets, and deletes: what they do does not depend on what was there.
fn operation(command: &Command) -> Option<(Operation, Vec<Bytes>)> {
    match command {
        Command::Set { key, value, deadline } => {
            let condition = super::Condition::Always;
            let (key, value) = (key.clone(), value.clone());
            let keys = vec![key.clone()];
            Some((Operation::Put { key, value, condition, deadline: *deadline }, keys))
        }
        Command::One(put @ Operation::Put { key, condition: super::Condition::Always, .. }) => {
            Some((put.clone(), vec![key.clone()]))
        }
        Command::One(Operation::Delete { keys }) => {
            Some((Operation::Delete { keys: keys.clone() }, keys.clone()))
        }
        _ => None,
    }
}

/// See [`StateMachine::again`](crate::state_machine::StateMachine::again).
pub(super) fn again(
    state: &dyn Read,
    clock: Hlc,
    command: &Command,
    before: u64,
    absent: AbsentKeys,
) -> Result<Again<Command>, EngineError> {
    let Some((operation, keys)) = operation(command) else { return Ok(Again::Never) };
    let mut compare = Vec::with_capacity(keys.len());
    for key in keys {
        let target = match read::get(state, clock, &key)? {
            Some(record) if record.revision.index < before => Target::Revision(record.revision),
            None if absent == AbsentKeys::Written => Target::Absent,
            Some(_) | None => return Ok(Again::Changed),
        };
        compare.push(Compare { key, target });
    }
    Ok(Again::Propose(Command::Transaction { compare, then: vec![operation], or_else: Vec::new() }))
}

/// A command in words.
pub(super) fn describe(command: &Command) -> String {
    let text = |bytes: &Bytes| bytes.escape_ascii().to_string();
    let one = |operation: &Operation| match operation {
        Operation::Get { key } => format!("get {}", text(key)),
        Operation::Put { key, value, .. } => format!("put {} = {}", text(key), text(value)),
        Operation::Delete { keys } => {
            format!("delete {}", keys.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        Operation::Increment { key, by } => format!("increment {} by {by}", text(key)),
        Operation::Append { key, value } => format!("append {} to {}", text(value), text(key)),
    };
    match command {
        Command::One(operation) => one(operation),
        Command::Set { key, value, .. } => format!("set {} = {}", text(key), text(value)),
        Command::Sweep { .. } => "sweep".to_owned(),
        Command::Transaction { compare, then, or_else } => {
            let list = |all: &[Operation]| all.iter().map(one).collect::<Vec<_>>().join("; ");
            let (then, or_else) = (list(then), list(or_else));
            format!("if {} comparisons hold: {then}; otherwise: {or_else}", compare.len())
        }
    }
}
