#![doc = include_str!("../README.md")]

pub mod config;
pub mod error;
pub mod key_value;
pub mod message;
pub mod node;
mod raft;
pub mod state_machine;

pub use config::Config;
pub use key_value::KeyValue;
pub use node::{Member, Node, ReadLevel, ReadOptions, Role, Status, View, WriteOptions, Written};
