//! What a command has done, for the change feed.

use bytes::{Buf, Bytes};
use common::storage::engine::{EngineError, Read};
use leader::watch::{Change, ChangedRow};

use super::record::{Kind, Record};
use super::rows::{Ledger, parse_row};
use super::{Command, KEYS, LEDGER, step};

/// Whether a command leaves no key of those that were there.
fn flushes(command: &Command) -> bool {
    match command {
        Command::Flush => true,
        Command::Transaction { steps, .. } => {
            steps.iter().any(|bytes| *bytes == step(&Command::Flush))
        }
        _ => false,
    }
}

/// See [`StateMachine::changes`](leader::state_machine::StateMachine::changes). Every change of a
/// key, its elements included, writes the key's record.
pub(super) fn changes(
    state: &dyn Read,
    command: &Command,
    rows: &[ChangedRow],
) -> Result<Vec<Change>, EngineError> {
    let generation = Ledger::read(state)?.generation;
    let mut changes = Vec::new();
    // A flush begins a new generation; a transaction that did not take place has touched nothing.
    if flushes(command) && rows.iter().any(|row| row.keyspace == LEDGER) {
        changes.push(Change::Cleared);
    }
    let swept = matches!(command, Command::Sweep { .. });
    for row in rows.iter().filter(|row| row.keyspace == KEYS) {
        // What is left of older generations was told when they ended.
        if row.key.len() < 4 || row.key.clone().get_u32() != generation {
            continue;
        }
        let (_, key) = parse_row(row.key.clone())?;
        changes.push(match row.value.clone() {
            None if swept => Change::Expired { key },
            None => Change::Deleted { key },
            Some(record) => told(key, record)?,
        });
    }
    Ok(changes)
}

fn told(key: Bytes, record: Bytes) -> Result<Change, EngineError> {
    let record = Record::decode(&key, record)?;
    Ok(match record.kind {
        Kind::String => Change::Put { key, value: record.value },
        Kind::List | Kind::Set | Kind::SortedSet | Kind::Hash => Change::Changed { key },
    })
}
