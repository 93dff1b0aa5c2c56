//! Who waits on the leader for more, or for less, than a commit, and when they are told.
//!
//! One task looks whenever a member is known to hold more, and asks members to say when they have
//! applied what somebody waits for: by themselves they tell with their next answer only. Those who wait are kept per mode and in
//! the order of their entries, so one look at the front of each queue tells whether anybody is due.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use common::consistency::{AckPoint, ReplicationMode};
use common::env::Env;
use common::ids::{LogPos, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use crate::raft::{Consensus, Slot};
use crate::replication_mode::{AckReport, Decision, Members, Progress, decide};

/// How often leadership and leases are looked at while somebody waits.
const TICK: Duration = Duration::from_millis(20);

/// Those who wait on this node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Acknowledger(Arc<Shared>);

impl fmt::Debug for Acknowledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acknowledger({:?})", self.0.env.node)
    }
}

struct Shared {
    env: Env,
    consensus: Consensus,
    queues: Mutex<Vec<Queue>>,
    /// Members that are asked to say when they have applied what somebody waits for.
    asked: Mutex<BTreeSet<NodeId>>,
    arrived: Notify,
}

/// Called with what was achieved, or not at all.
pub(crate) type Tell = Box<dyn FnOnce(Told) + Send>;

/// Those who wait with one mode.
struct Queue {
    mode: ReplicationMode,
    /// For entries that this node has proposed and that are not answered yet, in their order.
    proposed: VecDeque<(Weak<Slot>, Tell)>,
    /// For entries that are committed already.
    committed: Vec<(LogPos, oneshot::Sender<Told>)>,
}

/// What those who wait are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Where the entry stands.
    pub(crate) at: LogPos,
    /// Whether the mode is satisfied; else it cannot be.
    pub(crate) reached: bool,
    /// What is achieved.
    pub(crate) report: AckReport,
}

impl Acknowledger {
    /// Starts the task of a node.
    pub(crate) fn start(env: &Env, consensus: Consensus) -> Self {
        let shared = Arc::new(Shared {
            env: env.clone(),
            consensus,
            queues: Mutex::default(),
            asked: Mutex::default(),
            arrived: Notify::new(),
        });
        env.spawn("acknowledger", tell(shared.clone()));
        Self(shared)
    }

    /// Tells when a mode is satisfied that may be before the entry of this slot is committed. Not
    /// when the entry is answered first, or when this node leads no more.
    pub(crate) fn early(&self, slot: &Arc<Slot>, mode: ReplicationMode, tell: Tell) {
        self.0.with(mode, |queue| queue.proposed.push_back((Arc::downgrade(slot), tell)));
    }

    /// Waits for a mode that asks for more than a commit. The entry must be applied here. The
    /// sender is dropped when this node leads no more.
    pub(crate) fn reached(&self, at: LogPos, mode: ReplicationMode) -> oneshot::Receiver<Told> {
        let (done, told) = oneshot::channel();
        self.0.with(mode, |queue| queue.committed.push((at, done)));
        told
    }

    /// What is known of an entry.
    pub(crate) fn report(&self, at: LogPos) -> AckReport {
        self.0.consensus.progress().0.report(at)
    }
}

impl Shared {
    fn queues(&self) -> MutexGuard<'_, Vec<Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, mode: ReplicationMode, add: impl FnOnce(&mut Queue)) {
        let mut queues = self.queues();
        if let Some(queue) = queues.iter_mut().find(|queue| queue.mode == mode) {
            add(queue);
        } else {
            let mut queue = Queue { mode, proposed: VecDeque::new(), committed: Vec::new() };
            add(&mut queue);
            queues.push(queue);
        }
        drop(queues);
        self.arrived.notify_one();
    }

    fn look(self: &Arc<Self>) {
        let mut queues = self.queues();
        if queues.is_empty() {
            return;
        }
        if self.consensus.leads().is_none() {
            queues.clear();
            return;
        }
        let (seen, members) = self.consensus.progress();
        for queue in queues.iter_mut() {
            queue.look(&seen, &members);
        }
        queues.retain(|queue| !queue.proposed.is_empty() || !queue.committed.is_empty());
        let applied = |queue: &&Queue| {
            matches!(queue.mode, ReplicationMode::Sync { point: AckPoint::Applied, .. })
        };
        let waiting = queues.iter().filter(applied).flat_map(|queue| &queue.committed);
        let Some(at) = waiting.map(|(at, _)| *at).max() else { return };
        drop(queues);
        for member in members.voters.iter().chain(&members.learners) {
            let has = seen.applied.get(member).is_some_and(|applied| applied.index >= at.index);
            if !has && *member != self.env.node && self.asked().insert(*member) {
                let (shared, member) = (self.clone(), *member);
                self.env.spawn("ask what is applied", async move {
                    shared.consensus.ask_applied(member, at).await;
                    shared.asked().remove(&member);
                    shared.arrived.notify_one();
                });
            }
        }
    }

    fn asked(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn look(&mut self, seen: &Progress, members: &Members) {
        let told = |at: LogPos, decision: Decision| Told {
            at,
            reached: decision == Decision::Acknowledge,
            report: seen.report(at),
        };
        while let Some((slot, _)) = self.proposed.front() {
            // One whose proposal is answered is told by that answer.
            let decision = match slot.upgrade().map(|slot| slot.appended()) {
                // Behind a gap in its session it would be committed without an effect.
                None | Some(Some((_, false))) => None,
                Some(None) => break,
                Some(Some((at, true))) => match decide(&self.mode, at, seen, members) {
                    Decision::Wait => break,
                    decision => Some((at, decision)),
                },
            };
            let Some((_, tell)) = self.proposed.pop_front() else { break };
            if let Some((at, decision @ Decision::Acknowledge)) = decision {
                tell(told(at, decision));
            }
        }
        let waiting = std::mem::take(&mut self.committed);
        self.committed = waiting
            .into_iter()
            .filter_map(|(at, done)| match decide(&self.mode, at, seen, members) {
                _ if done.is_closed() => None,
                Decision::Wait => Some((at, done)),
                decision => {
                    let _ = done.send(told(at, decision));
                    None
                }
            })
            .collect();
    }
}

async fn tell(shared: Arc<Shared>) {
    let mut acks = shared.consensus.watch_acks();
    loop {
        if shared.queues().is_empty() {
            shared.arrived.notified().await;
        }
        acks.borrow_and_update();
        shared.look();
        let waits = !shared.queues().is_empty();
        tokio::select! {
            changed = acks.changed(), if waits => {
                if changed.is_err() {
                    return;
                }
            }
            () = shared.arrived.notified() => {}
            () = shared.env.sleep(TICK), if waits => {}
        }
    }
}
