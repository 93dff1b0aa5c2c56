//! Answers: JSON with a code, errors with a hint.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leader::error::{AdminError, ReadError};
use leader::rollback::RollbackError;
use serde::Serialize;
use serde_json::json;

/// JSON, whole, with a line end so that a terminal shows it well.
pub(super) fn json(code: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => {
            (code, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// An error and what to do about it.
pub(super) fn error(code: StatusCode, problem: impl Into<String>, hint: &str) -> Response {
    json(code, &json!({ "error": problem.into(), "hint": hint }))
}

/// The node has not opened its log yet.
pub(super) fn starting() -> Response {
    let hint = "ask again shortly; the log on stderr shows what it is doing";
    error(StatusCode::SERVICE_UNAVAILABLE, "the node is starting: it opens its log", hint)
}

/// What a failed change of the cluster means to the one who asked for it.
pub(super) fn refused(problem: &AdminError) -> Response {
    let (code, hint) = match problem {
        AdminError::Refused(_) => (StatusCode::CONFLICT, "nothing was changed; see GET /members"),
        AdminError::NotCaughtUp { .. } | AdminError::Dangerous { .. } => {
            (StatusCode::CONFLICT, "nothing was changed; see GET /members")
        }
        AdminError::NotLeader { .. } => (
            StatusCode::MISDIRECTED_REQUEST,
            "nothing was changed; send the request to the leader, see GET /status",
        ),
        AdminError::TimedOut(_) => {
            (StatusCode::GATEWAY_TIMEOUT, "it may still take effect; see GET /members")
        }
        AdminError::Stopping(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "nothing was changed; ask another node")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "see the node's log"),
    };
    error(code, problem.to_string(), hint)
}

/// Why a state could not be read.
pub(super) fn unread(problem: &ReadError) -> Response {
    let (code, hint) = match problem {
        ReadError::NoLeader(_) | ReadError::Behind(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "ask another node, or take what this one has by level=eventual",
        ),
        ReadError::Engine(_) => (StatusCode::INTERNAL_SERVER_ERROR, "see the node's log"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "ask another node; see GET /status"),
    };
    error(code, problem.to_string(), hint)
}

/// Why a rollback file could not be shown or replayed.
pub(super) fn not_rolled(problem: &RollbackError) -> Response {
    let (code, hint) = match problem {
        RollbackError::Unknown(_) => (StatusCode::NOT_FOUND, "see GET /rollbacks of this node"),
        RollbackError::Read(_) | RollbackError::Write(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "send the request again; it does nothing twice")
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "see the node's log and its disk"),
    };
    error(code, problem.to_string(), hint)
}
