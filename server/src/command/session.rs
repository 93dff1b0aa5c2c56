//! What a connection has agreed on, and what it has done.

use std::sync::Arc;

use bytes::Bytes;
use common::ids::LogPos;
use leader::ReadLevel;

use crate::clients::Client;
use crate::resp::Version;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    /// How others see it.
    pub(crate) client: Arc<Client>,
    /// The protocol it speaks.
    pub(crate) version: Version,
    /// How fresh its reads are.
    pub(crate) level: ReadLevel,
    /// Where its last write stands in the log.
    pub(crate) last_write: Option<LogPos>,
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

impl Session {
    pub(crate) fn new(client: Arc<Client>) -> Self {
        Self {
            client,
            version: Version::V2,
            level: ReadLevel::Strong,
            last_write: None,
            command: "NULL",
            replies: Replies::On,
        }
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

    /// Everything is as it was at the beginning, what it has written excepted.
    pub(super) fn reset(&mut self) {
        self.speak(Version::V2);
        self.client.shown().name = Bytes::new();
        self.level = ReadLevel::Strong;
        self.replies = Replies::On;
    }

    pub(super) fn speak(&mut self, version: Version) {
        self.version = version;
        self.client.shown().version = version;
    }
}
