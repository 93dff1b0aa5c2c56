//! The reader of segments over any bytes: it never panics, and never makes records up.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::format::{Group, SegmentHeader};
use super::super::*;

/// The records of some groups.
type Groups = Vec<Vec<Vec<u8>>>;

fn groups() -> impl Strategy<Value = Groups> {
    vec(vec(vec(any::<u8>(), 0..100), 1..6), 0..6)
}

/// A whole segment of these groups, with where each begins.
fn segment(groups: &Groups) -> (Vec<u8>, Vec<usize>) {
    let mut header = SegmentHeader { number: 1, first: Lsn(1), bytes: 0, salt: 77, chain: 5 };
    let (mut chain, mut next, mut durable) = (header.chain, Lsn(1), Lsn(0));
    let mut bytes = header.encode().to_vec();
    let mut starts = Vec::new();
    for records in groups {
        starts.push(bytes.len());
        let mut group = Group::new(header, bytes.len() as u64, chain, next, durable);
        for record in records {
            group.push(record);
        }
        let done = group.finish();
        (chain, next) = (done.chain, done.next);
        durable = Lsn(next.0 - 1);
        bytes.extend_from_slice(&done.bytes);
    }
    bytes.resize(bytes.len() + 256, 0);
    header.bytes = bytes.len() as u64;
    bytes[..48].copy_from_slice(&header.encode());
    (bytes, starts)
}

fn records(groups: &[Vec<Vec<u8>>]) -> Vec<(Lsn, Bytes)> {
    let records = groups.iter().flatten().map(|record| Bytes::from(record.clone()));
    (1..).map(Lsn).zip(records).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = inspect(&bytes);
    }

    /// Behind a valid header, so that the frames are looked at.
    #[test]
    fn any_frames_are_read_without_a_panic(
        kind in prop::sample::select(vec![&b"recs"[..], b"void", b"seal"]),
        rest in vec(any::<u8>(), 0..300),
    ) {
        let header = SegmentHeader { number: 1, first: Lsn(1), bytes: 400, salt: 1, chain: 2 };
        let bytes = [&header.encode()[..], kind, &rest].concat();
        let found = inspect(&bytes).unwrap();
        prop_assert_eq!(found.records, []);
    }

    #[test]
    fn what_was_written_is_read(groups in groups()) {
        let found = inspect(&segment(&groups).0).unwrap();
        prop_assert_eq!(found.records, records(&groups));
        prop_assert_eq!(found.tail, None);
    }

    /// Whatever is overwritten, only whole groups before it, and frames of its own group, are read.
    #[test]
    fn damage_never_makes_records_up(
        groups in groups(),
        at in any::<prop::sample::Index>(),
        garbage in vec(any::<u8>(), 1..200),
    ) {
        let (mut bytes, starts) = segment(&groups);
        let at = at.index(bytes.len());
        let end = (at + garbage.len()).min(bytes.len());
        let changed = bytes[at..end] != garbage[..end - at];
        bytes[at..end].copy_from_slice(&garbage[..end - at]);
        let Ok(found) = inspect(&bytes) else {
            prop_assert!(at < 48);
            return Ok(());
        };
        let all = records(&groups);
        prop_assert_eq!(&found.records[..], &all[..found.records.len()]);
        let before = starts.iter().filter(|start| **start <= at).count().saturating_sub(1);
        prop_assert!(found.records.len() >= records(&groups[..before]).len() || !changed);
        // Damage in front of a whole later group is told from a torn write.
        let later = starts.iter().position(|start| *start >= end);
        if changed && at >= 48 && later.is_some_and(|n| n > 0) && found.records != all {
            prop_assert!(found.tail.unwrap().starts_with("damage"));
        }
    }

    /// A log that ends early never shows a record that it does not hold.
    #[test]
    fn a_shorter_segment_shows_a_prefix(groups in groups(), at in any::<prop::sample::Index>()) {
        let (bytes, _) = segment(&groups);
        let all = records(&groups);
        if let Ok(found) = inspect(&bytes[..at.index(bytes.len())]) {
            prop_assert_eq!(&found.records[..], &all[..found.records.len()]);
        }
    }
}

/// Inputs that were worth keeping: each says in its name what it is.
#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus is a folder of files")]
fn the_corpus_is_read_as_its_names_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/wal");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let found = inspect(&std::fs::read(&path).unwrap());
        let is = match &found {
            Err(_) => "refused",
            Ok(Inspected { tail: None, .. }) => "whole",
            Ok(Inspected { tail: Some(tail), .. }) if tail.starts_with("a torn") => "torn",
            Ok(_) => "damaged",
        };
        assert!(name.starts_with(is), "{name}: {found:?}");
        seen += 1;
    }
    assert!(seen >= 8, "{seen} files in {folder}");
}

/// Run with `--ignored` to make the corpus again; look at what changes.
#[test]
#[ignore = "writes the corpus"]
#[expect(clippy::disallowed_methods, reason = "a fixture is written")]
fn write_the_corpus() {
    let (whole, starts) = segment(&vec![vec![b"one".to_vec(), b"two".to_vec()]; 3]);
    let change = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let files: Vec<(&str, Vec<u8>)> = vec![
        ("whole", whole.clone()),
        ("whole-without-records", segment(&Vec::new()).0),
        ("refused-empty", Vec::new()),
        ("refused-header-cut", whole[..47].to_vec()),
        ("refused-header-flipped", change(9, b"\x01")),
        ("refused-other-magic", change(0, b"TLOG")),
        ("torn-last-group", change(starts[2] + 44, b"\xff\xff\xff\xff")),
        ("torn-length-of-4-GiB", change(starts[2] + 4, b"\xff\xff\xff\xff")),
        ("torn-garbage-behind", change(whole.len() - 9, b"garbage")),
        ("torn-frame-copied-behind", {
            let frame = whole[starts[1]..starts[2]].to_vec();
            change(whole.len() - 200, &frame)
        }),
        ("torn-file-cut-in-a-frame", whole[..starts[2] + 41].to_vec()),
        ("damaged-first-group", change(starts[0] + 44, b"\xff")),
        ("damaged-second-header", change(starts[1], b"void")),
        ("damaged-group-zeroed", change(starts[1], &[0; 40])),
    ];
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/wal");
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        std::fs::write(format!("{folder}/{name}"), bytes).unwrap();
    }
}
