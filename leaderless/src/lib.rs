#![doc = include_str!("../README.md")]

mod anti_entropy;
pub mod collect;
mod config;
pub mod detector;
mod error;
#[cfg(test)]
mod golden;
pub mod layout;
mod message;
mod node;
mod quorum;
mod read;
pub mod register;
mod serve;
mod store;
pub mod version;
mod write;

pub use common::consistency::Level;
pub use config::{Config, KeyspaceConfig};
pub use error::{OpenError, OpenStoreError, ReadError, ResolveError, WriteError};
pub use layout::Key;
pub use node::{Keyspace, Node, Status};
pub use quorum::{Group, InvalidLevel, Quorum};
pub use read::{Read, ReadOptions, Repair};
pub use version::{Kind, Lww, Merge, Plain, Policy, Registers, Resolve, Sibling, Siblings};
pub use write::{WriteOptions, Written};
