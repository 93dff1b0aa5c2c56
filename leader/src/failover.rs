//! Handing the leadership over.
//!
//! The leader asks a voter to take over (Ongaro 2014, section 3.10) and refuses writes from then on.
//! When the voter does not, the leader would refuse for ever: then its core is started again, which
//! begins a new term.

use std::time::Duration;

use common::env::Env;
use common::ids::NodeId;
use common::sometimes;

use crate::error::AdminError;
use crate::raft::Consensus;

/// How long a transfer may take before the leader takes its word back.
const TRANSFER: Duration = Duration::from_secs(1);

/// Hands over to `to`, or to the other voter that holds most of the log.
pub(crate) async fn transfer(
    env: &Env,
    consensus: &Consensus,
    to: Option<NodeId>,
) -> Result<NodeId, AdminError> {
    let not_leader = || AdminError::NotLeader { this: env.node, leader: consensus.leader() };
    let term = consensus.leads().ok_or_else(not_leader)?;
    let to = match to {
        Some(to) if to == env.node => return Ok(to),
        Some(to) => to,
        None => best(consensus)
            .ok_or_else(|| AdminError::Refused("there is no other voter to hand over to".into()))?,
    };
    if !consensus.other_voters().contains(&to) {
        return Err(AdminError::Refused(format!("node {to} has no vote; promote it first")));
    }
    consensus.hand_over(to).await?;
    let mut leader = consensus.watch_leader();
    let handed = env.timeout(TRANSFER, async {
        loop {
            match *leader.borrow_and_update() {
                Some(now) if now != env.node => return Some(now),
                _ => {}
            }
            if leader.changed().await.is_err() {
                return None;
            }
        }
    });
    match handed.await {
        Ok(Some(now)) => {
            sometimes!("transfer-completed");
            Ok(now)
        }
        Ok(None) => Err(AdminError::Stopping(env.node)),
        Err(_) => {
            if common::mutate!(
                "failed_transfer_leaves_the_core",
                consensus.leads() == Some(term),
                false
            ) {
                consensus.reopen().await.map_err(|e| AdminError::Refused(e.to_string()))?;
            }
            Err(AdminError::TimedOut(TRANSFER))
        }
    }
}

/// The other voter that lives, is wanted as leader, and is known to hold most of the log.
fn best(consensus: &Consensus) -> Option<NodeId> {
    let matched = consensus.matched();
    let present = consensus.progress().0.present;
    let rank = |id: &NodeId| {
        let holds = matched.get(id).copied();
        (present.contains(id), consensus.wanted(*id), holds, std::cmp::Reverse(*id))
    };
    consensus.other_voters().into_iter().max_by_key(rank)
}
