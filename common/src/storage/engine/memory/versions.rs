//! Ordered maps of versioned values: the state of a [`MemoryEngine`](super::MemoryEngine).
//!
//! Every batch has a sequence number. A cell keeps its newest value and, behind it, the older
//! ones that some open snapshot still sees. Taking a snapshot notes a number and nothing else;
//! overwriting a value that no snapshot sees drops it at once. What a closed snapshot leaves
//! behind is swept a few cells at a time by the writes that follow, so no write and no snapshot
//! ever does work in proportion to the state.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::super::{Batch, Change, KeyRange, Page, PageLimit};

/// The number of a batch, from 1. A snapshot with number `n` sees the batches up to `n`.
pub(super) type Seq = u64;

/// How many left-behind cells a write looks at, beyond one per change of its own. Two per change
/// shrink the backlog faster than writes can grow it.
const SWEEP_PER_CHANGE: usize = 2;

/// A key that is stored once per cell, without spare capacity.
type Key = Box<[u8]>;

/// An older value of a cell, seen by some snapshot.
#[derive(Debug)]
struct Version {
    seq: Seq,
    value: Option<Bytes>,
}

/// The values of one key.
///
/// Invariant: a cell has a history, be it empty, exactly while it has a place in the sweep queue.
/// A cell without a value has a history.
#[derive(Debug)]
struct Cell {
    seq: Seq,
    value: Option<Bytes>,
    history: Option<Box<History>>,
}

/// Older values of a cell, oldest first: at most one per open snapshot.
#[derive(Debug, Default)]
struct History(Vec<Version>);

impl Cell {
    /// The value that a snapshot with this number sees.
    fn at(&self, seq: Seq) -> Option<&Bytes> {
        if self.seq <= seq {
            return self.value.as_ref();
        }
        let history = self.history.as_ref()?;
        history.0.iter().rev().find(|v| v.seq <= seq).and_then(|v| v.value.as_ref())
    }

    /// Drops every older version that no open snapshot sees; returns the bytes dropped.
    fn prune(&mut self, open: &Open) -> u64 {
        let newest = self.seq;
        let Some(history) = self.history.as_mut() else { return 0 };
        let mut dropped = 0;
        let mut kept = Vec::new();
        let mut next = newest;
        for version in history.0.drain(..).rev() {
            let seq = version.seq;
            if open.any_within(seq, next) {
                kept.push(version);
            } else {
                dropped += version.len();
            }
            next = seq;
        }
        // Before its first value a key is absent: an oldest version that says so is not needed.
        while kept.last().is_some_and(|v| v.value.is_none()) {
            kept.pop();
        }
        kept.reverse();
        history.0 = kept;
        dropped
    }
}

impl Version {
    fn len(&self) -> u64 {
        self.value.as_ref().map_or(0, Bytes::len) as u64
    }
}

/// The numbers of the open snapshots, with how many share one.
#[derive(Debug, Default)]
pub(super) struct Open(BTreeMap<Seq, usize>);

impl Open {
    /// Whether a snapshot is open with a number in `from..before`.
    fn any_within(&self, from: Seq, before: Seq) -> bool {
        from < before && self.0.range(from..before).next().is_some()
    }

    fn oldest(&self) -> Option<Seq> {
        self.0.first_key_value().map(|(seq, _)| *seq)
    }
}

/// The registry of open snapshots, apart from the state so that closing one never waits for a
/// writer.
#[derive(Debug, Default)]
pub(super) struct Snapshots(Mutex<Open>);

impl Snapshots {
    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, seq: Seq) {
        *self.lock().0.entry(seq).or_default() += 1;
    }

    pub(super) fn close(&self, seq: Seq) {
        let mut open = self.lock();
        if let Some(count) = open.0.get_mut(&seq) {
            *count -= 1;
            if *count == 0 {
                open.0.remove(&seq);
            }
        }
    }
}

/// A cell to look at again once the snapshots up to `seq` are closed.
#[derive(Debug)]
struct Sweep {
    seq: Seq,
    space: usize,
    key: Key,
}

/// All keyspaces, and what is left to sweep.
#[derive(Debug, Default)]
pub(super) struct State {
    seq: Seq,
    /// Keyspaces in the order of their first write.
    spaces: Vec<BTreeMap<Key, Cell>>,
    by_name: BTreeMap<String, usize>,
    sweep: VecDeque<Sweep>,
    bytes: u64,
}

/// What a cell costs beyond the bytes of its key and values, roughly.
const CELL_OVERHEAD: u64 = 112;

impl State {
    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn keyspaces(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn space(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        self.spaces.push(BTreeMap::new());
        self.by_name.insert(name.to_owned(), self.spaces.len() - 1);
        self.spaces.len() - 1
    }

    /// Applies a batch.
    pub(super) fn apply(&mut self, batch: Batch, snapshots: &Snapshots) {
        self.seq += 1;
        let open = snapshots.lock();
        let changes = batch.changes.len();
        for change in batch.changes {
            match change {
                Change::Put(space, key, value) => {
                    let space = self.space(space.0);
                    // A copy, because the bytes may be a slice of a whole message.
                    self.set(space, &key, Some(Bytes::copy_from_slice(&value)), &open);
                }
                Change::Delete(space, key) => {
                    let space = self.space(space.0);
                    self.set(space, &key, None, &open);
                }
            }
        }
        self.sweep(changes * SWEEP_PER_CHANGE, &open);
    }

    /// Adds what a checkpoint holds, in any order, before the first batch.
    pub(super) fn load(&mut self, space: &str, key: Bytes, value: Bytes) {
        let space = self.space(space);
        self.set(space, &key, Some(Bytes::copy_from_slice(&value)), &Open::default());
    }

    /// Makes a keyspace known that may have no keys.
    pub(super) fn load_space(&mut self, space: &str) {
        self.space(space);
    }

    fn set(&mut self, space: usize, key: &[u8], value: Option<Bytes>, open: &Open) {
        let seq = self.seq;
        let cells = &mut self.spaces[space];
        let Some(cell) = cells.get_mut(key) else {
            if let Some(value) = value {
                self.bytes += CELL_OVERHEAD + (key.len() + value.len()) as u64;
                cells.insert(key.into(), Cell { seq, value: Some(value), history: None });
            }
            return;
        };
        self.bytes += value.as_ref().map_or(0, Bytes::len) as u64;
        let old = Version { seq: cell.seq, value: std::mem::replace(&mut cell.value, value) };
        cell.seq = seq;
        let seen = open.any_within(old.seq, seq);
        if !seen {
            self.bytes -= old.len();
        }
        match &mut cell.history {
            Some(history) => {
                if seen {
                    history.0.push(old);
                }
                self.bytes -= cell.prune(open);
            }
            None if seen => {
                cell.history = Some(Box::new(History(vec![old])));
                self.sweep.push_back(Sweep { seq, space, key: key.into() });
            }
            None if cell.value.is_none() => {
                cells.remove(key);
                self.bytes -= CELL_OVERHEAD + key.len() as u64;
            }
            None => {}
        }
    }

    /// Looks at up to `count` cells that closed snapshots may have left behind.
    fn sweep(&mut self, count: usize, open: &Open) {
        let oldest = open.oldest();
        for _ in 0..count {
            if self.sweep.front().is_none_or(|s| oldest.is_some_and(|o| o < s.seq)) {
                return;
            }
            let Some(mut sweep) = self.sweep.pop_front() else { return };
            let cells = &mut self.spaces[sweep.space];
            let cell = cells.get_mut(&sweep.key).expect("a queued cell stays until it is swept");
            self.bytes -= cell.prune(open);
            if cell.history.as_ref().is_some_and(|h| h.0.is_empty()) {
                cell.history = None;
                if cell.value.is_none() {
                    cells.remove(&sweep.key);
                    self.bytes -= CELL_OVERHEAD + sweep.key.len() as u64;
                }
            } else {
                // A younger snapshot sees an older value still. The queue stays in order.
                sweep.seq = self.seq;
                self.sweep.push_back(sweep);
            }
        }
    }

    /// The value of a key as a snapshot with this number sees it.
    pub(super) fn get(&self, space: &str, key: &[u8], at: Seq) -> Option<Bytes> {
        let space = self.by_name.get(space)?;
        self.spaces[*space].get(key)?.at(at).cloned()
    }

    /// The first items of a range as a snapshot with this number sees them.
    pub(super) fn scan(&self, space: &str, range: &KeyRange, limit: PageLimit, at: Seq) -> Page {
        let mut page = Page::default();
        let Some(space) = self.by_name.get(space) else { return page };
        if range.is_empty() {
            return page;
        }
        let bounds = (as_slice(&range.start), as_slice(&range.end));
        let mut bytes = 0;
        for (key, cell) in self.spaces[*space].range::<[u8], _>(bounds) {
            let Some(value) = cell.at(at) else { continue };
            let full = page.items.len() >= limit.items || bytes >= limit.bytes;
            if full && !page.items.is_empty() {
                page.more = true;
                break;
            }
            bytes += key.len() + value.len();
            page.items.push((Bytes::copy_from_slice(key), value.clone()));
        }
        page
    }
}

fn as_slice(bound: &Bound<Bytes>) -> Bound<&[u8]> {
    bound.as_ref().map(AsRef::as_ref)
}
