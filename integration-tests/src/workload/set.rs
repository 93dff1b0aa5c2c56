//! Elements that are written once, and read late.

use common::env::Rng;

use super::{Action, Generator, Key, unique};

/// Elements of one client that go into one set, so that reading a whole set stays affordable.
const ELEMENTS: u32 = 200;

/// One client of the workload. Clients share the sets.
#[derive(Debug)]
pub struct Set {
    client: u8,
    added: u32,
}

impl Set {
    /// One client.
    pub const fn new(client: u8) -> Self {
        Self { client, added: 0 }
    }
}

impl Generator for Set {
    fn next(&mut self, rng: &dyn Rng) -> Action {
        // Few reads: what is seen early is known early, and the workload is about what is not.
        if self.added > 0 && rng.below(50) == 0 {
            let set = rng.below(u64::from(self.added.div_ceil(ELEMENTS))) as u32;
            return Action::ReadSet { set: Key::set(set) };
        }
        let element = unique(self.client, self.added);
        let set = Key::set(self.added / ELEMENTS);
        self.added += 1;
        Action::Add { set, element }
    }

    fn final_reads(&self) -> Vec<Action> {
        let sets = self.added.div_ceil(ELEMENTS);
        (0..sets).map(|set| Action::ReadSet { set: Key::set(set) }).collect()
    }
}
