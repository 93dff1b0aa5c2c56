//! Sessions: what a client has done and seen it never misses later, whichever node it turns to.
//!
//! Read-your-writes and monotonic reads, from what the client alone knows (Terry et al. 1994). A set
//! only grows: every element that the session added with success or has seen is in its next read. A
//! register's values are unique: once the session has seen another, a former one never comes back.
//! A session that lost a write is told so, and is another session from then on.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Verdict, Witness};
use crate::history::{Operation, Outcome};
use crate::workload::{Action, Class, Key, Kind, Seen};

/// What one session knows of one key.
#[derive(Default)]
struct Known<'a> {
    /// Elements of a set that must be there, each with the operation that showed it.
    elements: BTreeMap<i64, &'a Operation>,
    /// The value of a register that was seen or written last.
    current: Option<(i64, &'a Operation)>,
    /// Values that are gone for good, each with the operation that showed it.
    former: BTreeMap<i64, &'a Operation>,
}

/// Judges the sessions of a history.
pub fn check(case: &Case<'_>) -> Verdict {
    let mut sessions: BTreeMap<(u8, u32), Vec<&Operation>> = BTreeMap::new();
    for operation in &case.history.operations {
        if operation.class == Class::Session && operation.outcome == Outcome::Applied {
            let session = (operation.process.client, operation.session);
            sessions.entry(session).or_default().push(operation);
        }
    }
    let mut reads = 0;
    for operations in sessions.values_mut() {
        // A client does one thing at a time, so what came back is in order.
        operations.sort_by_key(|o| o.returned);
        let mut keys: BTreeMap<Key, Known<'_>> = BTreeMap::new();
        for operation in operations.iter() {
            let known = keys.entry(operation.action.key()).or_default();
            reads += u64::from(operation.action.is_read());
            if let Some(violation) = known.add(operation) {
                return Verdict::Violation(violation);
            }
        }
    }
    match reads {
        0 => Verdict::NotExercised("no session read anything".to_owned()),
        _ => Verdict::Pass,
    }
}

impl<'a> Known<'a> {
    fn add(&mut self, operation: &'a Operation) -> Option<Witness> {
        match (operation.action, &operation.seen) {
            (Action::Add { element, .. }, _) => {
                self.elements.insert(element, operation);
            }
            (Action::ReadSet { set }, Some(Seen::Elements(all))) => {
                let there: BTreeSet<i64> = all.iter().copied().collect();
                if let Some((element, shown)) =
                    self.elements.iter().find(|(element, _)| !there.contains(element))
                {
                    let claim = format!("a session knew {element} of {set}, and does not see it");
                    return Some(Witness::new(claim, [*shown, operation]));
                }
                self.elements.extend(all.iter().map(|element| (*element, operation)));
            }
            (Action::Write { value, .. }, _)
            | (Action::CompareAndSet { value, .. }, Some(Seen::Swapped(true))) => {
                self.now(value, operation);
            }
            (Action::Read { key }, Some(Seen::Value(found))) if key.kind == Kind::Register => {
                let gone = match (found, self.current) {
                    (Some(value), _) => self.former.get(value).copied(),
                    (None, Some((_, shown))) => Some(shown),
                    (None, None) => None,
                };
                if let Some(shown) = gone {
                    let claim = format!("a session sees {key} as it was before");
                    let newer = self.current.map(|(_, newer)| newer);
                    let all = [Some(shown), newer, Some(operation)];
                    return Some(Witness::new(claim, all.into_iter().flatten()));
                }
                if let Some(value) = found {
                    self.now(*value, operation);
                }
            }
            _ => {}
        }
        None
    }

    fn now(&mut self, value: i64, operation: &'a Operation) {
        if let Some((former, shown)) = self.current.replace((value, operation))
            && former != value
        {
            self.former.insert(former, shown);
        }
    }
}
