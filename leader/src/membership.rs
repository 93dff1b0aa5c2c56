//! Joining, leaving, getting a vote, taking another's place.
//!
//! A member joins as a learner: it receives the log and has no vote. Once it follows closely
//! (`gate`) it can be promoted, so that a change of voters never waits for a copy of the state. What
//! a change would put in danger is found before it is made (`placement`). One change at a time; a
//! change of voters takes two steps in which both the old and the new voters must agree, and a
//! leader that finds the first step finishes it.
//!
//! Every change begins with a round to a majority, after which this leader's state has everything
//! that was committed before: so it knows which ids were given, whoever gave them.

mod gate;
pub(crate) mod placement;
mod replace;
pub(crate) mod roster;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use common::env::Env;
use common::ids::NodeId;
use common::sometimes;
use futures::future::join_all;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::apply::Applier;
use crate::entry::Ask;
use crate::error::AdminError;
use crate::failover;
use crate::message::Proof;
use crate::node::Member;
use crate::propose::Proposer;
use crate::raft::{Change, Consensus, View};
use crate::read::wait_applied;
use crate::write::Attempt;

use placement::{Danger, Judged, Warning};
use roster::Attribute;

/// How long each step of a change may take.
const CHANGE: Duration = Duration::from_secs(10);
/// How long a voter may take to show that it lives.
const LIVES: Duration = Duration::from_secs(1);
/// How long a member may take to answer from a new address.
const PROVES: Duration = Duration::from_secs(3);
/// How soon it is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a leader looks for a change that another has left half done.
const LOOK: Duration = Duration::from_millis(250);

/// What a change of the members may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeOptions {
    /// How long to wait for a learner that does not follow closely enough for a vote. Default: not
    /// at all, it is refused.
    pub wait: Option<Duration>,
    /// The dangers that are accepted. Default: none.
    pub accept: BTreeSet<Danger>,
}

impl ChangeOptions {
    /// Waits so long for a learner to catch up.
    pub fn waiting(wait: Duration) -> Self {
        Self { wait: Some(wait), ..Self::default() }
    }

    /// Accepts a danger, too.
    #[must_use]
    pub fn accepting(mut self, danger: Danger) -> Self {
        self.accept.insert(danger);
        self
    }
}

/// A change that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// What is worth a thought.
    pub warnings: Vec<Warning>,
}

/// The leader's side of changes of the members.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    env: Env,
    consensus: Consensus,
    proposer: Proposer,
    applier: Arc<dyn Applier>,
    busy: Arc<Mutex<()>>,
}

impl Membership {
    pub(crate) fn new(
        env: &Env,
        consensus: Consensus,
        proposer: Proposer,
        applier: Arc<dyn Applier>,
    ) -> Self {
        Self { env: env.clone(), consensus, proposer, applier, busy: Arc::default() }
    }

    fn not_leader(&self) -> AdminError {
        AdminError::NotLeader { this: self.env.node, leader: self.consensus.leader() }
    }

    /// Takes the turn to change something, with a state that has all earlier changes.
    async fn begin(&self) -> Result<OwnedMutexGuard<()>, AdminError> {
        if self.consensus.leads().is_none() {
            return Err(self.not_leader());
        }
        let Ok(turn) = self.busy.clone().try_lock_owned() else {
            let why = "another change of the members is under way; try again when it is done";
            return Err(AdminError::Refused(why.to_owned()));
        };
        let Some(at) = self.consensus.read_index(Proof::Round, CHANGE).await else {
            return Err(match self.consensus.leads() {
                None => self.not_leader(),
                Some(_) => AdminError::TimedOut(CHANGE),
            });
        };
        let applied = wait_applied(&self.env, &mut self.applier.watch(), Some(at), CHANGE).await;
        applied.map_err(|_| AdminError::TimedOut(CHANGE))?;
        if self.consensus.view().joint {
            self.consensus.change(Change::Finish, CHANGE).await?;
        }
        Ok(turn)
    }

    /// Proposes an entry of the crate's own, and returns when it is applied.
    async fn propose(&self, ask: Ask) -> Result<(), AdminError> {
        match self.env.timeout(CHANGE, self.proposer.submit(ask, true)).await {
            Ok(Ok(Attempt::Answered(_))) => Ok(()),
            Ok(Ok(Attempt::NotLeader(leader))) => {
                Err(AdminError::NotLeader { this: self.env.node, leader })
            }
            Ok(Ok(_)) | Err(_) => Err(AdminError::TimedOut(CHANGE)),
            Ok(Err(_)) => Err(AdminError::Stopping(self.env.node)),
        }
    }

    /// Those of some voters that answer now. Having been heard a moment ago is not enough: a change
    /// that needs a voter which has just died would hang between its steps.
    async fn live(&self, voters: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let lives = voters.iter().map(|id| {
            let own = *id == self.env.node;
            async move { (own || self.consensus.ping(*id, LIVES).await.is_some()).then_some(*id) }
        });
        join_all(lives).await.into_iter().flatten().collect()
    }

    /// Refuses what is dangerous and not accepted.
    fn judge(
        &self,
        before: &BTreeSet<NodeId>,
        after: &BTreeSet<NodeId>,
        live: &BTreeSet<NodeId>,
        options: &ChangeOptions,
    ) -> Result<Changed, AdminError> {
        let Judged { dangers, warnings } =
            placement::judge(before, after, live, &self.consensus.places());
        let unnamed = dangers.into_iter().find(|(danger, _)| !options.accept.contains(danger));
        if let Some((danger, what)) = unnamed {
            sometimes!("dangerous-change-refused");
            return Err(AdminError::Dangerous { danger, what });
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Changed { warnings })
    }

    /// Refuses a new member whose id or address was given before.
    fn newcomer(&self, view: &View, member: &Member) -> Result<(), AdminError> {
        Self::free(view, member)?;
        let roster = self.applier.roster();
        if member.id.0 <= roster.highest {
            let next = roster.next_id().map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err(AdminError::Refused(format!(
                "the id {} was given before, and no id is given twice; the next one is {next}",
                member.id
            )));
        }
        Ok(())
    }

    fn free(view: &View, member: &Member) -> Result<(), AdminError> {
        if member.address.is_empty() {
            return Err(AdminError::Refused("a member needs the address of its transport".into()));
        }
        let mut all = view.voters.values().chain(view.learners.values());
        match all.find(|other| other.address == member.address && other.id != member.id) {
            Some(other) => Err(AdminError::Refused(format!(
                "the address {} is node {}'s",
                member.address, other.id
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a change of a member that is part of a replacement under way.
    fn not_replacing(&self, id: NodeId) -> Result<(), AdminError> {
        let Some(replacement) = self.applier.roster().replacing else { return Ok(()) };
        if ![replacement.old, replacement.new.id].contains(&id) {
            return Ok(());
        }
        Err(AdminError::Refused(format!(
            "node {} is to take the place of node {}; go on with that, or abort it",
            replacement.new.id, replacement.old
        )))
    }

    /// Adds a member without a vote.
    pub(crate) async fn add_learner(&self, member: Member) -> Result<(), AdminError> {
        let _turn = self.begin().await?;
        let view = self.consensus.view();
        if view.voters.contains_key(&member.id) {
            return Err(AdminError::Refused(format!("node {} is a voter already", member.id)));
        }
        match view.learners.get(&member.id) {
            Some(known) if *known == member => return Ok(()),
            Some(known) => {
                return Err(AdminError::Refused(format!(
                    "node {} is a member at {}; relocate it to change that",
                    member.id, known.address
                )));
            }
            None => self.newcomer(&view, &member)?,
        }
        let voters: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        let live = self.live(&voters).await;
        self.judge(&voters, &voters, &live, &ChangeOptions::default())?;
        self.consensus.change(Change::AddLearner(member), CHANGE).await
    }

    /// Gives a learner a vote.
    pub(crate) async fn promote(
        &self,
        id: NodeId,
        options: &ChangeOptions,
    ) -> Result<Changed, AdminError> {
        let _turn = self.begin().await?;
        let view = self.consensus.view();
        if view.voters.contains_key(&id) {
            return Ok(Changed::default());
        }
        if !view.learners.contains_key(&id) {
            return Err(AdminError::Refused(format!(
                "node {id} is no member; add it as a learner first"
            )));
        }
        self.not_replacing(id)?;
        gate::pass(&self.env, &self.consensus, id, options.wait).await?;
        let before: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        let mut after = before.clone();
        after.insert(id);
        let changed = self.judge(&before, &after, &self.live(&after).await, options)?;
        self.consensus.change(Change::Promote(id), CHANGE).await?;
        sometimes!("learner-promoted");
        Ok(changed)
    }

    /// Removes a member. A leader hands over and leaves the rest to the next one.
    pub(crate) async fn remove(
        &self,
        id: NodeId,
        options: &ChangeOptions,
    ) -> Result<Changed, AdminError> {
        let _turn = self.begin().await?;
        let view = self.consensus.view();
        self.not_replacing(id)?;
        if view.learners.contains_key(&id) {
            self.consensus.change(Change::RemoveLearner(id), CHANGE).await?;
            return Ok(Changed::default());
        }
        if !view.voters.contains_key(&id) {
            return Err(AdminError::Refused(format!("node {id} is no member")));
        }
        if view.voters.len() == 1 {
            return Err(AdminError::Refused(
                "the last voter cannot be removed: the data would have no home".into(),
            ));
        }
        let before: BTreeSet<NodeId> = view.voters.keys().copied().collect();
        let mut after = before.clone();
        after.remove(&id);
        let changed = self.judge(&before, &after, &self.live(&after).await, options)?;
        if id == self.env.node {
            let new = failover::transfer(&self.env, &self.consensus, None).await?;
            return Err(AdminError::NotLeader { this: self.env.node, leader: Some(new) });
        }
        self.consensus.change(Change::RemoveVoter(id), CHANGE).await?;
        sometimes!("voter-removed");
        Ok(changed)
    }

    /// Sets attributes of a member.
    pub(crate) async fn describe(
        &self,
        id: NodeId,
        attributes: Vec<Attribute>,
    ) -> Result<(), AdminError> {
        let _turn = self.begin().await?;
        let view = self.consensus.view();
        if !view.voters.contains_key(&id) && !view.learners.contains_key(&id) {
            return Err(AdminError::Refused(format!("node {id} is no member")));
        }
        self.propose(Ask::Describe { member: id, attributes }).await
    }

    /// Changes the address of another member, once it has answered from there. The transport makes
    /// whoever answers prove its id, and refuses an incarnation older than one that it has met.
    pub(crate) async fn relocate(&self, id: NodeId, address: String) -> Result<(), AdminError> {
        let _turn = self.begin().await?;
        let view = self.consensus.view();
        let Some(known) = view.voters.get(&id).or_else(|| view.learners.get(&id)) else {
            return Err(AdminError::Refused(format!("node {id} is no member")));
        };
        if known.address == address {
            return Ok(());
        }
        if id == self.env.node {
            let why = "a leader cannot see itself from elsewhere: hand leadership over first";
            return Err(AdminError::Refused(why.to_owned()));
        }
        let moved = Member { id, address };
        Self::free(&view, &moved)?;
        let until = self.env.now() + PROVES;
        // Whatever is connected to the old address must not answer for the new one.
        self.env.transport.forget(id);
        self.env.transport.learn(id, &moved.address);
        while self.consensus.ping(id, LIVES).await.is_none() {
            if self.env.now() >= until {
                self.env.transport.forget(id);
                self.env.transport.learn(id, &known.address);
                return Err(AdminError::Refused(format!(
                    "node {id} has not shown within {PROVES:?} that it is at {}; start it there \
                     first, on its own folder",
                    moved.address
                )));
            }
            self.env.sleep(AGAIN).await;
        }
        self.consensus.change(Change::Relocate(moved), CHANGE).await
    }

    /// While this node leads: finishes changes that another leader has left between their steps.
    pub(crate) async fn finish(self) {
        let mut found = false;
        loop {
            self.env.sleep(LOOK).await;
            let joint = self.consensus.leads().is_some() && self.consensus.view().joint;
            // Twice in a row, since whoever makes a change is about to finish it.
            if std::mem::replace(&mut found, joint)
                && joint
                && let Ok(_turn) = self.busy.try_lock()
            {
                sometimes!("joint-change-finished");
                if let Err(error) = self.consensus.change(Change::Finish, CHANGE).await {
                    tracing::info!(%error, "a change of the members is not finished; trying again");
                }
            }
        }
    }
}
