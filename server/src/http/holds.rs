//! Holds over HTTP: what keeps this node's log for those who will watch it.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use common::ids::LogPos;
use leader::watch::{Hold, HoldError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Stage;
use super::answer::{error, json, starting};
use super::routes::{Body, read};
use super::watch::{position, position_text};

/// How large the log may become under a hold that names no cap.
const MAX_BYTES: u64 = 1 << 30;
/// How long a hold lasts that does not say it, in seconds.
const SECONDS: u64 = 3_600;
/// The longest time of a hold, in seconds: a year.
const MOST_SECONDS: u64 = 365 * 24 * 3_600;
/// The longest name.
const LONGEST_NAME: usize = 200;

/// A hold as JSON, with keys that stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReport {
    /// Whose it is.
    pub name: String,
    /// Everything after this position is kept.
    pub after: String,
    /// How large the log may become.
    pub max_bytes: u64,
    /// How long it lasts unless it is renewed.
    pub seconds: u64,
}

impl From<Hold> for HoldReport {
    fn from(hold: Hold) -> Self {
        let (after, seconds) = (position_text(hold.after), hold.lasts.as_secs());
        Self { name: hold.name, after, max_bytes: hold.max_bytes, seconds }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    after: Option<String>,
    max_bytes: Option<u64>,
    seconds: Option<u64>,
}

impl Ask {
    fn hold(self, name: String) -> Option<Hold> {
        let after: LogPos = position(self.after.as_deref()?)?;
        let seconds = self.seconds.unwrap_or(SECONDS);
        let good = (1..=MOST_SECONDS).contains(&seconds) && name.len() <= LONGEST_NAME;
        let (max_bytes, lasts) =
            (self.max_bytes.unwrap_or(MAX_BYTES), Duration::from_secs(seconds));
        good.then_some(Hold { name, after, max_bytes, lasts })
    }
}

pub(super) async fn list(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    json(StatusCode::OK, &json!({ "holds": node.holds() }))
}

pub(super) async fn hold(
    State(stage): State<Stage>,
    Path(name): Path<String>,
    body: Body,
) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let example =
        r#"{"after": "3.57"}, with "max_bytes": 2147483648 and "seconds": 3600 if wanted"#;
    let ask: Ask = match read(body, example) {
        Ok(ask) => ask,
        Err(answer) => return *answer,
    };
    let Some(hold) = ask.hold(name) else {
        let problem =
            "after is TERM.INDEX, seconds 1 to 31536000, and a name has 200 bytes at most";
        return error(StatusCode::BAD_REQUEST, problem, "nothing was changed");
    };
    let report = HoldReport::from(hold.clone());
    match node.hold(hold) {
        Ok(()) => json(StatusCode::OK, &report),
        Err(problem) => not_held(&problem),
    }
}

pub(super) async fn release(State(stage): State<Stage>, Path(name): Path<String>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    json(StatusCode::OK, &json!({ "released": node.release(&name) }))
}

/// What a refused hold means to the one who asked for it.
fn not_held(problem: &HoldError) -> Response {
    let (code, hint) = match problem {
        HoldError::Compacted { .. } => {
            (StatusCode::GONE, "watch from the oldest position that GET /watch names")
        }
        HoldError::Cap { .. } => (StatusCode::BAD_REQUEST, "choose a larger max_bytes"),
        HoldError::TooMany => (StatusCode::CONFLICT, "see GET /holds"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "see the node's log"),
    };
    error(code, problem.to_string(), hint)
}
