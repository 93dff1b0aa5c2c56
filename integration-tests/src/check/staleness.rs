//! Bounded staleness: a read misses nothing that was certain so long before it began.
//!
//! An element of a set is never removed, so every one that was certain early enough is in the read. A
//! register's values are unique: a value is too old when another one was certain early enough and
//! was written after the first one's write had returned.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::time::SimTime;
use crate::workload::{Action, Class, Key, Kind, Seen};

/// What nodes' clocks may run slower than the world's.
const DRIFT: f64 = 1.1;

/// Judges the bounded reads of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    let mut writes: BTreeMap<Key, Vec<&Operation>> = BTreeMap::new();
    for operation in &case.history.operations {
        if !operation.action.is_read() {
            writes.entry(operation.action.key()).or_default().push(operation);
        }
    }
    let bound = Class::BOUND.mul_f64(DRIFT) + case.grain;
    let mut reads = 0;
    for read in &case.history.operations {
        if read.class != Class::Bounded
            || !read.action.is_read()
            || read.outcome != Outcome::Applied
        {
            continue;
        }
        reads += 1;
        let since = read.invoked.since(SimTime::ZERO).checked_sub(bound).unwrap_or(Duration::ZERO);
        let since = SimTime::ZERO + since;
        let certain = |w: &&&Operation| w.certain_from().is_some_and(|at| at < since);
        let of_key = writes.get(&read.action.key()).map_or(&[][..], Vec::as_slice);
        let mut old = of_key.iter().filter(certain);
        let missed = match (read.action, &read.seen) {
            (Action::ReadSet { .. }, Some(Seen::Elements(all))) => old.find(|write| {
                matches!(write.action, Action::Add { element, .. } if !all.contains(&element))
            }),
            (Action::Read { key }, Some(Seen::Value(found))) if key.kind == Kind::Register => {
                match found {
                    None => old.find(|write| value_of(write).is_some()),
                    Some(found) => {
                        let by = of_key.iter().find(|write| value_of(write) == Some(*found));
                        let ended = by.and_then(|write| write.returned);
                        old.find(|write| {
                            value_of(write).is_some_and(|value| value != *found)
                                && ended.is_some_and(|ended| ended < write.invoked)
                        })
                    }
                }
            }
            _ => None,
        };
        if let Some(write) = missed {
            let claim = format!("a read within {:?} misses an older write", Class::BOUND);
            return Verdict::Violation(Witness::new(claim, [*write, read]));
        }
    }
    match reads {
        0 => Verdict::NotExercised("nobody read with a bound".to_owned()),
        _ => Verdict::Pass,
    }
}

/// The value that a register has after a write that took place for certain.
fn value_of(write: &Operation) -> Option<i64> {
    match (write.action, &write.seen) {
        (Action::Write { value, .. }, _)
        | (Action::CompareAndSet { value, .. }, Some(Seen::Swapped(true))) => Some(value),
        _ => None,
    }
}
