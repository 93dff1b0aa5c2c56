//! What is replicated: a state machine of your own behind three functions.
//!
//! A command is ordered by the leader, made durable by a majority, and then applied by every
//! member in the same order. So `apply` must be **deterministic**: no clocks, no randomness, no
//! hash-map order; time comes in as the command's stamp. Its changes go into the engine in one
//! atomic batch with the position of the log.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::apply::OWN_PREFIX;
use crate::node::View;
use crate::quota::Change as Growth;
use crate::rollback::{AbsentKeys, Again};
use crate::watch::{Change, ChangedRow};
use bytes::Bytes;
use common::clock::Hlc;
use common::storage::engine::{
    Batch, Change as Changed, EngineError, KeyRange, Keyspace, Page, PageLimit, Read,
};
use serde::{Serialize, de::DeserializeOwned};

/// Why a command is refused before it is proposed. It is not applied, now or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// What is wrong, for the one who sent it.
    pub reason: String,
}

/// Where a command stands in the replicated order, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The replicated clock: never goes back, equal on all members.
    pub clock: Hlc,
    /// Index of the log entry. Commands of one batch share it.
    pub index: u64,
    /// The command's number within its entry.
    pub sub: u16,
}

/// A state machine: deterministic application of commands to an ordered key-value state.
pub trait StateMachine: Send + Sync + 'static {
    /// What is replicated. Encoded once, on the leader.
    type Command: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What `apply` answers.
    type Reply: Serialize + DeserializeOwned + Send + Sync + Clone + 'static;

    /// Refuses what must not be proposed: sizes over a limit, malformed arguments. What is refused
    /// here costs no log entry.
    fn admit(&self, command: &Self::Command) -> Result<(), Refused> {
        let _ = command;
        Ok(())
    }

    /// Whether the command only shrinks the state, so that it passes on a full disk.
    fn shrinks(&self, command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// Whether a command passes a hard quota without being tried: one that only shrinks the state, or
    /// helps to. Any other passes if it does not grow the state, as [`crate::quota`] tells.
    fn passes_quota(&self, command: &Self::Command) -> bool {
        self.shrinks(command)
    }

    /// Whether each row of a keyspace is a key, as users count them. Default: yes.
    fn holds_keys(&self, keyspace: Keyspace) -> bool {
        let _ = keyspace;
        true
    }

    /// The reply to a command that is the same whatever the state is: only such a command can be
    /// acknowledged before it is applied, by a mode that does not wait for the commit. All others
    /// are answered once they are applied, in every mode.
    fn blind_reply(&self, command: &Self::Command) -> Option<Self::Reply> {
        let _ = command;
        None
    }

    /// Applies one command. Reads through `state` see the changes it made so far, and those of all
    /// earlier commands. An error is a failure of the storage under it and stops the node, and so
    /// does a panic; a command that cannot be done (wrong type, overflow) is a reply.
    fn apply(
        &self,
        state: &mut Draft<'_>,
        command: &Self::Command,
        stamp: Stamp,
    ) -> Result<Self::Reply, EngineError>;

    /// Answers a read that [`Node::read`](crate::Node::read) has taken, on the member whose state `view`
    /// is. Both are encoded as the machine likes. Default: refuses.
    fn answer(&self, view: &View, query: &[u8]) -> Result<Bytes, Refused> {
        let _ = (view, query);
        let reason = "this machine answers no reads for other members".to_owned();
        Err(Refused { reason })
    }

    /// A command that a failover has lost, for a second time: made conditional on what it changes
    /// being as it is in `state`, if that was last changed before the log index `before`. See
    /// [`Node::replay`](crate::Node::replay).
    fn again(
        &self,
        state: &dyn Read,
        clock: Hlc,
        command: &Self::Command,
        before: u64,
        absent: AbsentKeys,
    ) -> Result<Again<Self::Command>, EngineError> {
        let _ = (state, clock, command, before, absent);
        Ok(Again::Never)
    }

    /// Whether a command of [`StateMachine::again`] took place, by its reply.
    fn took_place(&self, reply: &Self::Reply) -> bool {
        let _ = reply;
        true
    }

    /// A command in words, for whoever looks into a rollback file.
    fn describe(&self, command: &Self::Command) -> String {
        let _ = command;
        "(this machine does not describe its commands)".to_owned()
    }

    /// What a command has done, for the change feed ([`crate::watch`]): made of the `rows` it has
    /// changed, in the order in which it touched them first, each as it is after the command. `state`
    /// is the one after the command. It must be deterministic, as `apply` is. An empty answer means
    /// that nobody is told.
    fn changes(
        &self,
        state: &dyn Read,
        command: &Self::Command,
        rows: &[ChangedRow],
    ) -> Result<Vec<Change>, EngineError> {
        let _ = (state, command, rows);
        Ok(Vec::new())
    }

    /// At most `limit` commands that deadlines up to `upto`, or unfinished sweeping, ask for now.
    /// The leader replicates the time, then every member applies these commands at that place in
    /// the order. An empty answer means there is nothing to do.
    fn due(
        &self,
        state: &dyn Read,
        upto: Hlc,
        limit: usize,
    ) -> Result<Vec<Self::Command>, EngineError> {
        let _ = (state, upto, limit);
        Ok(Vec::new())
    }
}

/// The state as one command sees it: what is stored, overlaid with what was changed since.
pub struct Draft<'a> {
    base: &'a dyn Read,
    /// Per keyspace and key, the new value, or none where the key is gone.
    overlay: BTreeMap<Keyspace, BTreeMap<Bytes, Option<Bytes>>>,
    changed: usize,
    /// What was touched since somebody asked, if it is noted.
    touched: Option<Vec<(Keyspace, Bytes)>>,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changes: usize = self.overlay.values().map(BTreeMap::len).sum();
        f.debug_struct("Draft").field("changes", &changes).finish_non_exhaustive()
    }
}

impl<'a> Draft<'a> {
    /// A draft without changes over a stored state.
    pub fn new(base: &'a dyn Read) -> Self {
        Self { base, overlay: BTreeMap::new(), changed: 0, touched: None }
    }

    /// Notes from now on which rows are touched, for [`Draft::take_rows`].
    pub fn note_rows(&mut self) {
        self.touched = Some(Vec::new());
    }

    /// The machine's rows that were touched since the call before, in the order of the first touch,
    /// as they are now: what [`StateMachine::changes`] gets after each command.
    pub fn take_rows(&mut self) -> Vec<ChangedRow> {
        let Some(touched) = &mut self.touched else { return Vec::new() };
        let mut rows: Vec<ChangedRow> = Vec::new();
        let mut seen = BTreeSet::new();
        for (keyspace, key) in std::mem::take(touched) {
            if keyspace.0.starts_with(OWN_PREFIX) || !seen.insert((keyspace, key.clone())) {
                continue;
            }
            let value = self.overlay.get(&keyspace).and_then(|changes| changes.get(&key));
            let value = value.cloned().flatten();
            rows.push(ChangedRow { keyspace, key, value });
        }
        rows
    }

    fn touch(&mut self, keyspace: Keyspace, key: &Bytes) {
        if let Some(touched) = &mut self.touched {
            touched.push((keyspace, key.clone()));
        }
    }

    /// The key gets the value.
    pub fn put(&mut self, keyspace: Keyspace, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.changed += key.len() + value.len();
        self.touch(keyspace, &key);
        self.overlay.entry(keyspace).or_default().insert(key, Some(value));
    }

    /// The key is gone.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Bytes>) {
        let key = key.into();
        self.changed += key.len();
        self.touch(keyspace, &key);
        self.overlay.entry(keyspace).or_default().insert(key, None);
    }

    /// Bytes of keys and values changed so far, counting repeated changes again.
    pub const fn changed_bytes(&self) -> usize {
        self.changed
    }

    /// What the changes add to the machine's rows.
    pub(crate) fn growth(
        &self,
        holds_keys: &dyn Fn(Keyspace) -> bool,
    ) -> Result<Growth, EngineError> {
        let mut growth = Growth::default();
        for (keyspace, changes) in &self.overlay {
            if keyspace.0.starts_with(OWN_PREFIX) {
                continue;
            }
            for (key, value) in changes {
                let size =
                    |value: &Bytes| i64::try_from(key.len() + value.len()).unwrap_or(i64::MAX);
                let stored = self.base.get(*keyspace, key)?;
                growth.bytes += value.as_ref().map_or(0, size) - stored.as_ref().map_or(0, size);
                if holds_keys(*keyspace) {
                    growth.keys += i64::from(value.is_some()) - i64::from(stored.is_some());
                }
            }
        }
        Ok(growth)
    }

    /// The keyspaces with changes.
    pub(crate) fn keyspaces(&self) -> impl Iterator<Item = Keyspace> {
        self.overlay.keys().copied()
    }

    /// Makes the changes of a draft over this one its own.
    pub(crate) fn take_over(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Changed::Put(keyspace, key, value) => self.put(keyspace, key, value),
                Changed::Delete(keyspace, key) => self.delete(keyspace, key),
            }
        }
    }

    /// The changes as one batch.
    pub fn into_batch(self) -> Batch {
        let mut batch = Batch::new();
        for (keyspace, changes) in self.overlay {
            for (key, value) in changes {
                match value {
                    Some(value) => batch.put(keyspace, key, value),
                    None => batch.delete(keyspace, key),
                }
            }
        }
        batch
    }
}

impl Read for Draft<'_> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.overlay.get(&keyspace).and_then(|changes| changes.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(keyspace, key),
        }
    }

    fn scan(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: PageLimit,
    ) -> Result<Page, EngineError> {
        let Some(changes) = self.overlay.get(&keyspace) else {
            return self.base.scan(keyspace, range, limit);
        };
        let mut range = range.clone();
        loop {
            if range.is_empty() {
                return Ok(Page::default());
            }
            let base = self.base.scan(keyspace, &range, limit)?;
            // The base's page is complete up to its last key: only changes up to there belong to
            // this page, or all of the range's when the base has no more.
            let complete = match base.items.last() {
                Some((last, _)) if base.more => Some(last.clone()),
                _ => None,
            };
            let end = complete.clone().map_or_else(|| range.end.clone(), Bound::Included);
            let mut merged: BTreeMap<Bytes, Bytes> = base.items.into_iter().collect();
            for (key, value) in changes.range((range.start.clone(), end)) {
                match value {
                    Some(value) => merged.insert(key.clone(), value.clone()),
                    None => merged.remove(key),
                };
            }
            match complete {
                // All that the base's page held is deleted: an empty page with more to come would
                // leave the caller no key to go on from.
                Some(last) if merged.is_empty() => range = range.after(last),
                complete => return Ok(cut(merged, limit, complete.is_some())),
            }
        }
    }
}

/// The first items within the limit, at least one.
fn cut(merged: BTreeMap<Bytes, Bytes>, limit: PageLimit, more: bool) -> Page {
    let mut page = Page { items: Vec::new(), more };
    let mut bytes = 0;
    for (key, value) in merged {
        let full = page.items.len() >= limit.items || bytes >= limit.bytes;
        if full && !page.items.is_empty() {
            page.more = true;
            break;
        }
        bytes += key.len() + value.len();
        page.items.push((key, value));
    }
    page
}
