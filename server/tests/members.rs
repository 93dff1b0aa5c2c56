//! A cluster that changes its members while clients use it: one joins, gets a vote, and replaces
//! another that is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use common::{PATIENCE, tercet, until};
use serde_json::{Value, json};
use server::client::http::{get_json, request};
use server::cluster::{BasePort, Cluster, Layout};

/// Changes the file of a node before it is started.
fn edit(folder: &Path, id: u64, change: impl FnOnce(&mut toml::Table)) {
    let path = folder.join(format!("node-{id}.toml"));
    let mut file: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    change(&mut file);
    std::fs::write(&path, file.to_string()).unwrap();
}

/// Asks whoever leads for a change, until it is done.
async fn change(cluster: &Cluster, what: &Value) {
    until("the members change", async || {
        let Some(leader) = cluster.leader().await else { return false };
        let http = &cluster.config(leader).advertised.http;
        let body = what.to_string();
        let answer = request(http, "POST", "/members", Some(&body), PATIENCE).await;
        let answer = answer.unwrap();
        // 421: the leader has changed; 409: a change is under way; 504: it may be done already.
        assert!([200, 409, 421, 504].contains(&answer.code), "{what}: {}", answer.body);
        answer.code == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_gets_a_vote_and_replaces_a_lost_one() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout { nodes: 4, ..Layout::default() };
    let mut cluster = Cluster::create(tercet(), folder.path(), &layout, BasePort::Free).unwrap();
    for id in 1..=3 {
        edit(folder.path(), id, |file| {
            file["peers"].as_array_mut().unwrap().retain(|p| p["id"].as_integer() != Some(4));
        });
    }
    edit(folder.path(), 4, |file| {
        file.insert("bootstrap".to_owned(), false.into());
    });
    for id in 1..=3 {
        cluster.start(id).unwrap();
    }
    for id in 1..=3 {
        cluster.ready(id, PATIENCE).await.unwrap();
    }
    let mut client = cluster.connect(1, PATIENCE).await.unwrap();
    assert!(client.line("SET before joining").await.unwrap().is_ok());

    cluster.start(4).unwrap();
    let address = &cluster.config(4).advertised.peer;
    change(&cluster, &json!({ "add": { "id": 4, "address": address } })).await;
    until("it learns", async || cluster.status(4).await.is_ok_and(|s| s.role == "learner")).await;
    change(&cluster, &json!({ "promote": 4 })).await;
    let votes = async |id| {
        let status = cluster.status(4).await.unwrap();
        status.members.iter().any(|member| member.id == id && member.voter)
    };
    until("it has a vote", async || votes(4).await).await;
    cluster.ready(4, PATIENCE).await.unwrap();
    let mut fourth = cluster.connect(4, PATIENCE).await.unwrap();
    assert_eq!(fourth.line("GET before").await.unwrap().to_string(), "\"joining\"");

    let leader = cluster.leader().await.unwrap();
    let lost = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(lost).unwrap();
    change(&cluster, &json!({ "remove": lost })).await;
    until("it is gone", async || {
        let status = cluster.status(4).await.unwrap();
        status.members.iter().all(|member| member.id != lost)
    })
    .await;
    assert!(fourth.line("SET after leaving").await.unwrap().is_ok());
    // Whoever was not told of the new node by its file still names it.
    let http = &cluster.config(leader).advertised.http;
    let nodes: Value = get_json(http, "/cluster", PATIENCE).await.unwrap();
    let rows = nodes["nodes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["id"] == 4).unwrap();
    assert!(row["error"].as_str().unwrap().contains("list of peers"), "{row}");
}
