//! The bytes of layout version 1, as they were when it was made.

use super::super::format::{Group, SegmentHeader};
use super::super::*;
use crate::golden;

/// Hand-made, so that only the format decides its bytes.
fn version_1() -> Vec<u8> {
    let header = SegmentHeader {
        number: 3,
        first: Lsn(1000),
        bytes: 512,
        salt: 0x0123_4567_89ab_cdef,
        chain: 0xfeed_beef,
    };
    let mut bytes = header.encode().to_vec();
    let mut group = Group::new(header, 48, header.chain, Lsn(1000), Lsn(999));
    group.push(b"");
    group.push(b"a record");
    group.push_void(3);
    group.push(b"another");
    let done = group.finish();
    bytes.extend_from_slice(&done.bytes);
    let mut group =
        Group::new(header, bytes.len() as u64, done.chain, done.next, Lsn(done.next.0 - 1));
    group.push_seal();
    bytes.extend_from_slice(&group.finish().bytes);
    bytes.resize(512, 0);
    bytes
}

const GOLDEN: &str = include_str!("../../../../golden/wal.v1.txt");

#[test]
fn the_bytes_of_version_1_stay_as_they_are() {
    golden::check(GOLDEN, &[("segment", version_1())]);
}

#[test]
fn version_1_is_read() {
    let inspected = inspect(&golden::read(GOLDEN)[0].1).unwrap();
    let record = |n, text: &'static str| (Lsn(n), Bytes::from(text));
    assert_eq!((inspected.segment, inspected.first, inspected.tail), (3, Lsn(1000), None));
    let expected = [record(1000, ""), record(1001, "a record"), record(1005, "another")];
    assert_eq!(inspected.records, expected);
}
