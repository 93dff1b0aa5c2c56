//! Which member holds what durably, as far as the current term has proven it.
//!
//! openraft's metrics are coalesced and count positions by index, so they may be late, and may count
//! a stale entry of an older term. Here are whole positions: this node's own from the syncs of its
//! log, the others' from the replies to append streams of the current term. A reply that belongs to
//! another term is ignored, however large its position.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use common::env::Mono;
use common::ids::{LogPos, NodeId};
use tokio::sync::watch;

/// The slots of one node. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Acks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    node: NodeId,
    slots: Mutex<Slots>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Slots {
    /// The term this node leads, if it leads.
    term: Option<u64>,
    /// How far this node's own log is synced. Outlives terms: the log does.
    own: Option<LogPos>,
    /// How often this node's own log was cut.
    cuts: u64,
    durable: BTreeMap<NodeId, LogPos>,
    applied: BTreeMap<NodeId, LogPos>,
    /// When each member has answered last.
    heard: BTreeMap<NodeId, Mono>,
}

/// The slots at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The last entry that each member holds durably, this node included.
    pub(crate) durable: BTreeMap<NodeId, LogPos>,
    /// The last entry that each other member has applied.
    pub(crate) applied: BTreeMap<NodeId, LogPos>,
    /// When each other member has answered last.
    pub(crate) heard: BTreeMap<NodeId, Mono>,
}

impl Slots {
    fn forget_others(&mut self) {
        self.durable.clear();
        self.applied.clear();
        self.heard.clear();
    }
}

impl Acks {
    /// Empty slots of `node`.
    pub(crate) fn new(node: NodeId) -> Self {
        let changes = watch::Sender::new(0);
        Self(Arc::new(Shared { node, slots: Mutex::default(), changes }))
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// This node leads `term` now. What other members were known to hold is forgotten.
    pub(super) fn lead(&self, term: u64) {
        let mut slots = self.slots();
        if slots.term != Some(term) {
            slots.term = Some(term);
            slots.forget_others();
            drop(slots);
            self.changed();
        }
    }

    /// This node does not lead now. What other members were known to hold is forgotten.
    pub(super) fn follow(&self) {
        let mut slots = self.slots();
        if slots.term.take().is_some() {
            slots.forget_others();
            drop(slots);
            self.changed();
        }
    }

    /// How often this node's own log was cut so far.
    pub(super) fn cuts(&self) -> u64 {
        self.slots().cuts
    }

    /// This node's own log is synced up to here, unless it was cut since an entry was appended,
    /// when it had been cut `cuts` times: the sync may be of what is gone by now.
    pub(super) fn synced(&self, at: LogPos, cuts: u64) {
        let mut slots = self.slots();
        if slots.own < Some(at) && slots.cuts == cuts {
            slots.own = Some(at);
            drop(slots);
            self.changed();
        }
    }

    /// This node's own log ends here now: what was synced behind it does not count any more.
    pub(super) fn truncated(&self, after: Option<LogPos>) {
        let mut slots = self.slots();
        slots.cuts += 1;
        if slots.own > after {
            slots.own = after;
            drop(slots);
            self.changed();
        }
    }

    /// A member holds everything up to `at` durably, says its reply to an append of `term`.
    pub(super) fn durable(&self, term: u64, member: NodeId, at: LogPos) {
        self.note(term, |slots| &mut slots.durable, member, at);
    }

    /// A member has applied everything up to `at`, says its reply to an append of `term`.
    pub(super) fn applied(&self, term: u64, member: NodeId, at: LogPos) {
        self.note(term, |slots| &mut slots.applied, member, at);
    }

    /// A member has answered an append of `term` now.
    pub(super) fn heard(&self, term: u64, member: NodeId, now: Mono) {
        let mut slots = self.slots();
        if slots.term == Some(term) {
            slots.heard.insert(member, now);
        }
    }

    fn note(
        &self,
        term: u64,
        which: impl FnOnce(&mut Slots) -> &mut BTreeMap<NodeId, LogPos>,
        member: NodeId,
        at: LogPos,
    ) {
        let mut slots = self.slots();
        if slots.term != Some(term) {
            common::sometimes!("ack-of-another-term-ignored");
            return;
        }
        let slot = which(&mut slots).entry(member).or_insert(at);
        // Replies of one stream come in order, but a stream may have been replaced by another.
        let news = *slot <= at;
        *slot = at.max(*slot);
        drop(slots);
        if news {
            self.changed();
        }
    }

    /// How far this node's own log is synced.
    #[cfg(test)]
    pub(crate) fn own(&self) -> Option<LogPos> {
        self.slots().own
    }

    /// The last entry that each member holds durably: this node, and those that have proven theirs
    /// in the term that this node leads. Others are missing.
    pub(crate) fn matched(&self) -> BTreeMap<NodeId, LogPos> {
        self.held().durable
    }

    /// Everything that is known.
    pub(crate) fn held(&self) -> Held {
        let slots = self.slots();
        let mut durable = slots.durable.clone();
        if let Some(own) = slots.own {
            durable.insert(self.0.node, own);
        }
        Held { durable, applied: slots.applied.clone(), heard: slots.heard.clone() }
    }

    /// The last entry that each other member has applied, as far as the term that this node leads
    /// has told.
    #[cfg(test)]
    pub(crate) fn applied_by(&self) -> BTreeMap<NodeId, LogPos> {
        self.slots().applied.clone()
    }

    /// Changes whenever a slot does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(term: u64, index: u64) -> LogPos {
        LogPos { term, index }
    }

    #[test]
    fn an_ack_of_another_term_is_ignored() {
        let acks = Acks::new(NodeId(1));
        acks.durable(1, NodeId(2), at(1, 9));
        assert!(acks.matched().is_empty(), "a node that does not lead counts nobody");
        acks.lead(2);
        acks.durable(1, NodeId(2), at(1, 99));
        acks.durable(2, NodeId(3), at(1, 5));
        acks.durable(3, NodeId(4), at(3, 6));
        assert_eq!(acks.matched(), [(NodeId(3), at(1, 5))].into());
    }

    #[test]
    fn a_new_term_forgets_the_others_but_not_the_own_log() {
        let acks = Acks::new(NodeId(1));
        acks.lead(1);
        acks.synced(at(1, 4), 0);
        acks.durable(1, NodeId(2), at(1, 4));
        acks.applied(1, NodeId(2), at(1, 3));
        acks.lead(1);
        assert_eq!(acks.matched().len(), 2, "the same term again forgets nothing");
        acks.lead(2);
        assert_eq!(acks.matched(), [(NodeId(1), at(1, 4))].into());
        assert!(acks.applied_by().is_empty());
        acks.durable(2, NodeId(2), at(1, 2));
        acks.follow();
        assert_eq!(acks.matched(), [(NodeId(1), at(1, 4))].into());
    }

    #[test]
    fn an_older_reply_takes_nothing_back_but_a_truncation_does() {
        let acks = Acks::new(NodeId(1));
        acks.lead(2);
        acks.durable(2, NodeId(2), at(2, 8));
        acks.durable(2, NodeId(2), at(2, 7));
        acks.synced(at(1, 9), 0);
        acks.truncated(Some(at(1, 6)));
        acks.truncated(Some(at(1, 7)));
        assert_eq!(acks.matched(), [(NodeId(1), at(1, 6)), (NodeId(2), at(2, 8))].into());
        acks.synced(at(1, 9), 0);
        assert_eq!(acks.own(), Some(at(1, 6)), "a sync that was under way counts no more");
        acks.truncated(None);
        assert_eq!((acks.own(), acks.cuts()), (None, 3));
    }

    #[tokio::test]
    async fn whoever_watches_sees_each_change() {
        let acks = Acks::new(NodeId(1));
        let mut changes = acks.changes();
        assert!(!changes.has_changed().unwrap());
        acks.synced(at(1, 1), 0);
        changes.changed().await.unwrap();
        acks.synced(at(1, 1), 0);
        assert!(!changes.has_changed().unwrap(), "the same again is no change");
    }
}
