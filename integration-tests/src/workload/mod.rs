//! Workloads: which operations clients ask for, as pure generators.
//!
//! A generator draws from its client's own stream of randomness and knows nothing of other clients,
//! so that adding or removing a client shifts nobody else's operations.

mod action;
mod counter;
mod memory;
mod register;
mod set;
#[cfg(test)]
mod tests;

use std::fmt;

use common::env::Rng;
use serde::{Deserialize, Serialize};

pub use action::{Action, Class, Expect, Key, Kind, Seen};
pub use counter::Counter;
pub use memory::Memory;
pub use register::Register;
pub use set::Set;

/// The most operations that one key gets in a plan: a linearizability search has to end.
pub const OPERATIONS_PER_KEY: u32 = 2_000;

/// Draws a client's operations, one after the other.
pub trait Generator: fmt::Debug {
    /// The next operation.
    fn next(&mut self, rng: &dyn Rng) -> Action;

    /// The reads that show the final state of everything that this client's operations so far may
    /// have changed. Clients overlap: the plan removes what is there twice.
    fn final_reads(&self) -> Vec<Action>;
}

/// The workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Read, write and compare-and-set on a few keys with unique values: linearizability.
    Register,
    /// Elements that are written once and read at the end: loss that hot keys hide by overwriting.
    Set,
    /// Increments: duplicates and losses show in the sum.
    Counter,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Register, Self::Set, Self::Counter];

    /// The generator of one client out of `clients`.
    pub fn generator(self, client: u8, clients: u8) -> Box<dyn Generator> {
        match self {
            Self::Register => Box::new(Register::new(client, clients)),
            Self::Set => Box::new(Set::new(client)),
            Self::Counter => Box::new(Counter::new(clients)),
        }
    }
}

/// A value that no other client writes, and this one only once.
pub(crate) fn unique(client: u8, number: u32) -> i64 {
    i64::from(client) * 1_000_000_000 + i64::from(number) + 1
}
