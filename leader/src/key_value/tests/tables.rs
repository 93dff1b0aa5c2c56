use std::time::Duration;

use bytes::Bytes;
use common::storage::engine::{KeyRange, PageLimit};

use super::super::{
    Compare, Condition, DATA, Deadline, EXPIRY, MAX_DELETED_KEYS, MAX_KEY_BYTES, MAX_OPERATIONS,
    MAX_SWEEP, MAX_VALUE_BYTES, Refusal, Target,
};
use super::*;
use common::storage::engine::Read;

const PAGE: PageLimit = PageLimit { items: 100, bytes: 1 << 20 };

fn put_until(key: &'static str, deadline: Deadline) -> Operation {
    let (key, value) = (Bytes::from(key), Bytes::from("v"));
    Operation::Put { key, value, condition: Condition::Always, deadline }
}

fn rows(bench: &Bench) -> usize {
    bench.engine.scan(EXPIRY, &KeyRange::all(), PAGE).unwrap().items.len()
}

#[test]
fn a_put_takes_place_only_when_its_condition_holds() {
    let table = [
        // condition, on an absent key, on a key that holds "old" since revision 1
        (Condition::Always, true, true),
        (Condition::IfAbsent, true, false),
        (Condition::IfPresent, false, true),
        (Condition::IfRevision(revision(1)), false, true),
        (Condition::IfRevision(revision(2)), false, false),
        (Condition::IfRevision(Revision { index: 1, sub: 1 }), false, false),
        (Condition::IfValue("old".into()), false, true),
        (Condition::IfValue("other".into()), false, false),
    ];
    for (condition, absent, present) in table {
        for (there, expected) in [(false, absent), (true, present)] {
            let mut bench = Bench::new();
            if there {
                bench.one(put("k", "old"));
            } else {
                bench.one(put("other", "x"));
            }
            let before = bench.get("k");
            let answer = bench.one(Command::put_if("k", "new", condition.clone()));
            if expected {
                let stored = Answer::Stored { revision: revision(2), previous: before };
                assert_eq!(answer, stored, "{condition:?}");
                assert_eq!(bench.value("k").as_deref(), Some("new"));
            } else {
                assert_eq!(answer, Answer::NotStored { current: before.clone() }, "{condition:?}");
                assert_eq!(bench.get("k"), before);
            }
        }
    }
}

#[test]
fn commands_of_one_entry_make_different_revisions() {
    let mut bench = Bench::new();
    bench.one(put("k", "first"));
    let seen = bench.get("k").unwrap().revision;
    bench.stamp.index -= 1;
    bench.stamp.sub = 1;
    bench.one(put("k", "second"));
    let answer = bench.one(Command::put_if("k", "third", Condition::IfRevision(seen)));
    assert!(matches!(answer, Answer::NotStored { .. }), "a change in the same entry is seen");
}

#[test]
fn a_counter_counts_or_refuses_without_effect() {
    let table = [
        // what is there, by, sum or refusal
        (None, 5, Ok(5)),
        (Some("7"), -9, Ok(-2)),
        (Some("9223372036854775806"), 1, Ok(i64::MAX)),
        (Some("9223372036854775807"), 1, Err(Refusal::Overflow)),
        (Some("-9223372036854775808"), -1, Err(Refusal::Overflow)),
        (Some("9223372036854775808"), 0, Err(Refusal::NotANumber)),
        (Some("text"), 1, Err(Refusal::NotANumber)),
        (Some(""), 1, Err(Refusal::NotANumber)),
        (Some(" 1"), 1, Err(Refusal::NotANumber)),
        (Some("+1"), 1, Err(Refusal::NotANumber)),
        (Some("-0"), 1, Err(Refusal::NotANumber)),
        (Some("01"), 1, Err(Refusal::NotANumber)),
    ];
    for (there, by, expected) in table {
        let mut bench = Bench::new();
        match there {
            Some(value) => bench.one(put("n", value)),
            None => bench.one(put("other", "x")),
        };
        let before = bench.get("n");
        let previous = before.as_ref().map(|r| r.revision);
        let answer = bench.one(Command::increment("n", by));
        match expected {
            Ok(value) => {
                assert_eq!(answer, Answer::Counted { value, revision: revision(2), previous });
                assert_eq!(bench.value("n"), Some(value.to_string()));
            }
            Err(refusal) => {
                assert_eq!(answer, Answer::Refused(refusal), "{there:?} by {by}");
                assert_eq!(bench.get("n"), before);
            }
        }
    }
}

#[test]
fn append_grows_a_value_up_to_the_limit() {
    let mut bench = Bench::new();
    let answer = bench.one(Command::append("k", "ab"));
    assert_eq!(answer, Answer::Appended { length: 2, revision: revision(1), previous: None });
    bench.one(Command::append("k", "cd"));
    assert_eq!(bench.value("k").as_deref(), Some("abcd"));
    let rest = vec![b'x'; MAX_VALUE_BYTES - 4];
    bench.one(Command::append("k", rest));
    let full = bench.get("k");
    assert_eq!(bench.one(Command::append("k", "y")), Answer::Refused(Refusal::TooLarge));
    assert_eq!(bench.get("k"), full);
}

#[test]
fn a_delete_names_what_it_removed() {
    let mut bench = Bench::new();
    bench.one(put("a", "1"));
    bench.one(put_until("b", Deadline::After(Duration::from_secs(1))));
    let keys = ["b", "missing", "a", "a"].map(Bytes::from).to_vec();
    let removed = vec![Some(revision(2)), None, Some(revision(1)), None];
    assert_eq!(bench.one(Operation::Delete { keys }), Answer::Deleted { removed });
    assert_eq!((bench.get("a"), bench.get("b"), rows(&bench)), (None, None, 0));
}

#[test]
fn a_key_is_absent_from_its_deadline_on() {
    let mut bench = Bench::new();
    bench.one(put_until("k", Deadline::After(Duration::from_millis(10))));
    let deadline = bench.get("k").unwrap().deadline.unwrap();
    assert_eq!(deadline, Hlc::new(bench.stamp.clock.millis() + 10, 0));
    bench.pass(9);
    assert!(bench.get("k").is_some(), "one millisecond early");
    bench.pass(1);
    assert_eq!(bench.get("k"), None, "at the deadline, swept or not");

    // Commands see it as absent too, and what they store does not inherit its deadline.
    assert_eq!(bench.one(Operation::get("k")), Answer::Got(None));
    let answer = bench.one(Command::put_if("k", "new", Condition::IfPresent));
    assert_eq!(answer, Answer::NotStored { current: None });
    assert_eq!(bench.one(Operation::delete("k")), Answer::Deleted { removed: vec![None] });
    bench.one(put_until("n", Deadline::After(Duration::from_millis(5))));
    bench.pass(5);
    let answer = bench.one(Command::increment("n", 1));
    assert!(matches!(answer, Answer::Counted { value: 1, previous: None, .. }), "{answer:?}");
    assert_eq!(bench.get("n").unwrap().deadline, None);
    assert_eq!(rows(&bench), 0, "no row outlives its deadline's record");
}

#[test]
fn a_put_keeps_clears_or_sets_the_deadline() {
    let at = Hlc::new(9_000, 3);
    let table = [
        (Deadline::Keep, Some(Hlc::new(5_000, 0))),
        (Deadline::Clear, None),
        (Deadline::At(at), Some(at)),
        (Deadline::After(Duration::from_nanos(1)), Some(Hlc::new(1_003, 0))),
        (Deadline::After(Duration::MAX), Some(Hlc::new((1 << 48) - 1, 0))),
    ];
    for (deadline, expected) in table {
        let mut bench = Bench::new();
        bench.one(put_until("k", Deadline::At(Hlc::new(5_000, 0))));
        bench.one(put_until("k", deadline));
        assert_eq!(bench.get("k").unwrap().deadline, expected, "{deadline:?}");
        assert_eq!(rows(&bench), usize::from(expected.is_some()), "{deadline:?}");
    }
}

#[test]
fn counting_and_appending_keep_the_deadline() {
    let mut bench = Bench::new();
    let at = Hlc::new(5_000, 0);
    let number = Operation::Put {
        key: "n".into(),
        value: "1".into(),
        condition: Condition::Always,
        deadline: Deadline::At(at),
    };
    bench.one(number);
    bench.one(Command::increment("n", 1));
    bench.one(Command::append("n", "0"));
    let record = bench.get("n").unwrap();
    assert_eq!((record.value, record.deadline), ("20".into(), Some(at)));
}

#[test]
fn a_sweep_is_due_until_nothing_is_and_takes_only_what_is_due() {
    let mut bench = Bench::new();
    let many = MAX_SWEEP as usize + 500;
    for number in 0..many {
        let key = Bytes::from(format!("{number:05}"));
        let (value, condition) = (Bytes::new(), Condition::Always);
        let deadline = Deadline::At(Hlc::new(100_000, 0));
        bench.one(Operation::Put { key, value, condition, deadline });
    }
    bench.one(put_until("later", Deadline::At(Hlc::new(200_000, 0))));
    let due = |bench: &Bench| KeyValue.due(&bench.engine, bench.stamp.clock, 10).unwrap();
    assert_eq!(due(&bench), []);
    bench.pass(100_000 - bench.stamp.clock.millis());
    assert_eq!(KeyValue.due(&bench.engine, bench.stamp.clock, 0).unwrap(), []);
    let mut removed = Vec::new();
    while let Some(sweep) = due(&bench).pop() {
        removed.push(bench.apply(&sweep));
    }
    assert_eq!(removed, [Reply::Swept { keys: MAX_SWEEP }, Reply::Swept { keys: 500 }]);
    assert!(bench.get("later").is_some());
    assert_eq!(rows(&bench), 1);
    assert_eq!(bench.engine.scan(DATA, &KeyRange::all(), PAGE).unwrap().items.len(), 1);
}

#[test]
fn a_sweep_from_a_client_removes_nothing_that_is_not_due() {
    let mut bench = Bench::new();
    bench.one(put_until("k", Deadline::At(Hlc::new(100_000, 0))));
    assert_eq!(bench.apply(&Command::Sweep { limit: u32::MAX }), Reply::Swept { keys: 0 });
    assert!(bench.get("k").is_some());
}

#[test]
fn a_transaction_takes_the_branch_that_its_comparisons_choose() {
    let table = [
        (vec![], true),
        (vec![("a", Target::Present), ("b", Target::Absent)], true),
        (vec![("a", Target::Absent)], false),
        (vec![("a", Target::Value("1".into())), ("a", Target::Revision(revision(1)))], true),
        (vec![("a", Target::Value("2".into()))], false),
        (vec![("a", Target::Revision(revision(9)))], false),
        (vec![("a", Target::Present), ("b", Target::Present)], false),
    ];
    for (compare, expected) in table {
        let mut bench = Bench::new();
        bench.one(put("a", "1"));
        let compare = compare
            .iter()
            .map(|(key, target)| Compare { key: Bytes::from(*key), target: target.clone() })
            .collect();
        let reply = bench.apply(&Command::Transaction {
            compare,
            then: vec![put("took", "then"), Operation::get("took")],
            or_else: vec![put("took", "else"), Operation::get("took")],
        });
        let took = if expected { "then" } else { "else" };
        let record = bench.get("took").expect("one branch was taken");
        assert_eq!(record.value, took);
        // The second operation read what the first one wrote.
        let stored = Answer::Stored { revision: revision(2), previous: None };
        let answers = vec![stored, Answer::Got(Some(record))];
        assert_eq!(reply, Reply::Transaction { matched: expected, answers });
    }
}

#[test]
fn a_refused_operation_undoes_the_whole_transaction() {
    let mut bench = Bench::new();
    bench.one(put("text", "x"));
    let before = KeyValue::digest(&bench.engine).unwrap();
    let reply = bench.apply(&Command::Transaction {
        compare: vec![],
        then: vec![
            put("a", "1"),
            Operation::delete("text"),
            put("text", "y"),
            Operation::Increment { key: "text".into(), by: 1 },
        ],
        or_else: vec![],
    });
    let refusal = Refusal::NotANumber;
    assert_eq!(reply, Reply::Aborted { matched: true, operation: 3, refusal });
    assert_eq!(KeyValue::digest(&bench.engine).unwrap(), before);
}

#[test]
fn a_scan_shows_what_is_present_and_always_leads_on() {
    let mut bench = Bench::new();
    for key in ["a", "b", "c", "d"] {
        bench.one(put_until(key, Deadline::At(Hlc::new(5_000, 0))));
    }
    bench.one(put("e", "1"));
    bench.one(put("f", "2"));
    bench.pass(10_000);
    let limit = PageLimit { items: 1, bytes: 1 << 20 };
    let page = KeyValue::scan(&bench.engine, bench.stamp.clock, &KeyRange::all(), limit).unwrap();
    assert_eq!((&page.items[0].0[..], page.items.len(), page.more), (&b"e"[..], 1, true));
    let rest = KeyRange::all().after("e");
    let page = KeyValue::scan(&bench.engine, bench.stamp.clock, &rest, limit).unwrap();
    assert_eq!((&page.items[0].0[..], page.more), (&b"f"[..], false));
}

#[test]
fn admission_refuses_what_no_member_could_store() {
    let long = Bytes::from(vec![b'k'; MAX_KEY_BYTES + 1]);
    let large = Bytes::from(vec![b'v'; MAX_VALUE_BYTES + 1]);
    let keys = vec![Bytes::from("k"); MAX_DELETED_KEYS + 1];
    let many = vec![Operation::get("k"); MAX_OPERATIONS + 1];
    let compare = Compare { key: "".into(), target: Target::Present };
    let refused: [Command; 8] = [
        Command::put("", "v"),
        Command::put(long, "v"),
        Command::put("k", large.clone()),
        Command::append("k", large.clone()),
        Command::put_if("k", "v", Condition::IfValue(large)),
        Operation::Delete { keys }.into(),
        Command::Transaction { compare: vec![], then: vec![], or_else: many },
        Command::Transaction { compare: vec![compare], then: vec![], or_else: vec![] },
    ];
    for command in refused {
        let refusal = KeyValue.admit(&command).unwrap_err();
        assert!(!refusal.reason.is_empty());
    }
    assert_eq!(KeyValue.admit(&Command::put("k", "")), Ok(()));
}

#[test]
fn only_what_shrinks_passes_on_a_full_disk() {
    let transaction = |then| Command::Transaction { compare: vec![], then, or_else: vec![] };
    let table = [
        (Command::delete("k"), true),
        (Command::Sweep { limit: 1 }, true),
        (transaction(vec![Operation::get("k"), Operation::delete("k")]), true),
        (transaction(vec![Operation::delete("k"), put("k", "v")]), false),
        (Command::put("k", "v"), false),
        (Command::increment("k", 1), false),
        (Command::append("k", "v"), false),
    ];
    for (command, shrinks) in table {
        assert_eq!(KeyValue.shrinks(&command), shrinks, "{command:?}");
    }
}
