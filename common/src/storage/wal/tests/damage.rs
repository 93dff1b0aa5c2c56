//! Damage at rest: refused or cut exactly as the module says, never skipped, never a panic.

use std::collections::BTreeMap;

use super::super::format::{FRAME_HEADER, FrameHeader, SEGMENT_HEADER, SegmentHeader};
use super::super::scan::scan;
use super::super::*;
use super::bench::*;
use crate::mark;
use crate::storage::disk::Open;
use crate::storage::disk::simulated::SimDisk;

/// All files under a log, by path.
pub(super) type Files = BTreeMap<String, Bytes>;

pub(super) async fn files(disk: &SimDisk) -> Files {
    let mount = mount(disk);
    let mut files = Files::new();
    for (path, length) in disk.files() {
        let file = mount.disk.open(&path, Open::Existing).await.unwrap();
        files.insert(path, file.read_at(0, length as usize).await.unwrap());
    }
    files
}

pub(super) fn segments(files: &Files) -> Files {
    let is_spare = |path: &str| path.contains("spare");
    files.iter().filter(|(p, _)| !is_spare(p)).map(|(p, b)| (p.clone(), b.clone())).collect()
}

/// A disk with these files, all durable.
async fn disk_with(files: &Files) -> SimDisk {
    let disk = sim_disk(1);
    let mount = mount(&disk);
    mount.disk.create_dir("wal").await.unwrap();
    mount.disk.sync_dir("").await.unwrap();
    for (path, bytes) in files {
        let file = mount.disk.open(path, Open::New).await.unwrap();
        file.write_and_sync(0, bytes.clone()).await.unwrap();
    }
    mount.disk.sync_dir("wal").await.unwrap();
    disk
}

/// What opening the log of some files came to.
struct Opened {
    result: Result<Vec<(Lsn, Bytes)>, WalError>,
    before: Files,
    after: Files,
}

async fn try_open(files_before: &Files) -> Opened {
    let disk = disk_with(files_before).await;
    let opened = open(&mount(&disk), small()).await;
    let result = opened.map(|(_, replayed)| replayed.0);
    Opened { result, before: segments(files_before), after: segments(&files(&disk).await) }
}

impl Opened {
    /// It was refused, naming this place, with advice, and nothing was changed.
    fn is_refused(&self, segment: &str, offset: u64, what: &str) {
        match &self.result {
            Err(WalError::Corrupt { segment: named, offset: at, detail }) => {
                assert_eq!((named.as_str(), *at), (segment, offset), "{what}: {detail}");
                assert!(detail.contains("move the folder away"), "{detail}");
            }
            other => panic!("{what}: {other:?}"),
        }
        assert!(self.before == self.after, "{what}: something was changed");
    }

    /// It holds these records, and zeros from `end` on in its last segment.
    fn is_cut(&self, records: &[(Lsn, Bytes)], segment: &str, end: usize, what: &str) {
        assert_eq!(self.result.as_deref(), Ok(records), "{what}");
        assert!(self.after[segment][end..].iter().all(|b| *b == 0), "{what}: not cut");
    }
}

/// Where a frame is, and the records before it and in it.
#[derive(Debug)]
struct Frame {
    start: usize,
    end: usize,
    header: FrameHeader,
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let header = SegmentHeader::decode(bytes).unwrap();
    let mut frames = Vec::new();
    scan(&header, bytes, |found| {
        let (start, end) = (found.offset, found.body.end);
        frames.push(Frame { start, end, header: found.header });
        Ok::<(), ()>(())
    })
    .unwrap();
    frames
}

/// A log of three segments. The last one has some groups, and at the end one of three records.
async fn sample(close: bool) -> (Files, Vec<(Lsn, Bytes)>) {
    let disk = sim_disk(1);
    let (wal, _) = open(&mount(&disk), small()).await.unwrap();
    for n in 1..=12 {
        wal.append(vec![record(n, 700), record(n, 30)], drop);
        wal.sync().await.unwrap();
    }
    wal.append((0..3).map(|n| record(n, 400)).collect(), drop);
    wal.sync().await.unwrap();
    let all = wal.read(Lsn(1), usize::MAX).await.unwrap();
    if close {
        wal.close().await.unwrap();
    }
    let files = files(&disk).await;
    assert_eq!(segments(&files).len(), 3);
    let groups: Vec<Lsn> = frames(&files[LAST]).iter().map(|f| f.header.durable).collect();
    assert!(groups.len() > 2 && groups.is_sorted_by(|a, b| a < b), "{groups:?}");
    drop(wal);
    disk.crash();
    (files, all)
}

const FIRST: &str = "wal/0000000000000001.wal";
const SECOND: &str = "wal/0000000000000002.wal";
const LAST: &str = "wal/0000000000000003.wal";

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_is_refused_in_front_of_later_groups_and_cut_at_the_end() {
    let _ = mark::take();
    flipped_bits().await;
    let marks = mark::take();
    assert!(marks.contains("corruption-refused") && marks.contains("torn-tail-cut"), "{marks:?}");
}

pub(super) async fn flipped_bits() {
    let (files, all) = sample(false).await;
    for (path, bytes) in segments(&files) {
        let frames = frames(&bytes);
        let last_group = frames.last().unwrap().header.durable;
        for at in 0..bytes.len() {
            // All bits of headers, one of each byte of bodies and of blank space.
            let in_header = at < SEGMENT_HEADER
                || frames.iter().any(|f| (f.start..f.start + FRAME_HEADER).contains(&at));
            let blank = at >= frames.last().unwrap().end;
            for bit in 0..8 {
                if (!in_header && bit != at % 8) || (blank && at % 13 != 0) {
                    continue;
                }
                let what = format!("{path}, byte {at}, bit {bit}");
                let mut damaged = files.clone();
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                damaged.insert(path.clone(), changed.into());
                let opened = try_open(&damaged).await;
                let hit = frames.iter().find(|f| (f.start..f.end).contains(&at));
                match hit {
                    _ if at < SEGMENT_HEADER => opened.is_refused(&path, 0, &what),
                    Some(frame) if path == LAST && frame.header.durable == last_group => {
                        let kept = frame.header.first.0 as usize - 1;
                        opened.is_cut(&all[..kept], LAST, frame.start, &what);
                    }
                    Some(frame) => opened.is_refused(&path, frame.start as u64, &what),
                    None if path == LAST => {
                        opened.is_cut(&all, LAST, frames.last().unwrap().end, &what);
                    }
                    // Nothing is, and will be, in the rest of an older segment.
                    None => assert_eq!(opened.result.as_deref(), Ok(&all[..]), "{what}"),
                }
            }
        }
    }
}

/// The seal of a closed log proves that all before it was durable.
#[tokio::test(start_paused = true)]
async fn a_closed_log_refuses_damage_to_its_last_group_too() {
    let (files, all) = sample(true).await;
    let bytes = &files[LAST];
    let frames = frames(bytes);
    let (seal, groups) = frames.split_last().unwrap();
    for frame in groups {
        for at in [frame.start, frame.start + FRAME_HEADER - 1, frame.end - 1] {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x40;
            let damaged = with(&files, LAST, changed);
            let opened = try_open(&damaged).await;
            opened.is_refused(LAST, frame.start as u64, &format!("byte {at}"));
        }
    }
    let mut changed = bytes.to_vec();
    changed[seal.start + 20] ^= 1;
    let opened = try_open(&with(&files, LAST, changed)).await;
    opened.is_cut(&all, LAST, seal.start, "the seal itself");
}

fn with(files: &Files, path: &str, bytes: Vec<u8>) -> Files {
    let mut files = files.clone();
    files.insert(path.to_owned(), bytes.into());
    files
}

/// Frames of one group reach the disk in any order: each subset of them is a torn write.
#[tokio::test(start_paused = true)]
async fn any_part_of_the_last_group_may_be_missing() {
    let disk = sim_disk(1);
    let config = WalConfig { segment_bytes: 1 << 20, ..WalConfig::default() };
    let (wal, _) = open(&mount(&disk), config.clone()).await.unwrap();
    wal.append(vec![record(1, 10)], drop);
    wal.sync().await.unwrap();
    wal.append((2..=5).map(|n| record(n, format::FRAME_BODY)).collect(), drop);
    wal.sync().await.unwrap();
    let files = files(&disk).await;
    let frames = frames(&files[FIRST]);
    assert_eq!(frames.len(), 5, "large records have frames of their own");
    for missing in 1_u32..16 {
        let mut bytes = files[FIRST].to_vec();
        for (n, frame) in frames[1..].iter().enumerate() {
            if missing & (1 << n) != 0 {
                bytes[frame.start..frame.end].fill(0);
            }
        }
        let kept = 1 + missing.trailing_zeros() as usize;
        let disk = disk_with(&with(&files, FIRST, bytes)).await;
        let (_wal, replayed) = open(&mount(&disk), config.clone()).await.unwrap();
        assert_eq!(replayed.0.len(), kept, "missing {missing:04b}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_was_cut_anywhere_is_refused() {
    let (files, _) = sample(false).await;
    for path in [FIRST, SECOND, LAST] {
        for length in (0..4096).step_by(7).chain([1, 47, 48, 49, 4095]) {
            let what = format!("{path} of {length} bytes");
            let opened = try_open(&with(&files, path, files[path][..length].to_vec())).await;
            let offset = if length < SEGMENT_HEADER { 0 } else { length as u64 };
            opened.is_refused(path, offset, &what);
        }
        let longer = [&files[path][..], b"more"].concat();
        try_open(&with(&files, path, longer)).await.is_refused(path, 4100, "a longer one");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_behind_the_last_record_is_cut() {
    use crate::env::{Rng, SplitMix64};
    let (files, all) = sample(false).await;
    let end = frames(&files[LAST]).last().unwrap().end;
    let rng = SplitMix64::new(5);
    for round in 0..200 {
        let mut bytes = files[LAST].to_vec();
        let start = end + rng.below((bytes.len() - end) as u64) as usize;
        for byte in &mut bytes[start..] {
            *byte = rng.next_u64() as u8;
        }
        if round % 2 == 0 {
            // What looks most like a record: the log's own frames, in another place.
            let source = files[LAST].slice(SEGMENT_HEADER..end);
            let length = source.len().min(bytes.len() - start);
            bytes[start..start + length].copy_from_slice(&source[..length]);
        }
        let opened = try_open(&with(&files, LAST, bytes)).await;
        opened.is_cut(&all, LAST, end, &format!("from byte {start}"));
    }
}

#[tokio::test(start_paused = true)]
async fn segments_that_are_missing_swapped_or_of_another_log_are_refused() {
    let (files, _) = sample(false).await;
    let mut missing = files.clone();
    missing.remove(SECOND);
    try_open(&missing).await.is_refused(SECOND, 0, "a missing one");
    let swap = |a: &str, b: &str| {
        let mut swapped = files.clone();
        swapped.insert(a.to_owned(), files[b].clone());
        swapped.insert(b.to_owned(), files[a].clone());
        swapped
    };
    try_open(&swap(SECOND, LAST)).await.is_refused(SECOND, 0, "swapped ones");
    try_open(&swap(FIRST, LAST)).await.is_refused(FIRST, 0, "swapped ones");
    // Another log whose segments have the same numbers and sizes.
    let other = sim_disk(2);
    let env = mount_with_rng(&other, 99);
    let (wal, _) = open(&env, small()).await.unwrap();
    for n in 1..=9 {
        wal.append(vec![record(n, 700), record(n, 30)], drop);
        wal.sync().await.unwrap();
    }
    let others = self::files(&other).await;
    let mixed = with(&files, SECOND, others[SECOND].to_vec());
    let end = frames(&files[FIRST]).last().unwrap().end as u64;
    try_open(&mixed).await.is_refused(FIRST, end, "one of another log");
    let mixed = with(&files, FIRST, others[FIRST].to_vec());
    let end = frames(&others[FIRST]).last().unwrap().end as u64;
    try_open(&mixed).await.is_refused(FIRST, end, "one of another log");
}

#[tokio::test(start_paused = true)]
async fn a_segment_of_a_later_version_is_refused_by_its_version() {
    let (files, _) = sample(false).await;
    let mut bytes = files[FIRST].to_vec();
    bytes[4] = 2;
    let checksum = crc32c::crc32c(&bytes[..SEGMENT_HEADER - 4]).to_le_bytes();
    bytes[SEGMENT_HEADER - 4..SEGMENT_HEADER].copy_from_slice(&checksum);
    let opened = try_open(&with(&files, FIRST, bytes)).await;
    assert!(opened.result.clone().unwrap_err().to_string().contains("layout version 2"));
    opened.is_refused(FIRST, 0, "a later version");
}
