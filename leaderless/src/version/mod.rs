//! Versions of a key: dots, partition clocks, containers, contexts and conflict policies.
//!
//! A **dot** names one write: the `n`-th that an actor coordinated in one place (a keyspace's
//! partition). A **container** is what a key stores: cells, each with the dot that made it, and a
//! context that says which other dots they supersede. A **partition clock** says which dots of a
//! place a replica has dealt with; it serves all keys of the place, so contexts shrink to nothing.
//! Gonçalves, Almeida, Baquero and Fonte, "DottedDB", SRDS 2017.
//!
//! Invariant **I1**: a clock has a dot only if the replica merged a state of its key whose history
//! contains it.
//!
//! | file | says |
//! | --- | --- |
//! | `opening` | who an actor is |
//! | `dots` | sets of one actor's dots |
//! | `clock` | what a replica has dealt with, retired actors included |
//! | `container` | cells, and how two states of a key become one |
//! | `stored` | the bytes of a container |
//! | `context` | what a client saw, bound to its key |
//! | `policy` | what a read makes of concurrent cells |

mod clock;
mod container;
mod context;
mod dots;
mod opening;
mod policy;
mod stored;
#[cfg(test)]
mod tests;

use common::clock::VersionVector;
use common::ids::Actor;

pub use clock::PartitionClock;
pub use container::{Absorbed, Cell, Claim, Container, Winner};
pub use context::{ClientContext, ContextError};
pub use dots::Dots;
pub use opening::{Life, Opening};
pub use policy::{Kind, Lww, Merge, Plain, Policy, Registers, Resolve, Sibling, Siblings};
pub(crate) use stored::{decode_container, encode_container};

/// One write: the `n`-th of its actor in its place, from 1.
pub type Dot = common::clock::Dot<Actor>;

/// Per actor a number: all its dots of one key up to it are superseded, or cells beside it.
pub type Context = VersionVector<Actor>;
