//! One attempt of a proposer.

use std::collections::{BTreeMap, BTreeSet};

use common::ids::NodeId;

use super::{Ballot, Change, Decision, Reply, Request, RequestId, State};

/// An attempt at one change under one ballot, over the owners of all live sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round {
    ballot: Ballot,
    sets: Vec<Vec<NodeId>>,
    request: RequestId,
    change: Change,
    phase: Phase,
    refused: BTreeSet<NodeId>,
    highest: Option<Ballot>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Phase {
    Preparing(BTreeMap<NodeId, Option<(Ballot, State)>>),
    Accepting { state: State, decision: Decision, by: BTreeSet<NodeId> },
    Over,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    /// What the change did.
    pub decision: Decision,
    /// The state that a majority of each set has accepted.
    pub state: State,
}

/// What to do after a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for more replies.
    Wait,
    /// Send this to every node of every set.
    Send(Request),
    /// The change is decided.
    Done(Outcome),
    /// No majority is possible any more: begin again above this ballot, after a random pause. If
    /// `Accept` was sent, the change may still happen: the next attempt finds it by its request id.
    Again {
        /// The highest ballot seen.
        above: Ballot,
        /// Whether `Accept` was sent, so that giving up now means an unknown fate.
        may_happen: bool,
    },
}

impl Round {
    /// Begins an attempt; the request goes to every node of every set.
    ///
    /// `sets` are the live owner sets; a majority in each is needed. An empty list, or an empty
    /// set, never decides.
    pub fn new(
        ballot: Ballot,
        sets: Vec<Vec<NodeId>>,
        request: RequestId,
        change: Change,
    ) -> (Self, Request) {
        let phase = Phase::Preparing(BTreeMap::new());
        let (refused, highest) = (BTreeSet::new(), None);
        let round = Self { ballot, sets, request, change, phase, refused, highest };
        (round, Request::Prepare(ballot))
    }

    /// The nodes to ask, each once.
    pub fn nodes(&self) -> BTreeSet<NodeId> {
        self.sets.iter().flatten().copied().collect()
    }

    fn majority(&self, has: impl Fn(&NodeId) -> bool) -> bool {
        let in_set =
            |set: &Vec<NodeId>| set.iter().filter(|node| has(node)).count() > set.len() / 2;
        !self.sets.is_empty() && self.sets.iter().all(in_set)
    }

    /// Takes a reply in. Replies of strangers, of other ballots and after the end are dropped.
    pub fn reply(&mut self, from: NodeId, reply: Reply) -> Step {
        if !self.sets.iter().any(|set| set.contains(&from)) {
            return Step::Wait;
        }
        match (reply, &mut self.phase) {
            (Reply::Promised(ballot, accepted), Phase::Preparing(promises))
                if ballot == self.ballot =>
            {
                promises.insert(from, accepted);
                self.prepared()
            }
            (Reply::Accepted(ballot), Phase::Accepting { by, .. }) if ballot == self.ballot => {
                by.insert(from);
                self.accepted()
            }
            (Reply::Refused(above), Phase::Preparing(_) | Phase::Accepting { .. })
                if above > self.ballot =>
            {
                self.refused.insert(from);
                self.highest = self.highest.max(Some(above));
                self.refused()
            }
            _ => Step::Wait,
        }
    }

    /// A node cannot answer any more: down, or past the deadline.
    pub fn lost(&mut self, node: NodeId) -> Step {
        self.refused.insert(node);
        if self.phase == Phase::Over { Step::Wait } else { self.refused() }
    }

    fn prepared(&mut self) -> Step {
        let Phase::Preparing(promises) = &self.phase else { return Step::Wait };
        if !self.majority(|node| promises.contains_key(node)) {
            return Step::Wait;
        }
        let newest = promises.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let before = newest.map_or_else(State::default, |(_, state)| state.clone());
        let (state, decision) = before.apply(self.request, &self.change);
        self.phase = Phase::Accepting { state: state.clone(), decision, by: BTreeSet::new() };
        self.refused.clear();
        Step::Send(Request::Accept(self.ballot, state))
    }

    fn accepted(&mut self) -> Step {
        let Phase::Accepting { state, decision, by } = &self.phase else { return Step::Wait };
        if !self.majority(|node| by.contains(node)) {
            return Step::Wait;
        }
        let outcome = Outcome { decision: *decision, state: state.clone() };
        self.phase = Phase::Over;
        Step::Done(outcome)
    }

    fn refused(&mut self) -> Step {
        if self.majority(|node| !self.refused.contains(node)) {
            return Step::Wait;
        }
        let may_happen = matches!(self.phase, Phase::Accepting { .. });
        self.phase = Phase::Over;
        Step::Again { above: self.highest.unwrap_or(self.ballot), may_happen }
    }

    /// A read in one round: the state, if a majority of each set reports the same accepted ballot.
    /// Else a round with [`Change::Read`] is needed.
    pub fn unanimous(
        sets: &[Vec<NodeId>],
        peeks: &BTreeMap<NodeId, Option<(Ballot, State)>>,
    ) -> Option<State> {
        let mut seen: BTreeMap<Option<Ballot>, State> = BTreeMap::new();
        for peek in peeks.values() {
            let ballot = peek.as_ref().map(|(ballot, _)| *ballot);
            let state = peek.as_ref().map_or_else(State::default, |(_, state)| state.clone());
            seen.insert(ballot, state);
        }
        let agreed = |ballot: &Option<Ballot>| {
            let has = |node: &NodeId| {
                peeks.get(node).is_some_and(|p| p.as_ref().map(|(b, _)| *b) == *ballot)
            };
            !sets.is_empty()
                && sets.iter().all(|set| set.iter().filter(|n| has(n)).count() > set.len() / 2)
        };
        seen.into_iter().find(|(ballot, _)| agreed(ballot)).map(|(_, state)| state)
    }
}
