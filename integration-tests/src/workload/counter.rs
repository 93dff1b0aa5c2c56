//! Increments of shared counters, by amounts that make a duplicate visible.

use std::collections::BTreeSet;

use common::env::Rng;

use super::{Action, Generator, Key, OPERATIONS_PER_KEY};

/// Counters in use at a time.
const ACTIVE: u32 = 2;

/// One client of the workload.
#[derive(Debug)]
pub struct Counter {
    rotate: u32,
    drawn: u32,
    touched: BTreeSet<Key>,
}

impl Counter {
    /// One client out of `clients`.
    pub fn new(clients: u8) -> Self {
        let rotate = OPERATIONS_PER_KEY / u32::from(clients.max(1));
        Self { rotate, drawn: 0, touched: BTreeSet::new() }
    }
}

impl Generator for Counter {
    fn next(&mut self, rng: &dyn Rng) -> Action {
        let generation = self.drawn / self.rotate;
        let key = Key::counter(generation * ACTIVE + rng.below(u64::from(ACTIVE)) as u32);
        let by = rng.below(9).cast_signed() + 1;
        let kind = rng.below(100);
        self.drawn += 1;
        self.touched.insert(key);
        match kind {
            0..25 => Action::Read { key },
            25..90 => Action::Increment { key, by },
            _ => Action::Increment { key, by: -by },
        }
    }

    fn final_reads(&self) -> Vec<Action> {
        self.touched.iter().map(|&key| Action::Read { key }).collect()
    }
}
