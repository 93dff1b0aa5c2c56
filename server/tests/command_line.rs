//! What goes wrong at the start: the message says what to do, and the exit code which kind it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use common::{finish, run, said, tercet};
use server::cluster::{BasePort, Cluster, Layout};
use server::exit::Exit;

#[track_caller]
fn ends(output: &Output, exit: Exit, parts: &[&str]) {
    let text = said(output);
    assert!(exit.is(output.status), "{exit:?} expected: {text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

fn start(config: &Path) -> Output {
    finish(Command::new(tercet()).arg("node").arg("--config").arg(config))
}

/// A cluster's files, of which one node is started by hand.
fn files(folder: &Path, layout: &Layout) -> Cluster {
    Cluster::create(tercet(), folder, layout, BasePort::Free).unwrap()
}

#[test]
fn wrong_command_lines_end_with_usage() {
    ends(&run(&[]), Exit::Usage, &["demo", "cluster", "node", "status", "bench"]);
    ends(&run(&["dmeo"]), Exit::Usage, &["demo"]);
    ends(&run(&["node"]), Exit::Usage, &["--config"]);
    ends(&run(&["--log", "loud", "status"]), Exit::Usage, &["\"loud\" is no log level"]);
    ends(&run(&["--version"]), Exit::Good, &[env!("CARGO_PKG_VERSION")]);
    ends(&run(&["--help"]), Exit::Good, &["Exit codes", "the data folder belongs to another"]);
}

#[test]
fn the_printed_configuration_is_one_that_a_node_takes() {
    let output = run(&["node", "--print-config"]);
    ends(&output, Exit::Good, &["[[peers]]", "#heartbeat_interval"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    // Accepted up to the last check, at which it is made to fail without binding a known port.
    std::fs::write(&path, text.replace("[fjall]", "[fjall]\nworkers = 0")).unwrap();
    ends(&start(&path), Exit::Usage, &["`fjall.workers`"]);
}

#[test]
fn a_wrong_configuration_is_refused_by_name_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    for (text, parts) in [
        ("id = 1", &["missing field `cluster`", "node.toml", "--print-config"][..]),
        ("id = 1\ncluster = 'c'\ndata = 'd'\n", &["`peers` is empty", "list every node"]),
        ("id = 1\ncluster = 'c'\ndata = 'd'\nport = 1\n", &["unknown field `port`"]),
    ] {
        std::fs::write(&path, text).unwrap();
        ends(&start(&path), Exit::Usage, parts);
    }
    ends(&start(Path::new("nowhere.toml")), Exit::Usage, &["nowhere.toml", "--print-config"]);
    assert!(!folder.path().join("d").exists());
}

#[test]
fn a_port_in_use_is_named_and_the_folder_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = files(folder.path(), &Layout { nodes: 1, ..Layout::default() });
    let addresses = cluster.config(1).advertised.clone();
    for (address, purpose) in [
        (addresses.resp, "Redis clients"),
        (addresses.http, "HTTP"),
        (addresses.peer, "other nodes"),
    ] {
        let taken = TcpListener::bind(&address).unwrap();
        let output = start(&folder.path().join("node-1.toml"));
        ends(&output, Exit::AddressInUse, &[&address, purpose, "choose another port"]);
        drop(taken);
    }
    assert!(!folder.path().join("node-1").exists());
}

#[tokio::test]
async fn the_folder_of_another_node_or_cluster_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = Layout { nodes: 1, ..Layout::default() };
    let mut cluster = files(folder.path(), &one);
    cluster.start_all().await.unwrap();

    let path = folder.path().join("node-1.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let stopped = cluster.stop_all(common::PATIENCE).await;
    assert!(stopped.iter().all(|(_, status)| status.is_some_and(|s| s.success())), "{stopped:?}");

    let other = folder.path().join("other.toml");
    std::fs::write(&other, text.replace("id = 1\n", "id = 2\n")).unwrap();
    ends(&start(&other), Exit::Folder, &["node-1", "node 1", "node 2"]);
    std::fs::write(&other, text.replace("cluster = \"local\"", "cluster = \"prod\"")).unwrap();
    ends(&start(&other), Exit::Folder, &["node-1", "local", "prod"]);

    // Nothing was changed by that: the right node still opens it.
    cluster.start_all().await.unwrap();
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let one = Layout { nodes: 1, ..Layout::default() };
    let mut cluster = files(folder.path(), &one);
    cluster.start_all().await.unwrap();
    // The same folder under other addresses, so that the folder is what is in the way.
    let elsewhere = folder.path().join("elsewhere");
    files(&elsewhere, &one);
    let path = elsewhere.join("node-1.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let data = folder.path().join("node-1");
    std::fs::write(&path, text.replace("\"node-1\"", &format!("{:?}", data.display().to_string())))
        .unwrap();
    ends(&start(&path), Exit::Folder, &["in use", "process", "another folder"]);
}

#[test]
fn nobody_there_is_said() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    ends(&run(&["status", "--address", &port]), Exit::Failed, &[&port, "no node answered"]);
    let output = run(&["bench", "--address", &port, "--requests", "10"]);
    ends(&output, Exit::Failed, &[&port, "is a cluster running there"]);
}
