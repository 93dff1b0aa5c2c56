//! Bytes that are on somebody's disk: they never change under version 1.

use bytes::Bytes;
use common::codec;
use common::storage::engine::EngineError;
use proptest::prelude::*;

use super::super::record::{deadline_row, parse_deadline_row};
use super::super::{Compare, Condition, Deadline, Target};
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

#[test]
fn records_keep_their_bytes() {
    let revision = Revision { index: 0x0102_0304_0506_0708, sub: 0x090a };
    let plain = Record { value: "hi".into(), revision, deadline: None };
    assert_eq!(hex(&plain.encode()), "010008070605040302010a096869");
    let deadline = Hlc::new(0x1112_1314_1516, 0x1718);
    let dated = Record { deadline: Some(deadline), ..plain };
    assert_eq!(hex(&dated.encode()), "010108070605040302010a0918171615141312116869");
    let row = deadline_row(deadline, b"key");
    assert_eq!(hex(&row), "11121314151617186b6579");
    assert_eq!(parse_deadline_row(row).unwrap(), (deadline, "key".into()));
}

/// Commands are in the log: a member of the next release must read them.
#[test]
fn commands_keep_their_bytes() {
    let everything = Command::Transaction {
        compare: vec![
            Compare { key: "a".into(), target: Target::Absent },
            Compare { key: "b".into(), target: Target::Present },
            Compare { key: "c".into(), target: Target::Revision(Revision { index: 7, sub: 1 }) },
            Compare { key: "d".into(), target: Target::Value("v".into()) },
        ],
        then: vec![
            Operation::get("e"),
            Operation::put("f", "1"),
            Operation::Delete { keys: vec!["g".into(), "h".into()] },
            Operation::Increment { key: "i".into(), by: -3 },
            Operation::Append { key: "j".into(), value: "2".into() },
        ],
        or_else: [
            (Condition::IfAbsent, Deadline::Keep),
            (Condition::IfPresent, Deadline::At(Hlc::new(1, 2))),
            (
                Condition::IfRevision(Revision { index: 1, sub: 0 }),
                Deadline::After(std::time::Duration::from_millis(1_500)),
            ),
            (Condition::IfValue("w".into()), Deadline::Clear),
        ]
        .map(|(condition, deadline)| Operation::Put {
            key: "k".into(),
            value: "3".into(),
            condition,
            deadline,
        })
        .to_vec(),
    };
    let table = [
        (Command::put("k", "v"), "0001016b01760001"),
        (Command::Sweep { limit: 1_000 }, "02fbe803"),
        (everything, EVERYTHING),
    ];
    for (command, expected) in table {
        let bytes = codec::encode_body(&command);
        assert_eq!(hex(&bytes), expected);
        assert_eq!(codec::decode_body::<Command>(&bytes).unwrap(), command);
    }
}

const EVERYTHING: &str = concat!(
    "01040161000162010163020701016403017605000165010166013100010202016701680301690504016a0132",
    "0401016b0133010001016b01330202fc0200010001016b01330301000301fc0065cd1d01016b013304017701",
);

#[test]
fn damaged_records_are_refused_by_name() {
    let whole = Record { value: "v".into(), revision: revision(1), deadline: Some(Hlc::ZERO) };
    let whole = whole.encode();
    let mut of_tomorrow = whole.to_vec();
    of_tomorrow[0] = 2;
    let mut flagged = whole.to_vec();
    flagged[1] |= 0x80;
    let table: [(&[u8], &str); 5] = [
        (b"", "too early"),
        (&whole[..11], "too early"),
        (&whole[..19], "too early"),
        (&of_tomorrow, "layout version 2"),
        (&flagged, "unknown flags"),
    ];
    for (bytes, expected) in table {
        match Record::decode(b"key", Bytes::copy_from_slice(bytes)) {
            Err(EngineError::Corrupt(text)) => assert!(text.contains(expected), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(
        value: Vec<u8>,
        index: u64,
        sub: u16,
        deadline in any::<Option<u64>>(),
    ) {
        let deadline = deadline.map(Hlc::from_bits);
        let record = Record { value: value.into(), revision: Revision { index, sub }, deadline };
        prop_assert_eq!(Record::decode(b"k", record.encode()).unwrap(), record);
    }

    #[test]
    fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
        let _ = Record::decode(b"k", bytes.clone().into());
        let _ = parse_deadline_row(bytes.clone().into());
        let _ = codec::decode_body::<Command>(&bytes);
    }

    #[test]
    fn rows_sort_by_deadline(a: u64, b: u64, one: Vec<u8>, other: Vec<u8>) {
        let rows = (deadline_row(Hlc::from_bits(a), &one), deadline_row(Hlc::from_bits(b), &other));
        prop_assert_eq!(rows.0.cmp(&rows.1), (a, one).cmp(&(b, other)));
    }
}
