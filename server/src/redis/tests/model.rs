//! The machine against a map that is written down as simply as possible.

use std::collections::{BTreeMap, BTreeSet};

use common::codec;
use proptest::prelude::*;

use super::*;

/// What a key holds, and when it is gone. It is a hash if it has fields, a set if it has members.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    value: Bytes,
    fields: BTreeMap<Bytes, Bytes>,
    members: BTreeSet<Bytes>,
    deadline: Option<u64>,
}

fn text(value: impl Into<Bytes>, deadline: Option<u64>) -> Entry {
    Entry { value: value.into(), fields: BTreeMap::new(), members: BTreeSet::new(), deadline }
}

impl Entry {
    fn kind(&self) -> Kind {
        match (self.fields.is_empty(), self.members.is_empty()) {
            (false, _) => Kind::Hash,
            (_, false) => Kind::Set,
            _ => Kind::String,
        }
    }
}

/// The keys that a command takes for sets.
fn needs_sets(command: &Command) -> Vec<&Bytes> {
    match command {
        Command::SetAdd { key, .. } | Command::SetRemove { key, .. } => vec![key],
        Command::SetMove { from, to, .. } => vec![from, to],
        Command::SetStore { keys, .. } => keys.iter().collect(),
        _ => Vec::new(),
    }
}

/// The key that a command takes for a string, if it minds what it holds.
fn needs_text(command: &Command) -> Option<&Bytes> {
    match command {
        Command::Set { key, answer: Answer::Previous, .. }
        | Command::GetDelete { key }
        | Command::GetExpire { key, .. }
        | Command::Append { key, .. }
        | Command::Increment { key, .. } => Some(key),
        _ => None,
    }
}

/// The key that a command takes for a hash.
fn needs_hash(command: &Command) -> Option<&Bytes> {
    match command {
        Command::HashSet { key, .. }
        | Command::HashDelete { key, .. }
        | Command::HashIncrement { key, .. }
        | Command::Query(Query::HashGet { key, .. } | Query::HashCount { key }) => Some(key),
        _ => None,
    }
}

#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<Bytes, Entry>);

impl Model {
    fn apply(&mut self, command: &Command, clock: u64) -> Reply {
        self.0.retain(|_, entry| entry.deadline.is_none_or(|at| at > clock));
        let reply = self.step(command, clock);
        self.0.retain(|_, entry| entry.deadline.is_none_or(|at| at > clock));
        reply
    }

    fn step(&mut self, command: &Command, clock: u64) -> Reply {
        let when = |moment: Moment| match moment {
            Moment::At(at) => at.max(0) as u64,
            Moment::After(span) => (clock as i64 + span).max(0) as u64,
        };
        let lifetime = |lifetime: Lifetime, former: Option<u64>| match lifetime {
            Lifetime::Clear => None,
            Lifetime::Keep => former,
            Lifetime::Until(moment) => Some(when(moment)),
        };
        let fits = |condition: Condition, there: bool| match condition {
            Condition::Always => true,
            Condition::IfAbsent => !there,
            Condition::IfPresent => there,
        };
        let kind = |key: &Bytes| self.0.get(key).map(Entry::kind);
        let other = |key: &Bytes, wanted| kind(key).is_some_and(|kind| kind != wanted);
        if needs_text(command).is_some_and(|key| other(key, Kind::String))
            || needs_hash(command).is_some_and(|key| other(key, Kind::Hash))
            || needs_sets(command).into_iter().any(|key| other(key, Kind::Set))
        {
            // A member that moves from nowhere moves nowhere, whatever is there.
            return match command {
                Command::SetMove { from, .. } if kind(from).is_none() => Reply::Integer(0),
                _ => Reply::Refused(Refusal::WrongType),
            };
        }
        let set = |key: &Bytes| self.0.get(key).map(|e| e.members.clone()).unwrap_or_default();
        match command {
            Command::SetAdd { key, members } => {
                let entry = self.0.entry(key.clone()).or_insert(text("", None));
                let before = entry.members.len();
                entry.members.extend(members.iter().cloned());
                Reply::Integer((entry.members.len() - before) as i64)
            }
            Command::SetRemove { key, members } => {
                let before = set(key);
                let removed = members.iter().filter(|member| before.contains(*member));
                let removed = removed.collect::<BTreeSet<_>>().len() as i64;
                if let Some(entry) = self.0.get_mut(key) {
                    entry.members.retain(|member| !members.contains(member));
                }
                self.0.retain(|name, entry| name != key || !entry.members.is_empty());
                Reply::Integer(removed)
            }
            Command::SetMove { from, to, member } => {
                if !set(from).contains(member) {
                    return Reply::Integer(0);
                }
                if from != to {
                    if let Some(entry) = self.0.get_mut(from) {
                        entry.members.remove(member);
                    }
                    self.0.retain(|name, entry| name != from || !entry.members.is_empty());
                    let entry = self.0.entry(to.clone()).or_insert(text("", None));
                    entry.members.insert(member.clone());
                }
                Reply::Integer(1)
            }
            Command::SetStore { how, to, keys } => {
                let mut sets = keys.iter().map(set);
                let mut members = sets.next().unwrap_or_default();
                for other in sets {
                    members = match how {
                        Combine::Intersection => &members & &other,
                        Combine::Union => &members | &other,
                        Combine::Difference => &members - &other,
                    };
                }
                let count = members.len() as i64;
                self.0.remove(to);
                if count > 0 {
                    self.0.insert(to.clone(), Entry { members, ..text("", None) });
                }
                Reply::Integer(count)
            }
            Command::HashSet { key, pairs, condition } => {
                let fields = self.0.get(key).map(|entry| entry.fields.clone()).unwrap_or_default();
                if !pairs.iter().all(|(field, _)| fits(*condition, fields.contains_key(field))) {
                    return Reply::Integer(0);
                }
                let entry = self.0.entry(key.clone()).or_insert(text("", None));
                let before = entry.fields.len();
                entry.fields.extend(pairs.iter().cloned());
                Reply::Integer((entry.fields.len() - before) as i64)
            }
            Command::HashDelete { key, fields } => {
                let Some(entry) = self.0.get_mut(key) else { return Reply::Integer(0) };
                let before = entry.fields.len();
                entry.fields.retain(|field, _| !fields.contains(field));
                let removed = before - entry.fields.len();
                if entry.fields.is_empty() {
                    self.0.remove(key);
                }
                Reply::Integer(removed as i64)
            }
            Command::HashIncrement { key, field, by } => {
                let former = self.0.get(key).and_then(|entry| entry.fields.get(field).cloned());
                let former = former.unwrap_or_else(|| "0".into());
                let former = std::str::from_utf8(&former).unwrap();
                let Some(number) = former.parse::<i64>().ok().filter(|n| n.to_string() == former)
                else {
                    return Reply::Refused(Refusal::HashNotAnInteger);
                };
                let Some(sum) = number.checked_add(*by) else {
                    return Reply::Refused(Refusal::Overflow);
                };
                let entry = self.0.entry(key.clone()).or_insert(text("", None));
                entry.fields.insert(field.clone(), sum.to_string().into());
                Reply::Integer(sum)
            }
            Command::Query(Query::HashGet { key, fields }) => {
                let entry = self.0.get(key);
                let get = |field| entry.and_then(|entry| entry.fields.get(field).cloned());
                Reply::Values(fields.iter().map(get).collect())
            }
            Command::Query(Query::HashCount { key }) => {
                Reply::Integer(self.0.get(key).map_or(0, |entry| entry.fields.len() as i64))
            }
            Command::Transaction { steps, .. } => {
                let replies = steps.iter().map(|step| {
                    let command: Command = codec::decode_body(step).unwrap();
                    codec::encode_body(&self.apply(&command, clock)).into()
                });
                Reply::Many(replies.collect())
            }
            Command::Set { key, value, condition, lifetime: life, answer } => {
                let former = self.0.get(key).cloned();
                let holds = fits(*condition, former.is_some());
                if holds {
                    let deadline = lifetime(*life, former.as_ref().and_then(|e| e.deadline));
                    self.0.insert(key.clone(), text(value.clone(), deadline));
                }
                match (answer, holds) {
                    (Answer::Previous, _) => Reply::Value(former.map(|entry| entry.value)),
                    (Answer::Done, true) => Reply::Done,
                    (Answer::Done, false) => Reply::NotDone,
                }
            }
            Command::GetDelete { key } => Reply::Value(self.0.remove(key).map(|e| e.value)),
            Command::GetExpire { key, lifetime: life } => {
                let entry = self.0.get_mut(key);
                Reply::Value(entry.map(|entry| {
                    entry.deadline = lifetime(*life, entry.deadline);
                    entry.value.clone()
                }))
            }
            Command::SetMany { pairs, condition } => {
                if !pairs.iter().all(|(key, _)| fits(*condition, self.0.contains_key(key))) {
                    return Reply::NotDone;
                }
                for (key, value) in pairs {
                    self.0.insert(key.clone(), text(value.clone(), None));
                }
                Reply::Done
            }
            Command::Append { key, value } => {
                let entry = self.0.entry(key.clone());
                let entry = entry.or_insert(text("", None));
                entry.value = [&entry.value[..], value].concat().into();
                Reply::Integer(entry.value.len() as i64)
            }
            Command::Increment { key, by } => {
                let entry = self.0.get(key).cloned();
                let former = entry.as_ref().map_or("0", |e| std::str::from_utf8(&e.value).unwrap());
                let Some(number) = former.parse::<i64>().ok().filter(|n| n.to_string() == former)
                else {
                    return Reply::Refused(Refusal::NotAnInteger);
                };
                let Some(sum) = number.checked_add(*by) else {
                    return Reply::Refused(Refusal::Overflow);
                };
                let deadline = entry.and_then(|entry| entry.deadline);
                self.0.insert(key.clone(), text(sum.to_string(), deadline));
                Reply::Integer(sum)
            }
            Command::Delete { keys } => Reply::Integer(
                keys.iter().filter(|key| self.0.remove(*key).is_some()).count() as i64,
            ),
            Command::Expire { key, at, condition } => {
                let at = when(*at);
                let Some(entry) = self.0.get_mut(key) else { return Reply::Integer(0) };
                // Without a deadline a key lives for ever.
                let (dated, former) =
                    (entry.deadline.is_some(), entry.deadline.unwrap_or(u64::MAX));
                let holds = match condition {
                    ExpireCondition::Always => true,
                    ExpireCondition::IfNone => !dated,
                    ExpireCondition::IfSome => dated,
                    ExpireCondition::IfEarlier => former < at,
                    ExpireCondition::IfLater => former > at,
                    ExpireCondition::IfSomeAndLater => dated && former > at,
                };
                if holds {
                    entry.deadline = Some(at);
                }
                Reply::Integer(i64::from(holds))
            }
            Command::Persist { key } => {
                let former = self.0.get_mut(key).and_then(|entry| entry.deadline.take());
                Reply::Integer(i64::from(former.is_some()))
            }
            Command::Rename { from, to, condition } => {
                let Some(entry) = self.0.get(from).cloned() else {
                    return Reply::Refused(Refusal::NoSuchKey);
                };
                if !fits(*condition, self.0.contains_key(to)) {
                    return Reply::NotDone;
                }
                self.0.remove(from);
                self.0.insert(to.clone(), entry);
                Reply::Done
            }
            Command::Copy { from, to, condition } => match self.0.get(from).cloned() {
                Some(entry) if from != to && fits(*condition, self.0.contains_key(to)) => {
                    self.0.insert(to.clone(), entry);
                    Reply::Integer(1)
                }
                _ => Reply::Integer(0),
            },
            Command::Flush => {
                self.0.clear();
                Reply::Done
            }
            Command::Query(Query::GetMany { keys }) => Reply::Values(
                keys.iter()
                    .map(|key| self.0.get(key).filter(|entry| entry.kind() == Kind::String))
                    .map(|entry| entry.map(|entry| entry.value.clone()))
                    .collect(),
            ),
            Command::Query(Query::Deadline { key }) => Reply::Integer(match self.0.get(key) {
                None => -2,
                Some(entry) => entry.deadline.map_or(-1, |at| at as i64),
            }),
            // How many rows a sweep finds depends on what was swept before.
            Command::Sweep { .. } => Reply::Done,
            other => panic!("not in the stories: {other:?}"),
        }
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    (b'a'..b'e').prop_map(|letter| Bytes::from(vec![letter]))
}

fn combine() -> impl Strategy<Value = Combine> {
    prop_oneof![Just(Combine::Intersection), Just(Combine::Union), Just(Combine::Difference)]
}

fn field() -> impl Strategy<Value = Bytes> {
    (b'f'..b'i').prop_map(|letter| Bytes::from(vec![letter]))
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just("1"), Just("2"), Just("x"), Just(""), Just("9223372036854775807"), Just("-5")]
        .prop_map(Bytes::from)
}

fn moment() -> impl Strategy<Value = Moment> {
    prop_oneof![
        (-10..40_i64).prop_map(Moment::After),
        (1_000..1_200_i64).prop_map(Moment::At),
        Just(Moment::At(-1)),
    ]
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![Just(Lifetime::Clear), Just(Lifetime::Keep), moment().prop_map(Lifetime::Until),]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        2 => Just(Condition::Always),
        1 => Just(Condition::IfAbsent),
        1 => Just(Condition::IfPresent),
    ]
}

fn expire_condition() -> impl Strategy<Value = ExpireCondition> {
    prop_oneof![
        Just(ExpireCondition::Always),
        Just(ExpireCondition::IfNone),
        Just(ExpireCondition::IfSome),
        Just(ExpireCondition::IfEarlier),
        Just(ExpireCondition::IfLater),
        Just(ExpireCondition::IfSomeAndLater),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let steps = prop::collection::vec(single(), 0..5).prop_map(|commands| {
        let fit = |command: &&Command| !matches!(command, Command::Sweep { .. });
        Command::Transaction {
            watched: Vec::new(),
            steps: commands.iter().filter(fit).map(step).collect(),
        }
    });
    prop_oneof![9 => single(), 1 => steps]
}

fn single() -> impl Strategy<Value = Command> {
    let set = (key(), value(), condition(), lifetime(), any::<bool>()).prop_map(
        |(key, value, condition, lifetime, previous)| {
            let answer = if previous { Answer::Previous } else { Answer::Done };
            Command::Set { key, value, condition, lifetime, answer }
        },
    );
    let pairs = prop::collection::vec((key(), value()), 1..4);
    prop_oneof![
        6 => set,
        1 => key().prop_map(|key| Command::GetDelete { key }),
        1 => (key(), lifetime()).prop_map(|(key, lifetime)| Command::GetExpire { key, lifetime }),
        2 => (pairs, condition()).prop_map(|(pairs, c)| Command::SetMany { pairs, condition: c }),
        1 => (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
        2 => (key(), -3..3_i64).prop_map(|(key, by)| Command::Increment { key, by }),
        1 => prop::collection::vec(key(), 0..3).prop_map(|keys| Command::Delete { keys }),
        3 => (key(), moment(), expire_condition())
            .prop_map(|(key, at, condition)| Command::Expire { key, at, condition }),
        1 => key().prop_map(|key| Command::Persist { key }),
        2 => (key(), key(), condition())
            .prop_map(|(from, to, condition)| Command::Rename { from, to, condition }),
        1 => (key(), key(), condition())
            .prop_map(|(from, to, condition)| Command::Copy { from, to, condition }),
        4 => (key(), prop::collection::vec((field(), value()), 1..4), condition())
            .prop_map(|(key, pairs, condition)| Command::HashSet { key, pairs, condition }),
        2 => (key(), prop::collection::vec(field(), 1..3))
            .prop_map(|(key, fields)| Command::HashDelete { key, fields }),
        2 => (key(), field(), -3..3_i64)
            .prop_map(|(key, field, by)| Command::HashIncrement { key, field, by }),
        1 => (key(), prop::collection::vec(field(), 1..3))
            .prop_map(|(key, fields)| Command::Query(Query::HashGet { key, fields })),
        1 => key().prop_map(|key| Command::Query(Query::HashCount { key })),
        4 => (key(), prop::collection::vec(field(), 1..4))
            .prop_map(|(key, members)| Command::SetAdd { key, members }),
        1 => (key(), prop::collection::vec(field(), 1..3))
            .prop_map(|(key, members)| Command::SetRemove { key, members }),
        1 => (key(), key(), field())
            .prop_map(|(from, to, member)| Command::SetMove { from, to, member }),
        2 => (combine(), key(), prop::collection::vec(key(), 1..4))
            .prop_map(|(how, to, keys)| Command::SetStore { how, to, keys }),
        1 => Just(Command::Flush),
        2 => (0..4_u32).prop_map(|limit| Command::Sweep { limit }),
        1 => prop::collection::vec(key(), 0..4)
            .prop_map(|keys| Command::Query(Query::GetMany { keys })),
        1 => key().prop_map(|key| Command::Query(Query::Deadline { key })),
    ]
}

/// Commands, each with whether it begins a new entry and how many milliseconds pass before it.
pub(super) fn story() -> impl Strategy<Value = Vec<(Command, bool, u64)>> {
    prop::collection::vec((command(), any::<bool>(), 0..8_u64), 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

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
            let reply = Redis.apply(&mut draft, &command, bench.stamp).unwrap();
            bench.engine.write(draft.into_batch()).unwrap();
            let expected = model.apply(&command, bench.stamp.clock.millis());
            if !matches!(command, Command::Sweep { .. }) {
                prop_assert_eq!(reply, expected, "{:?}", command);
            }
            check_rows(&bench.engine);
        }
        bench.sweep();
        let clock = bench.stamp.clock;
        model.0.retain(|_, entry| entry.deadline.is_none_or(|at| at > clock.millis()));
        let cut = Cut::open(&bench.engine, clock, clock).unwrap();
        let (mut all, mut cursor) = (BTreeMap::new(), 0);
        loop {
            let found = cut.scan(cursor, 2).unwrap();
            for (key, _) in found.keys {
                let record = cut.get(&key).unwrap().expect("a key of the scan");
                let mut entry = text(record.value, record.deadline);
                if record.kind == Kind::Hash {
                    let Reply::Values(found) =
                        cut.answer(&Query::HashAll { key: key.clone() }).unwrap()
                    else {
                        panic!("a hash that cannot be read");
                    };
                    let pairs = found.chunks_exact(2);
                    entry.fields = pairs
                        .map(|pair| (pair[0].clone().unwrap(), pair[1].clone().unwrap()))
                        .collect();
                }
                if record.kind == Kind::Set {
                    let (how, keys) = (Combine::Union, vec![key.clone()]);
                    let Reply::Values(found) =
                        cut.answer(&Query::SetCombine { how, keys }).unwrap()
                    else {
                        panic!("a set that cannot be read");
                    };
                    entry.members = found.into_iter().flatten().collect();
                }
                all.insert(key, entry);
            }
            cursor = found.next;
            if cursor == 0 {
                break;
            }
        }
        prop_assert_eq!(cut.count(), model.0.len() as u64);
        prop_assert_eq!(&all, &model.0);
        prop_assert_eq!(bench.rows(KEYS).len() as u64, cut.count(), "nothing is left unswept");
        let elements = model.0.values().map(|entry| entry.fields.len() + entry.members.len());
        let fields = elements.sum::<usize>();
        prop_assert_eq!(bench.rows(ELEMENTS).len(), fields, "nor are elements");
        prop_assert_eq!(bench.rows(DROPPED), Vec::new());
    }

    /// One member applies entry by entry; another, after a restart, several in one batch. They hold
    /// the same bytes.
    #[test]
    fn members_that_batch_differently_are_equal(story in story(), cuts in any::<u64>()) {
        let (one, other) = (Bench::new(), Bench::new());
        let mut draft = Draft::new(&other.engine);
        let mut clock = 1_000;
        for (number, (command, _, millis)) in story.iter().enumerate() {
            clock += millis;
            let stamp = Stamp { clock: Hlc::new(clock, 0), index: number as u64 + 1, sub: 0 };
            let mut single = Draft::new(&one.engine);
            let reply = Redis.apply(&mut single, command, stamp).unwrap();
            one.engine.write(single.into_batch()).unwrap();
            prop_assert_eq!(Redis.apply(&mut draft, command, stamp).unwrap(), reply);
            if cuts >> (number % 64) & 1 == 1 {
                other.engine.write(draft.into_batch()).unwrap();
                draft = Draft::new(&other.engine);
            }
        }
        other.engine.write(draft.into_batch()).unwrap();
        for keyspace in [KEYS, EXPIRY, LEDGER, ELEMENTS, DROPPED] {
            prop_assert_eq!(one.rows(keyspace), other.rows(keyspace));
        }
    }
}
