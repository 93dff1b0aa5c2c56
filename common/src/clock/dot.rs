//! Dots and version vectors: which events were seen, counted per actor.
//!
//! A dot `(actor, n)` names the n-th event of an actor. A version vector holds one number per
//! actor and stands for all its events up to that number. Parker et al., "Detection of Mutual
//! Inconsistency in Distributed Systems", 1983; Preguiça et al., "Dotted Version Vectors", 2010.
//!
//! What an actor is, the strategy decides: a replica of a partition in one opening of its storage,
//! or a site in one life of its disk.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// One event: the `n`-th of its actor, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot<A> {
    /// Whose event it is.
    pub actor: A,
    /// Its number among the actor's events, from 1.
    pub n: u64,
}

impl<A> Dot<A> {
    /// The `n`-th event of `actor`.
    pub const fn new(actor: A, n: u64) -> Self {
        Self { actor, n }
    }
}

impl<A: fmt::Debug> fmt::Debug for Dot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?}, {})", self.actor, self.n)
    }
}

/// A set of events without gaps: of each actor, all up to a number.
///
/// Vectors are ordered by inclusion, which is a partial order: two vectors are concurrent when
/// each has an event that the other lacks. [`VersionVector::join`] is the smallest vector that
/// includes both; it is commutative, associative and idempotent.
///
/// ```
/// use common::clock::{Dot, VersionVector};
///
/// let mut a = VersionVector::new();
/// a.raise(Dot::new("berlin", 2));
/// let mut b = VersionVector::new();
/// b.raise(Dot::new("lisbon", 1));
/// assert_eq!(a.partial_cmp(&b), None, "concurrent");
/// b.join(&a);
/// assert!(b.includes(&a) && b.covers(&Dot::new("berlin", 1)));
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(deserialize = "A: Ord + Deserialize<'de>"))]
#[serde(from = "BTreeMap<A, u64>")]
pub struct VersionVector<A: Ord>(BTreeMap<A, u64>);

impl<A: Ord> Default for VersionVector<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Ord + fmt::Debug> fmt::Debug for VersionVector<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.0).finish()
    }
}

impl<A: Ord> From<BTreeMap<A, u64>> for VersionVector<A> {
    fn from(mut entries: BTreeMap<A, u64>) -> Self {
        // An absent actor and a zero mean the same, so only one of them is ever stored.
        entries.retain(|_, n| *n > 0);
        Self(entries)
    }
}

impl<A: Ord> FromIterator<(A, u64)> for VersionVector<A> {
    fn from_iter<I: IntoIterator<Item = (A, u64)>>(entries: I) -> Self {
        let mut out = Self::new();
        for (actor, n) in entries {
            out.raise(Dot::new(actor, n));
        }
        out
    }
}

impl<A: Ord> VersionVector<A> {
    /// No events.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The number up to which the actor's events are in it, 0 for none.
    pub fn get(&self, actor: &A) -> u64 {
        self.0.get(actor).copied().unwrap_or(0)
    }

    /// Whether the event is in it.
    pub fn covers(&self, dot: &Dot<A>) -> bool {
        dot.n <= self.get(&dot.actor)
    }

    /// Whether every event of `other` is in it.
    pub fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|(actor, n)| *n <= self.get(actor))
    }

    /// Adds the actor's events up to this one.
    pub fn raise(&mut self, dot: Dot<A>) {
        if dot.n > 0 {
            let n = self.0.entry(dot.actor).or_default();
            *n = dot.n.max(*n);
        }
    }

    /// The actor's next event after those in here; it is added.
    pub fn next(&mut self, actor: A) -> Dot<A>
    where
        A: Clone,
    {
        let n = self.0.entry(actor.clone()).or_default();
        *n += 1;
        Dot::new(actor, *n)
    }

    /// Adds every event of `other`.
    pub fn join(&mut self, other: &Self)
    where
        A: Clone,
    {
        for (actor, n) in &other.0 {
            self.raise(Dot::new(actor.clone(), *n));
        }
    }

    /// Keeps only the events that are in both.
    pub fn meet(&mut self, other: &Self) {
        self.0.retain(|actor, n| {
            *n = (*n).min(other.get(actor));
            *n > 0
        });
    }

    /// Actors with their numbers, in the actors' order.
    pub fn iter(&self) -> impl Iterator<Item = (&A, u64)> {
        self.0.iter().map(|(actor, n)| (actor, *n))
    }

    /// How many actors have an event in it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has no events.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<A: Ord> PartialOrd for VersionVector<A> {
    /// Inclusion. `None` means concurrent.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.includes(other), other.includes(self)) {
            (true, true) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (false, false) => None,
        }
    }
}
