//! A key with elements while a command works on it.

use bytes::Bytes;
use common::storage::engine::EngineError;

use super::ELEMENTS;
use super::apply::Stop;
use super::command::Refusal;
use super::elements::Owner;
use super::record::{Elements, Kind, Record};
use super::state::{Slot, State};

/// The elements that a key holds, or will hold.
pub(super) struct Collection<'k> {
    slot: Slot<'k>,
    record: Record,
    elements: Elements,
    owner: Owner,
    /// The key was there before.
    there: bool,
    /// How many elements there are now.
    pub(super) count: u64,
}

/// A key as a collection of a kind: the one that it holds, or a new one.
pub(super) fn open<'k>(
    state: &mut State<'_, '_>,
    key: &'k [u8],
    kind: Kind,
) -> Result<Collection<'k>, Stop> {
    let slot = state.slot(key)?;
    let (record, elements, there) = if let Some(record) = slot.present() {
        let elements = record.elements.filter(|_| record.kind == kind);
        (record.clone(), elements.ok_or(Refusal::WrongType)?, true)
    } else {
        let elements = Elements { generation: state.ledger.elements, count: 0 };
        (state.record(kind), elements, false)
    };
    let owner = Owner { state: state.ledger.generation, elements: elements.generation };
    Ok(Collection { slot, record, elements, owner, there, count: elements.count })
}

impl Collection<'_> {
    /// Whether the key was there before.
    pub(super) const fn is_there(&self) -> bool {
        self.there
    }

    pub(super) const fn owner(&self) -> Owner {
        self.owner
    }

    /// What the record says beside its elements.
    pub(super) const fn value(&self) -> &Bytes {
        &self.record.value
    }

    /// The record says something else beside its elements.
    pub(super) fn set_value(&mut self, value: Bytes) {
        self.record.value = value;
    }

    /// The value of an element.
    pub(super) fn get(
        &self,
        state: &State<'_, '_>,
        element: &[u8],
    ) -> Result<Option<Bytes>, EngineError> {
        self.owner.get(state.draft, element)
    }

    /// An element gets a value; whether it is new.
    pub(super) fn put(
        &mut self,
        state: &mut State<'_, '_>,
        element: &[u8],
        value: Bytes,
    ) -> Result<bool, EngineError> {
        let new = self.get(state, element)?.is_none();
        state.draft.put(ELEMENTS, self.owner.row(element), value);
        self.count += u64::from(new);
        Ok(new)
    }

    /// An element is gone; whether it was there.
    pub(super) fn delete(
        &mut self,
        state: &mut State<'_, '_>,
        element: &[u8],
    ) -> Result<bool, EngineError> {
        let there = self.get(state, element)?.is_some();
        if there {
            state.draft.delete(ELEMENTS, self.owner.row(element));
            self.count = self.count.saturating_sub(1);
        }
        Ok(there)
    }

    /// Writes what has become of the key. Without elements there is none.
    pub(super) fn close(self, state: &mut State<'_, '_>) {
        if self.count == 0 {
            return state.remove(self.slot);
        }
        if !self.there {
            state.ledger.elements += self.record.kind.generations();
        }
        let deadline = self.record.deadline;
        let elements = Some(Elements { count: self.count, ..self.elements });
        state.store_again(self.slot, Record { elements, ..self.record }, deadline);
    }
}
