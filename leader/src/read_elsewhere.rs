//! Reads that another member answers: where this one is too far behind, or a nearer one has the proof.
//!
//! ```text
//! here        if this member can honour the level, or will in time
//! nearest     members nearer than the leader, which answer at once or not at all (PREFER nearest)
//! leader      whoever it is by then, until the deadline
//! farther     with PREFER nearest, the others, when the leader has not answered in half of the time
//! ```
//!
//! Whoever answers proves the level itself, by its own clock and state. What is sent is a query of the
//! machine, [`StateMachine::answer`]: another member's state cannot be held as a view can.

use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use common::clock::Hlc;
use common::codec::{self, Format};
use common::env::Mono;
use common::ids::{LogPos, NodeId};
use common::sometimes;
use common::token::LogToken;
use common::transport::Class;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::entry::MAX_ENTRY;
use crate::error::ReadError;
use crate::message::{Reply, Request};
use crate::node::{Answer, Node, Parts, Prefer, ReadLevel, ReadOptions, View};
use crate::state_machine::StateMachine;

const ASK: Format = Format { magic: *b"TLrd", version: 1 };
const TOLD: Format = Format { magic: *b"TLra", version: 1 };
/// The pause before the leader is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may be under way beyond what its member may wait.
const REPLY: Duration = Duration::from_millis(100);

/// A read for another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ask {
    level: ReadLevel,
    token: Option<LogToken>,
    /// How long it may wait, in milliseconds.
    wait: u64,
    query: Bytes,
}

/// What it answers. The order of the variants is the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    Answered {
        body: Bytes,
        at: LogPos,
        clock: Hlc,
        /// Milliseconds, rounded up.
        age: Option<u64>,
    },
    /// It cannot honour the level in time.
    Behind,
    /// The machine refuses the query.
    Refused(String),
    /// The session has lost this write.
    SessionLost(LogPos),
}

/// Answers what members ask of each other.
pub(crate) trait Answers: Send + Sync + std::fmt::Debug {
    /// An encoded answer to an encoded read.
    fn answer(&self, ask: Bytes) -> BoxFuture<'static, Bytes>;
}

/// A node that answers while it is open.
pub(crate) struct Answering<M: StateMachine>(pub(crate) Weak<Parts<M>>);

impl<M: StateMachine> std::fmt::Debug for Answering<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answering")
    }
}

impl<M: StateMachine> Answers for Answering<M> {
    fn answer(&self, ask: Bytes) -> BoxFuture<'static, Bytes> {
        let node = self.0.upgrade().map(Node::from_parts);
        async move {
            let told = match (node, codec::decode::<Ask>(ASK, &ask, MAX_ENTRY)) {
                (Some(node), Ok(ask)) => node.tell(ask).await,
                (None, _) => Told::Behind,
                (_, Err(error)) => Told::Refused(error.to_string()),
            };
            codec::encode(TOLD, &told)
        }
        .boxed()
    }
}

impl<M: StateMachine> Node<M> {
    async fn tell(&self, ask: Ask) -> Told {
        let Ask { level, token, wait, query } = ask;
        let mut options = ReadOptions::level(level);
        (options.token, options.timeout) = (token, Duration::from_millis(wait));
        match self.view(options).await {
            Ok(view) => match self.machine().answer(&view, &query) {
                Ok(body) => {
                    let age = self.age_at(level).map(|age| age.as_millis() as u64 + 1);
                    Told::Answered { body, at: view.applied(), clock: view.clock(), age }
                }
                Err(refused) => Told::Refused(refused.reason),
            },
            Err(ReadError::SessionLost { lost }) => Told::SessionLost(lost),
            Err(ReadError::OtherToken(why) | ReadError::Unsupported(why)) => Told::Refused(why),
            Err(_) => Told::Behind,
        }
    }

    /// How old what a read at this level sees may be; none where nothing is proven.
    pub fn age_at(&self, level: ReadLevel) -> Option<Duration> {
        match level {
            ReadLevel::Strong | ReadLevel::Lease => Some(Duration::ZERO),
            _ if self.leads() => Some(Duration::ZERO),
            _ => self.proven_age(),
        }
    }

    fn leads(&self) -> bool {
        self.group().consensus.leads().is_some()
    }

    /// Answers a query of the machine, as fresh as asked for: by this member, or by another one where
    /// this one is too far behind, or cannot prove the level and a nearer one can.
    pub async fn read(&self, query: Bytes, options: ReadOptions) -> Result<Answer, ReadError> {
        let begun = self.group().env.now();
        let mut here = options.clone();
        here.timeout = self.patience(&options);
        let error = match self.view(here).await {
            Ok(view) => return self.answer_here(&view, &query, options.level),
            Err(error) => error,
        };
        if !error.others_may_answer() {
            return Err(error);
        }
        let mut rest = options;
        rest.timeout = rest.timeout.saturating_sub(self.group().env.now().since(begun));
        self.read_elsewhere(query, rest).await
    }

    fn answer_here(
        &self,
        view: &View,
        query: &[u8],
        level: ReadLevel,
    ) -> Result<Answer, ReadError> {
        let body = self.machine().answer(view, query);
        let body = body.map_err(|refused| ReadError::Unsupported(refused.reason))?;
        let (from, at, clock) = (self.id(), view.applied(), view.clock());
        Ok(Answer { body, from, level, at, clock, age: self.age_at(level) })
    }

    /// How long it makes sense to wait for this member before another one is asked: not at all if it
    /// will not catch up in time by the pace of late, or if a nearer one than the leader may answer at
    /// once.
    pub fn patience(&self, options: &ReadOptions) -> Duration {
        let group = self.group();
        let nearer = options.prefer == Prefer::Nearest && {
            group.nearest.want();
            !self.leads() && self.nearer().next().is_some()
        };
        match options.level {
            ReadLevel::Causal if !self.leads() => {
                let wanted = options.token.as_ref().map_or(0, |token| token.committed.index);
                let applied = group.applied_index();
                let wait = group.pace.wait(group.env.now(), applied, wanted);
                let late = wait.is_some_and(|wait| wait > options.timeout);
                if applied < wanted && (nearer || late) {
                    sometimes!("read-not-waited-for");
                    return Duration::ZERO;
                }
                options.timeout / 2
            }
            ReadLevel::Bounded(age) if !self.leads() => {
                let fresh = self.proven_age().is_some_and(|proven| proven <= age);
                if nearer && !fresh { Duration::ZERO } else { options.timeout / 2 }
            }
            _ => options.timeout,
        }
    }

    /// Members that are nearer than the leader, the nearest first.
    fn nearer(&self) -> impl Iterator<Item = (NodeId, Duration)> {
        let (order, leader) = (self.group().nearest.order(), self.group().consensus.leader());
        order.into_iter().take_while(move |(id, _)| Some(*id) != leader)
    }

    /// The same by other members only, for a caller who knows that this one cannot answer.
    pub async fn read_elsewhere(
        &self,
        query: Bytes,
        options: ReadOptions,
    ) -> Result<Answer, ReadError> {
        let group = self.group();
        let deadline = group.env.now() + options.timeout;
        if options.prefer == Prefer::Nearest {
            for (id, time) in self.nearer() {
                let patience = (time * 4 + REPLY).min(deadline.since(group.env.now()));
                let asked = self.ask(id, &query, (&options, Duration::ZERO), patience).await;
                if let Some(answered) = asked {
                    sometimes!("read-by-the-nearest");
                    return answered;
                }
            }
        }
        // The others, for when the leader does not answer.
        let farther: Vec<_> = match options.prefer {
            Prefer::Nearest => {
                group.nearest.order().into_iter().skip(self.nearer().count()).collect()
            }
            Prefer::Here => Vec::new(),
        };
        let mut leader = group.consensus.watch_leader();
        loop {
            let known = *leader.borrow_and_update();
            let left = deadline.since(group.env.now());
            match known {
                Some(id) if id == self.id() => {
                    let mut here = options.clone();
                    here.timeout = left;
                    let level = options.level;
                    return self.answer_here(&self.view(here).await?, &query, level);
                }
                Some(id) => {
                    let wait = if farther.is_empty() { left } else { left / 2 };
                    let patience = if farther.is_empty() { left + REPLY } else { wait };
                    let asked = self.ask(id, &query, (&options, wait), patience).await;
                    if let Some(answered) = asked {
                        sometimes!("read-by-the-leader");
                        return answered;
                    }
                    for (other, time) in farther.iter().filter(|(other, _)| *other != id) {
                        let left = deadline.since(group.env.now());
                        let patience = (*time * 4 + REPLY).min(left);
                        let wait = Duration::ZERO;
                        let asked = self.ask(*other, &query, (&options, wait), patience).await;
                        if let Some(answered) = asked {
                            return answered;
                        }
                    }
                }
                None => {}
            }
            if group.env.now() >= deadline {
                return Err(ReadError::Behind(options.timeout));
            }
            let pause: Mono = deadline.min(group.env.now() + PAUSE);
            let _ = group.env.timeout_at(pause, leader.changed()).await;
        }
    }

    /// Asks a member; none if it cannot answer.
    async fn ask(
        &self,
        member: NodeId,
        query: &Bytes,
        (options, wait): (&ReadOptions, Duration),
        patience: Duration,
    ) -> Option<Result<Answer, ReadError>> {
        let (level, token) = (options.level, options.token.clone());
        let wait = wait.as_millis() as u64;
        let ask = Ask { level, token, wait, query: query.clone() };
        let request = Request::Read { body: codec::encode(ASK, &ask) }.encode();
        let transport = &self.group().env.transport;
        let answer = transport.call(member, Class::Data, request, patience).await.ok()?;
        let Ok(Reply::Read { body }) = Reply::decode(&answer) else { return None };
        match codec::decode::<Told>(TOLD, &body, MAX_ENTRY).ok()? {
            Told::Answered { body, at, clock, age } => {
                let age = age.map(Duration::from_millis);
                Some(Ok(Answer { body, from: member, level, at, clock, age }))
            }
            Told::Behind => None,
            Told::Refused(why) => Some(Err(ReadError::Unsupported(why))),
            Told::SessionLost(lost) => Some(Err(ReadError::SessionLost { lost })),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::ids::{ClusterId, Epoch};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
    }

    #[test]
    fn reads_for_others_keep_their_bytes() {
        let mut token = LogToken::new(ClusterId(7), Epoch(1));
        token.saw_committed(LogPos { term: 2, index: 9 });
        let query = Bytes::from_static(b"q");
        let ask = Ask { level: ReadLevel::Causal, token: Some(token), wait: 5, query };
        let bytes = codec::encode(ASK, &ask);
        assert_eq!(codec::decode::<Ask>(ASK, &bytes, MAX_ENTRY), Ok(ask));
        assert_eq!(hex(&bytes[14..16]), "0401", "the level, and that there is a token");
        let at = LogPos { term: 2, index: 9 };
        let body = Bytes::from_static(b"a");
        let told = Told::Answered { body, at, clock: Hlc::ZERO, age: Some(3) };
        assert_eq!(hex(&codec::encode(TOLD, &told)[14..]), "0001610209000103");
        assert_eq!(hex(&codec::encode(TOLD, &Told::Behind)[14..]), "01");
    }
}
