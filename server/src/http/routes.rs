//! Which path answers what.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use common::ids::NodeId;
use leader::error::AdminError;
use leader::rollback::AbsentKeys;
use leader::{ChangeOptions, ReadLevel, Warning};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::answer::{error, json, not_rolled, refused, starting, unread};
use super::{Change, Pieces, Stage, holds, watch};
use crate::status::StatusReport;

/// The largest request body, in bytes.
const LARGEST_BODY: usize = 64 << 10;

/// The exposition format that `/metrics` speaks.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All pages of the node on `stage`.
pub fn router(stage: Stage) -> Router {
    Router::new()
        .route("/", page(get(|| async { Html(include_str!("page.html")) }), "GET"))
        .route("/health", page(get(health), "GET"))
        .route("/ready", page(get(ready), "GET"))
        .route("/status", page(get(status), "GET"))
        .route("/cluster", page(get(cluster), "GET"))
        .route("/metrics", page(get(metrics), "GET"))
        .route("/members", page(get(members).post(change), "GET or POST"))
        .route("/transfer", page(post(transfer), "POST"))
        .route("/backup", page(get(backup), "GET"))
        .route("/check", page(post(check), "POST"))
        .route("/rollbacks", page(get(rollbacks), "GET"))
        .route("/rollbacks/{name}", page(get(rollback).post(replay), "GET or POST"))
        .route("/watch", page(get(watch::watch), "GET"))
        .route("/holds", page(get(holds::list), "GET"))
        .route("/holds/{name}", page(post(holds::hold).delete(holds::release), "POST or DELETE"))
        .fallback(unknown)
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .with_state(stage)
}

/// Any other method of a page is told which ones there are.
fn page(route: MethodRouter<Stage>, methods: &'static str) -> MethodRouter<Stage> {
    route.fallback(move |method: Method, uri: Uri| async move {
        let problem = format!("{} does not take {method}", uri.path());
        error(StatusCode::METHOD_NOT_ALLOWED, problem, &format!("use {methods}"))
    })
}

async fn unknown(uri: Uri) -> Response {
    error(
        StatusCode::NOT_FOUND,
        format!("there is no {}", uri.path()),
        "there are /, /health, /ready, /status, /cluster, /metrics, /members, /transfer, \
         /backup, /check, /rollbacks, /watch and /holds",
    )
}

async fn health() -> Response {
    json(StatusCode::OK, &json!({ "alive": true }))
}

async fn ready(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    match node.ready().await {
        Ok(()) => json(StatusCode::OK, &json!({ "ready": true })),
        Err(reason) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "ready": false, "error": reason, "hint": "see GET /cluster" }),
        ),
    }
}

async fn status(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    json(StatusCode::OK, &node.report().await)
}

async fn cluster(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    json(StatusCode::OK, &node.cluster().await)
}

async fn metrics(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    ([(header::CONTENT_TYPE, PROMETHEUS)], node.metrics().await).into_response()
}

async fn members(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    json(StatusCode::OK, &members_of(&node.report().await, &[]))
}

fn members_of(report: &StatusReport, warnings: &[Warning]) -> serde_json::Value {
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    json!({
        "leader": report.leader,
        "members": report.members,
        "next_id": report.next_id,
        "replacing": report.replacing,
        "warnings": warnings,
    })
}

/// How long a change waits for a learner, in seconds, unless it says so.
const CATCH_UP: u64 = 30;

/// Reads a change: an object with the change and, beside it, what it may do.
fn change_of(body: Body, example: &str) -> Result<(Change, ChangeOptions), Box<Response>> {
    let mut all: serde_json::Map<String, serde_json::Value> = read(body, example)?;
    let hint = format!("send JSON such as {example}; nothing was changed");
    let refuse = |problem: String| Box::new(error(StatusCode::BAD_REQUEST, problem, &hint));
    let mut options = ChangeOptions::waiting(Duration::from_secs(CATCH_UP));
    if let Some(wait) = all.remove("wait_seconds") {
        let seconds: u64 = serde_json::from_value(wait).map_err(|e| refuse(e.to_string()))?;
        options.wait = Some(Duration::from_secs(seconds.min(LONGEST_CHECK)));
    }
    if let Some(accept) = all.remove("accept") {
        options.accept = serde_json::from_value(accept).map_err(|e| refuse(e.to_string()))?;
    }
    let change = serde_json::from_value(all.into()).map_err(|e| refuse(e.to_string()))?;
    Ok((change, options))
}

/// A request's body, or why it could not be taken.
pub(super) type Body = Result<Bytes, BytesRejection>;

/// Reads a request's JSON, whatever content type it claims. An empty body is `{}`.
pub(super) fn read<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Box<Response>> {
    let hint = format!("send JSON such as {example}; nothing was changed");
    let refuse = |code, problem: String| Box::new(error(code, problem, &hint));
    let body = body.map_err(|rejected| refuse(rejected.status(), rejected.body_text()))?;
    let body = if body.is_empty() { b"{}" } else { body.as_ref() };
    serde_json::from_slice(body)
        .map_err(|problem| refuse(StatusCode::BAD_REQUEST, problem.to_string()))
}

async fn change(State(stage): State<Stage>, body: Body) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let example =
        r#"{"add": {"id": 4, "address": "10.0.0.4:7379"}}, {"promote": 4} or {"remove": 4}"#;
    let (change, options) = match change_of(body, example) {
        Ok(change) => change,
        Err(answer) => return *answer,
    };
    match node.change(change, options).await {
        Ok(done) => json(StatusCode::OK, &members_of(&node.report().await, &done.warnings)),
        Err(problem) => refused(&problem),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transfer {
    to: Option<u64>,
}

async fn transfer(State(stage): State<Stage>, body: Body) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let Transfer { to } = match read(body, r#"{} or {"to": 2}"#) {
        Ok(transfer) => transfer,
        Err(answer) => return *answer,
    };
    match node.transfer(to.map(NodeId)).await {
        Ok(leader) => json(StatusCode::OK, &json!({ "leader": leader.0 })),
        Err(problem) => refused(&problem),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupQuery {
    #[serde(default)]
    level: BackupLevel,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum BackupLevel {
    #[default]
    Strong,
    Eventual,
}

async fn backup(
    State(stage): State<Stage>,
    query: Result<Query<BackupQuery>, QueryRejection>,
) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let level = match query {
        Ok(Query(BackupQuery { level: BackupLevel::Strong })) => ReadLevel::Strong,
        Ok(Query(BackupQuery { level: BackupLevel::Eventual })) => ReadLevel::Eventual,
        Err(rejected) => {
            let hint = "ask for /backup or /backup?level=eventual";
            return error(StatusCode::BAD_REQUEST, rejected.body_text(), hint);
        }
    };
    match node.backup(level).await {
        Ok(pieces) => stream(pieces),
        Err(problem) => unread(&problem),
    }
}

/// Sends pieces as they are made, by a thread that may wait for the disk and for the client. An
/// error breaks the answer off.
fn stream(mut pieces: Pieces) -> Response {
    let (made, taken) = tokio::sync::mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        for piece in &mut pieces {
            let failed = piece.is_err();
            if let Err(error) = &piece {
                tracing::error!(%error, "a backup broke off");
            }
            if made.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    let taken = futures::stream::unfold(taken, |mut taken| async move {
        taken.recv().await.map(|piece| (piece, taken))
    });
    ([(header::CONTENT_TYPE, "application/octet-stream")], axum::body::Body::from_stream(taken))
        .into_response()
}

/// The longest that a check is waited for, in seconds.
const LONGEST_CHECK: u64 = 24 * 3_600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    #[serde(default = "a_minute")]
    seconds: u64,
}

const fn a_minute() -> u64 {
    60
}

async fn check(State(stage): State<Stage>, body: Body) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let Check { seconds } = match read(body, r#"{} or {"seconds": 60}"#) {
        Ok(check) => check,
        Err(answer) => return *answer,
    };
    match node.check(Duration::from_secs(seconds.min(LONGEST_CHECK))).await {
        Ok(checked) => json(StatusCode::OK, &checked),
        Err(AdminError::TimedOut(after)) => error(
            StatusCode::GATEWAY_TIMEOUT,
            format!("the states were not compared within {after:?}"),
            "no leader, or a large state: wait longer; the comparison may still take place",
        ),
        Err(problem) => refused(&problem),
    }
}

async fn rollbacks(State(stage): State<Stage>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    match node.rollbacks().await {
        Ok(files) => json(StatusCode::OK, &json!({ "rollbacks": files })),
        Err(problem) => not_rolled(&problem),
    }
}

async fn rollback(State(stage): State<Stage>, Path(name): Path<String>) -> Response {
    let Some(node) = stage.node() else { return starting() };
    match node.rollback(name).await {
        Ok(commands) => json(StatusCode::OK, &json!({ "commands": commands })),
        Err(problem) => not_rolled(&problem),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replay {
    #[serde(default)]
    absent: Absent,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Absent {
    #[default]
    Stay,
    Written,
}

async fn replay(State(stage): State<Stage>, Path(name): Path<String>, body: Body) -> Response {
    let Some(node) = stage.node() else { return starting() };
    let Replay { absent } = match read(body, r#"{} or {"absent": "written"}"#) {
        Ok(replay) => replay,
        Err(answer) => return *answer,
    };
    let absent = match absent {
        Absent::Stay => AbsentKeys::Stay,
        Absent::Written => AbsentKeys::Written,
    };
    match node.replay(name, absent).await {
        Ok(done) => {
            let (written, changed, never) = (done.written, done.changed, done.never);
            json(StatusCode::OK, &json!({ "written": written, "changed": changed, "never": never }))
        }
        Err(problem) => not_rolled(&problem),
    }
}
