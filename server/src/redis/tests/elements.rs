//! Elements: many of them, dropped, swept, copied and scanned.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::super::elements::Owner;
use super::super::sorted::{Rules, Score, Span};
use super::golden::hex;
use super::*;

fn hash_of(bench: &mut Bench, key: &str, fields: usize) {
    for first in (0..fields).step_by(100) {
        let pairs = (first..fields.min(first + 100))
            .map(|n| (Bytes::from(format!("field {n}")), Bytes::from(n.to_string())));
        let (key, pairs) = (key.to_owned().into(), pairs.collect());
        bench.apply(&Command::HashSet { key, pairs, condition: Condition::Always });
    }
}

fn count(bench: &Bench, key: &str) -> Reply {
    bench.ask(&Query::HashCount { key: key.to_owned().into() })
}

#[test]
fn a_large_hash_is_gone_at_once_and_swept_in_pieces() {
    let mut bench = Bench::new();
    for drop in ["delete", "overwrite", "rename over", "expire", "flush"] {
        hash_of(&mut bench, "large", 2_500);
        assert_eq!(count(&bench, "large"), Reply::Integer(2_500));
        let before = bench.stamp.index;
        match drop {
            "delete" => drop_key(&mut bench),
            "overwrite" => bench.set("large", "text"),
            "rename over" => {
                bench.set("other", "text");
                let (from, to) = ("other".into(), "large".into());
                bench.apply(&Command::Rename { from, to, condition: Condition::Always });
            }
            "expire" => {
                let (at, condition) = (Moment::After(5), ExpireCondition::Always);
                bench.apply(&Command::Expire { key: "large".into(), at, condition });
                bench.pass(10);
            }
            _ => assert_eq!(bench.apply(&Command::Flush), Reply::Done),
        }
        assert!(bench.stamp.index <= before + 2, "{drop}: in one step");
        assert!(bench.sweep() >= 3, "{drop}: a sweep removes a thousand rows");
        assert_eq!(bench.rows(ELEMENTS), [], "{drop}");
        assert_eq!(bench.rows(DROPPED), [], "{drop}");
        check_rows(&bench.engine);
        drop_key(&mut bench);
        bench.sweep();
    }
}

fn drop_key(bench: &mut Bench) {
    bench.apply(&Command::Delete { keys: keys(&["large"]) });
}

#[test]
fn a_new_hash_under_an_old_name_sees_nothing_of_the_former() {
    let mut bench = Bench::new();
    hash_of(&mut bench, "key", 200);
    bench.apply(&Command::Delete { keys: keys(&["key"]) });
    hash_of(&mut bench, "key", 1);
    assert_eq!(count(&bench, "key"), Reply::Integer(1));
    let all = bench.ask(&Query::HashAll { key: "key".into() });
    let expected = ["field 0", "0"].map(|text| Some(Bytes::from(text))).to_vec();
    assert_eq!(all, Reply::Values(expected));
}

#[test]
fn a_copy_has_elements_of_its_own_and_a_large_one_is_refused() {
    let mut bench = Bench::new();
    hash_of(&mut bench, "one", 300);
    let copy = |from: &str, to: &str| Command::Copy {
        from: from.to_owned().into(),
        to: to.to_owned().into(),
        condition: Condition::IfAbsent,
    };
    assert_eq!(bench.apply(&copy("one", "two")), Reply::Integer(1));
    bench.apply(&Command::HashDelete { key: "one".into(), fields: keys(&["field 1"]) });
    assert_eq!(
        (count(&bench, "one"), count(&bench, "two")),
        (Reply::Integer(299), Reply::Integer(300))
    );
    hash_of(&mut bench, "large", 10_001);
    let refused = bench.apply(&copy("large", "too large"));
    assert_eq!(refused, Reply::Refused(Refusal::TooManyElements));
    assert_eq!(count(&bench, "too large"), Reply::Integer(0));
    check_rows(&bench.engine);
}

#[test]
fn a_scan_of_fields_misses_none_that_stays() {
    let mut bench = Bench::new();
    hash_of(&mut bench, "key", 1_000);
    let (mut seen, mut cursor, mut steps) = (BTreeSet::new(), 0, 0);
    loop {
        let step = Query::HashStep { key: "key".into(), cursor, count: 7, pattern: None };
        let Reply::Values(values) = bench.ask(&step) else { panic!("no values") };
        let next = std::str::from_utf8(values[0].as_ref().unwrap()).unwrap().parse().unwrap();
        seen.extend(values[1..].chunks_exact(2).map(|pair| pair[0].clone().unwrap()));
        // What comes and goes meanwhile hides nothing.
        let passing = Bytes::from(format!("passing {steps}"));
        let pairs = vec![(passing.clone(), Bytes::new())];
        let key: Bytes = "key".into();
        bench.apply(&Command::HashSet { key: key.clone(), pairs, condition: Condition::Always });
        bench.apply(&Command::HashDelete { key, fields: vec![passing] });
        steps += 1;
        if next == 0 {
            break;
        }
        cursor = next;
    }
    assert!(steps > 100, "{steps} steps");
    assert!((0..1_000).all(|n| seen.contains(format!("field {n}").as_bytes())));
}

#[test]
fn rows_of_elements_keep_their_bytes() {
    let owner = Owner { state: 1, elements: 2 };
    assert_eq!(hex(&owner.dropped()), "000000010000000000000002");
    let row = owner.row(b"ab");
    assert_eq!(hex(&row[..12]), "000000010000000000000002");
    assert_eq!(&row[20..], b"ab");
    assert_eq!(Owner::of(&row), Some(owner));
}

#[test]
fn popped_members_are_distinct_and_the_same_everywhere() {
    let (mut one, mut other) = (Bench::new(), Bench::new());
    let members: Vec<Bytes> = (0..500).map(|n| format!("member {n}").into()).collect();
    let mut popped = BTreeSet::new();
    for bench in [&mut one, &mut other] {
        bench.apply(&Command::SetAdd { key: "set".into(), members: members.clone() });
    }
    for seed in [0, 7, u64::MAX, 1 << 63, 12_345] {
        let pop = Command::SetPop { key: "set".into(), count: 120, seed };
        let Reply::Values(values) = one.apply(&pop) else { panic!("no members") };
        assert_eq!(other.apply(&pop), Reply::Values(values.clone()));
        let before = popped.len();
        popped.extend(values.iter().flatten().cloned());
        assert_eq!(popped.len() - before, values.len(), "none comes twice");
    }
    assert_eq!(popped.len(), 500, "all were popped in the end");
    assert_eq!(one.count(), 0);
    one.sweep();
    assert_eq!(one.rows(ELEMENTS), []);
}

#[test]
fn members_that_are_shown_are_distinct_or_drawn_one_by_one() {
    let mut bench = Bench::new();
    let members: Vec<Bytes> = (0..50).map(|n| format!("member {n}").into()).collect();
    bench.apply(&Command::SetAdd { key: "set".into(), members });
    for (count, again, expected) in [(10, false, 10), (100, false, 50), (100, true, 100)] {
        let ask = Query::SetSample { key: "set".into(), count, again, seed: 99 };
        let Reply::Values(values) = bench.ask(&ask) else { panic!("no members") };
        assert_eq!(values.len(), expected);
        let distinct: BTreeSet<_> = values.iter().flatten().collect();
        assert!(again || distinct.len() == expected, "{count}: {}", distinct.len());
        assert!(distinct.len() > 5);
    }
}

#[test]
fn a_list_is_popped_trimmed_copied_and_dropped_without_leaving_rows() {
    let mut bench = Bench::new();
    let key = || Bytes::from("list");
    let push = |bench: &mut Bench, end, from: u64, to: u64| {
        let values = (from..to).map(|n| Bytes::from(n.to_string())).collect();
        bench.apply(&Command::ListPush { key: key(), end, values, only_existing: false })
    };
    let range = |bench: &Bench, name: &'static str| {
        let query = Query::ListRange { key: name.into(), start: 0, stop: -1 };
        let Reply::Values(values) = bench.ask(&query) else { panic!("no list") };
        values
            .into_iter()
            .map(|value| String::from_utf8(value.unwrap().to_vec()).unwrap())
            .collect()
    };
    assert_eq!(push(&mut bench, End::Back, 0, 5), Reply::Integer(5));
    assert_eq!(push(&mut bench, End::Front, 5, 8), Reply::Integer(8));
    let all: Vec<String> = range(&bench, "list");
    assert_eq!(all, ["7", "6", "5", "0", "1", "2", "3", "4"]);
    assert_eq!(bench.rows(ELEMENTS).len(), 8);
    let copy = Command::Copy { from: key(), to: "copy".into(), condition: Condition::Always };
    assert_eq!(bench.apply(&copy), Reply::Integer(1));
    let copied: Vec<String> = range(&bench, "copy");
    assert_eq!(copied, all, "positions stay");
    bench.apply(&Command::ListTrim { key: key(), start: 2, stop: 4 });
    assert_eq!(bench.rows(ELEMENTS).len(), 3 + 8);
    bench.apply(&Command::ListRemove { key: key(), count: 0, value: "0".into() });
    let left: Vec<String> = range(&bench, "list");
    assert_eq!(left, ["5", "1"]);
    let popped = bench.apply(&Command::ListPop { key: key(), end: End::Back, count: 9 });
    assert_eq!(popped, Reply::Values(vec![Some("1".into()), Some("5".into())]));
    assert_eq!(bench.ask(&Query::ListLength { key: key() }), Reply::Integer(0));
    bench.apply(&Command::Delete { keys: vec!["copy".into()] });
    bench.sweep();
    assert_eq!(bench.rows(ELEMENTS), []);
    check_rows(&bench.engine);
}

fn sorted_of(bench: &mut Bench, key: &str, members: usize) {
    for first in (0..members).step_by(100) {
        let pairs = (first..members.min(first + 100)).map(|n| {
            let score = Score::new((n % 17) as f64 - 8.0).expect("a number");
            (score, Bytes::from(format!("member {n}")))
        });
        let (key, pairs) = (key.to_owned().into(), pairs.collect());
        bench.apply(&Command::SortedAdd { key, pairs, rules: Rules::default() });
    }
}

fn sorted_count(bench: &Bench, key: &str) -> Reply {
    bench.ask(&Query::SortedCount { key: key.to_owned().into() })
}

/// A member has two rows, and both of all of them go, whatever ends the set.
#[test]
fn a_sorted_set_leaves_neither_members_nor_scores_behind() {
    for end in ["delete", "overwrite", "rename", "empty", "pop", "expire", "flush"] {
        let mut bench = Bench::new();
        sorted_of(&mut bench, "large", 1_200);
        assert_eq!(sorted_count(&bench, "large"), Reply::Integer(1_200));
        assert_eq!(bench.rows(ELEMENTS).len(), 2_400, "{end}");
        // Scores that change leave no row of the former score.
        sorted_of(&mut bench, "large", 10);
        let by = Score::new(3.5).expect("a number");
        let (key, member) = ("large".into(), "member 3".into());
        bench.apply(&Command::SortedIncrement { key, member, by, rules: Rules::default() });
        assert_eq!(bench.rows(ELEMENTS).len(), 2_400, "{end}");
        match end {
            "delete" => drop_key(&mut bench),
            "overwrite" => bench.set("large", "text"),
            "rename" => {
                bench.set("other", "text");
                let (from, to) = ("other".into(), "large".into());
                bench.apply(&Command::Rename { from, to, condition: Condition::Always });
            }
            "empty" => {
                let (key, span) = ("large".into(), Span::Ranks(0, -1));
                bench.apply(&Command::SortedRemoveSpan { key, span });
                assert_eq!(bench.ask(&Query::Count), Reply::Integer(0));
            }
            "pop" => {
                for end in [End::Front, End::Back] {
                    bench.apply(&Command::SortedPop { key: "large".into(), end, count: 600 });
                }
                assert_eq!(bench.ask(&Query::Count), Reply::Integer(0));
            }
            "expire" => {
                let (at, condition) = (Moment::After(5), ExpireCondition::Always);
                bench.apply(&Command::Expire { key: "large".into(), at, condition });
                bench.pass(10);
            }
            _ => assert_eq!(bench.apply(&Command::Flush), Reply::Done),
        }
        bench.sweep();
        assert_eq!(bench.rows(ELEMENTS), [], "{end}");
        assert_eq!(bench.rows(DROPPED), [], "{end}");
        check_rows(&bench.engine);
    }
}

#[test]
fn a_copy_of_a_sorted_set_has_members_and_scores_of_its_own() {
    let mut bench = Bench::new();
    sorted_of(&mut bench, "one", 200);
    let (from, to) = (Bytes::from("one"), Bytes::from("two"));
    bench.apply(&Command::Copy { from, to, condition: Condition::IfAbsent });
    let span = Span::Scores(Bound::Unbounded, Bound::Excluded(Score::new(0.0).expect("a number")));
    bench.apply(&Command::SortedRemoveSpan { key: "one".into(), span });
    assert_ne!(sorted_count(&bench, "one"), Reply::Integer(200));
    assert_eq!(sorted_count(&bench, "two"), Reply::Integer(200));
    drop_key(&mut bench);
    bench.apply(&Command::Delete { keys: keys(&["one", "two"]) });
    bench.sweep();
    assert_eq!(bench.rows(ELEMENTS), []);
    check_rows(&bench.engine);
}
