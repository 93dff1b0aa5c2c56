//! Reading records that are no longer in memory.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{FRAME_HEADER, FrameHeader, Kind, Records, SegmentHeader};
use super::state::{Shared, segment_name};
use super::{Lsn, WalError};
use crate::storage::disk::{DiskError, File, Open};

/// Bytes that are asked of the disk at once, at least.
const READ: usize = 128 << 10;

/// Where to look for a record.
struct Place {
    header: SegmentHeader,
    file: Option<Arc<dyn File>>,
    /// A frame at or before the record.
    offset: u64,
    /// Where the segment's frames end.
    end: u64,
}

enum Source {
    /// All that was asked for is there.
    Memory,
    Disk(Place),
}

/// See [`Wal::read`](super::Wal::read).
pub(super) async fn read(
    shared: &Shared,
    from: Lsn,
    max_bytes: usize,
) -> Result<Vec<(Lsn, Bytes)>, WalError> {
    let mut out = Vec::new();
    let mut from = from;
    loop {
        match source(shared, from, max_bytes, &mut out)? {
            Source::Memory => return Ok(out),
            Source::Disk(place) => {
                let next = read_segment(shared, &place, from, max_bytes, &mut out).await?;
                let Some(next) = next else { return Ok(out) };
                from = next;
            }
        }
    }
}

/// Takes what is in memory, or says where on the disk to look first.
fn source(
    shared: &Shared,
    from: Lsn,
    max_bytes: usize,
    out: &mut Vec<(Lsn, Bytes)>,
) -> Result<Source, WalError> {
    let state = shared.state();
    if from >= state.recent.first() {
        state.recent.read(from, max_bytes, out);
        return Ok(Source::Memory);
    }
    let oldest = state.oldest();
    if from < oldest {
        return Err(WalError::Released { oldest });
    }
    let behind = state.segments.partition_point(|segment| segment.header.first <= from);
    let Some(segment) = behind.checked_sub(1).and_then(|at| state.segments.get(at)) else {
        return Err(WalError::Released { oldest });
    };
    let mark = segment.marks.partition_point(|(first, _)| *first <= from);
    let mark = mark.checked_sub(1).and_then(|at| segment.marks.get(at));
    let offset = mark.map_or(super::format::SEGMENT_HEADER as u64, |(_, offset)| *offset);
    let (header, file, end) = (segment.header, segment.file.clone(), segment.end);
    Ok(Source::Disk(Place { header, file, offset, end }))
}

/// Reads records of one segment. The record to go on with in the next one, if more fit.
async fn read_segment(
    shared: &Shared,
    place: &Place,
    from: Lsn,
    max_bytes: usize,
    out: &mut Vec<(Lsn, Bytes)>,
) -> Result<Option<Lsn>, WalError> {
    let name = shared.path(&segment_name(place.header.number));
    let file = match &place.file {
        Some(file) => file.clone(),
        None => open(shared, place, &name).await?,
    };
    let mut bytes: usize = out.iter().map(|(_, record)| record.len()).sum();
    let (mut offset, mut next) = (place.offset, from);
    let (mut chunk, mut chunk_at) = (Bytes::new(), offset);
    let damaged =
        |offset| WalError::corrupt(&name, offset, "a frame that was valid is not any more");
    while offset < place.end {
        let left = (place.end - offset) as usize;
        let have = |chunk: &Bytes, at: u64| chunk.len().saturating_sub((offset - at) as usize);
        if have(&chunk, chunk_at) < FRAME_HEADER {
            chunk = file.read_at(offset, left.min(READ)).await?;
            chunk_at = offset;
        }
        let at = |chunk_at: u64| (offset - chunk_at) as usize;
        let header = FrameHeader::decode(&place.header, offset, &chunk[at(chunk_at)..]);
        let header = header.ok_or_else(|| damaged(offset))?;
        let whole = FRAME_HEADER + header.length as usize;
        if have(&chunk, chunk_at) < whole {
            chunk = file.read_at(offset, whole.max(READ).min(left)).await?;
            chunk_at = offset;
        }
        let body = chunk.get(at(chunk_at) + FRAME_HEADER..at(chunk_at) + whole);
        let body = body.filter(|body| header.accepts(body)).ok_or_else(|| damaged(offset))?;
        if header.kind == Kind::Records && header.next() > from {
            let records = Records::new(body, header.count);
            for (lsn, record) in (header.first.0..).map(Lsn).zip(records) {
                if lsn < from {
                    continue;
                }
                bytes += record.len();
                if bytes > max_bytes && !out.is_empty() {
                    return Ok(None);
                }
                out.push((lsn, Bytes::copy_from_slice(record)));
            }
        }
        next = next.max(header.next());
        offset += whole as u64;
    }
    Ok(Some(next))
}

/// Opens an older segment, and keeps it open for the next reader.
async fn open(shared: &Shared, place: &Place, name: &str) -> Result<Arc<dyn File>, WalError> {
    let number = place.header.number;
    match shared.env.disk.open(name, Open::Existing).await {
        Ok(file) => {
            let mut state = shared.state();
            let segment = state.segments.iter_mut().find(|s| s.header.number == number);
            if let Some(segment) = segment {
                segment.file = Some(file.clone());
            }
            Ok(file)
        }
        // Released meanwhile.
        Err(DiskError::NotFound(_)) => Err(WalError::Released { oldest: shared.state().oldest() }),
        Err(e) => Err(e.into()),
    }
}
