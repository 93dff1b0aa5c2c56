//! Files that are whole, and every way in which they are not.

use common::codec;
use common::storage::engine::{Engine, MemoryEngine};
use proptest::prelude::*;

use super::*;
use crate::apply::{APPLIED, Applied, META, Pinned};
use crate::snapshot::keyspace;

const CLUSTER: ClusterId = ClusterId(7);

fn applied() -> Applied {
    Applied {
        at: Some(LogPos { term: 3, index: 90 }),
        cluster: Some(CLUSTER),
        ..Applied::default()
    }
}

fn backup(values: &[&str], chunk_bytes: usize) -> Vec<u8> {
    let engine = MemoryEngine::volatile();
    let mut batch = common::storage::engine::Batch::new();
    for (index, value) in values.iter().enumerate() {
        batch.put(keyspace("data").unwrap(), format!("key {index}"), value.to_string());
    }
    batch.put(META, APPLIED, applied().encode());
    engine.write(batch).unwrap();
    let (state, keyspaces) = (engine.snapshot().unwrap(), engine.keyspaces().unwrap());
    let at = applied().at.unwrap();
    let header = Header {
        taken_unix_millis: 1_700_000_000_000,
        node: NodeId(2),
        cluster: CLUSTER,
        cluster_name: "old".into(),
        epoch: Epoch(0),
        at,
        clock: Hlc::ZERO,
    };
    let source = Source::new(Pinned { state, keyspaces, at: applied() });
    let writing = Writing::new(header);
    let backup = Backup { writing, source, chunk_bytes, at, step: Step::Begin };
    backup.map(|piece| piece.unwrap().to_vec()).collect::<Vec<_>>().concat()
}

fn verify(file: &[u8]) -> Result<Summary, DamagedBackup> {
    let mut verifier = Verifier::new();
    for piece in file.chunks(37) {
        verifier.take(piece)?;
    }
    verifier.finish()
}

#[test]
fn a_whole_file_says_what_it_holds() {
    for chunk_bytes in [1, 16, 1 << 20] {
        let file = backup(&["a", "b", "c"], chunk_bytes);
        let summary = verify(&file).unwrap();
        assert_eq!((summary.at, summary.cluster), (LogPos { term: 3, index: 90 }, CLUSTER));
        assert_eq!(summary.state.items, 3, "the member's own row does not count");
        assert_eq!(summary.bytes, file.len() as u64);
        assert_eq!(summary.cluster_name, "old");
    }
    let hash = |values: &[&str]| verify(&backup(values, 64)).unwrap().state;
    assert_eq!(hash(&["a", "b"]), hash(&["a", "b"]));
    assert_ne!(hash(&["a", "b"]), hash(&["b", "a"]));
}

#[test]
fn a_damaged_or_incomplete_file_is_refused_and_says_why() {
    let whole = backup(&["some value", "another one"], 32);
    let header =
        |file: &[u8]| codec::HEADER + u32::from_le_bytes(file[6..10].try_into().unwrap()) as usize;
    let first = header(&whole);
    let second = first + header(&whole[first..]);
    let third = second + header(&whole[second..]);
    let swapped = [&whole[..first], &whole[second..third], &whole[first..second], &whole[third..]];
    let missing = [&whole[..first], &whole[second..]].concat();
    let twice = [&whole[..], &whole[..]].concat();
    let mut newer = whole.clone();
    newer[4] = 2;
    let cases: [(&str, Vec<u8>, &str); 10] = [
        ("nothing", Vec::new(), "not complete: it ends after 0 bytes"),
        ("half a header", whole[..9].to_vec(), "not complete"),
        ("no end", whole[..third].to_vec(), "not complete"),
        ("half of the end", whole[..whole.len() - 1].to_vec(), "not complete"),
        ("another file", b"PK\x03\x04 is not what we make".to_vec(), "not a TLbh"),
        ("a newer layout", newer, "layout version 2"),
        ("a chunk is missing", missing, "damaged"),
        ("two chunks changed places", swapped.concat(), "damaged"),
        ("it is there twice", twice, "bytes follow its end"),
        ("a byte more", [&whole[..], b"\n"].concat(), "bytes follow its end"),
    ];
    for (what, file, part) in cases {
        let error = verify(&file).unwrap_err().to_string();
        assert!(error.contains(part), "{what}: {error}");
    }
    for at in 0..whole.len() {
        assert!(verify(&whole[..at]).is_err(), "cut at {at}");
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(verify(&flipped).is_err(), "flipped at {at}");
    }
}

#[test]
fn the_format_of_version_1_stays() {
    let file = backup(&["v"], 1 << 20);
    let hex = file[..60].iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(&hex[..20], "544c6268010013000000", "magic, version, length");
    assert_eq!(&hex[28..66], "fd0068e5cf8b0100000207036f6c6400035a00", "its body");
    assert_eq!(&hex[66..78], "544c62630100", "then the first chunk");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(verify(&bytes).is_err());
        let mut behind = backup(&["v"], 64);
        behind.truncate(30);
        behind.extend(bytes);
        prop_assert!(verify(&behind).is_err());
    }
}
