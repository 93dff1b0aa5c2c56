//! The server of Tercet.

pub mod backend;
pub mod listener;
pub mod redis;
