//! A cluster that changes its members while clients use it: one joins, gets a vote, and replaces
//! another that is lost, step by step and by one command.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::path::Path;

use common::{PATIENCE, run, said, tercet, until};
use serde_json::{Value, json};
use server::client::http::{get_json, request};
use server::client::{Client, Reply};
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

/// Three nodes that serve, and the files of a fourth that they do not know.
async fn three_of_four(folder: &Path) -> Cluster {
    let layout = Layout { nodes: 4, ..Layout::default() };
    let mut cluster = Cluster::create(tercet(), folder, &layout, BasePort::Free).unwrap();
    for id in 1..=3 {
        edit(folder, id, |file| {
            file["peers"].as_array_mut().unwrap().retain(|p| p["id"].as_integer() != Some(4));
        });
    }
    edit(folder, 4, |file| {
        file.insert("bootstrap".to_owned(), false.into());
    });
    for id in 1..=3 {
        cluster.start(id).unwrap();
    }
    for id in 1..=3 {
        cluster.ready(id, PATIENCE).await.unwrap();
    }
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_node_joins_gets_a_vote_and_replaces_a_lost_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = three_of_four(folder.path()).await;
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

/// How many replicas a leader names to its clients.
async fn named_replicas(client: &mut Client) -> Option<usize> {
    let Reply::Several(role) = client.line("ROLE").await.unwrap() else { return None };
    match role.as_slice() {
        [master, _, Reply::Several(replicas)] if master.value() == Some(b"master") => {
            Some(replicas.len())
        }
        _ => None,
    }
}

/// `tercet members`, asked through a node.
fn members(http: &str, change: &[&str]) -> std::process::Output {
    let mut line = vec!["members"];
    line.extend(change);
    line.extend(["--address", http]);
    run(&line)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_replaced_by_one_command_and_its_id_is_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut cluster = three_of_four(folder.path()).await;
    let mut client = cluster.connect(1, PATIENCE).await.unwrap();
    assert!(client.line("SET before kept").await.unwrap().is_ok());
    let leader = cluster.leader().await.unwrap();
    let lost = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(lost).unwrap();
    let http = cluster.config(leader).advertised.http.clone();
    let fourth = cluster.config(4).advertised.peer.clone();

    // With one of three away, a change that leaves too few alive is refused by its name.
    let other = (1..=3).find(|id| *id != leader && *id != lost).unwrap();
    let refused = members(&http, &["remove", &other.to_string()]);
    assert!(!refused.status.success() && said(&refused).contains("few-live"), "{}", said(&refused));

    cluster.start(4).unwrap();
    let replaced = members(&http, &["replace", &lost.to_string(), "4", &fourth]);
    let shown = said(&replaced);
    assert!(replaced.status.success(), "{shown}");
    assert!(shown.contains("the next id is 5"), "{shown}");
    cluster.ready(4, PATIENCE).await.unwrap();
    until("the new voters are known", async || {
        let status = cluster.status(4).await.unwrap();
        let voters: Vec<u64> = status.members.iter().filter(|m| m.voter).map(|m| m.id).collect();
        let mut wanted = vec![leader, other, 4];
        wanted.sort_unstable();
        voters == wanted && status.replacing.is_none()
    })
    .await;
    let mut newest = cluster.connect(4, PATIENCE).await.unwrap();
    assert_eq!(newest.line("GET before").await.unwrap().to_string(), "\"kept\"");
    assert!(newest.line("SET after replacing").await.unwrap().is_ok());

    let again = members(&http, &["add", &lost.to_string(), "127.0.0.1:1"]);
    assert!(said(&again).contains("no id is given twice"), "{}", said(&again));

    // What the cluster knows of a member is shown, and a hidden one is not named to clients.
    let mut client = cluster.connect(leader, PATIENCE).await.unwrap();
    assert_eq!(named_replicas(&mut client).await, Some(2));
    let described = members(&http, &["describe", "4", "--hidden", "true", "--rack", "r1"]);
    assert!(described.status.success() && said(&described).contains("r1"), "{}", said(&described));
    assert_eq!(named_replicas(&mut client).await, Some(1));
}
