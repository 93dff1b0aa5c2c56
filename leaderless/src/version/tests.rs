use std::collections::BTreeMap;

use bytes::Bytes;
use common::clock::Hlc;
use common::ids::{Actor, ClusterId, KeyspaceId, NodeId};
use common::seal::ClusterSecret;
use proptest::prelude::*;

use super::*;

fn dot(actor: u64, n: u64) -> Dot {
    Dot::new(Actor(actor), n)
}

fn value(text: &str, at: u64) -> Cell {
    Cell::Value {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        at: Hlc::new(at, 0),
        expires: None,
    }
}

/// One replica of one key, as simple as it can be.
#[derive(Clone, Default)]
struct Replica {
    clock: PartitionClock,
    container: Container,
}

impl Replica {
    fn write(&mut self, actor: u64, context: &Context) {
        self.container.discard(context);
        let dot = self.clock.next(Actor(actor));
        self.container.add(dot, value("v", dot.n));
        self.container.strip(&self.clock);
    }

    fn hear(&mut self, other: &Self) {
        let claim = other.container.claim().filled(&other.clock.bases());
        self.container.absorb(&claim, &self.clock, Winner::Every);
        for (actor, dots) in self.clock.missing(&other.clock) {
            dots.iter().for_each(|n| self.clock.mark(Dot::new(actor, n)));
        }
        self.container.strip(&self.clock);
    }

    fn context(&self) -> Context {
        let mut seen = self.container.context.clone();
        self.container.cells.iter().for_each(|(dot, _)| seen.raise(*dot));
        seen
    }
}

proptest! {
    #[test]
    fn sets_of_dots_are_sets(a in prop::collection::btree_set(1..60_u64, 0..30), b in prop::collection::btree_set(1..60_u64, 0..30)) {
        let set = |from: &std::collections::BTreeSet<u64>| {
            let mut dots = Dots::new();
            from.iter().rev().for_each(|n| dots.add(*n));
            dots
        };
        let (x, y) = (set(&a), set(&b));
        prop_assert_eq!(x.minus(&y).iter().collect::<Vec<_>>(), a.difference(&b).copied().collect::<Vec<_>>());
        prop_assert_eq!(x.meet(&y).iter().collect::<Vec<_>>(), a.intersection(&b).copied().collect::<Vec<_>>());
        prop_assert_eq!(x.complement().complement(), x.clone());
        let mut joined = x.clone();
        joined.join(&y);
        prop_assert_eq!(joined.len(), a.union(&b).count() as u64);
        prop_assert!(joined.includes(&x) && (1..60).all(|n| x.contains(n) == a.contains(&n)));
    }

    /// Whatever is written where and exchanged in whatever order, replicas that have heard of each
    /// other are equal, and have exactly the writes that no later write had seen.
    #[test]
    fn replicas_that_heard_of_each_other_are_equal(steps in prop::collection::vec((0..3_usize, 0..3_usize, any::<bool>()), 1..40)) {
        let mut replicas = vec![Replica::default(); 3];
        for (at, from, blind) in steps {
            if at == from {
                let context = if blind { Context::new() } else { replicas[at].context() };
                replicas[at].write(at as u64 + 1, &context);
            } else {
                let other = replicas[from].clone();
                replicas[at].hear(&other);
            }
        }
        for _ in 0..2 {
            for (at, from) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
                let other = replicas[from].clone();
                replicas[at].hear(&other);
            }
        }
        prop_assert!(replicas.windows(2).all(|p| p[0].container == p[1].container && p[0].clock == p[1].clock));
        prop_assert!(replicas[0].container.context.is_empty(), "stripped to nothing");
    }
}

#[test]
fn a_late_packet_of_a_superseded_write_is_dropped() {
    let mut a = Replica::default();
    a.write(1, &Context::new());
    let late = a.clone();
    let context = a.context();
    a.write(1, &context);
    a.hear(&late);
    assert_eq!(a.container.cells.iter().map(|(dot, _)| *dot).collect::<Vec<_>>(), [dot(1, 2)]);
}

#[test]
fn a_replica_that_lost_a_key_passes_on_no_claim_about_it() {
    let mut clock = PartitionClock::new();
    clock.mark(dot(1, 1));
    let mut lossy = Container::young();
    let context = [(Actor(1), 1)].into_iter().collect();
    let claim = Claim { cells: vec![(dot(1, 1), value("v", 1))], context, established: true };
    let absorbed = lossy.absorb(&claim, &clock, Winner::Every);
    assert_eq!(absorbed.doubted, [dot(1, 1)]);
    assert!(lossy.cells.is_empty() && !lossy.context.covers(&dot(1, 1)));
    lossy.restore(&claim, &clock, Winner::Every);
    assert!(lossy.has(&dot(1, 1)));
}

#[test]
fn the_last_writer_wins_by_stamp_and_then_by_dot() {
    let mut container = Container::default();
    for (n, at) in [(1, 5), (2, 9), (3, 9), (4, 7)] {
        container.add(dot(1, n), value("v", at));
    }
    container.keep(Winner::Last);
    assert_eq!(container.cells.len(), 1);
    assert!(container.has(&dot(1, 3)));
}

#[test]
fn a_retired_actors_other_dots_are_void_and_leave_no_gap() {
    let opening = Opening { node: NodeId(7), life: Life(3) };
    let actor = opening.actor(u64::MAX).unwrap();
    assert_eq!(Opening::of(actor), opening);
    let mut clock = PartitionClock::new();
    clock.mark(Dot::new(actor, 2));
    let lives = BTreeMap::from([(NodeId(7), Life(4))]);
    assert_eq!(clock.ended(&lives), [actor]);
    let mut all = Dots::new();
    all.add(2);
    all.add(4);
    clock.retire(actor, &all);
    assert!(clock.is_void(&Dot::new(actor, 1)) && clock.is_void(&Dot::new(actor, 9)));
    assert_eq!(clock.base(&actor), 3, "4 is still missing");
    clock.mark(Dot::new(actor, 4));
    assert_eq!(clock.base(&actor), u64::MAX);
    assert!(clock.ended(&lives).is_empty());
}

#[test]
fn a_context_is_bound_to_its_key_and_its_cluster() {
    let secret = ClusterSecret::new([7; 16]);
    let seen = [(Actor(1), 2)].into_iter().collect();
    let (cluster, keyspace) = (ClusterId(1), KeyspaceId(2));
    let context = ClientContext { cluster, keyspace, key: 3, stamp: Hlc::ZERO, seen };
    let sealed = context.seal(&secret);
    let opened = ClientContext::open(&sealed, &secret).unwrap();
    assert_eq!(opened.clone().check(cluster, keyspace, 4), Err(ContextError::OtherKey));
    assert_eq!(opened, context);
    for at in 0..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert_eq!(ClientContext::open(&changed, &secret), Err(ContextError::Forged));
    }
    let large = vec![0; 5_000];
    assert!(matches!(ClientContext::open(&large, &secret), Err(ContextError::TooLarge { .. })));
}

#[test]
fn golden_bytes_of_a_container_stay() {
    let context = [(Actor(9), 300)].into_iter().collect();
    let cells =
        vec![(dot(1, 2), value("v", 1)), (dot(3, 4), Cell::Tombstone { at: Hlc::new(2, 1) })];
    let container = Container { cells, context, young: true };
    let bytes = encode_container(&container);
    let hex = bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(hex, "01020102000176fc0000010000030401fc010002000109fb2c01017119b34e");
    assert_eq!(decode_container(&bytes), Ok(container));
    let mut damaged = bytes;
    damaged[3] ^= 4;
    assert!(decode_container(&damaged).is_err());
}
