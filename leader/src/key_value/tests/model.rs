//! Random commands on the machine, on a map that says the same in the plainest way, and on a second
//! engine.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use common::storage::engine::{KeyRange, PageLimit, Read};
use proptest::prelude::*;

use super::super::{Compare, Condition, Deadline, EXPIRY, Refusal, Target};
use super::*;

/// The machine in the plainest words. Due keys are removed before every command.
#[derive(Clone, Default)]
struct Model(BTreeMap<Bytes, Record>);

impl Model {
    fn apply(&mut self, command: &Command, stamp: Stamp) -> Reply {
        self.0.retain(|_, record| record.deadline.is_none_or(|at| at > stamp.clock));
        match command {
            Command::One(operation) => Reply::One(self.one(operation, stamp)),
            Command::Transaction { compare, then, or_else } => {
                let matched = compare.iter().all(|c| {
                    let there = self.0.get(&c.key);
                    match &c.target {
                        Target::Absent => there.is_none(),
                        Target::Present => there.is_some(),
                        Target::Revision(r) => there.map(|t| t.revision) == Some(*r),
                        Target::Value(v) => there.map(|t| &t.value) == Some(v),
                    }
                });
                let before = self.clone();
                let mut answers = Vec::new();
                for (number, operation) in (if matched { then } else { or_else }).iter().enumerate()
                {
                    answers.push(self.one(operation, stamp));
                    self.0.retain(|_, record| record.deadline.is_none_or(|at| at > stamp.clock));
                    if let Some(Answer::Refused(refusal)) = answers.last() {
                        let refusal = *refusal;
                        *self = before;
                        return Reply::Aborted { matched, operation: number as u32, refusal };
                    }
                }
                Reply::Transaction { matched, answers }
            }
            // How many rows a sweep finds depends on what was swept before: not the model's matter.
            Command::Sweep { .. } => Reply::Swept { keys: 0 },
            Command::Set { key, value, deadline } => {
                let (key, value, condition) = (key.clone(), value.clone(), Condition::Always);
                self.one(&Operation::Put { key, value, condition, deadline: *deadline }, stamp);
                Reply::Set
            }
        }
    }

    fn one(&mut self, operation: &Operation, stamp: Stamp) -> Answer {
        let revision = Revision { index: stamp.index, sub: stamp.sub };
        match operation {
            Operation::Get { key } => Answer::Got(self.0.get(key).cloned()),
            Operation::Put { key, value, condition, deadline } => {
                let current = self.0.get(key).cloned();
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfAbsent => current.is_none(),
                    Condition::IfPresent => current.is_some(),
                    Condition::IfRevision(r) => current.as_ref().map(|c| c.revision) == Some(*r),
                    Condition::IfValue(v) => current.as_ref().map(|c| &c.value) == Some(v),
                };
                if !holds {
                    return Answer::NotStored { current };
                }
                let deadline = match deadline {
                    Deadline::Keep => current.as_ref().and_then(|c| c.deadline),
                    Deadline::Clear => None,
                    Deadline::At(at) => Some(*at),
                    Deadline::After(span) => {
                        let at = stamp.clock.millis() + span.as_millis() as u64;
                        Some(Hlc::new(at, stamp.clock.counter()))
                    }
                };
                self.0.insert(key.clone(), Record { value: value.clone(), revision, deadline });
                Answer::Stored { revision, previous: current }
            }
            Operation::Delete { keys } => {
                let removed = keys.iter().map(|key| self.0.remove(key).map(|r| r.revision));
                Answer::Deleted { removed: removed.collect() }
            }
            Operation::Increment { key, by } => {
                let there = self.0.get(key).cloned();
                let text = there.as_ref().map_or("0", |r| std::str::from_utf8(&r.value).unwrap());
                let number = text.parse::<i64>().ok().filter(|n| n.to_string() == text);
                let Some(number) = number else {
                    return Answer::Refused(Refusal::NotANumber);
                };
                let Some(sum) = number.checked_add(*by) else {
                    return Answer::Refused(Refusal::Overflow);
                };
                let deadline = there.as_ref().and_then(|r| r.deadline);
                let value = sum.to_string().into();
                self.0.insert(key.clone(), Record { value, revision, deadline });
                Answer::Counted { value: sum, revision, previous: there.map(|r| r.revision) }
            }
            Operation::Append { key, value } => {
                let there = self.0.get(key).cloned();
                let mut whole = there.as_ref().map_or(Vec::new(), |r| r.value.to_vec());
                whole.extend_from_slice(value);
                let length = whole.len() as u64;
                let deadline = there.as_ref().and_then(|r| r.deadline);
                self.0.insert(key.clone(), Record { value: whole.into(), revision, deadline });
                Answer::Appended { length, revision, previous: there.map(|r| r.revision) }
            }
        }
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    (b'a'..b'f').prop_map(|letter| Bytes::from(vec![letter]))
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just("1"), Just("2"), Just("x"), Just("9223372036854775807"), Just("-5")]
        .prop_map(Bytes::from)
}

fn at() -> impl Strategy<Value = Revision> {
    (0..30_u64, 0..2_u16).prop_map(|(index, sub)| Revision { index, sub })
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        4 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
        1 => at().prop_map(Condition::IfRevision),
        1 => value().prop_map(Condition::IfValue),
    ]
}

fn deadline() -> impl Strategy<Value = Deadline> {
    prop_oneof![
        Just(Deadline::Keep),
        Just(Deadline::Clear),
        (1_000..1_100_u64).prop_map(|at| Deadline::At(Hlc::new(at, 0))),
        (0..20_u64).prop_map(|span| Deadline::After(Duration::from_millis(span))),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let put =
        (key(), value(), condition(), deadline()).prop_map(|(key, value, condition, deadline)| {
            Operation::Put { key, value, condition, deadline }
        });
    prop_oneof![
        5 => put,
        1 => key().prop_map(|key| Operation::Get { key }),
        1 => prop::collection::vec(key(), 0..3).prop_map(|keys| Operation::Delete { keys }),
        2 => (key(), -3..3_i64).prop_map(|(key, by)| Operation::Increment { key, by }),
        1 => (key(), value()).prop_map(|(key, value)| Operation::Append { key, value }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let target = prop_oneof![
        Just(Target::Absent),
        Just(Target::Present),
        at().prop_map(Target::Revision),
        value().prop_map(Target::Value),
    ];
    let compare = (key(), target).prop_map(|(key, target)| Compare { key, target });
    let branch = || prop::collection::vec(operation(), 0..5);
    let transaction = (prop::collection::vec(compare, 0..3), branch(), branch())
        .prop_map(|(compare, then, or_else)| Command::Transaction { compare, then, or_else });
    prop_oneof![
        6 => operation().prop_map(Command::One),
        2 => transaction,
        1 => (0..5_u32).prop_map(|limit| Command::Sweep { limit }),
    ]
}

/// Commands, each with whether it begins a new entry and how many milliseconds pass before it.
fn story() -> impl Strategy<Value = Vec<(Command, bool, u64)>> {
    prop::collection::vec((command(), any::<bool>(), 0..8_u64), 0..40)
}

/// What is stored, checked: every deadline has its row and every row its deadline.
fn consistent(engine: &MemoryEngine) -> Result<(), TestCaseError> {
    let page = PageLimit { items: 1_000, bytes: 1 << 20 };
    let rows = engine.scan(EXPIRY, &KeyRange::all(), page).unwrap().items;
    let rows: Vec<Bytes> = rows.into_iter().map(|(row, _)| row).collect();
    let all = KeyValue::scan(engine, Hlc::ZERO, &KeyRange::all(), page).unwrap().items;
    let mut expected: Vec<Bytes> = all
        .iter()
        .filter_map(|(key, record)| Some((record.deadline?, key)))
        .map(|(at, key)| super::super::record::deadline_row(at, key))
        .collect();
    expected.sort();
    prop_assert_eq!(rows, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_machine_does_what_the_model_does(story in story()) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for (command, new_entry, millis) in story {
            if new_entry {
                bench.stamp.index += 1;
                bench.stamp.sub = 0;
            } else {
                bench.stamp.sub += 1;
            }
            bench.pass(millis);
            let mut draft = Draft::new(&bench.engine);
            let reply = KeyValue.apply(&mut draft, &command, bench.stamp).unwrap();
            bench.engine.write(draft.into_batch()).unwrap();
            let expected = model.apply(&command, bench.stamp);
            if !matches!(command, Command::Sweep { .. }) {
                prop_assert_eq!(reply, expected, "{:?}", command);
            }
            consistent(&bench.engine)?;
        }
        let clock = bench.stamp.clock;
        model.0.retain(|_, record| record.deadline.is_none_or(|at| at > clock));
        let page = PageLimit { items: 2, bytes: 1 << 20 };
        let (mut all, mut range) = (Vec::new(), KeyRange::all());
        loop {
            let records = KeyValue::scan(&bench.engine, clock, &range, page).unwrap();
            all.extend(records.items);
            if !records.more {
                break;
            }
            range = range.after(all.last().expect("a page that leads on").0.clone());
        }
        prop_assert_eq!(all, model.0.into_iter().collect::<Vec<_>>());
    }

    /// One member applies entry by entry; another, after a restart, applies several in one batch.
    /// They hold the same bytes.
    #[test]
    fn members_that_batch_differently_are_equal(story in story(), cuts in any::<u64>()) {
        let (one, other) = (MemoryEngine::volatile(), MemoryEngine::volatile());
        let mut draft = Draft::new(&other);
        let mut clock = 1_000;
        for (number, (command, _, millis)) in story.iter().enumerate() {
            clock += millis;
            let stamp = Stamp { clock: Hlc::new(clock, 0), index: number as u64 + 1, sub: 0 };
            let mut single = Draft::new(&one);
            let reply = KeyValue.apply(&mut single, command, stamp).unwrap();
            one.write(single.into_batch()).unwrap();
            prop_assert_eq!(KeyValue.apply(&mut draft, command, stamp).unwrap(), reply);
            if cuts >> (number % 64) & 1 == 1 {
                other.write(draft.into_batch()).unwrap();
                draft = Draft::new(&other);
            }
        }
        other.write(draft.into_batch()).unwrap();
        let digest = |engine| KeyValue::digest(engine).unwrap();
        prop_assert_eq!(digest(&one), digest(&other));
    }
}

#[test]
fn a_digest_sees_every_difference() {
    let contents = |commands: &[Command]| {
        let mut bench = Bench::new();
        for command in commands {
            bench.apply(command);
        }
        KeyValue::digest(&bench.engine).unwrap()
    };
    let base = contents(&[Command::put("k", "v")]);
    assert_eq!(base, contents(&[Command::put("k", "v")]));
    assert_ne!(base, contents(&[]));
    assert_ne!(base, contents(&[Command::put("kv", "")]));
    assert_ne!(base, contents(&[Command::put("k", "w")]));
    assert_ne!(base, contents(&[Command::delete("k"), Command::put("k", "v")]), "the revision");
}
