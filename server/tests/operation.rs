//! A running cluster from the operator's side: pages, status, figures, founding, stopping.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{PATIENCE, run, said, tercet, three_nodes, until};
use serde_json::Value;
use server::client::http::{get, get_json, request};
use server::cluster::{BasePort, Cluster, Layout, Signal};
use server::exit::Exit;
use server::status::StatusReport;

async fn json(address: &str, path: &str) -> Value {
    get_json(address, path, PATIENCE).await.unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_a_running_node_tells_the_same_story() {
    let cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let mut client = cluster.connect(leader, PATIENCE).await.unwrap();
    for number in 0..20 {
        assert!(client.line(&format!("SET key:{number} value")).await.unwrap().is_ok());
    }
    let http = cluster.config(leader).advertised.http.clone();
    assert_eq!(json(&http, "/health").await["alive"], true);
    assert_eq!(json(&http, "/ready").await["ready"], true);
    let status = cluster.status(leader).await.unwrap();
    assert_eq!((status.role.as_str(), status.leader), ("leader", Some(leader)));
    assert!(status.cluster_id.is_some() && status.term > 0 && status.uptime_ms > 0, "{status:?}");
    assert!(status.log.applied.unwrap() >= 3 && status.disk.syncs > 0, "{status:?}");
    assert_eq!(status.members.len(), 3);
    assert_eq!(json(&http, "/members").await["members"].as_array().unwrap().len(), 3);
    let nodes = json(&http, "/cluster").await;
    for node in nodes["nodes"].as_array().unwrap() {
        assert_eq!(node["status"]["cluster_id"], status.cluster_id.clone().unwrap());
        assert_eq!(node["status"]["leader"], leader);
    }
    let metrics = get(&http, "/metrics", PATIENCE).await.unwrap().body;
    for line in ["tercet_up 1", "tercet_role{role=\"leader\"} 1"] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap()
    };
    assert!(value("tercet_commands_total") >= 20.0, "{metrics}");
    assert!(value("tercet_connections") >= 1.0, "{metrics}");
    assert!(value("tercet_wal_syncs_total") >= 1.0, "{metrics}");
    assert!(get(&http, "/", PATIENCE).await.unwrap().body.contains("<table>"));
    assert_eq!(get(&http, "/nothing", PATIENCE).await.unwrap().code, 404);

    let output = run(&["status", "--address", &http]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("follower").count(), 2, "{text}");
    let output = run(&["status", "--json", "--address", &http]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_when_it_is_asked_to() {
    let cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let to = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let follower = cluster.config(to).advertised.http.clone();
    let refused = request(&follower, "POST", "/transfer", Some("{}"), PATIENCE).await.unwrap();
    assert_eq!(refused.code, 421, "{}", refused.body);
    let http = cluster.config(leader).advertised.http.clone();
    let body = format!("{{\"to\": {to}}}");
    let moved = request(&http, "POST", "/transfer", Some(&body), PATIENCE).await.unwrap();
    assert_eq!(moved.code, 200, "{}", moved.body);
    until("the other node leads", async || cluster.leader().await == Some(to)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_apart_that_waits_for_its_peers_to_found_the_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::default();
    let mut cluster = Cluster::create(tercet(), folder.path(), &layout, BasePort::Free).unwrap();
    cluster.start(1).unwrap();
    let http = cluster.config(1).advertised.http.clone();
    until("it is up", async || get(&http, "/status", PATIENCE).await.is_ok_and(|a| a.code == 200))
        .await;
    cluster.start(2).unwrap();
    // Two of three are up, but the third could remember a cluster: nothing is founded.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ready = get(&http, "/ready", PATIENCE).await.unwrap();
    assert_eq!(ready.code, 503);
    assert!(ready.body.contains("belongs to no cluster"), "{}", ready.body);
    cluster.start(3).unwrap();
    for id in 1..=3 {
        cluster.ready(id, PATIENCE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_founder_does_not_found_a_second_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::default();
    let mut cluster = Cluster::create(tercet(), folder.path(), &layout, BasePort::Free).unwrap();
    cluster.start_all().await.unwrap();
    let mut before = None;
    until("the cluster has its id", async || {
        before = cluster.status(2).await.unwrap().cluster_id;
        before.is_some()
    })
    .await;
    cluster.kill(1).unwrap();
    until("another leads", async || cluster.leader().await.is_some_and(|id| id != 1)).await;
    // The leader heard from node 1 before, or hears of its entries now.
    std::fs::remove_dir_all(folder.path().join("node-1")).unwrap();
    cluster.start(1).unwrap();
    let http = cluster.config(1).advertised.http.clone();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let Ok(status) = get_json::<StatusReport>(&http, "/status", PATIENCE).await else {
            continue;
        };
        assert!(status.cluster_id.is_none() || status.cluster_id == before, "{status:?}");
    }
    assert_eq!(cluster.status(2).await.unwrap().cluster_id, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_leader_hands_over_and_ends_well_while_clients_go_on() {
    let mut cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let mut client = cluster.connect(follower, PATIENCE).await.unwrap();
    assert!(client.line("SET before 1").await.unwrap().is_ok());
    cluster.signal(leader, Signal::Terminate).unwrap();
    let mut ended = None;
    let mut writes = 0;
    until("it has ended", async || {
        assert!(client.line("INCR during").await.unwrap().number().is_some());
        writes += 1;
        ended = cluster.ended().unwrap().pop();
        ended.is_some()
    })
    .await;
    let (id, status) = ended.unwrap();
    assert_eq!(id, leader);
    assert!(status.success(), "{status}: {}", cluster.last_words(leader));
    assert!(cluster.last_words(leader).contains("handed leadership over"));
    let during = client.line("GET during").await.unwrap();
    assert_eq!(during.value(), Some(writes.to_string().as_bytes()));
}

/// Reads lines of `tercet cluster` until one contains `part`.
fn lines_until(output: &mut impl BufRead, part: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in output.lines() {
        let line = line.unwrap();
        let found = line.contains(part);
        lines.push(line);
        if found {
            return lines;
        }
    }
    panic!("{part:?} was never said: {lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_cluster_reports_a_dead_node_and_comes_back_on_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let start = || {
        let mut command = Command::new(tercet());
        command.args(["cluster", "--base-port", "0", "--data"]).arg(&data);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let interrupt = |child: &std::process::Child| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    };

    let mut first = start();
    let mut output = BufReader::new(first.stdout.take().unwrap());
    let lines = lines_until(&mut output, "ready after").join("\n");
    assert!(lines.contains("redis-cli -h 127.0.0.1 -p "), "{lines}");
    let known = Cluster::existing(tercet(), &data).unwrap();
    assert_eq!(known.ids(), [1, 2, 3]);
    for id in known.ids() {
        assert!(lines.contains(&known.config(id).advertised.to_string()), "{lines}");
    }
    let mut client = known.connect(2, PATIENCE).await.unwrap();
    assert!(client.line("SET kept yes").await.unwrap().is_ok());
    interrupt(&first);
    let lines = lines_until(&mut output, "node 3 stopped").join("\n");
    assert!(lines.contains("Ctrl-C: stopping"), "{lines}");
    assert!(first.wait().unwrap().success());

    // Again, without a word about ports: the files in the folder say them.
    let mut command = Command::new(tercet());
    command.arg("cluster").arg("--data").arg(&data);
    let mut second = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(second.stdout.take().unwrap());
    lines_until(&mut output, "ready after");
    let mut client = known.connect(1, PATIENCE).await.unwrap();
    assert_eq!(client.line("GET kept").await.unwrap().value(), Some(&b"yes"[..]));
    // Whoever kills a node hears of it from the one who watches.
    let holder = std::fs::read_to_string(data.join("node-3/LOCK")).unwrap();
    let pid = holder.trim().rsplit(' ').next().unwrap().to_owned();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    lines_until(&mut output, "node 3 ended by itself");
    interrupt(&second);
    assert!(second.wait().unwrap().success());
}

#[test]
fn contradictions_with_an_existing_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    Cluster::create(tercet(), folder.path(), &Layout::default(), BasePort::Free).unwrap();
    let data = folder.path().to_str().unwrap();
    for (flags, part) in [
        (&["--nodes", "5"][..], "--nodes contradicts"),
        (&["--base-port", "6379"], "--base-port contradicts"),
        (&["--memory"], "--memory contradicts"),
        (&["--strategy", "leaderless"], "not built yet"),
    ] {
        let output = run(&[&["cluster", "--data", data], flags].concat());
        assert!(Exit::Usage.is(output.status), "{flags:?}: {}", said(&output));
        assert!(said(&output).contains(part), "{flags:?}: {}", said(&output));
    }
}

#[test]
fn the_load_generator_starts_its_own_cluster_and_writes_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("figures.json");
    let output = run(&[
        "bench",
        "--clients",
        "8",
        "--keys",
        "500",
        "--requests",
        "2000",
        "--pipeline",
        "4",
        "--json",
        path.to_str().unwrap(),
    ]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no errors") && text.contains("requests per second"), "{text}");
    let figures: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let count = |kind: &str| figures[kind]["count"].as_u64().unwrap();
    assert_eq!(count("reads") + count("writes"), 2000, "{figures}");
    assert!(figures["writes"]["p99_us"].as_f64().unwrap() > 0.0, "{figures}");
    println!("{text}");
}
