//! The keys while a command changes them: the one place that keeps records, deadlines' rows and the
//! ledger in step.

use bytes::Bytes;
use common::storage::engine::{EngineError, Read};
use leader::key_value::Revision;
use leader::state_machine::{Draft, Stamp};

use super::admission::fits;
use super::command::{Lifetime, Moment};
use super::elements::Owner;
use super::record::{Elements, Kind, Record};
use super::rows::{Ledger, deadline_row, key_row};
use super::{DROPPED, ELEMENTS, EXPIRY, KEYS, LEDGER};

/// The most elements, and the most bytes of them, that one COPY copies, so that no entry takes long
/// to apply.
const MAX_COPIED: usize = 10_000;
const MAX_COPIED_BYTES: usize = 8 << 20;

/// The state under one command.
pub(super) struct State<'s, 'd> {
    pub(super) draft: &'s mut Draft<'d>,
    pub(super) ledger: Ledger,
    stored: Ledger,
    stamp: Stamp,
}

/// A key while a command works on it.
pub(super) struct Slot<'k> {
    key: &'k [u8],
    row: Bytes,
    stored: Option<Record>,
    clock: u64,
}

impl Slot<'_> {
    /// The record, unless it is due: then the key is absent although something is stored.
    pub(super) fn present(&self) -> Option<&Record> {
        self.stored.as_ref().filter(|record| !record.is_due(self.clock))
    }

    /// The deadline of the record that is present.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.present().and_then(|record| record.deadline)
    }
}

impl<'s, 'd> State<'s, 'd> {
    pub(super) fn open(draft: &'s mut Draft<'d>, stamp: Stamp) -> Result<Self, EngineError> {
        let ledger = Ledger::read(draft)?;
        Ok(Self { draft, ledger, stored: ledger, stamp })
    }

    /// Writes the ledger if it has changed.
    pub(super) fn close(self) {
        if self.ledger != self.stored {
            self.draft.put(LEDGER, Bytes::new(), self.ledger.encode());
        }
    }

    /// The replicated clock, in milliseconds.
    pub(super) const fn clock(&self) -> u64 {
        self.stamp.clock.millis()
    }

    /// A key. One that is too long to be stored is absent, and must not be stored.
    pub(super) fn slot<'k>(&self, key: &'k [u8]) -> Result<Slot<'k>, EngineError> {
        let clock = self.clock();
        if !fits(key) {
            return Ok(Slot { key, row: Bytes::new(), stored: None, clock });
        }
        let row = key_row(self.ledger.generation, key);
        let stored = match self.draft.get(KEYS, &row)? {
            Some(bytes) => Some(Record::decode(key, bytes)?),
            None => None,
        };
        Ok(Slot { key, row, stored, clock })
    }

    /// A new record, without a deadline.
    pub(super) fn record(&self, kind: Kind) -> Record {
        let revision = Revision { index: self.stamp.index, sub: self.stamp.sub };
        Record { kind, revision, deadline: None, elements: None, value: Bytes::new() }
    }

    /// The key holds a string from now on.
    pub(super) fn store_string(&mut self, slot: Slot<'_>, value: Bytes, deadline: Option<u64>) {
        let revision = Revision { index: self.stamp.index, sub: self.stamp.sub };
        let record = Record { kind: Kind::String, revision, deadline, elements: None, value };
        self.store(slot, &record);
    }

    /// The key holds what another one held, or held itself, under a deadline.
    pub(super) fn store_again(&mut self, slot: Slot<'_>, record: Record, deadline: Option<u64>) {
        let revision = Revision { index: self.stamp.index, sub: self.stamp.sub };
        self.store(slot, &Record { revision, deadline, ..record });
    }

    fn store(&mut self, slot: Slot<'_>, record: &Record) {
        if record.is_due(slot.clock) {
            return self.remove(slot);
        }
        let generation = self.ledger.generation;
        let owned = |record: &Record| record.elements.map(|elements| elements.generation);
        if let Some(stored) = &slot.stored
            && owned(stored) != owned(record)
        {
            self.drop_elements(stored);
        }
        let former = slot.stored.as_ref().and_then(|stored| stored.deadline);
        if former != record.deadline {
            if let Some(former) = former {
                self.draft.delete(EXPIRY, deadline_row(generation, former, slot.key));
                self.ledger.dated = self.ledger.dated.saturating_sub(1);
            }
            if let Some(deadline) = record.deadline {
                let row = deadline_row(generation, deadline, slot.key);
                self.draft.put(EXPIRY, row, Bytes::new());
                self.ledger.dated += 1;
            }
        }
        if slot.stored.is_none() {
            self.ledger.count += 1;
        }
        self.draft.put(KEYS, slot.row, record.encode());
    }

    /// Copies elements under a generation of their own, unless there are too many for one step.
    pub(super) fn copy_elements(
        &mut self,
        kind: Kind,
        from: Elements,
    ) -> Result<Option<Elements>, EngineError> {
        let owner = |elements| Owner { state: self.ledger.generation, elements };
        let next = self.ledger.elements;
        if from.count > MAX_COPIED as u64 {
            return Ok(None);
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for further in 0..kind.generations() {
            let (source, target) = (owner(from.generation + further), owner(next + further));
            source.each_row(self.draft, |row, value| {
                bytes += row.len() + value.len();
                rows.push((target.takes(&row), value));
                bytes <= MAX_COPIED_BYTES
            })?;
        }
        if bytes > MAX_COPIED_BYTES {
            return Ok(None);
        }
        for (row, value) in rows {
            self.draft.put(ELEMENTS, row, value);
        }
        self.ledger.elements += kind.generations();
        Ok(Some(Elements { generation: next, ..from }))
    }

    /// The elements of a record are not needed any more.
    pub(super) fn drop_elements(&mut self, record: &Record) {
        if let Some(elements) = record.elements {
            for further in 0..record.kind.generations() {
                let elements = elements.generation + further;
                let owner = Owner { state: self.ledger.generation, elements };
                self.draft.put(DROPPED, owner.dropped(), Bytes::new());
            }
        }
    }

    /// The key is gone, with its elements.
    pub(super) fn remove(&mut self, slot: Slot<'_>) {
        if let Some(record) = &slot.stored {
            self.drop_elements(record);
        }
        self.detach(slot);
    }

    /// The key is gone, and its elements become another one's.
    pub(super) fn detach(&mut self, slot: Slot<'_>) {
        let Some(record) = slot.stored else { return };
        if let Some(deadline) = record.deadline {
            self.draft.delete(EXPIRY, deadline_row(self.ledger.generation, deadline, slot.key));
            self.ledger.dated = self.ledger.dated.saturating_sub(1);
        }
        self.ledger.count = self.ledger.count.saturating_sub(1);
        self.draft.delete(KEYS, slot.row);
    }

    /// The instant in milliseconds of the replicated clock; one before the epoch is the epoch.
    pub(super) fn instant(&self, moment: Moment) -> u64 {
        let at = match moment {
            Moment::At(at) => at,
            Moment::After(span) => span.saturating_add_unsigned(self.clock()),
        };
        u64::try_from(at).unwrap_or(0)
    }

    /// The deadline that a lifetime asks for, seen from a key whose deadline is `current`.
    pub(super) fn deadline(&self, lifetime: Lifetime, current: Option<u64>) -> Option<u64> {
        match lifetime {
            Lifetime::Clear => None,
            Lifetime::Keep => current,
            Lifetime::Until(moment) => Some(self.instant(moment)),
        }
    }
}
