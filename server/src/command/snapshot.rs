//! REPL SNAPSHOT: a connection's reads see one state, whatever is written meanwhile.
//!
//! ```text
//! REPL SNAPSHOT BEGIN [token]   reads see the state of now, or the one that another connection keeps
//! REPL SNAPSHOT END             they see the present again
//! REPL SNAPSHOT                 the token of the state that they see, or nothing
//! ```
//!
//! The state is kept by the node that was asked, for its `snapshot_retention`. Writes are as ever, and
//! what stands between MULTI and EXEC reads the present.

use std::sync::Arc;

use bytes::Bytes;
use common::ids::LogPos;
use common::token::{LogToken, Token};
use futures::FutureExt;
use leader::ReadLevel;

use super::arguments::{is, syntax};
use super::session::Session;
use super::{Action, Answered, Context, Handled, read_failure};
use crate::backend::Backend;
use crate::resp::Value;
use crate::service::Service;

/// A snapshot that a connection keeps. It is let go with this value.
pub(crate) struct Kept {
    backend: Arc<dyn Backend>,
    pub(crate) at: LogPos,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.backend.release_snapshot(self.at);
    }
}

/// REPL SNAPSHOT [BEGIN [token] | END].
pub(super) fn snapshot(_: &mut Context<'_>, words: &[Bytes]) -> Handled {
    match &words[2..] {
        [] => Ok(Action::Ask(Box::new(|session, service| {
            let at = session.snapshot.as_ref().map(|kept| kept.at);
            let shown = at.map_or(Value::Null, |at| named(&service, at));
            async move { Answered::from(shown) }.boxed()
        }))),
        [end] if is(end, "END") => Ok(Action::Ask(Box::new(|session, _| {
            let ended = session.snapshot.take().is_some();
            let none = || Value::error("ERR no snapshot has begun");
            let answer = if ended { Value::OK } else { none() };
            async move { Answered::from(answer) }.boxed()
        }))),
        [begin, token @ ..] if is(begin, "BEGIN") && token.len() < 2 => {
            let token = token.first().cloned();
            Ok(Action::Ask(Box::new(move |session, service| {
                let level = match token.map(|token| position(&service, &token)) {
                    None => Ok(session.level),
                    Some(at) => at.map(ReadLevel::At),
                };
                let seen = session.token(&service).filter(|_| session.level == ReadLevel::Causal);
                async move {
                    match level {
                        Ok(level) => begin_at(service, level, seen).await,
                        Err(refusal) => refusal.into(),
                    }
                }
                .boxed()
            })))
        }
        _ => Err(syntax()),
    }
}

async fn begin_at(service: Arc<Service>, level: ReadLevel, seen: Option<LogToken>) -> Answered {
    let seen = seen.filter(|_| !matches!(level, ReadLevel::At(_)));
    let at = match service.backend.snapshot(level, seen).await {
        Ok(view) => view.at,
        Err(error) => return read_failure(&error).into(),
    };
    let kept = Kept { backend: Arc::clone(&service.backend), at };
    let value = named(&service, at);
    let then = move |session: &mut Session| session.snapshot = Some(kept);
    Answered { value, then: Some(Box::new(then)) }
}

/// The token that names a position.
fn named(service: &Service, at: LogPos) -> Value {
    let (Some((_, secret)), Some(mut token)) = (service.backend.seal(), service.backend.token())
    else {
        return Value::error("TRYAGAIN the cluster is being founded");
    };
    token.saw_committed(at);
    Value::bulk(Token::Log(token).seal_text(&secret))
}

/// The position that a token names.
fn position(service: &Service, token: &[u8]) -> Result<LogPos, Value> {
    let Some((cluster, secret)) = service.backend.seal() else {
        return Err(Value::error("TRYAGAIN the cluster is being founded"));
    };
    match Token::open_text(&String::from_utf8_lossy(token), &secret, cluster) {
        Ok(Token::Log(token)) => Ok(token.committed),
        Ok(_) => Err(Value::error("ERR the token is of another strategy")),
        Err(why) => Err(Value::error(format!("ERR {why}"))),
    }
}
