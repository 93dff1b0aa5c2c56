//! What members ask of each other around the log: forwarded writes, and read indexes.
//!
//! Every node answers both ways: it asks the leader for its own callers, and, while it leads, it
//! answers the others. When this node leads, the same path is taken without the network.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec::{self, Format};
use common::consistency::ReplicationMode;
use common::env::{Env, Mono};
use common::ids::{ClientId, LogPos, NodeId};
use common::sometimes;
use common::transport::{CallError, Class};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::acknowledge::{Acknowledger, Told};
use crate::apply::Applier;
use crate::entry::{Ask, EntryReply, MAX_ENTRY};
use crate::message::{Proof, ReadIndexed, Reply, Request};
use crate::propose::{Early, Proposer};
use crate::quota::Quota;
use crate::raft::{Consensus, Local};
use crate::read::{AskLeader, ReadIndex};
use crate::read_elsewhere::Answers;
use crate::write::{Attempt, EarlyAck, Forward, Route};

const FORWARD: Format = Format { magic: *b"TLfw", version: 1 };
const FORWARDED: Format = Format { magic: *b"TLfd", version: 1 };

/// How long a read waits for what deadlines ask for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long a leader's answer may be under way once its wait is over.
const REPLY: Duration = Duration::from_millis(100);
/// How soon the next leader is asked.
const PAUSE: Duration = Duration::from_millis(20);

/// What deadlines ask for, from a replica whose machine is not named here.
pub(crate) trait Due: Send + Sync + fmt::Debug {
    /// At most `limit` encoded commands that deadlines up to `upto` ask for.
    fn due(&self, upto: Hlc, limit: usize) -> Vec<Bytes>;
}

/// The leader's side, and the way to it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    env: Env,
    consensus: Consensus,
    proposer: Proposer,
    acknowledger: Acknowledger,
    applier: Arc<dyn Applier>,
    due: Arc<dyn Due>,
    /// To this node's writer: what is acknowledged before it is committed.
    early: mpsc::UnboundedSender<EarlyAck>,
    /// Answers reads, once the node is open.
    answers: Arc<OnceLock<Arc<dyn Answers>>>,
}

impl Peer {
    /// From now on reads of other members are answered.
    pub(crate) fn answer_reads(&self, answers: Arc<dyn Answers>) {
        // A node is opened once.
        let _ = self.answers.set(answers);
    }

    /// What proposes on this node.
    pub(crate) const fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    pub(crate) fn new(
        env: &Env,
        consensus: Consensus,
        (proposer, acknowledger): (Proposer, Acknowledger),
        applier: Arc<dyn Applier>,
        due: Arc<dyn Due>,
        early: mpsc::UnboundedSender<EarlyAck>,
    ) -> Self {
        let (env, answers) = (env.clone(), Arc::default());
        Self { env, consensus, proposer, acknowledger, applier, due, early, answers }
    }

    /// Waits on the leader, whoever it is by then, until those that a mode names have reached a
    /// committed entry. What is achieved at the deadline, if the leader was asked at all.
    pub(crate) async fn reach(
        &self,
        at: LogPos,
        mode: &ReplicationMode,
        timeout: Duration,
    ) -> Option<Told> {
        let deadline = self.env.now() + timeout;
        let mut leader = self.consensus.watch_leader();
        loop {
            let left = deadline.since(self.env.now());
            let known = *leader.borrow_and_update();
            if let Some(to) = known {
                let wait = left.as_millis() as u64;
                let what = Forward::Reach { at, mode: mode.clone(), wait };
                if let Attempt::Reached(told) = self.send(to, what, left + REPLY).await {
                    return Some(told);
                }
            }
            if self.env.now() >= deadline {
                return None;
            }
            let _ = self.env.timeout(PAUSE.min(left), leader.changed()).await;
        }
    }

    /// Has the leader propose a check, and returns where it stands, or none at the deadline.
    pub(crate) async fn check(&self, deadline: Mono) -> Option<LogPos> {
        let mut leader = self.consensus.watch_leader();
        loop {
            let left = deadline.since(self.env.now());
            let known = *leader.borrow_and_update();
            if let Some(to) = known
                && let Attempt::Answered(EntryReply::Checked(at)) =
                    self.send(to, Forward::Check, left).await
            {
                return Some(at);
            }
            if self.env.now() >= deadline {
                return None;
            }
            let _ = self.env.timeout(PAUSE.min(left), leader.changed()).await;
        }
    }

    /// Has the leader set the state's limits; whether that is done by the deadline.
    pub(crate) async fn set_quota(&self, quota: Quota, deadline: Mono) -> bool {
        let mut leader = self.consensus.watch_leader();
        loop {
            let left = deadline.since(self.env.now());
            let known = *leader.borrow_and_update();
            if let Some(to) = known
                && let Attempt::Answered(EntryReply::Limited) =
                    self.send(to, Forward::Quota(quota), left).await
            {
                return true;
            }
            if self.env.now() >= deadline {
                return false;
            }
            let _ = self.env.timeout(PAUSE.min(left), leader.changed()).await;
        }
    }

    /// Answers when the mode is satisfied or cannot be, or at the end of the wait.
    fn own_reach(
        &self,
        at: LogPos,
        mode: ReplicationMode,
        wait: Duration,
    ) -> BoxFuture<'static, Attempt> {
        if self.consensus.leads().is_none() || self.applier.applied().index() < at.index {
            let leader = self.consensus.leader();
            return async move { Attempt::NotLeader(leader) }.boxed();
        }
        let (env, acknowledger) = (self.env.clone(), self.acknowledger.clone());
        let told = acknowledger.reached(at, mode);
        async move {
            match env.timeout(wait, told).await {
                Ok(Ok(told)) => Attempt::Reached(told),
                Ok(Err(_)) => Attempt::NotLeader(None),
                Err(_) => {
                    Attempt::Reached(Told { at, reached: false, report: acknowledger.report(at) })
                }
            }
        }
        .boxed()
    }

    /// What tells a node that commands of it are acknowledged.
    fn early(
        &self,
        origin: NodeId,
        (client, first): (ClientId, u64),
        (mode, places): (ReplicationMode, Vec<u16>),
    ) -> Early {
        let (env, own) = (self.env.clone(), self.early.clone());
        let tell = Box::new(move |stamp, told| {
            let ack = EarlyAck { client, first, places, stamp, told };
            if origin == env.node {
                let _ = own.send(ack);
                return;
            }
            // When it is lost, the commit acknowledges.
            let body = codec::encode(FORWARD, &Forward::Acknowledged(ack));
            let request = Request::Forward { body }.encode();
            let _ = env.transport.cast(origin, Class::Control, request);
        });
        Early { mode, tell }
    }

    /// The most commands that one sweep proposes.
    pub(crate) const SWEPT_AT_ONCE: usize = 16;

    /// Proposes what is due by this leader's clock, if anything is, and says whether that was done: a
    /// leader that hands over refuses it at once, and must not be asked again without a pause.
    pub(crate) async fn sweep(&self) -> bool {
        let Some(now) = self.proposer.now() else { return false };
        let commands = self.due.due(now, Self::SWEPT_AT_ONCE);
        if commands.is_empty() {
            return false;
        }
        sometimes!("swept");
        let proposed = self.proposer.submit(Ask::Due(commands), true);
        matches!(self.env.timeout(SWEEP, proposed).await, Ok(Ok(Attempt::Answered(_))))
    }

    async fn own_read_index(self, proof: Proof, deadline: Duration) -> Option<ReadIndex> {
        self.consensus.leads()?;
        // What is due by this leader's clock is gone before a read can see it, so that no later
        // leader's clock can bring it back.
        if self.proposer.now().is_some_and(|now| now > self.applier.applied().clock) {
            self.sweep().await;
        }
        let at = self.consensus.read_index(proof, deadline).await?;
        let clock = self.proposer.now().unwrap_or_else(|| self.applier.applied().clock);
        Some(ReadIndex { at: Some(at), clock })
    }

    fn own_forward(&self, origin: NodeId, what: Forward) -> BoxFuture<'static, Attempt> {
        let proposed = match what {
            Forward::Open => self.proposer.submit(Ask::Open, true),
            Forward::Check => self.proposer.submit(Ask::Check, true),
            Forward::Quota(quota) => self.proposer.submit(Ask::Quota(quota), true),
            Forward::Commands { commands, shrinks, early } => {
                let batch = (commands.client, commands.first);
                let early = early.into_iter().map(|wanted| self.early(origin, batch, wanted));
                let early = early.collect();
                self.proposer.submit_with(Ask::Commands(commands), shrinks, early)
            }
            Forward::Acknowledged(ack) => {
                let _ = self.early.send(ack);
                return async { Attempt::Unknown(None) }.boxed();
            }
            Forward::Reach { at, mode, wait } => {
                return self.own_reach(at, mode, Duration::from_millis(wait));
            }
        };
        async move { proposed.await.unwrap_or(Attempt::Unknown(None)) }.boxed()
    }
}

impl Route for Peer {
    fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.consensus.watch_leader()
    }

    fn send(&self, to: NodeId, what: Forward, deadline: Duration) -> BoxFuture<'static, Attempt> {
        let env = self.env.clone();
        if to == env.node {
            let answer = self.own_forward(to, what);
            return async move {
                env.timeout(deadline, answer).await.unwrap_or(Attempt::Unknown(None))
            }
            .boxed();
        }
        sometimes!("write-forwarded");
        let request = Request::Forward { body: codec::encode(FORWARD, &what) };
        let call = env.transport.call(to, Class::Data, request.encode(), deadline);
        async move {
            match call.await {
                Ok(bytes) => match Reply::decode(&bytes) {
                    Ok(Reply::Forwarded { body }) => {
                        codec::decode(FORWARDED, &body, MAX_ENTRY).unwrap_or(Attempt::Unknown(None))
                    }
                    _ => Attempt::Unknown(None),
                },
                Err(error) if error.never_sent() => Attempt::NotLeader(None),
                // A peer that refuses a message has not acted on it.
                Err(CallError::Refused(..)) => Attempt::NotLeader(None),
                Err(_) => Attempt::Unknown(None),
            }
        }
        .boxed()
    }
}

impl AskLeader for Peer {
    fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.consensus.watch_leader()
    }

    fn read_index(
        &self,
        of: NodeId,
        proof: Proof,
        deadline: Duration,
    ) -> BoxFuture<'static, Option<ReadIndex>> {
        let env = self.env.clone();
        if of == env.node {
            let own = self.clone().own_read_index(proof, deadline);
            return async move { env.timeout(deadline, own).await.ok().flatten() }.boxed();
        }
        let request = Request::ReadIndex { by: proof };
        let call = env.transport.call(of, Class::Control, request.encode(), deadline);
        async move {
            match Reply::decode(&call.await.ok()?) {
                Ok(Reply::ReadIndexed(ReadIndexed::At { index, clock })) => {
                    Some(ReadIndex { at: Some(index), clock })
                }
                _ => None,
            }
        }
        .boxed()
    }
}

impl Local for Peer {
    fn forward(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Bytes> {
        let encode = |attempt: &Attempt| codec::encode(FORWARDED, attempt);
        match codec::decode::<Forward>(FORWARD, &body, MAX_ENTRY) {
            Err(error) => {
                tracing::warn!(%error, "a forwarded write cannot be read");
                let refused = encode(&Attempt::NotLeader(None));
                async move { refused }.boxed()
            }
            Ok(what) => {
                let answer = self.own_forward(from, what);
                async move { encode(&answer.await) }.boxed()
            }
        }
    }

    fn read(&self, _: NodeId, body: Bytes) -> BoxFuture<'static, Bytes> {
        match self.answers.get() {
            Some(answers) => answers.answer(body),
            None => async { Bytes::new() }.boxed(),
        }
    }

    fn read_index(&self, _: NodeId, by: Proof) -> BoxFuture<'static, ReadIndexed> {
        let consensus = self.consensus.clone();
        let own = self.clone().own_read_index(by, SWEEP);
        async move {
            match own.await {
                Some(ReadIndex { at: Some(index), clock }) => ReadIndexed::At { index, clock },
                _ if consensus.leads().is_none() => {
                    ReadIndexed::NotLeader { leader: consensus.leader() }
                }
                _ => ReadIndexed::Failed("a majority did not confirm the leader in time".into()),
            }
        }
        .boxed()
    }
}
