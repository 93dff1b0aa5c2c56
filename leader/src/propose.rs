//! The leader's side of a write: stamp it, propose it, answer when it is applied.
//!
//! One task proposes for the whole node, in the order of arrival, so that stamps grow along the log
//! and a client's batches stay in order. Nothing lingers: what has arrived is proposed, and the log
//! groups what is queued into one sync.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::ReplicationMode;
use common::env::Env;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};

use crate::acknowledge::{Acknowledger, Told};
use crate::apply::Applier;
use crate::entry::{Ask, Commands, Entry};
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
}

struct Proposal {
    ask: Ask,
    size: usize,
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
        if let Some(refusal) = refusal {
            let _ = done.send(refusal);
            return answer;
        }
        shared.in_flight.fetch_add(size, Ordering::Relaxed);
        let growth = if shrinks { Growth::Shrinks } else { Growth::Grows };
        let _ = self.inbox.send(Proposal { ask, size, growth, early, done });
        answer
    }

    /// The replicated clock as this leader keeps it, if it leads and has begun to.
    pub(crate) fn now(&self) -> Option<Hlc> {
        let term = self.shared.consensus.leads()?;
        let clock = (*self.shared.clock()).filter(|clock| clock.term() == term)?;
        Some(clock.read(self.shared.env.now()))
    }
}

impl Shared {
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
        Ask::Open | Ask::Found { .. } | Ask::Check => return 64,
        Ask::Commands(commands) => &commands.list,
        Ask::Due(commands) => commands,
    };
    commands.iter().map(Bytes::len).sum::<usize>() + 64 * commands.len()
}

async fn propose(shared: Arc<Shared>, mut proposals: mpsc::UnboundedReceiver<Proposal>) {
    while let Some(Proposal { ask, size, growth, early, done }) = proposals.recv().await {
        let Some(term) = shared.consensus.leads() else {
            shared.in_flight.fetch_sub(size, Ordering::Relaxed);
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
        let counted = Counted { shared: shared.clone(), size };
        let answer = move |proposed| {
            drop(counted);
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

/// Gives the bytes back when the proposal has ended, however it ended.
struct Counted {
    shared: Arc<Shared>,
    size: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(self.size, Ordering::Relaxed);
    }
}
