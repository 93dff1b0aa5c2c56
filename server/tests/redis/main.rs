//! The Redis protocol as clients meet it: over sockets, against the machine in this process.
#![allow(
    clippy::cast_possible_wrap,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::large_stack_arrays,
    clippy::type_complexity,
    reason = "generated commands and large inputs are what these tests are about"
)]

mod bad_input;
mod blocking;
mod connections;
mod differential;
mod patience;
mod pipelining;
mod slow;
mod support;
mod tls;
mod transactions;
mod users;
