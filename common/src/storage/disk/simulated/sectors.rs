//! One file: what reads see, what the platter holds, and which sectors differ for want of a sync.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::env::Rng;

/// The content of one sector. Absent ones are zeros.
type Sector = Arc<[u8]>;

/// What a file would be after some set of writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Version {
    pub(super) length: u64,
    sectors: BTreeMap<u64, Sector>,
}

/// A file on the platter and in the cache.
#[derive(Clone, Debug)]
pub(super) struct Body {
    size: u64,
    pub(super) now: Version,
    pub(super) durable: Version,
    /// Sectors to be written by the next sync. A failed sync empties this without writing.
    dirty: BTreeSet<u64>,
    length_dirty: bool,
    /// Bytes reserved from the start of the file.
    allocated: u64,
}

/// What a sync began with: writes that come while it runs wait for the next one.
#[derive(Debug)]
pub(super) struct Flush {
    sectors: Vec<(u64, Option<Sector>)>,
    length: Option<u64>,
}

impl Version {
    fn sector(&self, index: u64, size: u64) -> Vec<u8> {
        self.sectors.get(&index).map_or_else(|| vec![0; size as usize], |s| s.to_vec())
    }

    fn put(&mut self, index: u64, sector: Option<Sector>) {
        match sector {
            Some(sector) => self.sectors.insert(index, sector),
            None => self.sectors.remove(&index),
        };
    }

    /// Forgets what is behind `length`, so that growing again shows zeros.
    fn cut(&mut self, length: u64, size: u64) {
        self.sectors.retain(|index, _| index * size < length);
        let (last, keep) = (length / size, (length % size) as usize);
        if let Some(sector) = self.sectors.get_mut(&last) {
            let mut bytes = sector.to_vec();
            bytes[keep..].fill(0);
            *sector = bytes.into();
        }
        self.length = length;
    }

    fn read(&self, offset: u64, length: usize, size: u64) -> Bytes {
        let there = self.length.saturating_sub(offset).min(length as u64);
        let mut out = BytesMut::zeroed(there as usize);
        let (first, end) = (offset / size, (offset + there).div_ceil(size));
        for (index, sector) in self.sectors.range(first..end) {
            let start = index * size;
            let from = offset.max(start);
            let to = (offset + there).min(start + size);
            if from < to {
                let target = (from - offset) as usize..(to - offset) as usize;
                out[target]
                    .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
            }
        }
        out.freeze()
    }
}

impl Body {
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            now: Version::default(),
            durable: Version::default(),
            dirty: BTreeSet::new(),
            length_dirty: false,
            allocated: 0,
        }
    }

    /// Bytes of the platter that the file takes.
    pub(super) fn usage(&self) -> u64 {
        let reserved = self.allocated.div_ceil(self.size);
        let beyond = self.now.sectors.range(reserved..).count() as u64;
        (reserved + beyond) * self.size
    }

    /// Bytes that a write would add to [`Body::usage`].
    pub(super) fn growth(&self, offset: u64, length: u64) -> u64 {
        let reserved = self.allocated.div_ceil(self.size);
        let (first, end) = (offset / self.size, (offset + length).div_ceil(self.size));
        let new = (first.max(reserved)..end).filter(|i| !self.now.sectors.contains_key(i));
        new.count() as u64 * self.size
    }

    /// Bytes that reserving up to `length` would add to [`Body::usage`].
    pub(super) fn reservation(&self, length: u64) -> u64 {
        self.growth(0, length)
    }

    pub(super) fn sectors(&self, offset: u64, length: u64) -> std::ops::Range<u64> {
        offset / self.size..offset.saturating_add(length).div_ceil(self.size)
    }

    pub(super) fn read(&self, offset: u64, length: usize) -> Bytes {
        self.now.read(offset, length, self.size)
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        for index in self.sectors(offset, bytes.len() as u64) {
            let mut sector = self.now.sector(index, self.size);
            let start = index * self.size;
            let (from, to) = (offset.max(start), end.min(start + self.size));
            sector[(from - start) as usize..(to - start) as usize]
                .copy_from_slice(&bytes[(from - offset) as usize..(to - offset) as usize]);
            self.now.sectors.insert(index, sector.into());
            self.dirty.insert(index);
        }
        if end > self.now.length && !bytes.is_empty() {
            self.now.length = end;
            self.length_dirty = true;
        }
    }

    pub(super) fn allocate(&mut self, length: u64) {
        self.allocated = self.allocated.max(length);
        if length > self.now.length {
            self.now.length = length;
            self.length_dirty = true;
        }
    }

    pub(super) fn set_len(&mut self, length: u64) {
        if length < self.now.length {
            let size = self.size;
            self.dirty.extend(self.now.sectors.range(length / size..).map(|(index, _)| *index));
            self.now.cut(length, size);
            self.allocated = self.allocated.min(length);
        }
        self.length_dirty |= length != self.now.length || length != self.durable.length;
        self.now.length = length;
    }

    /// What a sync that begins now would make durable.
    pub(super) fn begin(&self) -> Flush {
        let sector = |index: &u64| (*index, self.now.sectors.get(index).cloned());
        let length = self.length_dirty.then_some(self.now.length);
        Flush { sectors: self.dirty.iter().map(sector).collect(), length }
    }

    /// Makes durable what the sync began with.
    pub(super) fn finish(&mut self, flush: Flush) {
        if let Some(length) = flush.length {
            if length < self.durable.length {
                self.durable.cut(length, self.size);
            }
            self.durable.length = length;
            self.length_dirty &= self.now.length != length;
        }
        for (index, sector) in flush.sectors {
            let same = match (&sector, self.now.sectors.get(&index)) {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                (None, None) => true,
                _ => false,
            };
            if same {
                self.dirty.remove(&index);
            }
            self.durable.put(index, sector);
        }
    }

    /// A sync that failed: the cache says clean, the platter has the old content.
    pub(super) fn fail(&mut self, flush: &Flush) {
        for (index, _) in &flush.sectors {
            self.dirty.remove(index);
        }
        self.length_dirty &= flush.length.is_none();
    }

    /// The machine loses its power: each sector that waits for a sync is old, new or torn.
    pub(super) fn lose_power(&mut self, rng: &dyn Rng) {
        if self.length_dirty && rng.below(2) == 0 {
            let length = self.now.length;
            if length < self.durable.length {
                self.durable.cut(length, self.size);
            }
            self.durable.length = length;
        }
        for index in std::mem::take(&mut self.dirty) {
            let torn = match rng.below(4) {
                0 => continue,
                1 | 2 => self.now.sectors.get(&index).cloned(),
                _ => Some(self.torn(index, rng)),
            };
            self.durable.put(index, torn);
        }
        let length = self.durable.length;
        self.durable.cut(length, self.size);
        self.now = self.durable.clone();
        self.length_dirty = false;
        self.allocated = self.allocated.min(length);
    }

    /// A prefix of the new content, and behind it the old content or anything. Bytes that the write
    /// does not change stay as they are, which disks are known to keep ("powersafe overwrite").
    fn torn(&self, index: u64, rng: &dyn Rng) -> Sector {
        let new = self.now.sector(index, self.size);
        let mut sector = self.durable.sector(index, self.size);
        let differs = |at: &usize| new[*at] != sector[*at];
        let Some(first) = (0..sector.len()).find(differs) else { return new.into() };
        let end = (first..sector.len()).rfind(differs).map_or(first, |last| last + 1);
        let kept = first + rng.below((end - first) as u64) as usize;
        sector[first..kept].copy_from_slice(&new[first..kept]);
        if rng.below(2) == 0 {
            for byte in &mut sector[kept..end] {
                *byte = rng.next_u64() as u8;
            }
        }
        sector.into()
    }

    /// Flips bits at rest: in the platter, and in the cache as if it had been read again.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let (index, within) = (offset / self.size, (offset % self.size) as usize);
        for version in [&mut self.now, &mut self.durable] {
            if offset < version.length {
                let mut sector = version.sector(index, self.size);
                sector[within] ^= mask;
                version.sectors.insert(index, sector.into());
            }
        }
    }

    /// The file as a power loss without luck would leave it.
    pub(super) fn durable_copy(&self) -> Self {
        Self {
            size: self.size,
            now: self.durable.clone(),
            durable: self.durable.clone(),
            dirty: BTreeSet::new(),
            length_dirty: false,
            allocated: self.allocated.min(self.durable.length),
        }
    }
}
