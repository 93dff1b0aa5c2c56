//! What commands do to the state. Everything follows from the state and the stamp.

use bytes::{Bytes, BytesMut};
use common::clock::Hlc;
use common::storage::engine::{EngineError, KeyRange, PageLimit, Read};

use super::admission::MAX_VALUE_BYTES;
use super::command::{Answer, Compare, Condition, Operation, Refusal, Reply, Target};
use super::record::{Record, Revision, deadline_row, parse_deadline_row};
use super::{DATA, EXPIRY, MAX_SWEEP, read};
use crate::state_machine::{Draft, Stamp};

/// Does one operation.
pub(super) fn one(
    state: &mut Draft<'_>,
    operation: &Operation,
    stamp: Stamp,
) -> Result<Answer, EngineError> {
    match operation {
        Operation::Get { key } => read::get(state, stamp.clock, key).map(Answer::Got),
        Operation::Put { key, value, condition, deadline } => {
            let slot = Slot::open(state, key, stamp)?;
            let current = slot.present();
            if !holds(condition, current) {
                return Ok(Answer::NotStored { current: current.cloned() });
            }
            let previous = current.cloned();
            let kept = current.and_then(|record| record.deadline);
            let deadline = deadline.resolve(stamp.clock, kept);
            let revision = slot.store(state, value.clone(), deadline);
            Ok(Answer::Stored { revision, previous })
        }
        Operation::Delete { keys } => {
            let mut removed = Vec::with_capacity(keys.len());
            for key in keys {
                let slot = Slot::open(state, key, stamp)?;
                removed.push(slot.present().map(|record| record.revision));
                slot.remove(state);
            }
            Ok(Answer::Deleted { removed })
        }
        Operation::Increment { key, by } => increment(state, key, *by, stamp),
        Operation::Append { key, value } => append(state, key, value, stamp),
    }
}

/// Does one branch of a transaction, wholly or not at all.
pub(super) fn transaction(
    state: &mut Draft<'_>,
    compare: &[Compare],
    then: &[Operation],
    or_else: &[Operation],
    stamp: Stamp,
) -> Result<Reply, EngineError> {
    let mut matched = true;
    for one in compare {
        let record = read::get(state, stamp.clock, &one.key)?;
        matched &= meets(&one.target, record.as_ref());
    }
    let branch = if matched { then } else { or_else };
    // A draft over the draft, so that a refusal in the middle leaves nothing behind.
    let mut inner = Draft::new(state);
    let mut answers = Vec::with_capacity(branch.len());
    for (number, operation) in branch.iter().enumerate() {
        match one(&mut inner, operation, stamp)? {
            Answer::Refused(refusal) => {
                return Ok(Reply::Aborted { matched, operation: number as u32, refusal });
            }
            answer => answers.push(answer),
        }
    }
    let batch = inner.into_batch();
    state.take_over(batch);
    Ok(Reply::Transaction { matched, answers })
}

/// Removes keys that are due at `clock`, the earliest deadlines first.
pub(super) fn sweep(state: &mut Draft<'_>, limit: u32, clock: Hlc) -> Result<Reply, EngineError> {
    let limit = limit.min(MAX_SWEEP) as usize;
    let mut range = KeyRange::all();
    let mut keys = 0;
    while keys < limit {
        let page = PageLimit { items: limit - keys, bytes: 1 << 20 };
        let page = state.scan(EXPIRY, &range, page)?;
        for (row, _) in &page.items {
            let (deadline, key) = parse_deadline_row(row.clone())?;
            if deadline > clock {
                return Ok(Reply::Swept { keys: keys as u32 });
            }
            state.delete(DATA, key);
            state.delete(EXPIRY, row.clone());
            keys += 1;
        }
        match page.items.last() {
            Some((row, _)) if page.more => range = range.after(row.clone()),
            _ => break,
        }
    }
    Ok(Reply::Swept { keys: keys as u32 })
}

fn increment(
    state: &mut Draft<'_>,
    key: &Bytes,
    by: i64,
    stamp: Stamp,
) -> Result<Answer, EngineError> {
    let slot = Slot::open(state, key, stamp)?;
    let (number, deadline, previous) = match slot.present() {
        None => (Some(0), None, None),
        Some(record) => (parse(&record.value), record.deadline, Some(record.revision)),
    };
    let Some(number) = number else { return Ok(Answer::Refused(Refusal::NotANumber)) };
    let Some(value) = number.checked_add(by) else {
        return Ok(Answer::Refused(Refusal::Overflow));
    };
    let revision = slot.store(state, Bytes::from(value.to_string()), deadline);
    Ok(Answer::Counted { value, revision, previous })
}

fn append(
    state: &mut Draft<'_>,
    key: &Bytes,
    value: &Bytes,
    stamp: Stamp,
) -> Result<Answer, EngineError> {
    let slot = Slot::open(state, key, stamp)?;
    let (whole, deadline, previous) = match slot.present() {
        None => (value.clone(), None, None),
        Some(record) => {
            let mut whole = BytesMut::with_capacity(record.value.len() + value.len());
            whole.extend_from_slice(&record.value);
            whole.extend_from_slice(value);
            (whole.freeze(), record.deadline, Some(record.revision))
        }
    };
    if whole.len() > MAX_VALUE_BYTES {
        return Ok(Answer::Refused(Refusal::TooLarge));
    }
    let length = whole.len() as u64;
    let revision = slot.store(state, whole, deadline);
    Ok(Answer::Appended { length, revision, previous })
}

/// A decimal number as Redis reads it: no sign but a minus, no leading zeros, no spaces.
fn parse(value: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == value).then_some(number)
}

/// Whether a put's condition holds for what is there.
fn holds(condition: &Condition, current: Option<&Record>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => current.is_none(),
        Condition::IfPresent => current.is_some(),
        Condition::IfRevision(expected) => current.is_some_and(|r| r.revision == *expected),
        Condition::IfValue(expected) => current.is_some_and(|r| r.value == *expected),
    }
}

/// Whether a transaction's comparison holds for what is there.
fn meets(target: &Target, current: Option<&Record>) -> bool {
    match target {
        Target::Absent => current.is_none(),
        Target::Present => current.is_some(),
        Target::Revision(expected) => current.is_some_and(|r| r.revision == *expected),
        Target::Value(expected) => current.is_some_and(|r| r.value == *expected),
    }
}

/// A key while an operation works on it: the one place that keeps record and deadline's row in
/// step.
struct Slot<'k> {
    key: &'k Bytes,
    stamp: Stamp,
    stored: Option<Record>,
}

impl<'k> Slot<'k> {
    fn open(state: &Draft<'_>, key: &'k Bytes, stamp: Stamp) -> Result<Self, EngineError> {
        Ok(Self { key, stamp, stored: read::stored(state, key)? })
    }

    /// The record, unless it is due: then the key is absent although something is stored.
    fn present(&self) -> Option<&Record> {
        self.stored.as_ref().filter(|record| !record.is_due(self.stamp.clock))
    }

    fn store(self, state: &mut Draft<'_>, value: Bytes, deadline: Option<Hlc>) -> Revision {
        let former = self.stored.and_then(|record| record.deadline);
        if former != deadline {
            if let Some(former) = former {
                state.delete(EXPIRY, deadline_row(former, self.key));
            }
            if let Some(deadline) = deadline {
                state.put(EXPIRY, deadline_row(deadline, self.key), Bytes::new());
            }
        }
        let revision = Revision { index: self.stamp.index, sub: self.stamp.sub };
        state.put(DATA, self.key.clone(), Record { value, revision, deadline }.encode());
        revision
    }

    fn remove(self, state: &mut Draft<'_>) {
        let Some(record) = self.stored else { return };
        if let Some(deadline) = record.deadline {
            state.delete(EXPIRY, deadline_row(deadline, self.key));
        }
        state.delete(DATA, self.key.clone());
    }
}
