//! Read, write and compare-and-set on a few registers at a time, with unique values.

use std::collections::BTreeSet;

use common::env::Rng;

use super::{Action, Expect, Generator, Key, OPERATIONS_PER_KEY, unique};

/// Registers in use at a time: few enough to be contended, enough to see keys apart.
const ACTIVE: u32 = 3;

/// One client of the workload.
#[derive(Debug)]
pub struct Register {
    client: u8,
    /// After so many operations of a client the keys rotate. All clients together then stay under
    /// the limit per key even if every operation goes to the same one.
    rotate: u32,
    drawn: u32,
    touched: BTreeSet<Key>,
}

impl Register {
    /// One client out of `clients`.
    pub fn new(client: u8, clients: u8) -> Self {
        let rotate = OPERATIONS_PER_KEY / u32::from(clients.max(1));
        Self { client, rotate, drawn: 0, touched: BTreeSet::new() }
    }
}

impl Generator for Register {
    fn next(&mut self, rng: &dyn Rng) -> Action {
        let generation = self.drawn / self.rotate;
        let key = Key::register(generation * ACTIVE + rng.below(u64::from(ACTIVE)) as u32);
        let value = unique(self.client, self.drawn);
        let kind = rng.below(100);
        self.drawn += 1;
        self.touched.insert(key);
        match kind {
            0..45 => Action::Read { key },
            45..80 => Action::Write { key, value },
            _ => Action::CompareAndSet { key, expect: Expect::LastSeen, value },
        }
    }

    fn final_reads(&self) -> Vec<Action> {
        self.touched.iter().map(|&key| Action::Read { key }).collect()
    }
}
