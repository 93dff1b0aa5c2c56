//! Joining, leaving, and getting a vote.
//!
//! A member joins as a learner: it receives the log and has no vote. Once it has caught up it can be
//! promoted, so that a change of voters never waits for a copy of the state. One change at a time;
//! a change of voters takes two steps in which both the old and the new voters must agree.

use std::time::Duration;

use common::env::Env;
use common::ids::NodeId;

use crate::error::AdminError;
use crate::failover;
use crate::node::Member;
use crate::raft::{Change, Consensus};

/// How long a change may take.
const CHANGE: Duration = Duration::from_secs(10);
/// How many entries a learner may lack when it is promoted.
const CLOSE: u64 = 1_000;
/// How long a promotion waits for a learner to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn add_learner(consensus: &Consensus, member: Member) -> Result<(), AdminError> {
    let view = consensus.view();
    if view.voters.contains_key(&member.id) {
        return Err(AdminError::Refused(format!("node {} is a voter already", member.id)));
    }
    if member.address.is_empty() {
        return Err(AdminError::Refused("a member needs the address of its transport".into()));
    }
    let taken = view.voters.values().chain(view.learners.values());
    if let Some(other) =
        taken.into_iter().find(|m| m.address == member.address && m.id != member.id)
    {
        return Err(AdminError::Refused(format!(
            "the address {} is node {}'s",
            member.address, other.id
        )));
    }
    consensus.change(Change::AddLearner(member), CHANGE).await
}

pub(crate) async fn promote(
    env: &Env,
    consensus: &Consensus,
    id: NodeId,
) -> Result<(), AdminError> {
    let until = env.now() + CATCH_UP;
    loop {
        if consensus.leads().is_none() {
            return Err(AdminError::NotLeader { this: env.node, leader: consensus.leader() });
        }
        let view = consensus.view();
        if view.voters.contains_key(&id) {
            return Ok(());
        }
        if !view.learners.contains_key(&id) {
            return Err(AdminError::Refused(format!(
                "node {id} is no member; add it as a learner first"
            )));
        }
        let last = view.last_log.unwrap_or(0);
        let holds = consensus.matched().get(&id).map_or(0, |at| at.index);
        if holds + CLOSE >= last && holds > 0 {
            return consensus.change(Change::Promote(id), CHANGE).await;
        }
        if env.now() >= until {
            return Err(AdminError::Refused(format!(
                "node {id} has not caught up within {CATCH_UP:?}: it holds {holds} of {last} \
                 entries; try again later"
            )));
        }
        env.sleep(LOOK).await;
    }
}

pub(crate) async fn remove(env: &Env, consensus: &Consensus, id: NodeId) -> Result<(), AdminError> {
    let view = consensus.view();
    if view.learners.contains_key(&id) {
        return consensus.change(Change::RemoveLearner(id), CHANGE).await;
    }
    if !view.voters.contains_key(&id) {
        return Err(AdminError::Refused(format!("node {id} is no member")));
    }
    if view.voters.len() == 1 {
        return Err(AdminError::Refused(
            "the last voter cannot be removed: the data would have no home".into(),
        ));
    }
    if id == env.node && consensus.leads().is_some() {
        let new = failover::transfer(env, consensus, None).await?;
        return Err(AdminError::NotLeader { this: env.node, leader: Some(new) });
    }
    consensus.change(Change::RemoveVoter(id), CHANGE).await
}
