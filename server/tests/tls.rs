//! TLS over real processes: three nodes replicate with certificates, and who has none is kept out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ::common::ids::NodeId;
use common::{PATIENCE, describe, finish, has_redis_cli, host_port, run, said, tercet, until};
use server::certificates::{Arguments, Folder, make};
use server::client::{Client, Reply, Tls};
use server::cluster::{BasePort, Cluster, Layout};

fn secured(nodes: u32) -> Layout {
    Layout { nodes, tls: true, ..Layout::default() }
}

async fn say(cluster: &Cluster, id: u64, line: &str) -> Reply {
    let mut client = cluster.connect(id, PATIENCE).await.unwrap();
    client.line(line).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Waits until a node reads what was written.
async fn reads(cluster: &Cluster, id: u64, key: &str, value: &str) {
    until(&format!("node {id} has {key}"), async || {
        let Ok(mut client) = cluster.connect(id, PATIENCE).await else { return false };
        client.line(&format!("GET {key}")).await.is_ok_and(|r| r.value() == Some(value.as_bytes()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_replicate_and_fail_over_under_tls() {
    let mut cluster = Cluster::temporary(tercet(), &secured(3)).await.unwrap();
    assert!(say(&cluster, 1, "SET a 1").await.is_ok());
    for id in cluster.ids() {
        reads(&cluster, id, "a", "1").await;
    }
    let leader = cluster.leader().await.unwrap();
    cluster.kill(leader).unwrap();
    let left: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    until("the others go on", async || {
        let Ok(mut client) = cluster.connect(left[0], PATIENCE).await else { return false };
        client.line("SET b 2").await.is_ok_and(|reply| reply.is_ok())
    })
    .await;
    cluster.start(leader).unwrap();
    reads(&cluster, leader, "b", "2").await;
    let stopped = cluster.stop_all(PATIENCE).await;
    assert!(stopped.iter().all(|(_, status)| status.is_some_and(|s| s.success())), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_need_tls_and_a_certificate_and_are_told_so() {
    let cluster = Cluster::temporary(tercet(), &secured(1)).await.unwrap();
    let mut plain = Client::connect(cluster.resp(1), PATIENCE).await.unwrap();
    let answer = plain.line("SET a 1").await.unwrap().to_string();
    assert!(answer.contains("this port speaks TLS only"), "{answer}");
    let bare = Tls::load(&cluster.certificates().ca(), None).unwrap();
    let refused = async {
        let mut client = Client::connect_tls(cluster.resp(1), &bare, PATIENCE).await?;
        client.line("SET a 1").await
    };
    let error = refused.await.unwrap_err().to_string();
    assert!(error.contains(cluster.resp(1)), "{error}");
    assert!(say(&cluster, 1, "PING").await.to_string().contains("PONG"));
    assert_eq!(say(&cluster, 1, "EXISTS a").await, Reply::Number(0), "nothing was written");

    if !has_redis_cli() {
        return;
    }
    let (host, port) = host_port(cluster.resp(1));
    let folder = cluster.certificates();
    let (certificate, key) = folder.client();
    let redis_cli = |line: &str| {
        let mut command = Command::new("redis-cli");
        command.args(["-h", &host, "-p", &port, "--tls", "--cacert"]).arg(folder.ca());
        command.arg("--cert").arg(&certificate).arg("--key").arg(&key).args(line.split(' '));
        finish(&mut command)
    };
    let output = redis_cli("SET a 1");
    if String::from_utf8_lossy(&output.stderr).contains("Unrecognized option") {
        println!("skipped: this redis-cli was built without TLS");
        return;
    }
    assert!(String::from_utf8_lossy(&output.stdout).trim() == "OK", "{}", said(&output));
    let output = redis_cli("GET a");
    assert!(String::from_utf8_lossy(&output.stdout).trim() == "1", "{}", said(&output));
}

/// Waits until one of the nodes says so.
async fn told(folder: &Path, nodes: &[u64], part: &str) {
    until(part, async || {
        let log = |id: &u64| fs::read_to_string(folder.join(format!("node-{id}.log")));
        nodes.iter().any(|id| log(id).unwrap().contains(part))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_authority_or_without_tls_is_kept_out_until_it_is_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster =
        Cluster::create(tercet(), folder.path(), &secured(3), BasePort::Free).unwrap();
    let elsewhere = folder.path().join("elsewhere");
    let arguments = Arguments { folder: elsewhere, nodes: 3, host: Vec::new(), days: 1 };
    let foreign = make(&arguments).unwrap();
    let ((theirs, their_key), (ours, our_key)) =
        (foreign.node(NodeId(3)), cluster.certificates().node(NodeId(3)));
    let right = (fs::read(&ours).unwrap(), fs::read(&our_key).unwrap());
    fs::copy(theirs, &ours).unwrap();
    fs::copy(their_key, &our_key).unwrap();

    for id in [1, 2, 3] {
        cluster.start(id).unwrap();
    }
    for id in [1, 2] {
        let ready = cluster.ready(id, PATIENCE).await;
        assert!(ready.is_ok(), "{ready:?}\n{}", describe(&cluster).await);
    }
    assert!(say(&cluster, 1, "SET a 1").await.is_ok());
    let untrusted = "its certificate is from an authority that is not trusted here";
    told(folder.path(), &[1, 2], untrusted).await;
    assert!(cluster.status(3).await.unwrap().log.applied.is_none(), "it was let in");

    // The same node in the open.
    cluster.kill(3).unwrap();
    let file = folder.path().join("node-3.toml");
    let text = fs::read_to_string(&file).unwrap();
    let peers = text.find("[tls.peers]").unwrap();
    let rest = text[peers + 1..].find("\n[").map_or("", |end| &text[peers + 1 + end..]);
    fs::write(&file, format!("{}{rest}", &text[..peers])).unwrap();
    cluster.start(3).unwrap();
    told(folder.path(), &[1, 2], "it may not speak TLS").await;
    told(folder.path(), &[3], "which is TLS: this node is configured without it").await;
    until("it answers over HTTP", async || cluster.status(3).await.is_ok()).await;
    assert!(say(&cluster, 2, "SET b 2").await.is_ok());
    assert!(cluster.status(3).await.unwrap().log.applied.is_none(), "it was let in");

    // And as it should be.
    cluster.kill(3).unwrap();
    fs::write(&file, text).unwrap();
    fs::write(&ours, right.0).unwrap();
    fs::write(&our_key, right.1).unwrap();
    cluster.start(3).unwrap();
    let ready = cluster.ready(3, PATIENCE).await;
    assert!(ready.is_ok(), "{ready:?}\n{}", describe(&cluster).await);
    reads(&cluster, 3, "b", "2").await;
}

#[test]
fn certificates_are_made_once_and_keys_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certificates");
    let path = path.to_str().unwrap();
    let output = run(&["certificates", path, "--nodes", "3", "--host", "db.example.org"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["[tls.clients]", "[tls.peers]", "node-1.key", "redis-cli --tls --cacert"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    names.sort();
    let pairs = ["ca", "client", "node-1", "node-2", "node-3"];
    assert_eq!(names, pairs.map(|name| [format!("{name}.key"), format!("{name}.pem")]).concat());
    for name in &names {
        let mode = fs::metadata(Path::new(path).join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode == 0o600, name.ends_with("key"), "{name} has the mode {mode:o}");
    }
    let before = fs::read(Folder::at(Path::new(path)).ca()).unwrap();
    let again = run(&["certificates", path]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing is overwritten"));
    assert_eq!(fs::read(Folder::at(Path::new(path)).ca()).unwrap(), before);
}

#[tokio::test]
async fn the_printed_sections_are_ones_that_a_node_takes() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { nodes: 1, ..Layout::default() };
    let mut cluster = Cluster::create(tercet(), folder.path(), &layout, BasePort::Free).unwrap();
    let made = folder.path().join("certificates");
    let output = run(&["certificates", made.to_str().unwrap(), "--nodes", "1"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let sections = &text[text.find("[tls.clients]").unwrap()..text.find("for clients:").unwrap()];
    let file = folder.path().join("node-1.toml");
    let before = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{before}\n{sections}\n[limits]\nclients = 1\n")).unwrap();
    drop(cluster);
    cluster = Cluster::existing(tercet(), folder.path()).unwrap();
    cluster.start_all().await.unwrap();
    let first = cluster.connect(1, PATIENCE).await;
    assert!(first.unwrap().line("PING").await.unwrap().to_string().contains("PONG"));

    // Another node's certificate is refused before anything is bound.
    cluster.kill(1).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let (client, _) = cluster.certificates().client();
    let (node, _) = cluster.certificates().node(NodeId(1));
    let swap = |text: &str| text.replace(node.to_str().unwrap(), client.to_str().unwrap());
    fs::write(&file, swap(&text)).unwrap();
    let output = run(&["node", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("`tls.clients` cannot be used"), "{error}");
}

/// Redis's own words over a real process, as the configuration says.
#[tokio::test]
async fn the_limits_of_the_file_hold() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { nodes: 1, ..Layout::default() };
    drop(Cluster::create(tercet(), folder.path(), &layout, BasePort::Free).unwrap());
    let file = folder.path().join("node-1.toml");
    let text = fs::read_to_string(&file).unwrap();
    let limits = "[limits]\nclients = 1\nidle_timeout = \"2s\"\nrequest_bytes = \"16KiB\"\n";
    fs::write(&file, format!("{text}\n{limits}")).unwrap();
    let mut cluster = Cluster::existing(tercet(), folder.path()).unwrap();
    cluster.start_all().await.unwrap();
    let mut first = cluster.connect(1, PATIENCE).await.unwrap();
    let large = "x".repeat(20_000);
    let answer = first.line(&format!("SET a {large}")).await.unwrap().to_string();
    assert!(answer.contains("over the limit of 16384"), "{answer}");
    let mut second = cluster.connect(1, PATIENCE).await.unwrap();
    // It is told without being asked, so its own command may come too late.
    let refused = second.line("PING").await.map_or_else(|e| e.to_string(), |r| r.to_string());
    let told = refused.contains("max number of clients reached");
    assert!(told || refused.contains("broke"), "{refused}");
    until("the first is let go, and its place is free", async || {
        let Ok(mut client) = cluster.connect(1, PATIENCE).await else { return false };
        client.line("PING").await.is_ok_and(|reply| reply.to_string().contains("PONG"))
    })
    .await;
    assert!(first.line("PING").await.is_err(), "it was idle for too long");
}
