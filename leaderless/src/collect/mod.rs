//! When a tombstone may be forgotten, and when an actor may.
//!
//! | rule | text |
//! | --- | --- |
//! | C1 | the container is not young, its context, stripped by the clock of *now*, is empty, and the own base covers the tombstone |
//! | C2 | the acked, fsynced base of every owner of every live set covers it, pending owners included |
//! | C3 | what is left of the key in the dot log becomes *settled*, in the same batch |
//! | C4 | last writer wins only: and every owner's base includes the join of the clocks that were acked when C2 first held |
//!
//! Without C1 a value that was superseded before it arrived comes back with its late packet.
//! Without C2 it cannot be decided whether a missing value was deleted or damaged. Without C4 an
//! older concurrent write that is still under way comes alive. The model in `model` explores every
//! order of small histories and fails when one rule is left out.

#[cfg(test)]
mod model;
mod retirement;
mod tombstone;

pub use retirement::{DotSet, Seals, SealsError};
pub use tombstone::{Blockers, Evidence, SecondRound};
