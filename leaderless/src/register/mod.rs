//! One linearizable register: CASPaxos (Rystsov 2018), without I/O.
//!
//! A change is a function of the state. The proposer asks a majority for promises, takes the state
//! that was accepted under the highest ballot among them, applies the change to it and asks a
//! majority to accept the result. While a layout changes, "a majority" is a majority in each live
//! set. There is no log and no leader: every change, and every read that is not unanimous, is one
//! such round.
//!
//! ```text
//! proposer                    acceptor
//! Prepare { ballot }     -->  promise it, durably; answer what was accepted
//! Accept { ballot, s }   -->  unless a higher ballot was promised: accept s, durably
//! ```
//!
//! The same core holds users' registers and the layout of the cluster. An acceptor that lost its
//! storage forgot its promises: it is a new member and must not answer before the register was
//! written again in its presence.

mod acceptor;
#[cfg(test)]
mod check;
mod round;
mod state;

pub use acceptor::{Acceptor, Ballot, Reply, Request};
pub use round::{Outcome, Round, Step};
pub use state::{Change, Decision, RequestId, State};
