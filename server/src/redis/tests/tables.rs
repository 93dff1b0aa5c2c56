//! What commands answer and leave behind, beyond what the comparison with Redis shows.

use super::*;

#[test]
fn a_deadline_is_counted_from_the_stamp_and_is_absence_when_it_is_reached() {
    let mut bench = Bench::new();
    bench.apply(&set("k", "v", Lifetime::Until(Moment::After(100))));
    let until = bench.stamp.clock.millis() + 100;
    assert_eq!(bench.ask(&Query::Deadline { key: "k".into() }), Reply::Integer(until as i64));
    assert_eq!(bench.ask(&Query::Remaining { key: "k".into() }), Reply::Integer(100));
    bench.pass(99);
    assert_eq!(bench.get("k").as_deref(), Some("v"));
    assert_eq!(bench.ask(&Query::Remaining { key: "k".into() }), Reply::Integer(1));
    bench.pass(1);
    assert_eq!(bench.get("k"), None);
    assert_eq!(bench.ask(&Query::Remaining { key: "k".into() }), Reply::Integer(-2));
    assert_eq!(bench.count(), 1, "the key was not swept yet");
    assert_eq!(bench.sweep(), 1);
    assert_eq!(bench.count(), 0);
    assert!(bench.rows(KEYS).is_empty() && bench.rows(EXPIRY).is_empty());
}

#[test]
fn a_remaining_time_is_counted_from_the_best_known_clock() {
    let mut bench = Bench::new();
    bench.apply(&set("k", "v", Lifetime::Until(Moment::At(10_000))));
    let remaining = |now| {
        let cut = Cut::open(&bench.engine, bench.stamp.clock, Hlc::new(now, 0)).unwrap();
        cut.answer(&Query::Remaining { key: "k".into() }).unwrap()
    };
    assert_eq!(remaining(4_000), Reply::Integer(6_000));
    assert_eq!(remaining(11_000), Reply::Integer(0), "not gone before the clock says so");
}

#[test]
fn a_due_key_that_is_written_again_is_a_new_one() {
    let mut bench = Bench::new();
    for command in [
        Command::Append { key: "k".into(), value: "b".into() },
        Command::Increment { key: "k".into(), by: 2 },
        set("k", "c", Lifetime::Keep),
    ] {
        bench.apply(&set("k", "7", Lifetime::Until(Moment::After(5))));
        bench.pass(5);
        bench.apply(&command);
        let deadline = bench.ask(&Query::Deadline { key: "k".into() });
        assert_eq!(deadline, Reply::Integer(-1), "{command:?} brought the deadline back");
        assert_ne!(bench.get("k").as_deref(), Some("7b"), "{command:?}");
        check_rows(&bench.engine);
        assert_eq!((bench.count(), bench.sweep()), (1, 0));
    }
}

#[test]
fn a_flush_takes_no_time_and_what_it_leaves_is_swept_in_pieces() {
    let mut bench = Bench::new();
    for number in 0..2_500 {
        let lifetime = Lifetime::Until(Moment::After(1_000_000));
        bench.apply(&set(&number.to_string(), "old", lifetime));
    }
    let mut draft = Draft::new(&bench.engine);
    Redis.apply(&mut draft, &Command::Flush, bench.stamp).unwrap();
    assert!(draft.changed_bytes() < 100, "a flush writes the ledger only");
    assert_eq!(bench.apply(&Command::Flush), Reply::Done);
    assert_eq!((bench.count(), bench.get("1")), (0, None));
    bench.set("1", "new");
    let due = Redis.due(&bench.engine, Hlc::ZERO, 1).unwrap();
    assert_eq!(due, [Command::Sweep { limit: MAX_SWEEP }], "at any time");
    let before = bench.rows(KEYS).len();
    bench.apply(&due[0]);
    assert_eq!(before - bench.rows(KEYS).len(), MAX_SWEEP as usize);
    assert_eq!(bench.apply(&Command::Flush), Reply::Done);
    bench.set("2", "newer");
    assert!((4..=7).contains(&bench.sweep()), "bounded pieces");
    assert_eq!((bench.rows(KEYS).len(), bench.rows(EXPIRY).len()), (1, 0));
    assert_eq!((bench.count(), bench.get("2").as_deref()), (1, Some("newer")));
    check_rows(&bench.engine);
}

#[test]
fn flushing_nothing_begins_nothing() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(&Command::Flush), Reply::Done);
    assert!(bench.rows(LEDGER).is_empty());
    assert_eq!(bench.sweep(), 0);
}

/// Types to come have records already: nothing that is for strings may touch them.
#[test]
fn strings_commands_refuse_other_types() {
    let mut bench = Bench::new();
    bench.set("there", "1");
    let elements = Some(Elements { generation: 9, count: 3 });
    let revision = leader::key_value::Revision { index: 1, sub: 0 };
    let record =
        Record { kind: Kind::Hash, revision, deadline: None, elements, value: Bytes::new() };
    let plant = |bench: &Bench| {
        let mut batch = common::storage::engine::Batch::new();
        batch.put(KEYS, key_row(0, b"hash"), record.encode());
        bench.engine.write(batch).unwrap();
    };
    plant(&bench);
    let key = || Bytes::from("hash");
    let get_and_set = Command::Set {
        key: key(),
        value: "v".into(),
        condition: Condition::Always,
        lifetime: Lifetime::Clear,
        answer: Answer::Previous,
    };
    for command in [
        get_and_set,
        Command::GetDelete { key: key() },
        Command::GetExpire { key: key(), lifetime: Lifetime::Clear },
        Command::Append { key: key(), value: "v".into() },
        Command::SetRange { key: key(), offset: 0, value: "v".into() },
        Command::SetRange { key: key(), offset: 0, value: Bytes::new() },
        Command::Increment { key: key(), by: 1 },
        Command::IncrementFloat { key: key(), by: "x".into() },
        Command::Query(Query::Get { key: key() }),
        Command::Query(Query::Length { key: key() }),
        Command::Query(Query::Range { key: key(), start: 0, end: 1 }),
    ] {
        assert_eq!(bench.apply(&command), Reply::Refused(Refusal::WrongType), "{command:?}");
    }
    for (query, expected) in [
        (
            Query::GetMany { keys: keys(&["hash", "there"]) },
            Reply::Values(vec![None, Some("1".into())]),
        ),
        (Query::Kind { key: key() }, Reply::Kind(Some(Kind::Hash))),
        (Query::Exists { keys: keys(&["hash"]) }, Reply::Integer(1)),
    ] {
        assert_eq!(bench.ask(&query), expected);
    }
    // What is for keys of any type takes it as a whole.
    let at = Moment::After(1_000);
    let condition = ExpireCondition::Always;
    assert_eq!(bench.apply(&Command::Expire { key: key(), at, condition }), Reply::Integer(1));
    let (from, to) = (key(), "other".into());
    bench.apply(&Command::Rename { from, to, condition: Condition::Always });
    let moved = Cut::open(&bench.engine, Hlc::ZERO, Hlc::ZERO).unwrap().get(b"other").unwrap();
    let moved = moved.expect("it has another name");
    assert_eq!((moved.kind, moved.elements), (Kind::Hash, elements));
    assert!(moved.deadline.is_some());
    plant(&bench);
    assert_eq!(
        bench.apply(&set("hash", "v", Lifetime::Clear)),
        Reply::Done,
        "SET replaces any type"
    );
    assert_eq!(bench.get("hash").as_deref(), Some("v"));
}

#[test]
fn what_is_too_large_is_refused_before_it_is_proposed_and_again_when_applied() {
    let long = Bytes::from(vec![b'k'; MAX_KEY_BYTES + 1]);
    let large = Bytes::from(vec![b'v'; MAX_VALUE_BYTES + 1]);
    let mut bench = Bench::new();
    let command =
        |key: &Bytes, value: &Bytes| Command::Append { key: key.clone(), value: value.clone() };
    for (command, expected) in [
        (
            command(&long, &"v".into()),
            "a key of 64001 bytes is over the limit of 64000; shorten it",
        ),
        (
            command(&"k".into(), &large),
            "a value of 16777217 bytes is over the limit of 16777216; split it",
        ),
        (
            Command::Rename { from: "k".into(), to: long.clone(), condition: Condition::Always },
            "a key of 64001 bytes is over the limit of 64000; shorten it",
        ),
    ] {
        assert_eq!(Redis.admit(&command).unwrap_err().reason, expected);
        assert_eq!(bench.apply(&command), Reply::Refused(Refusal::Inadmissible));
    }
    // The longest fit, and one that is longer is merely not there.
    let longest = long.slice(..MAX_KEY_BYTES);
    let lifetime = Lifetime::Until(Moment::After(1_000));
    let text = String::from_utf8(longest.to_vec()).unwrap();
    assert_eq!(bench.apply(&set(&text, "v", lifetime)), Reply::Done);
    assert_eq!(bench.ask(&Query::Exists { keys: vec![long.clone(), longest] }), Reply::Integer(1));
    assert_eq!(bench.apply(&Command::Delete { keys: vec![long] }), Reply::Integer(0));
    // A value cannot grow beyond the limit either, and is left as it was.
    bench.set("g", "ab");
    let offset = MAX_VALUE_BYTES as u64;
    for (offset, reply) in [
        (offset - 1, Reply::Integer(offset as i64)),
        (offset, Reply::Refused(Refusal::TooLong)),
        (u64::MAX, Reply::Refused(Refusal::TooLong)),
    ] {
        let command = Command::SetRange { key: "g".into(), offset, value: "x".into() };
        assert_eq!(bench.apply(&command), reply);
    }
    let grow = Command::Append { key: "g".into(), value: "x".into() };
    assert_eq!(bench.apply(&grow), Reply::Refused(Refusal::TooLong));
    assert_eq!(bench.ask(&Query::Length { key: "g".into() }), Reply::Integer(offset as i64));
}

#[test]
fn a_reply_of_many_large_values_is_refused() {
    let mut bench = Bench::new();
    bench.set("large", &"x".repeat(MAX_VALUE_BYTES));
    let ask = |count| bench.ask(&Query::GetMany { keys: vec!["large".into(); count] });
    assert!(matches!(ask(4), Reply::Values(values) if values.len() == 4));
    assert_eq!(ask(5), Reply::Refused(Refusal::ReplyTooLong));
}

#[test]
fn what_shrinks_passes_a_full_disk() {
    let key = || Bytes::from("k");
    for (command, expected) in [
        (Command::Delete { keys: vec![key()] }, true),
        (Command::GetDelete { key: key() }, true),
        (Command::Flush, true),
        (Command::Sweep { limit: 1 }, true),
        (Command::Query(Query::Count), true),
        (set("k", "v", Lifetime::Clear), false),
        (Command::Append { key: key(), value: key() }, false),
        (Command::Rename { from: key(), to: key(), condition: Condition::Always }, false),
    ] {
        assert_eq!(Redis.shrinks(&command), expected, "{command:?}");
    }
}
