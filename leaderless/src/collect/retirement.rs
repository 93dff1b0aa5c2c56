//! The end of an actor: which of its dots exist, decided without a vote.
//!
//! An actor ends when its replica's storage is opened again or lost. Owners *seal* it: they
//! durably refuse its dots from then on, but for repair between owners, and answer with the dots
//! they have. The union of the answers of all owners is the set that exists; all other dots of the
//! actor are *void*. Sealed sets grow only inside the union, so every initiator finds the same, and
//! any owner may finish what another began.

use std::collections::BTreeMap;

use common::ids::NodeId;

/// A set of one actor's dots.
pub trait DotSet: Clone + Default {
    /// Adds all of another set.
    fn join(&mut self, other: &Self);
    /// Whether all of another set is in this one.
    fn includes(&self, other: &Self) -> bool;
}

/// The answers to a seal of one actor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seals<S>(BTreeMap<NodeId, S>);

/// Why the dots of an actor are not known yet. Nothing is void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seal waits for {0:?}: they may hold dots that nobody else has")]
pub struct SealsError(pub Vec<NodeId>);

impl<S: DotSet> Seals<S> {
    /// Notes an owner's durable answer. A later answer replaces an earlier one: it holds at least
    /// as much, or its storage was lost between.
    pub fn answer(&mut self, owner: NodeId, dots: S) {
        self.0.insert(owner, dots);
    }

    /// An owner lost its storage: its answer says nothing any more.
    pub fn forget(&mut self, owner: NodeId) {
        self.0.remove(&owner);
    }

    /// The dots that exist, once every owner of every live set and every holder of hints has
    /// answered.
    pub fn union(&self, owners: &[NodeId]) -> Result<S, SealsError> {
        let open: Vec<NodeId> =
            owners.iter().filter(|owner| !self.0.contains_key(owner)).copied().collect();
        if !open.is_empty() {
            return Err(SealsError(open));
        }
        let mut union = S::default();
        for dots in self.0.values() {
            union.join(dots);
        }
        Ok(union)
    }

    /// Whether every owner holds all that exists: then the actor is settled, and its base is
    /// infinite everywhere.
    pub fn is_settled(&self, owners: &[NodeId]) -> bool {
        let Ok(union) = self.union(owners) else { return false };
        owners.iter().all(|owner| self.0.get(owner).is_some_and(|dots| dots.includes(&union)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    impl DotSet for BTreeSet<u64> {
        fn join(&mut self, other: &Self) {
            self.extend(other);
        }
        fn includes(&self, other: &Self) -> bool {
            self.is_superset(other)
        }
    }

    #[test]
    fn every_initiator_finds_the_same_dots_whatever_repair_did_between() {
        // Owners 1 and 2 hold any part of the dots 1 to 3; repair moves any of them in any order.
        let owners = [NodeId(1), NodeId(2)];
        let sets = |bits: u8| (1..=3u64).filter(|n| bits & (1 << n) != 0).collect::<BTreeSet<_>>();
        for (a, b, moved) in
            (0..16u8).flat_map(|a| (0..16).flat_map(move |b| (0..16).map(move |m| (a, b, m))))
        {
            let (a, b, moved) = (sets(a), sets(b), sets(moved));
            let mut first = Seals::default();
            first.answer(owners[0], a.clone());
            assert_eq!(first.union(&owners), Err(SealsError(vec![owners[1]])));
            first.answer(owners[1], b.clone());
            // A second initiator asks after repair took some dots over.
            let repaired =
                a.iter().chain(b.iter().filter(|n| moved.contains(n))).copied().collect();
            let mut second = Seals::default();
            second.answer(owners[0], repaired);
            second.answer(owners[1], b.clone());
            assert_eq!(first.union(&owners), second.union(&owners));
            assert_eq!(first.is_settled(&owners), a == b);
        }
    }
}
