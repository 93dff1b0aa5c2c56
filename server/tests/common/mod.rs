//! What the tests over real processes share: the program, tools that may be missing, and waiting.
//!
//! The clusters themselves are `server::cluster::Cluster`, which the demo uses too.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test that cannot go on has failed"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use server::cluster::{Cluster, Layout};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn tercet() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tercet"))
}

/// A ready cluster of three on free ports, gone when it is dropped.
pub(crate) async fn three_nodes() -> Cluster {
    let cluster = Cluster::temporary(tercet(), &Layout::default()).await;
    cluster.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    finish(Command::new(tercet()).args(arguments))
}

/// Runs a command to its end; one that does not end is killed and fails the test.
pub(crate) fn finish(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let pid = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE * 3).is_err() {
            let _ = Command::new("kill").arg("-9").arg(pid.to_string()).status();
        }
    });
    let output = child.wait_with_output().unwrap();
    let _ = done.send(());
    guard.join().unwrap();
    output
}

/// Both streams of a finished command, for a failed assertion.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Whether a program can be run. Where it cannot, the test says `skipped`, and fails where
/// `TERCET_REQUIRE_CLIENTS=1` says that everything is installed.
pub(crate) fn has(tool: &str, probe: &mut Command) -> bool {
    let probed = probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let there = probed.is_ok_and(|status| status.success());
    if !there {
        missing(tool);
    }
    there
}

/// Says that a test is skipped, or fails it where nothing may be missing.
pub(crate) fn missing(tool: &str) {
    let required = std::env::var("TERCET_REQUIRE_CLIENTS").is_ok_and(|value| value == "1");
    assert!(!required, "TERCET_REQUIRE_CLIENTS=1, but there is no {tool}");
    println!("skipped: no {tool}");
}

/// Whether there is a `redis-cli`.
pub(crate) fn has_redis_cli() -> bool {
    has("redis-cli", Command::new("redis-cli").arg("--version"))
}

/// The folder with the tests' scripts.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name)
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Host and port of an address.
pub(crate) fn host_port(address: &str) -> (String, String) {
    let (host, port) = address.rsplit_once(':').unwrap();
    (host.to_owned(), port.to_owned())
}

/// What every node says of itself, and the end of its log: for a failed assertion.
pub(crate) async fn describe(cluster: &Cluster) -> String {
    let mut text = String::new();
    for id in cluster.ids() {
        let status = match cluster.status(id).await {
            Ok(status) => format!("{status:?}"),
            Err(error) => error.to_string(),
        };
        text += &format!("--- node {id}: {status}\n{}\n", cluster.last_words(id));
    }
    text
}
