//! The Redis protocol as clients meet it: over sockets, against the machine in this process.

mod bad_input;
mod connections;
mod differential;
mod pipelining;
mod slow;
mod support;
