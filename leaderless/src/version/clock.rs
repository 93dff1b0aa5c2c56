//! What a replica has dealt with, of one place.

use std::collections::BTreeMap;

use common::codec;
use common::ids::Actor;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{Context, Dot, Dots, Life, Opening};

/// Per actor the dots that a replica has dealt with, and the actors that are no more.
///
/// A retired actor's set of dots is closed: those outside it are *void*. A void dot counts as dealt
/// with, so it leaves no gap, and a message that names one is refused whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionClock {
    seen: BTreeMap<Actor, Dots>,
    retired: BTreeMap<Actor, Dots>,
}

/// How many runs one actor may have here: gaps of a peer that sends the newest first. Beyond, a
/// message waits for repair to close some.
const MAX_RUNS: usize = 4_096;

impl PartitionClock {
    /// A clock that has seen nothing.
    pub const fn new() -> Self {
        Self { seen: BTreeMap::new(), retired: BTreeMap::new() }
    }

    /// The number up to which all dots of the actor are dealt with.
    pub fn base(&self, actor: &Actor) -> u64 {
        self.seen.get(actor).map_or(0, Dots::base)
    }

    /// Whether the dot is dealt with.
    pub fn covers(&self, dot: &Dot) -> bool {
        self.seen.get(&dot.actor).is_some_and(|dots| dots.contains(dot.n))
    }

    /// Whether the dot can never be written any more.
    pub fn is_void(&self, dot: &Dot) -> bool {
        self.retired.get(&dot.actor).is_some_and(|all| !all.contains(dot.n))
    }

    /// Whether there is room for the dot: whether [`PartitionClock::mark`] keeps the number of runs
    /// in bounds.
    pub fn has_room(&self, dot: &Dot) -> bool {
        self.seen.get(&dot.actor).is_none_or(|dots| dots.runs() < MAX_RUNS)
    }

    /// Notes that the dot is dealt with.
    pub fn mark(&mut self, dot: Dot) {
        self.seen.entry(dot.actor).or_default().add(dot.n);
    }

    /// The actor's next dot. It is marked.
    pub fn next(&mut self, actor: Actor) -> Dot {
        let dots = self.seen.entry(actor).or_default();
        let n = dots.top() + 1;
        dots.add(n);
        Dot::new(actor, n)
    }

    /// Per actor the number up to which all is dealt with.
    pub fn bases(&self) -> Context {
        self.seen.iter().map(|(actor, dots)| (*actor, dots.base())).collect()
    }

    /// The actors with what is dealt with of them.
    pub fn actors(&self) -> impl Iterator<Item = (&Actor, &Dots)> {
        self.seen.iter()
    }

    /// The dots of one actor that are dealt with.
    pub fn dots(&self, actor: &Actor) -> Dots {
        self.seen.get(actor).cloned().unwrap_or_default()
    }

    /// The retired actors with all the dots that they ever had.
    pub fn retired(&self) -> impl Iterator<Item = (&Actor, &Dots)> {
        self.retired.iter()
    }

    /// Whether the actor's set of dots is closed.
    pub fn is_retired(&self, actor: &Actor) -> bool {
        self.retired.contains_key(actor)
    }

    /// Closes an actor's set of dots: `all` are the dots that any owner has. Asked again after an
    /// owner lost its storage the set may only shrink, so two answers meet.
    pub fn retire(&mut self, actor: Actor, all: &Dots) {
        let kept = self.retired.entry(actor).or_insert_with(|| all.clone());
        *kept = kept.meet(all);
        let void = kept.complement();
        self.seen.entry(actor).or_default().join(&void);
    }

    /// Takes over what a peer knows of retired actors; whether that was news.
    pub fn adopt_retired(&mut self, other: &Self) -> bool {
        let mut news = false;
        for (actor, all) in &other.retired {
            if self.retired.get(actor)
                != Some(&self.retired.get(actor).map_or(all.clone(), |own| own.meet(all)))
            {
                self.retire(*actor, all);
                news = true;
            }
        }
        news
    }

    /// The dots that `other` has dealt with and this clock has not.
    pub fn missing(&self, other: &Self) -> BTreeMap<Actor, Dots> {
        let mut out = BTreeMap::new();
        for (actor, theirs) in &other.seen {
            let lacks =
                self.seen.get(actor).map_or_else(|| theirs.clone(), |own| theirs.minus(own));
            let lacks = self.retired.get(actor).map_or(lacks.clone(), |all| lacks.meet(all));
            let lacks = other.retired.get(actor).map_or(lacks.clone(), |all| lacks.meet(all));
            if !lacks.is_empty() {
                out.insert(*actor, lacks);
            }
        }
        out
    }

    /// Whether everything that `other` has dealt with is dealt with here.
    pub fn includes(&self, other: &Self) -> bool {
        self.missing(other).is_empty()
    }

    /// Adds what `other` has dealt with. Only for what is known to be stored, or to be compared: a
    /// replica's own clock takes over nothing that it did not merge.
    pub fn join(&mut self, other: &Self) {
        for (actor, theirs) in &other.seen {
            self.seen.entry(*actor).or_default().join(theirs);
        }
        self.adopt_retired(other);
    }

    /// Keeps only what both have dealt with; retired actors of both.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut out = Self::new();
        for (actor, own) in &self.seen {
            let both = other.seen.get(actor).map(|theirs| own.meet(theirs)).unwrap_or_default();
            if !both.is_empty() {
                out.seen.insert(*actor, both);
            }
        }
        out.adopt_retired(self);
        out.adopt_retired(other);
        out
    }

    /// The actors here that a later opening of their node has ended, and that are not retired.
    pub fn ended(&self, lives: &BTreeMap<common::ids::NodeId, Life>) -> Vec<Actor> {
        let ended = |actor: &&Actor| {
            let opening = Opening::of(**actor);
            lives.get(&opening.node).is_some_and(|life| *life > opening.life)
        };
        self.seen.keys().filter(ended).filter(|a| !self.retired.contains_key(a)).copied().collect()
    }

    /// A fingerprint: equal clocks have equal ones.
    pub fn fingerprint(&self) -> u64 {
        xxh3_64(&codec::encode_body(self))
    }
}
