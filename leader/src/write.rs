//! One write, from the caller to its acknowledgement.
//!
//! ```text
//! Node::write    admits the command and gives it its place in this node's order, at once
//! writer         numbers what is queued, in batches, under this node's client session
//! route          the batch goes to the leader: in this process, or forwarded
//! leader         stamps it and proposes it as one entry; a majority makes it durable
//! replica        applies what is new of it, on every member; the replies come back here
//! ```
//!
//! A batch without an answer is sent again, to whoever leads then, and everything after it too: the
//! session applies each command once and in order (see `session.rs`). So the writer is a sliding
//! window that goes back to its oldest unanswered command after any failure. It begins again only
//! when no attempt is under way, so that it knows of each command whether some attempt may still
//! have applied it. That is what an error says: *not applied*, or *unknown*.
//!
//! A command whose caller has been told leaves its number to an empty one: because it gave up before
//! it was ever sent; because it is acknowledged before it is committed; or because its fate is
//! unknown. What is sent again is then the empty command, so that the fate of the write is the fate
//! of the entries that carried it, which anybody can look up, and nothing can bring it back later.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::consistency::ReplicationMode;
use common::env::{Env, Mono};
use common::ids::{ClientId, LogPos, NodeId};
use common::{mutate, sometimes};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};

use crate::acknowledge::Told;
use crate::config::Config;
use crate::entry::{CommandReply, Commands, EntryReply};
use crate::error::WriteError;
use crate::quota::{OverQuota, Quota};
use crate::replication_mode::AckReport;

/// Batches that may be under way at once. More would only make them smaller.
const FLIGHTS: usize = 16;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);
/// The first and the longest pause before the window is sent again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// What is sent to the leader.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Forward {
    /// Open a session.
    Open,
    /// Apply commands of a session.
    Commands {
        /// They.
        commands: Commands,
        /// Whether they only shrink the state, so that they pass on a full disk.
        shrinks: bool,
        /// Those that may be acknowledged before they are committed: by which mode, and their
        /// places in the list.
        early: Vec<(ReplicationMode, Vec<u16>)>,
    },
    /// To the node that sent commands: some are acknowledged before they are committed.
    Acknowledged(EarlyAck),
    /// Say when a committed entry has reached those that a mode names.
    Reach {
        /// The entry.
        at: LogPos,
        /// The mode.
        mode: ReplicationMode,
        /// Answer after so many milliseconds in any case.
        wait: u64,
    },
    /// Propose a check of all members' states.
    Check,
    /// Set the state's limits.
    Quota(Quota),
}

/// Commands that are acknowledged before they are committed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct EarlyAck {
    /// Their session.
    pub(crate) client: ClientId,
    /// The sequence number of the first command of their batch.
    pub(crate) first: u64,
    /// Their places in the batch.
    pub(crate) places: Vec<u16>,
    /// The entry's time by the leader's clock.
    pub(crate) stamp: Hlc,
    /// What is achieved.
    pub(crate) told: Told,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Attempt {
    /// The entry is applied.
    Answered(EntryReply),
    /// It was not proposed: the node asked does not lead.
    NotLeader(Option<NodeId>),
    /// It was not proposed: too much is in flight.
    Overloaded,
    /// It was not proposed: the leader's disk is full.
    DiskFull,
    /// It may have been proposed, and may still be applied: as this entry, if that is known.
    Unknown(Option<LogPos>),
    /// To [`Forward::Reach`].
    Reached(Told),
    /// It was not proposed: some commands would grow the state over its quota.
    OverQuota {
        /// Which limit refuses the first of them.
        why: OverQuota,
        /// Their places in the batch.
        places: Vec<u16>,
    },
}

/// How batches reach the leader.
pub(crate) trait Route: Send + Sync + fmt::Debug {
    /// Who leads, as far as this node knows.
    fn leader(&self) -> watch::Receiver<Option<NodeId>>;
    /// Sends a batch. It takes its place in the order of sending now. Ends within `deadline`.
    fn send(&self, to: NodeId, what: Forward, deadline: Duration) -> BoxFuture<'static, Attempt>;
}

/// An acknowledged command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// Where it stands.
    pub(crate) at: LogPos,
    /// Its number there.
    pub(crate) sub: u16,
    /// The entry's time.
    pub(crate) stamp: Hlc,
    /// The session and the number in it.
    pub(crate) client: (ClientId, u64),
    /// The machine's encoded reply; none when it is acknowledged before it is applied.
    pub(crate) reply: Option<Bytes>,
    /// What is achieved.
    pub(crate) report: AckReport,
}

/// A command as it is handed to the writer.
#[derive(Debug)]
pub(crate) struct Submission {
    /// The encoded command.
    pub(crate) command: Bytes,
    /// Whether it only shrinks the state.
    pub(crate) shrinks: bool,
    /// The mode that may acknowledge it before it is committed.
    pub(crate) early: Option<ReplicationMode>,
    /// How long its caller waits.
    pub(crate) timeout: Duration,
}

type Waiter = oneshot::Sender<Result<Acknowledged, WriteError>>;

/// A command that waits to be numbered.
#[derive(Debug)]
struct Pending {
    command: Bytes,
    shrinks: bool,
    early: Option<ReplicationMode>,
    deadline: Mono,
    timeout: Duration,
    waiter: Waiter,
}

/// A numbered command that is not answered yet.
#[derive(Debug)]
struct Sent {
    command: Bytes,
    shrinks: bool,
    early: Option<ReplicationMode>,
    deadline: Mono,
    timeout: Duration,
    /// Who waits, until it is told.
    waiter: Option<Waiter>,
    /// Whether an attempt that is over may have proposed it.
    maybe: bool,
    /// How often it was sent and may have been proposed.
    attempts: u32,
    /// The entry that an attempt proposed it in, if that is known.
    at: Option<LogPos>,
    /// Attempts under way that contain it.
    flying: u32,
    answered: bool,
}

/// This node's order of commands, and the task that has them applied.
#[derive(Debug)]
pub(crate) struct Writer {
    inbox: mpsc::UnboundedSender<Message>,
    held: Arc<AtomicUsize>,
    limit: usize,
    env: Env,
}

#[derive(Debug)]
enum Message {
    Command(Pending),
    Close(oneshot::Sender<()>),
}

impl Writer {
    /// Starts the writer of a node.
    pub(crate) fn start(
        env: &Env,
        config: &Config,
        route: Arc<dyn Route>,
        early: mpsc::UnboundedReceiver<EarlyAck>,
    ) -> Self {
        let (inbox, messages) = mpsc::unbounded_channel();
        let held = Arc::new(AtomicUsize::new(0));
        let limit = config.max_uncommitted_bytes;
        let window = Window {
            env: env.clone(),
            leader: route.leader(),
            route,
            batch: (config.batch_commands, config.batch_bytes),
            attempt: config.election_timeout_max * 3,
            held: held.clone(),
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            first: 1,
            unsent: 1,
            session: Session::Closed,
            flights: FuturesUnordered::new(),
            settling: false,
            resume: Mono::default(),
            pause: PAUSE.0,
        };
        env.spawn("writer", window.run(messages, early));
        Self { inbox, held, limit, env: env.clone() }
    }

    /// Gives a command its place, now.
    pub(crate) fn submit(
        &self,
        submission: Submission,
    ) -> Result<oneshot::Receiver<Result<Acknowledged, WriteError>>, WriteError> {
        let Submission { command, shrinks, early, timeout } = submission;
        let size = command.len() + OVERHEAD;
        if self.held.fetch_add(size, Ordering::Relaxed) + size > self.limit {
            self.held.fetch_sub(size, Ordering::Relaxed);
            return Err(WriteError::Overloaded { retry_after: TICK });
        }
        let (waiter, answer) = oneshot::channel();
        let deadline = self.env.now() + timeout;
        let pending = Pending { command, shrinks, early, deadline, timeout, waiter };
        if self.inbox.send(Message::Command(pending)).is_err() {
            return Err(WriteError::Stopping(self.env.node));
        }
        Ok(answer)
    }

    /// Tells everyone who waits that the node stops, and ends the writer.
    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.inbox.send(Message::Close(done)).is_ok() {
            let _ = closed.await;
        }
    }
}

/// What a command in flight costs besides its bytes, roughly.
const OVERHEAD: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Session {
    Closed,
    Opening,
    Open(ClientId),
    /// The replicas do not know it any more.
    Lost,
}

/// An attempt under way: the first number in it and how many there are, none for an opening.
type Flight = Option<(u64, usize)>;

/// What is sent as one entry.
struct Batch {
    /// The number of the first command.
    first: u64,
    list: Vec<Bytes>,
    shrinks: bool,
    early: Vec<(ReplicationMode, Vec<u16>)>,
}

struct Window {
    env: Env,
    route: Arc<dyn Route>,
    leader: watch::Receiver<Option<NodeId>>,
    /// The most commands and bytes of a batch.
    batch: (usize, usize),
    /// How long an attempt may take.
    attempt: Duration,
    held: Arc<AtomicUsize>,
    waiting: VecDeque<Pending>,
    sent: VecDeque<Sent>,
    /// The number of the first command in the window.
    first: u64,
    /// The number of the first command that is not sent, since the window last went back.
    unsent: u64,
    session: Session,
    flights: FuturesUnordered<BoxFuture<'static, (Flight, Attempt)>>,
    /// Whether nothing is sent until no attempt is under way.
    settling: bool,
    /// When sending may go on after that.
    resume: Mono,
    pause: Duration,
}

impl Window {
    async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        mut early: mpsc::UnboundedReceiver<EarlyAck>,
    ) {
        let mut tick = self.env.now() + TICK;
        loop {
            self.launch();
            let busy = !self.waiting.is_empty() || !self.sent.is_empty();
            let wake =
                if self.settling && self.flights.is_empty() { tick.min(self.resume) } else { tick };
            let sleep = self.env.clock.sleep_until(wake);
            tokio::select! {
                biased;
                Some((flight, attempt)) = self.flights.next(), if !self.flights.is_empty() => {
                    self.land(flight, attempt);
                }
                Some(ack) = early.recv() => self.acknowledge(&ack),
                message = messages.recv() => match message {
                    Some(Message::Command(pending)) => {
                        self.waiting.push_back(pending);
                        while let Ok(message) = messages.try_recv() {
                            match message {
                                Message::Command(pending) => self.waiting.push_back(pending),
                                Message::Close(done) => return self.close(&mut messages, done),
                            }
                        }
                    }
                    Some(Message::Close(done)) => return self.close(&mut messages, done),
                    None => return,
                },
                changed = self.leader.changed(), if busy => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = sleep, if busy => {
                    if self.env.now() >= tick {
                        tick = self.env.now() + TICK;
                        self.expire();
                    }
                }
            }
        }
    }

    /// Sends what may be sent.
    fn launch(&mut self) {
        if self.settling {
            if !self.flights.is_empty() || self.env.now() < self.resume {
                return;
            }
            self.settling = false;
            self.unsent = self.first;
            if self.session == Session::Lost {
                self.renumber();
            }
        }
        if self.sent.is_empty() && self.waiting.is_empty() {
            return;
        }
        let Some(leader) = *self.leader.borrow_and_update() else { return };
        let client = match self.session {
            Session::Open(client) => client,
            Session::Closed => {
                self.session = Session::Opening;
                self.fly(leader, None, Forward::Open);
                return;
            }
            Session::Opening | Session::Lost => return,
        };
        while self.flights.len() < FLIGHTS {
            let Some(Batch { first, list, shrinks, early }) = self.next_batch() else { return };
            let count = list.len();
            let done_upto = self.first - 1;
            let commands = Commands { client, first, done_upto, list };
            self.fly(leader, Some((first, count)), Forward::Commands { commands, shrinks, early });
        }
    }

    fn fly(&mut self, leader: NodeId, flight: Flight, what: Forward) {
        let attempt = self.route.send(leader, what, self.attempt);
        self.flights.push(Box::pin(async move { (flight, attempt.await) }));
    }

    /// The next commands to send: again, or numbered now.
    fn next_batch(&mut self) -> Option<Batch> {
        let mut batch =
            Batch { first: self.unsent, list: Vec::new(), shrinks: true, early: Vec::new() };
        let mut bytes = 0;
        while batch.list.len() < self.batch.0 {
            let index = (self.unsent - self.first) as usize;
            if index == self.sent.len() {
                let Some(pending) = self.waiting.pop_front() else { break };
                self.sent.push_back(Sent {
                    command: pending.command,
                    shrinks: pending.shrinks,
                    early: pending.early,
                    deadline: pending.deadline,
                    timeout: pending.timeout,
                    waiter: Some(pending.waiter),
                    maybe: false,
                    attempts: 0,
                    at: None,
                    flying: 0,
                    answered: false,
                });
            }
            let sent = &mut self.sent[index];
            bytes += sent.command.len();
            if bytes > self.batch.1 && !batch.list.is_empty() {
                break;
            }
            // What was sent before may stand elsewhere in the log, so only the commit tells.
            if let Some(mode) = sent.early.as_ref().filter(|_| sent.attempts == 0) {
                let place = batch.list.len() as u16;
                match batch.early.iter_mut().find(|(known, _)| known == mode) {
                    Some((_, places)) => places.push(place),
                    None => batch.early.push((mode.clone(), vec![place])),
                }
            }
            sent.flying += 1;
            sent.attempts += 1;
            batch.shrinks &= sent.shrinks;
            batch.list.push(sent.command.clone());
            self.unsent += 1;
        }
        (!batch.list.is_empty()).then_some(batch)
    }

    /// Tells those whose commands are acknowledged before they are committed.
    fn acknowledge(&mut self, ack: &EarlyAck) {
        if self.session != Session::Open(ack.client) {
            return;
        }
        for place in &ack.places {
            let sequence = ack.first + u64::from(*place);
            let Some(index) = sequence.checked_sub(self.first) else { continue };
            let Some(sent) = self.sent.get_mut(index as usize) else { continue };
            // Told already, or sent again since: then this is not the only entry that has it.
            if sent.waiter.is_none() || sent.attempts != 1 {
                continue;
            }
            sometimes!("acknowledged-early");
            if let Some(waiter) = sent.waiter.take() {
                let _ = waiter.send(Ok(Acknowledged {
                    at: ack.told.at,
                    sub: *place,
                    stamp: ack.stamp,
                    client: (ack.client, sequence),
                    reply: None,
                    report: ack.told.report.clone(),
                }));
            }
            sent.empty(&self.held);
        }
    }

    /// Takes the end of an attempt.
    fn land(&mut self, flight: Flight, attempt: Attempt) {
        let Some((first, count)) = flight else {
            if let Attempt::Answered(EntryReply::Opened(client)) = attempt {
                self.session = Session::Open(client);
                self.pause = PAUSE.0;
            } else {
                self.session = Session::Closed;
                self.settle();
            }
            return;
        };
        let begin = first.saturating_sub(self.first) as usize;
        let skipped = self.first.saturating_sub(first) as usize;
        let range = begin..begin + count.saturating_sub(skipped);
        let never = matches!(
            attempt,
            Attempt::NotLeader(_)
                | Attempt::Overloaded
                | Attempt::DiskFull
                | Attempt::OverQuota { .. }
        );
        for sent in self.sent.range_mut(range.clone()) {
            sent.flying -= 1;
            sent.attempts -= u32::from(never);
        }
        match attempt {
            Attempt::Answered(EntryReply::Commands(replies)) => {
                let mut gap = false;
                let Session::Open(client) = self.session else { return };
                let sequences = self.first + range.start as u64..;
                let replies = replies.into_iter().skip(skipped);
                for ((sent, reply), sequence) in
                    self.sent.range_mut(range).zip(replies).zip(sequences)
                {
                    gap |= reply == CommandReply::Gap;
                    sent.answer(reply, (client, sequence), &self.held);
                }
                self.pop_answered();
                if gap {
                    self.settle();
                } else {
                    self.pause = PAUSE.0;
                }
            }
            Attempt::Answered(EntryReply::UnknownClient) => {
                self.session = Session::Lost;
                self.settle();
            }
            Attempt::NotLeader(_) => self.settle(),
            Attempt::Overloaded => {
                let error = || WriteError::Overloaded { retry_after: PAUSE.1 };
                self.refuse(range, |sent, _| !sent.shrinks, error);
            }
            Attempt::DiskFull => {
                self.refuse(range, |sent, _| !sent.shrinks, || WriteError::DiskFull);
            }
            Attempt::OverQuota { why, places } => {
                // The others of the batch need not wait for long.
                self.pause = PAUSE.0;
                let refused = |_: &Sent, place: usize| places.contains(&((place + skipped) as u16));
                self.refuse(range, refused, || WriteError::OverQuota(why));
            }
            Attempt::Unknown(at) => self.unknown(range, at),
            Attempt::Answered(_) | Attempt::Reached(_) => self.unknown(range, None),
        }
    }

    /// Commands may have been proposed, and nobody knows what came of it.
    fn unknown(&mut self, range: std::ops::Range<usize>, at: Option<LogPos>) {
        sometimes!("write-unknown");
        for sent in self.sent.range_mut(range) {
            sent.maybe = true;
            sent.at = at.or(sent.at);
        }
        self.settle();
    }

    /// The leader refused commands: those that no attempt can have proposed are told so.
    fn refuse(
        &mut self,
        range: std::ops::Range<usize>,
        which: impl Fn(&Sent, usize) -> bool,
        error: impl Fn() -> WriteError,
    ) {
        for (place, sent) in self.sent.range_mut(range).enumerate() {
            if !sent.maybe && sent.flying == 0 && which(sent, place) {
                sent.withdraw(&self.held, error());
            }
        }
        self.settle();
    }

    /// Sends nothing until no attempt is under way and a pause is over, then everything again.
    fn settle(&mut self) {
        if self.settling {
            return;
        }
        sometimes!("writer-went-back");
        self.settling = true;
        let jitter = self.env.rng.below(self.pause.as_millis() as u64 / 2 + 1);
        self.resume = self.env.now() + self.pause + Duration::from_millis(jitter);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn pop_answered(&mut self) {
        while self.sent.front().is_some_and(|sent| sent.answered) {
            if let Some(sent) = self.sent.pop_front() {
                self.held.fetch_sub(sent.command.len() + OVERHEAD, Ordering::Relaxed);
            }
            self.first += 1;
        }
        // Behind a resent command, those after it may have been answered already.
        self.unsent = self.unsent.max(self.first);
    }

    /// Begins a new session: what an attempt of the lost one may have applied ends unknown, the rest
    /// is numbered anew.
    fn renumber(&mut self) {
        let old = std::mem::take(&mut self.sent);
        for mut sent in old {
            if sent.answered || sent.maybe || sent.waiter.is_none() {
                sent.tell_unknown(&self.held);
                self.held.fetch_sub(sent.command.len() + OVERHEAD, Ordering::Relaxed);
            } else {
                sent.attempts = 0;
                self.sent.push_back(sent);
            }
        }
        (self.first, self.unsent) = (1, 1);
        self.session = Session::Closed;
    }

    /// Tells those whose deadline has passed.
    fn expire(&mut self) {
        let now = self.env.now();
        let held = &self.held;
        self.waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .filter_map(|pending| {
                if pending.deadline > now && !pending.waiter.is_closed() {
                    return Some(pending);
                }
                held.fetch_sub(pending.command.len() + OVERHEAD, Ordering::Relaxed);
                let _ = pending.waiter.send(Err(WriteError::NoLeader(pending.timeout)));
                None
            })
            .collect();
        for sent in &mut self.sent {
            if sent.deadline > now || sent.waiter.is_none() {
                continue;
            }
            let unsure = sent.maybe || sent.flying > 0;
            if mutate!("timeout_called_not_applied", unsure, false) {
                sent.tell_unknown(held);
            } else {
                let timeout = sent.timeout;
                sent.withdraw(held, WriteError::NoLeader(timeout));
            }
        }
    }

    fn close(mut self, messages: &mut mpsc::UnboundedReceiver<Message>, done: oneshot::Sender<()>) {
        messages.close();
        let node = self.env.node;
        while let Ok(message) = messages.try_recv() {
            if let Message::Command(pending) = message {
                self.waiting.push_back(pending);
            }
        }
        for pending in self.waiting {
            let _ = pending.waiter.send(Err(WriteError::Stopping(node)));
        }
        for mut sent in self.sent {
            if sent.maybe || sent.flying > 0 {
                sent.tell_unknown(&self.held);
            } else {
                sent.tell(|| WriteError::Stopping(node));
            }
        }
        let _ = done.send(());
    }
}

impl Sent {
    fn answer(&mut self, reply: CommandReply, client: (ClientId, u64), held: &AtomicUsize) {
        match reply {
            CommandReply::Done { at, sub, stamp, reply } => {
                self.answered = true;
                if let Some(waiter) = self.waiter.take() {
                    let report = AckReport { committed: true, ..AckReport::default() };
                    let reply = Some(reply);
                    let _ = waiter.send(Ok(Acknowledged { at, sub, stamp, client, reply, report }));
                }
            }
            CommandReply::Forgotten => {
                self.answered = true;
                self.tell_unknown(held);
            }
            CommandReply::Gap => {}
        }
    }

    /// Its caller waits no more; if it was sent once, its one entry decides.
    fn tell_unknown(&mut self, held: &AtomicUsize) {
        let at = self.at.filter(|_| self.attempts == 1);
        if self.waiter.is_some() {
            self.tell(|| WriteError::Unknown { at });
            self.empty(held);
        }
    }

    fn tell(&mut self, error: impl FnOnce() -> WriteError) {
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.send(Err(error()));
        }
    }

    /// The command was never proposed and never will be: its number goes to an empty one.
    fn withdraw(&mut self, held: &AtomicUsize, error: WriteError) {
        sometimes!("command-withdrawn");
        self.tell(|| error);
        self.empty(held);
    }

    /// From now on an empty command has its number.
    fn empty(&mut self, held: &AtomicUsize) {
        held.fetch_sub(self.command.len(), Ordering::Relaxed);
        self.command = Bytes::new();
        self.shrinks = true;
    }
}

#[cfg(test)]
mod tests;
