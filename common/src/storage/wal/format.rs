//! Bytes of a segment: a header, then frames.
//!
//! ```text
//! segment  magic "TWAL" | version u16 | zero u16 | number u64 | first record u64 | bytes u64
//!          | salt u64 | chain u32 | checksum u32                                      (48 bytes)
//! frame    kind "recs", "void" or "seal" | body length u32 | count u32 | chain u32
//!          | first record u64 | durable u64 | checksum of body u32 | checksum u32      (40 bytes)
//! body     count x (length u32 | record), zeros up to a multiple of 8
//! ```
//!
//! All integers are little-endian, all checksums CRC32C, frames begin at multiples of 8.
//!
//! - A frame holds the records from `first` on. A *void* frame says that `count` records from
//!   `first` on were refused after they had got their numbers. A *seal* has no records.
//! - The frame's checksum begins with the segment's salt, its number and the frame's offset, so a
//!   frame is valid in its own place only.
//! - `chain` is the checksum over the checksums of all frames before, through all segments. A frame
//!   that is valid in itself but does not continue the log is noticed by it.
//! - `durable` is the last record whose sync had succeeded when the frame was written. It tells
//!   damage from a torn write: frames of one group reach the disk in any order, so a damaged frame
//!   may be followed by a whole one, but never by one that calls its records durable.

use bytes::{BufMut, Bytes, BytesMut};

use super::Lsn;

pub(super) const SEGMENT_MAGIC: [u8; 4] = *b"TWAL";
pub(super) const VERSION: u16 = 1;
pub(super) const SEGMENT_HEADER: usize = 48;
pub(super) const FRAME_HEADER: usize = 40;
/// Bytes before a record in a body.
pub(super) const RECORD_HEADER: usize = 4;
/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// A frame takes no further record once its body is this long. Reads check a whole frame, so
/// smaller ones make single reads cheaper, larger ones need fewer headers.
pub(super) const FRAME_BODY: usize = 32 << 10;

/// The start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Dense, from 1.
    pub(super) number: u64,
    /// The first record that it holds, or will.
    pub(super) first: Lsn,
    /// Length of the file.
    pub(super) bytes: u64,
    /// Random: frames of other segments and of other logs do not fit.
    pub(super) salt: u64,
    /// The chain of all segments before.
    pub(super) chain: u32,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Void,
    Seal,
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) kind: Kind,
    pub(super) length: u32,
    pub(super) count: u32,
    pub(super) chain: u32,
    pub(super) first: Lsn,
    pub(super) durable: Lsn,
    pub(super) body_checksum: u32,
    pub(super) checksum: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|b| b.first_chunk::<4>());
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|b| b.first_chunk::<8>());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(SEGMENT_HEADER);
        out.put_slice(&SEGMENT_MAGIC);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        out.put_u64_le(self.number);
        out.put_u64_le(self.first.0);
        out.put_u64_le(self.bytes);
        out.put_u64_le(self.salt);
        out.put_u32_le(self.chain);
        out.put_u32_le(crc32c::crc32c(&out));
        out.freeze()
    }

    /// The header at the start of `bytes`, or what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some(header) = bytes.first_chunk::<SEGMENT_HEADER>() else {
            return Err(format!("the file ends after {} bytes, inside its header", bytes.len()));
        };
        if header[..4] != SEGMENT_MAGIC {
            return Err("this is not a log segment".to_owned());
        }
        if crc32c::crc32c(&header[..SEGMENT_HEADER - 4]) != u32_at(header, SEGMENT_HEADER - 4) {
            return Err("the segment's header is damaged".to_owned());
        }
        let version = u16_at(header, 4);
        if version != VERSION {
            return Err(format!("it has layout version {version}, this build reads {VERSION}"));
        }
        Ok(Self {
            number: u64_at(header, 8),
            first: Lsn(u64_at(header, 16)),
            bytes: u64_at(header, 24),
            salt: u64_at(header, 32),
            chain: u32_at(header, 40),
        })
    }

    /// What a frame's checksum begins with.
    fn place(&self, offset: u64) -> u32 {
        let seed = crc32c::crc32c(&self.salt.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &self.number.to_le_bytes());
        crc32c::crc32c_append(seed, &offset.to_le_bytes())
    }
}

impl FrameHeader {
    /// The header at the start of `bytes` if it is whole and belongs at `offset` of this segment.
    pub(super) fn decode(segment: &SegmentHeader, offset: u64, bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<FRAME_HEADER>()?;
        let kind = match &header[..4] {
            b"recs" => Kind::Records,
            b"void" => Kind::Void,
            b"seal" => Kind::Seal,
            _ => return None,
        };
        let checksum = u32_at(header, 36);
        if crc32c::crc32c_append(segment.place(offset), &header[..36]) != checksum {
            return None;
        }
        Some(Self {
            kind,
            length: u32_at(header, 4),
            count: u32_at(header, 8),
            chain: u32_at(header, 12),
            first: Lsn(u64_at(header, 16)),
            durable: Lsn(u64_at(header, 24)),
            body_checksum: u32_at(header, 32),
            checksum,
        })
    }

    /// The chain behind this frame.
    pub(super) fn chained(&self) -> u32 {
        crc32c::crc32c_append(self.chain, &self.checksum.to_le_bytes())
    }

    /// The record behind this frame's last one.
    pub(super) fn next(&self) -> Lsn {
        match self.kind {
            Kind::Records | Kind::Void => Lsn(self.first.0.saturating_add(u64::from(self.count))),
            Kind::Seal => self.first,
        }
    }

    /// Whether `body` is this frame's, whole and well formed.
    pub(super) fn accepts(&self, body: &[u8]) -> bool {
        body.len() == self.length as usize
            && crc32c::crc32c(body) == self.body_checksum
            && match self.kind {
                Kind::Records => Records::new(body, self.count).whole(),
                Kind::Void | Kind::Seal => body.is_empty(),
            }
    }
}

/// The records in a frame's body.
#[derive(Debug)]
pub(super) struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Records<'a> {
    pub(super) fn new(body: &'a [u8], count: u32) -> Self {
        Self { rest: body, left: count }
    }

    /// Whether there are as many as announced, and only padding behind them.
    fn whole(mut self) -> bool {
        let announced = self.left as usize;
        let found = self.by_ref().count();
        found == announced && self.rest.len() < ALIGN && self.rest.iter().all(|b| *b == 0)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk::<RECORD_HEADER>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(record)
    }
}

/// Bytes of a segment that a frame of its own takes with one record of this size.
pub(super) const fn frame_size(record: usize) -> usize {
    FRAME_HEADER + (RECORD_HEADER + record).next_multiple_of(ALIGN)
}

/// Frames that will be written together at one place of a segment.
#[derive(Debug)]
pub(super) struct Group {
    segment: SegmentHeader,
    offset: u64,
    chain: u32,
    next: Lsn,
    durable: Lsn,
    bytes: BytesMut,
    /// Where the frame that still takes records begins, and how many it has.
    open: Option<(usize, u32)>,
    /// First record and offset in the segment of each frame of records.
    frames: Vec<(Lsn, u64)>,
}

/// A group as it is to be written.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) bytes: Bytes,
    /// The chain behind it.
    pub(super) chain: u32,
    /// The record behind its last one.
    pub(super) next: Lsn,
    /// First record and offset in the segment of each of its frames of records.
    pub(super) frames: Vec<(Lsn, u64)>,
}

impl Group {
    /// An empty group at `offset` of a segment, to hold records from `next` on.
    pub(super) fn new(
        segment: SegmentHeader,
        offset: u64,
        chain: u32,
        next: Lsn,
        durable: Lsn,
    ) -> Self {
        Self {
            segment,
            offset,
            chain,
            next,
            durable,
            bytes: BytesMut::new(),
            open: None,
            frames: Vec::new(),
        }
    }

    /// Bytes that the group has now, open frame included.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGN)
    }

    /// Bytes that the group would have with another record of this size.
    pub(super) fn len_with(&self, record: usize) -> usize {
        match self.open {
            Some((start, _)) if self.has_room(start, record) => {
                (self.bytes.len() + RECORD_HEADER + record).next_multiple_of(ALIGN)
            }
            _ => self.len() + frame_size(record),
        }
    }

    fn has_room(&self, start: usize, record: usize) -> bool {
        self.bytes.len() - start - FRAME_HEADER + RECORD_HEADER + record <= FRAME_BODY
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        match self.open {
            Some((start, _)) if self.has_room(start, record.len()) => {}
            _ => {
                self.end_frame();
                self.open = Some((self.bytes.len(), 0));
                self.bytes.put_bytes(0, FRAME_HEADER);
            }
        }
        self.bytes.put_u32_le(record.len() as u32);
        self.bytes.put_slice(record);
        if let Some((_, count)) = &mut self.open {
            *count += 1;
        }
    }

    /// Says that `count` records are void.
    pub(super) fn push_void(&mut self, count: u32) {
        self.end_frame();
        self.push_empty(Kind::Void, count);
    }

    /// Says that everything before is durable.
    pub(super) fn push_seal(&mut self) {
        self.end_frame();
        self.push_empty(Kind::Seal, 0);
    }

    fn push_empty(&mut self, kind: Kind, count: u32) {
        let start = self.bytes.len();
        self.bytes.put_bytes(0, FRAME_HEADER);
        self.put_header(kind, start, count);
    }

    fn end_frame(&mut self) {
        if let Some((start, count)) = self.open.take() {
            let padded = self.len();
            self.bytes.resize(padded, 0);
            self.frames.push((self.next, self.offset + start as u64));
            self.put_header(Kind::Records, start, count);
        }
    }

    fn put_header(&mut self, kind: Kind, start: usize, count: u32) {
        let (header, body) = self.bytes[start..].split_at_mut(FRAME_HEADER);
        let mut out: &mut [u8] = header;
        out.put_slice(match kind {
            Kind::Records => b"recs",
            Kind::Void => b"void",
            Kind::Seal => b"seal",
        });
        out.put_u32_le(body.len() as u32);
        out.put_u32_le(count);
        out.put_u32_le(self.chain);
        out.put_u64_le(self.next.0);
        out.put_u64_le(self.durable.0);
        out.put_u32_le(crc32c::crc32c(body));
        let place = self.segment.place(self.offset + start as u64);
        let checksum = crc32c::crc32c_append(place, &header[..36]);
        header[36..].copy_from_slice(&checksum.to_le_bytes());
        self.chain = crc32c::crc32c_append(self.chain, &checksum.to_le_bytes());
        self.next = Lsn(self.next.0 + u64::from(count));
    }

    pub(super) fn finish(mut self) -> Finished {
        self.end_frame();
        let Self { bytes, chain, next, frames, .. } = self;
        Finished { bytes: bytes.freeze(), chain, next, frames }
    }
}
