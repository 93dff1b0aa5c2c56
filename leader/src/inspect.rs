//! What a stopped node's folder holds, read as the node itself would read it.
//!
//! Recovery is the product's own: a torn tail of the log is cut, and a log that contradicts the state
//! is made to agree with it. So look at a copy where that must not happen.

use std::collections::BTreeMap;
use std::sync::Arc;

use common::env::Env;
use common::ids::LogPos;
use common::storage::engine::Engines;

use crate::apply::{Applier, Replica};
use crate::config::Config;
use crate::error::OpenError;
use crate::message::Vote;
use crate::raft;
use crate::state_machine::StateMachine;

/// What a node would start with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The vote in force, if the node ever voted.
    pub vote: Option<Vote>,
    /// The last entry that the state contains.
    pub applied: Option<LogPos>,
    /// The last entry that was dropped from the log behind a checkpoint.
    pub purged: Option<LogPos>,
    /// The last entry that the log knows to be committed.
    pub committed: Option<LogPos>,
    /// The terms of the entries in the log, by index.
    pub entries: BTreeMap<u64, u64>,
}

/// Reads a folder, without starting anything but the log's own tasks, which end with it.
pub async fn inspect<M: StateMachine>(
    env: &Env,
    engines: Arc<dyn Engines>,
    machine: M,
    config: &Config,
) -> Result<Inspection, OpenError> {
    let replica = Replica::open(machine, engines, config.change_feed).await?;
    let applied = replica.applied().at;
    let found = raft::inspect(env, config, applied).await?;
    let raft::Found { vote, purged, committed, entries } = found;
    Ok(Inspection { vote, applied, purged, committed, entries })
}
