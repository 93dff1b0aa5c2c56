//! One client connection: requests in, replies out, in order.
//!
//! A client sends many requests without waiting (pipelining). They are started as early as their
//! order allows, and answered in order, many replies in one system call:
//!
//! - Writes take their place in the node's order at once; none waits for the one before it.
//! - Reads behind each other share one cut of the state, taken when no write of this connection is
//!   under way.
//! - A read behind writes that are under way goes with them: as a command that changes nothing, it is
//!   answered at its place in the order. So it sees those writes, none that the client sent later,
//!   and costs no round of its own. A large one waits for the writes instead.
//! - A write behind reads waits until they are answered: they must not see it.
//!
//! Everything is bounded: requests in flight, replies not taken by the client, bytes read ahead. When
//! a bound is reached the client's bytes stay in the network and only this client waits.

mod traffic;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::token::LogToken;
use futures::FutureExt;
use futures::future::BoxFuture;
use leader::ReadLevel;
use leader::error::{ReadError, WriteError};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use crate::backend::{Applied, Asking, Served, View};
use crate::clients::Client;
use crate::command::{
    Action, Answered, Queued, Session, Show, Watched, answer, block, explore, fate, handle,
    read_failure, transaction_command, transaction_reply, wait_for_replicas, write_failure,
};
use crate::line::Line;
use crate::patience::Patience;
use crate::redis::{Command, Cut, Query, Reply};
use crate::resp::{Request, Requests, Value, Version};
use crate::service::{Counters, Service};

/// The most bytes of a request of somebody who has not shown a password.
const STRANGER_BYTES: usize = 16 << 10;
/// How long the farewell of TLS may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection between its socket and the node.
pub(crate) struct Connection {
    service: Arc<Service>,
    session: Session,
    requests: Requests,
    /// What was started and is not answered, in order.
    queue: VecDeque<Slot>,
    /// What must not be started yet.
    held: Option<Job>,
    in_flight: usize,
    /// How many writes of the queue are under way, and how many others that wait for something.
    writes: usize,
    waits: usize,
    /// Replies that were not sent yet.
    out: BytesMut,
    /// The line holds nothing back of what it was given.
    flushed: bool,
    patience: Patience,
    /// No complete request is left in the bytes that were read.
    hungry: bool,
    /// The client has closed its side.
    received_all: bool,
    /// No further request is started.
    ended: bool,
    answered: u64,
    errors: u64,
}

/// A request that was read and understood.
struct Job {
    action: Action,
    voice: Voice,
}

/// How a reply is sent: what was agreed on when the request came.
#[derive(Clone, Copy)]
struct Voice {
    version: Version,
    silent: bool,
}

/// A request that was started.
enum Slot {
    Ready(Value, Voice),
    Write {
        answer: BoxFuture<'static, Result<Applied, WriteError>>,
        show: Showing,
        voice: Voice,
        changes: bool,
    },
    Watch {
        found: BoxFuture<'static, Result<Vec<Watched>, ReadError>>,
        voice: Voice,
        /// It counts only if nothing was forgotten since.
        forgotten: u64,
    },
    Reads(Box<Reads>),
    Task(BoxFuture<'static, Value>, Voice),
    Ask(BoxFuture<'static, Answered>, Voice),
    /// The same, for as long as it takes: the connection's end ends it.
    Block(BoxFuture<'static, Answered>, Voice),
}

/// How the answer to a write is shown.
enum Showing {
    One(Show),
    /// That of a transaction.
    Many(Vec<Queued>),
}

impl Showing {
    fn show(self, reply: Reply) -> Value {
        match self {
            Self::One(show) => show(reply),
            Self::Many(queued) => transaction_reply(queued, reply),
        }
    }
}

/// Reads that share a cut, and replies between them.
struct Reads {
    asking: Asking,
    items: VecDeque<(Item, Voice)>,
    stage: Stage,
    /// The answer of another node to the first of the items, while it is waited for.
    elsewhere: Option<BoxFuture<'static, Result<(Reply, Served), ReadError>>>,
    /// Who has answered last.
    served: Option<Served>,
}

enum Item {
    Query(Query, Show),
    Ready(Value),
}

enum Stage {
    /// Further reads may join.
    Gathering,
    Asking(BoxFuture<'static, Result<View, ReadError>>),
    Serving(View),
    Failed(ReadError),
}

impl Connection {
    pub(crate) fn new(service: Arc<Service>, client: Arc<Client>) -> Self {
        Self {
            requests: Requests::new(request_limit(&service, service.users.is_open())),
            session: Session::new(client, &service.users),
            patience: Patience::new(&service.limits),
            service,
            queue: VecDeque::new(),
            held: None,
            in_flight: 0,
            writes: 0,
            waits: 0,
            out: BytesMut::new(),
            flushed: true,
            hungry: true,
            received_all: false,
            ended: false,
            answered: 0,
            errors: 0,
        }
    }

    /// Serves the connection until it ends, or until `stop` says so and what is in flight is
    /// answered.
    pub(crate) async fn run(mut self, mut line: Line, stop: watch::Receiver<bool>) {
        // An error means that the client is gone, or that nobody waits for it any more.
        let _ = self.converse(&mut line, stop).await;
        if line.is_tls() {
            let _ = tokio::time::timeout(FAREWELL, line.shutdown()).await;
        }
    }

    async fn converse(
        &mut self,
        line: &mut Line,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let client = Arc::clone(&self.session.client);
        let mut stopping = false;
        loop {
            self.start_requests();
            poll_fn(|cx| Poll::Ready(self.poll_replies(cx).is_ready())).await;
            self.count();
            let blocks = matches!(self.queue.front(), Some(Slot::Block(..)));
            if blocks && (self.received_all || stopping) {
                return Ok(());
            }
            self.ended |= self.received_all && self.hungry && self.held.is_none();
            if self.can_start() {
                tokio::task::coop::consume_budget().await;
                continue;
            }
            if let Poll::Ready(Err(error)) =
                poll_fn(|cx| Poll::Ready(self.poll_send(cx, line))).await
            {
                return Err(error);
            }
            if self.ended && self.queue.is_empty() && self.is_sent() {
                return Ok(());
            }
            if self.can_start() {
                continue;
            }
            // A client that never lets this task wait must not keep the others waiting.
            tokio::task::coop::consume_budget().await;
            tokio::select! {
                event = poll_fn(|cx| self.poll_event(cx, line)) => event?,
                () = client.killed() => return Ok(()),
                changed = stop.changed(), if !stopping => {
                    stopping = true;
                    self.ended |= changed.is_err() || *stop.borrow();
                }
            }
        }
    }

    /// Starts requests as long as there are complete ones, order allows it and bounds hold.
    fn start_requests(&mut self) {
        while self.has_room() && !self.ended && self.in_flight < self.service.limits.pipeline {
            let Some(job) = self.held.take().or_else(|| self.next_job()) else { break };
            if let Some(job) = self.start(job) {
                self.held = Some(job);
                break;
            }
        }
        if let Some(Slot::Reads(reads)) = self.queue.back_mut()
            && matches!(reads.stage, Stage::Gathering)
        {
            let service = Arc::clone(&self.service);
            reads.asking.token = covers(&self.session, &self.service, reads.asking.level);
            let asking = reads.asking.clone();
            let view = async move { service.backend.view_soon(asking).await };
            reads.stage = Stage::Asking(view.boxed());
        }
    }

    /// The next request that has arrived completely.
    fn next_job(&mut self) -> Option<Job> {
        let action = match self.requests.take() {
            Ok(None) => {
                self.hungry = true;
                return None;
            }
            Ok(Some(Request::Command(words))) => handle(&mut self.session, &self.service, &words),
            Ok(Some(Request::TooLarge { bytes })) => {
                let limit = self.requests.limit();
                Action::Reply(Value::error(format!(
                    "ERR a request of {bytes} bytes is over the limit of {limit}; nothing was \
                     changed; send smaller ones"
                )))
            }
            Err(error) => {
                Counters::add(&self.service.counters().protocol_errors, 1);
                let text = [b"ERR Protocol error: ".as_slice(), &error.0].concat();
                Action::Close(Value::error(text))
            }
        };
        self.requests.set_limit(request_limit(&self.service, self.session.user.is_some()));
        let voice = Voice { version: self.session.version, silent: self.session.is_silent() };
        Some(Job { action, voice })
    }

    /// Starts a request, or gives it back if one before it must be answered first.
    fn start(&mut self, job: Job) -> Option<Job> {
        let Job { action, voice } = job;
        let slot = match action {
            Action::Nothing => return None,
            Action::Drop => {
                self.ended = true;
                return None;
            }
            Action::Reply(value) => return self.ready(value, voice),
            Action::Close(value) => {
                self.ended = true;
                return self.ready(value, voice);
            }
            Action::Later(delay, value) => {
                self.waits += 1;
                let answer = async move {
                    tokio::time::sleep(delay).await;
                    value
                };
                Slot::Task(answer.boxed(), voice)
            }
            Action::Write(command, show) => {
                if self.waits > 0 {
                    return Some(Job { action: Action::Write(command, show), voice });
                }
                self.writes += 1;
                let answer = self.service.backend.submit(command, self.session.mode.clone());
                Slot::Write { answer, show: Showing::One(show), voice, changes: true }
            }
            Action::Exec(queued) => {
                if self.waits > 0 {
                    return Some(Job { action: Action::Exec(queued), voice });
                }
                let watched = self.session.take_watched();
                let Some(command) = transaction_command(watched, &queued) else {
                    let reply = Reply::Many(Vec::new());
                    return self.ready(transaction_reply(queued, reply), voice);
                };
                self.writes += 1;
                let answer = self.service.backend.submit(command, self.session.mode.clone());
                Slot::Write { answer, show: Showing::Many(queued), voice, changes: true }
            }
            Action::Watch(keys) => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Watch(keys), voice });
                }
                self.waits += 1;
                let forgotten = self.session.forgotten;
                let found = look_at(Arc::clone(&self.service), keys).boxed();
                Slot::Watch { found, voice, forgotten }
            }
            Action::Read(query, show) => return self.start_read(query, show, voice),
            Action::Explore(read) => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Explore(read), voice });
                }
                self.waits += 1;
                let (service, level) = (Arc::clone(&self.service), self.session.reads());
                let token = covers(&self.session, &self.service, level);
                let answer = async move { explore(&service, level, token, read).await };
                Slot::Task(answer.boxed(), voice)
            }
            Action::Inquire(inquiry) => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Inquire(inquiry), voice });
                }
                match answer(&mut self.session, &self.service, inquiry) {
                    Ok(value) => return self.ready(value, voice),
                    Err(receipt) => {
                        self.waits += 1;
                        Slot::Task(fate(Arc::clone(&self.service), receipt).boxed(), voice)
                    }
                }
            }
            Action::Ask(asked) => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Ask(asked), voice });
                }
                self.waits += 1;
                Slot::Ask(asked(&mut self.session, Arc::clone(&self.service)), voice)
            }
            Action::Block(pop) => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Block(pop), voice });
                }
                self.waits += 1;
                let (client, mode) = (self.session.client.clone(), self.session.mode.clone());
                let answer = block(Arc::clone(&self.service), client, mode, pop);
                Slot::Block(answer.boxed(), voice)
            }
            Action::Wait { replicas, timeout } => {
                if !self.queue.is_empty() {
                    return Some(Job { action: Action::Wait { replicas, timeout }, voice });
                }
                self.waits += 1;
                let (service, write) = (Arc::clone(&self.service), self.session.last_write);
                Slot::Task(wait_for_replicas(service, write, replicas, timeout).boxed(), voice)
            }
        };
        self.in_flight += 1;
        self.queue.push_back(slot);
        None
    }

    fn start_read(&mut self, query: Query, show: Show, voice: Voice) -> Option<Job> {
        let level = self.session.reads();
        if self.writes > 0 {
            // What this replica has applied is asked for, or had, not the place in the order.
            let ordered = !matches!(level, ReadLevel::Eventual | ReadLevel::At(_));
            if !ordered || self.waits > 0 || !query.is_small() {
                return Some(Job { action: Action::Read(query, show), voice });
            }
            self.writes += 1;
            let answer = self.service.backend.submit(Command::Query(query), None);
            let show = Showing::One(show);
            self.queue.push_back(Slot::Write { answer, show, voice, changes: false });
        } else if let Some(Slot::Reads(reads)) = self.queue.back_mut()
            && matches!(reads.stage, Stage::Gathering)
            && (reads.asking.level, reads.asking.prefer) == (level, self.session.prefer)
        {
            reads.items.push_back((Item::Query(query, show), voice));
        } else if self.waits > 0 {
            return Some(Job { action: Action::Read(query, show), voice });
        } else {
            self.waits += 1;
            let items = VecDeque::from([(Item::Query(query, show), voice)]);
            let asking = Asking { level, token: None, prefer: self.session.prefer };
            let (stage, elsewhere, served) = (Stage::Gathering, None, None);
            let reads = Reads { asking, items, stage, elsewhere, served };
            self.queue.push_back(Slot::Reads(Box::new(reads)));
        }
        self.in_flight += 1;
        None
    }

    /// A reply that waits for nothing but its turn.
    fn ready(&mut self, value: Value, voice: Voice) -> Option<Job> {
        match self.queue.back_mut() {
            None => self.say(&value, voice),
            // Among reads it lets the next read join them.
            Some(Slot::Reads(reads)) if matches!(reads.stage, Stage::Gathering) => {
                self.in_flight += 1;
                reads.items.push_back((Item::Ready(value), voice));
            }
            Some(_) => {
                self.in_flight += 1;
                self.queue.push_back(Slot::Ready(value, voice));
            }
        }
        None
    }

    /// Writes down the replies that are there, in order. Ready if there was one.
    fn poll_replies(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut progress = Poll::Pending;
        while self.has_room() {
            let (value, voice) = match self.queue.front_mut() {
                None => break,
                Some(Slot::Ready(value, voice)) => {
                    let reply = (std::mem::replace(value, Value::Null), *voice);
                    self.queue.pop_front();
                    reply
                }
                Some(Slot::Task(answer, voice)) => {
                    let Poll::Ready(value) = answer.poll_unpin(cx) else { break };
                    let voice = *voice;
                    self.waits -= 1;
                    self.queue.pop_front();
                    (value, voice)
                }
                Some(Slot::Ask(answer, voice) | Slot::Block(answer, voice)) => {
                    let Poll::Ready(Answered { value, then }) = answer.poll_unpin(cx) else {
                        break;
                    };
                    let voice = *voice;
                    if let Some(then) = then {
                        then(&mut self.session);
                    }
                    self.waits -= 1;
                    self.queue.pop_front();
                    (value, voice)
                }
                Some(Slot::Write { answer, show, voice, changes }) => {
                    let Poll::Ready(answer) = answer.poll_unpin(cx) else { break };
                    let show = std::mem::replace(show, Showing::Many(Vec::new()));
                    let (voice, changes) = (*voice, *changes);
                    let value = match answer {
                        Ok(applied) => {
                            if changes {
                                let Applied { receipt, report, .. } = applied;
                                self.session.wrote(&self.service, receipt, report);
                            } else {
                                look_up(&self.service, &applied.reply);
                            }
                            show.show(applied.reply)
                        }
                        Err(WriteError::AckTimeout { receipt, report }) => {
                            self.session.wrote(&self.service, *receipt, report.clone());
                            write_failure(&WriteError::AckTimeout { receipt, report })
                        }
                        Err(error) => write_failure(&error),
                    };
                    self.writes -= 1;
                    self.queue.pop_front();
                    (value, voice)
                }
                Some(Slot::Watch { found, voice, forgotten }) => {
                    let Poll::Ready(found) = found.poll_unpin(cx) else { break };
                    let (voice, forgotten) = (*voice, *forgotten);
                    self.waits -= 1;
                    self.queue.pop_front();
                    let value = match found {
                        Ok(keys) => {
                            if forgotten == self.session.forgotten {
                                self.session.watch(keys);
                            }
                            Value::OK
                        }
                        Err(error) => read_failure(&error),
                    };
                    (value, voice)
                }
                Some(Slot::Reads(reads)) => match reads.poll(&self.service, cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(reply)) => {
                        if let Some(served) = reads.served {
                            self.session.read_at(&self.service, served);
                        }
                        reply
                    }
                    Poll::Ready(None) => {
                        self.waits -= 1;
                        self.queue.pop_front();
                        continue;
                    }
                },
            };
            self.in_flight -= 1;
            self.say(&value, voice);
            progress = Poll::Ready(());
        }
        progress
    }

    fn say(&mut self, value: &Value, voice: Voice) {
        self.answered += 1;
        self.errors += u64::from(value.is_error());
        if !voice.silent {
            value.write(voice.version, &mut self.out);
        }
    }

    /// Whether the client has taken enough of what it was sent.
    fn has_room(&self) -> bool {
        self.out.len() < self.service.limits.unsent_bytes
    }

    /// Whether a request waits that could be started now.
    fn can_start(&self) -> bool {
        let next = match &self.held {
            None => !self.hungry,
            Some(Job { action: Action::Write(..) | Action::Exec(..), .. }) => self.waits == 0,
            Some(Job { action: Action::Read(..), .. }) => self.waits == 0 && self.writes == 0,
            Some(_) => self.queue.is_empty(),
        };
        next && !self.ended && self.has_room() && self.in_flight < self.service.limits.pipeline
    }

    /// Adds to the counters what has happened since the last time.
    fn count(&mut self) {
        let counters = self.service.counters();
        if self.answered > 0 {
            self.session.client.touch(self.session.command);
            self.patience.heard();
        }
        Counters::add(&counters.commands, std::mem::take(&mut self.answered));
        Counters::add(&counters.errors, std::mem::take(&mut self.errors));
    }
}

impl Reads {
    /// Whether another node is asked for what this one could not answer in time.
    fn goes_elsewhere(&self, error: &ReadError) -> bool {
        let level = matches!(self.asking.level, ReadLevel::Causal | ReadLevel::Bounded(_));
        error.others_may_answer() && level
    }

    /// The next reply, or none after the last.
    fn poll(&mut self, service: &Service, cx: &mut Context<'_>) -> Poll<Option<(Value, Voice)>> {
        if let Stage::Asking(view) = &mut self.stage {
            let Poll::Ready(view) = view.poll_unpin(cx) else { return Poll::Pending };
            self.stage = view.map_or_else(Stage::Failed, Stage::Serving);
        }
        let Some((item, voice)) = self.items.pop_front() else { return Poll::Ready(None) };
        let value = match (item, &self.stage) {
            (Item::Ready(value), _) => value,
            (Item::Query(query, show), Stage::Failed(error)) if self.goes_elsewhere(error) => {
                let (of, asking) = (service.backend.clone(), self.asking.clone());
                let asked = self.elsewhere.get_or_insert_with(|| {
                    let query = query.clone();
                    async move { of.read_elsewhere(query, asking).await }.boxed()
                });
                let Poll::Ready(answer) = asked.poll_unpin(cx) else {
                    self.items.push_front((Item::Query(query, show), voice));
                    return Poll::Pending;
                };
                self.elsewhere = None;
                match answer {
                    Ok((reply, served)) => {
                        self.served = Some(served);
                        look_up(service, &reply);
                        show(reply)
                    }
                    Err(error) => read_failure(&error),
                }
            }
            (Item::Query(..), Stage::Failed(error)) => read_failure(error),
            (Item::Query(query, show), Stage::Serving(view)) => {
                let (server, level) = (service.identity().node, self.asking.level);
                self.served = Some(Served { server, level, at: view.at, age: view.age });
                let answer = Cut::open(view, view.clock, view.now).and_then(|c| c.answer(&query));
                match answer {
                    Ok(reply) => {
                        look_up(service, &reply);
                        show(reply)
                    }
                    Err(error) => read_failure(&ReadError::Engine(error)),
                }
            }
            // A batch is polled only after it has been closed to further reads.
            (item, Stage::Gathering | Stage::Asking(_)) => {
                self.items.push_front((item, voice));
                return Poll::Pending;
            }
        };
        Poll::Ready(Some((value, voice)))
    }
}

/// How keys are now, for WATCH: with what every write has done that was acknowledged before.
async fn look_at(service: Arc<Service>, keys: Vec<Bytes>) -> Result<Vec<Watched>, ReadError> {
    let view = service.backend.view(ReadLevel::Strong, None).await?;
    let cut = Cut::open(&view, view.clock, view.now)?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let revision = cut.get(&key)?.map(|record| record.revision);
        found.push((key, revision));
    }
    Ok(found)
}

/// How large a request may be, of somebody who is known or not.
fn request_limit(service: &Service, known: bool) -> usize {
    let limit = service.limits.request_bytes;
    if known { limit } else { limit.min(STRANGER_BYTES) }
}

/// What a read at a level must cover: a causal one everything that its session has seen and done.
fn covers(session: &Session, service: &Service, level: ReadLevel) -> Option<LogToken> {
    (level == ReadLevel::Causal).then(|| session.token(service)).flatten()
}

/// Counts values that a read has found and has not.
fn look_up(service: &Service, reply: &Reply) {
    let (hits, misses) = match reply {
        Reply::Value(value) => (u64::from(value.is_some()), u64::from(value.is_none())),
        Reply::Values(values) => {
            let hits = values.iter().flatten().count();
            (hits as u64, (values.len() - hits) as u64)
        }
        _ => return,
    };
    Counters::add(&service.counters().hits, hits);
    Counters::add(&service.counters().misses, misses);
}
