//! What arrives from the other members, and who answers it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::ids::{LogPos, NodeId};
use common::sometimes;
use common::transport::{Class, Handler};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tokio::sync::{mpsc, oneshot};

use super::log_store::unwire_entry;
use super::machine::meta_of;
use super::snapshot::SnapshotHandle;
use super::type_config::{Entry, Growth, LogId, TypeConfig, log_id, position, raft_vote, vote};
use super::{Consensus, Raft};
use crate::election::Standing;
use crate::message::{
    Appended, Candidacy, Cause, Proof, ReadIndexed, Reply, Request, TransferAnswer, Vote,
};

/// What members answer each other besides consensus. Both take their place in the order of messages
/// when they are called.
pub(crate) trait Local: Send + Sync {
    /// Executes a forwarded write.
    fn forward(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Bytes>;
    /// Answers a read that another member has taken.
    fn read(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Bytes>;
    /// Answers how far a read must have applied.
    fn read_index(&self, from: NodeId, by: Proof) -> BoxFuture<'static, ReadIndexed>;
}

type Append = AppendEntriesRequest<TypeConfig>;
type Answer = BoxFuture<'static, Result<Reply, String>>;

/// Serves one member's peers.
pub(crate) struct Server {
    consensus: Consensus,
    local: Arc<dyn Local>,
    streams: Mutex<BTreeMap<NodeId, Streams>>,
}

/// The streams of appends of one peer.
#[derive(Default)]
struct Streams {
    /// The one that is open: its number, and where its messages go.
    open: Option<(u64, mpsc::UnboundedSender<Queued>)>,
    /// The numbers of the latest ones that were replaced.
    replaced: VecDeque<u64>,
}

/// How long a member waits that is asked to say when it has applied an entry.
pub(super) const APPLIED_WITHIN: Duration = Duration::from_secs(1);

/// How many replaced streams are remembered: more than can have messages under way.
const REPLACED: usize = 64;

/// An append of a stream, and who waits for its outcome.
struct Queued {
    append: Append,
    done: oneshot::Sender<Appended>,
}

impl Server {
    pub(crate) fn new(consensus: Consensus, local: Arc<dyn Local>) -> Self {
        Self { consensus, local, streams: Mutex::default() }
    }

    /// The queue of a peer's stream. A new number replaces the former stream, whose late messages
    /// are void: they must not open it again behind the new one's.
    fn stream(&self, from: NodeId, number: u64) -> Option<mpsc::UnboundedSender<Queued>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let Streams { open, replaced } = streams.entry(from).or_default();
        match open {
            Some((known, queue)) if *known == number => return Some(queue.clone()),
            _ if replaced.contains(&number) => {
                sometimes!("late-append-void");
                return None;
            }
            _ => {}
        }
        let (queue, queued) = mpsc::unbounded_channel();
        let env = &self.consensus.0.env;
        env.spawn("append stream", feed(self.consensus.raft(), queued));
        if let Some((former, _)) = open.replace((number, queue.clone())) {
            replaced.push_back(former);
            if replaced.len() > REPLACED {
                replaced.pop_front();
            }
        }
        Some(queue)
    }

    fn append(&self, from: NodeId, stream: Option<u64>, append: Append) -> Answer {
        let consensus = self.consensus.clone();
        let Some(number) = stream else {
            return async move {
                let last = append.entries.last().map(|e| e.log_id).or(append.prev_log_id);
                let answer = consensus.raft().append_entries(append).await;
                let outcome = match answer.map_err(|error| error.to_string())? {
                    AppendEntriesResponse::Success => Appended::Durable(last.map(|l| position(&l))),
                    AppendEntriesResponse::PartialSuccess(at) => {
                        Appended::Durable(at.map(|l| position(&l)))
                    }
                    AppendEntriesResponse::Conflict => Appended::Conflict,
                    AppendEntriesResponse::HigherVote(v) => Appended::Superseded(vote(&v)),
                };
                Ok(Reply::Appended { outcome, applied: consensus.applied() })
            }
            .boxed();
        };
        let (done, outcome) = oneshot::channel();
        if let Some(queue) = self.stream(from, number) {
            if common::mutate!("follower_acks_without_append", false, true) {
                let last = append.entries.last().map(|e| e.log_id).or(append.prev_log_id);
                let _ = queue.send(Queued { append, done });
                let outcome = Appended::Durable(last.map(|last| position(&last)));
                return async move { Ok(Reply::Appended { outcome, applied: consensus.applied() }) }
                    .boxed();
            }
            let _ = queue.send(Queued { append, done });
        }
        async move {
            let outcome =
                outcome.await.map_err(|_| "this stream of appends has ended".to_owned())?;
            Ok(Reply::Appended { outcome, applied: consensus.applied() })
        }
        .boxed()
    }

    fn voted(&self, candidacy: Candidacy, pre: Pre) -> Answer {
        let consensus = self.consensus.clone();
        async move {
            if !consensus.0.gate.answers(consensus.0.env.now(), candidacy.cause) {
                sometimes!("vote-gate-closed");
                return Err("started again less than a lease ago: no vote yet".to_owned());
            }
            let rpc = VoteRequest {
                vote: raft_vote(candidacy.vote),
                last_log_id: candidacy.last.map(log_id),
                leadership_transfer: candidacy.cause == Cause::Transfer,
            };
            let raft = consensus.raft();
            let answer = match pre {
                Pre::Yes => raft.pre_vote(rpc).await,
                Pre::No => raft.vote(rpc).await,
            };
            let VoteResponse { vote: known, vote_granted, last_log_id, .. } =
                answer.map_err(|error| error.to_string())?;
            Ok(Reply::Voted {
                vote: common::mutate!("votes_for_a_shorter_log", vote(&known), candidacy.vote),
                last: last_log_id.as_ref().map(position),
                granted: common::mutate!("votes_for_a_shorter_log", vote_granted, true),
            })
        }
        .boxed()
    }

    fn transfer(&self, leader: Vote, to: NodeId, last: Option<LogId>) -> Answer {
        let raft = self.consensus.raft();
        async move {
            let request = TransferLeaderRequest::new(raft_vote(leader), to.0, last);
            let answer = raft.handle_transfer_leader(request).await;
            Ok(Reply::Transferred(match answer.map_err(|error| error.to_string())? {
                Ok(()) => TransferAnswer::Accepted,
                Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                    TransferAnswer::VoteChanged { actual: vote(&actual) }
                }
                Err(_) => TransferAnswer::Behind { actual: None },
            }))
        }
        .boxed()
    }

    fn install(&self, from: NodeId, id: u64, leader: Vote) -> Answer {
        let consensus = self.consensus.clone();
        async move {
            let received = consensus.0.receiver.finish(from, id).await;
            let (handle, at) = match received {
                Ok(received) => received,
                Err(error) => return Ok(Reply::Rejected { reason: error.to_string() }),
            };
            if let (Some(_), SnapshotHandle::Received { generation, .. }) =
                (consensus.integrity().quarantined(), &handle)
            {
                // A task of its own: it must come to its end whatever becomes of the connection.
                let (generation, parts) = (*generation, consensus.clone());
                let repair = async move { parts.repair(generation, at).await };
                let repaired = consensus.0.env.spawn("taking over a state", repair).await;
                return Ok(match repaired.map_err(|ended| ended.to_string()).flatten() {
                    Ok(()) => Reply::Installed(consensus.0.log.vote().unwrap_or(leader)),
                    Err(reason) => Reply::Rejected { reason },
                });
            }
            if leader.node != from {
                let reason = "this node needs no repair any more".to_owned();
                return Ok(Reply::Rejected { reason });
            }
            let meta = meta_of(&at).map_err(|error| error.to_string())?;
            let snapshot = openraft::alias::SnapshotOf::<TypeConfig, _> { meta, snapshot: handle };
            let raft = consensus.raft();
            let installed = raft.install_full_snapshot(raft_vote(leader), snapshot).await;
            let response = installed.map_err(|error| error.to_string())?;
            Ok(Reply::Installed(vote(&response.vote)))
        }
        .boxed()
    }

    fn answer(&self, from: NodeId, request: Request) -> Answer {
        let consensus = self.consensus.clone();
        match request {
            Request::Append { stream, vote, previous, committed, entries } => {
                let entries: Result<Vec<_>, _> = entries.into_iter().map(unwire_entry).collect();
                match entries {
                    Err(error) => {
                        let reason = format!("an entry cannot be read: {error}");
                        async move { Err(reason) }.boxed()
                    }
                    Ok(entries) if grows(&entries) && consensus.disk_full() => {
                        sometimes!("append-refused-on-full-disk");
                        async move { Err("the disk is full: only what shrinks is taken".to_owned()) }
                            .boxed()
                    }
                    Ok(entries) => {
                        let append = Append {
                            vote: raft_vote(vote),
                            prev_log_id: previous.map(log_id),
                            leader_commit: common::mutate!(
                                "uncommitted_read",
                                committed.map(log_id),
                                entries.last().map(|entry| entry.log_id).max(committed.map(log_id))
                            ),
                            entries,
                        };
                        consensus.hear(vote.term);
                        self.append(from, stream, append)
                    }
                }
            }
            Request::PreVote(candidacy) => self.voted(candidacy, Pre::Yes),
            Request::Vote(candidacy) => self.voted(candidacy, Pre::No),
            Request::Transfer { vote, to, last } => self.transfer(vote, to, last.map(log_id)),
            Request::Forward { body } => {
                let done = self.local.forward(from, body);
                async move { Ok(Reply::Forwarded { body: done.await }) }.boxed()
            }
            Request::Read { body } => {
                let answer = self.local.read(from, body);
                async move { Ok(Reply::Read { body: answer.await }) }.boxed()
            }
            Request::ReadIndex { by } => {
                let index = self.local.read_index(from, by);
                async move { Ok(Reply::ReadIndexed(index.await)) }.boxed()
            }
            Request::Offer { id, meta, .. } => {
                async move { Ok(consensus.0.receiver.offer(from, id, &meta).await) }.boxed()
            }
            Request::Chunk { id, number, last, body, crc32c } => async move {
                let receiver = &consensus.0.receiver;
                Ok(receiver.chunk((from, id), (number, last), (&body, crc32c)).await)
            }
            .boxed(),
            Request::Install { id, vote } => self.install(from, id, vote),
            Request::Ping => {
                let wall_millis = consensus.0.env.clock.wall_millis();
                async move { Ok(Reply::Pong { wall_millis }) }.boxed()
            }
            Request::State { at } => {
                let state = consensus.integrity().found(at);
                async move { Ok(Reply::State { state }) }.boxed()
            }
            Request::Repair { at, state } => {
                let reply = match consensus.help(from, at, state) {
                    Ok(()) => Reply::Repairing,
                    Err(reason) => Reply::Rejected { reason },
                };
                async move { Ok(reply) }.boxed()
            }
            Request::Snapshot { after } => {
                let reply = match consensus.refill(from, after) {
                    Ok(()) => Reply::Repairing,
                    Err(reason) => Reply::Rejected { reason },
                };
                async move { Ok(reply) }.boxed()
            }
            Request::Poll => {
                let Standing { last, priority, able, .. } = consensus.standing();
                async move { Ok(Reply::Polled { last, priority, able }) }.boxed()
            }
            Request::Applied { at } => {
                let mut applied = consensus.0.applier.watch();
                async move {
                    let reached = |now: &Option<LogPos>| now.is_some_and(|n| n.index >= at.index);
                    let env = &consensus.0.env;
                    let _ = env.timeout(APPLIED_WITHIN, applied.wait_for(reached)).await;
                    Ok(Reply::Applied { at: consensus.applied() })
                }
                .boxed()
            }
        }
    }
}

/// Whether some of the entries make the state grow.
fn grows(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| match &entry.payload {
        EntryPayload::Normal(command) => command.growth == Growth::Grows,
        EntryPayload::Blank | EntryPayload::Membership(_) => false,
    })
}

/// Whether a vote is only asked about.
#[derive(Clone, Copy)]
enum Pre {
    Yes,
    No,
}

impl Handler for Server {
    fn handle(
        &self,
        from: NodeId,
        _: Class,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        match Request::decode(&body) {
            Err(error) => {
                tracing::warn!(%from, %error, "a message cannot be read");
                let reason = format!("the message cannot be read: {error}");
                async move { Err(reason) }.boxed()
            }
            Ok(request) => {
                let answer = self.answer(from, request);
                async move { answer.await.map(|reply| reply.encode()) }.boxed()
            }
        }
    }
}

/// Feeds one stream of appends to the core, in order, until one of them fails.
async fn feed(raft: Raft, queued: mpsc::UnboundedReceiver<Queued>) {
    let waiting: Arc<Mutex<VecDeque<oneshot::Sender<Appended>>>> = Arc::default();
    let appends = {
        let waiting = waiting.clone();
        futures::stream::unfold(queued, |mut queued| async move {
            queued.recv().await.map(|next| (next, queued))
        })
        .map(move |Queued { append, done }| {
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(done);
            append
        })
    };
    let mut outcomes = std::pin::pin!(raft.stream_append(appends));
    while let Some(outcome) = outcomes.next().await {
        let Some(done) = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
            return;
        };
        let (outcome, ends) = match outcome {
            Ok(Ok(at)) => (Appended::Durable(at.as_ref().map(position)), false),
            Ok(Err(StreamAppendError::Conflict(_))) => (Appended::Conflict, true),
            Ok(Err(StreamAppendError::HigherVote(v))) => (Appended::Superseded(vote(&v)), true),
            Err(_) => return,
        };
        let _ = done.send(outcome);
        if ends {
            return;
        }
    }
}
