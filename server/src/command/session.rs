//! What a connection has agreed on, and what it has done.

use std::sync::Arc;

use bytes::Bytes;
use common::ids::LogPos;
use common::receipt::LogReceipt;
use common::token::LogToken;
use leader::{AckReport, Prefer, ReadLevel, ReplicationMode};

use super::feed::Messages;
use super::snapshot::Kept;
use super::transaction::{Transaction, Watched};
use crate::backend::Served;
use crate::clients::Client;
use crate::resp::Version;
use crate::service::Service;
use crate::users::{User, Users};

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// How others see it.
    pub(crate) client: Arc<Client>,
    /// Who it is, once that is shown.
    pub(crate) user: Option<User>,
    /// How often in a row a wrong password was given.
    pub(crate) wrong_passwords: u32,
    /// The protocol it speaks.
    pub(crate) version: Version,
    /// How fresh its reads are.
    pub(crate) level: ReadLevel,
    /// What is told of changes, while it watches.
    pub(crate) messages: Option<Messages>,
    /// Who answers them, where this node cannot at once.
    pub(crate) prefer: Prefer,
    /// Who has answered the last one.
    pub(crate) served: Option<Served>,
    /// The state that its reads see, if it is not the present.
    pub(crate) snapshot: Option<Kept>,
    /// When its writes are acknowledged; none is the node's default.
    pub(crate) mode: Option<ReplicationMode>,
    /// Where its last write stands in the log.
    pub(crate) last_write: Option<LogPos>,
    /// What that write has achieved.
    pub(crate) last: Option<LastWrite>,
    /// What it has seen and done.
    seen: Option<LogToken>,
    /// What was queued since MULTI.
    pub(super) transaction: Option<Box<Transaction>>,
    watched: Vec<Watched>,
    /// How often it was forgotten what is watched.
    pub(crate) forgotten: u64,
    /// Its last command.
    pub(crate) command: &'static str,
    pub(super) replies: Replies,
}

/// Whether replies are sent: CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Replies {
    /// Each.
    #[default]
    On,
    /// None.
    Off,
    /// None to the next request.
    SkipNext,
    /// None to this request.
    Skip,
}

/// What a write has achieved.
#[derive(Clone, Debug)]
pub(crate) struct LastWrite {
    pub(crate) receipt: LogReceipt,
    pub(crate) report: AckReport,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>, users: &Users) -> Self {
        Self {
            client,
            user: users.first(),
            wrong_passwords: 0,
            version: Version::V2,
            level: ReadLevel::Strong,
            messages: None,
            prefer: Prefer::Here,
            served: None,
            snapshot: None,
            mode: None,
            last_write: None,
            last: None,
            seen: None,
            transaction: None,
            watched: Vec::new(),
            forgotten: 0,
            command: "NULL",
            replies: Replies::On,
        }
    }

    /// How fresh a read is that begins now.
    pub(crate) fn reads(&self) -> ReadLevel {
        self.snapshot.as_ref().map_or(self.level, |kept| ReadLevel::At(kept.at))
    }

    /// Keys are watched from now on. What was seen of a key first is what counts.
    pub(crate) fn watch(&mut self, keys: Vec<Watched>) {
        for (key, revision) in keys {
            if !self.watched.iter().any(|(known, _)| *known == key) {
                self.watched.push((key, revision));
            }
        }
    }

    /// Nothing is watched any more.
    pub(super) fn unwatch(&mut self) {
        self.forgotten += 1;
        self.watched.clear();
    }

    /// What is watched, and is not any more.
    pub(crate) fn take_watched(&mut self) -> Vec<Watched> {
        std::mem::take(&mut self.watched)
    }

    /// A write was acknowledged, or not as it was asked for.
    pub(crate) fn wrote(&mut self, service: &Service, receipt: LogReceipt, report: AckReport) {
        self.last_write = Some(receipt.at);
        if let Some(token) = self.seen(service) {
            if report.committed {
                token.saw_committed(receipt.at);
            } else if token.wrote_pending(receipt.at).is_err() {
                // More leaders have come and gone than a token remembers: what is known is kept.
                tracing::debug!("a session has early writes under too many leaders");
            }
        }
        self.last = Some(LastWrite { receipt, report });
    }

    /// A state was read that contains everything up to here.
    pub(crate) fn read_at(&mut self, service: &Service, served: Served) {
        let at = served.at;
        self.served = Some(served);
        if let Some(token) = self.seen(service) {
            token.saw_committed(at);
        }
    }

    fn seen(&mut self, service: &Service) -> Option<&mut LogToken> {
        if self.seen.is_none() {
            self.seen = service.backend.token();
        }
        self.seen.as_mut()
    }

    /// What it has seen and done. None until the cluster is founded.
    pub(crate) fn token(&self, service: &Service) -> Option<LogToken> {
        self.seen.clone().or_else(|| service.backend.token())
    }

    /// Adds what another session has seen and done.
    pub(crate) fn join(&mut self, service: &Service, other: &LogToken) -> Result<(), String> {
        let own = self.seen(service).ok_or("the cluster is being founded")?;
        *own = own.join(other).map_err(|why| why.to_string())?;
        Ok(())
    }

    /// A request begins.
    pub(super) fn begin(&mut self) {
        self.replies = match self.replies {
            Replies::SkipNext => Replies::Skip,
            Replies::Skip => Replies::On,
            other => other,
        };
    }

    /// Whether the reply to the current request is not sent.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self.replies, Replies::Off | Replies::Skip)
    }

    /// Everything is as it was at the beginning, but for what REPL LAST tells.
    pub(super) fn reset(&mut self, users: &Users) {
        self.user = users.first();
        self.speak(Version::V2);
        self.client.shown().name = Bytes::new();
        self.level = ReadLevel::Strong;
        self.prefer = Prefer::Here;
        self.messages = None;
        self.snapshot = None;
        self.mode = None;
        self.seen = None;
        self.transaction = None;
        self.unwatch();
        self.replies = Replies::On;
    }

    pub(super) fn speak(&mut self, version: Version) {
        self.version = version;
        self.client.shown().version = version;
    }
}
