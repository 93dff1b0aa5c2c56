//! The way to the other members, as openraft sees it.
//!
//! Three classes per member: heartbeats and votes never wait behind the log, and the log never waits
//! behind a snapshot. The log is pipelined: up to 64 messages and 8 MiB are under way on an ordered
//! connection, and replies are taken in order. A heartbeat is a stream of one empty append for
//! openraft; here it belongs to no stream, so that it does not end the one that carries the log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::env::{Env, Mono};
use common::ids::NodeId;
use common::transport::{CallError, Class};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered, StreamExt};
use futures::{FutureExt, Stream};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};

use super::acks::Acks;
use super::log_store::wire_entry;
use super::snapshot::{SendError, Sender, SnapshotHandle};
use super::type_config::{
    LogId, PeerAddr, RaftVote, TypeConfig, log_id, position, raft_vote, vote,
};
use crate::config::Config;
use crate::message::{Appended, Candidacy, Cause, Reply, Request, TransferAnswer};

/// Appends under way at once.
const CALLS: usize = 64;
/// Bytes of appends under way at once.
const BYTES: usize = 8 << 20;
/// The first and the longest pause before an unreachable member is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotHandle>;
type Failed = RPCError<TypeConfig>;

/// Makes the ways to members.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    env: Env,
    acks: Acks,
    sender: Arc<Sender>,
    /// How long a reply to an append may take: a sync of a slow disk is within it.
    patience: Duration,
}

impl Network {
    pub(crate) fn new(env: &Env, config: &Config, acks: Acks, sender: Arc<Sender>) -> Self {
        Self { env: env.clone(), acks, sender, patience: config.election_timeout_max * 2 }
    }

    fn link(&self, target: u64, node: &PeerAddr, class: Class) -> Link {
        let to = NodeId(target);
        self.env.transport.learn(to, &node.address);
        Link { network: self.clone(), to, class }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &PeerAddr) -> Link {
        self.link(target, node, Class::Data)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &PeerAddr) -> Link {
        self.link(target, node, Class::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &PeerAddr) -> Link {
        self.link(target, node, Class::Bulk)
    }
}

/// The way to one member, in one class.
#[derive(Debug)]
pub(crate) struct Link {
    network: Network,
    to: NodeId,
    class: Class,
}

fn unreachable(why: impl ToString) -> Failed {
    RPCError::Unreachable(Unreachable::from_string(why))
}

/// A failed call: what broke is tried again at once, everything else after a pause.
fn failed(error: &CallError) -> Failed {
    match error {
        CallError::Broken(_) => RPCError::Network(NetworkError::from_string(error)),
        _ => unreachable(error),
    }
}

fn unfit(reply: &Reply) -> Failed {
    unreachable(format!("an answer that does not fit: {reply:?}"))
}

impl Link {
    fn call(&self, class: Class, request: &Request, deadline: Duration) -> Answer {
        let call = self.network.env.transport.call(self.to, class, request.encode(), deadline);
        async move {
            let bytes = call.await.map_err(|error| failed(&error))?;
            Reply::decode(&bytes).map_err(unreachable)
        }
        .boxed()
    }

    async fn ask_for_vote(
        &self,
        rpc: VoteRequest<TypeConfig>,
        request: fn(Candidacy) -> Request,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        let candidacy = Candidacy {
            vote: vote(&rpc.vote),
            last: rpc.last_log_id.as_ref().map(position),
            cause: if rpc.leadership_transfer { Cause::Transfer } else { Cause::Silence },
        };
        match self.call(Class::Control, &request(candidacy), option.hard_ttl()).await? {
            Reply::Voted { vote, last, granted } => {
                Ok(VoteResponse::new(raft_vote(vote), last.map(log_id), granted))
            }
            other => Err(unfit(&other)),
        }
    }
}

type Answer = BoxFuture<'static, Result<Reply, Failed>>;

/// An append as it travels.
fn append(rpc: &AppendEntriesRequest<TypeConfig>, stream: Option<u64>) -> Request {
    Request::Append {
        stream,
        vote: vote(&rpc.vote),
        previous: rpc.prev_log_id.as_ref().map(position),
        committed: rpc.leader_commit.as_ref().map(position),
        entries: rpc.entries.iter().map(wire_entry).collect(),
    }
}

/// An append under way, and what its answer is to be read against.
struct UnderWay {
    answer: Answer,
    previous: Option<LogId>,
    term: u64,
    bytes: usize,
}

impl UnderWay {
    /// Waits, and says what came of it and how many bytes are not under way any more.
    async fn settle(self) -> (Result<Settled, Failed>, usize) {
        let settled = match self.answer.await {
            Ok(Reply::Appended { outcome, applied }) => {
                Ok(Settled { outcome, applied, previous: self.previous, term: self.term })
            }
            Ok(other) => Err(unfit(&other)),
            Err(error) => Err(error),
        };
        (settled, self.bytes)
    }
}

/// The answer to an append.
struct Settled {
    outcome: Appended,
    applied: Option<common::ids::LogPos>,
    previous: Option<LogId>,
    term: u64,
}

impl Settled {
    fn note(&self, acks: &Acks, peer: NodeId, now: Mono) {
        acks.heard(self.term, peer, now);
        if let Appended::Durable(Some(at)) = self.outcome {
            acks.durable(self.term, peer, at);
        }
        if let Some(at) = self.applied {
            acks.applied(self.term, peer, at);
        }
    }

    fn into_result(self) -> Result<StreamAppendResult<TypeConfig>, Failed> {
        match self.outcome {
            Appended::Durable(at) => Ok(Ok(at.map(log_id))),
            Appended::Superseded(vote) => Ok(Err(StreamAppendError::HigherVote(raft_vote(vote)))),
            Appended::Conflict => match self.previous {
                Some(previous) => Ok(Err(StreamAppendError::Conflict(previous))),
                None => Err(unreachable("a conflict before the first entry")),
            },
        }
    }
}

/// A stream of replies that is being opened.
type Opening<'s> =
    BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, Failed>>, Failed>>;

/// The state of a pipelined stream of appends.
struct Pipeline<S> {
    link: Link,
    /// Names the stream to the member; a heartbeat is outside of all streams.
    stream: Option<u64>,
    /// How long one reply may take.
    patience: Duration,
    input: Option<S>,
    under_way: FuturesOrdered<BoxFuture<'static, (Result<Settled, Failed>, usize)>>,
    bytes: usize,
}

impl<S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Pipeline<S> {
    fn send(&mut self, rpc: &AppendEntriesRequest<TypeConfig>) {
        let request = append(rpc, self.stream);
        let bytes = match &request {
            Request::Append { entries, .. } => entries.iter().map(Bytes::len).sum::<usize>() + 64,
            _ => 0,
        };
        let answer = self.link.call(self.link.class, &request, self.patience);
        let (previous, term) = (rpc.prev_log_id, rpc.vote.leader_id.term);
        self.bytes += bytes;
        self.under_way.push_back(UnderWay { answer, previous, term, bytes }.settle().boxed());
    }

    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, Failed>> {
        loop {
            let room = self.under_way.len() < CALLS && self.bytes < BYTES;
            tokio::select! {
                biased;
                Some((settled, bytes)) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.bytes -= bytes;
                    let result = settled.and_then(|settled| {
                        let network = &self.link.network;
                        settled.note(&network.acks, self.link.to, network.env.now());
                        settled.into_result()
                    });
                    if !matches!(result, Ok(Ok(_))) {
                        // After an error nothing that was sent behind it counts.
                        self.input = None;
                        self.under_way = FuturesOrdered::new();
                    }
                    return Some(result);
                }
                rpc = next_of(&mut self.input), if room && self.input.is_some() => match rpc {
                    Some(rpc) => self.send(&rpc),
                    None => self.input = None,
                },
                else => return None,
            }
        }
    }
}

async fn next_of<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => None,
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, Failed> {
        let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
        match self.call(self.class, &append(&rpc, None), option.hard_ttl()).await? {
            Reply::Appended { outcome, .. } => Ok(match outcome {
                Appended::Durable(at) if at == last.as_ref().map(position) => {
                    AppendEntriesResponse::Success
                }
                Appended::Durable(at) => AppendEntriesResponse::PartialSuccess(at.map(log_id)),
                Appended::Conflict => AppendEntriesResponse::Conflict,
                Appended::Superseded(vote) => AppendEntriesResponse::HigherVote(raft_vote(vote)),
            }),
            other => Err(unfit(&other)),
        }
    }

    fn stream_append<S>(&mut self, input: S, option: RPCOption) -> Opening<'_>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let network = self.network.clone();
        // openraft gives up a heartbeat after its interval, and gives a stream of the log the same
        // time for each reply, which one slow sync exceeds.
        let (stream, patience) = match self.class {
            Class::Control => (None, option.hard_ttl()),
            Class::Data | Class::Bulk => (Some(network.env.rng.next_u64()), network.patience),
        };
        let link = Link { network, to: self.to, class: self.class };
        let (input, under_way, bytes) = (Some(input), FuturesOrdered::new(), 0);
        let pipeline = Pipeline { link, stream, patience, input, under_way, bytes };
        let replies = futures::stream::unfold(pipeline, |mut pipeline| async move {
            let next = pipeline.next().await?;
            Some((next, pipeline))
        });
        std::future::ready(Ok(replies.boxed())).boxed()
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        self.ask_for_vote(rpc, Request::Vote, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, Failed> {
        self.ask_for_vote(rpc, Request::PreVote, &option).await
    }

    async fn full_snapshot(
        &mut self,
        leader: RaftVote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let cancel = async move {
            let _ = cancel.await;
        };
        let at_least = snapshot.meta.last_log_id.as_ref().map(position);
        match self.network.sender.send(self.to, at_least, vote(&leader), cancel).await {
            Ok(vote) => Ok(SnapshotResponse::new(raft_vote(vote))),
            Err(SendError::Cancelled) => {
                Err(StreamingError::Closed(ReplicationClosed::new("snapshot not wanted any more")))
            }
            Err(error) => Err(StreamingError::Unreachable(Unreachable::from_string(error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Failed> {
        let request = Request::Transfer {
            vote: vote(req.from_leader()),
            to: NodeId(*req.to_node_id()),
            last: req.last_log_id().map(position),
        };
        match self.call(Class::Control, &request, option.hard_ttl()).await? {
            Reply::Transferred(TransferAnswer::Accepted) => Ok(Ok(())),
            Reply::Transferred(TransferAnswer::VoteChanged { actual }) => {
                Ok(Err(TransferLeaderError::VoteChanged {
                    expected: *req.from_leader(),
                    actual: raft_vote(actual),
                }))
            }
            other => Err(unfit(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let rng = self.network.env.rng.stream(&format!("backoff to {}", self.to));
        let pauses =
            std::iter::successors(Some(BACKOFF.0), |pause| Some((*pause * 2).min(BACKOFF.1)));
        Some(Backoff::new(pauses.map(move |pause| {
            pause + Duration::from_millis(rng.below(pause.as_millis() as u64 / 4 + 1))
        })))
    }
}

#[cfg(test)]
mod tests;
