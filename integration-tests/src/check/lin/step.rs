//! What an operation does to one key, apart from who did it.

use crate::history::{Effect, Operation, Outcome};
use crate::time::SimTime;
use crate::workload::{Action, Class, Expect, Key, Kind, Seen};

/// The value of a register, or the sum of a counter.
pub(super) type State = Option<i64>;

/// The return of an operation that may take effect at any later time, or never.
pub(super) const OPEN: u64 = u64::MAX;

/// What a step does, and what it showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Showed this.
    Read(State),
    /// Sets the value.
    Write(i64),
    /// Sets the value if it is as expected. `took` is what it showed, if anything.
    Swap { expect: State, value: i64, took: Option<bool> },
    /// Adds. `sum` is what it showed, if anything.
    Add { by: i64, sum: Option<i64> },
}

/// One step of a history of one key. Two steps are ordered if one returned before the other was
/// invoked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) invoked: u64,
    /// [`OPEN`] if it need not take effect.
    pub(super) returned: u64,
    pub(super) what: What,
    pub(super) operation: &'a Operation,
}

impl What {
    /// The state afterwards, or `None` if the step cannot have shown what it did in this state.
    pub(super) fn apply(self, state: State) -> Option<State> {
        match self {
            Self::Read(seen) => (seen == state).then_some(state),
            Self::Write(value) => Some(Some(value)),
            Self::Swap { expect, value, took } => {
                let matches = expect == state;
                (took.unwrap_or(matches) == matches).then_some(if matches {
                    Some(value)
                } else {
                    state
                })
            }
            Self::Add { by, sum } => {
                let after = state.unwrap_or(0).wrapping_add(by);
                sum.is_none_or(|sum| sum == after).then_some(Some(after))
            }
        }
    }
}

impl Step<'_> {
    pub(super) const fn is_open(&self) -> bool {
        self.returned == OPEN
    }
}

/// The state of a key that nobody has written.
pub(super) const fn initial(key: Key) -> State {
    match key.kind {
        Kind::Counter => Some(0),
        Kind::Register | Kind::Set => None,
    }
}

/// The step of an effect, or `None` if it says nothing about the order: an operation on a set, and a
/// read that did not ask for the strongest answer.
pub(super) fn step(effect: Effect<'_>) -> Result<Option<Step<'_>>, String> {
    let operation = effect.operation;
    let malformed = || Err(format!("the history is malformed: {operation}"));
    let key = operation.action.key();
    let what = match (operation.action, &operation.seen) {
        (Action::Add { .. } | Action::ReadSet { .. }, _) => return Ok(None),
        (Action::Read { .. }, _) if operation.class != Class::Safe => return Ok(None),
        (Action::Read { .. }, Some(Seen::Value(seen))) => {
            What::Read(if key.kind == Kind::Counter { Some(seen.unwrap_or(0)) } else { *seen })
        }
        (Action::Write { value, .. }, _) => What::Write(value),
        (Action::CompareAndSet { expect: Expect::Value(expect), value, .. }, seen) => {
            let took = match seen {
                Some(Seen::Swapped(took)) => Some(*took),
                None if operation.outcome != Outcome::Applied => None,
                _ => return malformed(),
            };
            What::Swap { expect, value, took }
        }
        (Action::Increment { by, .. }, Some(Seen::Value(sum))) => What::Add { by, sum: *sum },
        (Action::Increment { by, .. }, None) => What::Add { by, sum: None },
        _ => return malformed(),
    };
    let returned = effect.returned.map_or(OPEN, |SimTime(at)| at);
    if returned < operation.invoked.0 {
        return malformed();
    }
    Ok(Some(Step { invoked: operation.invoked.0, returned, what, operation }))
}

/// Drops open writes that nobody can have seen: a history that has an order with them has one
/// without them. A compare-and-set that did not match may have seen any of them, so with one of
/// those all are kept.
pub(super) fn drop_unseen(steps: &mut Vec<Step<'_>>) {
    let mut observed = Vec::new();
    for step in steps.iter() {
        match step.what {
            What::Swap { took: Some(false), .. } | What::Add { .. } => return,
            What::Swap { took: None, .. } if !step.is_open() => return,
            What::Read(Some(value)) | What::Swap { expect: Some(value), .. } => {
                observed.push(value);
            }
            _ => {}
        }
    }
    observed.sort_unstable();
    steps.retain(|step| match step.what {
        What::Write(value) | What::Swap { value, .. } if step.is_open() => {
            observed.binary_search(&value).is_ok()
        }
        _ => true,
    });
}
