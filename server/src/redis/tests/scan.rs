//! A scan finds every key that is there from its first step to its last.

use std::collections::BTreeSet;

use common::storage::engine::Batch;
use proptest::prelude::*;

use super::super::rows::first_row;
use super::*;

fn cut(bench: &Bench) -> Cut<'_> {
    Cut::open(&bench.engine, bench.stamp.clock, bench.stamp.clock).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_scan_misses_no_key_that_stays(
        stay in prop::collection::btree_set(0..500_u32, 0..60),
        come_and_go in prop::collection::vec((0..500_u32, any::<bool>()), 0..60),
        counts in prop::collection::vec(1..9_usize, 1..5),
    ) {
        let mut bench = Bench::new();
        let name = |number: u32| format!("key:{number}");
        for number in &stay {
            bench.set(&name(*number), "v");
        }
        let (mut found, mut cursor) = (BTreeSet::new(), 0);
        let (mut changes, mut counts) = (come_and_go.into_iter(), counts.iter().cycle());
        loop {
            let step = cut(&bench).scan(cursor, *counts.next().unwrap()).unwrap();
            for (key, kind) in step.keys {
                prop_assert_eq!(kind, Kind::String);
                found.insert(String::from_utf8(key.to_vec()).unwrap());
            }
            cursor = step.next;
            if cursor == 0 {
                break;
            }
            for (number, comes) in changes.by_ref().take(3) {
                if comes {
                    bench.set(&name(number), "v");
                } else if !stay.contains(&number) {
                    bench.apply(&Command::Delete { keys: vec![name(number).into()] });
                }
            }
        }
        for number in &stay {
            prop_assert!(found.contains(&name(*number)), "{} was missed", number);
        }
    }
}

/// Plants keys under hashes of our choice: only reading looks at the hash.
fn planted(hashes: &[(u64, &str)]) -> Bench {
    let bench = Bench::new();
    let revision = leader::key_value::Revision { index: 1, sub: 0 };
    let mut batch = Batch::new();
    for (hash, key) in hashes {
        let row = [&first_row(0, *hash)[..], key.as_bytes()].concat();
        let (kind, value) = (Kind::String, Bytes::new());
        let record = Record { kind, revision, deadline: None, elements: None, value };
        batch.put(KEYS, row, record.encode());
    }
    bench.engine.write(batch).unwrap();
    bench
}

#[test]
fn keys_of_one_hash_are_never_torn_apart() {
    let hashes =
        [(0, "a"), (7, "b"), (7, "c"), (7, "d"), (8, "e"), (u64::MAX, "f"), (u64::MAX, "g")];
    let bench = planted(&hashes);
    for count in 1..9 {
        let (mut found, mut cursor, mut steps) = (Vec::new(), 0, 0);
        loop {
            let step = cut(&bench).scan(cursor, count).unwrap();
            let keys: Vec<_> = step.keys.into_iter().map(|(key, _)| key).collect();
            for group in [&["b", "c", "d"][..], &["f", "g"]] {
                let there = group.iter().filter(|key| keys.contains(&Bytes::from(**key))).count();
                assert!(there == 0 || there == group.len(), "count {count}: {keys:?}");
            }
            found.extend(keys);
            cursor = step.next;
            steps += 1;
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(found, keys(&["a", "b", "c", "d", "e", "f", "g"]), "count {count}");
        assert!(steps <= 8, "count {count}: {steps} steps");
    }
}

#[test]
fn some_key_is_found_from_anywhere() {
    let bench = planted(&[(100, "a"), (200, "b")]);
    for (from, expected) in [(0, "a"), (100, "a"), (101, "b"), (201, "a"), (u64::MAX, "a")] {
        assert_eq!(cut(&bench).any(from).unwrap(), Some(Bytes::from(expected)), "from {from}");
    }
    let mut bench = Bench::new();
    assert_eq!(cut(&bench).any(5).unwrap(), None);
    for number in 0..100 {
        let lifetime = Lifetime::Until(Moment::After(10));
        bench.apply(&set(&number.to_string(), "v", lifetime));
    }
    bench.set("stays", "v");
    bench.pass(1_000);
    for from in [0, 1 << 63, u64::MAX] {
        assert_eq!(cut(&bench).any(from).unwrap(), Some(Bytes::from("stays")), "due keys are not");
    }
}

#[test]
fn a_cursor_outlives_a_flush() {
    let mut bench = Bench::new();
    for number in 0..50 {
        bench.set(&number.to_string(), "v");
    }
    let step = cut(&bench).scan(0, 10).unwrap();
    assert_eq!(step.keys.len(), 10);
    bench.apply(&Command::Flush);
    assert_eq!(cut(&bench).scan(step.next, 10).unwrap(), Found::default());
}
