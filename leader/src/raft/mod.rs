//! The fence around openraft.
//!
//! openraft is named in this folder only, and none of its types is in a public signature, on the
//! wire or on disk: its API moves with nearly every release, and an upgrade must never be more than
//! work in here.

#![allow(dead_code, reason = "the node that uses it is being assembled")]

pub(crate) mod acks;
pub(crate) mod log_store;
pub(crate) mod runtime;
pub(crate) mod snapshot;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod type_config;
