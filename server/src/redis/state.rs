//! The keys while a command changes them: the one place that keeps records, deadlines' rows and the
//! ledger in step.

use bytes::Bytes;
use common::storage::engine::{EngineError, Read};
use leader::key_value::Revision;
use leader::state_machine::{Draft, Stamp};

use super::admission::fits;
use super::command::{Lifetime, Moment};
use super::record::{Kind, Record};
use super::rows::{Ledger, deadline_row, key_row};
use super::{EXPIRY, KEYS, LEDGER};

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

    /// The key is gone.
    pub(super) fn remove(&mut self, slot: Slot<'_>) {
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
