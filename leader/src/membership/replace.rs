//! One member takes the place of another, in steps that any leader can go on with.
//!
//! ```text
//! Replace entry       the state says who comes for whom; from here on it can be resumed or aborted
//! learner             the new one receives the log
//! gate                it follows closely
//! leadership          leaves the old one, if it leads
//! one joint change    the new one votes and the old one is gone, at once
//! Replace entry       the state says that it is done
//! ```
//!
//! Whatever fails, asking again with the same two goes on at the step that is missing; before the
//! joint change it can be aborted, which removes the learner.

use std::collections::BTreeSet;

use common::ids::NodeId;
use common::sometimes;

use super::{CHANGE, ChangeOptions, Changed, Membership, gate};
use crate::entry::Ask;
use crate::error::AdminError;
use crate::failover;
use crate::membership::roster::Replacement;
use crate::node::Member;
use crate::raft::Change;

impl Membership {
    /// Replaces a voter.
    pub(crate) async fn replace(
        &self,
        old: NodeId,
        new: Member,
        options: &ChangeOptions,
    ) -> Result<Changed, AdminError> {
        let _turn = self.begin().await?;
        let wanted = Replacement { old, new: new.clone() };
        let under_way = self.applier.roster().replacing;
        if let Some(other) = under_way.as_ref().filter(|other| **other != wanted) {
            return Err(AdminError::Refused(format!(
                "node {} takes the place of node {} already; go on with that, or abort it",
                other.new.id, other.old
            )));
        }
        let view = self.consensus.view();
        let voters: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        if !voters.contains(&old) {
            if voters.contains(&new.id) {
                sometimes!("replacement-found-done");
                if under_way.is_some() {
                    self.propose(Ask::Replace(None)).await?;
                }
                return Ok(Changed::default());
            }
            return Err(AdminError::Refused(format!("node {old} has no vote: nothing to replace")));
        }
        if voters.contains(&new.id) {
            return Err(AdminError::Refused(format!("node {} has a vote already", new.id)));
        }
        let mut after = voters.clone();
        after.remove(&old);
        after.insert(new.id);
        if under_way.is_none() {
            // What would be refused at the end is refused before anything is begun.
            self.judge(&voters, &after, &after, options)?;
            if !view.learners.contains_key(&new.id) {
                self.newcomer(&view, &new)?;
            }
            self.propose(Ask::Replace(Some(wanted))).await?;
        }
        if !view.learners.contains_key(&new.id) {
            self.consensus.change(Change::AddLearner(new.clone()), CHANGE).await?;
        }
        gate::pass(&self.env, &self.consensus, new.id, options.wait).await?;
        let live = self.live(&after).await;
        let changed = self.judge(&voters, &after, &live, options)?;
        if old == self.env.node {
            let leader = failover::transfer(&self.env, &self.consensus, None).await?;
            return Err(AdminError::NotLeader { this: self.env.node, leader: Some(leader) });
        }
        self.consensus.change(Change::Replace { old, new: new.id }, CHANGE).await?;
        self.propose(Ask::Replace(None)).await?;
        sometimes!("member-replaced");
        Ok(changed)
    }

    /// Takes a replacement back that has not changed the voters yet.
    pub(crate) async fn abort_replace(&self) -> Result<(), AdminError> {
        let _turn = self.begin().await?;
        let Some(Replacement { old, new }) = self.applier.roster().replacing else {
            return Err(AdminError::Refused("no replacement is under way".to_owned()));
        };
        let view = self.consensus.view();
        if view.voters.contains_key(&new.id) {
            self.propose(Ask::Replace(None)).await?;
            return Err(AdminError::Refused(format!(
                "node {} has taken the place of node {old} already; replace it in its turn",
                new.id
            )));
        }
        if view.learners.contains_key(&new.id) {
            self.consensus.change(Change::RemoveLearner(new.id), CHANGE).await?;
        }
        self.propose(Ask::Replace(None)).await
    }
}
