//! What the clocks promise, for any sequence of events.

use std::cmp::Ordering;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Dot, Hlc, HybridClock, VersionVector};
use crate::codec;

type Vector = VersionVector<u8>;

fn vectors() -> impl Strategy<Value = Vector> {
    vec((0_u8..4, 0_u64..4), 0..6).prop_map(|events| events.into_iter().collect())
}

fn joined(a: &Vector, b: &Vector) -> Vector {
    let mut out = a.clone();
    out.join(b);
    out
}

fn met(a: &Vector, b: &Vector) -> Vector {
    let mut out = a.clone();
    out.meet(b);
    out
}

/// Every event there is in these tests.
fn events() -> impl Iterator<Item = Dot<u8>> {
    (0..4).flat_map(|actor| (1..5).map(move |n| Dot::new(actor, n)))
}

proptest! {
    #[test]
    fn join_is_a_semilattice(a in vectors(), b in vectors(), c in vectors()) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a);
    }

    #[test]
    fn join_is_the_smallest_vector_that_includes_both(
        a in vectors(), b in vectors(), c in vectors(),
    ) {
        let join = joined(&a, &b);
        prop_assert!(join.includes(&a) && join.includes(&b));
        if c.includes(&a) && c.includes(&b) {
            prop_assert!(c.includes(&join));
        }
    }

    #[test]
    fn meet_is_the_largest_vector_that_both_include(
        a in vectors(), b in vectors(), c in vectors(),
    ) {
        let meet = met(&a, &b);
        prop_assert!(a.includes(&meet) && b.includes(&meet));
        if a.includes(&c) && b.includes(&c) {
            prop_assert!(meet.includes(&c));
        }
        prop_assert_eq!(joined(&a, &meet), a.clone(), "absorption");
        prop_assert_eq!(met(&a, &joined(&a, &b)), a, "absorption");
    }

    /// Vectors are nothing but the sets of events they cover.
    #[test]
    fn vectors_behave_as_sets_of_events(a in vectors(), b in vectors()) {
        let (join, meet) = (joined(&a, &b), met(&a, &b));
        for dot in events() {
            prop_assert_eq!(join.covers(&dot), a.covers(&dot) || b.covers(&dot));
            prop_assert_eq!(meet.covers(&dot), a.covers(&dot) && b.covers(&dot));
        }
        prop_assert_eq!(a.includes(&b), events().all(|dot| a.covers(&dot) || !b.covers(&dot)));
        prop_assert_eq!(a == b, events().all(|dot| a.covers(&dot) == b.covers(&dot)));
    }

    #[test]
    fn inclusion_is_a_partial_order(a in vectors(), b in vectors(), c in vectors()) {
        prop_assert_eq!(a.partial_cmp(&a), Some(Ordering::Equal));
        prop_assert_eq!(a.partial_cmp(&b), b.partial_cmp(&a).map(Ordering::reverse));
        prop_assert_eq!(a.partial_cmp(&b) == Some(Ordering::Equal), a == b);
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    /// Two replicas that each have an event of their own since they last met are concurrent, and
    /// the one that then joins the other dominates it.
    #[test]
    fn events_apart_are_concurrent_and_a_join_dominates(common in vectors()) {
        let (mut a, mut b) = (common.clone(), common);
        let (mine, yours) = (a.next(1), b.next(2));
        prop_assert!(!b.covers(&mine) && !a.covers(&yours));
        prop_assert_eq!(a.partial_cmp(&b), None);
        b.join(&a);
        prop_assert_eq!(b.partial_cmp(&a), Some(Ordering::Greater));
        prop_assert!(b.covers(&mine));
    }

    #[test]
    fn a_next_event_is_new_and_leaves_no_gap(mut a in vectors(), actor in 0_u8..4) {
        let before = a.clone();
        let dot = a.next(actor);
        prop_assert!(!before.covers(&dot) && a.covers(&dot));
        prop_assert_eq!(dot.n, before.get(&actor) + 1);
    }

    /// A zero that another build or a hostile peer wrote means the same as no entry.
    #[test]
    fn encoding_keeps_a_vector_and_drops_zeros(a in vectors(), actor in 10_u8..20) {
        let bytes = codec::encode_body(&a);
        prop_assert_eq!(&codec::decode_body::<Vector>(&bytes).unwrap(), &a);
        let mut entries: std::collections::BTreeMap<u8, u64> =
            a.iter().map(|(actor, n)| (*actor, n)).collect();
        entries.insert(actor, 0);
        let read: Vector = codec::decode_body(&codec::encode_body(&entries)).unwrap();
        prop_assert_eq!(read, a);
    }
}

/// What may happen to a hybrid clock: a local event, or a message, at some physical time.
fn happenings() -> impl Strategy<Value = Vec<(Option<(u64, u16)>, u64)>> {
    let millis = 1_000_u64..1_050;
    let counter = prop_oneof![0_u16..3, u16::MAX - 2..=u16::MAX];
    vec((proptest::option::of((millis.clone(), counter)), millis), 1..60)
}

proptest! {
    /// Also when physical time stands still or goes back, and when counters overflow.
    #[test]
    fn stamps_of_one_clock_grow_and_follow_what_was_seen(happenings in happenings()) {
        let mut clock = HybridClock::default();
        let mut last = Hlc::ZERO;
        for (message, physical) in happenings {
            let stamp = match message {
                None => clock.tick(physical),
                Some((millis, counter)) => {
                    let seen = Hlc::new(millis, counter);
                    let stamp = clock.merge(seen, physical);
                    prop_assert!(stamp > seen, "a message is received after it is sent");
                    stamp
                }
            };
            prop_assert!(stamp > last);
            prop_assert!(stamp.millis() >= physical, "never behind the machine's own time");
            prop_assert_eq!(clock.last(), stamp);
            last = stamp;
        }
    }

    /// Kulkarni et al., theorem 3: a stamp is not further ahead than the largest physical time that
    /// its past contains, except for the counter's carry.
    #[test]
    fn stamps_stay_near_the_largest_physical_time_they_know(
        physical in vec(1_000_u64..1_010, 1..60),
    ) {
        let mut clock = HybridClock::default();
        let mut largest = 0;
        for now in physical {
            largest = largest.max(now);
            prop_assert_eq!(clock.tick(now).millis(), largest);
        }
    }

    #[test]
    fn stamps_sort_like_their_parts_and_like_their_bytes(
        a in (0_u64..1 << 48, any::<u16>()), b in (0_u64..1 << 48, any::<u16>()),
    ) {
        let (x, y) = (Hlc::new(a.0, a.1), Hlc::new(b.0, b.1));
        prop_assert_eq!((x.millis(), x.counter()), a);
        prop_assert_eq!(Hlc::from_bits(x.to_bits()), x);
        prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        prop_assert_eq!(x.to_bits().to_be_bytes().cmp(&y.to_bits().to_be_bytes()), a.cmp(&b));
    }
}

#[test]
fn a_counter_that_overflows_carries_into_the_milliseconds() {
    assert_eq!(Hlc::new(7, u16::MAX).next(), Hlc::new(8, 0));
    let mut clock = HybridClock::after(Hlc::new(7, u16::MAX));
    assert_eq!(clock.tick(3), Hlc::new(8, 0));
}

/// A stamp can come from a peer that is out of its mind: it must not bring this node down, and the
/// clock must not go back.
#[test]
fn the_last_stamp_there_is_neither_panics_nor_turns_the_clock_back() {
    let last = Hlc::from_bits(u64::MAX);
    assert_eq!(last.next(), last);
    let mut clock = HybridClock::default();
    assert_eq!(clock.merge(last, 1_000), last);
    assert_eq!(clock.tick(1_001), last);
}
