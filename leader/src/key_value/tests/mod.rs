//! The machine against tables, a model, itself on another engine, and golden bytes.

mod golden;
mod model;
mod tables;

use common::clock::Hlc;
use common::storage::engine::{Engine, MemoryEngine};

use super::{Answer, Command, KeyValue, Operation, Record, Reply, Revision};
use crate::state_machine::{Draft, Stamp, StateMachine};

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
        self.stamp.clock = Hlc::new(self.stamp.clock.millis() + 1, 0);
        let mut draft = Draft::new(&self.engine);
        let reply = KeyValue.apply(&mut draft, command, self.stamp).unwrap();
        self.engine.write(draft.into_batch()).unwrap();
        reply
    }

    fn one(&mut self, command: impl Into<Command>) -> Answer {
        self.apply(&command.into()).answer().expect("a command of one operation")
    }

    fn get(&self, key: &str) -> Option<Record> {
        KeyValue::get(&self.engine, self.stamp.clock, key.as_bytes()).unwrap()
    }

    fn value(&self, key: &str) -> Option<String> {
        self.get(key).map(|r| String::from_utf8(r.value.to_vec()).unwrap())
    }

    /// Lets time pass without a command.
    fn pass(&mut self, millis: u64) {
        self.stamp.clock = Hlc::new(self.stamp.clock.millis() + millis, 0);
    }
}

fn revision(index: u64) -> Revision {
    Revision { index, sub: 0 }
}

fn put(key: &'static str, value: &'static str) -> Operation {
    Operation::put(key, value)
}
