//! The rule for tombstones: what still stands in the way of forgetting one.

use common::clock::{Dot, VersionVector};
use common::ids::{Actor, NodeId};
use common::mutate;

/// What a replica knows when it asks whether a tombstone may go.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The tombstone.
    pub dot: Dot<Actor>,
    /// Whether its container is young.
    pub young: bool,
    /// The container's context as stored: it is stripped here by `own`, as it may have been stored
    /// when the clock knew less.
    pub context: &'a VersionVector<Actor>,
    /// The bases of the own clock.
    pub own: &'a VersionVector<Actor>,
    /// The acked, fsynced bases of every other owner of every live set, pending ones included. One
    /// that never acked is there with nothing.
    pub acked: &'a [(NodeId, &'a VersionVector<Actor>)],
}

/// Rule C4's second round: under last writer wins, what was acked when all knew the tombstone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondRound(Option<VersionVector<Actor>>);

impl SecondRound {
    /// What every owner has to have dealt with, once C2 has held.
    pub fn actors(&self) -> impl Iterator<Item = (Actor, u64)> + '_ {
        self.0.iter().flat_map(|since| since.iter().map(|(actor, n)| (*actor, n)))
    }
}

/// What stands in the way, for the rule and for an operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blockers {
    /// C1: the container is young.
    pub young: bool,
    /// C1: its context still speaks of dots that the own clock lacks: of these actors.
    pub gaps: Vec<Actor>,
    /// C1: the own base does not cover the tombstone.
    pub own: bool,
    /// C2: owners that are not known to hold the tombstone durably.
    pub owners: Vec<NodeId>,
    /// C4: owners, or `None` for this node, that have not dealt with all that was acked when C2
    /// first held. `Some` only for last writer wins.
    pub second_round: Vec<Option<NodeId>>,
}

impl Blockers {
    /// What stands in the way of collecting the tombstone of a keyspace that keeps siblings.
    pub fn of(evidence: Evidence<'_>) -> Self {
        let Evidence { dot, young, context, own, acked } = evidence;
        let gap =
            |(actor, n): (&Actor, u64)| (!own.covers(&Dot { actor: *actor, n })).then_some(*actor);
        let lacks = |(node, bases): &(NodeId, &VersionVector<Actor>)| {
            (!bases.covers(&dot)).then_some(*node)
        };
        Self {
            young,
            gaps: context.iter().filter_map(gap).collect(),
            own: !own.covers(&dot),
            owners: acked.iter().filter_map(lacks).collect(),
            second_round: Vec::new(),
        }
    }

    /// The same for last writer wins. `round` is kept with the tombstone, in memory: forgotten, it
    /// is taken again later and only waits longer.
    pub fn of_last_writer(evidence: Evidence<'_>, round: &mut SecondRound) -> Self {
        let mut blockers = Self::of(evidence);
        if !blockers.is_empty() {
            return blockers;
        }
        let since = round.0.get_or_insert_with(|| {
            let mut join = evidence.own.clone();
            for (_, bases) in evidence.acked {
                join.join(bases);
            }
            join
        });
        let others = evidence.acked.iter().map(|(node, bases)| (Some(*node), *bases));
        let all = std::iter::once((None, evidence.own)).chain(others);
        let behind = all.filter(|(_, bases)| {
            since.iter().any(|(actor, n)| !bases.covers(&Dot { actor: *actor, n }))
        });
        blockers.second_round = behind.map(|(node, _)| node).collect();
        blockers
    }

    /// Whether nothing stands in the way: the tombstone may go, with rule C3.
    pub fn is_empty(&self) -> bool {
        let here = !self.young && self.gaps.is_empty() && !self.own;
        let everywhere = self.owners.is_empty() && self.second_round.is_empty();
        here && mutate!("tombstone_dropped_early", everywhere, true)
    }
}
