//! The log of a node that does not run: looked at, or made.

use std::collections::BTreeMap;

use bytes::Bytes;
use common::codec;
use common::env::Env;
use common::ids::LogPos;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::acks::Acks;
use super::log_store::LogStore;
use super::type_config::Members;
use crate::config::Config;
use crate::error::OpenError;
use crate::message::Vote;
use crate::node::Member;

/// A configuration of these voters, encoded as a state holds it.
pub(crate) fn encode_members(voters: &[Member]) -> Bytes {
    let members = Members {
        voters: vec![voters.iter().map(|member| member.id).collect()],
        nodes: voters.iter().map(|member| (member.id, member.address.clone())).collect(),
    };
    codec::encode_body(&members).into()
}

/// Makes the log of a node that begins with a state at `at`, and has voted in its term.
pub(crate) async fn begin(env: &Env, config: &Config, at: LogPos) -> Result<(), OpenError> {
    let log = LogStore::open(env, config, Acks::new(env.node)).await?;
    // The next term is a later one, so that no position is given twice.
    log.begin(Vote { term: at.term, node: env.node, established: false }).await?;
    log.reconcile(Some(at)).await?;
    log.close().await?;
    Ok(())
}

/// What a log holds that nobody uses.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<LogPos>,
    pub(crate) committed: Option<LogPos>,
    pub(crate) entries: BTreeMap<u64, u64>,
}

/// Recovers a log beside a state, as [`Consensus::open`] does, and closes it.
pub(crate) fn inspect<'a>(
    env: &'a Env,
    config: &'a Config,
    applied: Option<LogPos>,
) -> BoxFuture<'a, Result<Found, OpenError>> {
    recover(env, config, applied).boxed()
}

async fn recover(env: &Env, config: &Config, applied: Option<LogPos>) -> Result<Found, OpenError> {
    let log = LogStore::open(env, config, Acks::new(env.node)).await?;
    log.reconcile(applied).await?;
    let (vote, purged, committed) = (log.vote(), log.purged(), log.committed());
    let found = Found { vote, purged, committed, entries: log.terms() };
    log.close().await?;
    Ok(found)
}
