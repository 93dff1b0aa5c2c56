//! The leader's side of a write: stamp it, propose it, answer when it is applied.
//!
//! One task proposes for the whole node, in the order of arrival, so that stamps grow along the log
//! and a client's batches stay in order. Nothing lingers: what has arrived is proposed, and the log
//! groups what is queued into one sync.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::ReplicationMode;
use common::env::Env;
use common::sometimes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::acknowledge::{Acknowledger, Told};
use crate::apply::{Applier, Weighed};
use crate::entry::{Ask, Commands, Entry};
use crate::quota::{OverQuota, Quota, Usage};
use crate::raft::{Batch, Consensus, Growth, Proposed, Slot};
use crate::term_clock::TermClock;
use crate::write::Attempt;

/// How long a new leader waits for the other voters' clocks.
const CLOCKS: Duration = Duration::from_millis(100);

/// Proposes for this node while it leads.
#[derive(Clone, Debug)]
pub(crate) struct Proposer {
    inbox: mpsc::UnboundedSender<Proposal>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env,
    consensus: Consensus,
    acknowledger: Acknowledger,
    applier: Arc<dyn Applier>,
    clock: Mutex<Option<TermClock>>,
    in_flight: AtomicUsize,
    limit: usize,
    quota: Quota,
    /// What is under way may add to the state, in bytes and keys.
    growing: [AtomicU64; 2],
    /// Commands that a quota has refused.
    refused: AtomicU64,
}

struct Proposal {
    ask: Ask,
    room: Room,
    growth: Growth,
    early: Vec<Early>,
    done: oneshot::Sender<Attempt>,
}

/// Commands of a proposal that may be acknowledged before it is committed.
pub(crate) struct Early {
    /// By which mode.
    pub(crate) mode: ReplicationMode,
    /// Called with the entry's time, if the mode is satisfied before the commit.
    pub(crate) tell: Box<dyn FnOnce(Hlc, Told) + Send>,
}

impl Proposer {
    /// Starts the proposing task.
    pub(crate) fn start(
        env: &Env,
        consensus: Consensus,
        acknowledger: Acknowledger,
        applier: Arc<dyn Applier>,
        limit: usize,
        quota: Quota,
    ) -> Self {
        let (inbox, proposals) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            env: env.clone(),
            consensus,
            acknowledger,
            applier,
            clock: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            limit,
            quota,
            growing: Default::default(),
            refused: AtomicU64::new(0),
        });
        env.spawn("proposer", propose(shared.clone(), proposals));
        Self { inbox, shared }
    }

    /// Proposes, in the order of these calls. `shrinks` passes on a full disk.
    pub(crate) fn submit(&self, ask: Ask, shrinks: bool) -> oneshot::Receiver<Attempt> {
        self.submit_with(ask, shrinks, Vec::new())
    }

    /// The same, with commands that may be acknowledged before the commit.
    pub(crate) fn submit_with(
        &self,
        ask: Ask,
        shrinks: bool,
        early: Vec<Early>,
    ) -> oneshot::Receiver<Attempt> {
        let (done, answer) = oneshot::channel();
        let size = size(&ask);
        let shared = &self.shared;
        let refusal = if shared.consensus.leads().is_none() {
            Some(Attempt::NotLeader(shared.consensus.leader()))
        } else if common::mutate!(
            "proposals_without_limit",
            shared.in_flight.load(Ordering::Relaxed) + size > shared.limit,
            false
        ) {
            common::sometimes!("proposal-overloaded");
            Some(Attempt::Overloaded)
        } else if !shrinks && shared.consensus.disk_full() {
            common::sometimes!("disk-full-refused");
            Some(Attempt::DiskFull)
        } else {
            None
        };
        let admitted = refusal.map_or_else(|| shared.room_for(&ask), Err);
        let room = match admitted {
            Ok(growth) => Room::take(shared.clone(), size, growth),
            Err(refusal) => {
                let _ = done.send(refusal);
                return answer;
            }
        };
        let growth = if shrinks { Growth::Shrinks } else { Growth::Grows };
        let _ = self.inbox.send(Proposal { ask, room, growth, early, done });
        answer
    }

    /// Why a command of this node would be refused now, if this node leads: it need not take a place in
    /// the order for that.
    pub(crate) fn over_quota(&self, command: &Bytes) -> Option<OverQuota> {
        self.shared.consensus.leads()?;
        match self.shared.room(std::slice::from_ref(command)) {
            Err(Attempt::OverQuota { why, .. }) => Some(why),
            _ => None,
        }
    }

    /// How large the state may become, and how many commands this node has refused for that.
    pub(crate) fn quota(&self) -> (Quota, u64) {
        let shared = &self.shared;
        let quota = shared.applier.counter().quota.unwrap_or(shared.quota);
        (quota, shared.refused.load(Ordering::Relaxed))
    }

    /// The replicated clock as this leader keeps it, if it leads and has begun to.
    pub(crate) fn now(&self) -> Option<Hlc> {
        let term = self.shared.consensus.leads()?;
        let clock = (*self.shared.clock()).filter(|clock| clock.term() == term)?;
        Some(clock.read(self.shared.env.now()))
    }
}

impl Shared {
    /// What an entry may add to the state, unless its quota refuses that.
    fn room_for(&self, ask: &Ask) -> Result<Usage, Attempt> {
        let Ask::Commands(Commands { client, first, list, .. }) = ask else {
            return Ok(Usage::default());
        };
        if !self.applier.counter().quota.unwrap_or(self.quota).is_hard() {
            return Ok(Usage::default());
        }
        // What was applied before changes nothing now.
        let last = first.saturating_add(list.len() as u64).saturating_sub(1);
        if self.applier.last_of(*client).is_some_and(|applied| applied >= last) {
            return Ok(Usage::default());
        }
        self.room(list)
    }

    /// What commands may add to the state.
    fn room(&self, commands: &[Bytes]) -> Result<Usage, Attempt> {
        let counter = self.applier.counter();
        let quota = counter.quota.unwrap_or(self.quota);
        if !quota.is_hard() {
            return Ok(Usage::default());
        }
        let bytes = commands.iter().map(|command| command.len() as u64).sum();
        let roughly = Usage { bytes, keys: commands.len() as u64 };
        let [under_way, keys] = self.growing.each_ref().map(|it| it.load(Ordering::Relaxed));
        let under_way = Usage { bytes: under_way, keys };
        let all = counter.usage.and(under_way).and(roughly).and(roughly);
        if quota.is_far(all) {
            return Ok(roughly);
        }
        sometimes!("quota-weighed");
        // A new leader judges by what all leaders before it have proposed.
        let applied = self.applier.applied().at;
        if self.consensus.leads() != applied.map(|at| at.term) {
            return Err(Attempt::NotLeader(Some(self.env.node)));
        }
        match self.applier.weigh(commands, under_way, quota) {
            Ok(Weighed { refused: Some((why, places)), .. }) => {
                sometimes!("quota-refused");
                self.refused.fetch_add(places.len() as u64, Ordering::Relaxed);
                Err(Attempt::OverQuota { why, places })
            }
            Ok(Weighed { growth, .. }) => Ok(growth.room()),
            // What fails here fails where it is applied, and is told there.
            Err(_) => Ok(roughly),
        }
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Option<TermClock>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stamp of an entry of this term, starting the term's clock with its first one.
    async fn stamp(&self, term: u64) -> Hlc {
        let known = (*self.clock()).filter(|clock| clock.term() == term);
        if let Some(clock) = known {
            return clock.read(self.env.now());
        }
        let walls = self.walls().await;
        let last = self.applier.applied().clock;
        let clock = TermClock::start(term, last, &walls, self.env.now());
        *self.clock() = Some(clock);
        clock.read(self.env.now())
    }

    /// The wall clocks of this node and of as many voters as answer first to make a majority.
    async fn walls(&self) -> Vec<u64> {
        let mut walls = vec![self.env.clock.wall_millis()];
        let peers = self.consensus.other_voters();
        let enough = peers.len().div_ceil(2);
        let mut pings: FuturesUnordered<_> =
            peers.iter().map(|peer| self.consensus.ping(*peer, CLOCKS)).collect();
        while walls.len() <= enough {
            match pings.next().await {
                Some(Some(wall)) => walls.push(wall),
                Some(None) => {}
                None => break,
            }
        }
        walls
    }
}

fn size(ask: &Ask) -> usize {
    let commands = match ask {
        Ask::Open | Ask::Found { .. } | Ask::Check | Ask::Quota(_) | Ask::Replace(_) => return 64,
        Ask::Describe { attributes, .. } => return 64 * (1 + attributes.len()),
        Ask::Commands(commands) => &commands.list,
        Ask::Due(commands) => commands,
    };
    commands.iter().map(Bytes::len).sum::<usize>() + 64 * commands.len()
}

async fn propose(shared: Arc<Shared>, mut proposals: mpsc::UnboundedReceiver<Proposal>) {
    while let Some(Proposal { ask, room, growth, early, done }) = proposals.recv().await {
        let Some(term) = shared.consensus.leads() else {
            drop(room);
            let _ = done.send(Attempt::NotLeader(shared.consensus.leader()));
            continue;
        };
        let stamp = shared.stamp(term).await;
        let batch = match &ask {
            Ask::Commands(Commands { client, first, list, .. }) => {
                let last = first.saturating_add(list.len() as u64).saturating_sub(1);
                let applied = shared.applier.last_of(*client);
                Some(Batch { client: *client, first: *first, last, applied })
            }
            _ => None,
        };
        let body = Entry { stamp, ask }.encode();
        let answer = move |proposed| {
            drop(room);
            let _ = done.send(match proposed {
                Proposed::Applied(reply) => Attempt::Answered(reply),
                Proposed::NotLeader(leader) => Attempt::NotLeader(leader),
                Proposed::Unknown(at) => Attempt::Unknown(at),
            });
        };
        let slot = Slot::new(batch);
        for Early { mode, tell } in early {
            let tell = Box::new(move |told| tell(stamp, told));
            shared.acknowledger.early(&slot, mode, tell);
        }
        shared.consensus.propose(body, growth, slot, answer).await;
    }
}

/// What a proposal takes while it is under way. It is given back when it has ended, however it ended.
struct Room {
    shared: Arc<Shared>,
    size: usize,
    growth: Usage,
}

impl Room {
    fn take(shared: Arc<Shared>, size: usize, growth: Usage) -> Self {
        shared.in_flight.fetch_add(size, Ordering::Relaxed);
        shared.growing[0].fetch_add(growth.bytes, Ordering::Relaxed);
        shared.growing[1].fetch_add(growth.keys, Ordering::Relaxed);
        Self { shared, size, growth }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let Self { shared, size, growth } = self;
        shared.in_flight.fetch_sub(*size, Ordering::Relaxed);
        shared.growing[0].fetch_sub(growth.bytes, Ordering::Relaxed);
        shared.growing[1].fetch_sub(growth.keys, Ordering::Relaxed);
    }
}
