//! One read, from the caller to a cut of the state that is fresh enough.
//!
//! A strong read asks the leader for its *read index*: how far the log was committed when the read
//! began, confirmed by a majority that still follows it (Ongaro 2014, section 6.4). The reader waits
//! until it has applied that much and reads its own state. A lease read has the leader answer from
//! its lease instead of a round; it relies on bounded clock rates, and is unfit where the monotonic
//! clock stops while a machine is suspended.
//!
//! Reads gather in groups. A group closes when its round starts; a later read joins the next one,
//! never one already sent, and a retry is a new read in a new group.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use common::clock::Hlc;
use common::env::{Env, Mono};
use common::ids::{LogPos, NodeId};
use common::sometimes;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::ReadError;
use crate::message::Proof;

/// Rounds under way at once.
const ROUNDS: usize = 2;
/// The pause after a failed round.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one round may take.
const ROUND: Duration = Duration::from_secs(1);

/// What the leader answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadIndex {
    /// What must be applied before the state is read.
    pub(crate) at: Option<LogPos>,
    /// The leader's clock.
    pub(crate) clock: Hlc,
}

/// How a read index is had from the leader.
pub(crate) trait AskLeader: Send + Sync + fmt::Debug {
    /// Who leads, as far as this node knows.
    fn leader(&self) -> watch::Receiver<Option<NodeId>>;
    /// Asks for the read index; `None` when it has none to give.
    fn read_index(
        &self,
        of: NodeId,
        proof: Proof,
        deadline: Duration,
    ) -> BoxFuture<'static, Option<ReadIndex>>;
}

#[derive(Debug)]
struct Waiting {
    deadline: Mono,
    timeout: Duration,
    done: oneshot::Sender<Result<ReadIndex, ReadError>>,
}

/// The groups of one kind of proof.
#[derive(Debug, Clone)]
pub(crate) struct Groups {
    inbox: mpsc::UnboundedSender<Waiting>,
    env: Env,
}

impl Groups {
    /// Starts gathering.
    pub(crate) fn start(env: &Env, proof: Proof, leader: Arc<dyn AskLeader>) -> Self {
        let (inbox, reads) = mpsc::unbounded_channel();
        env.spawn("read groups", gather(env.clone(), proof, leader, reads));
        Self { inbox, env: env.clone() }
    }

    /// The read index of a read that begins now.
    pub(crate) async fn index(&self, timeout: Duration) -> Result<ReadIndex, ReadError> {
        let (done, answer) = oneshot::channel();
        let deadline = self.env.now() + timeout;
        let stopping = || ReadError::Stopping(self.env.node);
        self.inbox.send(Waiting { deadline, timeout, done }).map_err(|_| stopping())?;
        match self.env.timeout(timeout, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(stopping()),
            Err(_) => Err(ReadError::NoLeader(timeout)),
        }
    }
}

async fn gather(
    env: Env,
    proof: Proof,
    ask: Arc<dyn AskLeader>,
    mut reads: mpsc::UnboundedReceiver<Waiting>,
) {
    let mut leader = ask.leader();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut rounds = FuturesUnordered::new();
    let mut resume = Mono::default();
    loop {
        let now = env.now();
        let known = *leader.borrow_and_update();
        if let Some(of) = known
            && !waiting.is_empty()
            && rounds.len() < ROUNDS
            && now >= resume
        {
            let group = std::mem::take(&mut waiting);
            let round = ask.read_index(of, proof, ROUND);
            rounds.push(async move { (group, round.await) });
        }
        let blocked = !waiting.is_empty();
        let next = waiting.iter().map(|w| w.deadline).min().unwrap_or_default();
        let wake = if now < resume { next.min(resume) } else { next };
        tokio::select! {
            biased;
            Some((group, answer)) = rounds.next(), if !rounds.is_empty() => if let Some(index) = answer {
                if group.len() > 1 {
                    sometimes!("reads-shared-a-round");
                }
                for read in group {
                    let _ = read.done.send(Ok(index));
                }
            } else {
                resume = env.now() + PAUSE;
                waiting.extend(group);
            },
            read = reads.recv() => {
                let Some(read) = read else { return };
                waiting.push_back(read);
                while let Ok(read) = reads.try_recv() {
                    waiting.push_back(read);
                }
            }
            changed = leader.changed(), if blocked => {
                if changed.is_err() {
                    return;
                }
            }
            () = env.clock.sleep_until(wake), if blocked => {
                let now = env.now();
                waiting = waiting.into_iter().filter_map(|read| {
                    if read.deadline > now && !read.done.is_closed() {
                        return Some(read);
                    }
                    let _ = read.done.send(Err(ReadError::NoLeader(read.timeout)));
                    None
                }).collect();
            }
        }
    }
}

/// Waits until an entry is applied here.
pub(crate) async fn wait_applied(
    env: &Env,
    progress: &mut watch::Receiver<Option<LogPos>>,
    at: Option<LogPos>,
    timeout: Duration,
) -> Result<(), ReadError> {
    let wanted = at.map_or(0, |at| at.index);
    let reached = |now: &Option<LogPos>| now.map_or(0, |now| now.index) >= wanted;
    if reached(&progress.borrow_and_update()) {
        return Ok(());
    }
    sometimes!("read-waited-for-apply");
    match env.timeout(timeout, progress.wait_for(reached)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ReadError::Stopping(env.node)),
        Err(_) => Err(ReadError::Behind(timeout)),
    }
}
