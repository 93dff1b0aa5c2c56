//! What a client remembers, to fill in what a plan cannot know.

use std::collections::BTreeMap;

use super::{Action, Expect, Key, Seen};

/// The last value that one client saw of each register.
///
/// The runner of a plan keeps one per client, calls [`Memory::resolve`] before an operation and
/// [`Memory::note`] after it.
#[derive(Clone, Debug, Default)]
pub struct Memory(BTreeMap<Key, Option<i64>>);

impl Memory {
    /// A client that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The operation with [`Expect::LastSeen`] filled in. A client that has seen nothing of the key
    /// expects it to be absent.
    pub fn resolve(&self, action: Action) -> Action {
        match action {
            Action::CompareAndSet { key, expect: Expect::LastSeen, value } => {
                let last = self.0.get(&key).copied().flatten();
                Action::CompareAndSet { key, expect: Expect::Value(last), value }
            }
            other => other,
        }
    }

    /// Remembers what an applied operation showed or wrote.
    pub fn note(&mut self, action: Action, seen: Option<&Seen>) {
        match (action, seen) {
            (Action::Read { key }, Some(Seen::Value(value))) => {
                self.0.insert(key, *value);
            }
            (Action::Write { key, value }, _)
            | (Action::CompareAndSet { key, value, .. }, Some(Seen::Swapped(true))) => {
                self.0.insert(key, Some(value));
            }
            _ => {}
        }
    }
}
