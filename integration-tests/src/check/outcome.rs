//! Outcomes are true: what was not applied is never seen, and every operation ends by its deadline.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::workload::{Action, Key, Seen};

/// Judges the outcomes of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    if case.history.operations.is_empty() {
        return Verdict::NotExercised("no operation was invoked".to_owned());
    }
    match late(case).or_else(|| seen_though_not_applied(case)) {
        Some(witness) => Verdict::Violation(witness),
        None => Verdict::Pass,
    }
}

fn late(case: &Case<'_>) -> Option<Witness> {
    let ended = |o: &Operation| o.returned.unwrap_or(case.end);
    let late = |o: &&Operation| o.deadline.is_some_and(|d| ended(o) > d + case.grain);
    let operation = case.history.operations.iter().find(late)?;
    let deadline = operation.deadline?;
    let claim = match operation.returned {
        Some(at) => format!("an operation ended {:?} after its deadline", at.since(deadline)),
        None => "an operation has not ended, and its deadline has passed".to_owned(),
    };
    Some(Witness::new(claim, [operation]))
}

/// What an operation put there, under the key.
fn written(operation: &Operation) -> Option<(Key, i64)> {
    match operation.action {
        Action::Write { key, value } | Action::CompareAndSet { key, value, .. } => {
            Some((key, value))
        }
        Action::Add { set, element } => Some((set, element)),
        Action::Read { .. } | Action::ReadSet { .. } | Action::Increment { .. } => None,
    }
}

fn seen_though_not_applied(case: &Case<'_>) -> Option<Witness> {
    let operations = &case.history.operations;
    let mut refused: BTreeMap<(Key, i64), &Operation> = BTreeMap::new();
    for operation in operations.iter().filter(|o| o.never_took_effect()) {
        if let Some(written) = written(operation) {
            refused.entry(written).or_insert(operation);
        }
    }
    if refused.is_empty() {
        return None;
    }
    // Somebody else may have written the same value with success.
    let others: BTreeSet<(Key, i64)> =
        operations.iter().filter(|o| !o.never_took_effect()).filter_map(written).collect();
    refused.retain(|written, _| !others.contains(written));
    for read in operations.iter().filter(|o| o.outcome == Outcome::Applied) {
        let key = read.action.key();
        let found = match (&read.action, &read.seen) {
            (Action::Read { .. }, Some(Seen::Value(Some(value)))) => refused.get(&(key, *value)),
            (Action::ReadSet { .. }, Some(Seen::Elements(all))) => {
                all.iter().find_map(|element| refused.get(&(key, *element)))
            }
            (
                Action::CompareAndSet { expect: crate::workload::Expect::Value(Some(old)), .. },
                Some(Seen::Swapped(true)),
            ) => refused.get(&(key, *old)),
            _ => None,
        };
        if let Some(write) = found {
            let claim = format!("{key} shows what its writer was told was not applied");
            return Some(Witness::new(claim, [*write, read]));
        }
    }
    None
}
