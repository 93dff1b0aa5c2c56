//! Writing a history down while a run goes on.

use std::collections::BTreeMap;

use super::{Fate, History, Operation, Outcome, Process};
use crate::time::SimTime;
use crate::workload::{Action, Class, Seen};

/// Which operation of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(usize);

/// What came back to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What happened to the data.
    pub outcome: Outcome,
    /// Whether it was acknowledged before it was committed.
    pub early: bool,
    /// What it showed.
    pub seen: Option<Seen>,
    /// The receipt of the write.
    pub receipt: Option<String>,
    /// The node that was asked.
    pub target: Option<u8>,
    /// What the client's session has seen now, for its next question.
    pub token: Option<String>,
    /// The session has lost a write, and is over.
    pub session_lost: bool,
}

impl Reply {
    /// An answer without anything to show.
    pub const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            early: false,
            seen: None,
            receipt: None,
            target: None,
            token: None,
            session_lost: false,
        }
    }

    /// A success that shows something.
    pub fn seen(seen: Seen) -> Self {
        Self { seen: Some(seen), ..Self::new(Outcome::Applied) }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    incarnation: u32,
    open: Option<OpId>,
    /// How many of its sessions are over.
    session: u32,
}

/// Writes down what clients do.
///
/// All of a run's clients share one recorder, and the order of calls is the order of events. Two
/// events never share a nanosecond: the later one is moved, so that the order survives in the times.
#[derive(Debug, Default)]
pub struct Recorder {
    operations: Vec<Operation>,
    clients: BTreeMap<u8, Client>,
    last: SimTime,
}

impl Recorder {
    /// A recorder with an empty history.
    pub fn new() -> Self {
        Self::default()
    }

    fn stamp(&mut self, now: SimTime) -> SimTime {
        self.last = now.max(SimTime(self.last.0 + 1));
        self.last
    }

    /// A client asks. If its former operation still runs or had an unknown outcome, the client
    /// continues as a new process.
    pub fn invoke(
        &mut self,
        now: SimTime,
        client: u8,
        class: Class,
        action: Action,
        deadline: Option<SimTime>,
    ) -> OpId {
        let invoked = self.stamp(now);
        let id = OpId(self.operations.len());
        let entry = self.clients.entry(client).or_default();
        if entry.open.replace(id).is_some() {
            entry.incarnation += 1;
        }
        self.operations.push(Operation {
            process: Process { client, incarnation: entry.incarnation },
            action,
            class,
            session: entry.session,
            target: None,
            invoked,
            returned: None,
            deadline,
            outcome: Outcome::Unknown,
            early: false,
            seen: None,
            receipt: None,
            fate: None,
        });
        id
    }

    /// The answer has come. A second answer to the same operation is ignored.
    pub fn complete(&mut self, now: SimTime, id: OpId, reply: Reply) {
        if self.operations[id.0].returned.is_some() {
            return;
        }
        let returned = self.stamp(now);
        let operation = &mut self.operations[id.0];
        operation.returned = Some(returned);
        operation.outcome = reply.outcome;
        operation.early = reply.early;
        operation.seen = reply.seen;
        operation.receipt = reply.receipt;
        operation.target = reply.target.or(operation.target);
        if reply.session_lost
            && let Some(client) = self.clients.get_mut(&operation.process.client)
        {
            client.session += 1;
        }
        if reply.outcome != Outcome::Unknown
            && let Some(client) = self.clients.get_mut(&operation.process.client)
            && client.open == Some(id)
        {
            client.open = None;
        }
    }

    /// The node that the client turned to, for an operation that may never return.
    pub fn target(&mut self, id: OpId, node: u8) {
        self.operations[id.0].target = Some(node);
    }

    /// A receipt resolved. [`Fate::Committed`] is stamped like every event.
    pub fn resolved(&mut self, now: SimTime, id: OpId, committed: bool) {
        let at = self.stamp(now);
        let fate = if committed { Fate::Committed(at) } else { Fate::Lost };
        self.operations[id.0].fate = Some(fate);
    }

    /// Writes that were acknowledged and whose fate is not known yet, with their receipts.
    pub fn unresolved(&self) -> Vec<(OpId, String)> {
        self.operations
            .iter()
            .enumerate()
            .filter(|(_, o)| o.fate.is_none())
            .filter_map(|(i, o)| o.receipt.clone().map(|receipt| (OpId(i), receipt)))
            .collect()
    }

    /// One operation as it stands.
    pub fn operation(&self, id: OpId) -> &Operation {
        &self.operations[id.0]
    }

    /// How many operations were invoked.
    pub const fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether nothing was invoked yet.
    pub const fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The history. What has not returned stays unknown.
    pub fn finish(self) -> History {
        History { operations: self.operations }
    }
}
