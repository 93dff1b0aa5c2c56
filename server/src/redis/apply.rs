//! What commands do to the state.

use bytes::{Bytes, BytesMut};
use common::storage::engine::EngineError;
use leader::state_machine::{Draft, Stamp};

use super::admission::{self, MAX_VALUE_BYTES};
use super::command::{
    Answer, Command, Condition, End, ExpireCondition, Lifetime, Moment, Refusal, Reply,
};
use super::cut::Cut;
use super::extended::Extended;
use super::query::text;
use super::record::Kind;
use super::state::{Slot, State};
use super::{hashes, lists, sets, sorted, sweep, transaction};
use crate::resp::{Decimal, parse_i64};

/// Why a command came to no reply of its own.
pub(super) enum Stop {
    Refusal(Refusal),
    Engine(EngineError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refusal(refusal)
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// Applies one command. A refusal comes before the first change, so nothing is half done.
pub(super) fn apply(
    draft: &mut Draft<'_>,
    command: &Command,
    stamp: Stamp,
) -> Result<Reply, EngineError> {
    // What the engine would refuse must not get to it: that would stop the node.
    if admission::check(command).is_err() {
        return Ok(Reply::Refused(Refusal::Inadmissible));
    }
    if let Command::Query(query) = command {
        return Cut::open(draft, stamp.clock, stamp.clock)?.answer(query);
    }
    if let Command::Transaction { watched, steps } = command {
        return transaction::run(draft, watched, steps, stamp);
    }
    let mut state = State::open(draft, stamp)?;
    match dispatch(&mut state, command) {
        Ok(reply) => {
            state.close();
            Ok(reply)
        }
        Err(Stop::Refusal(refusal)) => Ok(Reply::Refused(refusal)),
        Err(Stop::Engine(error)) => Err(error),
    }
}

fn dispatch(state: &mut State<'_, '_>, command: &Command) -> Result<Reply, Stop> {
    match command {
        Command::Set { key, value, condition, lifetime, answer } => {
            set(state, key, value, *condition, *lifetime, *answer)
        }
        Command::GetDelete { key } => {
            let slot = state.slot(key)?;
            let value = string(&slot)?;
            if value.is_some() {
                state.remove(slot);
            }
            Ok(Reply::Value(value))
        }
        Command::GetExpire { key, lifetime } => {
            let slot = state.slot(key)?;
            let value = string(&slot)?;
            let deadline = state.deadline(*lifetime, slot.deadline());
            if deadline != slot.deadline()
                && let Some(value) = &value
            {
                state.store_string(slot, value.clone(), deadline);
            }
            Ok(Reply::Value(value))
        }
        Command::SetMany { pairs, condition } => set_many(state, pairs, *condition),
        Command::Append { key, value } => {
            let slot = state.slot(key)?;
            let before = string(&slot)?.unwrap_or_default();
            change(state, slot, &before, before.len(), value)
        }
        Command::SetRange { key, offset, value } => {
            let slot = state.slot(key)?;
            let before = string(&slot)?.unwrap_or_default();
            if value.is_empty() {
                return Ok(Reply::Integer(before.len() as i64));
            }
            let offset = usize::try_from(*offset).map_err(|_| Refusal::TooLong)?;
            change(state, slot, &before, offset, value)
        }
        Command::Increment { key, by } => increment(state, key, *by),
        Command::IncrementFloat { key, by } => increment_float(state, key, by),
        Command::Delete { keys } => {
            let mut removed = 0;
            for key in keys {
                let slot = state.slot(key)?;
                removed += i64::from(slot.present().is_some());
                state.remove(slot);
            }
            Ok(Reply::Integer(removed))
        }
        Command::Expire { key, at, condition } => expire(state, key, *at, *condition),
        Command::Persist { key } => {
            let slot = state.slot(key)?;
            match (slot.deadline(), slot.present().cloned()) {
                (Some(_), Some(record)) => {
                    state.store_again(slot, record, None);
                    Ok(Reply::Integer(1))
                }
                _ => Ok(Reply::Integer(0)),
            }
        }
        Command::Rename { from, to, condition } => rename(state, from, to, *condition),
        Command::Copy { from, to, condition } => {
            let (source, target) = (state.slot(from)?, state.slot(to)?);
            match source.present().cloned() {
                Some(mut record) if holds(*condition, &target) && from != to => {
                    if let Some(elements) = &mut record.elements {
                        *elements = state
                            .copy_elements(record.kind, *elements)?
                            .ok_or(Refusal::TooManyElements)?;
                    }
                    let deadline = record.deadline;
                    state.store_again(target, record, deadline);
                    Ok(Reply::Integer(1))
                }
                _ => Ok(Reply::Integer(0)),
            }
        }
        Command::Flush => {
            // An empty state needs no new generation; and there are more generations than flushes.
            if state.ledger.count > 0 {
                let next = state.ledger.generation.checked_add(1).ok_or(Refusal::Inadmissible)?;
                state.ledger.generation = next;
                (state.ledger.count, state.ledger.dated) = (0, 0);
            }
            Ok(Reply::Done)
        }
        Command::Sweep { limit } => Ok(Reply::Integer(sweep::sweep(state, *limit)? as i64)),
        Command::HashSet { key, pairs, condition } => hashes::set(state, key, pairs, *condition),
        Command::HashDelete { key, fields } => hashes::delete(state, key, Kind::Hash, fields),
        Command::HashIncrement { key, field, by } => hashes::increment(state, key, field, *by),
        Command::HashIncrementFloat { key, field, by } => {
            hashes::increment_float(state, key, field, by)
        }
        Command::SetAdd { key, members } => sets::add(state, key, members),
        Command::SetRemove { key, members } => hashes::delete(state, key, Kind::Set, members),
        Command::SetMove { from, to, member } => sets::move_member(state, from, to, member),
        Command::SetPop { key, count, seed } => sets::pop(state, key, *count, *seed),
        Command::ListPush { key, end, values, only_existing } => {
            lists::push(state, key, *end, values, *only_existing)
        }
        Command::ListPop { key, end, count } => lists::pop(state, key, *end, *count),
        Command::ListSet { key, index, value } => lists::set(state, key, index, value),
        Command::ListTrim { key, start, stop } => lists::trim(state, key, *start, *stop),
        Command::ListRemove { key, count, value } => lists::remove(state, key, *count, value),
        Command::ListInsert { key, side, pivot, value } => {
            lists::insert(state, key, *side, pivot, value)
        }
        Command::ListMove { from, to } => {
            lists::move_element(state, (&from.0, from.1), (&to.0, to.1))
        }
        Command::SortedAdd { key, pairs, rules } => sorted::add(state, key, pairs, *rules),
        Command::SortedIncrement { key, member, by, rules } => {
            sorted::increment(state, key, member, *by, *rules)
        }
        Command::SortedRemove { key, members } => sorted::remove(state, key, members),
        Command::SortedRemoveSpan { key, span } => sorted::remove_span(state, key, span),
        Command::SortedPop { key, end, count } => sorted::pop(state, key, *end, *count),
        Command::PopFirst { keys, kind, end, count } => {
            pop_first(state, keys, *kind, (*end, *count))
        }
        Command::SetStore { how, to, keys } => sets::store(state, *how, to, keys),
        Command::Query(_) | Command::Transaction { .. } => {
            Ok(Reply::Refused(Refusal::Inadmissible))
        }
    }
}

/// Takes elements from the first key that is there.
fn pop_first(
    state: &mut State<'_, '_>,
    keys: &[Bytes],
    kind: Kind,
    (end, count): (End, u64),
) -> Result<Reply, Stop> {
    for key in keys {
        if state.slot(key)?.present().is_none() {
            continue;
        }
        return Ok(match kind {
            Kind::List => match lists::pop(state, key, end, count)? {
                Reply::Values(values) => {
                    Reply::TakenFrom(key.clone(), values.into_iter().flatten().collect())
                }
                other => other,
            },
            Kind::SortedSet => match sorted::pop(state, key, end, count)? {
                Reply::Scored(members) => Reply::ScoredFrom(key.clone(), members),
                other => other,
            },
            _ => Reply::Refused(Refusal::Inadmissible),
        });
    }
    Ok(Reply::NotDone)
}

fn set(
    state: &mut State<'_, '_>,
    key: &[u8],
    value: &Bytes,
    condition: Condition,
    lifetime: Lifetime,
    answer: Answer,
) -> Result<Reply, Stop> {
    let slot = state.slot(key)?;
    let previous = match answer {
        Answer::Previous => Some(Reply::Value(string(&slot)?)),
        Answer::Done => None,
    };
    if !holds(condition, &slot) {
        return Ok(previous.unwrap_or(Reply::NotDone));
    }
    let deadline = state.deadline(lifetime, slot.deadline());
    state.store_string(slot, value.clone(), deadline);
    Ok(previous.unwrap_or(Reply::Done))
}

fn set_many(
    state: &mut State<'_, '_>,
    pairs: &[(Bytes, Bytes)],
    condition: Condition,
) -> Result<Reply, Stop> {
    if condition != Condition::Always {
        for (key, _) in pairs {
            if !holds(condition, &state.slot(key)?) {
                return Ok(Reply::NotDone);
            }
        }
    }
    for (key, value) in pairs {
        let slot = state.slot(key)?;
        state.store_string(slot, value.clone(), None);
    }
    Ok(Reply::Done)
}

/// Writes bytes into a value from `offset` on; the deadline stays.
fn change(
    state: &mut State<'_, '_>,
    slot: Slot<'_>,
    before: &[u8],
    offset: usize,
    bytes: &[u8],
) -> Result<Reply, Stop> {
    let end = offset.checked_add(bytes.len()).filter(|end| *end <= MAX_VALUE_BYTES);
    let end = end.ok_or(Refusal::TooLong)?;
    let mut value = BytesMut::with_capacity(end.max(before.len()));
    value.extend_from_slice(before);
    value.resize(end.max(before.len()), 0);
    value[offset..end].copy_from_slice(bytes);
    let (length, deadline) = (value.len() as i64, slot.deadline());
    state.store_string(slot, value.freeze(), deadline);
    Ok(Reply::Integer(length))
}

fn increment(state: &mut State<'_, '_>, key: &[u8], by: i64) -> Result<Reply, Stop> {
    let slot = state.slot(key)?;
    let number = match string(&slot)? {
        Some(value) => parse_i64(&value).ok_or(Refusal::NotAnInteger)?,
        None => 0,
    };
    let sum = number.checked_add(by).ok_or(Refusal::Overflow)?;
    let deadline = slot.deadline();
    state.store_string(slot, Bytes::copy_from_slice(Decimal::new(sum).as_bytes()), deadline);
    Ok(Reply::Integer(sum))
}

fn increment_float(state: &mut State<'_, '_>, key: &[u8], by: &[u8]) -> Result<Reply, Stop> {
    let slot = state.slot(key)?;
    let number = match string(&slot)? {
        Some(value) => Extended::parse(&value).ok_or(Refusal::NotAFloat)?,
        None => Extended::ZERO,
    };
    let by = Extended::parse(by).ok_or(Refusal::NotAFloat)?;
    let sum = number.add(by).filter(|sum| !sum.is_infinite()).ok_or(Refusal::NotFinite)?;
    let (text, deadline) = (Bytes::from(sum.text()), slot.deadline());
    state.store_string(slot, text.clone(), deadline);
    Ok(Reply::Value(Some(text)))
}

fn expire(
    state: &mut State<'_, '_>,
    key: &[u8],
    at: Moment,
    condition: ExpireCondition,
) -> Result<Reply, Stop> {
    let slot = state.slot(key)?;
    let Some(record) = slot.present().cloned() else { return Ok(Reply::Integer(0)) };
    let at = state.instant(at);
    let holds = match condition {
        ExpireCondition::Always => true,
        ExpireCondition::IfNone => record.deadline.is_none(),
        ExpireCondition::IfSome => record.deadline.is_some(),
        ExpireCondition::IfEarlier => record.deadline.is_some_and(|former| former < at),
        ExpireCondition::IfLater => record.deadline.is_none_or(|former| former > at),
        ExpireCondition::IfSomeAndLater => record.deadline.is_some_and(|former| former > at),
    };
    if holds {
        state.store_again(slot, record, Some(at));
    }
    Ok(Reply::Integer(i64::from(holds)))
}

fn rename(
    state: &mut State<'_, '_>,
    from: &[u8],
    to: &[u8],
    condition: Condition,
) -> Result<Reply, Stop> {
    let source = state.slot(from)?;
    let record = source.present().cloned().ok_or(Refusal::NoSuchKey)?;
    let target = state.slot(to)?;
    if !holds(condition, &target) {
        return Ok(Reply::NotDone);
    }
    if from != to {
        let deadline = record.deadline;
        state.detach(source);
        state.store_again(target, record, deadline);
    }
    Ok(Reply::Done)
}

/// The value of a key that must be a string if it is there.
fn string(slot: &Slot<'_>) -> Result<Option<Bytes>, Refusal> {
    slot.present().cloned().map(text).transpose()
}

fn holds(condition: Condition, slot: &Slot<'_>) -> bool {
    match condition {
        Condition::Always => true,
        Condition::IfAbsent => slot.present().is_none(),
        Condition::IfPresent => slot.present().is_some(),
    }
}
