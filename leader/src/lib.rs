#![doc = include_str!("../README.md")]

mod acknowledge;
mod apply;
pub mod config;
mod duties;
mod election;
mod entry;
pub mod error;
mod event;
mod explain;
mod failover;
mod group;
mod identity;
pub mod inspect;
pub mod key_value;
mod lag;
mod membership;
pub mod message;
pub mod node;
mod peer;
mod propose;
mod raft;
mod read;
pub mod replication_mode;
mod resolve;
pub mod rollback;
mod session;
mod snapshot;
pub mod state_machine;
mod term_clock;
mod write;

pub use config::Config;
pub use error::{AdminError, OpenError, ReadError, ResolveError, WriteError};
pub use event::Event;
pub use key_value::KeyValue;
pub use node::{Member, Node, ReadLevel, ReadOptions, Role, Status, View, WriteOptions, Written};
pub use replication_mode::{AckPoint, AckReport, ReplicationMode, Who};
