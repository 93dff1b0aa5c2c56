//! The machine against tables, a model, itself, and golden bytes.

mod changes;
mod elements;
mod golden;
mod model;
mod scan;
mod tables;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{Engine, KeyRange, MemoryEngine, PageLimit, Read};
use leader::state_machine::{Draft, Stamp, StateMachine};

use super::elements::Owner;
use super::record::Record;
use super::rows::{Ledger, deadline_row, key_row};
use super::*;

/// A machine over an engine: each command is an entry of its own, a millisecond after the last.
struct Bench {
    engine: MemoryEngine,
    stamp: Stamp,
}

impl Bench {
    fn new() -> Self {
        let stamp = Stamp { clock: Hlc::new(1_000, 0), index: 0, sub: 0 };
        Self { engine: MemoryEngine::volatile(), stamp }
    }

    fn apply(&mut self, command: &Command) -> Reply {
        self.stamp.index += 1;
        self.pass(1);
        let mut draft = Draft::new(&self.engine);
        let reply = Redis.apply(&mut draft, command, self.stamp).unwrap();
        self.engine.write(draft.into_batch()).unwrap();
        reply
    }

    fn ask(&self, query: &Query) -> Reply {
        Cut::open(&self.engine, self.stamp.clock, self.stamp.clock).unwrap().answer(query).unwrap()
    }

    fn get(&self, key: &str) -> Option<String> {
        match self.ask(&Query::Get { key: key.to_owned().into() }) {
            Reply::Value(value) => value.map(|v| String::from_utf8(v.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.apply(&set(key, value, Lifetime::Clear)), Reply::Done);
    }

    fn count(&self) -> i64 {
        match self.ask(&Query::Count) {
            Reply::Integer(count) => count,
            other => panic!("{other:?}"),
        }
    }

    /// Does what the leader does by itself, until nothing is due. How many sweeps it took.
    fn sweep(&mut self) -> usize {
        for sweeps in 0.. {
            let due = Redis.due(&self.engine, self.stamp.clock, 10).unwrap();
            if due.is_empty() {
                return sweeps;
            }
            for command in due {
                self.apply(&command);
            }
        }
        unreachable!()
    }

    fn pass(&mut self, millis: u64) {
        self.stamp.clock = Hlc::new(self.stamp.clock.millis() + millis, 0);
    }

    fn rows(&self, keyspace: Keyspace) -> Vec<(Bytes, Bytes)> {
        let limit = PageLimit { items: 100_000, bytes: 1 << 30 };
        self.engine.scan(keyspace, &KeyRange::all(), limit).unwrap().items
    }
}

fn set(key: &str, value: &str, lifetime: Lifetime) -> Command {
    Command::Set {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        condition: Condition::Always,
        lifetime,
        answer: Answer::Done,
    }
}

fn keys(names: &[&str]) -> Vec<Bytes> {
    names.iter().map(|name| (*name).to_owned().into()).collect()
}

/// The stored rows fit together: elements have their key or are dropped, a deadline has its row, a row its deadline, the ledger its counts.
fn check_rows(engine: &MemoryEngine) {
    let limit = PageLimit { items: 100_000, bytes: 1 << 30 };
    let ledger = Ledger::read(engine).unwrap();
    let generation = ledger.generation.to_be_bytes();
    let all = |keyspace| {
        let items = engine.scan(keyspace, &KeyRange::all(), limit).unwrap().items;
        items.into_iter().filter(|(row, _)| row.starts_with(&generation)).collect::<Vec<_>>()
    };
    let (mut expected, mut count) = (Vec::new(), 0);
    let mut owners: BTreeMap<Owner, u64> = BTreeMap::new();
    for (row, _) in all(ELEMENTS) {
        *owners.entry(Owner::of(&row).unwrap()).or_default() += 1;
    }
    for (row, value) in all(KEYS) {
        let (_, key) = rows::parse_row(row.clone()).unwrap();
        assert_eq!(row, key_row(ledger.generation, &key));
        let record = Record::decode(&key, value).unwrap();
        count += 1;
        if let Some(elements) = record.elements {
            let owner = Owner { state: ledger.generation, elements: elements.generation };
            assert_eq!(owners.remove(&owner), Some(elements.count), "elements of {key:?}");
        }
        expected.extend(record.deadline.map(|at| deadline_row(ledger.generation, at, &key)));
    }
    let dropped = all(DROPPED);
    let dropped: Vec<Owner> = dropped.iter().map(|(row, _)| Owner::of(row).unwrap()).collect();
    for owner in owners.keys() {
        assert!(dropped.contains(owner), "elements of nobody: {owner:?}");
    }
    expected.sort();
    let dated: Vec<Bytes> = all(EXPIRY).into_iter().map(|(row, _)| row).collect();
    assert_eq!(dated, expected);
    assert_eq!((ledger.count, ledger.dated), (count, dated.len() as u64));
}
