//! The change feed as JSON lines: `GET /watch`, and the holds that keep the log for it.
//!
//! One line per entry of the log that changed something, in the log's order, and at least one line a
//! second:
//!
//! ```text
//! {"position":"3.57","unix_millis":1700000000000,"changes":[{"op":"put","key":"a","value":"1"}]}
//! {"progress":"3.58"}
//! {"error":"...","oldest":"3.40"}          the last line: "oldest" where changes are missing
//! ```
//!
//! `op` is `put` (with the value), `changed` (a collection or a large value: read it), `deleted`,
//! `expired` or `cleared` (all keys are gone; it has no key). What is no UTF-8 is told in base64, as
//! `key_base64` and `value_base64`. A position, or a progress, is what to go on from, on any node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use common::ids::LogPos;
use futures::stream::{BoxStream, StreamExt as _, unfold};
use leader::watch::{Change, Changes, Filter, Watch, WatchError, WatchFrom, Watched};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{error, starting};
use super::{Stage, basic};
use crate::node::Replica;
use crate::users::Users;

/// The most watchers of a node at a time. Each may keep a page of changes in memory, however slowly
/// its client reads.
const MOST: usize = 256;

/// What `GET /watch` asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// `start`, `now` or a position. Default `now`.
    pub from: Option<String>,
    /// How the keys begin.
    pub prefix: Option<String>,
    /// The header `Authorization`, if there is one.
    #[serde(skip)]
    pub authorization: Option<String>,
}

/// Why nothing is watched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchRefused {
    /// The position cannot be read.
    #[error("{0:?} is no position")]
    From(String),
    /// The node has users, and this is none of them.
    #[error("this node has users: say which one you are")]
    Nobody,
    /// There are too many watchers.
    #[error("{MOST} watchers are the most that this node serves")]
    TooMany,
    /// The feed is off, or failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl WatchRefused {
    pub(super) fn answer(&self) -> Response {
        let (code, hint) = match self {
            Self::From(_) => (StatusCode::BAD_REQUEST, "from is start, now or TERM.INDEX"),
            Self::Nobody => (StatusCode::UNAUTHORIZED, "send a name and password, as Basic does"),
            Self::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "end one, or ask another node"),
            Self::Watch(_) => (StatusCode::CONFLICT, "ask another node"),
        };
        error(code, self.to_string(), hint)
    }
}

/// A position as text: `TERM.INDEX`.
pub(crate) fn position(text: &str) -> Option<LogPos> {
    let (term, index) = text.split_once('.')?;
    Some(LogPos { term: term.parse().ok()?, index: index.parse().ok()? })
}

/// The same the other way.
pub(crate) fn position_text(at: LogPos) -> String {
    format!("{}.{}", at.term, at.index)
}

pub(super) async fn watch(
    State(stage): State<Stage>,
    headers: HeaderMap,
    query: Result<Query<WatchRequest>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let mut request = match query {
        Ok(Query(request)) => request,
        Err(problem) => {
            let hint = "there are from=POSITION and prefix=TEXT";
            return error(StatusCode::BAD_REQUEST, problem.body_text(), hint);
        }
    };
    let given = headers.get(header::AUTHORIZATION);
    request.authorization = given.and_then(|v| v.to_str().ok()).map(str::to_owned);
    match node.watch(request) {
        Ok(lines) => {
            let body = Body::from_stream(lines.map(Ok::<_, std::convert::Infallible>));
            ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
        Err(refused) => refused.answer(),
    }
}

/// A watcher's lines, one after the other.
#[derive(Debug)]
pub(crate) struct Lines {
    watch: Watch,
    first: Option<LogPos>,
    ended: bool,
    _place: Place,
}

/// One of the places for watchers, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(taken.clone());
        (taken.fetch_add(1, Ordering::SeqCst) < MOST).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Lines {
    /// Begins to watch a node.
    pub(crate) fn open(
        (replica, users): (&Replica, &Users),
        taken: &Arc<AtomicUsize>,
        request: &WatchRequest,
    ) -> Result<Self, WatchRefused> {
        if !may_watch(users, request.authorization.as_deref()) {
            return Err(WatchRefused::Nobody);
        }
        let from = match request.from.as_deref() {
            None | Some("now") => WatchFrom::Now,
            Some("start") => WatchFrom::Start,
            Some(text) => {
                let at = position(text).ok_or_else(|| WatchRefused::From(text.to_owned()))?;
                WatchFrom::After(at)
            }
        };
        let place = Place::take(taken).ok_or(WatchRefused::TooMany)?;
        let filter = Filter::prefix(request.prefix.clone().unwrap_or_default());
        let watch = replica.watch(from, filter)?;
        // So that whoever begins now can go on elsewhere, whatever happens next.
        let first = watch.position().filter(|_| from == WatchFrom::Now);
        Ok(Self { watch, first, ended: false, _place: place })
    }

    /// As a stream, which reads on when it is asked for more.
    pub(crate) fn stream(self) -> BoxStream<'static, String> {
        unfold(self, |mut lines| async move { Some((lines.next().await?, lines)) }).boxed()
    }

    /// The next line; none after the last one.
    async fn next(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let line = match self.first.take() {
            Some(at) => json!({ "progress": position_text(at) }),
            None => match self.watch.next().await {
                Ok(Watched::Changes(changes)) => entry(changes),
                Ok(Watched::Progress(at)) => json!({ "progress": position_text(at) }),
                Ok(_) => json!({}),
                Err(problem) => {
                    self.ended = true;
                    last(&problem)
                }
            },
        };
        Some(format!("{line}\n"))
    }
}

/// Whether the feed is for whoever sends this header: every user may read.
fn may_watch(users: &Users, authorization: Option<&str>) -> bool {
    let shown = authorization.and_then(basic::credentials);
    users.is_open() || shown.is_some_and(|(name, password)| users.check(&name, &password).is_some())
}

fn last(problem: &WatchError) -> Value {
    let mut line = json!({ "error": problem.to_string() });
    if let WatchError::Compacted { oldest, .. } = problem {
        line["oldest"] = oldest.map_or(Value::Null, |at| position_text(at).into());
    }
    line
}

fn entry(changes: Changes) -> Value {
    let list: Vec<Value> = changes.list.into_iter().map(|(_, change)| shown(change)).collect();
    json!({
        "position": position_text(changes.at),
        "unix_millis": changes.clock.millis(),
        "changes": list,
    })
}

fn shown(change: Change) -> Value {
    let (op, key, value) = match change {
        Change::Put { key, value } => ("put", Some(key), Some(value)),
        Change::Changed { key } => ("changed", Some(key), None),
        Change::Deleted { key } => ("deleted", Some(key), None),
        Change::Expired { key } => ("expired", Some(key), None),
        Change::Cleared => ("cleared", None, None),
    };
    let mut fields = Map::new();
    fields.insert("op".to_owned(), op.into());
    for (name, bytes) in [("key", key), ("value", value)] {
        if let Some(bytes) = bytes {
            let (name, text) = text(name, &bytes);
            fields.insert(name, text.into());
        }
    }
    Value::Object(fields)
}

fn text(name: &str, bytes: &Bytes) -> (String, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (name.to_owned(), text.to_owned()),
        Err(_) => (format!("{name}_base64"), basic::encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::{PasswordDigest, Role};

    #[test]
    fn a_node_with_users_tells_nobody_else() {
        let digest = PasswordDigest::of(b"secret");
        let users = Users::new([("ann".to_owned(), (digest, Role::Read))].into());
        let ann = basic::authorization("ann", "secret");
        assert!(may_watch(&users, Some(&ann)));
        let wrong = basic::authorization("ann", "guess");
        for header in [None, Some(""), Some("Basic "), Some(wrong.as_str())] {
            assert!(!may_watch(&users, header), "{header:?}");
            assert!(may_watch(&Users::default(), header), "without users it is open");
        }
    }

    #[test]
    fn an_entry_is_one_line_and_bytes_are_base64() {
        let at = LogPos { term: 3, index: 57 };
        assert_eq!(position(&position_text(at)), Some(at));
        for wrong in ["", "3", "3.", "x.5", "3.5.7"] {
            assert_eq!(position(wrong), None, "{wrong}");
        }
        let (key, value) = (Bytes::from_static(b"a\n"), Bytes::from_static(b"\xff\x00"));
        let line = shown(Change::Put { key, value }).to_string();
        assert_eq!(line, r#"{"key":"a\n","op":"put","value_base64":"/wA="}"#);
        assert_eq!(shown(Change::Cleared).to_string(), r#"{"op":"cleared"}"#);
        let gap = WatchError::Compacted { after: None, oldest: Some(at) };
        assert_eq!(last(&gap)["oldest"], "3.57");
    }
}
