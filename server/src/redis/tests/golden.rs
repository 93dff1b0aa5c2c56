//! Bytes that are on somebody's disk: they never change under version 1.

use std::ops::Bound;

use common::codec;
use common::storage::engine::EngineError;
use leader::key_value::Revision;
use proptest::prelude::*;

use super::super::rows::{first_row, hash, parse_row};
use super::super::sorted::{Part, Rules, Score, Span};
use super::*;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

const REVISION: Revision = Revision { index: 0x0102_0304_0506_0708, sub: 0x090a };

#[test]
fn records_keep_their_bytes() {
    let plain = Record {
        kind: Kind::String,
        revision: REVISION,
        deadline: None,
        elements: None,
        value: "hi".into(),
    };
    assert_eq!(hex(&plain.encode()), "01000008070605040302010a096869");
    let dated = Record { deadline: Some(0x1112_1314), ..plain.clone() };
    assert_eq!(hex(&dated.encode()), "01000108070605040302010a0914131211000000006869");
    let elements = Some(Elements { generation: 0x21, count: 0x22 });
    let hash = Record { kind: Kind::Hash, elements, value: Bytes::new(), ..dated };
    assert_eq!(
        hex(&hash.encode()),
        "01040308070605040302010a09141312110000000021000000000000002200000000000000"
    );
}

#[test]
fn rows_keep_their_bytes() {
    assert_eq!(hex(&key_row(1, b"key")), format!("00000001{:016x}6b6579", hash(b"key")));
    assert_eq!([hash(b""), hash(b"a"), hash(b"key:1")], HASHES);
    assert_eq!(hex(&deadline_row(2, 0x0102, b"k")), "0000000200000000000001026b");
    let ledger = Ledger { generation: 1, oldest: 2, count: 3, dated: 4, elements: 5 };
    let bytes = ledger.encode();
    assert_eq!(hex(&bytes), "010000000100000002000000000000000300000000000000040000000000000005");
    assert_eq!(Ledger::decode(bytes).unwrap(), ledger);
}

const HASHES: [u64; 3] =
    [12_647_979_467_419_382_060, 7_528_100_316_896_440_536, 15_986_977_024_638_252_798];

/// Commands are in the log: a member of the next release must read them.
#[test]
fn commands_keep_their_bytes() {
    let (k, v) = (|| Bytes::from("k"), || Bytes::from("v"));
    let one = Score::new(1.0).expect("a number");
    let table = [
        (
            Command::ListPush { key: k(), end: End::Back, values: vec![v()], only_existing: false },
            "1a016b0101017600",
        ),
        (Command::ListPop { key: k(), end: End::Front, count: 2 }, "1b016b0002"),
        (Command::ListSet { key: k(), index: "-1".into(), value: v() }, "1c016b022d310176"),
        (Command::ListTrim { key: k(), start: 0, stop: -2 }, "1d016b0003"),
        (Command::ListRemove { key: k(), count: -1, value: v() }, "1e016b010176"),
        (
            Command::ListInsert { key: k(), side: End::Front, pivot: v(), value: v() },
            "1f016b0001760176",
        ),
        (Command::ListMove { from: (k(), End::Front), to: (v(), End::Back) }, "20016b00017601"),
        (
            Command::Set {
                key: k(),
                value: v(),
                condition: Condition::IfAbsent,
                lifetime: Lifetime::Until(Moment::After(100)),
                answer: Answer::Previous,
            },
            "00016b0176010201c801",
        ),
        (set("k", "v", Lifetime::Clear), "00016b0176000000"),
        (set("k", "v", Lifetime::Keep), "00016b0176000100"),
        (Command::GetDelete { key: k() }, "01016b"),
        (Command::GetExpire { key: k(), lifetime: Lifetime::Clear }, "02016b00"),
        (
            Command::SetMany { pairs: vec![(k(), v())], condition: Condition::IfPresent },
            "0301016b017602",
        ),
        (Command::Append { key: k(), value: v() }, "04016b0176"),
        (Command::SetRange { key: k(), offset: 7, value: v() }, "05016b070176"),
        (Command::Increment { key: k(), by: -3 }, "06016b05"),
        (Command::IncrementFloat { key: k(), by: "1.5".into() }, "07016b03312e35"),
        (Command::Delete { keys: vec![k(), v()] }, "0802016b0176"),
        (
            Command::Expire {
                key: k(),
                at: Moment::At(1),
                condition: ExpireCondition::IfSomeAndLater,
            },
            "09016b000205",
        ),
        (Command::Persist { key: k() }, "0a016b"),
        (Command::Rename { from: k(), to: v(), condition: Condition::Always }, "0b016b017600"),
        (Command::Copy { from: k(), to: v(), condition: Condition::IfAbsent }, "0c016b017601"),
        (Command::Flush, "0d"),
        (Command::Sweep { limit: 1_000 }, "0efbe803"),
        (Command::Query(Query::Get { key: k() }), "0f00016b"),
        (Command::Query(Query::GetMany { keys: vec![k()] }), "0f0101016b"),
        (Command::Query(Query::Length { key: k() }), "0f02016b"),
        (Command::Query(Query::Range { key: k(), start: 1, end: -1 }), "0f03016b0201"),
        (Command::Query(Query::Exists { keys: vec![] }), "0f0400"),
        (Command::Query(Query::Kind { key: k() }), "0f05016b"),
        (Command::Query(Query::Remaining { key: k() }), "0f06016b"),
        (Command::Query(Query::Deadline { key: k() }), "0f07016b"),
        (Command::Query(Query::Count), "0f08"),
        (Command::Query(Query::HashGet { key: k(), fields: vec![v()] }), "0f09016b010176"),
        (Command::Query(Query::HashCount { key: k() }), "0f0a016b"),
        (Command::Query(Query::HashAll { key: k() }), "0f0b016b"),
        (
            Command::Query(Query::HashStep { key: k(), cursor: 5, count: 10, pattern: None }),
            "0f0c016b050a00",
        ),
        (
            Command::HashSet { key: k(), pairs: vec![(v(), v())], condition: Condition::IfAbsent },
            "11016b010176017601",
        ),
        (Command::SetAdd { key: k(), members: vec![v()] }, "15016b010176"),
        (Command::SetRemove { key: k(), members: vec![v()] }, "16016b010176"),
        (Command::SetMove { from: k(), to: v(), member: k() }, "17016b0176016b"),
        (Command::SetPop { key: k(), count: 2, seed: 3 }, "18016b0203"),
        (
            Command::SetStore { how: Combine::Difference, to: k(), keys: vec![v()] },
            "1902016b010176",
        ),
        (Command::Query(Query::SetHas { key: k(), members: vec![v()] }), "0f0d016b010176"),
        (Command::Query(Query::SetCount { key: k() }), "0f0e016b"),
        (
            Command::Query(Query::SetStep { key: k(), cursor: 5, count: 10, pattern: None }),
            "0f0f016b050a00",
        ),
        (
            Command::Query(Query::SetSample { key: k(), count: 2, again: true, seed: 3 }),
            "0f10016b020103",
        ),
        (
            Command::Query(Query::SetCombine { how: Combine::Union, keys: vec![k()] }),
            "0f110101016b",
        ),
        (Command::HashDelete { key: k(), fields: vec![v()] }, "12016b010176"),
        (Command::HashIncrement { key: k(), field: v(), by: 1 }, "13016b017602"),
        (Command::HashIncrementFloat { key: k(), field: v(), by: "1".into() }, "14016b01760131"),
        (
            Command::SortedAdd {
                key: k(),
                pairs: vec![(one, v())],
                rules: Rules { only_new: true, count_changed: true, ..Rules::default() },
            },
            "21016b01fd000000000000f03f01760100000001",
        ),
        (
            Command::SortedIncrement { key: k(), member: v(), by: one, rules: Rules::default() },
            "22016b0176fd000000000000f03f0000000000",
        ),
        (Command::SortedRemove { key: k(), members: vec![v()] }, "23016b010176"),
        (Command::SortedRemoveSpan { key: k(), span: Span::Ranks(0, -1) }, "24016b000001"),
        (
            Command::SortedRemoveSpan {
                key: k(),
                span: Span::Scores(Bound::Excluded(one), Bound::Unbounded),
            },
            "24016b0102fd000000000000f03f00",
        ),
        (
            Command::SortedRemoveSpan {
                key: k(),
                span: Span::Members(Bound::Included(v()), Bound::Unbounded),
            },
            "24016b0201017600",
        ),
        (Command::SortedPop { key: k(), end: End::Back, count: 2 }, "25016b0102"),
        (
            Command::PopFirst { keys: vec![k()], kind: Kind::List, end: End::Front, count: 2 },
            "2601016b010002",
        ),
        (Command::Query(Query::SortedCount { key: k() }), "0f16016b"),
        (Command::Query(Query::SortedScores { key: k(), members: vec![v()] }), "0f17016b010176"),
        (
            Command::Query(Query::SortedRank { key: k(), member: v(), reverse: true }),
            "0f18016b017601",
        ),
        (
            Command::Query(Query::SortedSpan {
                key: k(),
                span: Span::Ranks(1, -1),
                part: Part { reverse: true, offset: 2, count: -1 },
            }),
            "0f19016b000201010401",
        ),
        (
            Command::Query(Query::SortedStep { key: k(), cursor: 5, count: 10, pattern: None }),
            "0f1a016b050a00",
        ),
        (
            Command::Transaction {
                watched: vec![(k(), Some(Revision { index: 5, sub: 1 })), (v(), None)],
                steps: vec![step(&Command::Flush)],
            },
            "1002016b01050101760001010d",
        ),
    ];
    for (command, expected) in table {
        let bytes = codec::encode_body(&command);
        assert_eq!(hex(&bytes), expected, "{command:?}");
        assert_eq!(codec::decode_body::<Command>(&bytes).unwrap(), command);
    }
}

/// Replies travel from the leader to the node that was asked.
#[test]
fn replies_keep_their_bytes() {
    for (reply, expected) in [
        (Reply::Done, "00"),
        (Reply::NotDone, "01"),
        (Reply::Value(Some("v".into())), "02010176"),
        (Reply::Values(vec![None]), "030100"),
        (Reply::Integer(-1), "0401"),
        (Reply::Kind(Some(Kind::SortedSet)), "050103"),
        (Reply::Refused(Refusal::WrongType), "0600"),
        (Reply::Refused(Refusal::Inadmissible), "0608"),
        (Reply::Scores(vec![None, Score::new(1.0)]), "09020001fd000000000000f03f"),
        (
            Reply::Scored(vec![("m".into(), Score::new(-0.5).expect("a number"))]),
            "0a01016dfd000000000000e0bf",
        ),
        (Reply::Many(vec!["\u{0}".into()]), "07010100"),
    ] {
        let bytes = codec::encode_body(&reply);
        assert_eq!(hex(&bytes), expected, "{reply:?}");
        assert_eq!(codec::decode_body::<Reply>(&bytes).unwrap(), reply);
    }
}

#[test]
fn damaged_bytes_are_refused_by_name() {
    let whole = Record {
        kind: Kind::String,
        revision: REVISION,
        deadline: Some(1),
        elements: None,
        value: "v".into(),
    };
    let whole = whole.encode().to_vec();
    let with = |place: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[place] = byte;
        bytes
    };
    for (bytes, expected) in [
        (vec![], "too early"),
        (whole[..12].to_vec(), "too early"),
        (whole[..20].to_vec(), "too early"),
        (with(0, 2), "layout version 2"),
        (with(1, 5), "unknown type 5"),
        (with(2, 0x80), "do not fit"),
        (with(2, 3), "do not fit"),
        (with(1, 1), "do not fit"),
    ] {
        match Record::decode(b"key", bytes.into()) {
            Err(EngineError::Corrupt(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    for bytes in [&b""[..], &[2; 25], &[1; 24]] {
        assert!(matches!(
            Ledger::decode(Bytes::from(bytes.to_vec())),
            Err(EngineError::Corrupt(_))
        ));
    }
    assert!(matches!(parse_row(Bytes::from_static(&[0; 11])), Err(EngineError::Corrupt(_))));
}

proptest! {
    #[test]
    fn any_record_comes_back(
        value: Vec<u8>,
        index: u64,
        sub: u16,
        deadline in any::<Option<u64>>(),
        elements in any::<Option<(u64, u64)>>(),
    ) {
        let kind = if elements.is_some() { Kind::List } else { Kind::String };
        let elements = elements.map(|(generation, count)| Elements { generation, count });
        let revision = Revision { index, sub };
        let record = Record { kind, revision, deadline, elements, value: value.into() };
        prop_assert_eq!(Record::decode(b"k", record.encode()).unwrap(), record);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        let _ = Record::decode(b"k", bytes.clone().into());
        let _ = Ledger::decode(bytes.clone().into());
        let _ = parse_row(bytes.clone().into());
        let _ = codec::decode_body::<Command>(&bytes);
        let _ = codec::decode_body::<Reply>(&bytes);
    }

    #[test]
    fn rows_sort_by_number(a: u64, b: u64) {
        prop_assert_eq!(first_row(0, a).cmp(&first_row(0, b)), a.cmp(&b));
        prop_assert_eq!(parse_row(deadline_row(3, a, b"k")).unwrap(), (a, Bytes::from("k")));
    }
}
