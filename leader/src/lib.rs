#![doc = include_str!("../README.md")]

mod acknowledge;
mod apply;
pub mod backup;
pub mod config;
mod divergence;
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
mod nearest;
pub mod node;
mod peer;
mod pins;
mod propose;
pub mod quota;
mod raft;
mod read;
mod read_elsewhere;
pub mod replication_mode;
mod resolve;
pub mod rollback;
mod session;
mod snapshot;
mod state_hash;
pub mod state_machine;
mod term_clock;
pub mod watch;
mod write;

pub use config::Config;
pub use divergence::{Checked, Quarantined};
pub use error::{AdminError, OpenError, ReadError, ResolveError, WriteError};
pub use event::{Broken, Event};
pub use key_value::KeyValue;
pub use membership::placement::{Danger, Warning};
pub use membership::roster::{Attribute, Attributes, Replacement};
pub use membership::{ChangeOptions, Changed};
pub use node::{
    Answer, Member, Node, Prefer, ReadLevel, ReadOptions, Role, Status, View, WriteOptions, Written,
};
pub use replication_mode::{AckPoint, AckReport, ReplicationMode, Who};
pub use state_hash::StateHash;
