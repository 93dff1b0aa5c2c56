//! What joining tokens promises, for any tokens.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::clock::Dot;
use crate::ids::{Actor, KeyspaceId, LogPos, PartitionId, SiteId};
use crate::seal::tests::{CLUSTER, secret};

fn log_tokens() -> impl Strategy<Value = LogToken> {
    let pending = btree_map(1_u64..14, 1_u64..9, 0..=5);
    (0_u64..5, 0_u64..20, pending).prop_map(|(term, index, pending)| LogToken {
        cluster: CLUSTER,
        epoch: Epoch(1),
        committed: LogPos { term, index },
        pending,
    })
}

type Event = (u32, u32, u64, u64);

fn events() -> impl Strategy<Value = Vec<Event>> {
    vec((0_u32..2, 0_u32..3, 0_u64..3, 1_u64..40), 0..60)
}

fn dots(events: &[Event]) -> DotsToken {
    let mut token = DotsToken::new(CLUSTER);
    for &(keyspace, partition, actor, n) in events {
        let place = (KeyspaceId(keyspace), PartitionId(partition));
        token.saw(place.0, place.1, Dot::new(Actor(actor), n), Hlc::new(n, 0)).unwrap();
    }
    token
}

fn origin_tokens() -> impl Strategy<Value = OriginsToken> {
    (btree_map(0_u16..4, 1_u64..9, 0..4), 0_u64..9).prop_map(|(seen, stamp)| {
        let origin = |site| Origin { site: SiteId(site), epoch: u32::from(site % 2) };
        let seen = seen.into_iter().map(|(site, n)| (origin(site), n)).collect();
        OriginsToken { cluster: CLUSTER, seen, stamp: Hlc::new(stamp, 1) }
    })
}

/// Three tokens of one strategy.
fn threes() -> impl Strategy<Value = [Token; 3]> {
    prop_oneof![
        (log_tokens(), log_tokens(), log_tokens()).prop_map(|(a, b, c)| [a, b, c].map(Token::Log)),
        (events(), events(), events())
            .prop_map(|(a, b, c)| [a, b, c].map(|events| Token::Dots(dots(&events)))),
        (origin_tokens(), origin_tokens(), origin_tokens())
            .prop_map(|(a, b, c)| [a, b, c].map(Token::Origins)),
    ]
}

/// A join, or nothing where a limit forbids it: a limit must not depend on the order of joins.
fn join(a: Option<&Token>, b: Option<&Token>) -> Option<Token> {
    a?.join(b?).ok()
}

proptest! {
    #[test]
    fn join_is_commutative_associative_and_idempotent([a, b, c] in threes()) {
        let (a, b, c) = (Some(&a), Some(&b), Some(&c));
        prop_assert_eq!(join(a, b), join(b, a));
        prop_assert_eq!(join(join(a, b).as_ref(), c), join(a, join(b, c).as_ref()));
        prop_assert_eq!(join(a, a), a.cloned());
    }

    /// `a <= b` where joining `a` adds nothing to `b`.
    #[test]
    fn both_tokens_are_below_their_join([a, b, _] in threes()) {
        if let Ok(joined) = a.join(&b) {
            prop_assert_eq!(&a.join(&joined).unwrap(), &joined);
            prop_assert_eq!(&b.join(&joined).unwrap(), &joined);
        }
    }

    #[test]
    fn a_log_token_covers_all_that_either_did(a in log_tokens(), b in log_tokens()) {
        let Ok(joined) = a.join(&b) else {
            let terms: BTreeSet<_> = a.pending.keys().chain(b.pending.keys()).collect();
            prop_assert!(terms.len() > LogToken::MAX_PENDING);
            return Ok(());
        };
        prop_assert_eq!(joined.committed, a.committed.max(b.committed));
        for (term, index) in a.pending.iter().chain(&b.pending) {
            // An early-acknowledged write is never dropped by a later term's position.
            prop_assert!(joined.pending[term] >= *index);
        }
    }

    #[test]
    fn a_dots_token_covers_every_event_it_saw(a in events(), b in events()) {
        let joined = dots(&a).join(&dots(&b)).unwrap();
        for &(keyspace, partition, actor, n) in a.iter().chain(&b) {
            let place = (KeyspaceId(keyspace), PartitionId(partition));
            let seen = &joined.partitions[&place][&Actor(actor)];
            prop_assert!(n <= seen.upto() || seen.above().any(|m| m == n));
            prop_assert!(joined.stamp >= Hlc::new(n, 0));
        }
    }

    /// Whether events come one by one or by joins, in whatever order, the token is the same.
    #[test]
    fn a_dots_token_does_not_depend_on_the_order_of_events(
        events in events(), cut: prop::sample::Index,
    ) {
        let (front, back) = events.split_at(cut.index(events.len() + 1));
        let backwards: Vec<_> = events.iter().rev().copied().collect();
        prop_assert_eq!(dots(front).join(&dots(back)).unwrap(), dots(&events));
        prop_assert_eq!(dots(&backwards), dots(&events));
    }

    /// Few events are exact: the session does not wait for what it never saw.
    #[test]
    fn few_events_are_kept_exactly(seen in btree_set(1_u64..1000, 1..=SeenDots::MAX_EXACT)) {
        let mut dots = SeenDots::default();
        for n in &seen {
            dots.add(*n);
        }
        prop_assert_eq!(dots.upto(), 0);
        prop_assert_eq!(dots.above().collect::<BTreeSet<_>>(), seen);
    }

    #[test]
    fn sealing_keeps_a_token([token, ..] in threes()) {
        let text = token.seal_text(&secret());
        prop_assert_eq!(&Token::open_text(&text, &secret(), CLUSTER).unwrap(), &token);
        let loud = text.to_uppercase();
        prop_assert_eq!(&Token::open_text(&loud, &secret(), CLUSTER).unwrap(), &token);
        prop_assert_eq!(Token::open(&token.seal(&secret()), &secret(), CLUSTER).unwrap(), token);
    }
}

fn log_token() -> LogToken {
    LogToken {
        cluster: CLUSTER,
        epoch: Epoch(3),
        committed: LogPos { term: 5, index: 1000 },
        pending: BTreeMap::from([(4, 900), (6, 1001)]),
    }
}

#[test]
fn tokens_that_have_no_join_say_why() {
    let token = Token::Log(log_token());
    let elsewhere = Token::Log(LogToken::new(ClusterId(9), Epoch(3)));
    let recovered = Token::Log(LogToken::new(CLUSTER, Epoch(4)));
    let dots = Token::Dots(DotsToken::new(CLUSTER));
    let why = |other: &Token| token.join(other).unwrap_err();
    assert_eq!(why(&elsewhere), JoinError::Clusters { left: CLUSTER, right: ClusterId(9) });
    assert_eq!(why(&recovered), JoinError::Epochs { left: Epoch(3), right: Epoch(4) });
    assert_eq!(why(&dots), JoinError::Strategies);
}

#[test]
fn the_limits_of_a_session_are_told_and_change_nothing() {
    let mut token = LogToken::new(CLUSTER, Epoch(0));
    for term in 1..=8 {
        token.wrote_pending(LogPos { term, index: term }).unwrap();
    }
    let before = token.clone();
    let refused = token.wrote_pending(LogPos { term: 9, index: 9 });
    assert_eq!(refused, Err(JoinError::TooManyPending { terms: 9, limit: 8 }));
    assert_eq!(token, before);
    token.resolved_committed(LogPos { term: 3, index: 3 });
    token.wrote_pending(LogPos { term: 9, index: 9 }).unwrap();
    assert_eq!(token.committed, LogPos { term: 3, index: 3 });

    let mut token = DotsToken::new(CLUSTER);
    let mut saw = |partition| {
        token.saw(KeyspaceId(0), PartitionId(partition), Dot::new(Actor(1), 1), Hlc::ZERO)
    };
    (0..256).for_each(|partition| saw(partition).unwrap());
    assert_eq!(saw(0), Ok(()), "one that is known is no further one");
    assert_eq!(saw(256), Err(JoinError::TooManyPartitions { partitions: 257, limit: 256 }));
}

/// A pending write is resolved by its own term's commits only, and not by an earlier one.
#[test]
fn a_commit_resolves_what_is_below_it_in_its_term() {
    let mut token = log_token();
    token.resolved_committed(LogPos { term: 6, index: 1000 });
    assert_eq!(token.pending, BTreeMap::from([(4, 900), (6, 1001)]));
    token.resolved_committed(LogPos { term: 6, index: 1001 });
    assert_eq!(token.pending, BTreeMap::from([(4, 900)]));
    assert_eq!(token.committed, LogPos { term: 6, index: 1001 });
}

#[test]
fn tokens_keep_their_bytes() {
    let dots = dots(&[(1, 2, 3, 4), (1, 2, 3, 9), (1, 7, 5, 1)]);
    let seen =
        [(Origin { site: SiteId(2), epoch: 1 }, 77), (Origin { site: SiteId(9), epoch: 0 }, 1)];
    let origins = OriginsToken {
        cluster: CLUSTER,
        seen: seen.into_iter().collect(),
        stamp: Hlc::new(0x0001_8000_0000, 7),
    };
    let tokens = [
        ("log", Token::Log(log_token())),
        ("dots", Token::Dots(dots)),
        ("origins", Token::Origins(origins)),
    ];
    let fixture = include_str!("../../golden/token.v1.txt");
    let written: Vec<_> = tokens.iter().map(|(name, t)| (*name, t.seal(&secret()))).collect();
    crate::golden::check(fixture, &written);
    for ((_, bytes), (_, token)) in crate::golden::read(fixture).iter().zip(tokens) {
        assert_eq!(Token::open(bytes, &secret(), CLUSTER), Ok(token));
    }
}
