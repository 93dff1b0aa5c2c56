//! Reading a segment's bytes: which frames are valid, where they end, and whether what follows is a
//! torn write or damage. A plain function over bytes.

use std::ops::Range;

use bytes::Bytes;

use super::Lsn;
use super::format::{
    ALIGN, FRAME_HEADER, FrameHeader, Kind, Records, SEGMENT_HEADER, SegmentHeader,
};

/// A valid frame that continues the log, and where its body is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) header: FrameHeader,
    pub(super) offset: usize,
    pub(super) body: Range<usize>,
}

/// How far a segment's valid frames go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Where they end.
    pub(super) end: usize,
    /// The record that comes next.
    pub(super) next: Lsn,
    /// The chain behind the last one.
    pub(super) chain: u32,
    /// Where the frames begin whose sync may not have succeeded, as far as the segment tells.
    pub(super) unproven: usize,
    /// What follows.
    pub(super) tail: Tail,
}

/// What follows the valid frames of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Zeros up to the end.
    Blank,
    /// A write that was torn: none of it was ever acknowledged. It ends before this offset.
    Torn(usize),
    /// Damage in front of a frame which proves that the damaged bytes were durable. That frame's
    /// offset.
    Damaged(usize),
}

/// The frame at an offset, if it is whole and in its own place, whatever it continues.
fn frame_at(segment: &SegmentHeader, bytes: &[u8], offset: usize) -> Option<Found> {
    let rest = bytes.get(offset..)?;
    let header = FrameHeader::decode(segment, offset as u64, rest)?;
    let start = offset + FRAME_HEADER;
    let body = start..start.checked_add(header.length as usize)?;
    let accepted = header.accepts(bytes.get(body.clone())?);
    let whole = crate::mutate!("torn_tail_accepted", accepted, true);
    whole.then_some(Found { header, offset, body })
}

/// Reads the frames of a segment that begins with `segment`, giving each to `each`.
pub(super) fn scan<E>(
    segment: &SegmentHeader,
    bytes: &[u8],
    mut each: impl FnMut(&Found) -> Result<(), E>,
) -> Result<Scanned, E> {
    let mut scanned = Scanned {
        end: SEGMENT_HEADER,
        next: segment.first,
        chain: segment.chain,
        unproven: SEGMENT_HEADER,
        tail: Tail::Blank,
    };
    // Where the frames of the group begin that is being read: all have the same `durable`.
    let mut group = None;
    while let Some(found) = frame_at(segment, bytes, scanned.end) {
        let header = &found.header;
        if header.first != scanned.next || header.chain != scanned.chain {
            break;
        }
        each(&found)?;
        if group != Some(header.durable) {
            group = Some(header.durable);
            scanned.unproven = scanned.end;
        }
        scanned.end = found.body.end;
        scanned.next = header.next();
        scanned.chain = header.chained();
    }
    scanned.tail = tail(segment, bytes, scanned.end, scanned.next);
    Ok(scanned)
}

fn tail(segment: &SegmentHeader, bytes: &[u8], end: usize, next: Lsn) -> Tail {
    let Some(last) = last_byte(bytes, end) else { return Tail::Blank };
    let proof = (end..=last).step_by(ALIGN).find(|offset| {
        let found = frame_at(segment, bytes, *offset);
        found.is_some_and(|found| found.header.durable >= next)
    });
    match proof {
        Some(offset) if crate::mutate!("damage_in_the_middle_cut", true, false) => {
            Tail::Damaged(offset)
        }
        _ => Tail::Torn(last + 1),
    }
}

/// The last byte from `from` on that is not zero.
fn last_byte(bytes: &[u8], from: usize) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let tail = bytes.get(from..)?;
    let mut end = tail.len();
    // Whole blocks are compared at once: most of a segment that was just begun is zeros.
    while end >= ZEROS.len() && tail[end - ZEROS.len()..end] == ZEROS {
        end -= ZEROS.len();
    }
    tail[..end].iter().rposition(|byte| *byte != 0).map(|at| from + at)
}

/// What the bytes of one segment hold, as far as they tell without the segments around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its number in the log, from 1.
    pub segment: u64,
    /// Its first record.
    pub first: Lsn,
    /// Its valid records, in order.
    pub records: Vec<(Lsn, Bytes)>,
    /// Where they end.
    pub end: u64,
    /// What follows, when something does: for the newest segment a torn write, which opening the
    /// log would cut, or damage, which it would refuse.
    pub tail: Option<String>,
}

/// Looks at the bytes of one segment without changing anything: for tools, and for fuzzers. An
/// error says why they are no segment.
pub fn inspect(bytes: &[u8]) -> Result<Inspected, String> {
    let header = SegmentHeader::decode(bytes)?;
    let mut records = Vec::new();
    let scanned = scan(&header, bytes, |found| {
        if found.header.kind == Kind::Records {
            let lsns = (found.header.first.0..).map(Lsn);
            let body = Records::new(&bytes[found.body.clone()], found.header.count);
            records.extend(lsns.zip(body.map(Bytes::copy_from_slice)));
        }
        Ok::<(), std::convert::Infallible>(())
    });
    let scanned = scanned.unwrap_or_else(|never| match never {});
    let tail = match scanned.tail {
        Tail::Blank => None,
        Tail::Torn(end) => Some(format!("a torn write up to byte {end}")),
        Tail::Damaged(proof) => Some(format!("damage, as the frame at byte {proof} proves")),
    };
    let (segment, first, end) = (header.number, header.first, scanned.end as u64);
    Ok(Inspected { segment, first, records, end, tail })
}
