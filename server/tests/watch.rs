//! The change feed over real processes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{PATIENCE, run, said, tercet, three_nodes};
use serde_json::Value;
use server::client::http::{get_json, request};
use server::client::lines::Lines;
use server::cluster::Cluster;

async fn http(cluster: &Cluster, id: u64) -> String {
    cluster.status(id).await.unwrap().addresses.http
}

async fn do_line(cluster: &Cluster, id: u64, line: &str) {
    let mut client = cluster.connect(id, PATIENCE).await.unwrap();
    let reply = client.line(line).await.unwrap();
    assert!(!reply.to_string().contains("ERR"), "{line}: {reply:?}");
}

/// The changes in these lines, in short.
fn changes(lines: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let short = |change: &Value| {
        format!("{} {} {}", text(&change["op"]), text(&change["key"]), text(&change["value"]))
    };
    let all = lines.iter().flat_map(|line| line["changes"].as_array().unwrap());
    all.map(|change| short(change).trim_end().to_owned()).collect()
}

/// The next `count` entries that a node tells from a position on.
async fn entries(address: &str, from: &str, prefix: &str, count: usize) -> Vec<Value> {
    let path = format!("/watch?from={from}&prefix={prefix}");
    let mut lines = Lines::get(address, &path, None, PATIENCE).await.unwrap().unwrap();
    let mut found = Vec::new();
    while found.len() < count {
        let line = lines.next().await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.get("error"), None, "{line}");
        if line.get("position").is_some() {
            found.push(line);
        }
    }
    found
}

fn watching(addresses: &[String], arguments: &[&str]) -> Child {
    let mut program = Command::new(tercet());
    program.arg("watch").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    for address in addresses {
        program.args(["--address", address]);
    }
    program.spawn().unwrap()
}

/// The lines of a program that ends by itself.
fn output(mut child: Child) -> Vec<Value> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_the_same_changes_and_a_watcher_outlives_its_node() {
    let mut cluster = three_nodes().await;
    let mut addresses = Vec::new();
    for id in cluster.ids() {
        addresses.push(http(&cluster, id).await);
    }
    for line in [
        "SET a 1",
        "SET a 2 NX",
        "INCR a",
        "RPUSH list x y",
        "DEL nothing a",
        "MSET user:1 ann user:2 bob",
        "FLUSHALL",
    ] {
        do_line(&cluster, 1, line).await;
    }
    let mut client = cluster.connect(1, PATIENCE).await.unwrap();
    assert!(client.command(&[b"SET", b"user:3", b"\xff"]).await.unwrap().is_ok());
    do_line(&cluster, 1, "SET short lived PX 1").await;
    let told = entries(&addresses[0], "start", "", 9).await;
    let expected = [
        "put a 1",
        "put a 2",
        "changed list",
        "deleted a",
        "put user:1 ann",
        "put user:2 bob",
        "cleared",
        "put user:3",
        "put short lived",
        "expired short",
    ];
    assert_eq!(changes(&told), expected);
    for address in &addresses {
        assert_eq!(entries(address, "start", "", 9).await, told);
        // From the middle, and only some keys.
        let middle = told[3]["position"].as_str().unwrap();
        assert_eq!(entries(address, middle, "", 5).await, told[4..]);
        let users = entries(address, "start", "user%3A", 3).await;
        assert_eq!(changes(&users)[..3], ["put user:1 ann", "put user:2 bob", "cleared"]);
        assert_eq!(users[1]["changes"][0].get("key"), None);
    }
    let last = entries(&addresses[1], "start", "user%3A3", 2).await;
    assert_eq!(last[1]["changes"][0]["value_base64"], "/w==");

    // A watcher of the leader; the leader is killed; it goes on elsewhere, and misses nothing.
    let leader = cluster.leader().await.unwrap();
    let place = cluster.ids().iter().position(|id| *id == leader).unwrap();
    addresses.rotate_left(place);
    let position = last[1]["position"].as_str().unwrap();
    let arguments = ["--from", position, "--prefix", "n", "--count", "40", "--hold", "test"];
    let child = watching(&addresses, &arguments);
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    for number in 0..20 {
        do_line(&cluster, follower, &format!("SET n{number} {number}")).await;
    }
    cluster.kill(leader).unwrap();
    for number in 20..40 {
        do_line(&cluster, follower, &format!("SET n{number} {number}")).await;
    }
    let told = changes(&output(child));
    let expected: Vec<String> = (0..40).map(|number| format!("put n{number} {number}")).collect();
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_are_shown_and_wrong_positions_refused() {
    let cluster = three_nodes().await;
    let address = http(&cluster, 2).await;
    do_line(&cluster, 1, "SET a 1").await;
    let position = entries(&address, "start", "", 1).await[0]["position"].clone();
    let body = format!("{{\"after\": {position}, \"seconds\": 60}}");
    let held = request(&address, "POST", "/holds/mine", Some(&body), PATIENCE).await.unwrap();
    assert_eq!(held.code, 200, "{}", held.body);
    let holds: Value = get_json(&address, "/holds", PATIENCE).await.unwrap();
    assert_eq!(holds["holds"][0]["after"], position);
    for (from, part) in [("3", "is no position"), ("9999.1", "no position in this cluster's")] {
        let ended = run(&["watch", "--address", &address, "--from", from]);
        assert!(!ended.status.success() && said(&ended).contains(part), "{}", said(&ended));
    }
    // Somebody who reads nothing disturbs nobody.
    let path = "/watch?from=start";
    let slow = Lines::get(&address, path, None, PATIENCE).await.unwrap().unwrap();
    let mut client = cluster.connect(2, PATIENCE).await.unwrap();
    let large = "v".repeat(60_000);
    for number in 0..200 {
        assert!(client.line(&format!("SET large{number} {large}")).await.unwrap().is_ok());
    }
    let mut slow = slow;
    let mut seen = 0;
    while seen < 201 {
        let line = tokio::time::timeout(Duration::from_secs(20), slow.next()).await.unwrap();
        let line: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        seen += line["changes"].as_array().map_or(0, Vec::len);
    }
    assert_eq!(seen, 201);
}
