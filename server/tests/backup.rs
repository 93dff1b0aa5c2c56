//! From a cluster that serves to a file, and from the file to another cluster.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{PATIENCE, describe, run, said, tercet, three_nodes};
use server::cluster::{BasePort, Cluster, Layout};
use server::exit::Exit;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A cluster of three that nobody has started, and the data folder of its node 1.
fn unstarted(folder: &Path) -> (Cluster, PathBuf) {
    let cluster = Cluster::create(tercet(), folder, &Layout::default(), BasePort::Free).unwrap();
    let data = cluster.config(1).data.clone();
    (cluster, data)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_made_under_load_becomes_another_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = three_nodes().await;
    let leader = cluster.leader().await.unwrap();
    let mut client = cluster.connect(leader, PATIENCE).await.unwrap();
    for number in 0..500 {
        let line = format!("SET key:{number} {}", "v".repeat(200));
        assert!(client.line(&line).await.unwrap().is_ok());
    }
    assert!(client.line("SET brief v EX 3600").await.unwrap().is_ok());
    client.line("RPUSH list a b c").await.unwrap();
    let load = tokio::spawn(async move {
        for number in 0.. {
            if client.line(&format!("SET load {number}")).await.is_err() {
                return;
            }
        }
    });

    let checked = run(&["check", "--address", &cluster.config(leader).advertised.http]);
    assert!(checked.status.success(), "{}\n{}", said(&checked), describe(&cluster).await);
    assert!(said(&checked).contains("all nodes are equal at position"), "{}", said(&checked));

    let file = folder.path().join("data.backup");
    let follower = cluster.ids().into_iter().find(|id| *id != leader).unwrap();
    let from = cluster.config(follower).advertised.http.clone();
    let make = ["backup", "--from", &from, text(&file)];
    let output = run(&make);
    assert!(output.status.success(), "{}\n{}", said(&output), describe(&cluster).await);
    load.abort();
    assert_eq!(names(folder.path()), ["data.backup"], "nothing unfinished is left");
    let again = run(&make);
    assert!(Exit::Usage.is(again.status), "{}", said(&again));
    assert!(said(&again).contains("exists; it was not touched"), "{}", said(&again));
    let verified = run(&["verify", text(&file)]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(verified.stdout, output.stdout, "the same file says the same");
    let length = fs::metadata(&file).unwrap().len();
    assert!(said(&verified).contains(&format!("bytes         {length}")), "{}", said(&verified));

    let fresh = folder.path().join("fresh");
    let (mut new, data) = unstarted(&fresh);
    let config = fresh.join("node-1.toml");
    let restore = ["restore", text(&file), "--config", text(&config)];
    let output = run(&restore);
    assert!(output.status.success(), "{}", said(&output));
    let again = run(&restore);
    assert!(Exit::Folder.is(again.status), "{}", said(&again));
    assert!(said(&again).contains("is not empty"), "{}", said(&again));
    assert!(data.join("id").exists());
    for id in new.ids() {
        new.start(id).unwrap();
    }
    for id in new.ids() {
        if let Err(error) = new.ready(id, PATIENCE).await {
            panic!("{error}\n{}", describe(&new).await);
        }
    }
    let ids =
        [cluster.status(1).await.unwrap().cluster_id, new.status(3).await.unwrap().cluster_id];
    assert!(ids[0].is_some() && ids[1].is_some() && ids[0] != ids[1], "{ids:?}");
    let mut client = new.connect(3, PATIENCE).await.unwrap();
    for number in 0..500 {
        let value = client.line(&format!("GET key:{number}")).await.unwrap();
        assert_eq!(value.to_string(), format!("\"{}\"", "v".repeat(200)), "{number}");
    }
    assert_eq!(client.line("LLEN list").await.unwrap().to_string(), "(integer) 3");
    let left = client.line("TTL brief").await.unwrap().to_string();
    let left: u64 = left.trim_start_matches("(integer) ").parse().unwrap();
    assert!((3_000..=3_600).contains(&left), "{left}");
    assert!(client.line("SET after restore").await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_whole_is_refused_and_restores_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { nodes: 1, ..Layout::default() };
    let cluster = Cluster::temporary(tercet(), &layout).await.unwrap();
    let mut client = cluster.connect(1, PATIENCE).await.unwrap();
    assert!(client.line("SET key value").await.unwrap().is_ok());
    let file = folder.path().join("whole");
    let from = cluster.config(1).advertised.http.clone();
    let output = run(&["backup", "--from", &from, "--level", "eventual", text(&file)]);
    assert!(output.status.success(), "{}\n{}", said(&output), describe(&cluster).await);

    let whole = fs::read(&file).unwrap();
    let middle = whole.len() / 2;
    let mut flipped = whole.clone();
    flipped[middle] ^= 1;
    let (_, data) = unstarted(&folder.path().join("fresh"));
    let config = folder.path().join("fresh/node-1.toml");
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "not complete"),
        ("cut", &whole[..middle], "not complete"),
        ("without-its-end", &whole[..whole.len() - 1], "not complete"),
        ("flipped", &flipped, "damaged"),
        ("another", b"REDIS0011 is another kind of file", "not a backup"),
    ];
    for (name, bytes, part) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        for arguments in
            [vec!["verify", text(&path)], vec!["restore", text(&path), "--config", text(&config)]]
        {
            let output = run(&arguments);
            assert!(Exit::Failed.is(output.status), "{name}: {}", said(&output));
            assert!(said(&output).contains(part), "{name}: {}", said(&output));
        }
        assert!(!data.exists(), "{name}: {:?}", names(&data));
    }
    let missing = run(&["verify", text(&folder.path().join("missing"))]);
    assert!(Exit::Failed.is(missing.status), "{}", said(&missing));
    // A node that does not answer leaves no file.
    drop(cluster);
    let none = folder.path().join("none");
    let output = run(&["backup", "--from", &from, text(&none)]);
    assert!(said(&output).contains("no backup was made"), "{}", said(&output));
    assert!(!names(folder.path()).iter().any(|name| name.starts_with("none")));
}
